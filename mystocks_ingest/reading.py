"""Stored rows for Python programs: ``mystocks_ingest.read("bar_1d", "600519", first="2024-01-01", adjust="back")``.

One dataset's rows may live in several databases (the newest in Redis, recent ones in TDengine, history in PostgreSQL, or
all in the embedded store); a reader need not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import pyarrow as pa

from mystocks_ingest import errands
from mystocks_ingest.errands.kinds import Read
from mystocks_ingest.errors import ConfigError
from mystocks_ingest.market import symbols as symbology
from mystocks_ingest.market.adjust import How
from mystocks_ingest.market.datasets import dataset
from mystocks_ingest.market.frames import Window
from mystocks_ingest.settings import Settings, load

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

T = TypeVar("T")
Day = date | str

_EVER = Window(date(1990, 1, 1), date(2100, 1, 1))  # from before the first session of either exchange
_REMEDY = {
    "pandas": "pip install pandas",
    "polars": "pip install polars (it comes with mystocks-ingest[polars])",
}


@overload
def read(
    name: str, symbols: str | Sequence[str] = ..., *, first: Day | None = ..., last: Day | None = ..., adjust: How = ...,
    columns: Sequence[str] = ..., limit: int | None = ..., form: Literal["arrow"] = ..., settings: Settings | None = ...,
) -> pa.Table: ...  # fmt: skip
@overload
def read(
    name: str, symbols: str | Sequence[str] = ..., *, first: Day | None = ..., last: Day | None = ..., adjust: How = ...,
    columns: Sequence[str] = ..., limit: int | None = ..., form: Literal["pandas"], settings: Settings | None = ...,
) -> pd.DataFrame: ...  # fmt: skip
@overload
def read(
    name: str, symbols: str | Sequence[str] = ..., *, first: Day | None = ..., last: Day | None = ..., adjust: How = ...,
    columns: Sequence[str] = ..., limit: int | None = ..., form: Literal["polars"], settings: Settings | None = ...,
) -> pl.DataFrame: ...  # fmt: skip


def read(
    name: str,
    symbols: str | Sequence[str] = (),
    *,
    first: Day | None = None,
    last: Day | None = None,
    adjust: How = "none",
    columns: Sequence[str] = (),
    limit: int | None = None,
    form: Literal["arrow", "pandas", "polars"] = "arrow",
    settings: Settings | None = None,
) -> pa.Table | pd.DataFrame | pl.DataFrame:
    """Rows of the dataset ``name``, each key once, in key order.

    ``symbols``: one or several, spelled as on the command line; none means all. ``first`` and ``last`` are days (or
    their ISO text), both included. ``adjust``: prices as traded, back- or forward-adjusted. ``limit``: at most so many
    rows, from the first on; no others are read. ``settings``: in place of the environment's and ``.env``'s. Works in a
    notebook too, where an event loop already runs.

    While the service runs, it is asked. Raises ConfigError (a name, a symbol, a day, a package that is not installed;
    StoreBusy while a process other than the service has the embedded store), and Unavailable when a database does not answer.
    """
    if form not in ("arrow", *_REMEDY):
        raise ConfigError(f"unknown form {form!r}; known: arrow, pandas, polars")
    if form != "arrow" and find_spec(form) is None:
        raise ConfigError(f"form={form!r} needs {form}, which is not installed: {_REMEDY[form]}, or take form='arrow'")
    wanted = dataset(name)
    unknown = [column for column in columns if column not in wanted.schema.names]
    if unknown:
        raise ConfigError(f"{name} has no column {unknown[0]!r}; it has {', '.join(wanted.schema.names)}")
    if adjust != "none" and not name.startswith("bar_"):
        raise ConfigError(f"adjust={adjust!r} is for bars, and {name} holds no bars; leave it out")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit={limit} is no number of rows; write 1 or more, or leave it out")
    texts = (symbols,) if isinstance(symbols, str) else tuple(symbols)
    if texts and "symbol" not in wanted.schema.names:
        raise ConfigError(f"{name} is not kept by symbol; leave symbols out")
    who = tuple(dict.fromkeys(symbology.parse(text) for text in texts))
    errand = Read(wanted.name, who, _window(first, last), adjust, limit)
    rows = errands.done(errand, settings or load(), now=lambda: datetime.now(UTC), run=_run)
    if columns:
        rows = rows.select(list(columns))
    match form:
        case "pandas":
            return rows.to_pandas()
        case "polars":
            import polars as pl  # noqa: PLC0415 - 40 MB that only its users pay for

            frame = pl.from_arrow(rows)
            assert isinstance(frame, pl.DataFrame)  # noqa: S101 - a table gives a frame, a column a series
            return frame
        case _:
            return rows


def _window(first: Day | None, last: Day | None) -> Window:
    start = _EVER.start if first is None else _day(first)
    end = _EVER.end if last is None else _day(last) + timedelta(days=1)
    if start >= end:
        raise ConfigError(f"first={first} is after last={last}; exchange the two")
    return Window(start, end)


def _day(value: Day) -> date:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise ConfigError(f"{value!r} is not a day; write 2024-01-31") from None
    return value.date() if isinstance(value, datetime) else value


def _run(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, on a loop of its own; in a thread where one runs already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1, thread_name_prefix="read") as thread:
        return thread.submit(asyncio.run, work).result()
