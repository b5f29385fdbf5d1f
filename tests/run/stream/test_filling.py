"""A rank without a row takes part in a forward of which nothing is counted or trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from transformers.trainer_pt_utils import LabelSmoother
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from campus_tune.demo.tiny import tiny_model
from campus_tune.run.stream.filling import KEY, Filling, emptied, note_share
from tests.run.other_models import tiny_moe

ROW = {"input_ids": [5, 6, 7, 8], "labels": [-100, 6, 7, 8]}


def batch(*, flat: bool = False) -> Any:
    return DataCollatorForLanguageModeling(pad_token_id=0, padding_free=flat)([ROW])


@contextmanager
def filling(model: Any) -> Iterator[Any]:
    hooks = Filling(model)
    try:
        yield model
    finally:
        hooks.close()


@pytest.mark.parametrize("flat", [False, True])
def test_to_everybody_but_the_model_a_filling_batch_has_no_token(flat: bool) -> None:
    empty = emptied(batch(flat=flat))
    assert set(empty) == {*batch(flat=flat), KEY}
    assert empty["input_ids"].numel() == 0 == int(empty["labels"][..., 1:].ne(-100).sum())
    if flat:
        assert empty["position_ids"].size(1) == 0
    else:
        assert int(empty["attention_mask"].sum()) == 0
    assert empty[KEY]["row"]["input_ids"].tolist() == [ROW["input_ids"]]
    assert set(empty[KEY]["row"]["labels"].flatten().tolist()) == {-100}


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("make", [tiny_model, tiny_moe], ids=["dense", "experts"])
def test_every_weight_takes_part_and_none_gets_a_gradient(make: Any, flat: bool) -> None:
    with filling(make()) as model:
        outputs = model(**emptied(batch(flat=flat)), num_items_in_batch=torch.tensor(7))
        outputs.loss.backward()
    assert float(outputs.loss.detach()) == 0.0
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.dim() > 1)
    assert not any(parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)


def test_a_loss_outside_of_the_model_finds_as_many_logits_as_labels() -> None:
    empty = emptied(batch())
    with filling(tiny_model()) as model:
        outputs = model(**{key: value for key, value in empty.items() if key != "labels"})
        loss = LabelSmoother(0.1)(outputs, empty["labels"], shift_labels=True, num_items_in_batch=torch.tensor(7))
        loss.backward()
    assert float(loss.detach()) == 0.0
    assert not any(parameter.grad.any() for parameter in model.parameters())


def test_a_routers_loss_is_averaged_over_the_ranks_that_have_rows() -> None:
    """Three ranks, of which two have rows: what trl's mean over three makes of it is the mean over two."""
    with filling(tiny_moe()) as model:
        plain = float(model(**batch()).aux_loss.detach())
        shown = [float(model(**one).aux_loss.detach()) for one in (note_share(batch(), 1.5), note_share(batch(), 1.5))]
        shown.append(float(model(**emptied(batch())).aux_loss.detach()))
    assert shown[2] == 0.0
    assert sum(shown) / 3 == pytest.approx(plain, rel=1e-6)


def test_other_hooks_see_the_row_and_batches_that_nobody_filled_pass_through() -> None:
    seen = []
    model = tiny_model()
    model.register_forward_pre_hook(lambda _, __, kwargs: seen.append(dict(kwargs)), with_kwargs=True)
    with filling(model):
        model(**emptied(batch()))
        filled = model(**batch())
    assert [kwargs["input_ids"].tolist() for kwargs in seen] == [[ROW["input_ids"]]] * 2
    assert not any(KEY in kwargs for kwargs in seen)
    assert torch.equal(model(**batch()).logits, filled.logits)
