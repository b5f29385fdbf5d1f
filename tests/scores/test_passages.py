"""What is measured and what is found: forwards are counted, and nothing is believed that belongs to something else."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from campus_tune.data.prepared import read_rows
from campus_tune.demo.tiny import tiny_model
from campus_tune.metrics.passage import Passage
from campus_tune.metrics.quality import Quality
from campus_tune.model import compat
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.scores import passages
from campus_tune.scores.cache import ScoreCache
from campus_tune.scores.passages import Passages, Reading, Taken
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import Json
from tests.run.other_models import chat, save_foreign, save_reward, save_same
from tests.run.tiny_run import task_rows, tiny_trainer, tokenizer
from tests.run.witness import all_slow_losses, assert_close

N = 12
EVERY = np.arange(N)
Patch = pytest.MonkeyPatch
HERE = Passage()
ALONE = Passage(part="answer")


class KilledError(Exception):
    """The process ended here."""


class Counter:
    """Rows that go through a trainer's model."""

    def __init__(self, trainer: Any) -> None:
        self.rows = 0
        trainer.model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: Any, args: Any, kwargs: Any) -> None:
        del module, args
        self.rows += len(kwargs["input_ids"])

    def since(self) -> int:
        """Rows since the last time."""
        rows, self.rows = self.rows, 0
        return rows


def passages_of(trainer: Any, folder: Path | None, peers: Peers | None = None) -> Passages:
    view, collator = compat.loader_view(trainer, trainer.train_dataset)
    rows, peers = read_rows(view), peers or Peers()
    meter = LossMeter(partial(compat.subject, trainer), view, collator, rows.tokens, peers=peers, what="scoring")
    return Passages(trainer, trainer.train_dataset, rows, meter, ScoreCache(folder), peers)


def trainer_of(out: Path, **settings: Any) -> Any:
    return tiny_trainer(out, config=False, **{"n": N, **settings})


def knows_all(made: Passages, passage: Passage) -> bool:
    return bool(made.known.find(made.known.key(passage), EVERY)[0].all())


def same(a: Taken, b: Taken) -> None:
    for name, values in vars(a.losses).items():
        np.testing.assert_array_equal(values, getattr(b.losses, name))


# -- found, or measured -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("passage", [HERE, ALONE], ids=str)
def test_rows_that_are_known_are_not_measured_again(tmp_path: Path, passage: Passage) -> None:
    trainer = trainer_of(tmp_path / "run")
    counter = Counter(trainer)
    first = passages_of(trainer, tmp_path / "cache").take(passage, EVERY)
    assert counter.since() == N
    assert not first.found.any()
    again = passages_of(trainer, tmp_path / "cache")
    found = again.take(passage, EVERY)
    assert counter.since() == 0
    assert found.found.all()
    same(first, found)
    assert knows_all(again, passage)
    assert [(t.rows, t.found, t.tokens) for t in again.timings] == [(N, N, 0)]


def test_losses_are_those_of_a_slow_forward_found_or_not(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "run")
    rows = np.array([7, 3, 3, 11])
    for _ in range(2):
        taken = passages_of(trainer, tmp_path / "cache").take(HERE, rows)
        assert_close(taken.losses, all_slow_losses(trainer, rows))


def test_only_rows_that_are_not_known_are_measured(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "run")
    counter = Counter(trainer)
    first = passages_of(trainer, tmp_path / "cache")
    first.take(HERE, np.array([2, 5, 9]))
    assert counter.since() == 3
    assert not knows_all(first, HERE)
    taken = passages_of(trainer, tmp_path / "cache").take(HERE, EVERY)
    assert counter.since() == N - 3
    assert np.flatnonzero(taken.found).tolist() == [2, 5, 9]
    assert_close(taken.losses, all_slow_losses(trainer, EVERY))


