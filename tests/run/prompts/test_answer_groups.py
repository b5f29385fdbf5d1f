"""What the groups of a stage have shown: worked by hand, kept in a checkpoint, and read back from its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.domains import Domains
from campus_tune.method.pass_rates import PassRates
from campus_tune.run.answer_groups import (
    FOLDER,
    StageGroups,
    all_equal,
    band_of,
    file_of_stage,
    pass_rate,
    read_groups,
)
from campus_tune.run.prompt_map import PromptMap
from campus_tune.words.errors import ResumeError
from campus_tune.words.types import FloatArray, Json

NAN = float("nan")
DOMAINS = Domains.of(["easy", "hard", "easy", "hard"])
FIRST = np.array([[1.0, 1.0], [0.0, 1.0], [NAN, NAN]])  # of rows 0, 1, 3
LENGTH = np.array([[0.5, 0.1], [0.5, 0.3], [NAN, 0.2]])


def add(groups: StageGroups, generation: int = 0, weighted: FloatArray = FIRST) -> None:
    groups.add(
        np.array([0, 1, 3]),
        generation=generation,
        weighted=weighted,
        by_function={"right": weighted, "short": LENGTH},
        tokens=np.array([[3, 4], [5, 6], [0, 1]]),
        expected=np.array([0.9, 0.5, NAN]),
        contradicting=np.array([False, True, False]),
    )


@pytest.fixture
def groups() -> StageGroups:
    found = StageGroups(["right", "short"], DOMAINS, at=1.0)
    add(found)
    return found


def test_a_stages_record_is_what_one_counts_by_hand(groups: StageGroups) -> None:
    record = groups.record(shuffled=0.5)
    assert record["groups"] == {"n": 3, "without_gradient": pytest.approx(2 / 3), "shuffled": 0.5, "untried": 1}
    assert record["pass_rate"] == record["reward"] == 0.75
    assert record["rewards"]["right"] == {"mean": 0.75, "std": pytest.approx(np.std([1, 1, 0, 1]))}
    assert record["rewards"]["short"]["mean"] == pytest.approx(np.mean([0.5, 0.1, 0.5, 0.3, 0.2]))
    assert record["by_domain"] == {
        "easy": {"groups": 1, "pass_rate": 1.0, "without_gradient": 1.0},
        "hard": {"groups": 2, "pass_rate": 0.5, "without_gradient": 0.5},
    }
    assert [band["groups"] for band in record["by_band"]] == [0, 0, 1, 0, 1]  # the third was expected nothing of
    assert record["by_band"][0] == {"groups": 0, "pass_rate": None, "without_gradient": None}
    assert record["generated_tokens"] == 19


def test_a_run_adds_its_stages_up(groups: StageGroups) -> None:
    groups.close(None, 0, shuffled=0.5)
    assert groups.record(shuffled=0.5) == {}
    add(groups, 1, np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 0.0]]))
    assert groups.record(shuffled=0.2)["generated_tokens"] == 38
    groups.close(None, 1, shuffled=0.2)
    assert groups.totals() == {
        "groups": {"n": 6, "without_gradient": 0.5, "shuffled": pytest.approx(0.35), "untried": 1},
        "pass_rate": pytest.approx(5 / 10),
        "generated_tokens": 38,
    }


def test_where_nothing_tells_what_shuffling_would_do_its_share_is_ours(groups: StageGroups) -> None:
    groups.close(None, 0, shuffled=None)
    assert groups.totals()["groups"]["shuffled"] == pytest.approx(2 / 3)


def test_before_the_first_generation_there_is_nothing_to_tell() -> None:
    empty = StageGroups(["right"], Domains(), at=1.0)
    assert empty.record(shuffled=0.5) == empty.totals() == {}
    empty.close(None, 0, shuffled=0.5)
    assert empty.groups is None


def test_prompts_without_domains_have_none() -> None:
    alone = StageGroups(["right", "short"], Domains(), at=1.0)
    add(alone)
    assert alone.record(None)["by_domain"] == {}
    assert alone.record(None)["groups"]["shuffled"] is None


def test_the_trainer_may_know_better_which_groups_tell_apart() -> None:
    """Each function's rewards may differ while their sum does not: `multi_objective_aggregation` says which counts."""
    found = StageGroups(["right"], Domains(), at=1.0)
    same = np.array([[1.0, 1.0]])
    told = np.array([True])
    found.add(np.array([0]), generation=0, weighted=same, by_function={"right": same}, tokens=same, tells_apart=told)
    assert found.record(None)["groups"]["without_gradient"] == 0.0


