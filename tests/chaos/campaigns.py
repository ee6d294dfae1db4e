"""Backfills from the simulated market as processes that are killed, and the count of what they stored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random

import duckdb
import psutil
import pyarrow as pa

from mystocks_ingest.market.datasets import dataset
from mystocks_ingest.schema import tables
from mystocks_ingest.sinks.embedded import FILE

ROOT = Path(__file__).parents[2]
PRICES = ("open", "high", "low", "close", "pre_close")
CLOCKED = Path(__file__).with_name("clocked.py")
ACCOUNT = {"TUSHARE_POINTS": "5000", "MYSTOCKS_PACING": "none"}
ORPHANS_END_SECONDS = 30.0


@dataclass(frozen=True)
class Program:
    """The command line with its own state directory, as a process that can be killed."""

    state: Path
    environment: Mapping[str, str]
    at: datetime | None = None  # the program's present; None: the real one

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        self.state.mkdir(parents=True, exist_ok=True)
        entry = ["-m", "mystocks_ingest"] if self.at is None else [str(CLOCKED), self.at.isoformat()]
        with (self.state / "stderr.txt").open("a") as errors, (self.state / "stdout.txt").open("w") as out:
            return subprocess.Popen(
                [sys.executable, *entry, *arguments],
                cwd=ROOT,
                env={**os.environ, **ACCOUNT, **self.environment, "MYSTOCKS_STATE_DIR": str(self.state)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
            )

    def run(self, *arguments: str, seconds: float = 120.0) -> Ended:
        began = time.monotonic()
        process = self.start(*arguments)
        try:
            process.wait(timeout=seconds)
        finally:
            process.kill()
            process.wait()
        out = (self.state / "stdout.txt").read_text()
        return Ended(process.returncode, out, self.said(), time.monotonic() - began)

    def said(self) -> str:
        return (self.state / "stderr.txt").read_text()


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    errors: str
    seconds: float

    @property
    def report(self) -> dict[str, object]:
        """The closing report of ``--json``: the last document printed."""
        assert self.out.strip(), f"exit {self.code} without a report: {self.errors}"
        return json.loads(self.out.strip().splitlines()[-1])


@dataclass
class Tally:
    """What became of the rows of one dataset, over all campaigns."""

    truth: int = 0
    stored: int = 0
    lost: int = 0
    doubled: int = 0
    foreign: int = 0
    wrong: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, n) + getattr(other, n) for n in self.__dataclass_fields__))

    @property
    def faultless(self) -> bool:
        return self.truth == self.stored and not (self.lost or self.doubled or self.foreign or self.wrong)


def count(state: Path, name: str, truth: pa.Table) -> Tally:
    """Stored rows of a bar dataset held against the truth; prices to the cent, volume to 100 shares.

    A row marked provisional claims nothing yet, so it cannot be wrong.
    """
    table = tables.load(ROOT / "config" / "tables.yaml").holder(dataset(name)).name
    with duckdb.connect(str(state / FILE), read_only=True) as store:
        if not store.execute("select 1 from duckdb_tables() where table_name = ?", [table]).fetchone():
            return Tally(truth=truth.num_rows, lost=truth.num_rows)
        return _compared(store, table, name, truth)


def count_rows(stored: pa.Table, name: str, truth: pa.Table) -> Tally:
    """As ``count``, of rows that were read from another database."""
    with duckdb.connect() as store:
        store.register("stored", stored)
        return _compared(store, "stored", name, truth)


def _compared(store: duckdb.DuckDBPyConnection, table: str, name: str, truth: pa.Table) -> Tally:
    wanted = dataset(name)
    key = ", ".join(wanted.key)
    prices = [p for p in PRICES if p in wanted.schema.names]
    tolerances = dict.fromkeys(prices, 0.00501) | {"volume": 100, "amount": 140}
    different = " or ".join(f"abs(s.{column} - t.{column}) > {most}" for column, most in tolerances.items())
    store.execute("SET TimeZone = 'Asia/Shanghai'")
    store.register("truth", truth)

    def one(sql: str) -> int:
        return int(store.execute(sql).fetchone()[0])

    return Tally(
        truth=truth.num_rows,
        stored=one(f"select count(*) from {table}"),
        lost=one(f"select count(*) from truth t anti join {table} s using ({key})"),
        doubled=one(f"select count(*) - count(distinct ({key})) from {table}"),
        foreign=one(f"select count(*) from {table} s anti join truth t using ({key})"),
        wrong=one(
            f"select count(*) from {table} s join truth t using ({key}) where not s.provisional and ({different})"
        ),
    )


@dataclass
class Campaign:
    """One backfill from nothing to completeness, interrupted as often as the dice say."""

    program: Program
    arguments: Sequence[str]
    dice: Random
    usual_seconds: float
    kills: int = 0
    moments: list[float] = field(default_factory=list)

    def kill_parent(self, *, at_most: int) -> Ended:
        """Start, ``kill -9`` at a random moment, start again, ...; then let it end. The last ending."""
        for _ in range(at_most):
            process = self.program.start("backfill", *self.arguments, "--json")
            moment = self.dice.uniform(0.0, self.usual_seconds)
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                lanes = psutil.Process(process.pid).children(recursive=True)
                process.kill()
                process.wait()
                self.kills += 1
                self.moments.append(moment)
                _, orphans = psutil.wait_procs(lanes, timeout=ORPHANS_END_SECONDS)
                assert not orphans, f"lanes outlived their parent: {orphans}"
            else:
                break  # it was complete before the moment came
        return self.program.run("backfill", *self.arguments, "--json")

    def kill_lanes(self, *, at_most: int) -> Ended:
        """While one backfill runs, ``kill -9`` a lane at random moments; start again until it is complete."""
        for _ in range(12):
            process = self.program.start("backfill", *self.arguments, "--json")
            ended = self._shoot(process, at_most=at_most)
            if ended == 0:
                break
        return self.program.run("backfill", *self.arguments, "--json")

    def _shoot(self, process: subprocess.Popen[bytes], *, at_most: int) -> int:
        pause = self.usual_seconds / 6
        while True:
            try:
                process.wait(self.dice.uniform(0.0, pause))
            except subprocess.TimeoutExpired:
                lanes = lanes_of(process.pid)
                if lanes and self.kills < at_most:
                    self.dice.choice(lanes).kill()
                    self.kills += 1
            else:
                return process.returncode


def lanes_of(pid: int) -> list[psutil.Process]:
    """The lanes of a running program."""
    try:
        children = psutil.Process(pid).children(recursive=True)
        return [c for c in children if any("lane_child" in word for word in c.cmdline())]
    except psutil.NoSuchProcess:
        return []
