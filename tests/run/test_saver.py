from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from campus_tune.model import compat
from campus_tune.model.peers import Peers
from campus_tune.run.checkpoints import Checkpoint, examine, last_complete
from campus_tune.run.ledger import read_ledger
from campus_tune.run.manifest import names_in, read_manifest
from campus_tune.words.errors import ResumeError, StorageError, TrainerError
from campus_tune.words.types import Json
from tests.run.sealing import manifest_of, reseal, unseal
from tests.run.test_resume import SaveAt, StopAfter, StoppedError
from tests.run.tiny_run import dataset, history_of, task_rows, tiny_trainer, weights_of

RUN: Json = {"n": 20, "num_train_epochs": 2}  # 10 steps
PLAIN: Json = {**RUN, "config": False}
SAVES: Json = {"save_steps": 2}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names_in(folder)}


def same(a: Any, b: Any) -> bool:
    """Log lines without `num_tokens`, which trl counts anew after a resume without a curriculum, and weights."""
    ours, theirs = weights_of(a), weights_of(b)
    lines = [[{**line, "num_tokens": None} for line in history_of(trainer)] for trainer in (a, b)]
    return lines[0] == lines[1] and all(torch.equal(ours[name], theirs[name]) for name in theirs)


# -- checkpoints of another trainer --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A plain run of 10 steps with checkpoints after 4 and 10, and its trainer."""
    out = tmp_path_factory.mktemp("plain") / "run"
    trainer = tiny_trainer(out, callbacks=[SaveAt(4, 10)], **PLAIN)
    trainer.train()
    return out, trainer


@pytest.fixture
def plain(plain_once: tuple[Path, Any], tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain_once[0], tmp_path / "run"))


def test_a_run_that_saves_nothing_leaves_a_plain_runs_checkpoints_as_they_are(
    plain: Path, plain_once: tuple[Path, Any]
) -> None:
    before = {name: contents(plain / name) for name in ("checkpoint-4", "checkpoint-10")}
    tiny_trainer(plain, **RUN).train()
    assert {name: contents(plain / name) for name in before} == before
    shutil.rmtree(plain / "checkpoint-10")
    trainer = tiny_trainer(plain, **PLAIN)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 10
    assert same(trainer, plain_once[1])


def test_a_run_that_would_write_over_them_is_refused_before_anything_is_written(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"no checkpoint of another trainer.*got checkpoint-4, checkpoint-10 in"):
        tiny_trainer(plain, **SAVES, **RUN).train()
    assert not (plain / "curriculum" / "ledger.jsonl").exists()
    with pytest.raises(TrainerError, match="Choose another output_dir, or remove them"):
        tiny_trainer(plain, **SAVES, **RUN).train(resume_from_checkpoint=True)
    tiny_trainer(tmp_path / "another", max_steps=2, **SAVES, n=20).train()
    for name in ("checkpoint-4", "checkpoint-10"):
        shutil.rmtree(plain / name)
    tiny_trainer(plain, max_steps=2, **SAVES, n=20).train()


def test_one_that_lies_after_the_runs_end_is_in_nobodys_way(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(plain / "checkpoint-4")
    tiny_trainer(plain, max_steps=2, **SAVES, n=20).train()
    tiny_trainer(plain, max_steps=2, **SAVES, n=20).train(resume_from_checkpoint=True)
    said = capsys.readouterr().out
    assert "skipping checkpoint-10: it is not of this run: it was written without a curriculum" in said
    assert "resumed at step 2 of 2" in said


def test_a_callback_that_asks_for_a_save_over_one_is_refused_and_it_stays(plain: Path) -> None:
    before = contents(plain / "checkpoint-4")
    with pytest.raises(TrainerError, match="got checkpoint-4 in"):
        tiny_trainer(plain, callbacks=[SaveAt(4)], **RUN).train()
    assert contents(plain / "checkpoint-4") == before


def test_a_curriculum_folder_of_something_else_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "curriculum").mkdir()
    (tmp_path / "curriculum" / "recipe.yaml").write_text("lesson: 1")
    with pytest.raises(TrainerError, match=r"no curriculum/ of something else, got recipe\.yaml"):
        tiny_trainer(tmp_path, **RUN).train()
    assert [path.name for path in (tmp_path / "curriculum").iterdir()] == ["recipe.yaml"]


# -- what a save leaves ----------------------------------------------------------------------------------------------


