"""Sources: one file a vendor, and the registry that opens them by name."""
