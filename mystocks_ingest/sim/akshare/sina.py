"""The simulated market on sina's pages: shares and yuan, packed series, factors as events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mystocks_ingest.sim.akshare.forward import forward, texts
from mystocks_ingest.sim.akshare.wire import Asked, code_of, of_rows
from mystocks_ingest.sim.answers import Answer, Cell
from mystocks_ingest.sim.market import Market
from mystocks_ingest.sim.noise import F64

_PRICES = ("open", "high", "low", "close")
_SINA_PAGE = 80
_MINUTE_ROWS = 1970


class SinaTables:
    """Shares and yuan; factors as events since 1900."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self._days = np.datetime_as_string(market.days, "D").astype("U10")

    def table(self, asked: Asked, *, adjusted: bool) -> Answer | None:
        match asked.api:
            case "sina/calendar":
                days = self.market.calendar_days
                days = days[days <= np.datetime64(self.market.config.calendar_until)]
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
        stop = self.market.closed
        t = self.market.pairs(np.array([i]), max(0, stop - 130), stop)[1]
        bars = self.market.minutes(i, t, f"{scale}m")
        clock = np.array([f" {n // 60:02d}:{n % 60:02d}:00" for n in range(24 * 60)])
        when = np.char.add(self._days[t[bars.row]], clock[bars.minute.astype(np.int64)]) if bars.count else np.array([])
        table: dict[str, Sequence[Cell]] = {
            "day": when.tolist(),
            **{n: texts(bars.price(getattr(bars, n)), 3) for n in _PRICES},
            "volume": list(map(str, bars.volume.tolist())),
            "amount": texts(bars.amount, 4),
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
        own, t = self.market.listing, self.market.today
        who = [int(n) for n in self.market.kind("stock") if own.first[n] <= t < own.stop[n]]
        return sorted(who, key=lambda n: _sina_code(own.symbols[n]))

    def _list(self, asked: Asked) -> Answer:
        size = min(asked.number("num", _SINA_PAGE), _SINA_PAGE)
        who = np.array(self._listed()[(asked.page - 1) * size : asked.page * size], dtype=np.int64)
        bars, traded = self.market.now(who)
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
            "settlement": texts(bars.price(bars.ref), 3),
            "open": text(bars.price(bars.open)),
            "high": text(bars.price(bars.high)),
            "low": text(bars.price(bars.low)),
            "volume": np.where(traded, bars.volume, 0).tolist(),
            "amount": np.where(traded, bars.amount, 0).astype(np.int64).tolist(),
            "ticktime": [f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in self.market.seconds(who).tolist()],
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


def _sina_code(symbol: str) -> str:
    return symbol[-2:].lower() + symbol[:6]
