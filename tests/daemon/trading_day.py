"""A simulated exchange and a service beside it, both by one hurried clock; and what was stored, laid beside the truth."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time as clocks
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path

from seen import OF_BARS, OF_QUOTES, Key, Look, Row, Seen, utc

from mystocks_ingest import control, service
from mystocks_ingest.market.datasets import DATASETS
from mystocks_ingest.market.sessions import ZONE
from mystocks_ingest.ports import Query
from mystocks_ingest.settings import Settings
from mystocks_ingest.sim.market import Market
from mystocks_ingest.sim.server import Sim, SimConfig, running

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "hurried.py"
SPEED = 60.0
PATIENCE_SECONDS = 120.0  # until something that must come has come, on a busy machine


@dataclass
class Exchange:
    """The simulator and the state directory of a service, both at the same time of the simulated world."""

    folder: Path
    sim: Sim
    more: dict[str, str] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None
    ended: list[datetime] = field(default_factory=list)  # the exchange's time at each kill

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **self.sim.environment,
            "TUSHARE_POINTS": "15000",
            "MYSTOCKS_PACING": "none",
            "MYSTOCKS_HTTP_PORT": "0",
            "MYSTOCKS_LOG_FORMAT": "json",
            "MYSTOCKS_LOG_LEVEL": "info",
            "MYSTOCKS_STATE_DIR": str(self.folder / "state"),
            "MYSTOCKS_CONFIG_DIR": str(self.folder / "config"),
            **self.more,
        }

    def jobs(self, *lines: str) -> None:
        text = "jobs:\n" + "".join(f"  - {{{line}}}\n" for line in lines)
        (self.folder / "config" / "jobs.yaml").write_text(text, encoding="utf-8")

    def moment(self, clock: str, day: date | None = None) -> datetime:
        return datetime.combine(day or self.sim.market.last_day, time.fromisoformat(clock), ZONE)

    async def start(self, clock: str = "", day: date | None = None, *, speed: float = SPEED) -> None:
        """The service starts while the clock stands at ``clock`` (empty: where it is); then it runs."""
        at = await self.sim.clock(self.moment(clock, day) if clock else None, 0)
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, str(SCRIPT), at.isoformat(), "0",
                cwd=self.folder, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        assert await self._line() == {"event": "ready"}, self.log[-4000:]
        await self._set(at, speed)

    async def restart(self) -> None:
        """It starts anew where the clock stands, amid a session; time flies again once it has looked at the market.

        The vendor's package may take as long to load as it does on a busy machine.
        """
        await self.start(speed=0)
        asked = {"do": "run", "name": "quotes"}
        assert await asyncio.to_thread(control.ask, self.folder / "state", asked, seconds=PATIENCE_SECONDS)
        await self._set(await self._stand(), SPEED)

    async def jump(self, clock: str, day: date | None = None) -> None:
        """It is ``clock`` now; and goes on from there when the service has dealt with what was due until then."""
        await self._stand()
        moment = self.moment(clock, day)
        await self._set(moment, 0)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await asyncio.to_thread(self._caught_up, moment):  # noqa: ASYNC110 - in another process
                await asyncio.sleep(0.02)
        await self._set(moment, SPEED)

    def _caught_up(self, moment: datetime) -> bool:
        """Whether every job of the day waits for a firing later than that; live ones go on by themselves."""
        found = control.ask(self.folder / "state", {"do": "list"}, seconds=PATIENCE_SECONDS)
        assert found is not None
        jobs = found["jobs"]
        assert isinstance(jobs, list)
        due = [str(job["next"]) for job in jobs if not str(job["when"]).endswith("in session")]
        return all(at != "None" and datetime.fromisoformat(at) > moment for at in due)

    async def ran(self, name: str, since: datetime) -> None:
        """Wait until a run of the job that began after that moment has ended."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not any(started > since for _, started in self.times(name)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def until(self, clock: str, day: date | None = None) -> None:
        """Wait until the exchange's clock shows that time."""
        end = self.moment(clock, day)
        while (left := end - await self.sim.clock()) > timedelta():  # noqa: ASYNC110 - it is another process' clock
            await asyncio.sleep(max(left.total_seconds() / SPEED, 0.01))

    async def kill(self) -> None:
        """SIGKILL at this moment, amid whatever it does; the clock stands until the next start."""
        process = self._running()
        process.kill()
        await process.wait()
        self.ended.append(await self.sim.clock(speed=0))
        self.process = None

    async def stop(self) -> None:
        process, self.process = self._running(), None
        process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)
        assert code == 0, self.log[-4000:]

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    def events(self, name: str) -> list[dict[str, object]]:
        lines = (json.loads(line) for line in self.log.splitlines() if line.startswith("{"))
        return [line for line in lines if line.get("event") == name]

    async def job(self, name: str, *, status: str = "complete") -> dict[str, object]:
        """Wait until the job has ended so."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (found := [e for e in self.events("job.ended") if e["job"] == name]):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert found[-1]["status"] == status, found
        return found[-1]

    def times(self, name: str) -> list[tuple[datetime, datetime]]:
        """When each run of the job was due, and when it began."""
        ended = (e for e in self.events("job.ended") if e["job"] == name)
        return [(datetime.fromisoformat(str(e["due"])), datetime.fromisoformat(str(e["started"]))) for e in ended]

    async def looked(self, since: datetime, *, times: int = 1) -> None:
        """Wait until so many answers about quotes were made after that moment."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while sum(m > since for m in await self.looks()) < times:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def looks(self) -> list[datetime]:
        """The moments of the answers about quotes."""
        return (await self.sim.shown()).get("rt_k", [])

    def looks_of(self, moments: Sequence[datetime]) -> list[Look]:
        """When the service had dealt with the answer of each moment: by the end of that run, or of that life."""
        runs = [e for e in self.events("job.ended") if e["job"] == "quotes"]
        spans = sorted(tuple(datetime.fromisoformat(str(e[n])) for n in ("started", "ended")) for e in runs)
        ends = [*self.ended, max(moments) + timedelta(days=1)]
        found = [
            Look(m, next((last for first, last in spans if first <= m <= last), min(e for e in ends if e >= m)))
            for m in moments
        ]
        lines = (f"{look.moment.astimezone(ZONE)} {look.by.astimezone(ZONE)}\n" for look in found)
        (self.folder / "looks").write_text("".join(lines), encoding="utf-8")  # for whoever asks why a run failed
        return found

    async def stored(self, *names: str) -> dict[str, list[Row]]:
        """All rows of the datasets; no service runs."""
        found = {}
        async with service.opened(self._settings, now=lambda: self.moment("20:00:00")) as opened:
            for name in names:
                rows = await opened.sink.read(opened.tables.holder(DATASETS[name]), Query())
                found[name] = rows.to_pylist()
        return found

    async def beside(self, name: str) -> dict[str, list[Row]]:
        """The dataset's rows in each other table of its route, by the table's name; no service runs."""
        async with service.opened(self._settings, now=lambda: self.moment("20:00:00")) as opened:
            routes = opened.tables.routes(DATASETS[name])
            others = [t for t in routes if t != opened.tables.holder(DATASETS[name])]
            return {t.name: (await opened.sink.read(t, Query())).to_pylist() for t in others}

    @property
    def _settings(self) -> Settings:
        ours = ("MYSTOCKS_", "TUSHARE_", "REDIS_", "TDENGINE_", "POSTGRESQL_", "MYSQL_")
        given = {n: v for n, v in self.environment.items() if n.startswith(ours) and "GUARD" not in n}
        return Settings(**given)  # type: ignore[arg-type]

    def _running(self) -> asyncio.subprocess.Process:
        assert self.process is not None
        return self.process

    async def _line(self) -> object:
        process = self._running()
        assert process.stdout is not None
        return json.loads(await asyncio.wait_for(process.stdout.readline(), PATIENCE_SECONDS) or b"null")

    async def _stand(self) -> datetime:
        """Both clocks stand, and show the same. Neither goes back: the service's stands first, and is set on a little."""
        await self._tell("stand")
        now = await self.sim.clock(speed=0)
        await self._set(now, 0)
        return now

    async def _set(self, moment: datetime, speed: float) -> None:
        """From here on both have one time, whichever hears of it first: by this machine's monotonic clock."""
        since = clocks.monotonic()
        await self.sim.clock(moment, speed, since=since)
        await self._tell(f"{moment.isoformat()} {speed} {since}")

    async def _tell(self, line: str) -> None:
        process = self._running()
        assert process.stdin is not None
        process.stdin.write(f"{line}\n".encode())
        told = await self._line()
        assert isinstance(told, dict)
        assert told["event"] == "set"


