"""Recorded vendor rows served in place of the simulated market."""
