"""Tushare Pro, through its own package. ``source.py`` runs here, ``calls.py`` in the lane; ``layouts.py`` is data."""
