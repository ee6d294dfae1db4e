"""The server's and the driver's errors in our terms: whose fault it is, and what to do."""

from __future__ import annotations

import re
import ssl

from pymysql import err

from mystocks_ingest.errors import ConfigError, IngestError, NoRight, Rejected, Unavailable, UnsafeChange
from mystocks_ingest.logs import redact
from mystocks_ingest.sinks.mysql.access import Access
from mystocks_ingest.sinks.mysql.ddl import quoted
from mystocks_ingest.sinks.mysql.grants import MIGRATOR, granted

LOST = frozenset({0, 1053, 1152, 1153, 1159, 1161, 1927, 2006, 2013, 2014, 2055, 4031})
"""The connection is gone: shutdown, killed, idle for too long, cut."""

DEADLOCK = 1213
"""The server chose our transaction to give way; it is to be sent again."""

BULK_OFF = frozenset({1148, 2068, 3948, 3950, 4166})
"""The server or this account may not load a file sent by its client."""

NO_STAGE = frozenset({1044, 1142, 1227, 1785, 1786, 1787, 3750})
"""This account may not create temporary tables, or the server takes none such as ours."""

_ROWS = frozenset(
    {
        1048, 1062, 1136, 1261, 1262, 1263, 1264, 1265, 1292, 1300, 1364, 1365, 1366, 1367, 1406, 1411, 1416, 1425,
        1426, 1441, 1451, 1452, 1517, 1526, 1586, 1690, 1761, 1762, 1859, 3140, 3141, 3143, 3156, 3819, 3854, 4025,
        4037, 4038, 4078,
    }
)  # fmt: skip
_HELD = frozenset({1205, DEADLOCK, 3572})  # another transaction holds the rows
_CROWDED = frozenset({1040, 1041, 1129, 1203, 1226, 3032})
_FULL = frozenset({1021, 1030, 1037, 1038, 1114, 1135, 1206, 1297, 3019})
_READ_ONLY = frozenset({1290, 1792, 1836, 3100, 3101})
_SLOW = frozenset({1317, 1969, 3024})


def code_of(exc: BaseException) -> int:
    """The error's number; 0 where the driver gave none."""
    return exc.args[0] if isinstance(exc, err.Error) and exc.args and isinstance(exc.args[0], int) else 0


def lost(exc: BaseException) -> bool:
    """Whether the connection, rather than the statement, has failed."""
    if isinstance(exc, err.Error):
        code = code_of(exc)
        return code in LOST if code else isinstance(exc, err.InterfaceError | err.InternalError)
    return isinstance(exc, OSError)


def _said(exc: BaseException) -> str:
    words = exc.args[1] if isinstance(exc, err.Error) and len(exc.args) > 1 else str(exc)
    if exc.__cause__ is not None and code_of(exc) == 2003:
        words = str(exc.__cause__) or type(exc.__cause__).__name__
    return redact(str(words))


def translated(exc: Exception, access: Access) -> Exception:
    """Our error for one of the server, the driver or the wire; itself where a statement of ours is wrong."""
    said, code, at = _said(exc), code_of(exc), str(access)
    match code:
        case 1045 | 1698 | 1524 | 2054 | 2059 | 3118 | 3955:
            return ConfigError(f"{at} refuses user {access.user!r} ({said}): check MYSQL_USER and MYSQL_PASSWORD")
        case 1044 | 1142 | 1143 | 1227 | 1370:
            return NoRight(f"{at}: user {access.user!r} lacks a right ({said}): let an administrator {_right(said)}")
        case 1049:
            return ConfigError(
                f"{at}: {said}: create it (CREATE DATABASE ... CHARACTER SET utf8mb4), or set MYSQL_DATABASE to one "
                "that exists"
            )
        case 1146:
            return ConfigError(f"{at}: {said}: it has been dropped; start the program anew to create it")
        case 1054 | 1091:
            return ConfigError(f"{at}: {said}: the table differs from tables.yaml; start the program anew to widen it")
        case 1820 | 1862:
            return ConfigError(f"{at}: the password of {access.user!r} has expired: set a new one there")
        case 1130:
            return ConfigError(f"{at}: {said}: let an administrator create {access.user!r} for this machine's address")
        case 2026:
            return ConfigError(f"{at}: {said}: set MYSQL_TLS=prefer or off, or let the server offer TLS")
        case 1071 | 1074 | 1118 | 1170:
            return ConfigError(f"{at}: {said}: make the columns shorter in tables.yaml, keys above all")
    if code in _HELD:
        return Unavailable(f"{at}: {said}", after=0.05)
    if code in _CROWDED:
        return Unavailable(f"{at} takes no more connections: {said}")
    if code in _SLOW:
        return Unavailable(f"{at} ended a statement that took longer than {access.statement_seconds:g} s: {said}")
    if code in _READ_ONLY:
        return Unavailable(f"{at} is read-only: {said}")
    if code in _FULL:
        return Unavailable(f"{at} has no room: {said}")
    if code in _ROWS or (isinstance(exc, err.DataError | err.IntegrityError) and code not in LOST):
        return Rejected(said)
    if isinstance(exc, ssl.SSLError) or isinstance(exc.__cause__, ssl.SSLError):
        return ConfigError(f"{at}: TLS failed ({said}): check MYSQL_TLS and MYSQL_TLS_CA")
    if isinstance(exc, RuntimeError) and "cryptography" in str(exc):
        return ConfigError(
            f"{at} wants the password over TLS (its plug-in is caching_sha2_password): set MYSQL_TLS=prefer, or give "
            f"{access.user!r} the plug-in mysql_native_password"
        )
    if isinstance(exc, err.ProgrammingError):
        return exc  # type: ignore[no-any-return] # neither a row nor the server is to blame, and a retry cannot help
    if code == 2003:
        return Unavailable(f"{at} cannot be reached: {said}")
    return Unavailable(f"{at}: {said or type(exc).__name__}")


