from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.prepared import read_rows
from campus_tune.model import batches, compat, measure, shared_prompts
from campus_tune.model.answer_alone import PadRight
from campus_tune.model.measure import Loads, LossMeter, MeasuredRows, windows
from campus_tune.model.peers import Peers
from campus_tune.model.prompt_cache import agree
from campus_tune.model.shared_prompts import Batch, MarkedRow, batches_of, groups_of
from campus_tune.model.subject import Subject
from tests.run.other_models import PROMPTS, plain, with_prompts
from tests.run.tiny_run import task_rows, tiny_trainer
from tests.run.witness import all_slow_losses, assert_close

HEAD = "Answer each question briefly and say no more than is asked of you, please, and be kind. "
OTHER = "Below are tasks that a child can do; do them one by one, with care, and show the result only. "


def row(text: str) -> MarkedRow:
    """Letters are tokens; capital ones carry loss."""
    ids = np.array([ord(letter.lower()) for letter in text], dtype=np.int64)
    return MarkedRow(ids, np.array([letter.isupper() and place > 0 for place, letter in enumerate(text)]))


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


def in_common(rows: Sequence[MarkedRow]) -> int:
    """Tokens with the same loss or none at the beginning of all, before the last that carries loss: one by one."""
    lasts = [max(np.flatnonzero(one.counted), default=0) for one in rows]
    n = 0
    while all(n < last for last in lasts) and len({(one.ids[n], one.counted[n]) for one in rows}) == 1:
        n += 1
    return n


def most_saved(rows: Sequence[MarkedRow], least: int) -> int:
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


class Told(list[Any]):
    """Prepared rows in memory."""

    column_names = ("input_ids", "labels")


def prepared(*, text: bool = False) -> Told:
    """Rows of three beginnings, answers of one to six tokens; all tokens but the first carry loss in a text."""
    rng = np.random.default_rng(3)
    heads = [rng.integers(3, 90, n).tolist() for n in (30, 45)]
    rows = Told()
    for i in range(30):
        prompt = (
            [*heads[i % 2], *rng.integers(3, 90, rng.integers(1, 9))] if i % 5 else rng.integers(3, 90, 12).tolist()
        )
        answer = rng.integers(3, 90, rng.integers(1, 7)).tolist()
        ids = [int(token) for token in [*prompt, *answer]]
        labels = ids if text else [-100] * len(prompt) + answer
        rows.append({"input_ids": ids, "labels": labels})
    return rows


SMALL: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
}


def llama(**settings: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**SMALL, **settings})).eval()


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=96, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3)).eval()


def windowed() -> Any:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    return MistralForCausalLM(MistralConfig(**SMALL, sliding_window=8)).eval()


def state_space() -> Any:
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    return MambaForCausalLM(MambaConfig(vocab_size=96, hidden_size=32, num_hidden_layers=2, state_size=4)).eval()


def capped() -> Any:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    settings = {**SMALL, "head_dim": 8, "final_logit_softcapping": 0.5, "attn_implementation": "eager"}
    return Gemma2ForCausalLM(Gemma2Config(**settings)).eval()


def forgetful() -> Any:
    """Counts places from the beginning of what it is given."""
    model = llama()
    forward = model.forward

    def from_zero(input_ids: Any = None, **settings: Any) -> Any:
        places = torch.arange(input_ids.shape[1])[None]
        return forward(input_ids=input_ids, **{**settings, "position_ids": places})

    model.forward = from_zero
    return model


def meter_of(model: Any, rows: Told, collator: Any = None, **settings: Any) -> LossMeter:
    subject = Subject(model, model, torch.device("cpu"), lambda batch: batch, settings.pop("sharded", False))
    tokens = np.array([len(one["input_ids"]) for one in rows])
    settings = {"peers": Peers(), "what": "x", **settings}
    return LossMeter(lambda: subject, rows, collator or PadRight(), tokens, **settings)


def each_whole(model: Any, rows: Told, **settings: Any) -> MeasuredRows:
    """What is measured where no row is compared with another."""
    meter = meter_of(model, rows, **settings)
    meter._shares = False
    return meter.measure(np.arange(len(rows)))


def forwarded(model: Any) -> list[int]:
    """Tokens of each forward to come, padding included."""
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, __, kw: seen.append(kw["input_ids"].numel()), with_kwargs=True)
    return seen


