"""The simulated market on eastmoney's pages: whole lots, yuan, percent; lists of 100 rows at most, without a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np
import pyarrow.compute as pc

from mystocks_ingest.sim.akshare.wire import Asked, of_rows
from mystocks_ingest.sim.answers import Answer, Cell
from mystocks_ingest.sim.bars import Bars
from mystocks_ingest.sim.market import Market
from mystocks_ingest.sim.minutes import MinuteBars
from mystocks_ingest.sim.noise import F64, I64

PAGE_ROWS = 100
MINUTE_SESSIONS = 32  # how far back 5- to 60-minute bars reach
TREND_SESSIONS = 5
_PRICES = ("f52", "f54", "f55", "f53")  # open, high, low, close
_FIELDS = ("f51", "f52", "f53", "f54", "f55", "f56", "f57", "f58", "f59", "f60", "f61")
_MINUTES = {"1": "1m", "5": "5m", "15": "15m", "30": "30m", "60": "60m"}
_LISTS = {"m:0 t:6": "SZ", "m:0 t:80": "CY", "m:1 t:2": "SH", "m:1 t:23": "KC", "m:0 t:81 s:2048": "BJ"}


class EastmoneyTables:
    """wire_akshare.Tables of push2 and push2his over a simulated market."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self._days = np.datetime_as_string(market.days, "D").astype("U10")
        own = market.listing
        self._numbers = {f"{1 if s.endswith('SH') else 0}.{s[:6]}": n for n, s in enumerate(own.symbols)}

    def table(self, asked: Asked, *, adjusted: bool) -> Answer | None:
        query = asked.query
        number = self._numbers.get(query.get("secid", ""))
        if asked.api == "eastmoney/list":
            return self._list(asked)
        if asked.api == "eastmoney/data":
            return self._data(query)
        if number is None:
            return None
        match asked.api:
            case "eastmoney/kline":
                answer = self._kline(number, query, adjusted=adjusted)
                wanted = [f for f in query.get("fields2", "").split(",") if f in _FIELDS]
                return answer.select(wanted or _FIELDS)
            case "eastmoney/trends":
                return self._trends(number, int(query.get("ndays") or 1))
            case "eastmoney/quote":
                return self._quote(number)
            case _:
                return self._details(number)

    # -- bars -----------------------------------------------------------------------------------------------------
    def _kline(self, i: int, query: Mapping[str, str], *, adjusted: bool) -> Answer:
        klt, fqt = query.get("klt", "101"), query.get("fqt", "0")
        start, stop = self.market.session_range(_day(query.get("beg", "")), _day(query.get("end", "")))
        if klt in _MINUTES:
            return self._minutes(i, _MINUTES[klt], start, stop)
        who = np.array([i])
        if klt == "101":
            bars = self.market.bars(*self.market.pairs(who, start, stop))
        else:
            bars = self.market.aggregate(who, "1w" if klt == "102" else "1mo")
            keep = (bars.t >= start) & (bars.t < stop)
            bars = Bars(**{n: getattr(bars, n)[keep] for n in Bars.__dataclass_fields__})
        adjustment = {"1": "forward", "2": "back"}.get(fqt, "none")
        turnover = bars.volume / self.market.listing.float_shares[bars.i] * 100
        priced = [self._prices(bars, x, adjustment) for x in (bars.open, bars.close, bars.high, bars.low)]
        columns = (
            self._days[bars.t].tolist(),
            *priced,
            lots(bars.volume),
            _texts(bars.amount, 2),
            _texts((bars.high - bars.low) / bars.ref * 100, 2),
            _texts(bars.change_percent, 2),
            self._plain(bars, bars.close - bars.ref),
            _texts(turnover, 2),
        )
        seen = (
            [self._prices(bars, getattr(bars, n), "forward") for n in ("open", "high", "low", "close")]
            if adjusted
            else ()
        )
        return Answer(
            _FIELDS, columns, time="f51", prices=_PRICES, volume="f56", amount="f57", adjusted=tuple(seen), dash="-"
        )

    def _plain(self, bars: Bars | MinuteBars, ticks: I64) -> list[str]:
        return _texts(bars.price(ticks), 3 if len(bars.tick) and bars.tick[0] < 0.01 else 2)

    def _prices(self, bars: Bars, ticks: I64, adjustment: str) -> list[str]:
        """Forward adjustment subtracts later payments, as eastmoney does: old prices can fall below zero."""
        if adjustment == "none":
            return self._plain(bars, ticks)
        if adjustment == "back":
            return _texts(bars.price(ticks) * self.market.factor(bars.i, bars.t), 2)
        prices, sessions = self.market.prices, len(self.market.days)
        i = int(bars.i[0]) if len(bars.i) else 0
        own = slice(*np.searchsorted(prices.event_keys, [i * sessions, (i + 1) * sessions]).tolist())
        at = prices.event_keys[own] - i * sessions
        drop = prices.close[at, i].astype(np.int64) - prices.event_refs[own]
        later = np.r_[np.cumsum(drop[::-1])[::-1], 0] if len(drop) else np.zeros(1, dtype=np.int64)
        return self._plain(bars, ticks - later[np.searchsorted(at, bars.t, side="right")])

    def _minutes(self, i: int, interval: str, start: int, stop: int) -> Answer:
        start = max(start, self.market.closed - MINUTE_SESSIONS)
        t = self.market.pairs(np.array([i]), start, max(stop, start))[1]
        bars = self.market.minutes(i, t, interval)
        before = np.r_[bars.open[:1], bars.close[:-1]]
        columns = (
            self._clock(t, bars), *(self._plain(bars, x) for x in (bars.open, bars.close, bars.high, bars.low)),
            lots(bars.volume), _texts(bars.amount, 2), _texts((bars.high - bars.low) / before * 100, 2),
            _texts((bars.close - before) / before * 100, 2), self._plain(bars, bars.close - before),
            _texts(bars.volume / self.market.listing.float_shares[i] * 100, 2),
        )  # fmt: skip
        return Answer(_FIELDS, columns, time="f51", prices=_PRICES, volume="f56", amount="f57", dash="-")

    def _trends(self, i: int, sessions: int) -> Answer:
        """1-minute bars; the open is 0 but for the latest session."""
        stop = self.market.closed
        t = self.market.pairs(np.array([i]), max(stop - min(sessions, TREND_SESSIONS), 0), stop)[1]
        bars = self.market.minutes(i, t, "1m")
        latest = bars.row == (len(t) - 1)
        opening = [x if late else "0.00" for x, late in zip(self._plain(bars, bars.open), latest.tolist(), strict=True)]
        total, shares = np.cumsum(bars.amount), np.cumsum(bars.volume)
        columns = (
            self._clock(t, bars), opening, *(self._plain(bars, x) for x in (bars.close, bars.high, bars.low)),
            lots(bars.volume), _texts(bars.amount, 2), _texts(total / np.maximum(shares, 1), 3),
        )  # fmt: skip
        return Answer(_FIELDS[:8], columns, time="f51", prices=_PRICES, volume="f56", amount="f57", dash="-")

    def _clock(self, t: I64, bars: MinuteBars) -> list[str]:
        minute = bars.minute.astype(np.int64)
        clock = np.array([f" {n // 60:02d}:{n % 60:02d}" for n in range(24 * 60)])
        return np.char.add(self._days[t[bars.row]], clock[minute]).tolist() if len(minute) else []

    # -- now ------------------------------------------------------------------------------------------------------
    def _list(self, asked: Asked) -> Answer:
        own, t = self.market.listing, self.market.today
        boards = set(_boards(asked.query.get("fs", "")))
        who = np.array(
            [n for n, b in enumerate(own.boards) if b in boards and own.first[n] <= t < own.stop[n]], dtype=np.int64
        )
        order = sorted(range(len(who)), key=lambda n: own.symbols[who[n]][:6], reverse=asked.query.get("po") == "1")
        who = who[order]
        size = min(asked.number("pz", 20), PAGE_ROWS)
        page = who[(asked.page - 1) * size : asked.page * size]
        asking = asked.query.get("fields", "").split(",")
        fields = sorted({int(f[1:]) for f in asking if f[1:].isdigit()} | ({140, 141} if "f128" in asking else set()))
        names = [f"f{n}" for n in fields]
        table = self._spot(page)
        rows = len(page)
        columns = tuple(table.get(n, ["-"] * rows) for n in names)
        return Answer(
            tuple(names), columns, prices=("f17", "f15", "f16", "f2"), volume="f5", amount="f6", note=len(who), dash="-"
        )

    def _spot(self, who: I64) -> dict[str, list[Cell]]:
        own = self.market.listing
        bars, traded = self.market.now(who)
        basics = self.market.basics(who, bars.t)

        def shown(values: Sequence[Cell] | F64 | I64) -> list[Cell]:
            cells = values.tolist() if isinstance(values, np.ndarray) else list(values)
            return [c if ok and c is not None else "-" for c, ok in zip(cells, traded.tolist(), strict=True)]

        return {
            "f1": [2] * len(who),
            "f2": shown(bars.price(bars.close)),
            "f3": shown(np.round(bars.change_percent, 2)),
            "f4": shown(np.round(bars.price(bars.close - bars.ref), 3)),
            "f5": shown((bars.volume + 50) // 100),
            "f6": shown(bars.amount),
            "f7": shown(np.round((bars.high - bars.low) / bars.ref * 100, 2)),
            "f8": shown(np.round(bars.volume / own.float_shares[who] * 100, 2)),
            "f9": shown(basics["pe"].to_pylist()),
            "f10": shown(basics["volume_ratio"].to_pylist()),
            "f11": shown(np.zeros(len(who))),
            "f12": [own.symbols[n][:6] for n in who],
            "f13": [1 if own.symbols[n].endswith("SH") else 0 for n in who],
            "f14": [own.names[n] for n in who],
            "f15": shown(bars.price(bars.high)),
            "f16": shown(bars.price(bars.low)),
            "f17": shown(bars.price(bars.open)),
            "f18": bars.price(bars.ref).tolist(),
            "f20": basics["total_value"].to_pylist(),
            "f21": basics["float_value"].to_pylist(),
            "f22": shown(np.zeros(len(who))),
            "f23": shown(basics["pb"].to_pylist()),
            "f24": shown(np.zeros(len(who))),
            "f25": shown(np.zeros(len(who))),
            "f62": shown(np.zeros(len(who))),
            "f115": shown(basics["pe_ttm"].to_pylist()),
            "f152": [2] * len(who),
        }

    def _quote(self, i: int) -> Answer:
        """One row whose columns are the fields of stock/get; an empty level is '-'."""
        quotes = self.market.quotes()
        symbol = self.market.listing.symbols[i]
        own = quotes.filter(pc.equal(quotes["symbol"], symbol)).to_pylist()
        row: dict[str, Cell] = {"f57": symbol[:6], "f58": self.market.listing.names[i]}
        names = [f"{side}_{what}{n}" for side in ("ask", "bid") for n in range(1, 6) for what in ("price", "volume")]
        theirs = [f"f{n + k}" for n in (39, 37, 35, 33, 31, 19, 17, 15, 13, 11) for k in (0, 1)]
        quote = own[0] if own else {}
        for ours, their in zip(names, theirs, strict=True):
            value = quote.get(ours)
            row[their] = "-" if value is None else value // 100 if "volume" in ours else value
        bars = self.market.now(np.array([i]))[0]
        row |= {"f43": quote.get("last", "-"), "f44": quote.get("high", "-"), "f45": quote.get("low", "-")}
        row |= {"f46": quote.get("open", "-"), "f60": float(bars.price(bars.ref)[0])}
        row |= {"f47": quote["volume"] // 100 if quote else "-", "f48": quote.get("amount", "-")}
        row |= {"f51": float(bars.price(bars.up)[0]), "f52": float(bars.price(bars.down)[0])}
        mean = round(quote["amount"] / quote["volume"], 2) if quote else "-"
        row |= {"f71": mean, "f169": "-", "f170": "-", "f168": "-", "f50": "-", "f49": "-", "f161": "-"}
        return of_rows(list(row), [list(row.values())])

    def _details(self, i: int) -> Answer:
        ticks = self.market.ticks(self.market.listing.symbols[i])
        rows = [
            (tick["ts"].strftime("%H:%M:%S"), f"{tick['price']:.2f}", tick["volume"] // 100, 1,
             {"B": 2, "S": 1}.get(tick["side"], 4))
            for tick in ticks.to_pylist()
        ]  # fmt: skip
        return of_rows(("time", "price", "lots", "trades", "side"), rows)

    def _data(self, query: Mapping[str, str]) -> Answer | None:
        if query.get("reportName") != "RPT_CUSTOM_SUSPEND_DATA_INTERFACE":
            return None
        day = _day(query.get("filter", "").rpartition("='")[2][:10])
        start, stop = self.market.session_range(day, day)
        i, t = self.market.pairs(self.market.kind("stock"), start, stop, traded=False)
        fields = (
            "SECURITY_CODE", "SECURITY_NAME_ABBR", "SUSPEND_START_TIME", "SUSPEND_END_TIME", "SUSPEND_EXPIRE",
            "SUSPEND_REASON", "TRADE_MARKET", "SUSPEND_START_DATE", "PREDICT_RESUME_DATE", "A", "B", "C",
        )  # fmt: skip
        own = self.market.listing
        rows: list[tuple[Cell, ...]] = [
            (own.symbols[n][:6], own.names[n], f"{self._days[s]} 09:30:00", None, "停牌一天", "重大事项",
             {"SH": "上交所", "SZ": "深交所", "BJ": "北交所"}[own.symbols[n][-2:]], str(self._days[s]), None, None, None, None)
            for n, s in zip(i.tolist(), t.tolist(), strict=True)
        ]  # fmt: skip
        return of_rows(fields, rows)


def lots(volume: I64) -> list[str]:
    """Shares as whole lots, odd ones rounded."""
    return list(map(str, ((volume + 50) // 100).tolist()))


def _boards(filters: str) -> list[str]:
    if "MK0021" in filters:
        return ["ETF"]
    if "MK0010" in filters or "s:3" in filters or "m:2" in filters.split(","):
        return ["INDEX"]
    return [_LISTS[part.strip()] for part in filters.replace("+", " ").split(",") if part.strip() in _LISTS]


def _texts(values: F64, decimals: int) -> list[str]:
    form = f"%.{decimals}f"
    return [form % v for v in values.tolist()]


def _day(text: str) -> date | None:
    digits = text.replace("-", "")
    if len(digits) != 8:
        return None  # eastmoney's "0": from the first
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None  # and "20500000": to the last
