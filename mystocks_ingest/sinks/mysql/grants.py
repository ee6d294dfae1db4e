"""Who may do what: the fewest rights each role needs. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from mystocks_ingest.sinks.mysql.ddl import literal, quoted

READER = ("SELECT",)
"""``read`` and everything that only looks."""
WRITER = ("SELECT", "INSERT", "UPDATE", "CREATE TEMPORARY TABLES")
"""The daemon and backfill: rows are merged by key, large batches by way of a temporary table; nothing is deleted."""
MIGRATOR = ("SELECT", "INSERT", "UPDATE", "CREATE", "ALTER", "INDEX", "DROP", "REFERENCES")
"""``schema apply``: makes databases and tables, and changes them. ALTER TABLE itself asks for INSERT and CREATE."""


def grants(
    databases: Sequence[str],
    *,
    writer: str = "mystocks_writer",
    reader: str = "mystocks_reader",
    migrator: str = "mystocks_migrator",
    host: str = "%",
) -> list[str]:
    """The statements an administrator runs once. ``host``: from where the users come.

    The users are made without a way in (``ACCOUNT LOCK``): each is opened by
    ``ALTER USER ... IDENTIFIED BY '...' ACCOUNT UNLOCK`` with a password that stands nowhere here.
    """
    roles = ((writer, WRITER), (reader, READER), (migrator, MIGRATOR))
    out = [f"CREATE USER IF NOT EXISTS {account(user, host)} ACCOUNT LOCK" for user, _ in roles]
    out += [granted(rights, database, user, host) for user, rights in roles for database in databases]
    return out


def granted(rights: Sequence[str], database: str, user: str, host: str) -> str:
    """One GRANT on all tables of a database. In its name ``_`` and ``%`` would stand for others'."""
    name = quoted(database.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%"))
    return f"GRANT {', '.join(rights)} ON {name}.* TO {account(user, host)}"


def account(user: str, host: str) -> str:
    """``'user'@'host'``."""
    return f"{literal(user)}@{literal(host)}"