def test_a_changed_row_alone_is_measured_wherever_it_stands(tmp_path: Path) -> None:
    passages_of(trainer_of(tmp_path / "run"), tmp_path / "cache").take(HERE, EVERY)
    changed: list[Json] = [json.loads(json.dumps(row)) for row in task_rows(N)]
    changed[4]["completion"][0]["content"] += " indeed"
    changed = changed[::-1]
    trainer = trainer_of(tmp_path / "changed", train=changed)
    counter = Counter(trainer)
    taken = passages_of(trainer, tmp_path / "cache").take(HERE, EVERY)
    assert counter.since() == 1
    assert np.flatnonzero(~taken.found).tolist() == [N - 1 - 4]
    assert_close(taken.losses, all_slow_losses(trainer, EVERY))


def test_other_tokens_that_carry_loss_make_another_row(tmp_path: Path) -> None:
    rows = chat(task_rows(2 * N))
    whole = trainer_of(tmp_path / "whole", train=rows)
    passages_of(whole, tmp_path / "cache").take(HERE, EVERY)
    masked = trainer_of(tmp_path / "masked", train=rows, assistant_only_loss=True)
    taken = passages_of(masked, tmp_path / "cache").take(HERE, EVERY)
    assert not taken.found.any()
    assert_close(taken.losses, all_slow_losses(masked, EVERY))


def test_a_reader_needs_a_forward_of_every_row_and_the_losses_are_kept(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "run")
    counter = Counter(trainer)

    def first_state(hidden: torch.Tensor, batch: Any, rows: Any) -> torch.Tensor:
        del batch, rows
        return hidden[:, 0, :3]

    for _ in range(2):
        taken = passages_of(trainer, tmp_path / "cache").take(HERE, EVERY, reading=Reading(first_state, "abc"))
        assert counter.since() == N
        assert not taken.found.any()
        assert taken.read.shape == (N, 3)
        assert np.abs(taken.read).min(axis=1).all()
    assert passages_of(trainer, tmp_path / "cache").take(HERE, EVERY).found.all()


