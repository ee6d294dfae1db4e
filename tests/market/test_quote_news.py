from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from mystocks_ingest.market.datasets import QUOTE, TICK
from mystocks_ingest.market.frames import Frame
from mystocks_ingest.market.live import Latest, News, Trades
from mystocks_ingest.market.minute_bars import FROM_QUOTES, MinuteBars, shown_until
from mystocks_ingest.market.sessions import ZONE, label_of


def at(text: str, day: int = 8) -> datetime:
    return datetime.fromisoformat(f"2024-10-{day:02d} {text}").replace(tzinfo=ZONE)


def quotes(*rows: tuple, open_price: float = 10.0, **more: float) -> Frame:
    """(symbol, time, last, volume) with an amount of last times volume."""
    schema = pa.schema([(f.name, f.type) for f in QUOTE.fields])
    made = [
        {
            "symbol": s, "ts": ts, "last": last, "volume": volume, "amount": last * volume, "open": open_price,
            "source": "x", "fetched_at": ts, **more,
        }
        for s, ts, last, volume in rows
    ]  # fmt: skip
    return Frame(QUOTE, "x", max(r[1] for r in rows).astimezone(UTC), pa.RecordBatch.from_pylist(made, schema=schema))


def shown(bars: MinuteBars, frame: Frame) -> Frame | None:
    """The whole market was looked at a second before, and now ``frame`` is shown."""
    bars.looked(frame.fetched_at - timedelta(seconds=1))
    return gap(bars, frame)


def gap(bars: MinuteBars, frame: Frame) -> Frame | None:
    """Nobody looked since whatever was told before; now ``frame`` is shown."""
    bars.look(frame.rows, frame.fetched_at)
    return bars.take(frame)


def flushed(bars: MinuteBars, moment: datetime) -> Frame | None:
    bars.looked(moment)
    return bars.flush(moment)


def symbols(frame: Frame) -> list[str]:
    return frame.rows.column("symbol").to_pylist()


def stored(known: Latest | Trades, frame: Frame) -> News:
    """What was news; all of it is stored."""
    found = known.news(frame)
    known.hold(found.frame)
    return found


def test_only_rows_that_changed_are_news():
    latest = Latest()
    first = quotes(("A", at("09:30:00"), 10.0, 100), ("B", at("09:30:00"), 20.0, 100))
    assert symbols(stored(latest, first).frame) == ["A", "B"]
    again = stored(latest, quotes(("A", at("09:30:03"), 10.0, 100), ("B", at("09:30:03"), 20.1, 100)))
    assert (symbols(again.frame), again.unchanged) == (["B"], 1)
    more = stored(latest, quotes(("C", at("09:30:06"), 5.0, 1), ("A", at("09:30:06"), 10.0, 101)))
    assert symbols(more.frame) == ["C", "A"]


def test_older_times_and_shrunken_volumes_are_no_news():
    latest = Latest()
    stored(latest, quotes(("A", at("09:31:00"), 10.0, 500), ("B", at("09:31:00"), 10.0, 500)))
    found = stored(latest, quotes(("A", at("09:30:57"), 10.2, 500), ("B", at("09:31:03"), 10.1, 400)))
    assert (len(found.frame), found.late, found.stale) == (0, 1, 1)
    assert len(stored(latest, quotes(("B", at("09:31:06"), 10.1, 500))).frame) == 1


def test_a_new_day_begins_anew():
    latest = Latest()
    stored(latest, quotes(("A", at("15:00:00"), 10.0, 500)))
    assert len(stored(latest, quotes(("A", at("09:15:00", 9), 10.0, 0))).frame) == 1


def test_the_day_befores_state_is_no_news_when_it_is_stamped_with_another_day():
    latest = Latest()
    stored(latest, quotes(("A", at("15:00:00"), 10.0, 500), ("B", at("15:00:00"), 5.0, 0)))
    shown_again = latest.news(quotes(("A", at("09:15:00", 9), 10.0, 500), ("B", at("09:15:00", 9), 5.0, 0)))
    assert (symbols(shown_again.frame), shown_again.unchanged) == (["B"], 1)


