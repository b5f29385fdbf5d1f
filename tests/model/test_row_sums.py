"""From per-token losses to rows: by hand, padded and flat, with logits and fused."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.token_hashes import IGNORED
from campus_tune.model.row_sums import add_up, batch_sums, is_flat, join, places_of, token_losses
from tests.strategies import examples

X = IGNORED
PADDED = {
    "labels": torch.tensor([[X, X, 7, 8, 2], [X, 5, 2, X, X]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}
FLAT = {
    "labels": torch.tensor([[X, X, 7, 8, 2, X, 5, 2]]),
    "position_ids": torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2]]),
}


def values(sums: Any) -> list[list[float]]:
    return [part.tolist() for part in sums]


def test_places_say_from_where_in_its_row_each_answer_token_is_predicted() -> None:
    padded, mask = places_of(PADDED)
    assert padded.row.tolist() == [0, 0, 0, 1, 1]
    assert padded.place.tolist() == [1, 2, 3, 0, 1]
    assert mask.tolist() == [[False, True, True, True], [True, True, False, False]]
    flat, _ = places_of(FLAT)
    assert flat.row.tolist() == padded.row.tolist()
    assert (flat.n_rows, flat.width) == (2, 5)


@pytest.mark.parametrize("batch", [PADDED, FLAT], ids=["padded", "flat"])
def test_every_column_adds_up_as_by_hand(batch: Any) -> None:
    nll = torch.tensor([1.0, 0.5, 2.0, 0.25, 4.0])
    hits = torch.tensor([False, True, False, True, False])
    sums = add_up(nll, hits, places_of(batch)[0])
    assert sums.nll.tolist() == [3.5, 4.25]
    assert sums.tokens.tolist() == [3, 2]
    assert sums.hits.tolist() == [1, 1]
    assert sums.worst.tolist() == [2.0, 4.0]
    sureness = [math.exp(-1) + math.exp(-0.5) + math.exp(-2), math.exp(-0.25) + math.exp(-4)]
    assert sums.sureness.tolist() == pytest.approx(sureness)


def test_losses_on_the_host_are_in_double_precision_and_behind_one_another() -> None:
    part = add_up(torch.tensor([1.0, 2, 3, 4, 5]), torch.ones(5, dtype=torch.bool), places_of(PADDED)[0])
    losses = join([part, part]).losses()
    assert losses.nll_sum.dtype == losses.worst.dtype == losses.sureness.dtype == float
    assert losses.nll_sum.tolist() == [6.0, 9.0, 6.0, 9.0]
    assert losses.top1.tolist() == losses.tokens.tolist() == [3, 2, 3, 2]


def test_a_row_without_answer_tokens_has_none_and_disturbs_no_other() -> None:
    batch = {"labels": torch.tensor([[X, X, X], [X, 4, 5]]), "attention_mask": torch.ones(2, 3)}
    sums = add_up(torch.tensor([1.0, 2.0]), torch.tensor([True, True]), places_of(batch)[0])
    assert values(sums)[:4] == [[0.0, 3.0], [0, 2], [0, 2], [0.0, 2.0]]


def test_a_batch_is_flat_when_positions_tell_its_rows_apart_and_no_mask_does() -> None:
    assert is_flat(FLAT)
    assert not is_flat(PADDED)
    assert not is_flat({**FLAT, "attention_mask": torch.ones(1, 8)})
    assert not is_flat({"labels": torch.ones(2, 3), "position_ids": torch.zeros(2, 3)})


def test_the_loss_of_a_token_is_its_negative_log_probability() -> None:
    losses, hits = token_losses(
        torch.tensor([[0.0, math.log(3.0)], [5.0, 5.0]], dtype=torch.bfloat16), torch.tensor([0, 1])
    )
    assert losses.tolist() == pytest.approx([math.log(4.0), math.log(2.0)], rel=1e-2)
    assert losses.dtype == torch.float32
    assert hits.tolist() == [False, False]


@examples(25)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_logits_and_fused_losses_and_the_flat_layout_say_the_same(seed: int, n_rows: int) -> None:
    make = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 7, (n_rows,), generator=make).tolist()
    width, vocabulary = max(lengths), 11
    labels = torch.full((n_rows, width), IGNORED)
    logits = torch.randn(n_rows, width, vocabulary, generator=make)
    mask = torch.zeros(n_rows, width, dtype=torch.long)
    for row, length in enumerate(lengths):
        start = int(torch.randint(1, length, (1,), generator=make))
        labels[row, start:length] = torch.randint(0, vocabulary, (length - start,), generator=make)
        mask[row, :length] = 1
    padded = values(batch_sums(SimpleNamespace(logits=logits), {"labels": labels, "attention_mask": mask}))
    kept = mask.bool()
    flat = {
        "labels": labels[kept][None],
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
    }
    flattened = values(batch_sums(SimpleNamespace(logits=logits[kept][None]), flat))
    log_probs = torch.log_softmax(logits[:, :-1], -1)
    wanted = labels[:, 1:].clamp(min=0)
    fused = SimpleNamespace(
        log_probs=log_probs.gather(-1, wanted[..., None])[..., 0],
        is_top1=log_probs.argmax(-1) == wanted,
        label_mask=labels[:, 1:] != IGNORED,
    )
    told = values(batch_sums(fused, {"labels": labels, "attention_mask": mask}))
    for a, b, c in zip(padded, flattened, told, strict=True):
        assert a == pytest.approx(b, rel=1e-5)
        assert a == pytest.approx(c, rel=1e-5)


def test_fused_losses_without_hits_count_none() -> None:
    fused = SimpleNamespace(log_probs=-torch.ones(2, 4), is_top1=None, label_mask=PADDED["labels"][:, 1:] != IGNORED)
    sums = batch_sums(fused, PADDED)
    assert sums.hits.tolist() == [0, 0]
    assert sums.nll.tolist() == [3.0, 2.0]
