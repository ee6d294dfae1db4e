"""Lanes: whatever a vendor's package does in its process, the parent gets a typed answer in time."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime

import psutil
import pyarrow as pa
import pytest
import pytest_asyncio

from mystocks_ingest import logs
from mystocks_ingest.errors import Banned, Denied, Limited, Malformed, Unreachable
from mystocks_ingest.sources.lane import Lane, Lanes, Setup

HERE = "lane_functions"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def steady():
    """A lane whose process lasts: for calls that do not end it."""
    lane = Lane("vendor")
    await ask(lane, "me")
    yield lane
    await lane.aclose()


@pytest.fixture
async def lane():
    lane = Lane("vendor")
    yield lane
    await lane.aclose()  # conftest fails the test when a process is left behind


async def ask(lane, function, *, deadline=20, **arguments):
    return await lane.call(f"{HERE}:{function}", arguments, deadline=deadline)


async def gone(pid, seconds=30.0):
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        await asyncio.sleep(0.02)
    return False


@pytest.mark.asyncio(loop_scope="module")
async def test_a_data_frame_arrives_as_one_batch_with_plain_types(steady):
    rows = (await ask(steady, "frame", rows=3)).rows
    assert rows.num_rows == 3
    assert rows.schema.field("ts_code").type == pa.string()
    assert rows.column("mixed").to_pylist() == ["1.5", "-", "-"]
    assert rows.schema.field("day").type == pa.date32()
    assert rows.column("nothing").null_count == 3
    assert rows.column("vol").to_pylist() == [864193.99] * 3


@pytest.mark.asyncio(loop_scope="module")
async def test_an_empty_frame_keeps_its_columns(steady):
    rows = (await ask(steady, "frame", rows=0)).rows
    assert (rows.num_rows, rows.schema.names[0], len(rows.schema)) == (0, "ts_code", 5)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_large_frame_arrives_whole(steady):
    assert (await ask(steady, "frame", rows=300_000)).rows.num_rows == 300_000


@pytest.mark.asyncio(loop_scope="module")
async def test_an_arrow_table_and_a_value_arrive_together(steady):
    answer = await ask(steady, "arrow_and_value")
    assert answer.rows.column("a").to_pylist() == [1, 2]
    assert answer.value == {"calls": 2}


async def test_one_process_answers_many_calls_and_one_at_a_time(lane):
    pids = await asyncio.gather(*(ask(lane, "me") for _ in range(5)))
    assert len({p.value for p in pids}) == 1
    assert pids[0].value == lane.pid != os.getpid()


@pytest.mark.parametrize("trouble", ["spin", "spin_holding_the_interpreter", "block"])
async def test_a_call_past_its_deadline_is_killed_and_the_next_one_served(lane, trouble):
    before = (await ask(lane, "me")).value
    with pytest.raises(Unreachable, match=r"no answer within 0\.5 s"):
        await asyncio.wait_for(ask(lane, trouble, deadline=0.5), 30)  # it would last for ever
    assert await gone(before)
    assert (await ask(lane, "me")).value != before


async def test_a_cancelled_call_takes_its_process_with_it(lane):
    pid = (await ask(lane, "me")).value
    task = asyncio.create_task(ask(lane, "spin", deadline=60))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(pid)
    assert (await ask(lane, "me")).value != pid


async def test_a_lane_killed_from_outside_is_unreachable_once_and_then_back(lane):
    pid = (await ask(lane, "me")).value
    task = asyncio.create_task(ask(lane, "block", deadline=60))
    await asyncio.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Unreachable, match="signal 9"):
        await task
    assert (await ask(lane, "me")).value != pid


async def test_a_lane_killed_while_idle_is_not_noticed_by_the_next_call(lane):
    pid = (await ask(lane, "me")).value
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(30):
        while lane.pid is not None:  # noqa: ASYNC110  # a process gives no event
            await asyncio.sleep(0.01)
    assert (await ask(lane, "me")).value != pid


async def test_a_vendor_that_ends_the_process_is_unreachable_with_its_last_words(lane):
    with pytest.raises(Unreachable, match="exit code 7"):
        await ask(lane, "end")


async def test_bytes_that_are_no_answer_end_the_lane(lane):
    with pytest.raises(Unreachable, match="where an answer was due"):  # and not that it was late
        await ask(lane, "scribble_on_the_protocol")
    assert (await ask(lane, "me")).value


@pytest.mark.asyncio(loop_scope="module")
async def test_what_a_vendor_prints_never_disturbs_the_answer(steady):
    assert (await ask(steady, "shout", lines=2000)).value == "done"
    assert (await ask(steady, "me")).value


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("denied", Denied),
        ("limited", Limited),
        ("banned", Banned),
        ("unreachable", Unreachable),
        ("key", Malformed),
        ("json", Malformed),
        ("aborted", Unreachable),
        ("slow", Unreachable),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_errors_cross_the_pipe_as_ours(steady, kind, error):
    pid = (await ask(steady, "me")).value
    with pytest.raises(error) as caught:
        await ask(steady, "fail", kind=kind)
    assert type(caught.value) is error
    if isinstance(caught.value, Limited):
        assert caught.value.until == datetime(2026, 11, 21, 16, tzinfo=UTC)
    if kind == "unreachable":
        assert caught.value.after == 3.0
    if kind == "key":
        assert "KeyError" in str(caught.value)
    assert (await ask(steady, "me")).value == pid, "an error is an answer, not a reason to end the process"


@pytest.mark.asyncio(loop_scope="module")
async def test_an_exit_of_the_vendor_is_malformed_and_the_lane_lives(steady):
    with pytest.raises(Malformed, match="SystemExit"):
        await ask(steady, "leave")
    assert (await ask(steady, "me")).value


async def test_secrets_are_removed_from_errors(monkeypatch):
    monkeypatch.setattr(logs, "_secrets", set())
    lane = Lane("vendor", secrets=["s3cret-t0ken"])
    try:
        with pytest.raises(Denied) as caught:
            await ask(lane, "fail", kind="denied", text="token s3cret-t0ken is wrong")
        assert "s3cret" not in str(caught.value)
    finally:
        await lane.aclose()


async def test_secrets_are_in_neither_the_environment_nor_the_arguments(lane, monkeypatch):
    monkeypatch.setenv("TUSHARE_TOKEN", "s3cret-t0ken")
    said = (await ask(lane, "environment")).value
    assert "s3cret-t0ken" not in str(said)
    assert said["env"]["TQDM_DISABLE"] == "1"
    assert said["home"] == os.devnull


async def test_http_calls_without_a_time_out_get_one(lane):
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts in the backlog, never answers
        await ask(lane, "read_for", seconds=1.0)
        started = time.monotonic()
        with pytest.raises(Unreachable, match="timed out"):
            await lane.call(f"{HERE}:get", {"url": f"http://127.0.0.1:{server.getsockname()[1]}/"}, deadline=40)
        assert 0.9 < time.monotonic() - started < 35


async def test_the_setup_is_repeated_in_every_new_process():
    lane = Lane("vendor", setup=Setup(f"{HERE}:remember", {"endpoint": "here"}))
    try:
        assert (await ask(lane, "recall")).value == {"endpoint": "here"}
        with pytest.raises(Unreachable):
            await ask(lane, "end")
        assert (await ask(lane, "recall")).value == {"endpoint": "here"}
    finally:
        await lane.aclose()


async def test_a_failed_setup_is_the_answer_and_leaves_no_process():
    lane = Lane("vendor", setup=Setup(f"{HERE}:refuse_to_start", {}))
    for _ in range(2):
        with pytest.raises(Denied, match="no such token"):
            await ask(lane, "me")
        assert lane.pid is None
    await lane.aclose()


async def test_an_idle_lane_ends_and_starts_again():
    lane = Lane("vendor", idle_seconds=0.2)
    try:
        pid = (await ask(lane, "me")).value
        assert await gone(pid)
        assert (await ask(lane, "me")).value != pid
    finally:
        await lane.aclose()


async def test_a_grandchild_goes_with_its_lane(lane):
    pid = (await ask(lane, "leave_a_grandchild")).value
    await lane.aclose()
    assert await gone(pid)


async def test_several_lanes_work_at_once_and_the_spare_one_stays_down():
    lanes = Lanes([Lane(f"vendor-{n}") for n in range(2)])
    try:
        first = (await ask(lanes, "me")).value
        assert (await ask(lanes, "me")).value == first
        assert [lane.pid for lane in lanes.lanes].count(None) == 1
        both = await asyncio.gather(ask(lanes, "me"), ask(lanes, "me"))
        assert len({a.value for a in both}) == 2
    finally:
        await lanes.aclose()


@pytest.mark.parametrize("trouble", ["block", "spin", "spin_holding_the_interpreter"])
async def test_a_lane_dies_with_its_parent_even_in_the_middle_of_a_call(trouble):
    program = textwrap.dedent(f"""
        import asyncio
        from mystocks_ingest import logs
        from mystocks_ingest.sources.lane import Lane
        logs.configure()
        async def main():
            lane = Lane("vendor")
            print((await lane.call("lane_functions:me", {{}}, deadline=30)).value, flush=True)
            await lane.call("lane_functions:{trouble}", {{}}, deadline=600)
        asyncio.run(main())
    """)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=env)  # noqa: ASYNC220  # its death is the test
    try:
        pid = int(await asyncio.to_thread(parent.stdout.readline))
        await asyncio.sleep(0.3)
        assert psutil.pid_exists(pid)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    assert await gone(pid)
