"""PostgreSQL, with TimescaleDB's hypertables where wanted."""

from mystocks_ingest.sinks.timescale.database import PostgreSQL, TimescaleDatabase
from mystocks_ingest.sinks.timescale.sink import TimescaleSink

__all__ = ["PostgreSQL", "TimescaleDatabase", "TimescaleSink"]
