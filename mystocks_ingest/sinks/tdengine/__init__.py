"""TDengine: ticks, quotes and minute bars, through taos-ws-py in processes of its own."""

from mystocks_ingest.sinks.tdengine.database import Options, TDengineDatabase
from mystocks_ingest.sinks.tdengine.shape import ddl
from mystocks_ingest.sinks.tdengine.sink import TDengineSink

__all__ = ["Options", "TDengineDatabase", "TDengineSink", "ddl"]
