"""What the service answers, asked over a real socket."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families
from pyarrow import csv, ipc
from website import NOW, TOKEN, Site, opened_site

from mystocks_ingest import logs
from mystocks_ingest.errors import Unavailable
from mystocks_ingest.monitor.health import Kind, Part, State
from mystocks_ingest.ports import Run
from mystocks_ingest.web.limits import Limits
from mystocks_ingest.web.tokens import Tokens

pytestmark = pytest.mark.asyncio(loop_scope="module")
OPEN = ("/", "/openapi.json", "/health", "/health/live", "/health/ready", "/metrics")
TICK = {"symbol": "600519", "ts": "2024-06-03T10:00:00+08:00", "seq": 0, "price": 1700.25, "volume": 100}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with opened_site(tmp_path_factory.mktemp("site")) as opened:
        yield opened


@pytest.mark.parametrize("path", OPEN)
async def test_health_and_metrics_need_no_token(site: Site, path: str) -> None:
    assert (await site.get(path, token=None)).status == 200


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", TOKEN[:-1], "\xfc"])
async def test_everything_else_is_refused_without_a_valid_token(site: Site, token: str | None) -> None:
    described = json.loads((await site.get("/openapi.json", token=None)).body)["paths"]
    guarded = [(path, method) for path, methods in described.items() if path not in OPEN for method in methods]
    assert len(guarded) > 20
    for path, method in guarded:
        got = await site.ask(method.upper(), path.replace("{", "").replace("}", ""), token=token, body=b"{}")
        assert got.status == 401, path
        assert list(got.json) == ["error"]
    assert (await site.get("/nothing/here", token=token)).status == 401


async def test_a_token_in_another_scheme_or_in_the_address_is_none(site: Site) -> None:
    got = await site.get("/api/v1/runs", token=None, headers={"Authorization": f"Basic {TOKEN}"})
    assert got.status == 401
    assert (await site.get(f"/api/v1/runs?token={TOKEN}", token=None)).status == 401


async def test_ready_is_503_only_while_monitoring_should_page(site: Site) -> None:
    assert (await site.get("/health/ready", token=None)).status == 200
    banned = Part("tushare", Kind.SOURCE, State.DOWN, "banned until 10:00", NOW, figures={"calls_left": 0.0})
    site.desk.parts = (banned,)
    quiet = await site.get("/health/ready", token=None)
    assert (quiet.status, quiet.json["state"], quiet.json["paging"]) == (200, "degraded", [])
    site.desk.parts = (banned, Part("redis", Kind.SINK, State.DOWN, "no answer", NOW, page=True))
    paging = await site.get("/health/ready", token=None)
    assert (paging.status, paging.json["ready"], paging.json["paging"]) == (503, False, ["sink redis: no answer"])
    assert paging.json["parts"][0]["name"] == "redis"
    whole = await site.get("/health", token=None)
    assert (whole.status, whole.json["state"]) == (200, "down")
    assert whole.json["parts"]["source"][0]["figures"] == {"calls_left": 0}
    assert (await site.get("/health/live", token=None)).status == 200
    told = {f.name: f for f in text_string_to_metric_families((await site.get("/metrics")).body.decode())}
    assert told["mystocks_ready"].samples[0].value == 0
    assert {s.labels["part"]: s.value for s in told["mystocks_part_state"].samples} == {"tushare": 2, "redis": 2}
    site.desk.parts = ()


async def test_no_secret_is_in_an_answer(site: Site) -> None:
    logs.hide(["pa55word-of-redis"])
    site.desk.parts = (Part("redis", Kind.SINK, State.DOWN, "AUTH pa55word-of-redis failed", NOW, page=True),)
    site.desk.away = Unavailable("redis://me:pa55word-of-redis@nas refused pa55word-of-redis")
    try:
        for path in ("/health", "/health/ready", "/api/v1/read/tick?symbols=600519&from=2024-06-03"):
            got = await site.get(path)
            assert b"***" in got.body
            assert b"pa55word" not in got.body
        setting = await site.get("/api/v1/read/setting")
        assert setting.status == 404
    finally:
        site.desk.parts, site.desk.away = (), None


async def test_what_was_delivered_is_read_back_in_each_form(site: Site) -> None:
    rows = [{**TICK, "symbol": "000001.SZ", "seq": n, "price": 10.5 + n} for n in range(5)]
    got = await site.deliver("tick", rows)
    assert (got.status, got.json["accepted"], got.json["refused"]) == (200, 5, 0)
    path = "/api/v1/read/tick?symbols=sz000001&from=2024-06-03&to=2024-06-03&limit=4"
    as_json = await site.get(path)
    assert as_json.json["truncated"] is True
    assert [r["price"] for r in as_json.json["rows"]] == [10.5, 11.5, 12.5, 13.5]
    assert as_json.json["rows"][0]["ts"] == "2024-06-03T10:00:00+08:00"
    assert as_json.json["rows"][0]["source"] == "push:client"
    as_arrow = await site.get(path, headers={"Accept": "application/vnd.apache.arrow.stream"})
    table = ipc.open_stream(as_arrow.body).read_all()
    assert table.column("price").to_pylist() == [10.5, 11.5, 12.5, 13.5]
    assert as_arrow.headers["x-truncated"] == "true"
    as_csv = await site.get(path, headers={"Accept": "text/csv, */*;q=0.1"})
    assert csv.read_csv(io.BytesIO(as_csv.body)).column("price").to_pylist() == [10.5, 11.5, 12.5, 13.5]
    nothing = await site.get("/api/v1/read/tick?symbols=000002&from=2024-06-03", headers={"Accept": "text/csv"})
    assert (nothing.status, nothing.body.count(b"\n")) == (200, 1)


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("read/nonsense", 404, "no dataset"),
        ("read/tick", 413, "name symbols"),
        ("read/bar_1d?symbols=nonsense", 400, "nonsense"),
        ("read/bar_1d?from=yesterday", 422, "2024-01-31"),
        ("read/bar_1d?from=2024-06-03&to=2024-06-01", 400, "exchange"),
        ("read/bar_1d?limit=0", 422, "limit"),
        ("read/tick?symbols=600519&from=2024-06-03&adjust=back", 400, "bars"),
        ("gaps?from=2010-01-01", 413, "days"),
        ("gaps", 400, "calendar"),
        ("nothing", 404, "nothing"),
        ("jobs/", 404, "nothing"),
        ("read/bar_1d?symbol=600519", 422, "there are symbols, from, to, adjust, limit"),
        ("jobs?limit=1", 422, "there is none"),
        ("read/exchange?symbols=600519", 400, "not kept by symbol"),
        ("dead-letters?dataset=nonsense", 404, "no dataset"),
    ],
)
async def test_a_mistake_is_one_sentence(site: Site, path: str, status: int, says: str) -> None:
    got = await site.get(f"/api/v1/{path}")
    assert (got.status, list(got.json)) == (status, ["error"])
    assert says in got.json["error"]


async def test_a_body_that_does_not_fit_is_refused_whole_and_names_the_cells(site: Site) -> None:
    before = await site.stored_rows()
    wrong = [
        ({**TICK, "colour": "red"}, "no column 'colour'"),
        ({k: v for k, v in TICK.items() if k != "price"}, "price: it is missing"),
        ({**TICK, "price": "1700"}, "not a finite number"),
        ({**TICK, "price": True}, "not a finite number"),
        ({**TICK, "volume": 1.5}, "not an integer"),
        ({**TICK, "seq": 2**31}, "not an integer"),
        ({**TICK, "ts": "yesterday"}, "not a time"),
        ({**TICK, "ts": 1717380000}, "not a time"),
        ({**TICK, "symbol": "??"}, "no symbol"),
        ({**TICK, "side": "a\u0000b"}, "not one of B, S, N"),
        ({**TICK, "side": "up"}, "not one of B, S, N"),
        ({**TICK, "source": "tushare"}, "no column 'source'"),
    ]
    for row, says in wrong:
        got = await site.deliver("tick", [{**TICK, "symbol": "600000"}, row])
        assert got.status == 422, row
        assert says in got.json["error"]
    assert await site.stored_rows() == before


@pytest.mark.parametrize("strategy", ["", "  ", "x" * 51, "a\u0000b", "\ud800"])
async def test_a_text_that_a_table_cannot_hold_is_refused_before_any_table_has_it(site: Site, strategy: str) -> None:
    row = {"strategy": strategy, "ts": "2024-06-03T09:59:00+08:00", "symbol": "600519", "side": "B"}
    got = await site.deliver("signal", [row])
    assert (got.status, "a text of 1 to 50 characters" in got.json["error"]) == (422, True)
    assert (await site.deliver("signal", [{**row, "strategy": "策" * 50}])).status == 200


async def test_either_side_is_stored_in_one_spelling(site: Site) -> None:
    sides = ["B", "buy", "BUY", "买入", "S", "Sell", "n", None]
    rows = [{**TICK, "symbol": "600038", "seq": n, "side": side} for n, side in enumerate(sides)]
    assert (await site.deliver("tick", rows)).json["accepted"] == len(sides)
    stored = sorted((r["seq"], r["side"]) for r in await site.stored("tick") if r["symbol"] == "600038.SH")
    assert [side for _, side in stored] == ["B", "B", "B", "B", "S", "S", "N", None]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b'{"rows": [{"price": NaN}]}', 400),
        (b'{"rows": [{"price": 1, "price": 2}]}', 400),
        (b"[" * 100_000, 400),
        (b'{"rows": [{"price": ' + b"9" * 10_000 + b"}]}", 400),
        (b"[]", 422),
        (b"null", 422),
        (b'{"rows": []}', 422),
        (b'{"rows": [1]}', 422),
        (b'{"rows": {}}', 422),
        (b'{"rows": [], "more": 1}', 422),
    ],
)
async def test_a_body_that_is_no_list_of_rows_is_refused(site: Site, body: bytes, status: int) -> None:
    got = await site.ask("POST", "/api/v1/ingest/tick", headers={"Content-Type": "application/json"}, body=body)
    assert (got.status, list(got.json)) == (status, ["error"])


async def test_rows_that_fail_a_check_are_named_and_become_dead_letters(site: Site) -> None:
    rows = [{**TICK, "symbol": "600036", "seq": n, "price": -1 if n in (1, 3) else 10} for n in range(4)]
    got = await site.deliver("tick", list(reversed(rows)))
    assert (got.status, got.json["accepted"], got.json["refused"]) == (200, 2, 2)
    assert [line["row"] for line in got.json["rows"]] == [0, 2]
    assert {line["rule"] for line in got.json["rows"]} == {"price_not_positive"}
    letters = await site.get("/api/v1/dead-letters?dataset=tick&source=push:client")
    assert len(letters.json) == 2
    none = await site.deliver("tick", [{**TICK, "symbol": "600037", "price": -1}])
    assert (none.status, none.json["accepted"]) == (422, 0)
    assert "price is -1" in none.json["error"]
    assert not [r for r in await site.stored("tick") if r["symbol"] == "600037.SH"]


async def test_the_same_key_is_carried_out_once(site: Site) -> None:
    row = {"account": "a1", "ts": "2024-06-03T10:00:00+08:00", "cash": 100.0}
    key = {"Idempotency-Key": "4711"}
    took = site.desk.took
    first = await site.deliver("account", [row], headers=key)
    again = await site.deliver("account", [row], headers=key)
    assert (first.status, again.json, site.desk.took) == (200, first.json, took + 1)
    other = await site.deliver("account", [{**row, "cash": 5.0}], headers=key)
    assert other.status == 409
    assert [r["cash"] for r in await site.stored("account") if r["account"] == "a1"] == [100.0]
    assert (await site.deliver("account", [row], headers={"Idempotency-Key": "k" * 300})).status == 422


async def test_a_delivery_while_the_store_is_away_may_be_repeated_with_its_key(site: Site) -> None:
    row = {"account": "a2", "ts": "2024-06-03T10:00:00+08:00", "cash": 1.0}
    site.desk.away = Unavailable("postgresql does not answer", after=7)
    key = {"Idempotency-Key": "k2"}
    refused = await site.deliver("account", [row], headers=key)
    site.desk.away = None
    assert (refused.status, refused.headers["retry-after"]) == (503, "7")
    assert (await site.deliver("account", [row], headers=key)).json["accepted"] == 1


@pytest.mark.parametrize("name", ["calendar", "instrument", "setting", "nonsense"])
async def test_what_the_service_leans_on_is_not_delivered(site: Site, name: str) -> None:
    assert (await site.deliver(name, [{}])).status == 404


async def test_every_kind_that_strategies_and_gateways_have_is_taken(site: Site) -> None:
    at = {"ts": "2024-06-03T10:00:00"}  # without a zone: Shanghai's
    order = {"account": "a", "order_id": "1", **at, "symbol": "600519", "side": "B", "volume": 100, "status": "new"}
    fill = {"account": "a", "fill_id": "1", "order_id": "1", **at, "symbol": "600519", "side": "B", "price": 1700.0}
    taken = {
        "order": order,
        "fill": {**fill, "volume": 100},
        "position": {"account": "a", "symbol": "600519", **at, "volume": 100},
        "account": {"account": "a", **at, "cash": 1.0},
        "signal": {"strategy": "s", "symbol": "600519", **at, "side": "B"},
    }
    for name, row in taken.items():
        got = await site.deliver(name, [row])
        assert got.status == 200, got.body
        (stored,) = [r for r in await site.stored(name) if r.get("account", r.get("strategy")) in ("a", "s")]
        assert stored["ts"].astimezone(UTC) == datetime(2024, 6, 3, 2, tzinfo=UTC)


async def test_another_type_or_a_compressed_body_is_refused(site: Site) -> None:
    for headers in ({"Content-Type": "text/csv"}, {"Content-Encoding": "gzip", "Content-Type": "application/json"}):
        got = await site.ask("POST", "/api/v1/ingest/tick", headers=headers, body=b"{}")
        assert got.status == 415


async def test_jobs_are_shown_started_paused_and_resumed(site: Site) -> None:
    (job,) = (await site.get("/api/v1/jobs")).json
    assert (job["name"], job["paused"], job["next_at"]) == ("close", False, NOW.isoformat())
    assert (await site.ask("POST", "/api/v1/jobs/close/pause")).status == 202
    assert (await site.get("/api/v1/jobs")).json[0]["paused"] is True
    assert (await site.ask("POST", "/api/v1/jobs/close/resume")).json == {"job": "close", "done": "resumed"}
    assert (await site.ask("POST", "/api/v1/jobs/close/run")).status == 202
    assert (await site.ask("POST", "/api/v1/jobs/close/run")).status == 409
    assert (await site.ask("POST", "/api/v1/jobs/other/run")).status == 404
    assert (await site.ask("POST", "/api/v1/jobs/close/destroy")).status == 422


async def test_runs_and_datasets_are_listed(site: Site) -> None:
    await site.desk.service.journal.begin(Run("r1", "backfill", NOW, detail={"datasets": ["bar_1d"]}))
    (run,) = (await site.get("/api/v1/runs")).json
    assert (run["id"], run["status"], run["detail"]) == ("r1", "running", {"datasets": ["bar_1d"]})
    listed = {d["name"]: d for d in (await site.get("/api/v1/datasets")).json}
    assert listed["tick"]["ingest"] == "/api/v1/ingest/tick"
    assert listed["calendar"]["ingest"] is None
    assert listed["tick"]["tables"][0]["store"] == "embedded"


async def test_a_body_too_large_is_refused_however_it_is_announced(tmp_path: Path) -> None:
    async with opened_site(tmp_path, Limits(body_bytes=1000, delivered_rows=3)) as small:
        assert (await small.deliver("tick", [{**TICK, "seq": n} for n in range(3)])).status == 200
        assert (await small.deliver("tick", [{**TICK, "seq": n} for n in range(4)])).status == 422
        big = b" " * 2000
        headers = {"Content-Type": "application/json"}
        assert (await small.ask("POST", "/api/v1/ingest/tick", headers=headers, body=big)).status == 413
        chunked = iter([big])
        got = await small.ask("POST", "/api/v1/ingest/tick", headers=headers, body=chunked)  # type: ignore[arg-type]
        assert got.status == 413


async def test_who_asks_too_much_or_guesses_tokens_is_put_off(tmp_path: Path) -> None:
    async with opened_site(tmp_path, Limits(requests_per_second=0.01, burst=5, wrong_tokens=3)) as strict:
        assert [(await strict.get("/api/v1/runs")).status for _ in range(6)] == [200] * 5 + [429]
        put_off = await strict.get("/api/v1/runs")
        assert 1 <= int(put_off.headers["retry-after"]) <= 101
        assert list(put_off.json) == ["error"]
        guesses = [(await strict.get("/api/v1/runs", token="guess")).status for _ in range(5)]  # noqa: S106
        assert guesses == [401] * 3 + [429] * 2
        assert (await strict.get("/health/live", token=None)).status == 200


async def test_who_is_put_off_is_told_as_many_seconds_as_the_header_says(tmp_path: Path) -> None:
    async with opened_site(tmp_path, Limits(requests_per_second=0.01, burst=1)) as strict:
        assert (await strict.get("/api/v1/runs")).status == 200
        put_off = await strict.get("/api/v1/runs")
        assert put_off.json["error"].endswith(f"come again in {put_off.headers['retry-after']} s")
        assert [(await strict.get(path, token=None)).status for path in ("/", "/", "/health/live")] == [200, 429, 200]


async def test_one_token_has_so_many_requests_under_way_at_once_and_health_is_answered_meanwhile(
    tmp_path: Path,
) -> None:
    slow = Limits(requests_at_once=2, body_seconds=60)
    async with opened_site(tmp_path, slow) as site:
        head = f"POST /api/v1/ingest/tick HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 9\r\n\r\n"
        lines = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(2)]
        for _, writer in lines:
            writer.write(head.encode())

        async def put_off() -> bool:
            return (await site.get("/api/v1/jobs")).status == 429

        async with asyncio.timeout(30):
            while not await put_off():  # noqa: ASYNC110 - the server reads the heads when it does
                await asyncio.sleep(0.02)
        assert (await site.get("/health", token=None)).status == 200
        for reader, writer in lines:
            writer.write(b"{        ")
            assert b"400 Bad Request" in await reader.readline()
            writer.close()
        async with asyncio.timeout(30):
            while await put_off():  # noqa: ASYNC110 - they count until the server has closed their books
                await asyncio.sleep(0.02)


async def test_large_deliveries_take_turns(tmp_path: Path) -> None:
    turns = Limits(large_body_bytes=1000, large_bodies_at_once=1, body_seconds=0.3)
    async with opened_site(tmp_path, turns) as site:
        head = f"POST /api/v1/ingest/tick HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 2000\r\n\r\n"
        lines = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(2)]
        for _, writer in lines:
            writer.write(head.encode())  # and no body
        said = sorted([await reader.readline() for reader, _ in lines])
        assert said[0].startswith(b"HTTP/1.1 408")
        assert said[1].startswith((b"HTTP/1.1 408", b"HTTP/1.1 503"))  # its turn came, or did not
        for _, writer in lines:
            writer.close()
        async with asyncio.timeout(30):  # a busy machine may take longer than a body may
            while (await site.deliver("tick", [{**TICK, "seq": n} for n in range(30)])).status != 200:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.02)


async def test_pollers_may_ask_health_by_head(site: Site) -> None:
    for path in ("/", "/health/live", "/health", "/metrics"):
        got = await site.ask("HEAD", path, token=None)
        assert (got.status, got.body) == (200, b"")
    assert (await site.ask("HEAD", "/api/v1/runs")).status == 405


async def test_with_no_token_set_up_nobody_gets_in(tmp_path: Path) -> None:
    async with opened_site(tmp_path, tokens=Tokens({})) as closed:
        got = await closed.get("/api/v1/runs")
        assert (got.status, "MYSTOCKS_HTTP_TOKENS" in got.json["error"]) == (401, True)


async def test_a_defect_inside_is_one_sentence_and_tells_nothing(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.desk.away = KeyError("internal-detail")
    logs.configure(form="json", level="error")
    try:
        got = await site.get("/api/v1/read/tick?symbols=600519&from=2024-06-03")
        assert (got.status, list(got.json)) == (500, ["error"])
        assert b"internal-detail" not in got.body
        said = ""
        async with asyncio.timeout(30):
            while "request.failed" not in said or not said.endswith("\n"):  # it is logged once it is answered
                said += capsys.readouterr().err
                await asyncio.sleep(0.01)
        logged = json.loads(said.splitlines()[-1])
        assert (logged["event"], logged["request"]) == ("request.failed", got.headers["x-request-id"])
        assert "internal-detail" in logged["exception"]
    finally:
        site.desk.away = None


async def test_requests_are_counted_by_route_and_not_by_what_clients_write(site: Site) -> None:
    for n in range(5):
        await site.get(f"/api/v1/read/nothing-{n}")
        await site.get(f"/elsewhere/{n}")
    await site.ask("POST", "/api/v1/ingest/tick", headers={}, body=b"{}")
    text = ""
    async with asyncio.timeout(30):
        while 'route="/api/v1/ingest/tick"' not in text:  # it is counted once it is answered
            text = site.desk.metrics.text().decode()
            await asyncio.sleep(0.01)
    assert 'route="/api/v1/read/{dataset}"' in text
    assert "nothing-" not in text
    assert "elsewhere" not in text


async def test_a_wide_frame_of_arrow_is_whole(site: Site) -> None:
    rows = [{**TICK, "symbol": "600900", "seq": n} for n in range(7000)]
    assert (await site.deliver("tick", rows)).json["accepted"] == 7000
    path = "/api/v1/read/tick?symbols=600900&from=2024-06-03&limit=100000"
    got = await site.get(path, headers={"Accept": "application/vnd.apache.arrow.stream"})
    table: pa.Table = ipc.open_stream(got.body).read_all()
    assert sorted(table.column("seq").to_pylist()) == list(range(7000))
    assert len((await site.get(path)).json["rows"]) == 7000
