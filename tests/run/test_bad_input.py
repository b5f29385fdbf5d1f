from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainerState, TrainingArguments

import campus_tune
from campus_tune.demo.tiny import tiny_model
from campus_tune.run.attach import refuse
from campus_tune.run.callback import CampusCallback
from campus_tune.words.errors import DataError, MetricError, RecipeError, StorageError, TrainerError
from tests.run.tiny_run import RECIPE, dataset, task_rows, tokenizer
from tests.run.witness import Witness, events, is_json_lines, ledger

Make = Callable[..., Any]


def plain_trainer(out: Path, train: Any, *, config: Any = RECIPE, model: Any = None, **settings: Any) -> Trainer:
    args = TrainingArguments(
        str(out),
        **{"per_device_train_batch_size": 4, "num_train_epochs": 1, "use_cpu": True, "report_to": "none", **settings},
    )
    return Trainer(
        model or tiny_model(),
        args=args,
        train_dataset=train,
        data_collator=DataCollatorForSeq2Seq(tokenizer()),
        processing_class=tokenizer(),
        callbacks=[CampusCallback(config)],
    )


def coded(n: int, **columns: Any) -> list[dict[str, Any]]:
    """Rows of a few tokens, with labels and further columns."""
    rows = [{"input_ids": [5 + i, 6, 7, 8][: 3 + i % 2], "labels": [-100, 6, 7, 8][: 3 + i % 2]} for i in range(n)]
    return [{**row, **{name: values[i] for name, values in columns.items()}} for i, row in enumerate(rows)]


class At(TrainerCallback):
    """Does something at the end of one step."""

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self.step, self.act = step, act

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control, kwargs
        if state.global_step == self.step:
            self.act()


# -- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [[], Dataset.from_list(coded(1)).select([])], ids=["a list", "a Dataset"])
def test_an_empty_training_set(train: Any, tmp_path: Path) -> None:
    if isinstance(train, list):
        trainer = plain_trainer(tmp_path, coded(1))
        trainer.train_dataset = train
    else:
        trainer = plain_trainer(tmp_path, train)
    with pytest.raises(
        DataError, match=r"`train_dataset` must have at least one row, got none\. Check the path, .* raise max_length\."
    ):
        trainer.train()


def test_a_single_row_trains_where_a_step_is_one_row(tiny_trainer: Make, tmp_path: Path) -> None:
    with pytest.raises(MetricError, match="cannot order"):  # two metrics of one row are fine, a tie of two rows is not
        tiny_trainer(train=[task_rows(1)[0]] * 2, per_device_train_batch_size=1).train()
    tiny_trainer(tmp_path / "one", n=1, per_device_train_batch_size=1).train()
    assert events(tmp_path / "one", "end")[0]["audit"] == {"checked": 1, "passed": 1, "labels": True}


def test_a_stream_is_told_how_to_become_rows_and_the_call_works(tiny_trainer: Make) -> None:
    stream = dataset(task_rows(8)).to_iterable_dataset()
    with pytest.raises(TrainerError, match="length and rows by position, got IterableDataset: a stream cannot") as told:
        tiny_trainer(train=stream, max_steps=2)
    names: dict[str, Any] = {"stream": stream}
    exec(str(told.value).split("`")[-2].replace("100_000", "6"), names)
    assert names["dataset"].cache_files  # on the disk
    trainer = tiny_trainer(train=names["dataset"])
    assert list(trainer.train_dataset["completion"]) == [row["completion"] for row in task_rows(6)]


def test_a_stream_of_probes_is_told_how_to_become_rows_and_the_call_works(tiny_trainer: Make) -> None:
    stream = dataset(task_rows(8, seed=77)).to_iterable_dataset()
    with pytest.raises(DataError, match=r"`probes` must be a path, a Dataset or .*, got IterableDataset") as told:
        tiny_trainer(n=8, probes=stream).train()
    names: dict[str, Any] = {"stream": stream}
    exec(str(told.value).split("`")[-2], names)
    assert len(names["probes"]) == 8
    tiny_trainer(n=8, probes=names["probes"]).train()