def test_a_checkpoint_that_is_written_anew_keeps_nothing_of_the_one_before(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        tiny_trainer(tmp_path, callbacks=[SaveAt(2, 4), StopAfter(4)], **RUN).train()
    (tmp_path / "checkpoint-4" / "notes.txt").write_text("my own")
    (tmp_path / "checkpoint-4" / "global_step4").mkdir()
    (tmp_path / "checkpoint-4" / "global_step4" / "zero.pt").write_text("of another kind of run")
    unseal(tmp_path / "checkpoint-2")
    with pytest.raises(StoppedError):
        tiny_trainer(tmp_path, callbacks=[SaveAt(2, 4), StopAfter(4)], save_only_model=True, **RUN).train()
    for step in (2, 4):
        checkpoint = tmp_path / f"checkpoint-{step}"
        names = set(names_in(checkpoint))
        assert {"model.safetensors", "trainer_state.json"} <= names
        assert not {"optimizer.pt", "scheduler.pt", "rng_state.pth", "global_step4/zero.pt"} & names
        assert set(manifest_of(checkpoint).files or {}) == names - {"notes.txt"} | ({"notes.txt"} & names)
    assert (tmp_path / "checkpoint-4" / "notes.txt").read_text() == "my own"
    assert not (tmp_path / "checkpoint-4" / "global_step4").exists()


def test_files_that_the_trainer_was_told_not_to_write_are_not_missing(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        tiny_trainer(tmp_path, callbacks=[SaveAt(2), StopAfter(2)], save_only_model=True, **RUN).train()
    assert isinstance(examine(tmp_path / "checkpoint-2", tmp_path / "curriculum", Peers()), Checkpoint)


@pytest.mark.parametrize(
    "settings",
    [{"save_total_limit": 1}, {"save_total_limit": 1, "load_best_model_at_end": True}],
    ids=["one", "one and the best"],
)
def test_as_many_checkpoints_stay_as_of_a_plain_run_and_one_always_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Json
) -> None:
    delete, seen = compat.delete_old_checkpoints, []

    def delete_and_look(trainer: Any, folder: Path, best: str | None) -> None:
        newest = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        seen.append(manifest_of(newest).files is not None)
        delete(trainer, folder, best)

    monkeypatch.setattr(compat, "delete_old_checkpoints", delete_and_look)
    if "load_best_model_at_end" in settings:
        settings = {**settings, "eval_strategy": "steps", "eval_steps": 2, "learning_rate": 0.3}
    more = {"trainer_args": {"eval_dataset": dataset(task_rows(4, seed=5))}, "max_steps": 6, "n": 20, **SAVES}
    runs = []
    for name, config in (("plain", False), ("ours", {"selector": "shuffle"})):
        trainer = tiny_trainer(tmp_path / name, config=config, **settings, **more)
        trainer.train()
        runs.append(sorted(path.name for path in (tmp_path / name).glob("checkpoint-*")))
    if "load_best_model_at_end" in settings:
        assert len(runs[0]) == len(runs[1]) == 1  # which is the best hangs on the order
    else:
        assert runs[0] == runs[1]
    assert seen == [True] * 3
    assert trainer.args.save_total_limit == settings["save_total_limit"]
    arguments = torch.load(tmp_path / "ours" / runs[1][0] / "training_args.bin", weights_only=False)
    assert arguments.save_total_limit == settings["save_total_limit"]


class Rearrange(StopAfter):
    """What many scripts do in on_save: another form of the adapter is added, what is large is deleted."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del control
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        kwargs["model"].save_pretrained(checkpoint / "adapter")
        (checkpoint / "optimizer.pt").unlink()


class MoveAway(StopAfter):
    """Puts every checkpoint somewhere else once it is saved."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del control, kwargs
        name = f"checkpoint-{state.global_step}"
        shutil.move(Path(args.output_dir) / name, Path(args.output_dir) / "elsewhere" / name)


def test_a_checkpoint_that_a_callback_moves_away_stays_away(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(StoppedError):
        tiny_trainer(tmp_path, callbacks=[SaveAt(2), MoveAway(3)], **RUN).train()
    assert not list(tmp_path.glob("checkpoint-*"))
    assert (tmp_path / "elsewhere" / "checkpoint-2" / "trainer_state.json").exists()


def test_what_a_callback_makes_of_a_checkpoint_is_what_is_recorded(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        tiny_trainer(tmp_path, callbacks=[SaveAt(2, 3), Rearrange(3)], lora=True, **RUN).train()
    for step in (2, 3):
        checkpoint = tmp_path / f"checkpoint-{step}"
        assert isinstance(examine(checkpoint, tmp_path / "curriculum", Peers()), Checkpoint)
        assert "adapter/adapter_model.safetensors" in (manifest_of(checkpoint).files or {})


def test_the_ledger_says_what_hashing_took(tmp_path: Path) -> None:
    tiny_trainer(tmp_path, max_steps=4, n=20, **SAVES).train()
    assert 0 < read_ledger(tmp_path / "curriculum" / "ledger.jsonl")[-1]["seconds"]["hashing"] < 5


def test_a_record_that_cannot_be_written_stops_the_run_and_the_checkpoint_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from campus_tune.run import saver

    real = saver.hash_files

    def full(folder: Path, *args: Any) -> Any:
        if folder.name == "checkpoint-4":
            raise OSError("No space left on device")
        return real(folder, *args)

    monkeypatch.setattr(saver, "hash_files", full)
    with pytest.raises(StorageError, match=r"record of a checkpoint.*No space left.*the checkpoint before it counts"):
        tiny_trainer(tmp_path, **SAVES, **RUN).train()
    found = last_complete(tmp_path, tmp_path / "curriculum", Peers())
    assert found is not None
    assert found.path.name == "checkpoint-2"


# -- a checkpoint that is not as it was ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs of other rows and seeds, stopped with checkpoints after steps 2 and 4."""
    outs = []
    for seed in (1, 2):
        outs.append(tmp_path_factory.mktemp("damage") / "run")
        settings = {**RUN, "train": task_rows(20, seed=seed), "seed": seed, "lora": True}
        with pytest.raises(StoppedError):
            tiny_trainer(outs[-1], callbacks=[SaveAt(2, 4), StopAfter(4)], **settings).train()
    return outs[0], outs[1]


def lose(path: Path, other: Path) -> None:
    del other
    path.unlink()


def cut(path: Path, other: Path) -> None:
    del other
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path, other: Path) -> None:
    del other
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def exchange(path: Path, other: Path) -> None:
    shutil.copyfile(other, path)


FILES = [
    "adapter_config.json", "adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth",
    "trainer_state.json", "training_args.bin", "tokenizer.json", "campus_files.json",
]  # fmt: skip


@pytest.mark.parametrize("damage", [lose, cut, flip, exchange])
def test_of_a_damaged_checkpoint_the_file_is_named_and_the_one_before_is_taken(
    two_runs: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path, Path], None],
) -> None:
    for name in FILES:
        out = Path(shutil.copytree(two_runs[0], tmp_path / name.replace(".", "-")))
        theirs = (two_runs[1] / "checkpoint-4" / name).read_bytes()
        alike = damage is exchange and theirs == (out / "checkpoint-4" / name).read_bytes()
        damage(out / "checkpoint-4" / name, two_runs[1] / "checkpoint-4" / name)
        found = last_complete(out, out / "curriculum", Peers())
        said = capsys.readouterr().out
        assert found is not None
        if alike:
            assert (found.path.name, said) == ("checkpoint-4", "")
        else:
            assert found.path.name == "checkpoint-2", name
            assert "skipping checkpoint-4" in said
            assert name in said or (damage is exchange and "it is of another run" in said)


