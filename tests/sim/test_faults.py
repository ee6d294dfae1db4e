"""Every knob, for every vendor: what the real package makes of it (the reason why the sources must look closer)."""

import asyncio

import pytest
from vendor_child import Vendors

from mystocks_ingest.sim.faults import KINDS

pytestmark = pytest.mark.asyncio(loop_scope="module")

FIELDS = "date,code,open,high,low,close,preclose,volume,amount,adjustflag,turn,tradestatus,pctChg,isST"
MINUTE_FIELDS = "date,time,code,open,high,low,close,volume,amount,adjustflag"


def calls(symbol):
    """A plain call of each vendor for the daily bars of ``symbol``."""
    code = f"{symbol[-2:].lower()}.{symbol[:6]}"
    return {
        "tushare": ("daily", [], {"ts_code": symbol}),
        "baostock": ("query_history_k_data_plus", [code, FIELDS, "2020-01-01", "2026-12-31", "d", "3"], {}),
        "akshare": ("stock_zh_a_hist", [symbol[:6]], {}),
    }


def with_ex_right_day(market):
    """A stock of Shanghai or Shenzhen that was listed throughout and has an ex-right day in the range."""
    late = {r["symbol"] for r in market.factors(("stock",)).to_pylist() if r["trade_date"] > market.days[20].item()}
    whole = {s for s, f, e in zip(market.listing.symbols, market.listing.first, market.listing.stop, strict=True)
             if f < 0 and e == len(market.days)}  # fmt: skip
    return min(s for s in late & whole if not s.endswith("BJ"))


NAMES = {  # time, open, high, low, close, volume, amount as the package shows them
    "tushare": ("trade_date", "open", "high", "low", "close", "vol", "amount"),
    "baostock": ("date", "open", "high", "low", "close", "volume", "amount"),
    "akshare": ("日期", "开盘", "最高", "最低", "收盘", "成交量", "成交额"),
}


class Seen:
    """An answer beside the undisturbed one."""

    def __init__(self, vendor, answer, good):
        self.vendor, self.answer, self.good = vendor, answer, good

    def column(self, place, *, of_good=False):
        source = self.good if of_good else self.answer
        at = source["columns"].index(NAMES[self.vendor][place])
        return [row[at] for row in source["rows"]]

    def numbers(self, place, *, of_good=False):
        return [float(c) if c not in (None, "", "-") else None for c in self.column(place, of_good=of_good)]

    def raised(self, *names):
        return self.answer.get("error") in names

    def code(self, *codes):
        return self.answer.get("code") in codes

    @property
    def rows(self):
        return len(self.answer.get("rows", []))

    @property
    def unharmed(self):
        return self.answer["rows"] == self.good["rows"]

    @property
    def middle(self):
        return len(self.good["rows"]) // 2

    def differs_only_in(self, place, factor):
        """Every number of the column is ``factor`` times the good one."""
        pairs = zip(self.numbers(place), self.numbers(place, of_good=True), strict=True)
        return all(a == pytest.approx(b * factor, rel=1e-2, abs=1) for a, b in pairs)


def newest(seen):
    return 0 if seen.vendor == "tushare" else -1


def oldest(seen):
    return -1 if seen.vendor == "tushare" else 0


