"""A setting whose name is mistyped has no effect, which is said."""

from __future__ import annotations

import json
from pathlib import Path

from mystocks_ingest.settings import strangers

SECRET = "what-was-meant-for-redis"  # noqa: S105 - of this test


def test_doctor_names_settings_that_are_none_and_what_was_meant_and_no_value(command, state: Path) -> None:
    (state.parent / "work" / ".env").write_text("MYSTOCKS_STORE=redis\nMYSTOCKS_NONSENSE=1\nCOMPOSE_PROFILES=mysql\n")
    done = command("doctor", "--json", env={"REDIS_PASWORD": SECRET, "MYSQL_ROOT_PASSWORD": "somebody-elses"})
    assert SECRET not in done.out + done.err
    found = {f["what"]: (f["health"], f["remedy"]) for f in json.loads(done.out)["findings"]}
    assert found["REDIS_PASWORD"] == ("note", "did you mean REDIS_PASSWORD?")
    assert found["MYSTOCKS_STORE"] == ("note", "did you mean MYSTOCKS_STORES?")
    assert found["MYSTOCKS_NONSENSE"] == ("note", "")
    assert not {"MYSQL_ROOT_PASSWORD", "COMPOSE_PROFILES"} & set(found)


def test_what_the_example_and_the_compose_file_use_is_no_slip(state: Path, monkeypatch) -> None:
    example = (Path(__file__).parents[2] / ".env.example").read_text(encoding="utf-8")
    lines = [
        line.removeprefix("# ") for line in example.splitlines() if "=" in line and " " not in line.split("=")[0][2:]
    ]
    assert len(lines) > 60
    (state.parent / "work" / ".env").write_text("\n".join(lines))
    monkeypatch.setenv("MYSTOCKS_DEBUG", "1")
    assert strangers() == {}
