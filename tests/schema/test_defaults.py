"""What a default means, however it is written."""

from __future__ import annotations

import pytest

from mystocks_ingest.schema.document.defaults import TODAY, Meaning, Unfit, meaning
from mystocks_ingest.schema.tables import Expression, Moment


@pytest.mark.parametrize(
    ("raw", "word", "means"),
    [
        (None, "INT", None),
        ("NULL", "VARCHAR", None),
        (False, "BOOLEAN", False),
        ("TRUE", "BOOLEAN", True),
        (0, "BOOLEAN", False),
        ("b'1'", "BOOLEAN", True),
        ("'f'::boolean", "BOOLEAN", False),
        ("0", "INT", 0),
        ("'0'", "BIGINT", 0),
        (True, "TINYINT", 1),
        ("1e3", "INT", 1000),
        ("'-7'::integer", "INTEGER", -7),
        ("0.00", "DECIMAL", 0),
        ("0.10", "DOUBLE", 0.1),
        ("12345678901234567890.123", "NUMERIC", "12345678901234567890.123"),
        ("ACTIVE", "VARCHAR", "ACTIVE"),
        ("'ACTIVE'", "VARCHAR", "ACTIVE"),
        ("'it''s'::character varying", "VARCHAR", "it's"),
        ("", "VARCHAR", ""),
        ("''", "TEXT", ""),
        (1.0, "VARCHAR", "1.0"),
        ("CURRENT_TIMESTAMP", "VARCHAR", "CURRENT_TIMESTAMP"),
        ("CURRENT_TIMESTAMP", "TIMESTAMP", Moment.NOW),
        ("now()", "TIMESTAMPTZ", Moment.NOW),
        ("CURRENT_TIMESTAMP(3)", "DATETIME", Moment.NOW),
        ("NOW()", "DATE", TODAY),
        ("CURDATE()", "DATE", TODAY),
        ("2024-01-02", "DATE", "2024-01-02"),
        ("2024-01-02T09:30:00", "DATETIME", "2024-01-02 09:30:00"),
        ("gen_random_uuid()", "UUID", Expression("gen_random_uuid()")),
        ("'gen_random_uuid()'", "VARCHAR", "gen_random_uuid()"),
        ({"sql": "a + 1"}, "INT", Expression("a + 1")),
        ({}, "JSONB", "{}"),
        ("'[]'::jsonb", "JSONB", "[]"),
        ('"x"', "JSON", '"x"'),
    ],
)
def test_a_default_is_brought_to_its_meaning(raw: object, word: str, means: object) -> None:
    found = meaning(raw, word).default
    assert found == means
    assert type(found) is type(means)


@pytest.mark.parametrize(
    ("raw", "starts"),
    [
        ("CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP", Moment.NOW),
        ("current_timestamp(3) on update current_timestamp(3)", Moment.NOW),
        ("ON UPDATE NOW()", None),
        ("'2024-01-02 00:00:00' ON UPDATE CURRENT_TIMESTAMP", "2024-01-02 00:00:00"),
    ],
)
def test_on_update_is_told_apart_from_the_default(raw: str, starts: object) -> None:
    assert meaning(raw, "TIMESTAMP") == Meaning(starts, touched=True)


@pytest.mark.parametrize(
    ("raw", "word", "says"),
    [
        ("maybe", "BOOLEAN", "write true or false"),
        ("many", "INT", "no whole number"),
        (1.5, "INT", "no whole number"),
        (300, "TINYINT", "holds -128 to 127"),
        (-1, "INT UNSIGNED", "holds 0 to 4294967295"),
        ("much", "DOUBLE", "no number"),
        ("NaN", "DECIMAL", "no number"),
        ("yesterday", "DATE", "CURRENT_DATE"),
        ("0000-00-00 00:00:00", "DATETIME", "no time"),
        ("{", "JSON", "not JSON"),
        ([1], "INT", "one value"),
        ("x ON UPDATE CURRENT_TIMESTAMP", "VARCHAR", "ON UPDATE sets a time column"),
    ],
)
def test_a_default_that_the_column_cannot_have_is_refused_with_what_to_write(raw: object, word: str, says: str) -> None:
    with pytest.raises(Unfit, match=says):
        meaning(raw, word)


def test_a_text_longer_than_its_column_and_a_word_outside_its_enum_are_refused() -> None:
    with pytest.raises(Unfit, match=r"longer than VARCHAR\(3\)"):
        meaning("long", "VARCHAR", length=3)
    with pytest.raises(Unfit, match="none of the values of the ENUM: a, b"):
        meaning("c", "ENUM", values=("a", "b"))
