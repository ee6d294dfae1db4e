"""The process in which taos-ws-py runs: it holds the GIL for the whole of every call, so nothing else may live here.

Started by ``process.py`` as a script. One JSON object a line comes in on stdin and one goes out on what was stdout;
rows cross as Arrow IPC in two shared memory files, whose descriptors are the arguments. The first line says where
the server is; the connection is made when a line asks for it. A failed call is answered with TDengine's code; what
to do about it is the parent's decision.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import mmap
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import taosws  # type: ignore[import-untyped,unused-ignore]  # it ships no types

_CODE = re.compile(r"\[0x([0-9A-Fa-f]{4,8})\]")
_STATEMENTS = 32
_ELSEWHERE = frozenset({0x0200, 0x0216, 0x022B, 0x0388, 0x2603, 0x2616})  # said in no database, or in the wrong one
OURS = -1  # in place of TDengine's code: a value could not be brought over
_PR_SET_PDEATHSIG = 1
_Maker = Callable[[Any], Any]
_COLUMNS: dict[str, _Maker] = {
    "BOOL": taosws.bools_to_column,
    "TINYINT": taosws.tiny_ints_to_column,
    "SMALLINT": taosws.small_ints_to_column,
    "INT": taosws.ints_to_column,
    "BIGINT": taosws.big_ints_to_column,
    "TINYINT UNSIGNED": taosws.unsigned_tiny_ints_to_column,
    "SMALLINT UNSIGNED": taosws.unsigned_small_ints_to_column,
    "INT UNSIGNED": taosws.unsigned_ints_to_column,
    "BIGINT UNSIGNED": taosws.unsigned_big_ints_to_column,
    "FLOAT": taosws.floats_to_column,
    "DOUBLE": taosws.doubles_to_column,
    "VARCHAR": taosws.varchar_to_column,
    "NCHAR": taosws.nchar_to_column,
    "VARBINARY": taosws.varbinary_to_column,
}
_MOMENTS: dict[str, _Maker] = {
    "ms": taosws.millis_timestamps_to_column,
    "us": taosws.micros_timestamps_to_column,
    "ns": taosws.nanos_timestamps_to_column,
}
_PRECISIONS = {
    "ms": taosws.PyPrecision.Milliseconds,
    "us": taosws.PyPrecision.Microseconds,
    "ns": taosws.PyPrecision.Nanoseconds,
}
_DECIMAL: _Maker = taosws.decimal64_to_column
_BROAD_DECIMAL: _Maker = taosws.decimal_to_column
_TAGS: dict[str, _Maker] = {
    "BOOL": taosws.bool_to_tag,
    "TINYINT": taosws.tiny_int_to_tag,
    "SMALLINT": taosws.small_int_to_tag,
    "INT": taosws.int_to_tag,
    "BIGINT": taosws.big_int_to_tag,
    "TINYINT UNSIGNED": taosws.u_tiny_int_to_tag,
    "SMALLINT UNSIGNED": taosws.u_small_int_to_tag,
    "INT UNSIGNED": taosws.u_int_to_tag,
    "BIGINT UNSIGNED": taosws.u_big_int_to_tag,
    "FLOAT": taosws.float_to_tag,
    "DOUBLE": taosws.double_to_tag,
    "VARCHAR": taosws.varchar_to_tag,
    "NCHAR": taosws.nchar_to_tag,
}


class Worker:
    """The one connection and its prepared statements."""

    def __init__(self, dsn: str, incoming: int, outgoing: int) -> None:
        self._dsn = dsn
        self._incoming = incoming
        self._outgoing = outgoing
        self._connection: Any = None
        self._database: str | None = None  # which the connection is in, as far as is known
        self._statements: dict[str, Any] = {}
        self._rows: Iterator[tuple[Any, ...]] = iter(())
        self._kinds: list[tuple[str, pa.DataType]] = []

    def answer(self, call: dict[str, Any]) -> dict[str, Any]:
        """What is to be sent back."""
        try:
            match call["do"]:
                case "connect":
                    return self._connect()
                case "execute":
                    self._database = None  # it may be dropped by this, and what is prepared may be of another shape
                    return {"affected": self._connection.execute(call["sql"])}
                case "query":
                    return {"rows": [list(row) for row in self._connection.query(call["sql"])]}
                case "queries":
                    return {"rows": [[list(row) for row in self._connection.query(sql)] for sql in call["sqls"]]}
                case "insert":
                    return self._insert(call)
                case "read":
                    self._rows = iter(self._connection.query(call["sql"]))
                    self._kinds = [(name, _arrow(word)) for name, word in call["columns"]]
                    return self._next(call["rows"])
                case "next":
                    return self._next(call["rows"])
                case "leave":
                    self._rows = iter(())
                    return {}
                case other:
                    return {"error": f"unknown call {other!r}", "code": OURS}
        except (taosws.Error, taosws.InterfaceError, ValueError, TypeError, OverflowError) as exc:
            self._statements.pop(call.get("sql", ""), None)  # a failed bind leaves its rows in the statement
            self._rows = iter(())
            self._database = None
            found = _CODE.search(str(exc))
            ours = not isinstance(exc, taosws.Error | taosws.InterfaceError)
            return {"error": f"{exc}", "code": int(found[1], 16) if found else OURS if ours else None}

    def _connect(self) -> dict[str, Any]:
        self._statements.clear()
        self._database = self._connection = None
        self._connection = taosws.connect(self._dsn)
        return {"version": str(next(iter(self._connection.query("SELECT server_version()")))[0])}

    def _insert(self, call: dict[str, Any]) -> dict[str, Any]:
        """Bind and execute the rows of the shared memory, table by table as ``cuts`` divides them."""
        columns = self._columns(call)
        try:
            affected = self._stored(call, columns)
        except taosws.Error as exc:
            found = _CODE.search(str(exc))
            if found is None or int(found[1], 16) not in _ELSEWHERE:
                raise
            self._database = None  # the driver connects anew by itself, and may then be in no database
            affected = self._stored(call, columns)
        for change in call["changes"]:
            self._connection.execute(change)
        return {"affected": affected}

    def _stored(self, call: dict[str, Any], columns: list[tuple[_Maker, list[Any]]]) -> int:
        sql = call["sql"]
        self._enter(call["database"])
        statement = self._statements.get(sql)
        if statement is None:
            if len(self._statements) >= _STATEMENTS:
                self._statements.pop(next(iter(self._statements)))
            statement = self._connection.stmt2_statement()
            statement.prepare(sql)
            self._statements[sql] = statement
        spans = list(itertools.pairwise(call["cuts"]))
        tagged: list[list[Any] | None] = [None] * len(spans)
        if call["tags"]:
            makers = [_tag_maker(word, call["precision"]) for word in call["tag_words"]]
            tagged = [[make(v) for make, v in zip(makers, tags, strict=True)] for tags in call["tags"]]
        view = taosws.stmt2_bind_param_view
        statement.bind(
            [
                view(name, tags, [make(values[a:b]) for make, values in columns])
                for name, tags, (a, b) in zip(call["names"], tagged, spans, strict=True)
            ]
        )
        return int(statement.execute())

    def _enter(self, database: str) -> None:
        """Sub tables that stmt2 binds go to the connection's database, whatever the statement names."""
        if self._database != database:
            self._statements.clear()
            self._connection.execute(f"USE `{database}`")
            self._database = database

    def _columns(self, call: dict[str, Any]) -> list[tuple[_Maker, list[Any]]]:
        """Each column's converter and its values as a list; None is NULL."""
        with mmap.mmap(self._incoming, call["size"], prot=mmap.PROT_READ) as memory:
            view = pa.py_buffer(memory)
            batch = pa.ipc.open_stream(view).read_next_batch()
            found = [
                (_maker(word, call["precision"]), _listed(column))
                for word, column in zip(call["words"], batch.columns, strict=True)
            ]
            del batch, view
        return found

    def _next(self, rows: int) -> dict[str, Any]:
        """The next rows of the query in the other shared memory; their number, 0 at the end."""
        found = list(itertools.islice(self._rows, rows))
        if not found:
            return {"rows": 0, "size": 0}
        columns = [_array(cells, kind) for cells, (_, kind) in zip(zip(*found, strict=True), self._kinds, strict=True)]
        batch = pa.RecordBatch.from_arrays(columns, names=[name for name, _ in self._kinds])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        body = sink.getvalue()
        os.ftruncate(self._outgoing, body.size)
        with memoryview(body) as view:
            done = 0
            while done < body.size:
                done += os.pwrite(self._outgoing, view[done:], done)
        return {"rows": batch.num_rows, "size": body.size}


