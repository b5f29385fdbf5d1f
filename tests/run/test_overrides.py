"""Methods, arguments and settings that are the user's own: refused by name, called through, or put back."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import RandomSampler
from transformers import Seq2SeqTrainer, Trainer, TrainerCallback
from trl import SFTTrainer

import campus_tune
from campus_tune.run.attach import refuse
from campus_tune.run.callback import CampusCallback
from campus_tune.words.errors import TrainerError
from campus_tune.words.types import Json
from tests.run.tiny_run import RECIPE, dataset, saved_state, task_rows, tiny_trainer
from tests.run.witness import events

Make = Callable[..., Any]
TURNS = RECIPE | {"selector": "round_robin"}


# -- the user's own way to choose rows ---------------------------------------------------------------------------------


class OnlyLongRows(SFTTrainer):
    def get_train_dataloader(self) -> Any:
        self.train_dataset = self.train_dataset.select(range(13, 26))
        return super().get_train_dataloader()


class OwnSampler(SFTTrainer):
    def _get_train_sampler(self, train_dataset: Any = None) -> Any:  # noqa: ARG002  # theirs
        return RandomSampler(self.train_dataset, replacement=True)


class OwnLoader(SFTTrainer):
    def _get_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        return super()._get_dataloader(*args, **kwargs)


class OfOnlyLongRows(OnlyLongRows):
    """Inherits it."""


@pytest.mark.parametrize(
    ("trainer_class", "named"),
    [
        (OnlyLongRows, "`get_train_dataloader` must be transformers' own .*, got the one of OnlyLongRows: .*select"),
        (OfOnlyLongRows, "`get_train_dataloader` .* got the one of OnlyLongRows"),
        (OwnSampler, "`_get_train_sampler` must be transformers' own .*, got the one of OwnSampler"),
        (OwnLoader, "`_get_dataloader` must be transformers' own .*, got the one of OwnLoader"),
    ],
)
def test_a_trainer_that_chooses_its_rows_itself_is_refused_by_the_method(
    tiny_trainer: Make, trainer_class: Any, named: str
) -> None:
    with pytest.raises(TrainerError, match=named):
        tiny_trainer(trainer_class=trainer_class)
    plain = tiny_trainer(trainer_class=trainer_class, config=False)
    with pytest.raises(TrainerError, match=named):
        campus_tune.attach(plain, RECIPE)


@pytest.mark.parametrize("name", ["get_train_dataloader", "_get_train_sampler", "_get_dataloader"])
def test_a_method_that_was_set_on_the_trainer_is_refused(tiny_trainer: Make, name: str) -> None:
    trainer = tiny_trainer(config=False)
    setattr(trainer, name, lambda *_: None)
    with pytest.raises(TrainerError, match=f"`{name}` must be .*got one that was set on this trainer"):
        campus_tune.attach(trainer, RECIPE)


def test_a_sampler_that_is_set_after_the_callback_is_refused_when_training_begins(tiny_trainer: Make) -> None:
    trainer = tiny_trainer()
    trainer._get_train_sampler = lambda *_: None
    with pytest.raises(TrainerError, match=r"`_get_train_sampler` must be .*got one that was set on this trainer"):
        trainer.train()


def test_a_method_of_the_library_that_was_exchanged_is_refused(
    tiny_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "_get_train_sampler", lambda *_: None)
    with pytest.raises(TrainerError, match=r"`_get_train_sampler` must be .*got the one of Trainer"):
        tiny_trainer()


def test_the_libraries_own_trainers_and_classes_that_override_other_things_are_fine(tiny_trainer: Make) -> None:
    class Quiet(SFTTrainer):
        def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> Any:
            return super().get_eval_dataloader(*args, **kwargs)

    refuse(tiny_trainer(trainer_class=Quiet, config=False))
    trainer = tiny_trainer(config=False)
    for each in (Trainer, Seq2SeqTrainer, SFTTrainer):
        trainer.__class__ = each
        refuse(trainer)


def test_rows_chosen_before_the_trainer_is_made_are_trained(tmp_path: Path) -> None:
    """What the refusal says to do instead."""
    trainer = tiny_trainer(tmp_path, train=dataset(task_rows(26)).select(range(13, 26)), config=TURNS)
    assert trainer.train().global_step == 4
    assert events(tmp_path, "end")[0]["rows_seen"] == 13


def test_a_sequence_of_ones_own_is_trained_as_a_column(tmp_path: Path) -> None:
    rows = [{**row, "mine": float(k)} for k, row in enumerate(task_rows(12))]
    config = TURNS | {"metrics": [{"name": "column", "column": "mine"}], "within": "none"}
    tiny_trainer(tmp_path, train=rows, config=config).train()
    assert [event["chosen"] for event in events(tmp_path, "decision")] == ["mine"] * 3


# -- the user's own methods that are called through ------------------------------------------------------------------


class Own(SFTTrainer):
    """Its own form of every method that we wrap, with other parameters."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.calls: list[Any] = []
        super().__init__(*args, **kwargs)

    def log(self, values: Any, start_time: Any = None, *, tag: str = "") -> None:
        self.calls.append(("log", tag))
        super().log(values, start_time)

    def save_model(self, folder: Any = None, _internal_call: bool = False, *, twice: bool = False) -> str:
        self.calls.append(("save_model", twice))
        super().save_model(folder, _internal_call)
        return "saved"

    def create_model_card(self, *args: Any, **kwargs: Any) -> str:
        super().create_model_card(*args, **kwargs)
        self.calls.append("card")
        return "carded"

    def train(self, phase: str, resume_from_checkpoint: Any = None, **kwargs: Any) -> Any:
        self.calls.append(("train", phase))
        return super().train(resume_from_checkpoint, **kwargs)


