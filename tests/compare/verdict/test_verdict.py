"""The verdict: numbers by hand, families of p-values, every refusal, the sentences, the file."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.compare.verdict.console_lines import lines
from campus_tune.compare.verdict.inputs import ArmResults, ItemValues
from campus_tune.compare.verdict.verdict import Verdict, judge
from campus_tune.evaluate.paired import holm
from campus_tune.words.errors import DataError
from tests.compare.arms import a_curve, an_arm, base, without
from tests.strategies import examples

FEW = 200


def verdict(*arms: ArmResults, **more: Any) -> Verdict:
    return judge(arms, **{"resamples": FEW, **more})


def loss_of(*arms: ArmResults) -> Any:
    return verdict(*arms).judgements["recipe"]


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_the_difference_is_nats_per_token_over_all_seeds() -> None:
    weights, domain = np.array([1.0, 3.0]), np.array([0, 1])
    arms = [
        ArmResults(name, kind, (0, 1), ItemValues(np.array(values), weights, domain, ("a", "b")))
        for name, kind, values in (
            ("random", "baseline", [[2.0, 6.0], [4.0, 8.0]]),
            ("recipe", "recipe", [[1.0, 6.0], [4.0, 4.0]]),
        )
    ]
    found = verdict(*arms).judgements["recipe"]
    assert found.difference.value == pytest.approx((-1 + 0 + 0 - 4) / (2 * 4))
    assert found.difference.by_seed == pytest.approx((-1 / 4, -4 / 4))
    assert found.difference.relative == pytest.approx(-5 / 20)
    assert found.domains["a"].value == pytest.approx(-1 / 2)
    assert found.domains["b"].value == pytest.approx(-4 / 6)
    assert found.domains["a"].p is None  # one item


@pytest.mark.parametrize(
    ("shift", "noise", "word"),
    [
        (-0.5, 0.1, "helped"),
        (0.5, 0.1, "hurt"),
        (0.0, 0.02, "no detectable difference"),
        (0.0, 2.0, "underpowered"),
    ],
)
def test_each_word_where_it_belongs(shift: float, noise: float, word: str) -> None:
    assert loss_of(base(noise=noise), an_arm(shift=shift, noise=noise)).verdict == word


@examples(10)
@given(st.integers(0, 100))
def test_swapping_the_arms_turns_the_sign_and_nothing_else(draw: int) -> None:
    a, b = base(draw=draw), an_arm(draw=draw)
    one = loss_of(a, b).difference
    other = loss_of(replace(b, name="random", kind="baseline"), replace(a, name="recipe", kind="recipe")).difference
    assert (other.value, other.low, other.high) == pytest.approx((-one.value, -one.high, -one.low))
    assert (other.p, other.detectable) == pytest.approx((one.p, one.detectable))


@examples(10)
@given(st.permutations(range(4)), st.integers(0, 100))
def test_the_sequence_of_seeds_and_items_does_not_matter(order: list[int], draw: int) -> None:
    def mixed(arm: ArmResults) -> ArmResults:
        places = np.random.default_rng(draw).permutation(40)
        end = arm.end.take(order)
        items = tuple(end.items[i] for i in places)
        turned = replace(
            end, values=end.values[:, places], weights=end.weights[places], domain=end.domain[places], items=items
        )
        return replace(arm, seeds=tuple(order), end=turned, shared=tuple(arm.shared[i] for i in order))

    one = verdict(base(), an_arm(), resamples=2000).judgements["recipe"].difference
    other = verdict(mixed(base()), mixed(an_arm()), resamples=2000).judgements["recipe"].difference
    assert one is not None
    assert other is not None
    assert other.value == pytest.approx(one.value)
    assert other.stderr == pytest.approx(one.stderr, rel=0.15)  # other draws


def test_arms_whose_seeds_are_listed_differently_are_still_paired() -> None:
    arm = an_arm()
    turned = replace(arm, seeds=(3, 2, 1, 0), end=arm.end.take([3, 2, 1, 0]), shared=arm.shared[::-1])
    assert loss_of(base(), turned).difference == loss_of(base(), arm).difference
    assert loss_of(base(), turned).verdict is not None


def test_scaling_the_losses_scales_the_difference_and_leaves_the_word() -> None:
    def scaled(arm: ArmResults) -> ArmResults:
        return replace(arm, end=replace(arm.end, values=3 * arm.end.values))

    one, other = loss_of(base(), an_arm(shift=-0.1)), loss_of(scaled(base()), scaled(an_arm(shift=-0.1)))
    assert other.difference.value == pytest.approx(3 * one.difference.value)
    assert (other.verdict, other.difference.relative) == (one.verdict, pytest.approx(one.difference.relative))


def test_more_is_better_where_it_is_said_so() -> None:
    rng = np.random.default_rng(0)
    arms = []
    for arm, share in ((base(), 0.2), (an_arm(), 0.8)):
        right = (rng.random((4, 60)) < share).astype(float)
        task = ItemValues(right, np.ones(60), np.zeros(60, dtype=np.int64), ("all",), higher_is_better=True)
        arms.append(replace(arm, tasks={"gsm8k: exact_match": task}))
    found = verdict(*arms).tasks["gsm8k: exact_match"]["recipe"]
    assert found.verdict == "helped"
    assert "higher in gsm8k: exact_match than plain shuffling" in found.sentence


# -- families ----------------------------------------------------------------------------------------------------------


def test_recipes_are_corrected_for_each_other_and_not_for_the_controls() -> None:
    arms = [base(), an_arm("one", shift=-0.03), an_arm("two"), an_arm("reversed", "control", shift=-0.01)]
    found = verdict(*arms).judgements
    raw = [found[name].difference.p for name in ("one", "two")]
    assert [found[name].difference.p_adjusted for name in ("one", "two")] == pytest.approx(holm(raw))
    assert found["reversed"].difference.p_adjusted == found["reversed"].difference.p
    assert list(found) == ["one", "two", "reversed"]


def test_controls_and_domains_are_families_of_their_own() -> None:
    controls = [an_arm(name, "control", shift=0.02) for name in ("random_same_pacing", "reversed")]
    found = loss_of(base(), an_arm(), *controls)
    for family in (found.contrasts, found.domains):
        assert len(family) == 2
        assert [one.p_adjusted for one in family.values()] == pytest.approx(holm([one.p for one in family.values()]))
    assert found.difference.p_adjusted == found.difference.p


def test_with_several_recipes_the_interval_says_what_the_verdict_says() -> None:
    arms = [base(), an_arm("one", shift=-0.13), an_arm("two")]
    alone, among = (verdict(*some).judgements["one"] for some in (arms[:2], arms))
    assert alone.verdict == "helped"
    assert alone.difference is not None
    assert alone.difference.level == 0.05
    assert "(95 % interval " in alone.sentence
    assert among.verdict != "helped"
    found = among.difference
    assert found is not None
    assert found.p is not None
    assert found.p_adjusted is not None
    assert found.p < 0.05 < found.p_adjusted
    assert found.high is not None
    assert found.high > 0  # and so says the interval, which would not at 95 %
    assert "(97.5 % interval " in among.sentence


def test_the_table_says_how_wide_its_intervals_are() -> None:
    arms = [base(), an_arm("one", shift=-0.13), an_arm("two")]
    alone, among = (lines(verdict(*some), some) for some in (arms[:2], arms))
    assert "95 % interval" in alone[-2]
    assert not any("Holm" in line for line in alone)
    assert "(97.5 %)  0.064" in next(line for line in among if "final loss" in line and "interval  " in line)
    assert any("intervals are wider than 95 % and p-values larger (Holm)" in line for line in among)


def test_two_recipes_must_show_more_than_one_to_be_detected() -> None:
    alone = loss_of(base(), an_arm()).difference.detectable
    assert loss_of(base(), an_arm(), an_arm("two")).difference.detectable > alone


# -- refusals ----------------------------------------------------------------------------------------------------------


def other_items(arm: ArmResults) -> ArmResults:
    return replace(arm, end=replace(arm.end, items=("another", *arm.end.items[1:])))


def first_seeds(arm: ArmResults, n: int) -> ArmResults:
    return replace(arm, seeds=arm.seeds[:n], end=arm.end.take(range(n)), trained=arm.trained[:n], shared=arm.shared[:n])


def same_twice(arm: ArmResults) -> ArmResults:
    return replace(arm, end=arm.end.take([0, 1, 2, 1]))


@pytest.mark.parametrize(
    ("arms", "why", "shown"),
    [
        ((first_seeds(base(), 1), first_seeds(an_arm(), 1)), "one seed cannot tell a recipe from luck", True),
        ((base(), without(an_arm(), 2, "NaN at step 7.")), "recipe diverged with seed 2, and leaving", True),
        ((without(base(), 1, "NaN"), an_arm()), "random diverged with seed 1, and leaving", True),
        ((base(), an_arm(trained=np.full(4, 1020.0))), "recipe trained 1,020 tokens and random 1,000", True),
        ((base(items=29), an_arm(items=29)), "29 test items are fewer than the 30", True),
        ((base(), replace(an_arm(), seeds=(0, 1, 2, 2))), r"recipe has a seed twice \(0, 1, 2, 2\)", True),
        ((base(), same_twice(an_arm())), "seeds 1 and 3 of recipe ended with exactly the same losses", True),
        ((base(), first_seeds(an_arm(), 3)), "only one of recipe and random has seed 3", True),
        ((base(), an_arm(items=41)), "measured on other test items", False),
        ((base(), other_items(an_arm())), "measured on other test items", False),
        (
            (base(), an_arm(shared=({"data": "d"}, {"data": "d"}, {"data": "e"}, {"data": "d"}))),
            r"recipe and random differ in `data` \(seed 2\)",
            True,
        ),
        ((base(), replace(base(), name="recipe", kind="recipe", end=replace(base().end, values=base().end.values
          + base().end.weights))), "the same in every seed and item", True),
    ],
)  # fmt: skip
def test_no_verdict_and_the_reason(arms: tuple[ArmResults, ...], why: str, shown: bool) -> None:
    found = loss_of(*arms)
    assert found.verdict is None
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(found.refused)
    assert found.sentence == f"No verdict on recipe: {found.refused}."
    assert (found.difference is not None) == shown
    if shown:
        assert found.difference.p is None
        assert found.difference.by_seed


def test_tokens_within_the_tolerance_are_equal() -> None:
    assert loss_of(base(), an_arm(trained=np.full(4, 1009.0))).verdict
    assert verdict(base(), an_arm(trained=np.full(4, 1020.0)), tokens_tolerance=0.03).judgements["recipe"].verdict


def test_other_settings_are_found_whatever_the_sequence_of_the_seeds() -> None:
    arm = an_arm()
    turned = replace(arm, seeds=(3, 2, 1, 0), end=arm.end.take([3, 2, 1, 0]))  # `shared` and tokens left as they were
    assert "differ in `weights_before` (seed 0, 1, 2, 3)" in str(loss_of(base(), turned).refused)
    more = replace(turned, shared=arm.shared[::-1], trained=np.array([1000.0, 1000.0, 1000.0, 1050.0]))
    assert "random 1,000 with seed 0: 5.0% apart" in str(loss_of(base(), more).refused)


def test_a_baseline_that_diverged_with_every_seed_leaves_no_difference_to_show() -> None:
    empty = ItemValues(np.zeros((0, 0)), np.zeros(0), np.zeros(0, dtype=np.int64), ())
    lost = ArmResults("random", "baseline", (), empty, diverged=dict.fromkeys(range(4), "NaN"))
    found = verdict(lost, an_arm())
    assert found.baseline_mean is None
    assert found.judgements["recipe"].difference is None
    assert str(found.judgements["recipe"].refused) == (
        "random diverged with seeds 0, 1, 2, 3, and leaving such a run out would flatter the arm"
    )
    assert "other test items" not in str(found.judgements["recipe"].refused)
    assert found.speed["recipe"].verdict is None


def test_an_arm_with_more_compute_may_train_more() -> None:
    longer = tuple({"data": "d", "steps": 11, "weights_before": f"w{seed}"} for seed in range(4))
    plus = an_arm("random_plus", "plus", trained=np.full(4, 1100.0), shared=longer)
    found = verdict(base(), an_arm(), plus).judgements
    assert found["random_plus"].verdict
    assert found["recipe"].contrasts["random_plus"].p is not None


def test_a_diverged_control_takes_the_verdict_from_no_other_arm() -> None:
    control = without(an_arm("reversed", "control"), 0, "NaN")
    found = verdict(base(), an_arm(), control)
    assert found.judgements["recipe"].verdict
    assert found.judgements["recipe"].contrasts["reversed"].p is None
    assert found.diverged == ({"arm": "reversed", "seed": 0, "message": "NaN"},)


@pytest.mark.parametrize(
    ("arms", "more", "message"),
    [
        ((an_arm(),), {}, "exactly one baseline, got 0"),
        ((base(), replace(base(), name="other")), {}, "exactly one baseline, got 2"),
        ((base(),), {}, "a recipe to judge, got none"),
        ((base(), an_arm(), an_arm()), {}, "different names, got random, recipe, recipe"),
        ((base(), an_arm()), {"effect": 0}, r"`effect` must be a number in \(0, 1\)"),
        ((base(), an_arm()), {"faster": 1.0}, r"`faster` must be a number in \(0, 1\)"),
        ((base(), an_arm()), {"tokens_tolerance": -0.1}, r"`tokens_tolerance` must be a number in \[0, 1\]"),
        ((base(), an_arm()), {"resamples": 10}, "`resamples` must be a whole number of at least 100"),
    ],
)
def test_what_is_no_comparison_is_an_error(arms: tuple[ArmResults, ...], more: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        verdict(*arms, **more)


# -- words for people --------------------------------------------------------------------------------------------------


def test_the_sentence_has_the_difference_its_interval_and_what_could_have_been_found() -> None:
    sentence = loss_of(base(noise=0.02), an_arm(noise=0.02)).sentence
    number = r"[\d.]+ %"
    with pytest.raises(
        AssertionError,
        match=rf"^No detectable difference: recipe ended {number} (lower|higher) in loss than plain shuffling "
        rf"\(95 % interval −{number} to \+{number}, 4 seeds, 40 test rows\); "
        rf"an effect of {number} or more would have been found\.$",
    ):
        raise AssertionError(sentence)


@pytest.mark.parametrize(
    ("pacing", "reverse", "says"),
    [
        (0.0, 0.0, "It also beats random rows with the same pacing and the reversed order."),
        (-0.5, 0.0, "not shown to beat random rows with the same pacing: pacing alone may explain the gain."),
        (0.0, -0.5, "not shown to beat the reversed order: easy-to-hard is not shown to be the reason."),
        (-2.0 / 2, 0.0, "Random rows with the same pacing ended even better"),
    ],
)
def test_the_controls_say_what_the_gain_may_be_due_to(pacing: float, reverse: float, says: str) -> None:
    controls = an_arm("random_same_pacing", "control", shift=pacing), an_arm("reversed", "control", shift=reverse)
    found = loss_of(base(), an_arm(shift=-0.5), *controls)
    assert found.verdict == "helped"
    assert says in found.attribution


def test_controls_are_those_of_the_recipe_and_not_of_another_arm() -> None:
    control = an_arm("random_same_pacing", "control")
    found = verdict(base(), an_arm(shift=-0.5), an_arm("mine", shift=-0.5), control).judgements
    note = "The controls have the settings of 'recipe', which may not be those of mine."
    assert note in str(found["mine"].attribution)
    assert note not in str(found["recipe"].attribution)


def test_a_sure_difference_that_is_too_small_to_matter_says_so() -> None:
    small = loss_of(base(noise=0.005), an_arm(shift=-0.02, noise=0.005))
    assert small.verdict == "helped"
    assert small.sentence.endswith("; it is less than the 2.0 % that was worth finding.")
    assert "worth finding" not in loss_of(base(), an_arm(shift=-0.5)).sentence


def test_arms_that_are_the_same_in_every_seed_and_row_claim_no_power() -> None:
    same = loss_of(base(), replace(base(), name="recipe", kind="recipe"))
    assert same.verdict == "no detectable difference"
    assert "ended exactly as high in loss as plain shuffling (4 seeds, 40 test rows)" in same.sentence
    assert same.sentence.endswith("; no seed and no row tells the two apart.")


def test_where_all_runs_of_an_arm_diverged_one_seed_is_not_the_reason() -> None:
    empty = ItemValues(np.zeros((0, 0)), np.zeros(0), np.zeros(0, dtype=np.int64), ())
    lost = ArmResults("recipe", "recipe", (), empty, diverged=dict.fromkeys(range(4), "NaN"))
    assert "one seed" not in str(loss_of(base(), lost).refused)


def test_without_a_gain_there_is_nothing_to_explain() -> None:
    worse = loss_of(base(), an_arm(shift=0.5), an_arm("reversed", "control"))
    assert worse.attribution == "There is no gain to explain."
    same = loss_of(base(), an_arm(), an_arm("reversed", "control"))
    assert same.attribution == "No gain is shown, so there is none to explain."
    assert loss_of(base(), an_arm()).attribution is None


def test_two_seeds_and_small_domains_are_noted() -> None:
    found = verdict(first_seeds(base(items=16), 2), first_seeds(an_arm(items=16), 2))
    assert any("Two seeds hardly know their own spread" in note for note in found.notes)
    assert (
        "Differences in these domains have no interval, which takes 10 test items: sums (8), words (8)." in found.notes
    )


def test_many_small_domains_are_one_note() -> None:
    many = tuple(f"{i} {'x' * 50}" for i in range(16))
    arms = [replace(one, end=replace(one.end, domain=np.arange(40) % 16, domains=many)) for one in (base(), an_arm())]
    (note,) = verdict(*arms).notes
    assert note.endswith(f"5 {'x' * 37}… (3) and 10 more.")


# -- the file ----------------------------------------------------------------------------------------------------------


def test_the_file_gives_the_verdict_back_and_is_strict_json() -> None:
    curves = tuple(a_curve([4, 3, 2.5, 2.2 + seed / 50]) for seed in range(4))
    faster = tuple(a_curve([4, 2.5, 2.3, 2.1 + seed / 70], cost=0.05) for seed in range(4))
    control = without(an_arm("reversed", "control"), 0, "NaN")
    task = {"gsm8k: exact_match": ItemValues(np.eye(4, 40), np.ones(40), np.zeros(40, dtype=np.int64), ("all",))}
    arms = [base(curves=curves, tasks=task), an_arm(shift=-0.5, curves=faster, tasks=task), control]
    found = verdict(*arms)
    assert Verdict.from_mapping(json.loads(json.dumps(found.to_mapping(), allow_nan=False))) == found
    assert found == verdict(*arms)


def test_another_format_is_refused() -> None:
    with pytest.raises(DataError, match="`format` of a verdict must be 1, got 2"):
        Verdict.from_mapping({"format": 2})
