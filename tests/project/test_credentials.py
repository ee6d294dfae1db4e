"""Secrets as systemd hands them over: from the folder it names, from no other one, and each in words where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.settings import credentials


def test_a_credential_that_is_no_text_is_named_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "TUSHARE_TOKEN").write_bytes(b"secret\xb5\xff")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(ConfigError, match="TUSHARE_TOKEN cannot be read: it is not UTF-8 text") as said:
        credentials()
    assert "secret" not in str(said.value)


@pytest.mark.parametrize("named", [None, ""])
def test_without_a_folder_from_systemd_no_folder_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str | None
) -> None:
    (tmp_path / "TUSHARE_TOKEN").write_text("somebody's")
    monkeypatch.chdir(tmp_path)
    looked = []
    monkeypatch.setattr(Path, "is_dir", lambda path: looked.append(path) or False)
    if named is None:
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    else:
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", named)
    assert credentials() == {}
    assert looked == []
