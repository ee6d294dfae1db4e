"""Sinks: one folder a database, and the registry that opens them by store name."""

from mystocks_ingest.sinks.registry import opened_sink

__all__ = ["opened_sink"]
