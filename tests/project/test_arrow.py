from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from mystocks_ingest.arrow import keep_pandas_out
keep_pandas_out()
import pyarrow as pa
import pyarrow.compute as pc
pa.array([1, None]), pa.array(["a"]), pa.table({"a": [1]}).to_pylist(), pc.is_in(pa.array([1]), value_set=pa.array([1]))
assert "pandas" not in sys.modules
import pandas
print(pandas.Series([1]).sum())
"""


def test_arrow_alone_does_not_bring_pandas_in_and_whoever_wants_it_still_gets_it() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.strip()) == (0, "1"), ended.stderr


HELD = """
import os
from mystocks_ingest.arrow import give_memory_back, keep_pandas_out, release_freed_pages, use_system_allocator
use_system_allocator()
keep_pandas_out()
give_memory_back()
import pyarrow as pa
import pyarrow.compute as pc
print(pa.default_memory_pool().backend_name)

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

pieces = [bytes(4096) for _ in range(20_000)]
kept = pieces[::100]  # holes of 400 kB between what is in use
del pieces
before = resident()
release_freed_pages()
print(before - resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")
def test_arrow_allocates_as_the_system_does_and_freed_pages_between_used_ones_go_back() -> None:
    ended = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    pool, released = ended.stdout.split()
    assert pool == "system"
    assert float(released) > 60