def test_what_a_reader_makes_is_kept_under_a_key_of_its_own_as_it_comes(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(passages, "AT_ONCE", 5)
    made = passages_of(trainer_of(tmp_path / "run"), tmp_path / "cache")
    key = made.known.scorer_key({"plan": 1}, None)

    def two(hidden: torch.Tensor, batch: Any, rows: Any) -> torch.Tensor:
        del batch, rows
        return hidden[:, 0, :2]

    taken = made.take(HERE, EVERY, reading=Reading(two, ["a", "b"], key, {"told": "so"}))
    found, columns = made.known.find(key, EVERY[::-1])
    assert found.all()
    np.testing.assert_array_equal(np.stack([columns["a"], columns["b"]], axis=1), taken.read[::-1])
    assert made.known.about(key) == {"told": "so"}
    assert not made.known.find(made.known.scorer_key({"plan": 2}, None), EVERY)[0].any()
    assert len(list((tmp_path / "cache" / key.folder_name).glob("shard-*"))) == 3


def test_what_a_reader_makes_is_in_the_sequence_of_the_rows_however_they_are_cut(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    trainer = trainer_of(tmp_path / "run")
    monkeypatch.setattr(passages, "AT_ONCE", 5)
    rows = np.array([9, 1, 4, 4, 0, 11, 6])

    def which(hidden: torch.Tensor, batch: Any, positions: Any) -> torch.Tensor:
        del batch
        return torch.as_tensor(positions, device=hidden.device)[:, None].float()

    taken = passages_of(trainer, None).take(HERE, rows, reading=Reading(which, ["place"]))
    assert taken.read[:, 0].tolist() == rows.tolist()
    assert_close(taken.losses, all_slow_losses(trainer, rows))


def test_a_model_in_training_is_always_measured_and_nothing_is_kept(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "run")
    known = passages_of(trainer, tmp_path / "cache")
    known.take(HERE, EVERY)
    with torch.no_grad():
        next(trainer.model.parameters()).mul_(1.5)
    counter, shards = Counter(trainer), sorted((tmp_path / "cache").rglob("*.parquet"))
    taken = known.take(HERE, EVERY, live=True)
    assert counter.since() == N
    assert not taken.found.any()
    assert_close(taken.losses, all_slow_losses(trainer, EVERY))
    assert sorted((tmp_path / "cache").rglob("*.parquet")) == shards


def test_without_a_cache_everything_is_measured_and_nothing_written(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "run")
    counter = Counter(trainer)
    for _ in range(2):
        assert not passages_of(trainer, None).take(HERE, EVERY).found.any()
        assert counter.since() == N
    assert passages_of(trainer, None).known.why_missing(HERE) is None
    assert not knows_all(passages_of(trainer, None), HERE)
    assert not (tmp_path / "cache").exists()


# -- killed in the middle ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [False, True], ids=["model in hand", "another model"])
def test_a_scoring_that_is_killed_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: Patch, other: bool) -> None:
    monkeypatch.setattr(passages, "AT_ONCE", 5)
    trainer = trainer_of(tmp_path / "run")
    passage = Passage(str(save_same(tmp_path / "other"))) if other else HERE
    measure = LossMeter.measure
    done: list[int] = []

    def dies(self: LossMeter, rows: Any, **rest: Any) -> Any:
        if len(done) == 1:
            raise KilledError
        done.append(len(rows))
        return measure(self, rows, **rest)

    monkeypatch.setattr(LossMeter, "measure", dies)
    with pytest.raises(KilledError):
        passages_of(trainer, tmp_path / "cache").take(passage, EVERY)
    asked: list[int] = []
    monkeypatch.setattr(LossMeter, "measure", lambda s, rows, **k: [asked.append(len(rows)), measure(s, rows, **k)][1])
    goes_on = passages_of(trainer, tmp_path / "cache")
    assert not knows_all(goes_on, passage)
    taken = goes_on.take(passage, EVERY)
    assert asked == [5, 2]
    assert taken.found.sum() == 5
    same(taken, passages_of(trainer, None).take(passage, EVERY))
    assert goes_on.meter.tick is None


# -- what belongs to something else is not used, and the difference is named ------------------------------------------


def other_weights(trainer: Any, _: Patch) -> None:
    with torch.no_grad():
        trainer.model.get_output_embeddings().weight[3, 3] += 1.0


def other_settings(trainer: Any, _: Patch) -> None:
    trainer.model.config.rope_parameters = {"rope_type": "default", "rope_theta": 5e5}


def other_template(trainer: Any, _: Patch) -> None:
    fresh = tokenizer().__class__(tokenizer_object=tokenizer().backend_tokenizer, eos_token="<|im_end|>")
    fresh.chat_template = "{{ messages }}"
    trainer.processing_class = fresh


def other_precision(_: Any, patch: Patch) -> None:
    patch.setattr(compat, "precision", lambda _: "bf16")


def an_adapter(trainer: Any, _: Patch) -> None:
    from peft import LoraConfig, get_peft_model

    trainer.model = get_peft_model(trainer.model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_weights, "were taken with another model ("),
        (other_settings, "were taken with another model ("),
        (other_template, "were taken with another template ("),
        (other_precision, "were taken with another precision (no there, bf16 now)."),
        (an_adapter, "were taken with another adapter (none there, "),
    ],
)
def test_scores_of_another_model_template_or_precision_are_named_and_not_used(
    tmp_path: Path, monkeypatch: Patch, change: Any, named: str
) -> None:
    trainer = trainer_of(tmp_path / "run")
    before = passages_of(trainer, tmp_path / "cache")
    assert before.known.why_missing(HERE) is None  # an empty cache needs no excuse
    before.take(HERE, EVERY)
    assert before.known.why_missing(HERE) is None
    change(trainer, monkeypatch)
    after = passages_of(trainer, tmp_path / "cache")
    assert not knows_all(after, HERE)
    assert named in str(after.known.why_missing(HERE))


def test_scores_of_other_rows_are_named(tmp_path: Path) -> None:
    passages_of(trainer_of(tmp_path / "run"), tmp_path / "cache").take(HERE, EVERY)
    other = trainer_of(tmp_path / "other", train=task_rows(N, seed=8))
    reason = passages_of(other, tmp_path / "cache").known.why_missing(HERE)
    assert reason is not None
    assert reason.endswith(f"are of another dataset: 0 of {N} rows are in it.")


