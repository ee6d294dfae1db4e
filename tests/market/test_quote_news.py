from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from mystocks_ingest.market.datasets import QUOTE
from mystocks_ingest.market.frames import Frame
from mystocks_ingest.market.live import FROM_QUOTES, Latest, MinuteBars
from mystocks_ingest.market.sessions import ZONE, label_of


def at(text: str, day: int = 8) -> datetime:
    return datetime.fromisoformat(f"2024-10-{day:02d} {text}").replace(tzinfo=ZONE)


def quotes(*rows: tuple, open_price: float = 10.0) -> Frame:
    """(symbol, time, last, volume) with an amount of last times volume."""
    schema = pa.schema([(f.name, f.type) for f in QUOTE.fields])
    made = [
        {
            "symbol": s, "ts": ts, "last": last, "volume": volume, "amount": last * volume, "open": open_price,
            "source": "x", "fetched_at": ts,
        }
        for s, ts, last, volume in rows
    ]  # fmt: skip
    return Frame(QUOTE, "x", max(r[1] for r in rows).astimezone(UTC), pa.RecordBatch.from_pylist(made, schema=schema))


def symbols(frame: Frame) -> list[str]:
    return frame.rows.column("symbol").to_pylist()


def test_only_rows_that_changed_are_news():
    latest = Latest()
    first = quotes(("A", at("09:30:00"), 10.0, 100), ("B", at("09:30:00"), 20.0, 100))
    assert symbols(latest.news(first).frame) == ["A", "B"]
    again = latest.news(quotes(("A", at("09:30:03"), 10.0, 100), ("B", at("09:30:03"), 20.1, 100)))
    assert (symbols(again.frame), again.unchanged) == (["B"], 1)
    more = latest.news(quotes(("C", at("09:30:06"), 5.0, 1), ("A", at("09:30:06"), 10.0, 101)))
    assert symbols(more.frame) == ["C", "A"]


def test_older_times_and_shrunken_volumes_are_no_news():
    latest = Latest()
    latest.news(quotes(("A", at("09:31:00"), 10.0, 500), ("B", at("09:31:00"), 10.0, 500)))
    found = latest.news(quotes(("A", at("09:30:57"), 10.2, 600), ("B", at("09:31:03"), 10.1, 400)))
    assert (len(found.frame), found.late, found.stale) == (0, 1, 1)
    assert len(latest.news(quotes(("B", at("09:31:06"), 10.1, 500))).frame) == 1


def test_a_new_day_begins_anew():
    latest = Latest()
    latest.news(quotes(("A", at("15:00:00"), 10.0, 500)))
    assert len(latest.news(quotes(("A", at("09:15:00", 9), 10.0, 0))).frame) == 1


def table(frames):
    rows = [r for f in frames if f is not None for r in f.rows.to_pylist()]
    return [
        (r["symbol"], r["bar_time"].astimezone(ZONE).strftime("%H:%M"), r["open"], r["high"], r["low"], r["close"],
         r["volume"], round(r["amount"], 6))
        for r in rows
    ]  # fmt: skip


def test_bars_follow_the_quotes_and_the_last_one_is_flushed():
    bars = MinuteBars()
    seen = [("09:25:00", 10.1, 100), ("09:30:30", 10.3, 300), ("09:31:00", 10.2, 400), ("09:31:03", 10.0, 450),
            ("09:31:40", 10.4, 500), ("09:33:10", 10.2, 600)]  # fmt: skip
    frames = [bars.take(quotes(("A", at(t), last, volume))) for t, last, volume in seen]
    frames.append(bars.flush(at("15:05:00")))
    assert table(frames) == [
        ("A", "09:31", 10.0, 10.3, 10.0, 10.2, 400, 4080.0),
        ("A", "09:32", 10.0, 10.4, 10.0, 10.4, 100, 5200.0 - 4080.0),
        ("A", "09:34", 10.2, 10.2, 10.2, 10.2, 100, 6120.0 - 5200.0),
    ]
    last = frames[-1]
    assert last is not None
    assert last.source == FROM_QUOTES
    assert last.rows.column("provisional").to_pylist() == [True]
    assert bars.flush(at("15:05:00")) is None


def test_flushing_leaves_bars_that_have_not_ended_and_a_minute_without_volume_has_no_bar():
    bars = MinuteBars()
    bars.take(quotes(("A", at("10:00:30"), 10.0, 100)))
    assert bars.flush(at("10:00:59")) is None
    assert table([bars.flush(at("10:01:00"))]) == [("A", "10:01", 10.0, 10.0, 10.0, 10.0, 100, 1000.0)]
    assert bars.take(quotes(("A", at("10:00:59"), 10.0, 110))) is None, "too late: its bar was given out"
    assert bars.flush(at("10:01:00")) is None
    assert bars.take(quotes(("A", at("10:01:30"), 10.0, 100))) is None
    assert bars.flush(at("10:02:00")) is None


def test_lunch_counts_into_the_last_bar_of_the_morning_and_the_next_day_starts_at_zero():
    bars = MinuteBars()
    bars.take(quotes(("A", at("11:29:59"), 10.0, 100)))
    bars.take(quotes(("A", at("11:30:20"), 10.1, 200)))
    frames = [bars.take(quotes(("A", at("13:00:30"), 10.2, 250)))]
    assert table(frames) == [("A", "11:30", 10.0, 10.1, 10.0, 10.1, 200, 2020.0)]
    assert table([bars.flush(at("15:00:00"))])[0][6] == 50
    bars.take(quotes(("A", at("09:30:10", 9), 11.0, 70), open_price=11.0))
    assert table([bars.flush(at("15:00:00", 9))]) == [("A", "09:31", 11.0, 11.0, 11.0, 11.0, 70, 770.0)]


@given(st.lists(st.integers(9 * 3600 + 30 * 60, 15 * 3600), min_size=1, max_size=60, unique=True), st.data())
def test_volumes_of_all_bars_add_up_to_the_days(moments, data):
    moments = sorted(moments)
    steps = data.draw(st.lists(st.integers(0, 50), min_size=len(moments), max_size=len(moments)))
    totals, bars, frames = np.cumsum(steps), MinuteBars(), []
    midnight = at("00:00:00")
    for second, total in zip(moments, totals.tolist(), strict=True):
        frames.append(bars.take(quotes(("A", midnight + timedelta(seconds=second), 10.0, int(total)))))
    frames.append(bars.flush(at("15:30:00")))
    made = table(frames)
    assert sum(row[6] for row in made) == totals[-1]
    labels = [row[1] for row in made]
    assert labels == sorted(set(labels))
    possible = {label_of((midnight + timedelta(seconds=s)).time(), "1m").strftime("%H:%M") for s in moments}
    assert set(labels) <= possible
