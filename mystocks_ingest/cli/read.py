"""``read``: stored rows, adjusted on the way out if wanted, in the format the reader's next tool takes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from io import StringIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, TextIO

import click

from mystocks_ingest.cli import arguments, as_typed
from mystocks_ingest.cli.arguments import DatasetName, Day, as_json
from mystocks_ingest.cli.printing import dumps, table
from mystocks_ingest.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from mystocks_ingest.market.adjust import How
    from mystocks_ingest.market.frames import Window

SHOWN = 40  # rows of a table on a terminal without --limit: half from the top, half from the bottom
EVER = (date(1990, 1, 1), date(2099, 12, 31))  # from before the first session of either exchange


@click.command()
@click.argument("dataset", type=DatasetName())
@click.argument("symbol", nargs=-1)
@click.option("--from", "first", type=Day(), help="First day, included. Default: the first stored one.")
@click.option("--to", "last", type=Day(), help="Last day, included. Default: the last stored one.")
@click.option(
    "--adjust",
    type=click.Choice(["none", "back", "forward"]),
    default="none",
    help="Prices as traded, or adjusted for dividends and splits back to the listing or forward to today.",
)
@click.option("--format", "form", type=click.Choice(["table", "csv", "parquet", "arrow"]), default="table")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="File to write to.")
@click.option(
    "--columns", multiple=True, help="Columns, separated by commas. Default: all; in a table all but fetched_at."
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many rows, from the first on.")
@as_json
def read(
    dataset: str,
    symbol: tuple[str, ...],
    first: date | None,
    last: date | None,
    adjust: How,
    form: str,
    output: Path | None,
    columns: tuple[str, ...],
    limit: int | None,
    *,
    json: bool,
) -> None:
    """Read stored rows as a table, CSV, Parquet, Arrow or JSON.

    SYMBOL is written 600000.SH, sh600000 or, for a stock, 600000; none means every stored one.
    """
    form = "json" if json else form
    if form in ("parquet", "arrow") and output is None and sys.stdout.isatty():
        raise click.UsageError(f"{form} is binary; name a file with --output, or send it on with a pipe")
    (wanted,) = arguments.datasets([dataset])
    if adjust != "none" and not wanted.name.startswith("bar_"):
        raise ConfigError(f"--adjust {adjust} is for bars, and {wanted} holds no bars; leave it out")
    if symbol and "symbol" not in wanted.schema.names:
        raise ConfigError(f"{wanted} is not kept by symbol; leave {' '.join(symbol[:3])} out")
    names = arguments.parts(columns)
    unknown = [n for n in names if n not in wanted.schema.names]
    if unknown:
        raise ConfigError(f"{wanted} has no column {unknown[0]!r}; it has {', '.join(wanted.schema.names)}")
    who, window = arguments.symbols(symbol), _window(first, last)
    from mystocks_ingest.cli.process import done
    from mystocks_ingest.errands.kinds import Read

    rows = done(Read(wanted.name, who, window, adjust, limit))
    if names:
        rows = rows.select(list(names))
    elif form == "table":
        rows = rows.drop_columns([n for n in rows.column_names if n == "fetched_at"])
    _write(rows, form, output, whole=limit is not None)
    if not rows.num_rows:
        whose = f" --symbols {','.join(symbol[:3])}" if symbol else ""
        hint = f"{as_typed()} backfill --dataset {wanted}{whose}"
        click.echo(f"no rows of {wanted} are stored for this; fetch them with: {hint}", err=True)


def _window(first: date | None, last: date | None) -> Window:
    """Everything stored, unless told otherwise; a calendar reaches into the future, so nothing ends today."""
    from mystocks_ingest.market.frames import Window

    start, end = first or EVER[0], last or EVER[1]
    if start > end:
        raise ConfigError(f"--from {start} is after --to {end}; exchange the two")
    return Window(start, end + timedelta(days=1))


def _write(rows: pa.Table, form: str, output: Path | None, *, whole: bool) -> None:
    match form:
        case "table" if output is None:
            _table(rows, sys.stdout, whole=whole)
        case "table":
            text = StringIO()
            _table(rows, text, whole=True)
            _to(output, lambda file: file.write(text.getvalue().encode()))
        case "json":
            _to(output, lambda file: _json(rows, file))
        case "csv":
            from pyarrow import csv

            _to(output, lambda file: csv.write_csv(rows, file, csv.WriteOptions(quoting_style="needed")))
        case "parquet":
            from pyarrow import parquet

            _to(output, lambda file: parquet.write_table(rows, file, compression="zstd"))
        case "arrow":
            from pyarrow import ipc

            def stream(file: IO[bytes]) -> None:
                with ipc.new_stream(file, rows.schema) as writer:
                    writer.write_table(rows)

            _to(output, stream)


def _table(rows: pa.Table, file: TextIO, *, whole: bool) -> None:
    hidden = 0 if whole else max(rows.num_rows - SHOWN, 0)
    half = SHOWN // 2
    cells = _cells(rows) if not hidden else [*_cells(rows.slice(0, half)), *_cells(rows.slice(rows.num_rows - half))]
    numeric = [f.name for f in rows.schema if not _is_text(f.type)]
    if rows.num_rows:
        table(rows.column_names, cells, right=numeric, file=file)
    if hidden:
        click.echo(f"{rows.num_rows:,} rows, {hidden:,} in the middle not shown; --limit or --format csv shows more")


def _is_text(type_: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _cells(rows: pa.Table) -> list[tuple[object, ...]]:
    return list(zip(*(column.to_pylist() for column in rows.columns), strict=True))


def _json(rows: pa.Table, file: IO[bytes]) -> None:
    """An array with one row per line, so that it can be read whole or line by line."""
    before = b"[\n"
    for batch in rows.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            file.write(before + dumps(row).encode())
            before = b",\n"
    file.write(b"\n]\n" if before == b",\n" else b"[]\n")


def _to(output: Path | None, write: Callable[[IO[bytes]], object]) -> None:
    if output is None:
        sys.stdout.flush()
        write(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    with _out(output) as file:
        write(file)


@contextmanager
def _out(output: Path) -> Iterator[IO[bytes]]:
    """A file beside ``output`` that takes its place once it is whole."""
    unfinished = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(output)
    except FileNotFoundError as exc:
        raise ConfigError(f"no such folder for --output: {output.parent}") from exc
    finally:
        unfinished.unlink(missing_ok=True)
