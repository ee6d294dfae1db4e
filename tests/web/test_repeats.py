"""A delivery that comes again with its key is known, also after the service was started anew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mystocks_ingest.web.known import FILE, Known, Remembered
from mystocks_ingest.web.refusals import Refusal
from mystocks_ingest.web.repeats import Repeats

BEGAN = datetime(2024, 6, 3, tzinfo=UTC)


def damaged(folder: Path) -> list[Path]:
    return list(folder.glob("deliveries-damaged-*.sqlite"))


class Calendar:
    at = BEGAN

    def now(self) -> datetime:
        return self.at


async def filled(repeats: Repeats, key: str, content: bytes = b"rows", who: str = "me") -> object:
    async with repeats.of((who,), key, content) as answer:
        found = answer.body
        if answer.body is None:
            answer.status, answer.body = 200, {"accepted": content.decode()}
    return found


async def test_a_key_answers_again_refuses_other_content_and_forgets_what_failed(tmp_path: Path) -> None:
    async with Known(tmp_path, now=Calendar().now) as known:
        repeats = Repeats(known)
        with pytest.raises(RuntimeError):
            async with repeats.of(("me",), "k", b"rows"):
                raise RuntimeError
        async with repeats.of(("me",), "k", b"rows") as first:
            assert first.body is None
            with pytest.raises(Refusal, match="under way") as under_way:
                await filled(repeats, "k")
            assert under_way.value.headers == {"Retry-After": "1"}
            first.status, first.body = 200, {"accepted": 1}
        assert await filled(repeats, "k") == {"accepted": 1}
        with pytest.raises(Refusal, match="another body"):
            await filled(repeats, "k", b"other")
        assert await filled(repeats, "k", b"other", who="you") is None
        assert await filled(repeats, "") is None
        assert await filled(repeats, "") is None


async def test_a_key_is_known_after_a_restart_and_forgotten_after_its_time(tmp_path: Path) -> None:
    calendar = Calendar()
    async with Known(tmp_path, now=calendar.now, age=timedelta(days=7)) as known:
        assert await filled(Repeats(known), "k") is None
    async with Known(tmp_path, now=calendar.now, age=timedelta(days=7)) as known:
        assert await filled(Repeats(known), "k") == {"accepted": "rows"}
        with pytest.raises(Refusal, match="another body"):
            await filled(Repeats(known), "k", b"other")
        calendar.at += timedelta(days=8)
        assert await filled(Repeats(known), "k", b"other") is None


async def test_keys_are_bounded_in_number_the_oldest_go(tmp_path: Path) -> None:
    async with Known(tmp_path, now=Calendar().now, most=50) as known:
        for number in range(450):
            await known.remember(("me", str(number)), Remembered(b"", 200, {}))
        kept = [n for n in range(450) if await known.answer(("me", str(n))) is not None]
    assert kept[-1] == 449
    assert kept == list(range(kept[0], 450))
    assert len(kept) < 50 + 200


async def test_a_damaged_file_is_set_aside_and_begun_anew(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database " * 1000)
    async with Known(tmp_path, now=Calendar().now) as known:
        assert await filled(Repeats(known), "k") is None
        assert await filled(Repeats(known), "k") == {"accepted": "rows"}
    assert len(damaged(tmp_path)) == 1


async def test_a_disk_that_is_full_costs_the_memory_and_no_answer(tmp_path: Path) -> None:
    async with Known(tmp_path, now=Calendar().now) as known:
        repeats = Repeats(known)
        assert await filled(repeats, "k") is None
        known._file.execute("PRAGMA max_page_count = 1")  # type: ignore[union-attr]
        big = b"x" * 100_000
        assert await filled(repeats, "big", big) is None
        assert await filled(repeats, "big", big) is None, "it is not known"
        assert await filled(repeats, "k") == {"accepted": "rows"}


async def test_entries_stored_and_not_acknowledged_are_known_and_so_is_the_consumers_name(tmp_path: Path) -> None:
    async with Known(tmp_path, now=Calendar().now) as known:
        name = await known.consumer()
        await known.stored("s", ["1-0", "2-0", "2-0"])
        await known.settled("s", ["1-0"])
    async with Known(tmp_path, now=Calendar().now) as known:
        assert (await known.unsettled("s"), await known.unsettled("t")) == ({"2-0"}, frozenset())
        assert await known.consumer() == name
