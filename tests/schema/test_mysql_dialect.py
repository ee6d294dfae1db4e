"""MySQL's and MariaDB's words for tables: text in, text out; what their catalogues show, as recorded from both."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mystocks_ingest.errors import UnsafeChange
from mystocks_ingest.schema.changes import (
    AddColumn,
    AddIndex,
    Change,
    ChangeColumn,
    ChangeKey,
    CreateDatabase,
    CreateTable,
    DropColumn,
    DropIndex,
    DropTable,
    SetComment,
    SetOption,
)
from mystocks_ingest.schema.diff import Fit, diff
from mystocks_ingest.schema.structure import ColumnShape, IndexShape
from mystocks_ingest.schema.tables import Column, Database, Default, Expression, Index, Moment, Table
from mystocks_ingest.sinks.mysql.catalogue import Found, shapes
from mystocks_ingest.sinks.mysql.ddl import Server
from mystocks_ingest.sinks.mysql.defaults import meant, spelled
from mystocks_ingest.sinks.mysql.dialect import MySQLDialect
from mystocks_ingest.sinks.mysql.grants import grants
from mystocks_ingest.sinks.mysql.types import fit, normal

MARIADB = Server(Database.MARIADB, (10, 11, 19))
OLD_MARIADB = Server(Database.MARIADB, (10, 6, 12))
MYSQL = Server(Database.MYSQL, (8, 0, 36))
SERVERS = pytest.mark.parametrize("server", [MARIADB, MYSQL], ids=["MariaDB", "MySQL"])


def symbols() -> Table:
    """The table of the users' own file, and a little of everything else."""
    columns = (
        Column("symbol_id", "INT", nullable=False, numbered=True, comment="股票ID"),
        Column("symbol", "VARCHAR", 20, nullable=False, comment="代码,'x'"),
        Column("price", "NUMERIC", precision=10, scale=4, nullable=False, default=0),
        Column("is_active", "BOOLEAN", default=True, comment="是否有效"),
        Column("kind", "ENUM", default="b'c", values=("a", "b'c")),
        Column("note", "TEXT", default="a'b"),
        Column("detail", "JSON", default=Expression("JSON_OBJECT()")),
        Column("token", "UUID", default=Expression("gen_random_uuid()")),
        Column("created_at", "TIMESTAMP", default=Moment.NOW),
        Column("updated_at", "TIMESTAMP", default=Moment.NOW, touched=True),
    )
    indexes = (
        Index("uniq_symbol", ("symbol",), unique=True),
        Index("idx_price", ("price DESC", "note(20)")),
    )
    return Table("sym`bols", Database.MYSQL, "quant_research", columns, ("symbol_id",), comment="表", indexes=indexes)


CREATED = """CREATE TABLE `quant_research`.`sym``bols` (
  `symbol_id` int NOT NULL AUTO_INCREMENT COMMENT '股票ID',
  `symbol` varchar(20) NOT NULL COMMENT '代码,\\'x\\'',
  `price` decimal(10,4) NOT NULL DEFAULT 0.0000,
  `is_active` tinyint(1) NULL DEFAULT 1 COMMENT '是否有效',
  `kind` enum('a','b''c') NULL DEFAULT 'b\\'c',
  `note` text NULL DEFAULT ('a\\'b'),
  `detail` json NULL DEFAULT (json_object()),
  `token` varchar(36) NULL DEFAULT (uuid()),
  `created_at` datetime(3) NULL DEFAULT current_timestamp(3),
  `updated_at` datetime(3) NULL DEFAULT current_timestamp(3) ON UPDATE current_timestamp(3),
  PRIMARY KEY (`symbol_id`),
  UNIQUE INDEX `uniq_symbol` (`symbol`),
  INDEX `idx_price` (`price` DESC, `note`(20))
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = utf8mb4 COLLATE = %s COMMENT = '表'"""


