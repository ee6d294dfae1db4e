"""Tushare as a source: calls planned by ``apis.py``, made in lanes, read by ``layouts.py``, never trusted at a cap."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import Denied, Limited, Malformed, Unsupported
from mystocks_ingest.market.cells import to_day
from mystocks_ingest.market.datasets import SHANGHAI
from mystocks_ingest.market.frames import Frame, Request, Window
from mystocks_ingest.market.layout import normalize
from mystocks_ingest.ports import Rate
from mystocks_ingest.schema.paces import Pace
from mystocks_ingest.settings import Settings
from mystocks_ingest.sources.lane import Lane, LaneAnswer, Lanes, Setup
from mystocks_ingest.sources.pacing import UNPACED, Budget, Pacer, SourceStatus, Told, utc_now
from mystocks_ingest.sources.tushare import apis
from mystocks_ingest.sources.tushare.apis import Api, Call
from mystocks_ingest.sources.tushare.calls import named_limit

_QUERY = "mystocks_ingest.sources.tushare.calls:query"
_PREPARE = "mystocks_ingest.sources.tushare.calls:prepare"
_NO_TOKEN = "tushare needs a token: set TUSHARE_TOKEN (your account page on tushare.pro shows it)"  # noqa: S105
_LANES = 2
_HTTP_SECONDS = 30.0
_RETRY_SECONDS = 20.0  # so that a short deadline leaves room for a repetition; silence is not repeated for long
_DENIED_FOR = timedelta(hours=1)  # an account may be given a right while the daemon runs
_FIRST_DAY = date(1990, 12, 19)  # the calendar begins with the Shanghai exchange
_ROUND = 1000  # an answer of so many rows, or twice, thrice so many, may be cut where no cap is documented
_OPTIONAL = frozenset(
    {"index_basic", "fund_basic", "index_daily", "fund_daily", "index_weekly", "index_monthly", "fund_adj"}
)


def budget(points: int, *, share: float = 0.8) -> Budget:
    """The account's windows, of which we use ``share``: clocks differ, and other programs may use the token."""
    if points >= 5000:
        minute, day = 500, None
    elif points >= 2000:
        minute, day = 200, 100_000
    else:
        minute, day = 50, 8_000
    each_api = () if day is None else (Rate(int(day * share), 86_400.0),)
    by_api = {"stock_basic": (Rate(int(50 * share), 60.0),)}
    return Budget(rates=(Rate(int(minute * share), 60.0),), each_api=each_api, by_api=by_api)


