"""What watching a step may cost: nothing is read back from the device in it, and nothing of it grows with the rows."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.prepared import TokenRows, read_rows
from campus_tune.method.weighting import Live
from campus_tune.model.row_sums import KeptTokens, token_lines
from campus_tune.run.stream import tie as ties
from campus_tune.run.stream import watch as watches
from campus_tune.run.stream.shown import ShownBatch
from campus_tune.run.stream.tie import Forward, tie
from campus_tune.run.stream.watch import Watch
from campus_tune.run.stream.weighing import StepWeights, Weighing
from campus_tune.words.errors import AuditError
from tests.run.plain_run import ROWS_ONLY
from tests.run.tiny_run import dataset

ROWS = [{"input_ids": [5, 6, 7, 8][: 2 + i % 3], "labels": [-100, 6, 7, 8][: 2 + i % 3]} for i in range(8)]
ROWS = [{**row, "input_ids": [10 + i, *row["input_ids"][1:]]} for i, row in enumerate(ROWS)]
AUDIT = replace(ROWS_ONLY, plain=True, checks_value=True)


class Fused(torch.nn.Module):
    """A model with the outputs of trl's fused head."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(64, 64, device=device)

    def forward(self, input_ids: Any, labels: Any, attention_mask: Any) -> Any:
        del attention_mask
        mask = labels[:, 1:] != -100
        logits = self.table(input_ids)[:, :-1]
        wanted = labels[:, 1:].clip(0)[..., None]
        log_probs = logits.log_softmax(-1).gather(-1, wanted)[..., 0].masked_fill(~mask, 0.0)
        top1 = (logits.argmax(-1) == labels[:, 1:]) & mask
        return Outputs(loss=-log_probs.sum() / mask.sum(), log_probs=log_probs, label_mask=mask, is_top1=top1)


class Outputs(dict):  # type: ignore[type-arg]
    """Their names are attributes, as those of transformers' outputs are."""

    __getattr__ = dict.get


def batch_of(rows: list[int], device: str = "cpu") -> dict[str, torch.Tensor]:
    width = max(len(ROWS[row]["input_ids"]) for row in rows) + 1

    def padded(name: str, filler: int) -> torch.Tensor:
        return torch.tensor([ROWS[row][name] + [filler] * (width - len(ROWS[row][name])) for row in rows])

    real = torch.tensor(
        [[1] * len(ROWS[row]["input_ids"]) + [0] * (width - len(ROWS[row]["input_ids"])) for row in rows]
    )
    batch = {"input_ids": padded("input_ids", 0), "labels": padded("labels", -100), "attention_mask": real}
    return {name: value.to(device) for name, value in batch.items()}


def planned(n: int = len(ROWS)) -> TokenRows:
    """The rows, and as many others behind them as make `n`."""
    read = vars(read_rows(dataset(ROWS)))
    return TokenRows(**{name: np.concatenate([one, np.full(n - len(one), 3, one.dtype)]) for name, one in read.items()})


def train(watch: Watch, model: Fused, step: int, batches: list[list[int]], weights: StepWeights | None = None) -> None:
    """One step without an optimizer."""
    device = model.table.weight.device.type
    tokens = sum(len(ROWS[row]["labels"]) - 1 for batch in batches for row in batch)
    watch.begin_step(step, weights)
    for rows in batches:
        outputs = model(**batch_of(rows, device))
        (-outputs.log_probs.sum() / tokens).backward()
    watch.before_update()
    watch.end_step(batches, answer_tokens=tokens)


@pytest.fixture(params=[False, True], ids=["alike", "weighted"])
def weighted(request: pytest.FixtureRequest) -> Any:
    return request.param


def weights_of(rows: list[int]) -> StepWeights:
    return StepWeights(1, np.array(rows), np.linspace(0.5, 1.5, len(rows)), None, Live())


def test_nothing_is_read_back_from_the_device_within_a_step(weighted: bool) -> None:
    """Tensors of the meta device have no numbers: whoever asks for one gets an error."""
    model = Fused("meta")
    watch = Watch(model, planned(), AUDIT, weighing=Weighing(AUDIT) if weighted else None)
    batches = [[0, 1, 2], [3, 4]]
    train(watch, model, 1, batches, weights_of([0, 1, 2, 3, 4]) if weighted else None)
    assert watch.checked == 0
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        watch.settle()
    watch.close()


