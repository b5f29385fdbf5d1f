"""What runs of situations say: the arithmetic against references, targets, the table, the file the package reads."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from campus_tune.compare.verdict import ArmResults, ItemValues, arm_of, from_difference, judge
from campus_tune.compare.verdict.bootstrap import crossed_spread
from campus_tune.evaluate.paired import holm
from eval.situations import evidence, gains, honest, judged, kept, page, table, targets, transfer
from eval.situations.__main__ import main
from eval.situations.arms import STAGES
from eval.situations.judged import ArmFound, Found, corrected_table, judge_arms
from eval.situations.targets import LOSS, MIDDLE, MISSED, NOT_ASKED, NOT_RUN, REACHED, SHARE, SPEED, WORST, Target
from tests.planted_runs import EFFECTS, ITEMS, keep, planted_result, planted_results
from tests.strategies import examples

FEW = 300


def a_situation(name: str = "wrong_30", *, use: str = "judge", base: str = "tasks", **results: Any) -> Found:
    """What planted runs say, not yet corrected."""
    given = planted_results(**results)
    arms = judge_arms(given, resamples=FEW)
    looks = {"share": 0.3, "epochs": 2.0, "domains": 2, "rows": 20, "wrong": 0.3}
    seeds = tuple(one["seed"] for one in given["random"])
    return Found(name, "planted", base, use, looks, 60, seeds, 2.0, arms)


@pytest.fixture(scope="module")
def dirty() -> Found:
    """30 % wrong answers."""
    return corrected_table([a_situation()])[0]


# -- shares of the oracle's gain ---------------------------------------------------------------------------------------


def of_seeds(values: Any, name: str = "arm") -> ArmResults:
    """An arm of which all items of a seed have the same loss."""
    per_seed = np.repeat(np.asarray(values, dtype=np.float64)[:, None], 40, axis=1)
    kind = "baseline" if name == "random" else "recipe"
    items = ItemValues(per_seed, np.ones(40), np.zeros(40, dtype=np.int64), ("all",))
    return ArmResults(name, kind, tuple(range(len(per_seed))), items)


def fieller(gain: Any, possible: Any) -> tuple[float, float]:
    """Fieller's interval of a ratio of means of paired numbers, by its quadratic."""
    n = len(gain)
    t = stats.t.ppf(0.975, n - 1)
    (v_gain, both), (_, v_possible) = np.cov(gain, possible) / n
    g, p = np.mean(gain), np.mean(possible)
    roots = np.roots([p**2 - t**2 * v_possible, -2 * (g * p - t**2 * both), g**2 - t**2 * v_gain])
    return float(min(roots)), float(max(roots))


@examples(10)
@given(st.integers(0, 10**6), st.sampled_from([3, 5, 8]))
def test_where_seeds_alone_vary_the_interval_is_fiellers(draw: int, n: int) -> None:
    rng = np.random.default_rng(draw)
    plain = 2 + 0.1 * rng.normal(size=n)
    ours, oracle = plain - 0.3 + 0.03 * rng.normal(size=n), plain - 0.5 + 0.03 * rng.normal(size=n)
    found = gains.share_of_gain(of_seeds(ours), of_seeds(plain, "random"), of_seeds(oracle), resamples=20_000)
    assert found.value == pytest.approx((plain - ours).mean() / (plain - oracle).mean())
    low, high = fieller(plain - ours, plain - oracle)
    assert found.low == pytest.approx(low, abs=0.03 * (high - low))
    assert found.high == pytest.approx(high, abs=0.03 * (high - low))


def test_an_end_of_the_interval_is_where_the_contrast_is_just_told_from_0() -> None:
    arms = {name: arm_of(results) for name, results in planted_results(noise=0.05).items()}
    found = gains.share_of_gain(arms["both"], arms["random"], arms["oracle"], resamples=2000)
    base, weights = arms["random"].end.values, arms["random"].end.weights
    assert found.low is not None
    assert found.high is not None
    for end in (found.low, found.high):  # the slow way: a bootstrap of this very contrast
        contrast = (base - arms["both"].end.values) - end * (base - arms["oracle"].end.values)
        ((spread,),) = crossed_spread(contrast[None], weights, [np.ones(60, dtype=bool)], resamples=2000)
        assert spread.p(float(contrast.sum()) / (8 * weights.sum())) == pytest.approx(0.05, abs=1e-6)


