"""The simulated vendors as servers on loopback, in a child process that ends with its parent."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, time
from functools import cached_property
from pathlib import Path

from mystocks_ingest.sim.answers import Cell
from mystocks_ingest.sim.clock import ZONE, Clock
from mystocks_ingest.sim.control import Control
from mystocks_ingest.sim.faults import FaultBook
from mystocks_ingest.sim.market import Market, MarketConfig
from mystocks_ingest.sim.transport import Listener
from mystocks_ingest.sim.vendors import listeners
from mystocks_ingest.sim.web import serve

TOKEN = "simulated-token-0123456789abcdef0123456789abcdef"  # noqa: S105  (the simulator takes any token)
START_SECONDS = 30.0
until_cleared = None
"""As ``times`` of a fault: it stays armed."""


@dataclass(frozen=True)
class SimConfig(MarketConfig):
    """The market, or the directory of recorded vendor rows that is served instead of one."""

    recorded: Path | None = None
    forward_adjusted: bool = False  # recorded: serve forward-adjusted archives as if they were raw
    live: bool = False  # quotes and trades move with a clock, and what has not happened yet is not served
    clock_start: datetime | None = None  # live: the exchange's time at the start; None: 09:10 of the last day
    speed: float = 60.0  # live: seconds of the exchange in one of ours

    def to_json(self) -> str:
        return json.dumps(
            asdict(self)
            | {"end": self.end.isoformat(), "calendar_until": self.calendar_until.isoformat()}
            | {"recorded": self.recorded and str(self.recorded)}
            | {"clock_start": self.clock_start and self.clock_start.isoformat()}
        )

    @property
    def market(self) -> MarketConfig:
        return MarketConfig(self.seed, self.stocks, self.sessions, self.end, self.calendar_until, self.odd_lots)

    def clock(self, market: Market) -> Clock:
        """The clock of a live market, started."""
        start = self.clock_start or datetime.combine(market.last_day, time(9, 10), ZONE)
        return Clock(start, self.speed)


class Servers:
    """The four loopback servers of one simulator: three vendors and the control endpoint."""

    def __init__(self, config: SimConfig) -> None:
        if config.live and config.recorded is not None:
            raise ValueError("recorded rows do not move with a clock: choose live or recorded")
        self.book = FaultBook(live=config.live)
        self.vendors, clock = listeners(
            config.market,
            config.recorded,
            self.book,
            forward_adjusted=config.forward_adjusted,
            clock=config.clock if config.live else None,
        )
        self.control = Listener(serve(Control(self.book, self.vendors, clock).reply))

    async def open(self) -> None:
        for listener in (*self.vendors.values(), self.control):
            await listener.open()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "TUSHARE_ENDPOINT": f"http://127.0.0.1:{self.vendors['tushare'].port}",
            "BAOSTOCK_ENDPOINT": f"127.0.0.1:{self.vendors['baostock'].port}",
            "AKSHARE_ENDPOINT": f"http://127.0.0.1:{self.vendors['akshare'].port}",
            "TUSHARE_TOKEN": TOKEN,
        }

    @property
    def announcement(self) -> str:
        """One line of JSON: the environment of a client, and where faults are armed."""
        return json.dumps(self.environment | {"SIM_CONTROL": f"http://127.0.0.1:{self.control.port}"})


@dataclass(frozen=True)
class Sim:
    """A running simulator, seen from the process that started it."""

    config: SimConfig
    environment: Mapping[str, str]
    control: tuple[str, int]
    pid: int

    @cached_property
    def market(self) -> Market:
        """The truth, computed here from the same seed (not asked of the servers)."""
        return Market(self.config.market)

    async def fault(self, vendor: str, kind: str, *, times: int | None = 1, match: str = "*", **options: Cell) -> None:
        """Arm a fault (faults.KINDS) for ``times`` answers, or until cleared. Raises ValueError for an unknown one."""
        await self._ask("fault", {"vendor": vendor, "kind": kind, "times": times, "match": match, "options": options})

    async def clear(self, vendor: str | None = None) -> None:
        """Disarm every fault, of one vendor or of all; closed ports are open again on return."""
        await self._ask("clear", {"vendor": vendor})

    async def clock(
        self, moment: datetime | None = None, speed: float | None = None, *, since: float | None = None
    ) -> datetime:
        """Set the exchange's time (a moment without a zone is Shanghai's) or speed (0: it stands); what it is now.

        ``since``: when it was that moment by this machine's monotonic clock, so that others can have the same time;
        None: now. Raises ValueError when the market is not live.
        """
        asked = {"moment": moment and moment.isoformat(), "speed": speed, "since": since}
        answer = await self._ask("clock", asked)
        return datetime.fromisoformat(str(answer["moment"]))

    async def shown(self) -> dict[str, list[datetime]]:
        """Live: the exchange's moments that the answers made so far were of: api (``rt_k``) -> in their order.

        Answers that a fault ``repeated`` or made of several ages are not among them.
        """
        answer = await self._ask("shown", {})
        return {api: [datetime.fromisoformat(str(moment)) for moment in moments] for api, moments in answer.items()}

    async def calls(self) -> dict[str, dict[str, int]]:
        """Requests received so far: vendor -> api -> count."""
        return await self._ask("calls", {})

    async def hits(self) -> dict[str, dict[str, int]]:
        """How often each fault has acted so far: vendor -> kind -> count."""
        return await self._ask("hits", {})

    async def _ask(self, what: str, content: Mapping[str, object]) -> dict[str, dict[str, int]]:
        reader, writer = await asyncio.open_connection(*self.control)
        try:
            body = json.dumps(content).encode()
            head = f"POST /{what} HTTP/1.1\r\nHost: sim\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + body)
            reply = await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()
        status, _, rest = reply.partition(b"\r\n")
        answer = json.loads(rest.partition(b"\r\n\r\n")[2])
        if b" 200 " not in status + b" ":
            raise ValueError(answer["error"])
        return answer  # type: ignore[no-any-return]


@asynccontextmanager
async def running(config: SimConfig | None = None) -> AsyncIterator[Sim]:
    """A simulator in its own child process; it ends on leaving, and also when this process is killed."""
    config = config or SimConfig()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mystocks_ingest.sim", "--config", config.to_json(), "--leash",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=_environment(),
        start_new_session=True,  # Ctrl-C in the terminal is the parent's to handle
    )  # fmt: skip
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the simulator's pipes are missing")
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
        if not line:
            raise RuntimeError(f"the simulator ended with code {await process.wait()} before it was ready")
        environment = json.loads(line)
        port = int(environment.pop("SIM_CONTROL").rpartition(":")[2])
        yield Sim(config, environment, ("127.0.0.1", port), process.pid)
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 5.0)
        except TimeoutError:
            process.kill()
            await process.wait()


def _environment() -> dict[str, str]:
    """The child finds this package even where it is not installed; proxies of this machine are no concern of it."""
    package = str(Path(__file__).parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join(p for p in (package, os.environ.get("PYTHONPATH")) if p)}