def _array(cells: tuple[Any, ...], kind: pa.DataType) -> pa.Array:
    if pa.types.is_binary(kind):
        cells = tuple(None if c is None else bytes(c) for c in cells)
    return pa.array(cells, kind)


def _arrow(word: str) -> pa.DataType:
    """The Arrow type of an answer's column; a moment comes as a whole number, by a CAST in the query."""
    match word.partition("(")[0]:
        case "BOOL":
            return pa.bool_()
        case "TINYINT" | "SMALLINT" | "INT" | "BIGINT" | "TIMESTAMP":
            return pa.int64()
        case "TINYINT UNSIGNED" | "SMALLINT UNSIGNED" | "INT UNSIGNED" | "BIGINT UNSIGNED":
            return pa.uint64()
        case "FLOAT" | "DOUBLE":
            return pa.float64()
        case "VARBINARY":
            return pa.binary()
        case "DECIMAL":
            return pa.decimal128(38, int(word.rpartition(" ")[2].rstrip(")")))
        case _:
            return pa.string()


def _maker(word: str, precision: str) -> _Maker:
    if word == "TIMESTAMP":
        return _MOMENTS[precision]
    if word.startswith("DECIMAL"):
        digits = int(word[8:].partition(",")[0])
        return _DECIMAL if digits <= 18 else _BROAD_DECIMAL
    return _COLUMNS[word]


