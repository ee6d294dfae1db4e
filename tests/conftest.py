"""What holds for every test: only loopback is contacted, no child process is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import psutil
import pytest
import structlog
from hypothesis import HealthCheck, settings
from servers.fixtures import (  # noqa: F401 - fixtures for every test
    mariadb_server,
    postgresql_server,
    redis_cluster,
    redis_server,
    redis_under_sentinel,
)

from mystocks_ingest import logs

ROOT = Path(__file__).parents[1]
GUARD = ROOT / "tests" / "guard"
CHILDREN_END_SECONDS = 30.0
# No deadline: the first example pays for lazy imports, and a busy machine is slow to make one. One run decides a change,
# so examples are the same each time; with NEW_EXAMPLES set, every run looks at others.
settings.register_profile(
    "tests",
    deadline=None,
    derandomize="NEW_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--allow-missing", action="store_true", help="skip what needs a database server that is not installed"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Install the loopback guard here and, by the environment, in every child process."""
    if str(GUARD) not in sys.path:
        sys.path.insert(0, str(GUARD))
    sys.modules.pop("sitecustomize", None)  # a distribution may have its own
    import sitecustomize  # noqa: F401, PLC0415 - its import is the installation

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background of a script
        signal.signal(signal.SIGINT, signal.default_int_handler)  # else no child of ours would hear of it
    inherited = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and Path(p) != GUARD]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(GUARD), *inherited])
    log = Path(mkdtemp(prefix="guard-")) / "refused"
    log.touch()
    os.environ["MYSTOCKS_GUARD_LOG"] = str(log)
    config.stash[_LOG] = log
    for name in list(os.environ):  # a developer's own settings and proxies must not decide a test
        ours = name.startswith(_OURS) and name != "MYSTOCKS_GUARD_LOG"
        if ours or name.lower() in ("http_proxy", "https_proxy", "all_proxy", "ts_token"):
            del os.environ[name]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind."""
    shutil.rmtree(config.stash[_LOG].parent, ignore_errors=True)


_LOG = pytest.StashKey[Path]()
_OURS = ("MYSTOCKS_", "TUSHARE_", "BAOSTOCK_", "AKSHARE_", "POSTGRESQL_", "MYSQL_", "REDIS_")


@pytest.fixture(scope="session")
def refused_connections(pytestconfig: pytest.Config) -> Path:
    """The file in which the guard notes each connection it refused, one per line."""
    return pytestconfig.stash[_LOG]


@pytest.fixture(autouse=True)
def _only_loopback(refused_connections: Path) -> Iterator[None]:
    """Fails a test whose processes tried to reach another machine, even where the error was swallowed."""
    before = refused_connections.stat().st_size
    yield
    with refused_connections.open(encoding="utf-8") as file:
        file.seek(before)
        tried = file.read()
    assert not tried, f"tried to leave loopback:\n{tried}"


@pytest.fixture(autouse=True)
def _no_child_left() -> Iterator[None]:
    """Fails a test that leaves a child process running, and ends the child."""
    me = psutil.Process()
    before = set(me.children())
    yield
    new = [child for child in me.children() if child not in before and not _belongs_to_python(child)]
    _, alive = psutil.wait_procs(new, timeout=CHILDREN_END_SECONDS)
    commands = [" ".join(_command(child)) for child in alive]
    for child in alive:
        child.kill()
    assert not commands, f"left running: {commands}"


@pytest.fixture(autouse=True)
def _logs_as_new(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command run in this process sends logs to the stderr of its own test, which is closed afterwards.

    Nor do the secrets of one test (a password that is the word itself) hide words in another.
    """
    monkeypatch.setattr(logs, "_secrets", set(logs._secrets))
    yield
    structlog.reset_defaults()


def _belongs_to_python(child: psutil.Process) -> bool:
    """multiprocessing keeps one resource tracker for the life of its process."""
    return any("resource_tracker" in word for word in _command(child))


def _command(child: psutil.Process) -> list[str]:
    try:
        return child.cmdline()
    except psutil.Error:
        return []


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real vendor data beside the checkout; a test that needs it is skipped where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real vendor data is not beside the checkout ({folder})")
    return folder
