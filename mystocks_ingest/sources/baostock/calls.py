"""The lane's side of baostock: a guarded socket, one login, whole answers or an error.

Left alone the package loops for ever when the server closes, waits for ever when it is silent, ends a result at the
first page that fails, and cannot join pages with today's pandas (so ``get_data`` is never used). One process may hold
one connection only; this file is used by exactly one lane.
"""

from __future__ import annotations

import importlib
import random
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from mystocks_ingest.errors import (
    Banned,
    ConfigError,
    Denied,
    IngestError,
    Limited,
    Malformed,
    Unreachable,
    Unsupported,
)

DEFAULT_PORT = 10030
QUERIES_A_LOGIN = 200  # longer connections get dropped
_UNPAGED = frozenset({"query_daily_history_k_AStock", "query_daily_history_k_ETF", "query_daily_adjust_factor"})
_NOT_LOGGED_IN = "10001001"
_BROKEN = frozenset({f"100020{n:02d}" for n in range(1, 9)})
_UPGRADE = "Upgrade the baostock package: the server no longer speaks with this version."
_FINAL = {
    "10001002": "Baostock refuses the user or password.",
    "10001003": "Baostock refuses the user.",
    "10001004": _UPGRADE,
    "10001006": "The account has no right to this data.",
    "10001007": "The account is not activated.",
    "10001008": "The user name is empty.",
    "10001009": "The password is empty.",
    "10001012": "BAOSTOCK_API_KEY is not a key of Baostock: 33 characters, beginning with bs-.",
}
_NOT_OFFERED = frozenset({"10004011", "10004013", "10004014", "10004015"})
_BAN = timedelta(hours=6)
_LOGIN_PAUSE = timedelta(minutes=10)


