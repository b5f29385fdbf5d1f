from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import TrainerCallback

from campus_tune.demo.tiny import tiny_model
from campus_tune.model import compat
from campus_tune.model.generated import Generated
from campus_tune.model.peers import Peers
from campus_tune.run.prompts.kept import (
    ARRAYS,
    REFERENCE,
    KeptGeneration,
    read_arrays,
    write_arrays,
)
from campus_tune.words.errors import ResumeError, StorageError
from campus_tune.words.sealed_json import read_sealed, write_sealed
from campus_tune.words.types import Json
from tests.run.prompts import tiny_prompts
from tests.run.prompts.tiny_prompts import passes, prompts
from tests.run.tiny_run import history_of

JSON, TENSORS = "campus_generation-0.json", "campus_generation-0.safetensors"


def reward_trainer(out: Path, kind: str = "grpo", **settings: Any) -> Any:
    """Without a curriculum."""
    defaults: Json = {"max_steps": 6, "train": 24, "gradient_accumulation_steps": 1, "lr_scheduler_type": "linear"}
    return tiny_prompts.reward_trainer(out, kind, config=False, **{**defaults, **settings})


class Keep(TrainerCallback):
    """Keeps the generation of a trainer that knows nothing of curricula."""

    def __init__(self, trainer: Any, source: Path | None = None) -> None:
        per_generation = trainer.args.steps_per_generation * trainer.num_iterations
        self.kept = KeptGeneration(trainer, Peers.of(trainer), micro_per_generation=per_generation)
        self.source = source
        trainer._save_checkpoint = compat.around_saves(trainer, self.around)
        trainer.add_callback(self)

    @contextmanager
    def around(self, folder: Path) -> Iterator[None]:
        folder.mkdir(parents=True, exist_ok=True)
        self.kept.write(folder)
        yield

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control, kwargs
        if self.source is not None:
            self.kept.restore(self.source, state.global_step)


def weights_of(trainer: Any) -> torch.Tensor:
    return torch.cat([values.detach().flatten() for values in trainer.model.parameters()])


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(folder)
    return str(folder)


INSIDE = [
    pytest.param("grpo", {"steps_per_generation": 4}, 3, id="a quarter of a generation a step"),
    pytest.param("rloo", {"gradient_accumulation_steps": 2, "num_iterations": 2}, 3, id="between two iterations"),
    pytest.param("grpo", {"gradient_accumulation_steps": 2, "steps_per_generation": 4}, 4, id="at a border"),
]


@pytest.mark.parametrize(("kind", "settings", "at"), INSIDE)
def test_a_resume_inside_a_generation_and_at_its_border_goes_on_with_the_same_answers(
    tmp_path: Path, kind: str, settings: Json, at: int
) -> None:
    whole = reward_trainer(tmp_path, kind, save_steps=at, save_total_limit=None, **settings)
    Keep(whole)
    whole.train()
    checkpoint = tmp_path / f"checkpoint-{at}"
    rest = reward_trainer(tmp_path, kind, **settings)
    Keep(rest, checkpoint)
    rest.train(resume_from_checkpoint=str(checkpoint))
    assert history_of(rest) == history_of(whole)
    assert float((weights_of(rest) - weights_of(whole)).abs().max()) == 0.0
    inside = at * whole.args.gradient_accumulation_steps % (whole.args.steps_per_generation * whole.num_iterations)
    assert (read_sealed(checkpoint / JSON)["pieces"] is not None) == (inside > 0)  # a border has nothing to keep


