"""What a vendor's package might do inside a lane."""
# ruff: noqa: T201  # vendors print

import os
import re
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import requests

from mystocks_ingest.errors import Banned, Denied, Limited, Unreachable

remembered = {}


def remember(**values):
    remembered.update(values)


def recall():
    return dict(remembered)


def read_for(seconds):
    sys.modules["__main__"].READ_SECONDS = seconds


def refuse_to_start(**_):
    raise Denied("no such token")


def me():
    return os.getpid()


def frame(rows):
    return pd.DataFrame(
        {
            "ts_code": ["600000.SH"] * rows,
            "mixed": [1.5, "-"] * (rows // 2) + ["-"] * (rows % 2),
            "day": [date(2025, 2, 5)] * rows,
            "nothing": [None] * rows,
            "vol": [864193.99] * rows,
        }
    )


def arrow_and_value():
    return pa.table({"a": pa.chunked_array([[1], [2]])}), {"calls": 2}


def spin():
    while True:
        pass


def spin_holding_the_interpreter():
    re.match(r"(a+)+$", "a" * 60 + "b")


def block():
    time.sleep(3600)


def end():
    os._exit(7)


def leave():
    sys.exit("the vendor leaves")


def shout(lines):
    for n in range(lines):
        print("login success!", n)
        print("接收数据异常，请稍后再试。", file=sys.stderr)
    os.write(1, b"raw bytes \xff on fd 1\n")
    return "done"


def scribble_on_the_protocol():
    for fd in range(3, 64):
        try:
            os.write(fd, b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>")
        except OSError:
            continue
    time.sleep(60)


def fail(kind, text="it failed"):
    until = datetime(2026, 11, 21, 16, tzinfo=UTC)
    match kind:
        case "denied":
            raise Denied(text)
        case "limited":
            raise Limited(text, until=until)
        case "banned":
            raise Banned(text, until=until)
        case "unreachable":
            raise Unreachable(text, after=3.0)
        case "key":
            raise KeyError(text)
        case "json":
            raise requests.exceptions.JSONDecodeError(text, "<html>", 0)
        case "aborted":
            raise requests.exceptions.ConnectionError("('Connection aborted.', RemoteDisconnected('closed'))")
        case "slow":
            raise requests.exceptions.ReadTimeout(text)


def get(url):
    return requests.get(url).text  # noqa: S113  # as AkShare does


def environment():
    return {"env": dict(os.environ), "argv": sys.argv, "home": str(Path.home())}


def leave_a_grandchild():
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid
