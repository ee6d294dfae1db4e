"""Data ingestion for Chinese A-shares."""

__version__ = "0.1.0"
