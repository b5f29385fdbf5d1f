"""Action that waits for a sign of wrong rows: nothing before it, what the recipe says after it, after any kill too."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback
from trl import SFTTrainer

from campus_tune.method import suspicion
from campus_tune.method.dirt import Dirt
from campus_tune.method.earned import ACT_FROM, spared
from campus_tune.run import data_map, earned
from campus_tune.run.checkpoints import saved_curriculum
from campus_tune.run.manifest import FILE as MANIFEST
from campus_tune.run.stream.seam import AtLogProbs
from campus_tune.scores.cache import read_columns
from campus_tune.words.errors import AuditError, TrainerError
from campus_tune.words.types import Json
from tests.run.test_resume import SaveAt, StopAfter, StoppedError, assert_same, outcome
from tests.run.test_suspects_dropped import ROWS, STEPS, WRONG, N
from tests.run.test_suspects_dropped import RUN as TRAINING
from tests.run.test_weights_audit import changed, exchanged, ignored
from tests.run.tiny_run import saved_state, tiny_trainer
from tests.run.witness import Witness, events, flat

FIRST, DROPS = 10, 40  # the step of the second look, which is convincing; that from which suspects go
RUN: Json = {**TRAINING, "train": ROWS}
BASE: Json = {"selector": "shuffle", "stages": 4, "budget": 0.5, "cells": {"bands": 1}}
ROBUST: Json = {"name": "robust", "act": "auto"}
DROP: Json = {"by": "suspects", "from": 0.6, "act": "auto"}
BOTH: Json = {**BASE, "weights": [ROBUST], "drop": [DROP]}


def sees(share: float = 0.1) -> Any:
    """An estimate that always sees so many wrong rows for sure."""

    def estimate(found: suspicion.Suspicion, *, domains: Any, names: Any) -> Dirt:
        rows = int(np.isfinite(found.score).sum())
        by_domain = {} if domains is None else {name: Dirt(1, share, share, 1.0) for name in names}
        return Dirt(rows, share, share, 2 * share, by_domain)

    return estimate


@pytest.fixture(scope="module", autouse=True)
def two_looks_show_it() -> Iterator[None]:
    """What the estimate says of hundreds of rows is `tests/method/test_dirt.py`'s: here it sees them at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suspicion, "stands_out", lambda scores: float(np.sort(scores)[-10]))
        patch.setattr(earned, "estimate_dirt", sees())
        yield


def run(out: Path, config: Json, **settings: Any) -> tuple[Any, Witness]:
    trainer = tiny_trainer(out, config=config, **{**RUN, **settings})
    witness = Witness(trainer)
    trainer.train()
    return trainer, witness


RECIPES: dict[str, Json] = {
    "robust": {**BASE, "weights": [ROBUST]},
    "drop": {**BASE, "drop": [DROP]},
    "both": BOTH,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Witness]]:
    return {name: run(tmp_path_factory.mktemp(name), config) for name, config in RECIPES.items()}


def home_of(trainer: Any) -> Path:
    return Path(trainer.args.output_dir) / "curriculum"


def weights_of(out: Path) -> dict[int, dict[int, float]]:
    """Stage → row → weight, of the stages that have any."""
    files = sorted((out / "curriculum" / "training_losses").glob("*.parquet"))
    told = {int(file.stem[-5:]): read_columns(file)[0] for file in files}
    return {
        stage: dict(zip(columns["row"].tolist(), columns["weight"].tolist(), strict=True))
        for stage, columns in told.items()
        if "weight" in columns
    }


def spared_rows(trainer: Any) -> list[int]:
    (callback,) = (one for one in trainer.callback_handler.callbacks if hasattr(one, "run"))
    return np.flatnonzero(callback.run.situation.drawing.earning.spared).tolist()


def losses(trainer: Any) -> list[float]:
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def test_nothing_is_weighted_before_the_sign_and_what_stands_out_is_after_it(runs: Any) -> None:
    trainer, _ = runs["robust"]
    out = home_of(trainer).parent
    (told,) = events(out, "act")
    assert (told["step"], told["stage"], told["acts"], told["threshold"]) == (FIRST, 2, ["robust"], ACT_FROM)
    assert (told["low"], told["share"], told["high"], set(told["by_domain"])) == (0.1, 0.1, 0.2, {"a", "b"})
    assert "why" not in told
    weights = weights_of(out)
    assert sorted(weights) == list(range(2, 12))
    assert min(min(of.values()) for of in weights.values()) < 0.9
    (end,) = events(out, "end")
    assert end["weights_audit"] == [STEPS - FIRST, STEPS - FIRST]
    assert all("weights" not in event for event in events(out, "stage_end")[:2])


