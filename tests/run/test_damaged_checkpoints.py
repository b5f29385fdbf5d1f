"""Checkpoints that are not as they were saved, and whose hashes do not say so: a sentence that names the file."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from campus_tune.run.lineage import read_lineage
from campus_tune.run.manifest import FILE, read_manifest
from campus_tune.run.saved_state import SHAPE
from campus_tune.words.errors import ResumeError
from campus_tune.words.hashing import hash_file
from campus_tune.words.sealed_json import read_sealed, write_sealed
from tests.run.tiny_run import tiny_trainer

RECIPE = {"metrics": ["length"], "stages": 2, "handover": 0.9, "scores": "none", "selector": "fixed"}
SETTINGS: dict[str, Any] = {"config": RECIPE, "n": 16, "max_steps": 2, "save_steps": 1}
SETTINGS |= {"per_device_train_batch_size": 8}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("damaged") / "run"
    tiny_trainer(out, **SETTINGS).train()
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def change(path: Path, act: Callable[[dict[str, Any]], object]) -> None:
    """Change what a sealed file says, and seal it again."""
    value = read_sealed(path)
    act(value)
    write_sealed(path, value)


def change_state(checkpoint: Path, act: Callable[[dict[str, Any]], object]) -> None:
    """Change the curriculum's state in a checkpoint, and the hash that would tell."""
    path = checkpoint / "trainer_state.json"
    state = json.loads(path.read_text())
    act(state["stateful_callbacks"]["CampusCallback"]["attributes"]["curriculum"])
    path.write_text(json.dumps(state))
    change(checkpoint / FILE, lambda value: value["files"].update({path.name: list(hash_file(path))}))


@pytest.mark.parametrize(
    ("act", "problem"),
    [
        (lambda v: v.pop("step"), "it must have `step`"),
        (lambda v: v.pop("lineage"), "it must have `lineage`"),
        (lambda v: v.update(lineage=5), "`lineage` must be a mapping, got 5"),
        (lambda v: v.update(files=[1]), r"`files` must be a mapping or null, got \[1\]"),
        (lambda v: v.update(world="x"), "`world` must be a whole number, got 'x'"),
        (lambda v: v.update(more=1), "it has 'more'"),
        (lambda v: v.pop("version"), "is of another version of campus_tune"),
    ],
)
def test_a_record_of_another_shape_is_named(act: Any, problem: str, run: Path) -> None:
    change(run / "checkpoint-2" / FILE, act)
    with pytest.raises(ValueError, match=f"campus_files.json .*{problem}"):
        read_manifest(run / "checkpoint-2")


@pytest.mark.parametrize("lives", [5, [], [["a"]], [[1, "a"]]])
def test_a_lineage_of_another_shape_is_named(lives: Any, run: Path) -> None:
    change(run / "curriculum" / "lineage.json", lambda value: value.update(lives=lives))
    with pytest.raises(ResumeError, match=r"lineage.json` must say which .* got a file that is damaged"):
        read_lineage(run / "curriculum")


@pytest.mark.parametrize("broken", ["optimizer.pt", "model.safetensors", "rng_state.pth", "scheduler.pt"])
def test_the_advice_names_the_newest_whole_checkpoint_before_it_and_works(broken: str, run: Path) -> None:
    path = run / "checkpoint-2" / broken
    path.write_bytes(path.read_bytes()[:-3])
    trainer = tiny_trainer(run, **SETTINGS)
    with pytest.raises(
        ResumeError, match=f"{broken} has [0-9]+ bytes, not .* Name checkpoint-1, the newest before"
    ) as no:
        trainer.train(resume_from_checkpoint=str(path.parent))
    if broken == "optimizer.pt":
        named = re.search(r"Name (\S+),", str(no.value))
        assert named is not None
        trainer = tiny_trainer(run, **SETTINGS)
        trainer.train(resume_from_checkpoint=str(run / named[1]))
        assert trainer.state.global_step == 2


def test_without_a_whole_one_before_it_none_is_named(run: Path) -> None:
    for step in (1, 2):
        (run / f"checkpoint-{step}" / "optimizer.pt").write_bytes(b"")
    with pytest.raises(ResumeError, match=r"optimizer\.pt has 0 bytes, not [0-9]+\. Name another one, or write"):
        tiny_trainer(run, **SETTINGS).train(resume_from_checkpoint=str(run / "checkpoint-2"))
    with pytest.raises(ResumeError, match=r"which is not there\. In .* there is checkpoint-1, checkpoint-2: name one"):
        tiny_trainer(run, **SETTINGS).train(resume_from_checkpoint=str(run / "nowhere"))


def test_a_state_without_one_of_its_parts_is_named(run: Path) -> None:
    """One resume of each kind; the parts themselves need no trainer."""
    from campus_tune.run.saved_state import refuse_misshapen

    state = json.loads((run / "checkpoint-2" / "trainer_state.json").read_text())
    saved = state["stateful_callbacks"]["CampusCallback"]["attributes"]["curriculum"]
    refuse_misshapen(saved, 2)
    always = {name for name in SHAPE if not name.endswith("?")}  # the others are of recipes that draw by them
    newer = {"lr_tokens", "offered", "padding"}  # than the first checkpoints of this version, which may be gone on from
    assert set(saved) - {"version"} == always | newer
    for name in sorted(always):
        for odd in ({k: v for k, v in saved.items() if k != name}, {**saved, name: [5]}):
            with pytest.raises(ResumeError, match=f"whole state .* in trainer_state.json, got .*`{name}`"):
                refuse_misshapen(odd, 2)
    change_state(run / "checkpoint-2", lambda curriculum: curriculum["budget"]["spent"].clear())
    with pytest.raises(
        ResumeError, match=r"step 2 must hold the whole state .* \(KeyError: .* resume from an earlier one"
    ):
        tiny_trainer(run, **SETTINGS).train(resume_from_checkpoint=True)
    trainer = tiny_trainer(run, **SETTINGS)
    trainer.train(resume_from_checkpoint=str(run / "checkpoint-1"))
    assert trainer.state.global_step == 2


def test_a_checkpoint_of_a_version_that_kept_no_means_of_stages_is_gone_on_with(run: Path) -> None:
    change_state(run / "checkpoint-1", lambda curriculum: curriculum["training_losses"].pop("past"))
    trainer = tiny_trainer(run, **SETTINGS)
    trainer.train(resume_from_checkpoint=str(run / "checkpoint-1"))
    assert trainer.state.global_step == 2
