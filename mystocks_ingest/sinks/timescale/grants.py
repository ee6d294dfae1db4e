"""Who may do what: the fewest rights each role needs. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from mystocks_ingest.sinks.timescale.ddl import TOUCHED
from mystocks_ingest.sinks.timescale.spelling import literal, quoted

READER = "SELECT"
"""``read`` and everything that only looks."""
WRITER = "SELECT, INSERT, UPDATE"
"""The daemon and backfill: rows are merged by key, large batches by way of a temporary table; nothing is deleted."""


def grants(
    databases: Sequence[str],
    *,
    writer: str = "mystocks_writer",
    reader: str = "mystocks_reader",
    migrator: str = "mystocks_migrator",
) -> list[str]:
    """What a superuser runs in psql, once, before the migrator makes the tables; running it again harms nothing.

    The roles have no way in of their own: give each to a user (``GRANT mystocks_writer TO ...``), or open it with
    ``ALTER ROLE ... LOGIN PASSWORD '...'``, a password that stands nowhere here. The migrator owns the tables it makes,
    and so may alter and drop them; tables that are there already are handed over to it.
    """
    roles = f"{quoted(writer)}, {quoted(reader)}"
    out = [_role(name) for name in (writer, reader, migrator)]
    for database in databases:
        name = quoted(database)
        out += [
            _entered(database),
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
            f"GRANT CONNECT ON DATABASE {name} TO {roles}, {quoted(migrator)}",
            f"GRANT TEMPORARY ON DATABASE {name} TO {quoted(writer)}",
            f"GRANT CREATE ON DATABASE {name} TO {quoted(migrator)}",  # CREATE EXTENSION asks for it
            f"GRANT USAGE ON SCHEMA public TO {roles}",
            f"GRANT USAGE, CREATE ON SCHEMA public TO {quoted(migrator)}",
            _handed_over(migrator),
            *_rights(writer, WRITER, migrator, sequences=True),
            *_rights(reader, READER, migrator, sequences=False),
        ]
    return out


def _rights(role: str, rights: str, migrator: str, *, sequences: bool) -> list[str]:
    """On the tables that are there, and on those the migrator will make."""
    to = quoted(role)
    later = f"ALTER DEFAULT PRIVILEGES FOR ROLE {quoted(migrator)} IN SCHEMA public GRANT"
    out = [f"GRANT {rights} ON ALL TABLES IN SCHEMA public TO {to}", f"{later} {rights} ON TABLES TO {to}"]
    if sequences:
        out += [f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {to}", f"{later} USAGE ON SEQUENCES TO {to}"]
    return out


def _role(name: str) -> str:
    return (
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {literal(name)}) "
        f"THEN CREATE ROLE {quoted(name)}; END IF; END $$"
    )


def _entered(database: str) -> str:
    """In psql's own words: CREATE DATABASE knows no IF NOT EXISTS, and rights are given from within."""
    make = literal(f"CREATE DATABASE {quoted(database)} ENCODING 'UTF8' TEMPLATE template0")
    there = f"SELECT FROM pg_database WHERE datname = {literal(database)}"
    return f"SELECT {make} WHERE NOT EXISTS ({there}) \\gexec\n\\connect {quoted(database)}"


def _handed_over(migrator: str) -> str:
    """Tables, partitions among them, that belong to no extension; their sequences and indexes follow."""
    return f"""DO $$ DECLARE t regclass; BEGIN
  FOR t IN
    SELECT c.oid FROM pg_class c
    WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND NOT EXISTS (
      SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  LOOP
    EXECUTE format('ALTER TABLE %s OWNER TO %I', t, {literal(migrator)});
  END LOOP;
  IF to_regproc('public.{TOUCHED}') IS NOT NULL THEN
    ALTER FUNCTION public.{TOUCHED}() OWNER TO {quoted(migrator)};
  END IF;
END $$"""  # noqa: S608 - quoted
