"""``alerts``: which rules there are and what fires now; ``alerts test`` sends one message to each channel."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from mystocks_ingest.cli.arguments import as_json
from mystocks_ingest.cli.printing import document, duration, table
from mystocks_ingest.errors import ConfigError, IngestError

if TYPE_CHECKING:
    from mystocks_ingest.monitor.alert_setup import AlertSetup
    from mystocks_ingest.monitor.channels import Channel

RECENT = timedelta(minutes=3)  # the service looks more often than that, and writes it down each minute


@dataclass(frozen=True, slots=True)
class Shown:
    """One rule as ``list`` shows it."""

    rule: str
    alerts_when: str
    condition: str
    severity: str
    held_seconds: float
    reminder_seconds: float
    firing: tuple[str, ...]
    measured: bool  # whether the service knew a value when it last looked


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one channel's test message."""

    channel: str
    arrived: bool
    said: str


@click.group()
def alerts() -> None:
    """Show the alert rules and what fires now; send a test message.

    Rules are the `alert_rules` of tables.yaml, else those the program comes with; addresses are MYSTOCKS_ALERT_URLS.
    """


@alerts.command("list")
@as_json
def list_(*, json: bool) -> None:
    """List every rule, and whether it fired when the service last looked."""
    from mystocks_ingest.cli import process
    from mystocks_ingest.monitor import standings
    from mystocks_ingest.monitor.alert_rules import METERS

    settings = process.settings()
    setup = _setup()
    memory = standings.read(settings.state_dir / standings.FILE)
    shown = [
        Shown(
            r.name, METERS[r.measure].meaning, r.shown(), r.severity, r.hold.total_seconds(), r.remind.total_seconds(),
            tuple(f"{s.subject}: {s.text}" for s in memory.standings if s.rule == r.name and s.firing),
            r.measure.value in memory.measured,
        )
        for r in setup.rules
    ]  # fmt: skip
    ago = process.clock() - memory.at if memory.at is not None else None
    if json:
        names = [c.name for c in setup.channels]
        running = ago is not None and ago < RECENT
        document({"at": memory.at, "current": running, "rules": shown, "channels": names, "remarks": setup.remarks})
        return
    table(
        ("rule", "alerts when", "condition", "severity", "for at least", "again after", "fires now"),
        [
            (s.rule, s.alerts_when, s.condition, s.severity, _held(s.held_seconds), duration(s.reminder_seconds),
             "\n".join(s.firing) or ("" if s.measured or ago is None else "not measured at present"))
            for s in shown
        ],
    )  # fmt: skip
    click.echo(f"sent to: {', '.join(c.name for c in setup.channels)}")
    for remark in setup.remarks:
        click.echo(remark)
    if ago is None:
        click.echo("the service has not looked at them yet: `run` does")
    else:
        old = "" if ago < RECENT else "; the service is not running, or hangs"
        click.echo(f"looked at {duration(max(ago.total_seconds(), 0))} ago{old}")


@alerts.command()
@click.option("--channel", metavar="NAME", help="Only this one, or those of a kind: `slack 1`, or slack.")
@as_json
def test(channel: str | None, *, json: bool) -> int:
    """Send one message to each channel, and say what happened."""
    from mystocks_ingest.cli import process

    process.settings()
    wanted = _chosen(_setup(), channel)
    sent = process.run(_sent(wanted))
    if json:
        document(sent)
    else:
        table(("channel", "", "what it said"), [(s.channel, "sent" if s.arrived else "failed", s.said) for s in sent])
    return 0 if all(s.arrived for s in sent) else 3


def _held(seconds: float) -> str:
    return duration(seconds) if seconds else "at once"


def _setup() -> AlertSetup:
    from mystocks_ingest import service
    from mystocks_ingest.cli import process
    from mystocks_ingest.monitor.alert_setup import alert_setup

    settings = process.settings()
    return alert_setup(settings, service.described(settings)[0].document)


def _chosen(setup: AlertSetup, name: str | None) -> list[Channel]:
    """Raises ConfigError where there is none of that name, or none at all."""
    if name is not None:
        found = [c for c in setup.channels if name.lower() in (c.name, c.kind)]
        if not found:
            there = ", ".join(c.name for c in setup.channels)
            raise ConfigError(f"no channel {name!r}; there are: {there}")
        return found
    found = [c for c in setup.channels if c.kind != "log"]
    if not found:
        raise ConfigError(
            "alerts go to the log only; set MYSTOCKS_ALERT_URLS to addresses such as mailtos://... or slack://..."
        )
    return found


async def _sent(channels: list[Channel]) -> list[Sent]:
    from mystocks_ingest.monitor.channels import Message

    text = "A test of the alerts of mystocks-ingest: nothing is wrong."

    async def to(channel: Channel) -> Sent:
        try:
            await channel.send(Message("[mystocks] test message", text, "info", over=True))
        except IngestError as exc:
            return Sent(channel.name, arrived=False, said=str(exc))
        return Sent(channel.name, arrived=True, said="")

    return list(await asyncio.gather(*map(to, channels)))