@SERVERS
def test_a_table_is_made_by_one_statement(server: Server) -> None:
    dialect = MySQLDialect(server)
    assert dialect.ddl(CreateTable(dialect.shape(symbols()))) == [CREATED % server.collation]


def test_mariadb_before_10_8_forgets_that_an_index_descends() -> None:
    shape = MySQLDialect(OLD_MARIADB).shape(symbols())
    assert shape.indexes[1].columns == ("price", "note(20)")
    assert MySQLDialect(MARIADB).shape(symbols()).indexes[1].columns == ("price DESC", "note(20)")
    assert MySQLDialect(MYSQL).shape(symbols()).indexes[1].columns == ("price DESC", "note(20)")


def test_a_server_that_lowers_names_and_a_database_for_all() -> None:
    table = replace(symbols(), name="Symbols", database_name="Quant")
    assert str(MySQLDialect(replace(MYSQL, lower_names=True)).shape(table)) == "quant.symbols"
    assert str(MySQLDialect(MYSQL, "other").shape(table)) == "other.Symbols"


def test_what_the_database_cannot_keep_is_left_out_of_the_shape() -> None:
    columns = (
        Column("id", "INT", default=7, numbered=True),
        Column("n", "INT", touched=True),
        Column("day", "DATE", touched=True),
    )
    table = Table("t", Database.MYSQL, "d", columns, ("id",), indexes=(Index("twice", ("id",), unique=True),))
    shape = MySQLDialect().shape(table)
    assert shape.columns[0] == ColumnShape("id", "int", nullable=False, numbered=True)
    assert not any(c.touched for c in shape.columns)
    assert shape.indexes == ()


SHAPE = MySQLDialect(MARIADB).shape(symbols())
NOTE = ColumnShape("note", "varchar(40)", nullable=False, default="'x'", comment="it's")
PLACE = "ALTER TABLE `quant_research`.`sym``bols`"
TEXT = "CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"

