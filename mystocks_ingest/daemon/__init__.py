"""The service that stays: live collection, the day's schedule, the spool in front of the databases, an orderly end."""

from mystocks_ingest.daemon.parts import Daemon, Wall
from mystocks_ingest.daemon.running import run

__all__ = ["Daemon", "Wall", "run"]
