"""Builds everything from the settings; the only composition root."""
