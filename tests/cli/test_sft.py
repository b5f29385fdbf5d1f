"""`campus-tune sft`, from a YAML to a model folder."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from campus_tune.cli import sft
from campus_tune.cli.main import main as campus_tune
from campus_tune.recipe.trl_yaml import parse_trl
from campus_tune.run.ledger import comparable, read_ledger
from campus_tune.run.make_trainer import Shared, make_shared_trainer, make_trainer
from campus_tune.words.errors import DataError, RecipeError
from tests.libraries import CHECKPOINTING
from tests.run.tiny_run import task_rows


@pytest.fixture(autouse=True)
def _no_report(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than these runs do; the test of the report asks for it."""
    if "report" not in request.node.name:
        monkeypatch.setattr("campus_tune.report.callback.report_on", lambda _: None)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A tiny model, rows and probes on disk, and a YAML's settings that train them."""
    from campus_tune.demo.tiny import write_tiny

    folder = tmp_path_factory.mktemp("sft")
    for name, rows in (("train", task_rows(40)), ("probes", task_rows(25, seed=77))):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "model_name_or_path": str(write_tiny(folder / "model")),
        "dataset_name": str(folder / "train.jsonl"),
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": 4,
        "max_steps": 6,
        "bf16": False,
        "use_cpu": True,
        CHECKPOINTING: False,
        "report_to": "none",
        "logging_steps": 1,
        "save_strategy": "no",
        "use_peft": True,
        "lora_r": 2,
        "campus": {
            "metrics": ["length", "compression"],
            "stages": 5,
            "budget": 1.0,
            "probes": {"path": str(folder / "probes.jsonl")},
        },
    }


def write(folder: Path, settings: dict[str, Any]) -> list[str]:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    return ["--config", str(path)]


@pytest.mark.parametrize("shared", [False, True], ids=["sft", "compare"])
def test_what_libraries_raise_at_a_model_is_a_sentence(tiny: dict[str, Any], tmp_path: Path, *, shared: bool) -> None:
    shutil.copytree(tiny["model_name_or_path"], tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"cut off")
    asked = {name: value for name, value in tiny.items() if name != "campus"}
    parsed, _ = parse_trl({**asked, "model_name_or_path": str(tmp_path / "model")}, [])
    make = partial(make_shared_trainer, shared=Shared()) if shared else make_trainer
    with pytest.raises(DataError, match=r"must be ones that TRL can make a trainer of, got: .*header too small"):
        make(*parsed, callbacks=[])


def test_a_yaml_trains_and_leaves_a_model_and_a_ledger(
    tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert campus_tune(["sft", *write(tmp_path, tiny), "--output_dir", str(out), "--campus.stages=2"]) == 0
    assert (out / "adapter_model.safetensors").exists()
    events = read_ledger(out / "curriculum" / "ledger.jsonl")
    assert events[0]["future"]["campus: stages"] == 2
    assert events[-1]["step"] == 6
    assert "order audit: all 6 steps trained the planned rows, tokens and labels" in capsys.readouterr().out
    assert yaml.safe_load((out / "curriculum" / "recipe.yaml").read_text())["campus"]["selector"] == "matched"


def test_a_model_card_tells_of_the_curriculum(tiny: dict[str, Any], tmp_path: Path) -> None:
    settings = {**tiny, "output_dir": str(tmp_path / "out"), "save_strategy": "steps", "save_steps": 3}
    sft.main(write(tmp_path, settings))
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.count("## Curriculum") == 1
    assert "- length" in card
    assert "all 6 steps trained the planned rows, tokens and labels" in card


def test_the_same_recipe_and_seed_give_the_same_run(tiny: dict[str, Any], tmp_path: Path) -> None:
    ledgers = []
    for name in ("a", "b"):
        sft.main([*write(tmp_path, tiny), "--output_dir", str(tmp_path / name)])
        ledgers.append(comparable(read_ledger(tmp_path / name / "curriculum" / "ledger.jsonl")))
    assert ledgers[0] == ledgers[1]


def test_without_the_block_it_trains_as_trl_would(tiny: dict[str, Any], tmp_path: Path) -> None:
    settings = {key: value for key, value in tiny.items() if key != "campus"} | {"output_dir": str(tmp_path / "out")}
    sft.main(write(tmp_path, settings))
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()
    assert not (tmp_path / "out" / "curriculum").exists()


def test_all_problems_of_yaml_block_and_flags_come_at_once(
    tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**tiny, "learning_rte": 1.0, "campus": {"metrics": ["lenght"], "mixx": 1}}
    assert campus_tune(["sft", *write(tmp_path, settings), "--max_stepz", "3"]) == 2
    told = capsys.readouterr().err
    for hint in ("'length'", "'mix'", "'learning_rate'", "'max_steps'"):
        assert f"Did you mean {hint}?" in told


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model_name_or_path": None}, RecipeError, "`model_name_or_path` must be a model folder or a hub id"),
        ({"num_processes": 2}, RecipeError, "`num_processes` must be read by a launcher"),
        ({"dataset_name": None}, DataError, "`dataset_name` must be a file, a folder or a hub id"),
        ({"dataset_train_split": "trian"}, DataError, "`dataset_train_split` must be one of train, got 'trian'"),
        ({"dataset_streaming": True}, RecipeError, "`dataset_streaming` must be off with a curriculum, got True"),
        ({"campus": {"selector": "matched", "metrics": ["length"]}}, RecipeError, "must have probes"),
    ],
)
def test_a_wrong_recipe_is_refused(
    tiny: dict[str, Any], tmp_path: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        sft.main(write(tmp_path, {**tiny, "output_dir": str(tmp_path / "out"), **change}))


def test_a_flag_without_a_value_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"`--campus.mix` must be followed by a value"):
        sft.main(["--campus.mix"])


def test_a_broken_line_of_the_data_is_named(tiny: dict[str, Any], tmp_path: Path) -> None:
    broken = tmp_path / "train.jsonl"
    broken.write_text(Path(tiny["dataset_name"]).read_text()[:-30])
    with pytest.raises(DataError, match="40"):
        sft.main(write(tmp_path, {**tiny, "dataset_name": str(broken)}))


@pytest.mark.parametrize(
    ("word", "value"), [("true", True), ("False", False), ("runs/a/checkpoint-5", "runs/a/checkpoint-5")]
)
def test_resume_is_read_however_it_is_written(word: str, value: Any) -> None:
    assert sft._resume(word) == value


def test_a_finished_run_has_a_report_and_one_that_cannot_be_drawn_is_a_warning(
    tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sft.main([*write(tmp_path, tiny), "--output_dir", str(tmp_path / "out")])
    page = tmp_path / "out/curriculum/report.html"
    assert page.stat().st_size > 10_000
    assert f"the report: {page}" in capsys.readouterr().out

    def broken(_: str) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("campus_tune.report.write.write_report", broken)
    sft.main([*write(tmp_path, tiny), "--output_dir", str(tmp_path / "other")])
    assert (tmp_path / "other/adapter_model.safetensors").exists()
    assert "warning: no report (OSError: " in capsys.readouterr().out