def test_a_volume_that_has_grown_is_newer_whatever_its_time_says():
    latest = Latest()
    stored(latest, quotes(("A", at("09:31:02"), 10.0, 500)))  # stamped when it was received
    assert len(stored(latest, quotes(("A", at("09:30:59"), 10.1, 600))).frame) == 1  # by its last trade
    assert stored(latest, quotes(("A", at("09:30:58"), 10.0, 550))).late == 1


def test_what_was_not_stored_is_news_again_and_a_refused_row_only_when_it_changes():
    latest = Latest()
    first = quotes(("A", at("09:31:00"), 10.0, 500))
    assert len(latest.news(first).frame) == len(latest.news(first).frame) == 1
    wrong = quotes(("A", at("09:31:00"), 10.0, 50_000))
    latest.hold(first.take(pa.array([], pa.int64())), [wrong])
    assert latest.news(quotes(("A", at("09:31:03"), 10.0, 50_000))).unchanged == 1
    assert len(stored(latest, quotes(("A", at("09:31:06"), 10.0, 510))).frame) == 1, "the wrong volume is not held"


def test_of_a_symbol_that_is_in_an_answer_twice_the_newer_row_is_held():
    latest, bars = Latest(), MinuteBars()
    twice = quotes(("A", at("09:31:06"), 10.2, 600), ("B", at("09:31:06"), 5.0, 10), ("A", at("09:31:03"), 10.1, 500))
    stored(latest, twice)
    assert latest.news(quotes(("A", at("09:31:09"), 10.2, 600))).unchanged == 1
    shown(bars, twice)
    assert table([shown(bars, quotes(("A", at("09:33:00"), 10.2, 700)))]) == [
        ("A", "09:32", 10.0, 10.2, 10.0, 10.2, 600, 6120.0)
    ]


def test_the_last_sessions_state_shown_before_the_auction_ends_is_not_todays_after_a_restart_either():
    for stamped in ("09:15:00", "15:00:00"):  # with the present time; with a time of day that is still to come
        latest = Latest()
        shown = quotes(("A", at(stamped, 9), 10.0, 90_000))
        older = Frame(QUOTE, "x", at("09:15:00", 9).astimezone(UTC), shown.rows)
        assert (len(latest.news(older).frame), latest.news(older).stale) == (0, 1), stamped
        assert len(stored(latest, quotes(("A", at("09:15:03", 9), 10.0, 0))).frame) == 1, "orders of the auction"
        assert len(stored(latest, quotes(("A", at("09:25:00", 9), 10.2, 300))).frame) == 1


def test_a_time_that_nobody_can_read_is_for_the_check_to_refuse():
    frame = quotes(("A", at("10:00:00"), 10.0, 500))
    column = frame.rows.schema.get_field_index("ts")
    rows = frame.rows.set_column(column, "ts", pa.nulls(1, frame.rows.schema.field("ts").type))
    assert len(Latest().news(Frame(QUOTE, "x", frame.fetched_at, rows)).frame) == 1


def test_quotes_of_a_clock_an_hour_apart_are_news():
    latest = Latest()
    frame = quotes(("A", at("14:56:00"), 10.0, 500))
    assert len(stored(latest, Frame(QUOTE, "x", at("13:56:00").astimezone(UTC), frame.rows)).frame) == 1
    frame = quotes(("A", at("14:56:03"), 10.1, 500))
    assert len(stored(latest, Frame(QUOTE, "x", at("13:56:03").astimezone(UTC), frame.rows)).frame) == 1


