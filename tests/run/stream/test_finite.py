"""A run whose gradients or weights are no numbers any more stops before it saves them, and says why."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from campus_tune.model.peers import Peers
from campus_tune.run.stream.finite import SKIPS, Finite, Update, likely_cause
from campus_tune.words.errors import DivergedError
from campus_tune.words.types import Json
from tests.run.test_own_loss import Focal
from tests.run.threads import on_ranks
from tests.run.tiny_run import dataset, task_rows, tiny_trainer, weights_of
from tests.run.witness import events

SHUFFLED: Json = {"selector": "shuffle"}
UPDATE = Update(7, np.arange(4, dtype=np.int32), 1e-3)


class Masks:
    """A collator that masks all labels of the batches that hold a certain row, and cannot be asked for a row alone."""

    def __init__(self, collator: Any, row: Json) -> None:
        self.collator, self.ids = collator, list(row["input_ids"])

    def __call__(self, rows: list[Json]) -> Any:
        if len(rows) == 1:  # else the row would be refused at the start, by its number
            raise ValueError("needs rows to compare")
        batch = self.collator(rows)
        if any(list(row["input_ids"]) == self.ids for row in rows):
            batch["labels"] = torch.full_like(batch["labels"], -100)
        return batch


class Clamped(Focal):
    """As the advice says."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if not (inputs["labels"][:, 1:] != -100).any():
            return model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits.sum() * 0.0
        return super().compute_loss(model, inputs, *args, **kwargs)


def masked(out: Path, kind: type, **settings: Any) -> Any:
    trainer = tiny_trainer(out, n=24, config=SHUFFLED, trainer_class=kind, **settings)
    rows = trainer.train_dataset
    trainer.data_collator = Masks(trainer.data_collator, rows[11])
    return trainer


