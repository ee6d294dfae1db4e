"""``python -m mystocks_ingest``, and the console script ``mystocks-ingest``."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line with this process' arguments; the result is its exit code."""
    from mystocks_ingest.arrow import use_system_allocator  # noqa: PLC0415  (completion and --help load only click)
    from mystocks_ingest.cli.endings import end_well  # noqa: PLC0415

    use_system_allocator()
    return end_well(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
