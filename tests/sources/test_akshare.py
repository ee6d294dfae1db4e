"""The akshare package itself, in its lane, against scripted answers of the sites it scrapes."""

import asyncio
import io
import json
import threading
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import pytest_asyncio
import stamina

from mystocks_ingest.errors import Banned, Malformed, Unreachable, Unsupported
from mystocks_ingest.market.datasets import DATASETS, dataset
from mystocks_ingest.market.frames import Request, Window
from mystocks_ingest.market.sessions import ZONE
from mystocks_ingest.market.symbols import parse
from mystocks_ingest.sources.akshare import Akshare
from mystocks_ingest.sources.akshare.families import FAMILIES

pytestmark = pytest.mark.asyncio(loop_scope="module")
NOW = datetime(2024, 1, 5, 9, 0, tzinfo=UTC)  # 17:00 in Shanghai, a Friday
WEEK = Window(date(2024, 1, 2), date(2024, 1, 6))
KLINE = ("push2his.eastmoney.com", "/api/qt/stock/kline/get")
TRENDS = ("push2his.eastmoney.com", "/api/qt/stock/trends2/get")
CLIST = ("82.push2.eastmoney.com", "/api/qt/clist/get")
QUOTE_EM = ("push2.eastmoney.com", "/api/qt/stock/get")
TICKS_EM = ("70.push2.eastmoney.com", "/api/qt/stock/details/sse")
TICKS_TX = ("stock.gtimg.cn", "/data/index.php")
HTML = "<html><title>502 Bad Gateway</title></html>"


class Sites:
    """Answers by (host, path): a function of the query that returns a body or (status, body); None hangs up."""

    def __init__(self):
        self.answers = {}
        self.asked = Counter()
        self.queries = []
        sites = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                parts = urlsplit(self.path)
                key = (self.headers["X-Sim-Host"], parts.path)
                sites.asked[key] += 1
                query = {k: v[0] for k, v in parse_qs(parts.query).items()}
                sites.queries.append(query)
                answer = sites.answers.get(key, lambda _: (404, "nothing scripted"))(query)
                if answer is None:
                    self.connection.close()
                    return
                status, body = answer if isinstance(answer, tuple) else (200, answer)
                body = body if isinstance(body, bytes) else body.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # a connection closed on purpose

        self.server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(scope="module")
def scripted():
    found = Sites()
    yield found
    found.close()


@pytest.fixture
def sites(scripted):
    scripted.answers.clear()
    scripted.asked.clear()
    scripted.queries.clear()
    return scripted


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def families(scripted):
    """Every family's source; their lanes start here and live as long as this module's tests."""
    unpaced = [replace(family, rates=(), spacing=0.0) for family in FAMILIES.values()]
    opened = {f.name: Akshare(f, endpoint=scripted.endpoint, pacing=None, clock=lambda: NOW) for f in unpaced}
    await asyncio.gather(*(s._lane.call("builtins:dict", {}, deadline=60) for s in opened.values()))
    yield opened
    for source in opened.values():
        await source.aclose()


@pytest.fixture
def source(families):
    def find(name="akshare"):
        families[name]._pacer.reopen()
        return families[name]

    with stamina.set_testing(True, attempts=3, cap=True):  # repeat as always, without the waits between
        yield find


async def fetch(source, name, *symbols, window=WEEK, asset_type="stock"):
    wanted = tuple(parse(s) for s in symbols)
    request = Request(dataset(name), window, wanted, asset_type)
    frames = [frame async for frame in source.fetch(request)]
    for frame in frames:
        assert frame.rows.schema.names == frame.dataset.schema.names
    return [row for frame in frames for row in frame.rows.to_pylist()], frames


def klines(*lines, code="600000"):
    return lambda _: json.dumps({"data": {"code": code, "klines": list(lines)}})


DAY_LINES = (
    "2024-01-02,10.00,10.20,10.30,9.90,1000,1015000.0,4.0,2.0,0.20,0.5",
    "2024-01-03,10.20,10.10,10.25,10.05,2000,2030000.0,2.0,-0.98,-0.10,1.0",
)