def test_an_image_dataset(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"must be text, got image or sound columns \['images'\]: what is seen"):
        plain_trainer(tmp_path, dataset(coded(8, images=[[0.0]] * 8)), remove_unused_columns=False)


def test_image_columns_that_the_trainer_takes_out_of_every_row_are_none_of_the_models(tmp_path: Path) -> None:
    rows = dataset(coded(8, images=[[0.0]] * 8, videos=["a.mp4"] * 8))
    trainer = plain_trainer(tmp_path, rows, config=RECIPE | {"metrics": ["length"]})
    assert trainer.train().global_step == 2
    assert events(tmp_path, "end")[0]["audit"]["passed"] == 2


def test_a_group_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"`within` must be a column of the training set \(input_ids, labels\), got 'topic'"
    ):
        plain_trainer(tmp_path, dataset(coded(8)), config=RECIPE | {"within": "topic"}).train()


# -- scores -----------------------------------------------------------------------------------------------------------

NUMBERS: dict[str, tuple[Any, str]] = {
    "NaN": ([1.0, float("nan")] * 4, r"must have a number for every row, got none \(null or NaN\) for 4 of 8 rows"),
    "inf": ([1.0, float("inf")] + [2.0] * 6, r"`grade` must give every row a finite score, got inf for 1 of 8 rows"),
    "all equal": ([2.0] * 8, r"`grade` gives every row the same score 2.0: it cannot order them"),
    "text": (["hard"] * 8, r"`column: grade` must hold numbers, got 'hard' in row 0"),
    "truth": ([True, False] * 4, r"`column: grade` must hold numbers, got True in row 0"),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_users_numbers_that_are_none(kind: str, tmp_path: Path) -> None:
    values, message = NUMBERS[kind]
    config = RECIPE | {"metrics": [{"name": "column", "column": "grade"}]}
    trainer = plain_trainer(tmp_path, dataset(coded(8, grade=values)), config=config)
    with pytest.raises(MetricError, match=message):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_users_column_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path) -> None:
    config = RECIPE | {"metrics": [{"name": "column", "column": "garde"}]}
    trainer = plain_trainer(tmp_path, dataset(coded(8, grade=range(8))), config=config)
    with pytest.raises(MetricError, match=r"`column: garde` must be a column .* Did you mean 'grade'\?"):
        trainer.train()


# -- settings ---------------------------------------------------------------------------------------------------------


def test_a_misspelt_option_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"got 'pasing'\. Did you mean 'pacing'\?"):
        CampusCallback({"metrics": ["length"], "pasing": "linear"})


def test_several_problems_are_told_together() -> None:
    with pytest.raises(RecipeError) as error:
        CampusCallback({"metrics": ["lenght"], "stages": 0, "selector": "mached", "mix": 2})
    assert len(error.value.problems) == 4
    assert all(word in str(error.value) for word in ("length", "`stages`", "matched", "`mix`"))


def test_a_selector_that_needs_probes(tiny_trainer: Make) -> None:
    with pytest.raises(RecipeError, match=r"`selector` must have probes to be 'matched', got none. Give probes"):
        tiny_trainer(n=8, config=RECIPE | {"selector": "matched"}).train()


def test_a_strategy_that_re_orders_rows(tiny_trainer: Make) -> None:
    if "train_sampling_strategy" not in TrainingArguments.__dataclass_fields__:
        pytest.skip("this transformers calls it group_by_length")
    for strategy in ("group_by_length", "batch_rebalance"):
        with pytest.raises(TrainerError, match=f"`train_sampling_strategy` must be left alone .* got '{strategy}'"):
            tiny_trainer(n=8, train_sampling_strategy=strategy)


def test_flattening_with_a_collator_that_cannot(tmp_path: Path) -> None:
    trainer = plain_trainer(tmp_path, dataset(coded(8)), config=RECIPE | {"batching": "flat"})
    with pytest.raises(TrainerError, match=r"`batching: flat` must have trl's collator, .* got DataCollatorForSeq2Seq"):
        trainer.train()