def test_the_spread_of_a_contrast_is_that_of_its_own_bootstrap() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 5, 30))
    weights, whole = np.ones(30), [np.ones(30, dtype=bool)]
    parts = [one for (one,) in crossed_spread(np.stack([x, y, x - y]), weights, whole, resamples=FEW)]
    for share in (-1.5, 0.0, 0.4, 3.0):
        ((alone,),) = crossed_spread((x - share * y)[None], weights, whole, resamples=FEW)
        mine = gains.spread_at(share, parts)
        assert (mine.seeds, mine.items, mine.cells) == pytest.approx((alone.seeds, alone.items, alone.cells))


def test_the_interval_holds_the_share_as_often_as_it_says() -> None:
    rng, held, n = np.random.default_rng(0), 0, 200
    for _ in range(n):
        plain = 2 + 0.1 * rng.normal(size=6)
        ours, oracle = plain - 0.24 + 0.05 * rng.normal(size=6), plain - 0.3 + 0.05 * rng.normal(size=6)
        found = gains.share_of_gain(of_seeds(ours), of_seeds(plain, "random"), of_seeds(oracle), resamples=200)
        low, high = found.low, found.high  # none: nothing is excluded
        held += (low is None or low <= 0.8) and (high is None or high >= 0.8)
    assert held / n > 0.91


def test_an_oracle_that_gains_nothing_gives_no_share() -> None:
    rng = np.random.default_rng(0)
    plain, ours, oracle = 2 + 0.1 * rng.normal(size=(3, 5))
    found = gains.share_of_gain(of_seeds(ours), of_seeds(plain, "random"), of_seeds(oracle))
    assert (found.low, found.high, found.refused) == (None, None, gains.NO_GAIN)
    worse = gains.share_of_gain(of_seeds(plain - 1), of_seeds(plain, "random"), of_seeds(plain + 1 + ours / 10))
    assert (worse.value, worse.refused) == (None, gains.NO_GAIN)
    one = gains.share_of_gain(of_seeds([1.0]), of_seeds([2.0], "random"), of_seeds([1.0]))
    assert (one.value, one.refused) == (None, gains.ONE_SEED)


def test_an_arm_that_never_acted_has_a_share_of_0() -> None:
    plain = 2 + 0.1 * np.random.default_rng(0).normal(size=5)
    found = gains.share_of_gain(
        of_seeds(plain), of_seeds(plain, "random"), of_seeds(plain * 0.8 + [0, 0.01, 0.02, 0, 0.01])
    )
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


# -- judged ------------------------------------------------------------------------------------------------------------


def test_an_arm_alone_is_judged_as_a_comparison_judges_it() -> None:
    given = planted_results({"random": 0.0, "both": -0.03}, noise=0.02)
    found = corrected_table([replace(a_situation(), arms=judge_arms(given, resamples=FEW))])[0].arms["both"]
    compared = judge([arm_of(results) for results in given.values()], resamples=FEW)
    theirs = compared.judgements["both"]
    assert (found.word, found.difference) == (theirs.verdict, theirs.difference)
    assert found.speed.charged.value == compared.speed["both"].charged.value
    assert found.domains == theirs.domains


def test_a_control_stands_against_its_recipe_as_a_comparison_has_it(dirty: Found) -> None:
    arms = [
        arm_of(results) for name, results in planted_results().items() if name in ("random", "both", "both_control")
    ]
    theirs = judge(arms, resamples=FEW).judgements["both"]
    assert dirty.arms["both"].contrasts == {"shuffled_weights": theirs.contrasts["both_control"]}
    assert "It also beats its weights dealt to other rows" in dirty.arms["both"].attribution
    assert dirty.arms["auto"].contrasts == {}