async def test_daily_bars_are_in_shares_and_yuan_with_the_reference_price(sites, source):
    sites.answers[KLINE] = klines(*DAY_LINES)
    rows, _ = await fetch(source(), "bar_1d", "600000.SH")
    assert [r["symbol"] for r in rows] == ["600000.SH", "600000.SH"]
    assert [r["trade_date"] for r in rows] == [date(2024, 1, 2), date(2024, 1, 3)]
    assert next((r["open"], r["high"], r["low"], r["close"]) for r in rows) == (10.0, 10.3, 9.9, 10.2)
    assert [r["pre_close"] for r in rows] == [10.0, 10.2]
    assert [r["volume"] for r in rows] == [100_000, 200_000]
    assert [r["amount"] for r in rows] == [1_015_000.0, 2_030_000.0]
    assert [r["turnover"] for r in rows] == [0.5, 1.0]
    asked = sites.queries[0]
    assert (asked["secid"], asked["beg"], asked["end"], asked["fqt"]) == ("1.600000", "20240102", "20240105", "0")


async def test_funds_and_indices_are_asked_for_on_their_own_exchange(sites, source):
    opened = source()
    sites.answers[KLINE] = klines(*DAY_LINES, code="510300")
    rows, _ = await fetch(opened, "bar_1d", "510300.SH")
    assert (rows[0]["symbol"], rows[0]["volume"]) == ("510300.SH", 100_000)
    sites.answers[KLINE] = klines("2024-01-02,3400.1,3390.2,3410.0,3380.0,1000,5000000.0,1.0", code="000300")
    rows, _ = await fetch(opened, "bar_1d", "000300.SH")
    assert (rows[0]["symbol"], rows[0]["volume"], rows[0]["pre_close"]) == ("000300.SH", 100_000, None)
    assert [q["secid"] for q in sites.queries] == ["1.510300", "1.000300"]


@pytest.mark.parametrize("symbol", ["900901.SH", "689009.SZ"])
async def test_a_symbol_that_akshare_would_seek_on_the_wrong_exchange_is_not_asked(sites, source, symbol):
    with pytest.raises(Unsupported):
        await fetch(source(), "bar_1d", symbol)
    assert not sites.queries


async def test_an_answer_of_another_symbol_is_not_taken(sites, source):
    sites.answers[KLINE] = klines(*DAY_LINES, code="000001")
    with pytest.raises(Malformed, match="the answer is of 000001"):
        await fetch(source(), "bar_1d", "600000.SH")


@pytest.mark.parametrize("body", ['{"data":null}', '{"data":{"code":"600000","klines":[]}}'])
@pytest.mark.parametrize(
    ("name", "symbol"),
    [("bar_1d", "600000.SH"), ("bar_1d", "000300.SH"), ("bar_1w", "510300.SH"), ("bar_5m", "600000.SH")],
)
async def test_no_rows_is_a_frame_without_rows_whatever_akshare_makes_of_it(sites, source, name, symbol, body):
    sites.answers[KLINE] = lambda _: body.replace("600000", symbol[:6])
    rows, frames = await fetch(source(), name, symbol)
    assert rows == []
    assert [f.dataset.name for f in frames] == [name]


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (lambda _: HTML, Malformed, "web page"),
        (lambda _: "<html>请完成滑块验证</html>", Banned, "shuts this address out"),
        (lambda _: (403, HTML), Banned, "403"),
        (lambda _: (456, ""), Banned, "456"),
        (lambda _: (502, HTML), Unreachable, "502"),
        (lambda _: '{"rc":0}', Malformed, "data"),
        (klines("2024-01-02,1,1,1,1,1,1.0,1,1,1,1,1"), Malformed, "Length mismatch"),
        (klines("2024-01-02,1,1,1,1,1,1.0,1,1,1"), Malformed, "Length mismatch"),
    ],
)
async def test_what_is_no_answer_is_a_typed_failure(sites, source, answer, error, said):
    sites.answers[KLINE] = answer
    with pytest.raises(error, match=said):
        await fetch(source(), "bar_1d", "600000.SH")


async def test_two_dropped_connections_open_the_breaker_and_nothing_more_is_asked(sites, source):
    sites.answers[KLINE] = lambda _: None
    opened = source()
    with pytest.raises((Banned, Unreachable)):
        await fetch(opened, "bar_1d", "600000.SH")
    with pytest.raises(Banned) as banned:
        await fetch(opened, "bar_1d", "600000.SH")
    assert banned.value.until >= NOW + timedelta(minutes=29)
    assert sites.asked[KLINE] == 2


