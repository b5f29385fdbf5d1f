"""Cells: worked ones, what holds of all of them, and what cannot be cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.cells import Cells
from campus_tune.words.errors import DataError, RecipeError
from campus_tune.words.types import FloatArray, IntArray

DOMAINS = ("code", "math")
SOURCES = ("gsm8k", "mbpp", "zzz")


def cut(difficulty: object, domains: object = None, *, bands: int = 2, others: object = None) -> Cells:
    def codes(given: object) -> IntArray | None:
        return None if given is None else np.array(given, dtype=np.int64)

    return Cells.cut(
        np.array(difficulty, dtype=np.float64),
        domains=codes(domains),
        domain_names=DOMAINS,
        bands=bands,
        others=codes(others),
        other_names=SOURCES,
    )


def test_bands_are_quantiles_inside_each_domain() -> None:
    cells = cut([1, 2, 3, 4, 500, 700, 100, 900], [1, 1, 1, 1, 0, 0, 0, 0])
    assert cells.names == (
        "code · length 1 of 2",
        "code · length 2 of 2",
        "math · length 1 of 2",
        "math · length 2 of 2",
    )
    assert cells.codes.tolist() == [2, 2, 3, 3, 0, 1, 0, 1]
    assert cells.codes.dtype == np.int32
    assert cells.strata_of.tolist() == [0, 0, 1, 1]
    assert cells.sizes.tolist() == [2, 2, 2, 2]


def test_rows_of_equal_difficulty_share_a_band() -> None:
    assert cut([1, 1, 1, 1, 2, 3], bands=2).codes.tolist() == [0, 0, 0, 0, 1, 1]
    assert cut([7, 7, 7, 7, 7], bands=5).names == ("length 3 of 5",)  # all in the middle


def test_a_source_beside_the_domain_is_in_the_name_and_what_no_row_has_is_no_cell() -> None:
    cells = cut([1, 2, 3, 4, 5, 6, 7, 8], [1, 1, 1, 1, 0, 0, 1, 1], others=[0, 0, 0, 0, 1, 1, 1, 1])
    assert cells.names == (
        "code · mbpp · length 1 of 2",
        "code · mbpp · length 2 of 2",
        "math · gsm8k · length 1 of 2",
        "math · gsm8k · length 2 of 2",
        "math · mbpp · length 1 of 2",
        "math · mbpp · length 2 of 2",
    )
    assert cells.strata_of.tolist() == [0, 0, 1, 1, 1, 1]
    assert cells.codes.tolist() == [2, 2, 3, 3, 0, 1, 4, 5]


def test_one_band_is_the_domain_and_without_domains_all_rows_are_one_cell() -> None:
    assert cut([3, 1, 2], [0, 1, 1], bands=1).names == ("code", "math")
    assert cut([3, 1, 2], bands=1).names == ("all rows",)
    assert cut([3, 1, 2], bands=1, others=[0, 2, 2]).names == ("gsm8k", "zzz")
    assert cut([3, 1, 2], bands=1, others=[0, 2, 2]).strata_of.tolist() == [0, 0]


def test_the_difficulty_is_named_as_the_recipe_does() -> None:
    cells = Cells.cut(np.array([1.0, 2.0]), bands=2, by="-quality")
    assert cells.names == ("-quality 1 of 2", "-quality 2 of 2")


rows_drawn = st.lists(
    st.tuples(st.integers(0, 6).map(float), st.integers(0, 1), st.integers(0, 2)), min_size=30, max_size=60
).map(lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True)))


@given(rows_drawn, st.integers(1, 5))
def test_cells_part_the_rows_by_domain_source_and_band(rows: tuple[FloatArray, IntArray, IntArray], bands: int) -> None:
    difficulty, domains, others = rows
    cells = cut(difficulty, domains, bands=bands, others=others)
    assert cells.sizes.sum() == len(difficulty)
    assert (cells.sizes > 0).all()
    assert len(set(cells.names)) == len(cells.names) == len(cells.strata_of)
    for row, cell in enumerate(cells.codes.tolist()):
        group = (domains == domains[row]) & (others == others[row])
        below = np.count_nonzero(difficulty[group] < difficulty[row])
        equal = np.count_nonzero(difficulty[group] == difficulty[row])
        band = int((below + equal / 2) * bands / np.count_nonzero(group) + 1e-12)  # one row at a time
        label = [DOMAINS[domains[row]], SOURCES[others[row]]]
        assert cells.names[cell] == " · ".join([*label, *([f"length {band + 1} of {bands}"] if bands > 1 else [])])
        assert cells.strata_of[cell] == domains[row]


@given(rows_drawn, st.integers(1, 5))
def test_harder_rows_of_a_domain_are_never_in_an_easier_band(
    rows: tuple[FloatArray, IntArray, IntArray], bands: int
) -> None:
    difficulty, domains, _ = rows
    cells = cut(difficulty, domains, bands=bands)
    for domain in (0, 1):
        of = np.flatnonzero(domains == domain)
        by_difficulty = of[np.argsort(difficulty[of], kind="stable")]
        assert (np.diff(cells.codes[by_difficulty]) >= 0).all()


@given(st.permutations(range(20)), st.integers(1, 5))
def test_bands_of_different_difficulties_differ_by_one_row(difficulty: list[int], bands: int) -> None:
    sizes = cut(difficulty, bands=bands).sizes
    assert sizes.max() - sizes.min() <= 1


def test_names_of_many_sources_make_no_table_of_all_pairs() -> None:
    """A hundred thousand names of each column, four rows: what is not there costs nothing."""
    many = [str(i) for i in range(100_000)]
    cells = Cells.cut(
        np.arange(4.0),
        domains=np.array([99_999, 5, 5, 0]),
        domain_names=many,
        bands=1,
        others=np.array([7, 99_999, 99_999, 0]),
        other_names=many,
    )
    assert cells.names == ("0 · 0", "5 · 99999", "99999 · 7")
    assert cells.codes.tolist() == [2, 1, 1, 0]
    assert cells.strata_of.tolist() == [0, 5, 99_999]


@pytest.mark.parametrize("bands", [0, -3])
def test_less_than_one_band_is_refused(bands: int) -> None:
    with pytest.raises(RecipeError, match=r"`cells: bands` must be 1 or more, got .*Write 5\."):
        cut([1, 2, 3, 4, 5], bands=bands)
    assert len(cut([1, 2, 3, 4, 5], bands=5).names) == 5


def test_more_cells_than_rows_are_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"`cells` must be no more than rows, got 2 groups × 2 bands for 3 rows\. Lower"
    ):
        cut([1, 2, 3], [0, 1, 1])
    assert len(cut([1, 2, 3], [0, 1, 1], bands=1).names) == 2


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_difficulty_that_is_no_number_is_refused_with_its_row(wrong: float) -> None:
    with pytest.raises(DataError, match=r"`length` must be a finite number in each row, got (nan|inf) in row 2"):
        cut([1, 2, wrong, wrong])
