"""The simulated market as a source inside this process: no vendor client, no wire. Benchmarks and tests use it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import Unsupported
from mystocks_ingest.market.datasets import BAR_1D, DATASETS, SUSPENSION, Dataset
from mystocks_ingest.market.frames import Frame, Request
from mystocks_ingest.ports import Offer, Rate
from mystocks_ingest.sim.bars import Bars
from mystocks_ingest.sim.canonical import SOURCE
from mystocks_ingest.sim.market import Market
from mystocks_ingest.sim.noise import I64

_LISTED = frozenset({"stock", "etf", "index"})
_MINUTES = {f"bar_{i}": i for i in ("1m", "5m", "15m", "30m", "60m")}


class SimSource:
    """ports.Source over a Market. With ``raw`` every bar frame carries its rows as tushare would have sent them."""

    name = SOURCE
    family = SOURCE
    concurrency = 4
    rates: Sequence[Rate] = (Rate(1_000_000, 1.0),)

    def __init__(self, market: Market, *, raw: bool = False) -> None:
        self.market, self._raw = market, raw
        since = market.first_day
        by_day = Offer(whole_market=_LISTED, asset_types=_LISTED, since=since, reports_suspensions=True)
        stocks_by_day = Offer(whole_market=frozenset({"stock"}), since=since)
        self.offers: Mapping[str, Offer] = {
            "bar_1d": by_day,
            "daily_basic": stocks_by_day,
            "suspension": stocks_by_day,
            "adj_factor": Offer(asset_types=frozenset({"stock", "etf"})),
            "instrument": Offer(),
            "calendar": Offer(),
            "bar_1w": Offer(asset_types=_LISTED, since=since),
            "bar_1mo": Offer(asset_types=_LISTED, since=since),
            "quote": Offer(whole_market=frozenset({"stock", "etf"}), latest_sessions=1),
            "tick": Offer(asset_types=frozenset({"stock", "etf"}), latest_sessions=1),
            **{name: Offer(asset_types=_LISTED, since=since) for name in _MINUTES},
        }

    async def fetch(self, request: Request) -> AsyncIterator[Frame]:
        """One frame per session when the whole market is asked for, one per request otherwise."""
        known = self.market.number
        symbols = tuple(str(s) for s in request.symbols)
        if unknown := [s for s in symbols if s not in known]:
            raise Unsupported(f"the simulated market does not list {', '.join(unknown[:5])}")
        if request.dataset.name != "bar_1d":
            yield self._frame(request.dataset, self._table(request, symbols))
            return
        who = np.sort([known[s] for s in symbols]) if symbols else np.arange(len(self.market.listing))
        start, stop = self.market.session_range(request.window.start, request.window.last)
        spans = [(start, stop)] if symbols else [(t, t + 1) for t in range(start, stop)]
        for span in spans:
            yield self._bars(who, span)
            halted = self._halted(who, span)
            if halted.num_rows:
                yield self._frame(SUSPENSION, halted)

    def calls(self, request: Request) -> int:
        return max(len(request.symbols), 1)

    async def probe(self) -> None:
        """Nothing can be away."""

    async def aclose(self) -> None:
        """Nothing is open."""

    def _bars(self, who: I64, span: tuple[int, int]) -> Frame:
        i, t = self.market.pairs(who, *span)
        bars = self.market.bars(i, t)
        rows = _batch(self.market.bar_table(bars, BAR_1D), BAR_1D)
        if not self._raw:
            return Frame(BAR_1D, self.name, self.market.fetched_at, rows)
        order = pc.sort_indices(
            pa.table({"symbol": self.market.symbol_column(i), "t": t}),
            sort_keys=[("symbol", "ascending"), ("t", "ascending")],
        )
        return Frame(BAR_1D, self.name, self.market.fetched_at, rows, self._as_tushare(bars).take(order))

    def _as_tushare(self, bars: Bars) -> pa.RecordBatch:
        """Lots and thousands of yuan."""
        days = np.char.replace(np.datetime_as_string(self.market.days, "D"), "-", "")
        return pa.RecordBatch.from_pydict(
            {
                "ts_code": self.market.symbol_column(bars.i),
                "trade_date": pa.array(days.tolist()).take(pa.array(bars.t)),
                **{n: bars.price(getattr(bars, n)) for n in ("open", "high", "low", "close")},
                "pre_close": bars.price(bars.ref),
                "change": bars.price(bars.close - bars.ref),
                "pct_chg": np.round(bars.change_percent, 4),
                "vol": bars.volume / 100,
                "amount": bars.amount / 1000,
            }
        )

    def _halted(self, who: I64, span: tuple[int, int]) -> pa.Table:
        stocks = np.intersect1d(who, self.market.kind("stock"))
        return self.market.suspension_table(*self.market.pairs(stocks, *span, traded=False))

    def _table(self, request: Request, symbols: tuple[str, ...]) -> pa.Table:
        first, last = request.window.start, request.window.last
        name = request.dataset.name
        if name in _MINUTES:
            return pa.concat_tables([self.market.minute_table(s, _MINUTES[name], first, last) for s in symbols])
        match name:
            case "instrument":
                return _chosen(self.market.instruments(), symbols)
            case "calendar":
                return self.market.calendar(first, last)
            case "suspension":
                return _chosen(self.market.suspensions(first, last), symbols)
            case "adj_factor":
                return _chosen(self.market.factors(), symbols)
            case "daily_basic":
                return _chosen(self.market.daily_basic(first, last), symbols)
            case "bar_1w":
                return _within(self.market.period_bars("1w", symbols=symbols or None), request)
            case "bar_1mo":
                return _within(self.market.period_bars("1mo", symbols=symbols or None), request)
            case "quote":
                return _chosen(self.market.quotes(), symbols)
            case "tick":
                return pa.concat_tables([self.market.ticks(s) for s in symbols])
        raise Unsupported(f"the simulated market has no {name}")

    def _frame(self, dataset: Dataset, table: pa.Table) -> Frame:
        return Frame(dataset, self.name, self.market.fetched_at, _batch(table, dataset))


def _chosen(table: pa.Table, symbols: tuple[str, ...]) -> pa.Table:
    return table.filter(pc.is_in(table["symbol"], pa.array(symbols, pa.string()))) if symbols else table


def _within(table: pa.Table, request: Request) -> pa.Table:
    day = table["trade_date"]
    first, last = pa.scalar(request.window.start, pa.date32()), pa.scalar(request.window.last, pa.date32())
    return table.filter(pc.and_(pc.greater_equal(day, first), pc.less_equal(day, last)))


def _batch(table: pa.Table, dataset: Dataset) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=DATASETS[dataset.name].schema)
