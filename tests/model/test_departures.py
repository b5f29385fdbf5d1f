"""Where answers depart from a model, however its rows are batched; against all logits: `tests/run/test_map.py`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from campus_tune.model.departures import Departure, departures, words_at
from tests.model.test_measure import meter_of, sft

ROWS = np.array([11, 2, 5, 7])


def test_flat_batches_and_padded_ones_say_the_same(tmp_path: Path) -> None:
    padded, flat = (
        departures(meter_of(sft(tmp_path / kind, kind)), ROWS) for kind in ("prompt and completion", "padding-free")
    )
    for one, other in zip(padded, flat, strict=True):
        assert one is not None
        assert other is not None
        assert one[:3] == other[:3]
        assert one.probability == pytest.approx(other.probability, rel=1e-4)


def test_nothing_is_said_where_the_head_alone_does_not_give_the_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = meter_of(sft(tmp_path, "prompt and completion"))
    head = meter.subject().head
    whole, calls = head.forward, []

    def first_call_is_off(hidden: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        logits: torch.Tensor = whole(hidden)
        return logits * 300 if len(calls) == 1 else logits  # the reader sees the head first

    monkeypatch.setattr(head, "forward", first_call_is_off)
    assert departures(meter, ROWS) == [None] * len(ROWS)


class Words:
    """Decodes a token as its number."""

    def decode(self, tokens: list[int]) -> str:
        return " ".join(map(str, tokens))


@pytest.mark.parametrize(("place", "said"), [(0, ""), (2, "30 31")])
def test_a_departure_in_words_has_what_came_before_it_in_the_answer(place: int, said: str) -> None:
    rows = [{"input_ids": [1, 2, 30, 31, 32], "labels": [-100, -100, 30, 31, 32]}]
    found = words_at(Departure(place, 30 + place, 9, 0.123456), 0, rows, Words())
    assert found == {"said": str(30 + place), "rather": "9", "rather_probability": 0.1235, "before": said}


def test_rows_that_are_others_now_have_no_words() -> None:
    rows = [{"input_ids": [1, 2, 30], "labels": [-100, -100, 30]}]
    assert words_at(Departure(0, 31, 9, 0.5), 0, rows, Words()) == {}
    assert words_at(Departure(4, 30, 9, 0.5), 0, rows, SimpleNamespace()) == {}