def test_parallelism_that_splits_rows_or_models(tiny_trainer: Make) -> None:
    trainer = tiny_trainer(n=8)

    def with_(**changed: Any) -> Any:
        names = (
            "args",
            "callback_handler",
            "train_dataset",
            "accelerator",
            "is_fsdp_enabled",
            "model",
            "data_collator",
        )
        seen = {name: getattr(trainer, name) for name in names}
        return SimpleNamespace(**{**seen, **changed})

    split = SimpleNamespace(
        parallelism_config=SimpleNamespace(tp_size=2, cp_size=1, sp_size=1),
        num_processes=2,
        distributed_type=trainer.accelerator.distributed_type,
    )
    with pytest.raises(TrainerError, match=r"sequence parallelism must be off with a curriculum, got \{'tp': 2"):
        refuse(with_(accelerator=split), ours=vars(trainer))
    args = {"packing": False, "dataloader_drop_last": False, "train_sampling_strategy": "random", "n_gpu": 2}
    with pytest.raises(TrainerError, match=r"one process must drive one GPU, got 2 .* `accelerate launch`"):
        refuse(with_(args=SimpleNamespace(**args)), ours=vars(trainer))
    refuse(trainer, ours=vars(trainer))


def test_processes_that_were_launched_together_and_train_apart(
    tiny_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = tiny_trainer(n=8)
    monkeypatch.setenv("WORLD_SIZE", "2")
    refuse(trainer, ours=vars(trainer))  # a cluster's word for what nothing has launched yet
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(TrainerError, match=r"2 processes must train together, got each for itself: .* use_cpu: true"):
        refuse(trainer, ours=vars(trainer))


# -- the callback -----------------------------------------------------------------------------------------------------


def test_attaching_a_second_curriculum_leaves_the_first(tiny_trainer: Make, tmp_path: Path) -> None:
    trainer = tiny_trainer(n=8)
    with pytest.raises(TrainerError, match="must have one CampusCallback, got two"):
        campus_tune.attach(trainer, {"metrics": ["-length"]})
    trainer.train()
    assert events(tmp_path / "run", "end")[0]["audit"]["passed"] == 2


def test_a_callback_that_was_added_and_not_attached(tiny_trainer: Make) -> None:
    trainer = tiny_trainer(config=False, n=8)
    trainer.add_callback(CampusCallback(RECIPE))
    with pytest.raises(
        TrainerError, match=r"call campus_tune.attach\(trainer, config\) instead of trainer.add_callback"
    ):
        trainer.train()


def test_a_callback_outside_a_trainer() -> None:
    with pytest.raises(TrainerError, match=r"must be given to a trainer when it is made, in callbacks=\[…\], got none"):
        CampusCallback(RECIPE).on_init_end(None, None, None)


def test_a_removed_callback(tiny_trainer: Make, tmp_path: Path) -> None:
    trainer = tiny_trainer(n=8)
    trainer.remove_callback(CampusCallback)
    with pytest.raises(
        TrainerError, match=r"must be planned before its loader is read.* with its CampusCallback in place"
    ):
        trainer.train()
    trainer = tiny_trainer(tmp_path / "on the way", n=24)
    trainer.add_callback(At(2, lambda: trainer.remove_callback(CampusCallback)))
    with pytest.raises(TrainerError, match=r"read ahead.* put the CampusCallback back"):
        trainer.train()


def test_a_first_try_that_broke_off_may_be_repeated(tiny_trainer: Make, tmp_path: Path) -> None:
    failures = iter([KeyboardInterrupt])

    def fail_once() -> None:
        for failure in failures:
            raise failure

    trainer = tiny_trainer(n=12, callbacks=[At(1, fail_once)])
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.train()
    assert events(tmp_path / "run", "end")[0]["audit"] == {"checked": 3, "passed": 3, "labels": True}


def test_a_users_callback_that_raises_is_heard_and_the_ledger_is_whole(tiny_trainer: Make, tmp_path: Path) -> None:
    def fail() -> None:
        raise ZeroDivisionError("mine")

    trainer = tiny_trainer(n=24, callbacks=[At(3, fail)])
    with pytest.raises(ZeroDivisionError, match=r"^mine$"):
        trainer.train()
    assert is_json_lines(tmp_path / "run" / "curriculum" / "ledger.jsonl")
    assert len(events(tmp_path / "run", "decision")) == 2
    assert not events(tmp_path / "run", "end")


def test_a_model_that_diverges_stops_with_what_to_do(tiny_trainer: Make, tmp_path: Path) -> None:
    trainer = tiny_trainer(n=24, probes=10, config=RECIPE | {"budget": 9.0})

    def poison() -> None:
        with torch.no_grad():
            next(trainer.model.parameters()).fill_(float("nan"))

    trainer.callback_handler.callbacks.insert(0, At(2, poison))
    with pytest.raises(MetricError, match=r"must be finite, got NaN or inf on .* has diverged: lower the learning"):
        trainer.train()
    assert trainer.state.global_step == 2
    assert is_json_lines(tmp_path / "run" / "curriculum" / "ledger.jsonl")


# -- the disk ---------------------------------------------------------------------------------------------------------


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, fail: Callable[..., Any]) -> Iterator[Any]:
    """`owner.name` is `fail(real)` once `start()` was called."""
    real, on = getattr(owner, name), [False]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, lambda *args, **kwargs: (fail if on[0] else real)(*args, **kwargs))
        yield lambda: on.__setitem__(0, True)


