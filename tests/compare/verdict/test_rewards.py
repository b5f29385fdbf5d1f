"""Verdicts on arms that are trained by reward: higher is better, steps are equal, tokens are what answers were long."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from campus_tune.compare.verdict import HELPED, HURT, arm_of, from_pilot, judge, lines
from campus_tune.compare.verdict.equal_tokens import AtEqualTokens, compare_at_equal_tokens, reward_at
from campus_tune.compare.verdict.inputs import Curve
from campus_tune.compare.verdict.verdict import Verdict
from campus_tune.words.types import Json

ITEMS = 40


def result(arm: str, seed: int, rewards: Sequence[float], *, tokens: float = 1000, start: float = 0.1) -> Json:
    """What a run has written whose reward went up in a straight line; `rewards` of the test prompts at its end."""
    end = float(np.mean(rewards))
    return {
        "arm": arm,
        "kind": {"random": "baseline", "shuffled_scores": "control"}.get(arm, "recipe"),
        "seed": seed,
        "status": "finished",
        "message": None,
        "measure": "reward",
        "shared": {"steps": 10},
        "tokens": tokens,
        "cost": {"all": 0.0},
        "curve": {
            "tokens": [0, tokens / 2, tokens],
            "seconds": [0, 1, 2],
            "reward": [start, (start + end) / 2, end],
            "domains": {"a": [start, (start + end) / 2, end]},
        },
        "test": {
            "domains": ["a", "b"],
            "items": [f"a {i}" for i in range(ITEMS)],
            "domain": [i % 2 for i in range(ITEMS)],
            "reward": list(rewards),
        },
    }


def drawn(rate: float, seed: int) -> list[float]:
    return [float(one < rate) for one in np.random.default_rng(seed).random(ITEMS)]


def runs(arm: str, rate: float, *, tokens: float = 1000, first: int = 0) -> list[Json]:
    return [result(arm, seed, drawn(rate, first + seed), tokens=tokens + seed) for seed in range(4)]


def judged(rate: float, **given: float) -> Verdict:
    arms = [arm_of(runs("random", 0.4)), arm_of(runs("recipe", rate, first=50, **given))]
    return judge(arms, resamples=200)


@pytest.mark.parametrize(("rate", "word", "said"), [(0.9, HELPED, "higher in reward than"), (0.05, HURT, "lower in")])
def test_a_higher_reward_helps(rate: float, word: str, said: str) -> None:
    one = judged(rate).judgements["recipe"]
    assert one.verdict == word
    assert said in one.sentence
    assert "4 seeds, 40 test prompts" in one.sentence


def test_of_a_mean_that_is_not_above_zero_there_is_no_share() -> None:
    def below(arm: str, first: int, by: float) -> list[Json]:  # a model's reward, say: no share of it says anything
        return [result(arm, seed, [by - one for one in drawn(0.4, first + seed)], tokens=1000) for seed in range(3)]

    arms = [arm_of(below("random", 0, -0.5)), arm_of(below("recipe", 50, -0.49))]
    verdict = judge(arms, resamples=200)
    one = verdict.judgements["recipe"]
    assert one.verdict == "underpowered"
    assert "so no share of it says what was worth finding" in one.sentence
    said = "\n".join(lines(verdict, arms))
    assert "unknown share" not in said
    assert one.difference is not None
    assert one.difference.value is not None
    assert f"{one.difference.value:+.3g}".replace("-", "−") in said
    sure = judge([arms[0], arm_of(below("recipe", 50, 0.4))], resamples=200).judgements["recipe"]
    assert sure.verdict == HELPED
    assert "% higher" not in sure.sentence


def test_numbers_by_hand() -> None:
    arm = arm_of([result("recipe", 0, [1.0] * 10 + [0.0] * 30), result("recipe", 1, [0.0] * 20 + [1.0] * 20)])
    assert arm.measure == "reward"
    assert arm.end.higher_is_better
    assert arm.end.mean() == pytest.approx(0.375)
    assert arm.curves[0].loss.tolist() == pytest.approx([-0.1, -0.175, -0.25])
    assert arm.curves[0].domains["a"][-1] == pytest.approx(-0.25)


def test_longer_answers_are_no_reason_to_say_nothing() -> None:
    one = judged(0.9, tokens=2000)
    assert one.judgements["recipe"].refused is None
    assert one.speed["recipe"].verdict is not None


def test_prompts_that_all_pass_are_no_run_told_twice() -> None:
    arms = [arm_of(runs("random", 0.4)), arm_of([result("recipe", seed, [1.0] * ITEMS) for seed in range(4)])]
    assert judge(arms, resamples=200).judgements["recipe"].verdict == HELPED


def test_speed_is_the_way_to_a_reward_that_both_reach() -> None:
    speed = judged(0.9).speed["recipe"]
    assert "to a reward that both reached, recipe took" in speed.sentence
    assert speed.charged is not None
    assert speed.charged.value is not None
    assert speed.charged.value < 0


def test_without_a_way_up_speed_is_not_said() -> None:
    falls = [result("recipe", seed, drawn(0.2, seed), start=0.9) for seed in range(4)]
    speed = judge([arm_of(runs("random", 0.4)), arm_of(falls)], resamples=200).speed["recipe"]
    assert speed.refused == (
        "with some seeds the reward ended no higher than it began, so there is no reward to measure the way to"
    )


# -- at equal generated tokens -----------------------------------------------------------------------------------------


def test_rewards_are_read_where_both_had_generated_as_many_tokens() -> None:
    base = arm_of([result("random", seed, [0.5] * ITEMS, tokens=1000) for seed in range(2)])
    arm = arm_of([result("recipe", seed, [0.9] * ITEMS, tokens=2000) for seed in range(2)])
    found = compare_at_equal_tokens([arm], base)["recipe"]
    assert found.share == pytest.approx(1.0)
    assert found.difference.mean == pytest.approx(0.5)  # of 0.1 to 0.9, half the way
    assert found.difference.value == pytest.approx(0.0)
    shorter = compare_at_equal_tokens([base], arm)["random"]
    assert shorter.share == pytest.approx(0.5)
    assert "(50 % of those of recipe)" in shorter.sentence


def test_it_has_an_interval_over_seeds_and_none_of_one_seed() -> None:
    base, arm = (arm_of(runs(name, rate, first=first)) for name, rate, first in (("random", 0.3, 0), ("mine", 0.6, 9)))
    found = compare_at_equal_tokens([arm], base)["mine"]
    assert found.difference.low is not None
    assert found.difference.low < (found.difference.value or 0) < (found.difference.high or 0)
    assert "−" in found.sentence or "+" in found.sentence
    alone = compare_at_equal_tokens([arm_of(runs("mine", 0.6)[:1])], arm_of(runs("random", 0.3)[:1]))["mine"]
    assert alone.difference.low is None
    assert alone.sentence.endswith("(1 seed).")
    assert AtEqualTokens.from_mapping(found.to_mapping()) == found


def test_between_two_points_the_line_is_straight() -> None:
    curve = Curve(np.array([0.0, 100, 300]), np.zeros(3), -np.array([0.0, 0.5, 0.7]))
    assert [round(reward_at(curve, at), 6) for at in (0, 50, 200, 300)] == [0.0, 0.25, 0.6, 0.7]


def test_a_verdict_keeps_it_and_the_console_says_it() -> None:
    verdict = judged(0.9)
    again = Verdict.from_mapping(verdict.to_mapping())
    assert again == verdict
    said = "\n".join(lines(verdict, [arm_of(runs("random", 0.4)), arm_of(runs("recipe", 0.9, first=50))]))
    assert "AT EQUAL TOKENS. Where both had generated as many tokens" in said
    assert "final reward" in said


def test_a_verdict_on_losses_has_nothing_of_it() -> None:
    plain = [
        {
            **{key: value for key, value in one.items() if key != "measure"},
            "curve": {"tokens": [0, 1000], "seconds": [0, 1], "loss": [3.0, 2.0]},
            "test": {**one["test"], "loss": one["test"]["reward"], "tokens": [1.0] * ITEMS},
        }
        for one in [*runs("random", 0.4), *runs("recipe", 0.6, first=50)]
    ]
    verdict = judge([arm_of(plain[:4]), arm_of(plain[4:])], resamples=200)
    assert {"measure", "equal"}.isdisjoint(verdict.to_mapping())


def test_a_pilot_speaks_of_prompts() -> None:
    pilot = arm_of(runs("random", 0.4)).end
    assert "test prompts" in from_pilot(pilot, seeds=4, effect=0.02, measure="reward").sentence
    assert "test rows" in from_pilot(pilot, seeds=4, effect=0.02).sentence
