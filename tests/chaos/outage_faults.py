"""How each database and each vendor is stopped, hung, slowed and made to answer errors, and how that ends."""

from __future__ import annotations

import asyncio

from outage_stage import STORES, VENDORS, Stage
from servers.mariadb import USER, MariaDB
from servers.postgresql import PostgreSQL
from servers.redis import Redis
from servers.tdengine import TaosServer

FAULTS = ("stopped", "hung", "slowed", "errors")
SLOW_SECONDS = 2.0
NO_RESOURCE = 0x0132
"""TDengine's "out of memory": its answer to a write that it cannot take at the moment."""
VENDOR_ERRORS = {"tushare": "http_500", "akshare": "http_500", "baostock": "server_error"}
SUBJECTS = (*STORES, *VENDORS)


async def begin(stage: Stage, subject: str, fault: str) -> None:
    """From now on ``subject`` suffers ``fault``."""
    if subject in VENDORS:
        await _vendor(stage, subject, fault, begins=True)
    else:
        await asyncio.to_thread(_store, stage, subject, fault, begins=True)


async def end(stage: Stage, subject: str, fault: str) -> None:
    """It is as before."""
    if subject in VENDORS:
        await _vendor(stage, subject, fault, begins=False)
    else:
        await asyncio.to_thread(_store, stage, subject, fault, begins=False)


async def _vendor(stage: Stage, vendor: str, fault: str, *, begins: bool) -> None:
    wire = stage.wires[vendor]
    match fault:
        case "errors" if begins:
            await stage.sim.fault(vendor, VENDOR_ERRORS[vendor], times=None)
        case "errors":
            await stage.sim.clear(vendor)
        case "hung":  # the simulator serves all vendors: the wire holds this one's
            await asyncio.to_thread(wire.hang if begins else wire.flow)
        case "stopped":
            await asyncio.to_thread(wire.refuse if begins else wire.accept)
        case _:
            wire.slow(SLOW_SECONDS if begins else 0.0)


def _store(stage: Stage, store: str, fault: str, *, begins: bool) -> None:
    server, wire = stage.servers[store], stage.wires[store]
    match fault:
        case "stopped" if begins:
            wire.refuse()
            server.stop()
        case "stopped":
            server.start()
            wire.accept()
        case "hung" if begins:
            server.freeze()
        case "hung":
            server.thaw()
        case "slowed":
            wire.slow(SLOW_SECONDS if begins else 0.0)
        case _:
            _errors(stage, store, begins=begins)


def _errors(stage: Stage, store: str, *, begins: bool) -> None:
    """What a full disk, a failover to a standby, or an exhausted memory makes a server answer."""
    match stage.servers[store]:
        case TaosServer() as tdengine:
            tdengine.fault("error", code=NO_RESOURCE, message="Out of memory") if begins else tdengine.clear()
        case PostgreSQL() as postgresql:
            value = "on" if begins else "off"
            postgresql.psql(f"ALTER SYSTEM SET default_transaction_read_only = {value}", database="postgres")
            postgresql.psql("SELECT pg_reload_conf()", database="postgres")
        case Redis() as redis:
            redis.cli("CONFIG", "SET", "maxmemory", "1" if begins else "0")
        case MariaDB() as mariadb:
            mariadb.sql(f"SET GLOBAL read_only = {int(begins)}")


def prepare(stage: Stage) -> None:
    """Servers that are made read-only for ordinary users: ours must be one."""
    mariadb = stage.servers["mysql"]
    assert isinstance(mariadb, MariaDB)
    for right in ("SUPER", "READ_ONLY ADMIN" if not mariadb.mysql else "CONNECTION_ADMIN"):
        mariadb.sql(f"REVOKE {right} ON *.* FROM {USER}@'127.0.0.1'")
