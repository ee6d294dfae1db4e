"""On real archives: not one raw row is refused, every adjusted series is."""

from collections import Counter
from datetime import date

import archives
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mystocks_ingest.market.calendar import Calendar
from mystocks_ingest.market.checks import Context, check


@pytest.fixture(scope="module")
def context(shared_data):
    """The sessions on which any of six archives has a row; their union has no hole between 2000 and 2023-04."""
    days = set()
    for name, layout in archives.RAW[:6]:
        days |= set(archives.load(shared_data, name, layout).rows["trade_date"].to_pylist())
    return Context(now=archives.FETCHED, calendar=Calendar(sorted(days), date(2000, 1, 4), max(days)))


@pytest.mark.parametrize(("name", "layout"), archives.RAW, ids=[name for name, _ in archives.RAW])
def test_no_raw_row_is_refused(shared_data, context, name, layout):
    frame = archives.load(shared_data, name, layout)
    checked = check(frame, context)
    assert len(frame) > 0
    assert list(zip(checked.refused.rules, checked.refused.reasons, strict=True)) == []
    assert len(checked.accepted) == len(frame)


@pytest.mark.parametrize(("name", "layout"), archives.EQUAL_SINCE_2018, ids=[n for n, _ in archives.EQUAL_SINCE_2018])
def test_series_without_distributions_pass_since_2018_and_are_refused_whole(shared_data, context, name, layout):
    frame = archives.load(shared_data, name, layout)
    since = pc.greater_equal(frame.rows["trade_date"], pa.scalar(date(2018, 1, 1))).to_numpy(zero_copy_only=False)
    recent = frame.take(pa.array(np.flatnonzero(since)))
    assert len(check(recent, context).accepted) == len(recent) > 900
    assert Counter(check(frame, context).refused.rules) == {"forward_adjusted": len(frame)}


@pytest.mark.parametrize(("name", "layout"), archives.ADJUSTED, ids=[name for name, _ in archives.ADJUSTED])
def test_every_forward_adjusted_archive_is_refused_whole(shared_data, context, name, layout):
    frame = archives.load(shared_data, name, layout)
    checked = check(frame, context)
    assert Counter(checked.refused.rules) == {"forward_adjusted": len(frame)}
    assert len(checked.accepted) == 0


@pytest.mark.parametrize(("name", "layout"), archives.ADJUSTED, ids=[name for name, _ in archives.ADJUSTED])
@pytest.mark.parametrize("year", [2003, 2010, 2016])
def test_one_year_of_an_adjusted_archive_is_enough(shared_data, context, name, layout, year):
    frame = archives.load(shared_data, name, layout)
    frame = frame.take(pa.array(np.flatnonzero(pc.equal(pc.year(frame.rows["trade_date"]), year))))
    frame = type(frame)(frame.dataset, frame.source, frame.fetched_at, frame.rows, None)  # without baostock's flag
    if len(frame) < 60:
        pytest.skip("the archive has no such year")
    assert Counter(check(frame, context).refused.rules) == {"forward_adjusted": len(frame)}


def test_mixed_symbols_are_judged_one_by_one(shared_data, context):
    raw = archives.load(shared_data, *archives.RAW[0])
    adjusted = archives.load(shared_data, "daily_tushare_probar_qfq/600519.SH.csv", archives.TUSHARE)
    rows = pa.concat_batches([raw.rows, adjusted.rows])
    checked = check(type(raw)(raw.dataset, "files", raw.fetched_at, rows, None), context)
    assert set(checked.refused.frame.rows["symbol"].to_pylist()) == {"600519.SH"}
    assert checked.accepted.rows.num_rows == len(raw)
