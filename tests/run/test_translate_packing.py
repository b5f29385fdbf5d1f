"""`packing: true` under a curriculum: the equivalent is named wherever it is refused, and is what it says it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from trl import SFTTrainer

from campus_tune.cli import sft
from campus_tune.cli.main import main as campus_tune
from campus_tune.demo.tiny import tiny_model, write_tiny
from campus_tune.model.packed_rows import translated, unpacked
from campus_tune.preview.check import check
from campus_tune.recipe.packing import FLAG
from campus_tune.run.ledger import read_ledger
from campus_tune.words.errors import RecipeError, TrainerError
from campus_tune.words.types import Json
from tests.libraries import CHECKPOINTING
from tests.run.tiny_run import dataset, sft_config, task_rows, tiny_trainer, tokenizer

PACKED: Json = {"packing": True, "max_length": 256, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2}
ROWS = list(task_rows(200))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """A YAML's settings that pack, and what they name."""
    folder = tmp_path_factory.mktemp("packed")
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return {
        **PACKED,
        "model_name_or_path": str(write_tiny(folder / "model")),
        "dataset_name": str(folder / "train.jsonl"),
        "max_steps": 2,
        "bf16": False,
        "use_cpu": True,
        CHECKPOINTING: False,
        "report_to": "none",
        "save_strategy": "no",
        "campus": {"selector": "shuffle", "stages": 2},
    }


