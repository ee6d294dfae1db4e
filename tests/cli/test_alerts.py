"""``alerts`` lists the rules and what fires, and sends a test message to real receivers on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from mystocks_ingest.monitor import standings
from mystocks_ingest.monitor.firing import Standing
from mystocks_ingest.monitor.standings import Memory

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # one of apprise's
TOKEN = "hookTokenNobodyMaySee"  # noqa: S105 - made up


@dataclass
class Hook:
    address: str
    got: list[dict[str, str]] = field(default_factory=list)
    status: int = 200


@pytest.fixture
def hook() -> Iterator[Hook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.got.append(json.loads(body))
            self.send_response(made.status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - likewise
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Hook(f"json://127.0.0.1:{server.server_port}/{TOKEN}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield made
        server.shutdown()
        thread.join()


def test_the_list_has_every_rule_and_says_that_nobody_looked_yet(command) -> None:
    shown = command("alerts", "list")
    assert shown.code == 0
    for word in ("data_freshness", "above 24 h", "disk_usage", "above 80 %", "spool_growing", "sent to: log"):
        assert word in shown.out
    assert "the service has not looked at them yet" in shown.out
    said = json.loads(command("alerts", "list", "--json").out)
    assert (said["at"], said["current"]) == (None, False)
    assert {"rule", "condition", "severity", "firing"} <= set(said["rules"][0])


def test_the_list_says_what_fires_and_whether_the_service_still_looks(command, state: Path) -> None:
    now = datetime.now(UTC)
    firing = Standing("disk_usage", "disk state", "warning", now, 91.0, "91 % (alert above 80 %)", told_at=now)
    held = Standing("slow_query", "sink mysql", "warning", now, 6.0, "6 s")  # not for long enough yet
    state.mkdir(parents=True, exist_ok=True)
    standings.write(state / standings.FILE, Memory(now, (firing, held), measured=frozenset({"slow_query"})))
    assert (state / standings.FILE).stat().st_mode & 0o077 == 0
    shown = command("alerts", "list").out
    assert "disk state: 91 % (alert above 80 %)" in shown
    assert "sink mysql" not in shown
    lines = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert "not measured at present" in lines["checkpoint_stuck"]
    assert "not measured" not in lines["slow_query"]
    assert "not running" not in shown
    standings.write(state / standings.FILE, Memory(now - timedelta(hours=1), (firing,)))
    assert "the service is not running, or hangs" in command("alerts", "list").out
    assert json.loads(command("alerts", "list", "--json").out)["current"] is False


def test_a_test_message_arrives_and_what_happened_is_said_without_the_address(command, hook: Hook) -> None:
    gone = f"json://127.0.0.1:1/{TOKEN}"
    ended = command("alerts", "test", "--json", env={"MYSTOCKS_ALERT_URLS": f"{hook.address} {gone}"})
    assert ended.code == 3
    assert [(s["channel"], s["arrived"]) for s in json.loads(ended.out)] == [("webhook 1", True), ("webhook 2", False)]
    assert [m["title"] for m in hook.got] == ["[mystocks] test message"]
    assert TOKEN not in ended.out + ended.err
    assert command("alerts", "test", "--channel", "webhook 1").code == 0
    hook.status = 500
    refused = command("alerts", "test", "--channel", "webhook 1")
    assert (refused.code, "failed" in refused.out, TOKEN in refused.out + refused.err) == (3, True, False)
    assert TOKEN not in command("doctor", "--json").out
    assert TOKEN not in command("alerts", "list").out


def test_mistakes_are_one_sentence(command) -> None:
    assert "set MYSTOCKS_ALERT_URLS" in command("alerts", "test").sentence()
    assert "there are: log" in command("alerts", "test", "--channel", "slack").sentence()
    said = command("alerts", "test", env={"MYSTOCKS_ALERT_URLS": TOKEN}).sentence()
    assert "address 1 has no scheme" in said
    assert TOKEN not in said
