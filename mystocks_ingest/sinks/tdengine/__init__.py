"""TDengine: ticks, quotes and minute bars, through taos-ws-py in processes of its own."""

from mystocks_ingest.sinks.tdengine.database import Options, TDengineDatabase
from mystocks_ingest.sinks.tdengine.dialect import TDengineDialect
from mystocks_ingest.sinks.tdengine.grants import grants
from mystocks_ingest.sinks.tdengine.sink import TDengineSink
from mystocks_ingest.sinks.tdengine.target import TDengineTarget

__all__ = ["Options", "TDengineDatabase", "TDengineDialect", "TDengineSink", "TDengineTarget", "grants"]
