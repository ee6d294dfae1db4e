"""Who is listed on the simulated exchange: stocks of every board, two indices, ETFs, with their life spans."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mystocks_ingest.sim.holidays import Days
from mystocks_ingest.sim.noise import F64, I64, uniform

_BOARDS = ("SH", "SZ", "CY", "SH", "SZ", "KC", "BJ", "SH", "SZ", "CY")  # of every ten stocks
_OPENED = {"SH": "2000-01-04", "SZ": "2000-01-04", "CY": "2009-10-30", "KC": "2019-07-22", "BJ": "2021-11-15"}
_REGISTRATION = np.datetime64("2023-04-10")  # main boards: five free sessions for new listings from here on
_CHINEXT_REFORM = np.datetime64("2020-08-24")  # ChiNext: 20 % instead of 10 %, five free sessions

_HEADS = "华东海天金中国长江南方兴业远大永泰恒瑞新科光明宏达安信"
_TAILS = ("股份", "科技", "电子", "银行", "药业", "能源", "材料", "证券", "重工", "食品", "软件", "地产")
INDUSTRIES = ("银行", "软件服务", "化学制药", "元器件", "电气设备", "白酒", "证券", "专用机械", "区域地产", "食品")
AREAS = ("上海", "深圳", "北京", "江苏", "浙江", "四川", "湖北", "贵州")
INDICES = (("000001.SH", "上证指数"), ("000300.SH", "沪深300"), ("399001.SZ", "深证成指"))
ETFS = (
    ("510300.SH", "沪深300ETF"),
    ("510500.SH", "中证500ETF"),
    ("159919.SZ", "沪深300ETF嘉实"),
    ("159915.SZ", "创业板ETF"),
)


def _code(board: str, k: int) -> str:
    match board:
        case "SH":
            block, rest = divmod(k, 1000)
            return f"{(600, 601, 603, 605)[block]}{rest:03d}"
        case "SZ":
            return f"{1 + k:06d}" if k < 999 else f"002{1 + k - 999:03d}"
        case "CY":
            return f"{300_001 + k:06d}"
        case "KC":
            return f"{688_001 + k:06d}"
        case _:
            return f"{920_001 + k:06d}"


@dataclass(frozen=True)
class Listing:
    """One entry per instrument in every column; ``first`` and ``stop`` are session numbers in the range.

    ``first`` is negative for what was listed before the range; ``stop`` is the first session without it.
    """

    symbols: tuple[str, ...]
    names: tuple[str, ...]
    boards: tuple[str, ...]  # SH SZ CY KC BJ INDEX ETF
    asset_types: tuple[str, ...]
    industries: tuple[str, ...]
    areas: tuple[str, ...]
    st: npt.NDArray[np.bool_]
    tick: F64  # yuan
    list_dates: Days
    delist_dates: Days  # NaT while listed
    first: I64
    stop: I64
    free_sessions: I64  # sessions after listing without a price limit
    first_day_percent: I64  # limit of the first session where it is not free: 44 (down 36), else 0
    base_ticks: I64
    base_volume: I64
    float_shares: I64
    total_shares: I64
    eps: F64
    book: F64  # net assets per share

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def stock(self) -> npt.NDArray[np.bool_]:
        return np.array([a == "stock" for a in self.asset_types])

    @cached_property
    def index(self) -> npt.NDArray[np.bool_]:
        return np.array([a == "index" for a in self.asset_types])

    def limit_percent(self, day: np.datetime64) -> I64:
        """Daily price limits in percent on ``day``; 1000 stands for none."""
        return self._limits[1 if day >= _CHINEXT_REFORM else 0]

    @cached_property
    def _limits(self) -> tuple[I64, I64]:
        """Before and after ChiNext's reform."""
        both = []
        for chinext in (10, 20):
            table = {"SH": 10, "SZ": 10, "CY": chinext, "KC": 20, "BJ": 30, "INDEX": 1000, "ETF": 10}
            percent = np.array([table[b] for b in self.boards], dtype=np.int64)
            main = np.array([b in ("SH", "SZ") for b in self.boards])
            both.append(np.where(main & self.st, 5, percent))
        return both[0], both[1]


