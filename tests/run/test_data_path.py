from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import pairwise
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import campus_tune
from campus_tune.demo.tiny import tiny_model
from campus_tune.method.pacing import linear
from campus_tune.run.callback import CampusCallback
from tests.run.tiny_run import RECIPE, dataset, task_rows, tiny_trainer, tokenizer
from tests.run.witness import Witness, events, flat, step_lines

Make = Callable[..., Any]

TURNS = RECIPE | {"selector": "round_robin"}  # no measurement decides: runs that differ in float noise stay comparable
SORTED = {
    "metrics": ["length"],
    "window": "slice",
    "stages": 4,
    "handover": 1.0,
    "pacing": {"name": "linear", "start": 0.25},
    "within": "none",
}


def trained(trainer: Any) -> Witness:
    witness = Witness(trainer)
    trainer.train()
    return witness


def lengths(trainer: Any, rows: list[int]) -> list[int]:
    """Answer tokens of rows, counted here."""
    labels = trainer.train_dataset["labels"]
    return [sum(label != -100 for label in labels[row][1:]) for row in rows]


# -- what users train -------------------------------------------------------------------------------------------------


def chat(rows: Any) -> list[dict[str, Any]]:
    return [{"messages": [*row["prompt"], *row["completion"]], "level": row["level"]} for row in rows]


def text(rows: Any) -> list[dict[str, Any]]:
    return [{"text": row["prompt"][0]["content"] + " " + row["completion"][0]["content"]} for row in rows]


def strings(rows: Any) -> list[dict[str, Any]]:
    return [{key: row[key][0]["content"] for key in ("prompt", "completion")} for row in rows]


FORMATS: dict[str, dict[str, Any]] = {
    "text": {"train": text(task_rows(10))},
    "chat, assistant only": {"train": chat(task_rows(10)), "assistant_only_loss": True},
    "chat, all tokens": {"train": chat(task_rows(10)), "assistant_only_loss": False},
    "prompt and completion strings": {"train": strings(task_rows(10))},
    "prompt and completion, all tokens": {"train": task_rows(10), "completion_only_loss": False},
    "bf16": {"n": 10, "bf16": True},
}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_row_is_trained_once_and_only_the_answer_carries_loss(kind: str, tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, **FORMATS[kind])
    witness = trained(trainer)
    assert sorted(witness.rows) == list(range(10))
    rows = trainer.train_dataset
    if "only" in kind or "strings" in kind:
        answers = zip(lengths(trainer, list(range(10))), rows["input_ids"], strict=True)
        assert all(0 < answer < len(ids) - 5 for answer, ids in answers)
    else:
        assert kind == "bf16" or lengths(trainer, list(range(10))) == [len(ids) - 1 for ids in rows["input_ids"]]
    assert sum(witness.counted) == sum(lengths(trainer, witness.rows))
    (end,) = events(tmp_path, "end")
    assert end["audit"] == {"checked": 3, "passed": 3, "labels": True}


def coded(n: int) -> list[dict[str, Any]]:
    """Rows that a user tokenised himself, with labels."""
    tok, rows = tokenizer(), []
    for row in task_rows(n):
        prompt, answer = (tok(row[part][0]["content"])["input_ids"] for part in ("prompt", "completion"))
        rows.append(
            {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer, "domain": row["domain"], "level": 1}
        )
    return rows


@pytest.mark.parametrize("kind", ["labels", "no labels", "a plain list", "a torch format"])
def test_a_plain_trainer_trains_rows_that_were_tokenised_before(kind: str, tmp_path: Path) -> None:
    tok = tokenizer()
    train: Any = coded(10) if kind == "a plain list" else dataset(coded(10))
    if kind in ("no labels", "a torch format"):
        train = train.remove_columns("labels")
    if kind == "a torch format":
        train.set_format("torch")
    args = TrainingArguments(
        str(tmp_path), per_device_train_batch_size=4, num_train_epochs=1, use_cpu=True, report_to="none"
    )
    by_labels = kind in ("labels", "a plain list")
    collator: Any = DataCollatorForSeq2Seq(tok) if by_labels else DataCollatorForLanguageModeling(tok, mlm=False)
    trainer = Trainer(tiny_model(), args=args, train_dataset=train, data_collator=collator, processing_class=tok)
    campus_tune.attach(trainer, RECIPE)
    witness = trained(trainer)
    assert sorted(witness.rows) == list(range(10))
    assert events(tmp_path, "end")[0]["audit"] == {"checked": 3, "passed": 3, "labels": True}
    assert sum(events(tmp_path, "run")[0]["rows_by_domain"].values()) == 10  # `domain` was found and used


