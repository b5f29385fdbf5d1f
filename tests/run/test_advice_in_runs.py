"""What a run is refused or warned with is followed here, each way out by a run of its own, and then it trains."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from campus_tune.demo.tiny import tiny_model
from campus_tune.run.callback import CampusCallback
from campus_tune.words.errors import CampusError
from campus_tune.words.types import Json
from tests.run.tiny_run import RECIPE, dataset, task_rows, tiny_trainer, tokenizer

N = 12
PROBES: Json = {"metrics": ["length"], "selector": "fixed", "stages": 2}


def coded(n: int = N, **columns: Any) -> list[Json]:
    """Rows of a few tokens, the first of them without a label."""
    rows = [{"input_ids": [5 + i, 6, 7, 8][: 3 + i % 2], "labels": [-100, 6, 7, 8][: 3 + i % 2]} for i in range(n)]
    return [{**row, **{name: values[i] for name, values in columns.items()}} for i, row in enumerate(rows)]


MASKED = [row if i % 5 else {**row, "labels": [-100] * len(row["labels"])} for i, row in enumerate(coded())]
LONG = [{"prompt": "a b c d e f g h", "completion": f" {i}"} for i in range(N)]
TEXTS = [{"text": "What is this? " * (1 + i % 4) + str(i)} for i in range(N)]


def plain(out: Path, rows: Any, *, config: Any = RECIPE, named: Any = None, **settings: Any) -> None:
    """A plain Trainer's run."""
    args = TrainingArguments(
        str(out),
        **{"per_device_train_batch_size": 4, "num_train_epochs": 1, "use_cpu": True, "report_to": "none", **settings},
    )
    Trainer(
        tiny_model(),
        args=args,
        train_dataset=dataset(rows),
        data_collator=DataCollatorForSeq2Seq(tokenizer()),
        processing_class=named,
        callbacks=[CampusCallback(config)],
    ).train()


def sft(out: Path, *, config: Any = None, **settings: Any) -> None:
    """An SFTTrainer's run."""
    tiny_trainer(out, config=config, **{"n": N, **settings}).train()


def twice(out: Path, **second: Any) -> None:
    """A run that is stopped, and goes on with other settings."""
    sft(out, save_steps=2, max_steps=2)
    tiny_trainer(out, n=N, **{"max_steps": 2, **second}).train(resume_from_checkpoint=not second.get("anew"))


class Case(NamedTuple):
    """A run that is refused, what is said, and runs that follow it."""

    said: str
    wrong: Callable[[Path], Any]
    mended: list[Callable[[Path], Any]]


def tokenised(rows: list[Json]) -> list[Json]:
    ids = [tokenizer()(row["text"])["input_ids"] for row in rows]
    return [{"input_ids": row, "labels": row} for row in ids]


LENGTH: Json = {"metrics": ["length"], "stages": 2, "scores": "none"}

