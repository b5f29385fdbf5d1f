from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.prepared import read_rows
from campus_tune.model import batches, compat, shared_prompts
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.model.shared_prompts import Row, batches_of, groups_of
from tests.run.other_models import plain
from tests.run.tiny_run import task_rows, tiny_trainer
from tests.run.witness import all_slow_losses, assert_close

HEAD = "Answer each question briefly and say no more than is asked of you, please, and be kind. "
OTHER = "Below are tasks that a child can do; do them one by one, with care, and show the result only. "


def row(text: str) -> Row:
    """Letters are tokens; capital ones carry loss."""
    ids = np.array([ord(letter.lower()) for letter in text], dtype=np.int64)
    return Row(ids, np.array([letter.isupper() and place > 0 for place, letter in enumerate(text)]))


def partitions(places: list[int]) -> Iterator[list[list[int]]]:
    """Every way to put places into groups."""
    if not places:
        yield []
        return
    first, *rest = places
    for n in range(len(places)):
        for chosen in combinations(rest, n):
            for others in partitions([place for place in rest if place not in chosen]):
                yield [[first, *chosen], *others]


def in_common(rows: Sequence[Row]) -> int:
    """Tokens with the same loss or none at the beginning of all, before the last that carries loss: one by one."""
    lasts = [max(np.flatnonzero(one.counted), default=0) for one in rows]
    n = 0
    while all(n < last for last in lasts) and len({(one.ids[n], one.counted[n]) for one in rows}) == 1:
        n += 1
    return n


def most_saved(rows: Sequence[Row], least: int) -> int:
    """The most tokens that any choice of groups saves."""
    best = 0
    for groups in partitions(list(range(len(rows)))):
        saved = 0
        for group in groups:
            members = [rows[place] for place in group]
            shared = in_common(members) - 1
            worth = (len(group) - 1) * shared
            enough = max(least, shared_prompts.LEAST_SAVED * sum(len(one.ids) for one in members))
            saved += worth if len(group) > 1 and shared >= shared_prompts.FEWEST_SHARED and worth >= enough else 0
        best = max(best, saved)
    return best


texts = st.lists(st.text("abAB", min_size=1, max_size=9), min_size=1, max_size=6)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_prompts, "FEWEST_SHARED", 2)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("least_saved", [0.0, 0.2, 0.4])
def test_groups_save_as_many_tokens_as_any_choice_of_groups_could(
    least_saved: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_prompts, "LEAST_SAVED", least_saved)

    @given(texts=texts, least=st.integers(0, 6))
    def compared(texts: list[str], least: int) -> None:
        rows = [row(text) for text in texts]
        groups = groups_of(rows, least=least)
        for group in groups:
            assert group.shared + 1 == in_common([rows[place] for place in group.places])
        assert sum(group.saved for group in groups) == most_saved(rows, least)
        together = [int(place) for group in groups for place in group.places]
        assert len(set(together)) == len(together)

    compared()


@pytest.mark.usefixtures("few")
def test_every_row_is_in_one_batch_and_none_is_larger_than_the_bound_says() -> None:
    @given(texts=texts, bound=st.integers(1, 40))
    def compared(texts: list[str], bound: int) -> None:
        rows = [row(text) for text in texts]
        tokens = np.array([len(one.ids) for one in rows])
        made = batches_of(rows, tokens, bound)
        assert sorted(np.concatenate([batch.places for batch in made]).tolist()) == list(range(len(rows)))
        for batch in made:
            longest = int(tokens[batch.places].max())
            assert len(batch.places) == 1 or len(batch.places) * (longest - batch.shared) <= bound
            assert len(batch.places) == 1 or len(batch.places) * longest <= shared_prompts.CONTEXT * bound
            assert batch.shared == 0 or in_common([rows[place] for place in batch.places]) > batch.shared
        firsts = [batch.group for batch in made if batch.first]
        assert sorted(firsts) == sorted({batch.group for batch in made if batch.shared})

    compared()


@pytest.mark.usefixtures("few")
def test_a_prompt_within_a_prompt_is_left_for_the_one_that_saves_more() -> None:
    rows = [row(text) for text in ("sysaaaaaaaX", "sysaaaaaaaY", "sysaaaaaaaZ", "sysbX", "syscY")]
    (group,) = groups_of(rows, least=0)
    assert (sorted(group.places.tolist()), group.shared) == ([0, 1, 2], 9)


def test_what_little_rows_share_is_read_with_each_of_them() -> None:
    rows = [row("abcdefgX"), row("abcdefgY")]
    assert groups_of(rows, least=0) == []
    assert batches_of(rows, np.array([8, 8]), 512)[0].shared == 0


# -- the same losses --------------------------------------------------------------------------------------------------


def rows_with_heads(n: int = 40, kind: str = "completion") -> Any:
    """Rows of which two thirds begin alike in two ways."""
    rows = [{**one, "prompt": ("", HEAD, OTHER)[i % 3] + one["prompt"]} for i, one in enumerate(plain(task_rows(n)))]
    return [{"text": one["prompt"] + one["completion"]} for one in rows] if kind == "text" else rows


def meter_of(trainer: Any, **settings: Any) -> LossMeter:
    view, collator = compat.loader_view(trainer, trainer.train_dataset)
    tokens = read_rows(view).tokens
    return LossMeter(partial(compat.subject, trainer), view, collator, tokens, peers=Peers(), what="x", **settings)


def trainer_with(out: Path, kind: str = "completion", model: Any = None, **settings: Any) -> Any:
    return tiny_trainer(out, config=False, train=rows_with_heads(kind=kind), model=model, **settings)


@pytest.mark.parametrize("kind", ["completion", "text"])
@pytest.mark.parametrize("bound", [100, 512])
def test_losses_behind_what_rows_share_are_those_of_a_slow_plain_forward(
    kind: str, bound: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH_TOKENS_CPU", bound)
    trainer = trainer_with(tmp_path, kind)
    meter = meter_of(trainer)
    seen: list[int] = []
    trainer.model.register_forward_pre_hook(lambda _, __, kw: seen.append(kw["input_ids"].numel()), with_kwargs=True)
    rows = np.random.default_rng(0).permutation(40)
    measured, forwarded = meter.measure(rows), sum(seen)
    assert_close(measured.losses, all_slow_losses(trainer, rows))
    assert meter.why_whole is None
    assert meter.spared > 0.2 * meter.tokens.sum()
    assert measured.asked is not None
    assert meter.spared == round(float(((1 - measured.asked) * meter.tokens[rows]).sum()))
    padding, check = 1.2, 6 * int(meter.tokens.max())
    assert forwarded <= padding * (meter.tokens.sum() - meter.spared) + check
