"""Alert rules: what the file says becomes rules, and what health shows becomes notices, once each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mystocks_ingest.monitor.alert_rules import METERS, Measure, Rule, amount, rules
from mystocks_ingest.monitor.firing import Key, Kind, Notice, Standing, evaluate
from mystocks_ingest.monitor.health import Health, Part, State
from mystocks_ingest.monitor.health import Kind as PartKind
from mystocks_ingest.monitor.readings import Logged
from mystocks_ingest.schema import tables
from mystocks_ingest.schema.document.values import AlertRule

T0 = datetime(2026, 3, 2, 1, 30, tzinfo=UTC)
CONFIG = Path(__file__).parents[2] / "config" / "tables.yaml"


def health(*parts: Part) -> Health:
    return Health(parts, "0", T0, T0)


def part(kind: PartKind, name: str, **figures: float) -> Part:
    return Part(name, kind, figures=figures)


def late(hours: float) -> Health:
    return health(part(PartKind.DATASET, "bar_1d", late_seconds=hours * 3600))


class Story:
    """Looks one after another, as the sidecar takes them."""

    def __init__(self, in_force: tuple[Rule, ...] | None = None) -> None:
        self.rules = rules(())[0] if in_force is None else in_force
        self.standings: dict[Key, Standing] = {}
        self.told: list[tuple[float, Notice]] = []

    def look(self, minute: float, seen: Health, logged: Logged | None = None) -> list[Kind]:
        now = T0 + timedelta(minutes=minute)
        self.standings, notices = evaluate(self.rules, seen, self.standings, now, logged=logged)
        self.told += [(minute, n) for n in notices]
        return [n.kind for n in notices]


def test_the_first_users_thresholds_hold_where_the_file_says_nothing() -> None:
    found = {r.measure: r for r in rules(())[0]}
    assert set(found) == set(Measure)
    assert found[Measure.DATA_FRESHNESS].threshold == 24 * 3600
    assert found[Measure.TABLE_CREATION_FAILURE].threshold == 1
    assert found[Measure.SLOW_QUERY].threshold == 5
    assert found[Measure.DISK_USAGE].threshold == 80


def test_the_files_rules_take_their_place_in_the_files_units_and_one_can_be_taken_away() -> None:
    entries = (
        AlertRule("data_staleness", 36, "hours", "send_email_alert", "critical"),
        AlertRule("disk-usage", 0.9, "ratio"),
        AlertRule("slow_query", 5, enabled=False),
        AlertRule("calendar_ending", 2, "days"),
    )
    found, remarks = rules(entries)
    by_name = {r.name: r for r in found}
    assert remarks == ()
    assert (by_name["data_staleness"].threshold, by_name["data_staleness"].severity) == (36 * 3600, "critical")
    assert by_name["data_staleness"].action == "send_email_alert"
    assert by_name["disk-usage"].threshold == 90
    assert by_name["calendar_ending"].threshold == 2
    assert "slow_query" not in by_name
    assert "data_freshness" not in by_name
    assert len(found) == len(METERS) - 1


def test_a_rule_that_nothing_measures_is_said_and_not_taken_for_one() -> None:
    found, remarks = rules((AlertRule("moon_phase", 1), AlertRule("disk_usage", 5, "hours")))
    assert "moon_phase" in remarks[0]
    assert "not in hours" in remarks[1]
    assert Measure.DISK_USAGE not in {r.measure for r in found}


def test_every_name_in_every_unit_the_file_may_use_is_a_rule_or_a_remark() -> None:
    for name in (n for measure, meter in METERS.items() for n in (measure.value, *meter.also)):
        for unit in (
            "seconds",
            "minutes",
            "hours",
            "days",
            "count",
            "percent",
            "score",
            "ratio",
            "rows",
            "mb",
            "gb",
            "",
        ):
            entries = (AlertRule(name, 1, unit),)
            found, remarks = rules(entries)
            assert (name in {r.name for r in found}) != bool(remarks), (name, unit)


def test_the_shipped_table_file_has_only_rules_that_are_measured() -> None:
    assert rules(tables.load(CONFIG).document.alert_rules)[1] == ()


def test_it_is_told_once_after_the_hold_then_again_after_the_reminders_time_then_that_it_is_over() -> None:
    story = Story()
    for minute in range(0, 24 * 60, 1):
        story.look(minute, late(30 if minute < 13 * 60 else 0))
    assert [(at, n.kind) for at, n in story.told] == [
        (5, Kind.FIRING),
        (5 + 12 * 60, Kind.REMINDER),
        (13 * 60 + 5, Kind.RECOVERED),
    ]
    assert story.standings == {}
    first, _, last = (n.line() for _, n in story.told)
    assert first.startswith("WARNING data_freshness: dataset bar_1d: 30 h (alert above 24 h), since 2026-03-02 09:30")
    assert last.startswith("RECOVERED data_freshness: dataset bar_1d: now 0 s")
    assert last.endswith("after 13 h 5 min")


def test_a_short_dip_is_told_to_nobody() -> None:
    story = Story()
    for minute in range(60):
        story.look(minute, late(30 if minute % 5 < 4 else 1))
    assert story.told == []


def test_one_that_flutters_is_told_once_and_over_once() -> None:
    story = Story()
    for minute in range(120):
        story.look(minute, late(30 if minute < 10 or (minute < 60 and minute % 3) else 1))
    assert [n.kind for _, n in story.told] == [Kind.FIRING, Kind.RECOVERED]


def test_each_subject_is_told_by_itself() -> None:
    story = Story()
    banned = [part(PartKind.SOURCE, name, banned=1) for name in ("akshare", "baostock")]
    story.look(0, health(*banned))
    assert [n.subject for _, n in story.told] == ["source akshare", "source baostock"]
    story.look(1, health(banned[0], part(PartKind.SOURCE, "baostock", banned=0)))
    story.look(4, health(banned[0], part(PartKind.SOURCE, "baostock", banned=0)))
    assert [(n.kind, n.subject) for _, n in story.told[2:]] == [(Kind.RECOVERED, "source baostock")]


def test_what_is_unknown_neither_fires_nor_recovers() -> None:
    story = Story()
    slow, unknown = health(part(PartKind.SINK, "mysql", latency_seconds=9)), health(part(PartKind.SINK, "mysql"))
    for minute in range(3):
        story.look(minute, slow)
    for minute in range(3, 60):
        assert story.look(minute, unknown) == []
    assert [s.firing for s in story.standings.values()] == [True]
    story.look(60, health(part(PartKind.SINK, "mysql", latency_seconds=0.1)))
    assert story.look(63, health(part(PartKind.SINK, "mysql", latency_seconds=0.1))) == [Kind.RECOVERED]


def test_a_part_that_is_there_no_longer_is_over_after_a_while() -> None:
    story = Story()
    story.look(0, health(part(PartKind.SOURCE, "akshare", banned=1)))
    assert story.look(1, health()) == []
    assert story.look(3, health()) == [Kind.RECOVERED]
    assert "no longer there" in story.told[-1][1].line()


def test_a_rule_that_was_taken_away_is_told_as_over() -> None:
    story = Story()
    story.look(0, health(part(PartKind.SOURCE, "akshare", banned=1)))
    story.rules = tuple(r for r in story.rules if r.measure is not Measure.SOURCE_BANNED)
    assert story.look(1, health(part(PartKind.SOURCE, "akshare", banned=1))) == [Kind.RECOVERED]
    assert story.standings == {}


def test_a_spool_is_bad_while_it_does_not_shrink_and_well_while_it_drains() -> None:
    story = Story()
    size = [100.0 * minute for minute in range(15)] + [1400.0] * 5 + [1400.0 - 100 * n for n in range(1, 15)]
    for minute, waiting in enumerate(size):
        story.look(minute, health(part(PartKind.SPOOL, "market_data.ticks", waiting_bytes=waiting)))
    assert [(at, n.kind) for at, n in story.told] == [(11, Kind.FIRING), (22, Kind.RECOVERED)]


def test_a_spool_that_empties_at_once_is_told_to_nobody() -> None:
    story = Story()
    for minute in range(60):
        story.look(minute, health(part(PartKind.SPOOL, "spool", waiting_bytes=minute % 9 * 100)))
    assert story.told == []


def test_only_parts_that_page_alert_when_they_are_down_and_the_reason_is_said() -> None:
    story = Story()
    down = [Part(name, PartKind.LOOP, State.DOWN, "it stopped", page=name == "live") for name in ("live", "extra")]
    for minute in range(10):
        story.look(minute, health(*down))
    ((at, told),) = story.told
    assert (at, told.severity, told.subject) == (2, "critical", "loop live")
    assert "down: it stopped" in told.line()


def test_a_database_that_is_away_is_told_though_it_wakes_nobody() -> None:
    story = Story()
    for minute in range(5):
        story.look(minute, health(Part("mysql", PartKind.SINK, State.DOWN, "it refuses connections")))
    assert [(at, n.subject) for at, n in story.told] == [(2, "sink mysql")]


def test_a_failed_job_and_a_calendar_that_ends_are_told() -> None:
    story = Story()
    job = Part("daily", PartKind.JOB, State.DEGRADED, "partial three times")
    story.look(0, health(job, part(PartKind.CALENDAR, "calendar", days_left=29)))
    assert [n.line().split(",")[0] for _, n in story.told] == [
        "WARNING calendar_ending: calendar: 29 days (alert below 30 days)",
        "WARNING job_failed: job daily: failed: partial three times",
    ]


def row(status: str, table: str = "ticks", error: str = "") -> dict[str, object]:
    return {
        "table_name": table, "database_type": "TDengine", "database_name": "market_data", "status": status,
        "error_message": error, "creation_time": T0,
    }  # fmt: skip


def test_a_failed_creation_fires_until_one_succeeds() -> None:
    story = Story()
    story.look(0, health(), Logged.of([row("failed", error="no vnodes"), row("failed"), row("success")]))
    ((_, told),) = story.told
    assert told.subject == "table TDengine market_data.ticks"
    assert "2 (alert at least 1): no vnodes" in told.line()
    assert story.look(5, health(), None) == []  # the log is away: nothing is known
    made = Logged.of([row("success"), row("failed"), row("failed")])
    assert story.look(6, health(), made) == []
    assert story.look(9, health(), made) == [Kind.RECOVERED]


def test_a_clock_that_is_stepped_back_delays_no_reminder_by_more_than_the_step() -> None:
    story = Story()
    for minute in (0, 5, 6):
        story.look(minute, late(30))
    for minute in range(-60, 12 * 60 - 50):
        story.look(minute, late(30))
    assert [(at, n.kind) for at, n in story.told] == [(5, Kind.FIRING), (11 * 60, Kind.REMINDER)]


@pytest.mark.parametrize(
    ("measure", "value", "shown"),
    [
        (Measure.DATA_FRESHNESS, 59.0, "59 s"),
        (Measure.DATA_FRESHNESS, 600.0, "10 min"),
        (Measure.DATA_FRESHNESS, 26 * 3600.0, "26 h"),
        (Measure.DATA_FRESHNESS, 72 * 3600.0, "3 days"),
        (Measure.DISK_USAGE, 81.25, "81.2 %"),
        (Measure.CALENDAR_ENDING, 12.0, "12 days"),
    ],
)
def test_values_are_shown_with_a_unit_that_suits_them(measure: Measure, value: float, shown: str) -> None:
    assert amount(measure, value) == shown


@given(st.lists(st.tuples(st.integers(-30, 90), st.sampled_from([None, 0.0, 23.0, 25.0, 100.0])), max_size=60))
def test_whatever_the_looks_a_firing_precedes_each_recovery_and_no_two_of_a_kind_follow(
    looks: list[tuple[int, float | None]],
) -> None:
    story, minute = Story(), 0
    for step, hours in looks:
        minute += step
        story.look(minute, health(part(PartKind.DATASET, "d")) if hours is None else late(hours))
    for subject in ("dataset d", "dataset bar_1d"):
        kinds = [n.kind for _, n in story.told if n.subject == subject and n.kind is not Kind.REMINDER]
        assert kinds == [Kind.FIRING, Kind.RECOVERED] * (len(kinds) // 2) + [Kind.FIRING] * (len(kinds) % 2)
