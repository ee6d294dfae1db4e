"""Arrow in the parent process: without pandas, which belongs in the vendors' lanes, and without a hoard of memory."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec


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
    """Let Arrow use the system's allocator: its own keeps freed pages, 80 MB of them in a long backfill."""
    import pyarrow as pa  # noqa: PLC0415 - a command that needs no Arrow does not load it

    pa.set_memory_pool(pa.system_memory_pool())
