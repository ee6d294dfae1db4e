"""Sinks: one folder a database, and the registry that opens them by store name."""

from mystocks_ingest.sinks.registry import grants, log_server, opened_sink, opened_target

__all__ = ["grants", "log_server", "opened_sink", "opened_target"]