CONTENT = {
    "empty": lambda s: s.rows == 0 and (s.vendor == "akshare" or len(s.answer["columns"]) == len(s.good["columns"])),
    "truncated": lambda s: s.answer["rows"] == s.good["rows"][:40],
    "drop_row": lambda s: s.answer["rows"] == s.good["rows"][: s.middle] + s.good["rows"][s.middle + 1 :],
    "drop_last": lambda s: s.rows == len(s.good["rows"]) - 1 and s.good["rows"][newest(s)] not in s.answer["rows"],
    "duplicate_row": lambda s: s.answer["rows"][s.middle] == s.answer["rows"][s.middle + 1],
    "reversed": lambda s: s.answer["rows"] == s.good["rows"][::-1],
    "dash": lambda s: s.numbers(4)[s.middle] is None and s.numbers(5)[s.middle] is None,
    "volume_x100": lambda s: s.differs_only_in(5, 100),
    "lots_as_shares": lambda s: s.differs_only_in(5, 0.01),
    "amount_x1000": lambda s: s.differs_only_in(6, 1000),
    "forward_adjusted": lambda s: (
        s.numbers(4)[newest(s)] == s.numbers(4, of_good=True)[newest(s)]
        and s.numbers(4)[newest(s) * -1 - 1] != s.numbers(4, of_good=True)[newest(s) * -1 - 1]
    ),
    "bad_ohlc": lambda s: s.numbers(2)[s.middle] < s.numbers(3)[s.middle],
    "negative_price": lambda s: s.numbers(4)[s.middle] < 0,
    "wrong_close": lambda s: (
        s.numbers(4)[s.middle] == pytest.approx(s.numbers(4, of_good=True)[s.middle] * 1.07, abs=0.01)
    ),
    "holiday_row": lambda s: s.column(0)[s.middle].replace("-", "").startswith("20240107"),
    "provisional": lambda s: (
        s.answer["rows"][newest(s)] != s.good["rows"][newest(s)]
        and s.numbers(4)[newest(s)] == s.numbers(1)[newest(s)]
        and s.numbers(5)[newest(s)] == pytest.approx(s.numbers(5, of_good=True)[newest(s)] * 0.4, rel=0.01)
    ),
}
BROKEN = ("ConnectionError", "ChunkedEncodingError")
EXPECTED = {
    "tushare": CONTENT
    | {
        "delay": lambda s: s.raised("ReadTimeout"),
        "silence": lambda s: s.raised("ReadTimeout"),
        **dict.fromkeys(("fin", "fin_mid", "rst", "rst_mid", "refused", "drop_pages"), lambda s: s.raised(*BROKEN)),
        # any HTTP error is an empty frame without columns
        **dict.fromkeys(
            ("http_500", "http_502", "http_504", "http_456"), lambda s: s.answer["columns"] == [] and s.rows == 0
        ),
        "captcha": lambda s: s.raised("JSONDecodeError"),
        "garbage": lambda s: s.raised("JSONDecodeError"),
        "null_data": lambda s: s.raised("TypeError"),
        "column_added": lambda s: "new_column" in s.answer["columns"],
        "column_removed": lambda s: "amount" not in s.answer["columns"],
        "column_renamed": lambda s: "amount_new" in s.answer["columns"],
        "bad_token": lambda s: "token不对" in s.answer["text"],
        "rate_minute": lambda s: "每分钟最多访问" in s.answer["text"],
        "quota": lambda s: "每分钟最多访问该接口0次" in s.answer["text"],
        "rate_minute_new": lambda s: "频率超限(500次/分钟)" in s.answer["text"],
        "rate_hour": lambda s: "每小时最多访问" in s.answer["text"],
        "rate_day": lambda s: "每天最多访问" in s.answer["text"],
        "permission": lambda s: "没有接口(daily)访问权限" in s.answer["text"],
        "ip_limit": lambda s: "IP数量超限" in s.answer["text"],
        "code_2002": lambda s: "没有访问该接口的权限" in s.answer["text"],
    },
    "baostock": CONTENT
    | {
        "delay": lambda s: s.unharmed,  # no time-out anywhere
        "silence": lambda s: "hung" in s.answer,
        **dict.fromkeys(("fin", "fin_mid", "drop_pages"), lambda s: "hung" in s.answer),  # it spins for ever
        **dict.fromkeys(("rst", "rst_mid"), lambda s: s.code("10002007")),
        "refused": lambda s: "hung" in s.answer,  # the open connection was closed
        "column_added": lambda s: "new_column" in s.answer["columns"],
        "column_removed": lambda s: "isST" not in s.answer["columns"],
        "column_renamed": lambda s: "isST_new" in s.answer["columns"],
        "blacklist": lambda s: s.code("10001011"),
        "client_too_old": lambda s: s.code("10001004"),
        "not_logged_in": lambda s: s.code("10001001"),
        "login_limit": lambda s: s.code("10001005"),
        "server_error": lambda s: s.code("10005001"),
        "type_04": lambda s: s.code("10004020"),
        "page_error": lambda s: s.code("10005001") and s.rows == 2000,  # silently short
        "bad_crc": lambda s: s.unharmed,
        "bad_length": lambda s: s.unharmed,  # zlib stops at its own end
        "unzip_error": lambda s: s.code("10002007"),
    },
    "akshare": CONTENT
    | {
        "delay": lambda s: s.raised("ReadTimeout", "ConnectionError"),
        "silence": lambda s: s.raised("ReadTimeout", "ConnectionError"),
        **dict.fromkeys(("fin", "fin_mid", "rst", "rst_mid", "refused", "drop_pages"), lambda s: s.raised(*BROKEN)),
        **dict.fromkeys(
            ("http_500", "http_502", "http_504", "http_456", "captcha", "garbage"),
            lambda s: s.raised("JSONDecodeError"),
        ),
        "null_data": lambda s: s.answer["columns"] == [],
        "column_added": lambda s: s.raised("ValueError"),
        "column_removed": lambda s: s.raised("ValueError"),
        "column_renamed": lambda s: s.unharmed,  # columns have no names on this wire
    },
}
OPTIONS = {"quota": {"calls": 0}, "truncated": {"rows": 40}, "drop_pages": {"after": 0}}
DELAYS = {"tushare": 3.0, "akshare": 3.0, "baostock": 0.5}
HANGS = {("baostock", k) for k in ("silence", "fin", "fin_mid", "drop_pages", "refused")}


