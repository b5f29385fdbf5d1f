"""Bandits: what they make of rewards, worked by hand, by a slow second way, and over many made-up runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.rewards import RewardKind, rewards_of
from campus_tune.method.selectors import Bandit, View, build_selector
from campus_tune.method.selectors.bandits import Exp3s, Teacher, Ucb, mixed, shared
from campus_tune.method.stages import SHUFFLE
from campus_tune.method.view import History, PastStage
from campus_tune.words.errors import RecipeError
from tests.method.rewarded import earning, measured, past

ABC = ("a", "b", "c")


def shown(history: History, names: Sequence[str] = ABC, **more: Any) -> View:
    """The view of the next stage."""
    stages = history.stages
    return View(
        names=names,
        stage=len(stages),
        times_chosen=Counter(stage.chosen for stage in stages),
        history=history,
        **{"n_decisions": 40, **more},
    )


# -- EXP3.S ---------------------------------------------------------------------------------------------------------


def test_one_reward_moves_the_weights_as_worked_by_hand() -> None:
    """K = 3, a reward of 1 on arm 1, ε = .1, η = .5, α = ½."""
    moved = shared([0.0, 0.5 / mixed([0.0, 0.0, 0.0], 0.1)[1], 0.0], 1 / 2)
    assert moved == pytest.approx([0.6262, 1.0083, 0.6262], abs=5e-5)
    assert mixed(moved, 0.1) == pytest.approx([0.293, 0.4139, 0.293], abs=5e-5)


def test_the_papers_first_step_would_make_the_first_winner_the_least_likely() -> None:
    moved = shared([0.0, 0.5 / mixed([0.0, 0.0, 0.0], 0.1)[1], 0.0], 1.0)
    assert mixed(moved, 0.1) == pytest.approx([0.414, 0.172, 0.414], abs=5e-4)


def test_the_first_reward_that_counts_makes_its_arm_the_likeliest() -> None:
    """Four rewards that scale to 0 give weights away to nobody, for all are alike; then the fifth is the highest."""
    history = earning([0, 0, 1.0, 2.0, 3.0, 4.0, 9.0], "ababab" + "c")
    chances = Exp3s("own", eta=0.5).chances(shown(history))
    assert chances.argmax() == 2
    moved = shared([0.0, 0.0, 0.5 / (1 / 3)], 1 / 6)  # the fifth reward: α = 1/6
    assert chances == pytest.approx(mixed(moved, 0.1), abs=1e-12)


@pytest.mark.parametrize(("k", "n", "eta"), [(4, 40, 0.1316), (4, 1000, 0.0263), (6, 40, 0.1222)])
def test_eta_follows_from_the_decisions_to_come(k: int, n: int, eta: float) -> None:
    arms = "abcdef"[:k]
    history = earning([0, 0, 1.0, 2.0, 3.0, 4.0, 9.0], "ababaab", offered=tuple(arms))
    own, told = (Exp3s("own", eta=value).chances(shown(history, arms, n_decisions=n)) for value in (None, eta))
    assert own == pytest.approx(told, abs=1e-4)


def slow_exp3s(history: History, names: Sequence[str], kind: RewardKind, eta: float, eps: float, beta: float) -> Any:
    """The same by the book: plain weights, stage after stage, rewards as they become known."""
    rewards = {one.stage: one for one in rewards_of(history, kind)}
    weight = {name: 1.0 for one in rewards.values() for name in one.offered} | dict.fromkeys(names, 1.0)
    had: dict[int, dict[str, float]] = {}
    t = 0

    def pi(offered: Sequence[str]) -> dict[str, float]:
        total = sum(weight[name] for name in offered)
        return {name: (1 - eps) * weight[name] / total + eps / len(offered) for name in offered}

    for now in range(len(history.stages) + 1):
        for one in sorted(rewards.values(), key=lambda one: one.stage):
            if one.known_at != now or len(one.offered) == 1:
                continue
            t += 1
            alpha, k = 1 / (t + 1), len(one.offered)
            r = {
                name: ((one.scaled or 0.0) * (name == one.chosen) + beta) / had[one.stage][name] for name in one.offered
            }
            v = {name: weight[name] * math.exp(eta * r[name]) for name in one.offered}
            for name in one.offered:
                rest = sum(v[other] for other in one.offered if other != name)
                weight[name] = (1 - alpha) * v[name] + alpha / (k - 1) * rest
        if now in rewards:
            had[now] = pi(rewards[now].offered)
    return [pi(names)[name] for name in names]


@st.composite
def records(draw: st.DrawFn) -> History:
    """Runs of up to 25 stages of up to four sub-curricula, some of them not offered, some stages shuffled."""
    n = draw(st.integers(0, 25))
    every = draw(st.sampled_from([1, 2, 5]))
    offered = [draw(st.lists(st.sampled_from("abcd"), min_size=1, unique=True).map(sorted)) for _ in range(n)]
    chosen = [draw(st.sampled_from([*names, SHUFFLE])) for names in offered]
    gains = [draw(st.integers(-8, 8).map(float) | st.none()) for _ in range(n)]
    losses = {i: draw(st.floats(0.5, 5)) for i in range(0, n + 1, every)}
    stages = past(chosen, offers=offered, own_gain=gains, norm_gain=gains, lr_tokens=[2.0] * n)
    return History(stages, measured=measured(losses))


@given(records(), st.sampled_from(["probes", "own"]), st.sampled_from([0.05, 0.5, 2.0]), st.sampled_from([0.0, 0.2]))
def test_exp3s_is_what_a_slow_reference_makes_of_the_same_record(
    history: History, kind: RewardKind, eta: float, beta: float
) -> None:
    fast = Exp3s(kind, eta=eta, epsilon=0.1, beta=beta).chances(shown(history, ("b", "d")))
    assert fast == pytest.approx(slow_exp3s(history, ("b", "d"), kind, eta, 0.1, beta), rel=1e-7)


def test_a_reward_moves_the_weights_by_the_chances_that_its_decision_had() -> None:
    """Probes at every fifth stage: five choices were made by the chances from before them."""
    losses = {0: 9.0, 2: 8.0, 7: 6.0, 12: 2.0}
    history = History(past("abccccccccccb"[:12]), measured=measured(losses))
    first = replace(history, stages=history.stages[:7], measured=measured({0: 9.0, 2: 8.0, 7: 6.0}))
    before = Exp3s(eta=0.3).chances(shown(first))
    slow = slow_exp3s(history, ABC, "probes", 0.3, 0.1, 0.0)
    assert Exp3s(eta=0.3).chances(shown(history)) == pytest.approx(slow, rel=1e-12)
    assert before == pytest.approx(slow_exp3s(first, ABC, "probes", 0.3, 0.1, 0.0), rel=1e-12)


def test_large_rates_and_small_chances_stay_numbers() -> None:
    history = earning([float(i % 7) for i in range(300)], "abc" * 100)
    chances = Exp3s("own", eta=10, epsilon=1e-6, beta=1).chances(shown(history))
    assert np.isfinite(chances).all()
    assert chances.sum() == pytest.approx(1)
    assert chances.min() >= 1e-6 / 3 * (1 - 1e-9)


def test_a_sub_curriculum_that_is_offered_again_is_what_it_was() -> None:
    history = earning([0, 0, 1.0, 2.0, 3.0, 4.0, 9.0], "ababaac")
    without = Exp3s("own", eta=1.0).chances(shown(history, ("a", "b")))
    assert without == pytest.approx([0.5, 0.5])
    gap = replace(history, stages=[*history.stages, PastStage(7, "a", 80, offered=("a", "b"))])
    assert Exp3s("own", eta=1.0).chances(shown(gap)) == pytest.approx(
        Exp3s("own", eta=1.0).chances(shown(history)), abs=1e-12
    )


# -- UCB ------------------------------------------------------------------------------------------------------------


def test_ucb_tries_each_once_and_then_takes_the_highest_bound() -> None:
    ucb = Ucb("own")
    chosen, history = list[str](), earning([], "")
    gains = {"a": 1.0, "b": 3.0, "c": 2.0}
    for _ in range(5):
        chosen.append(ucb.choose(shown(history)))
        history = earning([gains[name] for name in chosen], chosen)
    assert chosen == ["a", "b", "c", "a", "b"]  # the first two are ignored


def test_the_bound_is_as_worked_by_hand() -> None:
    """Rewards .. 1 (a) 5 (b) 3 (c) 3 (a) 3 (b) scale to 0 0 0 0 0, then 9 (c) to 1: γ = .5, c = .5."""
    history = earning([0, 0, 1.0, 5.0, 3.0, 3.0, 3.0, 9.0], "ababcabc"[:2] + "abcabc")
    scaled = [one.scaled for one in rewards_of(history, "own")][2:]
    assert scaled == pytest.approx([0, 0, 0, 0, -0.0, 1.0])
    weights = [0.5**age for age in range(6)]  # c b a c b a, the newest first
    n = {name: weights[i] + weights[i + 3] for i, name in enumerate("cba")}
    bound = {name: (name == "c") / n[name] + 0.5 * math.sqrt(math.log(sum(weights)) / n[name]) for name in ABC}
    best = max(bound, key=bound.__getitem__)
    assert Ucb("own", gamma=0.5).chances(shown(history)).tolist() == [float(name == best) for name in ABC]
    assert best == "c"
    assert Ucb("own", gamma=0.5, c=10).choose(shown(history)) == "a"  # the one that was tried longest ago


@given(records(), st.sampled_from([0.5, 0.95, 1.0]), st.sampled_from([0.0, 0.5, 5.0]))
def test_ucb_is_what_a_slow_reference_makes_of_the_same_record(history: History, gamma: float, c: float) -> None:
    names = ("a", "c", "d")
    known = [one for one in rewards_of(history, "own") if one.scaled is not None]
    [best] = np.flatnonzero(Ucb("own", gamma=gamma, c=c).chances(shown(history, names)))
    tried = {one.chosen for one in known}
    if not tried >= set(names):
        assert names[best] not in tried
        return
    w = [gamma ** (len(known) - 1 - i) for i in range(len(known))]
    bounds = []
    for name in names:
        mine = [(weight, one.scaled or 0.0) for weight, one in zip(w, known, strict=True) if one.chosen == name]
        n = sum(weight for weight, _ in mine)
        bounds.append(sum(weight * r for weight, r in mine) / n + c * math.sqrt(max(0.0, math.log(sum(w))) / n))
    assert bounds[best] == pytest.approx(max(bounds), abs=1e-9)


def test_what_was_tried_so_long_ago_that_its_weight_is_none_is_tried_again() -> None:
    history = earning([float(i % 5) for i in range(900)], "ab" + "c" * 4 + "ab" * 447)
    assert Ucb("own", gamma=0.1, c=0).choose(shown(history)) == "c"


# -- teacher --------------------------------------------------------------------------------------------------------


def test_the_teacher_follows_the_fastest_progress_forward_or_backward() -> None:
    history = earning([0, 0, 1.0, -3.0, 2.0], "abbca"[:2] + "abc")
    assert Teacher("own", epsilon=0).choose(shown(history)) == "b"  # what is being forgotten
    assert Teacher("own", epsilon=0, abs=False).choose(shown(history)) == "c"
    assert Teacher("own", epsilon=0.3).chances(shown(history)) == pytest.approx([0.1, 0.8, 0.1])


def test_its_mean_moves_by_a_tenth_of_the_difference() -> None:
    """Q(a) = .1·1 = .1, then .1·0 + .9·.1 = .09; Q(b) = .1·.95 = .095."""
    earlier = earning([0, 0, 1.0, 0.95], "ababab"[:4])
    later = earning([0, 0, 1.0, 0.95, 0.0], "ababa")
    teacher = Teacher("own", epsilon=0)
    assert teacher.choose(shown(earlier, ("a", "b"))) == "a"
    assert teacher.choose(shown(later, ("a", "b"))) == "b"
    assert Teacher("own", lr=0.04, epsilon=0).choose(shown(later, ("a", "b"))) == "a"  # .0384 against .038


def test_the_slowest_is_not_the_fastest_backwards() -> None:
    """On the scale of the other bandits the slowest has −1: by its size it would be chosen as often as the fastest."""
    history = earning([0, 0, *[5.0, 1.0, 2.0] * 4], "ab" + "abc" * 4)
    scaled = {one.chosen: one.scaled for one in rewards_of(history, "own")[-3:]}
    assert scaled == {"a": 1.0, "b": -1.0, "c": pytest.approx(-0.5)}
    assert Teacher("own", epsilon=0).choose(shown(history)) == "a"


# -- all of them ----------------------------------------------------------------------------------------------------

BANDITS: list[Any] = ["exp3s", "ucb", "teacher", {"name": "exp3s", "eta": 3, "beta": 1}, {"name": "ucb", "gamma": 0.1}]


def bandit(setting: Any, reward: RewardKind = "own") -> Bandit:
    made = build_selector({"reward": reward, **({"name": setting} if isinstance(setting, str) else setting)})
    assert isinstance(made, Bandit)
    return made


@given(
    st.sampled_from(BANDITS),
    records(),
    st.lists(st.sampled_from("abcde"), min_size=1, unique=True),
    st.sampled_from(["probes", "norm"]),
)
def test_chances_are_chances_of_the_offers(
    setting: Any, history: History, names: list[str], reward: RewardKind
) -> None:
    view = shown(history, names)
    chances = bandit(setting, reward).chances(view)
    assert chances.shape == (len(names),)
    assert (chances >= 0).all()
    assert chances.sum() == pytest.approx(1)
    assert bandit(setting, reward).choose(view) in names


@pytest.mark.parametrize("setting", BANDITS)
def test_choices_are_drawn_as_often_as_the_chances_say(setting: Any) -> None:
    history = earning([0, 0, *[5.0, 1.0, 2.0] * 3], "ab" + "abc" * 3)
    view = shown(history)
    chances = bandit(setting).chances(view)
    drawn = Counter(bandit(setting).choose(replace(view, seed=seed)) for seed in range(500))
    for name, chance in zip(ABC, chances, strict=True):
        assert abs(drawn[name] / 500 - chance) < 4 * math.sqrt(chance * (1 - chance) / 500) + 1e-9


@pytest.mark.parametrize("setting", BANDITS)
def test_a_single_offer_has_all_chances(setting: Any) -> None:
    assert bandit(setting).chances(shown(earning([1.0] * 9, "abcabcabc"), ["b"])).tolist() == [1.0]


def test_a_bandit_and_the_random_selector_draw_apart() -> None:
    random = [build_selector("random").choose(View(ABC, stage=i)) for i in range(60)]
    assert [bandit("exp3s").choose(View(ABC, stage=i)) for i in range(60)] != random


@pytest.mark.parametrize("setting", BANDITS)
def test_the_ledger_is_told_the_chances_and_the_newest_reward(setting: Any) -> None:
    one = bandit(setting)
    view = shown(earning([0, 0, 1.0, 2.0, 3.0, 4.0, 9.0, None], "abcabcab"))
    told = one.told(view)
    assert told["pi"] == dict(zip(ABC, one.chances(view).tolist(), strict=True))
    assert {name: told["reward"][name] for name in ("stage", "value", "scaled")} == {
        "stage": 6,
        "value": 9.0,
        "scaled": 1.0,
    }
    assert one.told(View(ABC)) == {"pi": dict(zip(ABC, one.chances(View(ABC)).tolist(), strict=True)), "reward": None}


@pytest.mark.parametrize("name", ["round_robin", "random", "fixed", "matched"])
def test_others_have_no_chances(name: str) -> None:
    assert build_selector(name).chances(View(ABC)) is None


@pytest.mark.parametrize("name", ["exp3s", "ucb", "teacher"])
@pytest.mark.parametrize("reward", ["probes", "own", "norm"])
def test_a_bandit_needs_what_its_reward_is_made_of(name: str, reward: RewardKind) -> None:
    assert bandit(name, reward).needs == {reward}


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"name": "exp3s", "reward": "loss"}, r"`reward` must be one of probes, own, norm, got 'loss'"),
        ({"name": "exp3s", "eta": 0}, r"`eta` must be a number in \(0, 10\], got 0"),
        ({"name": "exp3s", "epsilon": 0}, r"`epsilon` must be a number in \(0, 1\], got 0"),
        ({"name": "exp3s", "beta": 2}, r"`beta` must be a number in \[0, 1\], got 2"),
        ({"name": "ucb", "gamma": 0}, r"`gamma` must be a number in \(0, 1\], got 0"),
        ({"name": "ucb", "c": -1}, r"`c` must be a number in \[0, 10\], got -1"),
        ({"name": "teacher", "lr": 0}, r"`lr` must be a number in \(0, 1\], got 0"),
        ({"name": "teacher", "abs": "yes"}, r"`abs` must be true or false, got 'yes'"),
        ({"name": "ucb", "gama": 1}, r"`selector: ucb` takes reward, gamma, c, got 'gama'\. Did you mean 'gamma'\?"),
        ({"name": "replayed"}, r"missing 1 required positional argument: 'choices'"),
        ({"name": "replayed", "choices": []}, r"`choices` must be a list of texts, got \[\]\. Write \[one, another\]"),
        ({"name": "replayed", "choices": "a"}, r"`choices` must be a list of texts, got 'a'"),
    ],
)
def test_a_wrong_option_is_told(setting: Any, complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        build_selector(setting)


# -- whether they learn ----------------------------------------------------------------------------------------------


def played(setting: Any, n: int, seed: int, *, gap: float, noise: float) -> float:
    """Part of `n` decisions in which the better of two arms was chosen, its reward `gap` higher on average."""
    rng, one, history = np.random.default_rng(seed), bandit(setting), History()
    stages: list[PastStage] = []
    for i in range(n):
        chosen = one.choose(shown(history, ("a", "b"), seed=seed, n_decisions=n))
        gain = (chosen == "b") * gap + noise * rng.normal()
        stages.append(PastStage(i, chosen, i + 1, offered=("a", "b"), lr_tokens=1.0, own_gain=gain))
        history = History(stages)
    return sum(stage.chosen == "b" for stage in stages) / n


@pytest.mark.parametrize(("setting", "least"), [("exp3s", 0.6), ("ucb", 0.8), ("teacher", 0.6)])
def test_a_gap_that_no_noise_hides_is_found(setting: Any, least: float) -> None:
    assert np.mean([played(setting, 60, seed, gap=1.0, noise=0.1) for seed in range(5)]) > least


@pytest.mark.parametrize("setting", ["exp3s", "ucb"])
def test_without_a_gap_neither_is_preferred(setting: Any) -> None:
    assert abs(np.mean([played(setting, 40, seed, gap=0.0, noise=1.0) for seed in range(20)]) - 0.5) < 0.15
