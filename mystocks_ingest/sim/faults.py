"""Fault knobs of the simulated vendors: what can be armed, and what is armed now.

A fault is armed for one vendor, for ``times`` answers or until cleared, and for the calls whose api name fits
``match`` (shell pattern). Several armed faults act together, as delay and truncation do in life.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

VENDORS = ("tushare", "baostock", "akshare")
LIVE_VENDORS = ("tushare", "akshare")

TRANSPORT = {
    "delay": "the answer comes after `seconds` (5)",
    "silence": "the request is read and never answered",
    "fin": "the connection is closed instead of an answer",
    "fin_mid": "half of the answer, then the connection is closed",
    "rst": "the connection is reset instead of an answer",
    "rst_mid": "half of the answer, then the connection is reset",
    "refused": "the port is closed for `seconds`, or until cleared",
    "drop_pages": "the connection is closed on every page after the `after`-th (1)",
}
HTTP = {
    "http_500": "500 with a HTML body",
    "http_502": "502 with a HTML body",
    "http_504": "504 with a HTML body",
    "http_456": "456, sina's answer to an address it has banned",
    "captcha": "200 with the HTML of a slider captcha",
    "garbage": "200 with a body that is cut off in the middle",
    "null_data": "data is null",
}
CONTENT = {
    "empty": "no rows, with columns",
    "truncated": "only the first `rows` (100) in the vendor's order, has_more set where the vendor knows it",
    "drop_row": "one row in the middle is missing",
    "drop_last": "the newest row is missing",
    "duplicate_row": "one row in the middle comes twice",
    "reversed": "the other order than the vendor's own",
    "dash": "the numbers of one row in the middle are '-' (tushare: null, baostock: empty)",
    "column_added": "one column more",
    "column_removed": "the column `column` (the last one) is missing",
    "column_renamed": "the column `column` (the last one) has another name",
    "volume_x100": "volumes 100 times too large",
    "lots_as_shares": "volumes 100 times too small",
    "amount_x1000": "amounts 1000 times too large",
    "forward_adjusted": "prices forward-adjusted where raw ones were asked for",
    "bad_ohlc": "one row in the middle has its high below its low",
    "negative_price": "one row in the middle has a negative close",
    "wrong_close": "one row in the middle closes 7 % higher than it did, with a high to match",
    "holiday_row": "one row in the middle is dated on a Sunday",
    "provisional": "the newest session's bars, or those of `day`, are those of 10:30",
}
TUSHARE = {
    "bad_token": "40101",
    "rate_minute": "40203, `calls` (500) a minute",
    "quota": "40203 for every call beyond `calls` (50) of one interface in `seconds` (60)",
    "rate_minute_new": "40203 in its newer wording, `calls` (500)",
    "rate_hour": "40203, `calls` (10) an hour",
    "rate_day": "40203, `calls` (5) a day",
    "permission": "40203, no right to the interface",
    "ip_limit": "40204",
    "code_2002": "-2002, the older code of a missing right",
}
BAOSTOCK = {
    "blacklist": "10001011, on login and on every other call",
    "client_too_old": "10001004",
    "not_logged_in": "10001001",
    "login_limit": "10001005",
    "server_error": "10005001 in an ordinary answer",
    "type_04": "an exception frame of type 04 with 10004020",
    "page_error": "10005001 on the pages after the first",
    "bad_crc": "a wrong check sum (the client does not look)",
    "bad_length": "a header length that is too large",
    "unzip_error": "a compressed body that is damaged",
}
LIVE = {
    "stale": "the state of `seconds` (30) ago: a server that lags behind",
    "repeated": "the answer that the same request was given last",
    "out_of_order": "every other symbol as it was `seconds` (30) ago",
}
"""What answers about now can suffer besides, at vendors that have any, while the simulated market runs by a clock."""
KINDS: dict[str, dict[str, str]] = {
    "tushare": TRANSPORT | HTTP | CONTENT | TUSHARE,
    "baostock": TRANSPORT | CONTENT | BAOSTOCK,
    "akshare": TRANSPORT | HTTP | CONTENT,
}


@dataclass(frozen=True)
class Fault:
    """One armed fault; ``options`` are named in the kind's description."""

    kind: str
    match: str = "*"
    options: Mapping[str, float | str] = field(default_factory=dict)

    def number(self, name: str, default: float) -> float:
        value = self.options.get(name, default)
        return float(value)

    def text(self, name: str) -> str | None:
        value = self.options.get(name)
        return None if value is None else str(value)


class FaultBook:
    """The armed faults of all vendors, and the count of calls."""

    def __init__(self, *, live: bool = False) -> None:
        self.live = live
        self._armed: dict[str, list[tuple[Fault, int | None]]] = {v: [] for v in VENDORS}
        self.calls: dict[str, Counter[str]] = {v: Counter() for v in VENDORS}
        self.hits: dict[str, Counter[str]] = {v: Counter() for v in VENDORS}

    def arm(self, vendor: str, fault: Fault, times: int | None) -> None:
        """Raises ValueError for a kind the vendor does not know."""
        if vendor not in KINDS:
            raise ValueError(f"unknown vendor {vendor!r}; known: {', '.join(VENDORS)}")
        known = KINDS[vendor] | (LIVE if self.live and vendor in LIVE_VENDORS else {})
        if fault.kind not in known:
            raise ValueError(f"{vendor} has no fault {fault.kind!r}; known: {', '.join(sorted(known))}")
        self._armed[vendor].append((fault, times))

    def clear(self, vendor: str | None = None) -> None:
        for name in VENDORS if vendor is None else (vendor,):
            self._armed[name].clear()

    def draw(self, vendor: str, api: str, page: int = 1) -> list[Fault]:
        """The faults that act on this call; each one drawn is used up once. Counts the call."""
        self.calls[vendor][api] += 1
        acting: list[Fault] = []
        kept: list[tuple[Fault, int | None]] = []
        for fault, left in self._armed[vendor]:
            acts = fnmatchcase(api, fault.match) and page >= _first_page(fault)
            if acts:
                acting.append(fault)
                self.hits[vendor][fault.kind] += 1
            if not acts or left is None or left > 1:
                kept.append((fault, left if not acts or left is None else left - 1))
        self._armed[vendor] = kept
        return acting


def _first_page(fault: Fault) -> int:
    if fault.kind == "page_error":
        return 2
    if fault.kind == "drop_pages":
        return int(fault.number("after", 1)) + 1
    return 1
