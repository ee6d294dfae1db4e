from __future__ import annotations

import subprocess
import sys

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
