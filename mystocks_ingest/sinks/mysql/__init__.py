"""MySQL 8.0 and later, MariaDB 10.6 and later: reference and meta data."""

from mystocks_ingest.sinks.mysql.access import Access
from mystocks_ingest.sinks.mysql.database import MySQLDatabase
from mystocks_ingest.sinks.mysql.dialect import MySQLDialect
from mystocks_ingest.sinks.mysql.grants import grants
from mystocks_ingest.sinks.mysql.sink import MySQLSink
from mystocks_ingest.sinks.mysql.target import MySQLTarget

__all__ = ["Access", "MySQLDatabase", "MySQLDialect", "MySQLSink", "MySQLTarget", "grants"]
