"""The HTTP side of the service: health, metrics, reading, and rows that others deliver.

``app.made(desk, tokens)`` is the application, ``server.serve(app, host, port)`` runs it in the caller's loop. Whoever
runs the service implements ``desk.Desk``.
"""
