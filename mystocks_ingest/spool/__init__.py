"""The spool: a bounded durable queue on local disk in front of sinks that are away."""

from mystocks_ingest.errors import Full
from mystocks_ingest.spool.queue import FILE, Level, Spool

__all__ = ["FILE", "Full", "Level", "Spool"]
