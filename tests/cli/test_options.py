"""Values of options, and that a command reads its YAML once."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

import pytest

from campus_tune.cli.main import main
from campus_tune.cli.options import count, count_or_auto, names, number, seconds
from campus_tune.words import strict_yaml


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "1" * 10, "9" * 50])
def test_a_count_is_a_whole_number_from_one(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=f"must be a whole number from 1 to 999999999, got '{text[:40]}'$"):
        count(text)


def test_a_batch_size_may_be_left_to_the_machine() -> None:
    assert (count_or_auto("auto"), count_or_auto("16")) == ("auto", 16)


def test_names_stand_apart_or_with_commas() -> None:
    assert names(["a,b", "c", ",d,"]) == ["a", "b", "c", "d"]


def test_a_number_is_within_its_range() -> None:
    assert (number(int, 1)("1"), number(float, 0, 2)("2")) == (1, 2.0)
    with pytest.raises(ArgumentTypeError, match="must be at least 1, got 0"):
        number(int, 1)("0")
    with pytest.raises(ArgumentTypeError, match="must be above 0, got 0"):
        number(float, 0)("0")
    with pytest.raises(ArgumentTypeError, match=f"must be at most 2, got {'9' * 40}$"):
        number(int, 1, 2)("9" * 50)


def test_seconds_are_those_of_a_day() -> None:
    assert seconds("0.5") == 0.5
    with pytest.raises(ArgumentTypeError, match="must be seconds, got 'run'; DIR stands before it"):
        seconds("run")
    with pytest.raises(ArgumentTypeError, match="must be above 0 and at most 86400, got nan"):
        seconds("nan")


@pytest.mark.parametrize("words", [["simulate", "--rows", "100", "--config"], ["check"]])
def test_a_recipe_is_read_once(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("campus: {metrics: [length]}\nper_device_train_batch_size: 4\nnum_train_epochs: 1\n")
    real, read = strict_yaml._text_of, list[Any]()
    monkeypatch.setattr(strict_yaml, "_text_of", lambda path: read.append(path) or real(path))
    main([*words, str(recipe)])
    capsys.readouterr()
    assert len(read) == 1


def test_a_recipe_without_its_block_is_named_by_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("learning_rate: 0.1\n")
    assert main(["simulate", "--config", str(recipe)]) == 2
    assert f"`campus` must be a block in {recipe}, got none" in capsys.readouterr().err
