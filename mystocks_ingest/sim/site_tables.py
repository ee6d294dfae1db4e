"""The simulated market on the pages of sina, tencent and the three exchanges, each in its own units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mystocks_ingest.sim.answers import Answer, Cell
from mystocks_ingest.sim.market import Bars, Market
from mystocks_ingest.sim.noise import F64, I64
from mystocks_ingest.sim.wire_akshare import Asked, code_of, of_rows

_PRICES = ("open", "high", "low", "close")
_SINA_PAGE, _TICK_PAGE, _BSE_PAGE = 80, 70, 20
_TENCENT_ROWS = 640
_MINUTE_ROWS = 1970
_BSE_WIDTH = 48
_BSE_PLACES = {"listed": 0, "float": 11, "industry": 17, "reported": 22, "area": 29, "broker": 35, "total": 36,
               "code": 38, "name": 40}  # fmt: skip


class SinaTables:
    """Shares and yuan; factors as events since 1900."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self._days = np.datetime_as_string(market.days, "D").astype("U10")

    def table(self, asked: Asked, *, adjusted: bool) -> Answer | None:
        match asked.api:
            case "sina/calendar":
                days = self.market.calendar_days
                return Answer(("d",), (np.datetime_as_string(days, "D").tolist(),), time="d")
            case "sina/count":
                return of_rows(("symbol",), [], note=len(self._listed()))
            case "sina/list":
                return self._list(asked)
        name = asked.query.get("symbol") or asked.path.split("/")[-3 if asked.api == "sina/daily" else -2]
        number = self.market.number.get(code_of(name))
        if number is None:
            return of_rows(("d", "f"), [])
        match asked.api:
            case "sina/daily":
                return self._daily(number, adjusted=adjusted)
            case "sina/shares":
                shares = float(self.market.listing.float_shares[number]) / 10_000
                return of_rows(("date", "amount"), [(str(self.market.listing.list_dates[number]), shares)])
            case "sina/minute":
                return self._minutes(number, asked.query.get("scale", "5"))
            case _:
                return self._factors(number, back=asked.api == "sina/hfq")

    def _daily(self, i: int, *, adjusted: bool) -> Answer:
        bars = self.market.history(i)
        table: dict[str, Sequence[Cell]] = {
            "date": self._days[bars.t].tolist(),
            **{n: bars.price(getattr(bars, n)).tolist() for n in _PRICES},
            "volume": bars.volume.tolist(),
            "amount": bars.amount.tolist(),
        }
        return Answer(
            tuple(table), tuple(table.values()), time="date", prices=_PRICES, volume="volume", amount="amount",
            adjusted=forward(self.market, bars) if adjusted else (),
        )  # fmt: skip

    def _minutes(self, i: int, scale: str) -> Answer | None:
        if scale not in ("1", "5", "15", "30", "60"):
            return None
        t = self.market.pairs(np.array([i]), max(0, len(self.market.days) - 130), len(self.market.days))[1]
        bars = self.market.minutes(i, t, f"{scale}m")
        clock = np.array([f" {n // 60:02d}:{n % 60:02d}:00" for n in range(24 * 60)])
        when = np.char.add(self._days[t[bars.row]], clock[bars.minute.astype(np.int64)]) if bars.count else np.array([])
        table: dict[str, Sequence[Cell]] = {
            "day": when.tolist(),
            **{n: _texts(bars.price(getattr(bars, n)), 3) for n in _PRICES},
            "volume": list(map(str, bars.volume.tolist())),
            "amount": _texts(bars.amount, 4),
        }
        keep = np.flatnonzero(bars.minute != np.timedelta64(570, "m"))[-_MINUTE_ROWS:]  # no row of the auction
        answer = Answer(
            tuple(table), tuple(table.values()), time="day", prices=_PRICES, volume="volume", amount="amount"
        )
        return answer.take(keep.tolist())

    def _factors(self, i: int, *, back: bool) -> Answer:
        market, sessions = self.market, len(self.market.days)
        own = slice(*np.searchsorted(market.prices.event_keys, [i * sessions, (i + 1) * sessions]).tolist())
        rows = [("1900-01-01", 1.0)]
        if not np.isnat(market.prices.old_dates[i]):
            rows.append((str(market.prices.old_dates[i]), float(market.prices.old_factors[i])))
        rows += [
            (str(self._days[key - i * sessions]), factor)
            for key, factor in zip(
                market.prices.event_keys[own].tolist(), market.prices.event_factors[own].tolist(), strict=True
            )
        ]
        newest = rows[-1][1]
        return of_rows(("d", "f"), [(day, f"{f if back else newest / f:.6f}") for day, f in reversed(rows)])

    def _listed(self) -> list[int]:
        own, t = self.market.listing, len(self.market.days) - 1
        who = [int(n) for n in self.market.kind("stock") if own.first[n] <= t < own.stop[n]]
        return sorted(who, key=lambda n: _sina_code(own.symbols[n]))

    def _list(self, asked: Asked) -> Answer:
        size = min(asked.number("num", _SINA_PAGE), _SINA_PAGE)
        who = np.array(self._listed()[(asked.page - 1) * size : asked.page * size], dtype=np.int64)
        t = len(self.market.days) - 1
        traded = self.market.prices.traded[t, who] if len(who) else np.empty(0, dtype=np.bool_)
        bars = self.market.bars(who, np.full(len(who), t))
        own, basics = self.market.listing, self.market.basics(who, bars.t)

        def text(values: F64) -> list[str]:
            return [f"{v:.3f}" if ok else "0.000" for v, ok in zip(values.tolist(), traded.tolist(), strict=True)]

        table: dict[str, Sequence[Cell]] = {
            "symbol": [_sina_code(own.symbols[n]) for n in who],
            "code": [own.symbols[n][:6] for n in who],
            "name": [own.names[n] for n in who],
            "trade": text(bars.price(bars.close)),
            "pricechange": np.where(traded, bars.price(bars.close - bars.ref), 0.0).tolist(),
            "changepercent": np.where(traded, np.round(bars.change_percent, 3), 0.0).tolist(),
            "buy": text(bars.price(bars.close)),
            "sell": text(bars.price(bars.close + 1)),
            "settlement": _texts(bars.price(bars.ref), 3),
            "open": text(bars.price(bars.open)),
            "high": text(bars.price(bars.high)),
            "low": text(bars.price(bars.low)),
            "volume": np.where(traded, bars.volume, 0).tolist(),
            "amount": np.where(traded, bars.amount, 0).astype(np.int64).tolist(),
            "ticktime": ["15:00:00"] * len(who),
            "per": [0 if v is None else v for v in basics["pe"].to_pylist()],
            "pb": basics["pb"].to_pylist(),
            "mktcap": (basics["total_value"].to_numpy() / 10_000).tolist(),
            "nmc": (basics["float_value"].to_numpy() / 10_000).tolist(),
            "turnoverratio": basics["turnover"].to_pylist(),
        }
        return Answer(
            tuple(table),
            tuple(table.values()),
            prices=("open", "high", "low", "trade"),
            volume="volume",
            amount="amount",
        )


