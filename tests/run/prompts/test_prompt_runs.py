"""Prompts are answered and trained as they were planned, whatever a generation and an optimizer step are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import TrainerCallback

import campus_tune
from campus_tune.method.rounds import Rounds
from campus_tune.run.ledger import read_ledger
from campus_tune.run.prompts.prompt_run import PromptRun
from campus_tune.words.errors import AuditError, DataError, TrainerError
from campus_tune.words.hashing import array_digest
from tests.run.prompts.tiny_prompts import GROUP, prompts, reward_trainer
from tests.run.tiny_run import ledger_of, weights_of
from tests.run.witness import events

SETTINGS: dict[str, dict[str, Any]] = {
    "a generation a step": {},
    "a generation for two steps": {"steps_per_generation": 4},
    "each answer twice": {"num_iterations": 2},
    "two generations a step": {"steps_per_generation": 1},
}
ORDERED = {"metrics": ["length"], "stages": 4, "handover": 1.0, "mix": 0.25, "within": "none"}


class Answered(TrainerCallback):
    """The prompts that the model was asked, seen by a wrapper of the tests' own, and what each stage had planned."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.planned: list[list[int]] = []

    def watch(self, trainer: Any) -> Answered:
        generate, self.trainer = trainer._generate, trainer

        def seen(prompts: list[str]) -> Any:
            self.asked.append(list(prompts))
            return generate(prompts)

        trainer._generate = seen
        self.run = next(one.run for one in trainer.callback_handler.callbacks if hasattr(one, "begun"))
        trainer.add_callback(self)
        return self

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Which prompts the coming step trains."""
        self.planned.append(self.run.step_prompts().tolist())

    @property
    def rounds(self) -> Rounds:
        """How prompts were cut."""
        cut: Rounds = self.run.situation.rounds
        return cut

    def rows(self) -> list[int]:
        """Whose answers were made, in their sequence."""
        texts = self.trainer.train_dataset["prompt"]
        return [texts.index(prompt) for asked in self.asked for prompt in asked]


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_prompts_are_answered_as_planned(kind: str, setting: str, tmp_path: Path) -> None:
    trainer = reward_trainer(tmp_path, kind, config=ORDERED, max_steps=6, **SETTINGS[setting])
    seen = Answered().watch(trainer)
    trainer.train()
    answered, planned = seen.rows(), [row for rows in seen.planned[:: seen.rounds.steps] for row in rows]
    assert answered == np.repeat(planned, GROUP).tolist()
    assert len(set(planned)) == len(planned)  # one epoch: none comes twice
    refuse_other_plan(tmp_path, answered)
    (end,) = events(tmp_path, "end")
    assert end["step"] == 6
    assert end["audit"] == {
        "checked": 6, "passed": 6, "labels": False, "prompts": True, "generations": [len(seen.asked)] * 2
    }  # fmt: skip
    assert end["visits"] == len(planned)
    assert end["generated_tokens"] == 2 * len(answered) == seen.run.generated_tokens


def refuse_other_plan(out: Path, answered: list[int]) -> None:
    """What was answered is what the ledger's decisions say, prompt by prompt."""
    once = answered[::GROUP]
    for decision in events(out, "decision"):
        stage, once = once[: decision["rows"]], once[decision["rows"] :]
        if len(stage) == decision["rows"]:  # the run did not end inside of it
            assert array_digest(np.array(stage, dtype=np.int32)) == decision["rows_digest"]
    assert not once


def test_the_empty_recipe_shuffles_prompts_and_waits_for_nothing(tmp_path: Path) -> None:
    trainer = reward_trainer(tmp_path, train=16, num_train_epochs=2, max_steps=-1)
    seen = Answered().watch(trainer)
    assert trainer.train().global_step == 8
    epochs = np.array(seen.rows()[::GROUP]).reshape(2, 16)
    assert [sorted(epoch.tolist()) for epoch in epochs] == [list(range(16))] * 2
    assert epochs[0].tolist() != epochs[1].tolist()
    assert {decision["chosen"] for decision in events(tmp_path, "decision")} == {"shuffle"}
    assert [line["epoch"] for line in trainer.state.log_history[:-1]] == [step / 4 for step in range(1, 9)]


def test_a_run_may_end_inside_of_a_round(tmp_path: Path) -> None:
    trainer = reward_trainer(tmp_path, config=ORDERED, max_steps=3, steps_per_generation=4)
    assert trainer.train().global_step == 3
    (end,) = events(tmp_path, "end")
    assert (end["step"], end["audit"]["checked"], end["visits"]) == (3, 3, 16)


def test_a_callback_that_is_attached_later_does_the_same(tmp_path: Path) -> None:
    made = reward_trainer(tmp_path / "made", config=ORDERED)
    made.train()
    later = reward_trainer(tmp_path / "later", config=False)
    campus_tune.attach(later, ORDERED)
    later.train()
    assert ledger_of(tmp_path / "made") == ledger_of(tmp_path / "later")
    for name, value in weights_of(made).items():
        assert value.equal(weights_of(later)[name])


