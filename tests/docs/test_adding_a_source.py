"""docs/adding-a-source.md, followed to the letter: its file and its entry point make a working source."""

import importlib
import json
import re
import sys
import threading
import tomllib
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import stamina

from mystocks_ingest.errors import ConfigError, Denied, Limited, Malformed, Unreachable, Unsupported
from mystocks_ingest.market.checks import Context, check
from mystocks_ingest.market.datasets import dataset
from mystocks_ingest.market.frames import Request, Window
from mystocks_ingest.market.symbols import parse
from mystocks_ingest.settings import Settings
from mystocks_ingest.sources.registry import names, open_source

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-source.md"
NOW = datetime(2024, 1, 31, 9, tzinfo=UTC)
JANUARY = Window(date(2024, 1, 2), date(2024, 1, 5))
ROWS = [
    {"ticker": "SH600000", "day": "2024-01-03", "open": 6.6, "high": 6.65, "low": 6.58, "close": 6.63, "prev": 6.61, "lots": 2000, "turnover_wan": 132.4},
    {"ticker": "SH600000", "day": "2024-01-02", "open": 6.63, "high": 6.7, "low": 6.6, "close": 6.61, "prev": 6.62, "lots": 3000, "turnover_wan": 199.5},
]  # fmt: skip


def block(language):
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return found


@pytest.fixture
def vendor():
    """Acme's server: ``answer`` is (status, body)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(parse_qs(urlsplit(self.path).query))
            status, body = self.server.answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []
    server.answer = (200, json.dumps({"total": len(ROWS), "rows": ROWS}).encode())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The page's file and its project table, as ``pip install`` leaves them in a site directory."""
    project = tomllib.loads(block("toml"))["project"]
    (tmp_path / "acme_source.py").write_text(block("python"), encoding="utf-8")
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = [
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in table.items())
        for group, table in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(points))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    sys.modules.pop("acme_source", None)


@pytest.fixture
async def acme(installed, vendor, monkeypatch):
    monkeypatch.setenv("ACME_TOKEN", "sesame-open")
    monkeypatch.setenv("ACME_ENDPOINT", f"http://127.0.0.1:{vendor.server_address[1]}")
    settings = Settings(MYSTOCKS_STATE_DIR=installed / "state")
    source = open_source("acme", settings, now=lambda: NOW)
    with stamina.set_testing(True, attempts=2):
        yield source
    await source.aclose()


async def fetch(source, symbol="600000.SH", name="bar_1d"):
    return [frame async for frame in source.fetch(Request(dataset(name), JANUARY, (parse(symbol),)))]


def test_an_installed_source_is_in_the_list(installed):
    assert "acme" in names()


async def test_its_rows_are_canonical_and_pass_the_checks(acme, vendor):
    (frame,) = await fetch(acme)
    found = [(r["symbol"], r["trade_date"], r["close"], r["volume"], r["amount"]) for r in frame.rows.to_pylist()]
    assert found == [
        ("600000.SH", date(2024, 1, 2), 6.61, 300_000, 1_995_000.0),
        ("600000.SH", date(2024, 1, 3), 6.63, 200_000, 1_324_000.0),
    ]
    assert frame.source == "acme"
    assert len(check(frame, Context(now=NOW)).accepted) == 2
    assert vendor.asked[0]["from"] == ["2024-01-02"]
    assert vendor.asked[0]["to"] == ["2024-01-04"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((401, b""), Denied),
        ((429, b""), Limited),
        ((502, b"<html>"), Unreachable),
        ((200, b"<html>"), Malformed),
        ((200, b'{"total": 3, "rows": []}'), Malformed),
        ((200, b'{"total": 1, "rows": [{"ticker": "SH600000"}]}'), Malformed),
    ],
)
async def test_its_failures_are_typed(acme, vendor, answer, error):
    vendor.answer = answer
    with pytest.raises(error) as raised:
        await fetch(acme)
    assert "sesame-open" not in str(raised.value)


async def test_no_rows_are_a_frame_without_rows(acme, vendor):
    vendor.answer = (200, b'{"total": 0, "rows": []}')
    assert [len(f) for f in await fetch(acme)] == [0]


async def test_what_it_does_not_offer_is_unsupported(acme):
    with pytest.raises(Unsupported):
        await fetch(acme, name="bar_5m")


async def test_probe_makes_one_call(acme, vendor):
    await acme.probe()
    assert len(vendor.asked) == 1


def test_a_missing_token_is_one_sentence(installed, monkeypatch):
    monkeypatch.delenv("ACME_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="set ACME_TOKEN"):
        open_source("acme", Settings(MYSTOCKS_STATE_DIR=installed / "state"), now=lambda: NOW)


def test_the_file_is_as_short_as_promised():
    assert 80 <= len(block("python").splitlines()) <= 150