def test_a_step_of_a_million_rows_makes_no_array_of_a_million(weighted: bool) -> None:
    sizes = []
    for n in (len(ROWS), 1_000_000):
        model = Fused("cpu")
        watch = Watch(model, planned(n), AUDIT, weighing=Weighing(AUDIT) if weighted else None)
        train(
            watch, model, 1, [[0, 1, 2], [3, 4]], weights_of([0, 1, 2, 3, 4]) if weighted else None
        )  # tables are made
        gc.collect()
        tracemalloc.start()
        train(watch, model, 2, [[5, 6], [7]], weights_of([5, 6, 7]) if weighted else None)
        sizes.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        watch.close()
        assert watch.passed == 2
    assert sizes[1] < sizes[0] + 100_000


@given(
    cuts=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    data=st.data(),
)
def test_rows_in_their_planned_places_are_tied_as_any_others_are(cuts: list[int], data: st.DataObject) -> None:
    rows = planned()
    order = data.draw(st.permutations(range(len(ROWS))))
    ends = np.cumsum(cuts).tolist()
    batches = [list(order[end - size : end]) for end, size in zip(ends, cuts, strict=True) if end <= len(ROWS)]
    given_ = [data.draw(st.permutations(batch)) for batch in batches]
    if data.draw(st.booleans()):
        given_ = batches
    forwards = [
        Forward(ShownBatch(batch_of(list(batch))), None, torch.device("cpu"), trains=True, began=i)
        for i, batch in enumerate(given_)
    ]
    found = tie(batches, forwards, rows)
    slow = ties._tie(batches, forwards, rows, range(len(forwards)), together=True, again=True)
    for quick, match, batch, shown in zip(found, slow, batches, given_, strict=True):
        assert quick.rows.tolist() == match.rows.tolist() == batch
        assert quick.places.tolist() == match.places.tolist() == [list(shown).index(row) for row in batch]
        assert (quick.answers, quick.forward) == (match.answers, match.forward)
        assert quick.answers == sum(len(ROWS[row]["labels"]) - 1 for row in batch)
    other = [[*batch] for batch in batches]
    other[0][0] = next(row for row in range(len(ROWS)) if row not in other[0])
    with pytest.raises(AuditError, match=r"planned rows|other micro batches"):
        tie(other, forwards, rows)


def test_losses_are_what_they_were_when_the_forward_showed_them_whoever_changes_them_later() -> None:
    torch.manual_seed(0)
    model, batch = Fused("cpu"), batch_of([0, 1, 2, 3])
    with torch.no_grad():
        outputs = model(**batch)
    lines = token_lines(outputs, batch)
    assert lines is not None
    at_once, kept = lines.sums().losses(), KeptTokens.of(outputs, batch)
    assert kept is not None
    assert kept.size == outputs.log_probs.numel()
    for tensor in (*outputs.values(), *batch.values()):
        tensor.zero_()
    for name, values in vars(kept.sums().losses()).items():
        assert values.tobytes() == getattr(at_once, name).tobytes(), name
    assert kept.size == 0
    assert KeptTokens.of(SimpleNamespace(loss=torch.zeros(())), batch) is None


def test_losses_that_wait_are_added_up_before_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    harvests = []
    for most in (1 << 18, 5):
        torch.manual_seed(0)
        monkeypatch.setattr(watches, "KEPT", most)
        model = Fused("cpu")
        watch = Watch(model, planned(), AUDIT)
        for step, batches in enumerate([[[0, 1], [2]], [[3, 4], [5]], [[6], [7]]], start=1):
            train(watch, model, step, batches)
            assert sum(one.size for one in watch._kept) <= most
            assert sum(tokens.size for _, _, tokens in watch._losses) <= most  # and nothing else is held
        harvests.append(watch.harvest())
        watch.close()
    assert harvests[0].rows.tolist() == harvests[1].rows.tolist() == [*range(8)]
    for name, values in vars(harvests[0].losses).items():
        assert values.tobytes() == getattr(harvests[1].losses, name).tobytes()


@pytest.mark.parametrize("width", [1, 5, 31, 64, 100, 257, 1025])
def test_sums_of_rows_side_by_side_are_those_of_each_by_itself(width: int) -> None:
    """Bit for bit: what was decided by one is decided by the other."""
    torch.manual_seed(width)
    values = torch.randn(2, 5, width) * torch.randn(2, 5, width).exp()
    assert torch.equal(values.sum(2), torch.stack([values[0].clone().sum(1), values[1].clone().sum(1)]))