async def test_minute_bars_know_that_an_open_of_zero_is_unknown(sites, source):
    lines = ["2024-01-05 09:31,0.0,10.1,10.2,10.0,30,30300.0,10.1", "2024-01-05 09:32,10.1,10.0,10.1,9.9,5,5000.0,10.1"]
    sites.answers[TRENDS] = lambda _: json.dumps({"data": {"trends": lines}})
    rows, _ = await fetch(source(), "bar_1m", "600000.SH")
    assert [r["open"] for r in rows] == [None, 10.1]
    assert [r["volume"] for r in rows] == [3000, 500]
    assert [r["bar_time"].strftime("%H:%M %z") for r in rows] == ["09:31 +0800", "09:32 +0800"]


SPOT_KEYS = (*range(1, 19), 20, 21, 22, 23, 24, 25, 62, 115, 128, 136, 140, 141, 152)


def spot_row(number, code):
    row = {f"f{k}": 1.0 for k in SPOT_KEYS}
    prices = {
        "f2": 10.0,
        "f3": float(number),
        "f5": 123,
        "f6": 123_000.0,
        "f15": 11.0,
        "f16": 9.0,
        "f17": 9.5,
        "f18": 9.9,
    }
    return {**row, **prices, "f12": code, "f14": "name"}


def spot(rows, total=None, per_page=2):
    def answer(query):
        page = int(query["pn"])
        part = rows[(page - 1) * per_page : page * per_page]
        return json.dumps({"data": {"total": total or len(rows), "diff": part}})

    return answer


async def test_a_snapshot_of_the_market_is_stamped_with_its_receipt(sites, source):
    rows = [spot_row(1, "600000"), spot_row(2, "000001"), {**spot_row(3, "920819"), "f2": "-", "f5": "-"}]
    sites.answers[CLIST] = spot(rows)
    found, _ = await fetch(source(), "quote")
    by_symbol = {r["symbol"]: r for r in found}
    assert set(by_symbol) == {"600000.SH", "000001.SZ", "920819.BJ"}
    first = by_symbol["600000.SH"]
    assert (first["last"], first["open"], first["high"], first["low"], first["pre_close"]) == (
        10.0,
        9.5,
        11.0,
        9.0,
        9.9,
    )
    assert (first["volume"], first["amount"], first["ts"]) == (12_300, 123_000.0, NOW)
    assert (by_symbol["920819.BJ"]["last"], by_symbol["920819.BJ"]["volume"]) == (None, None)


async def test_a_snapshot_that_lacks_rows_the_server_counts_is_malformed(sites, source):
    rows = [spot_row(n, f"60000{n}") for n in range(4)]

    def repeats(query):  # the second page is the first one again
        return spot(rows)({"pn": "1"} if query["pn"] == "2" else query)

    sites.answers[CLIST] = repeats
    with pytest.raises(Malformed, match="pages are missing"):
        await fetch(source(), "quote")


async def test_a_snapshot_that_loses_its_second_page_is_no_snapshot(sites, source):
    rows = [spot_row(n, f"60000{n}") for n in range(4)]
    sites.answers[CLIST] = lambda query: None if query["pn"] == "2" else spot(rows)(query)
    with pytest.raises((Unreachable, Banned)):
        await fetch(source(), "quote")


async def test_a_snapshot_whose_columns_changed_places_is_malformed(sites, source):
    row = dict(reversed(spot_row(1, "600000").items()))
    sites.answers[CLIST] = spot([row])
    with pytest.raises(Malformed, match="order"):
        await fetch(source(), "quote")


async def test_the_order_book_of_a_locked_stock_has_nulls_where_nobody_asks(sites, source):
    data = {f"f{n}": 1 for n in range(1, 300)}
    data |= {
        "f57": "600000",
        "f43": 11.0,
        "f47": 500,
        "f48": 55_000.0,
        "f60": 10.0,
        "f19": 11.0,
        "f20": 7,
        "f17": 10.99,
    }
    data |= {f"f{n}": "-" for n in range(31, 41)}
    sites.answers[QUOTE_EM] = lambda _: json.dumps({"data": data})
    ((row,), _) = await fetch(source(), "quote", "600000.SH")
    assert (row["bid_price1"], row["bid_volume1"], row["bid_price2"]) == (11.0, 700, 10.99)
    assert (row["ask_price1"], row["ask_volume1"], row["ask_volume5"]) == (None, None, None)
    assert (row["last"], row["volume"], row["amount"], row["pre_close"]) == (11.0, 50_000, 55_000.0, 10.0)