def test_holm_is_over_all_claims_of_the_situations_that_judge() -> None:
    weak = {"random": 0.0, "auto": -0.012, "both": -0.01, "both_control": 0.0, "oracle": -0.02}
    judging = [a_situation("a", effects=weak), a_situation("b", effects=weak, noise=0.012)]
    tuning = a_situation("c", use="tune", effects=weak)
    *found, tuned = corrected_table([*judging, tuning])
    raw = [arm.difference.p for one in judging for arm in one.claims()]
    assert len(raw) == 4  # no control, no oracle, nothing of the situation that tunes
    together = [arm.difference.p_adjusted for one in found for arm in one.claims()]
    assert together == holm(raw)
    for before, after in zip(judging, found, strict=True):
        for name in ("auto", "both"):
            p, (low, high) = after.arms[name].difference.p_adjusted, after.arms[name].interval
            assert (p <= 0.05) == (low > 0 or high < 0)
            assert after.arms[name].detectable > before.arms[name].detectable
        assert before.arms["oracle"].difference == after.arms["oracle"].difference
    assert [arm.difference for arm in tuning.arms.values()] == [arm.difference for arm in tuned.arms.values()]


def test_an_arm_is_judged_on_its_own_seeds_and_a_diverged_run_takes_the_word_away() -> None:
    given = planted_results({"random": 0.0, "auto": -0.1, "both": -0.1})
    given["auto"] = given["auto"][:3]
    given["both"][2] |= {"status": "diverged", "message": "the loss was NaN"}
    arms = judge_arms(given, resamples=FEW)
    assert arms["auto"].refused is None
    assert arms["auto"].seeds == (100, 101, 102)
    assert "both diverged with seed 102" in arms["both"].refused
    told = corrected_table([replace(a_situation(), arms=arms)])[0]
    assert [arm.name for arm in told.claims()] == ["auto"]
    assert told.arms["both"].word is None


def test_an_arm_that_never_acts_is_plain_shuffling_to_the_last_digit() -> None:
    given = planted_results({"random": 0.0, "both": -0.1})
    given["auto"] = [{**result, "arm": "auto", "kind": "recipe"} for result in given["random"]]
    found = corrected_table([replace(a_situation(), arms=judge_arms(given, resamples=FEW))])[0].arms["auto"]
    assert (found.effect, found.interval, found.word) == (0.0, (0.0, 0.0), "no detectable difference")


def test_with_how_many_seeds_an_arm_acted_is_what_its_ledgers_say() -> None:
    given = planted_results({"random": 0.0, "auto": 0.0, "both": -0.1}, seeds=range(3))
    for result, acts in zip(given["auto"], ([], ["robust"], []), strict=True):
        result["ledger"] = [{"event": "act", "acts": []}, {"event": "act", "acts": acts}, {"event": "end"}]
    arms = judge_arms(given, resamples=FEW)
    assert (arms["auto"].acted, arms["both"].acted) == (1, None)
    told = targets.outcome_of(Target("", ("clean_1",), LOSS, 1.5), "clean_1", arms["auto"])
    assert (told.word, told.why) == (REACHED, "it acted with 1 of 3 seeds")
    middle = targets.outcome_of(Target("", ("clean_1",), LOSS, 1.001 + arms["auto"].effect), "clean_1", arms["auto"])
    assert middle.word == MIDDLE
    assert middle.why.startswith("it acted with 1 of 3 seeds; ")


def test_what_was_measured_is_paid_for() -> None:
    given = planted_results({"random": 0.0, "both": -0.1}, noise=0.001)
    given["both"] = [planted_result("both", seed, -0.1, noise=0.001, cost=0.25) for seed in range(100, 108)]
    found = judge_arms(given, resamples=FEW)["both"]
    assert found.cost == pytest.approx(0.25)
    by_hand = []
    for mine, theirs in zip(given["both"], given["random"], strict=True):
        paid = np.interp(1000 / 1.25, mine["curve"]["tokens"], mine["curve"]["loss"])
        by_hand.append(paid / theirs["curve"]["loss"][-1] - 1)
    assert found.charged.value == pytest.approx(np.mean(by_hand))
    assert found.charged.relative == pytest.approx(np.mean(by_hand))
    assert found.charged.relative > found.effect
    free = judge_arms(planted_results({"random": 0.0, "both": -0.1}), resamples=FEW)["both"]
    assert (free.charged, free.cost) == (None, 0.0)


