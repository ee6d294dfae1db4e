"""Baostock, simulated."""
