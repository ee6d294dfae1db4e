"""A schema apply in a process of its own, killed at a chosen moment, and what must be true after the next one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from mystocks_ingest import service
from mystocks_ingest.flow.migrate import Step
from mystocks_ingest.ports import Status
from mystocks_ingest.schema.tables import Tables
from mystocks_ingest.settings import Settings

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
_APPLY = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from mystocks_ingest import logs, service
from mystocks_ingest.settings import Settings

async def main():
    logs.configure(form="console", level="warning")
    settings = Settings(_env_file=None)
    async with service.managed(settings, now=lambda: datetime.now(UTC), file=Path(sys.argv[1])) as manager:
        print("ready", flush=True)
        results = await manager.apply()
        print("done", [str(r) for r in results if not r], flush=True)

asyncio.run(main())
"""


def settings_of(given: dict[str, str]) -> Settings:
    return Settings(_env_file=None, **given)


def described(folder: Path, here: str) -> Path:
    """The shipped tables in databases whose names begin with ``here``."""
    text = (ROOT / "config" / "tables.yaml").read_text(encoding="utf-8")
    for name in ("quant_research", "market_data"):
        text = text.replace(f"database_name: {name}", f"database_name: {here}_{name}")
    folder.mkdir(exist_ok=True)
    file = folder / "tables.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def words(steps: list[Step]) -> list[str]:
    return [f"{s.table}: {s.change.verb} {s.change.words} {s.hazard}" for s in steps]


def applying(env: dict[str, str], file: Path) -> subprocess.Popen[str]:
    """A process that is about to apply."""
    child = subprocess.Popen(
        [sys.executable, "-c", _APPLY, str(file)],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n", child.communicate()[1]
    return child


def ended(child: subprocess.Popen[str]) -> None:
    out, err = child.communicate(timeout=200)
    assert child.returncode == 0, err
    assert out == "done []\n", out


async def story(settings: Settings, file: Path) -> tuple[Tables, list[tuple[str, str, str]], list[str]]:
    """The tables, what the log has of each, and what the plan still wants."""
    async with service.managed(settings, now=lambda: NOW, file=file) as manager:
        recorded = await manager.history(limit=10_000)
        told = [(r.operation.database_type.value, r.operation.table, r.status.value) for r in recorded]
        return manager.tables, told, words(await manager.plan())


def whole(tables: Tables, told: list[tuple[str, str, str]]) -> None:
    """The log has each table's creation once, and nothing under way."""
    assert [t for t in told if t[2] == Status.PROCESSING] == []
    made = [t for t in told if t[1] and t[2] == Status.SUCCESS]
    assert len(made) == len(set(made)), "doubled"
    assert {(t.database_type.value, t.name, "success") for t in tables.all} == set(made)


def campaign(env: dict[str, str], folder: Path, fractions: list[float]) -> int:
    """Kill an apply at each fraction of the time it takes, then let one end; how many were killed amid it."""
    amid, seconds, number = 0, 0.0, 0
    for fraction in [0.0, *fractions]:
        for _ in range(5):
            number += 1
            here = f"k{uuid.uuid4().hex[:6]}"
            state = str(folder / f"state{number}")
            own = {**env, "MYSTOCKS_STATE_DIR": state, "MYSTOCKS_MONITOR_DATABASE": f"{here}_log"}
            file = described(folder / f"file{number}", here)
            child = applying(own, file)
            if not seconds:  # the measure
                began = time.perf_counter()
                ended(child)
                seconds = time.perf_counter() - began
                break
            killed = _killed(child, fraction * seconds)
            ended(applying(own, file))
            tables, told, left = asyncio.run(story(settings_of(own), file))
            assert left == [], f"killed at {fraction:.2f}"
            whole(tables, told)
            amid += killed
            if killed:
                break
            seconds /= 2  # the machine has less to do than when it was measured
    return amid


def _killed(child: subprocess.Popen[str], after_seconds: float) -> bool:
    """Whether it had not ended by then."""
    try:
        child.wait(after_seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        return True
    finally:
        child.communicate()
    return False