def no_space(*args: Any, **kwargs: Any) -> None:
    del args, kwargs
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_in_the_middle_of_a_ledger_line_loses_no_earlier_line(
    tiny_trainer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.write, []

    def half(descriptor: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) > 1:
            no_space()
        return real(descriptor, data[: len(data) // 2])

    with full_disk(monkeypatch, os, "write", half) as start:
        trainer = tiny_trainer(n=24, callbacks=[At(1, start)])
        with pytest.raises(StorageError, match=r"ledger.jsonl` must be writable, got No space left .* then resume"):
            trainer.train()
    lines = ledger(tmp_path / "run")  # every line reads
    assert [line["event"] for line in lines][-1] == "decision"
    assert not any(line["event"] == "stage_end" for line in lines)


def test_a_disk_that_is_full_while_scores_are_written_leaves_no_piece_of_a_file(
    tiny_trainer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, []

    def soon(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 2:  # lineage.json and its folder still fit
            no_space()
        real(descriptor)

    with full_disk(monkeypatch, os, "fsync", soon) as start:
        trainer = tiny_trainer(n=8)
        start()
        with pytest.raises(StorageError, match=r"length.parquet` must be writable, got No space left"):
            trainer.train()
    left = sorted(path.name for path in (tmp_path / "run" / "curriculum").rglob("*") if path.is_file())
    assert left == [".lock", "ledger.jsonl", "lineage.json"]
    assert is_json_lines(tmp_path / "run" / "curriculum" / "ledger.jsonl")


def test_a_disk_that_is_full_during_a_save_costs_that_checkpoint_and_no_other(
    tiny_trainer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = RECIPE | {"selector": "round_robin"}
    whole = tiny_trainer(tmp_path / "whole", n=24, config=config)
    expected = Witness(whole)
    whole.train()

    with full_disk(monkeypatch, TrainerState, "save_to_json", no_space) as start:
        trainer = tiny_trainer(n=24, config=config, save_steps=2, callbacks=[At(3, start)])
        with pytest.raises(OSError, match="No space left"):
            trainer.train()
    assert {path.name for path in (tmp_path / "run").glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}

    again = tiny_trainer(n=24, config=config, save_steps=2)
    seen = Witness(again)
    again.train(resume_from_checkpoint=True)
    assert "campus: skipping checkpoint-4: its save was interrupted" in capsys.readouterr().out
    assert seen.steps == expected.steps[2:]
    assert json.loads((tmp_path / "run" / "checkpoint-4" / "trainer_state.json").read_text())["global_step"] == 4


def test_a_folder_that_cannot_be_made(tiny_trainer: Make, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "curriculum").write_text("a file of the user's")
    with pytest.raises(StorageError, match=r"run/curriculum` must be writable, got File exists"):
        tiny_trainer(n=8).train()
    assert (tmp_path / "run" / "curriculum").read_text() == "a file of the user's"
