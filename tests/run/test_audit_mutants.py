"""Ways to train something else than planned, each of which the audit must find within a step, wherever it happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerCallback

from campus_tune.data.prepared import read_rows
from campus_tune.model import compat
from campus_tune.run.stream.tie import Forward
from campus_tune.run.stream.watch import Watch
from campus_tune.words.errors import AuditError
from tests.run.plain_run import ROWS_ONLY, plain_trainer
from tests.run.tiny_run import dataset
from tests.run.witness import events

Make = Callable[..., Any]
AT = 4  # the step that goes wrong, from 1; micro batches of 2 rows, two a step, 24 rows: steps 1 to 6


class Altered:
    """A loader around ours that changes what it hands out."""

    def __init__(self, loader: Any, change: Callable[[list[Any]], list[Any]]) -> None:
        self.loader, self.change, self.dataset = loader, change, loader.dataset

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        step, held = 0, []
        for batch in self.loader:
            held.append(batch)
            if len(held) == 2:
                step += 1
                yield from self.change(held) if step == AT else held
                held = []


def batches(change: Callable[[list[Any]], list[Any]]) -> Callable[[Any], None]:
    """Changes the two micro batches of one step."""

    def put_on(trainer: Any) -> None:
        ours = trainer.get_train_dataloader
        trainer.get_train_dataloader = lambda: Altered(ours(), change)

    return put_on


def first(change: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Changes the first micro batch of one step, given as a mapping of tensors."""

    def of_step(held: list[Any]) -> list[Any]:
        changed = {name: value.clone() if torch.is_tensor(value) else value for name, value in held[0].items()}
        return [change(changed) or changed, held[1]]

    return batches(of_step)


def during(act: Callable[[Any], Callable[[], None]]) -> Callable[[Any], None]:
    """Sets something on the trainer when the step begins; it is taken off when it ends."""

    def put_on(trainer: Any) -> None:
        undo: list[Callable[[], None]] = []

        class InStep(TrainerCallback):
            def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                del args, control
                if state.global_step == AT - 1:
                    undo.append(act(trainer))

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                del args, state, control
                while undo:
                    undo.pop()()

        trainer.callback_handler.callbacks.insert(0, InStep())

    return put_on


def replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> Callable[[], None]:
    """Replaces a method of an object; gives what puts it back."""
    before = getattr(owner, name)
    setattr(owner, name, make(before))
    return lambda: setattr(owner, name, before)


# -- what reaches the model ------------------------------------------------------------------------------------------


def exchange_rows(held: list[Any]) -> list[Any]:
    a, b = ({name: value.clone() for name, value in batch.items()} for batch in held)
    width = min(a["input_ids"].shape[1], b["input_ids"].shape[1])
    for name in ("input_ids", "labels", "attention_mask"):
        a[name][0, :width], b[name][0, :width] = b[name][0, :width].clone(), a[name][0, :width].clone()
    return [a, b]


def mask_a_row(batch: Any) -> None:
    batch["attention_mask"][0] = 0


def mask_labels(batch: Any) -> None:
    batch["labels"][:] = -100


def mask_last_token(batch: Any) -> None:
    batch["attention_mask"][0, int(batch["attention_mask"][0].sum()) - 1] = 0


def cut(batch: Any) -> Any:
    return {name: value[:, :-3] for name, value in batch.items()}


def exchange_labels(batch: Any) -> None:
    batch["labels"] = batch["labels"].flip(0)


def shift_labels(batch: Any) -> None:
    kept = batch["labels"] != -100
    batch["labels"][kept] = batch["labels"].roll(1, 1)[kept].clamp(min=5)


def unmask_prompts(batch: Any) -> None:
    batch["labels"] = torch.where(batch["attention_mask"] == 1, batch["input_ids"], -100)


def train_padding(batch: Any) -> None:
    batch["labels"] = torch.where(batch["attention_mask"] == 0, batch["input_ids"], batch["labels"])
    assert (batch["attention_mask"] == 0).any(), "this mutant needs padding"


def mask_a_label(batch: Any) -> None:
    batch["labels"][0, (batch["labels"][0] != -100).nonzero()[-1]] = -100


def another_token(batch: Any) -> None:
    batch["input_ids"][1, 2] += 1


def backwards(batch: Any) -> None:
    n = int(batch["attention_mask"][0].sum())
    batch["input_ids"][0, :n] = batch["input_ids"][0, :n].flip(0)


