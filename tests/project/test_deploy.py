"""``deploy/``: what Prometheus and Grafana are told exists, and the image's steps do what they say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from mystocks_ingest.monitor.health import Health, Kind, Part
from mystocks_ingest.monitor.metrics import FAMILIES, Metrics
from mystocks_ingest.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROMETHEUS: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = [p for p in DASHBOARD["panels"] if p["type"] != "row"]
SCRAPED_BY_PROMETHEUS = {"up": {"job", "instance"}}  # its own
TARGET = {"job", "instance"}  # labels that scraping adds
GRAFANA = {"$__rate_interval": "1m", "$instance": ".*"}


def expressions() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]


def parsed(expression: str) -> promql_parser.Expr:
    for name, value in GRAFANA.items():
        expression = expression.replace(name, value)
    return promql_parser.parse(expression)


def nodes(expression: str) -> list[Any]:
    found: list[Any] = []
    promql_parser.walk(parsed(expression), found.append)
    return found


def selectors(expression: str) -> list[Any]:
    return [n for n in nodes(expression) if isinstance(n, promql_parser.VectorSelector)]  # those within ranges, too


def exposed() -> dict[str, set[str]]:
    """Each series the service can expose, with its labels, as the registry itself would write them."""
    found: dict[str, set[str]] = {}
    for family in FAMILIES:
        labels = set(family.labels)
        match family.kind:
            case "histogram":
                found |= {f"{family.name}_{end}": labels for end in ("sum", "count")}
                found[f"{family.name}_bucket"] = {*labels, "le"}
            case _:
                found[family.name] = labels
    for family in text_string_to_metric_families(Metrics().text().decode()):
        for sample in family.samples:
            if sample.name.startswith(("process_", "python_")):
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


SERIES = exposed()


@pytest.mark.parametrize(("where", "expression"), [pytest.param(w, e, id=w) for w, e in expressions()])
def test_every_expression_parses_and_every_series_and_label_it_names_exists(where: str, expression: str) -> None:
    used = selectors(expression)
    assert used
    for selector in used:
        known = SERIES | SCRAPED_BY_PROMETHEUS
        assert selector.name in known, f"{where}: no metric {selector.name}"
        labels = {m.name for m in selector.matchers.matchers}
        assert labels <= known[selector.name] | TARGET, f"{where}: {selector.name} has no label among {labels}"


@pytest.mark.parametrize(("where", "expression"), [pytest.param(w, e, id=w) for w, e in expressions()])
def test_what_is_summed_by_is_a_label_of_what_is_summed(where: str, expression: str) -> None:
    known = SERIES | SCRAPED_BY_PROMETHEUS
    for node in nodes(expression):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            for selector in selectors(node.expr.prettify()):
                assert set(node.modifier.labels) <= known[selector.name] | TARGET, where


@pytest.mark.parametrize(("where", "expression"), [pytest.param(w, e, id=w) for w, e in expressions()])
def test_counters_are_only_looked_at_as_rates_and_gauges_never(where: str, expression: str) -> None:
    counters = {name for name in SERIES if name.endswith(("_total", "_bucket", "_sum", "_count"))}
    counters.discard("mystocks_start_time_seconds")
    rated = [
        (node.func.name, node.args[0].vector_selector.name)
        for node in nodes(expression)
        if isinstance(node, promql_parser.Call) and node.args and isinstance(node.args[0], promql_parser.MatrixSelector)
    ]
    for function, name in rated:
        assert (function in ("rate", "increase")) == (name in counters), where
    assert {s.name for s in selectors(expression)} & counters <= {name for _, name in rated}, where


def test_a_metric_or_label_that_is_not_there_would_be_found() -> None:
    assert "mystocks_rows_total" not in SERIES
    assert [s.name for s in selectors("sum by (x) (rate(a_total[5m])) / on (x) b{c='d'}")] == ["a_total", "b"]
    with pytest.raises(ValueError, match="expected type"):
        parsed("rate(mystocks_rows_stored_total)")


def test_the_dashboard_shows_every_metric_there_is() -> None:
    text = json.dumps(DASHBOARD) + (DEPLOY / "prometheus" / "rules.yml").read_text(encoding="utf-8")
    missing = [f.name for f in FAMILIES if f.name not in text]
    assert set(missing) <= {"mystocks_build_info"}


def test_a_quantile_of_a_histogram_keeps_its_buckets_apart() -> None:
    for where, expression in expressions():
        for node in nodes(expression):
            if isinstance(node, promql_parser.Call) and node.func.name == "histogram_quantile":
                inner = node.args[1]
                assert isinstance(inner, promql_parser.AggregateExpr), where
                assert "le" in inner.modifier.labels, where


@pytest.mark.parametrize("rule", RULES, ids=[r["alert"] for r in RULES])
def test_an_alert_has_a_name_of_its_own_a_severity_and_says_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Mystocks[A-Z][A-Za-z]+", rule["alert"])
    assert [r["alert"] for r in RULES].count(rule["alert"]) == 1
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert set(rule["annotations"]) == {"summary", "remedy"}
    if "for" in rule:
        promql_parser.parse_duration(rule["for"])
    left = {label for node in nodes(rule["expr"]) if isinstance(node, promql_parser.AggregateExpr) and node.modifier
            for label in node.modifier.labels}  # fmt: skip
    for selector in selectors(rule["expr"]):
        left |= (SERIES | SCRAPED_BY_PROMETHEUS)[selector.name]
    asked = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    assert asked <= left


def test_prometheus_scrapes_the_service_where_it_listens_and_reads_our_rules() -> None:
    (scrape,) = PROMETHEUS["scrape_configs"]
    settings = Settings(_env_file=None)
    assert scrape["job_name"] == "mystocks"
    assert scrape["static_configs"] == [{"targets": [f"{settings.http_host}:{settings.http_port}"]}]
    assert scrape["metrics_path"] == "/metrics"
    assert [(DEPLOY / "prometheus" / name).is_file() for name in PROMETHEUS["rule_files"]] == [True]


def test_the_dashboards_panels_have_a_place_each_and_ask_for_their_data_source() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [p["id"] for p in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    wanted = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
    assert all(p["datasource"] == wanted and all(t["datasource"] == wanted for t in p["targets"]) for p in PANELS)
    assert [i["name"] for i in DASHBOARD["__inputs"]] == ["DS_PROMETHEUS"]
    assert all(f"${v['name']}" in GRAFANA for v in DASHBOARD["templating"]["list"])


def test_figures_that_the_alerts_ask_of_parts_are_those_that_parts_are_asked_for_elsewhere() -> None:
    at = datetime(2026, 1, 5, tzinfo=UTC)
    parts = (
        Part("state", Kind.DISK, figures={"used_percent": 81.0}),
        Part("calendar", Kind.CALENDAR, figures={"days_left": 12.0}),
        Part("tushare", Kind.SOURCE, figures={"banned": 0.0}),
        Part("redis", Kind.SINK, figures={"away": 1.0, "away_seconds": 30.0}),
    )
    metrics = Metrics(process=False)
    metrics.looked(Health(parts, "0", at, at))
    shown = {
        tuple(sorted(sample.labels.items()))
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
        if sample.name == "mystocks_part_figure"
    }
    for _, expression in expressions():
        for selector in selectors(expression):
            if selector.name == "mystocks_part_figure":
                asked = {m.name: m.value for m in selector.matchers.matchers if m.name in ("kind", "figure")}
                assert any(asked.items() <= dict(labels).items() for labels in shown), expression


# --- the image ---------------------------------------------------------------------------------------------------

DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def steps() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, each with its text on one line."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    found = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
    return [(name, " ".join(rest.split())) for name, _, rest in found]


def test_the_image_is_built_in_two_stages_and_runs_as_nobody_special() -> None:
    bases = [rest for name, rest in steps() if name == "FROM"]
    assert len(bases) == 2
    assert len({base.split()[0] for base in bases}) == 1  # the packages are built for the Python that runs them
    names = [name for name, _ in steps()]
    last = names[len(names) - 1 - names[::-1].index("FROM") :]
    assert "USER" in last
    assert last.index("USER") < last.index("ENTRYPOINT")
    (user,) = [rest for name, rest in steps() if name == "USER"]
    assert user not in ("root", "0")
    assert not [rest for name, rest in steps()[names.index("USER") :] if name == "RUN"]


def test_the_image_holds_no_secret_and_everything_it_copies_is_there() -> None:
    for name, rest in steps():
        assert not re.search(r"(PASSWORD|TOKEN|SECRET)=", rest)
        if name == "COPY" and not rest.startswith("--from"):
            assert all((ROOT / source).exists() for source in rest.split()[:-1]), rest
        if name == "RUN" and "pip install" in rest:
            assert "--require-hashes" in rest
    assert "ADD" not in {name for name, _ in steps()}


def test_what_the_image_sets_are_settings_the_program_has() -> None:
    known = {str(info.alias or name) for name, info in Settings.model_fields.items()}
    (environment,) = [rest for name, rest in steps() if name == "ENV"]
    asked = {word.partition("=")[0] for word in environment.split()}
    assert {name for name in asked if name.startswith("MYSTOCKS_")} <= known


HEALTH = DEPLOY / "healthcheck.py"


def checked(port: int, command_line: bytes, tmp_path: Path) -> int:
    first = tmp_path / "cmdline"
    first.write_bytes(command_line)
    environment = {**os.environ, "MYSTOCKS_HTTP_PORT": str(port), "MYSTOCKS_HTTP_HOST": "0.0.0.0"}  # noqa: S104
    return subprocess.run([sys.executable, str(HEALTH), str(first)], env=environment, check=False).returncode


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_asks_the_service_whether_it_lives(status: int, code: int, tmp_path: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health/live" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            assert checked(server.server_port, b"python\0-m\0mystocks_ingest\0run\0", tmp_path) == code
        finally:
            server.shutdown()
            thread.join()
    assert checked(server.server_port, b"python\0-m\0mystocks_ingest\0run\0", tmp_path) == 1  # it is gone


def test_a_container_that_runs_another_command_is_well_while_it_runs(tmp_path: Path) -> None:
    assert checked(1, b"/sbin/docker-init\0--\0python\0-m\0mystocks_ingest\0backfill\0", tmp_path) == 0
    assert checked(1, b"/sbin/docker-init\0--\0python\0-m\0mystocks_ingest\0run\0", tmp_path) == 1
    assert any(name == "HEALTHCHECK" and f'"/opt/mystocks/{HEALTH.name}"' in rest for name, rest in steps())


def clean(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """What the image copies, in a directory of its own, and the environment it sets."""
    for name in ("config", "mystocks_ingest"):
        shutil.copytree(ROOT / name, tmp_path / "opt" / name, ignore=shutil.ignore_patterns("__pycache__"))
    state = tmp_path / "state"
    state.mkdir()
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "opt"), "HOME": str(state),
        "MYSTOCKS_CONFIG_DIR": str(tmp_path / "opt" / "config"), "MYSTOCKS_STATE_DIR": str(state),
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    return state, environment


def test_what_the_image_copies_is_enough_to_run(tmp_path: Path) -> None:
    state, environment = clean(tmp_path)
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "mystocks_ingest", "schema", "validate", "--json"],
        cwd=state, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode in (0, 4), ended.stderr
    assert json.loads(ended.stdout)


def test_the_service_that_the_image_runs_is_well_by_its_health_check_and_ends_in_order(tmp_path: Path) -> None:
    """What the compose file starts, without databases: `run`, the check of the image, SIGTERM."""
    state, environment = clean(tmp_path)
    (tmp_path / "opt" / "config" / "jobs.yaml").write_text(
        "jobs: [{name: weekly, when: cron 0 6 * * 6, datasets: bar_1w, paused: true}]", encoding="utf-8"
    )
    command = [sys.executable, "-P", "-m", "mystocks_ingest", "run", "--json"]
    environment["MYSTOCKS_HTTP_HOST"] = "0.0.0.0"  # noqa: S104 - as in a container; the guard's rule is for going out
    service = subprocess.Popen(
        command, cwd=state, env={**environment, "MYSTOCKS_HTTP_PORT": "0"}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert service.stdout is not None
        ready = json.loads(service.stdout.readline())
        port = int(ready["http"].rpartition(":")[2])
        assert checked(port, "\0".join(command).encode() + b"\0", tmp_path) == 0
        service.terminate()
        assert service.wait(60) == 0
    finally:
        if service.poll() is None:
            service.kill()
            service.wait()
        service.stdout.close()
    assert checked(port, "\0".join(command).encode() + b"\0", tmp_path) == 1


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_the_image_s_steps_make_an_environment_that_runs_the_program(tmp_path: Path) -> None:
    """The RUN line of the first stage in a clean directory, then the entry point. Downloads every package."""
    state, environment = clean(tmp_path)
    venv = tmp_path / "venv"
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    (install,) = [rest for name, rest in steps() if name == "RUN" and "pip install" in rest]
    line = (
        install.replace("/opt/venv", str(venv))
        .replace("/build/", f"{tmp_path}/")
        .replace("python -m venv", f"{sys.executable} -m venv")
    )
    outside = {n: v for n, v in os.environ.items() if n not in ("PYTHONPATH", "MYSTOCKS_GUARD_LOG")}
    done = subprocess.run(["sh", "-ec", line], env=outside, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (entry,) = [json.loads(rest) for name, rest in steps() if name == "ENTRYPOINT"]
    for argv in (["--version"], ["schema", "validate", "--json"], ["alerts", "list"]):
        ended = subprocess.run(
            [str(venv / "bin" / entry[0]), *entry[1:], *argv], cwd=state, env=environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert ended.returncode in (0, 4), ended.stderr
