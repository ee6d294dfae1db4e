"""db_monitor on MySQL and MariaDB: the user's own tables, exactly, also where they were there before."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from places import Place, rows, settled
from test_log import ALTER, CREATE

from mystocks_ingest.ports import Status

SEED = """
CREATE TABLE table_creation_log (
    id INT AUTO_INCREMENT PRIMARY KEY,
    table_name VARCHAR(255) NOT NULL,
    database_type ENUM('TDengine', 'PostgreSQL', 'Redis', 'MySQL', 'MariaDB'),
    database_name VARCHAR(255) NOT NULL,
    creation_time TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    modification_time TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    status ENUM('success', 'failed'),
    table_parameters JSON,
    ddl_command TEXT,
    error_message TEXT
);
CREATE TABLE column_definition_log (
    id INT AUTO_INCREMENT PRIMARY KEY,
    table_log_id INT,
    column_name VARCHAR(255) NOT NULL,
    data_type VARCHAR(100) NOT NULL,
    col_length INT,
    col_precision INT,
    col_scale INT,
    is_nullable BOOLEAN DEFAULT TRUE,
    is_primary_key BOOLEAN DEFAULT FALSE,
    default_value VARCHAR(255),
    comment TEXT,
    FOREIGN KEY (table_log_id) REFERENCES table_creation_log(id)
);
CREATE TABLE table_operation_log (
    id INT AUTO_INCREMENT PRIMARY KEY,
    table_name VARCHAR(255) NOT NULL,
    database_type ENUM('TDengine', 'PostgreSQL', 'Redis', 'MySQL', 'MariaDB'),
    database_name VARCHAR(255) NOT NULL,
    operation_type ENUM('CREATE', 'ALTER', 'DROP', 'VALIDATE'),
    operation_time TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    operation_status ENUM('success', 'failed', 'processing'),
    operation_details JSON,
    ddl_command TEXT,
    error_message TEXT
);
CREATE TABLE table_validation_log (
    id INT AUTO_INCREMENT PRIMARY KEY,
    table_name VARCHAR(255) NOT NULL,
    database_type ENUM('TDengine', 'PostgreSQL', 'Redis', 'MySQL', 'MariaDB'),
    database_name VARCHAR(255) NOT NULL,
    validation_time TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    validation_status ENUM('pass', 'fail'),
    validation_details JSON,
    issues_found TEXT
);
"""
COLUMNS = (
    "SELECT table_name, ordinal_position, column_name, column_type, is_nullable, column_default, extra "
    "FROM information_schema.columns WHERE table_schema = '{}' AND table_name IN ('table_creation_log', "
    "'column_definition_log', 'table_operation_log', 'table_validation_log') ORDER BY 1, 2"
)
FOREIGN = (
    "SELECT column_name, referenced_table_name, referenced_column_name FROM information_schema.key_column_usage "
    "WHERE table_schema = '{}' AND referenced_table_name IS NOT NULL"
)


def made_by_the_user(place: Place) -> None:
    assert place.server is not None
    place.server.sql(f"CREATE DATABASE {place.database}; USE {place.database}; {SEED}")


def structure(place: Place, question: str) -> str:
    """ENUMs without their values: those may have become more."""
    assert place.server is not None
    return re.sub(r"enum\([^)]*\)", "enum", place.server.sql(question.format(place.database)))


async def test_the_four_tables_have_exactly_the_users_columns(on_mariadb: Place, tmp_path: Path) -> None:
    theirs = Place(tmp_path / "theirs", on_mariadb.server, f"{on_mariadb.database}_theirs")
    made_by_the_user(theirs)
    async with on_mariadb.log() as log:
        await log.initialise()
    assert structure(on_mariadb, COLUMNS) == structure(theirs, COLUMNS)
    assert structure(on_mariadb, FOREIGN) == structure(theirs, FOREIGN)
    assert "table_log_id\ttable_creation_log\tid" in structure(on_mariadb, FOREIGN)


async def test_a_db_monitor_that_was_there_is_used_and_only_gains(on_mariadb: Place) -> None:
    made_by_the_user(on_mariadb)
    assert on_mariadb.server is not None
    name = on_mariadb.database
    on_mariadb.server.sql(
        f"INSERT INTO {name}.table_operation_log (table_name, database_type, database_name, operation_type) "
        f"VALUES ('old', 'MySQL', 'quant', 'DROP'); ALTER TABLE {name}.table_validation_log DROP issues_found; "
        f"CREATE TABLE {name}.notes (id INT); INSERT INTO {name}.notes VALUES (7)"
    )
    async with on_mariadb.log() as log:
        done = await log.initialise()
        assert "etl_job_log" in done.made
        assert "table_operation_log" not in done.made
        await log.ended(await log.began(CREATE), Status.SUCCESS)
        await settled(log)
        assert await rows(log, "table_operation_log", "table_name", "operation_type") == [
            ("old", "DROP"),
            ("symbols", "CREATE"),
        ]
        assert [r.operation.table for r in await log.operations()] == ["symbols"]  # none but our own
        assert await rows(log, "table_validation_log", "issues_found") == []
        await log.initialise(drop_existing=True)
    assert on_mariadb.server.sql(f"SELECT * FROM {name}.notes") == "7"
    kinds = on_mariadb.server.sql(
        f"SELECT column_type FROM information_schema.columns WHERE table_schema = '{name}' AND column_name = 'operation_type'"
    )
    assert "'BACKFILL'" in kinds
    assert "'INSERT'" in kinds


async def test_the_users_own_commands_read_it(on_mariadb: Place) -> None:
    async with on_mariadb.log() as log:
        await log.ended(await log.began(CREATE), Status.SUCCESS)
        await log.ended(await log.began(ALTER), Status.FAILED, "no")
        await settled(log)
    assert on_mariadb.server is not None
    use = f"USE {on_mariadb.database}; "
    history = on_mariadb.server.sql(use + "SELECT * FROM table_creation_log ORDER BY creation_time DESC LIMIT 10;")
    assert history.split("\t")[1:6] == [
        "symbols",
        "MySQL",
        "quant_research",
        "2026-11-20 04:00:00",
        history.split("\t")[5],
    ]
    counted = on_mariadb.server.sql(
        use + "SELECT database_type, operation_type, COUNT(*) FROM table_operation_log GROUP BY database_type, "
        "operation_type ORDER BY 1;"
    )
    assert counted.splitlines() == ["TDengine\tALTER\t1", "MySQL\tCREATE\t1"]


async def test_a_missing_right_keeps_entries_waiting_and_is_named(on_mariadb: Place) -> None:
    assert on_mariadb.server is not None
    server = on_mariadb.server
    server.sql(
        "CREATE USER narrow@'127.0.0.1' IDENTIFIED BY 'narrow-secret'; GRANT SELECT ON mysql.* TO narrow@'127.0.0.1'"
    )
    user, password = server.user, server.password
    try:
        server.user, server.password = "narrow", "narrow-secret"
        async with on_mariadb.log() as log:
            await log.began(ALTER)
            async with asyncio.timeout(30):
                while not (waiting := await log.waiting()).reason:  # noqa: ASYNC110 - it is tried by itself
                    await asyncio.sleep(0.02)
            assert not await log.settled(0.1)
            assert waiting.entries == 1
            assert f"GRANT ALL ON `{on_mariadb.database}`.*" in waiting.reason
            server.sql(f"GRANT ALL ON `{on_mariadb.database}`.* TO narrow@'127.0.0.1'")
            await settled(log)
    finally:
        server.user, server.password = user, password
        server.sql("DROP USER narrow@'127.0.0.1'")
