"""How the program ends: the exit code, and one sentence where something went wrong.

A user's mistake never shows a traceback. A defect's traceback goes to a file in the state directory (secrets
removed), or to the terminal when ``MYSTOCKS_DEBUG`` is set.
"""

from __future__ import annotations

import errno
import os
import shlex
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path

import click

from mystocks_ingest import __version__
from mystocks_ingest.cli import PROGRAM, as_typed, commands
from mystocks_ingest.errors import ConfigError, IngestError, leaves

_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Exit(IntEnum):
    """The program's exit codes."""

    COMPLETE = 0
    DEFECT = 1
    USAGE = 2
    PARTIAL = 3
    DIFFERENT = 4  # the databases' structure and the file
    INTERRUPTED = 130
    UNREAD = 141  # as a shell says of whoever writes to a pipe that nobody reads any more


def end_well(argv: Sequence[str]) -> int:
    """Run the command line ``argv`` (without the program's name) and return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stop is a stop, whoever asks for it
    try:
        code = commands.main(list(argv), prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        _say(f"interrupted{_resume_hint(argv)}")
        return Exit.INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as exc:  # a group without the name of a command: which there are
        _say(exc.format_message())
        return Exit.USAGE
    except click.UsageError as exc:
        _say(f"error: {_sentence(exc)}")
        return Exit.USAGE
    except click.ClickException as exc:
        _say(f"error: {exc.format_message()}")
        return Exit.USAGE
    except SystemExit as exc:  # click's way out when a shell's completion was told, or the reader of a pipe has gone
        return Exit.UNREAD if exc.code else Exit.COMPLETE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.UNREAD
    except Exception as exc:  # noqa: BLE001  (the outermost frame: it explains and ends)
        return _explain(exc, argv)
    return code if isinstance(code, int) else Exit.COMPLETE


def _explain(exc: Exception, argv: Sequence[str]) -> int:
    causes = list(leaves(exc))
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in causes):
        _say(f"interrupted{_resume_hint(argv)}")
        return Exit.INTERRUPTED
    meant = sorted((e for e in causes if _sentence_of(e)), key=lambda e: not isinstance(e, ConfigError))
    if meant and len(meant) == len(causes):
        _say(f"error: {_sentence_of(meant[0])}")
        if os.environ.get("MYSTOCKS_DEBUG"):
            _say(_traceback(exc))
        settled = isinstance(meant[0], IngestError) and not isinstance(meant[0], ConfigError)
        return Exit.PARTIAL if settled else Exit.USAGE
    defect = next(leaf for leaf in causes if not _sentence_of(leaf))
    _say(f"error: unexpected {type(defect).__name__}: {' '.join(str(defect).split())[:300]}; {_keep_traceback(exc)}")
    return Exit.DEFECT


def _sentence_of(exc: BaseException) -> str:
    """The one sentence for an error that was raised on purpose, or by the machine it runs on; else nothing."""
    if isinstance(exc, IngestError):
        return " ".join(str(exc).split())
    if isinstance(exc, OSError) and exc.filename is not None:
        if exc.errno in _NOT_WRITABLE:
            return f"cannot write or open {exc.filename}: {exc.strerror}; allow it, or set MYSTOCKS_STATE_DIR elsewhere"
        if exc.errno in _FULL:
            return f"no space left for {exc.filename}; free some, or set MYSTOCKS_STATE_DIR elsewhere, and run it again"
    elif isinstance(exc, OSError) and exc.errno in _FULL:
        return "no space left on the disk; free some, or set MYSTOCKS_STATE_DIR elsewhere, and run it again"
    return ""


def _sentence(exc: click.UsageError) -> str:
    text = " ".join(exc.format_message().split()).rstrip(".")
    command = exc.ctx.command_path if exc.ctx is not None else PROGRAM
    return f"{text[:1].lower()}{text[1:]} (see `{command} --help`)"


def _resume_hint(argv: Sequence[str]) -> str:
    if "backfill" in argv:
        return f"; what is stored stays stored. Resume with: {as_typed()} {shlex.join(argv)}"
    return ""


def _keep_traceback(exc: Exception) -> str:
    """Where the traceback is, as the end of a sentence."""
    if os.environ.get("MYSTOCKS_DEBUG"):
        _say(_traceback(exc))
        return "the traceback is above"
    text = f"{PROGRAM} {__version__}, Python {sys.version.split()[0]}\n{_traceback(exc)}"
    name = f"error-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.txt"
    for folder in (Path(os.environ.get("MYSTOCKS_STATE_DIR") or "var") / "log", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        except OSError:
            continue
        return f"please report it with the traceback in {folder / name}"
    return "set MYSTOCKS_DEBUG=1 to see the traceback"


def _traceback(exc: Exception) -> str:
    return _redacted("".join(traceback.format_exception(exc)))


def _redacted(text: str) -> str:
    """``text`` without secrets, as far as they are known by now."""
    if "mystocks_ingest.logs" in sys.modules:  # loaded once a command's work began: before that, none is known
        from mystocks_ingest.logs import redact

        return redact(text)
    return text


def _say(text: str) -> None:
    click.echo(_redacted(text), err=True)
