"""The evaluation of what data are worth: sets that are apart, recipes that the product takes, arithmetic by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from campus_tune.compare.search.settings import SearchSettings
from campus_tune.compare.settings import CompareSettings
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.types import Json
from eval import value
from eval.suspects import DOMAINS


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> value.Setting:
    """Files of a quick trial, without models."""
    for name in ("start", "small"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").touch()
    setting = value.Setting(tmp_path, 30, 2, True)
    monkeypatch.setattr(value, "MIX", tmp_path / "nowhere")
    value.write_files(setting, mix=False)
    return setting


def rows_of(setting: value.Setting, name: str) -> list[Json]:
    return [json.loads(line) for line in (setting.folder / f"{name}.jsonl").read_text().splitlines()]


def test_four_sets_share_no_prompt_and_each_has_all_domains(setting: value.Setting) -> None:
    sets = {name: rows_of(setting, name) for name in ("train", "probes", "search", "test")}
    sizes = {"train": 30, "probes": 32, "search": 32, "test": 40}
    for name, rows in sets.items():
        assert Counter(row["domain"] for row in rows) == dict.fromkeys(DOMAINS, sizes[name])
        assert all(set(row) == {"domain", "prompt", "completion"} for row in rows)  # nothing tells which are wrong
    asked = [row["prompt"][0]["content"] for rows in sets.values() for row in rows]
    assert len(set(asked)) == len(asked)


def test_a_tenth_of_the_rows_is_wrong_and_only_a_file_beside_them_knows_which(setting: value.Setting) -> None:
    wrong = np.array(json.loads((setting.folder / "wrong.json").read_text()))
    assert wrong.mean() == pytest.approx(0.1, abs=0.02)
    right = {row["prompt"][0]["content"]: row["completion"] for row in value.task_rows(194, value.TRAIN_SEED)}
    for row, is_wrong in zip(rows_of(setting, "train"), wrong, strict=True):
        assert (row["completion"] != right[row["prompt"][0]["content"]]) == is_wrong


def test_what_is_there_is_not_drawn_again(setting: value.Setting) -> None:
    before = (setting.folder / "train.jsonl").read_bytes()
    value.write_files(value.Setting(setting.folder, 5), mix=False)
    assert (setting.folder / "train.jsonl").read_bytes() == before


@pytest.mark.parametrize("part", [*value.PARTS])
def test_every_part_writes_recipes_that_are_right(
    part: str, setting: value.Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    (setting.folder / "proxy").mkdir()
    (setting.folder / "proxy" / "verdict.json").write_text('{"proxy": {}}')
    monkeypatch.setattr(value, "command", lambda _, part, *words: asked.append((part, *words)))
    value.PARTS[part][0](setting)
    assert asked
    assert {words[0] for words in asked} == {part}
    for words in asked:
        recipe = yaml.safe_load(Path(words[words.index("--config") + 1]).read_text())
        CampusConfig.from_mapping(recipe["campus"])
        if "compare" in recipe:
            CompareSettings.from_mapping(recipe["compare"])
        if "search" in recipe:
            space = SearchSettings.from_mapping(recipe["search"]).space
            assert set(space) == {"mix", "handover", "pacing.start"}
            for mix in space["mix"]:
                CampusConfig.from_mapping({**recipe["campus"], "mix": mix})
        assert recipe["lr_scheduler_type"] == "constant_with_warmup"  # halving takes no other


def test_two_matrices_agree_by_hand() -> None:
    rho, signs = value.agreement_of_matrices([[1.0, -2.0], [3.0, 4.0]], [[0.1, 0.2], [0.3, 0.4]])
    assert (round(rho, 6), signs) == (0.8, 0.75)


def test_rows_without_enough_of_a_domain_give_what_there_is() -> None:
    row = {"domain": "a", "completion": []}
    rows = [{**row, "prompt": [{"content": str(i % 5)}]} for i in range(9)]
    parts = value.cut_apart(rows, {"test": 2, "train": 100})
    assert [len(part) for part in parts.values()] == [2, 3]  # each prompt once, the held-out first


@pytest.mark.slow
def test_a_quick_trial_of_values_goes_through(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert value.main(["run", "--keep", str(tmp_path), "--quick", "--parts", "value"]) == 0
    assert value.main(["table", str(tmp_path), "--parts", "value"]) == 0
    assert "Split-half reliability: all " in capsys.readouterr().out
