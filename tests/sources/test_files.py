"""Archives of vendors' exports, read as a user's folder holds them."""

import gzip
import os
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import structlog
from pyarrow import feather

from mystocks_ingest.errors import ConfigError, Malformed, Unsupported
from mystocks_ingest.market.checks import Context, Rule, check
from mystocks_ingest.market.datasets import dataset
from mystocks_ingest.market.frames import Request, Window
from mystocks_ingest.market.symbols import parse
from mystocks_ingest.sources.files import Files
from mystocks_ingest.sources.registry import layouts

NOW = datetime(2026, 3, 7, 8, tzinfo=UTC)
JANUARY = Window(date(2024, 1, 1), date(2024, 1, 6))
TUSHARE = "ts_code,trade_date,open,high,low,close,pre_close,change,pct_chg,vol,amount"
ROWS = (
    "600000.SH,20240103,6.60,6.65,6.58,6.63,6.61,0.02,0.3026,200000.5,132400.331",
    "600000.SH,20240102,6.63,6.70,6.60,6.61,6.62,-0.01,-0.1511,300000.25,199500.166",
)


@pytest.fixture
def archive(tmp_path):
    """A folder; ``open`` gives it as a source."""

    class Archive:
        root = tmp_path / "archive"

        def put(self, name, text, encoding="utf-8"):
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
            return path

        def link(self, *paths):
            for path in paths:
                target = self.root / path.parent.name / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(path)

        def open(self):
            self.root.mkdir(exist_ok=True)
            return Files(self.root, layouts=layouts(), index=tmp_path / "state" / "index.json", clock=lambda: NOW)

    return Archive()


def lines(*rows, header=TUSHARE):
    return "\n".join((header, *rows)) + "\n"


def table(text):
    header, *rows = [line.split(",") for line in text.strip().split("\n")]
    return pa.table(dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)))


async def frames(source, name, *symbols, window=JANUARY):
    request = Request(dataset(name), window, tuple(parse(s) for s in symbols))
    return [frame async for frame in source.fetch(request)]


async def rows(source, name, *symbols, window=JANUARY):
    found = [f for f in await frames(source, name, *symbols, window=window) if f.dataset.name == name]
    return [row for frame in found for row in frame.rows.to_pylist()]


EXPECTED = [(date(2024, 1, 2), 6.61, 30_000_025, 199_500_166.0), (date(2024, 1, 3), 6.63, 20_000_050, 132_400_331.0)]


def short(found):
    return [(r["trade_date"], r["close"], r["volume"], r["amount"]) for r in found]


def shuffled(text):
    found = table(text)
    return found.select(list(reversed(found.schema.names)))


def csv_of(found):
    return lines(*(",".join(r.values()) for r in found.to_pylist()), header=",".join(found.schema.names))


async def write(archive, how):
    text = lines(*ROWS)
    match how:
        case "csv":
            archive.put("a.csv", text)
        case "bom":
            archive.put("a.csv", text, "utf-8-sig")
        case "gbk":
            archive.put("a.csv", lines(*(f"{r},浦发银行" for r in ROWS), header=f"{TUSHARE},名称"), "gbk")
        case "utf-16":
            archive.put("a.csv", text, "utf-16")
        case "gz":
            archive.put("a.csv.gz", gzip.compress(text.encode()))
        case "tabs":
            archive.put("a.tsv", text.replace(",", "\t"))
        case "crlf":
            archive.put("a.csv", text.replace("\n", "\r\n"))
        case "shuffled":
            archive.put("a.csv", csv_of(shuffled(text)))
        case "index column":
            archive.put("a.csv", lines(*(f"{i},{r}" for i, r in enumerate(ROWS)), header=f",{TUSHARE}"))
        case "renamed date":
            archive.put("a.csv", text.replace("trade_date", "date"))
        case "prefixed":
            archive.put("a.csv", text.replace(TUSHARE, ",".join(f"indiv_d_{c}" for c in TUSHARE.split(","))))
        case "feather":
            archive.root.mkdir()
            feather.write_feather(table(text), archive.root / "a.feather")
        case "parquet":
            archive.root.mkdir()
            typed = table(text)
            for i, name in enumerate(typed.schema.names[2:], 2):
                typed = typed.set_column(i, name, pc.cast(typed.column(name), pa.float64()))
            pq.write_table(typed, archive.root / "a.parquet")
        case "file name":
            without = "\n".join(line.split(",", 1)[1] for line in text.strip().split("\n"))
            archive.put("daily/600000.csv", without)
        case "folder name":
            without = "\n".join(line.split(",", 1)[1] for line in text.strip().split("\n"))
            archive.put("stocks/sh600000/daily.csv", without)


