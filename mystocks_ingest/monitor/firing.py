"""Which rules fire, and what is to be told: one pure step from how things stood to how they stand.

A rule fires for a subject once its reading was bad for the rule's ``hold``; it is told once, again after ``remind``, and
once more when the reading was good for a while. What is unknown changes nothing: a database that cannot be asked has
neither recovered nor failed anew. The clock may be stepped back: no moment that is remembered lies in the future.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from mystocks_ingest.monitor.alert_rules import Measure, Rule, Severity, amount
from mystocks_ingest.monitor.health import Health
from mystocks_ingest.monitor.readings import Logged, Reading, readings

SETTLE = timedelta(minutes=2)
"""How long a reading must be good before a recovery is told, at least."""
_WORDS = {
    Measure.PART_DOWN: "down",
    Measure.JOB_FAILED: "failed",
    Measure.SOURCE_BANNED: "banned",
    Measure.LOG_LOSING: "losing entries",
}
SHANGHAI = ZoneInfo("Asia/Shanghai")
Key = tuple[str, str]  # a rule's name, and the subject


@dataclass(frozen=True, slots=True)
class Standing:
    """A rule that is broken by a subject, or was a moment ago. ``told_at`` None: not for long enough yet.

    ``good_since``: it seems to be over. ``told`` counts the messages, reminders among them.
    """

    rule: str
    subject: str
    severity: Severity
    since: datetime
    value: float
    text: str
    told_at: datetime | None = None
    told: int = 0
    good_since: datetime | None = None
    action: str = ""

    @property
    def firing(self) -> bool:
        return self.told_at is not None


Standings = Mapping[Key, Standing]


class Kind(StrEnum):
    """What a notice says: it began, it still is, it is over."""

    FIRING = "firing"
    REMINDER = "reminder"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell. ``action``: the channel that the rule asks for."""

    kind: Kind
    rule: str
    severity: Severity
    subject: str
    text: str
    since: datetime
    at: datetime
    action: str = ""

    def line(self) -> str:
        """The notice on one line; moments are Shanghai's."""
        head = "RECOVERED" if self.kind is Kind.RECOVERED else self.severity.upper()
        again = " (reminder)" if self.kind is Kind.REMINDER else ""
        since = f"since {self.since.astimezone(SHANGHAI):%Y-%m-%d %H:%M} Shanghai"
        if self.kind is Kind.RECOVERED:
            since = f"after {_length(self.at - self.since)}"
        return f"{head}{again} {self.rule}: {self.subject}: {self.text}, {since}"


def evaluate(
    rules: Sequence[Rule], health: Health, previous: Standings, now: datetime, *, logged: Logged | None = None
) -> tuple[dict[Key, Standing], list[Notice]]:
    """How each rule stands now, and what is to be told of it."""
    standings: dict[Key, Standing] = {}
    notices: list[Notice] = []
    found = readings(health, logged)
    for rule in rules:
        mine = {r.subject: r for r in found if r.measure is rule.measure}
        known = logged is not None or rule.measure is not Measure.TABLE_CREATION_FAILURE
        gone = [subject for name, subject in previous if name == rule.name and subject not in mine]
        for reading in (*mine.values(), *(Reading(rule.measure, subject, 0.0 if known else None) for subject in gone)):
            key = (rule.name, reading.subject)
            after, notice = _step(rule, reading, previous.get(key), now, watched=reading.subject in mine)
            if after is not None:
                standings[key] = after
            if notice is not None:
                notices.append(notice)
    names = {rule.name for rule in rules}
    notices += [
        _notice(Kind.RECOVERED, was, "the rule was taken away", now)
        for (name, _), was in previous.items()
        if name not in names and was.firing
    ]
    return standings, sorted(notices, key=lambda n: (n.kind is Kind.RECOVERED, n.rule, n.subject))


def _step(
    rule: Rule, reading: Reading, before: Standing | None, now: datetime, *, watched: bool
) -> tuple[Standing | None, Notice | None]:
    before = _not_in_the_future(before, now)
    if reading.value is None:
        return before, None
    if watched and _bad(rule, reading.value, before):
        return _worse(rule, reading, reading.value, before, now)
    if before is None or before.told_at is None:
        return None, None
    good_since = before.good_since or now
    if now - good_since < max(rule.hold if rule.beyond != "for longer than" else SETTLE, SETTLE):
        return replace(before, value=reading.value, good_since=good_since), None
    text = f"now {_said(rule, reading)}" if watched else "no longer there"
    return None, _notice(Kind.RECOVERED, before, text, now)


def _bad(rule: Rule, value: float, before: Standing | None) -> bool:
    """A spool is bad while it holds something and gets no smaller; anything else by its threshold."""
    if rule.measure is Measure.SPOOL_GROWING and before is not None:
        return value > 0 and value >= before.value
    return rule.broken_by(value)


def _worse(
    rule: Rule, reading: Reading, value: float, before: Standing | None, now: datetime
) -> tuple[Standing, Notice | None]:
    text = _said(rule, reading)
    if before is None:
        before = Standing(rule.name, reading.subject, rule.severity, now, value, text)
    after = replace(before, severity=rule.severity, value=value, text=text, good_since=None, action=rule.action)
    if after.told_at is None:
        kind = Kind.FIRING if now - after.since >= rule.hold else None
    else:
        kind = Kind.REMINDER if now - after.told_at >= rule.remind else None
    if kind is None:
        return after, None
    after = replace(after, told_at=now, told=after.told + 1)
    return after, _notice(kind, after, text, now)


def _said(rule: Rule, reading: Reading) -> str:
    """The value, the limit, and the part's own reason."""
    value = reading.value or 0.0
    match rule.measure:
        case Measure.SPOOL_GROWING:
            text = f"{value / 1e6:,.1f} MB wait"
        case Measure.PART_DOWN | Measure.JOB_FAILED | Measure.SOURCE_BANNED | Measure.LOG_LOSING:
            bad = _WORDS[rule.measure]
            text = bad if value else f"not {bad}"
        case _:
            text = f"{amount(rule.measure, value)} (alert {rule.shown()})"
    return f"{text}: {reading.why}" if reading.why and rule.broken_by(value) else text


def _notice(kind: Kind, of: Standing, text: str, now: datetime) -> Notice:
    return Notice(kind, of.rule, of.severity, of.subject, text, of.since, now, of.action)


def _not_in_the_future(standing: Standing | None, now: datetime) -> Standing | None:
    if standing is None:
        return None
    told = standing.told_at
    good = standing.good_since
    return replace(
        standing,
        since=min(standing.since, now),
        told_at=min(told, now) if told is not None else None,
        good_since=min(good, now) if good is not None else None,
    )


def _length(span: timedelta) -> str:
    minutes = round(span.total_seconds() / 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} days {hours % 24} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