def test_a_callback_goes_on_to_the_next_trainer_when_the_first_is_trained(tmp_path: Path) -> None:
    callback = campus_tune.CampusCallback(ORDERED)
    first = reward_trainer(tmp_path / "first", config=False, callbacks=[callback], max_steps=2)
    with pytest.raises(TrainerError, match="must drive one trainer at a time, got a second one"):
        reward_trainer(tmp_path / "second", "rloo", config=False, callbacks=[callback], max_steps=2)
    first.train()
    second = reward_trainer(tmp_path / "second", "rloo", config=False, callbacks=[callback], max_steps=2)
    second.train()
    assert isinstance(callback.run, PromptRun)
    assert [events(tmp_path / name, "end")[0]["step"] for name in ("first", "second")] == [2, 2]
    with pytest.raises(TrainerError, match="must be called once on a trainer with a curriculum"):
        second.train()


class Breaks(TrainerCallback):
    """Ends the first attempt in the middle of a generation."""

    def __init__(self) -> None:
        self.tries = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control, kwargs
        if state.global_step == 3 and self.tries == 0:
            self.tries = 1
            raise RuntimeError("a plug was pulled")


def test_a_second_attempt_begins_anew(tmp_path: Path) -> None:
    settings = {"steps_per_generation": 4, "max_steps": 4, "config": ORDERED}
    trainer = reward_trainer(tmp_path / "broken", callbacks=[Breaks()], **settings)
    with pytest.raises(RuntimeError, match="a plug was pulled"):
        trainer.train()
    seen = Answered().watch(trainer)
    trainer.train()
    assert len(seen.asked) == 2
    assert seen.rows() == np.repeat([row for rows in seen.planned[::2] for row in rows], GROUP).tolist()
    plain = reward_trainer(tmp_path / "plain", **settings)
    plain.train()
    digests = [[line["rows_digest"] for line in events(tmp_path / run, "decision")] for run in ("broken", "plain")]
    assert digests[0] == digests[1]


