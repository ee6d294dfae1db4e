"""What the stand-in does wrong on demand."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["delay", "error", "close", "close_after", "hang"]


@dataclass(slots=True)
class Fault:
    """Befalls requests whose action is ``action`` and whose SQL matches ``sql``; ``times`` of them, -1: all.

    delay: answer after ``seconds``; error: answer ``code`` and do nothing; close: cut the connection and do nothing;
    close_after: do it, then cut the connection; hang: never answer. The first ``skip`` such requests are spared.
    """

    kind: Kind
    action: str = "*"
    sql: str = ""
    times: int = -1
    skip: int = 0
    seconds: float = 0.0
    code: int = 0
    message: str = "made fault"

    def befalls(self, action: str, sql: str) -> bool:
        if self.times == 0 or self.action not in ("*", action):
            return False
        if self.sql and not re.search(self.sql, sql, re.IGNORECASE):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times > 0:
            self.times -= 1
        return True


class Faults:
    """Those in force, and how often each action was asked for."""

    def __init__(self) -> None:
        self.all: list[Fault] = []
        self.asked: dict[str, int] = {}
        self.connected = 0

    def find(self, action: str, sql: str) -> Fault | None:
        self.asked[action] = self.asked.get(action, 0) + 1
        return next((f for f in self.all if f.befalls(action, sql)), None)

    def add(self, fault: dict[str, Any]) -> None:
        self.all.append(Fault(**fault))
