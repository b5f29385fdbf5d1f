"""The losses that training shows for free: on the rows they belong to, or said at the start why there are none."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DataCollatorForSeq2Seq, Trainer
from trl import SFTTrainer

from campus_tune.demo.tiny import tiny_model
from campus_tune.scores.cache import read_columns
from campus_tune.words.types import RowLosses
from tests.run.plain_run import ROWS, SHUFFLE, plain_trainer
from tests.run.tiny_run import tokenizer
from tests.run.witness import assert_close, events, slow_losses

Make = Callable[..., Any]


def free_losses(out: Path) -> tuple[Any, RowLosses]:
    """All rows with a training loss, in the sequence of training, and the losses."""
    files = sorted((out / "curriculum" / "training_losses").glob("*.parquet"))
    columns = [read_columns(file)[0] for file in files]
    joined = {name: np.concatenate([part[name] for part in columns]) for name in columns[0]}
    return joined.pop("row"), RowLosses(**joined)


def longest_first(rows: Any) -> Any:
    return DataCollatorForSeq2Seq(tokenizer())(sorted(rows, key=lambda row: -len(row["input_ids"])))


def unmasked(rows: Any) -> Any:
    batch = DataCollatorForSeq2Seq(tokenizer())(rows)
    return {name: batch[name] for name in ("input_ids", "labels")}


@pytest.mark.parametrize("collator", [longest_first, unmasked])
def test_losses_belong_to_the_rows_that_the_forward_was_given(collator: Any, tmp_path: Path) -> None:
    trainer = plain_trainer(tmp_path, collator)  # nothing is learned: each row's loss stays as it was
    trainer.train()
    rows, losses = free_losses(tmp_path)
    assert sorted(rows.tolist()) == list(range(len(ROWS)))
    assert_close(losses, RowLosses(*map(np.array, zip(*(slow_losses(trainer, row) for row in rows), strict=True))))


def test_two_forwards_of_one_loss_train_each_row_once(tmp_path: Path) -> None:
    class RDrop(Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            one, two = model(**inputs), model(**inputs)
            loss = (one.loss + two.loss) / 2 + torch.nn.functional.mse_loss(one.logits, two.logits)
            return (loss, one) if return_outputs else loss

    trainer = plain_trainer(tmp_path, kind=RDrop)
    trainer.train()
    assert events(tmp_path, "end")[0]["audit"] == {"checked": 7, "passed": 7, "labels": True}
    assert sorted(free_losses(tmp_path)[0].tolist()) == list(range(len(ROWS)))


def own_loss(outputs: Any, labels: Any, num_items_in_batch: Any) -> Any:
    return outputs.logits.float().square().mean() + 0 * labels.sum() / num_items_in_batch


SILENT = {
    "label smoothing": ({"label_smoothing_factor": 0.1}, r"label smoothing \(label_smoothing_factor\) takes"),
    "a loss function": ({"compute_loss_func": own_loss}, "compute_loss_func takes the labels away"),
}


def warnings_of(out: Path) -> list[str]:
    return [warning for event in events(out, "warnings") for warning in event["warnings"]]


@pytest.mark.parametrize("name", SILENT)
def test_why_there_are_none_is_said_once_and_stages_take_the_trainers_loss(name: str, tmp_path: Path) -> None:
    settings, says = SILENT[name]
    trainer = plain_trainer(tmp_path, **settings)
    trainer.train()
    (told,) = (warning for warning in warnings_of(tmp_path) if "no losses of single rows" in warning)
    assert re.search(says, told)
    assert not (tmp_path / "curriculum" / "training_losses").exists()
    assert events(tmp_path, "end")[0]["audit"] == {"checked": 7, "passed": 7, "labels": False}
    logged = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    first, second = events(tmp_path, "stage_end")
    known = first["step"] - 1  # the line of a stage's last step comes after its end
    assert (first["train_loss"], first["train_loss_from"]) == (pytest.approx(np.mean(logged[:known])), "log")
    assert second["train_loss"] == pytest.approx(np.mean(logged[known:6]))


class Without(torch.nn.Module):
    """A model whose outputs have no logits, or an object in their place."""

    def __init__(self, logits: Any) -> None:
        super().__init__()
        self.inner, self.logits = tiny_model(), logits
        self.config, self.accepts_loss_kwargs = self.inner.config, True

    def forward(self, input_ids: Any, attention_mask: Any = None, labels: Any = None, **more: Any) -> Any:
        outputs = self.inner(input_ids, attention_mask=attention_mask, labels=labels, **more)
        outputs["logits"] = self.logits
        return outputs


@pytest.mark.parametrize("logits", [None, (), object()])
def test_outputs_without_a_tensor_of_logits_are_no_reason_to_stop(logits: Any, tmp_path: Path) -> None:
    plain_trainer(tmp_path, model=Without(logits)).train()
    assert any("the outputs of Without have no logits" in warning for warning in warnings_of(tmp_path))
    assert events(tmp_path, "end")[0]["audit"] == {"checked": 7, "passed": 7, "labels": True}


def test_a_run_with_losses_of_rows_says_nothing_of_it(tmp_path: Path) -> None:
    plain_trainer(tmp_path).train()
    assert not any("single rows" in warning for warning in warnings_of(tmp_path))
    assert all("train_loss_from" not in end for end in events(tmp_path, "stage_end"))


@pytest.mark.parametrize(
    "settings",
    [
        {"label_smoothing_factor": 0.1},
        {"trainer_args": {"compute_loss_func": own_loss}},
    ],
    ids=["label smoothing", "a loss function"],
)
def test_where_trl_asks_again_for_its_metrics_losses_and_labels_are_there(
    settings: Any, tiny_trainer: Make, tmp_path: Path
) -> None:
    with pytest.warns(FutureWarning, match="deprecated"):
        trainer = tiny_trainer(n=16, config=SHUFFLE, **settings)
    trainer.train()
    assert isinstance(trainer, SFTTrainer)
    assert events(tmp_path / "run", "end")[0]["audit"] == {"checked": 4, "passed": 4, "labels": True}
    assert sorted(free_losses(tmp_path / "run")[0].tolist()) == list(range(16))