def test_a_tenth_of_each_cell_counts_as_ever(runs: Any) -> None:
    trainer, _ = runs["robust"]
    (told,) = events(home_of(trainer).parent, "act")
    alone = spared_rows(trainer)
    assert told["spared"] == len(alone) == N // 10
    for stage in weights_of(home_of(trainer).parent).values():
        own = {stage[row] for row in alone if row in stage}
        assert len(own) <= 1  # that of a row which does not stand out
        assert not own or max(own) == pytest.approx(max(stage.values()))


def test_suspects_go_once_it_is_time_too_and_none_of_the_spared(runs: Any) -> None:
    trainer, witness = runs["both"]
    out = home_of(trainer).parent
    (told,), (dropped,) = events(out, "act"), events(out, "suspects")
    assert told["acts"] == ["robust", "drop: suspects"]
    assert (told["step"], dropped["step"], dropped["act"]) == (FIRST, DROPS, "auto")
    assert dropped["dropped"] >= 7
    assert not set(dropped["rows"]) & set(spared_rows(trainer))
    assert not set(flat(witness.steps[DROPS:])) & set(dropped["rows"])
    assert set(spared_rows(trainer)) <= set(flat(witness.steps[DROPS:]))
    alone = runs["drop"][0]
    (first,) = events(home_of(alone).parent, "act")
    assert (first["step"], first["acts"]) == (FIRST, ["drop: suspects"])


def test_without_a_sign_a_run_is_that_of_a_recipe_that_weighs_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(earned, "estimate_dirt", sees(ACT_FROM / 2))
    trainer, witness = run(tmp_path / "auto", RECIPES["robust"])
    plain, other = run(tmp_path / "plain", {key: value for key, value in BASE.items() if key != "cells"})
    assert witness.steps == other.steps
    assert losses(trainer) == losses(plain)
    ours, theirs = trainer.model.state_dict(), plain.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    (told,) = events(tmp_path / "auto", "act")
    assert (told["step"], told["acts"], told["why"]) == (STEPS, [], "too few rows look wrong")
    assert not weights_of(tmp_path / "auto")
    (end,) = events(tmp_path / "auto", "end")
    assert "weights_audit" not in end
    said = capsys.readouterr().out
    assert "step 60/60 · act: nothing acts, for too few rows look wrong: 1.0% to 2.0% of the rows look wrong" in said
    assert "changed nothing" not in said


def test_signs_that_come_and_go_are_not_convincing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown = [0.0, 0.0, 0.0, 0.1, 0.0, 0.0, 0.1, 0.1, 0.1, 0.0, 0.0, 0.1]
    later = iter(shown)

    def estimate(found: suspicion.Suspicion, *, domains: Any, names: Any) -> Dirt:
        share = next(later) if domains is None else 0.1
        return sees(share)(found, domains=domains, names=names)

    monkeypatch.setattr(earned, "estimate_dirt", estimate)
    run(tmp_path, RECIPES["robust"])
    (told,) = events(tmp_path, "act")
    assert (told["step"], told["acts"]) == (STEPS, [])
    assert told["why"] == "that was seen in 4 of 11 looks before"


def test_never_says_what_would_act_and_changes_nothing(tmp_path: Path, runs: Any) -> None:
    never = {**BASE, "weights": [{**ROBUST, "act": "never"}]}
    trainer, witness = run(tmp_path / "never", never)
    (told,) = events(tmp_path / "never", "act")
    assert (told["step"], told["acts"], told["would"], told["spared"]) == (FIRST, [], ["robust"], 0)
    assert not weights_of(tmp_path / "never")
    assert witness.steps == runs["robust"][1].steps
    del trainer


def test_where_nothing_acts_the_map_is_made_of_all_visits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[suspicion.Suspicion] = []

    def estimate(found: suspicion.Suspicion, **_: Any) -> Dirt:
        asked.append(found)
        return Dirt(N, 0.0, 0.0, 0.1)

    monkeypatch.setattr(data_map, "estimate_dirt", estimate)
    run(tmp_path / "never", {**BASE, "weights": [{**ROBUST, "act": "never"}]})
    monkeypatch.setattr(earned, "estimate_dirt", sees(0.0))
    run(tmp_path / "auto", RECIPES["robust"])
    never, auto = asked
    assert np.array_equal(never.score, auto.score, equal_nan=True)
    assert np.isfinite(never.spread).all()