def test_without_what_is_kept_the_trainers_own_resume_trains_something_else(tmp_path: Path) -> None:
    settings = {"gradient_accumulation_steps": 2, "steps_per_generation": 4}
    whole = reward_trainer(tmp_path, save_steps=3, **settings)
    whole.train()
    rest = reward_trainer(tmp_path, **settings)
    rest.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert float((weights_of(rest) - weights_of(whole)).abs().max()) > 1e-3


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"lora": True}, id="LoRA with dropout"),
        pytest.param({"beta": 0.1, "scale_rewards": "batch", "loss_type": "dapo"}, id="a reference model"),
        pytest.param({"beta": 0.1, "sync_ref_model": True, "ref_model_sync_steps": 2}, id="a reference that follows"),
    ],
)
def test_so_it_does_with(tmp_path: Path, model_folder: str, settings: Json) -> None:
    settings = {"model": model_folder, **settings}  # trl loads a reference from where the model came from
    cut = {"gradient_accumulation_steps": 2, "steps_per_generation": 4}
    whole = reward_trainer(tmp_path, save_steps=3, **cut, **settings)
    Keep(whole)
    whole.train()
    rest = reward_trainer(tmp_path, **cut, **settings)
    Keep(rest, tmp_path / "checkpoint-3")
    rest.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert history_of(rest) == history_of(whole)
    assert float((weights_of(rest) - weights_of(whole)).abs().max()) == 0.0
    assert (tmp_path / "checkpoint-3" / REFERENCE).exists() == ("sync_ref_model" in settings)


# -- the table of completions --------------------------------------------------------------------------------------


def logs_more(completion_ids: Any, cut: Any, log_extra: Any, **_: Any) -> list[float | None]:
    """Rewards none of a prompt's answers now and then, and fills two more columns; JSON knows one of them."""
    log_extra("first", [ids[0] for ids in completion_ids])
    log_extra("odd", [float("nan") for _ in completion_ids])
    rewards = passes(completion_ids, cut)
    return [None if below == 0 else reward for below, reward in zip(cut, rewards, strict=True)]


def test_the_table_of_completions_goes_on_and_what_json_cannot_hold_is_left_out_with_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"steps_per_generation": 4, "log_completions": True, "rewards": logs_more}
    whole = reward_trainer(tmp_path, save_steps=3, **settings)
    Keep(whole)
    whole.train()
    tables = {path.name: pd.read_parquet(path) for path in sorted((tmp_path / "completions").iterdir())}
    assert "odd of the logged completions is no JSON" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "completions")
    rest = reward_trainer(tmp_path, **settings)
    Keep(rest, tmp_path / "checkpoint-3")
    rest.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    for path in sorted((tmp_path / "completions").iterdir()):
        ours, before = pd.read_parquet(path), tables[path.name]
        if path.name == "completions_00004.parquet":
            before = before.drop(columns="odd")
        pd.testing.assert_frame_equal(ours, before)
    assert float((weights_of(rest) - weights_of(whole)).abs().max()) == 0.0


# -- damage --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint inside a generation of four pieces."""
    out = tmp_path_factory.mktemp("saved")
    trainer = reward_trainer(out, save_steps=3, max_steps=3, steps_per_generation=4)
    Keep(trainer)
    trainer.train()
    return out / "checkpoint-3"


def edited(checkpoint: Path, **changes: Any) -> None:
    write_sealed(checkpoint / JSON, {**read_sealed(checkpoint / JSON), **changes})


def less(checkpoint: Path) -> None:
    edited(checkpoint, pieces=read_sealed(checkpoint / JSON)["pieces"][:3])


def not_there(checkpoint: Path) -> None:
    pieces = read_sealed(checkpoint / JSON)["pieces"]
    edited(checkpoint, pieces=[{**pieces[0], "more": {"tensor": True}}, *pieces[1:]])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda at: (at / JSON).unlink(), f"FileNotFoundError.*{JSON}.*rank 0"),
        (lambda at: (at / TENSORS).unlink(), f"FileNotFoundError.*{TENSORS}"),
        (lambda at: (at / TENSORS).write_bytes(b"short"), "SafetensorError"),
        (lambda at: (at / JSON).write_text("{}"), "its own hash is another"),
        (lambda at: edited(at, micro_step="three"), "is not as it was written: `micro_step` must be a whole number"),
        (lambda at: edited(at, version=0), "is of version 0, not 1"),
        (lambda at: edited(at, rank=1, world=2), "is of rank 1 of 2"),
        (lambda at: edited(at, pieces=None), "no answers, 3 micro steps into a generation of 4"),
        (less, "3 pieces of a generation that is cut into 4"),
        (not_there, "KeyError: '0 more'"),
    ],
)
def test_a_damaged_part_is_named_with_the_rank_and_what_to_do(
    tmp_path: Path, saved: Path, damage: Any, said: str
) -> None:
    shutil.copytree(saved, tmp_path / "checkpoint-3")
    damage(tmp_path / "checkpoint-3")
    trainer = reward_trainer(tmp_path, steps_per_generation=4)
    kept = KeptGeneration(trainer, Peers(), micro_per_generation=4)
    with pytest.raises(ResumeError, match=f"step 3 must hold the generation .*{said}.*resume from an earlier one"):
        kept.restore(tmp_path / "checkpoint-3", 3)