REACHES: dict[str, tuple[Callable[[Any], None], str]] = {
    "micro batches of a step exchanged": (batches(lambda held: held[::-1]), "in other micro batches than planned"),
    "a micro batch twice, the other not": (batches(lambda held: [held[0]] * 2), "trained on them again|planned rows"),
    "rows exchanged between micro batches": (batches(exchange_rows), "other micro batches|planned rows"),
    "a row dropped": (first(lambda b: {k: v[1:] for k, v in b.items()}), "planned rows"),
    "a row twice": (first(lambda b: {k: v[[0, 0, 1]] for k, v in b.items()}), "planned rows"),
    "a row instead of another": (first(lambda b: {k: v[[0, 0]] for k, v in b.items()}), "planned rows"),
    "a row that is masked out": (first(mask_a_row), "in no planned row"),
    "a last token that is masked out": (first(mask_last_token), "in no planned row"),
    "rows cut short": (first(cut), "in no planned row"),
    "another token": (first(another_token), "1 that are in no planned row"),
    "a row read backwards": (first(backwards), "1 that are in no planned row"),
    "labels masked": (first(mask_labels), "other labels than planned"),
    "one label masked": (first(mask_a_label), "other labels than planned"),
    "labels exchanged": (first(exchange_labels), "other labels than planned"),
    "labels shifted": (first(shift_labels), "other labels than planned"),
    "prompts trained too": (first(unmask_prompts), "other labels than planned"),
    "padding trained too": (first(train_padding), "other labels than planned"),
}


# -- what becomes of it ----------------------------------------------------------------------------------------------


def scaled_outputs(before_ours: bool) -> Callable[[Any], Callable[[], None]]:
    def scale(module: Any, args: Any, outputs: Any) -> Any:
        del module, args
        outputs["log_probs"] = outputs.log_probs * 2
        return outputs

    return lambda trainer: trainer.model.register_forward_hook(scale, prepend=before_ours).remove


def scaled_backward(trainer: Any) -> Callable[[], None]:
    return replaced(trainer.accelerator, "backward", lambda ours: lambda loss, **rest: ours(loss * 0.5, **rest))


