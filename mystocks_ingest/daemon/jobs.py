"""The service's jobs: taken from ``jobs.yaml`` while it runs, and told about to whoever asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mystocks_ingest.daemon.parts import Daemon
from mystocks_ingest.errors import ConfigError
from mystocks_ingest.flow.schedule import Memory
from mystocks_ingest.flow.universe import members
from mystocks_ingest.market.datasets import DATASETS
from mystocks_ingest.schema import jobs
from mystocks_ingest.schema.jobs import JobEntry
from mystocks_ingest.service import Service


def path(folder: Path) -> Path:
    """The file of jobs in the directory of settings."""
    return folder / "jobs.yaml"


def read(service: Service) -> tuple[JobEntry, ...]:
    """The jobs as the file has them now. Raises ConfigError: also for an unknown source, dataset's table, universe."""
    file = path(service.settings.config_dir)
    entries = jobs.read(file)
    for entry in entries:
        try:
            for word in entry.sources:
                service.sources_of(word)
            members(entry.universe, folder=file.parent)
            for name in entry.datasets:
                service.tables.routes(DATASETS[name])
        except ConfigError as exc:
            raise ConfigError(f"{file}: job {entry.name}: {exc}") from exc
    return entries


def take_over(daemon: Daemon, entries: Sequence[JobEntry]) -> None:
    """Other jobs from now on: their live sources are opened, and bars are built from quotes where no job fetches any."""
    service = daemon.service
    for entry in entries:
        for name in (name for word in entry.sources for name in service.sources_of(word) if entry.live):
            daemon.live_sources[name] = service.source(name)
    live = {name for e in entries if e.live for name in e.datasets}
    fetched = {name for e in entries if not e.live and not daemon.schedule.paused(e) for name in e.datasets}
    daemon.collector.bars = "quote" in live and "bar_1m" not in fetched
    daemon.schedule.replace_entries(entries)


def line(entry: JobEntry, memory: Memory, *, paused: bool, running: bool, due: object = None) -> dict[str, object]:
    """One job as it is shown; ``due`` is when it comes next."""
    return {
        "name": entry.name,
        "when": entry.text,
        "datasets": list(entry.datasets),
        "universe": entry.universe,
        "paused": paused,
        "running": running,
        "next": due,
        "last_due": memory.due,
        "ended": memory.ended,
        "status": memory.status if running or memory.status != "running" else "interrupted",
        "reason": memory.reason,
    }


async def answer(daemon: Daemon, request: Mapping[str, object]) -> Mapping[str, object]:
    """What `jobs` asks. Raises ConfigError for an unknown command or job."""
    schedule, name = daemon.schedule, str(request.get("name", ""))
    match request.get("do"):
        case "list":
            lines = []
            for entry in schedule.entries:
                firing = schedule.next.get(entry.name)
                lines.append(
                    line(
                        entry,
                        schedule.known.get(entry.name, Memory()),
                        paused=schedule.paused(entry),
                        running=schedule.running(entry.name),
                        due=firing.at if firing is not None else None,
                    )
                )
            return {"jobs": lines, "refused": "; ".join(daemon.refused.values())}
        case "run":
            ended = await schedule.now(name)
            return {"name": name, "status": ended.status, "reason": ended.reason}
        case "pause" | "resume" as what:
            await schedule.pause(name, paused=what == "pause")
            return {"name": name, "paused": what == "pause"}
        case other:
            raise ConfigError(f"the service knows no command {other!r}; is it an older version? Restart it")
