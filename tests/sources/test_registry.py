"""The registry: sources by name, light until opened, third parties by entry point."""

import subprocess
import sys
import textwrap
from datetime import UTC, date, datetime
from importlib.metadata import EntryPoint

import pytest

from mystocks_ingest import sources
from mystocks_ingest.errors import ConfigError
from mystocks_ingest.market.datasets import dataset
from mystocks_ingest.market.frames import Request, Window
from mystocks_ingest.market.layout import recognise
from mystocks_ingest.settings import Settings
from mystocks_ingest.sources import registry
from mystocks_ingest.sources.tushare.source import budget


def now():
    return datetime(2026, 11, 20, 4, 0, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path):
    return Settings(_env_file=None, MYSTOCKS_STATE_DIR=tmp_path / "state", MYSTOCKS_ARCHIVE_DIR=tmp_path)


@pytest.mark.parametrize("name", registry.BUILT_IN)
async def test_every_built_in_source_opens_under_its_name_without_a_process(name, settings):
    source = sources.open_source(name, settings, now=now)
    try:
        assert source.name == name
        assert source.offers or name == "files"  # what an archive offers is what lies in it
        assert source.family
        for offered in source.offers:
            assert dataset(offered).name == offered
    finally:
        await source.aclose()


def test_an_unknown_source_is_one_sentence_with_the_known_ones(settings):
    with pytest.raises(ConfigError, match=r"tushare.*baostock"):
        sources.open_source("wind", settings, now=now)


def test_auto_asks_only_sources_that_are_ready(tmp_path):
    bare = Settings(_env_file=None, MYSTOCKS_STATE_DIR=tmp_path)
    assert "tushare" not in sources.preferred(bare)
    assert "files" not in sources.preferred(bare)
    assert "baostock" in sources.preferred(bare)
    assert sources.SECOND_OPINION not in sources.preferred(bare)
    with_token = Settings(_env_file=None, MYSTOCKS_STATE_DIR=tmp_path, TUSHARE_TOKEN="t" * 32)
    assert sources.preferred(with_token)[0] == "tushare"


async def test_a_third_partys_source_is_found_by_its_entry_point(settings, monkeypatch):
    point = EntryPoint("mine", f"{__name__}:open_mine", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda **_: [point])
    assert "mine" in sources.names()
    opened = sources.open_source("mine", settings, now=now)
    assert opened == ("mine", settings, now())
    broken = EntryPoint("broken", "no.such.module:open", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda **_: [broken])
    with pytest.raises(ConfigError, match=r"broken.*no\.such\.module"):
        sources.open_source("broken", settings, now=now)


def open_mine(settings, *, clock):
    return ("mine", settings, clock())


def test_no_vendor_and_no_pandas_enters_this_process_with_the_sources():
    program = textwrap.dedent("""
        import sys
        from datetime import UTC, datetime
        from mystocks_ingest import sources
        from mystocks_ingest.settings import Settings
        settings = Settings(_env_file=None, MYSTOCKS_STATE_DIR=sys.argv[1], MYSTOCKS_ARCHIVE_DIR=sys.argv[1])
        for name in sources.BUILT_IN:
            sources.open_source(name, settings, now=lambda: datetime.now(UTC))
        sources.layouts()
        heavy = ("pandas", "tushare", "akshare", "baostock", "exchange_calendars", "requests")
        print(",".join(m for m in heavy if m in sys.modules))
    """)
    import tempfile  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program, folder], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


async def test_the_second_opinion_knows_the_exchanges_holidays(settings):
    source = sources.open_source(sources.SECOND_OPINION, settings, now=now)
    try:
        window = Window(date(1990, 12, 19), date(2027, 1, 1))
        frames = [f async for f in source.fetch(Request(dataset("calendar"), window))]
    finally:
        await source.aclose()
    rows = frames[0].rows.to_pydict()
    is_open = dict(zip(rows["trade_date"], rows["is_open"], strict=True))
    assert is_open[date(2025, 2, 5)]
    assert not is_open[date(2025, 2, 4)]  # spring festival
    assert not is_open[date(2025, 2, 8)]  # a Saturday
    assert max(is_open) == date(2026, 12, 31)
    assert set(rows["exchange"]) == {"SH"}


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        ("ts_code,trade_date,open,high,low,close,pre_close,change,pct_chg,vol,amount", "tushare daily"),
        ("ts_code,trade_time,open,close,high,low,vol,amount", "tushare stk_mins"),
        ("cal_date,is_open,exchange,pretrade_date", "tushare trade_cal"),
        ("date,code,open,high,low,close,preclose,volume,amount,adjustflag,turn,tradestatus", "baostock daily"),
        ("date,time,code,open,high,low,close,volume,amount,adjustflag", "baostock"),
    ],
)
def test_a_files_columns_tell_its_layout(columns, name):
    found = recognise(sources.layouts(), columns.split(","))
    assert found is not None
    assert found.name.startswith(name)


def test_a_tier_never_asks_for_more_than_the_vendor_allows():
    for points, minute in ((0, 50), (120, 50), (2000, 200), (5000, 500), (15000, 500)):
        assert all(r.calls <= minute * 0.8 for r in budget(points).rates)
