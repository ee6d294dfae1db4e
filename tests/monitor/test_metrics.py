"""Health as values, and the metrics: what is told is found, nothing global, the page says what there is."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime
from pathlib import Path

import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from mystocks_ingest.monitor.health import Health, Kind, Part, State
from mystocks_ingest.monitor.metrics import FAMILIES, Metrics

DOCS = Path(__file__).parents[2] / "docs"
NOW = datetime(2024, 3, 1, 3, tzinfo=UTC)


def health(*parts: Part) -> Health:
    return Health(parts, "1", NOW, NOW)


ORDER = {family.name: family.labels for family in FAMILIES}


def told(metrics: Metrics) -> dict[str, dict[tuple[str, ...], float]]:
    """Each sample by its name, then by its labels in the family's order."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in parsed(metrics.text().decode()):
        for sample in family.samples:
            labels = ORDER.get(sample.name, tuple(sample.labels))
            found.setdefault(sample.name, {})[tuple(sample.labels[n] for n in labels)] = sample.value
    return found


def test_only_a_part_that_is_down_and_pages_makes_the_whole_not_ready() -> None:
    down = Part("tushare", Kind.SOURCE, State.DOWN, "banned")
    assert health(Part("redis", Kind.SINK)).state is State.FRESH
    assert (health(down).ready, health(down).state) == (True, State.DEGRADED)
    paging = Part("redis", Kind.SINK, State.DOWN, "no answer", page=True)
    assert (health(down, paging).ready, health(down, paging).state) == (False, State.DOWN)
    assert health(down, paging).worst_first()[0] is paging
    assert health(Part("redis", Kind.SINK, State.DEGRADED, "slow", page=True)).ready


def test_every_method_tells_and_every_family_is_reached_by_one() -> None:
    metrics = Metrics(process=False)
    part = Part(
        "quote",
        Kind.DATASET,
        State.DEGRADED,
        "late",
        NOW,
        figures={
            "age_seconds": 9.0,
            "late_seconds": 1.0,
            "checkpoint_late_seconds": 2.0,
        },
    )
    metrics.started(NOW)
    metrics.looked(health(part))
    metrics.polled("quote", polls=3, failed=1, unchanged=4, late=1, stale=0, seconds=0.2)
    metrics.polled("quote", polls=4, failed=1, unchanged=9, late=1, stale=0, seconds=0.2)
    metrics.received("quote", "sina", 10)
    metrics.refused("quote", "sina", {"unit": 2})
    metrics.wrote("redis", "quotes", 4, 400, 0.01)
    metrics.landed("redis", "quote", 0.02)
    metrics.called("sina", "ok", 0.3)
    metrics.budget("sina", "minute", 55)
    metrics.quality("sina", 99.5)
    metrics.retried("sink", "redis")
    metrics.queued("redis", "quotes", 3, 300)
    metrics.spooled({("redis", "quotes"): (7, 2, 1000), ("redis", "others"): (1, 1, 10)}, 2000)
    metrics.dropped("redis", "quotes", 1)
    metrics.quarantined(1)
    metrics.ran("close", "complete", 60)
    metrics.monitored(3, lost=1, refused=0)
    metrics.alerted("slack 1", sent=2, failed=1, dropped=0)
    metrics.lagged(0.001)
    metrics.answered("/health", "GET", 200, 0.001)
    metrics.asked("redis", "write", 0.01)
    metrics.asked("redis", "read", 0.01, failed=True)
    metrics.connected("redis", 1, 4)
    metrics.backed_up("redis", 10)
    metrics.in_step("redis", yes=False)
    found = told(metrics)
    for family in FAMILIES:
        name = f"{family.name}_count" if family.kind == "histogram" else family.name
        assert found.get(name), family.name
    assert found["mystocks_rows_stored_total"] == {("redis", "quotes"): 4}
    assert found["mystocks_part_state"] == {("dataset", "quote"): 1}
    assert found["mystocks_part_figure"]["dataset", "quote", "age_seconds"] == 9
    assert found["mystocks_late_seconds"] == {("quote",): 1}
    assert found["mystocks_polls_total"] == {("quote", "answered"): 3, ("quote", "failed"): 1}
    assert found["mystocks_rows_unchanged_total"] == {("quote",): 9}
    assert found["mystocks_spool_bytes"] == {("redis",): 1010}
    assert found["database_pool_utilization"] == {("redis",): 0.25}
    assert found["database_errors_total"] == {("redis",): 1}
    assert found["database_sync_status"] == {("redis",): 0}


def test_a_batch_that_was_not_stored_counts_no_stored_rows() -> None:
    metrics = Metrics(process=False)
    metrics.wrote("redis", "quotes", 4, 400, 0.01, "spooled")
    found = told(metrics)
    assert found["mystocks_batches_total"] == {("redis", "quotes", "spooled"): 1}
    assert found.get("mystocks_rows_stored_total", {}) == {}


def test_what_is_gone_from_health_and_spool_is_gone_from_the_metrics() -> None:
    metrics = Metrics(process=False)
    metrics.looked(health(Part("a", Kind.JOB), Part("b", Kind.JOB)))
    metrics.looked(health(Part("b", Kind.JOB)))
    metrics.spooled({("redis", "x"): (1, 1, 10)}, 20)
    metrics.spooled({}, 20)
    found = told(metrics)
    assert found["mystocks_part_state"] == {("job", "b"): 0}
    assert found.get("mystocks_spool_rows", {}) == {}


def test_two_services_in_one_process_do_not_share_figures() -> None:
    one, other = Metrics(), Metrics()
    one.lagged(1)
    assert told(one)["mystocks_loop_lag_seconds_count"] == {(): 1}
    assert told(other)["mystocks_loop_lag_seconds_count"] == {(): 0}
    assert b"mystocks" not in prometheus_client.generate_latest(prometheus_client.REGISTRY)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_a_name_follows_the_rules_of_prometheus(family) -> None:
    assert family.name.startswith(("mystocks_", "database_"))
    assert family.name.endswith("_total") == (family.kind == "counter")
    assert bool(family.buckets) == (family.kind == "histogram")
    assert family.kind != "histogram" or family.name.endswith("_seconds")


def test_the_metrics_page_is_what_the_list_says() -> None:
    spec = importlib.util.spec_from_file_location("metrics_page", DOCS / "metrics_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "metrics.md").read_text(encoding="utf-8") == module.page()
