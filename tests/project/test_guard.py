"""The loopback guard itself: it refuses, it is inherited, and nothing gets out."""

from __future__ import annotations

import multiprocessing
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ELSEWHERE = ("192.0.2.1", 9)  # TEST-NET-1 (RFC 5737): nobody's address


@pytest.fixture
def guard_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    log = tmp_path / "refused"
    log.touch()
    monkeypatch.setenv("MYSTOCKS_GUARD_LOG", str(log))
    return log


def test_a_connection_to_another_machine_is_refused_before_a_packet_leaves(guard_log: Path) -> None:
    with socket.socket() as sock, pytest.raises(PermissionError, match="only loopback"):
        sock.connect(ELSEWHERE)
    assert "192.0.2.1" in guard_log.read_text()


def test_a_datagram_to_another_machine_is_refused(guard_log: Path) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock, pytest.raises(PermissionError):
        sock.sendto(b"x", ELSEWHERE)
    assert "192.0.2.1" in guard_log.read_text()


def test_a_name_is_not_even_resolved(guard_log: Path) -> None:
    with pytest.raises(PermissionError):
        socket.getaddrinfo("api.waditu.com", 80)
    with pytest.raises(PermissionError):
        socket.gethostbyname("public-api.baostock.com")
    with socket.socket() as sock, pytest.raises(PermissionError):
        sock.connect(("public-api.baostock.com", 10030))  # resolved in C
    assert len(guard_log.read_text().splitlines()) == 3


def test_loopback_is_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("localhost", port)):
            pass


TRY = f"""
import socket
try:
    socket.create_connection({ELSEWHERE!r}, 2)
except PermissionError:
    print("refused")
"""


def test_a_child_started_by_command_inherits_the_guard(guard_log: Path) -> None:
    done = subprocess.run([sys.executable, "-c", TRY], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "refused"
    assert "192.0.2.1" in guard_log.read_text()


def _try_to_leave(answer: multiprocessing.SimpleQueue[str]) -> None:
    try:
        socket.create_connection(ELSEWHERE, 2)
    except PermissionError:
        answer.put("refused")
    else:
        answer.put("got out")


def test_a_child_of_multiprocessing_inherits_the_guard(guard_log: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answer = context.SimpleQueue()
    child = context.Process(target=_try_to_leave, args=(answer,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert answer.get() == "refused"
    assert "192.0.2.1" in guard_log.read_text()


def test_a_swallowed_refusal_is_still_seen(refused_connections: Path) -> None:
    before = refused_connections.read_text()
    with socket.socket() as sock, pytest.raises(PermissionError):
        sock.connect(ELSEWHERE)
    noted = refused_connections.read_text()
    assert len(noted) > len(before)
    refused_connections.write_text(before)  # this one was meant