async def test_trades_of_one_second_are_numbered_and_what_the_auction_only_shows_is_left_out(sites, source):
    lines = [
        "09:20:00,9.9,100,0,4",
        "09:25:00,10.0,50,3,4",
        "09:30:00,10.0,2,1,2",
        "09:30:00,10.1,3,1,1",
        "09:30:03,10.1,1,1,2",
    ]
    sites.answers[TICKS_EM] = lambda _: "data: " + json.dumps({"data": {"details": lines}}) + "\n\n"
    day = Window(date(2024, 1, 5), date(2024, 1, 6))
    rows, _ = await fetch(source(), "tick", "600000.SH", window=day)
    assert [(r["ts"].strftime("%d %H:%M:%S"), r["seq"]) for r in rows] == [
        ("05 09:25:00", 0),
        ("05 09:30:00", 0),
        ("05 09:30:00", 1),
        ("05 09:30:03", 0),
    ]
    assert [r["side"] for r in rows] == ["N", "B", "S", "B"]
    assert [r["volume"] for r in rows] == [5000, 200, 300, 100]


@pytest.mark.parametrize("nothing", [{"details": []}, None], ids=["no trades", "no data"])
async def test_a_symbol_that_did_not_trade_has_no_rows_and_costs_the_others_none(sites, source, nothing):
    def answer(query):
        data = nothing if query["secid"] == "0.000001" else {"details": ["09:30:00,10.0,2,1,2"]}
        return "data: " + json.dumps({"data": data}) + "\n\n"

    sites.answers[TICKS_EM] = answer
    day = Window(date(2024, 1, 5), date(2024, 1, 6))
    rows, _ = await fetch(source(), "tick", "600000.SH", "000001.SZ", "600001.SH", window=day)
    assert [r["symbol"] for r in rows] == ["600000.SH", "600001.SH"]
    assert [q["secid"] for q in sites.queries] == ["1.600000", "0.000001", "1.600001"], "it is no failure to repeat"


async def test_trades_of_a_later_hour_are_another_days_and_so_is_what_is_shown_at_the_close_then(sites, source):
    lines = ["09:25:00,10.0,50,3,4", "10:30:00,10.0,2,1,2", "14:59:57,10.0,2,1,2"]
    sites.answers[TICKS_EM] = lambda _: "data: " + json.dumps({"data": {"details": lines}}) + "\n\n"
    opened, day = source(), NOW.astimezone(ZONE).date()
    found = {}
    try:
        for clock in ("09:30", "15:01", "10:40", "15:02"):
            moment = datetime.combine(day, time.fromisoformat(clock), ZONE).astimezone(UTC)
            opened._clock = lambda moment=moment: moment
            rows, _ = await fetch(opened, "tick", "600000.SH", window=Window(day, day + timedelta(days=1)))
            found[clock] = len(rows)
            if clock == "15:01":
                del lines[-1]
    finally:
        opened._clock = lambda: NOW
    assert found == {"09:30": 0, "15:01": 0, "10:40": 2, "15:02": 2}


async def test_one_symbols_failure_is_raised_after_the_others_rows(sites, source):
    def answer(query):
        whole = "data: " + json.dumps({"data": {"details": ["09:30:00,10.0,2,1,2"]}}) + "\n\n"
        return whole[:20] if query["secid"] == "0.000001" else whole

    sites.answers[TICKS_EM] = answer
    day = Window(date(2024, 1, 5), date(2024, 1, 6))
    wanted = tuple(parse(s) for s in ("000001.SZ", "600000.SH", "430047.BJ", "600001.SH"))
    rows = []

    async def gather():
        async for frame in source().fetch(Request(dataset("tick"), day, wanted)):
            rows.extend(frame.rows.to_pylist())

    with pytest.raises(Malformed, match=r"1 of 4 symbols could not be had, such as 000001\.SZ"):
        await gather()
    assert {r["symbol"] for r in rows} == {"600000.SH", "430047.BJ", "600001.SH"}
    with pytest.raises(Malformed):
        await fetch(source(), "tick", "000001.SZ", window=day)


def tencent(pages):
    def answer(query):
        number = int(query["p"])
        return pages[number] if number < len(pages) else ""

    return answer


FIRST = 'v_detail_data_sz000001=[0,"0/09:25:00/9.19/0.00/7174/6592906/S|1/09:30:00/9.20/0.01/10/9200/B"]'
SECOND = 'v_detail_data_sz000001=[1,"2/09:30:00/9.20/0.00/20/18400/M"]'
FRIDAY = Window(date(2024, 1, 5), date(2024, 1, 6))


