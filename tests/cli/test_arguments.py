"""What users type becomes days, windows, names; every mistake says its remedy."""

from __future__ import annotations

from datetime import UTC, date, datetime

import click
import pytest

from mystocks_ingest.cli import arguments
from mystocks_ingest.errors import ConfigError

NOON = datetime(2025, 6, 3, 4, 0, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2024-01-31", "20240131", " 2024-01-31 "])
def test_a_day_is_written_with_or_without_dashes(text: str) -> None:
    assert arguments.Day().convert(text, None, None) == date(2024, 1, 31)


@pytest.mark.parametrize("text", ["2024-02-30", "20240230", "2024-1-5", "240131", "yesterday", "", "２０２４０２３０"])
def test_what_is_no_day_is_refused_with_the_two_ways_to_write_one(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 2024-01-31 or 20240131"):
        arguments.Day().convert(text, None, None)


def test_a_window_holds_both_its_days() -> None:
    window = arguments.window(date(2024, 1, 2), date(2024, 1, 31), now=NOON)
    assert (window.start, window.last) == (date(2024, 1, 2), date(2024, 1, 31))


def test_without_days_the_window_is_the_year_that_ends_today() -> None:
    window = arguments.window(None, None, now=NOON)
    assert (window.start, window.last) == (date(2024, 6, 3), date(2025, 6, 3))


def test_today_is_shanghais_day() -> None:
    assert arguments.today(datetime(2025, 6, 3, 16, 30, tzinfo=UTC)) == date(2025, 6, 4)


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        (date(2024, 2, 1), date(2024, 1, 1), "--from 2024-02-01 is after --to 2024-01-01; exchange"),
        (None, date(2025, 6, 4), "--to 2025-06-04 lies in the future; .* 2025-06-03"),
        (date(2031, 1, 1), None, "--from 2031-01-01 lies in the future"),
    ],
)
def test_an_impossible_window_says_what_is_wrong(first: date | None, last: date | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        arguments.window(first, last, now=NOON)


def test_lists_are_split_at_commas_of_either_width_and_keep_their_order() -> None:
    assert arguments.parts(["bar_1d, adj_factor", "calendar，bar_1d", ""]) == ("bar_1d", "adj_factor", "calendar")


def test_an_unknown_dataset_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown dataset 'bar1d'; known: .*bar_1d"):
        arguments.datasets(["calendar,bar1d"])


def test_a_symbol_may_be_written_as_any_vendor_does_and_counts_once() -> None:
    assert arguments.symbols(["600000.SH,sh.600000", "sz000001"]) == ("600000.SH", "000001.SZ")


def test_an_unreadable_symbol_is_named() -> None:
    with pytest.raises(ConfigError, match="60000X"):
        arguments.symbols(["600000.SH,60000X"])