class EndsEpoch(TrainerCallback):
    """Ends the epoch after some steps."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, kwargs
        control.should_epoch_stop = state.global_step in self.steps


@pytest.mark.parametrize("after", [1, 2])
def test_an_epoch_that_a_callback_ends_leaves_out_the_rest_and_the_next_begins_with_a_generation(
    after: int, tmp_path: Path
) -> None:
    trainer = reward_trainer(
        tmp_path, config=ORDERED, callbacks=[EndsEpoch(after)], steps_per_generation=4, num_train_epochs=2, max_steps=-1
    )
    seen = Answered().watch(trainer)
    total = after + 8  # 32 prompts, eight to a generation, two steps each
    assert trainer.train().global_step == total
    (ended,) = events(tmp_path, "epoch_ended")
    assert (ended["step"], ended["epoch"], ended["steps_left_out"]) == (after, 0, 6)
    (end,) = events(tmp_path, "end")
    assert end["audit"]["checked"] == end["audit"]["passed"] == total
    assert len(seen.asked) == 5
    assert end["visits"] == 40


def test_an_epoch_that_ends_inside_of_a_step_is_left_with_a_warning(tmp_path: Path) -> None:
    class EndsInside(TrainerCallback):
        once = True

        def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, kwargs
            if state.global_step == 2 and self.once:
                control.should_epoch_stop, self.once = True, False

    trainer = reward_trainer(
        tmp_path, config=ORDERED, callbacks=[EndsInside()], steps_per_generation=4, num_train_epochs=2, max_steps=-1
    )
    seen = Answered().watch(trainer)
    assert trainer.train().global_step == 10
    warned = [one for line in events(tmp_path, "warnings") for one in line["warnings"]]
    assert any("ended the epoch between the micro batches of step 3" in one for one in warned)
    assert len(seen.asked) == 6  # two of the first epoch, of the second a half
    (end,) = events(tmp_path, "end")
    assert end["audit"] == {
        "checked": 10, "passed": 10, "labels": False, "prompts": True, "generations": [6, 6]
    }  # fmt: skip


def test_a_training_that_is_stopped_closes_its_stage(tmp_path: Path) -> None:
    class Stops(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, kwargs
            control.should_training_stop = state.global_step == 3

    trainer = reward_trainer(tmp_path, config=ORDERED, callbacks=[Stops()], steps_per_generation=4, max_steps=8)
    trainer.train()
    assert [line["step"] for line in events(tmp_path, "stage_end")][-1] == 3
    (end,) = events(tmp_path, "end")
    assert (end["step"], end["groups"]["n"]) == (3, 16)


def test_prompts_that_are_dropped_are_never_drawn_and_listed(tmp_path: Path) -> None:
    config = {"drop": [{"by": "duplicates"}, {"by": "-length", "lowest": 0.1}], "stages": 4}
    trainer = reward_trainer(
        tmp_path, config=config, train=[*prompts(30), *prompts(2)], num_train_epochs=2, max_steps=-1
    )
    seen = Answered().watch(trainer)
    trainer.train()
    (run,) = events(tmp_path, "run")
    assert run["dropped"] == {"duplicates: equal": 2, "-length: lowest 0.1": 3}
    listed = read_ledger(tmp_path / "curriculum" / "dropped.jsonl")
    gone = {line["row"] for line in listed}
    assert len(gone) == 5
    assert {30, 31} < gone
    drawn = {row for step in seen.planned for row in step}
    assert drawn == set(range(32)) - gone
    (end,) = events(tmp_path, "end")
    assert end["dropped"] == 5


def test_domains_and_phases_say_who_is_drawn(tmp_path: Path) -> None:
    config = {
        "stages": 4,
        "domains": {"shares": {"a": 0.25, "b": 0.75}},
        "phases": [{"until": 0.5}, {"until": 1.0, "shares": {"a": 0.75, "b": 0.25}}],
    }
    trainer = reward_trainer(tmp_path, config=config, max_steps=8)
    seen = Answered().watch(trainer)
    trainer.train()
    domains = trainer.train_dataset["domain"]
    halves = [[domains[row] for step in steps for row in step] for steps in (seen.planned[:4], seen.planned[4:])]
    assert [half.count("a") for half in halves] == [4, 12]


def test_the_control_draws_as_many_by_scores_of_other_prompts(tmp_path: Path) -> None:
    config = {"thin": {"how": "top", "by": "middle", "keep": 0.5}, "selector": "shuffle", "stages": 4}
    drawn = []
    for name, more in (("middle", {}), ("control", {"control": "shuffled_scores"})):
        trainer = reward_trainer(tmp_path / name, config={**config, **more}, max_steps=12)
        trainer.train()
        (end,) = events(tmp_path / name, "end")
        assert end["visits"] == 48
        drawn.append([line["rows_digest"] for line in events(tmp_path / name, "decision")])
    assert drawn[0] != drawn[1]


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_fewer_prompts_than_a_generation_are_refused_and_the_advice_works(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"at least the 4 prompts of one generation, got 3. Lower per_device_train"):
        reward_trainer(tmp_path / "few", train=3).train()
    with pytest.raises(DataError, match=r"at least the 4 prompts of 2 generations, got 3"):
        reward_trainer(tmp_path / "few2", train=3, steps_per_generation=1).train()
    assert reward_trainer(tmp_path / "enough", train=3, per_device_train_batch_size=4).train().global_step == 4


def test_steps_that_do_not_divide_are_refused_when_the_trainer_is_made(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"must divide one another, .*Set gradient_accumulation_steps=2, or steps"):
        reward_trainer(tmp_path, gradient_accumulation_steps=3, steps_per_generation=2)
    assert reward_trainer(tmp_path, gradient_accumulation_steps=2, steps_per_generation=2).train().global_step == 4


def test_prompts_that_repeat_others_are_told_and_trained(tmp_path: Path) -> None:
    trainer = reward_trainer(tmp_path, train=[*prompts(14), *prompts(2)])
    assert trainer.train().global_step == 4
    warned = [one for line in events(tmp_path, "warnings") for one in line["warnings"]]
    assert any("2 of 16 prompts repeat an earlier one (first: rows 0, 1)" in one for one in warned)


def test_a_loader_that_somebody_sets_is_noticed(tmp_path: Path) -> None:
    trainer = reward_trainer(tmp_path)
    theirs = trainer.get_train_dataloader()
    trainer.get_train_dataloader = lambda: theirs
    with pytest.raises(AuditError, match="no planned prompts would reach the model"):
        trainer.train()


def test_a_loop_that_somebody_else_drives_is_noticed(tmp_path: Path) -> None:
    trainer = reward_trainer(tmp_path, max_steps=2)
    run = next(one for one in trainer.callback_handler.callbacks if hasattr(one, "begun"))

    class Twice(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            run.on_step_end(args, state, control, **kwargs)

    trainer.add_callback(Twice())
    with pytest.raises(TrainerError, match=r"must be at the trainer's step 1, got 2. Something else drives"):
        trainer.train()


def test_nothing_is_planned_before_training_begins(tmp_path: Path) -> None:
    seen = Answered().watch(reward_trainer(tmp_path))
    for asked in ("situation", "generated_tokens"):
        with pytest.raises(TrainerError, match="must be given to a trainer when it is made"):
            getattr(seen.run, asked)
    assert seen.run.state() == {}
    assert seen.run.card_section() is None


def test_a_look_at_the_loader_changes_nothing(tmp_path: Path) -> None:
    looked = reward_trainer(tmp_path / "looked", config=ORDERED, max_steps=2)
    batch = next(iter(looked.get_train_dataloader()))
    assert [row["prompt"] for row in batch[::GROUP]] == [row["prompt"] for row in prompts(4)]
    looked.train()
    reward_trainer(tmp_path / "plain", config=ORDERED, max_steps=2).train()
    assert ledger_of(tmp_path / "looked") == ledger_of(tmp_path / "plain")
