"""PostgreSQL, with TimescaleDB's hypertables where wanted."""

from mystocks_ingest.sinks.timescale.access import Access
from mystocks_ingest.sinks.timescale.database import TimescaleDatabase
from mystocks_ingest.sinks.timescale.dialect import PostgreSQLDialect
from mystocks_ingest.sinks.timescale.grants import grants
from mystocks_ingest.sinks.timescale.sink import TimescaleSink
from mystocks_ingest.sinks.timescale.target import TimescaleTarget

__all__ = ["Access", "PostgreSQLDialect", "TimescaleDatabase", "TimescaleSink", "TimescaleTarget", "grants"]
