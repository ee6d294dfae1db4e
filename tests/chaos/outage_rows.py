"""Rows that a client delivers all the while, and what became of them and of the quotes that were acknowledged.

A delivery is repeated until it is answered 200 (409: the first one is still under way): what was answered so is owed. The quotes' ledger is the service's own
(hastened.py). Rows are lost that are owed and not stored as they were last acknowledged; doubled are those that stand
twice under a key, or that nobody sent.
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa

Key = tuple[str | int, ...]
ROWS = 10  # in each delivery
PAUSE_SECONDS = 0.25
PROBE = {"tick": "volume", "account": "cash", "fill": "volume", "quote": "volume"}
"""The column by which a stored row is known to be the one that was sent."""


def asked(address: str, *, token: str = "", body: Mapping[str, object] | None = None, key: str = "") -> tuple[int, str]:
    """Status and text of one request; 0 where the service did not answer within half a minute."""
    headers = {"Content-Type": "application/json"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    headers |= {"Idempotency-Key": key} if key else {}
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data=content, headers=headers)  # noqa: S310 - our own address
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - likewise
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode(errors="replace")
    except OSError as exc:
        return 0, str(exc)


@dataclass
class Feeder:
    """One client for each dataset. ``owed``: by dataset the keys and values of every row that was acknowledged."""

    address: Callable[[], str]
    token: str
    day: date
    symbol: str
    owed: dict[str, dict[Key, float]] = field(default_factory=lambda: {"tick": {}, "account": {}, "fill": {}})
    sent: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)
    under_way: set[str] = field(default_factory=set)
    last_said: str = ""
    flowing: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            for dataset in self.owed:
                group.create_task(self._feed(dataset), name=f"feed:{dataset}")

    async def _feed(self, dataset: str) -> None:
        while True:
            await self.flowing.wait()
            first = self.sent[dataset]
            self.sent[dataset] += ROWS
            self.under_way.add(dataset)
            rows = [self._row(dataset, n) for n in range(first, first + ROWS)]
            while True:
                address = f"{self.address()}/api/v1/ingest/{dataset}"
                code, said = await asyncio.to_thread(
                    asked, address, token=self.token, body={"rows": rows}, key=f"{dataset}-{first}"
                )
                if code == 200 and json.loads(said)["accepted"] == ROWS:
                    break
                assert code in (0, 409, 429, 503), f"{dataset}: {code} {said}"
                self.repeated[dataset] += 1
                self.last_said = f"{code} {said}"[:300]
                await asyncio.sleep(PAUSE_SECONDS)
            self.owed[dataset].update(self._keyed(dataset, n) for n in range(first, first + ROWS))
            self.under_way.discard(dataset)
            await asyncio.sleep(PAUSE_SECONDS)

    def _at(self, number: int) -> datetime:
        """A moment of its own for each row."""
        return datetime(self.day.year, self.day.month, self.day.day, 1, 20, tzinfo=UTC) + timedelta(milliseconds=number)

    def _row(self, dataset: str, number: int) -> dict[str, object]:
        at = self._at(number).isoformat(timespec="milliseconds")
        match dataset:
            case "tick":
                price = {"price": 10.0, "volume": number + 1, "amount": 10.0 * (number + 1), "side": "B"}
                return {"symbol": self.symbol, "ts": at, "seq": 0, **price}
            case "account":
                return {"account": f"a{number:07}", "ts": at, "cash": float(number), "equity": 1.0}
            case _:
                who = {"account": "f", "fill_id": f"{number:07}", "order_id": "1", "symbol": self.symbol}
                return {**who, "ts": at, "side": "B", "price": 10.0, "volume": number + 1}

    def _keyed(self, dataset: str, number: int) -> tuple[Key, float]:
        match dataset:
            case "tick":
                return (self.symbol, milliseconds(self._at(number)), 0), number + 1
            case "account":
                return (f"a{number:07}",), number
            case _:
                return ("f", f"{number:07}"), number + 1


KEYS = {
    "tick": ("symbol", "ts", "seq"),
    "account": ("account",),
    "fill": ("account", "fill_id"),
    "quote": ("symbol", "ts"),
}


@dataclass(frozen=True)
class Balance:
    """Rows of one table against what is owed. ``owed`` counts the rows; ``examples`` are for people."""

    owed: int = 0
    lost: int = 0
    doubled: int = 0
    examples: tuple[str, ...] = ()

    def __add__(self, other: Balance) -> Balance:
        examples = (*self.examples, *other.examples)[:5]
        return Balance(self.owed + other.owed, self.lost + other.lost, self.doubled + other.doubled, examples)


def balance(name: str, owed: Mapping[Key, float], stored: pa.Table, dataset: str, *, latest: bool = False) -> Balance:
    """``latest``: the table keeps one row a symbol, the newest. A quote that is not owed was on its way in a kill."""
    keys = ("symbol",) if latest and dataset == "quote" else KEYS[dataset]
    found: dict[Key, float] = {}
    doubled = []
    for key, value in _read(stored, keys, PROBE[dataset]):
        if key in found or (key not in owed and dataset != "quote"):
            doubled.append(key)
        found[key] = value
    lost = [key for key, value in owed.items() if found.get(key) != value]
    examples = [f"{name} lost {key}: {owed[key]:g}, stored {found.get(key)}" for key in lost[:3]]
    examples += [f"{name} doubled {key}" for key in doubled[:3]]
    return Balance(len(owed), len(lost), len(doubled), tuple(examples))


def _read(stored: pa.Table, keys: tuple[str, ...], value: str) -> Iterator[tuple[Key, float]]:
    columns = [
        [milliseconds(v) for v in stored[name].to_pylist()] if name == "ts" else stored[name].to_pylist()
        for name in keys
    ]
    yield from zip(zip(*columns, strict=True), stored[value].to_pylist(), strict=True)


def milliseconds(moment: datetime) -> int:
    """Since 1970; databases without a zone keep UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)


def ledger(path: Path) -> tuple[dict[Key, float], dict[Key, float]]:
    """What is owed of quotes: every one in the history, and of each symbol the newest."""
    history: dict[Key, float] = {}
    newest: dict[Key, tuple[int, float]] = {}
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        for symbol, ts, volume in zip(entry["symbol"], entry["ts"], entry["volume"], strict=True):
            if entry["table"] == "quote":
                history[symbol, ts] = volume
            elif ts >= newest.get((symbol,), (0, 0.0))[0]:
                newest[symbol,] = (ts, volume)
    return history, {key: volume for key, (_, volume) in newest.items()}
