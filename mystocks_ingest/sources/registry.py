"""Sources by name. Built-in ones are imported when opened, never before: a vendor's file may be heavy.

A third party's source is announced by an entry point of the group ``mystocks_ingest.sources``::

    [project.entry-points."mystocks_ingest.sources"]
    mysource = "mypackage.mysource:open_mysource"

``open_mysource(settings, *, clock)`` returns a ports.Source: ``settings`` is settings.Settings, ``clock`` gives the
present as aware UTC. Its call counts belong in ``settings.state_dir / "pacing.sqlite"``, beside everybody's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.logs import get

if TYPE_CHECKING:
    from mystocks_ingest.market.layout import Layout
    from mystocks_ingest.ports import Source
    from mystocks_ingest.schema.paces import Pace
    from mystocks_ingest.settings import Settings

log = get("pacing")

GROUP = "mystocks_ingest.sources"
SECOND_OPINION = "exchange_calendars"
AKSHARE = ("akshare", "akshare-sina", "akshare-tencent", "akshare-exchanges")
BUILT_IN = ("files", "tushare", "baostock", *AKSHARE, SECOND_OPINION)


def names() -> tuple[str, ...]:
    """Every source there is: built in, then installed beside."""
    return (*BUILT_IN, *sorted(_third_parties()))


def preferred(settings: Settings) -> tuple[str, ...]:
    """The sources that ``auto`` asks, the cheapest first: the user's own files, then those that need no account."""
    ready = {"files": settings.archive_dir is not None, "tushare": settings.tushare_token is not None}
    return tuple(n for n in names() if n != SECOND_OPINION and ready.get(n, True))


def chosen(name: str, settings: Settings) -> tuple[str, ...]:
    """The sources that ``--source name`` stands for: ``auto``, ``akshare`` with all its sites, or one by its name.

    Raises ConfigError for an unknown one.
    """
    if name == "auto":
        return preferred(settings)
    if name == "akshare":
        return AKSHARE
    if name not in names():
        raise ConfigError(f"unknown source {name!r}; known: auto, {', '.join(names())}")
    return (name,)


def open_source(
    name: str, settings: Settings, *, now: Callable[[], datetime], paces: Mapping[str, Pace] | None = None
) -> Source:
    """The source called ``name``; nothing is started before its first call. Raises ConfigError for an unknown one.

    ``paces``: how often each is called, None: as ``pacing.yaml`` has it now.
    """
    from mystocks_ingest.ports import Paced  # noqa: PLC0415 - Arrow is loaded with a source, not before

    source = _opened(name, settings, now)
    pace = (paces_of(settings) if paces is None else paces).get(name)
    if isinstance(source, Paced) and pace is not None:
        source.pace(pace)
    elif pace is not None:
        log.warning("pace.unheard", source=name, why="this source cannot be told how often it is called")
    return source


def paces_of(settings: Settings) -> Mapping[str, Pace]:
    """What ``pacing.yaml`` says now. Raises ConfigError."""
    path = settings.config_dir / "pacing.yaml"
    if not path.exists():
        return {}
    from mystocks_ingest.schema.pacing import read  # noqa: PLC0415 - pydantic and yaml only where there is a file

    return read(path, names())


def _opened(name: str, settings: Settings, now: Callable[[], datetime]) -> Source:
    match name:
        case "tushare":
            from mystocks_ingest.sources.tushare.source import open_tushare  # noqa: PLC0415

            return open_tushare(settings, clock=now)
        case "baostock":
            from mystocks_ingest.sources.baostock.source import open_baostock  # noqa: PLC0415

            return open_baostock(settings, clock=now)
        case "files":
            from mystocks_ingest.sources.files import open_files  # noqa: PLC0415

            return open_files(settings, clock=now, layouts=layouts())
        case "exchange_calendars":
            from mystocks_ingest.sources.exchange_calendars import ExchangeCalendars  # noqa: PLC0415

            return ExchangeCalendars(clock=now)
        case _ if name in AKSHARE:
            from mystocks_ingest.sources.akshare import open_akshare  # noqa: PLC0415

            return open_akshare(name, settings, clock=now)
        case _:
            return _third_party(name, settings, now)


def layouts() -> tuple[Layout, ...]:
    """Every vendor's table shapes, by which an archive's files are recognised."""
    from mystocks_ingest.sources.akshare.layouts import LAYOUTS as AKSHARE_LAYOUTS  # noqa: PLC0415
    from mystocks_ingest.sources.baostock.layouts import LAYOUTS as BAOSTOCK_LAYOUTS  # noqa: PLC0415
    from mystocks_ingest.sources.tushare.layouts import LAYOUTS as TUSHARE_LAYOUTS  # noqa: PLC0415

    return (*TUSHARE_LAYOUTS, *BAOSTOCK_LAYOUTS, *AKSHARE_LAYOUTS)


def _third_parties() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in BUILT_IN}


def _third_party(name: str, settings: Settings, now: Callable[[], datetime]) -> Source:
    point = _third_parties().get(name)
    if point is None:
        raise ConfigError(f"unknown source {name!r}; known: {', '.join(names())}")
    try:
        factory = point.load()
    except (ImportError, AttributeError) as exc:
        raise ConfigError(f"source {name} cannot be loaded from {point.value}: {exc}") from exc
    source: Source = factory(settings, clock=now)
    return source
