"""The rights in TDengine of who writes, who reads, and who makes the tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from mystocks_ingest.schema.tables import Database, Table
from mystocks_ingest.sinks.tdengine.names import quoted


def grants(
    tables: Iterable[Table],
    *,
    writer: str = "mystocks_writer",
    reader: str = "mystocks_reader",
    migrator: str = "mystocks_migrator",
) -> list[str]:
    """What root runs once for three users with no more rights than they need; ``<password>`` is to be filled in.

    TDengine's rights are READ and WRITE of a database, and to make databases; WRITE includes making and dropping
    tables, so that only the last tells the migrator from the writer: KEEP is changed by who made the database. SYSINFO 1,
    for a user without it is not shown KEEP, which every write is measured by. A grant is taken once its database is
    there: where the migrator makes it (``schema apply``), its own grants are not needed and the others come afterwards.
    The community edition takes CREATE USER but no GRANT: there every user may do everything.
    """
    names = list(dict.fromkeys(t.database_name for t in tables if t.database_type is Database.TDENGINE))
    lines = [f"CREATE USER {user} PASS '<password>' SYSINFO 1" for user in (writer, reader, migrator)]
    lines.append(f"ALTER USER {migrator} CREATEDB 1")
    for name in names:
        lines += [f"GRANT {right} ON {quoted(name)}.* TO {migrator}" for right in ("READ", "WRITE")]
        lines += [f"GRANT {right} ON {quoted(name)}.* TO {writer}" for right in ("READ", "WRITE")]
        lines.append(f"GRANT READ ON {quoted(name)}.* TO {reader}")
    return lines
