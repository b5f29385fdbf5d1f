"""From blocks to a policy: names become numbers of rows, and what cannot be is refused with the rows that it is."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.domains import Domains
from campus_tune.method.book import Book
from campus_tune.method.clock import Clock
from campus_tune.method.drop import at_random
from campus_tune.method.firing import Firing
from campus_tune.method.policy import ALL_ROWS, Policy
from campus_tune.method.reweight import Lagging
from campus_tune.method.rules import Regression, Stagnation
from campus_tune.method.steering import Steering
from campus_tune.method.view import History
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.policy import (
    INVISIBLE,
    best_rows,
    book_columns,
    cells_of,
    column_of,
    drawn_domains,
    dropped_rows,
    policy_of,
    shares_that_count,
    steering_of,
    strict_domains,
)
from campus_tune.words.errors import DataError, RecipeError
from campus_tune.words.types import FloatArray, RowLosses

N = 120
DOMAINS = Domains(np.repeat([0, 1, 2], [60, 40, 20]), ["chat", "code", "math"])


def config(**settings: Any) -> CampusConfig:
    return CampusConfig.from_mapping({"metrics": ["length"], "seed": 0, **settings})


def score_of(label: str) -> FloatArray:
    return np.random.default_rng(len(label)).random(N)


def made(rows: Domains | None = DOMAINS, book: Book | None = None, **settings: Any) -> Policy:
    recipe = config(**settings)
    cells = cells_of(recipe, score_of, domains=rows)
    policy = policy_of(recipe, n_rows=N, domains=rows, cells=cells, score_of=score_of, book=book)
    assert policy is not None
    return policy


# -- none, and what is in one ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"domains": {}}, {"cells": {}}, {"domains": {"shares": "natural"}}])
def test_a_recipe_that_uses_none_of_it_has_no_policy(settings: Any) -> None:
    assert policy_of(config(**settings), n_rows=N, domains=DOMAINS) is None


def test_written_shares_are_in_the_sequence_of_the_domains() -> None:
    policy = made(domains={"shares": {"math": 0.5, "chat": 0.5}})
    assert policy.shares is not None
    assert policy.shares.tolist() == [0.5, 0.0, 0.5]
    assert policy.strata_names == policy.domain_names == ("chat", "code", "math")


def test_a_domain_that_no_row_has_is_named_with_the_nearest_one() -> None:
    with pytest.raises(RecipeError, match=r"`domains: shares` must be of the domains chat, code, math, got 'mth'. Did"):
        made(domains={"shares": {"mth": 1.0}})
    with pytest.raises(RecipeError, match=r"`phases: shares` must be of the domains chat, code, math, got 'cod'."):
        made(phases=[{"until": 1, "shares": {"cod": 1.0}}])


def test_a_floor_that_is_too_high_for_so_many_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"`least` must be in \[0, 0.3333\] with 3 domains, got 0.4. Lower it"):
        made(domains={"least": 0.4})


def test_the_oracles_of_temperature_and_least() -> None:
    sizes = Domains(np.repeat([0, 1, 2], [8000, 1500, 500]), ["a", "b", "c"])
    warm = policy_of(config(domains={"shares": {"temperature": 2}}), n_rows=10_000, domains=sizes)
    least = policy_of(config(domains={"least": 0.1}), n_rows=10_000, domains=sizes)
    assert warm is not None
    assert least is not None
    assert warm.shares is not None
    assert least.shares is not None
    assert warm.shares.round(3).tolist() == [0.594, 0.257, 0.149]
    assert least.shares.round(3).tolist() == [0.758, 0.142, 0.1]


def test_phases_have_their_own_shares_else_those_of_domains() -> None:
    phases = [{"until": 0.5, "shares": {"chat": 1.0}, "overlap": 0.2}, {"until": 1}]
    policy = made(domains={"shares": {"code": 1.0}}, phases=phases)
    assert [policy.shares_at(u).tolist() for u in (0.3, 0.45, 0.5, 0.6)] == [  # type: ignore[union-attr]
        pytest.approx(shares) for shares in ([1, 0, 0], [0.75, 0.25, 0], [0.5, 0.5, 0], [0, 1, 0])
    ]
    none = made(phases=[{"until": 0.5, "mix": 0.2}, {"until": 1, "offer": ["length"]}])
    assert none.shares_at(0.2) is None
    assert [(one.mix, one.offer) for one in none.periods] == [(0.2, None), (None, ("length",))]


def test_cells_are_bands_of_a_metric_inside_each_domain_and_can_have_the_shares() -> None:
    policy = made(cells={"bands": 2, "by": "-length"}, domains={"over": "cells", "shares": {"temperature": 3}})
    assert policy.cells is not None
    assert len(policy.cells.names) == 6
    assert policy.strata_names == policy.cells.names
    assert policy.cells.strata_of.tolist() == [0, 0, 1, 1, 2, 2]
    assert policy.domain_names == ("chat", "code", "math")
    hardest_first = np.flatnonzero(policy.cells.codes == 0)
    assert score_of("length")[hardest_first].min() > np.median(score_of("length")[:60]) - 1e-9


def test_more_cells_than_rows_are_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"`cells` must be no more than rows, got 3 groups × 50 bands for 120 rows. L"
    ):
        made(cells={"bands": 50}, thin={"how": "top", "by": "length"})


def test_rows_of_several_sets_have_cells_of_their_own() -> None:
    recipe = config(cells={"bands": 1, "of": "source"}, thin={"how": "top", "by": "length"})
    others = Domains(np.arange(N) % 2, ["a", "b"])
    cells = cells_of(recipe, score_of, domains=DOMAINS, others=others)
    assert cells is not None
    assert cells.names[:2] == ("chat · a", "chat · b")
    assert cells_of(config(review={}), score_of, domains=DOMAINS) is None


# -- thinning, review, the book ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "columns"),
    [
        ({"thin": {"how": "top", "by": "length"}}, None),
        ({"drop": [{"by": "duplicates"}]}, None),
        ({"domains": {"follow": "progress"}}, set()),
        ({"thin": {"how": "top"}}, {"last", "stage"}),
        ({"thin": {"how": "top", "detrend": False}}, {"last"}),
        ({"thin": {"how": "top", "by": "-excess", "detrend": False}}, {"excess"}),
        ({"review": {}, "thin": {"how": "rank", "by": "surprise"}}, {"last", "stage", "interval", "surprise"}),
    ],
)
def test_the_book_keeps_what_is_asked_for(settings: Any, columns: set[str] | None) -> None:
    assert book_columns(config(**settings)) == columns


def a_book(losses: FloatArray, stages: int = 2) -> Book:
    """Rows 0, 1, … trained in `stages` stages of equal size, with these losses."""
    book = Book(N)
    for stage, rows in enumerate(np.array_split(np.arange(len(losses)), stages)):
        shown = RowLosses.zeros(len(rows))
        shown.nll_sum[:], shown.tokens[:] = losses[rows], 1
        book.update(stage, rows, shown, np.ones(len(rows), dtype=np.int64))
    return book


def test_a_book_score_is_read_when_it_is_asked_for_and_a_minus_turns_it_around() -> None:
    book = a_book(np.arange(8.0))
    policy = made(book=book, thin={"how": "rank", "by": "-seen_loss", "detrend": False, "from": 0.5})
    assert policy.thin is not None
    assert policy.scores is not None
    assert (policy.thin.by, policy.thin.since) == ("-seen_loss", 0.5)
    assert policy.scores("-seen_loss")[:8].tolist() == (-np.arange(8.0)).tolist()
    assert np.isnan(policy.scores("-seen_loss")[8:]).all()
    shown = RowLosses.zeros(1)
    shown.nll_sum[:], shown.tokens[:] = 50.0, 1
    book.update(2, np.array([9]), shown, np.ones(1, dtype=np.int64))
    assert policy.scores("-seen_loss")[9] == -50.0


def test_a_chance_that_is_proportional_to_a_loss_goes_by_losses_although_they_are_detrended() -> None:
    book = a_book(np.array([5.0, 7.0, 1.0, 3.0]))
    ratio = made(book=book, thin={"how": "proportional"}).scores
    place = made(book=book, thin={"how": "rank"}).scores
    assert ratio is not None
    assert place is not None
    assert ratio("")[:4].tolist() == [3.0, 5.0, 3.0, 5.0]  # the mean of all, 4, and what each lies above its stage
    assert place("")[:4].tolist() == [-1.0, 1.0, -1.0, 1.0]


def test_a_metric_is_looked_up_by_its_label_turned_around_by_a_minus() -> None:
    turned, own = made(thin={"how": "top", "by": "-length"}), made(thin={"how": "top", "by": {"name": "-random"}})
    assert turned.scores is not None
    assert own.scores is not None
    assert np.array_equal(turned.scores(""), -score_of("length"))
    assert np.array_equal(own.scores(""), score_of("-random"))  # scored under this label, turned around already


def test_review_and_the_control_are_handed_on() -> None:
    thin = {"how": "top", "by": "length"}
    review = {"share": 0.2, "by": "uniform", "from": 0.1}
    policy = made(book=Book(N), review=review, thin=thin, control="shuffled_scores")
    assert policy.review is not None
    assert (policy.review.share, policy.review.by, policy.review.spacing) == (0.2, "uniform", 2)
    assert policy.review.holds(0.1)
    assert not policy.review.holds(0.05)
    assert policy.control == "shuffled_scores"
    assert made(book=Book(N), review={}).control is None


# -- the best rows, rows that are dropped at random --------------------------------------------------------------------


@given(st.floats(0.01, 0.99), st.integers(0, 2**31), st.integers(1, 4))
def test_the_best_rows_are_so_many_of_each_stratum_and_none_is_dropped(share: float, seed: int, values: int) -> None:
    rng = np.random.default_rng(seed)
    scores, dropped = rng.integers(0, values, N).astype(float), rng.random(N) < 0.2
    policy = Policy(N, strata=DOMAINS.codes, strata_names=("a", "b", "c"), dropped=dropped)
    best = best_rows(scores, share, policy, seed=seed % 99)
    assert not (best & dropped).any()
    for stratum in range(3):
        inside = (DOMAINS.codes == stratum) & ~dropped
        assert np.count_nonzero(best & inside) == int(np.ceil(share * inside.sum() - 1e-9))
        if (best & inside).any() and (~best & inside).any():
            assert scores[best & inside].min() >= scores[~best & inside].max()


def test_a_phase_opens_the_best_of_a_score() -> None:
    policy = made(rows=None, phases=[{"until": 0.5}, {"until": 1, "top": {"-length": 0.25}}])
    assert policy.periods[0].top is None
    top = policy.periods[1].top
    assert top is not None
    assert set(np.flatnonzero(top)) == set(np.argsort(score_of("length"))[:30])


@given(st.integers(0, 2**31), st.integers(1, 6))
def test_the_control_of_dropping_drops_as_many_of_each_cell(seed: int, n_cells: int) -> None:
    rng = np.random.default_rng(seed)
    wanted, cells = rng.random(N) < 0.3, rng.integers(0, n_cells, N)
    instead = at_random(wanted, cells, seed=seed)
    assert (
        np.bincount(cells[instead], minlength=n_cells).tolist()
        == np.bincount(cells[wanted], minlength=n_cells).tolist()
    )
    assert np.array_equal(instead, at_random(wanted, cells, seed=seed))


def test_rows_are_dropped_at_random_only_under_the_control() -> None:
    wanted = np.arange(N) < 30
    plain = config(drop=[{"by": "length", "lowest": 0.1}])
    control = config(drop=[{"by": "length", "lowest": 0.1}], control="random_drop")
    cells = cells_of(control, score_of, domains=DOMAINS)
    assert cells_of(plain, score_of, domains=DOMAINS) is None
    assert dropped_rows(plain, wanted, None) is wanted
    instead = dropped_rows(control, wanted, cells)
    assert np.count_nonzero(instead[:60]) == 30
    assert not np.array_equal(instead, wanted)
    assert np.count_nonzero(dropped_rows(control, wanted, None)) == 30


# -- columns -----------------------------------------------------------------------------------------------------------


def test_shares_without_a_column_of_domains_are_refused_and_the_advice_helps() -> None:
    recipe = config(domains={"shares": {"a": 1.0}})
    with pytest.raises(RecipeError, match=r"`domains` must have a column of domains in .* \(text, source\), got none"):
        column_of(recipe, ["text", "source"])
    with pytest.raises(RecipeError, match=r"`phases` must have a column of domains"):
        column_of(config(phases=[{"until": 1, "shares": {"a": 1.0}}]), ["text"])
    assert column_of(config(domains={"shares": {"a": 1.0}}, within="source"), ["text", "source"]) == "source"
    assert column_of(config(thin={"how": "top"}), ["text"]) is None
    assert column_of(config(domains={"over": "cells"}), ["text"]) is None
    assert column_of(config(thin={"how": "top"}), ["text", "domain"]) == "domain"


@pytest.mark.parametrize("empty", [None, "", "  ", "\0", float("nan")])
def test_rows_without_a_name_are_named_and_the_advice_helps(empty: object) -> None:
    values = ["a", empty, "b", empty, empty, empty]
    with pytest.raises(DataError, match=r"in 4 of 6 rows \(first: 1, 3, 4, …\). Fill them in: `dataset = ") as caught:
        strict_domains(values, "domain", "thin")
    assert "`domain` must name a group in every row, for `thin` goes by it" in str(caught.value)
    assert strict_domains(followed(values, str(caught.value)), "domain", "thin").names[:2] == ["a", "b"]


@pytest.mark.parametrize("odd", ["b ", " b", "b\0", "b\0\0", "\tb\n", "b \0"])
def test_names_that_look_like_others_are_refused_and_the_advice_helps(odd: str) -> None:
    values = ["a", odd, "b"]
    with pytest.raises(DataError, match=r"without spaces or NUL at their ends, for `domains` goes by it") as caught:
        strict_domains(values, "domain", "domains")
    assert "in 1 of 3 rows (first: 1). Strip them: " in str(caught.value)
    assert strict_domains(followed(values, str(caught.value)), "domain", "domains").names == ["a", "b"]


def followed(values: list[Any], message: str) -> list[Any]:
    """The column after what a refusal says to do."""
    (how,) = re.findall(r"dataset\.map\((lambda row: .*?)\)`", message)
    return [eval(how)({"domain": value})["domain"] for value in values]  # our own words


@given(st.lists(st.text(max_size=3) | st.none() | st.integers(0, 3), min_size=1, max_size=6))
def test_a_column_is_taken_exactly_where_all_names_are_whole(values: list[Any]) -> None:
    names = ["" if value is None else str(value) for value in values]
    whole = all(name and name == name.strip(INVISIBLE) for name in names)
    try:
        domains = strict_domains(values, "domain", "thin")
    except DataError:
        assert not whole
    else:
        assert whole
        assert domains.codes is not None
        assert [domains.names[code] for code in domains.codes] == [str(value) for value in values]


# -- what the record moves ---------------------------------------------------------------------------------------------


def steered(*, has_probes: bool = True, rows: Domains | None = DOMAINS, **settings: Any) -> Steering | None:
    recipe = config(**settings)
    cells = cells_of(recipe, score_of, domains=rows)
    return steering_of(recipe, has_probes=has_probes, domains=rows, cells=cells, n_stages=7, handover_tokens=50.0)


@pytest.mark.parametrize("settings", [{"when": {}}, {"when": {}, "clock": "steps"}, {"when": {}, "domains": {}}])
def test_nothing_steers_where_the_recipe_lets_the_record_move_nothing(settings: Any) -> None:
    assert steered(**settings) is None
    assert steered(has_probes=False) is None


def test_what_steers_has_the_parts_of_the_recipe() -> None:
    found = steered(
        when={"regression": "note"},
        clock={"by": "competence", "target": 0.9},
        domains={"reweight": {"name": "lagging", "rate": 2}, "least": 0.05},
    )
    assert found is not None
    assert found.rules == (Regression(),)
    assert found.clock == Clock("competence", 0.9)
    assert found.reweight == Lagging(rate=2)
    assert found.names == ("chat", "code", "math")
    assert (found.n_stages, found.handover_tokens, found.least, found.domain_of) == (7, 50.0, 0.05, {})


def test_cells_that_have_the_shares_know_their_domain() -> None:
    found = steered(domains={"over": "cells", "reweight": "odm"}, cells={"bands": 2})
    assert found is not None
    assert len(found.names) == 6
    assert {name: name.split(" · ")[0] for name in found.names} == found.domain_of


def test_rows_without_domains_are_one_stratum() -> None:
    found = steered(rows=None)
    assert found is not None
    assert found.names == (ALL_ROWS,)
    assert found.rules == (Regression(), Stagnation())


def test_a_policy_hands_its_shares_and_phases_to_what_steers() -> None:
    recipe = config(when={"regression": "raise"})
    steering = steering_of(recipe, has_probes=True, domains=DOMAINS)
    policy = policy_of(recipe, n_rows=N, domains=DOMAINS, steering=steering)
    assert policy is not None
    assert steering is not None
    assert policy.shares_at(0.5) is None
    seen = Firing("regression", "regression", "math", 3, 3, 30, 0.3, 0.1, 0.05, 0.02, ("raise",))
    steering.look(History(firings=[seen]))
    # natural shares 1/2, 1/3, 1/6; math's counts 1.5 times
    assert policy.shares_at(0.5) == pytest.approx(np.array([1 / 2, 1 / 3, 1 / 4]) / (13 / 12))


def test_shares_that_are_weights_are_moved_and_the_draw_is_not() -> None:
    recipe = config(when={"regression": "raise"}, domains={"by": "weights"}, thin={"how": "top", "by": "length"})
    cells = cells_of(recipe, score_of, domains=DOMAINS)
    steering = steering_of(recipe, has_probes=True, domains=DOMAINS, cells=cells)
    assert steering is not None
    seen = Firing("regression", "regression", "math", 3, 3, 30, 0.3, 0.1, 0.05, 0.02, ("raise",))
    steering.look(History(firings=[seen]))
    drawn = policy_of(recipe, n_rows=N, domains=DOMAINS, cells=cells, score_of=score_of, steering=steering)
    weighed = shares_that_count(recipe, n_rows=N, domains=DOMAINS, cells=cells, steering=steering)
    assert drawn is not None
    assert weighed is not None
    assert drawn.shares_at(0.5) is None
    assert weighed.shares_at(0.5) == pytest.approx(np.array([1 / 2, 1 / 3, 1 / 4]) / (13 / 12))


def test_a_domain_that_would_be_raised_or_reviewed_must_have_rows() -> None:
    milestone = {"name": "sums", "probe": "maths", "loss": 0.8, "then": "raise"}
    message = (
        r"`milestones: sums` must be of a domain that is trained \(chat, code, math\) to raise it, got 'maths'. Did"
    )
    with pytest.raises(RecipeError, match=message):
        steered(milestones=[milestone])
    steered(milestones=[{**milestone, "probe": "math"}])
    steered(milestones=[{**milestone, "then": "note"}])  # as it says


def test_a_reweighting_that_names_what_nobody_draws_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"got 'mth'. Did you mean 'math'\?"):
        steered(domains={"reweight": {"name": "doremi", "targets": {"mth": 1.0}}})
    steered(domains={"reweight": {"name": "doremi", "targets": {"math": 1.0}}})


@pytest.mark.parametrize(
    ("settings", "needs"),
    [
        ({"when": {"regression": "raise"}}, "when: regression"),
        ({"when": {"regression": "raise"}, "domains": {"over": "cells"}}, "when: regression"),
        ({"when": {"regression": "review"}, "review": {}}, "when: regression"),
        (
            {"milestones": [{"name": "a", "probe": "math", "loss": 1, "then": "review"}], "review": {}},
            "milestones: a",
        ),
        ({"domains": {"reweight": "odm"}}, "domains"),
    ],
)
def test_what_is_done_for_a_domain_needs_a_column_of_domains(settings: Any, needs: str) -> None:
    recipe = config(**settings)
    with pytest.raises(
        RecipeError, match=rf"`{needs}` must have a column of domains in the training set \(text\), got"
    ):
        column_of(recipe, ["text"])
    assert column_of(recipe, ["text", "domain"]) == "domain"
    assert column_of(config(within="source", **settings), ["text", "source"]) == "source"  # as it says


def test_a_rule_that_only_notes_needs_none() -> None:
    assert column_of(config(when={"regression": ["note", "widen"]}), ["text"]) is None
    assert column_of(config(domains={"over": "cells", "reweight": "odm"}), ["text"]) is None


# -- what only waits takes rows as they are ----------------------------------------------------------------------------

WAITS = CampusConfig(selector="shuffle", weights=[{"name": "robust", "act": "auto"}]).resolved(
    has_probes=False, domain_in_data=True, seed=1
)
ACTS = CampusConfig(selector="shuffle", weights=["robust"]).resolved(has_probes=False, domain_in_data=True, seed=1)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["a", "b"] * 8, ["a", "b"]),
        ([3, 7] * 8, ["3", "7"]),
        (["a", None] * 8, []),
        (["a ", "a"] * 8, []),
        (["", "a"] * 8, []),
        (["a", "b"] * 7, []),  # seven rows each
        (list(range(16)), []),
    ],
)
def test_domains_that_nobody_asked_for_are_named_groups_of_eight_or_none(values: Any, names: list[str]) -> None:
    assert list(drawn_domains(WAITS, values, "domain").names) == names
    if names or not any(value in (None, "", "a ") for value in values):
        assert drawn_domains(ACTS, values, "domain").codes is not None  # who goes by them has them, or is told
    else:
        with pytest.raises(DataError, match="`domain` must"):
            drawn_domains(ACTS, values, "domain")


@given(st.integers(2, 300), st.integers(1, 4))
def test_cells_of_what_only_waits_have_eight_rows_a_band_or_one_band(n_rows: int, n_domains: int) -> None:
    domains = Domains(np.arange(n_rows) % n_domains, [*"abcd"[:n_domains]])
    scores = np.random.default_rng(n_rows).normal(size=n_rows)
    cells = cells_of(WAITS, lambda _: scores, domains=domains)
    assert cells is not None
    bands = max(1, min(5, n_rows // (8 * n_domains)))
    assert len(cells.names) <= bands * n_domains
    if n_rows >= 40 * n_domains:
        same = cells_of(ACTS, lambda _: scores, domains=domains)
        assert same is not None
        assert cells.codes.tolist() == same.codes.tolist()