_DENIED = re.compile(r"([A-Z][A-Z ,]+?) command denied to user '(.*?)'@'(.*?)' for (?:table|column) (?:.*?`(.+?)`\.)?")
_FOREIGN = frozenset({1215, 1217, 1451, 1452, 1553, 1832, 1833, 1834, 1846, 3730, 3780})


def _right(said: str, statement: str = "") -> str:
    """The GRANT that gives what the server has just refused. MySQL, unlike MariaDB, does not name the database."""
    found, place = _DENIED.search(said), re.search(r"`(.+?)`\.`", statement)
    database = (found[4] or (place[1] if place is not None else "")) if found is not None else ""
    if found is None or not database:
        return "GRANT the rights that `schema grants` prints"
    return f"run {granted([r.strip() for r in found[1].split(',')], database, found[2], found[3])}"


def structural(exc: Exception, access: Access, statement: str) -> IngestError:
    """Our error for a statement that changes structure."""
    said, code, at = _said(exc), code_of(exc), str(access)
    match code:
        case 1044 | 1227 if statement.startswith("CREATE DATABASE IF NOT EXISTS `"):
            name = statement.split("`")[1]
            return ConfigError(
                f"{at} has no database {name} that user {access.user!r} may see, nor may it create one: as an "
                f"administrator run CREATE DATABASE {quoted(name)} CHARACTER SET utf8mb4; "
                f"{granted(MIGRATOR, name, *_account(said, access))}"
            )
        case 1142 | 1143:
            return ConfigError(
                f"{at}: user {access.user!r} lacks a right ({said}): let an administrator {_right(said, statement)}"
            )
        case 1050:
            return ConfigError(f"{at}: {said}, perhaps as a view: rename it, or the table in tables.yaml")
        case 1060:
            return ConfigError(f"{at}: {said}: the table has it in another case; write it so in tables.yaml")
        case 1061:
            return UnsafeChange(
                f"{at}: {said}: an index of this name has other columns; `schema apply --allow-unsafe` drops it, or "
                "rename the new one in tables.yaml"
            )
        case 1062:
            return UnsafeChange(f"{at}: {said}: rows that are there share the value; make them differ first")
        case 1048 | 1138 | 1264 | 1265 | 1292 | 1366 | 1406 | 4025 | 3140:
            return UnsafeChange(
                f"{at}: {said}: a row that is there holds a value that does not fit; nothing is changed"
            )
        case 1067 | 1101 | 1294:
            return ConfigError(f"{at}: {said}: correct the default in tables.yaml")
        case 1091:
            return ConfigError(f"{at}: {said}: it is gone already; run the command again for a new plan")
        case 1205:
            return Unavailable(f"{at}: {said}: another session uses the table; try again when it has ended", after=30.0)
        case 1170:
            return UnsafeChange(
                f"{at}: {said}: an index that is there has the whole column; `schema apply --allow-unsafe` drops it, or "
                "leave the column a VARCHAR"
            )
        case 1072:
            return UnsafeChange(f"{at}: {said}: it is to be added first, which has to be asked for by name")
    if code in _FOREIGN:
        return UnsafeChange(f"{at}: {said}: drop the foreign key first, and add it again afterwards")
    error = translated(exc, access)
    passing = lost(exc) or code < 1000 or code in {2003} | _HELD | _CROWDED | _SLOW | _READ_ONLY | _FULL
    if isinstance(error, ConfigError) or (isinstance(error, Unavailable) and passing):
        return error
    return ConfigError(f"{at} refuses a change of structure ({said}): {redact(statement)[:300]}")


def _account(said: str, access: Access) -> tuple[str, str]:
    """The account as the server names it."""
    found = re.search(r"user '(.*?)'@'(.*?)'", said)
    return (found[1], found[2]) if found is not None else (access.user, "%")
