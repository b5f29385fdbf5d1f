from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from campus_tune.data.prepared import read_rows
from campus_tune.demo.tiny import tiny_model
from campus_tune.run.callback import CampusCallback
from campus_tune.run.stream.watch import Watch
from campus_tune.words.errors import AuditError, TrainerError
from tests.run.plain_run import ROWS_ONLY
from tests.run.plain_run import plain_trainer as trainer_of_lengths
from tests.run.tiny_run import RECIPE, dataset, task_rows, tokenizer
from tests.run.witness import Witness, events

Make = Callable[..., Any]

KINDS: dict[str, dict[str, Any]] = {
    "padded": {},
    "flat": {"config": RECIPE | {"batching": "flat"}},
    "padding-free by trl": {"padding_free": True, "max_length": None},
    "accumulation": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4},
    "flat, accumulation": {
        "config": RECIPE | {"batching": "flat"},
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 4,
    },
    "flat, padded at its end": {"config": RECIPE | {"batching": "flat"}, "pad_to_multiple_of": 16},
    "dft": {"loss_type": "dft", "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
    "workers": {"dataloader_num_workers": 2},
    "lora": {"lora": True},
    "lora, checkpointing": {"lora": True, "checkpointing": True},
    "checkpointing": {"checkpointing": True},
}


def checkpointing(on: bool) -> dict[str, bool]:
    names = TrainingArguments.__dataclass_fields__
    return {"activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing": on}


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_of_an_honest_run_passes(kind: str, tiny_trainer: Make, tmp_path: Path) -> None:
    settings = dict(KINDS[kind])
    trainer = tiny_trainer(n=22, **checkpointing(settings.pop("checkpointing", False)), **settings)
    witness = Witness(trainer)
    trainer.train()
    (end,) = events(tmp_path / "run", "end")
    assert end["audit"] == {"checked": 6, "passed": 6, "labels": True}
    assert sorted(witness.rows) == list(range(22))  # by the tests' own eyes, too


class Shuffling:
    """Somebody's loader: the batches of another one in another sequence, a few at a time."""

    def __init__(self, loader: Any, n: int) -> None:
        self.loader, self.n, self.dataset = loader, n, loader.dataset

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Any:
        held = []
        for batch in self.loader:
            held.append(batch)
            if len(held) == self.n:
                yield from reversed(held)
                held = []
        yield from held