def test_a_users_own_methods_get_their_own_arguments_and_give_back_what_they_give(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, trainer_class=Own, n=8, config=TURNS, save_steps=1)
    assert trainer.train("warm-up", resume_from_checkpoint=True).global_step == 2
    trainer.log(values={"mine": 1.0}, tag="x")
    assert trainer.save_model(str(tmp_path / "own"), twice=True) == "saved"
    assert trainer.create_model_card() == "carded"
    assert trainer.calls[0] == ("train", "warm-up")
    assert {("log", "x"), ("save_model", True), "card"} <= set(trainer.calls)
    assert "campus/stage" in trainer.state.log_history[0]
    assert trainer.train("again", True).global_step == 2


class PassesOn(SFTTrainer):
    def train(self, *args: Any, **kwargs: Any) -> Any:
        return super().train(*args, **kwargs)


class ResumesByItself(SFTTrainer):
    def train(self) -> Any:  # type: ignore[override]  # theirs
        return super().train(resume_from_checkpoint=f"{self.args.output_dir}/checkpoint-1")


class Resuming(SFTTrainer):
    def train(self, resume_from_checkpoint: Any = True) -> Any:
        return super().train(resume_from_checkpoint)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A finished run of two steps with a checkpoint after each, the second one interrupted."""
    tiny_trainer(tmp_path / "run", n=8, config=TURNS, save_steps=1).train()
    (tmp_path / "run" / "checkpoint-2" / "trainer_state.json").unlink()
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("trainer_class", "call"),
    [
        (PassesOn, lambda trainer: trainer.train(True)),
        (PassesOn, lambda trainer: trainer.train(resume_from_checkpoint=True)),
        (Resuming, lambda trainer: trainer.train()),
        (Own, lambda trainer: trainer.train("again", True)),
        (Own, lambda trainer: trainer.train(phase="again", resume_from_checkpoint=True)),
    ],
    ids=["passed on by place", "passed on by name", "by default", "second by place", "by name"],
)
def test_whatever_the_parameters_of_train_the_last_complete_checkpoint_is_found(
    saved: Path, trainer_class: Any, call: Callable[[Any], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    call(tiny_trainer(saved, trainer_class=trainer_class, n=8, config=TURNS, save_steps=1))
    said = capsys.readouterr().out
    assert "skipping checkpoint-2" in said
    assert "resumed at step 1 of 2" in said


def test_a_train_method_that_resumes_by_itself_is_told_to_pass_the_checkpoint_on(saved: Path) -> None:
    trainer = tiny_trainer(saved, trainer_class=ResumesByItself, n=8, config=TURNS)
    with pytest.raises(TrainerError, match=r"told where to resume as resume_from_checkpoint, got a resume at step 1"):
        trainer.train()


class SavesItsOwnWay(SFTTrainer):
    """Asks nobody to save the model."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        save_model, self.save_model = self.save_model, super().save_model
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.save_model = save_model


