"""One callback and several trainers: two at once are refused, one after the other are as with a callback each."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback
from trl import SFTTrainer

import campus_tune
from campus_tune.run.callback import CampusCallback
from campus_tune.words.errors import TrainerError
from tests.run.test_overrides import Stops
from tests.run.tiny_run import RECIPE, ledger_of, tiny_trainer, weights_of
from tests.run.witness import events

Make = Callable[..., Any]
SECOND = r"must drive one trainer at a time, got a second one, while the first \(output_dir .*\) "
NOT_YET = SECOND + r"was not trained yet\. Make one CampusCallback for each trainer.* first\.?.*remove_callback"


@pytest.fixture
def shared() -> CampusCallback:
    return CampusCallback(RECIPE)


def make(out: Path, *callbacks: Any, **settings: Any) -> Any:
    return tiny_trainer(out, config=False, callbacks=callbacks, **{"n": 8, **settings})


def files_in(folder: Path) -> dict[str, Any]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def test_the_second_of_two_trainers_is_refused_when_it_is_made_and_the_first_trains(
    tmp_path: Path, shared: CampusCallback
) -> None:
    first = make(tmp_path / "a", shared)
    with pytest.raises(TrainerError, match=NOT_YET):
        make(tmp_path / "b", shared)
    assert first.train().global_step == 2
    assert events(tmp_path / "a", "end")[0]["audit"]["passed"] == 2


def test_what_the_refusal_advises_works(tmp_path: Path, shared: CampusCallback) -> None:
    trainers = [make(tmp_path / str(seed), CampusCallback(RECIPE), seed=seed) for seed in range(2)]
    assert [trainer.train().global_step for trainer in trainers] == [2, 2]
    first = make(tmp_path / "a", shared)
    first.remove_callback(CampusCallback)
    assert make(tmp_path / "b", shared).train().global_step == 2
    with pytest.raises(TrainerError, match="with its CampusCallback in place"):
        first.train()
    assert [event["event"] for event in ledger_of(tmp_path / "b")][-1] == "end"


def test_one_after_the_other_is_as_with_a_callback_each_and_leaves_the_finished_run_alone(
    tmp_path: Path, shared: CampusCallback
) -> None:
    ledgers = []
    for kind, callbacks in (("shared", [shared, shared]), ("own", [CampusCallback(RECIPE), CampusCallback(RECIPE)])):
        outs = [tmp_path / kind / str(number) for number in range(2)]
        first = make(outs[0], callbacks[0], save_steps=1)
        first.train()
        before, log, vars_before = files_in(outs[0]), first.log, set(vars(first))
        second = make(outs[1], callbacks[1], save_steps=1, seed=4)
        second.train()
        assert files_in(outs[0]) == before
        assert (first.log, set(vars(first))) == (log, vars_before)
        ledgers.append((ledger_of(outs[0]), ledger_of(outs[1]), weights_of(second)))
        if kind == "shared":
            with pytest.raises(TrainerError, match=r"given to another meanwhile \(output_dir .*shared/1.*\)"):
                first.train(resume_from_checkpoint=True)
            assert files_in(outs[0]) == before
    assert ledgers[0][:2] == ledgers[1][:2]
    assert all(torch.equal(weight, ledgers[1][2][name]) for name, weight in ledgers[0][2].items())


@pytest.mark.parametrize("error", [ValueError("theirs"), KeyboardInterrupt()], ids=["an error", "Ctrl-C"])
def test_a_callback_whose_first_run_broke_off_goes_on_to_the_next_trainer(
    tmp_path: Path, shared: CampusCallback, error: BaseException
) -> None:
    first = make(tmp_path / "a", shared, Stops(error))
    with pytest.raises(type(error)):
        first.train()
    before = files_in(tmp_path / "a")
    assert make(tmp_path / "b", shared).train().global_step == 2
    assert files_in(tmp_path / "a") == before


class MakesAnother(TrainerCallback):
    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, state, control, kwargs
        with pytest.raises(TrainerError, match=SECOND + "is being trained"):
            self.make()


def test_a_trainer_made_while_the_first_one_trains_is_refused(tmp_path: Path, shared: CampusCallback) -> None:
    trainer = make(tmp_path / "a", shared, MakesAnother(lambda: make(tmp_path / "b", shared)))
    assert trainer.train().global_step == 2
    assert events(tmp_path / "a", "end")[0]["audit"]["passed"] == 2


def test_a_trainer_that_nobody_has_any_more_has_no_say(tmp_path: Path, shared: CampusCallback) -> None:
    make(tmp_path / "a", shared)
    assert make(tmp_path / "b", shared).train().global_step == 2


def test_a_trainer_that_could_not_be_made_has_no_say(tmp_path: Path, shared: CampusCallback) -> None:
    class Fails(SFTTrainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            raise ValueError("no such folder")

    with pytest.raises(ValueError, match="no such folder"):
        make(tmp_path / "a", shared, trainer_class=Fails)
    assert make(tmp_path / "a", shared).train().global_step == 2


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_has_the_settings_and_no_trainer(
    tmp_path: Path, shared: CampusCallback, copied: Callable[[Any], Any]
) -> None:
    trainer = make(tmp_path, shared)
    other = copied(shared)
    assert other.run is None
    assert other.config == shared.config
    assert shared.run is not None
    make(tmp_path / "other", other)
    assert shared.run.trainer is trainer


def test_a_callback_that_is_added_to_a_second_trainer_is_told_to_be_attached(
    tmp_path: Path, shared: CampusCallback
) -> None:
    first = make(tmp_path / "a", shared)
    first.remove_callback(shared)
    second = make(tmp_path / "b")
    second.add_callback(shared)
    with pytest.raises(
        TrainerError, match=r"call campus_tune.attach\(trainer, config\) instead of trainer.add_callback"
    ):
        second.train()
    second.remove_callback(shared)
    campus_tune.attach(second, RECIPE)
    assert second.train().global_step == 2
