"""Tushare Pro, simulated."""
