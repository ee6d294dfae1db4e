"""TDengine: minute bars through the sink, beside bare loops of taos-ws-py's stmt2 over the same rows.

One million rows of 500 symbols in the writer's batches, 200 rows of a symbol in each; the bare loops bind 50,000 rows at a time. The bare
loops run in one process of their own: one takes the rows as they are in this program, Arrow, and makes the lists
that the driver wants; the other finds the lists made before the clock starts
(no target: rows are Arrow here, and the driver takes lists). The server is the stand-in of the
tests, or the one TDENGINE_HOST names. Turns alternate, and each side's median counts.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from bench.measure import Measurement, loop_stalls, timed
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.tables import load
from mystocks_ingest.sinks.tdengine import Options, TDengineDatabase, TDengineSink
from mystocks_ingest.sinks.tdengine.shape import insert, shape

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from servers.tdengine import TaosServer

ROWS = int(os.environ.get("BENCH_TDENGINE_ROWS", "1000000"))
SYMBOLS = 500
BATCH = 100_000  # the writer's
BIND = 50_000
ROUNDS = 5
TABLE = next(t for t in load(Path(__file__).parents[1] / "config" / "tables.yaml").all if t.name == "bar_1m")


def made(rows: int = ROWS) -> list[pa.RecordBatch]:
    """Batches of bars, 200 minutes of each symbol in every one, as a source gives them: symbol after symbol."""
    chance = np.random.default_rng(7)
    minutes = BATCH // SYMBOLS
    symbols = pa.array([f"{600_000 + n}.SH" for n in range(SYMBOLS)])
    first = np.datetime64("2024-01-02T01:31", "ms").astype(np.int64)
    batches = []
    for turn in range(rows // BATCH):
        times = first + (turn * minutes + np.arange(minutes)) * 60_000
        columns: dict[str, Any] = {
            "bar_time": pa.array(np.tile(times, SYMBOLS)),
            "symbol": symbols.take(pa.array(np.repeat(np.arange(SYMBOLS), minutes))),
            "volume": pa.array(chance.integers(0, 10**7, BATCH)),
            "provisional": pa.array(np.zeros(BATCH, bool)),
            "source": pa.array(["tushare"] * BATCH),
            "fetched_at": pa.array([datetime(2026, 11, 20, tzinfo=UTC)] * BATCH, pa.timestamp("ms", "UTC")),
        }
        for name in ("open", "high", "low", "close", "amount"):
            columns[name] = pa.array(np.round(chance.random(BATCH) * 100, 4))
        arrays = [columns[f.name].cast(f.type) for f in TABLE.schema]
        batches.append(pa.RecordBatch.from_arrays(arrays, names=TABLE.schema.names))
    return batches


@contextmanager
def server() -> Iterator[Options]:
    host = os.environ.get("TDENGINE_HOST")
    if host:
        user, password = os.environ.get("TDENGINE_USER", "root"), os.environ.get("TDENGINE_PASSWORD", "taosdata")
        yield Options(host, int(os.environ.get("TDENGINE_PORT", "6041")), user, password)
        return
    with TaosServer(keeps=False) as own:
        yield Options(own.host, own.port, own.user, own.password)


def run() -> Iterator[Measurement]:
    batches = made()
    with server() as options, TemporaryDirectory() as folder:
        file = Path(folder) / "rows.arrow"
        with pa.ipc.new_file(file, batches[0].schema) as out:
            for batch in batches:
                out.write_batch(batch)
        yield from asyncio.run(_measured(options, batches, file))


async def _measured(options: Options, batches: list[pa.RecordBatch], file: Path) -> list[Measurement]:
    ours, stalls, idle, from_arrow, from_lists = [], [], [], [], []
    total = sum(b.num_rows for b in batches)
    async with TDengineDatabase(options) as database:

        async def anew() -> TDengineSink:
            await database.execute(f"DROP DATABASE IF EXISTS {TABLE.database_name}")
            return await TDengineSink.opened(database, [TABLE])

        async def all_of_it(sink: TDengineSink) -> None:
            for batch in batches:
                await sink.write(TABLE, batch)

        sink = await anew()
        await sink.write(TABLE, batches[0])  # both processes are up
        for _ in range(ROUNDS):
            await anew()
            from_arrow.append(await _bare(options, file, prebuilt=False))
            await anew()
            seconds, stall = await loop_stalls(lambda: _bare(options, file, prebuilt=True))
            from_lists.append(seconds)
            idle.append(stall)
            sink = await anew()
            seconds, stall = await loop_stalls(lambda: timed(lambda: all_of_it(sink)))  # noqa: B023 - awaited here
            ours.append(seconds)
            stalls.append(stall)
        again = await timed(lambda: all_of_it(sink))
        count = await database.query(f"SELECT COUNT(*) FROM {TABLE.database_name}.{TABLE.name}")  # noqa: S608 - the YAML's
        assert count == [[total]], count
        few = Query(symbols=tuple(dict.fromkeys(batches[0].column("symbol").to_pylist()))[:50])
        read = await timed(lambda: sink.read(TABLE, few))
    rate = total / statistics.median(ours)
    arrow, lists = total / statistics.median(from_arrow), total / statistics.median(from_lists)
    return [
        Measurement("TDengine: first load, by a bare stmt2 loop", rate, "rows/s", 0.8, arrow),
        Measurement("TDengine: first load, by the loop with lists made before", rate, "rows/s", None, lists),
        Measurement("TDengine: same rows again, by a bare stmt2 loop", total / again, "rows/s", None, arrow),
        Measurement("TDengine: longest stall of the loop", max(stalls) * 1000, "ms", 50, at_most=True),
        Measurement("TDengine: longest stall of an idle loop beside the bare one", max(idle) * 1000, "ms"),
        Measurement("TDengine: read back", total / SYMBOLS * 50 / read, "rows/s"),
    ]


async def _bare(options: Options, rows: Path, *, prebuilt: bool) -> float:
    """Seconds of the loop in a process of its own, from the first row to the last answer."""
    words = [
        sys.executable,
        "-m",
        __spec__.name,
        options.dsn.replace("?", f"/{TABLE.database_name}?", 1),
        str(rows),
        "lists" if prebuilt else "arrow",
    ]
    done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _loop(dsn: str, rows: Path, *, prebuilt: bool) -> float:
    import taosws  # noqa: PLC0415 - only ever in this process

    batches = pa.ipc.open_file(rows)
    connection = taosws.connect(dsn)
    statement = connection.stmt2_statement()
    names = [f.name for f in TABLE.schema if f.name != "symbol"]
    statement.prepare(insert(shape(TABLE, "ms"), TABLE.schema.names))
    converters = {
        "bar_time": taosws.millis_timestamps_to_column,
        "fetched_at": taosws.millis_timestamps_to_column,
        "volume": taosws.big_ints_to_column,
        "provisional": taosws.bools_to_column,
        "source": taosws.varchar_to_column,
    }
    makers = [converters.get(n, taosws.doubles_to_column) for n in names]

    def listed(batch: pa.RecordBatch) -> list[tuple[str, list[list[Any]]]]:
        """The plain way: each symbol's rows, each column as a list."""
        columns = []
        for name in names:
            column = batch.column(name)
            if pa.types.is_timestamp(column.type):
                column = column.view(pa.int64())
            plain = pa.types.is_string(column.type)
            columns.append(column.to_pylist() if plain else column.to_numpy(zero_copy_only=False).tolist())
        symbols = batch.column("symbol").to_pylist()
        starts = [i for i in range(len(symbols)) if i == 0 or symbols[i] != symbols[i - 1]]
        spans = zip(starts, [*starts[1:], len(symbols)], strict=True)
        return [(symbols[a], [c[a:b] for c in columns]) for a, b in spans]

    whole = [batches.get_batch(i) for i in range(batches.num_record_batches)]
    parts = [batch.slice(at, BIND) for batch in whole for at in range(0, batch.num_rows, BIND)]
    ready = [listed(part) for part in parts] if prebuilt else None
    began = time.perf_counter()
    for i, part in enumerate(parts):
        tables = ready[i] if ready is not None else listed(part)
        statement.bind(
            [
                taosws.stmt2_bind_param_view(
                    f"bar_1m_{symbol.replace('.', '_').lower()}",
                    [taosws.varchar_to_tag(symbol)],
                    [make(values) for make, values in zip(makers, columns, strict=True)],
                )
                for symbol, columns in tables
            ]
        )
        statement.execute()
    return time.perf_counter() - began


if __name__ == "__main__":
    print(_loop(sys.argv[1], Path(sys.argv[2]), prebuilt=sys.argv[3] == "lists"))
