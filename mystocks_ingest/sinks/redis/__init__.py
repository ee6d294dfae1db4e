"""Redis: the newest quotes, books, positions and cash, where everybody reads them within milliseconds."""

from mystocks_ingest.sinks.redis.connections import Access
from mystocks_ingest.sinks.redis.database import Place, RedisDatabase
from mystocks_ingest.sinks.redis.dialect import RedisDialect, grants
from mystocks_ingest.sinks.redis.sink import RedisSink
from mystocks_ingest.sinks.redis.target import RedisTarget

__all__ = ["Access", "Place", "RedisDatabase", "RedisDialect", "RedisSink", "RedisTarget", "grants"]
