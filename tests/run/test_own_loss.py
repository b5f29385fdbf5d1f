"""Whether a loss counts the tokens of its step is asked of the trainer; where it does not, rows stay as drawn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.trainer_pt_utils import LabelSmoother
from trl import SFTTrainer

from campus_tune.model import compat
from campus_tune.run.callback import CampusCallback
from campus_tune.words.types import Json
from tests.run.other_models import tiny_moe
from tests.run.recorded import lines_of, ours_and_plain
from tests.run.tiny_run import tiny_trainer, weights_of
from tests.run.witness import events


class Focal(SFTTrainer):
    """A loss of the user's own: a mean over the answer tokens of the micro batch, hard ones first."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        del num_items_in_batch
        wanted = inputs.pop("labels")[:, 1:]
        outputs = model(**inputs)
        counted = wanted != -100
        each = -outputs.logits[:, :-1].log_softmax(-1).gather(-1, wanted.clamp(min=0)[..., None])[..., 0]
        loss = (each * (1 - torch.exp(-each)) ** 2 * counted).sum() / counted.sum()
        return (loss, outputs) if return_outputs else loss


class Scaled(Focal):
    loss_is_scaled_for_ga = True


class MeanAndSaysSo(Focal):
    loss_is_scaled_for_ga = False


class OnlyNamed(SFTTrainer):
    """A class of the user's that leaves the loss alone."""


def mean_loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    del num_items_in_batch
    return torch.nn.functional.cross_entropy(outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


FACTS: dict[str, tuple[Json, str | None]] = {
    "trl's own": ({}, None),
    "dft": ({"loss_type": "dft"}, None),
    "a class without a loss of its own": ({"trainer_class": OnlyNamed}, None),
    "own compute_loss": ({"trainer_class": Focal}, r"Focal\.compute_loss is not the library's, and may be a mean per"),
    "own compute_loss that says it counts": ({"trainer_class": Scaled}, None),
    "own compute_loss that says it does not": ({"trainer_class": MeanAndSaysSo}, r"Focal\.compute_loss is not the"),
    "own compute_loss_func": ({"trainer_args": {"compute_loss_func": mean_loss}}, r"`compute_loss_func` is not the"),
}


@pytest.mark.filterwarnings("ignore:`compute_loss_func` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", FACTS)
def test_whether_the_loss_counts_the_tokens_of_the_step_is_asked_of_the_trainer(tmp_path: Path, name: str) -> None:
    settings, reason = FACTS[name]
    trainer = tiny_trainer(tmp_path, n=8, config=False, **settings)
    said = compat.what_the_loss_is(trainer)
    assert compat.counts_tokens_of_the_step(trainer) is (reason is None) is (said is None)
    if reason is not None:
        assert said is not None
        assert re.match(reason, said)


def test_a_loss_that_is_set_on_the_trainer_is_found(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, n=8, config=False)
    trainer.compute_loss = trainer.compute_loss
    assert "trainer.compute_loss is not the library's" in str(compat.what_the_loss_is(trainer))


def test_label_smoothing_counts_where_the_librarys_own_does(tmp_path: Path) -> None:
    class Older(LabelSmoother):
        def __call__(self, model_output: Any, labels: Any, shift_labels: bool = False) -> Any:
            return super().__call__(model_output, labels, shift_labels)

    trainer = tiny_trainer(tmp_path, n=8, config=False)
    trainer.label_smoother = LabelSmoother(0.1)
    assert compat.counts_tokens_of_the_step(trainer)
    trainer.label_smoother = Older(0.1)
    assert (
        compat.what_the_loss_is(trainer) == "label smoothing is a mean per micro batch in this version of transformers"
    )


def test_a_loss_that_is_a_mean_per_micro_batch_is_trained_as_by_the_library_alone(tmp_path: Path) -> None:
    ours, plain = ours_and_plain(tmp_path, kind=Focal, n=26, gradient_accumulation_steps=3)
    assert lines_of(ours) == lines_of(plain)
    for name, weights in weights_of(plain).items():
        assert weights.isfinite().all(), name
        assert weights.equal(weights_of(ours)[name]), name


@pytest.mark.parametrize("settings", [{"trainer_class": Focal}, {"model": tiny_moe()}], ids=["own loss", "router"])
def test_rows_stay_as_drawn_and_a_person_is_told_why(tmp_path: Path, settings: Json) -> None:
    def batches(out: Path, batching: str) -> list[list[list[int]]]:
        config = {"selector": "shuffle", "batching": batching}
        trainer = tiny_trainer(out, n=26, gradient_accumulation_steps=3, config=config, **settings)
        [run] = [one.run for one in trainer.callback_handler.callbacks if isinstance(one, CampusCallback)]
        with run.training():
            loader = trainer.get_train_dataloader()
        rows = torch.randperm(26, generator=torch.Generator().manual_seed(5)).numpy()
        return [loader.micro_batches(rows[first : first + 12]) for first in (0, 12, 24)]

    assert batches(tmp_path / "step", "step") == batches(tmp_path / "plain", "plain")
    assert [[len(batch) for batch in step] for step in batches(tmp_path, "step")] == [[4, 4, 4], [4, 4, 4], [2]]
    trainer = tiny_trainer(tmp_path / "run", n=8, config={"selector": "shuffle"}, **settings)
    trainer.train()
    said = [line for event in events(tmp_path / "run", "warnings") for line in event["warnings"]]
    assert [line for line in said if "rows are cut as drawn. Write batching: plain to say so." in line]
