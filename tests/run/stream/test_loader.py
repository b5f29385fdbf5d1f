from __future__ import annotations

import random
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from campus_tune.method.curriculum import Curriculum, Schedule
from campus_tune.method.pacing import linear
from campus_tune.model.peers import Peers
from campus_tune.run.stream import loader as loader_module
from campus_tune.run.stream.filling import KEY
from campus_tune.run.stream.loader import KEPT, CurriculumLoader
from campus_tune.run.stream.micro_batches import split_step
from campus_tune.words.errors import TrainerError
from campus_tune.words.types import IntArray, RowArray
from tests.run.witness import flat

ALONE = Peers()
LENGTHS = np.array([3, 9, 4, 8, 2, 7, 6, 5, 12, 11, 10])
ROWS = [{"row": row, "length": int(length)} for row, length in enumerate(LENGTHS)]


def collate(items: list[dict[str, int]]) -> dict[str, Any]:
    rows = torch.tensor([item["row"] for item in items])
    return {"rows": rows, "labels": rows[:, None] + torch.zeros(1, 3, dtype=torch.long)}


def make(
    *,
    batch: int = 2,
    accumulation: int = 1,
    epochs: int = 1,
    peers: Peers = ALONE,
    drop_last: bool = False,
    **rest: Any,
) -> tuple[CurriculumLoader, Curriculum]:
    global_batch = batch * accumulation * peers.world
    full, short = divmod(len(ROWS), global_batch)
    steps = full if drop_last or not short else full + 1
    curriculum = Curriculum(
        Schedule(linear(start=0.1), stages=3),
        {"length": np.argsort(LENGTHS).astype(np.int32)},
        n_rows=len(ROWS),
        global_batch=global_batch,
        total_steps=steps * epochs,
        drop_last=drop_last,
    )
    loader = CurriculumLoader(
        ROWS,
        collate,
        lengths=LENGTHS.astype(np.int64),
        steps_per_epoch=steps,
        accumulation=accumulation,
        micro=batch,
        short_rows=0 if drop_last else short,
        peers=peers,
        cut=rest.pop("cut", "even"),
        workers={"num_workers": rest.pop("num_workers", 0), **rest},
    )
    loader.curriculum = curriculum
    return loader, curriculum


def decide(curriculum: Curriculum) -> None:
    curriculum.open(next(iter(curriculum.offers()), None))


def train(loader: CurriculumLoader, curriculum: Curriculum, steps: int | None = None) -> list[list[int]]:
    """What a trainer does: one epoch (or some steps of it), each step's rows in the sequence of its micro batches."""
    trained, iterator = [], iter(loader)
    in_epoch = min(loader.steps_per_epoch, curriculum.total_steps - curriculum.step)
    for _ in range(in_epoch if steps is None else steps):
        if curriculum.needs_decision:
            decide(curriculum)
        batches = [next(iterator) for _ in loader.micro_batches(curriculum.step_rows())]
        trained.append([int(row) for batch in batches if batch["labels"].numel() for row in batch["rows"]])
        curriculum.advance()
        if curriculum.needs_decision:
            decide(curriculum)
    return trained


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_each_step_hands_over_the_rows_that_were_planned_for_it(accumulation: int, num_workers: int) -> None:
    loader, curriculum = make(batch=4 // accumulation, accumulation=accumulation, epochs=2, num_workers=num_workers)
    planned = []

    def advance() -> None:
        planned.append(sorted(curriculum.step_rows().tolist()))
        Curriculum.advance(curriculum)

    curriculum.advance = advance  # type: ignore[method-assign]
    trained = train(loader, curriculum) + train(loader, curriculum)
    assert [sorted(rows) for rows in trained] == planned
    assert sorted(flat(trained[:3])) == sorted(flat(trained[3:])) == list(range(11))


def test_the_length_is_the_micro_batches_of_an_epoch_as_the_trainers_own_loader_has_them() -> None:
    assert len(make(batch=2, accumulation=2)[0]) == 6  # 11 rows: 2 2 | 2 2 | 2 1
    assert len(make(batch=2, accumulation=4)[0]) == 6  # 2 2 2 2 | 2 1
    assert len(make(batch=1, accumulation=4)[0]) == 11
    assert len(make(batch=2, accumulation=2, drop_last=True)[0]) == 2 * 2
    assert len(make(batch=2, accumulation=2, peers=Peers(1, 2))[0]) == 3  # 2 2 | 2 1, and one each on the other rank


def test_epochs_are_counted_in_micro_batches_as_the_trainer_counts_them() -> None:
    loader, _ = make(batch=2, accumulation=4)
    assert [loader.epoch_after(step) for step in (1, 2, 3, 4)] == [4 / 6, 1.0, 1 + 4 / 6, 2.0]


def test_a_loader_that_counts_down_says_what_is_left_of_the_epoch_of_a_resume() -> None:
    loader, curriculum = make(batch=2, accumulation=2, epochs=2)
    loader.counts_down = True
    decide(curriculum)
    assert len(loader) == 6
    train(loader, curriculum, steps=2)
    assert len(loader) == 2
    train(loader, curriculum, steps=1)
    assert len(loader) == 6


def test_the_next_stage_is_not_read_before_it_is_decided() -> None:
    loader, curriculum = make()
    decide(curriculum)
    iterator = iter(loader)
    for _ in range(curriculum.stage.n_steps if curriculum.stage else 0):
        next(iterator)
        curriculum.advance()
    assert curriculum.needs_decision
    with pytest.raises(TrainerError, match=r"the stage after step 2 must be decided .* CampusCallback was removed"):
        next(iterator)


def test_who_reads_ahead_of_the_training_is_told_and_not_fed_the_same_rows_for_ever() -> None:
    loader, curriculum = make()
    decide(curriculum)
    with pytest.raises(TrainerError, match=r"steps 0 to 1 must be trained before more are asked for, got a read ahead"):
        list(loader)


def test_a_loader_that_is_read_before_the_run_is_planned_says_so() -> None:
    loader, _ = make()
    loader.curriculum = None
    with pytest.raises(TrainerError, match="the curriculum must be planned before its loader is read"):
        next(iter(loader))


def test_a_resumed_curriculum_goes_on_in_the_middle_of_a_stage() -> None:
    loader, curriculum = make(batch=1, epochs=2)
    decide(curriculum)
    whole = train(loader, curriculum)
    for stop in (1, 5, 9):
        first, stopped = make(batch=1, epochs=2)
        decide(stopped)
        before = train(first, stopped, steps=stop)
        resumed_loader, resumed = make(batch=1, epochs=2)
        resumed.load(stopped.state())
        assert before + train(resumed_loader, resumed, steps=11 - stop) == whole


@pytest.mark.parametrize("num_workers", [0, 2])
def test_reading_draws_nothing_from_the_global_generators(num_workers: int) -> None:
    loader, curriculum = make(num_workers=num_workers)
    decide(curriculum)
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())  # noqa: NPY002
    train(loader, curriculum)
    after = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())  # noqa: NPY002
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


