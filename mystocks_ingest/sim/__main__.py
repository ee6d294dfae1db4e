"""``python -m mystocks_ingest.sim``: the simulated vendors, until interrupted. Prints one line of JSON when ready."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import threading
from datetime import date, datetime
from pathlib import Path

from mystocks_ingest.arrow import keep_pandas_out

keep_pandas_out()  # before anything makes an array

from mystocks_ingest.sim.server import Servers, SimConfig  # noqa: E402


def _config(arguments: argparse.Namespace) -> SimConfig:
    if arguments.config:
        given = json.loads(arguments.config)
        given["end"] = date.fromisoformat(given["end"])
        given["calendar_until"] = date.fromisoformat(given["calendar_until"])
        start = given["clock_start"]
        given["clock_start"] = datetime.fromisoformat(start) if start else None
        given["recorded"] = Path(given["recorded"]) if given["recorded"] else None
        return SimConfig(**given)
    return SimConfig(
        seed=arguments.seed, stocks=arguments.stocks, sessions=arguments.sessions, end=arguments.end,
        recorded=arguments.recorded, live=arguments.live, clock_start=arguments.clock, speed=arguments.speed,
    )  # fmt: skip


def _arguments() -> argparse.Namespace:
    default = SimConfig()
    parser = argparse.ArgumentParser(
        prog="python -m mystocks_ingest.sim",
        description="A simulated exchange behind loopback servers that speak the three vendors' protocols.",
        epilog="Prints one line of JSON: the environment for a client, and SIM_CONTROL, an address at which "
        'POST /fault {"vendor", "kind", "times", "match", "options"}, POST /clear, '
        'POST /clock {"moment", "speed"}, /shown, /kinds, /calls and /hits work.',
    )
    parser.add_argument("--stocks", type=int, default=default.stocks, help="number of stocks (%(default)s)")
    parser.add_argument("--sessions", type=int, default=default.sessions, help="number of sessions (%(default)s)")
    parser.add_argument("--seed", type=int, default=default.seed, help="equal seeds give equal markets (%(default)s)")
    parser.add_argument("--end", type=date.fromisoformat, default=default.end, help="last day (%(default)s)")
    parser.add_argument("--recorded", type=Path, help="serve the recorded vendor rows of this directory instead")
    parser.add_argument("--live", action="store_true", help="quotes and trades move with a clock")
    parser.add_argument(
        "--clock", type=datetime.fromisoformat, help="with --live: the exchange's time at the start (09:10, last day)"
    )
    parser.add_argument(
        "--speed", type=float, default=default.speed, help="with --live: its seconds in one of ours (%(default)s)"
    )
    parser.add_argument("--config", help=argparse.SUPPRESS)
    parser.add_argument("--leash", action="store_true", help="end when standard input ends")
    return parser.parse_args()


async def _serve(config: SimConfig, *, leash: bool) -> None:
    servers = Servers(config)
    await servers.open()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if leash:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle

        def watch() -> None:
            sys.stdin.buffer.read()
            loop.call_soon_threadsafe(stop.set)

        threading.Thread(target=watch, name="leash", daemon=True).start()
    else:
        loop.add_signal_handler(signal.SIGINT, stop.set)
    sys.stdout.write(servers.announcement + "\n")
    sys.stdout.flush()
    await stop.wait()


def main() -> int:
    arguments = _arguments()
    try:
        config = _config(arguments)
        asyncio.run(_serve(config, leash=arguments.leash))
    except (ValueError, FileNotFoundError) as exc:
        sys.stderr.write(f"sim: {exc}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