def test_scores_find_their_rows_after_truncation_dropped_some(tmp_path: Path) -> None:
    rows = list(task_rows(40))
    levels = {row["id"]: row["level"] for row in rows}
    table = [{"id": row["id"], "grade": row["level"]} for row in reversed(rows)]
    (tmp_path / "grades.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    metrics = [
        {"name": "column", "column": "level"},
        {"name": "column", "column": "grade", "path": str(tmp_path / "grades.jsonl"), "on": "id", "label": "joined"},
    ]
    for metric in metrics:
        out = tmp_path / str(metric.get("label", "column"))
        trainer = tiny_trainer(out, train=rows, max_length=48, config=SORTED | {"metrics": [metric]})
        ids = trainer.train_dataset["id"]
        assert 16 <= len(ids) < 40
        assert ids != [row["id"] for row in rows][: len(ids)]  # a row's index is not its index in the file
        witness = trained(trainer)
        assert sorted(witness.rows) == list(range(len(ids)))
        assert_easy_to_hard([[levels[ids[row]] for row in rows] for rows in stages(out, witness)])


def stages(out: Path, witness: Witness) -> list[list[int]]:
    """The rows of each decided stage, as the model saw them."""
    starts = [decision["step"] for decision in events(out, "decision")] + [len(witness.steps)]
    return [flat(witness.steps[a:b]) for a, b in pairwise(starts)]


def assert_easy_to_hard(difficulties: list[list[int]]) -> None:
    assert len(difficulties) >= 3
    for easier, harder in pairwise(difficulties):
        assert max(easier) <= min(harder)
    assert min(difficulties[0]) < max(difficulties[-1])


# -- the curriculum is really used ------------------------------------------------------------------------------------


def test_slices_by_length_are_trained_short_to_long_as_far_as_the_pacing_says(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, n=48, config=SORTED)
    witness = trained(trainer)
    by_stage = stages(tmp_path, witness)
    scopes = linear(start=0.25)(np.arange(4) / 3)  # 1/4, 1/2, 3/4, 1
    assert np.cumsum([len(rows) for rows in by_stage]).tolist() == [round(scope * 48) for scope in scopes]
    assert_easy_to_hard([lengths(trainer, rows) for rows in by_stage])
    assert sorted(flat(by_stage)) == list(range(48))


def test_the_reversed_metric_is_trained_long_to_short(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, n=32, config=SORTED | {"metrics": ["-length"], "batching": "flat"})
    witness = trained(trainer)
    assert_easy_to_hard([[-n for n in lengths(trainer, rows)] for rows in stages(tmp_path, witness)])


def test_prefix_stages_are_drawn_from_the_open_part_of_the_order_until_the_handover(tmp_path: Path) -> None:
    recipe = SORTED | {"window": "prefix", "mix": 0.0, "handover": 0.5, "pacing": {"name": "linear", "start": 0.2}}
    trainer = tiny_trainer(tmp_path, n=48, config=recipe)
    witness = trained(trainer)
    decisions = events(tmp_path, "decision")
    assert [decision["chosen"] for decision in decisions] == ["length", "length", "shuffle", "shuffle"]
    sizes = sorted(lengths(trainer, list(range(48))))
    for decision, rows in zip(decisions[:2], stages(tmp_path, witness)[:2], strict=True):
        n_open = round(decision["scope"][1] * 48)
        assert n_open < 48
        assert max(lengths(trainer, rows)) <= sizes[n_open - 1]
    assert max(lengths(trainer, witness.rows[24:])) == sizes[-1]


# -- how long a run is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "steps", "epochs"),
    [
        ({"num_train_epochs": 3}, 9, 3.0),
        ({"num_train_epochs": 1.5}, 5, 5 / 3),
        ({"max_steps": 2}, 2, 2 / 3),
        ({"max_steps": 7}, 7, 7 / 3),
        ({"num_train_epochs": 2, "dataloader_drop_last": True}, 4, 2.0),
    ],
    ids=["three epochs", "a fraction", "fewer steps than an epoch", "more steps than an epoch", "drop last"],
)
def test_a_run_has_the_steps_it_was_asked_for_and_every_row_once_an_epoch(
    settings: dict[str, Any], steps: int, epochs: float, tmp_path: Path
) -> None:
    trainer = tiny_trainer(tmp_path, n=10, config=TURNS, **settings)
    witness = trained(trainer)
    assert (trainer.state.global_step, len(witness.steps)) == (steps, steps)
    assert trainer.state.epoch == pytest.approx(epochs)
    drop = settings.get("dataloader_drop_last", False)
    per_epoch = 2 if drop else 3
    for first in range(0, steps, per_epoch):
        epoch = flat(witness.steps[first : first + per_epoch])
        assert len(set(epoch)) == len(epoch)
        if first + per_epoch <= steps:
            assert len(epoch) == (8 if drop else 10)
    assert [end["step"] for end in events(tmp_path, "end")] == [steps]


# -- what does not depend on how rows are dealt -----------------------------------------------------------------------


SPLITS: dict[str, dict[str, Any]] = {
    "one batch": {"per_device_train_batch_size": 8},
    "accumulation": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
    "workers": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "dataloader_num_workers": 2},
    "as drawn": {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 4,
        "config": TURNS | {"batching": "plain"},
    },
    "flat": {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 4,
        "config": TURNS | {"batching": "flat"},
    },
}


@pytest.fixture(scope="module")
def split_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Witness]]:
    """The same 35 rows, 8 a step, dealt in five ways; the last step has three rows for up to eight micro batches."""
    runs = {}
    for name, settings in SPLITS.items():
        trainer = tiny_trainer(tmp_path_factory.mktemp("split"), n=35, **{"config": TURNS, **settings})
        runs[name] = (trainer, trained(trainer))
    return runs