def test_what_was_stamped_by_a_clock_that_is_set_back_since_keeps_nothing_out():
    for day, clock in ((9, "10:00:00"), (8, "11:00:00")):
        latest, trades = Latest(), Trades()
        stored(latest, quotes(("A", at(clock, day), 10.0, 500)))
        for second, last, volume in (("03", 10.1, 500), ("06", 10.1, 520), ("09", 10.2, 520)):
            assert len(stored(latest, quotes(("A", at(f"10:00:{second}"), last, volume))).frame) == 1, (day, second)
    stored(trades, ticks("A", ("09:30:01", 0), ("09:30:04", 0), day=9))
    assert len(stored(trades, ticks("A", ("09:30:01", 0), ("09:30:04", 0))).frame) == 2
    assert len(stored(trades, ticks("A", ("09:30:01", 0), ("09:30:07", 0))).frame) == 1


def test_a_volume_that_was_an_error_keeps_the_right_ones_out_for_minutes_and_not_for_the_day():
    latest, news = Latest(), []
    stored(latest, quotes(("A", at("10:00:00"), 10.0, 9_000), ("B", at("10:00:00"), 10.0, 9_000)))
    for n in range(1, 16):  # A goes on from a lower volume, B is a page that is repeated
        moment = at("10:00:00") + timedelta(seconds=30 * n)
        frame = quotes(("A", moment, 10.0, 1_000 + n), ("B", moment, 10.0, 1_000))
        news.append(symbols(stored(latest, frame).frame))
    assert news[:10] == [[]] * 10
    assert news[10:] == [["A"]] * 5


def test_of_a_symbol_that_moved_between_two_pages_the_later_state_is_news_and_none_is_refused():
    twice = quotes(("A", at("10:00:03"), 10.0, 600), ("B", at("10:00:03"), 5.0, 10), ("A", at("10:00:03"), 10.1, 500))
    found = Latest().news(twice).frame.rows
    assert list(zip(found["symbol"].to_pylist(), found["volume"].to_pylist(), strict=True)) == [("A", 600), ("B", 10)]


def ticks(symbol: str, *rows: tuple, day: int = 8) -> Frame:
    schema = pa.schema([(f.name, f.type) for f in TICK.fields])
    made = [
        {"symbol": symbol, "ts": at(clock, day), "seq": seq, "price": 10.0, "volume": 100, "source": "x",
         "fetched_at": at(clock, day)}
        for clock, seq in rows
    ]  # fmt: skip
    return Frame(TICK, "x", at(rows[-1][0], day).astimezone(UTC), pa.RecordBatch.from_pylist(made, schema=schema))


def test_only_trades_after_the_last_one_are_news():
    known, day = Trades(), (("09:30:01", 0), ("09:30:01", 1), ("09:30:04", 0), ("09:30:04", 1))
    assert len(stored(known, ticks("A", *day[:2])).frame) == 2
    assert len(stored(known, ticks("B", *day[:1])).frame) == 1
    assert stored(known, ticks("A", *day[:3])).frame.rows.column("ts").to_pylist() == [at("09:30:04")]
    assert stored(known, ticks("A", *day)).frame.rows.column("seq").to_pylist() == [1]
    assert len(stored(known, ticks("A", *day[:2])).frame) == 0, "an older answer"
    assert len(stored(known, ticks("B", *day)).frame) == 3


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
    frames = [shown(bars, quotes(("A", at(t), last, volume))) for t, last, volume in seen]
    frames.append(flushed(bars, at("15:05:00")))
    assert table(frames) == [
        ("A", "09:31", 10.0, 10.3, 10.0, 10.2, 400, 4080.0),
        ("A", "09:32", 10.0, 10.4, 10.0, 10.4, 100, 5200.0 - 4080.0),
        ("A", "09:34", 10.2, 10.2, 10.2, 10.2, 100, 6120.0 - 5200.0),
    ]
    last = frames[-1]
    assert last is not None
    assert last.source == FROM_QUOTES
    assert last.rows.column("provisional").to_pylist() == [True]
    assert flushed(bars, at("15:05:00")) is None