def test_a_checkpoint_saved_in_ones_own_way_holds_the_losses_of_its_stage(tmp_path: Path) -> None:
    found = []
    for trainer_class in (SFTTrainer, SavesItsOwnWay):
        out = tmp_path / trainer_class.__name__
        tiny_trainer(out, trainer_class=trainer_class, n=24, config=TURNS, save_steps=1).train()
        state = saved_state(out / "checkpoint-1")["stateful_callbacks"]["CampusCallback"]
        found.append(state["attributes"]["curriculum"]["training_losses"])
    assert found[0] == found[1]


def test_a_card_that_was_not_written_is_left_alone(tmp_path: Path) -> None:
    class NoCard(SFTTrainer):
        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """Ours is written by hand."""

    (tmp_path / "README.md").write_text("Mine.\n\n## Curriculum\n\nOf the school.\n")
    tiny_trainer(tmp_path, trainer_class=NoCard, n=8, config=TURNS, save_steps=1).train()
    assert (tmp_path / "README.md").read_text() == "Mine.\n\n## Curriculum\n\nOf the school.\n"


def test_a_card_with_a_curriculum_of_its_own_keeps_it(tmp_path: Path) -> None:
    class OwnCard(SFTTrainer):
        def create_model_card(self, *_: Any, **__: Any) -> None:
            card = Path(self.args.output_dir, "README.md")
            before = card.read_text() if card.exists() else "## Curriculum\n\nOf the school.\n"
            card.write_text(before + "\nOnce more.\n")

    tiny_trainer(tmp_path, trainer_class=OwnCard, n=8, config=TURNS, save_steps=1).train()
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("## Curriculum\n\nOf the school.\n")
    assert card.count("Once more.") == 2
    assert card.count("order audit") == 1


def test_methods_are_the_trainers_own_again_when_training_has_ended(tmp_path: Path) -> None:
    names = ("get_train_dataloader", "log", "_save_checkpoint")
    trainer = tiny_trainer(tmp_path, n=8, config=TURNS)
    assert all(name in vars(trainer) for name in names)
    trainer.train()
    assert not any(name in vars(trainer) for name in names)
    assert len(list(trainer.get_train_dataloader())) == 2


def test_a_method_that_a_user_has_put_over_ours_stays(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, n=8, config=TURNS, save_steps=1)
    lines, ours = [], trainer.log
    trainer.log = lambda logs, *rest: lines.append(dict(logs)) or ours(logs, *rest)
    theirs = trainer.log
    trainer.train()
    assert trainer.log is theirs
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert [line["step"] for line in trainer.state.log_history if "loss" in line] == [1, 2]
    assert trainer.log is theirs
    assert len([line for line in lines if "loss" in line]) == 3


# -- what is the user's is as it was ----------------------------------------------------------------------------------


class Stops(TrainerCallback):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, state, control, kwargs
        raise self.error


