"""What a YAML and a command's words say, before anything is made of it."""

from pathlib import Path

import pytest
import yaml

from campus_tune.compare.reading import make_plan, read_written
from campus_tune.compare.settings import CompareSettings
from campus_tune.words.errors import RecipeError
from tests.compare.tiny_compare import plan_of, tiny_recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_recipe(tmp_path_factory.mktemp("recipe"), compare={"jobs": 1})


def test_what_compare_reads_is_there_for_every_command(recipe: Path, tmp_path: Path) -> None:
    plan = plan_of(recipe, "--out", str(tmp_path), "--compare.points", "7", "--learning_rate", "0.5", "--seeds", "3")
    written = read_written(str(recipe), ["--compare.points=7", "--learning_rate", "0.5"], command="ablate")
    settings = CompareSettings.from_mapping(written.compared({"seeds": [3], "test": None}))
    assert make_plan(written, plan.arms, settings, tmp_path) == plan
    assert settings.points == 7
    assert settings.seeds == (0, 1, 2)


def test_a_command_has_its_own_block_and_flags_for_it(recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(recipe.read_text()), "search": {"trials": 3}}))
    written = read_written(str(path), ["--search.space", "{mix: [0, 0.5]}"], blocks=["compare", "search"])
    assert written.blocks["search"] == {"trials": 3, "space": {"mix": [0, 0.5]}}
    assert "search" not in written.training
    assert written.flags == ()


def test_the_empty_block_is_compared_as_the_recipe_that_it_is_and_none_is_asked_for(
    recipe: Path, tmp_path: Path
) -> None:
    settings = yaml.safe_load(recipe.read_text())
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**settings, "campus": {}}))
    assert read_written(str(path), []).block == {}
    path.write_text(yaml.safe_dump({name: value for name, value in settings.items() if name != "campus"}))
    with pytest.raises(RecipeError, match=r"`campus` must be a block in .*recipe\.yaml, got none\. Add `campus:`"):
        read_written(str(path), [])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--compare.points"], r"`--compare.points` must be followed by a value, got nothing. Write --compare.points"),
        (["--seed", "3"], "`--seed` belongs to a single run, got it for a comparison. Write --seeds"),
        (["--output_dir", "x"], "`--output_dir` belongs to a single run, got it for a comparison. Write --out"),
    ],
)
def test_words_that_cannot_be_meant_are_refused(recipe: Path, words: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_written(str(recipe), words)


def test_a_launcher_is_sent_away_by_the_commands_name(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(RecipeError, match="`campus-tune ablate` must be started once, got several processes"):
        read_written(str(recipe), [], command="ablate")