def wrong_count(trainer: Any) -> None:
    class Counts(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            del args, control
            if state.global_step == AT - 2:  # the batches of the next step are read behind this one
                before, trainer.get_batch_samples = trainer.get_batch_samples, count
                ours.append(before)
            elif state.global_step == AT - 1:
                del trainer.get_batch_samples

    ours: list[Any] = []

    def count(*args: Any, **rest: Any) -> Any:
        held, n = ours[0](*args, **rest)
        return held, n + 9

    trainer.add_callback(Counts())


def no_backward(trainer: Any) -> Callable[[], None]:
    return replaced(trainer.accelerator, "backward", lambda ours: lambda loss, **rest: None)  # noqa: ARG005


def twice_backward(trainer: Any) -> Callable[[], None]:
    def make(ours: Any) -> Any:
        def backward(loss: Any, **rest: Any) -> None:
            ours(loss, retain_graph=True, **rest)
            ours(loss, **rest)

        return backward

    return replaced(trainer.accelerator, "backward", make)


def no_step(trainer: Any) -> Callable[[], None]:
    return replaced(trainer.optimizer.optimizer, "step", lambda ours: lambda *_, **__: None)  # noqa: ARG005


def two_steps(trainer: Any) -> Callable[[], None]:
    def make(ours: Any) -> Any:
        return lambda *args, **rest: (ours(*args, **rest), ours(*args, **rest))[0]

    return replaced(trainer.optimizer.optimizer, "step", make)


def second_loader(trainer: Any) -> Callable[[], None]:
    batch = trainer.data_collator([trainer.train_dataset[0]])
    trainer.model(**batch, fused_lm_head=True).log_probs.sum().backward()
    return lambda: None


def from_logits(trainer: Any) -> Callable[[], None]:
    batch = trainer.data_collator([trainer.train_dataset[0]])
    trainer.model(**batch).logits.logsumexp(-1).sum().backward()
    return lambda: None


def while_evaluating(trainer: Any) -> Callable[[], None]:
    batch = trainer.data_collator([trainer.train_dataset[0]])
    trainer.model.eval()(**batch).loss.backward()
    return trainer.model.train


BECOMES: dict[str, tuple[Callable[[Any], None], str]] = {
    "a loss scaled by a hook behind ours": (during(scaled_outputs(False)), "gradient .* got 2 times that"),
    "a loss scaled by a hook before ours": (during(scaled_outputs(True)), r"loss .* got 0\.5 times that"),
    "answer tokens counted wrong": (wrong_count, "the gradient of the rows .* times that"),
    "a loss scaled before its gradient": (during(scaled_backward), r"got 0\.5 times that"),
    "a backward pass left out": (during(no_backward), "propagated back once, got 0 times"),
    "a backward pass made twice": (during(twice_backward), "propagated back once, got 2 times"),
    "a step of the optimizer left out": (during(no_step), "must step once, got 0 steps, so the planned rows were not"),
    "a step of the optimizer made twice": (during(two_steps), "must step once, got 2 steps"),
    "a batch of a second loader": (during(second_loader), "planned rows"),
    "a loss of the logits beside the model's": (during(from_logits), "planned rows"),
    "a batch that is trained in evaluation mode": (during(while_evaluating), "planned rows"),
}
MUTANTS = {**REACHES, **BECOMES}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_found_in_its_own_step(name: str, tiny_trainer: Make) -> None:
    put_on, says = MUTANTS[name]
    trainer = tiny_trainer(n=24, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    put_on(trainer)
    with pytest.raises(AuditError, match=rf"order audit of step {AT}: .*({says})"):
        trainer.train()
    assert trainer.state.global_step == AT


# -- a plain Trainer, whose model gives the loss ---------------------------------------------------------------------


def scaled_loss(before_ours: bool) -> Callable[[Any], Callable[[], None]]:
    def scale(module: Any, args: Any, outputs: Any) -> Any:
        del module, args
        outputs["loss"] = outputs.loss * 3
        return outputs

    return lambda trainer: trainer.model.register_forward_hook(scale, prepend=before_ours).remove


PLAIN: dict[str, tuple[Callable[[Any], None], str]] = {
    name: BECOMES[name] for name in ("a loss scaled before its gradient", "a backward pass left out")
} | {
    "a loss scaled by a hook behind ours": (during(scaled_loss(False)), "gradient .* got 3 times that"),
    "a loss scaled by a hook before ours": (during(scaled_loss(True)), "loss .* got 3 times that"),
    "answer tokens counted wrong": (wrong_count, "the loss of the rows .* times that"),
    "labels exchanged": REACHES["labels exchanged"],
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_mutant_under_a_plain_trainer_is_found(name: str, tmp_path: Path) -> None:
    put_on, says = PLAIN[name]
    trainer = plain_trainer(tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    put_on(trainer)
    with pytest.raises(AuditError, match=rf"order audit of step {AT}: .*({says})"):
        trainer.train()
    assert trainer.state.global_step == AT


def test_a_batch_that_training_step_trains_again_is_found_unless_it_is_the_users_own(tmp_path: Path) -> None:
    class Twice(Trainer):
        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            super().training_step(model, dict(inputs), num_items_in_batch)
            return super().training_step(model, inputs, num_items_in_batch)

    trainer = plain_trainer(tmp_path / "own", kind=Twice)
    trainer.train()
    assert events(tmp_path / "own", "end")[0]["audit"]["passed"] == 7


def test_a_loss_of_two_forwards_passes_where_micro_batches_look_alike(tmp_path: Path) -> None:
    class Twice(Trainer):
        def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
            return (model(**inputs).loss + model(**inputs).loss) / 2

    trainer = plain_trainer(tmp_path, kind=Twice, per_device_train_batch_size=1, gradient_accumulation_steps=2)
    trainer.train_dataset = dataset([{"input_ids": [9, 10, 11], "labels": [9, 10, 11]}] * 8)
    trainer.train()
    assert events(tmp_path, "end")[0]["audit"]["passed"] == 4


def test_a_batch_that_a_wrapper_trains_again_is_found(tmp_path: Path) -> None:
    def twice(trainer: Any) -> Callable[[], None]:
        def again(loss: Any, **rest: Any) -> None:
            ours(loss, **rest)
            batch = trainer.data_collator([trainer.train_dataset[int(row)] for row in trained[-1]])
            ours(trainer.model(**batch).loss, **rest)

        ours = trainer.accelerator.backward
        trained = [trainer.loader_rows()[0]]
        trainer.accelerator.backward = again
        return lambda: setattr(trainer.accelerator, "backward", ours)

    trainer = plain_trainer(tmp_path)
    loader: list[Any] = []
    make = trainer.get_train_dataloader
    trainer.get_train_dataloader = lambda: loader.append(make()) or loader[-1]
    trainer.loader_rows = lambda: loader[-1].micro_batches(loader[-1].curriculum.step_rows())
    during(twice)(trainer)
    with pytest.raises(AuditError, match=rf"step {AT}: the rows .* were planned once .* trained on them again"):
        trainer.train()


@pytest.mark.parametrize("save_steps", [AT, 100], ids=["before a save", "at the end"])
def test_what_is_trained_behind_a_step_reaches_no_checkpoint_and_no_end(save_steps: int, tmp_path: Path) -> None:
    class Trains(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            del args, control
            if state.global_step == AT:
                from_logits(trainer)
                trainer.optimizer.step()

    trainer = plain_trainer(tmp_path, save_strategy="steps", save_steps=save_steps, max_steps=AT)
    trainer.add_callback(Trains())
    with pytest.raises(AuditError, match=f"order audit after step {AT}: no row must be trained between two"):
        trainer.train()
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_change_as_late_as_step_1000_is_found() -> None:
    """A thousand steps of a model that does nothing, watched as a run watches."""

    class Nothing(torch.nn.Module):
        def forward(self, input_ids: Any, labels: Any = None) -> Any:
            del labels
            return SimpleNamespace(logits=torch.zeros(*input_ids.shape, 16))

    ids = [[3 + row % 9, 4 + row // 9 % 9, 5 + row // 81] for row in range(500)]
    rows = read_rows(dataset([{"input_ids": row, "labels": row} for row in ids]))
    model = Nothing().train()
    watch = Watch(model, rows, ROWS_ONLY)
    for step in range(1, 1001):
        row = step % 500
        batch = torch.tensor([ids[row]])
        labels = batch.clone()
        if step == 1000:
            labels[0, 1] = -100
        watch.begin_step(step)
        model(input_ids=batch, labels=labels)
        if step < 1000:
            watch.end_step([[row]])
    with pytest.raises(AuditError, match="step 1000: the planned rows 0 reached the model with other labels"):
        watch.end_step([[row]])
    watch.close()


# -- on an accelerator, where the comparison comes a step later ------------------------------------------------------


@pytest.fixture
def _as_on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(shown: Any, sums: Any, device: Any, **rest: Any) -> Forward:
        del device
        return Forward(shown, sums, torch.device("cuda"), **rest)

    monkeypatch.setattr("campus_tune.run.stream.watch.Forward", elsewhere)


@pytest.mark.usefixtures("_as_on_an_accelerator")
def test_on_an_accelerator_a_step_is_compared_while_the_next_one_runs(tmp_path: Path) -> None:
    trainer = plain_trainer(tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    REACHES["labels exchanged"][0](trainer)
    with pytest.raises(AuditError, match=f"order audit of step {AT}: .*other labels"):
        trainer.train()
    assert trainer.state.global_step == AT + 1


@pytest.mark.usefixtures("_as_on_an_accelerator")
@pytest.mark.parametrize("last", [False, True], ids=["before a save", "at the end"])
def test_no_step_is_left_to_compare_when_a_checkpoint_is_written_or_the_run_ends(last: bool, tmp_path: Path) -> None:
    settings: Any = {"max_steps": AT} if last else {"save_strategy": "steps", "save_steps": 2}
    trainer = plain_trainer(tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2, **settings)
    REACHES["labels exchanged"][0](trainer)
    with pytest.raises(AuditError, match=f"order audit of step {AT}: .*other labels"):
        trainer.train()
    assert trainer.state.global_step == AT
    assert not (tmp_path / f"checkpoint-{AT}").exists()
    assert (tmp_path / "checkpoint-2").exists() != last


@pytest.mark.parametrize("early", [True, False])
def test_what_early_transformers_count_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: bool) -> None:
    """They count each row's first token among the labels: more than there are, as here."""
    monkeypatch.setattr(compat, "counts_first_tokens", lambda: early)
    trainer = plain_trainer(tmp_path, gradient_accumulation_steps=2, per_device_train_batch_size=2)
    wrong_count(trainer)
    told = r"times that\. Where rows' first .* pip install 'transformers>=5\.11'"
    with pytest.raises(AuditError, match=told if early else r"times that\. Something scales"):
        trainer.train()