def test_a_part_that_cannot_be_written_stops_the_save(tmp_path: Path, saved: Path) -> None:
    trainer = reward_trainer(tmp_path, steps_per_generation=4)
    kept = KeptGeneration(trainer, Peers(), micro_per_generation=4)
    kept.restore(saved, 3)
    with pytest.raises(StorageError, match=r"must be kept with gone, got .*rank 0.*Free space"):
        kept.write(tmp_path / "gone")


def test_what_a_rank_remembers_besides_comes_back(tmp_path: Path, saved: Path) -> None:
    trainer = reward_trainer(tmp_path, steps_per_generation=4)
    kept = KeptGeneration(trainer, Peers(), micro_per_generation=4)
    kept.restore(saved, 3)
    kept.write(tmp_path, {"seen": [1, 2]})
    assert kept.restore(tmp_path, 3) == {"seen": [1, 2]}


def test_inside_a_step_what_is_kept_is_what_there_was_when_it_began(tmp_path: Path, saved: Path) -> None:
    trainer = reward_trainer(tmp_path, steps_per_generation=4)
    kept = KeptGeneration(trainer, Peers(), micro_per_generation=4)
    kept.restore(saved, 3)
    kept.begin_step()
    Generated(4, None).put(trainer)
    kept.write(tmp_path)
    assert read_sealed(tmp_path / JSON)["micro_step"] == 3
    kept.end_step()
    kept.write(tmp_path)
    assert read_sealed(tmp_path / JSON)["micro_step"] == 4


# -- what the prompts have shown -----------------------------------------------------------------------------------


def test_arrays_come_back_by_part_and_name_bit_by_bit(tmp_path: Path) -> None:
    parts: dict[str, dict[str, Any]] = {
        "rates": {"tries": np.array([1.5, np.nan, np.inf]), "last": np.array([-1, 2, 3])},
        "groups": {"rewards/mean": np.zeros((0, 4)), "rows": np.arange(6).reshape(2, 3).T},
    }
    write_arrays(tmp_path, parts)
    back = read_arrays(tmp_path)
    assert {part: set(named) for part, named in back.items()} == {part: set(named) for part, named in parts.items()}
    for part, named in parts.items():
        for name, values in named.items():
            assert back[part][name].dtype == values.dtype
            np.testing.assert_array_equal(back[part][name], values)


def test_arrays_that_are_missing_or_cannot_be_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match=f"{re.escape(ARRAYS)}` must hold what the prompts have shown"):
        read_arrays(tmp_path)
    with pytest.raises(StorageError, match=r"must be kept with gone, got .*Free space"):
        write_arrays(tmp_path / "gone", {"rates": {"tries": np.zeros(2)}})


def test_conversations_and_their_log_are_kept_too(tmp_path: Path) -> None:
    rows = [{**row, "prompt": [{"role": "user", "content": row["prompt"]}]} for row in prompts(8)]
    settings = {"steps_per_generation": 4, "log_completions": True, "train": rows, "max_steps": 4}
    whole = reward_trainer(tmp_path, save_steps=2, **settings)
    Keep(whole)
    whole.train()
    rest = reward_trainer(tmp_path, **settings)
    Keep(rest, tmp_path / "checkpoint-2")
    rest.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert list(rest._logs["prompt"]) == list(whole._logs["prompt"])
    assert float((weights_of(rest) - weights_of(whole)).abs().max()) == 0.0