def test_a_function_that_scored_nothing_has_no_mean() -> None:
    found = StageGroups(["right", "never"], Domains(), at=1.0)
    same = np.array([[1.0, 0.0]])
    nothing = np.full((1, 2), NAN)
    found.add(np.array([0]), generation=0, weighted=same, by_function={"right": same, "never": nothing}, tokens=same)
    assert found.record(None)["rewards"]["never"] == {"mean": None, "std": None}


@pytest.mark.parametrize("closed", [False, True])
def test_a_checkpoint_inside_of_a_stage_goes_on_with_the_same_record(groups: StageGroups, closed: bool) -> None:
    if closed:
        groups.close(None, 0, shuffled=0.25)
    other = StageGroups(["right", "short"], DOMAINS, at=1.0)
    other.load(groups.arrays())
    for each in (groups, other):
        add(each, 1)
    assert other.record(0.5) == groups.record(0.5)
    assert other.totals() == groups.totals()


def test_a_stages_file_has_its_groups(groups: StageGroups, tmp_path: Path) -> None:
    mine = groups.groups
    assert mine is not None
    groups.close(tmp_path, 7, shuffled=0.5)
    found = read_groups(tmp_path / FOLDER / file_of_stage(7))
    for name, values in vars(mine).items():
        np.testing.assert_array_equal(values, vars(found)[name])


def test_a_damaged_file_is_named(groups: StageGroups, tmp_path: Path) -> None:
    groups.close(tmp_path, 0, shuffled=0.5)
    path = tmp_path / FOLDER / file_of_stage(0)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ResumeError, match="stage-00000"):
        read_groups(path)


@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0, NAN]), min_size=3, max_size=3), min_size=1, max_size=6))
def test_groups_without_a_gradient_are_those_with_one_reward(rows: list[list[float]]) -> None:
    slow = [len({value for value in row if value == value}) <= 1 for row in rows]
    assert all_equal(np.array(rows)).tolist() == slow


def test_rounding_is_no_difference() -> None:
    assert all_equal(np.array([[0.1 + 0.2, 0.3]])).tolist() == [True]


def test_no_scored_answer_has_no_pass_rate() -> None:
    nothing: Json = pass_rate(np.full((2, 2), NAN), 1.0)  # type: ignore[assignment]
    assert nothing is None
    assert pass_rate(np.array([[0.4, 0.6], [NAN, 1.0]]), 0.5) == pytest.approx(2 / 3)


def test_a_reward_as_the_trainer_adds_it_up_passes_here_as_where_prompts_are_drawn() -> None:
    weighted = np.array([[0.7, 0.0], [0.7, 0.7]]).astype(np.float32).astype(np.float64)  # a little less than 0.7
    groups = StageGroups(["right"], DOMAINS, at=0.7)
    groups.add(
        np.array([0, 1]), generation=0, weighted=weighted, by_function={"right": weighted}, tokens=np.ones((2, 2))
    )
    rates = PassRates(4, group=2, at=0.7)
    rates.note(np.array([0, 1]), weighted, when=0)
    assert groups.groups is not None
    found = PromptMap.of([groups.groups], DOMAINS, n_rows=4, at=0.7)
    assert found.passes.tolist() == rates.passes.tolist() == [1, 2, 0, 0]
    assert groups.record(None)["pass_rate"] == 0.75
    groups.close(None, 0, None)
    assert groups.totals()["pass_rate"] == 0.75


@given(st.floats(0, 1))
def test_a_band_holds_the_rates_of_its_fifth(rate: float) -> None:
    band = int(band_of(np.array([rate]))[0])
    assert band / 5 - 1e-9 <= rate <= (band + 1) / 5 + 1e-9