async def test_tencents_pages_of_trades_make_one_day(sites, source):
    sites.answers[TICKS_TX] = tencent([FIRST, SECOND])
    rows, _ = await fetch(source("akshare-tencent"), "tick", "000001.SZ", window=FRIDAY)
    assert [(r["seq"], r["side"], r["volume"], r["amount"]) for r in rows] == [
        (0, "S", 717_400, 6_592_906.0),
        (0, "B", 1000, 9200.0),
        (1, "N", 2000, 18_400.0),
    ]


@pytest.mark.parametrize(
    ("page", "error"), [((502, HTML), Unreachable), (HTML, Malformed), (SECOND[:45], Malformed), (None, Unreachable)]
)
async def test_a_page_of_trades_that_akshare_loses_in_silence_is_noticed(sites, source, page, error):
    sites.answers[TICKS_TX] = lambda query: [FIRST, page][int(query["p"])] if int(query["p"]) < 2 else ""
    with pytest.raises((error, Banned)):
        await fetch(source("akshare-tencent"), "tick", "000001.SZ", window=FRIDAY)


SINA = "finance.sina.com.cn"


async def test_factors_include_the_one_in_force_when_the_window_begins(sites, source):
    data = [{"d": "2024-01-04", "f": "2.5"}, {"d": "2023-06-15", "f": "2.0"}, {"d": "1900-01-01", "f": "1.0"}]
    body = "var sh600000hfq=" + json.dumps({"total": 3, "data": data}) + "\n/* comment */"
    sites.answers[(SINA, "/realstock/company/sh600000/hfq.js")] = lambda _: body
    rows, _ = await fetch(source("akshare-sina"), "adj_factor", "600000.SH", window=WEEK)
    assert [(r["trade_date"], r["factor"]) for r in rows][-2:] == [(date(2023, 6, 15), 2.0), (date(2024, 1, 4), 2.5)]


async def test_the_calendar_has_every_day_and_says_which_are_open(sites, source):
    days = ["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05", "2024-01-08"]
    body = f'var datelist="{quote(json.dumps(days))}";'
    sites.answers[(SINA, "/realstock/company/klc_td_sh.txt")] = lambda _: body
    window = Window(date(2024, 1, 1), date(2025, 1, 1))
    rows, _ = await fetch(source("akshare-sina"), "calendar", window=window)
    assert [(r["trade_date"].day, r["is_open"]) for r in rows] == [
        (2, True),
        (3, True),
        (4, True),
        (5, True),
        (6, False),
        (7, False),
        (8, True),
    ]
    assert {r["exchange"] for r in rows} == {"SH"}


async def test_sinas_daily_bars_are_in_shares_and_percent(sites, source):
    bars = [{"date": "2024-01-02", "open": 10, "high": 11, "low": 9, "close": 10.5, "volume": 1000, "amount": 10_200}]
    sites.answers[(SINA, "/realstock/company/sh600000/hisdata_klc2/klc_kl.js")] = lambda _: (
        f'var x="{quote(json.dumps(bars))}";'
    )
    shares = "/stock/api/jsonp.php/var%20KKE_ShareAmount_sh600000=/StockService.getAmountBySymbol"
    sites.answers[("stock.finance.sina.com.cn", shares)] = lambda _: '(([{date:"2023-01-01",amount:"10"}]))'
    rows, _ = await fetch(source("akshare-sina"), "bar_1d", "600000.SH")
    assert [(r["volume"], r["amount"], r["turnover"], r["pre_close"]) for r in rows] == [(1000, 10_200.0, 1.0, None)]


@pytest.mark.parametrize(("symbol", "volume"), [("000001.SZ", 100_000), ("600000.SH", 100_000), ("688981.SH", 1000)])
async def test_tencents_volumes_are_shares_for_every_board(sites, source, symbol, volume):
    code = symbol[-2:].lower() + symbol[:6]
    line = ["2024-01-02", "10", "10.2", "10.3", "9.9", "1000", {}, "0.5", "102.0"]
    body = "kline_day2024=" + json.dumps({"data": {code: {"day": [line]}}})
    sites.answers[("proxy.finance.qq.com", "/ifzqgtimg/appstock/app/newfqkline/get")] = lambda _: body
    trend = {"code": 0, "data": [["2020-01-02", "1", "1", "1", "1", "1"]]}
    start = "/other/klineweb/klineWeb/weekTrends"
    sites.answers[("web.ifzq.gtimg.cn", start)] = lambda _: "trend_qfq=" + json.dumps(trend)
    rows, _ = await fetch(source("akshare-tencent"), "bar_1d", symbol)
    assert [(r["volume"], r["amount"], r["turnover"]) for r in rows] == [(volume, 1_020_000.0, 0.5)]


