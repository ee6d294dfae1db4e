"""``pacing.yaml``: what it says holds, what it does not say stays as it is known, a mistake is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.ports import Rate
from mystocks_ingest.schema.paces import Calls, Pace
from mystocks_ingest.schema.pacing import read
from mystocks_ingest.sources import names
from mystocks_ingest.sources.akshare import _BREAKER
from mystocks_ingest.sources.akshare.families import FAMILIES
from mystocks_ingest.sources.baostock.source import BUDGET
from mystocks_ingest.sources.pacing import Breaker, Budget
from mystocks_ingest.sources.tushare.source import budget

SHIPPED = Path(__file__).parents[2] / "config" / "pacing.yaml"
USUAL = Budget((Rate(1, 1.0),), (Rate(9, 60.0),), {"a": (Rate(2, 60.0),)}, 0.5, Breaker(2, 1800.0, "Reset"))


def told(tmp_path: Path, text: str) -> dict[str, Pace]:
    file = tmp_path / "pacing.yaml"
    file.write_text(text, encoding="utf-8")
    return dict(read(file, names()))


def test_what_is_not_said_stays_as_it_is_known(tmp_path: Path) -> None:
    assert told(tmp_path, "sources:\n") == {}
    assert dict(read(tmp_path / "none.yaml", names())) == {}
    found = told(tmp_path, "sources: {tushare: {calls: 400 / min}, baostock: {}}")
    assert found == {"tushare": Pace(calls=(Calls(400, 60.0),)), "baostock": Pace()}
    over = USUAL.over(found["tushare"])
    assert over == Budget((Rate(400, 60.0),), USUAL.each_api, USUAL.by_api, 0.5, USUAL.breaker)
    assert USUAL.over(Pace()) == USUAL


def test_everything_may_be_said(tmp_path: Path) -> None:
    text = """
sources:
  tushare:
    calls: [160 / min, 1 / 3 s, 40000/day]
    each_api: 10 / h
    by_api: {daily: 2 / 500 ms}
    spacing: 0.2 s
    breaker: {strikes: 3, rest: 1 h}
"""
    over = USUAL.over(told(tmp_path, text)["tushare"])
    assert over.rates == (Rate(160, 60.0), Rate(1, 3.0), Rate(40_000, 86_400.0))
    assert over.each_api == (Rate(10, 3600.0),)
    assert over.by_api == {"daily": (Rate(2, 0.5),)}
    assert (over.spacing_seconds, over.breaker) == (0.2, Breaker(3, 3600.0, "Reset"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sources: {tushare: {calls: 0 / min}}", ":1:28: '0 / min' of tushare is not calls / time"),
        ("sources:\n  tushare:\n    calls: [160 / min, often]", ":3:24: 'often' of tushare"),
        ("sources:\n  wind: {calls: 1 / s}", ":2:3: unknown source 'wind'"),
        ("sources:\n  baostock:\n    spacing: fast", ":3:14: `spacing` of baostock is a length of time"),
        ("sources:\n  akshare:\n    breaker: {strikes: 0}", ":3:24: `strikes`"),
        ("sources:\n  akshare:\n    breaker: {rest: 30}", ":3:21: `rest`"),
        ("sources:\n  akshare: {cals: 1 / s}", ":2:13: unknown entry `cals`"),
        ("budget: {}", ":1:1: unknown entry 'budget'"),
        ("sources: [tushare]", "a mapping `sources:`"),
        ("sources:\n  akshare: {calls: 1 / s\n", ":3:1: not YAML"),
        ("sources:\n  akshare: {}\n  akshare: {}\n", ":3:3: `akshare` stands twice"),
    ],
)
def test_a_mistake_is_told_with_line_and_column(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        told(tmp_path, text)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_shipped_file_says_nothing_and_its_remarks_are_the_defaults(tmp_path: Path) -> None:
    assert dict(read(SHIPPED, names())) == {}
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    at = lines.index("sources:")
    remarks = [line.replace("# ", "", 1) for line in lines[at:] if line == "sources:" or line.startswith("  # ")]
    spoken = "\n".join(line for line in remarks if line == "sources:" or line.lstrip().split(":")[0] in _WORDS)
    assert set(yaml.safe_load(spoken)["sources"]) == {"tushare", "baostock", *FAMILIES}
    found = told(tmp_path, spoken)
    assert budget(2000).over(found["tushare"]) == budget(2000)
    assert BUDGET.over(found["baostock"]) == BUDGET
    for name, family in FAMILIES.items():
        usual = Budget(family.rates, spacing_seconds=family.spacing, breaker=_BREAKER)
        assert usual.over(found[name]) == usual, name


_WORDS = {"tushare", "baostock", *FAMILIES, "calls", "each_api", "by_api", "spacing", "breaker"}
