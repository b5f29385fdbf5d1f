"""No warning of one library about another reaches whoever calls the command line: here every warning is an error."""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
import warnings
from pathlib import Path

import pytest
import yaml

from campus_tune.cli.main import main
from campus_tune.words.library_warnings import LOGGED, OF_DEVELOPERS, hush, hushed
from tests.run.tiny_run import task_rows
from tests.terminals import InTerminal


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
    with pytest.warns(UserWarning, match="a template without a generation part"), hushed():
        warnings.warn("a template without a generation part", UserWarning, stacklevel=1)


@pytest.mark.parametrize("kind", OF_DEVELOPERS)
def test_what_a_library_will_drop_is_no_matter_of_a_user(kind: type[Warning], monkeypatch: pytest.MonkeyPatch) -> None:
    with hushed():  # an error without
        warnings.warn("something is deprecated", kind, stacklevel=1)
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    with pytest.warns(kind, match="something is deprecated"), hushed():
        warnings.warn("something is deprecated", kind, stacklevel=1)


def test_lines_of_a_log_are_left_out_by_their_words_and_only_meanwhile(caplog: pytest.LogCaptureFixture) -> None:
    logger, said = logging.getLogger("transformers.trainer"), "There were missing keys in the checkpoint model loaded: "
    tied, others = f"{said}['lm_head.weight'].", f"{said}['layers.0.weight', 'lm_head.weight']."
    with hushed():
        logger.warning(tied)
        logger.warning(others)
        hush()
        assert len(logger.filters) == 1
    logger.warning(tied)
    assert [record.getMessage() for record in caplog.records] == [others, tied]


@pytest.mark.parametrize("name", LOGGED)
def test_each_logger_is_a_file_of_its_library(name: str) -> None:
    library, *rest = name.split(".")
    spec = importlib.util.find_spec(library)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).parent.joinpath(*rest).with_suffix(".py").is_file()


def test_in_a_terminal_a_library_speaks_in_a_line_of_ours(tmp_path: Path) -> None:
    script = "import warnings\nfrom campus_tune.words.library_warnings import hushed\n"
    script += "with hushed():\n    warnings.warn('rows are\\n  cut')\n    warnings.warn('old', FutureWarning)\n"
    seen = InTerminal([sys.executable, "-c", script], tmp_path)
    assert seen.lines == ["campus: warning: rows are cut (UserWarning)"]
    told = InTerminal([sys.executable, "-c", script], tmp_path, err=False).err
    assert told.splitlines()[0].endswith("UserWarning: rows are")