def sheet(**columns):
    import pandas as pd  # noqa: PLC0415 - what the exchange's site would send

    target = io.BytesIO()
    pd.DataFrame(columns).to_excel(target, index=False)
    return target.getvalue()


def sse(query):
    if query["COMPANY_STATUS"] == "3":
        rows = [
            {
                "COMPANY_CODE": "600001",
                "COMPANY_ABBR": "邯郸钢铁",
                "LIST_DATE": "1998-01-22",
                "DELIST_DATE": "2009-12-29",
            }
        ]
    else:
        code = "688981" if query["STOCK_TYPE"] == "8" else "600000"
        rows = [
            {
                "A_STOCK_CODE": code,
                "SEC_NAME_CN": "浦发银行",
                "SEC_NAME_FULL": "浦发",
                "COMPANY_ABBR": "浦发",
                "FULL_NAME": "浦发",
                "LIST_DATE": "19991110",
            }
        ]
    return json.dumps({"result": rows, "pageHelp": {"total": len(rows)}})


def szse(query):
    if query["CATALOGID"] == "1110":
        return sheet(
            板块=["主板"], A股代码=["000001"], A股简称=["平安银行"], A股上市日期=["1991-04-03"], 所属行业=["J 金融业"]
        )
    return sheet(证券代码=["000003"], 证券简称=["PT金田"], 上市日期=["1991-07-03"], 终止上市日期=["2002-06-14"])


def bse(_):
    row = {f"x{n:02}": "" for n in range(48)}
    row |= {"x00": "20210101", "x17": "制造业", "x22": "20240105", "x29": "江苏省"}
    row |= {"x38": "920819", "x40": "颖泰生物"}
    return "null(" + json.dumps([{"totalPages": 1, "totalElements": 1, "content": [row]}]) + ")"


async def test_the_exchanges_lists_give_listed_and_delisted_stocks(sites, source):
    pytest.importorskip("openpyxl")
    sites.answers[("query.sse.com.cn", "/sseQuery/commonQuery.do")] = sse
    sites.answers[("query.sse.com.cn", "/commonQuery.do")] = sse
    sites.answers[("www.szse.cn", "/api/report/ShowReport")] = szse
    sites.answers[("www.bse.cn", "/nqxxController/nqxxCnzq.do")] = bse
    rows, _ = await fetch(source("akshare-exchanges"), "instrument")
    found = {r["symbol"]: (r["exchange"], r["status"], r["name"], r["list_date"], r["delist_date"]) for r in rows}
    assert found == {
        "600001.SH": ("SH", "D", "邯郸钢铁", date(1998, 1, 22), date(2009, 12, 29)),
        "000003.SZ": ("SZ", "D", "PT金田", date(1991, 7, 3), date(2002, 6, 14)),
        "600000.SH": ("SH", "L", "浦发银行", date(1999, 11, 10), None),
        "688981.SH": ("SH", "L", "浦发银行", date(1999, 11, 10), None),
        "000001.SZ": ("SZ", "L", "平安银行", date(1991, 4, 3), None),
        "920819.BJ": ("BJ", "L", "颖泰生物", date(2021, 1, 1), None),
    }
    assert {r["asset_type"] for r in rows} == {"stock"}


async def test_a_list_shorter_than_the_exchange_counts_is_malformed(sites, source):
    body = json.dumps({"result": json.loads(sse({"COMPANY_STATUS": "3"}))["result"], "pageHelp": {"total": 2}})
    sites.answers[("query.sse.com.cn", "/commonQuery.do")] = lambda _: body
    with pytest.raises(Malformed, match="pages are missing"):
        await fetch(source("akshare-exchanges"), "instrument")


async def test_probe_makes_one_call(sites, source):
    data = {f"f{n}": 1 for n in range(1, 300)} | {"f57": "600519"}
    sites.answers[QUOTE_EM] = lambda _: json.dumps({"data": data})
    await source().probe()
    assert sum(sites.asked.values()) == 1


@pytest.mark.parametrize("name", sorted(FAMILIES))
async def test_every_offer_names_a_dataset_and_every_family_is_its_own(name):
    family = FAMILIES[name]
    assert set(family.offers) <= set(DATASETS)
    assert [f.family for f in FAMILIES.values()].count(family.family) == 1
