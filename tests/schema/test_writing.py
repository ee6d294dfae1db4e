"""Tables written as a file's text: read back, they are the same tables."""

from __future__ import annotations

import string
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mystocks_ingest.schema.document.defaults import TODAY
from mystocks_ingest.schema.keyspace import KeySpace, Kind
from mystocks_ingest.schema.tables import (
    Column,
    Database,
    Default,
    Expression,
    Index,
    Moment,
    Storage,
    Table,
    load,
)
from mystocks_ingest.schema.types import UNSIGNED, WORDS, Family, whole_range
from mystocks_ingest.schema.writing import written

SHIPPED = Path(__file__).parents[2] / "config" / "tables.yaml"
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
NAMES = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=12).map(
    lambda t: f"n_{t}"
)  # PostgreSQL keeps ctid, cmin and cmax
SPANS = st.one_of(
    st.integers(1, 4000).map(lambda n: timedelta(days=n)),
    st.integers(1, 4000).map(lambda n: timedelta(hours=n)),
    st.integers(1, 10**7).map(lambda n: timedelta(seconds=n)),
)
PLAIN = sorted(set(WORDS) - {"SERIAL", "SMALLSERIAL", "BIGSERIAL"})
CALLS = st.builds(lambda n, inside: f"{n}({inside})", NAMES, st.sampled_from(["", "1, 'a'", "x"]))


def test_the_shipped_file_is_read_back_as_the_same_tables(tmp_path: Path) -> None:
    shipped = load(SHIPPED).all
    path = tmp_path / "tables.yaml"
    path.write_text(written(shipped, heading="exported\n\nby hand"), encoding="utf-8")
    assert load(path).all == shipped


def test_no_table_at_all_is_a_file_as_well(tmp_path: Path) -> None:
    path = tmp_path / "tables.yaml"
    path.write_text(written([]), encoding="utf-8")
    assert load(path).all == ()


@st.composite
def defaults(draw: st.DrawFn, word: str, values: tuple[str, ...], length: int | None) -> Default:
    match WORDS[word]:
        case Family.TEXT if values:
            return draw(st.sampled_from([None, *values]))
        case Family.TEXT | Family.BYTES:
            text = TEXT.map(lambda t: t[:length] if length is not None else t)
            return draw(st.none() | text | CALLS.map(Expression) | st.sampled_from(["NULL"[:length], "NOW()"[:length]]))
        case Family.INTEGER:
            return draw(st.none() | st.integers(*whole_range(word)) | CALLS.map(Expression))
        case Family.REAL | Family.DECIMAL:
            real = st.floats(allow_nan=False, allow_infinity=False).map(lambda f: int(f) if f == int(f) else f)
            return draw(st.none() | st.integers(-(10**9), 10**9) | real.filter(lambda f: abs(f) < 2**63))
        case Family.BOOLEAN:
            return draw(st.none() | st.booleans())
        case Family.DAY:
            return draw(st.none() | st.just(TODAY) | st.dates().map(str))
        case Family.MOMENT:
            moments = st.datetimes().map(lambda t: t.isoformat(" "))
            return draw(st.none() | st.just(Moment.NOW) | st.just(TODAY) | moments)
        case Family.JSON:
            return draw(st.none() | st.sampled_from(["{}", "[]", '{"a": [1, "x"]}', '"abc"', "0", "null "]))


@st.composite
def columns(draw: st.DrawFn, name: str, database: Database) -> Column:
    word = draw(st.sampled_from([w for w in PLAIN if database is not Database.POSTGRESQL or w not in UNSIGNED]))
    family = WORDS[word]
    sized = word in ("VARCHAR", "CHAR", "NCHAR", "NVARCHAR", "BINARY", "VARBINARY")
    length = (
        draw(st.integers(1, 60)) if sized else draw(st.none() | st.integers(1, 6)) if family is Family.MOMENT else None
    )
    precision = draw(st.none() | st.integers(1, 38)) if family is Family.DECIMAL else None
    scale = draw(st.none() | st.integers(0, precision or 38)) if family is Family.DECIMAL else None
    values = tuple(draw(st.lists(TEXT, min_size=1, max_size=4, unique=True))) if word == "ENUM" else ()
    default = draw(defaults(word, values, length))
    return Column(
        name,
        word,
        length,
        precision,
        scale,
        nullable=draw(st.booleans()),
        default=default,
        comment=draw(TEXT),
        touched=family is Family.MOMENT and draw(st.booleans()),
        values=values,
    )