def test_arguments_are_the_users_from_the_first_step_on(tmp_path: Path) -> None:
    """They are saved with every checkpoint, and may be shared with a trainer without a curriculum."""
    trainer = tiny_trainer(tmp_path, n=8, config=TURNS, save_steps=1)
    assert trainer.args.ignore_data_skip is False
    trainer.train()
    again = tiny_trainer(tmp_path, n=8, config=TURNS, save_steps=1)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert again.args.ignore_data_skip is False
    for checkpoint in tmp_path.glob("checkpoint-*"):
        assert torch.load(checkpoint / "training_args.bin", weights_only=False).ignore_data_skip is False


@pytest.mark.parametrize("error", [ValueError("theirs"), KeyboardInterrupt()], ids=["an error", "Ctrl-C"])
@pytest.mark.parametrize("ignore", [False, True])
def test_arguments_are_put_back_however_a_resumed_run_ends(tmp_path: Path, error: BaseException, ignore: bool) -> None:
    tiny_trainer(tmp_path, n=8, config=TURNS, save_steps=1).train()
    trainer = tiny_trainer(tmp_path, n=8, config=TURNS, callbacks=[Stops(error)], ignore_data_skip=ignore)
    with pytest.raises(type(error)):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert trainer.args.ignore_data_skip is ignore
    refused = tiny_trainer(tmp_path, n=12, config=TURNS, ignore_data_skip=ignore)
    with pytest.raises(campus_tune.words.errors.ResumeError):
        refused.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert refused.args.ignore_data_skip is ignore


def belongings(trainer: Any, config: Json, rows: Any, probes: Any) -> Json:
    """Everything that a user has handed over, to compare."""
    tokenizer = trainer.processing_class
    return {
        "arguments": {name: repr(value) for name, value in vars(trainer.args).items()},
        "config of the model": trainer.model.config.to_dict(),
        "generation config": trainer.model.generation_config.to_dict(),
        "modes": {name: module.training for name, module in trainer.model.named_modules()},
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in trainer.model.modules()],
        "gradients": {name: weight.requires_grad for name, weight in trainer.model.named_parameters()},
        "tokenizer": [tokenizer.to_str() if hasattr(tokenizer, "to_str") else str(tokenizer), tokenizer.padding_side],
        "template": [tokenizer.chat_template, tokenizer.truncation_side, tokenizer.model_max_length],
        "fast tokenizer": str(tokenizer.backend_tokenizer.to_str()),
        "recipe": copy.deepcopy(config),
        "rows": [(each._fingerprint, each.format, each.column_names, each.to_list()) for each in (rows, probes)],
        "prepared": [trainer.train_dataset.format, trainer.train_dataset.to_list()],
        "environment": {name: getattr(torch, name)() for name in ("get_num_threads", "get_default_dtype")},
    }


def test_a_whole_run_leaves_everything_of_the_users_as_plain_training_does(tmp_path: Path) -> None:
    scorer = {"name": "scorer", "new_tokens": 2, "pairs": 32}
    config: Json = {"metrics": ["length", "loss", scorer], "selector": "matched", "stages": 3, "rescore": 1}
    config |= {"budget": 1.0, "handover": 1.0, "scores": "none"}
    given = copy.deepcopy(config)
    found = []
    for ours in (False, config):
        rows, probes = dataset(task_rows(24)), dataset(task_rows(8, seed=77))
        settings = {"train": rows, "probes": probes, "config": ours, "save_steps": 2, "lora": True}
        tiny_trainer(tmp_path, **settings).train()
        trainer = tiny_trainer(tmp_path, **settings)
        before = belongings(trainer, config, rows, probes)
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
        found.append((before, belongings(trainer, config, rows, probes)))
        shutil.rmtree(tmp_path)
    assert config == given
    (before, after), (ours_before, ours_after) = found
    for what in before:
        assert ours_before[what] == before[what], f"{what}, once attached"
        assert ours_after[what] == after[what], f"{what}, after the run"


def test_a_recipe_that_is_a_mapping_is_not_written_into() -> None:
    config = {"metrics": [{"name": "length"}], "pacing": {"name": "root"}, "probes": {"path": "p.jsonl"}}
    before = copy.deepcopy(config)
    CampusCallback(config)
    assert config == before
