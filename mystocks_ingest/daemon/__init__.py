"""The service that stays: live collection, the day's schedule, the spool in front of the databases, an orderly end.

``running.run`` is its life. Nothing is imported here: a command that only talks to the service loads ``control``.
"""
