"""A new setting is one line: it is read, told in `--help`, and part of the schema; the README's table is compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest

from campus_tune.cli.compare import EXAMPLE, MORE
from campus_tune.cli.main import main
from campus_tune.compare.settings import CompareSettings
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.reader import CheckedSettings, SettingRow, rows, settings_help
from campus_tune.words.errors import RecipeError
from campus_tune.words.leaves import Range


@dataclass(frozen=True)
class Cup(CheckedSettings):
    """A cup.

    Args:
        size: of it.
    """

    block = "cup"

    size: Annotated[int, Range(1, 3)] = 2


@dataclass(frozen=True)
class Table(CheckedSettings):
    """A table.

    Args:
        wood: it is made of.
        cup: on it.
        legs: below it; None is four.
    """

    block = "table"
    write = "Write table: {wood: oak}."

    wood: str
    cup: Cup | None = None
    legs: Annotated[int | None, Range(3)] = None

    def clashes(self, wrong: set[str]) -> list[str]:
        return ["`wood` must carry a cup of 3."] if not wrong and self.cup == Cup(3) else []


def test_one_line_is_read_told_and_drawn_up_for_editors() -> None:
    assert Table.from_mapping({"wood": "oak", "cup": {"size": 1}}) == Table("oak", Cup(1))
    assert Table("oak", {"size": 1}).to_mapping() == {"wood": "oak", "cup": {"size": 1}, "legs": None}  # type: ignore[arg-type]  # as YAML has it
    assert list(rows(Cup)) == [SettingRow("size", "2", "a whole number of at least 1 and at most 3", "of it.")]
    assert settings_help(Table, "--table.").splitlines()[-2:] == [
        "  --table.legs",
        "      below it; null is four (a whole number of at least 3; default null)",
    ]
    schema = Table.schema()
    assert (schema["required"], schema["additionalProperties"]) == (["wood"], False)
    assert schema["properties"]["legs"]["minimum"] == 3
    assert schema["properties"]["cup"]["description"] == "on it."


def test_everything_wrong_is_told_at_once_inner_settings_too() -> None:
    with pytest.raises(RecipeError) as caught:
        Table.from_mapping({"cup": {"size": 4, "sise": 1}, "legs": 2, "leg": 3})
    assert caught.value.problems == [
        "`table` takes wood, cup, legs, got 'leg'. Did you mean 'legs'? Correct or remove it.",
        "`table: wood` must be a text, got None. Write a name.",
        "`cup` takes size, got 'sise'. Did you mean 'size'? Correct or remove it.",
        "`cup: size` must be a whole number of at least 1 and at most 3, got 4. Lower it.",
        "`table: legs` must be a whole number of at least 3, got 2. Raise it.",
    ]


def test_what_does_not_go_together_is_looked_at_where_each_is_right() -> None:
    with pytest.raises(RecipeError, match="`wood` must carry a cup of 3"):
        Table("oak", Cup(3))
    with pytest.raises(RecipeError, match=r"^`table: legs` must be .* got 0. Raise it.$"):
        Table("oak", Cup(3), 0)
    with pytest.raises(RecipeError, match=r"^`table` must be a mapping, got 'oak'. Write table: {wood: oak}.$"):
        Table.from_mapping("oak")


@pytest.mark.filterwarnings("ignore::FutureWarning")  # what trl and transformers say to each other
def test_the_help_of_sft_lists_every_setting_before_trls_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sft", "--help-all"])
    said = capsys.readouterr().out
    places = [said.index(f"--campus.{name}\n") for name in CampusConfig.known()]
    assert places == sorted(places)
    assert places[-1] < said.index("--model_name_or_path")


def test_the_help_of_compare_names_every_setting() -> None:
    assert [name for name in CompareSettings.known() if name not in EXAMPLE + MORE] == []
