"""Data ingestion for Chinese A-shares. ``mystocks_ingest.read("bar_1d", "600519")`` gives stored rows."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mystocks_ingest.reading import read

__version__ = "0.1.0"
__all__ = ["__version__", "read"]


def __getattr__(name: str) -> object:
    """``read`` is imported when it is first used: ``--help`` must stay light."""
    if name == "read":
        from mystocks_ingest.reading import read  # noqa: PLC0415

        return read
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
