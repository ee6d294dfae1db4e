"""``python -m mystocks_ingest``."""
