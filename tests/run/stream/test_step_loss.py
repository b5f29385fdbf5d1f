"""A loss that is said to count the tokens of its step is taken at its word until the first steps show otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import LlamaForCausalLM, TrainerCallback
from trl import SFTTrainer

from campus_tune.demo.tiny import tiny_model
from campus_tune.model import compat
from campus_tune.run.stream.step_loss import STEPS, counts_tokens
from campus_tune.words.errors import TrainerError
from campus_tune.words.types import Json
from tests.run import plain_run
from tests.run.test_bad_input import plain_trainer
from tests.run.tiny_run import dataset, tiny_trainer

ROWS = [{"input_ids": list(range(5, 5 + n)), "labels": list(range(5, 5 + n))} for n in range(4, 36)]
CUT: Json = {"selector": "shuffle"}
DRAWN: Json = {"selector": "shuffle", "batching": "plain"}


class MeanOfItsOwn(LlamaForCausalLM):
    """A model from elsewhere: it takes `num_items_in_batch`, and makes nothing of it."""

    def forward(  # type: ignore[override]  # as models from elsewhere have it
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        labels: Any = None,
        num_items_in_batch: Any = None,
        **kwargs: Any,
    ) -> Any:
        del num_items_in_batch
        return super().forward(input_ids, attention_mask=attention_mask, labels=labels, **kwargs)


class SaysItCounts(SFTTrainer):
    loss_is_scaled_for_ga = True

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        del return_outputs
        return self.own(model(**inputs).loss, inputs["labels"], num_items_in_batch)

    def own(self, mean: Any, labels: Any, step_tokens: Any) -> Any:
        del labels, step_tokens
        return mean / self.current_gradient_accumulation_steps


class Honest(SaysItCounts):
    """As the advice says."""

    loss_is_scaled_for_ga = False

    def own(self, mean: Any, labels: Any, step_tokens: Any) -> Any:
        del labels, step_tokens
        return mean


class Counts(SaysItCounts):
    def own(self, mean: Any, labels: Any, step_tokens: Any) -> Any:
        return mean * (labels[:, 1:] != -100).sum() / step_tokens


def plain_of(out: Path, model: Any, config: Json) -> Any:
    settings = {"gradient_accumulation_steps": 4, "per_device_train_batch_size": 2}
    return plain_trainer(out, dataset(ROWS), config=config, model=model, **settings)


def sft_of(out: Path, kind: type, config: Json) -> Any:
    settings: Json = {"gradient_accumulation_steps": 4, "per_device_train_batch_size": 2, "train": dataset(ROWS)}
    return tiny_trainer(out, trainer_class=kind, config=config, **settings)


def test_a_model_whose_loss_is_a_mean_after_all_is_found_on_the_first_step(tmp_path: Path) -> None:
    model = MeanOfItsOwn(tiny_model().config)
    trainer = plain_of(tmp_path / "cut", model, CUT)
    with pytest.raises(TrainerError, match=r"must count the answer tokens .* got a mean over each micro batch"):
        trainer.train()
    assert trainer.state.global_step == 1
    assert "training_step" not in vars(trainer)
    plain_of(tmp_path / "drawn", model, DRAWN).train()


def test_a_trainer_that_says_so_of_a_mean_is_found_and_one_that_counts_is_left_alone(tmp_path: Path) -> None:
    trainer = sft_of(tmp_path / "cut", SaysItCounts, CUT)
    with pytest.raises(TrainerError, match="say of a loss of your own loss_is_scaled_for_ga = False"):
        trainer.train()
    sft_of(tmp_path / "honest", Honest, CUT).train()
    sft_of(tmp_path / "counts", Counts, CUT).train()


def test_the_librarys_own_loss_is_not_looked_at(tmp_path: Path) -> None:
    assert not compat.is_taken_at_its_word(plain_of(tmp_path, tiny_model(), CUT))
    assert not compat.is_taken_at_its_word(sft_of(tmp_path, SFTTrainer, CUT))
    assert compat.is_taken_at_its_word(sft_of(tmp_path, SaysItCounts, CUT))


# -- the arithmetic ----------------------------------------------------------------------------------------------------


def steps_of(kind: str, *, sizes: tuple[int, ...] = (10, 20, 40, 80), n: int = 2, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    steps = []
    for _ in range(n):
        tokens = np.array(sizes, dtype=np.float64)
        nll = tokens * rng.uniform(1.5, 3.0, len(tokens))
        step_tokens = tokens.sum()
        focal = nll * rng.uniform(0.3, 0.9, len(tokens))
        loss = {
            "sum": nll / step_tokens,
            "scaled": 1024 * nll / step_tokens,
            "mean": nll / tokens,
            "mean, divided": nll / tokens / len(tokens),
            "focal": focal / step_tokens,
        }[kind]
        steps.append(np.stack([loss, nll, tokens], axis=1))
    return steps


@pytest.mark.parametrize(
    ("kind", "verdict"), [("sum", True), ("scaled", True), ("mean", False), ("mean, divided", False), ("focal", None)]
)
def test_sums_and_means_are_told_apart_whatever_they_are_multiplied_by(kind: str, verdict: bool | None) -> None:
    assert counts_tokens(steps_of(kind)) is verdict


def test_micro_batches_that_are_alike_or_too_few_tell_nothing() -> None:
    assert counts_tokens(steps_of("mean", sizes=(10, 11, 10, 11))) is None
    assert counts_tokens(steps_of("mean", sizes=(10, 40), n=1)) is None
    assert counts_tokens(steps_of("mean", sizes=(10, 40), n=2)) is False
    assert counts_tokens([np.zeros((0, 3))]) is None


def test_losses_that_are_not_there_or_no_numbers_are_left_out() -> None:
    steps = steps_of("sum")
    steps[0][0] = (np.nan, 1.0, 5.0)
    steps[1][1] = (0.0, 1.0, 5.0)
    assert counts_tokens(steps) is True


@pytest.mark.parametrize("seed", range(20))
def test_another_loss_is_never_taken_for_a_mean(seed: int) -> None:
    assert counts_tokens(steps_of("focal", n=STEPS, seed=seed)) is None


def test_a_second_attempt_with_smaller_batches_cuts_steps_as_the_first_did(tmp_path: Path) -> None:
    class Full(TrainerCallback):
        failed = False

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, state, control
            cuts.append(kwargs["train_dataloader"].cut)
            if not self.failed:
                self.failed = True
                raise RuntimeError("CUDA out of memory.")

    cuts: list[str] = []
    model = tiny_model()
    model.__class__ = type("Elsewhere", (type(model),), {"__module__": "elsewhere"})
    trainer = plain_run.plain_trainer(tmp_path, model=model, auto_find_batch_size=True, gradient_accumulation_steps=2)
    trainer.add_callback(Full())
    trainer.train()
    assert len(cuts) > 1
    assert set(cuts) == {"even"}
