"""What a forward was given, as hashes: the same in every layout a batch may have, another for any other row."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
import torch
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.prepared import read_rows
from campus_tune.data.token_hashes import hash_flat, place_table, token_keys
from campus_tune.model.row_sums import batch_sums
from campus_tune.run.stream.shown import Planned, ShownBatch, ShownRows
from campus_tune.words.hashing import hash_rows
from tests.run.tiny_run import dataset

TOKENS = st.integers(0, 200_000)
NONE = Planned(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64))


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
    return read.shown.tolist(), read.shown_labels.tolist()


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
    tokens, labels = (np.array(hashes, dtype=np.uint64) for hashes in as_planned(rows))
    return ShownBatch(batch).rows(Planned(tokens, labels, np.array([len(ids) for ids, _ in rows])))


@pytest.mark.parametrize("layout", LAYOUTS)
@given(rows=row_sets(), more=st.integers(0, 4))
def test_a_row_has_the_hashes_it_was_planned_with_in_every_layout(
    layout: str, rows: list[tuple[list[int], list[int]]], more: int
) -> None:
    given_ = rows_of(batch_of(rows, layout, more), rows)
    tokens, labels = as_planned(rows)
    assert given_.tokens == tokens
    assert given_.labels == labels


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
    tokens, of_labels = as_planned(rows)
    assert (given_.tokens, given_.labels) != (tokens, of_labels)
    assert (given_.tokens == tokens) == (what == "label")


@given(ids=st.lists(TOKENS, min_size=1, max_size=30))
def test_numpy_and_torch_give_the_same_keys_as_the_two_hashes_they_are_written_out_of(ids: list[int]) -> None:
    tokens, places = np.array(ids, dtype=np.int64), place_table(len(ids))
    slow = [
        int(hash_rows(np.array([token ^ int(hash_rows(np.array([place]), 1)[0])], dtype=np.uint64), 2)[0])
        for place, token in enumerate(ids)
    ]
    assert token_keys(tokens, places).view(np.uint64).tolist() == slow
    on_torch = token_keys(torch.from_numpy(tokens), torch.from_numpy(places.copy()))
    assert on_torch.numpy().view(np.uint64).tolist() == slow


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if not layout.startswith(("open", "square"))])
@given(rows=row_sets(), more=st.integers(0, 4), labelled=st.booleans())
def test_keys_on_a_device_are_those_by_which_rows_are_known(
    layout: str, rows: list[tuple[list[int], list[int]]], more: int, labelled: bool
) -> None:
    read = read_rows(dataset([{"input_ids": ids, "labels": labels} for ids, labels in rows]))
    keys = ShownBatch(batch_of(rows, layout, more), labels_known=labelled).keys().numpy().view(np.uint64)
    assert keys.tolist()[: len(rows)] == (read.trained if labelled else read.content).tolist()


def test_hashes_by_hand() -> None:
    """Tokens 5, 6, 7 of which the second and third carry loss, the third with a label of its own."""
    ids, labels, carries = np.array([5, 6, 7]), np.array([5, 6, 9]), np.array([True, True, True])
    keys = token_keys(ids, place_table(3)).tolist()
    tokens, trained, shown, of_labels = (int(one[0]) for one in hash_flat(ids, labels, carries, np.array([3])))
    mask = (1 << 64) - 1
    assert tokens == sum(keys) & mask
    spread, factor = 0xD6E8FEB86659FD93, 0xA0761D6478BD642F
    answers = keys[1] + keys[2] * (1 + 2 * spread)  # the first token is predicted by nothing
    assert trained == (sum(keys) + factor * answers) & mask
    assert shown == xxhash.xxh3_64_intdigest(struct.pack("<3q", 5, 6, 7))
    assert of_labels == xxhash.xxh3_64_intdigest(struct.pack("<2q", 6, 9))


def test_a_row_of_which_nothing_carries_loss_has_no_hash_of_labels() -> None:
    none = hash_flat(np.array([5, 6, 7]), np.array([5, -100, 7]), np.array([True, True, False]), np.array([3]))
    assert none[3].tolist() == [0]
    batch = padded([([5, 6, 7], [7, -100, -100])], side="right", width=5)
    assert ShownBatch(batch).rows(NONE).labels == [0]


def test_what_becomes_of_a_batch_afterwards_is_not_seen() -> None:
    rows = [([5, 6, 7], [-100, 6, 7]), ([8, 9], [-100, 9])]
    for layout in LAYOUTS:
        batch = batch_of(rows, layout, 1)
        shown = ShownBatch(batch)
        batch["input_ids"][:] = 0
        batch["labels"][:] = -100
        tokens, labels = as_planned(rows)
        planned = Planned(np.array(tokens, dtype=np.uint64), np.array(labels, dtype=np.uint64), np.array([3, 2]))
        assert shown.rows(planned) == ShownRows(tokens, labels, [0, 1])


@pytest.mark.parametrize("kind", [torch.int32, torch.bool, torch.uint8])
def test_masks_and_tokens_of_other_kinds_are_the_same_numbers(kind: torch.dtype) -> None:
    rows = [([5, 6, 7], [-100, 6, 7]), ([8, 9], [-100, 9])]
    batch = padded(rows, side="right", width=5)
    batch["attention_mask"] = batch["attention_mask"].to(kind)
    batch["input_ids"] = batch["input_ids"].to(torch.int32)
    assert (rows_of(batch, rows).tokens, rows_of(batch, rows).labels) == as_planned(rows)


def test_padding_that_is_trained_shows() -> None:
    rows = [([5, 6, 7], [-100, 6, 7]), ([8, 9], [-100, 9])]
    batch = padded(rows, side="right", width=4)
    batch["labels"][1, 3] = 7
    _, labels = as_planned(rows)
    assert rows_of(batch, rows).labels[0] == labels[0]
    assert rows_of(batch, rows).labels[1] != labels[1]


def test_an_open_row_that_begins_with_another_planned_row_is_the_longer_one() -> None:
    rows = [([5, 6], [-100, 6]), ([5, 6, 7], [-100, 6, 7])]
    tokens, labels = as_planned(rows)
    shown = rows_of(batch_of(rows, "open", 2), rows)
    assert (shown.tokens, shown.labels) == (tokens, labels)
    batch = batch_of(rows, "open", 2)
    del batch["labels"]
    assert sorted(rows_of(batch, rows).tokens) == sorted(tokens)


def test_places_of_a_flat_batch_lead_to_its_sums_past_the_padding() -> None:
    rows = [([5, 6, 7], [-100, 6, 7]), ([8, 9], [-100, 9])]
    batch = flat(rows, 3)
    outputs = type("Outputs", (), {"logits": torch.zeros(1, 8, 32)})
    sums = batch_sums(outputs, batch)
    assert sums is not None
    place = rows_of(batch, rows).place
    assert sums.tokens[place].tolist() == [2, 1]


def test_a_mask_with_places_in_front_is_read_from_its_end() -> None:
    """Prompt learning hands the model longer masks than token ids."""
    rows = [([5, 6, 7], [-100, 6, 7]), ([8, 9], [-100, 9])]
    batch = padded(rows, side="right", width=3)
    batch["attention_mask"] = torch.cat([torch.ones(2, 4, dtype=torch.int64), batch["attention_mask"]], 1)
    assert rows_of(batch, rows).labels == as_planned(rows)[1]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_first_tokens_are_counted_where_something_stands_before_them_and_they_carry_loss(layout: str) -> None:
    """A model predicts them, from padding or from the row before; the row by itself has nothing that would."""
    rows = [([5, 6, 7], [5, 6, 7]), ([8, 9], [8, 9]), ([4, 3, 2], [-100, 3, 2])]
    batch = batch_of(rows, layout, 1)
    if layout in ("flat", "ends"):  # trl ignores these
        batch["labels"][0, [0, 3, 8]] = torch.tensor([5, 8, 7])
    shown = ShownBatch(batch)
    tokens, labels = (np.array(hashes, dtype=np.uint64) for hashes in as_planned(rows))
    shown.rows(Planned(tokens, labels, np.array([3, 2, 3])))
    assert shown.late == (2 if layout in ("left", "flat", "ends") else 0)
