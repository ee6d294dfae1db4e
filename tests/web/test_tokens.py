"""Tokens are kept as hashes only; allowances fill up again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.web import tokens
from mystocks_ingest.web.limits import Allowance


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def test_a_token_is_known_by_its_hash_and_named() -> None:
    known = tokens.read(f"gateway:{digest('one')}, {digest('two').upper()}")
    assert (known.owner("one"), known.owner("two"), known.owner("three")) == ("gateway", "token-2", None)
    assert known.owner(digest("one")) is None
    assert known.owner("") is None


@pytest.mark.parametrize("unset", [None, ""])
def test_without_the_setting_nobody_is_let_in(unset: str | None) -> None:
    known = tokens.read(unset)
    assert not known
    assert known.owner("anything") is None


def test_hashes_may_stand_in_a_file_with_remarks(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# ours\ngateway:{digest('one')}  # of the desk\n\n{digest('two')}\n", encoding="utf-8")
    assert tokens.read(str(file)).owner("one") == "gateway"
    assert tokens.read(str(file)).owner("two") == "token-2"


def test_a_changed_file_of_tokens_is_taken_over_and_an_unusable_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_LOOK_SECONDS", 0.0)
    file = tmp_path / "tokens"
    file.write_text(digest("one"), encoding="utf-8")
    known = tokens.read(str(file))
    file.write_text(f"new:{digest('two')}\n", encoding="utf-8")
    assert (known.owner("one"), known.owner("two")) == (None, "new")
    file.write_text("two in clear, by mistake\n", encoding="utf-8")
    assert known.owner("two") == "new"
    file.unlink()
    assert known.owner("two") == "new"
    file.write_text("# nobody\n", encoding="utf-8")
    assert (known.owner("two"), bool(known)) == (None, False)


@pytest.mark.parametrize("written", ["my-secret-token", "my-secret-token,other", "a" * 64 + ",my-secret-token"])
def test_a_token_put_there_in_clear_is_refused_and_not_shown(written: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tokens.read(written)
    assert "my-secret-token" not in str(caught.value)
    assert "MYSTOCKS_HTTP_TOKENS" in str(caught.value)


def test_two_tokens_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="twice"):
        tokens.read(f"a:{digest('one')},a:{digest('two')}")


def test_an_allowance_is_spent_by_each_client_alone_and_fills_up_again() -> None:
    clock = 0.0
    allowance = Allowance(2.0, 3, now=lambda: clock)
    assert [allowance.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert allowance.wait("b") == 0
    clock = 0.5
    assert [allowance.wait("a"), allowance.wait("a")] == [0, 0.5]
    clock = 1000.0
    assert [allowance.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_a_stranger_who_changes_his_name_costs_no_memory() -> None:
    allowance = Allowance(1.0, 1, now=lambda: 0.0)
    for n in range(10_000):
        allowance.wait(str(n))
    assert len(allowance._left) <= 4096
