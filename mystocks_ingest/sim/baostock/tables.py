"""The simulated market in baostock's tables: every cell a text, shares and yuan, suspended days present, no Beijing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np

from mystocks_ingest.sim.answers import Answer, Cell
from mystocks_ingest.sim.baostock.wire import Refusal
from mystocks_ingest.sim.bars import Bars
from mystocks_ingest.sim.holidays import LAST
from mystocks_ingest.sim.market import Market
from mystocks_ingest.sim.noise import F64, I64

_PRICES = ("open", "high", "low", "close")
DAILY = [
    "date",
    "code",
    "open",
    "high",
    "low",
    "close",
    "preclose",
    "volume",
    "amount",
    "adjustflag",
    "turn",
    "tradestatus",
    "pctChg",
    "peTTM",
    "pbMRQ",
    "psTTM",
    "pcfNcfTTM",
    "isST",
]
_ALLOWED = {
    "d": frozenset(DAILY),
    "w": frozenset("date code open high low close volume amount adjustflag turn pctChg".split()),  # noqa: SIM905
    "min": frozenset("date time code open high low close volume amount adjustflag".split()),  # noqa: SIM905
}
_FACTORS = ("code", "dividOperateDate", "foreAdjustFactor", "backAdjustFactor", "adjustFactor")


class MarketTables:
    """wire_baostock.Tables over a simulated market."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self._days = np.datetime_as_string(market.days, "D").astype("U10")
        self._numbers = {code_of(s): n for n, s in enumerate(market.listing.symbols) if not s.endswith("BJ")}
        self._codes = np.array([code_of(s) for s in market.listing.symbols])

    def answer(self, method: str, args: Sequence[str], *, adjusted: bool) -> Answer:
        match method:
            case "query_history_k_data_plus":
                return self._k_data(*args, forward=adjusted)
            case "query_daily_history_k_AStock":
                return self._market_day(args[0], "stock")
            case "query_daily_history_k_ETF":
                return self._market_day(args[0], "etf")
            case "query_daily_adjust_factor":
                day = _date(args[0])
                return self._adjust_factor(np.fromiter(self._numbers.values(), np.int64), day, day)
            case "query_adjust_factor":
                return self._adjust_factor(self._one(args[0]), _date(args[1]), _date(args[2]))
            case "query_trade_dates":
                return self._trade_dates(*args)
            case "query_all_stock":
                return self._all_stock(args[0])
            case "query_stock_basic":
                return self._stock_basic(*args)
            case "query_stock_industry":
                return self._industry(*args)
            case "query_hs300_stocks":
                return self._members(args[0], 0, 300)
            case "query_sz50_stocks":
                return self._members(args[0], 0, 50)
            case "query_zz500_stocks":
                return self._members(args[0], 300, 800)
            case "query_terminated_stocks":
                return self._sector([n for n in self._stocks() if not np.isnat(self.market.listing.delist_dates[n])])
            case "query_st_stocks" | "query_starst_stocks":
                return self._sector([n for n in self._stocks() if self.market.listing.st[n]])
            case "query_suspended_stocks":
                return self._sector([])
            case _:
                return Answer(("code",), ([],))

    # -- bars -----------------------------------------------------------------------------------------------------
    def _one(self, code: str) -> I64:
        if not code.startswith(("sh.", "sz.")):
            raise Refusal("10004011", "证券代码不正确")
        number = self._numbers.get(code)
        return np.array([] if number is None else [number], dtype=np.int64)

    def _k_data(
        self, code: str, fields: str, start: str, end: str, frequency: str, adjustflag: str, *, forward: bool
    ) -> Answer:
        names = [f.strip() for f in fields.split(",") if f.strip()]
        level = "d" if frequency == "d" else "w" if frequency in ("w", "m") else "min"
        if frequency not in ("d", "w", "m", "5", "15", "30", "60") or not set(names) <= _ALLOWED[level]:
            raise Refusal("10004012", "指标参数不正确")
        who = self._one(code)
        first, stop = self.market.session_range(_date(start), _date(end))
        if level == "min":
            return self._minutes(who, names, first, stop, frequency, adjustflag)
        if level == "w":
            bars = self.market.aggregate(who, "1w" if frequency == "w" else "1mo")
            keep = (bars.t >= first) & (bars.t < stop)
            bars = Bars(**{n: getattr(bars, n)[keep] for n in Bars.__dataclass_fields__})
            return self._bars(bars, np.ones(len(bars.i), dtype=np.bool_), names, adjustflag)
        return self._daily(who, first, stop, names, adjustflag, forward=forward)

    def _daily(
        self, who: I64, first: int, stop: int, names: Sequence[str], adjustflag: str, *, forward: bool = False
    ) -> Answer:
        """Rows of every listed session; a suspended one repeats the reference price and has no turnover."""
        own = self.market.listing
        t = np.arange(first, stop)[:, None]
        column, row = np.nonzero(((t >= own.first[who]) & (t < own.stop[who])).T)
        i, t = who[column], row + first
        traded = self.market.prices.traded[t, i]
        bars = self.market.bars(i, t)
        if not traded.all():
            still = {n: np.where(traded, getattr(bars, n), bars.ref) for n in _PRICES}
            bars = Bars(
                i, t, **still, ref=bars.ref, up=bars.up, down=bars.down, volume=np.where(traded, bars.volume, 0),
                amount=np.where(traded, bars.amount, 0.0), tick=bars.tick,
            )  # fmt: skip
        return self._bars(bars, traded, names, adjustflag, forward=forward)

    def _bars(
        self, bars: Bars, traded: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], names: Sequence[str],
        adjustflag: str, *, forward: bool = False,
    ) -> Answer:  # fmt: skip
        out: list[list[str]] = []
        for name in names:
            match name:
                case "date":
                    cells = self._days[bars.t].tolist()
                case "code":
                    cells = self._codes[bars.i].tolist()
                case "open" | "high" | "low" | "close":
                    cells = self._priced(bars, getattr(bars, name), adjustflag)
                case "preclose":
                    cells = self._priced(bars, bars.ref, adjustflag)
                case "volume":
                    cells = list(map(str, bars.volume.tolist()))
                case "amount":
                    cells = texts(bars.amount, 4)
                case "adjustflag":
                    cells = [adjustflag] * len(bars.i)
                case "turn":
                    cells = texts(bars.volume / self.market.listing.float_shares[bars.i] * 100, 6, shown=traded)
                case "tradestatus":
                    cells = np.where(traded, "1", "0").tolist()
                case "pctChg":
                    cells = texts(bars.change_percent, 6)
                case "isST":
                    cells = np.where(self.market.listing.st[bars.i], "1", "0").tolist()
                case _:
                    cells = self._valuation(bars, name)
            out.append(cells)
        seen = tuple(self._priced(bars, getattr(bars, n), "2") for n in _PRICES) if forward else ()
        return Answer(
            tuple(names),
            tuple(out),
            time="date",
            prices=_PRICES,
            volume="volume",
            amount="amount",
            adjusted=seen,
            dash="",
        )

    def _priced(self, bars: Bars, ticks: I64, adjustflag: str) -> list[str]:
        if adjustflag == "3":
            return texts(bars.price(ticks), 4)
        factor = self.market.factor(bars.i, bars.t)
        if adjustflag == "2":
            factor = factor / self.market.factor(bars.i, np.full(len(bars.i), len(self.market.days) - 1))
        return texts(bars.price(ticks) * factor, 10)

    def _valuation(self, bars: Bars, name: str) -> list[str]:
        own = self.market.listing
        stock = own.stock[bars.i]
        with np.errstate(divide="ignore", invalid="ignore"):
            value = bars.price(bars.close) / (own.eps[bars.i] if name == "peTTM" else own.book[bars.i])
        return texts(value, 6, shown=stock & np.isfinite(value))

    def _market_day(self, text: str, asset_type: str) -> Answer:
        day = _date(text)
        who = self.market.kind(asset_type)
        who = who[np.isin(who, np.fromiter(self._numbers.values(), np.int64))]
        return self._daily(who, *self.market.session_range(day, day), DAILY, "3")

    def _minutes(
        self, who: I64, names: Sequence[str], first: int, stop: int, frequency: str, adjustflag: str
    ) -> Answer:
        if not len(who) or self.market.listing.asset_types[int(who[0])] == "index":
            return Answer(tuple(names), tuple([] for _ in names))
        t = self.market.pairs(who, first, stop)[1]
        bars = self.market.minutes(int(who[0]), t, f"{frequency}m")
        clock = np.char.add(_clock(bars.minute), "00000")
        days = self._days[t[bars.row]]
        factor = np.ones(len(days))
        if adjustflag != "3":
            factor = self.market.factor(np.full(len(days), who[0]), t[bars.row])
        table: dict[str, list[str]] = {
            "date": days.tolist(),
            "time": np.char.add(np.char.replace(days, "-", ""), clock).tolist(),
            "code": [str(self._codes[who[0]])] * len(days),
            **{n: texts(bars.price(getattr(bars, n)) * factor, 4) for n in _PRICES},
            "volume": list(map(str, bars.volume.tolist())),
            "amount": texts(bars.amount, 4),
            "adjustflag": [adjustflag] * len(days),
        }
        return Answer(
            tuple(names), tuple(table[n] for n in names), time="time" if "time" in names else "date", prices=_PRICES,
            volume="volume", amount="amount", dash="",
        )  # fmt: skip

    def _adjust_factor(self, who: I64, first: date, last: date) -> Answer:
        rows: list[tuple[str, str, str, str, str]] = []
        prices, sessions = self.market.prices, len(self.market.days)
        newest = self.market.factor(who, np.full(len(who), sessions - 1))
        for n, base in zip(who.tolist(), newest.tolist(), strict=True):
            own = slice(*np.searchsorted(prices.event_keys, [n * sessions, (n + 1) * sessions]).tolist())
            events = [(self.market.days[key - n * sessions], f) for key, f in
                      zip(prices.event_keys[own].tolist(), prices.event_factors[own].tolist(), strict=True)]  # fmt: skip
            if not np.isnat(prices.old_dates[n]):
                events.insert(0, (prices.old_dates[n], float(prices.old_factors[n])))
            rows += [
                (str(self._codes[n]), str(day), f"{f / base:.6f}", f"{f:.6f}", f"{f:.6f}")
                for day, f in events if np.datetime64(first) <= day <= np.datetime64(last)
            ]  # fmt: skip
        return _of_rows(_FACTORS, rows)

    # -- lists ----------------------------------------------------------------------------------------------------
    def _trade_dates(self, start: str, end: str) -> Answer:
        first = max(np.datetime64(start or "2015-01-01"), self.market.calendar_days[0])
        until = np.datetime64(self.market.config.calendar_until)
        days = np.arange(first, min(np.datetime64(end or LAST), until) + 1)
        flags = np.where(np.isin(days, self.market.calendar_days), "1", "0").tolist()
        return Answer(("calendar_date", "is_trading_day"), ([str(d) for d in days], flags), time="calendar_date")

    def _stocks(self) -> list[int]:
        known = np.fromiter(self._numbers.values(), np.int64)
        return np.intersect1d(self.market.kind("stock"), known).tolist()  # type: ignore[no-any-return]

    def _all_stock(self, text: str) -> Answer:
        day = _date(text)
        start, stop = self.market.session_range(day, day)
        own = self.market.listing
        rows = [
            (code, "1" if self.market.prices.traded[t, n] else "0", own.names[n])
            for t in range(start, stop)
            for code, n in self._numbers.items()
            if own.first[n] <= t < own.stop[n]
        ]
        return _of_rows(("code", "tradeStatus", "code_name"), rows)

    def _stock_basic(self, code: str, name: str) -> Answer:
        own = self.market.listing
        kinds = {"stock": "1", "index": "2", "etf": "5"}
        rows = [
            (
                c, own.names[n], str(own.list_dates[n]), "" if np.isnat(own.delist_dates[n]) else str(own.delist_dates[n]),
                kinds[own.asset_types[n]], "1" if np.isnat(own.delist_dates[n]) else "0",
            )
            for c, n in self._numbers.items()
            if (not code or c == code) and name in own.names[n] and own.first[n] < len(self.market.days)
        ]  # fmt: skip
        return _of_rows(("code", "code_name", "ipoDate", "outDate", "type", "status"), rows)

    def _industry(self, code: str, _day: str) -> Answer:
        own = self.market.listing
        rows = [
            (str(self.market.days[-1]), str(self._codes[n]), own.names[n], f"J66{own.industries[n]}", "证监会行业分类")
            for n in self._stocks()
            if code in ("", self._codes[n])
        ]
        return _of_rows(("updateDate", "code", "code_name", "industry", "industryClassification"), rows)

    def _members(self, _day: str, start: int, stop: int) -> Answer:
        own, last = self.market.listing, len(self.market.days) - 1
        listed = [n for n in self._stocks() if own.first[n] <= last < own.stop[n]]
        return self._sector(listed[start:stop])

    def _sector(self, who: Sequence[int]) -> Answer:
        day = str(self.market.days[-1])
        rows = [(day, str(self._codes[n]), self.market.listing.names[n]) for n in who]
        return _of_rows(("updateDate", "code", "code_name"), rows)


def code_of(symbol: str) -> str:
    """sh.600000 of 600000.SH."""
    return f"{symbol[-2:].lower()}.{symbol[:-3]}"


def texts(
    values: F64, decimals: int, shown: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None = None
) -> list[str]:
    """Numbers as baostock prints them; what is not ``shown`` is empty."""
    form = f"%.{decimals}f"
    if shown is None:
        return [form % v for v in values.tolist()]
    return [form % v if s else "" for v, s in zip(values.tolist(), shown.tolist(), strict=True)]


def _clock(
    minute: np.ndarray[tuple[int, ...], np.dtype[np.timedelta64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.str_]]:
    number = minute.astype(np.int64)
    return np.array([f"{n // 60:02d}{n % 60:02d}" for n in range(24 * 60)])[number]


def _of_rows(fields: Sequence[str], rows: Sequence[tuple[Cell, ...]]) -> Answer:
    columns = tuple(zip(*rows, strict=True)) if rows else tuple(() for _ in fields)
    return Answer(tuple(fields), columns, dash="")


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Refusal("10004010", "日期格式不正确") from None
