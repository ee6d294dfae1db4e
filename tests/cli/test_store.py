"""Commands that read and mend what is stored; no vendor takes part."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import csv, ipc, parquet

from mystocks_ingest.market.datasets import ADJ_FACTOR, BAR_1D, CALENDAR, INSTRUMENT, Dataset
from mystocks_ingest.market.sessions import today
from mystocks_ingest.monitor.journal import EmbeddedJournal
from mystocks_ingest.ports import DeadLetter
from mystocks_ingest.schema import tables
from mystocks_ingest.sinks.embedded import EmbeddedDatabase, EmbeddedSink

ROOT = Path(__file__).parents[2]
FETCHED = datetime(2024, 3, 1, 8, 0, tzinfo=UTC)
SESSIONS = [date(2024, 1, 2) + timedelta(days=i) for i in (0, 1, 2, 3, 6, 7, 8, 9, 10)]  # no week-end
CLOSES = [10.0, 10.1, 10.2, 10.3, 10.4, 10.5, 10.6, 10.7]  # the last session has no bar


def batch(wanted: Dataset, rows: list[dict[str, object]]) -> pa.RecordBatch:
    whole = [{"source": "tushare", "fetched_at": FETCHED, "provisional": False} | row for row in rows]
    return pa.RecordBatch.from_pylist(whole, schema=wanted.schema)


def bar(symbol: str, day: date, close: float, pre_close: float, **changed: object) -> dict[str, object]:
    price = {"open": pre_close, "high": max(close, pre_close), "low": min(close, pre_close), "close": close}
    traded = {"pre_close": pre_close, "volume": 1000, "amount": 1000 * (close + pre_close) / 2}
    return {"symbol": symbol, "trade_date": day, **price, **traded} | changed


def bars(symbol: str) -> list[dict[str, object]]:
    before = [9.9, *CLOSES]
    return [bar(symbol, d, c, p) for d, c, p in zip(SESSIONS, CLOSES, before, strict=False)]


def letter(row: dict[str, object], *, rule: str, at: datetime = FETCHED) -> DeadLetter:
    whole = batch(BAR_1D, [row]).to_pylist()[0]
    raw = json.dumps({"ts_code": row["symbol"], "vol": "10.00", "close": row["close"]})
    text = json.dumps(whole, default=str)
    return DeadLetter("bar_1d", "tushare", str(row["symbol"]), str(row["trade_date"]), rule, "a reason", raw, text, at)


@pytest.fixture
def store(state: Path) -> Path:
    """Bars and factors of two stocks, one of which lacks its last session, and two dead letters."""

    async def fill() -> None:
        desired = tables.load(ROOT / "config" / "tables.yaml").placed(())
        days = [SESSIONS[0] + timedelta(days=i) for i in range(365 * 3)]
        given = {
            BAR_1D: [*bars("600000.SH"), *bars("000001.SZ")],
            ADJ_FACTOR: [
                {"symbol": "600000.SH", "trade_date": SESSIONS[0], "factor": 1.0},
                {"symbol": "600000.SH", "trade_date": SESSIONS[4], "factor": 2.0},
            ],
            CALENDAR: [{"exchange": "SH", "trade_date": d, "is_open": d.weekday() < 5} for d in days],
            INSTRUMENT: [
                {"symbol": s, "exchange": s[-2:], "asset_type": "stock", "status": "L", "list_date": date(1999, 11, 10)}
                for s in ("600000.SH", "000001.SZ")
            ],
        }
        async with EmbeddedDatabase(state) as database:
            sink = await EmbeddedSink.opened(database, desired.all)
            for wanted, rows in given.items():
                await sink.write(desired.holder(wanted), batch(wanted, rows))
            journal = await EmbeddedJournal.opened(database, now=lambda: FETCHED)
            good = bar("600000.SH", SESSIONS[8], 10.8, 10.7)
            bad = bar("000001.SZ", SESSIONS[8], -1.0, 10.7)
            await journal.bury([letter(good, rule="session"), letter(bad, rule="price")])

    asyncio.run(fill())
    return state


def test_read_prints_a_table(command, store: Path) -> None:
    ended = command("read", "bar_1d", "600000", "--from", "2024-01-03", "--to", "20240104", "--columns", "symbol,close")
    assert ended.code == 0, ended
    assert [line.split() for line in ended.out.splitlines() if "600000" in line] == [
        ["600000.SH", "10.1"],
        ["600000.SH", "10.2"],
    ]


def test_read_adjusts_prices_forward_and_back(command, store: Path) -> None:
    def closes(how: str) -> list[float]:
        ended = command("read", "bar_1d", "600000.SH", "--adjust", how, "--columns", "close", "--json")
        return [row["close"] for row in json.loads(ended.out)]

    assert closes("none") == CLOSES
    assert closes("back") == [10.0, 10.1, 10.2, 10.3, 20.8, 21.0, 21.2, 21.4]
    assert closes("forward") == [5.0, 5.05, 5.1, 5.15, 10.4, 10.5, 10.6, 10.7]


def test_every_format_holds_the_same_rows(command, store: Path, tmp_path: Path) -> None:
    rows = {}
    for form in ("csv", "parquet", "arrow"):
        file = tmp_path / f"bars.{form}"
        ended = command("read", "bar_1d", "--format", form, "--output", str(file))
        assert (ended.code, ended.out) == (0, ""), ended
        match form:
            case "csv":
                rows[form] = csv.read_csv(file)
            case "parquet":
                rows[form] = parquet.read_table(file)
            case _:
                rows[form] = ipc.open_stream(file).read_all()
    assert rows["arrow"].num_rows == 16
    assert rows["arrow"].equals(rows["parquet"])
    assert rows["arrow"]["close"].to_pylist() == rows["csv"]["close"].to_pylist()
    assert rows["arrow"]["symbol"].to_pylist() == rows["csv"]["symbol"].to_pylist()
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["bars.arrow", "bars.csv", "bars.parquet"]


def test_read_sends_parquet_through_a_pipe(store: Path) -> None:
    words = [sys.executable, "-m", "mystocks_ingest", "read", "bar_1d", "000001.SZ", "--format", "parquet"]
    done = subprocess.run(words, capture_output=True, check=True)
    assert parquet.read_table(pa.BufferReader(done.stdout)).num_rows == 8


def test_read_limits_rows(command, store: Path) -> None:
    assert len(json.loads(command("read", "bar_1d", "--limit", "3", "--json").out)) == 3


def test_nothing_stored_is_an_empty_answer_with_a_hint(command, store: Path) -> None:
    ended = command("read", "bar_1d", "600519.SH", "--json")
    assert (ended.code, json.loads(ended.out)) == (0, [])
    assert "backfill --dataset bar_1d --symbols 600519.SH" in ended.err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["read", "bars"], ["unknown dataset 'bars'", "bar_1d"]),
        (["read", "bar_1d", "60000X"], ["60000X"]),
        (["read", "bar_1d", "--columns", "klose"], ["no column 'klose'", "close"]),
        (["read", "calendar", "--adjust", "back"], ["--adjust", "calendar"]),
        (["read", "bar_1d", "--from", "2024-02-01", "--to", "2024-01-01"], ["--from 2024-02-01 is after"]),
        (["read", "bar_1d", "--format", "csv", "--output", "no/such/folder.csv"], ["no/such"]),
        (["dead-letters", "show", "99"], ["99", "dead-letters list"]),
        (["dead-letters", "replay"], ["say which"]),
        (["backfill", "--dataset", "bar1d"], ["unknown dataset 'bar1d'"]),
        (["backfill", "--symbols", "600000.XX"], ["600000.XX"]),
        (["backfill", "--source", "tuchare", "--symbols", "600000.SH"], ["tuchare", "tushare"]),
        (["backfill", "--from", "2024-02-01", "--to", "2024-01-01"], ["--from 2024-02-01 is after", "exchange"]),
        (["backfill", "--to", "2199-01-01"], ["--to 2199-01-01", "future"]),
        (["backfill", "--universe", "no/such.txt"], ["no/such.txt", "one symbol a line"]),
        (["backfill", "--universe", "everything"], ["everything", "hs300"]),
        (["backfill", "--dataset", "quote"], ["quote", "bar_1d"]),
        (["sources", "test", "tuchare"], ["tuchare", "tushare"]),
    ],
)
def test_a_wrong_argument_is_one_sentence_and_exit_2(command, store: Path, argv: list[str], words: list[str]) -> None:
    sentence = command(*argv, env={"TUSHARE_ENDPOINT": "http://127.0.0.1:9/dataapi"}).sentence()
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MYSTOCKS_STORES", "oracle", "unknown store oracle"),
        ("MYSTOCKS_CALL_DEADLINE", "soon", "MYSTOCKS_CALL_DEADLINE"),
        ("MYSTOCKS_LOG_LEVEL", "loud", "MYSTOCKS_LOG_LEVEL"),
        ("MYSTOCKS_LOG_FORMAT", "xml", "console or json"),
        ("MYSTOCKS_CONFIG_DIR", "no-such-folder", "no-such-folder"),
        ("MYSTOCKS_STATE_DIR", "/dev/null", "/dev/null"),
    ],
)
def test_a_wrong_setting_is_one_sentence_and_exit_2(command, name: str, value: str, words: str) -> None:
    assert words in command("read", "bar_1d", env={name: value}).sentence()


def test_a_file_of_symbols_is_read_and_its_faults_are_placed(command, store: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("﻿# mine\n600000.SH, Pudong\nsz000001\n\n60000X\n", encoding="utf-8")
    sentence = command("gaps", "--universe", str(file)).sentence()
    assert "mine.txt, line 5" in sentence


def test_dead_letters_are_listed_and_counted(command, store: Path) -> None:
    listed = json.loads(command("dead-letters", "list", "--json").out)
    assert [(c["rule"], c["rows"]) for c in listed["counts"]] == [("price", 1), ("session", 1)]
    assert {e["symbol"] for e in listed["letters"]} == {"600000.SH", "000001.SZ"}
    one = json.loads(command("dead-letters", "list", "--symbol", "600000", "--json").out)
    assert [e["rule"] for e in one["letters"]] == ["session"]
    shown = command("dead-letters", "list").out
    assert "a reason" in shown
    assert "dead-letters show" in shown


def test_a_dead_letter_is_shown_as_the_vendor_sent_it(command, store: Path) -> None:
    listed = json.loads(command("dead-letters", "list", "--rule", "session", "--json").out)
    number = str(listed["letters"][0]["id"])
    ended = command("dead-letters", "show", number)
    assert ended.code == 0
    assert "10.00" in ended.out
    assert json.loads(command("dead-letters", "show", number, "--json").out)["raw"]["vol"] == "10.00"


def test_replay_stores_what_passes_now_and_keeps_the_rest(command, store: Path) -> None:
    ended = command("dead-letters", "replay", "--all", "--json")
    assert ended.code == 3, ended
    done = json.loads(ended.out)
    assert done["stored"] == {"bar_1d": 1}
    assert [r["rows"] for r in done["refused"]] == [1]
    stored = json.loads(command("read", "bar_1d", "600000.SH", "--from", "2024-01-12", "--json").out)
    assert [(r["trade_date"], r["close"]) for r in stored] == [("2024-01-12", 10.8)]
    left = json.loads(command("dead-letters", "list", "--json").out)
    assert [e["rule"] for e in left["letters"]] == ["price"]
    assert command("dead-letters", "replay", "--rule", "session").out == "no such dead letters\n"


def test_a_store_in_use_names_its_owner(program, store: Path) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from mystocks_ingest.sinks.embedded import EmbeddedDatabase\n"
        "async def hold():\n"
        f"    async with EmbeddedDatabase(Path({str(store)!r})):\n"
        "        print('open', flush=True)\n"
        "        await asyncio.to_thread(sys.stdin.read)\n"
        "asyncio.run(hold())"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"open\n"
        ended = program("read", "bar_1d")
        doctor = program("doctor", "--json")
        owner.communicate(b"")
    assert str(owner.pid) in ended.sentence()
    assert str(owner.pid) in doctor.out


def test_doctor_says_where_each_setting_came_from_and_shows_no_secret(command, store: Path) -> None:
    Path(".env").write_text("TUSHARE_TOKEN=0123456789abcdef-secret\nTUSHARE_POINTS=5000\n", encoding="utf-8")
    ended = command("doctor", "--json", env={"MYSTOCKS_LOG_LEVEL": "error"})
    told = json.loads(ended.out)
    settings = {s["name"]: (s["shown"], s["origin"]) for s in told["settings"]}
    assert settings["TUSHARE_TOKEN"] == ("set, hidden", ".env")
    assert settings["TUSHARE_POINTS"] == ("5000", ".env")
    assert settings["MYSTOCKS_LOG_LEVEL"] == ("error", "environment")
    assert settings["MYSTOCKS_STORES"] == ("", "default")
    for form in ((), ("--json",)):
        shown = command("doctor", *form)
        assert "abcdef-secret" not in shown.out + shown.err


def test_doctor_alarms_when_the_calendar_ends_soon(command, store: Path) -> None:
    before = today(datetime.now(UTC))
    findings = {f["what"]: f for f in json.loads(command("doctor", "--json").out)["findings"]}
    assert findings["state directory"]["health"] == "ok"
    assert findings["store"]["health"] == "ok"
    calendar = findings["calendar"]
    ends = SESSIONS[0] + timedelta(days=365 * 3 - 1)
    horizons = [(ends - day).days for day in (before, today(datetime.now(UTC)))]  # it may be midnight meanwhile
    assert (calendar["health"] == "wrong") in [horizon < 30 for horizon in horizons]


def test_doctor_names_a_state_directory_that_cannot_be_written(program, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    ended = program("doctor", "--json", env={"MYSTOCKS_STATE_DIR": str(file)})
    assert ended.code == 3
    assert [f["what"] for f in json.loads(ended.out)["findings"] if f["health"] == "wrong"] == ["state directory"]
    assert "Traceback" not in ended.err


def test_sources_lists_everyone_without_calling_anyone(command, store: Path) -> None:
    ended = command("sources", "--json", env={"TUSHARE_TOKEN": "0123456789abcdef-secret"})
    assert ended.code == 0, ended
    entries = {e["source"]: e for e in json.loads(ended.out)}
    assert {"tushare", "baostock"} <= set(entries)
    assert "bar_1d" in entries["tushare"]["datasets"]
    assert entries["tushare"]["state"] == "ready"
    assert entries["files"]["state"].startswith("not set up")
    assert "abcdef-secret" not in ended.out + command("sources").out


@pytest.mark.parametrize("token", [None, ""])
def test_a_source_without_its_account_is_not_asked_by_auto(
    command, store: Path, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    if token is not None:
        monkeypatch.setenv("TUSHARE_TOKEN", token)
    entries = {e["source"]: e for e in json.loads(command("sources", "--json").out)}
    assert entries["tushare"]["state"] == "not asked by auto"
    assert entries["baostock"]["state"] == "ready"


def test_gaps_are_the_sessions_without_a_bar(command, store: Path) -> None:
    words = ("gaps", "--symbols", "600000.SH,000001.SZ", "--from", "2024-01-02")
    ended = command(*words, "--to", "2024-01-12", "--json")
    assert ended.code == 3, ended
    gaps = json.loads(ended.out)["gaps"]
    assert [(g["symbol"], g["sessions"]) for g in gaps] == [("000001.SZ", 1), ("600000.SH", 1)]
    assert gaps[0]["windows"] == [{"from": "2024-01-12", "to": "2024-01-12"}]
    shown = command(*words, "--to", "2024-01-12")
    assert "2 sessions of 2 symbols" in shown.out
    assert "backfill --dataset bar_1d --from 2024-01-02 --to 2024-01-12" in shown.out
    complete = command(*words, "--to", "2024-01-11")
    assert (complete.code, "no gaps" in complete.out) == (0, True)


@pytest.mark.parametrize("argv", [["gaps"], ["gaps", "--symbols", "600000.SH"]])
def test_gaps_of_a_fresh_store_say_what_to_fetch_first(command, argv: list[str]) -> None:
    assert "backfill --dataset calendar" in command(*argv).sentence()


@pytest.mark.parametrize("argv", [["dead-letters", "list"], ["dead-letters", "replay", "--all"], ["read", "bar_1d"]])
def test_a_fresh_store_holds_nothing_and_that_is_no_error(command, argv: list[str]) -> None:
    ended = command(*argv)
    assert ended.code == 0, ended
    assert "no " in ended.out + ended.err


def test_doctor_is_content_with_a_fresh_store(command) -> None:
    ended = command("doctor", "--json")
    assert ended.code == 0, ended
    assert {f["what"]: f["health"] for f in json.loads(ended.out)["findings"]}["calendar"] == "note"