def _tag_maker(word: str, precision: str) -> _Maker:
    if word == "TIMESTAMP":
        return lambda value: taosws.timestamp_to_tag(value, _PRECISIONS[precision])
    return _TAGS[word]


def _listed(column: pa.Array) -> list[Any]:
    """A column's values; through numpy or a dictionary, ten times as fast as Arrow's own ``to_pylist``."""
    kind = column.type
    if pa.types.is_string(kind):
        encoded = column.dictionary_encode()
        words = np.array([*encoded.dictionary.to_pylist(), None], object)
        indices = encoded.indices.fill_null(len(words) - 1) if column.null_count else encoded.indices
        return words[indices.to_numpy()].tolist()  # type: ignore[no-any-return]
    if pa.types.is_decimal(kind) or pa.types.is_binary(kind):
        return column.to_pylist()  # type: ignore[no-any-return]
    if pa.types.is_timestamp(kind):
        column = column.view(pa.int64())
    if not column.null_count:
        return column.to_numpy(zero_copy_only=False).tolist()  # type: ignore[no-any-return]
    nulls = column.is_null().to_numpy(zero_copy_only=False)
    filled = column.fill_null(False if pa.types.is_boolean(kind) else 0)
    values = filled.to_numpy(zero_copy_only=False).astype(object)
    values[nulls] = None
    return values.tolist()  # type: ignore[no-any-return]


def main() -> None:
    """Serve calls until stdin ends."""
    for ignored in (signal.SIGINT, signal.SIGTERM):  # the parent decides: it closes our stdin, or kills
        signal.signal(ignored, signal.SIG_IGN)
    parent, incoming, outgoing = (int(word) for word in sys.argv[1:])
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a libc without prctl: the end of stdin remains
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints goes to stderr, which the parent reads
    worker: Worker | None = None
    for line in sys.stdin.buffer:
        call = json.loads(line)
        if worker is None:
            worker = Worker(call["dsn"], incoming, outgoing)
            continue
        answers.write(json.dumps(worker.answer(call)).encode() + b"\n")
        answers.flush()
    os._exit(0)  # the wheel's threads are asked nothing


main()
