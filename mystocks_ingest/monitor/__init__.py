"""The journal: what was done, and what went wrong."""