WAYS = (
    *("csv", "bom", "gbk", "utf-16", "gz", "tabs", "crlf", "shuffled", "index column", "renamed date", "prefixed"),
    *("feather", "parquet", "file name", "folder name"),
)


@pytest.mark.parametrize("how", WAYS)
async def test_the_same_export_gives_the_same_rows_however_it_was_saved(archive, how):
    await write(archive, how)
    source = archive.open()
    assert source.problems == []
    assert short(await rows(source, "bar_1d", "600000.SH")) == EXPECTED


async def test_only_the_symbols_and_days_asked_for_come(archive):
    archive.put("a.csv", lines(*ROWS, ROWS[0].replace("600000.SH", "000001.SZ")))
    source = archive.open()
    window = Window(date(2024, 1, 3), date(2024, 1, 4))
    assert [r["symbol"] for r in await rows(source, "bar_1d", "000001.SZ", window=window)] == ["000001.SZ"]
    assert len(await rows(source, "bar_1d", "000001.SZ", "600000.SH", window=window)) == 2


async def test_a_month_in_a_name_is_no_symbol(archive):
    without = "\n".join(line.split(",", 1)[1] for line in lines(*ROWS).strip().split("\n"))
    archive.put("data_202401.csv", without)
    source = archive.open()
    ((path, reason),) = source.problems
    assert path.name == "data_202401.csv"
    assert "symbol" in reason or "fit no known export" in reason


async def test_a_file_that_gives_nothing_is_named_with_its_reason_once(archive):
    archive.put("notes.xlsx", b"PK")
    archive.put("empty.csv", "")
    archive.put("strange.csv", "a,b\n1,2\n")
    archive.put("broken.feather", b"ARROW1 no more")
    archive.put("binary.csv", b"\x00\x01\x02")
    with structlog.testing.capture_logs() as logged:
        problems = dict(archive.open().problems)
    told = {entry["path"]: entry["reason"] for entry in logged if entry["event"] == "file.unusable"}
    assert (
        {p.name for p in problems}
        == set(told)
        == {"notes.xlsx", "empty.csv", "strange.csv", "broken.feather", "binary.csv"}
    )
    assert "fit no known export: a, b" in told["strange.csv"]
    with structlog.testing.capture_logs() as logged:
        again = archive.open()
        assert len(again.problems) == 5
    assert logged == []


async def test_lines_of_another_width_are_counted_and_the_others_read(archive):
    archive.put("a.csv", lines(*ROWS, "600000.SH,20240104,6.6"))
    with structlog.testing.capture_logs() as logged:
        found = await rows(archive.open(), "bar_1d", "600000.SH")
    assert short(found) == EXPECTED
    assert [(e["path"], e["rows"]) for e in logged if e["event"] == "file.rows_unreadable"] == [("a.csv", 1)]