class GuardedSocket:
    """A socket that raises where the package would loop or wait for ever, and remembers why."""

    def __init__(self, timeout: float) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self.failure: OSError | None = None

    def connect(self, address: tuple[str, int]) -> None:
        self._keep(lambda: self._socket.connect(address))

    def send(self, data: bytes) -> int:
        self._keep(lambda: self._socket.sendall(data))
        return len(data)

    def recv(self, size: int) -> bytes:
        data = self._keep(lambda: self._socket.recv(size))
        if not data:
            self._keep(_closed)
        return bytes(data)

    def close(self) -> None:
        self._socket.close()

    def _keep(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except OSError as exc:
            self.failure = self.failure or exc  # the first one says why; those after it are its consequences
            raise


def _closed() -> None:
    raise ConnectionResetError("the server closed the connection in the middle of an answer")


@dataclass
class _Guarding:
    """Stands for the ``socket`` module inside the package: every socket it opens is guarded, the login's too."""

    timeout: float
    AF_INET: int = socket.AF_INET
    SOCK_STREAM: int = socket.SOCK_STREAM
    latest: GuardedSocket | None = field(default=None, repr=False)

    def socket(self, *_: object) -> GuardedSocket:
        if self.latest is not None:
            self.latest.close()  # a second login leaks the first one's socket
        self.latest = GuardedSocket(self.timeout)
        return self.latest


@dataclass
class _Session:
    sockets: _Guarding
    pause: float
    logged_in: bool = False
    queries: int = 0
    calls: int = 0

    def breathe(self) -> None:
        """The vendor's spacing, also between the calls the package makes on its own."""
        if self.calls and self.pause:
            time.sleep(self.pause * random.uniform(1.0, 2.0))  # noqa: S311
        self.calls += 1


_session: _Session | None = None


def prepare(*, endpoint: str | None, api_key: str | None, timeout: float, pause: float) -> None:
    """Guard the package's sockets. ``endpoint``: host:port instead of Baostock's own."""
    global _session  # noqa: PLW0603  # one connection a process is the vendor's rule
    import baostock.common.contants as constants  # noqa: PLC0415  # only in the lane
    from baostock import set_API_key  # noqa: PLC0415
    from baostock.util import socketutil  # noqa: PLC0415

    if endpoint is not None:
        host, port = address(endpoint)
        constants.BAOSTOCK_SERVER_IP = constants.BAOSTOCK_VIP_SERVER_IP = host
        constants.BAOSTOCK_SERVER_PORT = port
    if api_key is not None:
        set_API_key(api_key)
    _session = _Session(_Guarding(timeout), pause)
    socketutil.socket = _session.sockets


def address(endpoint: str) -> tuple[str, int]:
    """Host and port of BAOSTOCK_ENDPOINT. Raises ConfigError."""
    text = endpoint.strip().rpartition("://")[2].rstrip("/")
    host, _, port = text.rpartition(":") if ":" in text else (text, "", str(DEFAULT_PORT))
    if not host or not port.isdigit():
        raise ConfigError(f"BAOSTOCK_ENDPOINT is {endpoint!r}; write it like 127.0.0.1:10030")
    return host, int(port)


def fetch(*, function: str, arguments: Mapping[str, str], columns: Sequence[str]) -> tuple[pa.Table, dict[str, int]]:
    """Every row of one query as text columns, and the calls it took. Logs in when there is need.

    Raises Malformed when one of ``columns`` is missing: a layout would read it as null for ever.
    """
    if _session is None:
        raise ConfigError("prepare has not run in this lane")
    _session.calls = 0
    try:
        _login_if_due(_session)
        result = _query(_session, function, arguments)
        if result is not None and result.error_code == _NOT_LOGGED_IN:
            _session.logged_in = False
            _login_if_due(_session)
            result = _query(_session, function, arguments)
        table = _table(function, result.fields, _rows(_session, function, result))
    except IngestError as exc:
        if not isinstance(exc, Unsupported):
            _session.logged_in = False  # who knows what the connection still holds
        raise
    except (ValueError, KeyError, IndexError, AttributeError, TypeError) as exc:
        _session.logged_in = False
        raise Malformed(f"baostock {function}: the answer cannot be read ({type(exc).__name__}: {exc})") from exc
    lacking = sorted(set(columns) - set(table.column_names))
    if lacking:
        raise Malformed(f"baostock {function}: the answer lacks {', '.join(lacking)}; it has {table.column_names}")
    return table, {"calls": _session.calls}


def logout() -> dict[str, int]:
    """Leave politely. Failing to matters to nobody."""
    import baostock  # noqa: PLC0415

    if _session is None or not _session.logged_in:
        return {"calls": 0}
    _session.logged_in = False
    baostock.logout()
    return {"calls": 1}


def _login_if_due(session: _Session) -> None:
    import baostock  # noqa: PLC0415

    if session.logged_in and session.queries < QUERIES_A_LOGIN:
        return
    session.breathe()
    result = baostock.login()
    if result.error_code != "0":
        raise meaning(result.error_code, result.error_msg, "login", _failure(session), now=datetime.now(UTC))
    session.logged_in, session.queries = True, 0


def _query(session: _Session, function: str, arguments: Mapping[str, str]) -> Any:
    call = getattr(importlib.import_module("baostock"), function)
    session.breathe()
    session.queries += 1
    return call(**arguments)


def _rows(session: _Session, function: str, result: Any) -> list[list[str]]:
    """The rows of all pages. A page that fails, or never comes, is an error and not the end."""
    import baostock.common.contants as constants  # noqa: PLC0415

    if result is None:
        raise Malformed(f"baostock {function} refuses these arguments")
    _must_be_well(session, function, result)
    rows: list[list[str]] = list(result.data)
    if function in _UNPAGED:
        return rows
    size = int(constants.BAOSTOCK_PER_PAGE_COUNT)
    given = int(result.per_page_count)
    if given < size and len(result.data) >= given:
        raise Malformed(f"baostock {function}: pages of {given} rows came where {size} were asked for")
    while len(result.data) == size:
        page = result.data
        result.cur_row_num = size
        session.breathe()
        result.next()
        _must_be_well(session, function, result)
        if result.data is page:  # next() says "no more" when nothing came, too
            raise _lost(function, _failure(session), f"after {len(rows)} rows")
        rows += result.data
    return rows


def _must_be_well(session: _Session, function: str, result: Any) -> None:
    if result.error_code != "0":
        raise meaning(result.error_code, result.error_msg, function, _failure(session), now=datetime.now(UTC))


def _table(function: str, names: list[str], rows: list[list[str]]) -> pa.Table:
    if not names or not all(names):
        raise Malformed(f"baostock {function}: the answer names no columns")
    if any(len(row) != len(names) for row in rows):
        raise Malformed(f"baostock {function}: rows and column names do not match ({', '.join(names)})")
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return pa.table([pa.array(list(column), pa.string()) for column in columns], names=names)


def _failure(session: _Session) -> OSError | None:
    latest = session.sockets.latest
    failure = latest.failure if latest is not None else None
    if latest is not None:
        latest.failure = None
    return failure


def _lost(function: str, failure: OSError | None, when: str = "") -> IngestError:
    """A broken connection, or an answer that the package could not read (it prints why, and says the same)."""
    if failure is None:
        return Malformed(f"baostock {function}: the answer cannot be read {when}".rstrip())
    return Unreachable(f"baostock {function}: {type(failure).__name__}: {failure} {when}".rstrip())


def meaning(code: str, text: str, function: str, failure: OSError | None, *, now: datetime) -> IngestError:
    """What an error code asks of us."""
    said = f"baostock {function}: {code} {text}"
    if code in _BROKEN:
        return _lost(function, failure)
    if code in _FINAL:
        return Denied(f"{said} {_FINAL[code]}")
    if code in _NOT_OFFERED:
        return Unsupported(said)
    match code:
        case "10001011":
            return Banned(f"{said} (more than 50,000 calls a day from this address?)", until=now + _BAN)
        case "10001005":
            return Limited(said, until=now + _LOGIN_PAUSE)
        case "10005001" | "10001001":
            return Unreachable(said)
        case _:
            return Malformed(said)
