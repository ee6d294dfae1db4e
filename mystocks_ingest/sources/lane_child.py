"""The child's side of a lane: runs one vendor call at a time and answers over a pipe.

Started by ``lane.py`` as ``python -m mystocks_ingest.sources.lane_child <parent's pid>``. Requests arrive on
stdin and answers leave on what was stdout; whatever the vendor prints goes to stderr, which the parent reads.
When stdin ends (the parent is gone or wants no more) the process ends at once, even while a call spins or
blocks; on Linux the kernel kills it with the parent besides.

A frame, both ways: ``b"lane"``, header length (uint32), body length (uint64), JSON header, Arrow IPC body.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import json
import os
import queue
import re
import signal
import struct
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa

from mystocks_ingest import errors

if TYPE_CHECKING:
    import pandas as pd

MAGIC = b"lane"
PREFIX = struct.Struct(">4sIQ")
HEADER_LIMIT = 1 << 24
BODY_LIMIT = 1 << 31
CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1
_REFUSED = re.compile(r"RemoteDisconnected|Connection aborted|Connection reset", re.IGNORECASE)


def pack(header: Mapping[str, object], body: bytes = b"") -> bytes:
    """One frame of the protocol."""
    text = json.dumps(header, ensure_ascii=False).encode()
    return PREFIX.pack(MAGIC, len(text), len(body)) + text + body


def main() -> None:
    """Serve calls until stdin ends."""
    asked, answers = _take_over_pipes()
    _die_with(int(sys.argv[1]))
    warnings.simplefilter("ignore")
    os.environ["TQDM_DISABLE"] = "1"
    os.environ["HOME"] = os.devnull  # vendors' token and cache files belong nowhere; not even root can write there
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_watch, args=(asked, inbox), name="requests", daemon=True).start()
    _bound_http()
    while True:
        call = inbox.get()
        answers.write(_answer(call))
        answers.flush()


def _take_over_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The protocol's two ends; afterwards fd 0 is empty and fd 1 is the vendor's, joined to stderr."""
    for ignored in (signal.SIGINT, signal.SIGTERM):  # the parent decides: it closes our stdin, or kills
        signal.signal(ignored, signal.SIG_IGN)
    asked, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return os.fdopen(asked, "rb"), os.fdopen(answers, "wb")


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a libc without prctl: the end of stdin remains
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _watch(asked: BinaryIO, inbox: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Hand requests on; at their end leave without asking whoever is still busy."""
    while True:
        prefix = asked.read(PREFIX.size)
        if len(prefix) < PREFIX.size:
            os._exit(0)
        _, header, body = PREFIX.unpack(prefix)
        text = asked.read(header + body)
        if len(text) < header + body:
            os._exit(0)
        inbox.put(json.loads(text[:header]))


def _bound_http() -> None:
    """Every ``requests`` call gets a time-out: AkShare passes none in 1,246 places."""
    from requests.adapters import HTTPAdapter  # noqa: PLC0415  # only ever in this process

    send = HTTPAdapter.send

    def bounded(self: HTTPAdapter, request: Any, *args: Any, **kwargs: Any) -> Any:
        if not args and kwargs.get("timeout") is None:
            kwargs["timeout"] = (CONNECT_SECONDS, READ_SECONDS)
        return send(self, request, *args, **kwargs)

    HTTPAdapter.send = bounded  # type: ignore[method-assign]


def _answer(call: Mapping[str, Any]) -> bytes:
    started = time.perf_counter()
    header: dict[str, object] = {"id": call["id"]}
    body = b""
    try:
        table, value = _split(_find(call["function"])(**call["arguments"]))
        header["value"] = value
        if table is not None:
            body = _encode(table)
        json.dumps(value)
    except BaseException as exc:  # noqa: BLE001  # even SystemExit of a vendor is an answer here
        header = {"id": call["id"], "error": describe(exc)}
        body = b""
    _flush_vendor()
    header["seconds"] = round(time.perf_counter() - started, 6)
    return pack(header, body)


def _flush_vendor() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # a vendor may have closed its own stdout
            stream.flush()


def _find(path: str) -> Callable[..., object]:
    module, _, name = path.partition(":")
    found = getattr(importlib.import_module(module), name)
    if not callable(found):
        raise errors.ConfigError(f"{path} is not a function")
    return found  # type: ignore[no-any-return]


def _split(result: object) -> tuple[pa.RecordBatch | None, object]:
    """(table, value) of what a lane function returned: a table, a value, or a pair of both."""
    match result:
        case (table, value) if _is_table(table):
            return to_batch(table), value
        case table if _is_table(table):
            return to_batch(table), None
        case value:
            return None, value


def _is_table(thing: object) -> bool:
    return isinstance(thing, pa.Table | pa.RecordBatch) or type(thing).__name__ == "DataFrame"


def to_batch(table: pa.Table | pa.RecordBatch | pd.DataFrame) -> pa.RecordBatch:
    """One record batch with plain column types; a column of mixed types becomes text."""
    if isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    elif not isinstance(table, pa.Table):
        table = pa.table(
            [_column(table.iloc[:, i]) for i in range(table.shape[1])], names=[str(c) for c in table.columns]
        )
    names = table.schema.names
    if len(set(names)) < len(names):
        raise errors.Malformed(f"the answer has two columns of one name: {names}")
    table = table.combine_chunks()
    columns = [_plain(table.column(i)) for i in range(table.num_columns)]
    return pa.RecordBatch.from_arrays(columns, names=names)


def _column(series: pd.Series[Any]) -> pa.Array:
    try:
        return pa.Array.from_pandas(series)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return pa.array([None if v is None or v != v else str(v) for v in series], pa.string())  # noqa: PLR0124  # nan


def _plain(column: pa.ChunkedArray) -> pa.Array:
    kind = column.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind):
        column = column.cast(pa.string())
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _encode(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def describe(exc: BaseException) -> dict[str, object]:
    """An exception as it crosses the pipe: our class, the text, the fields; foreign ones are translated."""
    text = str(exc) if isinstance(exc, errors.IngestError) else f"{type(exc).__name__}: {exc}"
    found: dict[str, object] = {"class": _ours(exc), "message": text[:2000]}
    if isinstance(exc, errors.Retryable) and exc.after is not None:
        found["after"] = exc.after
    if isinstance(exc, errors.Limited):
        found["until"] = exc.until.isoformat()
    return found


def _ours(exc: BaseException) -> str:
    if isinstance(exc, errors.IngestError):
        return type(exc).__name__
    if isinstance(exc, ValueError):  # a JSONDecodeError of requests is an OSError too; the answer did arrive
        return "Malformed"
    if isinstance(exc, OSError) and exc.errno in {errno.ENETUNREACH, errno.EHOSTUNREACH}:
        return "Unreachable"
    if isinstance(exc, ConnectionError | TimeoutError) or _REFUSED.search(str(exc)):
        return "Unreachable"
    names = {
        c.__name__ for c in type(exc).__mro__ if c.__module__.startswith(("requests", "urllib3", "http", "socket"))
    }
    unreachable = {"ConnectionError", "Timeout", "ChunkedEncodingError", "HTTPError", "gaierror", "HTTPException"}
    return "Unreachable" if names & unreachable else "Malformed"


if __name__ == "__main__":
    main()
