"""One websocket connection: taosAdapter's actions, answered from the engine."""

from __future__ import annotations

import asyncio
import itertools
import json
import struct
import time
import traceback
from dataclasses import dataclass, field
from typing import Any

from . import frames, wire
from .engine import Bound, Engine, Prepared
from .faults import Faults
from .grammar import Insert, Parser, Select
from .kinds import PRECISIONS, TaosError
from .selecting import Answer

BLOCK_ROWS = 4096
_HEAD = struct.Struct("<QQQH")


@dataclass(slots=True)
class Statement:
    sql: str = ""
    prepared: Prepared | None = None
    bound: list[Bound] = field(default_factory=list)
    counted: int = 0  # rows bound, where the engine only counts them


class Cut(Exception):
    """The connection is to end now, without a word."""


class Session:
    def __init__(self, engine: Engine, faults: Faults, user: str, password: str) -> None:
        self._engine = engine
        self._faults = faults
        self._who = (user, password)
        self._database: str | None = None
        self._known = False
        self._ids = itertools.count(1)
        self._results: dict[int, tuple[Answer, int]] = {}
        self._statements: dict[int, Statement] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the client leaves, or a fault cuts the connection."""
        async for kind, payload in frames.messages(reader, writer):
            try:
                answer = await (self._text(payload) if kind == frames.TEXT else self._binary(payload))
            except Cut:
                return
            if isinstance(answer, bytes):
                frames.send(writer, frames.BINARY, answer)
            elif answer is not None:
                frames.send(writer, frames.TEXT, json.dumps(answer, ensure_ascii=False).encode())
            await writer.drain()

    async def _text(self, payload: bytes) -> dict[str, Any] | bytes | None:
        message = json.loads(payload)
        action, arguments = message["action"], message.get("args") or {}
        if action == "free_result":
            self._results.pop(arguments["id"], None)
            return None
        if action == "fetch_block":
            return self._old_block(arguments["id"])
        sql = arguments.get("sql", "")
        if action.startswith("stmt2_exec"):
            sql = self._statements.get(arguments["stmt_id"], Statement()).sql
        return await self._answered(action, sql, arguments.get("req_id", 0), lambda: self._act(action, arguments))

    async def _binary(self, payload: bytes) -> dict[str, Any] | bytes | None:
        request, number, action, _ = _HEAD.unpack_from(payload)
        match action:
            case 6:
                (size,) = struct.unpack_from("<I", payload, 26)
                sql = payload[30 : 30 + size].decode()
                return await self._answered("query", sql, request, lambda: self._query(sql), name="binary_query")
            case 7:
                return await self._fetched(request, number)
            case 9:
                statement = self._statements.get(number)
                sql = statement.sql if statement is not None else ""
                return await self._answered("stmt2_bind", sql, request, lambda: self._bind(number, payload[30:]))
            case _:
                raise Cut

    async def _answered(self, action: str, sql: str, request: int, work: Any, name: str = "") -> dict[str, Any]:
        started = time.perf_counter_ns()
        answer: dict[str, Any] = {"code": 0, "message": "", "action": name or action, "req_id": request}
        fault = self._faults.find(action, sql)
        match fault.kind if fault is not None else "":
            case "close":
                raise Cut
            case "hang":
                await asyncio.Event().wait()
            case "error" if fault is not None:
                return answer | {"code": fault.code, "message": fault.message}
            case "delay" if fault is not None:
                await asyncio.sleep(fault.seconds)
        try:
            answer |= work()
        except TaosError as exc:
            answer |= {"code": exc.code, "message": exc.message}
        except Exception as exc:  # noqa: BLE001 - a flaw of the stand-in; the client is told, the log has the rest
            traceback.print_exc()
            answer |= {"code": 0xFFFF, "message": f"the stand-in failed: {exc!r}"}
        if fault is not None and fault.kind == "close_after":
            raise Cut
        return answer | {"timing": time.perf_counter_ns() - started}

    def _act(self, action: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if action == "version":
            return {"version": self._engine.version}
        if action == "conn":
            return self._enter(arguments)
        if not self._known:
            raise TaosError(0xFFFF, "server not connected")
        match action:
            case "options_connection":
                return {}
            case "query":
                return self._query(arguments["sql"])
            case "fetch":  # how servers before 3.3.2 are read: is there more, then the block
                answer, at = self._results.get(arguments["id"], (Answer([], []), 0))
                rows = min(BLOCK_ROWS, answer.rows - at)
                lengths = [k.bytes for k in answer.kinds]
                return {"id": arguments["id"], "completed": not rows, "lengths": lengths, "rows": rows}
            case "stmt2_init":
                number = next(self._ids)
                self._statements[number] = Statement()
                return {"stmt_id": number}
            case "stmt2_prepare":
                return self._prepare(arguments["stmt_id"], arguments["sql"])
            case "stmt2_exec":
                return self._execute(arguments["stmt_id"])
            case "stmt2_close":
                self._statements.pop(arguments["stmt_id"], None)
                return {"stmt_id": arguments["stmt_id"]}
            case _:
                raise TaosError(0xFFFF, f"the stand-in does not know {action}")

    def _enter(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if (arguments.get("user"), arguments.get("password")) != self._who:
            raise TaosError(0x0357, "Authentication failure")
        database = arguments.get("db") or None
        if database is not None:
            self._engine.database(database)
        self._database, self._known = database, True
        return {}

    def _query(self, sql: str) -> dict[str, Any]:
        if not self._known:
            raise TaosError(0xFFFF, "server not connected")
        statement = Parser(sql).statement()
        before = self._database
        result: int | Answer = 0
        try:
            result, self._database = self._engine.execute(sql, before)
        finally:
            if not isinstance(statement, Select):
                self._engine.note("sql", before, sql)  # also one that failed: inserts are not atomic
        if not isinstance(result, Answer):
            return {"id": 0, "is_update": True, "affected_rows": result, "fields_count": 0, "precision": 0}
        number = next(self._ids)
        self._results[number] = (result, 0)
        return {
            "id": number,
            "is_update": False,
            "affected_rows": 0,
            "fields_count": len(result.kinds),
            "fields_names": [k.name for k in result.kinds],
            "fields_types": [k.kind for k in result.kinds],
            "fields_lengths": [k.length or k.bytes for k in result.kinds],
            "precision": PRECISIONS.index(result.precision),
            "fields_precisions": [k.precision for k in result.kinds],
            "fields_scales": [k.scale for k in result.kinds],
        }

    async def _fetched(self, request: int, number: int) -> bytes | None:
        code, message, body = 0, b"", b""
        fault = self._faults.find("fetch", "")
        match fault.kind if fault is not None else "":
            case "close" | "close_after":
                raise Cut
            case "hang":
                await asyncio.Event().wait()
            case "error" if fault is not None:
                code, message = fault.code, fault.message.encode()
            case "delay" if fault is not None:
                await asyncio.sleep(fault.seconds)
        answer, at = self._results.get(number, (Answer([], []), 0))
        rows = min(BLOCK_ROWS, answer.rows - at)
        if rows and not code:
            try:
                body = wire.block(answer, at, rows)
            except Exception as exc:  # noqa: BLE001 - as in _answered
                traceback.print_exc()
                code, message = 0xFFFF, f"the stand-in failed: {exc!r}".encode()
            self._results[number] = (answer, at + rows)
        head = struct.pack("<QQHQQII", (1 << 64) - 1, 7, 1, 0, request, code, len(message)) + message
        head += struct.pack("<QB", number, 0 if body else 1)
        return head + (struct.pack("<I", len(body)) + body if body else b"")

    def _old_block(self, number: int) -> bytes:
        answer, at = self._results[number]
        rows = min(BLOCK_ROWS, answer.rows - at)
        self._results[number] = (answer, at + rows)
        return struct.pack("<QQ", 0, number) + wire.block(answer, at, rows)

    def _statement(self, number: int) -> Statement:
        if number not in self._statements:
            raise TaosError(0xFFFF, "stmt not found")
        return self._statements[number]

    def _prepare(self, number: int, sql: str) -> dict[str, Any]:
        statement = self._statement(number)
        if not isinstance(Parser(sql).statement(), Insert):
            raise TaosError(0xFFFF, "the stand-in prepares only inserts")
        statement.sql, statement.bound = sql, []
        statement.prepared = self._engine.prepare(sql, self._database)
        fields = [
            {
                "name": f.column.name,
                "field_type": f.column.kind,
                "precision": f.column.precision,
                "scale": f.column.scale,
                "bytes": f.column.bytes,
                "bind_type": f.role,
            }
            for f in statement.prepared.fields
        ]
        return {"stmt_id": number, "is_insert": True, "fields": fields, "fields_count": len(fields)}

    def _bind(self, number: int, data: bytes) -> dict[str, Any]:
        statement = self._statement(number)
        if statement.prepared is None:
            raise TaosError(0x0200, "stmt2 is not prepared")
        if self._engine.counts_only:
            statement.counted += wire.bound_count(data)
            return {"stmt_id": number}
        bound = wire.bound_rows(statement.prepared, data)
        self._engine.check(statement.prepared, bound)
        statement.bound += bound
        return {"stmt_id": number}

    def _execute(self, number: int) -> dict[str, Any]:
        statement = self._statement(number)
        if statement.prepared is not None and statement.counted:
            counted, statement.counted = statement.counted, 0
            self._engine.counted[statement.prepared.stable.name] += counted
            return {"stmt_id": number, "affected": counted}
        if statement.prepared is None or not statement.bound:
            raise TaosError(0x0200, "stmt2 has nothing bound")
        bound, statement.bound = statement.bound, []
        try:
            affected = self._engine.insert(self._engine.prepare(statement.sql, self._database), bound)
        finally:
            self._engine.note("bind", self._database, statement.sql, bound)
        return {"stmt_id": number, "affected": affected}