def test_flushing_leaves_bars_that_have_not_ended_and_a_minute_without_volume_has_no_bar():
    bars = MinuteBars()
    shown(bars, quotes(("A", at("10:00:30"), 10.0, 100)))
    assert flushed(bars, at("10:00:59")) is None
    assert table([flushed(bars, at("10:01:00"))]) == [("A", "10:01", 10.0, 10.0, 10.0, 10.0, 100, 1000.0)]
    assert flushed(bars, at("10:01:00")) is None
    assert shown(bars, quotes(("A", at("10:01:30"), 10.0, 100))) is None
    assert flushed(bars, at("10:02:00")) is None


def test_a_quote_that_comes_after_its_bar_was_given_out_mends_it():
    bars = MinuteBars()
    shown(bars, quotes(("A", at("14:59:30"), 10.0, 100)))
    assert table([flushed(bars, at("15:00:00"))])[0][5:7] == (10.0, 100)
    assert shown(bars, quotes(("A", at("15:00:00"), 10.2, 130))) is None
    assert table([flushed(bars, at("15:00:03"))]) == [("A", "15:00", 10.0, 10.2, 10.0, 10.2, 130, 1326.0)]
    assert flushed(bars, at("15:00:06")) is None


def test_who_begins_to_look_during_the_day_makes_no_bar_of_what_was_before_and_none_of_half_a_minute():
    bars = MinuteBars()
    assert gap(bars, quotes(("A", at("10:30:08"), 11.0, 9_000), ("B", at("09:50:00"), 5.0, 100))) is None
    assert gap(bars, quotes(("A", at("10:30:50"), 11.2, 9_300))) is None
    assert shown(bars, quotes(("A", at("10:31:20"), 11.1, 9_400), ("B", at("10:31:10"), 5.0, 150))) is None
    assert [row[:7] for row in table([flushed(bars, at("10:32:00"))])] == [
        ("A", "10:32", 11.1, 11.1, 11.1, 11.1, 100),
        ("B", "10:32", 5.0, 5.0, 5.0, 5.0, 50),
    ]


def test_a_symbol_that_joins_during_the_day_has_no_bar_before_one_was_seen_whole():
    bars = MinuteBars()
    for clock, volume in (("10:00:30", 500), ("10:01:03", 600)):
        gap(bars, quotes(("A", at(clock), 10.0, volume)))
    made = gap(bars, quotes(("A", at("10:01:50"), 10.0, 700), ("B", at("10:01:49"), 5.0, 90_000)))
    assert made is None
    gap(bars, quotes(("A", at("10:02:02"), 10.0, 750), ("B", at("10:02:01"), 5.1, 91_000)))
    bars.look(quotes(("A", at("10:03:01"), 10.0, 750), ("B", at("10:03:01"), 5.1, 91_000)).rows, at("10:03:01"))
    made = bars.flush(at("10:03:00"))
    assert [(row[0], row[1], row[6]) for row in table([made])] == [("A", "10:03", 50), ("B", "10:03", 1_000)]


def test_who_looked_from_the_beginning_and_saw_no_trade_has_a_whole_first_bar():
    bars = MinuteBars()
    bars.look(quotes(("B", at("10:00:57"), 5.0, 0)).rows, at("10:00:57"))
    gap(bars, quotes(("B", at("10:01:00"), 5.0, 0)))
    for second in (20, 40, 57):
        gap(bars, quotes(("B", at(f"10:01:{second}"), 5.0, 300), open_price=5.0))
    assert [row[:7] for row in table([flushed(bars, at("10:02:01"))])] == [("B", "10:02", 5.0, 5.0, 5.0, 5.0, 300)]


def test_a_bar_whose_end_nobody_saw_is_not_given_out_and_the_next_one_seen_whole_is():
    bars = MinuteBars()
    shown(bars, quotes(("A", at("10:00:02"), 10.0, 100)))
    shown(bars, quotes(("A", at("10:00:20"), 10.0, 150), ("Q", at("10:00:20"), 7.0, 70)))
    assert bars.flush(at("10:01:05")) is None, "nobody has looked since"
    made = gap(bars, quotes(("A", at("10:05:10"), 10.5, 900), ("Q", at("10:05:10"), 7.0, 70)))
    assert [row[:2] for row in table([made])] == [("Q", "10:01")], "who did not trade meanwhile has its bar"
    assert shown(bars, quotes(("A", at("10:06:01"), 10.6, 1_000))) is None
    assert [row[:7] for row in table([flushed(bars, at("10:07:00"))])] == [("A", "10:07", 10.6, 10.6, 10.6, 10.6, 100)]