class Tushare:
    """See ports.Source. ``token`` None: every call is Denied with what to do."""

    name = "tushare"
    family = "tushare"
    offers = apis.OFFERS
    concurrency = _LANES

    def __init__(
        self,
        *,
        token: str | None,
        budget: Budget,
        endpoint: str | None = None,
        pacing: Path | None = None,
        deadline: float = 60.0,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._token = token
        self._clock = clock
        self._deadline = deadline
        self._pacer = Pacer(self.name, budget, path=pacing, clock=clock)
        self._denied: dict[str, tuple[datetime, Denied]] = {}
        timeout = max(1.0, min(_HTTP_SECONDS, deadline - 1.0))
        setup = Setup(_PREPARE, {"token": token or "", "endpoint": endpoint, "timeout": timeout})
        self._lanes = Lanes(
            [Lane(f"{self.name}-{n}", setup=setup, secrets=[token] if token else ()) for n in range(1, _LANES + 1)]
        )

    @property
    def rates(self) -> Sequence[Rate]:
        """As Source.rates."""
        return (*self._pacer.budget.rates, *self._pacer.budget.each_api)

    def pace(self, pace: Pace) -> None:
        """As Paced.pace."""
        self._pacer.pace(pace)

    async def fetch(self, request: Request) -> AsyncIterator[Frame]:
        """As Source.fetch."""
        for call in apis.plan(request):
            try:
                async for part, table in self._whole(call):
                    for frame in self._read(part, table):
                        yield frame  # a row outside the window too: it is for the check to say what is wrong with it
            except Denied as exc:
                if call.api.name not in _OPTIONAL or "has no right" not in str(exc):
                    raise
                if request.dataset.name != "instrument":  # stocks are listed, and the others may come from elsewhere
                    raise Unsupported(str(exc)) from exc

    def calls(self, request: Request) -> int:
        """As Source.calls."""
        return sum(1 for _ in apis.plan(request))

    async def probe(self) -> None:
        """As Source.probe."""
        await self._ask(apis.PROBE)

    def status(self) -> SourceStatus:
        """Budget left, what is closed, last success and failure."""
        return self._pacer.status()

    def listen(self, told: Told) -> None:
        """Have each call told as it ends."""
        self._pacer.told = told

    async def aclose(self) -> None:
        """As Source.aclose."""
        await self._lanes.aclose()
        self._pacer.close()

    async def _whole(self, call: Call) -> AsyncIterator[tuple[Call, pa.RecordBatch]]:
        """The call's answer, in as many parts as it takes to stay below the cap. Raises Malformed where it cannot."""
        answer = await self._ask(call)
        table = answer.rows
        if call.api.name == "trade_cal":
            async for part in self._calendar(call, table):
                yield part
            return
        halves = apis.split(call)
        if not _cut(call.api, answer, can_split=halves is not None):
            yield call, table
            return
        if halves is None:
            raise Malformed(
                f"tushare {call.api.name}: {table.num_rows} rows came and there are more, in one day's answer"
            )
        for half in halves:
            async for part in self._whole(half):
                yield part

    async def _calendar(self, call: Call, table: pa.RecordBatch) -> AsyncIterator[tuple[Call, pa.RecordBatch]]:
        """A calendar names every day, so one that is cut shows: what it lacks at either end is asked for."""
        window = call.window
        if window is None or not table.num_rows:
            yield call, table
            return
        days = np.unique(to_day(table.column("cal_date")).drop_null().to_numpy(zero_copy_only=False))
        first, last = days[0].astype(object), days[-1].astype(object)
        if len(days) != (last - first).days + 1:
            raise Malformed(f"tushare trade_cal: {len(days)} days came for {first}..{last}, some are missing")
        before = Window(max(window.start, _FIRST_DAY), first)
        after = Window(last + timedelta(days=1), window.end)
        for rest in (before, after):
            if rest:
                async for part in self._whole(apis.dated(call, rest)):
                    yield part
        yield call, table

    async def _ask(self, call: Call) -> LaneAnswer:
        """One call, paced and repeated. Raises the errors of errors.py."""
        if self._token is None:
            raise Denied(_NO_TOKEN)
        api = call.api.name
        if (known := self._denied.get(api)) is not None and self._clock() - known[0] < _DENIED_FOR:
            raise known[1]
        arguments: Mapping[str, object] = {"api": api, "params": dict(call.params), "fields": call.api.fields}

        async def once() -> LaneAnswer:
            try:
                return await self._lanes.call(_QUERY, arguments, deadline=self._deadline)
            except Limited as exc:
                if (named := named_limit(str(exc))) is not None:
                    self._pacer.learn(api, Rate(*named))
                raise

        try:
            return await self._pacer.run(once, api=api, within=max(self._deadline / 2, _RETRY_SECONDS))
        except Denied as exc:
            self._denied[api] = (self._clock(), exc)
            raise

    def _read(self, call: Call, table: pa.RecordBatch) -> list[Frame]:
        fetched_at = self._clock()
        layout = call.api.layout
        if call.api.name == "rt_k":
            layout = replace(
                layout, derive=lambda out, _: {"ts": pc.fill_null(out["ts"], pa.scalar(fetched_at, out["ts"].type))}
            )
        if call.api.name == "fund_basic":  # I: issued, not listed yet, so no instrument of an exchange
            table = table.filter(pc.fill_null(pc.not_equal(table.column("status"), "I"), fill_value=True))
        today = fetched_at.astimezone(ZoneInfo(SHANGHAI)).date()
        frames = normalize(layout, table, source=self.name, fetched_at=fetched_at, day=today)
        if call.symbol is not None:
            for frame in frames:
                _must_be(frame, str(call.symbol))
        return frames


def _cut(api: Api, answer: LaneAnswer, *, can_split: bool) -> bool:
    """Whether rows may be missing: the server says so, the cap is reached, or the number is suspiciously round."""
    said = isinstance(answer.value, Mapping) and answer.value.get("has_more") is True
    rows = answer.rows.num_rows
    if api.cap is not None:
        return said or rows >= api.cap
    return said or (can_split and rows > 0 and rows % _ROUND == 0)


def _must_be(frame: Frame, symbol: str) -> None:
    others = pc.unique(frame.rows.column("symbol")).drop_null().to_pylist()
    if others not in ([], [symbol]):
        raise Malformed(f"tushare: {symbol} was asked for, {', '.join(map(str, others[:3]))} came")


def open_tushare(settings: Settings, *, clock: Callable[[], datetime] = utc_now) -> Tushare:
    """Tushare by the settings."""
    token = settings.tushare_token.get_secret_value() if settings.tushare_token is not None else None
    unpaced = settings.pacing == "none" and settings.tushare_endpoint is not None
    return Tushare(
        token=token or None,
        budget=UNPACED if unpaced else budget(settings.tushare_points),
        endpoint=settings.tushare_endpoint,
        pacing=settings.state_dir / "pacing.sqlite",
        deadline=settings.call_deadline_seconds,
        clock=clock,
    )