def test_the_worst_domain_is_the_highest_of_each_run() -> None:
    given = planted_results({"random": 0.0, "both": -0.1}, lag=0.5)
    found = judge_arms(given, resamples=FEW)["both"].worst
    ratios = []
    for mine, theirs in zip(given["both"], given["random"], strict=True):
        worst = []
        for one in (mine, theirs):
            loss, tokens, domain = (np.array(one["test"][key]) for key in ("loss", "tokens", "domain"))
            worst.append(max(loss[domain == d].sum() / tokens[domain == d].sum() for d in (0, 1)))
        ratios.append(worst[0] / worst[1] - 1)
    assert found.value == pytest.approx(np.mean(ratios))
    by_scipy = stats.ttest_1samp(ratios, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((by_scipy.low, by_scipy.high))


def test_a_situation_judged_by_its_worst_domain_has_its_word_about_it() -> None:
    given = planted_results({"random": 0.0, "both": -0.1, "both_control": 0.0}, lag=0.5)
    by_mean, by_worst = (judge_arms(given, judged_by=by, resamples=FEW)["both"] for by in ("mean", "worst_domain"))
    assert by_worst.difference == by_worst.worst == by_mean.worst
    assert by_worst.mean == by_mean.difference == by_mean.mean
    found = corrected_table([replace(a_situation(), arms={"both": by_worst})])[0].arms["both"]
    assert found.word == "helped"
    assert found.effect == pytest.approx(by_worst.worst.value)
    assert found.interval == pytest.approx((by_worst.worst.low, by_worst.worst.high))
    contrast = by_worst.contrasts["shuffled_weights"]
    turned = judge_arms(
        {"random": [{**one, "arm": "random", "kind": "baseline"} for one in given["both_control"]],
         "both": given["both"]}, resamples=FEW,
    )["both"].worst  # fmt: skip
    assert (contrast.value, contrast.low) == pytest.approx((turned.value, turned.low))


# -- targets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measure", "bound", "value", "low", "high", "why", "word"),
    [
        (SHARE, 0.7, 0.9, 0.75, 1.0, "", REACHED),
        (SHARE, 0.7, 0.9, 0.6, 1.2, "", MIDDLE),
        (SHARE, 0.7, 0.9, None, None, "", MIDDLE),
        (SHARE, 0.7, 0.6, 0.5, 0.9, "", MISSED),
        (SHARE, 0.5, 0.6, None, None, gains.NO_GAIN, NOT_ASKED),
        (SHARE, None, 0.6, 0.5, 0.7, "", ""),
        (LOSS, 0.95, 0.9, 0.85, 0.94, "", REACHED),
        (LOSS, 0.95, 0.94, 0.9, 0.96, "", MIDDLE),
        (LOSS, 1.01, 1.02, 0.99, 1.05, "", MISSED),
        (SPEED, 0.5, math.inf, 0.4, math.inf, "3 of 8 seeds there", MISSED),
        (SPEED, 0.5, 0.4, 0.3, 0.45, "", REACHED),
        (WORST, 0.95, 0.9, 0.85, 0.94, "", REACHED),
        (WORST, 0.95, 0.9, 0.85, 0.94, "the mean is +3.0%", MISSED),
        (LOSS, 0.95, None, None, None, "diverged", NOT_RUN),
    ],
)
def test_the_word_of_a_target(
    measure: str, bound: float | None, value: float | None, low: float | None, high: float | None, why: str, word: str
) -> None:
    assert targets.word_of(Target("", (), measure, bound), value, low, high, why) == word


def test_targets_are_told_one_by_one(dirty: Found) -> None:
    told = targets.outcomes([dirty])
    shares = [one for one in told if one.situation == "wrong_30" and one.measure == SHARE]
    assert [one.arm for one in shares] == ["auto", "both"]  # what acts by default first
    assert shares[0].value == pytest.approx(0.8, abs=0.05)
    assert [one.word for one in shares] == [REACHED, REACHED]
    sooner = [one for one in told if one.measure == SPEED]
    assert sooner[0].low <= sooner[0].value <= sooner[0].high
    assert {one.word for one in told if one.situation == "wrong_15"} == {NOT_RUN}
    assert [one.arm for one in targets.in_short(shares)] == ["auto", "both"]
    assert json.dumps([one.to_mapping() for one in told], allow_nan=False)
    every = {situation for target in targets.TARGETS for situation in target.situations}
    assert every == {one.situation for one in told}


