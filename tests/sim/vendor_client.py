# ruff: noqa: PLC0415 - a vendor is imported when it is first called
"""A child process that calls the real vendor packages against the simulator: one JSON line in, one out."""

import contextlib
import io
import json
import os
import sys
from urllib.parse import urlsplit

os.environ["TQDM_DISABLE"] = "1"
HAS_ROWS = "fields"


def redirect_akshare(endpoint):
    from requests.adapters import HTTPAdapter

    send = HTTPAdapter.send

    def to_loopback(self, request, *args, **kwargs):
        parts = urlsplit(request.url)
        if parts.hostname == "127.0.0.1":  # tushare's
            return send(self, request, *args, **kwargs)
        request.headers["X-Sim-Host"] = parts.hostname
        request.url = endpoint + parts.path + (f"?{parts.query}" if parts.query else "")
        kwargs["proxies"] = {}
        kwargs["timeout"] = kwargs.get("timeout") or 2
        return send(self, request, *args, **kwargs)

    HTTPAdapter.send = to_loopback
    import akshare

    return akshare


def redirect_baostock(endpoint):
    import baostock
    from baostock.common import contants

    contants.BAOSTOCK_SERVER_IP, _, port = endpoint.partition(":")
    contants.BAOSTOCK_SERVER_PORT = int(port)
    return baostock


def redirect_tushare(endpoint, token):
    import tushare
    from tushare.pro import client

    client.DataApi._DataApi__http_url = endpoint + "/dataapi"
    return tushare.pro_api(token, timeout=2)


def plain(value):
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        return {"columns": list(value.columns), "rows": json.loads(value.to_json(orient="values", date_format="iso"))}
    if hasattr(value, HAS_ROWS):
        rows = []
        while value.error_code == "0" and value.next():
            rows.append(value.get_row_data())
        return {"columns": value.fields, "rows": rows, "code": value.error_code, "message": value.error_msg}
    return {"value": str(value)}


def main():
    clients = {}
    for line in sys.stdin:
        asked = json.loads(line)
        vendor = asked["vendor"]
        with contextlib.redirect_stdout(io.StringIO()) as noise:
            try:
                if vendor not in clients:
                    environment = asked["environment"]
                    if vendor == "tushare":
                        clients[vendor] = redirect_tushare(
                            environment["TUSHARE_ENDPOINT"], environment["TUSHARE_TOKEN"]
                        )
                    elif vendor == "baostock":
                        clients[vendor] = redirect_baostock(environment["BAOSTOCK_ENDPOINT"])
                    else:
                        clients[vendor] = redirect_akshare(environment["AKSHARE_ENDPOINT"])
                call = getattr(clients[vendor], asked["function"])
                answer = plain(call(*asked["arguments"], **asked["options"]))
            except Exception as exc:  # noqa: BLE001  (whatever the package raises is the answer)
                answer = {"error": type(exc).__name__, "text": str(exc)}
        answer["noise"] = noise.getvalue()
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


main()
