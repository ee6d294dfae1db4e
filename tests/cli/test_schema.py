"""The commands that plan, make, check and drop tables, as typed; everything in the embedded store."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mystocks_ingest.sinks.embedded import FILE

Command = Callable[..., Any]
TABLES = """
tables:
  - database_type: MySQL
    database_name: quant
    table_name: prices
    comment: 日线
    columns:
      - {name: symbol, type: VARCHAR, length: 20, primary_key: true}
      - {name: close, type: DOUBLE, comment: 收盘价}
      - {name: note, type: VARCHAR, length: 50, default: x}
  - database_type: PostgreSQL
    database_name: quant
    table_name: names
    columns:
      - {name: symbol, type: VARCHAR, length: 20, primary_key: true}
"""


@pytest.fixture
def file(state: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tables.yaml"
    path.write_text(TABLES, encoding="utf-8")
    return path


def by_hand(state: Path, *statements: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(state / FILE)) as connection:
        for statement in statements[:-1]:
            connection.execute(statement)
        return connection.execute(statements[-1]).fetchall()


def test_a_plan_tells_by_its_exit_code_whether_there_is_a_difference(command: Command, file: Path) -> None:
    planned = command("schema", "plan", "--tables", str(file))
    assert planned.code == 4
    assert "Embedded.quant.prices\n  + table with 3 columns, key (symbol)" in planned.out
    assert planned.out.endswith("2 changes to 2 tables: 2 create\n")
    made = command("schema", "apply", "--yes", "--tables", str(file))
    assert (made.code, made.out.splitlines()[-1]) == (0, "2 changes made")
    again = command("schema", "plan", "--tables", str(file))
    assert (again.code, again.out) == (0, "no difference: every table is as the file describes it\n")
    assert command("schema", "apply", "--tables", str(file)).code == 0  # nothing to do, nothing to ask


def test_the_sql_of_a_plan_makes_the_tables(command: Command, file: Path, tmp_path: Path) -> None:
    script = command("schema", "plan", "--sql", "--tables", str(file)).out
    with duckdb.connect(str(tmp_path / "other.duckdb")) as connection:
        connection.execute("CREATE SCHEMA structure")
        connection.execute("CREATE TABLE structure.table_key (table_name VARCHAR PRIMARY KEY, columns VARCHAR[])")
        connection.execute(script)
        found = connection.execute("SELECT column_name FROM duckdb_columns() WHERE table_name = 'prices'").fetchall()
    assert found == [("symbol",), ("close",), ("note",)]


def test_drift_by_hand_is_found_said_in_words_and_mended_by_name_only(
    command: Command, file: Path, state: Path
) -> None:
    command("schema", "apply", "--yes", "--tables", str(file))
    by_hand(
        state,
        "ALTER TABLE prices ADD COLUMN own INTEGER",
        "COMMENT ON COLUMN prices.close IS 'x'",
        "INSERT INTO prices VALUES ('a', 1.5, 'n', 7), ('b', 1.5, 'n', 8)",
    )
    checked = command("schema", "validate", "--tables", str(file))
    assert checked.code == 4
    assert "different  Embedded.quant.prices" in checked.out
    assert "extra: column own INTEGER" in checked.out
    assert "different: column close: comment is 'x', the file says '收盘价'" in checked.out
    assert checked.out.endswith("1 tables as described, 1 different\n")
    found = json.loads(command("schema", "validate", "--json", "--tables", str(file)).out)
    assert [(t["table"], t["passed"], [i["kind"] for i in t["issues"]]) for t in found] == [
        ("Embedded.quant.prices", False, ["different", "extra"]),
        ("Embedded.quant.names", True, []),
    ]
    planned = json.loads(command("schema", "plan", "--json", "--tables", str(file)).out)
    assert [(c["verb"], c["name"], bool(c["hazard"])) for c in planned] == [
        ("comment", "prices.close", False),
        ("drop", "prices.own", True),
    ]
    script = command("schema", "plan", "--sql", "--tables", str(file)).out
    assert '-- ALTER TABLE "prices" DROP COLUMN "own";' in script  # what is unsafe is no statement of the script
    safe = command("schema", "apply", "--yes", "--tables", str(file))
    assert safe.code == 4
    assert "1 unsafe changes left as they are" in safe.out
    assert by_hand(state, "SELECT sum(own) FROM prices") == [(15,)]
    unsafe = command("schema", "apply", "--yes", "--allow-unsafe", "prices.own", "--tables", str(file))
    assert unsafe.code == 0
    assert "Embedded.quant.prices: drop column own INTEGER concerns 2 rows" in unsafe.out
    assert command("schema", "plan", "--tables", str(file)).code == 0


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("apply",), "there is no terminal to ask at; add --yes"),
        (("apply", "--json"), "--json cannot ask; add --yes"),
        (("drop", "prices", "--json"), "--json cannot ask; add --yes"),
        (("drop", "gone", "--yes"), "the file describes no table gone"),
        (("drop", "prices", "--yes"), "there is no table Embedded.quant.prices"),
        (("apply", "--yes", "--allow-unsafe", "prices.gone"), "no unsafe change is named prices.gone"),
        (("init-monitor", "--drop-existing"), "there is no terminal to ask at; add --yes"),
    ],
)
def test_a_mistake_is_one_sentence(command: Command, file: Path, argv: tuple[str, ...], says: str) -> None:
    given = argv if argv[0] == "init-monitor" else (*argv, "--tables", str(file))
    ended = command("schema", *given, env={"TERM": "dumb"})
    assert ended.code == 2
    assert says in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err


def test_a_file_that_is_not_there_is_one_sentence(command: Command, tmp_path: Path) -> None:
    assert "gone.yaml" in command("schema", "plan", "--tables", str(tmp_path / "gone.yaml")).sentence()


def test_dropping_says_what_went_and_history_tells_the_story(command: Command, file: Path, state: Path) -> None:
    command("schema", "apply", "--yes", "--tables", str(file))
    by_hand(state, "INSERT INTO prices(symbol) SELECT i FROM range(1234) r(i)")
    dropped = command("schema", "drop", "quant.prices", "--yes", "--tables", str(file))
    assert (dropped.code, dropped.out) == (0, "dropped Embedded.quant.prices with 1,234 rows\n")
    story = json.loads(command("schema", "history", "--json").out)
    assert [(s["operation"], s["table"], s["status"]) for s in story] == [
        ("DROP", "prices", "success"),
        ("CREATE", "names", "success"),
        ("CREATE", "prices", "success"),
    ]
    assert "DROP TABLE" in story[0]["ddl"]
    assert "create table with 3 columns" in command("schema", "history", "prices").out
    assert command("schema", "history", "nothing").out == "nothing was done to nothing yet\n"


def test_the_log_stays_unless_it_is_dropped_by_word(command: Command, file: Path) -> None:
    command("schema", "apply", "--yes", "--tables", str(file))
    kept = command("schema", "init-monitor")
    assert kept.code == 0
    assert "kept table_creation_log with 2 rows" in kept.out
    assert len(json.loads(command("schema", "history", "--json").out)) == 2
    dropped = command("schema", "init-monitor", "--drop-existing", "--yes")
    assert "dropped table_creation_log with 2 rows" in dropped.out
    assert json.loads(command("schema", "history", "--json").out) == []


def test_an_export_makes_the_same_tables_elsewhere(command: Command, file: Path, tmp_path: Path) -> None:
    command("schema", "apply", "--yes", "--tables", str(file))
    copy = tmp_path / "copy.yaml"
    assert "wrote 2 tables" in command("schema", "export", "--to", str(copy), "--tables", str(file)).out
    assert command("schema", "plan", "--tables", str(copy)).code == 0
    elsewhere = {"MYSTOCKS_STATE_DIR": str(tmp_path / "elsewhere")}
    assert command("schema", "apply", "--yes", "--tables", str(copy), env=elsewhere).code == 0
    assert command("schema", "plan", "--tables", str(copy)).code == 0
    assert command("schema", "plan", "--tables", str(file)).code == 0


def typed(answer: str, *argv: str) -> tuple[int, str]:
    """How a command ends that asks at a terminal and is told ``answer``."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "mystocks_ingest", *argv],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as child:
            os.write(ours, f"{answer}\n".encode())
            out, _ = child.communicate(timeout=110)
            return child.returncode, out
    finally:
        os.close(ours)
        os.close(theirs)


