"""The sites behind akshare, simulated."""