class TencentTables:
    """Lots but for STAR, which is in shares; amounts in ten thousand yuan; no Beijing."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self._days = np.datetime_as_string(market.days, "D").astype("U10")

    def table(self, asked: Asked, *, adjusted: bool) -> Answer | None:
        parts = (asked.query.get("param", "") + ",,,,,").split(",")
        name = parts[0] or asked.query.get("code") or asked.query.get("c", "")
        number = self.market.number.get(code_of(name))
        if number is None or name.startswith("bj"):
            return None
        match asked.api:
            case "tencent/start":
                bars = self.market.history(number)
                return of_rows(("date", "price"), [(str(self._days[bars.t[0]]), "1")] if len(bars.t) else [])
            case "tencent/daily":
                return self._daily(number, parts, adjusted=adjusted)
            case _:
                return self._ticks(number, asked.page)

    def _daily(self, i: int, parts: Sequence[str], *, adjusted: bool) -> Answer:
        days = self._days
        start = int(np.searchsorted(days, parts[2])) if parts[2] else 0
        stop = int(np.searchsorted(days, parts[3], side="right")) if parts[3] else len(days)
        bars = self.market.history(i, start, stop)
        factor = np.ones(len(bars.t))
        if parts[5]:
            factor = self.market.factor(bars.i, bars.t)
            factor = factor / factor[-1:] if parts[5] == "qfq" else factor
        volume = bars.volume if self.market.listing.boards[i] == "KC" else (bars.volume + 50) // 100
        table: dict[str, Sequence[Cell]] = {
            "date": days[bars.t].tolist(),
            **{n: _texts(bars.price(getattr(bars, n)) * factor, 3) for n in ("open", "close", "high", "low")},
            "volume": _texts(volume.astype(np.float64), 3),
            "turn": _texts(bars.volume / self.market.listing.float_shares[i] * 100, 2),
            "amount": _texts(bars.amount / 10_000, 4),
        }
        answer = Answer(
            tuple(table), tuple(table.values()), time="date", prices=_PRICES, volume="volume", amount="amount",
            adjusted=forward(self.market, bars) if adjusted else (),
        )  # fmt: skip
        return answer.take(slice(-int(parts[4] or _TENCENT_ROWS), None))

    def _ticks(self, i: int, page: int) -> Answer | None:
        ticks = self.market.ticks(self.market.listing.symbols[i]).to_pylist()
        rows: list[tuple[Cell, ...]] = []
        last = ticks[0]["price"] if ticks else 0.0
        for n, tick in enumerate(ticks):
            side = {"B": "B", "S": "S"}.get(tick["side"], "M")
            move = f"{tick['price'] - last:.2f}"
            when = tick["ts"].strftime("%H:%M:%S")
            rows.append((n, when, f"{tick['price']:.2f}", move, tick["volume"] // 100, int(tick["amount"]), side))
            last = tick["price"]
        rows = rows[(page - 1) * _TICK_PAGE : page * _TICK_PAGE]
        return of_rows(("n", "time", "price", "move", "lots", "amount", "side"), rows) if rows else None


class ExchangeTables:
    """The lists of the Shanghai, Shenzhen and Beijing exchanges and of CSI."""

    def __init__(self, market: Market) -> None:
        self.market = market

    def table(self, asked: Asked, *, adjusted: bool) -> Answer | None:
        del adjusted  # lists have no prices
        query = asked.query
        match asked.api:
            case "sse/list":
                return self._shanghai({"1": ("SH",), "8": ("KC",)}.get(query.get("STOCK_TYPE", ""), ()))
            case "sse/delisted":
                boards = {"1": "SH", "2": "", "8": "KC"}
                return self._shanghai_delisted([boards.get(x, "") for x in query.get("STOCK_TYPE", "").split(",")])
            case "szse/report" if query.get("CATALOGID") == "1110":
                return self._shenzhen() if query.get("TABKEY") == "tab1" else None
            case "szse/report" if query.get("CATALOGID") == "1793_ssgs":
                return self._shenzhen_delisted(ended=query.get("TABKEY") == "tab2")
            case "bse/list":
                return self._beijing(asked.page)
            case "csindex/cons" | "csindex/weight":
                return self._members(asked.path.rpartition("/")[2][:6], weights=asked.api == "csindex/weight")
        return None

    def _who(self, boards: Sequence[str], *, gone: bool) -> list[int]:
        own, t = self.market.listing, len(self.market.days) - 1
        return [
            n for n, b in enumerate(own.boards)
            if b in boards and own.first[n] <= t and np.isnat(own.delist_dates[n]) != gone
        ]  # fmt: skip

    def _shanghai(self, boards: Sequence[str]) -> Answer:
        own = self.market.listing
        fields = (
            "A_STOCK_CODE",
            "B_STOCK_CODE",
            "SEC_NAME_CN",
            "SEC_NAME_FULL",
            "COMPANY_ABBR",
            "FULL_NAME",
            "LIST_DATE",
        )
        rows = [
            (own.symbols[n][:6], "-", own.names[n], own.names[n], own.names[n], own.names[n] + "股份有限公司",
             _compact(own.list_dates[n]))
            for n in self._who(boards, gone=False)
        ]  # fmt: skip
        return of_rows(fields, rows)

    def _shanghai_delisted(self, boards: Sequence[str]) -> Answer:
        own = self.market.listing
        rows = [
            (own.symbols[n][:6], own.names[n], _compact(own.list_dates[n]), _compact(own.delist_dates[n]))
            for n in self._who(boards, gone=True)
        ]
        return of_rows(("COMPANY_CODE", "COMPANY_ABBR", "LIST_DATE", "DELIST_DATE"), rows)

    def _shenzhen(self) -> Answer:
        own = self.market.listing
        rows = [
            ("主板" if own.boards[n] == "SZ" else "创业板", own.symbols[n][:6], own.names[n], str(own.list_dates[n]),
             f"{own.total_shares[n]:,}", f"{own.float_shares[n]:,}", f"C {own.industries[n]}")
            for n in self._who(("SZ", "CY"), gone=False)
        ]  # fmt: skip
        return of_rows(("板块", "A股代码", "A股简称", "A股上市日期", "A股总股本", "A股流通股本", "所属行业"), rows)

    def _shenzhen_delisted(self, *, ended: bool) -> Answer:
        own = self.market.listing
        rows = [
            (own.symbols[n][:6], own.names[n], str(own.list_dates[n]), str(own.delist_dates[n]))
            for n in (self._who(("SZ", "CY"), gone=True) if ended else [])
        ]
        return of_rows(("证券代码", "证券简称", "上市日期", "终止上市日期"), rows)

    def _beijing(self, page: int) -> Answer:
        own = self.market.listing
        who = self._who(("BJ",), gone=False)
        rows: list[list[Cell]] = []
        for n in who[(page - 1) * _BSE_PAGE : page * _BSE_PAGE]:
            values: dict[str, Cell] = {
                "listed": _compact(own.list_dates[n]), "float": int(own.float_shares[n]), "industry": own.industries[n],
                "reported": _compact(self.market.days[-1]), "area": own.areas[n], "broker": "某证券",
                "total": int(own.total_shares[n]), "code": own.symbols[n][:6], "name": own.names[n],
            }  # fmt: skip
            row: list[Cell] = [""] * _BSE_WIDTH
            for name, at in _BSE_PLACES.items():
                row[at] = values[name]
            rows.append(row)
        return of_rows([f"xx{n:02d}" for n in range(_BSE_WIDTH)], rows, note=len(who))

    def _members(self, index: str, *, weights: bool) -> Answer:
        own, day = self.market.listing, _compact(self.market.days[-1])
        who = self._who(("SH", "SZ", "CY", "KC"), gone=False)[:300]
        fields = ["日期Date", "指数代码 Index Code", "指数名称 Index Name", "指数英文名称Index Name(Eng)",
                  "成份券代码Constituent Code", "成份券名称Constituent Name", "成份券英文名称Constituent Name(Eng)",
                  "交易所Exchange", "交易所英文名称Exchange(Eng)"]  # fmt: skip
        rows: list[list[Cell]] = [
            [day, index, "沪深300", "CSI 300", own.symbols[n][:6], own.names[n], f"Company {n}",
             "上海证券交易所" if own.symbols[n].endswith("SH") else "深圳证券交易所", "Exchange"]
            for n in who
        ]  # fmt: skip
        if weights:
            fields.append("权重(%)weight")
            rows = [[*row, round(100 / len(who), 3)] for row in rows]
        return of_rows(fields, rows)


def forward(market: Market, bars: Bars) -> tuple[Sequence[Cell], ...]:
    """Forward-adjusted prices as texts: the ratio of the factor to the newest one."""
    newest = market.factor(bars.i, np.full(len(bars.i), len(market.days) - 1))
    ratio = market.factor(bars.i, bars.t) / newest
    return tuple(_texts(bars.price(_ticks(bars, n)) * ratio, 2) for n in _PRICES)


def _ticks(bars: Bars, name: str) -> I64:
    ticks: I64 = getattr(bars, name)
    return ticks


def _sina_code(symbol: str) -> str:
    return symbol[-2:].lower() + symbol[:6]


def _compact(day: np.datetime64) -> str:
    return str(day).replace("-", "")


def _texts(values: F64, decimals: int) -> list[str]:
    form = f"%.{decimals}f"
    return [form % v for v in values.tolist()]