# -- resume ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("save", "stop"), [(7, 8), (9, 12), (10, 10), (13, 14), (39, 42), (43, 44)], ids=lambda steps: f"step {steps}"
)
def test_a_killed_run_goes_on_as_if_it_had_not_stopped(save: int, stop: int, runs: Any, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        tiny_trainer(tmp_path, config=BOTH, callbacks=[SaveAt(save), StopAfter(stop)], **RUN).train()
    trainer = tiny_trainer(tmp_path, config=BOTH, callbacks=[SaveAt(save)], **RUN)
    trainer.train(resume_from_checkpoint=True)
    assert_same(outcome(trainer), outcome(runs["both"][0]))
    assert weights_of(tmp_path) == weights_of(home_of(runs["both"][0]).parent)


def test_a_checkpoint_needs_the_files_of_losses_until_the_sign_and_remembers_its_stage(tmp_path: Path) -> None:
    for at, stage in ((7, None), (12, 2)):
        callbacks = [SaveAt(at), StopAfter(at)]
        with pytest.raises(StoppedError):
            tiny_trainer(tmp_path / f"{at}", config=RECIPES["robust"], callbacks=callbacks, **RUN).train()
        checkpoint = tmp_path / f"{at}" / f"checkpoint-{at}"
        told = saved_curriculum(saved_state(checkpoint))["act"]
        assert told == {"looks": at // 5, "found": at // 5, "stage": stage}
        named = json.loads((checkpoint / MANIFEST).read_text("utf-8"))["beside"]
        needed = [name for name in named if name.startswith("training_losses")]
        assert len(needed) == (1 if stage is None else 0)


# -- trainers that cannot weigh rows -----------------------------------------------------------------------------------


class Doubled(SFTTrainer):
    """A loss of the user's own, scaled: what is multiplied would not be what was planned."""

    loss_is_scaled_for_ga = True

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return 2 * super().compute_loss(*args, **kwargs)


class Hidden(SFTTrainer):
    """A loss of the user's own that takes the labels away."""

    loss_is_scaled_for_ga = True

    def compute_loss(self, model: Any, inputs: Any, **kwargs: Any) -> Any:
        del kwargs
        labels = inputs["labels"][:, 1:]
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[:, :-1]
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)


class Touches(TrainerCallback):
    """Changes gradients before the optimizer sees them; here to what they are."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, state, control
        for parameter in kwargs["model"].parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(1.0)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"trainer_class": Doubled}, "weights audit of step 1: the gradient of row .* must be that of"),
        ({"callbacks": [Touches()]}, "weights audit: the weighted gradients must reach the optimizer"),
    ],
    ids=["a loss that is scaled", "gradients that are touched"],
)
def test_where_a_first_step_shows_that_weights_cannot_be_multiplied_the_run_goes_on_without(
    settings: Json, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = {"max_steps": 30, **settings}
    with pytest.raises(AuditError, match=why):
        run(tmp_path / "always", {**BASE, "weights": [{"name": "robust", "from": 0}]}, **short)
    trainer, witness = run(tmp_path / "auto", BOTH | {"drop": [{**DROP, "from": 0.5}]}, **short)
    (told,) = events(tmp_path / "auto", "act")
    assert told["acts"] == ["drop: suspects"]
    assert re.match(why, told["cannot"])
    assert not weights_of(tmp_path / "auto")
    (end,) = events(tmp_path / "auto", "end")
    assert end["audit"]["passed"] == 30
    assert "weights cannot be multiplied (" in capsys.readouterr().out
    assert len(witness.steps) == 30
    (saved,) = (one for one in trainer.callback_handler.callbacks if hasattr(one, "run"))
    assert saved.run.situation.drawing.state()["act"]["cannot"] == told["cannot"]


def test_a_run_that_goes_on_remembers_that_weights_cannot_be_multiplied(tmp_path: Path) -> None:
    def trainer(steps: int, save: int) -> Any:
        config = {**RECIPES["robust"], "resume": "changed_future"}
        more = {"trainer_class": Doubled, "callbacks": [SaveAt(save)], "max_steps": steps}
        return tiny_trainer(tmp_path, config=config, **{**RUN, **more})

    trainer(FIRST, FIRST).train()  # at its end nobody looks: the longer one does, before its first step
    told = saved_curriculum(saved_state(tmp_path / f"checkpoint-{FIRST}"))["act"]
    assert (told["looks"], told["stage"]) == (1, None)
    assert told["cannot"].startswith("weights audit of step 1")
    longer = trainer(FIRST + 5, STEPS)
    longer.train(resume_from_checkpoint=True)
    assert longer.state.global_step == FIRST + 5
    (said,) = (event for event in events(tmp_path, "act") if event["stage"] == 2 and "why" not in event)
    assert (said["acts"], said["cannot"]) == ([], told["cannot"])


@pytest.mark.filterwarnings("ignore:`label_smoothing_factor` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("settings", "warning", "why"),
    [
        (
            {"label_smoothing_factor": 0.1},
            "`weights: robust` with act: auto is left out of this run: `label_smoothing_factor` must be 0 with",
            "",  # trl asks once more, without it, so the losses are there
        ),
        (
            {"trainer_class": Hidden},
            "What waits for a sign of wrong rows (act: auto) sees none, and does nothing.",
            "training shows no losses of single rows",
        ),
    ],
    ids=["label smoothing", "labels that are taken away"],
)
def test_a_trainer_that_cannot_weigh_rows_or_shows_no_losses_trains_with_what_waits_and_says_so(
    settings: Json, warning: str, why: str, tmp_path: Path
) -> None:
    trainer = tiny_trainer(tmp_path, config=BOTH, **RUN, max_steps=12, **settings)
    trainer.train()
    assert trainer.state.global_step == 12
    assert any(warning in text for event in events(tmp_path, "warnings") for text in event["warnings"])
    (told,), (dropped,) = events(tmp_path, "act"), events(tmp_path, "suspects")
    assert (told["acts"], told.get("why", "")) == ([] if why else ["drop: suspects"], why)
    assert (dropped["act"], dropped["dropped"]) == ("auto", 0)


class HiddenLater(Hidden):
    """The same, but for the first stage."""

    def compute_loss(self, model: Any, inputs: Any, **kwargs: Any) -> Any:
        kind = SFTTrainer if self.state.global_step < FIRST // 2 else Hidden
        return kind.compute_loss(self, model, inputs, **kwargs)


def test_a_stage_that_shows_no_losses_tells_nothing_and_stops_nothing(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, config={**BASE, "drop": [DROP]}, **RUN, trainer_class=HiddenLater, max_steps=12)
    trainer.train()
    assert trainer.state.global_step == 12
    assert len(list((tmp_path / "curriculum" / "training_losses").glob("*.parquet"))) == 1


@pytest.mark.filterwarnings("ignore:`label_smoothing_factor` is deprecated:FutureWarning")
def test_what_acts_in_any_case_refuses_such_a_trainer_still(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"`label_smoothing_factor` must be 0 with weights"):
        run(tmp_path, {**BASE, "weights": ["robust"]}, label_smoothing_factor=0.1)


# -- mutants -----------------------------------------------------------------------------------------------------------


class From(TrainerCallback):
    """Sets something on the trainer when a step begins, and leaves it there."""

    def __init__(self, step: int, act: Any) -> None:
        self.step, self.act, self.trainer = step, act, None

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        del args, control
        if state.global_step == self.step - 1:
            self.act(self.trainer)


def not_spared(levels: torch.Tensor) -> torch.Tensor:
    """The rows that are let be have the level of the others, where the forward is computed."""
    return torch.where(levels.isnan(), levels.nanmean(1, keepdim=True) * 0.1, levels)


@pytest.mark.parametrize(
    ("mutant", "step"),
    [(ignored, 30), (exchanged, 30), (changed(levels=not_spared), 30), (ignored, FIRST + 1)],
    ids=["weights ignored", "weights exchanged", "nobody spared", "weights ignored at once"],
)
def test_a_mutant_is_found_once_it_acts(
    mutant: Any, step: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put_on = From(step, mutant)
    monkeypatch.setattr(AtLogProbs, "product", AtLogProbs.product)  # what a mutant leaves there is taken off again
    trainer = tiny_trainer(tmp_path, config=RECIPES["robust"], callbacks=[put_on], **RUN)
    put_on.trainer = trainer
    with pytest.raises(AuditError, match=r"weights audit of step \d+: weight \d\.\d\d for row \d+ but"):
        trainer.train()
    assert trainer.state.global_step >= step - 1  # in the first step in which rows count differently


def test_before_it_acts_nothing_is_multiplied_that_a_mutant_could_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def product(*_: Any) -> torch.Tensor:
        raise AssertionError("a gradient was multiplied")

    monkeypatch.setattr(earned, "estimate_dirt", sees(0.0))
    put_on = From(2, lambda _: monkeypatch.setattr(AtLogProbs, "product", product))  # the first step is a trial
    trainer = tiny_trainer(tmp_path, config=RECIPES["robust"], callbacks=[put_on], **RUN)
    put_on.trainer = trainer
    trainer.train()
    assert trainer.state.global_step == STEPS


def test_wrong_rows_are_among_those_that_count_less(runs: Any) -> None:
    trainer, _ = runs["robust"]
    last = weights_of(home_of(trainer).parent)
    right = [weight for stage in last.values() for row, weight in stage.items() if row not in WRONG]
    alone = set(spared_rows(trainer))
    wrong = [weight for stage in last.values() for row, weight in stage.items() if row in WRONG and row not in alone]
    assert np.mean(wrong) < np.mean(right) - 0.05


def test_spared_is_of_the_rows_and_not_of_their_sequence() -> None:
    content, cells = np.arange(100, dtype=np.uint64) * 7919, np.arange(100) % 3
    mixed = np.random.default_rng(0).permutation(100)
    assert (spared(content[mixed], cells[mixed]) == spared(content, cells)[mixed]).all()
