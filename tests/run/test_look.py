"""Looking at batches: before training, in its middle and afterwards. Rows as they are trained, and nothing changed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback
from trl import SFTTrainer

import campus_tune
from campus_tune.model.peers import Peers
from campus_tune.model.random_states import RandomStates
from campus_tune.run.look import SampleBatches
from campus_tune.words.types import Json
from tests.run.tiny_run import RECIPE, history_of, ledger_of, tiny_trainer, weights_of

Make = Callable[..., Any]
SETTINGS: Json = {"n": 22, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4, "lora": True}


def states() -> list[Any]:
    now = RandomStates.now()
    return [now.of_python, [part.tolist() if hasattr(part, "tolist") else part for part in now.of_numpy],
            now.of_torch.tolist()]  # fmt: skip


def test_a_look_before_training_shows_rows_as_they_are_and_says_that_the_order_comes_later(
    tiny_trainer: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, plain = tiny_trainer(**SETTINGS), tiny_trainer(config=False, **SETTINGS)
    before = states()
    loader = ours.get_train_dataloader()
    assert len(loader) == len(plain.get_train_dataloader()) == 6
    assert "in the sequence of the data set" not in capsys.readouterr().out
    batch = next(iter(loader))
    rows = plain.train_dataset.select_columns(["input_ids", "labels"])
    for name, values in plain.data_collator([rows[row] for row in range(4)]).items():
        assert torch.equal(batch[name], values)
    assert "which of them are trained first is decided in train()" in capsys.readouterr().out
    assert states() == before
    assert [len(batch["input_ids"]) for batch in loader] == [4, 4, 4, 4, 4, 2]
    assert states() == before


class Looks(TrainerCallback):
    """Looks while training goes on."""

    def __init__(self) -> None:
        self.trainer: Any = None
        self.seen: list[int] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, state, control, kwargs
        self.seen.append(len(list(self.trainer.get_train_dataloader())))


class LooksInItsSchedule(SFTTrainer):
    """A schedule by the length of the loader, asked when the loop has its own already."""

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        assert len(self.get_train_dataloader()) == 6
        return super().create_scheduler(num_training_steps, optimizer)


def test_a_run_is_the_same_whether_anybody_looked_or_not(tmp_path: Path) -> None:
    found = []
    for looks in (False, True):
        out, callback = tmp_path / str(looks), Looks()
        trainer = tiny_trainer(
            out, callbacks=[callback] if looks else [], trainer_class=LooksInItsSchedule if looks else None, **SETTINGS
        )
        callback.trainer = trainer
        if looks:
            for _ in range(2):
                next(iter(trainer.get_train_dataloader()))
        trainer.train()
        if looks:
            assert callback.seen == [6, 6, 6]
            assert len(list(trainer.get_train_dataloader())) == 6  # the trainer's own again
        found.append((history_of(trainer), ledger_of(out), weights_of(trainer)))
    (history, ledger, weights), (seen_history, seen_ledger, seen_weights) = found
    assert seen_history == history
    assert seen_ledger == ledger
    assert all(torch.equal(weights[name], seen_weights[name]) for name in weights)


def test_a_subclass_may_look_while_it_is_made_and_before_a_curriculum_is_put_on(tmp_path: Path) -> None:
    class LooksAtOnce(SFTTrainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.first = next(iter(self.get_train_dataloader()))

    trainer = tiny_trainer(tmp_path / "made", n=8, trainer_class=LooksAtOnce)
    assert len(trainer.first["input_ids"]) == 4
    trainer.train()
    later = tiny_trainer(tmp_path / "later", n=8, config=False)
    assert len(next(iter(later.get_train_dataloader()))["input_ids"]) == 4
    campus_tune.attach(later, RECIPE)
    assert isinstance(later.get_train_dataloader(), SampleBatches)
    assert later.train().global_step == 2


def test_evaluation_is_looked_at_as_without_a_curriculum(tiny_trainer: Make) -> None:
    rows = tiny_trainer(n=8, config=False).train_dataset
    batches = []
    for config in (None, False):
        trainer = tiny_trainer(n=8, config=config, trainer_args={"eval_dataset": rows})
        batches.append(next(iter(trainer.get_eval_dataloader())))
    assert all(torch.equal(batches[0][name], batches[1][name]) for name in batches[1])


class Drawing:
    """A collator that draws from everything there is."""

    def __init__(self) -> None:
        self.own = np.random.default_rng(1)

    def __call__(self, rows: list[int]) -> list[float]:
        return [float(self.own.random()), random.random(), float(torch.rand(())), *rows]


def test_a_look_at_what_is_drawn_at_random_draws_nothing() -> None:
    collator = Drawing()
    look = SampleBatches(range(5), collator, n_batches=3, batch_size=2, place=lambda batch: batch, peers=Peers())
    before, own = states(), collator.own.bit_generator.state
    assert [batch[3:] for batch in look] == [[0, 1], [2, 3], [4]]
    assert states() == before
    assert collator.own.bit_generator.state == own


def test_each_rank_sees_rows_of_its_own_and_none_sees_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    seen = []
    for rank in range(2):
        peers = Peers(rank=rank, world=2)
        look = SampleBatches(range(5), list, n_batches=2, batch_size=2, place=lambda batch: batch, peers=peers)
        seen.append(list(look))
    assert seen == [[[0, 1], [4]], [[2, 3], [1]]]
    assert capsys.readouterr().out.count("in the sequence of the data set") == 1
