"""Tables for PostgreSQL's claims about structure: all that a file may say, and random ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import count

from hypothesis import strategies as st

from mystocks_ingest.schema.tables import Column, Database, Expression, Index, Moment, Storage, Table
from mystocks_ingest.schema.types import WORDS

DATABASE = "quant_research"
_numbers = count()

SYMBOL = Column("symbol", "VARCHAR", 20, nullable=False)
DAY = Column("trade_date", "DATE", nullable=False)


def table(*columns: Column, **changes: object) -> Table:
    usual = Table(
        f"shaped_{next(_numbers)}", Database.POSTGRESQL, DATABASE, columns, ("symbol", "trade_date"),
        time_column="trade_date",
    )  # fmt: skip
    return replace(usual, **changes)


def every_word() -> tuple[Column, ...]:
    """A column of every type word, with and without its sizes."""
    plain = [Column(f"plain_{i}", word) for i, word in enumerate(WORDS)]
    return (
        *plain,
        Column("varchar_60", "VARCHAR", 60),
        Column("nvarchar_60", "NVARCHAR", 60),
        Column("char_6", "CHAR", 6),
        Column("datetime_3", "DATETIME", 3),
        Column("varbinary_16", "VARBINARY", 16),
        Column("numeric_10_4", "NUMERIC", precision=10, scale=4),
        Column("decimal_20", "DECIMAL", precision=20),
        Column("decimal_38_10", "DECIMAL", precision=38, scale=10),
        Column("side", "ENUM", values=("buy", "sell", "short-selling")),
        Column("说明", "TEXT", comment="列名也可用中文"),
        Column("order", "INT", comment="a word of SQL's own"),
    )


def every_default() -> tuple[Column, ...]:
    """Defaults by meaning, as the reader gives them, also odd ones."""
    columns = [
        ("VARCHAR", 20, "x"),
        ("VARCHAR", 20, ""),
        ("VARCHAR", 20, "it's \\ a 'test' 中文🚀"),
        ("VARCHAR", 20, "now()"),
        ("VARCHAR", 20, "0"),
        ("TEXT", None, "CURRENT_TIMESTAMP"),
        ("INT", None, 0),
        ("INT", None, -5),
        ("INT", None, "7"),
        ("BIGINT", None, 9_223_372_036_854_775_807),
        ("SMALLINT", None, True),
        ("TINYINT", None, 1),
        ("BIGINT UNSIGNED", None, 18_446_744_073_709_551_615),
        ("NUMERIC", None, 0.0),
        ("NUMERIC", None, "1.50"),
        ("DOUBLE", None, 1.5),
        ("DOUBLE", None, -0.25),
        ("DOUBLE", None, 1e20),
        ("DOUBLE", None, 1e-9),
        ("DOUBLE", None, "NaN"),
        ("BOOLEAN", None, True),
        ("BOOLEAN", None, False),
        ("BOOLEAN", None, 0),
        ("BOOLEAN", None, "TRUE"),
        ("DATE", None, "2024-01-02"),
        ("DATE", None, Moment.NOW),
        ("TIMESTAMP", None, "2024-01-02 09:30:00"),
        ("TIMESTAMP", None, Moment.NOW),
        ("TIMESTAMPTZ", None, "2024-01-02 09:30:00+08:00"),
        ("TIMESTAMPTZ", None, "2024-01-02"),
        ("TIMESTAMPTZ", None, Moment.NOW),
        ("JSON", None, "{}"),
        ("JSONB", None, '{"b": [1, 2], "a": "平"}'),
        ("BYTEA", None, "abc"),
        ("BYTEA", None, "\\x00FF"),
        ("UUID", None, "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"),
        ("UUID", None, Expression("gen_random_uuid()")),
        ("TEXT", None, Expression("current_user")),
        ("TEXT", None, Expression("'a'||'b'")),
        ("TEXT", None, Expression("lower('A')")),
        ("INT", None, Expression("1 + 2")),
        ("TIMESTAMPTZ", None, Expression("clock_timestamp()")),
        ("TIMESTAMPTZ", None, Expression("now() - interval '1 day'")),
        ("TIMESTAMP", None, Expression("now() at time zone 'utc'")),
        ("TIMESTAMPTZ", None, Expression("CURRENT_TIMESTAMP")),
    ]
    return tuple(
        Column(f"c{i}", word, length, default=value, nullable=i % 3 > 0)
        for i, (word, length, value) in enumerate(columns)
    )


def every_option() -> Iterator[tuple[str, Table]]:
    """Tables that differ in all but their columns, by what is special in them."""
    usual = (SYMBOL, DAY, Column("close", "NUMERIC", precision=10, scale=4, comment="收盘价"), Column("note", "TEXT"))
    yield "every type", table(SYMBOL, DAY, *every_word(), comment="各种类型")
    yield "every default", table(SYMBOL, DAY, *every_default())
    yield "a hypertable of every type", table(SYMBOL, DAY, *every_word(), is_timescale_hypertable=True)
    yield "a hypertable of every default", table(SYMBOL, DAY, *every_default(), is_timescale_hypertable=True)
    yield "comments", table(*usual, comment="it's a 'table' \\ 表")
    indexes = (
        Index("idx_day", ("trade_date DESC",)),
        Index("uk_note", ("note", "symbol"), unique=True),
        Index("idx_both", ("close DESC", "note ASC")),
        Index("a_name_that_is_longer_than_postgresql_lets_any_name_be_in_its_catalogue", ("note",)),
    )
    yield "indexes", table(*usual, indexes=indexes)
    yield "the same names of indexes once more", table(*usual, indexes=indexes[:3])
    yield (
        "indexes of a hypertable",
        table(
            *usual,
            indexes=(*indexes[:1], Index("uk", ("note", "trade_date"), unique=True), *indexes[2:]),
            is_timescale_hypertable=True,
        ),
    )
    yield "numbered", table(Column("id", "BIGINT", numbered=True), Column("n", "VARCHAR", 9), key=("id",))
    yield "numbered beside the key", table(*usual, Column("id", "INT", numbered=True, nullable=False))
    yield (
        "numbered in a hypertable",
        table(*usual, Column("id", "INT", numbered=True), key=("id", "trade_date"), is_timescale_hypertable=True),
    )
    touched = (
        Column("created_at", "TIMESTAMPTZ", default=Moment.NOW, nullable=False),
        Column("updated_at", "TIMESTAMP", default=Moment.NOW, touched=True, comment="更新时间"),
        Column("更新", "TIMESTAMPTZ", touched=True),
    )
    yield "touched", table(*usual, *touched)
    yield "touched in a hypertable", table(*usual, *touched, Column("j", "JSON"), is_timescale_hypertable=True)
    yield "no key", table(*usual, key=())
    yield "no key in a hypertable", table(*usual, key=(), is_timescale_hypertable=True)
    yield "time first in the key", table(*usual, key=("trade_date", "symbol"), is_timescale_hypertable=True)
    yield (
        "storage",
        table(
            *usual,
            is_timescale_hypertable=True,
            storage=Storage(
                chunk=timedelta(days=30),
                compress_after=timedelta(days=7),
                segment_by=("note", "symbol"),
                order_by=("trade_date DESC", "close"),
                retention=timedelta(days=3650),
            ),
        ),
    )
    yield (
        "short storage",
        table(
            SYMBOL,
            Column("ts", "TIMESTAMPTZ", nullable=False),
            key=("symbol", "ts"),
            time_column="ts",
            is_timescale_hypertable=True,
            storage=Storage(
                timedelta(hours=6), compress_after=timedelta(hours=36), retention=timedelta(minutes=90_001)
            ),
        ),
    )
    yield "no compression", table(*usual, is_timescale_hypertable=True, storage=Storage(compress=False))
    yield (
        "minutes",
        table(
            SYMBOL,
            Column("ts", "TIMESTAMP", nullable=False),
            Column("price", "DOUBLE"),
            key=("symbol", "ts"),
            time_column="ts",
            is_timescale_hypertable=True,
        ),
    )


# random tables -----------------------------------------------------------------------------------------------------

_TYPES = (
    ("VARCHAR", 20, None, None),
    ("VARCHAR", 40, None, None),
    ("TEXT", None, None, None),
    ("SMALLINT", None, None, None),
    ("INT", None, None, None),
    ("BIGINT", None, None, None),
    ("BIGINT UNSIGNED", None, None, None),
    ("NUMERIC", None, 10, 4),
    ("NUMERIC", None, 18, 4),
    ("NUMERIC", None, None, None),
    ("DOUBLE", None, None, None),
    ("BOOLEAN", None, None, None),
    ("DATE", None, None, None),
    ("TIMESTAMP", None, None, None),
    ("TIMESTAMPTZ", None, None, None),
    ("JSONB", None, None, None),
)


@st.composite
def columns(draw: st.DrawFn, name: str) -> Column:
    word, length, precision, scale = draw(st.sampled_from(_TYPES))
    default: object = None
    if draw(st.booleans()):
        default = {
            "VARCHAR": "it's", "TEXT": "", "BOOLEAN": True, "DATE": Moment.NOW, "TIMESTAMP": Moment.NOW,
            "TIMESTAMPTZ": Moment.NOW, "JSONB": "{}", "DOUBLE": -1.5, "NUMERIC": 0.5,
        }.get(word, draw(st.integers(0, 9)))  # fmt: skip
    moment = word in ("TIMESTAMP", "TIMESTAMPTZ")
    return Column(
        name,
        word,
        length,
        precision,
        scale,
        nullable=draw(st.booleans()),
        default=default,  # type: ignore[arg-type]
        comment=draw(st.sampled_from(("", "注", "it's"))),
        touched=moment and draw(st.booleans()),
        numbered=default is None and word in ("INT", "BIGINT") and draw(st.integers(0, 9)) == 0,
    )


@st.composite
def tables(draw: st.DrawFn, name: str, *, hypertable: bool) -> Table:
    names = draw(st.lists(st.sampled_from(("a", "b", "c", "d")), unique=True))
    others = tuple(draw(columns(n)) for n in names)
    listed = tuple(c.name for c in others)
    indexes = []
    for number in range(draw(st.integers(0, 2)) if listed else 0):
        on = draw(st.lists(st.sampled_from(listed), unique=True, min_size=1, max_size=2))
        plain = tuple(n + draw(st.sampled_from(("", " DESC"))) for n in on)
        unique = draw(st.booleans())
        indexes.append(Index(f"idx_{number}", (*plain, "trade_date") if unique else plain, unique))
    day = st.sampled_from((1, 7, 30, 400))
    storage = Storage(
        chunk=timedelta(days=draw(day)),
        compress=draw(st.sampled_from((None, False))),
        compress_after=timedelta(days=draw(day)),
        order_by=draw(st.sampled_from(((), ("trade_date DESC",)))),
        retention=draw(st.sampled_from((None, timedelta(days=3650), timedelta(days=1000)))),
    )
    return Table(
        name,
        Database.POSTGRESQL,
        DATABASE,
        (SYMBOL, DAY, *others),
        ("symbol", "trade_date"),
        time_column="trade_date",
        is_timescale_hypertable=hypertable,
        comment=draw(st.sampled_from(("", "表"))),
        indexes=tuple({(i.columns, i.unique): i for i in indexes}.values()),
        storage=storage if hypertable else Storage(),
    )
