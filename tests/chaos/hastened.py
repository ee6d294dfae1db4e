"""The command line in a time that runs faster: ``python hastened.py TIME run --json``.

``TIME`` is a JSON file: at ``monotonic`` seconds of this machine it was ``moment``, and ``speed`` seconds pass in one. It
is read again whenever it changes, so that the clock can be stepped; one that names a ``defect`` raises that, once. With ``OUTAGE_LEDGER`` every batch of quotes that
was acknowledged is noted in that file, a line each, once ``write`` has returned and not before.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mystocks_ingest.cli import process
from mystocks_ingest.cli.endings import end_well
from mystocks_ingest.daemon import parts
from mystocks_ingest.flow.spooled import SpooledSink

if TYPE_CHECKING:
    import pyarrow as pa

    from mystocks_ingest.schema.tables import Table


class Hastened:
    """flow.schedule.Clock."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read_at = 0
        self._look()

    def now(self) -> datetime:
        self._look()
        return self._moment + timedelta(seconds=(time.monotonic() - self._at) * self._speed)

    def seconds(self, length: timedelta) -> float:
        return length.total_seconds() / self._speed

    def _look(self) -> None:
        changed = self._file.stat().st_mtime_ns
        if changed != self._read_at:
            found = json.loads(self._file.read_text())
            self._moment = datetime.fromisoformat(found["moment"]).astimezone(UTC)
            self._at, self._speed = float(found["monotonic"]), float(found["speed"])
            self._read_at = changed
            if "defect" in found:
                raise RuntimeError(found["defect"])


def keep_ledger(path: Path) -> None:
    """Note every acknowledged batch of quotes, by table."""
    ledger = path.open("a", encoding="utf-8", buffering=1)
    write = SpooledSink.write

    async def noted(self: SpooledSink, table: Table, rows: pa.RecordBatch) -> None:
        await write(self, table, rows)
        if table.dataset is not None and table.dataset.name == "quote":
            columns = {name: rows.column(name).cast("int64").to_pylist() for name in ("ts", "volume")}
            entry = {"table": table.name, "symbol": rows.column("symbol").to_pylist(), **columns}
            ledger.write(json.dumps(entry) + "\n")

    SpooledSink.write = noted  # type: ignore[method-assign]


if __name__ == "__main__":
    clock = Hastened(Path(sys.argv[1]))
    process.clock = clock.now
    parts.Wall = lambda _: clock  # type: ignore[assignment,misc]
    if "OUTAGE_LEDGER" in os.environ:
        keep_ledger(Path(os.environ["OUTAGE_LEDGER"]))
    sys.exit(end_well(sys.argv[2:]))
