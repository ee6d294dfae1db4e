"""Arrow in the parent process: without pandas, which belongs in the vendors' lanes, and without a hoard of memory."""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec

_ARENA_MAX = -8  # malloc.h: M_ARENA_MAX


def use_system_allocator() -> None:
    """Let Arrow allocate by the system's ``malloc``, unless the environment says otherwise; here and in children.

    It has an effect before pyarrow is imported, and costs no import. Arrow's own allocator keeps the pages it freed,
    and what Arrow does by itself (reading a stream, a computation's scratch space) takes that one whatever
    ``pa.set_memory_pool`` was told: 100 MB after half an hour of a market at ten times its speed.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


class _NoPandas:
    """An import finder under which pandas is not installed."""

    @staticmethod
    def find_spec(name: str, *_: object) -> ModuleSpec | None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is kept out of this process", name=name)
        return None


def keep_pandas_out() -> None:
    """Let pyarrow make up its mind, once and for the whole process, that there is no pandas.

    Its first ``pa.array(list)`` would import pandas to recognise a Series: 0.2-0.4 s and 40 MB for a process that
    never sees one. Other code may still import pandas afterwards; only pyarrow's own conversions do without.
    Call it before a second thread starts: the look is not safe from two at a time.
    """
    if "pandas" in sys.modules:
        return
    sys.meta_path.insert(0, _NoPandas)
    try:
        import pyarrow as pa  # noqa: PLC0415 - after the line above

        pa.array([0])
    finally:
        sys.meta_path.remove(_NoPandas)


def give_memory_back() -> None:
    """Let memory that a batch needed return to the system: a long backfill then stays 120 MB smaller.

    Arrow's own allocator keeps its freed pages, so the system's is used; glibc's keeps some for every thread, so two
    of its arenas must do.
    """
    import pyarrow as pa  # noqa: PLC0415 - a command that needs no Arrow loads none

    pa.set_memory_pool(pa.system_memory_pool())
    _of_malloc("mallopt", _ARENA_MAX, 2)


def release_freed_pages() -> None:
    """What malloc keeps between the pieces in use goes back to the system; 4 ms for 20 MB, the interpreter goes on.

    A process that lives for months calls it now and then: batches of every size leave ever more such holes.
    """
    _of_malloc("malloc_trim", 0)


def _of_malloc(name: str, *words: int) -> None:
    import ctypes  # noqa: PLC0415 - likewise

    function = getattr(ctypes.CDLL(None), name, None)  # glibc has it, musl and macOS do not
    if function is not None:
        function(*words)