def saved_weights(out: Path) -> dict[str, bool]:
    """Whether all weights of each checkpoint are finite."""
    files = sorted(out.glob("checkpoint-*/*.safetensors"))
    return {path.parent.name: all(bool(w.isfinite().all()) for w in load_file(path).values()) for path in files}


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("save", [{"save_steps": 1}, {"save_strategy": "no"}], ids=["saves", "never saves"])
def test_a_loss_of_0_over_0_stops_the_run_before_it_is_saved_and_is_named(tmp_path: Path, save: Json) -> None:
    trainer = masked(tmp_path, Focal, **save)
    with pytest.raises(DivergedError, match=r"step \d must be finite, .* One of its micro batches has no"):
        trainer.train()
    assert all(saved_weights(tmp_path).values())
    assert len(saved_weights(tmp_path)) == (trainer.state.global_step - 1 if "save_steps" in save else 0)
    trainer = masked(tmp_path / "mended", Clamped)
    trainer.train()
    assert all(weights.isfinite().all() for weights in weights_of(trainer).values())


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_rate_that_is_too_high_is_named_with_or_without_clipping(tmp_path: Path, clip: float) -> None:
    class Rises(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control
            if state.global_step == 2:
                kwargs["optimizer"].param_groups[0]["lr"] = 1e30

    trainer = tiny_trainer(tmp_path, n=24, config=SHUFFLED, max_grad_norm=clip, callbacks=[Rises()], save_steps=2)
    with pytest.raises(DivergedError, match=r"step [34] must be finite.* lower the learning rate"):
        trainer.train()
    assert saved_weights(tmp_path) == {"checkpoint-2": True}


def test_what_makes_only_the_last_steps_weights_bad_is_found_at_the_end(tmp_path: Path) -> None:
    class Spoils(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control
            if state.global_step == 3:
                kwargs["model"].model.norm.weight.data[0] = torch.nan

    trainer = tiny_trainer(tmp_path, n=12, config=SHUFFLED, callbacks=[Spoils()])
    with pytest.raises(DivergedError, match=r"the weights after step 3 must be finite"):
        trainer.train()


@pytest.mark.parametrize("as_checkpoint", [False, True])
def test_weights_that_went_bad_are_not_saved_by_a_callback_either(tmp_path: Path, as_checkpoint: bool) -> None:
    """A user's own `save_model` while training, or `push_to_hub`, which saves as a checkpoint does."""

    class Saves(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control
            if state.global_step == 2:
                kwargs["model"].model.norm.weight.data[0] = torch.inf
            name = "bad" if state.global_step == 2 else "good"
            trainer.save_model(str(tmp_path / name), _internal_call=as_checkpoint)

    trainer = tiny_trainer(tmp_path, n=12, config=SHUFFLED, callbacks=[Saves()])
    trainer.save_model(str(tmp_path / "before"))
    with pytest.raises(DivergedError, match=r"the weights after step 2 must be finite"):
        trainer.train()
    assert (tmp_path / "good").exists()
    assert not (tmp_path / "bad").exists()


def test_the_best_model_that_is_loaded_at_the_end_is_what_is_looked_at(tmp_path: Path) -> None:
    class Spoils(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control
            if state.global_step == 2:  # the last one: the best checkpoint is of step 1
                kwargs["metrics"]["eval_loss"] = 1e9

    trainer = tiny_trainer(
        tmp_path,
        n=8,
        config=SHUFFLED,
        save_steps=1,
        eval_strategy="steps",
        eval_steps=1,
        load_best_model_at_end=True,
        callbacks=[Spoils()],
        trainer_args={"eval_dataset": dataset(task_rows(4, seed=5))},
    )
    trainer.train()
    assert all(saved_weights(tmp_path).values())


def test_a_step_whose_gradients_somebody_removes_is_no_fault(tmp_path: Path) -> None:
    class Guard(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control, state
            for parameter in kwargs["model"].parameters():
                parameter.grad.nan_to_num_(0.0)

    trainer = masked(tmp_path, Focal, callbacks=[Guard()], save_steps=1)
    trainer.train()
    assert all(saved_weights(tmp_path).values())


def scaler(backoff: float = 0.5) -> torch.amp.GradScaler:
    """One that begins with a loss scale under which gradients overflow for some steps, as in fp16."""
    return torch.amp.GradScaler("cpu", init_scale=2.0**70, backoff_factor=backoff)


@pytest.mark.parametrize(
    "optim", ["adamw_torch", "adamw_torch_fused"]
)  # the fused one skips by itself and tells nobody
def test_steps_that_a_gradient_scaler_skips_are_no_fault(tmp_path: Path, optim: str) -> None:
    trainer = tiny_trainer(tmp_path, n=64, config=SHUFFLED, save_steps=4, max_grad_norm=0, optim=optim)
    trainer.accelerator.scaler = scaler()
    before = weights_of(trainer)
    trainer.train()
    assert trainer.accelerator.scaler.get_scale() < 2.0**69  # some steps were skipped
    assert len(saved_weights(tmp_path)) == 4
    assert all(saved_weights(tmp_path).values())
    assert any(not torch.equal(before[name], weights) for name, weights in weights_of(trainer).items())


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused"])
def test_twenty_skipped_steps_in_a_row_are_named_once(tmp_path: Path, optim: str) -> None:
    trainer = tiny_trainer(tmp_path, n=4 * (SKIPS + 2), config=SHUFFLED, max_grad_norm=0, optim=optim)
    trainer.accelerator.scaler = scaler(backoff=0.9999)
    before = weights_of(trainer)
    trainer.train()
    assert all(torch.equal(before[name], weights) for name, weights in weights_of(trainer).items())
    said = [line for event in events(tmp_path, "warnings") for line in event["warnings"]]
    assert len([line for line in said if "the last 20 optimizer steps were skipped" in line]) == 1


# -- by itself ---------------------------------------------------------------------------------------------------------


def watched(peers: Peers | None = None) -> tuple[torch.nn.Linear, Finite]:
    model = torch.nn.Linear(2, 2)
    return model, Finite(model, peers or Peers(), lambda update: f"Because of step {update.step}.")


def test_weights_that_are_bad_on_one_rank_stop_all_of_them() -> None:
    def act(peers: Peers) -> None:
        model, finite = watched(peers)
        finite.before_update(UPDATE)
        if peers.rank == 1:
            model.weight.data[0, 0] = torch.nan
        finite.settle()

    for error in on_ranks(3, act):
        assert isinstance(error, DivergedError)
        assert str(error) == "the weights after step 7 must be finite, got NaN or inf. Because of step 7."


def test_weights_that_are_too_large_to_be_added_up_are_numbers_all_the_same() -> None:
    model, finite = watched()
    model.weight.data[:] = 3e38
    finite.settle()


def test_weights_that_were_bad_before_training_are_said_to_be() -> None:
    model, finite = watched()
    model.bias.data[0] = torch.inf
    with pytest.raises(DivergedError, match=r"finite before training, got NaN or inf. Load the model again"):
        finite.settle()


def test_frozen_weights_and_gradients_that_are_not_there_are_not_asked() -> None:
    model, finite = watched()
    finite.before_update(UPDATE)
    finite.after_update(skipped=False)
    model.weight.requires_grad_(False)
    model.weight.data[0, 0] = torch.nan  # padding of a quantised matrix, say
    Finite(model, Peers(), str).settle()


def test_weights_that_are_thawed_while_training_goes_on_are_looked_at() -> None:
    model, _ = watched()
    model.weight.requires_grad_(False)
    finite = Finite(model, Peers(), lambda update: f"Because of step {update.step}.")
    finite.settle()
    model.weight.requires_grad_(True)
    finite.before_update(UPDATE)
    model.weight.requires_grad_(False).data[0, 0] = torch.nan  # frozen again: it was trained all the same
    with pytest.raises(DivergedError, match=r"the weights after step 7 must be finite"):
        finite.settle()


def test_a_bad_gradient_is_reported_with_its_own_step_a_step_later() -> None:
    model, finite = watched()
    model.weight.grad = torch.full((2, 2), torch.nan)
    finite.before_update(UPDATE)
    model.weight.data += model.weight.grad
    finite.after_update(skipped=False)
    with pytest.raises(DivergedError, match=r"the gradients of step 7 must be finite, .* Because of step 7\."):
        finite.before_update(Update(8, UPDATE.rows, 1e-3))


def test_skipped_steps_are_counted_in_a_row_whoever_skips_them() -> None:
    model, finite = watched()
    counts = []
    for gradient, skipped in [(1.0, False), (torch.inf, True), (torch.nan, False), (torch.inf, True), (1.0, False)] * 2:
        model.weight.grad = torch.full((2, 2), gradient)
        finite.before_update(UPDATE)
        finite.after_update(skipped=skipped)
        counts.append(finite.skipped)
    assert counts == [0, 1, 1, 3, 3, 0, 1, 1, 3, 3]  # what tells nobody counts a step later


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, r"has diverged: lower the learning rate \(it was 0\.5\)"),
        ({"empty_mean": True}, r"has no token that carries loss, and the mean over none is 0 / 0"),
        ({"half": "The forward computes in"}, r"The forward computes in float16.*Write bf16: true instead of fp16"),
    ],
)
def test_the_likely_cause_is_named(facts: Json, words: str) -> None:
    assert re.search(words, likely_cause(learning_rate=0.5, **facts))


def test_the_parts_that_zero_3_and_fsdp_have_left_here_are_looked_at() -> None:
    model, _ = watched()
    model.weight.ds_tensor = torch.tensor([torch.nan])
    with pytest.raises(DivergedError):
        Finite(model, Peers(), str).settle()
    model.weight.ds_tensor = SimpleNamespace(detach=lambda: SimpleNamespace(to_local=lambda: torch.ones(2)))
    Finite(model, Peers(), str).settle()
