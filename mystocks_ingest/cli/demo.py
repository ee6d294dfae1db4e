"""``demo``: the whole way of a row, on a simulated market served over the three vendors' own protocols.

The vendors' real packages run; only their endpoints are this machine's. The store is a folder of its own under
the state directory, so that nothing simulated ever stands beside real data.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mystocks_ingest.cli import as_typed
from mystocks_ingest.cli.arguments import as_json
from mystocks_ingest.cli.printing import document, table

if TYPE_CHECKING:
    import pyarrow as pa

    from mystocks_ingest.flow.report import Report, Watch
    from mystocks_ingest.market.frames import Symbol, Window
    from mystocks_ingest.service import Clock, Service
    from mystocks_ingest.settings import Settings
    from mystocks_ingest.sim.server import Sim, SimConfig

STOCKS = 60
SESSIONS = 250
LISTS = ("instrument", "calendar")
FEW = 2  # instruments asked of AkShare: it is called about once a second, so that no site bans anybody
ACCOUNT_POINTS = 5000  # what the simulated Tushare account may do
_EVENING = timedelta(hours=10)  # UTC: 18:00 in Shanghai, when every vendor has published the day


@dataclass(frozen=True, slots=True)
class Shown:
    """What the demo shows at its end: the run, and a few bars as ``read`` gives them."""

    report: Report
    rows: pa.Table


@click.command()
@click.option("--live", is_flag=True, help="The service through a simulated trading day.")
@click.option(
    "--speed", type=click.FloatRange(1, 2000), help="With --live: how many times as fast as a real day (150)."
)
@as_json
def demo(*, live: bool, speed: float | None, json: bool) -> int:
    """Show the whole way of a row on a simulated market: no account, no network.

    A second run finds everything stored and fetches nothing.
    """
    from mystocks_ingest.cli import process, summary
    from mystocks_ingest.cli.progress import watching
    from mystocks_ingest.sim.server import SimConfig

    real = process.settings()
    if live:
        return _day(real, speed, json=json)
    if speed is not None:
        raise click.UsageError("--speed is for --live")
    config = SimConfig(stocks=STOCKS, sessions=SESSIONS)
    folder = real.state_dir / "demo"
    _stay_on_this_machine()
    if not json:
        click.echo(f"{STOCKS} simulated stocks over {SESSIONS} sessions, fetched by the three vendors' own packages")
    with watching(json=json, relog=lambda: process.prepare(real)) as watch:
        shown = process.run(_demo(real, folder, config, watch))
    if json:
        return summary.show(shown.report, json=True)
    summary.rows(shown.report)
    summary.troubles(shown.report)
    _show_rows(shown.rows)
    _advise(shown, folder)
    return shown.report.exit_code


def _day(real: Settings, speed: float | None, *, json: bool) -> int:
    from mystocks_ingest.cli import demo_day, process
    from mystocks_ingest.sim.server import SimConfig, running

    folder = real.state_dir / "demo-live"

    async def work() -> demo_day.Day:
        async with running(SimConfig(stocks=demo_day.STOCKS, sessions=demo_day.SESSIONS, live=True, speed=0)) as sim:
            return await demo_day.lived(_simulated(real, folder, sim), sim, speed=speed or demo_day.SPEED, json=json)

    _stay_on_this_machine()
    day = process.run(work())
    if json:
        document(day)
    else:
        table(("dataset", "rows stored"), day.rows.items(), right=("rows stored",))
        click.echo(f"the last quote is the published close of {day.agree} stocks of {day.agree + day.differ}")
        _type_next(
            [(f"MYSTOCKS_STATE_DIR={shlex.quote(str(folder))} {as_typed()} read bar_1m", "bars built from quotes")]
        )
    return 3 if day.differ or not day.agree else 0


async def _demo(real: Settings, folder: Path, config: SimConfig, watch: Watch) -> Shown:
    from mystocks_ingest import service
    from mystocks_ingest.market.datasets import BAR_1D
    from mystocks_ingest.market.frames import Window
    from mystocks_ingest.sim.server import running

    async with running(config) as sim:
        window = Window(sim.market.first_day, sim.market.last_day + timedelta(days=1))
        async with service.opened(_simulated(real, folder, sim), now=_clock(sim.market.last_day)) as opened:
            report = await _fetch(opened, sim, window, watch)
            first = (await _symbols(opened, "stock"))[:1]
            last_days = Window(window.end - timedelta(days=7), window.end)
            return Shown(report, await opened.read(BAR_1D, tuple(first), last_days, "back"))


async def _fetch(opened: Service, sim: Sim, window: Window, watch: Watch) -> Report:
    """Each vendor's share by that vendor, with a bad row from two of them; then whatever is missing, by anyone."""
    from mystocks_ingest.flow.report import Job, Report
    from mystocks_ingest.market.datasets import BAR_1D

    total = Report()
    _add(total, await opened.backfill(Job(LISTS, window), watch))
    shares = await _shares(opened, sim)
    everyone = tuple(sorted(s for share in shares.values() for s in share))
    if not await opened.journal.checkpoints(BAR_1D):
        await sim.fault("tushare", "bad_ohlc", times=1, match="daily")
        await sim.fault("baostock", "negative_price", times=1, match="query_history_k_data*")
        for source, symbols in shares.items():
            _add(total, await opened.backfill(Job(("bar_1d",), window, symbols, source=source), watch))
    _add(total, await opened.backfill(Job(("bar_1d", "adj_factor"), window, everyone), watch))
    return total


