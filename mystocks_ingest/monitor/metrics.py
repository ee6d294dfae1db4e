"""What Prometheus may scrape: one registry of our own, every family in one list, one method for each thing that happens.

``docs/metrics.md`` is made from ``FAMILIES``. Labels take only values that the program's own files and registries bound
(datasets, tables, stores, sources, rules, jobs, routes): nothing that a client or a vendor sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from mystocks_ingest import __version__
from mystocks_ingest.monitor.health import Health, Kind, State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)
_SLOW = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_AGES = (*_FAST, 120.0, 600.0, 3600.0, 21600.0)  # what waited in the spool comes late
_LONG = (0.1, 0.3, 1.0, 3.0, 10.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 21600.0)  # polls, and jobs of hours
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with its labels. A counter's name ends in ``_total``; ``buckets`` are a histogram's, in seconds.

    ``seed``: the dotted name under which users know it.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    text: str
    buckets: tuple[float, ...] = ()
    seed: str = ""


FAMILIES = (
    Family("mystocks_build_info", "gauge", ("version",), "Always 1; the label says which version runs."),
    Family("mystocks_start_time_seconds", "gauge", (), "When the service started, Unix time."),
    Family("mystocks_ready", "gauge", (), "1, or 0 while monitoring should page (what /health/ready answers)."),
    Family("mystocks_part_state", "gauge", ("kind", "part"), "A part's state: 0 fresh, 1 degraded, 2 down."),
    Family("mystocks_part_figure", "gauge", ("kind", "part", "figure"), "The figures of a part, as /health has them."),
    Family(
        "mystocks_late_seconds",
        "gauge",
        ("dataset",),
        "How long rows are awaited that should be stored by the schedule; 0 while nothing is.",
    ),
    Family(
        "mystocks_checkpoint_late_seconds",
        "gauge",
        ("dataset",),
        "How long most symbols' checkpoints should have moved and have not; 0 while they are where they should be.",
    ),
    Family(
        "mystocks_freshness_seconds",
        "gauge",
        ("dataset",),
        "Age of the newest news of a live dataset, of other ones since the close of the newest session stored.",
    ),
    Family("mystocks_polls_total", "counter", ("dataset", "outcome"), "Polls of a live dataset: answered or failed."),
    Family("mystocks_poll_seconds", "gauge", ("dataset",), "How long the last poll took, storing included."),
    Family("mystocks_rows_received_total", "counter", ("dataset", "source"), "Rows that a source or a client sent."),
    Family("mystocks_rows_unchanged_total", "counter", ("dataset",), "Live rows that were no news."),
    Family(
        "mystocks_rows_outdated_total",
        "counter",
        ("dataset", "why"),
        "Live rows older than what is held (late), or of a server that lags behind (stale).",
    ),
    Family("mystocks_rows_refused_total", "counter", ("dataset", "source", "rule"), "Received rows refused by a rule."),
    Family("mystocks_rows_stored_total", "counter", ("store", "table"), "Rows that a table took."),
    Family("mystocks_bytes_stored_total", "counter", ("store", "table"), "Their size in memory as Arrow."),
    Family(
        "mystocks_batches_total",
        "counter",
        ("store", "table", "outcome"),
        "Batches offered to a table: stored, spooled, rejected or failed.",
    ),
    Family("mystocks_write_seconds", "histogram", ("store", "table"), "How long a table took for a batch.", _FAST),
    Family(
        "mystocks_row_age_seconds",
        "histogram",
        ("store", "dataset"),
        "From an answer's arrival to its rows being in the store, a batch once.",
        _AGES,
    ),
    Family("mystocks_calls_total", "counter", ("source", "outcome"), "Calls of a source by how they ended."),
    Family("mystocks_call_seconds", "histogram", ("source",), "How long a source took to answer.", _SLOW),
    Family(
        "mystocks_budget_left_calls",
        "gauge",
        ("source", "window"),
        "Calls a source would still allow within the window (minute, hour, day).",
    ),
    Family("mystocks_source_quality", "gauge", ("source",), "A source's score, 0 to 100."),
    Family("mystocks_retries_total", "counter", ("of", "name"), "Tries after the first, of a sink, source or job."),
    Family("mystocks_queue_rows", "gauge", ("store", "table"), "Rows that wait in memory for their table."),
    Family("mystocks_queue_bytes", "gauge", ("store", "table"), "Their size as Arrow."),
    Family("mystocks_spool_rows", "gauge", ("store", "table"), "Rows that wait on disk for their table."),
    Family("mystocks_spool_records", "gauge", ("store", "table"), "Records of the spool that hold them."),
    Family("mystocks_spool_bytes", "gauge", ("store",), "Size of what waits on disk for a store."),
    Family("mystocks_spool_limit_bytes", "gauge", (), "Size that the spool may reach, all stores together."),
    Family("mystocks_spool_dropped_rows_total", "counter", ("store", "table"), "Best-effort rows dropped for room."),
    Family("mystocks_spool_quarantined_total", "counter", (), "Records of the spool that could not be read."),
    Family("mystocks_job_runs_total", "counter", ("job", "status"), "Runs of a job by how they ended."),
    Family("mystocks_job_seconds", "histogram", ("job",), "How long a run took.", _LONG),
    Family("mystocks_monitor_waiting_entries", "gauge", (), "Entries of the monitor log that wait for its database."),
    Family(
        "mystocks_monitor_missed_entries_total",
        "counter",
        ("why",),
        "Entries that the monitor log will never hold: lost (the disk full, say), or refused by its database.",
    ),
    Family(
        "mystocks_alert_notices_total",
        "counter",
        ("channel", "outcome"),
        "Notices of alerts: sent, or dropped because too many waited or for too long; failed counts attempts.",
    ),
    Family("mystocks_loop_lag_seconds", "histogram", (), "How late the event loop wakes a sleeper.", _LAG),
    Family("mystocks_http_requests_total", "counter", ("route", "method", "status"), "Answers of the HTTP service."),
    Family("mystocks_http_seconds", "histogram", ("route",), "How long they took.", _FAST),
    Family(
        "database_connections_active",
        "gauge",
        ("store",),
        "Connections in use, the most within the last 15 seconds.",
        seed="database.connections.active",
    ),
    Family(
        "database_pool_utilization",
        "gauge",
        ("store",),
        "Those connections, of those allowed, 0 to 1.",
        seed="database.pool.utilization",
    ),
    Family(
        "database_query_latency_seconds",
        "histogram",
        ("store", "operation"),
        "How long a store took to read or write.",
        _FAST,
        seed="database.query.latency",
    ),
    Family(
        "database_transactions_total",
        "counter",
        ("store",),
        "Reads and writes that a store carried out; rate() gives its rate.",
        seed="database.transactions.rate",
    ),
    Family(
        "database_errors_total",
        "counter",
        ("store",),
        "Reads and writes that failed; rate() gives its rate.",
        seed="database.errors.rate",
    ),
    Family(
        "database_backup_size_bytes",
        "gauge",
        ("store",),
        "Size of the newest backup; absent while the service has made none.",
        seed="database.backup.size",
    ),
    Family(
        "database_sync_status",
        "gauge",
        ("store",),
        "1 while nothing waits in the spool for the store, else 0.",
        seed="database.sync.status",
    ),
)

_OF_DATASETS = {
    "late_seconds": "mystocks_late_seconds",
    "checkpoint_late_seconds": "mystocks_checkpoint_late_seconds",
    "age_seconds": "mystocks_freshness_seconds",
}
"""Figures of a dataset that are metrics of their own as well."""
_STATES = {State.FRESH: 0, State.DEGRADED: 1, State.DOWN: 2}
Outcome = Literal["stored", "spooled", "rejected", "failed"]
Retried = Literal["sink", "source", "job"]


class Metrics:
    """Every metric of one service. Its methods cost microseconds, never wait and never raise."""

    def __init__(self, *, process: bool = True) -> None:
        """``process``: tell of memory, CPU and files of this process as well."""
        self.registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        self._totals: dict[tuple[str, tuple[str, ...]], float] = {}
        for family in FAMILIES:
            match family.kind:
                case "counter":
                    made = Counter(family.name, family.text, family.labels, registry=self.registry)
                    self._counters[family.name] = made
                case "gauge":
                    self._gauges[family.name] = Gauge(family.name, family.text, family.labels, registry=self.registry)
                case "histogram":
                    self._histograms[family.name] = Histogram(
                        family.name, family.text, family.labels, buckets=family.buckets, registry=self.registry
                    )
        if process:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)
        self._gauges["mystocks_build_info"].labels(__version__).set(1)

    def text(self) -> bytes:
        """Everything in Prometheus' text format, ``CONTENT_TYPE``."""
        return generate_latest(self.registry)

    def started(self, at: datetime) -> None:
        self._gauges["mystocks_start_time_seconds"].set(at.timestamp())

    def looked(self, health: Health) -> None:
        """Parts that are gone from ``health`` are gone from the metrics."""
        self._gauges["mystocks_ready"].set(1 if health.ready else 0)
        states, figures = self._gauges["mystocks_part_state"], self._gauges["mystocks_part_figure"]
        for gauge in (states, figures, *(self._gauges[name] for name in _OF_DATASETS.values())):
            gauge.clear()
        for part in health.parts:
            states.labels(part.kind, part.name).set(_STATES[part.state])
            for name, value in part.figures.items():
                figures.labels(part.kind, part.name, name).set(value)
                if part.kind is Kind.DATASET and name in _OF_DATASETS:
                    self._gauges[_OF_DATASETS[name]].labels(part.name).set(value)

    def polled(
        self, dataset: str, *, polls: int, failed: int, unchanged: int, late: int, stale: int, seconds: float
    ) -> None:
        """What was seen of a live dataset since the start, in all; ``seconds``: how long the last poll took."""
        self._reached("mystocks_polls_total", (dataset, "answered"), polls - failed)
        self._reached("mystocks_polls_total", (dataset, "failed"), failed)
        self._reached("mystocks_rows_unchanged_total", (dataset,), unchanged)
        self._reached("mystocks_rows_outdated_total", (dataset, "late"), late)
        self._reached("mystocks_rows_outdated_total", (dataset, "stale"), stale)
        self._gauges["mystocks_poll_seconds"].labels(dataset).set(seconds)

    def received(self, dataset: str, source: str, rows: int) -> None:
        self._counters["mystocks_rows_received_total"].labels(dataset, source).inc(rows)

    def refused(self, dataset: str, source: str, rules: Mapping[str, int]) -> None:
        for rule, rows in rules.items():
            self._counters["mystocks_rows_refused_total"].labels(dataset, source, rule).inc(rows)

    def wrote(self, store: str, table: str, rows: int, size: int, seconds: float, outcome: Outcome = "stored") -> None:
        """One batch was offered to a table; rows and bytes count where it was ``stored``."""
        self._counters["mystocks_batches_total"].labels(store, table, outcome).inc()
        if outcome == "stored":
            self._counters["mystocks_rows_stored_total"].labels(store, table).inc(rows)
            self._counters["mystocks_bytes_stored_total"].labels(store, table).inc(size)
            self._histograms["mystocks_write_seconds"].labels(store, table).observe(seconds)

    def landed(self, store: str, dataset: str, age_seconds: float) -> None:
        """Rows that arrived ``age_seconds`` ago are in the store."""
        self._histograms["mystocks_row_age_seconds"].labels(store, dataset).observe(max(age_seconds, 0.0))

    def called(self, source: str, outcome: str, seconds: float | None = None, *, calls: int = 1) -> None:
        self._counters["mystocks_calls_total"].labels(source, outcome).inc(calls)
        if seconds is not None:
            self._histograms["mystocks_call_seconds"].labels(source).observe(seconds)

    def budget(self, source: str, window: str, calls_left: float) -> None:
        self._gauges["mystocks_budget_left_calls"].labels(source, window).set(calls_left)

    def quality(self, source: str, score: float) -> None:
        self._gauges["mystocks_source_quality"].labels(source).set(score)

    def retried(self, of: Retried, name: str) -> None:
        self._counters["mystocks_retries_total"].labels(of, name).inc()

    def queued(self, store: str, table: str, rows: int, size: int) -> None:
        self._gauges["mystocks_queue_rows"].labels(store, table).set(rows)
        self._gauges["mystocks_queue_bytes"].labels(store, table).set(size)

    def spooled(self, levels: Mapping[tuple[str, str], tuple[int, int, int]], limit: int) -> None:
        """What waits on disk, by store and table: rows, records, bytes. What is not named has nothing waiting."""
        rows, records = self._gauges["mystocks_spool_rows"], self._gauges["mystocks_spool_records"]
        sizes = self._gauges["mystocks_spool_bytes"]
        for gauge in (rows, records, sizes):
            gauge.clear()
        for (store, table), (count, number, size) in levels.items():
            rows.labels(store, table).set(count)
            records.labels(store, table).set(number)
            sizes.labels(store).inc(size)
        self._gauges["mystocks_spool_limit_bytes"].set(limit)

    def dropped(self, store: str, table: str, rows: int) -> None:
        self._counters["mystocks_spool_dropped_rows_total"].labels(store, table).inc(rows)

    def quarantined(self, records: int) -> None:
        """``records``: all those that lie in the spool's quarantine."""
        self._reached("mystocks_spool_quarantined_total", (), records)

    def ran(self, job: str, status: str, seconds: float) -> None:
        self._counters["mystocks_job_runs_total"].labels(job, status).inc()
        self._histograms["mystocks_job_seconds"].labels(job).observe(max(seconds, 0.0))

    def monitored(self, waiting: int, *, lost: int, refused: int) -> None:
        """How the monitor log fares; what it lost and had refused since the start, in all."""
        self._gauges["mystocks_monitor_waiting_entries"].set(waiting)
        self._reached("mystocks_monitor_missed_entries_total", ("lost",), lost)
        self._reached("mystocks_monitor_missed_entries_total", ("refused",), refused)

    def alerted(self, channel: str, *, sent: int, failed: int, dropped: int) -> None:
        """What became of a channel's notices since the start, in all."""
        for outcome, total in (("sent", sent), ("failed", failed), ("dropped", dropped)):
            self._reached("mystocks_alert_notices_total", (channel, outcome), total)

    def lagged(self, seconds: float) -> None:
        self._histograms["mystocks_loop_lag_seconds"].observe(max(seconds, 0.0))

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        self._counters["mystocks_http_requests_total"].labels(route, method, status).inc()
        self._histograms["mystocks_http_seconds"].labels(route).observe(seconds)

    def asked(self, store: str, operation: Literal["read", "write"], seconds: float, *, failed: bool = False) -> None:
        """One read or write of a store."""
        self._histograms["database_query_latency_seconds"].labels(store, operation).observe(seconds)
        self._counters["database_errors_total" if failed else "database_transactions_total"].labels(store).inc()

    def connected(self, store: str, active: int, allowed: int) -> None:
        self._gauges["database_connections_active"].labels(store).set(active)
        self._gauges["database_pool_utilization"].labels(store).set(active / allowed if allowed else 0.0)

    def backed_up(self, store: str, size: int) -> None:
        self._gauges["database_backup_size_bytes"].labels(store).set(size)

    def _reached(self, name: str, labels: tuple[str, ...], total: float) -> None:
        """A counter that somebody else counts; one that began anew there goes on from where it was."""
        before = self._totals.get((name, labels), 0.0)
        self._totals[name, labels] = total
        counter = self._counters[name]
        (counter.labels(*labels) if labels else counter).inc(total - before if total >= before else total)

    def in_step(self, store: str, *, yes: bool) -> None:
        """Whether nothing waits for the store."""
        self._gauges["database_sync_status"].labels(store).set(1 if yes else 0)
