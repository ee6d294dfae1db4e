"""Tables out of files: CSV in any of the encodings met, feather (Arrow IPC) and parquet, a batch at a time.

CSV cells stay text, as the vendor wrote them: the layouts read text, and a refused row can be shown as it stood.
"""

from __future__ import annotations

import codecs
import csv
import gzip
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.ipc as paipc
import pyarrow.parquet as pq

BATCH_ROWS = 131_072
_BLOCK_BYTES = 8 << 20
_SAMPLE_BYTES = 1 << 18
_DELIMITERS = ",\t;|"
_CSV, _IPC, _PARQUET = (".csv", ".txt", ".tsv"), (".feather", ".arrow", ".ipc", ".ftr"), (".parquet", ".pq")


class Unreadable(Exception):
    """The file cannot be read as a table; the text says why."""


def kind_of(path: Path) -> str | None:
    """csv, ipc or parquet, by the name's ending; None for a file that is no table."""
    endings = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    ending = endings[-1] if endings else ""
    kinds = {**dict.fromkeys(_CSV, "csv"), **dict.fromkeys(_IPC, "ipc"), **dict.fromkeys(_PARQUET, "parquet")}
    return kinds.get(ending)


def batches(path: Path, *, skipped: Callable[[int], None] | None = None) -> Iterator[pa.RecordBatch]:
    """The file's rows; at least one batch, so that the columns of an empty table are known too.

    ``skipped`` is told how many lines had too many or too few cells. Raises Unreadable.
    """
    try:
        match kind_of(path):
            case "csv":
                yield from _csv(path, skipped)
            case "ipc":
                yield from _ipc(path)
            case "parquet":
                file = pq.ParquetFile(path)
                yield from file.iter_batches(batch_size=BATCH_ROWS)
                if not file.metadata.num_rows:
                    yield pa.RecordBatch.from_pylist([], schema=file.schema_arrow)
            case _:
                raise Unreadable(f"{path.suffix or 'no ending'} is not CSV, feather or parquet")
    except (pa.ArrowException, OSError, EOFError, UnicodeError, csv.Error) as exc:
        raise Unreadable(str(exc).splitlines()[0] if str(exc) else type(exc).__name__) from exc


def _ipc(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as source:
        reader = paipc.open_file(source)
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i)
        if not reader.num_record_batches:
            yield pa.RecordBatch.from_pylist([], schema=reader.schema)


def _csv(path: Path, skipped: Callable[[int], None] | None) -> Iterator[pa.RecordBatch]:
    encoding, names, delimiter = _head(path)
    lost = 0

    def skip(_: object) -> str:
        nonlocal lost
        lost += 1
        return "skip"

    reader = pacsv.open_csv(
        path,
        read_options=pacsv.ReadOptions(
            encoding=encoding, column_names=names, skip_rows=1, block_size=_BLOCK_BYTES, use_threads=False
        ),
        parse_options=pacsv.ParseOptions(delimiter=delimiter, invalid_row_handler=skip),
        convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
    )
    yield from reader
    if lost and skipped is not None:
        skipped(lost)


def _head(path: Path) -> tuple[str, list[str], str]:
    """Encoding, column names and delimiter of a CSV file."""
    encoding = _encoding(path)
    with _opened(path) as file:
        first = file.read(_SAMPLE_BYTES).decode(encoding, "ignore").lstrip("\ufeff").splitlines()
    if not first or not first[0].strip():
        raise Unreadable("the file is empty, or its first line is")
    delimiter = max(_DELIMITERS, key=first[0].count)
    return encoding, _unique(next(csv.reader([first[0]], delimiter=delimiter))), delimiter


def _encoding(path: Path) -> str:
    """utf-8, or gb18030 (which holds GBK) where the bytes are not UTF-8; utf-16 says so itself."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with _opened(path) as file:
        chunk = file.read(_SAMPLE_BYTES)
        if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        if b"\x00" in chunk:
            raise Unreadable("it is no text")
        try:
            while chunk:
                decoder.decode(chunk)
                chunk = file.read(_SAMPLE_BYTES)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "gb18030"
    return "utf-8"


def _opened(path: Path) -> gzip.GzipFile | BufferedReader:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def _unique(names: list[str]) -> list[str]:
    """Column names without blanks, the second of a name numbered."""
    seen: dict[str, int] = {}
    out = []
    for name in (n.strip() for n in names):
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
    return out