async def _shares(opened: Service, sim: Sim) -> dict[str, tuple[Symbol, ...]]:
    """Who is fetched through whom: Beijing through Tushare, indices through Baostock, funds through AkShare."""
    from mystocks_ingest.market.symbols import exchange_of

    stocks = await _symbols(opened, "stock")
    beijing = [s for s in stocks if exchange_of(s) == "BJ"]
    paused = set(sim.market.suspensions().column("symbol").to_pylist())  # AkShare keeps no record of suspensions
    few = [s for s in stocks if s not in paused and s not in beijing][:FEW]
    rest = [s for s in stocks if s not in beijing and s not in few]
    return {
        "tushare": (*beijing, *rest[::2]),
        "baostock": (*rest[1::2], *await _symbols(opened, "index")),
        "akshare": (*few, *(await _symbols(opened, "etf"))[:1]),
    }


async def _symbols(opened: Service, asset_type: str) -> list[Symbol]:
    from mystocks_ingest.market.frames import Window

    return (await opened.instruments()).listed(Window(date.min, date.max), asset_types=frozenset({asset_type}))


def _simulated(real: Settings, folder: Path, sim: Sim) -> Settings:
    """The settings with the simulator in the vendors' place."""
    from pydantic import SecretStr

    return real.model_copy(
        update={
            "state_dir": folder,
            "stores": "",
            "archive_dir": None,
            "pacing": "none",  # nobody to be gentle with, where the simulator stands in
            "tushare_token": SecretStr(sim.environment["TUSHARE_TOKEN"]),
            "tushare_points": ACCOUNT_POINTS,
            "tushare_endpoint": sim.environment["TUSHARE_ENDPOINT"],
            "baostock_endpoint": sim.environment["BAOSTOCK_ENDPOINT"],
            "baostock_api_key": None,
            "akshare_endpoint": sim.environment["AKSHARE_ENDPOINT"],
        }
    )


def _stay_on_this_machine() -> None:
    """Vendors' packages read these where they build their sessions: a proxy would carry the calls away."""
    for name in [n for n in os.environ if n.lower() in ("http_proxy", "https_proxy", "all_proxy")]:
        del os.environ[name]


def _clock(last_day: date) -> Clock:
    """The evening of the market's last day, moving on with real time from run to run (five hours, then over)."""
    evening = datetime(last_day.year, last_day.month, last_day.day, tzinfo=UTC) + _EVENING
    return lambda: evening + timedelta(seconds=time.time() % (5 * 3600))


def _add(total: Report, part: Report) -> None:
    """Counts are sums; what is missing is what the last part found missing."""
    total.rows += part.rows
    total.calls += part.calls
    total.refused += part.refused
    total.outcomes += part.outcomes
    total.failures |= part.failures
    total.missing, total.absent = part.missing, part.absent
    total.warnings = list(dict.fromkeys([*total.warnings, *part.warnings]))
    total.provisional += part.provisional
    total.seconds += part.seconds


def _show_rows(rows: pa.Table) -> None:
    names = ["symbol", "trade_date", "open", "high", "low", "close", "volume", "amount", "source"]
    table(
        names,
        zip(*(rows.column(n).to_pylist() for n in names), strict=True),
        title="A few stored bars, adjusted back",
        right=names[2:-1],
    )


def _advise(shown: Shown, folder: Path) -> None:
    with_store = f"MYSTOCKS_STATE_DIR={shlex.quote(str(folder))} {as_typed()}"
    symbol = shown.rows.column("symbol")[0].as_py() if shown.rows.num_rows else "600000.SH"
    lines = (
        (f"{as_typed()} demo", "again: everything is stored, nothing is fetched"),
        (f"{with_store} read bar_1d {symbol} --adjust back", "any bars of the demo"),
        (f"{with_store} dead-letters list", "the rows that were refused, and why"),
        (f"{as_typed()} backfill --dry-run", "what a real history would cost"),
    )
    _type_next(lines)


def _type_next(lines: Iterable[tuple[str, str]]) -> None:
    click.echo("What to type next:")
    width = max(len(command) for command, _ in lines)
    for command, meaning in lines:
        click.echo(f"  {command:<{width}}  # {meaning}")
