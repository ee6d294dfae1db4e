"""One id goes from whoever asked to the log lines, the run and the dead letters; secrets are in none of them."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import io
import json
from datetime import datetime
from pathlib import PurePosixPath

import pytest
import structlog
from daemon_inside import PATIENT, Inside, inside, true
from daemon_place import DAILY, Place

from mystocks_ingest import logs

pytestmark = pytest.mark.timeout(400)
TOKEN = "a-token-of-the-ids-0123456789"  # noqa: S105
BAD = {"symbol": "600000.SH", "ts": "2026-06-29T13:00:01+08:00", "last": 10.0, "open": 10.0, "high": 9.0, "low": 11.0,
       "pre_close": 10.0, "volume": 100, "amount": 1000.0}  # fmt: skip


async def posted(service: Inside, path: str, body: object, *, request: str) -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", service.daemon.http_port, timeout=PATIENT)
        try:
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", "X-Request-Id": request}
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.headers["X-Request-Id"]
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


async def test_an_id_goes_from_the_request_to_each_batch_the_run_and_the_dead_letters(place: Place, capfd) -> None:
    place.jobs(DAILY.replace("sessions: 40", "sessions: 3"))
    place.more = {"MYSTOCKS_HTTP_TOKENS": "me:" + hashlib.sha256(TOKEN.encode()).hexdigest()}
    logs.configure(form="json", level="info")
    try:
        async with inside(place, datetime.fromisoformat(place.at("20:00:00"))) as service:
            assert await posted(service, "/api/v1/ingest/quote", {"rows": [BAD]}, request="bad-row-1") == (
                422,
                "bad-row-1",
            )
            (letter,) = await service.daemon.service.journal.letters(dataset="quote", limit=10)
            assert letter.letter.run_id == "bad-row-1"
            assert (await posted(service, "/api/v1/jobs/daily/run", {}, request="ask-daily"))[0] < 300
            await true(lambda: service.daemon.schedule.known.get("daily") and
                       service.daemon.schedule.known["daily"].status in ("complete", "partial"))  # fmt: skip
            (run,) = await service.daemon.service.journal.runs(limit=5)
            assert run.detail["request"] == "ask-daily"
    finally:
        structlog.reset_defaults()
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    batches = [line for line in lines if line["event"] == "batch.taken"]
    of_run = [line for line in batches if line.get("run") == run.id]
    assert of_run
    assert all(line["request"] == "ask-daily" and line["job"] == "daily" for line in of_run)
    assert {line["dataset"] for line in of_run} >= {"bar_1d", "adj_factor"}
    assert [line["dataset"] for line in batches if line.get("request") == "bad-row-1"] == ["quote"]
    checkpoints = [line for line in lines if line["event"] == "backfill.checkpointed"]
    assert checkpoints
    assert {line["run"] for line in checkpoints} == {run.id}
    assert TOKEN not in json.dumps(lines)


def logged(**values: object) -> str:
    out = io.StringIO()
    before = structlog.get_config()
    try:
        logs.configure(form="json", level="info")
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(out))
        logs.get("test").info("thing.happened", **values)
    finally:
        structlog.configure(**before)
    return out.getvalue()


def test_secrets_are_hidden_by_their_key_however_deep_and_by_their_value_wherever_they_stand() -> None:
    secret = "zx81-very-secret-value"  # noqa: S105
    logs.hide([secret])
    said = logged(
        plain=f"see {secret}!",
        settings={"MYSQL_PASSWORD": "p1-hunter", "deep": [{"api_key": "k2-hunter"}, f"x={secret}"]},
        error=ValueError(f"refused {secret} at redis://me:p3-hunter@host/0"),
        raw=f"bytes {secret}".encode(),
        path=PurePosixPath(f"/run/{secret}"),
        url="http://host/path?access_token=t4-hunter&x=1",
        header="Authorization: Bearer b5-hunter",
        text='{"password": "q6-hunter", "user": "me"}',
        rows=3,
        ok=True,
    )
    for gone in (secret, "hunter"):
        assert gone not in said, said
    line = json.loads(said)
    assert (line["rows"], line["ok"], line["event"]) == (3, True, "thing.happened")
    assert line["settings"]["MYSQL_PASSWORD"] == logs.REDACTED
    assert '"user": "me"' in line["text"]
    assert line["url"].startswith("http://host/path?access_token=")
    assert line["url"].endswith("&x=1")


def test_ids_are_bound_while_the_work_lasts_and_a_run_within_a_request_keeps_both() -> None:
    assert logs.trace() == ""
    with logs.traced(request="r1"):
        assert logs.trace() == "r1"
        with logs.traced(run="x9"):
            assert (logs.trace(), logs.trace("request")) == ("x9", "r1")
            assert json.loads(logged())["request"] == "r1"
    assert logs.trace() == ""