@asynccontextmanager
async def exchange(folder: Path, more: Mapping[str, str], *, config: SimConfig) -> AsyncIterator[Exchange]:
    """``more``: settings of the service, such as where its databases are."""
    (folder / "config").mkdir()
    shutil.copy(ROOT / "config" / "tables.yaml", folder / "config")
    async with running(config) as sim:
        made = Exchange(folder, sim, dict(more))
        try:
            yield made
        finally:
            if made.process is not None:
                made.process.kill()
                await made.process.wait()


def by_key(rows: Sequence[Row], time_column: str) -> dict[Key, Row]:
    """By symbol and time; nothing stands twice."""
    found = {(str(row["symbol"]), utc(row[time_column])): row for row in rows}
    assert len(found) == len(rows)
    return found


def of_kills(market: Market, looks: Sequence[Look], at: Sequence[int]) -> list[Seen]:
    """What ``looks`` showed: all of them, and without the last one or two before each kill.

    ``at``: how many looks there were at each kill; its last answers may have been on their way, or half dealt with.
    """
    found = []
    for dropped in range(3):
        gone = {many - n for many in at for n in range(1, dropped + 1)}
        found.append(Seen(market).all([m for n, m in enumerate(looks) if n not in gone]))
    return found


def assert_quotes(stored: Sequence[Row], looks: Sequence[Seen]) -> int:
    """Each state that was shown is stored once with its values; one may be missing that only a kill's last looks showed."""
    ours, shown = by_key(stored, "ts"), looks[0].quotes
    assert ours.keys() - shown.keys() == set(), "never shown"
    assert looks[-1].quotes.keys() - ours.keys() == set(), "shown and lost"
    for key, row in ours.items():
        truth = shown[key]
        assert {n: row[n] for n in (*OF_QUOTES, "amount")} == {n: truth[n] for n in (*OF_QUOTES, "amount")}, key
    return len(ours)


