"""``docker-compose.yml``: a valid compose file that suits a NAS of 8 GB and opens nothing to the network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mystocks_ingest.daemon.running import STOP_SECONDS
from mystocks_ingest.settings import KNOWN_STORES, Settings

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
UNITS = {"m": 1 << 20, "g": 1 << 30}
NAS_BYTES = 8 << 30
SYSTEM_BYTES = 1 << 30  # what the NAS itself needs

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]
SERVERS = sorted(set(SERVICES) - {"mystocks", "collector"})
OURS = ("mystocks", "collector")


def asked(text: str) -> set[str]:
    """The variables that a text takes from the environment; ``$$`` is the container's own."""
    return set(re.findall(r"(?<!\$)\$\{?([A-Z_]+)", text))


def size(limit: str) -> int:
    return int(limit[:-1]) * UNITS[limit[-1]]


def test_it_is_valid_by_the_compose_specification() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_schema_refuses_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yml"
    wrong.write_text(FILE.read_text().replace("mem_limit: 2g", "memory: 2g", 1))
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(wrong)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 1


def test_every_store_has_its_server_and_the_program_itself_is_there() -> None:
    assert set(KNOWN_STORES) | {"mariadb", *OURS} == set(SERVICES)
    assert SERVICES["mysql"]["profiles"] == ["mysql"]
    assert SERVICES["mariadb"]["profiles"] == ["mariadb"]
    for name in OURS:
        assert (ROOT / SERVICES[name]["build"]["dockerfile"]).is_file()


def test_nothing_is_published_beyond_loopback_unless_asked_and_the_service_never() -> None:
    for name, service in SERVICES.items():
        allowed = "127.0.0.1:" if name == "collector" else "${MYSTOCKS_PUBLISH_ADDRESS:-127.0.0.1}:"
        ports = service.get("ports", [])
        assert len(ports) == (0 if name == "mystocks" else 1)
        assert all(port.startswith(allowed) for port in ports)
    assert "network_mode" not in FILE.read_text()


def test_the_service_stays_up_answers_where_it_is_asked_and_has_time_to_end() -> None:
    collector = SERVICES["collector"]
    assert (collector["command"], collector["restart"], collector["init"]) == (["run"], "unless-stopped", True)
    assert "profiles" not in collector, "`docker compose up` starts it"
    assert int(collector["stop_grace_period"].removesuffix("s")) >= STOP_SECONDS + 5
    inside = collector["environment"]["MYSTOCKS_HTTP_PORT"]
    (port,) = collector["ports"]
    assert port.endswith(f":{inside}")
    assert int(inside) == Settings.model_fields["http_port"].default
    assert collector["healthcheck"]["test"] == ["CMD", "python", "/opt/mystocks/healthcheck.py"]
    assert f"/opt/mystocks/{(ROOT / 'deploy' / 'healthcheck.py').name}" in (ROOT / "deploy" / "Dockerfile").read_text()


def test_the_service_and_a_command_beside_it_share_state_and_settings() -> None:
    """A command does its work through the service's socket in the state directory."""
    for part in ("volumes", "environment", "env_file", "image", "build"):
        assert SERVICES["collector"][part] == SERVICES["mystocks"][part]
    volumes = yaml.safe_load(FILE.read_text())["volumes"]
    state, config = SERVICES["collector"]["volumes"]
    assert state.split(":")[0] in volumes
    assert state.split(":")[1] == SERVICES["collector"]["environment"]["MYSTOCKS_STATE_DIR"]
    assert config == f"./config:{SERVICES['collector']['environment']['MYSTOCKS_CONFIG_DIR']}:ro"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_each_service_has_a_health_check_and_shanghai_time(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert service["environment"]["TZ"] == "Asia/Shanghai"


@pytest.mark.parametrize("name", SERVERS)
def test_each_server_keeps_its_data_in_a_volume_and_comes_back_by_itself(name: str) -> None:
    volumes = yaml.safe_load(FILE.read_text())["volumes"]
    service = SERVICES[name]
    assert any(mount.split(":")[0] in volumes for mount in service["volumes"])
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("left_out", ["mysql", "mariadb"])
def test_the_memory_limits_leave_the_nas_its_own(left_out: str) -> None:
    total = sum(size(service["mem_limit"]) for name, service in SERVICES.items() if name != left_out)
    assert total <= NAS_BYTES - SYSTEM_BYTES


def test_every_variable_is_explained_in_the_example() -> None:
    example = set(re.findall(r"^# ([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert asked(FILE.read_text()) <= example


def test_no_password_stands_in_the_file() -> None:
    for service in SERVICES.values():
        for variable, value in service["environment"].items():
            if "PASSWORD" in variable:
                assert re.fullmatch(r"\$\{[A-Z_]+:\?.+\}", value), variable


def test_what_the_program_is_told_are_settings_it_has() -> None:
    known = {str(info.alias or name) for name, info in Settings.model_fields.items()}
    for name in OURS:
        assert {v for v in SERVICES[name]["environment"] if v != "TZ"} <= known


def test_acknowledged_rows_survive_a_crash_of_a_server() -> None:
    assert "--appendonly yes" in SERVICES["redis"]["command"][-1]
    for name in ("mysql", "mariadb"):
        assert "--innodb-flush-log-at-trx-commit=1" in SERVICES[name]["command"]
    assert "fsync=off" not in FILE.read_text()