@st.composite
def tables(draw: st.DrawFn) -> Table:
    database = draw(st.sampled_from([Database.POSTGRESQL, Database.MYSQL, Database.MARIADB, Database.EMBEDDED]))
    names = draw(st.lists(NAMES, min_size=1, max_size=6, unique_by=str.lower))
    found = [draw(columns(name, database)) for name in names]
    fit = [c.name for c in found if WORDS[c.type] in (Family.DAY, Family.BOOLEAN, Family.INTEGER, Family.REAL)]
    key = tuple(draw(st.lists(st.sampled_from(fit), unique=True, max_size=3))) if fit else ()
    hyper, time = False, None
    if database is Database.POSTGRESQL and draw(st.booleans()):
        hyper, time = True, "when"
        found.append(Column("when", "TIMESTAMPTZ", nullable=False))
        key = (*key, "when")
    if key and WORDS[next(c for c in found if c.name == key[0]).type] is Family.INTEGER and draw(st.booleans()):
        found = [replace(c, numbered=True, default=None) if c.name == key[0] else c for c in found]
    found = [replace(c, nullable=c.nullable and c.name not in key and not c.numbered) for c in found]
    ordered = st.lists(st.sampled_from(fit), min_size=1, max_size=3, unique=True) if fit else st.just([])
    indexes = []
    for number in range(draw(st.integers(0, 3)) if fit else 0):
        parts = tuple(f"{c} DESC" if draw(st.booleans()) else c for c in draw(ordered))
        unique = draw(st.booleans())
        indexes.append(Index(f"index_{number}", (*parts, "when") if hyper and unique else parts, unique))
    indexes = list({(i.columns, i.unique): i for i in indexes}.values())
    storage = Storage()
    if hyper:
        storage = Storage(draw(st.none() | SPANS), draw(st.none() | st.booleans()), retention=draw(st.none() | SPANS))
        if storage.compress is not False:
            storage = replace(
                storage, compress_after=draw(st.none() | SPANS), order_by=draw(st.sampled_from([(), ("when DESC",)]))
            )
            storage = replace(storage, segment_by=tuple(sorted(set(key) - {"when"})))
    return Table(
        draw(NAMES),
        database,
        draw(st.sampled_from(["quant_research", "on", "2024", "null"])),
        tuple(found),
        key,
        time_column=time,
        is_timescale_hypertable=hyper,
        comment=draw(TEXT),
        indexes=tuple(indexes),
        storage=storage,
    )


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(table=tables())
def test_any_table_is_read_back_as_it_was_written(tmp_path: Path, table: Table) -> None:
    path = tmp_path / "tables.yaml"
    path.write_text(written([table]), encoding="utf-8")
    assert load(path).all == (table,)


def test_super_tables_and_key_spaces_are_read_back(tmp_path: Path) -> None:
    ticks = Table(
        "ticks",
        Database.TDENGINE,
        "market_data",
        (
            Column("ts", "TIMESTAMP", nullable=False),
            Column("price", "FLOAT"),
            Column("symbol", "VARCHAR", 20, is_tag=True, nullable=False),
            Column("board", "NCHAR", 8, is_tag=True),
        ),
        ("symbol", "ts"),
        is_super_table=True,
        storage=Storage(compress=True, retention=timedelta(days=730), codec="zstd", level="high"),
    )
    latest = Table(
        "quote_latest",
        Database.REDIS,
        "0",
        (Column("symbol", "VARCHAR", nullable=False), Column("last", "DOUBLE")),
        ("symbol",),
        key_space=KeySpace("limit:{symbol}", Kind.HASH, 0, "quotes", stream="s", stream_length=5),
    )
    path = tmp_path / "tables.yaml"
    path.write_text(written([ticks, latest]), encoding="utf-8")
    assert load(path).all == (ticks, latest)