def words(folder: Path, settings: Json) -> list[str]:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    return ["--config", str(path), "--output_dir", str(folder / "out")]


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A terminal whose person answers so; what was asked is kept."""
    asked: list[str] = []

    def answer(word: str) -> list[str]:
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", lambda text: (asked.append(text), word)[1])
        return asked

    return answer


def test_the_equivalent_trains_as_many_tokens_in_a_step_as_trls_packed_rows(tmp_path: Path, recipe: Json) -> None:
    packed = SFTTrainer(
        tiny_model(), args=sft_config(tmp_path, **PACKED), train_dataset=dataset(ROWS), processing_class=tokenizer()
    )
    lengths = [sum(parts) for parts in packed.train_dataset["seq_lengths"]]
    found = translated(recipe, ROWS)
    assert found is not None
    assert found.packed_tokens == pytest.approx(2 * sum(lengths) / len(lengths), rel=0.01)
    assert found.micro * found.accumulation * found.row_tokens == pytest.approx(found.packed_tokens, rel=0.06)


def test_many_rows_are_counted_by_some_of_them(recipe: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = translated(recipe, ROWS)
    monkeypatch.setattr("campus_tune.model.packed_rows.ENOUGH", 100)
    some = [translated(recipe, rows) for rows in (ROWS, dataset(ROWS))]
    assert some[0] == some[1] != whole
    assert whole is not None
    assert some[0] is not None
    assert some[0].row_tokens == pytest.approx(whole.row_tokens, rel=0.1)


def test_without_a_tokenizer_or_a_length_nothing_is_counted(recipe: Json) -> None:
    assert translated({**recipe, "model_name_or_path": None}, ROWS) is None
    assert translated({**recipe, "max_length": None}, ROWS) is None


def test_a_trainer_that_has_packed_its_rows_is_told_what_they_come_to(tmp_path: Path, recipe: Json) -> None:
    with pytest.raises(TrainerError, match=r"`packing` must be off .* Here: packing: false, ") as refused:
        tiny_trainer(tmp_path, train=ROWS, config={"selector": "shuffle"}, **PACKED)
    assert str(translated(recipe, ROWS)).partition(", where")[0] in str(refused.value)
    with pytest.raises(TrainerError, match=r"`packing` must be off .* takes it\.$"):  # rows without their own lengths
        tiny_trainer(tmp_path, train=ROWS, config={"selector": "shuffle"}, packing_strategy="wrapped", **PACKED)


def test_sft_says_what_to_write_and_a_recipe_that_says_so_trains(tmp_path: Path, recipe: Json) -> None:
    with pytest.raises(RecipeError, match=rf"`packing` must be off .* Write that, or add {FLAG}\.$"):
        sft.main(words(tmp_path, recipe))
    found = translated(recipe, ROWS)
    assert found is not None
    assert sft.main(words(tmp_path, unpacked(recipe, found))) == 0
    run = read_ledger(tmp_path / "out" / "curriculum" / "ledger.jsonl")[0]
    assert (run["batch"]["micro"], run["batch"]["accumulation"]) == (found.micro, found.accumulation)
    assert run["past"]["campus: batching"] == "flat"


def test_the_flag_trains_it(tmp_path: Path, recipe: Json, capsys: pytest.CaptureFixture[str]) -> None:
    assert campus_tune(["sft", *words(tmp_path, recipe), FLAG, "--gradient_accumulation_steps=4"]) == 0
    found = translated({**recipe, "gradient_accumulation_steps": 4}, ROWS)
    assert f"campus: packing, translated: {found}. Write that into the recipe" in capsys.readouterr().out
    first, *_, last = read_ledger(tmp_path / "out" / "curriculum" / "ledger.jsonl")
    assert found is not None
    assert (first["batch"]["micro"], first["batch"]["accumulation"]) == (found.micro, found.accumulation)
    assert last["padding"]["share"] == 0
    assert last["audit"] == {"checked": 2, "passed": 2, "labels": True}


def test_a_word_about_batching_stays(tmp_path: Path, recipe: Json) -> None:
    block = {**recipe["campus"], "batching": "step"}
    sft.main([*words(tmp_path, {**recipe, "campus": block}), FLAG])
    assert read_ledger(tmp_path / "out" / "curriculum" / "ledger.jsonl")[0]["past"]["campus: batching"] == "step"


def test_without_a_curriculum_the_flag_changes_nothing(tmp_path: Path, recipe: Json) -> None:
    plain = {name: value for name, value in recipe.items() if name != "campus"}
    assert sft.main([*words(tmp_path, plain), FLAG]) == 0
    assert not (tmp_path / "out" / "curriculum").exists()


@pytest.mark.parametrize("word", ["y", "Yes "])
def test_a_person_at_a_terminal_is_asked(tmp_path: Path, recipe: Json, answered: Any, word: str) -> None:
    asked = answered(word)
    assert sft.main(words(tmp_path, recipe)) == 0
    assert asked == ["Train that? [y/N] "]


def test_a_person_who_says_no_is_told(tmp_path: Path, recipe: Json, answered: Any) -> None:
    answered("")
    with pytest.raises(RecipeError, match=f"Write that, or add {FLAG}"):
        sft.main(words(tmp_path, recipe))


def test_one_process_of_many_asks_nobody(
    tmp_path: Path, recipe: Json, answered: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answered("y")
    monkeypatch.setattr("campus_tune.cli.sft.is_launched", lambda: True)
    with pytest.raises(RecipeError, match=f"Write that, or add {FLAG}"):
        sft.main(words(tmp_path, recipe))
    assert asked == []


def test_rows_that_cannot_be_counted_are_refused_with_what_would_help(tmp_path: Path, recipe: Json) -> None:
    with pytest.raises(RecipeError, match="name a model with a tokenizer, and a max_length"):
        sft.main([*words(tmp_path, {**recipe, "model_name_or_path": str(tmp_path / "none")}), FLAG])


def test_other_problems_come_with_it(tmp_path: Path, recipe: Json) -> None:
    wrong = {**recipe, "learning_rat": 1.0}
    for flags, told in (([], 2), ([FLAG], 1)):
        with pytest.raises(RecipeError) as refused:
            sft.main([*words(tmp_path, wrong), *flags])
        assert len(refused.value.problems) == told


def test_check_says_it_and_looks_at_the_run_that_would_be_trained_instead(tmp_path: Path, recipe: Json) -> None:
    words(tmp_path, recipe)
    findings = check(tmp_path / "recipe.yaml")
    packing, *others = findings
    assert packing.severity == "error"
    assert packing.remedy == f"Here: {translated(recipe, ROWS)}."
    assert any("200 rows; lengths are counted in tokens" in finding.what for finding in others)
    words(tmp_path, {**recipe, "model_name_or_path": None})
    packing, *others = check(tmp_path / "recipe.yaml")
    assert packing.remedy == ""
    assert others
