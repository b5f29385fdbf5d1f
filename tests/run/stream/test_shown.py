"""What a forward was given, as hashes: the same in every layout a batch may have, another for any other row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.prepared import read_rows
from campus_tune.data.token_hashes import hash_flat, shown_factors, token_keys
from campus_tune.model.row_sums import batch_sums
from campus_tune.run.stream.shown import Planned, ShownBatch, ShownRows
from campus_tune.words.hashing import hash_rows
from tests.run.tiny_run import dataset

TOKENS = st.integers(0, 200_000)


@st.composite
def row_sets(draw: st.DrawFn) -> list[tuple[list[int], list[int]]]:
    """Rows as (ids, labels): two tokens at least, one that carries loss at least, seldom a label of another token."""
    rows = []
    for ids in draw(st.lists(st.lists(TOKENS, min_size=2, max_size=9), min_size=1, max_size=5)):
        carries = draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
        labels = [token if carry else -100 for token, carry in zip(ids, carries, strict=True)]
        labels[-1] = draw(st.sampled_from([ids[-1], ids[-1], ids[-1] + 1]))
        rows.append((ids, labels))
    return rows


def as_planned(rows: list[tuple[list[int], list[int]]]) -> tuple[list[int], list[int]]:
    read = read_rows(dataset([{"input_ids": ids, "labels": labels} for ids, labels in rows]))
    return read.shown.tolist(), read.shown_trained.tolist()


def padded(rows: list[tuple[list[int], list[int]]], *, side: str, width: int) -> dict[str, Any]:
    def fill(values: list[int], filler: int) -> list[int]:
        more = [filler] * (width - len(values))
        return more + values if side == "left" else values + more

    return {
        "input_ids": torch.tensor([fill(ids, 7) for ids, _ in rows]),
        "labels": torch.tensor([fill(labels, -100) for _, labels in rows]),
        "attention_mask": torch.tensor([fill([1] * len(ids), 0) for ids, _ in rows]),
    }


def flat(rows: list[tuple[list[int], list[int]]], n_more: int) -> dict[str, Any]:
    """Behind one another as trl lays them, the first label of each ignored, `n_more` tokens of padding at the end."""
    labels = [label for _, of_row in rows for label in [-100, *of_row[1:]]]
    positions = [place for ids, _ in rows for place in range(len(ids))]
    return {
        "input_ids": torch.tensor([[token for ids, _ in rows for token in ids] + [7] * n_more]),
        "labels": torch.tensor([labels + [-100] * n_more]),
        "position_ids": torch.tensor([positions + [0] * n_more]),
    }


LAYOUTS = ("right", "left", "flat", "ends", "open", "square", "square of floats")


def batch_of(rows: list[tuple[list[int], list[int]]], layout: str, more: int) -> dict[str, Any]:
    width = max(len(ids) for ids, _ in rows) + more
    if layout in ("flat", "ends"):
        batch = flat(rows, more)
        if layout == "ends":
            starts = (batch.pop("position_ids")[0] == 0).nonzero()[:, 0]
            batch["cu_seq_lens_q"] = torch.cat([starts, torch.tensor([batch["labels"].shape[1]])]).to(torch.int32)
        return batch
    batch = padded(rows, side="left" if layout == "left" else "right", width=width)
    if layout == "open":
        del batch["attention_mask"]
    if layout.startswith("square"):
        causal = torch.tril(torch.ones(len(rows), 1, width, width)).bool()
        floats = torch.zeros(causal.shape).masked_fill(~causal, -torch.inf)
        batch["attention_mask"] = floats if layout.endswith("floats") else causal
    return batch


def rows_of(batch: dict[str, Any], rows: list[tuple[list[int], list[int]]]) -> ShownRows:
    tokens, trained = (np.array(hashes, dtype=np.uint64) for hashes in as_planned(rows))
    return ShownBatch(batch).rows(Planned(tokens, trained, np.array([len(ids) for ids, _ in rows])))


@pytest.mark.parametrize("layout", LAYOUTS)
@given(rows=row_sets(), more=st.integers(0, 4))
def test_a_row_has_the_hashes_it_was_planned_with_in_every_layout(
    layout: str, rows: list[tuple[list[int], list[int]]], more: int
) -> None:
    given_ = rows_of(batch_of(rows, layout, more), rows)
    tokens, trained = as_planned(rows)
    assert given_.tokens.tolist() == tokens
    assert given_.trained.tolist() == trained


@pytest.mark.parametrize("layout", LAYOUTS)
@given(rows=row_sets(), data=st.data())
def test_another_token_and_another_label_are_another_row(
    layout: str, rows: list[tuple[list[int], list[int]]], data: st.DataObject
) -> None:
    changed = [(list(ids), list(labels)) for ids, labels in rows]
    row = data.draw(st.integers(0, len(rows) - 1))
    place = data.draw(st.integers(1, len(rows[row][0]) - 1))
    what = data.draw(st.sampled_from(["token", "label"]))
    ids, labels = changed[row]
    if what == "token":
        ids[place] += 1
    else:
        labels[place] = labels[place] + 1 if labels[place] != -100 else ids[place]
    given_ = rows_of(batch_of(changed, layout, 1), rows)
    tokens, trained = as_planned(rows)
    assert given_.trained.tolist() != trained
    assert (given_.tokens.tolist() == tokens) == (what == "label")


@given(ids=st.lists(TOKENS, min_size=1, max_size=30))
def test_keys_are_the_two_hashes_that_they_are_written_out_of(ids: list[int]) -> None:
    tokens, places = np.array(ids, dtype=np.int64), hash_rows(np.arange(len(ids)), 1)
    slow = [
        int(hash_rows(np.array([token ^ int(place)], dtype=np.uint64), 2)[0])
        for token, place in zip(ids, places, strict=True)
    ]
    assert token_keys(tokens, places.view(np.int64)).view(np.uint64).tolist() == slow


def test_hashes_by_hand() -> None:
    """Tokens 5, 6, 7 of which the second and third carry loss, the third with a label of its own."""
    ids, labels, carries = np.array([5, 6, 7]), np.array([5, 6, 9]), np.array([True, True, True])
    keys = token_keys(ids, hash_rows(np.arange(3), 1).view(np.int64)).tolist()
    tokens, trained, shown, shown_trained = (int(one[0]) for one in hash_flat(ids, labels, carries, np.array([3])))
    mask = (1 << 64) - 1
    assert tokens == sum(keys) & mask
    spread, factor = 0xD6E8FEB86659FD93, 0xA0761D6478BD642F
    answers = keys[1] + keys[2] * (1 + 2 * spread)  # the first token is predicted by nothing
    assert trained == (sum(keys) + factor * answers) & mask
    a, b = (each.tolist() for each in shown_factors(3))
    assert shown == (6 * a[1] + 7 * a[2] + 8 * a[3]) & mask
    assert shown_trained == (shown + 7 * b[2] + 10 * b[3]) & mask


def test_factors_of_places_are_odd_and_know_nothing_of_one_another() -> None:
    a, b = shown_factors(1 << 14)
    assert (a & 1).all()
    assert b[1] == 0  # nothing predicts the first token
    assert (np.delete(b, 1) & 1).all()
    both = np.concatenate([a, np.delete(b, 1), a[2:] + b[2:]])
    assert len(np.unique(both)) == len(both)
    twos = np.log2((both & -both).view(np.uint64).astype(np.float64))  # of a and b together, where both are another's
    assert twos.max() < 64 - 2 * 17  # another token of 17 bits, and its label: never 0
    longer = shown_factors(1 << 15)
    assert all(np.array_equal(each, more[: len(each)]) for each, more in zip((a, b), longer, strict=True))


def test_padding_that_is_trained_shows() -> None:
    rows = [([5, 6, 7], [-100, 6, 7]), ([8, 9], [-100, 9])]
    batch = padded(rows, side="right", width=4)
    batch["labels"][1, 3] = 7
    _, trained = as_planned(rows)
    assert rows_of(batch, rows).trained.tolist()[0] == trained[0]
    assert rows_of(batch, rows).trained.tolist()[1] != trained[1]


def test_an_open_row_that_begins_with_another_planned_row_is_the_longer_one() -> None:
    rows = [([5, 6], [-100, 6]), ([5, 6, 7], [-100, 6, 7])]
    tokens, trained = as_planned(rows)
    shown = rows_of(batch_of(rows, "open", 2), rows)
    assert (shown.tokens.tolist(), shown.trained.tolist()) == (content, trained)
    batch = batch_of(rows, "open", 2)
    del batch["labels"]
    assert sorted(rows_of(batch, rows).tokens.tolist()) == sorted(content)


def test_places_of_a_flat_batch_lead_to_its_sums_past_the_padding() -> None:
    rows = [([5, 6, 7], [-100, 6, 7]), ([8, 9], [-100, 9])]
    batch = flat(rows, 3)
    outputs = type("Outputs", (), {"logits": torch.zeros(1, 8, 32)})
    sums = batch_sums(outputs, batch)
    assert sums is not None
    place = rows_of(batch, rows).place
    assert sums.tokens[torch.from_numpy(place)].tolist() == [2, 1]


def test_a_mask_with_places_in_front_is_read_from_its_end() -> None:
    """Prompt learning hands the model longer masks than token ids."""
    rows = [([5, 6, 7], [-100, 6, 7]), ([8, 9], [-100, 9])]
    batch = padded(rows, side="right", width=3)
    batch["attention_mask"] = torch.cat([torch.ones(2, 4, dtype=torch.int64), batch["attention_mask"]], 1)
    assert rows_of(batch, rows).trained.tolist() == as_planned(rows)[1]
