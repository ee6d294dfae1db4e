import pytest

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.market.datasets import BAR_1D, DATASETS, Category, Dataset, Field, dataset, register


def test_all_five_categories_have_datasets():
    assert {d.category for d in DATASETS.values()} == set(Category)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_a_key_is_made_of_required_columns_and_time_is_a_column(name):
    kind = DATASETS[name]
    assert set(kind.key) <= set(kind.required)
    assert kind.time is None or kind.time in kind.schema.names
    assert len(set(kind.schema.names)) == len(kind.schema.names)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match="bar_1d"):
        dataset("bars")
    assert dataset("bar_1d") is BAR_1D


def test_a_third_party_may_add_a_dataset_but_not_redefine_one():
    new = Dataset(
        "weather", Category.DERIVED, ("day",), (Field("day", BAR_1D.schema.field("trade_date").type, "", True),)
    )
    try:
        assert register(new) is new
        assert register(new) is new
        assert dataset("weather") is new
    finally:
        DATASETS.pop("weather")
    with pytest.raises(ConfigError, match="already defined"):
        register(Dataset("bar_1d", Category.MARKET, ("symbol",), BAR_1D.fields))