def test_an_adapter_that_changes_nothing_yet_shares_the_scores_of_the_base(tmp_path: Path) -> None:
    passages_of(trainer_of(tmp_path / "full"), tmp_path / "cache").take(HERE, EVERY)
    lora = trainer_of(tmp_path / "lora", lora=True)
    assert passages_of(lora, tmp_path / "cache").take(HERE, EVERY).found.all()


def test_whole_rows_and_answers_alone_are_not_mixed_up(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "run")
    passages_of(trainer, tmp_path / "cache").take(HERE, EVERY)
    alone = passages_of(trainer, tmp_path / "cache").take(ALONE, EVERY)
    assert not alone.found.any()
    whole = all_slow_losses(trainer, EVERY)
    assert alone.losses.tokens.tolist() == whole.tokens.tolist()
    assert (np.abs(alone.losses.nll_sum - whole.nll_sum) > 1e-3).any()


def test_only_scores_that_were_taken_ahead_on_purpose_are_marked_so_and_only_for_these_rows(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "run")
    made = passages_of(trainer, tmp_path / "cache")
    made.take(HERE, EVERY)
    assert not made.known.scored_ahead(made.known.key(HERE))
    made.known.mark_ahead(made.known.key(HERE))
    again = passages_of(trainer, tmp_path / "cache")
    assert again.known.scored_ahead(again.known.key(HERE))
    assert not again.known.scored_ahead(again.known.key(ALONE))
    other = passages_of(trainer_of(tmp_path / "other", train=task_rows(N, seed=8)), tmp_path / "cache")
    assert not other.known.scored_ahead(other.known.key(HERE))


# -- other models -----------------------------------------------------------------------------------------------------


def test_another_models_losses_are_its_own_and_are_found_again_by_any_run(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "run")
    other = Passage(str(save_same(tmp_path / "other", seed=5)))
    counter = Counter(trainer)
    taken = passages_of(trainer, tmp_path / "cache").take(other, EVERY)
    alone = trainer_of(tmp_path / "slow", model=tiny_model(seed=5))
    assert_close(taken.losses, all_slow_losses(alone, EVERY))
    later = trainer_of(tmp_path / "later", model=tiny_model(seed=1))  # another model in training
    found = passages_of(later, tmp_path / "cache").take(other, EVERY)
    assert found.found.all()
    same(taken, found)
    assert counter.since() == 0  # the model in hand was not asked


def test_a_changed_model_in_the_same_folder_is_another_model(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "run")
    folder = save_same(tmp_path / "other", seed=5)
    first = passages_of(trainer, tmp_path / "cache").take(Passage(str(folder)), EVERY)
    save_same(folder, seed=6)
    second = passages_of(trainer, tmp_path / "cache").take(Passage(str(folder)), EVERY)
    assert not second.found.any()
    assert not np.array_equal(first.losses.nll_sum, second.losses.nll_sum)


def test_the_same_texts_of_another_length_are_other_rows_for_another_model(tmp_path: Path) -> None:
    other = Passage(str(save_same(tmp_path / "other")))
    passages_of(trainer_of(tmp_path / "run"), tmp_path / "cache").take(other, EVERY)
    cut = trainer_of(tmp_path / "cut", max_length=60)
    now = passages_of(cut, tmp_path / "cache")
    assert not now.known.find(now.known.key(other), np.arange(len(cut.train_dataset)))[0].any()
    reason = now.known.why_missing(other)
    assert reason is not None
    assert "another `max_length` (1024 there, 60 now)" in reason


def test_a_model_with_another_tokenizer_reads_the_texts_with_its_own(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "run")
    made = passages_of(trainer, tmp_path / "cache")
    other = Passage(str(save_foreign(tmp_path / "foreign")))
    taken = made.take(other, EVERY)
    assert (taken.losses.tokens > 0).all()
    assert taken.losses.tokens.tolist() != made.rows.answer_tokens.tolist()
    assert made.is_foreign(other)
    assert not made.is_foreign(HERE)
    assert not made.is_foreign(Passage(str(save_same(tmp_path / "same"))))
    assert passages_of(trainer, tmp_path / "cache").take(other, EVERY).found.all()


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    made = passages_of(trainer_of(tmp_path / "run"), tmp_path / "cache")
    with pytest.raises(RecipeError, match="nowhere"):
        made.take(Passage(str(tmp_path / "nowhere")), EVERY)


