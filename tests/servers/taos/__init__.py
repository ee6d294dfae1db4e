"""A stand-in for TDengine 3.3 behind taosAdapter, so that the real taos-ws-py can be tested where no server exists.

It speaks the websocket protocol of taosAdapter and behaves, as far as a sink can tell, like the server that was
measured: inserts are upserts and are not atomic, KEEP bounds the time, the error codes are the server's. Run with
``python -m servers.taos`` from the folder above; ``servers.tdengine`` starts it for tests.
"""
