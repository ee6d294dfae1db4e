"""The service that stays: live collection, the day's schedule, the spool in front of the databases, an orderly end.

``running.run`` is its life. Nothing is imported here: commands load what they need.
"""
