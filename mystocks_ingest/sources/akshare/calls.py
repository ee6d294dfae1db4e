"""The lane's side of akshare: one function call, and a look at every HTTP exchange behind it.

AkShare swallows failures (84 bare ``except``), ignores status codes and reads columns by position, so what a
function returns proves nothing by itself. Its ``requests`` traffic does: every exchange of a call is kept, a
failure without a later success fails the call, and totals the servers state are compared with the rows.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from mystocks_ingest.errors import Banned, IngestError, Malformed, Unreachable

if TYPE_CHECKING:
    import pandas as pd

_CAPTCHA = re.compile(r"captcha|verify|slider|验证码|滑块|访问过于频繁|拒绝访问|异常流量", re.IGNORECASE)
_SHUT_OUT = {403: 30, 412: 30, 418: 30, 429: 30, 456: 10}  # HTTP status: minutes to stay away (456 is sina's)
_SERVER_ERROR = 500
_ADDED = datetime(1992, 5, 4)  # noqa: DTZ001  # akshare adds this session, which sina's list lacks
_LONGEST_CLOSURE = 30  # days


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what came of it: a status and a body (None when streamed), or an error.

    ``lines``: of a streamed answer, those that were read so far.
    """

    url: str
    status: int
    body: bytes | None
    error: str = ""
    lines: list[bytes] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return bool(self.error) or self.status >= 400

    @property
    def page(self) -> bool:
        """Whether an HTML page came where data was due."""
        return self.body is not None and self.body.lstrip()[:1] == b"<"

    def json(self) -> Any:
        """The body, or a stream's first event, as JSON; None when it is none."""
        streamed = next((line.removeprefix(b"data:") for line in self.lines if line.startswith(b"data:")), b"")
        try:
            return json.loads(self.body or streamed)
        except ValueError:
            return None


_exchanges: list[Exchange] = []


def prepare(endpoint: str | None) -> None:
    """Watch (and with an ``endpoint`` redirect) every request of this process; run once, before any call.

    ``https://host/path?q`` goes to ``{endpoint}/path?q`` with the header ``X-Sim-Host: host``.
    """
    from requests.adapters import HTTPAdapter  # noqa: PLC0415  # only ever in the lane

    send = HTTPAdapter.send

    def watched(self: HTTPAdapter, request: Any, *args: Any, **kwargs: Any) -> Any:
        asked = request.url
        if endpoint:
            parts = urlsplit(asked)
            query = f"?{parts.query}" if parts.query else ""
            request.url = f"{endpoint.rstrip('/')}{parts.path}{query}"
            request.headers["X-Sim-Host"] = parts.hostname or ""
            kwargs["proxies"] = {}
        try:
            response = send(self, request, *args, **kwargs)
            body = None if kwargs.get("stream") else response.content
        except Exception as exc:
            _exchanges.append(Exchange(asked, 0, None, f"{type(exc).__name__}: {exc}"))
            raise
        _exchanges.append(Exchange(asked, response.status_code, body))
        if body is None:
            _overhear(response, _exchanges[-1].lines)
        return response

    HTTPAdapter.send = watched  # type: ignore[method-assign]
    if endpoint:
        _accept_plain_sina()


