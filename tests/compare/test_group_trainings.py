"""Which sets of groups are trained, on which rows and how long, what is kept, and what their results are worth."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from campus_tune.compare.arms import Arm
from campus_tune.compare.group_trainings import GroupTrainings
from campus_tune.compare.row_groups import RowGroups
from campus_tune.data.subset import Subset
from campus_tune.method.shapley import CoalitionDesign, exact
from campus_tune.words.errors import CampusError, DataError, DivergedError, RecipeError
from campus_tune.words.types import FloatArray
from tests.compare.planted import DOMAINS, START, TOKENS, Planted, coalition_of, groups_of, value_plan
from tests.compare.tiny_compare import tiny_recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_recipe(tmp_path_factory.mktemp("recipe"))


def gains(coalition: int, seed: int) -> FloatArray:
    """More groups add less; seeds differ a little, the same with each call."""
    n = coalition.bit_count()
    chance = np.random.default_rng([seed, coalition]).normal(size=2) * 0.01
    return np.asarray(np.sqrt(n) * np.array([0.3, 0.1]) + (coalition & 1) * np.array([0.2, 0.0]) + chance)


def begin(
    recipe: Path, out: Path, n: int, seeds: tuple[int, ...] = (0, 1), trainings: int | None = None
) -> tuple[GroupTrainings, Planted, list[str]]:
    plan = value_plan(recipe, "--out", str(out))
    said: list[str] = []
    made = GroupTrainings(plan, groups_of(n), CoalitionDesign(n, seeds, trainings), said.append)
    return made, Planted(plan, n, gains), said


def test_every_set_is_trained_and_its_loss_is_shared_out(recipe: Path, tmp_path: Path) -> None:
    trainings, bench, said = begin(recipe, tmp_path, 3)
    found = trainings.train(bench).shapley()
    assert len(bench.made) == len(set(bench.made)) == 14
    assert trainings.domains == list(DOMAINS)
    games = []
    for seed in (0, 1):
        of = np.array([np.zeros(2), *(gains(coalition, seed) for coalition in range(1, 8))])  # (8, 2)
        every = (of[:, 0] * TOKENS[0] + of[:, 1] * TOKENS[1:].sum()) / TOKENS.sum()
        games.append(exact(np.column_stack([every, of])))
    assert found.values == pytest.approx(np.mean(games, axis=0))
    assert said[0] == "training 1 of 14: all groups, seed 0: loss " + said[0].partition("loss ")[2]
    assert any(line.startswith("training 14 of 14: ") and not line.endswith("left") for line in said)
    assert "left" in said[0]


def test_a_set_is_trained_on_its_own_rows(recipe: Path, tmp_path: Path) -> None:
    trainings, bench, _ = begin(recipe, tmp_path, 3, (0,))
    trainings.train(bench)
    of = {task.name: task for task in bench.tasks}
    assert of["all"].only is None
    assert of["groups-0-2"].only == Subset(without=("b",), column="domain")
    assert {task.max_steps for task in bench.tasks} == {None}  # epochs: fewer rows have fewer steps by themselves


def test_steps_that_the_recipe_names_are_those_of_all_rows(recipe: Path, tmp_path: Path) -> None:
    plan = value_plan(recipe, "--out", str(tmp_path), "--max_steps", "30")
    trainings = GroupTrainings(plan, groups_of(3), CoalitionDesign(3, (0,)), [].append)
    steps = [trainings.task(coalition, 0).max_steps for coalition in range(1, 8)]
    assert steps == [5, 10, 15, 15, 20, 25, 30]  # of 10, 20 and 30 rows


def test_no_name_commands_the_terminal(recipe: Path, tmp_path: Path) -> None:
    plan, said = value_plan(recipe, "--out", str(tmp_path)), list[str]()
    groups = RowGroups.of_domains({"a\x1b[31m": 10, "b": 20}, "domain")
    GroupTrainings(plan, groups, CoalitionDesign(2, (0,)), said.append).train(Planted(plan, 2, gains))
    assert not any("\x1b" in line for line in said)
    assert any("a\\x1b[31m, seed 0" in line for line in said)


def test_more_groups_are_drawn_within_what_is_paid_for(recipe: Path, tmp_path: Path) -> None:
    trainings, bench, said = begin(recipe, tmp_path, 8, (0, 1, 2), 30)
    walk = trainings.train(bench)
    assert not walk.exact
    assert len(bench.made) <= 30
    assert "training 1 of at most 30: all groups, seed 0" in said[0]
    assert trainings.n_runs == 30


def with_shares(recipe: Path, shares: dict[str, float]) -> Path:
    content = yaml.safe_load(recipe.read_text("utf-8"))
    content["campus"] |= {"domains": {"shares": shares}}
    path = recipe.parent / "shares.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_shares_of_domains_are_those_of_the_ones_that_are_there(recipe: Path, tmp_path: Path) -> None:
    plan = value_plan(with_shares(recipe, {"a": 0.5, "b": 0.3, "c": 0.2}), "--out", str(tmp_path))
    trainings = GroupTrainings(plan, groups_of(3), CoalitionDesign(3, (0,)), [].append)
    arm = trainings.task(0b110, 0).arm
    assert isinstance(arm, Arm)
    assert arm.campus["domains"]["shares"] == pytest.approx({"b": 0.6, "c": 0.4})


def test_a_domain_without_a_share_cannot_be_trained_alone(recipe: Path, tmp_path: Path) -> None:
    recipe = with_shares(recipe, {"a": 0.5, "b": 0.5, "c": 0.0})
    with pytest.raises(RecipeError, match=r"`--groups` must have a recipe that can be trained on c alone.*--shuffle"):
        begin(recipe, tmp_path, 3)
    plan = value_plan(recipe, "--out", str(tmp_path), "--shuffle")  # the advice
    GroupTrainings(plan, groups_of(3), CoalitionDesign(3, (0,)), [].append)


def test_what_it_will_cost_is_said_before(recipe: Path, tmp_path: Path) -> None:
    trainings, _, _ = begin(recipe, tmp_path, 3)
    assert trainings.cost() == (
        "3 groups, 2 seeds, every set of them: 14 trainings, together about as long as 8 on all rows"
    )
    trainings, _, _ = begin(recipe, tmp_path, 8, (0,), 31)
    assert trainings.cost() == (
        "8 groups, 1 seed, about 4 drawn sequences of them: at most 31 trainings, together about as long as 16 on all "
        "rows"
    )


def test_finished_trainings_are_kept_and_the_rest_is_made(recipe: Path, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    first, bench, _ = begin(recipe, tmp_path, 7, (0, 1), 40)
    whole = Planted(first.plan, 7, gains)
    calls = iter(range(99))

    def stop() -> None:
        if next(calls) == 9:
            raise KilledError

    first.trainings.check = stop
    with pytest.raises(KilledError):
        first.train(bench)
    n = len(bench.made)
    assert 0 < n < 10
    again, second, said = begin(recipe, tmp_path, 7, (0, 1), 40)
    walk = again.train(second)
    assert not set(bench.made) & set(second.made)
    assert said[0] == f"{n} trainings are there already and are kept"
    other, _, _ = begin(recipe, tmp_path / "other", 7, (0, 1), 40)
    whole.plan = other.plan
    assert (other.train(whole).shapley().values == walk.shapley().values).all()
    assert bench.made + second.made == whole.made


def test_more_seeds_are_added_to_what_is_there(recipe: Path, tmp_path: Path) -> None:
    first, bench, _ = begin(recipe, tmp_path, 3, (0,))
    first.train(bench)
    more, second, _ = begin(recipe, tmp_path, 3, (0, 1))
    more.train(second)
    assert {seed for _, seed in second.made} == {1}
    assert len(more.outcomes) == 14


def test_a_result_of_other_rows_is_refused(recipe: Path, tmp_path: Path) -> None:
    first, bench, _ = begin(recipe, tmp_path, 2, (0,))
    first.train(bench)
    others = RowGroups.of_domains({"a": 10, "c": 20}, "domain")
    trainings = GroupTrainings(first.plan, others, CoalitionDesign(2, (0,)), [].append)
    with pytest.raises(RecipeError, match=r"must be a run of the rows and steps that are asked for"):
        trainings.train(bench)


def test_a_set_that_diverges_has_no_worth(recipe: Path, tmp_path: Path) -> None:
    trainings, bench, _ = begin(recipe, tmp_path, 3)
    bench.diverges = "groups-0-2"
    with pytest.raises(DivergedError, match=r"got none of a \+ c with seed 0: its training diverged \(NaN at step 3\)"):
        trainings.train(bench)
    again, bench, _ = begin(recipe, tmp_path / "another", 3)  # the advice
    again.train(bench)


def test_an_error_names_the_set_and_keeps_the_others(recipe: Path, tmp_path: Path) -> None:
    trainings, bench, _ = begin(recipe, tmp_path, 3)

    def broken(coalition: int, seed: int) -> FloatArray:
        if coalition == 5:
            raise DataError("`rows` must be there, got none. Add some.")
        return gains(coalition, seed)

    bench.gains = broken
    with pytest.raises(CampusError, match=r"`groups-0-2`, seed 0, cannot be trained: `rows` must be there"):
        trainings.train(bench)
    again, bench, _ = begin(recipe, tmp_path, 3)
    again.train(bench)
    assert again.n_kept > 2


# -- groups ------------------------------------------------------------------------------------------------------------


def test_thirds_are_cut_inside_of_domains() -> None:
    difficulty = np.array([1.0, 5, 2, 6, 3, 7, 30, 10, 20])
    codes = np.array([0, 1, 0, 1, 0, 1, 2, 2, 2])
    groups = RowGroups.thirds(difficulty, codes, ["code", "math", "to do"], column="source", by="length")
    assert groups.names == tuple(f"{d} {t}" for d in ("code", "math", "to do") for t in ("easy", "middle", "hard"))
    assert groups.rows is not None
    assert groups.rows[groups.names.index("math hard")] == (5,)
    assert groups.rows[groups.names.index("to do easy")] == (7,)
    assert sorted(row for rows in groups.rows for row in rows) == list(range(9))
    assert groups.sizes == (1,) * 9
    assert groups.subset(0b11).rows == (0, 2)  # type: ignore[union-attr]  # some are left out
    assert groups.subset(groups.all) is None
    assert groups.without(0b11) == ("math", "to do")
    assert groups.to_mapping()["by"] == "length"
    assert groups.to_mapping() == json.loads(json.dumps(groups.to_mapping()))


def test_rows_of_one_difficulty_make_one_group() -> None:
    groups = RowGroups.thirds(np.ones(6), np.zeros(6, dtype=np.int64), ["a"], column="domain", by="length")
    assert groups.sizes == (6,)


def test_a_group_that_fills_no_step_is_refused() -> None:
    groups = RowGroups.of_domains({"code": 7, "math": 80, "prose": 3}, "domain")
    groups.refuse_small(3)
    message = "each group must have the 8 rows of one optimizer step, for it is trained alone too, got code 7, prose 3."
    with pytest.raises(DataError, match=re.escape(message)):
        groups.refuse_small(8)


def test_folders_and_sets_name_each_other() -> None:
    groups = groups_of(11)
    for coalition in (1, 2, 0b110, 1 << 10, groups.all - 1, groups.all):
        assert coalition_of(groups.folder(coalition), 11) == coalition
    assert groups.named(0b110) == "b + c"
    assert groups.rows_of(0b110) == 50


def test_the_start_is_the_models_own_loss(recipe: Path, tmp_path: Path) -> None:
    trainings, bench, _ = begin(recipe, tmp_path, 2, (0,))
    trainings.train(bench)
    assert trainings.known[0, 0].tolist() == [-START] * 3


def test_a_plan_looks_at_nothing_but_the_test_rows(recipe: Path, tmp_path: Path) -> None:
    plan = value_plan(recipe, "--out", str(tmp_path))
    assert (plan.block, plan.settings.points, plan.settings.sharpness) == ({}, 1, False)
    assert plan.arms[0].campus["stages"] == 3
    assert value_plan(recipe, "--shuffle").arms[0].campus["selector"] == "shuffle"
    assert value_plan(recipe).out == recipe.parent / "comparison" / "value"
    assert replace(plan, out=tmp_path) == plan
    assert "value" not in value_plan(recipe, "--campus.value", "true").arms[0].campus
