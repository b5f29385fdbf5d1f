"""What is measured is what is trained: rows as the collator makes them, not as their columns look."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    DataCollatorWithFlattening,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_utils import RemoveColumnsCollator
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling as TrlCollator

from campus_tune.data.prepared import read_rows, read_texts
from campus_tune.data.token_hashes import IGNORED
from campus_tune.demo.tiny import tiny_model
from campus_tune.model.peers import Peers
from campus_tune.model.trained import SAMPLE, Trained, as_trained
from campus_tune.run.callback import CampusCallback
from campus_tune.run.ledger import read_ledger
from campus_tune.scores.cache import ScoreCache
from campus_tune.scores.passages import Passages
from campus_tune.words.errors import DataError, MetricError
from tests.run.tiny_run import tiny_trainer, tokenizer

IDS = [[5, 6, 7, 8], [5, 6], [9, 9, 9], [8, 7, 6, 5, 4]]


def rows_of(ids: list[list[int]] | None = None, **columns: Any) -> Dataset:
    return Dataset.from_dict({"input_ids": IDS if ids is None else ids, **columns})


class Halves:
    """A collator that makes the labels: the second half of each row carries loss. Counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        self.asked += len(rows)
        width = max(len(row["input_ids"]) for row in rows)
        batch = torch.zeros(3, len(rows), width, dtype=torch.long)
        batch[2] = IGNORED
        for i, row in enumerate(rows):
            ids = torch.tensor(row.pop("input_ids"))  # takes its rows apart, as some do
            batch[0, i, : len(ids)] = ids
            batch[1, i, : len(ids)] = 1
            batch[2, i, len(ids) // 2 : len(ids)] = ids[len(ids) // 2 :]
        return dict(zip(("input_ids", "attention_mask", "labels"), batch, strict=True))


def labelled() -> Dataset:
    return rows_of(labels=[[IGNORED, 6, 7, 8], [5, 6], [IGNORED, IGNORED, 9], [8, 7, 6, 5, IGNORED]])


@pytest.mark.parametrize(
    "collator",
    [
        TrlCollator(pad_token_id=0),
        TrlCollator(pad_token_id=0, pad_to_multiple_of=8),
        TrlCollator(pad_token_id=0, padding_free=True, pad_to_multiple_of=8),
        DataCollatorForSeq2Seq(tokenizer(), pad_to_multiple_of=8),
        DataCollatorWithFlattening(),
        RemoveColumnsCollator(DataCollatorForSeq2Seq(tokenizer()), ["input_ids", "labels"]),
    ],
    ids=["trl", "trl, multiples", "trl, flat", "seq2seq", "flattening", "columns removed"],
)
def test_columns_are_read_where_the_libraries_own_collators_only_pad_them(collator: Any) -> None:
    data = labelled()
    assert as_trained(data, collator).dataset is data


def test_labels_that_the_collator_makes_decide_what_carries_loss() -> None:
    tok = tokenizer()
    ids = [tok("two three " + word)["input_ids"] for word in ("one", "five")]
    data = rows_of(ids, completion=["two three one", "two three five"])
    trained = as_trained(data, Halves())
    read = read_rows(trained.dataset)
    assert read.answer_tokens.tolist() == [len(row) - len(row) // 2 for row in ids]
    texts = read_texts(data, read, tok, trained=trained.dataset)
    assert list(texts.response_text) == [tok.decode(row[len(row) // 2 :]) for row in ids]
    labels = [[IGNORED] * (len(row) // 2) + row[len(row) // 2 :] for row in ids]
    as_columns = read_rows(rows_of(ids, labels=labels))
    assert all(np.array_equal(vars(read)[name], vars(as_columns)[name]) for name in vars(read))


def test_an_end_token_that_is_also_the_padding_carries_no_loss() -> None:
    tok = tokenizer()
    collator = DataCollatorForLanguageModeling(tok, mlm=False)  # labels: all tokens but padding
    data = rows_of([[5, 6, 7, tok.pad_token_id], [5, 6, 7, 8]])
    assert read_rows(data).answer_tokens.tolist() == [3, 3]
    assert read_rows(as_trained(data, collator).dataset).answer_tokens.tolist() == [2, 3]


def test_rows_that_the_collator_masks_wholly_are_named() -> None:
    tok = tokenizer()
    data = rows_of([[5, 6], [5, tok.pad_token_id]])
    trained = as_trained(data, DataCollatorForLanguageModeling(tok, mlm=False))
    with pytest.raises(DataError, match=r"got 1 without \(rows 1\).* or the data collator masks them: remove them, "):
        read_rows(trained.dataset)


def test_a_collator_of_the_users_own_is_asked_for_every_row_once_besides_the_sample() -> None:
    class Shared(Halves):
        """Counts for all its copies."""

        counts: list[int] = []  # noqa: RUF012  # on purpose

        def __call__(self, rows: Any) -> Any:
            self.counts.append(len(rows))
            return super().__call__(rows)

    trained = as_trained(rows_of(IDS * 100), Shared())
    read_rows(trained.dataset)
    read_rows(trained.dataset)
    assert Shared.counts == [1] * (2 * SAMPLE + 400)


class Dice(Halves):
    """Masks at random, by every generator there is."""

    def __init__(self) -> None:
        super().__init__()
        self.torch = torch.Generator().manual_seed(4)
        self.numpy, self.python = np.random.default_rng(4), random.Random(4)

    def draws(self) -> list[float]:
        drawn = [torch.rand(1), np.random.random(), random.random()]  # noqa: NPY002  # as collators do
        own = [torch.rand(1, generator=self.torch), self.numpy.random(), self.python.random()]
        return [float(value) for value in drawn + own]

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = super().__call__(rows)
        if sum(self.draws()) < 3:
            batch["labels"][:, :-1] = IGNORED
        return batch


def test_asking_leaves_no_trace_in_the_collator_or_in_any_random_state() -> None:
    def seeded() -> Dice:
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002  # see above
        random.seed(1)
        return Dice()

    untouched = seeded().draws()
    dice = seeded()
    as_trained(rows_of(IDS * 20), dice)
    assert dice.draws() == untouched
    assert dice.asked == 0


def test_a_collator_that_draws_at_random_is_told_and_drawn_once() -> None:
    data, scored = rows_of(IDS * 20), []
    for seed in (1, 2):  # as on another rank, or after a resume
        torch.manual_seed(seed)
        trained = as_trained(data, Dice())
        [warning] = trained.warnings
        assert warning.startswith("the data collator draws at random: asked twice for row ")
        scored += [read_rows(trained.dataset).trained.tolist() for _ in range(2)]
    assert all(draw == scored[0] for draw in scored)


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (lambda rows: {"input_ids": torch.tensor([rows[0]["input_ids"]])}, "it must give input_ids and labels, got no"),
        (lambda rows: {"labels": torch.zeros(1, len(rows)), "input_ids": None}, "got no input_ids"),
        (lambda rows: TrlCollator(0)(rows * 2), r"it must make one row of one, got input_ids of shape \(2, 4\)"),
        (lambda rows: TrlCollator(0)(rows[:-1]), r"it must make a batch of one row, got IndexError"),
    ],
    ids=["no labels", "no tokens", "repeats", "drops"],
)
def test_a_collator_that_does_not_say_what_is_trained_is_told(gives: Any, told: str) -> None:
    data = labelled()
    trained = as_trained(data, gives)
    assert trained.dataset is data
    with pytest.raises(UserWarning, match=told):
        raise UserWarning(*trained.warnings)
    assert trained.warnings[0].endswith("look whether these are what the model trains.")


@pytest.mark.parametrize(
    ("spoils", "told"),
    [
        (lambda rows: rows[1], r"got IndexError\(.*\) from row 77\. Correct the collator, or remove the row"),
        (
            lambda rows: TrlCollator(0)(rows * 2),
            r"something else from row 77: it must make one row of one.*remove the",
        ),
    ],
)
def test_one_row_of_which_a_collator_makes_no_batch_is_named(spoils: Any, told: str) -> None:
    def collator(rows: list[dict[str, Any]]) -> Any:
        return spoils(rows) if rows[0]["input_ids"] == [3, 3, 3] else TrlCollator(0)(rows)

    ids = IDS * 50
    ids[77] = [3, 3, 3]
    with pytest.raises(DataError, match=told):
        as_trained(rows_of(ids), collator)
    del ids[77]
    assert len(read_rows(as_trained(rows_of(ids), collator).dataset)) == 199  # the advice works


def padded(row: list[int], side: str, mask: str) -> dict[str, torch.Tensor]:
    """A row of a batch that is three tokens wider, under several kinds of mask."""
    filling = [0] * 3
    place = slice(3, None) if side == "left" else slice(0, len(row))
    batch = {"input_ids": torch.tensor([filling + row if side == "left" else row + filling])}
    batch["labels"] = torch.full_like(batch["input_ids"], IGNORED)
    batch["labels"][:, place] = torch.tensor(row)
    if mask == "2-D":
        batch["attention_mask"] = (batch["labels"] != IGNORED).long()
    if mask == "4-D":
        batch["attention_mask"] = torch.ones(1, 1, len(row) + 3, len(row) + 3).bool()
    return batch


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("mask", ["2-D", "4-D", "none"])
def test_padding_of_the_batch_is_no_part_of_a_row(side: str, mask: str) -> None:
    trained = as_trained(rows_of(), lambda rows: padded(rows[0]["input_ids"], side, mask))
    assert [trained.dataset[i]["input_ids"].tolist() for i in range(4)] == IDS
    read, columns = read_rows(trained.dataset), read_rows(rows_of())
    assert all(np.array_equal(vars(read)[name], vars(columns)[name]) for name in vars(read))


def test_stored_padding_goes_through_the_model_and_is_counted_so() -> None:
    stored = {"input_ids": [[5, 6, 7, 0, 0]], "attention_mask": [[1, 1, 1, 0, 0]]}
    data = Dataset.from_dict(stored)
    read = read_rows(as_trained(data, DataCollatorForLanguageModeling(tokenizer(), mlm=False)).dataset)
    columns = read_rows(data)
    assert all(np.array_equal(vars(read)[name], vars(columns)[name]) for name in vars(read))


def test_a_row_is_as_long_as_the_collator_leaves_it() -> None:
    def cuts(rows: list[dict[str, Any]]) -> Any:
        return TrlCollator(0)([{"input_ids": row["input_ids"][:3]} for row in rows])

    read = read_rows(as_trained(rows_of(), cuts).dataset)
    assert (read.tokens.tolist(), read.answer_tokens.tolist()) == ([3, 2, 3, 3], [2, 1, 2, 2])
    assert read.content.tolist() == read_rows(rows_of([row[:3] for row in IDS])).content.tolist()


def test_what_a_row_is_does_not_hang_on_the_collator() -> None:
    """One that changes tokens trains other rows than were planned: the audit ends that run."""

    def alters(rows: list[dict[str, Any]]) -> Any:
        batch = TrlCollator(0)([{"input_ids": row["input_ids"]} for row in rows])
        batch["input_ids"][:, 0] += 3
        return batch

    altered = as_trained(rows_of(), alters)
    assert altered.rows().content.tolist() == read_rows(rows_of()).content.tolist()
    assert altered.rows().trained.tolist() != read_rows(rows_of()).trained.tolist()


def test_labels_that_are_not_the_tokens_themselves_are_another_row() -> None:
    kinds = ([[IGNORED, 6, 7]], [[IGNORED, 6, 8]], [[IGNORED, 7, 6]], [[IGNORED, IGNORED, 7]])
    scored = {int(read_rows(rows_of([[5, 6, 7]], labels=labels)).trained[0]) for labels in kinds}
    assert len(scored) == 4


def test_what_a_collator_made_knows_where_it_ends() -> None:
    made = as_trained(rows_of(), Halves()).dataset
    with pytest.raises(IndexError):
        made[len(made)]
    assert len(list(made)) == 4


def test_answers_that_are_cut_to_the_same_words_are_not_put_in_an_order(tmp_path: Path) -> None:
    tails = [" ".join(f"w{i}{j}" for j in range(3 * i)) for i in range(8)]
    words = "one two three four five six seven eight nine ten " * 2
    rows = [{"prompt": f"Q{i:02d} ", "completion": words + tail} for i, tail in enumerate(tails)]
    trainer = tiny_trainer(tmp_path, config={"metrics": ["mtld"], "stages": 2}, train=rows, max_length=20)
    with pytest.raises(MetricError, match="`mtld` gives every row the same score"):
        trainer.train()


CALL = {"function": {"name": "add", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("answer", "told"),
    [({"content": [{"type": "text", "text": "one two"}]}, "one two"), ({"content": [], "tool_calls": [CALL]}, "add")],
    ids=["content in parts", "tool call"],
)
def test_texts_are_those_of_the_tokens_whatever_the_messages_look_like(
    answer: Any, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The columns would say `[{'type': …}]` of parts, and nothing of a tool call."""
    template = (
        "{% for m in messages %}{% for c in m.get('tool_calls') or [] %}{{ c['function']['name'] }}{% endfor %}"
        "{% for p in m['content'] %}{{ p['text'] }}{% endfor %}{% endfor %}"
    )
    monkeypatch.setattr(tokenizer(), "chat_template", template)
    parts = [{"type": "text", "text": "which? "}]
    asked = [[{"role": "user", "content": parts}, {"role": "assistant", **answer}]] * 4
    data = tiny_trainer(tmp_path, config=False, train=[{"messages": turns} for turns in asked]).train_dataset
    said = list(read_texts(data, read_rows(data), tokenizer()).response_text)
    assert [text[-len(told) :] for text in said] == [told] * 4


def test_a_run_measures_what_its_collator_leaves(tmp_path: Path) -> None:
    class TrainsTheEnd:
        """The longer a row, the fewer of its last tokens carry loss."""

        def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
            batch: dict[str, torch.Tensor] = TrlCollator(0)([{"input_ids": row["input_ids"]} for row in rows])
            for labels, row in zip(batch["labels"], rows, strict=True):
                n = len(row["input_ids"])
                labels[: max(1, 2 * n - 20)] = IGNORED
            return batch

    ids = [list(range(5, 5 + n)) for n in range(4, 20)]
    args = TrainingArguments(
        str(tmp_path), per_device_train_batch_size=4, report_to="none", use_cpu=True, disable_tqdm=True, max_steps=4
    )
    callback = CampusCallback({"metrics": ["length"], "stages": 4})
    Trainer(tiny_model(), args, TrainsTheEnd(), rows_of(ids, labels=ids), callbacks=[callback]).train()
    events = read_ledger(tmp_path / "curriculum" / "ledger.jsonl")
    [scored] = [event for event in events if event["event"] == "scores"]
    assert (scored["quantiles"][0], scored["quantiles"][-1]) == (1, 9)  # of 19 tokens one, of 10 or 11 nine


def test_what_is_not_known_of_the_collator_is_said_with_the_scores() -> None:
    data = labelled()
    trained = Trained(data, data, ["the data collator cannot be asked"])
    passages = Passages(None, data, read_rows(data), None, ScoreCache(None), Peers(), trained=trained)  # type: ignore[arg-type]  # nothing is measured
    assert passages.warnings == ["the data collator cannot be asked"]
