"""A best-effort table whose server is away or hangs neither fails the required ones nor holds them up for long."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest
import yaml
from market_day import Stage, assert_equal_to_truth, staged
from servers.redis import PASSWORD, Redis

from mystocks_ingest.flow.report import Silence
from mystocks_ingest.market.datasets import BAR_1D
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.tables import Route
from mystocks_ingest.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def stage(tmp_path: Path, redis_server: Redis) -> AsyncIterator[Stage]:
    """Daily bars in the embedded store, and their newest copy in Redis as best it can."""
    document = yaml.safe_load((ROOT / "config" / "tables.yaml").read_text())
    (bars,) = [t for t in document["tables"] if t.get("dataset") == "bar_1d"]
    hot = {k: bars[k] for k in ("dataset", "database_name", "columns")} | {
        "database_type": "Redis", "table_name": "bar_1d_hot", "key": ["symbol", "trade_date"], "route": "best_effort",
        "redis": {"pattern": f"{tmp_path.name}:{{symbol}}", "kind": "map"},
    }  # fmt: skip
    document["tables"].append(hot)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "tables.yaml").write_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False))
    async with staged(tmp_path / "state", stocks=12, sessions=30) as made:
        changes = {
            "MYSTOCKS_CONFIG_DIR": tmp_path / "config", "MYSTOCKS_STORES": "redis", "MYSTOCKS_PACING": "none",
            "REDIS_PORT": redis_server.port, "REDIS_PASSWORD": PASSWORD, "REDIS_SECONDS": 10,
        }  # fmt: skip
        same = {str(i.alias or n): getattr(made.settings, n) for n, i in Settings.model_fields.items()}
        yield replace(made, settings=Settings(**same | changes))


@pytest.mark.parametrize("fault", ["away", "hung"])
async def test_required_rows_are_stored_while_a_best_effort_server_is_out(
    stage: Stage, redis_server: Redis, fault: str
) -> None:
    async with stage.service() as opened:
        required, hot = (
            next(t for t in opened.tables.routes(BAR_1D) if t.route is route)
            for route in (Route.REQUIRED, Route.BEST_EFFORT)
        )
        redis_server.kill() if fault == "away" else redis_server.freeze()
        try:
            began = monotonic()
            report = await opened.backfill(stage.job(source="tushare"), Silence())
            spent = monotonic() - began
        finally:
            redis_server.start() if fault == "away" else redis_server.thaw()
        assert report.status == "complete", (report.missing, report.stopped)
        assert spent < 80  # 30 whole-market answers: to wait for each would take 150 s and more
        assert_equal_to_truth(await opened.sink.read(required, Query()), stage.truth())
        again = await opened.backfill(stage.job(source="tushare", force=True), Silence())
        assert again.status == "complete"
        assert (await opened.sink.read(hot, Query())).num_rows == stage.truth().num_rows