CASES = [
    Case(
        "Lower per_device_train_batch_size or gradient_accumulation_steps",
        lambda out: plain(out, coded(6), config=LENGTH, gradient_accumulation_steps=2),
        [
            lambda out: plain(out, coded(6), config=LENGTH),
            lambda out: plain(
                out, coded(6), config=LENGTH, gradient_accumulation_steps=2, per_device_train_batch_size=2
            ),
        ],
    ),
    Case(
        "rows 0, 5, 10.*: remove them, raise max_length, or correct",
        lambda out: plain(out, MASKED, config=LENGTH),
        [lambda out: plain(out, [row for i, row in enumerate(MASKED) if i % 5], config=LENGTH)],
    ),
    Case(
        "must have input_ids.* Tokenise it before a plain Trainer",
        lambda out: plain(out, TEXTS, config=LENGTH),
        [lambda out: plain(out, tokenised(TEXTS), config=LENGTH)],
    ),
    Case(
        "must have input_ids.* drop skip_prepare_dataset for SFTTrainer",
        lambda out: sft(out, config=LENGTH, train=TEXTS, dataset_kwargs={"skip_prepare_dataset": True}),
        [lambda out: sft(out, config=LENGTH, train=TEXTS)],
    ),
    Case(
        "must have a tokenizer to decode what is trained.* Pass processing_class=tokenizer",
        lambda out: plain(out, tokenised(TEXTS), config={**LENGTH, "metrics": ["compression"]}),
        [lambda out: plain(out, tokenised(TEXTS), config={**LENGTH, "metrics": ["compression"]}, named=tokenizer())],
    ),
    Case(
        "got 'domian'. Name one of them, or write within: none",
        lambda out: plain(out, coded(domain=["a", "b"] * 6), config={**LENGTH, "within": "domian"}),
        [
            lambda out: plain(out, coded(domain=["a", "b"] * 6), config={**LENGTH, "within": "domain"}),
            lambda out: plain(out, coded(domain=["a", "b"] * 6), config={**LENGTH, "within": "none"}),
        ],
    ),
    Case(
        "packing must be off|`packing` must be off.* Set packing to False and campus: {batching: flat}",
        lambda out: sft(out, config=LENGTH, packing=True),
        [lambda out: sft(out, config={**LENGTH, "batching": "flat"}, packing=False)],
    ),
    Case(
        "must have one CampusCallback, got two. Remove one",
        lambda out: sft(out, config=LENGTH, callbacks=[CampusCallback(LENGTH)]),
        [lambda out: sft(out, config=LENGTH)],
    ),
    Case(
        "`dataloader_drop_last` must be True or False, got None. Set one",
        lambda out: sft(out, config=LENGTH, dataloader_drop_last=None),
        [
            lambda out: sft(out, config=LENGTH, dataloader_drop_last=True),
            lambda out: sft(out, config=LENGTH, dataloader_drop_last=False),
        ],
    ),
    Case(
        "probe rows must be held out .* Remove them from one of the two",
        lambda out: sft(out, config=PROBES, probes=list(task_rows(N))),
        [lambda out: sft(out, config=PROBES, probes=8)],
    ),
    Case(
        "`probes` must have at least one row, got none. Give held-out rows, or leave it out",
        lambda out: sft(out, config=PROBES, probes=dataset(task_rows(2)).select([])),
        [lambda out: sft(out, config=PROBES, probes=8), lambda out: sft(out, config=PROBES)],
    ),
    Case(
        "got 'kind'|`probes: domain_column` must be a column of the probes",
        lambda out: sft(out, config={**PROBES, "probes": {"path": "x", "domain_column": "kind"}}, probes=8),
        [lambda out: sft(out, config={**PROBES, "probes": {"path": "x", "domain_column": "domain"}}, probes=8)],
    ),
    Case(
        "must belong to this run, .* Resume with the settings .*, or train without resuming. .* changed_future",
        lambda out: twice(out, config={**RECIPE, "stages": 2}),
        [
            lambda out: twice(out, config={**RECIPE, "stages": 2, "resume": "changed_future"}),
            lambda out: sft(out, config={**RECIPE, "stages": 2}),
        ],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.said[:40])
def test_a_run_that_follows_what_is_said_of_it_trains(case: Case, tmp_path: Path) -> None:
    with pytest.raises((CampusError, ValueError), match=case.said):
        case.wrong(tmp_path / "wrong")
    for i, mended in enumerate(case.mended):
        mended(tmp_path / f"mended {i}")


def test_a_run_that_is_warned_of_its_checkpoints_is_not_once_they_are_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for only, warned in ((True, True), (False, False)):
        sft(tmp_path / str(only), config=LENGTH, save_only_model=only, save_steps=2)
        assert ("Set save_only_model=False." in capsys.readouterr().out) is warned


def test_a_budget_that_was_too_small_is_told_what_would_have_paid_and_that_pays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config: Json = {**RECIPE, "scores": "none"}
    sft(tmp_path / "a", config={**config, "budget": 0.01})
    told = capsys.readouterr().out
    assert "warning: the budget is too small for this run" in told
    enough = re.search(r"It is kept: .*\. Write budget: ([\d.]+\d)", told)
    assert enough is not None
    sft(tmp_path / "b", config={**config, "budget": float(enough[1])})
    assert "the budget is too small" not in capsys.readouterr().out