def test_rewards_are_kept_and_found(tmp_path: Path, monkeypatch: Patch) -> None:
    trainer = trainer_of(tmp_path / "run")
    reward = Quality(model=str(save_reward(tmp_path / "reward"))).reward
    made = passages_of(trainer, tmp_path / "cache")
    assert not made.known.find(made.known.reward_key(reward), EVERY)[0].any()
    first = made.rewards(reward, EVERY[:5])
    rest = passages_of(trainer, tmp_path / "cache").rewards(reward, EVERY)
    assert rest.found.tolist() == [True] * 5 + [False] * (N - 5)
    monkeypatch.setattr(passages, "load_reward", None)  # not opened again
    again = passages_of(trainer, tmp_path / "cache")
    found = again.rewards(reward, EVERY)
    assert found.found.all()
    np.testing.assert_array_equal(found.read, rest.read)
    np.testing.assert_array_equal(found.read[:5], first.read)
    assert len(np.unique(found.read)) == N
    assert again.known.find(again.known.reward_key(reward), EVERY)[0].all()


# -- what it costs ----------------------------------------------------------------------------------------------------


def test_a_passage_costs_its_tokens_and_another_models_cost_by_their_size(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "run")
    made = passages_of(trainer, None)
    rows = made.rows
    assert made.tokens(HERE).tolist() == rows.tokens.tolist()
    assert made.tokens(ALONE).tolist() == (rows.answer_tokens + 1).tolist()
    small = Passage(str(save_same(tmp_path / "small")))
    assert made.tokens(small).tolist() == rows.tokens.tolist()  # as large as the one in hand
    tiny_model(layers=6).save_pretrained(tmp_path / "large")
    sizes = [sum(p.numel() for p in tiny_model(layers=layers).parameters()) for layers in (2, 6)]
    wanted = [int(np.ceil(n * sizes[1] / sizes[0])) for n in rows.tokens.tolist()]
    assert made.tokens(Passage(str(tmp_path / "large"))).tolist() == wanted


# -- rows that begin alike --------------------------------------------------------------------------------------------


def alike_rows() -> list[Json]:
    """Rows of which half have a system prompt."""
    system = {"role": "system", "content": "Answer each question briefly and say no more than is asked of you. " * 2}
    return [{**row, "prompt": [system] * (i % 2) + row["prompt"]} for i, row in enumerate(task_rows(N))]


@pytest.mark.parametrize("other", [False, True])
def test_what_is_charged_is_what_went_through_the_model_found_or_not(tmp_path: Path, other: bool) -> None:
    trainer = trainer_of(tmp_path / "run", train=alike_rows())
    passage = Passage(str(save_same(tmp_path / "other"))) if other else HERE
    first = passages_of(trainer, tmp_path / "cache")
    taken = first.take(passage, EVERY)
    tokens = first.tokens(passage)
    spared = tokens.sum() - taken.charged(tokens).sum()
    assert spared > 0.1 * tokens.sum()
    assert [t.tokens for t in first.timings] == [tokens.sum() - spared]
    found = passages_of(trainer, tmp_path / "cache").take(passage, EVERY)
    assert found.found.all()
    np.testing.assert_array_equal(found.charged(tokens), taken.charged(tokens))
    same(found, taken)


