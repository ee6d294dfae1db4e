"""A simulated market and the three vendors' wire protocols on loopback."""
