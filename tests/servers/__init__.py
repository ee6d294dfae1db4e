"""Private database servers for tests and benchmarks, from the binaries installed on this machine.

Each runs on a free loopback port in a temporary directory of its own; nothing of the system's own servers is touched.
"""