async def test_files_that_did_not_change_are_not_read_again(archive):
    path = archive.put("a.csv", lines(*ROWS))
    assert archive.open().problems == []
    stat = path.stat()
    path.write_bytes(b"x" * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert archive.open().problems == []  # unchanged by size and time
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert len(archive.open().problems) == 1


async def test_a_damaged_index_is_made_anew(archive, tmp_path):
    archive.put("a.csv", lines(*ROWS))
    assert archive.open().entries
    (tmp_path / "state" / "index.json").write_text("{")
    assert short(await rows(archive.open(), "bar_1d", "600000.SH")) == EXPECTED


async def test_rows_beyond_the_archives_days_are_not_claimed_to_be_absent(archive):
    archive.put("a.csv", lines(*ROWS))
    source = archive.open()
    year = source.fetch(Request(dataset("bar_1d"), Window(date(2023, 1, 1), date(2024, 6, 1)), (parse("600000.SH"),)))
    assert short((await anext(year)).rows.to_pylist()) == EXPECTED
    with pytest.raises(Unsupported, match=r"less of bar_1d than 2023-01-01\.\..*: 600000\.SH 2024-01-02\.\.2024-01-03"):
        await anext(year)


async def test_what_the_archive_does_not_hold_is_unsupported(archive):
    archive.put("a.csv", lines(*ROWS))
    source = archive.open()
    assert set(source.offers) == {"bar_1d"}
    for name, symbol in (("bar_5m", "600000.SH"), ("bar_1d", "000001.SZ")):
        with pytest.raises(Unsupported):
            await frames(source, name, symbol)


async def test_a_file_that_vanished_is_a_failure_and_not_an_absence(archive):
    path = archive.put("a.csv", lines(*ROWS))
    source = archive.open()
    assert source.offers
    path.unlink()
    with pytest.raises(Malformed, match=r"a\.csv"):
        await frames(source, "bar_1d", "600000.SH")


async def test_offers_tell_what_is_held_and_calls_count_files(archive):
    archive.put("a.csv", lines(*ROWS))
    archive.put("b.csv", lines(ROWS[0].replace("600000.SH", "510300.SH")))
    source = archive.open()
    offer = source.offers["bar_1d"]
    assert (offer.asset_types, offer.exchanges, offer.since) == ({"stock", "etf"}, {"SH"}, date(2024, 1, 2))
    both = Request(dataset("bar_1d"), JANUARY, (parse("600000.SH"), parse("510300.SH")))
    assert source.calls(both) == 2
    await source.probe()


async def test_an_archive_without_a_known_file_or_folder_is_the_users_mistake(archive, tmp_path):
    with pytest.raises(ConfigError, match="known export"):
        await archive.open().probe()
    missing = Files(tmp_path / "nowhere", layouts=layouts(), index=tmp_path / "i.json", clock=lambda: NOW)
    with pytest.raises(ConfigError, match="not a folder"):
        await missing.probe()


def closes(days, start=10.0):
    return np.round(start + np.cumsum(np.random.default_rng(7).normal(0, 0.1, days)), 2)


async def test_weekly_bars_in_a_daily_layout_are_told_by_their_days(archive):
    fridays = np.arange("2023-01-06", "2023-12-30", 7, dtype="datetime64[D]")
    text = [
        f"600000.SH,{str(d).replace('-', '')},{c},{c},{c},{c},{c},0,0,100.0,{c * 10:.3f}"
        for d, c in zip(fridays, closes(len(fridays)), strict=True)
    ]
    archive.put("a.csv", lines(*text))
    source = archive.open()
    assert set(source.offers) == {"bar_1w"}
    window = Window(date(2023, 1, 1), date(2024, 1, 1))
    found = await rows(source, "bar_1w", "600000.SH", window=window)
    assert len(found) == len(fridays)
    assert found[0]["volume"] == 10_000


@pytest.mark.parametrize(("minutes", "name"), [(5, "bar_5m"), (30, "bar_30m")])
async def test_minute_bars_are_told_by_their_times(archive, minutes, name):
    stamps = [datetime(2024, 1, 2, 10, 30) + timedelta(minutes=minutes * n) for n in range(3)]
    text = [f"{s:%Y-%m-%d},{s:%Y%m%d%H%M%S}000,sh.600000,6.6,6.7,6.5,6.6,1000,6600.0,3" for s in stamps]
    archive.put("a.csv", lines(*text, header="date,time,code,open,high,low,close,volume,amount,adjustflag"))
    found = await rows(archive.open(), name, "600000.SH")
    assert [(r["bar_time"].hour, r["bar_time"].minute, r["volume"]) for r in found] == [
        (s.hour, s.minute, 1000) for s in stamps
    ]


# -- real exports ------------------------------------------------------------------------------------------------

HISTORY = Window(date(1990, 1, 1), date(2026, 1, 1))


async def accepted(source, symbol, window=HISTORY):
    """What the checks let pass of a symbol's daily bars, by day, and the rules that refused the others."""
    passed, refused = {}, set()
    request = Request(dataset("bar_1d"), window, (parse(symbol),))
    try:
        async for frame in source.fetch(request):
            if frame.dataset.name != "bar_1d":
                continue
            checked = check(frame, Context(now=NOW))
            passed |= {r["trade_date"]: r for r in checked.accepted.rows.to_pylist()}
            refused |= set(checked.refused.rules)
    except Unsupported:
        pass  # the archive's days end somewhere
    return passed, refused


@pytest.mark.parametrize(
    ("symbol", "code", "at_least"),
    [("000001.SZ", "sz.000001", 50), ("000002.SZ", "sz.000002", 50), ("600519.SH", "sh.600519", 240)],
)
async def test_vendors_archives_agree_within_the_known_tolerances(
    archive, shared_data, tmp_path, symbol, code, at_least
):
    archive.link(*(shared_data / "daily_tushare_raw").glob("*.csv"))
    tushare, _ = await accepted(archive.open(), symbol)
    archive.root = tmp_path / "other"
    archive.link(shared_data / "daily_baostock_unadjusted_original" / f"{code}.feather")
    baostock, refused = await accepted(archive.open(), symbol)
    assert refused == set()
    common = sorted(set(tushare) & set(baostock))
    assert len(common) >= at_least
    for day in common:
        ours, theirs = tushare[day], baostock[day]
        for name in ("open", "high", "low", "close", "pre_close"):
            assert ours[name] == pytest.approx(theirs[name], abs=0.0001), (day, name)
        assert abs(ours["volume"] - theirs["volume"]) <= 50
        assert abs(ours["amount"] - theirs["amount"]) <= 140


async def test_a_whole_market_day_is_read_whole(archive, shared_data):
    archive.link(shared_data / "daily_tushare_raw" / "whole_market_20250205.csv")
    source = archive.open()
    request = Request(dataset("bar_1d"), Window(date(2025, 2, 5), date(2025, 2, 6)))
    (frame,) = [frame async for frame in source.fetch(request)]
    assert len(frame) == 5383
    checked = check(frame, Context(now=NOW))
    assert len(checked.accepted) == 5383


async def test_suspended_days_are_suspensions_and_ex_right_days_keep_their_reference_price(archive, shared_data):
    archive.link(shared_data / "daily_baostock_unadjusted_original" / "sz.000001.feather")
    source = archive.open()
    window = Window(date(2000, 1, 4), date(2023, 3, 17))
    found = await frames(source, "bar_1d", "000001.SZ", window=window)
    bars = [r for f in found if f.dataset.name == "bar_1d" for r in f.rows.to_pylist()]
    assert len(bars) == 5461
    assert sum(len(f) for f in found if f.dataset.name == "suspension") == 161
    by_day = {r["trade_date"]: r for r in bars}
    assert by_day[date(2022, 7, 22)]["pre_close"] == 12.78
    assert by_day[date(2015, 4, 13)]["pre_close"] == 16.36
    assert len(await rows(source, "suspension", "000001.SZ", window=window)) == 161


ADJUSTED = (
    ("daily_akshare_hist_qfq/600519.csv", "600519.SH"),
    ("daily_tushare_probar_qfq/000001.SZ.csv", "000001.SZ"),
    ("daily_baostock_qfq_original/600519.SH.csv", "600519.SH"),
)


@pytest.mark.parametrize(("name", "symbol"), ADJUSTED)
@pytest.mark.parametrize("window", [HISTORY, Window(date(2020, 7, 1), date(2020, 8, 1))])
async def test_a_forward_adjusted_archive_is_refused_as_such_however_little_is_asked_of_it(
    archive, shared_data, name, symbol, window
):
    archive.link(shared_data / name)
    passed, refused = await accepted(archive.open(), symbol, window)
    assert passed == {}
    assert Rule.FORWARD_ADJUSTED in refused


async def test_one_export_gives_bars_and_factors(archive, shared_data):
    archive.link(shared_data / "daily_with_adj_factor_cn_headers" / "000001.SZ.csv")
    source = archive.open()
    window = Window(date(2024, 1, 2), date(2025, 1, 1))
    bars = await rows(source, "bar_1d", "000001.SZ", window=window)
    factors = await rows(source, "adj_factor", "000001.SZ", window=window)
    assert len(bars) == len(factors) == 242
    assert (bars[0]["close"], bars[0]["volume"], bars[0]["amount"]) == (9.21, 115_836_645, 1_075_742_250.0)
    assert (factors[0]["factor"], factors[0]["source"]) == (116.713, "files-tushare")


async def test_minute_bars_of_two_vendors_are_both_in_shares(archive, shared_data):
    archive.link(
        *(shared_data / "minute_akshare_em_5m").glob("*.csv"), *(shared_data / "minute_baostock_5m").glob("*.csv")
    )
    window = Window(date(2025, 11, 5), date(2025, 11, 20))
    for symbol, count in (("600519.SH", 288), ("002466.SZ", 288), ("600000.SH", 240)):
        found = await rows(archive.open(), "bar_5m", symbol, window=window)
        assert len(found) == count
        for row in found:
            if row["volume"]:
                assert row["low"] * 0.99 <= row["amount"] / row["volume"] <= row["high"] * 1.01


async def test_snapshots_in_gbk_and_a_spot_list_become_quotes(archive, shared_data):
    archive.link(*(shared_data / "snapshot_l1").glob("*.csv"), *(shared_data / "whole_market_spot").glob("*.csv"))
    source = archive.open()
    day = Window(date(2022, 12, 30), date(2022, 12, 31))
    found = await rows(source, "quote", "000001.SZ", window=day)
    assert len(found) == 4463
    first = found[0]
    assert (first["last"], first["bid_price1"], first["bid_volume1"], first["ask_volume5"]) == (
        13.04,
        13.03,
        55_300,
        55_100,
    )
    spot = await rows(source, "quote", "920000.BJ", window=Window(date(2026, 3, 6), date(2026, 3, 7)))
    assert [(r["last"], r["pre_close"], r["volume"], r["ts"].hour) for r in spot] == [(18.08, 17.92, 314_741, 15)]


async def test_lists_and_calendars_are_read(archive, shared_data):
    archive.link(
        shared_data / "stock_basic_tushare" / "stock_basic_2026_bom.csv",
        *(shared_data / "trade_cal_tushare").glob("*.csv"),
    )
    source = archive.open()
    stocks = await rows(source, "instrument", window=HISTORY)
    assert len(stocks) == 5448
    assert {r["status"] for r in stocks} == {"L"}
    days = await rows(source, "calendar", window=Window(date(2024, 1, 1), date(2025, 1, 1)))
    assert len({r["trade_date"] for r in days}) == 366
    assert len({r["trade_date"] for r in days if r["is_open"]}) == 242
