"""Tables with every type, option and default that a file may hold for MySQL and MariaDB."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
from hypothesis import strategies as st

from mystocks_ingest.schema.tables import Column, Database, Default, Expression, Index, Moment, Table

DATABASE = "of_all_kinds"

TYPES: dict[str, Column] = {
    c.name: c
    for c in (
        Column("int_", "INT"),
        Column("integer_", "INTEGER"),
        Column("int_unsigned", "INT UNSIGNED"),
        Column("bigint_", "BIGINT"),
        Column("bigint_unsigned", "BIGINT UNSIGNED"),
        Column("tinyint_", "TINYINT"),
        Column("tinyint_1", "TINYINT", 1),
        Column("tinyint_unsigned", "TINYINT UNSIGNED"),
        Column("smallint_", "SMALLINT"),
        Column("mediumint_", "MEDIUMINT"),
        Column("serial_", "SERIAL"),
        Column("bigserial_", "BIGSERIAL"),
        Column("boolean_", "BOOLEAN"),
        Column("bool_", "BOOL"),
        Column("float_", "FLOAT"),
        Column("real_", "REAL"),
        Column("double_", "DOUBLE"),
        Column("double_precision", "DOUBLE PRECISION"),
        Column("decimal_", "DECIMAL", precision=10, scale=4),
        Column("decimal_whole", "DECIMAL", precision=20),
        Column("numeric_", "NUMERIC"),
        Column("numeric_wide", "NUMERIC", precision=38, scale=10),
        Column("varchar_", "VARCHAR", 255),
        Column("char_", "CHAR", 6),
        Column("nvarchar_", "NVARCHAR", 40),
        Column("uuid_", "UUID"),
        Column("tinytext_", "TINYTEXT"),
        Column("text_", "TEXT"),
        Column("mediumtext_", "MEDIUMTEXT"),
        Column("longtext_", "LONGTEXT"),
        Column("enum_", "ENUM", values=("TDengine", "PostgreSQL", "a'b", "x,y", "表", "back\\slash", "(b)")),
        Column("json_", "JSON"),
        Column("jsonb_", "JSONB"),
        Column("date_", "DATE"),
        Column("datetime_", "DATETIME"),
        Column("datetime_0", "DATETIME", 0),
        Column("datetime_3", "DATETIME", 3),
        Column("datetime_6", "DATETIME", 6),
        Column("timestamp_", "TIMESTAMP"),
        Column("timestamptz_", "TIMESTAMPTZ"),
        Column("shanghai", "DATETIME", canonical=pa.timestamp("ms", "Asia/Shanghai")),
        Column("binary_", "BINARY", 64),
        Column("varbinary_", "VARBINARY", 16),
        Column("tinyblob_", "TINYBLOB"),
        Column("blob_", "BLOB"),
        Column("mediumblob_", "MEDIUMBLOB"),
        Column("longblob_", "LONGBLOB"),
        Column("bytea_", "BYTEA"),
    )
}

TEXTS = (
    "",
    "x",
    "it's",
    "平安",
    "NULL",
    "null",
    "0",
    "CURRENT_TIMESTAMP",
    "a\\b",
    'say "x"',
    "two\nlines",
    "(1)",
    "'q'",
)

DEFAULTS: tuple[tuple[str, Default], ...] = (
    *((word, value) for word in ("int_", "bigint_", "tinyint_", "bigint_unsigned") for value in (0, 7, "0", "42", True)),
    ("int_", -5),
    ("bigint_unsigned", 2**64 - 1),
    *(("boolean_", value) for value in (True, False, "TRUE", "false", 0, 1, "1")),
    ("tinyint_1", True),
    *((word, value) for word in ("double_", "decimal_", "float_") for value in (0, 0.5, "1.25", -3, 1e5)),
    ("double_", 0.1),
    ("double_", 1e30),
    ("double_", 1.2345678901234567),
    ("float_", 0.1),
    ("numeric_wide", "12345.6789"),
    *((word, text) for word in ("varchar_", "text_", "longtext_") for text in TEXTS),
    ("varchar_", 0),
    ("varchar_", False),
    ("char_", "SH"),
    ("enum_", "PostgreSQL"),
    ("enum_", "a'b"),
    ("enum_", "back\\slash"),
    ("json_", "{}"),
    ("json_", '{"a": [1, "平安\'s"]}'),
    ("json_", Expression("JSON_OBJECT()")),
    ("json_", Expression("(JSON_ARRAY(1, 'Two'))")),
    ("date_", "2020-01-02"),
    ("date_", Moment.NOW),
    ("datetime_", "2020-01-02"),
    ("datetime_0", "2020-01-02 03:04:05"),
    ("datetime_6", "2020-01-02T03:04:05.123456"),
    *((word, Moment.NOW) for word in ("datetime_", "datetime_0", "datetime_3", "datetime_6", "timestamp_", "timestamptz_")),
    ("datetime_0", Expression("now()")),
    ("datetime_3", Expression("CURRENT_TIMESTAMP(3)")),
    ("datetime_3", Expression("(NOW() + INTERVAL 1 DAY)")),
    ("varchar_", Expression("UUID()")),
    ("uuid_", Expression("gen_random_uuid()")),
    ("varchar_", Expression("concat('a', upper('B'), `int_`)".replace(", `int_`", ""))),
    ("int_", Expression("(1 + 2) * 3")),
    ("int_", Expression("7")),
    ("varchar_", Expression("'already quoted'")),
    ("varchar_", Expression("NULL")),
    ("blob_", "bytes"),
    ("varbinary_", "ab"),
)  # fmt: skip


def kinds(database: Database = Database.MYSQL) -> list[Table]:
    """Tables that together hold every type, default and option of a file."""
    key = Column("id", "INT", nullable=False)

    def table(name: str, *columns: Column, **more: object) -> Table:
        given = {"key": ("id",), **more}
        return Table(name, database, DATABASE, columns, **given)  # type: ignore[arg-type]

    from dataclasses import replace  # noqa: PLC0415

    defaults = [
        replace(TYPES[word], name=f"d{number}_{word}", default=value)
        for number, (word, value) in enumerate(DEFAULTS)
    ]  # fmt: skip
    return [
        table("every_type", key, *TYPES.values()),
        table("every_type_required", key, *(replace(c, nullable=False) for c in TYPES.values())),
        table("every_default", key, *defaults),
        table("every_default_required", key, *(replace(d, nullable=False) for d in defaults if d.default != Expression("NULL"))),
        table(
            "touched", key, Column("a", "TIMESTAMP", default=Moment.NOW, touched=True), Column("b", "DATETIME", 0, touched=True),
            Column("c", "DATETIME", 6, default=Moment.NOW, touched=True), Column("d", "INT", touched=True),
            Column("e", "TIMESTAMP", nullable=False, default=Moment.NOW, touched=True, comment="更新时间"),
        ),
        table("numbered", Column("id", "INT", numbered=True), Column("name", "VARCHAR", 20)),
        table("numbered_serial", Column("id", "BIGSERIAL", numbered=True, nullable=False), comment="计数"),
        table("numbered_unsigned", Column("id", "BIGINT UNSIGNED", numbered=True), Column("x", "INT"), key=("id", "x")),
        table(
            "numbered_beside", Column("id", "INT", numbered=True), Column("symbol", "VARCHAR", 20), key=("symbol",),
            indexes=(Index("idx_id", ("id",), unique=True),),
        ),
        table("no_key", Column("a", "INT"), Column("b", "TEXT"), key=()),
        table("long_key", *(Column(f"k{i}", "VARCHAR", 192) for i in range(4)), key=("k0", "k1", "k2", "k3")),
        table("odd `name", Column("select", "INT"), Column("group by", "TEXT", comment="a `b`"), key=("select",)),
        table(
            "comments", Column("id", "INT", comment="it's \\ \"quoted\"\n第二行"), Column("b", "JSON", comment="x" * 1024),
            Column("c", "ENUM", values=("a", "b"), comment="类"), comment="表's \\ 备注" + "长" * 2000,
        ),
        table(
            "indexed", key, Column("symbol", "VARCHAR", 20), Column("trade_date", "DATE"), Column("note", "TEXT"),
            Column("price", "DECIMAL", precision=10, scale=4), Column("name", "VARCHAR", 255), Column("raw", "VARBINARY", 64),
            indexes=(
                Index("idx_symbol", ("symbol",)),
                Index("idx_two", ("symbol", "trade_date DESC")),
                Index("idx_desc", ("trade_date desc", "price ASC")),
                Index("uniq", ("symbol", "trade_date"), unique=True),
                Index("uniq_key", ("id",), unique=True),
                Index("idx_note", ("note(20)",)),
                Index("idx_name", ("name(10) DESC", "raw(8)")),
                Index("idx_again", ("symbol",)),
                Index("idx odd`name", ("price",)),
            ),
        ),
    ]  # fmt: skip


Draw = Callable[..., object]


@st.composite
def tables(draw: st.DrawFn, name: str) -> Table:
    """Random tables over a small set of names, so that two of them have much in common."""
    pool = [c for c in TYPES.values() if "SERIAL" not in c.type]
    columns = [Column("id", "INT", nullable=False)]
    for letter in draw(st.lists(st.sampled_from("abcde"), unique=True, max_size=4)):
        kind = draw(st.sampled_from(pool))
        default = draw(st.sampled_from([None, *(v for n, v in DEFAULTS if n == kind.name)]))
        columns.append(
            Column(
                letter,
                kind.type,
                kind.length,
                kind.precision,
                kind.scale,
                nullable=draw(st.booleans()),
                default=default,
                comment=draw(st.sampled_from(["", "备注", "it's"])),
                touched=kind.type in ("DATETIME", "TIMESTAMP") and draw(st.booleans()),
                values=kind.values,
            )
        )
    columns = [
        c if c.default != Expression("NULL") or c.nullable else Column(c.name, c.type, c.length) for c in columns
    ]
    plain = [c.name for c in columns if c.type in ("INT", "BIGINT", "DATE", "DECIMAL", "CHAR", "UUID", "BOOLEAN")]
    chosen = draw(st.lists(st.sampled_from(plain), unique=True, max_size=2))
    indexes = []
    if chosen and chosen != ["id"]:
        order = draw(st.sampled_from(["", " DESC"]))
        parts = (*chosen[:-1], chosen[-1] + order)
        indexes.append(Index("idx_" + "_".join(chosen) + order.strip().lower(), parts))
    key = draw(st.sampled_from([("id",), ("id",), ()]))
    return Table(
        name, Database.MYSQL, DATABASE, tuple(columns), key, comment=draw(st.sampled_from(["", "表"])),
        indexes=tuple(indexes),
    )  # fmt: skip