@pytest.mark.parametrize("name", list(SPLITS)[1:])
def test_the_rows_of_each_step_do_not_depend_on_how_they_are_dealt(name: str, split_runs: Any) -> None:
    reference = split_runs["one batch"][1].steps
    assert [len(step) for step in reference] == [8, 8, 8, 8, 3]
    assert split_runs[name][1].steps == reference


@pytest.mark.parametrize("name", list(SPLITS)[1:])
def test_loss_and_gradient_of_each_step_do_not_depend_on_how_it_is_dealt(name: str, split_runs: Any) -> None:
    lines = [np.array(step_lines(split_runs[run][0], "loss", "grad_norm")) for run in ("one batch", name)]
    assert lines[0].shape == (5, 2)
    np.testing.assert_allclose(lines[1], lines[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "forwards"), [("accumulation", 35), ("workers", 18), ("as drawn", 18), ("flat", 18)])
def test_every_forward_of_one_process_has_rows_of_its_own(name: str, forwards: int, split_runs: Any) -> None:
    witness = split_runs[name][1]
    assert len(witness.forwards) == forwards
    assert min(witness.counted) > 0


def test_splitting_by_length_pads_less_and_flattening_not_at_all(split_runs: Any) -> None:
    tokens = {name: sum(split_runs[name][1].tokens) for name in ("workers", "as drawn", "flat", "one batch")}
    trainer = split_runs["flat"][0]
    assert tokens["flat"] == sum(len(ids) for ids in trainer.train_dataset["input_ids"])
    assert tokens["flat"] < tokens["workers"] < tokens["as drawn"] < tokens["one batch"]


def test_a_plain_trainers_short_step_is_that_of_one_batch(tmp_path: Path) -> None:
    lines = []
    for batch, accumulation in ((4, 1), (1, 4)):
        out = tmp_path / str(batch)
        args = TrainingArguments(
            str(out),
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            num_train_epochs=1,
            logging_steps=1,
            use_cpu=True,
            report_to="none",
        )
        collator = DataCollatorForSeq2Seq(tokenizer())
        trainer = Trainer(
            tiny_model(),
            args=args,
            train_dataset=dataset(coded(6)),
            data_collator=collator,
            processing_class=tokenizer(),
            callbacks=[CampusCallback(TURNS)],
        )
        trainer.train()
        lines.append(step_lines(trainer, "loss", "grad_norm"))
    np.testing.assert_allclose(lines[0], lines[1], rtol=1e-5, atol=1e-5)


# -- evaluation on the way --------------------------------------------------------------------------------------------


def test_evaluation_during_training_neither_disturbs_nor_is_disturbed(tmp_path: Path) -> None:
    held_out = dataset(task_rows(8, seed=9))
    evaluated = {"eval_strategy": "steps", "eval_steps": 2, "trainer_args": {"eval_dataset": held_out}}

    def run(name: str, **settings: Any) -> tuple[Witness, Any]:
        trainer = tiny_trainer(
            tmp_path / name, n=16, **settings
        )  # no dropout: the trainer's own evaluation draws a seed
        return trained(trainer), trainer

    def eval_losses(trainer: Any) -> list[float]:
        return [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line]

    witness, plain = run("plain", probes=8)
    same_witness, same = run("evaluated", probes=8, **evaluated)
    assert same_witness.steps == witness.steps
    assert step_lines(same, "loss", "grad_norm", "learning_rate") == step_lines(
        plain, "loss", "grad_norm", "learning_rate"
    )
    assert len(eval_losses(same)) == 2
    assert events(tmp_path / "evaluated", "end")[0]["audit"] == {"checked": 4, "passed": 4, "labels": True}
    still = run("still", probes=8, learning_rate=0.0, **evaluated)[1]
    alone = run("alone", config=False, learning_rate=0.0, **evaluated)[1]
    assert eval_losses(still) == eval_losses(alone)


class BreakOff(TrainerCallback):
    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control, kwargs
        if state.global_step == 3:
            raise MemoryError("the cat")


@pytest.mark.parametrize("breaks", [False, True])
def test_no_worker_outlives_the_training(tmp_path: Path, breaks: bool) -> None:
    """Workers that are left to the garbage collector keep their memory, and are waited for five seconds each."""
    trainer = tiny_trainer(
        tmp_path, n=16, dataloader_num_workers=2, num_train_epochs=2, callbacks=[BreakOff()] if breaks else []
    )
    if breaks:
        with pytest.raises(MemoryError, match="the cat"):
            trainer.train()
    else:
        trainer.train()
    assert not active_children()


def test_a_seeded_run_repeats_and_another_seed_trains_another_sequence(tmp_path: Path) -> None:
    random.seed(1)
    runs = [trained(tiny_trainer(tmp_path / str(i), n=16, config=TURNS, seed=seed)) for i, seed in enumerate((3, 3, 4))]
    assert runs[0].steps == runs[1].steps
    assert runs[0].steps != runs[2].steps