@pytest.mark.parametrize("make", [llama, gpt2, partial(llama, attn_implementation="eager")])
@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("bound", [60, 512])
def test_losses_behind_what_rows_share_are_those_of_whole_rows(
    make: Callable[[], Any], text: bool, bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH_TOKENS_CPU", bound)
    model, rows = make(), prepared(text=text)
    whole = each_whole(model, rows, confidences=True)
    meter, seen = meter_of(model, rows, confidences=True), forwarded(model)
    measured = meter.measure(np.arange(30))
    assert_close(measured.losses, whole.losses)
    assert measured.bins is not None
    np.testing.assert_allclose(measured.bins, whole.bins, rtol=1e-5, atol=1e-5)
    assert (meter.why_whole, measured.losses.tokens.sum()) == (None, whole.losses.tokens.sum())
    assert meter.spared > 0.4 * meter.tokens.sum()
    check = 5 * int(meter.tokens.max())  # two rows were measured both ways
    assert sum(seen) - check < 1.3 * (meter.tokens.sum() - meter.spared)


def test_a_slow_forward_of_each_row_in_a_trainer_says_the_same(tmp_path: Path) -> None:
    rows = [{**one, "prompt": ("", HEAD, OTHER)[i % 3] + one["prompt"]} for i, one in enumerate(plain(task_rows(24)))]
    trainer = tiny_trainer(tmp_path, config=False, train=rows)
    view, collator = compat.loader_view(trainer, trainer.train_dataset)
    tokens, order = read_rows(view).tokens, np.random.default_rng(0).permutation(24)
    meter = LossMeter(partial(compat.subject, trainer), view, collator, tokens, peers=Peers(), what="x")
    measured = meter.measure(order)
    assert meter.spared > 0
    assert_close(measured.losses, all_slow_losses(trainer, order))


def test_what_is_spared_is_told_row_by_row_and_the_prompt_is_one_rows() -> None:
    meter = meter_of(llama(), prepared())
    measured = meter.measure(np.arange(30))
    assert measured.asked is not None
    spared = np.rint((1 - measured.asked) * meter.tokens).astype(int)
    assert meter.spared == spared.sum()
    assert sorted(set(spared)) == [0, 29, 44]
    assert [int((spared == n).sum()) for n in (29, 44)] == [11, 11]  # of twelve rows each, one reads it


def test_hidden_states_are_read_of_whole_rows() -> None:
    model, rows = llama(), prepared()
    meter = meter_of(model, rows)

    def length(hidden: torch.Tensor, *_: Any) -> torch.Tensor:
        return torch.full((len(hidden), 1), hidden.shape[1])

    read = meter.measure(np.arange(30), reader=length, width=1)
    assert meter.spared == 0
    assert (read.read[:, 0] >= meter.tokens).all()
    assert_close(read.losses, each_whole(model, rows).losses)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (windowed, "does not keep the past of each place"),
        (state_space, "does not keep the past of each place"),
        (capped, "does something behind its head"),
        (forgetful, "losses behind what rows share are others"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*mamba:UserWarning")
def test_a_model_that_cannot_look_back_reads_every_row_whole(make: Callable[[], Any], why: str) -> None:
    model, rows = make(), prepared()
    meter = meter_of(model, rows)
    measured = meter.measure(np.arange(30))
    assert why in str(meter.why_whole)
    assert meter.spared == 0
    for name, values in vars(each_whole(model, rows).losses).items():
        np.testing.assert_array_equal(getattr(measured.losses, name), values)
    seen = forwarded(model)
    meter.measure(np.arange(30))
    assert sum(seen) < 1.6 * meter.tokens.sum() * (2 if make is capped else 1)  # it was tried once


@pytest.mark.parametrize("kind", PROMPTS)
def test_places_before_each_row_are_not_shared(kind: str) -> None:
    meter = meter_of(with_prompts(kind).eval(), prepared())
    meter.measure(np.arange(30))
    assert "its adapter puts places of its own before each row" in str(meter.why_whole)


def test_a_sharded_model_reads_every_row_whole() -> None:
    meter = meter_of(llama(), prepared(), sharded=True)
    meter.measure(np.arange(30))
    assert "holds a part of its weights" in str(meter.why_whole)


def left(rows: Sequence[Any]) -> dict[str, torch.Tensor]:
    """Pads on the left."""
    batch = PadRight()([{name: list(reversed(ids)) for name, ids in one.items()} for one in rows])
    return {name: values.flip(1) for name, values in batch.items()}


def test_a_collator_that_pads_on_the_left_has_its_rows_read_whole() -> None:
    model, rows = llama(), prepared()
    meter = meter_of(model, rows, left)
    measured = meter.measure(np.arange(30))
    assert "are not padded on the right" in str(meter.why_whole)
    assert_close(measured.losses, each_whole(model, rows, collator=left).losses)


@pytest.mark.parametrize("row", [2, 7, 23])
@pytest.mark.parametrize("what", ["input_ids", "labels", "attention_mask", "a further tensor"])
def test_a_batch_of_which_the_collator_made_something_else_is_read_whole(
    what: str, row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH_TOKENS_CPU", 60)
    model, rows = llama(), prepared()
    odd = rows[row]["input_ids"]

    def changes_one(held: Sequence[Any]) -> dict[str, torch.Tensor]:
        batch = PadRight()(held)
        for place, one in enumerate(held):
            if one["input_ids"] == odd:
                if what in batch:
                    batch[what][place, 5] = 1 - batch[what][place, 5].clamp(0, 1)
                else:
                    batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
        return batch

    if what == "a further tensor":
        forward = model.forward
        model.forward = lambda **kw: forward(**{name: kw[name] for name in kw if name != "token_type_ids"})
    meter = meter_of(model, rows, changes_one)
    measured = meter.measure(np.arange(30))
    assert meter.why_whole is None
    assert meter.spared > 0
    assert measured.asked is not None
    assert measured.asked[row] == 1
    assert_close(measured.losses, each_whole(model, rows, collator=changes_one).losses)


def test_rounding_is_told_from_another_result() -> None:
    whole = torch.tensor([3.0, 40.0])
    assert agree(whole, whole + 1e-4, torch.float32)
    assert not agree(whole, whole + torch.tensor([0.0, 0.1]), torch.float32)
    assert agree(whole, whole * 1.05, torch.bfloat16)
    assert not agree(whole, whole * 1.2, torch.bfloat16)


def test_a_model_in_half_the_precision_shares_too() -> None:
    model, rows = llama().to(torch.bfloat16), prepared()
    meter = meter_of(model, rows)
    measured = meter.measure(np.arange(30))
    assert meter.why_whole is None
    np.testing.assert_allclose(measured.losses.nll_sum, each_whole(model, rows).losses.nll_sum, rtol=0.1)


# -- many processes ---------------------------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(-1, 3)), min_size=1, max_size=30),
    world=st.integers(1, 5),
)
def test_each_batch_is_one_ranks_and_none_has_much_more_to_do(sizes: list[tuple[int, int, int]], world: int) -> None:
    made, tokens = [], []
    for n, length, group in sizes:
        made.append(Batch(np.arange(len(tokens), len(tokens) + n), length // 2 if group >= 0 else 0, group))
        tokens += [length] * n
    mine = [Loads(Peers(rank, world)).mine(made, np.array(tokens)) for rank in range(world)]
    given_out = [id(batch) for part in mine for batch in part]
    assert set(given_out) == set(map(id, made))
    assert all(mine)
    assert len(given_out) <= max(len(made), world + len(made) - 1)
    if len(made) >= world and all(batch.shared == 0 for batch in made):
        loads = [sum(len(batch.places) * tokens[batch.places[0]] for batch in part) for part in mine]
        largest = max(len(batch.places) * tokens[batch.places[0]] for batch in made)
        assert max(loads) <= sum(loads) / world + largest


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60))
def test_windows_hold_every_row_once_long_ones_first(tokens: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "WINDOW_ROWS", 7)
        patch.setattr(measure, "WINDOW_TOKENS", 90)
        parts = list(windows(np.array(tokens)))
    lengths = [tokens[place] for part in parts for place in part]
    assert sorted(place for part in parts for place in part.tolist()) == list(range(len(tokens)))
    assert lengths == sorted(tokens, reverse=True)
    assert all(len(part) <= 7 and (len(part) == 1 or sum(tokens[i] for i in part) <= 90) for part in parts)


@pytest.mark.parametrize("world", [2, 3])
def test_losses_are_the_same_to_the_last_digit_on_any_number_of_processes(
    world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH_TOKENS_CPU", 60)
    model, rows = llama(), prepared()
    alone = meter_of(model, rows)
    expected, parts = alone.measure(np.arange(30)), []

    class Kept(Peers):
        def from_leader(self, value: Any) -> Any:
            return value

        def merge(self, columns: Any, known: Any) -> Any:
            parts.append((columns, known))
            return columns

    for rank in range(world):
        meter_of(model, rows, peers=Kept(rank, world)).measure(np.arange(30))
    assert 30 <= sum(int(known.sum()) for _, known in parts) < 40
    for columns, known in parts:
        assert 0 < known.sum() < 30
        for name, values in vars(expected.losses).items():
            np.testing.assert_array_equal(columns[name][known], values[known])
        assert expected.asked is not None
        np.testing.assert_array_equal(columns["asked"][known], expected.asked[known])
