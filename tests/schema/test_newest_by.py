"""``newest_by`` in the table file: what it means where nothing is said, and what cannot be asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.schema.tables import Table, load
from mystocks_ingest.schema.writing import written

ORDER = """\
tables:
  - database_type: {kind}
    database_name: trading
    table_name: my_orders
    dataset: order
    key: [account, order_id]
    {more}
    columns:
      - {{name: account, type: VARCHAR, length: 50}}
      - {{name: order_id, type: VARCHAR, length: 64}}
      - {{name: ts, type: TIMESTAMP, nullable: false}}
      - {{name: symbol, type: VARCHAR, length: 20}}
      - {{name: side, type: VARCHAR, length: 4}}
      - {{name: volume, type: BIGINT}}
      - {{name: price, type: DOUBLE}}
      - {{name: status, type: VARCHAR, length: 20}}
      - {{name: updated_at, type: TIMESTAMP}}
"""


def table(folder: Path, more: str = "comment: orders", kind: str = "PostgreSQL") -> Table:
    path = folder / "tables.yaml"
    path.write_text(ORDER.format(kind=kind, more=more))
    (found,) = load(path).all
    return found


def test_a_table_of_orders_is_guarded_without_being_told_by_the_columns_that_it_has(tmp_path: Path) -> None:
    assert table(tmp_path).guards == ("updated_at", "ts", "status")


@pytest.mark.parametrize(
    ("more", "by"),
    [("newest_by: [updated_at]", ("updated_at",)), ("newest_by: ts", ("ts",)), ("newest_by: []", ())],
)
def test_what_is_said_holds_and_survives_being_written_and_read_again(
    tmp_path: Path, more: str, by: tuple[str, ...]
) -> None:
    found = table(tmp_path, more)
    assert found.guards == by
    path = tmp_path / "again.yaml"
    path.write_text(written([found]))
    assert load(path).all == (found,)


@pytest.mark.parametrize(
    ("more", "kind", "said"),
    [
        ("newest_by: [updated]", "PostgreSQL", "`newest_by` names 'updated', which is not a column of it"),
        ("newest_by: [order_id]", "MySQL", "`newest_by` names order_id, which belongs to the key"),
        ("newest_by: [price]", "PostgreSQL", "names price, a DOUBLE: it takes times, days and whole numbers"),
        ("newest_by: [side]", "PostgreSQL", "names side, a VARCHAR: it takes times, days and whole numbers"),
        ("newest_by: [ts, ts]", "MariaDB", "`newest_by` names ts twice"),
        ("newest_by: [updated_at, ts]", "Redis", "in Redis one column tells which row is the newest"),
        ("newest_by: [status]", "Redis", "names status, a VARCHAR"),
    ],
)
def test_what_cannot_tell_the_newest_row_is_refused_at_its_line(
    tmp_path: Path, more: str, kind: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        table(tmp_path, more, kind)
    assert said in str(caught.value)
    assert f"{tmp_path}/tables.yaml:7:" in str(caught.value)
