"""Writes metrics.md from the list of families; ``page()`` is what it should hold."""

from __future__ import annotations

from pathlib import Path

from mystocks_ingest.monitor.metrics import FAMILIES, Family

PAGE = Path(__file__).with_name("metrics.md")
HEAD = """\
# Metrics

What `GET /metrics` gives to Prometheus, in its text format and without a token. This page is made from
`mystocks_ingest/monitor/metrics.py` by `docs/metrics_page.py`; a test compares the two.

A family without a line has not had anything to tell since the start. A histogram has `_bucket`, `_sum` and `_count`;
times are seconds, sizes are bytes. Besides these there are `process_*` (memory, CPU, open files) and `python_info`.
"""


def page() -> str:
    """The page as it should be."""
    ours = [f for f in FAMILIES if not f.seed]
    theirs = [f for f in FAMILIES if f.seed]
    lines = [HEAD, "## The service", "", "| name | kind | labels | what it tells |", "|---|---|---|---|"]
    lines += [f"| `{f.name}` | {f.kind} | {_labels(f)} | {f.text} |" for f in ours]
    lines += [
        "",
        "## The databases",
        "",
        "| name | known as | kind | labels | what it tells |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| `{f.name}` | `{f.seed}` | {f.kind} | {_labels(f)} | {f.text} |" for f in theirs]
    return "\n".join(lines) + "\n"


def _labels(family: Family) -> str:
    return ", ".join(f"`{label}`" for label in family.labels)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
