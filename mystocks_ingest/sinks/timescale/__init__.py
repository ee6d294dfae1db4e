"""PostgreSQL, with TimescaleDB's hypertables where wanted."""

from mystocks_ingest.sinks.timescale.access import Access
from mystocks_ingest.sinks.timescale.database import TimescaleDatabase
from mystocks_ingest.sinks.timescale.sink import TimescaleSink

__all__ = ["Access", "TimescaleDatabase", "TimescaleSink"]
