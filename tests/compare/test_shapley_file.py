"""What `shapley.json` says, in numbers and in words, what it refuses, and what its page shows of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from campus_tune.cli.value_of_groups import domains_table, values_table
from campus_tune.compare.group_trainings import GroupTrainings
from campus_tune.compare.shapley_file import FILE, begin_file, end_file, read_shapley
from campus_tune.data.held_out import HeldOut, read_held_out
from campus_tune.method.shapley import CoalitionDesign
from campus_tune.report.shapley_page import heat, shapley_page
from campus_tune.report.write import write_report
from campus_tune.words.errors import DataError, RecipeError
from campus_tune.words.types import FloatArray, Json
from tests.compare.planted import DOMAINS, Planted, groups_of, value_plan
from tests.compare.tiny_compare import tiny_recipe

Game = Callable[[int, int], FloatArray]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def held(recipe: Path) -> HeldOut:
    return read_held_out([recipe.parent / "test.jsonl"])


def game(*worth: tuple[float, float], noise: float = 0.001) -> Game:
    """Groups that add the same everywhere, each in the two test domains."""
    each = np.array(worth)

    def value(coalition: int, seed: int) -> FloatArray:
        members = [group for group in range(len(each)) if coalition >> group & 1]
        return np.asarray(each[members].sum(0) + noise * np.random.default_rng([seed, coalition]).normal(size=2))

    return value


def value(
    recipe: Path,
    held: HeldOut,
    out: Path,
    of: Game,
    n: int,
    seeds: tuple[int, ...] = (0, 1, 2),
    trainings: int | None = None,
    *,
    other_model: bool = False,
    words: tuple[str, ...] = (),
) -> Json:
    plan = value_plan(recipe, "--out", str(out), *words)
    made = GroupTrainings(plan, groups_of(n), CoalitionDesign(n, seeds, trainings), [].append)
    about = begin_file(made, held, command="campus-tune value", other_model=other_model)
    return end_file(about, made.train(Planted(plan, n, of)), made)


CLEAR = game((0.5, 0.0), (0.1, 0.2), (-0.2, -0.2))


def test_the_file_says_who_helps_whom(recipe: Path, held: HeldOut, tmp_path: Path) -> None:
    about = value(recipe, held, tmp_path, CLEAR, 3)
    assert read_shapley(tmp_path / FILE) == json.loads(json.dumps(about)) == about
    found = about["found"]
    assert (found["exact"], found["trainings"], found["sequences"]) == (True, 21, 0)
    assert list(found["losses"]) == list(DOMAINS)
    for name, one, two in (("a", 0.5, 0.0), ("b", 0.1, 0.2), ("c", -0.2, -0.2)):
        assert found["values"][name]["domains"]["one"]["value"] == pytest.approx(one, abs=0.01)
        assert found["values"][name]["domains"]["two"]["value"] == pytest.approx(two, abs=0.01)
        assert found["values"][name]["value"] == pytest.approx(0.4 * one + 0.6 * two, abs=0.01)  # by tokens
    gained = found["loss"]["before"] - found["loss"]["after"]
    assert sum(one["value"] for one in found["values"].values()) == pytest.approx(gained)
    assert found["loss"]["before"] == 2.0


def test_it_says_in_words_who_helps_and_who_harms(recipe: Path, held: HeldOut, tmp_path: Path) -> None:
    said = value(recipe, held, tmp_path, CLEAR, 3)["found"]["sentences"]
    assert re.match(r"Training on all groups lowers the test loss by 0\.1\d+ nats per token \(2\.0000 → 1\.8", said[0])
    assert said[1:] == ["a, b lower it beyond chance.", "c raises it beyond chance."]


def test_what_may_be_chance_is_said_to_be(recipe: Path, held: HeldOut, tmp_path: Path) -> None:
    said = value(recipe, held, tmp_path, game((0.5, 0.5), (0.0, 0.0), (0.0, 0.0)), 3)["found"]["sentences"]
    assert said[1] == "a lowers it beyond chance."
    assert said[2] == "Whether b, c help or harm is not said: it may be chance. Give --seeds 6."
    many = value(recipe, held, tmp_path / "many", game(*[(0.0, 0.0)] * 8, noise=0.05), 8)["found"]["sentences"]
    assert any(sentence.startswith("Whether 8 of the groups help or harm") for sentence in many)
    drawn = value(recipe, held, tmp_path / "drawn", game(*[(0.3, 0.3)] * 4, *[(0.0, 0.0)] * 4, noise=0.05), 8)
    assert drawn["found"]["sentences"][-1].endswith(("Give more --trainings.", "Give --seeds 6."))
    one = value(recipe, held, tmp_path / "one", CLEAR, 3, (0,))
    assert one["found"]["sentences"][1:] == ["One seed: how much of this is luck is not known. Give more: --seeds 3"]
    assert one["found"]["values"]["a"]["low"] is None
    alone = value(recipe, held, tmp_path / "alone", game(*[(0.1, 0.1)] * 8), 8, (0, 1, 2), 10)
    assert alone["found"]["sentences"][1:] == [
        "One sequence: how much of this is luck is not known. Give more --trainings."
    ]


def test_a_training_that_makes_it_worse_is_called_so(recipe: Path, held: HeldOut, tmp_path: Path) -> None:
    about = value(recipe, held, tmp_path, game((-0.1, -0.1), (0.02, 0.02)), 2)
    assert about["found"]["sentences"][0].startswith("Training on all groups raises the test loss by 0.0")
    assert [line.split()[3] for line in values_table(about).splitlines()[1:]] == ["-", "-"]  # shares of what?


def test_another_model_is_said_to_be_one(recipe: Path, held: HeldOut, tmp_path: Path) -> None:
    about = value(recipe, held, tmp_path, CLEAR, 3, other_model=True)
    assert about["found"]["sentences"][-1] == (
        f"This is what they are worth to {recipe.parent / 'model'}; the recipe's own model was not trained, and may "
        "value them otherwise."
    )


def test_the_console_has_the_same_numbers(recipe: Path, held: HeldOut, tmp_path: Path) -> None:
    about = value(recipe, held, tmp_path, CLEAR, 3)
    head, *lines = values_table(about).splitlines()
    assert head.split() == ["group", "rows", "worth", "share", "±", "seeds", "interval"]
    assert [line.split()[0] for line in lines] == ["a", "b", "c"]  # the most first
    found = about["found"]["values"]["c"]
    assert f"{found['value']:+.4f}".replace("-", "−") in lines[2]
    assert f"{found['by_seed']:.4f}" in lines[2]
    assert f"{found['low']:+.4f} to {found['high']:+.4f}".replace("-", "−") in lines[2]
    cells = domains_table(about).splitlines()
    assert cells[1].split() == ["group", *DOMAINS]
    assert [cell.endswith("*") for cell in cells[2].split()[1:]] == [True, False]


def test_drawn_sequences_have_an_error_of_their_own(recipe: Path, held: HeldOut, tmp_path: Path) -> None:
    about = value(recipe, held, tmp_path, game(*[(0.1 * i, 0.1) for i in range(8)], noise=0.01), 8, trainings=40)
    assert not about["found"]["exact"]
    assert about["found"]["sequences"] > 2
    assert "± sequences" in values_table(about).splitlines()[0]


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "words", "told"),
    [
        (2, (), r"groups: .* there and .* now"),
        (3, ("--learning_rate", "0.5"), r'flags: \[\] there and \["--learning_rate", "0.5"\] now'),
        (3, ("--shuffle",), r"campus: "),
    ],
)
def test_a_folder_of_other_groups_or_settings_is_refused(
    recipe: Path, held: HeldOut, tmp_path: Path, n: int, words: tuple[str, ...], told: str
) -> None:
    value(recipe, held, tmp_path, CLEAR, 3)
    with pytest.raises(RecipeError, match=rf"`--out` must be a new folder or that of the same groups.*{told}"):
        value(recipe, held, tmp_path, CLEAR, n, words=words)
    value(recipe, held, tmp_path / "another", CLEAR, n, words=words)  # the advice
    value(recipe, held, tmp_path, CLEAR, 3, (0, 1, 2, 3))  # more seeds may be asked for


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"format": 1, "groups": 3}')
    with pytest.raises(DataError, match=r"must say what groups are worth, got another shape: `groups` must be a map"):
        read_shapley(tmp_path / FILE)
    with pytest.raises(DataError, match=r"must say what groups are worth.*Delete it: finished trainings are kept"):
        write_report(tmp_path)


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_shows_the_values_and_who_helps_whom(recipe: Path, held: HeldOut, tmp_path: Path) -> None:
    about = value(recipe, held, tmp_path, CLEAR, 3, other_model=True)
    page = write_report(tmp_path)
    assert page == tmp_path / "report.html"
    text = page.read_text("utf-8")
    for sentence in about["found"]["sentences"]:
        assert sentence[:60].replace("'", "&#39;") in text
    assert sorted(path.stem for path in (tmp_path / "plots").glob("*.png")) == ["transfer", "worth"]
    content, pictures, finished = shapley_page(tmp_path)
    assert finished
    worth = next(one for one in pictures if one.name == "worth")
    found = about["found"]["values"]["a"]
    assert f"a {found['value']:+.4f} ({found['low']:+.4f} to {found['high']:+.4f})" in worth.alt
    assert content["tables"][0].head[:5] == ["group", "rows", "worth", "share", "± of seeds"]
    assert [row[0].text for row in content["tables"][0].rows] == ["a", "b", "c", "all groups"]
    assert [row[2].kind for row in content["tables"][0].rows] == ["good", "good", "bad", ""]
    matrix = heat(about)
    assert (matrix.rows, matrix.columns) == (("a", "b", "c"), DOMAINS)
    assert matrix.clear.tolist() == [[True, False], [True, True], [True, True]]


def test_without_intervals_nothing_is_hatched(recipe: Path, held: HeldOut, tmp_path: Path) -> None:
    about = value(recipe, held, tmp_path, CLEAR, 3, (0,))
    assert heat(about).low is None
    assert "Worth of each group" in write_report(tmp_path).read_text("utf-8")


def test_a_page_of_what_goes_on_says_how_far_it_is(recipe: Path, held: HeldOut, tmp_path: Path) -> None:
    plan = value_plan(recipe, "--out", str(tmp_path))
    made = GroupTrainings(plan, groups_of(3), CoalitionDesign(3, (0,)), [].append)
    begin_file(made, held, command="campus-tune value", other_model=False)
    Planted(plan, 3, CLEAR).make(made.task(3, 0))
    _, _, finished = shapley_page(tmp_path)
    assert not finished
    assert "1 training is done. There are no values yet." in write_report(tmp_path).read_text("utf-8")
