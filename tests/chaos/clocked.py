"""The command line at another time: ``python clocked.py 2024-06-28T10:30+08:00 backfill ...``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from mystocks_ingest.cli import process
from mystocks_ingest.cli.endings import end_well

if __name__ == "__main__":
    began, moment = datetime.now(UTC), datetime.fromisoformat(sys.argv[1]).astimezone(UTC)
    process.clock = lambda: moment + (datetime.now(UTC) - began)
    sys.exit(end_well(sys.argv[2:]))
