"""How the rules stood when they were last looked at, in a small file.

So a restart neither repeats an alert nor forgets to tell that it is over, and ``alerts list`` can say what fires without
asking the service.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mystocks_ingest.logs import get, redact
from mystocks_ingest.monitor.firing import Kind, Notice, Standing

log = get("alerts")
FILE = "alerts.json"
"""Its name in the state directory."""


@dataclass(frozen=True, slots=True)
class Memory:
    """``at``: when the rules were looked at; None: never. ``waiting``: notices not sent yet, by channel.

    ``measured``: the measures of which a value was known then.
    """

    at: datetime | None = None
    standings: Sequence[Standing] = ()
    waiting: Mapping[str, Sequence[Notice]] = field(default_factory=dict)
    measured: frozenset[str] = frozenset()


def read(path: Path) -> Memory:
    """What is remembered. A file that cannot be read counts as none, and that is logged: alerts are told anew then."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Memory(
            datetime.fromisoformat(found["at"]),
            tuple(Standing(**_moments(s, "since", "told_at", "good_since")) for s in found["standings"]),
            {
                name: tuple(Notice(**{**_moments(n, "since", "at"), "kind": Kind(n["kind"])}) for n in notices)
                for name, notices in found["waiting"].items()
            },
            frozenset(found.get("measured", ())),
        )
    except FileNotFoundError:
        return Memory()
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as exc:
        log.warning("memory.unreadable", file=path.name, reason=f"{type(exc).__name__}: {exc}")
        return Memory()


def write(path: Path, memory: Memory) -> None:
    """Replace the file as a whole; only its owner may read it. Raises OSError, also where its folder is gone: it stays so."""
    content = {
        "at": memory.at,
        "standings": [asdict(s) for s in memory.standings],
        "measured": sorted(memory.measured),
        "waiting": {name: [asdict(n) for n in notices] for name, notices in memory.waiting.items()},
    }
    fresh = path.with_suffix(".new")
    with suppress(FileNotFoundError):
        fresh.unlink()
    fresh.touch(mode=0o600)
    fresh.write_text(redact(json.dumps(content, ensure_ascii=False, default=_plain)), encoding="utf-8")
    fresh.replace(path)


def _moments(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    read = {name: datetime.fromisoformat(values[name]) if values.get(name) else None for name in names}
    if any(moment is not None and moment.tzinfo is None for moment in read.values()):
        raise ValueError("a moment without its zone")
    return {**values, **read}


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
