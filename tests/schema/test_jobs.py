"""jobs.yaml: what it says is taken, what is wrong is said with its place, all at once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.schema import jobs

SHIPPED = Path(__file__).parents[2] / "config" / "jobs.yaml"


def test_the_shipped_jobs_read_and_have_names_of_their_own() -> None:
    found = jobs.read(SHIPPED)
    assert len({j.name for j in found}) == len(found) >= 5
    daily = next(j for j in found if j.name == "daily")
    assert (daily.datasets[:2], daily.sessions, daily.retry_after) == (
        ("adj_factor", "bar_1d"),
        10,
        timedelta(minutes=10),
    )
    assert [j.name for j in found if j.live] == ["quotes"]


def test_a_file_that_is_absent_or_empty_is_told_by_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "jobs.yaml"
    with pytest.raises(ConfigError, match=r"no job file at .*jobs\.yaml: .* that holds jobs\.yaml"):
        jobs.read(path)
    path.write_text("# all of it is a remark\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"jobs\.yaml is empty: it must hold `jobs:`"):
        jobs.read(path)


def test_every_mistake_is_told_with_its_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "jobs.yaml"
    path.write_text(
        """jobs:
  - {name: a, when: after lunch, datasets: bar_1d}
  - {name: b, when: after close, datasets: [bar_1d, bars]}
  - {name: b, when: after close, datasets: bar_1d, deadline: soon}
  - {name: c, when: after close, datasets: quote}
  - {name: d, when: every 3 s in session, datasets: bar_1d}
  - {name: e, when: after close, datasets: bar_1d, retries: -1, univers: all}
  - {name: f, datasets: bar_1d}
other: 1
""",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as caught:
        jobs.read(path)
    said = str(caught.value).splitlines()
    places = [line.removeprefix(f"{path}:").split(": ", 1)[0] for line in said[1:]]
    assert [p.split(":")[0] for p in places] == ["2", "3", "4", "4", "5", "6", "7", "7", "8", "9"], said
    assert "after lunch" in said[1]
    assert "'bars'" in said[2]