def test_a_loader_that_was_set_after_ours_is_refused_before_training(tiny_trainer: Make) -> None:
    trainer = tiny_trainer()
    trainer.get_train_dataloader = lambda: Trainer.get_train_dataloader(trainer)
    with pytest.raises(AuditError, match="no planned rows would reach the model: something replaced the data loader"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_shuffling_loader_that_was_made_from_ours_ends_the_run(tiny_trainer: Make) -> None:
    trainer = tiny_trainer()
    ours = trainer.get_train_dataloader

    def shuffled() -> Any:
        ours()
        return Trainer.get_train_dataloader(trainer)

    trainer.get_train_dataloader = shuffled
    with pytest.raises(AuditError, match=r"planned rows [\d, ]+ but the model trained on [\d, ]+; something replaced"):
        trainer.train()
    assert trainer.state.global_step == 1


def test_a_wrapper_that_reorders_batches_between_steps_ends_the_run(tiny_trainer: Make) -> None:
    trainer = tiny_trainer()
    ours = trainer.get_train_dataloader
    trainer.get_train_dataloader = lambda: Shuffling(ours(), 2)
    with pytest.raises(AuditError, match="something replaced the data loader, re-shuffles it"):
        trainer.train()


def test_a_wrapper_that_holds_the_whole_epoch_back_is_stopped(tiny_trainer: Make) -> None:
    trainer = tiny_trainer()
    ours = trainer.get_train_dataloader
    trainer.get_train_dataloader = lambda: Shuffling(ours(), 1000)
    with pytest.raises(TrainerError, match="read ahead"):
        trainer.train()


def test_a_wrapper_that_changes_nothing_is_no_reason_to_stop(tiny_trainer: Make, tmp_path: Path) -> None:
    trainer = tiny_trainer(n=16)
    ours = trainer.get_train_dataloader
    trainer.get_train_dataloader = lambda: Shuffling(ours(), 1)
    trainer.train()
    assert events(tmp_path / "run", "end")[0]["audit"]["passed"] == 4


class At(TrainerCallback):
    """Does something at the end of one step."""

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self.step, self.act = step, act

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control, kwargs
        if state.global_step == self.step:
            self.act()


def test_a_dataset_swapped_inside_the_loader_ends_the_run(tiny_trainer: Make) -> None:
    trainer = tiny_trainer()
    loaders = []
    ours = trainer.get_train_dataloader
    trainer.get_train_dataloader = lambda: loaders.append(ours()) or loaders[-1]
    other = trainer.train_dataset.select(range(len(trainer.train_dataset) - 1, -1, -1))

    def swap() -> None:
        rows = loaders[-1].rows
        rows.dataset = other.select_columns(["input_ids", "labels"])

    trainer.add_callback(At(2, swap))
    with pytest.raises(AuditError, match="changed the dataset"):
        trainer.train()
    assert 2 < trainer.state.global_step <= 12


def test_swapping_train_dataset_during_training_does_not_reach_the_model(tiny_trainer: Make, tmp_path: Path) -> None:
    trainer = tiny_trainer(n=16)
    witness = Witness(trainer)
    trainer.add_callback(At(1, lambda: setattr(trainer, "train_dataset", trainer.train_dataset.select([0] * 16))))
    trainer.train()
    assert sorted(witness.rows) == list(range(16))
    assert events(tmp_path / "run", "end")[0]["audit"]["passed"] == 4


def plain_trainer(out: Path, train: Any, **rest: Any) -> Trainer:
    names = {"output_dir": str(out), "use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no"}
    args = TrainingArguments(**names, per_device_train_batch_size=4, num_train_epochs=1)
    return Trainer(tiny_model(), args=args, train_dataset=train, callbacks=[CampusCallback(RECIPE)], **rest)


def test_rows_altered_in_place_end_the_run(tmp_path: Path) -> None:
    from transformers import DataCollatorForLanguageModeling

    tok = tokenizer()
    rows = [{"input_ids": tok(row["completion"][0]["content"] * 2)["input_ids"]} for row in task_rows(24)]
    trainer = plain_trainer(
        tmp_path, rows, data_collator=DataCollatorForLanguageModeling(tok, mlm=False), processing_class=tok
    )

    def alter() -> None:
        for row in rows:
            row["input_ids"][0] += 1

    trainer.add_callback(At(3, alter))
    with pytest.raises(AuditError, match="4 that are in no planned row; something replaced"):
        trainer.train()
    assert trainer.state.global_step == 4


def test_a_collator_that_alters_tokens_ends_the_run_at_its_first_step(tiny_trainer: Make) -> None:
    trainer = tiny_trainer()
    collate = trainer.data_collator

    def alter(rows: Any) -> Any:
        batch = collate(rows)
        batch["input_ids"][0, 0] += 3
        return batch

    trainer.data_collator = alter
    with pytest.raises(AuditError, match=r"1 that are in no planned row, .* any collator that alters tokens"):
        trainer.train()
    assert trainer.state.global_step == 1


def test_rows_that_were_padded_when_they_were_tokenised_pass(tmp_path: Path) -> None:
    from transformers import DataCollatorForLanguageModeling

    tok = tokenizer()
    texts = [row["prompt"][0]["content"] for row in task_rows(16)]
    for side in ("right", "left"):
        coded = tok(texts, padding="max_length", max_length=96, truncation=True, padding_side=side)
        train = dataset([{name: coded[name][i] for name in coded} for i in range(16)])
        collator = DataCollatorForLanguageModeling(tok, mlm=False)
        trainer = plain_trainer(tmp_path / side, train, data_collator=collator, processing_class=tok)
        trainer.train()
        assert events(tmp_path / side, "end")[0]["audit"] == {"checked": 4, "passed": 4, "labels": True}


IDS = [[5, 6, 7], [8, 9, 10], [11, 12, 13]]


@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_of_which_every_token_carries_loss_are_trained_on_either_side_of_their_padding(
    side: str, tmp_path: Path
) -> None:
    """A trainer counts the first token of a row too where padding stands before it."""
    tokens = tokenizer()
    before, tokens.padding_side = tokens.padding_side, side
    try:
        trainer_of_lengths(tmp_path).train()
    finally:
        tokens.padding_side = before
    assert events(tmp_path, "end")[0]["audit"] == {"checked": 7, "passed": 7, "labels": True}


@pytest.fixture
def watched() -> Iterator[tuple[Any, Watch]]:
    """A model, and a watch on it that knows three rows."""
    model = tiny_model().train()
    watch = Watch(model, read_rows(dataset([{"input_ids": row} for row in IDS])), ROWS_ONLY)
    yield model, watch
    watch.close()


def test_a_step_of_which_nothing_was_seen_is_no_passed_step(watched: tuple[Any, Watch]) -> None:
    _, watch = watched
    watch.begin_step(1)
    with pytest.raises(AuditError, match="step 1: planned rows 0, 2 but the model trained on nothing"):
        watch.end_step([[2], [~0]])
    assert (watch.checked, watch.passed) == (1, 0)


@pytest.mark.parametrize("trained", [[0], [0, 1, 2], [0, 0], [0, 2]])
def test_a_row_too_many_or_too_few_is_found(trained: list[int], watched: tuple[Any, Watch]) -> None:
    model, watch = watched
    watch.begin_step(1)
    model(input_ids=torch.tensor([IDS[row] for row in trained]))
    with pytest.raises(AuditError, match="planned rows 0, 1 but the model trained on 0"):
        watch.end_step([[0, 1]])


def test_a_step_that_is_ended_twice_counts_once(watched: tuple[Any, Watch]) -> None:
    model, watch = watched
    watch.begin_step(1)
    model(torch.tensor(IDS[:2]))  # by place, not by name
    watch.end_step([[1, 0]])
    watch.end_step([[1, 0]])
    assert (watch.checked, watch.passed) == (1, 1)


def test_a_forward_between_two_steps_counts_only_if_it_was_trained(watched: tuple[Any, Watch]) -> None:
    model, watch = watched
    for trains in (False, True):
        out = model(input_ids=torch.tensor(IDS[2:])).logits.sum()
        if trains:
            out.backward()
        watch.begin_step(1)
        model(input_ids=torch.tensor(IDS[:1]))
        if trains:
            with pytest.raises(AuditError, match="planned rows 0 but the model trained on 0, 2"):
                watch.end_step([[0]])
        else:
            watch.end_step([[0]])


@pytest.mark.parametrize("evaluates", [False, True], ids=["in training mode", "in evaluation mode"])
def test_a_question_that_a_callback_asks_the_model_inside_a_step_is_no_training(
    evaluates: bool, tiny_trainer: Make, tmp_path: Path
) -> None:
    class Asks(TrainerCallback):
        def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, state, control
            ids = torch.tensor(IDS[:1])
            kwargs["model"].train(not evaluates)(input_ids=ids, labels=ids)

    Asks.on_pre_optimizer_step = Asks.on_step_end = Asks.on_substep_end  # type: ignore[method-assign]
    trainer = tiny_trainer(tmp_path, n=16, gradient_accumulation_steps=2, callbacks=[Asks()])
    trainer.train()
    assert events(tmp_path, "end")[0]["audit"] == {"checked": 2, "passed": 2, "labels": True}


def test_hooks_are_gone_when_training_ends_well_or_badly(tiny_trainer: Make, tmp_path: Path) -> None:
    def hooks(trainer: Any) -> int:
        return len(trainer.model._forward_hooks) + len(trainer.model._forward_pre_hooks)

    trainer = tiny_trainer(n=8)
    before = hooks(trainer)
    trainer.train()
    assert hooks(trainer) == before

    def break_off() -> None:
        raise KeyboardInterrupt

    trainer = tiny_trainer(tmp_path / "broken", n=8, callbacks=[At(1, break_off)])
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert hooks(trainer) == before
