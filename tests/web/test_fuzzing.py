"""A fuzzing client made from the API's own description, over a real socket."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from website import PATIENT, TOKEN, opened_site

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "ignored_auth",
)
FEW_ROWS = replace(PATIENT, delivered_rows=20)


PATHS = "^/(health|metrics|$)|/(datasets|read|runs|gaps|dead-letters|jobs)|/ingest/(tick|quote|order|position|signal)$"


async def fuzzed(url: str, folder: Path) -> str:
    """What the fuzzing client says, which works in ``folder``; fails where it found anything."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--no-color"]
    command += ["--header", f"Authorization: Bearer {TOKEN}", "--max-examples", "3", "--seed", "7", "--warnings", "off"]
    command += ["--generation-database", "none", "--phases", "coverage,fuzzing", "--checks", ",".join(CHECKS)]
    client = await asyncio.create_subprocess_exec(
        *command,
        "--include-path-regex",
        PATHS,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(client.communicate(), 360)
    finally:
        if client.returncode is None:
            client.kill()
            await client.wait()
    said = out.decode(errors="replace")
    assert client.returncode == 0, said[-6000:]
    return said


@pytest.mark.timeout(400)  # some seconds by itself, on a machine that may be busy
async def test_a_fuzzing_client_meets_no_failure_and_nothing_of_a_refused_body_is_stored(tmp_path: Path) -> None:
    async with opened_site(tmp_path, FEW_ROWS) as site:
        await fuzzed(site.url, tmp_path)
        delivered = [(status, rows) for path, status, rows in site.ended if path.startswith("/api/v1/ingest/")]
        assert max(status for _, status, _ in site.ended) < 500
        assert len([1 for status, _ in delivered if status == 422]) > 50
        assert [rows for status, rows in delivered if status >= 400 and rows] == []
        assert 0 < await site.stored_rows() <= sum(rows for _, rows in delivered)