@pytest.mark.parametrize("damage", [lose, cut, flip, exchange])
@pytest.mark.parametrize("name", ["ledger.jsonl", "lineage.json", "scores/length.parquet", "scores/mtld.parquet"])
def test_a_damaged_folder_of_the_run_is_refused_by_name(
    two_runs: tuple[Path, Path], tmp_path: Path, name: str, damage: Callable[[Path, Path], None]
) -> None:
    out = Path(shutil.copytree(two_runs[0], tmp_path / "run"))
    theirs = two_runs[1] / "curriculum" / name
    damage(out / "curriculum" / name, theirs)
    named = name if damage is not exchange or "lineage" not in name else "curriculum/ folder beside it"
    with pytest.raises(ResumeError, match=rf"{named}.*start anew without resuming"):
        last_complete(out, out / "curriculum", Peers())
    with pytest.raises(ResumeError, match=named):
        tiny_trainer(out, train=task_rows(20, seed=1), lora=True, num_train_epochs=2, seed=1).train(
            str(out / "checkpoint-4")
        )
    assert (out / "checkpoint-4" / "trainer_state.json").exists()
    shutil.copytree(two_runs[0] / "curriculum", out / "curriculum", dirs_exist_ok=True)  # as the message says
    assert isinstance(examine(out / "checkpoint-4", out / "curriculum", Peers()), Checkpoint)