def _overhear(response: Any, lines: list[bytes]) -> None:
    """Keep the lines that akshare reads of a stream; the stream itself may never end."""
    read = response.iter_lines

    def iter_lines(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        for line in read(*args, **kwargs):
            lines.append(line)
            yield line

    response.iter_lines = iter_lines


def _accept_plain_sina() -> None:
    """Let a stand-in serve sina's scrambled payloads as percent-encoded JSON beside the real thing."""
    from akshare.stock import cons  # noqa: PLC0415

    decoder = str(cons.hk_js_decode)
    either = ";var scrambled=d;d=function(t){return t.charAt(0)==='%'?JSON.parse(decodeURIComponent(t)):scrambled(t)}"
    for module in list(sys.modules.values()):
        if module.__name__.startswith("akshare.") and getattr(module, "hk_js_decode", None) == decoder:
            vars(module)["hk_js_decode"] = decoder + either


def call(function: str, arguments: Mapping[str, Any]) -> tuple[pd.DataFrame, dict[str, int]] | dict[str, int]:
    """An akshare function's table and its row count; zero rows come without a table.

    Raises Banned, Unreachable, Malformed.
    """
    import akshare  # noqa: PLC0415

    run = getattr(akshare, function)
    if hasattr(run, "cache_clear"):
        run.cache_clear()  # a list kept since the last call is yesterday's
    _exchanges.clear()
    try:
        table = run(**arguments)
    except IngestError:
        raise
    except Exception as exc:
        if _says_nothing(exc):
            return {"rows": 0}
        raise _reason(function, exc) from exc
    _prove(function)
    if function in _TOTALS:
        _TOTALS[function](len(table))
    if not len(table):
        return {"rows": 0}
    if function in _SHAPES:
        table = _SHAPES[function](table)
    return table, {"rows": len(table)}


def _says_nothing(exc: Exception) -> bool:
    """Whether the function failed only because the server had no rows to give.

    Eastmoney answers ``data: null`` or an empty list for an unknown symbol, a delisted or suspended one and an empty
    window.
    Whether that can be is for the caller to say, who knows the calendar.
    """
    if not _exchanges or _exchanges[-1].failed:
        return False
    if "factor not available" in str(exc):  # sina: {"total":0,"data":[]}
        return True
    answer = _exchanges[-1].json()
    if not isinstance(answer, dict) or "data" not in answer:
        return False
    data = answer["data"]
    return data is None or any(isinstance(data, dict) and data.get(k) == [] for k in ("klines", "trends", "details"))


def _reason(function: str, exc: Exception) -> IngestError:
    """Why the function failed, by the last exchange rather than by the exception."""
    last = _exchanges[-1] if _exchanges else None
    if last is not None and (found := _trouble(function, last)) is not None:
        return found
    return Malformed(f"{function}: {type(exc).__name__}: {exc}")


def _trouble(function: str, exchange: Exchange) -> IngestError | None:
    where = f"{function}: {urlsplit(exchange.url).hostname}"
    text = (exchange.body or b"")[:4000].decode("utf-8", "replace")
    if exchange.error:
        return Unreachable(f"{where}: {exchange.error}")
    if exchange.status in _SHUT_OUT or (exchange.page and _CAPTCHA.search(text)):
        until = datetime.now(UTC) + timedelta(minutes=_SHUT_OUT.get(exchange.status, 30))
        return Banned(f"{where} shuts this address out (HTTP {exchange.status})", until=until)
    if exchange.status >= _SERVER_ERROR:
        return Unreachable(f"{where} answered HTTP {exchange.status}")
    if exchange.failed:
        return Malformed(f"{where} answered HTTP {exchange.status}")
    if exchange.page:
        return Malformed(f"{where} answered with a web page instead of data")
    return None


def _prove(function: str) -> None:
    """Raise what a bare ``except`` swallowed: a URL whose last exchange went wrong, rows of another symbol."""
    for exchange in {e.url: e for e in _exchanges}.values():
        found = _trouble(function, exchange)
        past_the_end = function == "stock_zh_a_tick_tx_js" and exchange.status == 404 and len(_exchanges) > 1
        if found is not None and not past_the_end:
            raise found
        asked = parse_qs(urlsplit(exchange.url).query).get("secid")
        answer = exchange.json() if asked and exchange.body else None
        data = answer.get("data") if isinstance(answer, dict) else None
        code = data.get("code") or data.get("f57") if isinstance(data, dict) else None
        if asked and code and str(code) != asked[0].partition(".")[2]:
            raise Malformed(f"{function}: asked for {asked[0]}, the answer is of {code}")


def _clist_total(rows: int) -> None:
    """Eastmoney's lists: pages together must give what ``total`` says, in the columns akshare reads by position."""
    pages = [e.json() for e in _exchanges if not e.failed]
    records = [record for page in pages for record in page["data"]["diff"]]
    for record in records:
        keys = [int(key[1:]) for key in record]
        if keys != sorted(keys):
            raise Malformed(f"the list's columns are in another order than akshare reads them: {list(record)}")
    total = int(pages[0]["data"]["total"])
    _compare(len({record["f12"] for record in records}), rows, total)


def _sina_total(rows: int) -> None:
    total = next((json.loads(e.body or b"0") for e in _exchanges if "StockCount" in e.url), 0)
    _compare(rows, rows, int(total))


def _sse_total(rows: int) -> None:
    answer = _exchanges[-1].json()
    stated = answer.get("pageHelp", {}).get("total") if isinstance(answer, dict) else None
    _compare(rows, rows, int(stated or rows))


def _bse_total(rows: int) -> None:
    text = (_exchanges[-1].body or b"").decode("utf-8", "replace")
    stated = re.search(r'"totalElements"\s*:\s*(\d+)', text)
    _compare(rows, rows, int(stated.group(1)) if stated else rows)


def _tick_end(rows: int) -> None:
    """Tencent's pages end where one cannot be parsed: that one must hold no trades."""
    if re.search(rb"\d/\d\d:\d\d:\d\d/", _exchanges[-1].body or b""):
        raise Malformed(f"page {len(_exchanges)} of the trades was cut off after {rows} rows")


def _compare(distinct: int, rows: int, total: int) -> None:
    if distinct < total:
        raise Malformed(f"the server has {total} rows and gave {rows}, {distinct} of them distinct: pages are missing")


_TOTALS: dict[str, Callable[[int], None]] = {
    "stock_zh_a_spot_em": _clist_total,
    "stock_zh_a_spot": _sina_total,
    "stock_info_sh_name_code": _sse_total,
    "stock_info_sh_delist": _sse_total,
    "stock_info_bj_name_code": _bse_total,
    "stock_zh_a_tick_tx_js": _tick_end,
}


def _one_row(table: pd.DataFrame) -> pd.DataFrame:
    """The item/value list of stock_bid_ask_em as one row."""
    import pandas as pd  # noqa: PLC0415

    return pd.DataFrame([dict(zip(table["item"], table["value"], strict=True))])


def _every_day(table: pd.DataFrame) -> pd.DataFrame:
    """The list of open days as one row per calendar day: a day between two open ones is closed."""
    import pandas as pd  # noqa: PLC0415

    opened = pd.DatetimeIndex(pd.to_datetime(table["trade_date"])).sort_values()
    if len(opened) > 1 and opened[0] == _ADDED and (opened[1] - opened[0]).days > _LONGEST_CLOSURE:
        opened = opened[1:]  # the server's list begins later: what lies between is unknown, not closed
    days = pd.date_range(opened.min(), opened.max(), freq="D")
    return pd.DataFrame({"trade_date": days.date, "is_open": days.isin(opened)})


_SHAPES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "stock_bid_ask_em": _one_row,
    "tool_trade_date_hist_sina": _every_day,
}
