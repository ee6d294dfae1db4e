"""Sinks: one file a database."""