def test_the_next_day_begins_whole_whatever_was_missed_the_day_before():
    bars = MinuteBars()
    gap(bars, quotes(("A", at("13:30:00"), 12.0, 20_000)))
    assert flushed(bars, at("15:00:00")) is None
    gap(bars, quotes(("A", at("09:30:10", 9), 10.5, 70)))
    made = table([flushed(bars, at("15:00:00", 9))])
    assert [row[:7] for row in made] == [("A", "09:31", 10.0, 10.5, 10.0, 10.5, 70)]


def test_bars_go_on_after_a_restart_within_the_minute_and_leave_it_out_after_a_longer_one():
    before = MinuteBars()
    shown(before, quotes(("A", at("10:00:40"), 10.0, 100), high=10.4, low=9.9))
    shown(before, quotes(("A", at("10:01:10"), 10.1, 160), high=10.4, low=9.9))
    shown(before, quotes(("A", at("10:01:20"), 10.3, 200), high=10.4, low=9.9))
    state = before.state
    for moment, made in (("10:01:50", [("10:02", 10.1, 10.5, 10.1, 260)]), ("10:09:50", [])):
        bars = MinuteBars.restored(state)
        assert gap(bars, quotes(("A", at(moment), 10.2, 360), high=10.5, low=9.9)) is None
        rows = table([flushed(bars, at(moment) + timedelta(seconds=20))])
        assert [(label, first, high, low, volume) for _, label, first, high, low, _, volume, _ in rows] == made


def test_a_whole_market_that_stands_still_is_no_look_but_at_lunch_and_before_the_closing_auctions_prices():
    def until(newest: str, now: str) -> str:
        frame = quotes(("A", at(newest), 10.0, 100), ("B", at("09:25:00"), 10.0, 100))
        return f"{shown_until(frame.rows, at(now)).astimezone(ZONE):%H:%M:%S}"

    assert until("10:00:55", "10:01:03") == "10:01:03"
    assert until("10:00:20", "10:05:10") == "10:00:20", "the vendor's server hangs"
    assert until("09:25:00", "09:29:59") == "09:29:59"
    assert until("11:29:58", "12:10:00") == "12:10:00"
    assert until("10:40:00", "12:10:00") == "10:40:00"
    assert until("14:57:00", "14:59:40") == "14:59:40"
    assert until("14:20:00", "15:00:40") == "14:20:00"
    assert until("15:00:00", "20:00:00") == "20:00:00"


def test_what_is_shown_of_the_day_before_makes_no_bar_of_its_whole_volume():
    bars = MinuteBars()
    frame = quotes(("A", at("14:59:58"), 10.0, 90_000))
    bars.look(frame.rows, at("09:15:00", 9))
    assert bars.take(frame) is None
    bars.looked(at("09:15:00", 9))
    assert bars.flush(at("09:15:05", 9)) is None
    shown(bars, quotes(("A", at("09:25:00", 9), 10.2, 300), open_price=10.2))
    made = table([flushed(bars, at("09:31:05", 9))])
    assert [row[:7] for row in made] == [("A", "09:31", 10.2, 10.2, 10.2, 10.2, 300)]


def test_an_extreme_of_the_day_between_two_polls_is_in_the_bar():
    bars = MinuteBars()
    shown(bars, quotes(("A", at("09:30:50"), 10.1, 100), high=10.3, low=9.9))
    shown(bars, quotes(("A", at("09:31:20"), 10.2, 200), high=10.3, low=9.9))
    shown(bars, quotes(("A", at("09:31:50"), 10.2, 300), high=10.3, low=9.8))
    frame = flushed(bars, at("09:32:00"))
    assert [row[2:6] for row in table([frame])] == [(10.2, 10.2, 9.8, 10.2)]


