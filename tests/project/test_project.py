"""The project's own files: lock files, settings, texts, container."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from mystocks_ingest import __version__
from mystocks_ingest.market.datasets import DATASETS
from mystocks_ingest.settings import Settings

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")


def script(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_files() -> list[Path]:
    """Every text file that is, or could be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout: which files belong to the project is not known")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [f for f in files if f.is_file() and b"\0" not in f.read_bytes()[:4096]]


def places(pattern: str, *, skip: tuple[str, ...] = ()) -> list[str]:
    wanted = re.compile(pattern)
    found = []
    for file in text_files():
        if file.name in skip:
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if wanted.search(line):
                found.append(f"{file.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    return found


def test_no_file_names_a_path_of_one_machine() -> None:
    # the brackets keep this line itself from matching
    assert places(r"(^|[^A-Za-z0-9_.])/(w[o]rk|r[o]ot|h[o]me|Us[e]rs)/") == []


def test_no_file_names_a_package_registry_s_host() -> None:
    assert places(r"pyp[i]\.org/simple|files\.pythonhosted\.o[r]g|/simpl[e]/|--index-ur[l]|--find-link[s]") == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_pins_every_package_by_hash_and_names_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    entries = re.split(r"\n(?=[a-z0-9])", text)
    assert len(entries) > 40
    for entry in entries:
        assert re.match(r"[\w.\[\],-]+==\S+", entry), entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_every_declared_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    runtime, dev = ((ROOT / lock).read_text(encoding="utf-8") for lock in LOCKS)

    def missing(requirements: list[str], lock: str) -> list[str]:
        names = [re.split(r"[\[<>=!~ ]", r, maxsplit=1)[0] for r in requirements]
        return [n for n in names if not re.search(rf"^{re.escape(n)}(\[.*\])?==", lock, re.MULTILINE | re.IGNORECASE)]

    assert missing(project["project"]["dependencies"], runtime) == []
    assert missing(project["project"]["dependencies"] + project["dependency-groups"]["dev"], dev) == []


def test_both_lock_files_pin_the_same_versions() -> None:
    pins = [
        dict(re.findall(r"^([\w.-]+)(?:\[.*?\])?==(\S+)", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE))
        for lock in LOCKS
    ]
    assert {name: pins[1].get(name) for name in pins[0]} == pins[0]


def documented_settings() -> dict[str, str]:
    text = (ROOT / ".env.example").read_text(encoding="utf-8").partition("--- docker-compose.yml only")[0]
    return dict(re.findall(r"^#? ?([A-Z][A-Z_]+)=(.*)$", text, re.MULTILINE))


def test_the_env_example_documents_exactly_the_settings_there_are() -> None:
    assert set(documented_settings()) == {str(field.alias) for field in Settings.model_fields.values()}


def test_the_env_example_shows_each_default(tmp_path: Path) -> None:
    shown = {name: value for name, value in documented_settings().items() if value}
    file = tmp_path / "env"
    file.write_text("".join(f"{name}={value}\n" for name, value in shown.items()), encoding="utf-8")
    assert Settings(_env_file=file) == Settings(_env_file=None)


def test_the_env_example_changes_nothing_when_copied_as_it_is() -> None:
    assert Settings(_env_file=ROOT / ".env.example") == Settings(_env_file=None)


SERVERS = ("TDENGINE_", "POSTGRESQL_", "REDIS_", "MYSQL_")  # .env.example explains them one by one


def test_every_setting_is_explained_in_the_operations_page() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert [name for name in documented_settings() if not name.startswith(SERVERS) and f"`{name}`" not in text] == []
    assert [prefix for prefix in SERVERS if f"`{prefix}*`" not in text] == []


def test_the_datasets_page_is_what_the_registry_says() -> None:
    page = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert page == script("docs/generate.py").page()
    assert all(f"`{name}`" in page for name in DATASETS)


def test_the_docs_have_no_dead_link() -> None:
    links = script("docs/links.py")
    assert len(links.pages()) >= 5
    assert [sentence for page in links.pages() for sentence in links.dead(page)] == []


def test_a_dead_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links = script("docs/links.py")
    monkeypatch.setattr(links, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# A title\n[fine](#a-title) [file](gone.md) [head](#gone) `docs/gone.md`\n```\n[x](in-a-fence.md)\n```\n",
        encoding="utf-8",
    )
    assert len(list(links.dead(page))) == 3


def test_the_changelog_speaks_of_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[?{re.escape(__version__)}\]?", text, re.MULTILINE)


READMES = ("README.md", "README.zh-CN.md")


def test_both_readmes_have_the_same_sections_commands_and_tables() -> None:
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in READMES]

    def shape(text: str) -> dict[str, object]:
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        return {
            "headings": [len(h) for h in re.findall(r"^(#+) ", prose, re.MULTILINE)],
            "commands": re.findall(r"^(?:make|mystocks-ingest|\.venv/bin)\b.*?(?=\s+#|$)", text, re.MULTILINE),
            "table rows": len(re.findall(r"^\|", prose, re.MULTILINE)),
            "paths": sorted(set(re.findall(r"\]\(([^)#]+)\)", prose)) - set(READMES)),
        }

    assert shape(texts[0]) == shape(texts[1])


@pytest.mark.parametrize("readme", READMES)
def test_a_readme_names_only_make_targets_that_exist(readme: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", (ROOT / readme).read_text(encoding="utf-8"), re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_make_help_lists_every_target() -> None:
    shown = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^\.PHONY: ([a-z]+)", makefile, re.MULTILINE)
    assert [line.split()[1] for line in shown.splitlines()] == targets


def test_the_ci_run_can_be_started_without_a_terminal() -> None:
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK)
    commands = run.read_text(encoding="utf-8")
    assert commands.index("make check") < commands.index("make test")
    assert subprocess.run(["bash", "-n", str(run)], check=False).returncode == 0


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """(instruction, rest) of each logical line."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", dockerfile, flags=re.MULTILINE))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def test_the_image_is_glibc_small_hashed_and_not_root() -> None:
    lines = instructions((ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8"))
    stages = [rest for word, rest in lines if word == "FROM"]
    assert len(stages) >= 2
    for stage in stages:
        assert re.match(r"python:3\.1[1-3]-slim", stage), stage
        assert "alpine" not in stage  # two vendors' packages have no musl wheel
    last = lines[max(i for i, (word, _) in enumerate(lines) if word == "FROM") :]
    assert any(word == "USER" and rest.split(":")[0] not in ("root", "0") for word, rest in last)
    assert any(word == "HEALTHCHECK" and "healthcheck.py" in rest for word, rest in last)
    assert any(word == "VOLUME" for word, _ in last)
    assert any("--require-hashes" in rest and "requirements.lock" in rest for word, rest in lines if word == "RUN")
    for word, rest in lines:
        if word == "COPY" and "--from" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source


def test_the_operations_page_names_every_source_there_is() -> None:
    from mystocks_ingest.sources import registry  # noqa: PLC0415 - names only

    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = text.partition("## Sources\n")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE)
    assert sorted(named) == sorted(registry.BUILT_IN)


def test_no_two_test_files_share_a_name() -> None:
    # folders of tests are no packages (but that of the servers), so pytest can import only one module of each name
    names = [f.name for f in (ROOT / "tests").rglob("*.py") if f.name not in ("conftest.py", "__init__.py")]
    assert sorted(n for n in set(names) if names.count(n) > 1) == []
