"""The whole service through trading days at 60 times the speed: what the exchange showed is stored once, in its hours.

What polling cannot show is not claimed: of quotes, the states that came and went between two looks; of a bar made of
quotes, on which side of the minute a trade fell when nobody looked between it and the next minute's first. The simulator
itself tells when it was looked at (the moments of its answers), and everything these looks showed must be stored, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path
from time import monotonic_ns

import pytest
from servers.mariadb import MariaDB
from servers.postgresql import PostgreSQL
from servers.redis import PASSWORD, Redis
from servers.tdengine import TaosServer
from trading_day import (
    Exchange,
    assert_bars,
    assert_days,
    assert_latest,
    assert_quotes,
    assert_ticks,
    assert_within_hours,
    exchange,
    of_kills,
)

from mystocks_ingest.market.sessions import ZONE
from mystocks_ingest.sim.server import SimConfig

pytestmark = pytest.mark.long  # they take real minutes: see `make day`
HOLIDAY, DAY, UNKNOWN = date(2026, 10, 1), date(2026, 12, 31), date(2027, 1, 1)
"""National Day; the last day that any calendar knows; and the day after it."""
SYMBOLS = ("600000.SH", "000001.SZ")
REFERENCE = "name: reference, when: before open - 45 min, datasets: [calendar, instrument], sources: tushare"
QUOTES = "name: quotes, when: every 3 s in session, datasets: quote, sources: tushare"
TICKS = "name: ticks, when: every 30 s in session, datasets: tick, sources: akshare, universe: two.txt"
FACTORS = "name: factors, when: after close + 30 min, datasets: adj_factor, sources: tushare, sessions: 3"
DAILY = (
    "name: daily, when: after close + 125 min, datasets: bar_1d, sources: tushare, sessions: 3"  # given from 17:00 on
)
CRON = "name: nightly, when: cron 6 17 * * * on sessions, datasets: suspension, sources: tushare, sessions: 1"


@pytest.fixture(params=["one embedded store", "four databases"])
def where(
    request: pytest.FixtureRequest, postgresql_server: PostgreSQL, mariadb_server: MariaDB, redis_server: Redis
) -> Iterator[dict[str, str]]:
    """Settings that place the rows."""
    if request.param == "one embedded store":
        yield {}
        return
    postgresql, mariadb, redis = postgresql_server, mariadb_server, redis_server
    own = f"day_{monotonic_ns()}"
    redis.cli("FLUSHALL")
    postgresql.psql(f"CREATE DATABASE {own} OWNER {postgresql.user}", database="postgres")
    if postgresql.timescale:
        postgresql.psql("CREATE EXTENSION timescaledb", database=own)
    with TaosServer() as taos:
        yield {
            "MYSTOCKS_STORES": "postgresql,mysql,redis,tdengine",
            "POSTGRESQL_PORT": str(postgresql.port),
            "POSTGRESQL_USER": postgresql.user,
            "POSTGRESQL_PASSWORD": postgresql.password,
            "POSTGRESQL_DATABASE": own,
            "POSTGRESQL_TIMESCALE": "require" if postgresql.timescale else "off",
            "MYSQL_PORT": str(mariadb.port),
            "MYSQL_USER": mariadb.user,
            "MYSQL_PASSWORD": mariadb.password,
            "MYSQL_DATABASE": own,
            "REDIS_PORT": str(redis.port),
            "REDIS_PASSWORD": PASSWORD,
            "TDENGINE_PORT": str(taos.port),
        }


LISTS = {"trade_cal", "stock_basic", "index_basic", "fund_basic"}


def prepared(x: Exchange) -> Exchange:
    (x.folder / "config" / "two.txt").write_text("\n".join(SYMBOLS), encoding="utf-8")
    x.jobs(QUOTES, TICKS, REFERENCE, FACTORS, DAILY, CRON)
    return x


@pytest.mark.timeout(600)  # half a minute by itself
async def test_a_holiday_a_last_known_day_with_a_kill_and_a_day_nobody_knows(
    tmp_path: Path, where: dict[str, str]
) -> None:
    config = SimConfig(
        seed=11, stocks=24, sessions=30, end=DAY, calendar_until=DAY, odd_lots=False, live=True, speed=0
    )  # fmt: skip
    async with exchange(tmp_path, where, config=config) as x:
        await prepared(x).start("09:14:50", HOLIDAY)
        await x.until("09:16:00", HOLIDAY)
        asked = set(await x.sim.shown())
        assert asked <= LISTS, "on a holiday nobody is asked for more than the lists that a new store has to have"
        await x.jump("08:29:50")
        await x.ran("reference", x.moment("08:29:59"))
        await x.jump("09:24:50")
        await x.until("09:25:20")
        await x.jump("09:29:50")
        await x.until("09:31:20")
        await x.kill()
        killed = len(await x.looks())
        await x.restart()
        await x.until("09:32:40")
        await x.jump("11:29:30")
        await x.until("11:30:20")
        await x.jump("12:59:45")
        await x.until("13:01:15")
        await x.jump("14:58:30")
        await x.until("15:01:15")
        for name in ("quotes", "ticks"):
            await x.ran(name, x.moment("15:01:00"))
        await x.jump("15:29:50")
        await x.ran("factors", x.moment("15:29:59"))
        await x.jump("17:04:50")
        await x.ran("daily", x.moment("17:04:59"))
        await x.ran("nightly", x.moment("17:05:59"))
        known = await x.looks()
        await x.jump("09:24:50", UNKNOWN)
        await x.looked(x.moment("09:25:00", UNKNOWN), times=3)
        await x.ran("ticks", x.moment("09:25:00", UNKNOWN))
        await x.stop()
        looks = await x.looks()
        assert looks[len(known) :], "a weekday that nobody knows is assumed to be a session"
        for name in ("quotes", "ticks"):
            assert_within_hours(x.times(name), {DAY, UNKNOWN})
        clocks = {"reference": "08:30:00", "factors": "15:30:00", "daily": "17:05:00", "nightly": "17:06:00"}
        due = {name: [at for at, _ in x.times(name) if at.astimezone(ZONE).date() == DAY] for name in clocks}
        assert due == {name: [x.moment(clock)] for name, clock in clocks.items()}, "once each"
        assert all(at <= started for name in due for at, started in x.times(name)), "and not early"
        stored = await x.stored("quote", "tick", "bar_1m", "bar_1d")
        seen = of_kills(x.sim.market, x.looks_of(looks), [killed])
        assert_quotes(stored["quote"], seen)
        assert_latest(await x.beside("quote"), stored["quote"])
        bars = assert_bars(stored["bar_1m"], seen)
        assert bars.sure > 0
        assert_ticks(stored["tick"], x, SYMBOLS, DAY)
        assert_days(stored["bar_1d"], x, sessions=3)


@pytest.mark.timeout(1200)
async def test_a_full_day_at_sixty_times_the_speed_with_two_kills_and_a_holiday_after_it(
    tmp_path: Path, where: dict[str, str]
) -> None:
    day, symbols = date(2026, 9, 30), SYMBOLS
    config = SimConfig(
        seed=11, stocks=24, sessions=30, end=day, calendar_until=day, odd_lots=False, live=True, speed=0
    )  # fmt: skip
    async with exchange(tmp_path, where, config=config) as x:
        await prepared(x).start("08:29:30")
        await x.job("reference")
        await x.jump("09:14:00")
        killed = []
        for clock in ("10:17:23", "13:41:07"):
            await x.until(clock)
            await x.kill()
            killed.append(len(await x.looks()))
            await x.restart()
        await x.until("15:02:00")
        for name in ("quotes", "ticks"):
            await x.ran(name, x.moment("15:01:00"))
        await x.jump("15:29:30")
        await x.job("factors")
        await x.jump("17:04:30")
        await x.job("daily")
        await x.job("nightly")
        of_the_day = len(await x.looks())
        await x.jump("09:14:30", HOLIDAY)
        await x.until("09:20:00", HOLIDAY)
        await x.jump("15:29:30", HOLIDAY)
        await x.until("15:32:00", HOLIDAY)
        await x.stop()
        looks = await x.looks()
        assert len(looks) == of_the_day, "nobody is asked on the holiday"
        for name in ("quotes", "ticks"):
            assert_within_hours(x.times(name), {day})
        clocks = {
            "reference": ("08:29:30", "08:30:00"),  # at once, for nothing is stored yet; and when it is due
            "factors": ("15:30:00",),
            "daily": ("17:05:00",),
            "nightly": ("17:06:00",),
        }
        due = {name: [at for at, _ in x.times(name)] for name in clocks}
        assert due == {name: [x.moment(clock) for clock in own] for name, own in clocks.items()}
        stored = await x.stored("quote", "tick", "bar_1m", "bar_1d")
        seen = of_kills(x.sim.market, x.looks_of(looks), killed)
        quotes = assert_quotes(stored["quote"], seen)
        assert_latest(await x.beside("quote"), stored["quote"])
        bars = assert_bars(stored["bar_1m"], seen)
        ticks = assert_ticks(stored["tick"], x, symbols, day)
        days = assert_days(stored["bar_1d"], x, sessions=3)
        apart = [(b - a).total_seconds() for a, b in pairwise(looks)]
        gaps = sorted(gap for gap in apart if gap < 3600)
        lines = (
            ("looks at the market", len(looks), f"median {gaps[len(gaps) // 2]:.0f} s apart, longest {gaps[-1]:.0f} s"),
            (
                "quotes shown",
                len(seen[0].quotes),
                f"stored {quotes}, each once; {len(seen[0].quotes.keys() - seen[-1].quotes.keys())} in answers that a kill cut off",
            ),
            (
                "minutes seen whole",
                bars.sure,
                f"bars {bars.stored}, {bars.true} of them the exchange's own to the share",
            ),
            ("minutes not seen whole", bars.doubtful, "left out, or as they were seen"),
            ("trades of two symbols", ticks, "stored, each once"),
            ("daily bars", days, "stored, each once, final"),
            (
                "runs of live jobs",
                sum(len(x.times(name)) for name in ("quotes", "ticks")),
                "all in the exchange's hours",
            ),
        )
        print()  # noqa: T201 - the table is what `make day` is for
        for what, count, remark in lines:
            print(f"{what:<24}{count:>8,}  {remark}")  # noqa: T201
