"""Where alerts remember what fires: not in a folder that somebody took away."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog

from mystocks_ingest.monitor import standings
from mystocks_ingest.monitor.alerts import Alerts
from mystocks_ingest.monitor.channels import LogChannel
from mystocks_ingest.monitor.health import Health

T0 = datetime(2026, 3, 2, 1, 30, tzinfo=UTC)


async def healthy() -> Health:
    return Health((), "0", T0, T0)


async def test_a_state_directory_that_was_taken_away_is_not_made_anew_and_the_log_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    with structlog.testing.capture_logs() as said:
        async with Alerts([], healthy, [LogChannel()], now=lambda: T0, folder=folder) as alerts:
            await alerts.look()
            assert standings.read(folder / standings.FILE).at == T0
            folder.rename(tmp_path / "elsewhere")
            assert await alerts.look() == []
    assert not folder.exists()
    assert [line["event"] for line in said if line["log_level"] == "warning"] == ["memory.unwritable"]
    with pytest.raises(FileNotFoundError):
        standings.write(folder / standings.FILE, standings.Memory(T0))
