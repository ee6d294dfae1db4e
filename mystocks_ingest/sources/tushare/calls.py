"""The lane's side of tushare: one query through the real client, and what its texts mean.

The client hides the HTTP status (4xx and 5xx become an empty frame without columns), the error code (only the
Chinese text remains) and ``has_more``; a look at each response brings them back. ``pro_bar`` (swallows errors,
rewrites pre_close) and ``set_token`` (writes the token into the home directory) are never used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from mystocks_ingest.errors import ConfigError, Denied, IngestError, Limited, Malformed, Unreachable, Unsupported

if TYPE_CHECKING:
    import pandas as pd
    import requests

_SHANGHAI = ZoneInfo("Asia/Shanghai")
_RATE = re.compile(r"每(分钟|小时|天)最多访问该接口(\d+)次|频率超限\((\d+)次/(分钟|小时|天)\)")
_TOO_OFTEN = re.compile(r"最多访问|频率超限|访问过于频繁|频次")
_NO_RIGHT = re.compile(r"没有(访问该)?接口.*权限|没有访问该接口的权限|没有.{0,30}权限|积分不足|积分不够")
_BAD_TOKEN = re.compile(r"token\s*不对|token\s*无效|token\s*错误|token\s*过期|请设置.*token", re.IGNORECASE)
_TOO_MANY_ADDRESSES = re.compile(r"IP\s*数量超限", re.IGNORECASE)
_NO_SUCH_API = re.compile(r"正确的接口名|接口不存在|未知接口")
_BUSY = re.compile(r"繁忙|稍后(再|重)试|超时|系统错误|服务(器)?(异常|不可用|错误)|维护")
_SECONDS = {"分钟": 60, "小时": 3600, "天": 86400}
_MORE = re.compile(r'"has_more"\s*:\s*true', re.IGNORECASE)
_MINUTE_PAUSE = timedelta(seconds=62)  # their minute is not ours
_DEFAULT_PATH = "/dataapi"


class _Seen:
    """Stands for the ``requests`` module inside the client and keeps the latest response."""

    response: requests.Response | None = None

    def post(self, url: str, **arguments: Any) -> requests.Response:
        import requests  # noqa: PLC0415  # only in the lane

        self.response = None
        self.response = requests.post(url, **arguments)  # noqa: S113  # the client passes its time-out
        return self.response


_seen = _Seen()
_client: Any = None


def prepare(*, token: str, endpoint: str | None, timeout: float) -> None:
    """Build the client once per process. ``endpoint``: another base URL, with or without a path."""
    global _client  # noqa: PLW0603  # the lane's one client, as the lane serves one call at a time
    from tushare.pro import client  # noqa: PLC0415  # only in the lane: 0.7 s

    client.requests = _seen
    if endpoint is not None:
        url = base_url(endpoint)
        client.DataApi._DataApi__http_url = url  # noqa: SLF001  # the client has no other way
        _bypass_proxy(url)
    _client = client.DataApi(token=token, timeout=timeout)


def base_url(endpoint: str) -> str:
    """``endpoint`` as the client wants it: scheme and path are filled in, a trailing slash goes."""
    text = endpoint.strip().rstrip("/")
    parts = urlsplit(text if "://" in text else f"http://{text}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"TUSHARE_ENDPOINT is {endpoint!r}; write it like http://127.0.0.1:8000")
    return f"{parts.scheme}://{parts.netloc}{parts.path or _DEFAULT_PATH}"


def _bypass_proxy(url: str) -> None:
    """A replacement on this machine is not behind the proxy of the environment."""
    host = urlsplit(url).hostname or ""
    if host in ("localhost", "::1") or host.startswith("127."):
        for name in ("NO_PROXY", "no_proxy"):
            os.environ[name] = ",".join(filter(None, (os.environ.get(name), host)))


def query(*, api: str, params: Mapping[str, object], fields: str) -> tuple[pd.DataFrame, dict[str, bool]]:
    """The API's rows with every column of ``fields``, and whether the server holds more than it sent."""
    try:
        table = _client.query(api, fields=fields, **params)
    except Exception as exc:
        if (status := _status()) is not None and status >= 400:
            raise _refused(api, status) from exc
        if type(exc) is Exception:  # the client's way of passing on code != 0
            raise meaning(str(exc), api, now=datetime.now(UTC)) from exc
        if isinstance(exc, OSError) and not isinstance(exc, ValueError):
            raise  # requests' own: time-outs, refused and broken connections
        raise Malformed(f"tushare {api}: the answer cannot be read ({type(exc).__name__}: {exc}){_start()}") from exc
    if not len(table.columns):
        status = _status()
        raise (
            _refused(api, status)
            if status is not None and status >= 400
            else Malformed(f"tushare {api}: the answer has no columns")
        )
    lacking = [name for name in fields.split(",") if name not in table.columns]
    if lacking:
        raise Malformed(f"tushare {api}: the answer lacks {', '.join(lacking)}; it has {', '.join(table.columns)}")
    return table, {"has_more": _has_more()}


def meaning(text: str, api: str, *, now: datetime) -> IngestError:
    """What the vendor's text asks of us. A quota's text speaks of rights too, so quotas are recognised first."""
    said = f"tushare {api}: {text}"
    if named := _RATE.search(text):
        unit = named.group(1) or named.group(4)
        return Limited(said, until=_end_of(unit, now))
    if _TOO_OFTEN.search(text):
        return Limited(said, until=now + _MINUTE_PAUSE)
    if _TOO_MANY_ADDRESSES.search(text):
        return Denied(f"{said} The token is in use from too many addresses: stop the other machines, then run again.")
    if _BAD_TOKEN.search(text):
        return Denied(f"{said} Check TUSHARE_TOKEN against the one shown on tushare.pro.")
    if _NO_RIGHT.search(text):
        return Denied(f"{said} This account has no right to {api}.")
    if _NO_SUCH_API.search(text):
        return Unsupported(said)
    if _BUSY.search(text):
        return Unreachable(said)
    return Malformed(said)


def named_limit(text: str) -> tuple[int, float] | None:
    """Calls and seconds of the limit that a quota's text names."""
    found = _RATE.search(text)
    if found is None:
        return None
    unit, calls = found.group(1) or found.group(4), found.group(2) or found.group(3)
    return int(calls), float(_SECONDS[unit])


def _end_of(unit: str, now: datetime) -> datetime:
    match unit:
        case "分钟":
            return now + _MINUTE_PAUSE
        case "小时":
            return now + timedelta(hours=1, minutes=1)
        case _:
            tomorrow = now.astimezone(_SHANGHAI).date() + timedelta(days=1)
            return datetime.combine(tomorrow, time(0, 1), _SHANGHAI).astimezone(UTC)


def _refused(api: str, status: int) -> IngestError:
    said = f"tushare {api}: HTTP {status}"
    if status == 429:
        return Limited(said, until=datetime.now(UTC) + _MINUTE_PAUSE)
    return Unreachable(said)


def _status() -> int | None:
    return _seen.response.status_code if _seen.response is not None else None


def _start() -> str:
    text = _seen.response.text[:80] if _seen.response is not None else ""
    return f"; it begins {text!r}" if text.lstrip().startswith("<") else ""


def _has_more() -> bool:
    """Near the end of the answer, after the rows; the client throws it away."""
    return _seen.response is not None and _MORE.search(_seen.response.text[-400:]) is not None
