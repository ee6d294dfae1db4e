"""The simulated market on tencent's pages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mystocks_ingest.sim.akshare.forward import forward, texts
from mystocks_ingest.sim.akshare.wire import Asked, code_of, of_rows
from mystocks_ingest.sim.answers import Answer, Cell
from mystocks_ingest.sim.market import Market

_PRICES = ("open", "high", "low", "close")
_TICK_PAGE = 70
_TENCENT_ROWS = 640


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
        stop = min(stop, self.market.closed)
        bars = self.market.history(i, start, stop)
        factor = np.ones(len(bars.t))
        if parts[5]:
            factor = self.market.factor(bars.i, bars.t)
            factor = factor / factor[-1:] if parts[5] == "qfq" else factor
        volume = bars.volume if self.market.listing.boards[i] == "KC" else (bars.volume + 50) // 100
        table: dict[str, Sequence[Cell]] = {
            "date": days[bars.t].tolist(),
            **{n: texts(bars.price(getattr(bars, n)) * factor, 3) for n in ("open", "close", "high", "low")},
            "volume": texts(volume.astype(np.float64), 3),
            "turn": texts(bars.volume / self.market.listing.float_shares[i] * 100, 2),
            "amount": texts(bars.amount / 10_000, 4),
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
