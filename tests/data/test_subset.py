"""Some of the rows, in their sequence, and what is refused."""

from collections.abc import Sequence

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.subset import Subset
from campus_tune.words.errors import DataError

DOMAINS = ("code", "math", "code", "chat", "math")
ROWS = Dataset.from_dict({"domain": list(DOMAINS), "n": list(range(5))})


def kept(**settings: object) -> list[int]:
    return list(Subset(**settings).take(ROWS)["n"])  # type: ignore[arg-type]  # settings of several types


def test_domains_are_left_out_and_rows_are_kept() -> None:
    assert kept(without=("code",)) == [1, 3, 4]
    assert kept(without=("math", "code")) == [3]
    assert kept(rows=(4, 0)) == [0, 4]  # in the sequence of the data set
    assert kept(rows=(4, 0, 3), without=("math",)) == [0, 3]
    assert kept() == [0, 1, 2, 3, 4]


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=3), st.sets(st.sampled_from(["a", "b", "c"])))
def test_what_is_kept_and_what_is_left_out_make_the_whole(domains: Sequence[str], without: set[str]) -> None:
    domains = [*domains, "a", "b", "c", "rest"]
    found = Subset(without=tuple(without)).keep(domains)
    assert found == [row for row, domain in enumerate(domains) if domain not in without]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"without": ("mats",)}, r"`without` must be domains .*\(code, math, chat\), got 'mats'. Did you mean 'math'"),
        ({"without": ("code",), "column": "topic"}, r"must be a column of .*\(domain, n\), got 'topic'. Name one"),
        ({"rows": (0, 5)}, "`rows` must be numbers of rows from 0 to 4, got 5. Count"),
        ({"rows": (-1, 2)}, "`rows` must be numbers of rows from 0 to 4, got -1. Count"),
        ({"without": DOMAINS}, "must have at least one row, got none of 5. Leave out fewer"),
        ({"rows": ()}, "must have at least one row, got none of 5"),
    ],
)
def test_what_is_not_there_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        kept(**settings)


def test_a_subset_is_told_by_what_it_keeps_and_not_by_how_it_was_written() -> None:
    assert Subset(without=("a", "b")).to_mapping() == Subset(without=("b", "a")).to_mapping()
    assert Subset(rows=(2, 1, 1)).to_mapping() == Subset(rows=(1, 2), column="other").to_mapping()
    told = [Subset(), Subset(without=("a",)), Subset(without=("a",), column="b"), Subset(rows=(1,)), Subset(rows=(2,))]
    assert len({str(one.to_mapping()) for one in told}) == 5
