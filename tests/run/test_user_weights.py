"""Weights that stand in a user's data, all the way: from the column or the messages to what one step teaches."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trl
from torch.nn.functional import cross_entropy

from campus_tune.data.message_weights import read_message_weights
from campus_tune.demo.tiny import tiny_model
from campus_tune.model import compat
from campus_tune.words.errors import DataError, ResumeError
from campus_tune.words.types import Json
from tests.run.tiny_run import ledger_of, task_rows, tokenizer

RATE = 0.5
START = tokenizer().convert_tokens_to_ids("<|im_start|>")
WEIGHTS = [0.0, 1.0, 4.0, 0.5]
RECIPE: Json = {"selector": "shuffle", "metrics": [], "stages": 1}


def chats(n: int = 4) -> list[Json]:
    """Questions and answers, twice in each row, of which every second message says how much it counts."""
    rows = task_rows(2 * n)
    made = []
    for i in range(n):
        turns = [dict(turn) for row in rows[2 * i : 2 * i + 2] for turn in (*row["prompt"], *row["completion"])]
        for j in (0, 3):
            turns[j]["weight"] = WEIGHTS[(i + j) % 4] + j
        made.append({"messages": turns})
    return made


def columns(n: int = 4) -> list[Json]:
    return [{**row, "weight": WEIGHTS[i % 4]} for i, row in enumerate(task_rows(n))]


def of_tokens(row: Json) -> list[float]:
    """The weight of each token, as the user would say: each sign of a beginning begins the next message."""
    if "messages" not in row:
        return [row["weight"]] * len(row["input_ids"])
    message, found = -1, []
    for token in row["input_ids"]:
        message += token == START
        weight = row["messages"][message].get("weight")
        found.append(1.0 if weight is None else weight)
    return found


def by_hand(rows: Any) -> dict[str, torch.Tensor]:
    """A model after one step down the gradient of Σ w·ℓ/Σ w over all tokens of these rows."""
    model, above, below = tiny_model(), torch.zeros(()), 0.0
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
        losses = cross_entropy(model(ids).logits[0, :-1], labels[1:], reduction="none")  # 0 where a label is ignored
        weights = torch.tensor(of_tokens(row))[1:] * (labels[1:] != -100)
        above, below = above + (losses * weights).sum(), below + float(weights.sum())
    (above / below).backward()  # type: ignore[no-untyped-call]
    return {
        name: value.detach() - RATE * value.grad for name, value in model.named_parameters() if value.grad is not None
    }


@pytest.mark.parametrize(
    ("rows", "of", "settings"),
    [
        (columns(), "row", {}),
        (chats(), "message", {}),
        (chats(), "message", {"assistant_only_loss": True}),
        (chats(), "message", {"max_length": 60, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}),
        (chats(), "message", {"padding_free": True, "max_length": None}),
    ],
    ids=["rows", "messages", "answers alone", "cut off, one by one", "padding free"],
)
def test_one_step_goes_down_the_gradient_that_the_user_weighted(
    tiny_trainer: Callable[..., Any], tmp_path: Path, rows: Any, of: str, settings: Json
) -> None:
    recipe = {**RECIPE, "weights": [{"name": "column", "of": of}]}
    trainer = tiny_trainer(
        train=rows,
        config=recipe,
        optim="sgd",
        learning_rate=RATE,
        lr_scheduler_type="constant",
        max_grad_norm=1e9,
        **settings,
    )
    expected = by_hand(trainer.train_dataset)
    trainer.train()
    assert trainer.state.global_step == 1
    for name, value in trainer.model.named_parameters():
        torch.testing.assert_close(value.detach(), expected[name], rtol=1e-4, atol=2e-6)
    assert ledger_of(tmp_path / "run")[-1]["weights_audit"] == [1, 1]


def test_the_template_that_trl_swaps_in_is_the_one_that_is_read(
    tiny_trainer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(trl.__file__).parent / "chat_templates"
    if not (folder / "qwen3_training.jinja").exists():
        pytest.skip("this trl swaps in none")
    monkeypatch.setattr(tokenizer(), "chat_template", (folder / "qwen3.jinja").read_text("utf-8"))
    trainer = tiny_trainer(train=chats(), config=False, assistant_only_loss=True, max_length=None)
    assert "{% generation" in str(compat.trained_template(trainer)).replace("{%-", "{%")
    rows = trainer.train_dataset
    found = read_message_weights(rows, "weight", tokenizer(), template=compat.trained_template(trainer))
    trained = [[w for w, label in zip(of_tokens(row), row["labels"], strict=True) if label != -100] for row in rows]
    mean = sum(map(sum, trained)) / sum(map(len, trained))
    for row, wanted in enumerate(trained):
        np.testing.assert_allclose(found.rows[row] * found.shapes[row], np.array(wanted) / mean)


@pytest.mark.parametrize(("rows", "of"), [(columns(48), "row"), (chats(24), "message")], ids=["rows", "messages"])
def test_a_run_does_not_go_on_with_other_weights(
    tiny_trainer: Callable[..., Any], tmp_path: Path, rows: list[Json], of: str
) -> None:
    recipe = {**RECIPE, "stages": 2, "weights": [{"name": "column", "of": of}]}
    tiny_trainer(train=rows, config=recipe, save_steps=2).train()
    checkpoint = str(tmp_path / "run" / "checkpoint-2")
    other = copy.deepcopy(rows)
    (other[5] if of == "row" else other[5]["messages"][0])["weight"] += 0.5
    with pytest.raises(ResumeError, match=r"weights: weight"):
        tiny_trainer(tmp_path / "other", train=other, config=recipe).train(resume_from_checkpoint=checkpoint)
    doubled = copy.deepcopy(rows)
    for row in doubled:
        for one in [row] if of == "row" else row["messages"]:
            one["weight"] = 2 * one.get("weight", 1.0)
    again = tiny_trainer(tmp_path / "again", train=doubled, config=recipe)  # only ratios count
    again.train(resume_from_checkpoint=checkpoint)
    assert ledger_of(tmp_path / "again")[-1]["weights_audit"][0] > 0


def test_a_column_that_says_nothing_is_told_in_the_ledger(tiny_trainer: Callable[..., Any], tmp_path: Path) -> None:
    rows = [{**row, "weight": 3} for row in columns()]
    tiny_trainer(train=rows, config={**RECIPE, "weights": ["column"]}).train()
    warnings = [said for event in ledger_of(tmp_path / "run") for said in event.get("warnings", [])]
    assert any("`weights: column: weight` must differ between rows" in said for said in warnings)


def test_rows_that_have_no_weight_stop_a_run_before_it_begins(tiny_trainer: Callable[..., Any]) -> None:
    rows = columns()
    rows[2]["weight"] = None
    trainer = tiny_trainer(train=rows, config={**RECIPE, "weights": ["column"]})
    with pytest.raises(DataError, match=r"`weights: column: weight` must have a number for every row, .* \(first: 2\)"):
        trainer.train()
    assert trainer.state.global_step == 0