def test_a_scoring_that_was_killed_says_to_the_last_digit_what_one_that_was_not_says(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(passages, "AT_ONCE", 6)
    trainer = trainer_of(tmp_path / "run", train=alike_rows())
    whole = passages_of(trainer, tmp_path / "whole").take(HERE, EVERY)
    killed = passages_of(trainer, tmp_path / "cache")
    keep = killed.known.keep

    def once(*args: Any) -> None:
        keep(*args)
        raise KilledError

    monkeypatch.setattr(killed.known, "keep", once)
    with pytest.raises(KilledError):
        killed.take(HERE, EVERY)
    again = passages_of(trainer, tmp_path / "cache").take(HERE, EVERY)
    assert again.found.sum() == 6
    same(again, whole)
    assert whole.asked is not None
    assert again.asked is not None
    np.testing.assert_array_equal(again.asked, whole.asked)
    assert whole.asked.min() < 1


def test_losses_that_were_measured_in_another_way_are_not_found(tmp_path: Path, monkeypatch: Patch) -> None:
    trainer = trainer_of(tmp_path / "run")
    monkeypatch.setattr("campus_tune.scores.row_cache.LOSSES", 1)
    passages_of(trainer, tmp_path / "cache").take(HERE, EVERY)
    monkeypatch.undo()
    now = passages_of(trainer, tmp_path / "cache")
    assert "another version of the code (1 there, 2 now)" in str(now.known.why_missing(HERE))
    assert not now.take(HERE, EVERY).found.any()


def test_a_model_that_cannot_look_back_is_named(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(compat, "learns_prompts", lambda _: True)
    made = passages_of(trainer_of(tmp_path / "run", train=alike_rows()), tmp_path / "cache")
    taken = made.take(HERE, EVERY)
    (warning,) = made.warnings
    assert "rows that begin alike are each read whole, for this model cannot look back on what they share" in warning
    assert "puts places of its own before each row" in warning
    assert taken.charged(made.tokens(HERE)).tolist() == made.tokens(HERE).tolist()


# -- several processes ------------------------------------------------------------------------------------------------


def test_only_the_leader_reads_and_writes_the_cache(tmp_path: Path, monkeypatch: Patch) -> None:
    trainer = trainer_of(tmp_path / "run")
    measured = passages_of(trainer, tmp_path / "cache").take(HERE, EVERY)
    box = {**vars(measured.losses), "asked": measured.asked}

    class Second(Peers):
        def led(self, act: Any) -> Any:
            del act  # the leader's to call
            return np.ones(N, dtype=np.bool_), box

    second = passages_of(trainer, tmp_path / "nothing", Second(1, 2))
    monkeypatch.setattr(second.cache, "read", None)
    monkeypatch.setattr(second.cache, "write", None)
    taken = second.take(HERE, EVERY)
    assert taken.found.all()
    same(taken, measured)
    second.known.keep(second.known.key(HERE), EVERY, box, {})


def test_another_models_losses_hang_on_which_tokens_count(tmp_path: Path) -> None:
    rows, other = chat(task_rows(24)), Passage(str(save_same(tmp_path / "other")))
    whole = passages_of(trainer_of(tmp_path / "a", train=rows), tmp_path / "cache")
    assert not whole.take(other, EVERY).found.any()
    answers = passages_of(trainer_of(tmp_path / "b", train=rows, assistant_only_loss=True), tmp_path / "cache")
    taken = answers.take(other, EVERY)
    assert not taken.found.any()
    assert taken.losses.tokens.tolist() == answers.rows.answer_tokens.tolist()


def test_a_scorer_that_reads_another_model_has_a_key_of_its_own(tmp_path: Path) -> None:
    made = passages_of(trainer_of(tmp_path / "a"), tmp_path / "cache")
    one, two = (str(save_same(tmp_path / name, seed=seed)) for name, seed in (("one", 1), ("two", 2)))
    keys = {made.known.scorer_key({"plan": 1}, features).digest() for features in (None, one, two)}
    assert len(keys) == 3
    assert made.feature_tokens(None).sum() == 0
    assert (made.feature_tokens(one) <= made.rows.tokens).all()
    assert made.feature_tokens(one).sum() > 0


@pytest.mark.parametrize(
    ("column", "first", "second"),
    [("body", "one two three", "two two three"), ("tools", '[{"name": "a"}]', '[{"name": "b"}]')],
)
def test_what_another_model_is_told_belongs_to_the_key_of_a_row(
    column: str, first: str, second: str, tmp_path: Path
) -> None:
    keys = []
    for value in (first, second):
        rows: list[Json] = [{"text": "a title of all", "body": "one", column: value} for _ in range(N)]
        trainer = trainer_of(tmp_path / "run", train=rows, dataset_text_field="body")
        passages = passages_of(trainer, None)
        keys.append(passages.known._texts)
    assert not (keys[0] == keys[1]).any()