def assert_latest(shown: Mapping[str, Sequence[Row]], stored: Sequence[Row]) -> None:
    """Where a table keeps the newest quotes only, it has one of each symbol: the newest that is stored."""
    newest = {str(row["symbol"]): row for row in sorted(stored, key=lambda row: utc(row["ts"]))}
    for table, rows in shown.items():
        assert sorted(str(row["symbol"]) for row in rows) == sorted(newest), table
        for row in rows:
            own = newest[str(row["symbol"])]
            names = ("ts", *OF_QUOTES, "amount")
            assert {n: row[n] for n in names} == {n: own[n] for n in names}, (table, row["symbol"])


@dataclass(frozen=True)
class Bars:
    """``stored``; ``sure``: seen whole, ``doubtful``: not; ``true``: the same volume and close as the exchange's own."""

    stored: int
    sure: int
    doubtful: int
    true: int


def assert_bars(stored: Sequence[Row], looks: Sequence[Seen]) -> Bars:
    """Each minute that was seen whole has the bar that the looks give; of a kill's last looks each may count or not."""
    ours, known = by_key(stored, "bar_time"), looks[0].bars
    sure = set.intersection(*({k for k, bar in seen.bars.items() if bar.sure} for seen in looks))
    assert ours.keys() - known.keys() == set(), "no trade was seen in that minute"
    lost = sorted(f"{symbol} {at.astimezone(ZONE):%H:%M}" for symbol, at in sure - ours.keys())
    assert not lost, f"minutes that were seen whole have no bar: {lost}"
    for key, row in ours.items():
        possible = [{n: getattr(seen.bars[key], n) for n in OF_BARS} for seen in looks if key in seen.bars]
        assert {n: row[n] for n in OF_BARS} in possible, key
        assert row["source"] == "quotes"
        assert row["provisional"]
    own = {s: _truth(looks[0].market, s) for s, _ in ours}
    true = sum(own[s].get(at) == (row["volume"], row["close"]) for (s, at), row in ours.items())
    return Bars(len(ours), len(sure), len(known.keys() - sure), true)


def _truth(market: Market, symbol: str) -> dict[datetime, tuple[object, object]]:
    """Volume and close of the exchange's own bars of the last day, the auction counted into the first."""
    day = market.last_day
    rows = market.minute_table(symbol, "1m", day, day).to_pylist()
    if rows:
        rows[1]["volume"] += rows[0]["volume"]
    return {utc(r["bar_time"]): (r["volume"], r["close"]) for r in rows[1:]}


def assert_days(stored: Sequence[Row], exchange: Exchange, *, sessions: int) -> int:
    """The last ``sessions`` daily bars of every stock, and what else is stored: final and exact."""
    market = exchange.sim.market
    names = ("open", "high", "low", "close", "pre_close", "volume")
    first = market.days[-sessions].item()
    truth = {(str(r["symbol"]), r["trade_date"]): tuple(r[n] for n in names) for r in market.bars_1d().to_pylist()}
    ours = {(str(r["symbol"]), r["trade_date"]): tuple(r[n] for n in names) for r in stored}
    assert len(ours) == len(stored)
    assert sorted(key for key in truth.keys() - ours.keys() if key[1] >= first) == []
    assert ours == {key: truth.get(key) for key in ours}
    assert not any(r["provisional"] for r in stored)
    return len(ours)


def assert_within_hours(times: Sequence[tuple[datetime, datetime]], days: set[date]) -> None:
    """Firings of a live job: on ``days``, in the exchange's hours, none begun early."""
    for due, started in times:
        local = due.astimezone(ZONE)
        assert started >= due
        assert local.date() in days
        clock = local.time()
        morning, afternoon = time(9, 15) <= clock <= time(11, 30), time(13) <= clock <= time(15)
        assert morning or afternoon or clock == time(15, 1), local


def assert_ticks(stored: Sequence[Row], exchange: Exchange, symbols: Sequence[str], day: date) -> int:
    """Every trade of the day once, with its number and values."""
    names = ("symbol", "seq", "price", "volume", "side")
    market = exchange.sim.market
    ours = {(str(r["symbol"]), utc(r["ts"]), r["seq"]): tuple(r[n] for n in names) for r in stored}
    assert len(ours) == len(stored)
    truth = {
        (str(r["symbol"]), utc(r["ts"]), r["seq"]): tuple(r[n] for n in names)
        for symbol in symbols
        for r in market.ticks(symbol, day).to_pylist()
    }
    assert ours == truth
    return len(ours)
