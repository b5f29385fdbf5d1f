"""No warning of one library about another reaches whoever calls the command line: here every warning is an error."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import yaml

from campus_tune.cli.main import main
from campus_tune.words.library_warnings import hushed
from tests.run.tiny_run import task_rows


@pytest.mark.parametrize("checkpointing", [{}, {"gradient_checkpointing": False}])
def test_the_command_line_makes_a_trainer_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpointing: dict[str, bool]
) -> None:
    from campus_tune.demo.tiny import write_tiny

    monkeypatch.setattr("campus_tune.report.callback.report_on", lambda _: None)
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in task_rows(12)), "utf-8")
    recipe = {
        "model_name_or_path": str(write_tiny(tmp_path / "model")),
        "dataset_name": str(tmp_path / "train.jsonl"),
        "output_dir": str(tmp_path / "out"),
        "max_steps": 1,
        "use_peft": True,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "campus": {"metrics": ["length"], "stages": 1},
        **checkpointing,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    assert main(["check", str(path)]) == 0
    assert main(["sft", "--config", str(path)]) == 0
    assert (tmp_path / "out/adapter_model.safetensors").exists()


def test_whatever_else_a_library_warns_of_is_shown() -> None:
    with pytest.warns(FutureWarning, match="something else is deprecated"), hushed():
        warnings.warn("something else is deprecated", FutureWarning, stacklevel=1)
