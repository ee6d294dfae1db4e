"""The embedded store: with no database server configured, everything lives in one DuckDB file."""

from mystocks_ingest.sinks.embedded.database import FILE, EmbeddedDatabase
from mystocks_ingest.sinks.embedded.sink import EmbeddedSink
from mystocks_ingest.sinks.embedded.target import EmbeddedTarget

__all__ = ["FILE", "EmbeddedDatabase", "EmbeddedSink", "EmbeddedTarget"]