async def test_every_knob_has_an_expectation():
    assert {v: set(e) for v, e in EXPECTED.items()} == {v: set(k) for v, k in KINDS.items()}


@pytest.mark.parametrize(("vendor", "kind"), [(v, k) for v, kinds in EXPECTED.items() for k in kinds])
async def test_each_knob_has_its_effect_and_is_gone_after_one_answer(sim, vendors, vendor, kind):
    ours = await Vendors(sim.environment).open() if (vendor, kind) in HANGS else vendors
    function, arguments, options = calls(with_ex_right_day(sim.market))[vendor]
    knob = {"seconds": DELAYS[vendor]} if kind == "delay" else OPTIONS.get(kind, {})
    try:
        if vendor == "baostock":
            await ours.call("baostock", "login")
            if kind == "page_error":  # it takes more than a page
                arguments = ["sh.600000", MINUTE_FIELDS, "2020-01-01", "2026-12-31", "5", "3"]
        good = await ours.call(vendor, function, *arguments, **options)
        await sim.fault(vendor, kind, **knob)
        answer = await ours.call(vendor, function, *arguments, patience=2.0 if ours is not vendors else 60.0, **options)
        assert EXPECTED[vendor][kind](Seen(vendor, answer, good)), answer
        assert kind == "refused" or (await sim.hits())[vendor][kind] >= 1
        if kind == "refused":
            await sim.clear(vendor)
        if ours is vendors:
            if vendor == "baostock":
                await ours.call("baostock", "login")
            assert await ours.call(vendor, function, *arguments, **options) == good
    finally:
        await sim.clear()
        if ours is not vendors:
            await ours.aclose()


async def test_a_closed_port_refuses_a_login_too(sim, vendors):
    await sim.fault("baostock", "refused", seconds=60)
    answer = await vendors.call("baostock", "login")
    assert "服务器连接失败" in answer["noise"]
    await sim.clear("baostock")
    assert "login success" in (await vendors.call("baostock", "login"))["noise"]


async def test_a_fault_acts_on_the_calls_it_matches_and_no_more_often_than_asked(sim, vendors):
    await sim.fault("tushare", "null_data", times=2, match="adj_*")
    assert "rows" in await vendors.call("tushare", "daily", ts_code="600000.SH")
    for expected in ("error", "error", "rows"):
        assert expected in await vendors.call("tushare", "adj_factor", ts_code="600000.SH")


async def test_a_fault_without_a_number_stays_until_it_is_cleared(sim, vendors):
    await sim.fault("akshare", "http_502", times=None, match="eastmoney/*")
    for _ in range(3):
        assert (await vendors.call("akshare", "stock_zh_a_hist", "600000"))["error"] == "JSONDecodeError"
    await sim.clear("akshare")
    assert (await vendors.call("akshare", "stock_zh_a_hist", "600000"))["rows"]


async def test_a_login_refused_by_the_black_list_says_so(sim, vendors):
    await sim.fault("baostock", "blacklist", match="login")
    answer = await vendors.call("baostock", "login")
    assert "login failed" in answer["noise"]


async def test_a_knob_that_does_not_exist_is_refused_with_the_list_of_those_that_do(sim):
    with pytest.raises(ValueError, match=r"has no fault 'page_error'; known: .*http_502"):
        await sim.fault("tushare", "page_error")
    with pytest.raises(ValueError, match="unknown vendor"):
        await sim.fault("bloomberg", "delay")


async def fetch_page(endpoint, page):
    """The status line of one page of eastmoney's list, empty when the connection was closed instead."""
    host, _, port = endpoint.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    path = f"/api/qt/clist/get?pn={page}&pz=5&fs=m:1+t:2&fields=f12"
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Sim-Host: 82.push2.eastmoney.com\r\nConnection: close\r\n\r\n".encode()
    )
    reply = await reader.read()
    writer.close()
    return reply.partition(b"\r\n")[0]


async def test_a_list_can_break_off_after_some_of_its_pages(sim):
    await sim.fault("akshare", "drop_pages", times=None, after=2, match="eastmoney/list")
    try:
        endpoint = sim.environment["AKSHARE_ENDPOINT"]
        assert [await fetch_page(endpoint, page) for page in (1, 2, 3)] == [b"HTTP/1.1 200 OK"] * 2 + [b""]
    finally:
        await sim.clear()


async def test_a_quota_lets_so_many_calls_pass_in_its_time_and_forgives_afterwards(sim, vendors):
    await sim.fault("tushare", "quota", times=None, calls=2, seconds=4.0, match="fund_adj")
    try:
        asked = {"ts_code": "510300.SH", "limit": 1}
        answers = [await vendors.call("tushare", "fund_adj", **asked) for _ in range(3)]
        assert [("rows" in a) for a in answers] == [True, True, False]
        async with asyncio.timeout(30):
            while "rows" not in await vendors.call("tushare", "fund_adj", **asked):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    finally:
        await sim.clear()