def test_a_whole_checkpoint_of_another_run_is_not_taken(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    out = Path(shutil.copytree(two_runs[0], tmp_path / "run"))
    shutil.rmtree(out / "checkpoint-4")
    shutil.copytree(two_runs[1] / "checkpoint-4", out / "checkpoint-4")
    found = last_complete(out, out / "curriculum", Peers())
    assert found is not None
    assert found.path.name == "checkpoint-2"


def test_a_run_whose_training_losses_are_damaged_goes_on_and_says_so(
    two_runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(two_runs[0], tmp_path / "run"))
    (out / "curriculum" / "training_losses" / "stage-00000.parquet").write_bytes(b"")
    assert isinstance(examine(out / "checkpoint-4", out / "curriculum", Peers()), Checkpoint)
    assert "training_losses/stage-00000.parquet has 0 bytes" in capsys.readouterr().out


def test_a_checkpoint_without_its_record_says_what_may_have_written_it(
    two_runs: tuple[Path, Path], tmp_path: Path
) -> None:
    out = Path(shutil.copytree(two_runs[0], tmp_path / "run"))
    for step in (2, 4):
        (out / f"checkpoint-{step}" / "campus_files.json").unlink()
    with pytest.raises(ResumeError, match=r"campus_files\.json is missing.*an earlier campus_tune wrote none"):
        last_complete(out, out / "curriculum", Peers())
    assert read_manifest(out / "checkpoint-4") is None


# -- random states of another number of processes ---------------------------------------------------------------------


def test_random_states_of_another_number_of_processes_are_not_taken(
    two_runs: tuple[Path, Path], tmp_path: Path
) -> None:
    """rng_state.pth may lie there of an earlier run on one process; today's is on one again, after two."""
    out = Path(shutil.copytree(two_runs[0], tmp_path / "run"))
    checkpoint = out / "checkpoint-4"
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    curriculum = state["stateful_callbacks"]["CampusCallback"]["attributes"]["curriculum"]
    curriculum["identity"]["batch"] = {"micro": 2, "world": 2, "accumulation": 1}
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    reseal(checkpoint, lambda manifest: replace(manifest, world=2))
    drawn = []

    class Draw(StopAfter):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            drawn.append(torch.get_rng_state().tolist())
            super().on_step_begin(args, state, control, **kwargs)

    with pytest.raises(StoppedError):
        tiny_trainer(out, lora=True, callbacks=[Draw(4)], **{**RUN, "train": task_rows(20, seed=1), "seed": 1}).train(
            resume_from_checkpoint=True
        )
    compat.seed_anew(1, 4, 0)
    assert drawn == [torch.get_rng_state().tolist()]


# -- two runs at once --------------------------------------------------------------------------------------------------

SECOND = """
import sys
from datasets import Dataset
from transformers import Trainer, TrainingArguments
from campus_tune.run.callback import CampusCallback
from campus_tune.demo.tiny import tiny_model
args = TrainingArguments(sys.argv[1], per_device_train_batch_size=4, use_cpu=True, report_to="none", save_strategy="no")
rows = Dataset.from_list([{"input_ids": list(range(9, 20)), "labels": list(range(9, 20))}] * 8)
ours = CampusCallback({"metrics": ["length"]})
Trainer(tiny_model(), args, train_dataset=rows, callbacks=[ours]).train(resume_from_checkpoint=True)
"""


class StartSecond(StopAfter):
    """Starts another run in the same output_dir, in the middle of a step."""

    def __init__(self) -> None:
        super().__init__(2)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del control, kwargs
        if state.global_step == self.step:
            root = Path(__file__).parents[2]
            self.second = subprocess.run(
                [sys.executable, "-c", SECOND, args.output_dir],
                cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, check=False,
            )  # fmt: skip


def test_a_second_run_in_the_same_output_dir_is_refused_and_disturbs_nothing(tmp_path: Path) -> None:
    first = StartSecond()
    trainer = tiny_trainer(tmp_path / "shared", n=20, callbacks=[first])
    trainer.train()
    assert first.second.returncode == 1
    assert f"process {os.getpid()} on " in first.second.stderr
    assert "must be used by one run at a time" in first.second.stderr
    calm = tiny_trainer(tmp_path / "alone", n=20)
    calm.train()
    assert same(trainer, calm)
    events = read_ledger(tmp_path / "shared" / "curriculum" / "ledger.jsonl")
    assert [event["event"] for event in events].count("run") == 1
    tiny_trainer(tmp_path / "shared", n=20).train()  # the lock has ended with its run