def test_the_speed_of_a_seed_that_never_arrived_is_the_slowest(dirty: Found) -> None:
    arm = dirty.arms["auto"]
    reached = {100: 0.4, 101: None, 102: 0.5, 103: 0.6, 104: 0.7, 105: 0.8}
    speed = replace(arm.speed, reached=reached)
    value, why = targets.MEASURES[SPEED](replace(arm, speed=speed))
    assert value == (pytest.approx(0.65), 0.4, math.inf)
    assert why == "5 of 6 seeds there"
    assert table.reached_cell(replace(arm, speed=speed)) == "0.65, 5 of 6"
    fewer = replace(arm, speed=replace(arm.speed, reached={seed: reached[seed] for seed in (100, 102, 103, 104, 105)}))
    assert targets.MEASURES[SPEED](fewer) == ((0.6, None, None), "")  # the five hold the median in 94 % of all cases


def test_a_clean_situation_asks_only_what_acts_by_default() -> None:
    clean = corrected_table([a_situation("clean_1", effects={"random": 0.0, "auto": 0.001, "both": 0.2})])
    told = [one for one in targets.outcomes(clean) if one.situation == "clean_1"]
    assert [(one.arm, one.word) for one in told] == [("auto", told[0].word)]
    assert told[0].word in (REACHED, MIDDLE)
    assert told[0].value == pytest.approx(1.0, abs=0.02)


# -- transfer ----------------------------------------------------------------------------------------------------------


