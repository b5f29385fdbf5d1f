"""A planted learner is recovered within its intervals, and what is not there is not found."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from campus_tune.compare.verdict import ABLATION_WORDS, Ablation, ArmResults, Effect, ItemValues, graph_of
from campus_tune.compare.verdict.ablation import AblationPart, judge_ablation
from campus_tune.compare.verdict.difference import Difference
from campus_tune.evaluate.paired import holm
from campus_tune.words.types import FloatArray, Json

DOMAINS = ("chat", "code", "math")
ROWS = np.array([200.0, 100.0, 100.0])
# how much a hundred rows of one domain help each: code and math help each other, chat is alone and harms code
HELP = np.array([[0.8, -0.1, 0.0], [0.0, 0.9, 0.4], [0.0, 0.5, 0.9]])
ITEMS = 40  # test rows of each domain
FEW = {"resamples": 299, "effect": 0.02}


def loss_after(rows: FloatArray, help_: FloatArray = HELP) -> FloatArray:
    """Loss of each domain after that many rows of each: three curves that fall and flatten."""
    return 0.5 + 2.0 * np.exp(-(rows / 100) @ help_)


def an_arm(
    name: str,
    losses: FloatArray,
    *,
    draw: int,
    seeds: int = 3,
    items: int = ITEMS,
    noise: tuple[float, float] = (0.02, 0.2),
    **more: Any,
) -> ArmResults:
    """Runs that ended there, but for luck of the seed in each domain, and of each row.

    Rows are as hard in all arms; what a run makes of each besides is its own.
    """
    rng, hardness = np.random.default_rng([draw, sum(map(ord, name))]), np.random.default_rng(draw)
    domain = np.repeat(np.arange(len(losses)), items)
    weights = 3.0 + np.arange(len(domain)) % 5
    of_rows = hardness.normal(size=len(domain)) * 0.5
    of_rows -= (np.bincount(domain, of_rows * weights) / np.bincount(domain, weights))[domain]  # the mean is planted
    of_seeds = noise[0] * rng.normal(size=(seeds, len(losses)))
    per_token = losses[domain] + of_rows + of_seeds[:, domain] + noise[1] * rng.normal(size=(seeds, len(domain)))
    end = ItemValues(per_token * weights, weights, domain, DOMAINS[: len(losses)], tuple(map(str, range(len(domain)))))
    facts: dict[str, Any] = {
        "trained": np.full(seeds, 4000.0),
        "shared": tuple({"data": name, "steps": 40, "test": "t", "weights_before": f"w{s}"} for s in range(seeds)),
    }
    return ArmResults(name, "control", tuple(range(seeds)), end, **{**facts, **more})


def planted(draw: int, *, fewer: bool = False, **more: Any) -> tuple[ArmResults, dict[str, ArmResults], FloatArray]:
    """All rows; each domain left out; the true matrix."""
    full = loss_after(ROWS)
    parts, truth = {}, []
    for i, name in enumerate(DOMAINS):
        rows = np.where(np.arange(len(ROWS)) == i, 0.0, ROWS)
        rows = rows if fewer else rows * ROWS.sum() / rows.sum()  # others fill the place
        truth.append(loss_after(rows) - full)
        parts[name] = an_arm(f"without_{name}", loss_after(rows), draw=draw, **more)
    return an_arm("full", full, draw=draw, **more), parts, np.array(truth)


def values(found: Ablation, name: str) -> FloatArray:
    return np.array([[getattr(found.cells[d][e].difference, name) for e in DOMAINS] for d in DOMAINS], dtype=float)


@pytest.mark.parametrize("fewer", [False, True])
def test_a_planted_learner_is_recovered_within_its_intervals(fewer: bool) -> None:
    covered, errors = [], []
    for draw in range(20):
        full, parts, truth = planted(draw, fewer=fewer)
        found = judge_ablation(full, parts, fewer=fewer, **FEW)
        covered.append(((values(found, "low") <= truth) & (truth <= values(found, "high"))).all())
        errors.append(values(found, "value") - truth)
    assert np.mean(covered) >= 0.95
    assert np.abs(np.mean(errors, axis=0)).max() < 0.03


def test_the_words_are_those_of_the_planted_learner() -> None:
    full, parts, truth = planted(1, seeds=5)
    found = judge_ablation(full, parts, **FEW)
    assert truth[0, 1] < -0.02
    words = {d: {e: one.verdict for e, one in row.items()} for d, row in found.cells.items()}
    assert [words[d][d] for d in DOMAINS] == ["needed"] * 3
    assert words["chat"]["code"] == "harmful"
    assert words["chat"]["math"] == "harmful"  # at equal tokens: its place is filled with what helps
    assert {one for row in words.values() for one in row.values()} <= set(ABLATION_WORDS)
    graph = graph_of([found], DOMAINS)
    assert max(abs(one) for row in graph.values() for one in row.values()) == 1.0
    assert graph["chat"]["chat"] > 0 > graph["chat"]["code"]


def test_over_two_hundred_ablations_of_nothing_at_most_one_in_twenty_has_a_word() -> None:
    """Two halves of one domain: without either, the other fills its place, and nothing is lost."""
    called = []
    for draw in range(200):
        losses = np.array([1.0, 1.0])
        full, one, other = (an_arm(name, losses, draw=draw) for name in ("full", "without_a", "without_b"))
        found = judge_ablation(full, {"a": one, "b": other}, resamples=199, effect=0.02)
        words = [cell.verdict for row in found.cells.values() for cell in row.values()]
        called.append(any(word in ("needed", "harmful") for word in words))
    assert np.mean(called) <= 0.05


@pytest.mark.parametrize("draw", [0, 1, 2])
def test_p_values_are_those_of_holm_among_all_cells_and_among_all_domains(draw: int) -> None:
    full, parts, _ = planted(draw, seeds=5)
    found = judge_ablation(full, parts, **FEW)
    for family in ([one for row in found.cells.values() for one in row.values()], [*found.overall.values()]):
        known = [one.difference for one in family]
        assert [one.p_adjusted for one in known] == pytest.approx(holm([one.p for one in known]))
    assert any(one.p != one.p_adjusted for one in known)


def test_one_domain_alone_has_words_of_its_own() -> None:
    full, parts, _ = planted(1, seeds=5)
    found = judge_ablation(full, {"chat": parts["chat"]}, part="only", **FEW)
    assert found.cells["chat"]["chat"].verdict == "not enough"
    assert found.cells["chat"]["code"].verdict == "better alone"
    assert graph_of([found], DOMAINS) == {}


def test_what_is_small_is_not_called_and_what_could_have_been_missed_is_said() -> None:
    equal, words = np.array([1.0, 1.0, 1.0]), []
    for noise in ((0.001, 0.01), (0.1, 0.5)):
        full, same = (an_arm(name, equal, draw=3, noise=noise, seeds=6) for name in ("full", "without_chat"))
        words.append({one.verdict for one in judge_ablation(full, {"chat": same}, **FEW).cells["chat"].values()})
    assert words == [{"no detectable difference"}, {"underpowered"}]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"trained": np.full(3, 3000.0)}, "trained 3,000 tokens and full 4,000 with seed 2: 25.0% apart, where 5.0%"),
        ({"diverged": {7: "NaN"}}, "without_math diverged with seed 7"),
        ({"shared": tuple({"test": "other", "steps": 30} for _ in range(3))}, "differ in `test`"),
    ],
)
def test_runs_that_bear_no_comparison_have_no_word_and_a_reason(change: Json, why: str) -> None:
    full, parts, _ = planted(0)
    parts["math"] = replace(parts["math"], **change)
    found = judge_ablation(full, parts, **FEW)
    assert list(found.refused) == ["math"]
    assert why in found.refused["math"]
    assert {one.verdict for one in found.cells["math"].values()} == {None}
    assert all(one.difference.value is not None for one in found.cells["math"].values())
    assert found.cells["code"]["code"].verdict == "needed"


def test_fewer_tokens_are_no_reason_where_they_were_asked_for() -> None:
    full, parts, _ = planted(0)
    parts["math"] = replace(parts["math"], trained=np.full(3, 3000.0))
    assert judge_ablation(full, parts, fewer=True, **FEW).refused == {}


def test_a_small_domain_is_shown_without_a_word() -> None:
    full, parts, _ = planted(0)

    def few(arm: ArmResults) -> ArmResults:
        kept = np.r_[0:5, ITEMS : 3 * ITEMS]
        end = ItemValues(arm.end.values[:, kept], arm.end.weights[kept], arm.end.domain[kept], DOMAINS)
        return replace(arm, end=end)

    found = judge_ablation(few(full), {name: few(arm) for name, arm in parts.items()}, **FEW)
    assert {found.cells[d]["chat"].verdict for d in DOMAINS} == {None}
    assert found.cells["math"]["chat"].difference.n_items == 5
    assert found.cells["math"]["math"].verdict == "needed"


@pytest.mark.parametrize("part", ["without", "only"])
def test_it_is_read_back_as_it_was_written(part: AblationPart) -> None:
    full, parts, _ = planted(2)
    parts["chat"] = replace(parts["chat"], diverged={5: "NaN"})
    found = judge_ablation(full, parts, part=part, **FEW)
    assert Ablation.from_mapping(part, found.to_mapping()) == found


def of_cells(cells: Mapping[tuple[str, str], tuple[float, str]]) -> Ablation:
    table: dict[str, dict[str, Effect]] = {}
    for (d, e), (relative, word) in cells.items():
        table.setdefault(d, {})[e] = Effect(Difference("a", "full", relative, relative=relative), word)
    return Ablation("without", table, {})


def test_a_graph_has_what_was_detected_on_one_scale() -> None:
    found = of_cells({
        ("a", "a"): (0.4, "needed"), ("a", "b"): (-0.1, "harmful"), ("b", "a"): (0.3, "underpowered")
    })  # fmt: skip
    assert graph_of([found], ["a", "b"]) == {"a": {"a": 1.0, "b": -0.25}}
    assert graph_of([of_cells({("a", "a"): (0.0, "no detectable difference")})], ["a"]) == {}
