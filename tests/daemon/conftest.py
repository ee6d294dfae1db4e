"""The place where a service runs."""

from daemon_place import place  # noqa: F401 - a fixture for every test here