CHANGES: list[tuple[Change, str]] = [
    (
        CreateDatabase("quant_research"),
        "CREATE DATABASE IF NOT EXISTS `quant_research` CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
    ),
    (DropTable(SHAPE), "DROP TABLE IF EXISTS `quant_research`.`sym``bols`"),
    (AddColumn(SHAPE, NOTE), f"{PLACE} ADD COLUMN `note` varchar(40) {TEXT} NOT NULL DEFAULT 'x' COMMENT 'it\\'s'"),
    (DropColumn(SHAPE, NOTE), f"{PLACE} DROP COLUMN `note`"),
    (
        ChangeColumn(SHAPE, replace(NOTE, comment=""), NOTE),
        f"{PLACE} MODIFY COLUMN `note` varchar(40) {TEXT} NOT NULL DEFAULT 'x' COMMENT 'it\\'s'",
    ),
    (
        ChangeColumn(SHAPE, SHAPE.columns[9], replace(SHAPE.columns[9], type="datetime(6)", default="current_timestamp(6)")),
        f"{PLACE} MODIFY COLUMN `updated_at` datetime(6) NULL DEFAULT current_timestamp(6) ON UPDATE current_timestamp(6)",
    ),
    (ChangeKey(SHAPE, (), ("symbol", "price")), f"{PLACE} ADD PRIMARY KEY (`symbol`, `price`)"),
    (ChangeKey(SHAPE, ("id",), ("symbol",)), f"{PLACE} DROP PRIMARY KEY, ADD PRIMARY KEY (`symbol`)"),
    (ChangeKey(SHAPE, ("id",), ()), f"{PLACE} DROP PRIMARY KEY"),
    (AddIndex(SHAPE, IndexShape("i`x", ("price DESC", "note(5)"))), f"{PLACE} ADD INDEX `i``x` (`price` DESC, `note`(5))"),
    (AddIndex(SHAPE, IndexShape("u", ("symbol",), unique=True)), f"{PLACE} ADD UNIQUE INDEX `u` (`symbol`)"),
    (DropIndex(SHAPE, IndexShape("i`x", ("price",))), f"{PLACE} DROP INDEX `i``x`"),
    (SetComment(SHAPE, ""), f"{PLACE} COMMENT = '表'"),
    (SetOption(SHAPE, "engine", "MyISAM", "InnoDB"), f"{PLACE} ENGINE = InnoDB"),
    (
        SetOption(SHAPE, "collation", "latin1_swedish_ci", "utf8mb4_nopad_bin"),
        f"{PLACE} DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "statement"), CHANGES, ids=lambda c: type(c).__name__ if not isinstance(c, str) else ""
)
def test_a_change_is_one_statement(change: Change, statement: str) -> None:
    assert MySQLDialect(MARIADB).ddl(change) == [statement]


def test_a_default_of_each_rows_own_follows_its_column_on_mysql() -> None:
    token = ColumnShape("token", "varchar(36)", default="(uuid())")
    assert MySQLDialect(MYSQL).ddl(AddColumn(SHAPE, token)) == [
        f"{PLACE} ADD COLUMN `token` varchar(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NULL",
        f"{PLACE} MODIFY COLUMN `token` varchar(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NULL DEFAULT (uuid())",
    ]
    assert "let it be null" in MySQLDialect(MYSQL).hazard(AddColumn(SHAPE, replace(token, nullable=False)))
    assert len(MySQLDialect(MARIADB).ddl(AddColumn(SHAPE, token))) == 1


@SERVERS
def test_hazards_are_said(server: Server) -> None:
    dialect = MySQLDialect(server)
    id_, at = SHAPE.columns[0], SHAPE.columns[8]
    assert "numbered 0" in dialect.hazard(ChangeColumn(SHAPE, replace(id_, numbered=False), id_))
    assert "wall clocks" in dialect.hazard(ChangeColumn(SHAPE, replace(at, type="timestamp(3)"), at))
    assert "somebody chose ROCKSDB" in dialect.hazard(SetOption(SHAPE, "engine", "ROCKSDB", "InnoDB"))
    assert dialect.hazard(SetOption(SHAPE, "engine", "MyISAM", "InnoDB")) == ""
    long = replace(SHAPE, columns=(*SHAPE.columns, ColumnShape("c", "varchar(769)")))
    too_long = AddIndex(long, IndexShape("i", ("c",)))
    assert "3,072 fit" in dialect.hazard(too_long)
    with pytest.raises(UnsafeChange, match=r"index the beginning of one, such as name\(191\)"):
        dialect.ddl(too_long)


FITS = {
    Fit.SAME: [("int", "int"), ("enum('a')", "enum('a')")],
    Fit.WIDER: [
        ("int", "bigint"), ("int unsigned", "bigint"), ("tinyint(1)", "tinyint"), ("smallint", "decimal(5,0)"),
        ("int", "double"), ("mediumint", "float"), ("decimal(10,4)", "decimal(12,4)"), ("decimal(10,4)", "decimal(12,6)"),
        ("float", "double"), ("varchar(20)", "varchar(21)"), ("varchar(63)", "tinytext"), ("varchar(16383)", "text"),
        ("text", "longtext"), ("char(6)", "varchar(6)"), ("blob", "longblob"), ("varbinary(8)", "blob"),
        ("date", "datetime"), ("datetime", "datetime(3)"), ("timestamp(3)", "datetime(3)"), ("json", "longtext"),
        ("enum('a','b')", "enum('b','c','a')"), ("enum('a','bc')", "varchar(2)"),
        ("varchar(20) collate utf8mb4_general_ci", "varchar(20)"), ("varchar(20) collate latin1_swedish_ci", "varchar(20)"),
        ("int unsigned zerofill", "int unsigned"), ("decimal(10,2) unsigned", "decimal(10,2)"),
    ],
    Fit.LOSSY: [
        ("bigint", "int"), ("int", "int unsigned"), ("int unsigned", "int"), ("tinyint", "tinyint(1)"), ("int", "float"),
        ("bigint", "double"), ("int", "decimal(9,0)"), ("int", "decimal(10,2)"), ("int", "varchar(20)"),
        ("decimal(10,4)", "decimal(12,7)"), ("decimal(10,4)", "decimal(10,2)"), ("decimal(10,4)", "double"),
        ("double", "float"), ("double", "decimal(38,10)"), ("varchar(20)", "varchar(19)"), ("varchar(64)", "tinytext"),
        ("varchar(20)", "int"), ("text", "varchar(100)"), ("longtext", "text"), ("longtext", "json"), ("datetime(6)", "datetime(3)"),
        ("datetime", "date"), ("datetime(3)", "timestamp(3)"), ("timestamp(6)", "datetime(3)"), ("enum('a','b')", "enum('a')"),
        ("enum('a','bc')", "varchar(1)"), ("text collate latin1_swedish_ci", "text"), ("int as (id*2)", "int"),
        ("blob", "text"), ("geometry", "json"), ("set('a')", "enum('a')"), ("float", "float(10,2)"),
        ("decimal(10,2)", "decimal(10,2) unsigned"), ("tinyint", "decimal(5,2) unsigned"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "how"), [(b, a, how) for how, pairs in FITS.items() for b, a in pairs])
def test_which_type_holds_anothers_values(before: str, after: str, how: Fit) -> None:
    assert fit(before, after) is how
    assert MySQLDialect().fit(before, after) is how


@pytest.mark.parametrize(
    ("catalogue", "kind"),
    [
        ("int(11)", "int"), ("int", "int"), ("bigint(20) unsigned", "bigint unsigned"), ("tinyint(1)", "tinyint(1)"),
        ("tinyint(4)", "tinyint"), ("tinyint(1) unsigned", "tinyint unsigned"), ("year(4)", "year"),
        ("decimal(10,4)", "decimal(10,4)"), ("datetime(3)", "datetime(3)"), ("enum('A','b(1)')", "enum('A','b(1)')"),
    ],
)  # fmt: skip
def test_the_width_of_numbers_is_no_part_of_their_type(catalogue: str, kind: str) -> None:
    assert normal(catalogue) == kind


MEANINGS: list[tuple[str, list[Default], str | None]] = [
    ("int", [None, Expression("NULL"), Expression("null")], None),
    ("int", [0, "0", False, Expression("0"), "0.0", -0.0], "0"),
    ("tinyint(1)", [True, 1, "1", "TRUE", "true", Expression("TRUE")], "1"),
    ("bigint unsigned", [2**64 - 1, str(2**64 - 1)], "18446744073709551615"),
    ("decimal(10,4)", [1.5, "1.5", "1.50000", Expression("1.5")], "1.5000"),
    ("double", [1e30, "1e30", "1E+30"], "1e+30"),
    ("float", ["0.1", 0.1], "0.1"),
    ("bit(3)", ["b'010'", 2, Expression("b'10'")], "b'10'"),
    ("varchar(20)", ["x", Expression("'x'"), Expression("_utf8mb4'x'")], "'x'"),
    ("varchar(20)", ["it's", Expression("'it''s'"), Expression("'it\\'s'")], "'it\\'s'"),
    ("text", ["", Expression("''")], "''"),
    ("date", ["2020-01-02"], "'2020-01-02'"),
    ("datetime(3)", ["2020-01-02", "2020-01-02 00:00:00.000", "2020-01-02T00:00:00"], "'2020-01-02 00:00:00.000'"),
    ("datetime", ["2020-01-02 03:04:05"], "'2020-01-02 03:04:05'"),
    ("datetime(3)", [Moment.NOW, Expression("NOW(3)"), Expression("CURRENT_TIMESTAMP(3)")], "current_timestamp(3)"),
    ("datetime", [Moment.NOW, Expression("now()"), Expression("CURRENT_TIMESTAMP")], "current_timestamp"),
    ("datetime(3)", [Expression("CURRENT_TIMESTAMP"), Expression("now()")], "(current_timestamp())"),
    ("date", [Moment.NOW, Expression("(CURRENT_DATE)"), Expression("curdate()")], "(curdate())"),
    ("varchar(36)", [Expression("UUID()"), Expression("(uuid())"), Expression("gen_random_uuid()")], "(uuid())"),
    ("int", [Expression("(1 + 2) * 3"), Expression("((1 + 2) * 3)"), Expression("(1+2)*3")], "((1+2)*3)"),
    ("datetime", [Expression("(now() + INTERVAL 1 DAY)")], "(current_timestamp()+interval 1 day)"),
    ("json", [Expression("JSON_ARRAY( 'A  B', `C` )"), Expression("json_array(_utf8mb4'A  B',c)")], "(json_array('A  B',c))"),
    ("varchar(9)", ["CURRENT_TIMESTAMP"], "'CURRENT_TIMESTAMP'"),
    ("int", ["soon"], "'soon'"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "defaults", "spelling"), MEANINGS)
def test_defaults_of_one_meaning_have_one_spelling(kind: str, defaults: list[Default], spelling: str | None) -> None:
    assert {spelled(kind, default) for default in defaults} == {spelling}
    assert spelled(kind, meant(kind, spelling)) == spelling


# what the catalogues show ----------------------------------------------------------------------------------------

FROM_MARIADB = Found(
    "p",
    tables=(("c", "InnoDB", "utf8mb4_nopad_bin", ""), ("t", "InnoDB", "utf8mb4_nopad_bin", "tab'le 表")),
    columns=(
        ("c", "id", "int(11)", "NO", None, "", None, None, ""),
        ("c", "tid", "int(11)", "YES", "NULL", "", None, None, ""),
        ("t", "id", "int(11)", "NO", None, "auto_increment", None, None, "号"),
        ("t", "a", "varchar(20)", "YES", "'x''y'", "", "utf8mb4_nopad_bin", None, ""),
        ("t", "b", "text", "YES", "'a\\\\b\\n\"z\\'q 表'", "", "utf8mb4_nopad_bin", None, ""),
        ("t", "c", "longtext", "YES", "'{}'", "", "utf8mb4_bin", None, ""),
        ("t", "d", "datetime(3)", "YES", "current_timestamp(3)", "on update current_timestamp(3)", None, None, ""),
        ("t", "e", "date", "YES", "curdate()", "", None, None, ""),
        ("t", "f", "decimal(10,4)", "YES", "0.0000", "", None, None, ""),
        ("t", "i", "bit(3)", "YES", "b'10'", "", None, None, ""),
        ("t", "j", "enum('a','b''c','D')", "YES", "'D'", "", "utf8mb4_nopad_bin", None, ""),
        ("t", "k", "tinyint(1)", "YES", "1", "", None, None, ""),
        ("t", "m", "varchar(36)", "YES", "uuid()", "", "utf8mb4_nopad_bin", None, ""),
        ("t", "n", "datetime", "YES", "'2020-01-01 00:00:00'", "", None, None, ""),
        ("t", "r", "varchar(10)", "YES", "'NULL'", "", "utf8mb4_nopad_bin", None, ""),
        ("t", "w", "int(11)", "YES", "NULL", "STORED GENERATED", None, "`f` + 1", ""),
        ("t", "z", "varchar(30)", "YES", "NULL", "", "utf8mb4_general_ci", None, ""),
    ),
    indexes=(
        ("c", "PRIMARY", 0, "id", "A", None, "BTREE", None),
        ("c", "fk1", 1, "tid", "A", None, "BTREE", None),
        ("t", "PRIMARY", 0, "id", "A", None, "BTREE", None),
        ("t", "ft", 1, "b", None, None, "FULLTEXT", None),
        ("t", "k2", 1, "a", "A", None, "BTREE", None),
        ("t", "k2", 1, "f", "D", None, "BTREE", None),
        ("t", "k3", 1, "b", "A", 20, "BTREE", None),
        ("t", "u1", 0, "a", "A", None, "BTREE", None),
    ),
    checks=(("t", "c", "json_valid(`c`)"), ("t", "positive", "`f` > 0")),
    foreign=(("c", "fk1"),),
)

FROM_MYSQL = Found(
    "p",
    tables=tuple((n, e, "utf8mb4_0900_bin", c) for n, e, _, c in FROM_MARIADB.tables),
    columns=(
        ("c", "id", "int", "NO", None, "", None, "", ""),
        ("c", "tid", b"int", "YES", None, "", None, "", ""),
        ("t", "id", b"int", "NO", None, "auto_increment", None, "", "号"),
        ("t", "a", b"varchar(20)", "YES", b"x'y", "", "utf8mb4_0900_bin", b"", ""),
        ("t", "b", b"text", "YES", '_utf8mb4\\\'a\\\\\\\\b\\\\n"z\\\\\\\'q è¡¨\\\'', "DEFAULT_GENERATED", "utf8mb4_0900_bin", "", ""),
        ("t", "c", b"json", "YES", "_utf8mb4\\'{}\\'", "DEFAULT_GENERATED", None, "", ""),
        ("t", "d", b"datetime(3)", "YES", "CURRENT_TIMESTAMP(3)", "DEFAULT_GENERATED on update CURRENT_TIMESTAMP(3)", None, "", ""),
        ("t", "e", b"date", "YES", "curdate()", "DEFAULT_GENERATED", None, "", ""),
        ("t", "f", b"decimal(10,4)", "YES", "0.0000", "", None, "", ""),
        ("t", "i", b"bit(3)", "YES", "b'10'", "", None, "", ""),
        ("t", "j", b"enum('a','b''c','D')", "YES", "D", "", "utf8mb4_0900_bin", "", ""),
        ("t", "k", b"tinyint(1)", "YES", "1", "", None, "", ""),
        ("t", "m", b"varchar(36)", "YES", "uuid()", "DEFAULT_GENERATED", "utf8mb4_0900_bin", "", ""),
        ("t", "n", b"datetime", "YES", "2020-01-01 00:00:00", "", None, "", ""),
        ("t", "r", b"varchar(10)", "YES", "NULL", "", "utf8mb4_0900_bin", "", ""),
        ("t", "w", b"int", "YES", None, "STORED GENERATED", None, "(`f` + 1)", ""),
        ("t", "z", b"varchar(30)", "YES", None, "", "utf8mb4_general_ci", "", ""),
    ),
    indexes=FROM_MARIADB.indexes,
    foreign=FROM_MARIADB.foreign,
)  # fmt: skip


@pytest.mark.parametrize(("server", "rows"), [(MARIADB, FROM_MARIADB), (MYSQL, FROM_MYSQL)], ids=["MariaDB", "MySQL"])
def test_the_catalogue_is_read_in_normal_spelling(server: Server, rows: Found) -> None:
    child, table = shapes(server, rows)
    assert (str(child), child.key, child.indexes) == ("p.c", ("id",), ())
    assert (table.key, table.comment) == (("id",), "tab'le 表")
    assert table.options == (("engine", "InnoDB"), ("collation", server.collation))
    assert {i.name: (i.columns, i.unique) for i in table.indexes} == {
        "ft": (("b FULLTEXT",), False),
        "k2": (("a", "f DESC"), False),
        "k3": (("b(20)",), False),
        "u1": (("a",), True),
    }
    assert {c.name: (c.type, c.default) for c in table.columns} == {
        "id": ("int", None),
        "a": ("varchar(20)", "'x\\'y'"),
        "b": ("text", "'a\\\\b\n\"z\\'q 表'"),
        "c": ("json", "'{}'"),
        "d": ("datetime(3)", "current_timestamp(3)"),
        "e": ("date", "(curdate())"),
        "f": ("decimal(10,4)", "0.0000"),
        "i": ("bit(3)", "b'10'"),
        "j": ("enum('a','b''c','D')", "'D'"),
        "k": ("tinyint(1)", "1"),
        "m": ("varchar(36)", "(uuid())"),
        "n": ("datetime", "'2020-01-01 00:00:00'"),
        "r": ("varchar(10)", "'NULL'"),
        "w": ("int as (f+1)", None),
        "z": ("varchar(30) collate utf8mb4_general_ci", None),
    }
    assert [c.name for c in table.columns if c.numbered] == ["id"]
    assert [c.name for c in table.columns if c.touched] == ["d"]
    assert [c.name for c in table.columns if not c.nullable] == ["id"]


def test_a_unique_index_without_nulls_stands_in_for_a_key() -> None:
    rows = replace(
        FROM_MARIADB,
        tables=FROM_MARIADB.tables[:1],
        indexes=(("c", "u", 0, "id", "A", None, "BTREE", None), ("c", "v", 0, "tid", "A", None, "BTREE", None)),
    )
    (table,) = shapes(MARIADB, rows)
    assert table.key == ("id",)
    assert [i.name for i in table.indexes] == ["v"]


@SERVERS
def test_the_way_back_to_the_file_loses_nothing(server: Server) -> None:
    dialect = MySQLDialect(server)
    shape = dialect.shape(symbols())
    back = dialect.table(shape)
    assert diff(dialect.shape(back), shape) == []
    assert back.database_type is server.kind
    kinds = {c.name: (c.type, c.length, c.precision, c.scale, c.default) for c in back.columns}
    assert kinds["is_active"] == ("BOOLEAN", None, None, None, True)
    assert kinds["price"] == ("DECIMAL", None, 10, 4, "0.0000")
    assert kinds["updated_at"] == ("DATETIME", 3, None, None, Moment.NOW)
    assert kinds["token"] == ("VARCHAR", 36, None, None, Expression("uuid()"))


def test_each_role_has_the_fewest_rights_and_no_way_in_until_it_is_opened() -> None:
    assert grants(["quant_research", "db_monitor"], writer="w", reader="r'x", migrator="m", host="10.0.0.%") == [
        "CREATE USER IF NOT EXISTS 'w'@'10.0.0.%' ACCOUNT LOCK",
        "CREATE USER IF NOT EXISTS 'r\\'x'@'10.0.0.%' ACCOUNT LOCK",
        "CREATE USER IF NOT EXISTS 'm'@'10.0.0.%' ACCOUNT LOCK",
        "GRANT SELECT, INSERT, UPDATE, CREATE TEMPORARY TABLES ON `quant\\_research`.* TO 'w'@'10.0.0.%'",
        "GRANT SELECT, INSERT, UPDATE, CREATE TEMPORARY TABLES ON `db\\_monitor`.* TO 'w'@'10.0.0.%'",
        "GRANT SELECT ON `quant\\_research`.* TO 'r\\'x'@'10.0.0.%'",
        "GRANT SELECT ON `db\\_monitor`.* TO 'r\\'x'@'10.0.0.%'",
        "GRANT SELECT, INSERT, UPDATE, CREATE, ALTER, INDEX, DROP, REFERENCES ON `quant\\_research`.* TO 'm'@'10.0.0.%'",
        "GRANT SELECT, INSERT, UPDATE, CREATE, ALTER, INDEX, DROP, REFERENCES ON `db\\_monitor`.* TO 'm'@'10.0.0.%'",
    ]