def test_dropping_asks_for_the_table_s_name(command: Command, file: Path, state: Path) -> None:
    command("schema", "apply", "--yes", "--tables", str(file))
    code, out = typed("yes", "schema", "drop", "prices", "--tables", str(file))
    assert code == 2
    assert "Embedded.quant.prices holds 0 rows" in out
    assert "that is not prices; nothing was dropped" in out
    code, out = typed("prices", "schema", "drop", "prices", "--tables", str(file))
    assert (code, "dropped Embedded.quant.prices" in out) == (0, True)


def test_applying_asks_and_no_means_no(command: Command, file: Path) -> None:
    code, out = typed("n", "schema", "apply", "--tables", str(file))
    assert code == 130
    assert "make these changes?" in out
    assert command("schema", "plan", "--tables", str(file)).code == 4
    assert typed("y", "schema", "apply", "--tables", str(file))[0] == 0
    assert command("schema", "plan", "--tables", str(file)).code == 0


def test_the_grants_of_the_stores_in_use_need_no_server(command: Command, file: Path) -> None:
    none = command("schema", "grants", "--tables", str(file))
    assert "no database server is in use" in none.out
    some = command("schema", "grants", "--tables", str(file), env={"MYSTOCKS_STORES": "mysql,postgresql"})
    assert some.code == 0
    assert "-- mysql" in some.out
    assert "-- postgresql" in some.out
    assert some.out.count("GRANT") >= 4