@examples(20)
@given(st.integers(0, 10**6))
def test_tau_is_scipys(draw: int) -> None:
    a, b = np.random.default_rng(draw).integers(4, size=(2, 3, 6)).astype(float)
    theirs = [stats.kendalltau(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(transfer.kendall(a, b), theirs)


def test_bases_that_rank_alike_agree_and_the_reverse_does_not() -> None:
    tiny = a_situation()
    alike = a_situation("smol_wrong_30", base="smol", seeds=range(3), effects={**EFFECTS, "auto": -0.1})
    reverse = {"random": 0.0, "auto": 0.2, "both": 0.3, "oracle": -0.1}
    (agreed,) = transfer.transfers([alike, tiny], draws=200)
    assert agreed.situations == ("wrong_30", "smol_wrong_30")
    assert agreed.arms == ("random", "auto", "both")  # no control, no oracle
    assert (agreed.value, agreed.seeds) == (1.0, (8, 3))
    assert agreed.low <= agreed.value <= agreed.high
    (other,) = transfer.transfers([tiny, a_situation("smol_wrong_30", base="smol", effects=reverse)], draws=200)
    assert other.value == -1.0
    assert transfer.transfers([tiny, a_situation("smol_wrong_15", base="smol")]) == []


def test_the_interval_of_tau_is_as_wide_as_the_seeds_differ() -> None:
    effects = {"random": 0.0, "a": -0.01, "b": -0.02, "c": -0.03}
    one = a_situation(effects=effects, noise=0.001)
    sure, unsure = (
        transfer.agreement(one, a_situation("smol_wrong_30", base="smol", effects=effects, noise=noise), draws=400)
        for noise in (0.001, 0.2)
    )
    assert sure.high - sure.low < unsure.high - unsure.low


def test_means_that_are_drawn_vary_as_means_of_seeds_do() -> None:
    effects = np.random.default_rng(0).normal(size=(2, 4))
    drawn = transfer.means_drawn(effects, 40_000, np.random.default_rng(1))
    np.testing.assert_allclose(drawn.var(0), effects.var(1, ddof=1) / 4, rtol=0.05)


# -- files -------------------------------------------------------------------------------------------------------------


def test_the_table_of_a_folder(tmp_path: Path) -> None:
    keep(tmp_path, "wrong_30", planted_results())
    keep(tmp_path, "wrong_15", planted_results({"random": 0.0}))  # nothing to compare
    (found,) = kept.found_in(tmp_path, resamples=FEW)
    assert (found.name, found.use, found.looks["rows"], found.looks["domains"]) == ("wrong_30", "judge", 20, 2)
    lines = list(table.lines_of([found]))
    (short,) = [line for line in lines if line.startswith("| wrong_30 | 8 ")]
    assert "**−15" in short or "**−16" in short
    assert any(line.startswith("| 30 % wrong answers: 0.7 of") and "reached" in line for line in lines)
    assert {line.count("|") for line in lines if line.startswith(("| arm", "| both |", "| oracle |"))} == {14}
    again = kept.found_in(tmp_path, resamples=FEW)
    assert list(table.lines_of(again)) == lines


def test_runs_of_other_seeds_are_left_alone(tmp_path: Path) -> None:
    keep(tmp_path, "wrong_30", planted_results(seeds=range(98, 108)))
    (found,) = kept.found_in(tmp_path, resamples=FEW)
    assert found.seeds == tuple(range(100, 108))


def test_the_evidence_is_what_the_package_reads(dirty: Found, tmp_path: Path) -> None:
    from campus_tune.preview.evidence import as_table, read_evidence, whole_table

    tuned = replace(dirty, name="tune_wrong_20", use="tune")
    path = evidence.write_evidence([dirty, tuned], {"tasks": "a tiny model", "smol": "another"}, tmp_path / "e.json")
    read = read_evidence(path)
    assert [row.name for row in read.rows] == ["wrong_30"]
    assert (read.rows[0].kind, read.rows[0].helps, list(read.bases)) == ("wrong", "both", ["tasks"])
    assert set(read.rows[0].arms) == {"auto", "both"}
    assert read.rows[0].arms["both"].effect == pytest.approx(dirty.arms["both"].effect, abs=1e-5)
    assert "| `wrong_30` |" in whole_table(read)
    assert read.rows[0].arms["both"].mean is None
    lagging = evidence.evidence_of([replace(dirty, judged_by="worst_domain")], {"tasks": "a tiny model"})
    told = lagging["situations"][0]["arms"]["both"]
    assert told["mean"] == pytest.approx(dirty.arms["both"].mean.relative, abs=1e-5)
    assert " seeds), the mean " in whole_table(as_table(lagging))


def test_evidence_is_of_blocks_that_somebody_could_write(dirty: Found) -> None:
    both = replace(dirty.arms["both"], campus={"selector": "shuffle", "stages": STAGES})
    other = replace(dirty.arms["both"], campus={"peer": "dataflex_loss"})
    row = evidence.evidence_of([replace(dirty, arms={"both": both, "dataflex_loss": other})], {"tasks": "tiny"})
    assert list(row["situations"][0]["arms"]) == ["both"]
    assert row["situations"][0]["arms"]["both"]["campus"] == {"selector": "shuffle"}


def test_an_arm_that_does_not_beat_its_control_is_not_what_helps(dirty: Found) -> None:
    alike = a_situation(effects={**EFFECTS, "both_control": -0.18})
    (found,) = corrected_table([alike])
    assert found.arms["both"].word == "helped"
    assert evidence.helps(found) == "auto"
    assert evidence.helps(dirty) == "both"
    none = replace(found, arms={name: arm for name, arm in found.arms.items() if name != "auto"})
    assert evidence.helps(none) is None


def test_a_situation_without_a_known_kind_says_so(dirty: Found) -> None:
    with pytest.raises(ValueError, match="must begin with one of clean, wrong, "):
        evidence.kind_of(replace(dirty, name="strange"))
    assert evidence.kind_of(replace(dirty, name="smol_wrong_30", base="smol")) == "wrong"


def test_every_situation_of_the_files_has_a_kind() -> None:
    from eval.situations.situation import names, read_situation

    for name in names():
        situation = read_situation(name)
        if situation.use == "judge":
            found = Found(name, "", situation.base, "judge", {}, 0, (), 0.0, {})
            assert evidence.kind_of(found) in evidence.KINDS.values()


def an_arm(**more: Any) -> ArmFound:
    return ArmFound("auto", "recipe", (0, 1), None, **more)


def test_cells_without_numbers_are_dashes() -> None:
    bare = an_arm(refused="it diverged")
    assert table.effect_cell(bare) == table.reached_cell(bare) == table.ratio_cell(bare) == table.DASH
    assert table.share_of_oracle(bare) == table.controls_cell(bare) == table.effect_cell(None) == table.DASH
    assert judged.ORACLES[0] in table.FIRST


def test_the_commands_tell_what_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path / "runs", "wrong_30", planted_results())
    few = ["--resamples", str(FEW)]
    assert main(["table", str(tmp_path / "runs"), *few]) == 0
    assert "| wrong_30 | 8 |" in capsys.readouterr().out
    for name in ("page", "evidence"):
        assert main([name, str(tmp_path / "runs"), *few, "--out", str(tmp_path / name)]) == 0
        assert (tmp_path / name).is_file()
    with pytest.raises(SystemExit, match="must be of all situations, for its words are corrected for all of them"):
        main(["evidence", str(tmp_path / "runs"), *few, "--situations", "wrong_30"])
    with pytest.raises(SystemExit, match="must hold runs of plain shuffling and of another arm, got none"):
        main(["table", str(tmp_path / "nothing")])


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_shows_every_arm_and_needs_no_network(dirty: Found) -> None:
    tuned = replace(dirty, name="tune_wrong_20", use="tune")
    smol = replace(dirty, name="smol_wrong_30", base="smol")
    html = page.page_of([dirty, smol, tuned])
    assert html == page.page_of([dirty, smol, tuned])
    assert 'id="forest-tasks"' in html
    assert 'id="forest-smol"' in html
    assert "<h2>Situations that tuned</h2>" in html
    assert "Does a small model tell what a larger one does?" in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "https://" not in html
    assert "acts by itself where rows look wrong (auto): helped in 2 of 2 situations, hurt in 0." in html
    (body,) = re.findall(r"<h3 id=\"wrong_30\">.*?</table>", html, re.DOTALL)
    assert all(f">{name}<" in body for name in dirty.arms)


def test_the_forest_has_each_effect_and_its_interval(dirty: Found) -> None:
    (drawn,) = page.pictures([dirty], {})
    assert f"wrong_30: auto {table.share_cell(dirty.arms['auto'].effect)} %" in drawn.alt
    assert page.interval_of(dirty.arms["auto"]) == (dirty.arms["auto"].effect, *dirty.arms["auto"].interval)
    assert page.interval_of(an_arm()) is page.interval_of(None) is None
    assert page.pictures([replace(dirty, arms={})], {}) == []


def test_an_arm_without_a_word_is_a_warning(dirty: Found) -> None:
    refused = replace(dirty, arms={"auto": an_arm(refused="auto diverged with seed 3")})
    assert page.warnings([refused]) == ["`wrong_30`: no word on `auto`: auto diverged with seed 3."]
    assert "auto diverged with seed 3" in page.page_of([refused])


def test_the_cheapest_base_and_the_cleanest_rows_come_first(tmp_path: Path) -> None:
    for name in ("wrong_30", "wrong_5", "clean_1"):
        keep(tmp_path, name, planted_results({"random": 0.0, "auto": -0.1}, seeds=range(100, 103)))
    assert [one.name for one in kept.found_in(tmp_path, resamples=FEW)] == ["clean_1", "wrong_5", "wrong_30"]


def test_a_situation_judged_by_its_worst_domain_shows_all_of_them(dirty: Found) -> None:
    found = replace(dirty, judged_by="worst_domain")
    lines = list(table.lines_of([found]))
    assert "| arm | lists | text |" in lines
    assert any(line.startswith("| wrong_30, worst domain | ") for line in lines)
    assert "wrong_30, worst domain: " in page.pictures([found], page.BASES)[0].alt
    assert f"| auto | {table.difference_cell(dirty.arms['auto'].domains['lists'])} |" in "\n".join(lines)
    assert "wrong_30: by domain" in page.page_of([found])
    assert "by domain;" not in page.page_of([dirty])
    assert len(page.domains_table(found).rows) == 2 * len(found.arms)


def test_the_interval_of_an_aim_stands_alone() -> None:
    found = corrected_table([a_situation("clean_1", effects={"random": 0.0, "auto": 0.0, "a": 0.1, "b": 0.1})])
    arm = found[0].arms["auto"]
    (value, low, high), _ = targets.MEASURES[LOSS](arm)
    compared = judge([arm_of(results) for results in planted_results({"random": 0.0, "auto": 0.0}).values()],
                     resamples=FEW).judgements["auto"].difference  # fmt: skip
    alone = (compared.relative, compared.share(compared.low), compared.share(compared.high))
    assert (value, low, high) == pytest.approx(tuple(1 + one for one in alone))
    assert arm.difference.p_adjusted >= compared.p


def test_how_many_seeds_it_takes_is_what_a_plan_says() -> None:
    noisy = corrected_table([a_situation("clean_1", effects={"random": 0.0, "auto": 0.0}, noise=0.03)])[0].arms["auto"]
    needed = targets.seeds_needed(noisy, 0.01)
    assert needed is not None
    assert needed > 8
    assert from_difference(noisy.mean, seeds=needed, effect=0.01).enough
    assert not from_difference(noisy.mean, seeds=needed - 1, effect=0.01).enough
    target = Target("", ("clean_1",), LOSS, 1.01)
    middle = targets.outcome_of(target, "clean_1", noisy)
    assert middle.word == MISSED or middle.why == f"{needed} seeds would find 1.0 %"
    assert targets.seeds_needed(an_arm(), 0.01) is None


def test_what_one_seed_has_tried_stands_apart_with_its_control(dirty: Found) -> None:
    given = planted_results({"random": 0.0, "auto": -0.1, "campus": 0.3, "review": -0.05}, seeds=(0, 1))
    control = planted_result("campus.random_same_pacing", 0, 0.01, kind="control")
    given = {
        **given,
        "campus": given["campus"][:1],
        "review": given["review"][:1],
        "campus.random_same_pacing": [control],
    }
    given["campus"][0]["tokens"] = 900
    found = corrected_table([replace(dirty, use="tune", arms=judge_arms(given, resamples=FEW))])[0]
    tried = [(arm.name, controls) for arm, controls in table.once_tried(found)]
    assert tried == [("review", []), ("campus", ["campus.random_same_pacing"])]  # the best first
    lines = list(table.once(found))
    assert lines[-1].startswith("| campus | +30.") or lines[-1].startswith("| campus | +29.")
    assert "| campus.random_same_pacing | +1." in lines[-1] or "| campus.random_same_pacing | +0." in lines[-1]
    assert lines[-1].endswith("| 0.90 | – |")
    assert not any(line.startswith("| campus ") for line in table.every_arm(found))
    assert [row[0].text for row in page.once_table(found).rows] == ["review", "campus"]
    assert page.once_table(dirty) is None
    assert "tried with one seed" in page.page_of([found])


# -- honest ------------------------------------------------------------------------------------------------------------


def test_simulated_tables_claim_little_and_shares_hold_the_truth(capsys: pytest.CaptureFixture[str]) -> None:
    noise = honest.NOISES[1]
    assert honest.tables(noise, 3, resamples=100).claimed <= 1
    found = honest.shares(noise, 25, resamples=100)
    assert found.asked > 18
    assert found.held / found.asked > 0.85
    honest.main(["--times", "1"])
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(honest.NOISES)


@pytest.mark.parametrize(
    ("effect", "share", "word"),
    [(-0.2, 0.8, "helped"), (0.2, 0.8, None), (-0.2, 0.6, None), (-0.2, 1.2, None), (-0.2, 0.97, "helped")],
)
def test_who_trained_fewer_tokens_may_have_helped_and_nothing_else(
    effect: float, share: float, word: str | None
) -> None:
    base = [planted_result("random", seed, 0.0) for seed in range(4)]
    arm = [{**planted_result("equal", seed, effect), "tokens": round(1000 * share)} for seed in range(4)]
    arms = judge_arms({"random": base, "equal": arm}, resamples=200)
    [found] = corrected_table([Found("odd", "", "tasks", "judge", {}, ITEMS, (0, 1, 2, 3), 2.0, arms)])
    one = found.arms["equal"]
    assert one.word == word
    assert word is not None or "tokens" in (one.refused or "")
