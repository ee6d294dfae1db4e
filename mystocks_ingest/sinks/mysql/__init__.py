"""MySQL 8.0 and later, MariaDB 10.6 and later: reference and meta data."""

from mystocks_ingest.sinks.mysql.access import Access
from mystocks_ingest.sinks.mysql.database import MySQLDatabase
from mystocks_ingest.sinks.mysql.sink import MySQLSink

__all__ = ["Access", "MySQLDatabase", "MySQLSink"]