def test_a_step_with_fewer_rows_has_fewer_micro_batches_and_none_without_a_row() -> None:
    loader, curriculum = make(batch=1, accumulation=4)  # 11 rows: the last step has 3
    decide(curriculum)
    train(loader, curriculum, steps=2)
    assert [len(part) for part in loader.micro_batches(curriculum.step_rows())] == [1, 1, 1]
    assert len(list(islice(loader, 3))) == 3


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_rank_without_a_row_gets_a_filling_batch_and_the_others_are_told(num_workers: int) -> None:
    batches = []
    for rank in (0, 1):
        loader, curriculum = make(batch=1, peers=Peers(rank, 2), num_workers=num_workers)  # 11 rows: the last has one
        assert loader.fills()
        decide(curriculum)
        train(loader, curriculum, steps=5)
        row = int(curriculum.step_rows()[0])
        assert loader.micro_batches(curriculum.step_rows()) == [[row], [~row]][rank : rank + 1]
        batches.append(next(iter(loader)))
    assert batches[0]["rows"].tolist() == [row]
    assert [batch[KEY]["share"] for batch in batches] == [2.0, 0.0]
    assert batches[1]["labels"].numel() == 0
    assert batches[1][KEY]["row"]["rows"].tolist() == [row]


def test_where_every_rank_has_rows_nothing_is_filled() -> None:
    assert not make(batch=1)[0].fills()
    assert not make(batch=2, peers=Peers(0, 2))[0].fills()  # the last step has 3 rows: 2 and 1
    assert not make(batch=1, peers=Peers(0, 2), drop_last=True)[0].fills()


def test_ranks_share_each_step_without_repeats() -> None:
    both = [make(batch=1, accumulation=2, peers=Peers(rank, 2)) for rank in range(2)]
    for _, curriculum in both:
        decide(curriculum)
    one, other = (train(loader, curriculum) for loader, curriculum in both)
    together = [sorted(a + b) for a, b in zip(one, other, strict=True)]
    alone_loader, alone = make(batch=4)
    decide(alone)
    assert together == [sorted(rows) for rows in train(alone_loader, alone)]


def test_as_drawn_keeps_the_sequence_of_the_plan() -> None:
    loader, curriculum = make(batch=2, accumulation=2, cut="drawn")
    decide(curriculum)
    planned: IntArray = curriculum.step_rows().copy()
    assert train(loader, curriculum, steps=1) == [planned.tolist()]


def test_a_step_is_cut_once_and_not_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage may have millions of rows: to open one cuts a few steps of it and no more."""
    cut: list[int] = []

    def counted(rows: RowArray, *args: Any, **kwargs: Any) -> list[list[RowArray]]:
        cut.append(int(rows[0]))
        return split_step(rows, *args, **kwargs)

    monkeypatch.setattr(loader_module, "split_step", counted)
    monkeypatch.setattr(loader_module, "TOGETHER", 2)
    loader, curriculum = make(batch=1)
    decide(curriculum)
    assert curriculum.stage is not None
    assert curriculum.stage.n_steps == 3
    next(iter(loader))
    assert len(cut) == 2
    train(loader, curriculum)
    assert sorted(cut) == list(range(len(ROWS)))


def test_cuts_of_long_ago_are_forgotten() -> None:
    loader, _ = make()
    for first in range(3 * KEPT):
        loader.micro_batches(np.array([first % 11, first // 11 % 11, first // 121], dtype=np.int32))
    assert len(loader._cuts) == KEPT
