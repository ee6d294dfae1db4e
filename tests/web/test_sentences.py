"""What is said of a wrong parameter is said to people."""

from __future__ import annotations

from pathlib import Path

from website import opened_site


async def test_a_wrong_day_is_said_without_the_words_of_the_library_that_found_it(tmp_path: Path) -> None:
    async with opened_site(tmp_path) as site:
        got = await site.get("/api/v1/read/bar_1d?from=yesterday")
        assert (got.status, got.json) == (422, {"error": "from: write a day as 2024-01-31"})
