"""What each database's dialect gives back of a structure, written as a file and read again, is that structure."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_whole_files import whole_file

from mystocks_ingest.schema.diff import Dialect
from mystocks_ingest.schema.tables import Database, Table, load
from mystocks_ingest.schema.writing import written
from mystocks_ingest.sinks.embedded.dialect import EmbeddedDialect
from mystocks_ingest.sinks.mysql.dialect import MySQLDialect
from mystocks_ingest.sinks.redis.dialect import RedisDialect
from mystocks_ingest.sinks.tdengine.dialect import TDengineDialect
from mystocks_ingest.sinks.timescale.dialect import PostgreSQLDialect

SHIPPED = Path(__file__).parents[2] / "config" / "tables.yaml"


def dialect(kind: Database, tables: list[Table]) -> Dialect:
    match kind:
        case Database.POSTGRESQL:
            return PostgreSQLDialect()
        case Database.MYSQL | Database.MARIADB:
            return MySQLDialect()
        case Database.TDENGINE:
            return TDengineDialect(tables)
        case Database.REDIS:
            return RedisDialect()
        case Database.EMBEDDED:
            return EmbeddedDialect()


@pytest.mark.parametrize("kind", list(Database), ids=str)
def test_an_exported_table_is_read_back_and_changes_nothing(tmp_path: Path, kind: Database) -> None:
    path = tmp_path / "users.yaml"
    path.write_text(whole_file(), encoding="utf-8")
    stores = () if kind is Database.EMBEDDED else tuple(d.store for d in Database)
    tables = [*load(SHIPPED).placed(stores).all, *load(path).placed(stores).all]
    mine = [t for t in tables if t.database_type is kind]
    assert mine or kind is Database.MARIADB
    spoken = dialect(kind, mine)
    exported = [spoken.table(spoken.shape(table)) for table in mine]
    path.write_text(written(exported), encoding="utf-8")
    assert list(load(path).all) == exported
    again = dialect(kind, exported)
    assert [again.shape(t) for t in exported] == [spoken.shape(t) for t in mine]
