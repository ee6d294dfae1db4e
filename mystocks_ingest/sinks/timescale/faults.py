"""PostgreSQL's and the driver's errors in our words: by SQLSTATE, whose classes asyncpg's exceptions are."""

from __future__ import annotations

import re
import ssl

from asyncpg import exceptions as pg

from mystocks_ingest.errors import ConfigError, IngestError, NoRight, Rejected, Unavailable
from mystocks_ingest.logs import redact
from mystocks_ingest.sinks.timescale.access import Access
from mystocks_ingest.sinks.timescale.spelling import quoted

LOST = (
    pg.ConnectionDoesNotExistError,
    pg.ConnectionFailureError,
    pg.AdminShutdownError,
    pg.CrashShutdownError,
    pg.InternalClientError,  # the server's farewell arrived between two statements
    ConnectionResetError,
    BrokenPipeError,
)
"""The connection is gone; another one may work."""

AGAIN = (pg.SerializationError, pg.DeadlockDetectedError)
"""Another transaction was in the way; the same one may work now."""

TRANSLATED = (pg.PostgresError, pg.InterfaceError, OSError, TimeoutError, ssl.SSLError)


def translated(exc: BaseException, where: Access, database: str) -> IngestError:
    """The driver's or the server's error in our words, without secrets. Our own mistakes come back as RuntimeError's."""
    said = redact(str(exc).splitlines()[0]) if str(exc) else type(exc).__name__
    match exc:
        case pg.InvalidPasswordError() | pg.InvalidAuthorizationSpecificationError():
            return ConfigError(
                f"{where} refuses user {where.user} ({said}): check POSTGRESQL_USER and POSTGRESQL_PASSWORD"
            )
        case pg.InvalidCatalogNameError():
            return ConfigError(
                f"{where} has no database {database}: create it (CREATE DATABASE {database}), or name another one in "
                "POSTGRESQL_DATABASE"
            )
        case pg.InsufficientPrivilegeError():
            return NoRight(f"{where}: user {where.user} may not do this in {database} ({said}): {granted(said, where)}")
        case pg.UndefinedTableError() | pg.UndefinedColumnError():
            return ConfigError(f"{where}, database {database}: {said}: create the tables (schema apply)")
        case pg.UndefinedFileError() if "timescaledb" in said:  # the server's package was changed under the database
            return Unavailable(
                f"{where}, database {database}: the server no longer has the TimescaleDB this database was made with "
                f"({said}): run ALTER EXTENSION timescaledb UPDATE there, as the first command of a session (psql -X)"
            )
        case pg.DataError() | pg.IntegrityConstraintViolationError() | pg.CardinalityViolationError():
            return Rejected(_reason(exc))
        case pg.ClientConfigurationError():
            return ConfigError(f"{where}: {said}: check POSTGRESQL_TLS and POSTGRESQL_TLS_CA")
        case pg.QueryCanceledError():
            return Unavailable(f"{where} took longer than {where.statement_seconds:g} s: {said}")
        case ssl.SSLError():
            return ConfigError(f"{where}: no TLS connection with POSTGRESQL_TLS={where.tls} ({said})")
        case TimeoutError():
            return Unavailable(f"{where} does not answer within its time limit")
        case ConnectionError() if "SSL upgrade" in said and where.tls == "prefer":  # it would take a server's no
            return Unavailable(f"{where} answers, but not as PostgreSQL does")
        case ConnectionError() if "SSL upgrade" in said:  # the driver has no class of its own for it
            return ConfigError(
                f"{where}: no TLS connection with POSTGRESQL_TLS={where.tls}, for the server offers none: set up TLS "
                "there, or set POSTGRESQL_TLS=off"
            )
        case ConnectionRefusedError():
            return Unavailable(f"{where} refuses connections: start it, or set POSTGRESQL_HOST and POSTGRESQL_PORT")
        case OSError():
            return Unavailable(f"{where} cannot be reached ({exc.strerror or said})")
        case pg.PostgresSyntaxError() | pg.DatatypeMismatchError() | pg.UndefinedFunctionError():
            return IngestError(f"{where} does not understand a statement of this program: {said}")
        case _:
            hint = getattr(exc, "hint", None)
            return Unavailable(f"{where} cannot serve: {said}" + (f" ({hint})" if hint else ""))


_GRANTS = (
    (r"for schema (\S+)", "GRANT USAGE, CREATE ON SCHEMA {0} TO {user}"),
    (r"for database (\S+)", "GRANT CONNECT, TEMPORARY, CREATE ON DATABASE {0} TO {user}"),
    (r"for (?:table|view|relation) (\S+)", "GRANT SELECT, INSERT, UPDATE ON {0} TO {user}"),
    (r"for sequence (\S+)", "GRANT USAGE ON SEQUENCE {0} TO {user}"),
    (r"for function (\S+)", "GRANT EXECUTE ON FUNCTION {0} TO {user}"),
    (r"to create temporary tables in database \"?([^\"\s]+)", "GRANT TEMPORARY ON DATABASE {0} TO {user}"),
    (r"must be owner of (?:hypertable|table|relation) (\S+)", "ALTER TABLE {0} OWNER TO {user}"),
    (r"must be owner of (\w+) (\S+)", "ALTER {0} {1} OWNER TO {user}"),
)


def granted(said: str, where: Access) -> str:
    """What a superuser or the owner has to run, by what the server said; in English, as far as that goes."""
    for pattern, statement in _GRANTS:
        if found := re.search(pattern, said):
            names = [
                quoted(name.strip('"')) if at + 1 == len(found.groups()) else name.upper()
                for at, name in enumerate(found.groups())
            ]
            return f"run {statement.format(*names, user=quoted(where.user))} as its owner or a superuser"
    return f"let the owner or a superuser run what `schema grants` prints, for {quoted(where.user)}"


def _reason(exc: BaseException) -> str:
    """The database's reason with the column it names; never a value, which may be long."""
    said = redact(str(exc).splitlines()[0])
    column = getattr(exc, "column_name", None)
    return f"{said} (column {column})" if column and column not in said else said