def build(seed: int, stocks: int, calendar: Days, begin: int, sessions: int) -> Listing:
    """The listing of ``stocks`` stocks, plus indices and ETFs, for the range ``calendar[begin:begin + sessions]``."""
    ranks: dict[str, int] = {}
    symbols, names, boards, kinds, rank = [], [], [], [], []
    for n in range(stocks):
        board = _BOARDS[n % len(_BOARDS)]
        k = ranks[board] = ranks.get(board, -1) + 1
        code = _code(board, k)
        symbols.append(f"{code}.{'SH' if board in ('SH', 'KC') else 'BJ' if board == 'BJ' else 'SZ'}")
        risky = k % 13 == 5
        head = _HEADS[(n * 7) % len(_HEADS)] + _HEADS[(n * 5 + n // 23 + 3) % len(_HEADS)]
        names.append(("*ST" if risky else "") + head + ("" if risky else _TAILS[n % len(_TAILS)]))
        boards.append(board)
        kinds.append("stock")
        rank.append(k)
    for board, kind, some in (("INDEX", "index", INDICES), ("ETF", "etf", ETFS)):
        for k, (symbol, name) in enumerate(some):
            symbols.append(symbol)
            names.append(name)
            boards.append(board)
            kinds.append(kind)
            rank.append(k)
    size = len(symbols)
    i, k_of = np.arange(size), np.array(rank)
    u = [uniform(seed, c, i, 0) for c in range(10, 20)]
    stock, index = np.array(kinds) == "stock", np.array(kinds) == "index"

    opened = np.array([np.searchsorted(calendar, np.datetime64(_OPENED.get(b, "2006-01-04"))) for b in boards])
    old = opened + ((max(begin, 1) - opened).clip(1) * u[0] * 0.95).astype(np.int64)
    fresh = begin + np.maximum((sessions * (0.1 + 0.6 * u[0])).astype(np.int64), 1)
    new = stock & (k_of % 7 == 2)
    listed = np.where(new, np.maximum(fresh, opened), old)
    listed = np.where(stock, listed, np.minimum(listed, begin - 250).clip(0))
    first = listed - begin
    gone = stock & (k_of % 11 == 4) & ~new
    stop = np.where(gone, (sessions * (0.4 + 0.5 * u[1])).astype(np.int64), sessions)
    gone &= stop > first + 30
    stop = np.where(gone, stop, sessions)
    list_dates = calendar[listed]
    delist_dates = np.full(size, np.datetime64("NaT"), dtype="datetime64[D]")
    delist_dates[gone] = calendar[begin + stop[gone]]

    on = np.array(boards)
    free = np.zeros(size, dtype=np.int64)
    free[(on == "KC") | ((on == "CY") & (list_dates >= _CHINEXT_REFORM))] = 5
    free[np.isin(on, ("SH", "SZ")) & (list_dates >= _REGISTRATION)] = 5
    free[on == "BJ"] = 1
    old_rule = np.isin(on, ("SH", "SZ", "CY")) & (free == 0)

    tick = np.where(on == "ETF", 0.001, 0.01)
    base = np.where(stock, 400 + (np.exp(u[2] * 4.2) * 100).astype(np.int64), 4_000)
    base = np.where(index, 300_000 + (u[2] * 500_000).astype(np.int64), base)
    volume = np.where(stock, np.exp(13.8 + 4.0 * u[3]), np.where(index, 2e10, 4e8)).astype(np.int64)
    floating = (volume * 100 // 10_000 + 1) * 10_000
    total = (floating * (1.0 + u[4]) // 10_000).astype(np.int64) * 10_000
    price = base * tick
    return Listing(
        symbols=tuple(symbols),
        names=tuple(names),
        boards=tuple(boards),
        asset_types=tuple(kinds),
        industries=tuple(INDUSTRIES[int(x * len(INDUSTRIES))] for x in u[5]),
        areas=tuple(AREAS[int(x * len(AREAS))] for x in u[6]),
        st=stock & (k_of % 13 == 5),
        tick=tick,
        list_dates=list_dates,
        delist_dates=delist_dates,
        first=first,
        stop=stop,
        free_sessions=free,
        first_day_percent=np.where(old_rule, 44, 0),
        base_ticks=base,
        base_volume=volume,
        float_shares=floating,
        total_shares=total,
        eps=np.round(price * (u[7] - 0.15) * 0.08, 4),  # some companies lose money
        book=np.round(price * (0.2 + u[8]), 4),
    )


def first_session(calendar: Days, end: date, sessions: int) -> int:
    """Number of the range's first session in ``calendar``, for a range of ``sessions`` ending at ``end``."""
    last = int(np.searchsorted(calendar, np.datetime64(end), side="right"))
    return last - sessions