def test_a_bar_is_seen_whole_when_one_at_most_has_begun_since_the_last_look():
    def whole(before: datetime | None, now: datetime) -> bool:
        bars = MinuteBars()
        if before is not None:
            bars.look(quotes(("A", before, 10.0, 0)).rows, before)
        gap(bars, quotes(("A", now, 10.0, 100)))
        return flushed(bars, now.replace(hour=15, minute=0, second=0)) is not None

    assert whole(None, at("09:25:00"))
    assert whole(None, at("09:30:59"))
    assert not whole(None, at("10:00:00"))
    assert whole(at("10:00:05"), at("10:01:30"))
    assert not whole(at("10:00:05"), at("10:02:30"))
    assert whole(at("11:29:50"), at("13:00:20")), "nothing trades at lunch"
    assert not whole(at("14:59:00"), at("10:00:00", 9))


def test_a_clock_that_is_set_back_makes_no_bar_of_what_was_traded_since():
    for ahead_day, ahead in ((8, "11:00:10"), (9, "10:00:10")):
        bars, made = MinuteBars(), []
        shown(bars, quotes(("A", at("10:00:02"), 10.0, 100)))
        made.append(gap(bars, quotes(("A", at(ahead, ahead_day), 10.0, 150))))
        for clock, volume in (("10:00:30", 200), ("10:01:02", 300), ("10:01:50", 420), ("10:02:03", 500)):
            made.append(shown(bars, quotes(("A", at(clock), 10.0, volume))))
        made += [flushed(bars, at("10:03:01")), gap(bars, quotes(("A", at("11:00:30"), 10.0, 9_000)))]
        made += [flushed(bars, at("11:01:01"))]
        assert [(row[1], row[6]) for row in table(made)] == [("10:02", 220), ("10:03", 80)], ahead


def test_lunch_counts_into_the_last_bar_of_the_morning_and_the_next_day_starts_at_zero():
    bars = MinuteBars()
    shown(bars, quotes(("A", at("11:29:59"), 10.0, 100)))
    shown(bars, quotes(("A", at("11:30:20"), 10.1, 200)))
    frames = [shown(bars, quotes(("A", at("13:00:30"), 10.2, 250)))]
    assert table(frames) == [("A", "11:30", 10.0, 10.1, 10.0, 10.1, 200, 2020.0)]
    assert table([flushed(bars, at("15:00:00"))])[0][6] == 50
    shown(bars, quotes(("A", at("09:30:10", 9), 11.0, 70), open_price=11.0))
    assert table([flushed(bars, at("15:00:00", 9))]) == [("A", "09:31", 11.0, 11.0, 11.0, 11.0, 70, 770.0)]


@given(st.lists(st.integers(9 * 3600 + 30 * 60, 15 * 3600), min_size=1, max_size=60, unique=True), st.data())
def test_volumes_of_all_bars_add_up_to_the_days(moments, data):
    moments = sorted(moments)
    steps = data.draw(st.lists(st.integers(0, 50), min_size=len(moments), max_size=len(moments)))
    totals, bars, frames = np.cumsum(steps), MinuteBars(), []
    midnight = at("00:00:00")
    for second, total in zip(moments, totals.tolist(), strict=True):
        frames.append(shown(bars, quotes(("A", midnight + timedelta(seconds=second), 10.0, int(total)))))
    frames.append(flushed(bars, at("15:30:00")))
    made = table(frames)
    assert sum(row[6] for row in made) == totals[-1]
    labels = [row[1] for row in made]
    assert labels == sorted(set(labels))
    possible = {label_of((midnight + timedelta(seconds=s)).time(), "1m").strftime("%H:%M") for s in moments}
    assert set(labels) <= possible
