from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from campus_tune.demo.tiny import tiny_model
from campus_tune.model.moments import Snapshot, TrainedWeights
from campus_tune.model.peers import Peers
from campus_tune.words.errors import TrainerError

Numbers = dict[str, dict[str, Any]]


class At(TrainerCallback):
    """Does something with the trainer behind some steps; behind step 0, before the first."""

    def __init__(self, acts: Mapping[int, Callable[[Any], object]]) -> None:
        self.acts, self.trainer = acts, None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.on_step_end(args, state, control, **kwargs)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control, kwargs
        if state.global_step in self.acts:
            self.acts[state.global_step](self.trainer)


def train(make: Callable[..., Any], acts: Mapping[int, Callable[[Any], object]], **settings: Any) -> Any:
    at = At(acts)
    at.trainer = make(config=False, callbacks=[at], **{"n": 24, "lr_scheduler_type": "cosine", **settings})
    at.trainer.train()
    return at.trainer


def numbers_of(trainer: Any) -> Numbers:
    """A second way to say what there is, without names: all weights, and all that the optimizer holds."""
    optimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    held = {
        f"{i}.{j}.{key}": value.clone() if isinstance(value, torch.Tensor) else value
        for i, group in enumerate(optimizer.param_groups)
        for j, parameter in enumerate(group["params"])
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    return {"weights": {name: value.clone() for name, value in trainer.model.state_dict().items()}, "moments": held}


def assert_equal(one: Numbers, other: Numbers) -> None:
    """Bit for bit, and of the same kinds."""
    for what in one:
        assert one[what].keys() == other[what].keys(), what
        for name, value in one[what].items():
            there = other[what][name]
            assert type(there) is type(value), name
            if isinstance(value, torch.Tensor):
                assert (there.dtype, there.device) == (value.dtype, value.device), name
                assert torch.equal(there, value), name
            else:
                assert there == value, name


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw": {"optim": "adamw_torch"},
    "fused": {"optim": "adamw_torch_fused"},
    "momentum": {"optim": "sgd", "optim_args": "momentum=0.9"},
    "no moments": {"optim": "sgd"},
    "rmsprop": {"optim": "rmsprop"},
    "python numbers": {"optim": "adafactor"},
    "lora": {"lora": True},
    "two micro batches": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_put_back_is_what_was_taken_bit_for_bit(tiny_trainer: Callable[..., Any], name: str) -> None:
    seen: dict[str, Any] = {}

    def keep(trainer: Any) -> None:
        seen["then"], seen["kept"] = numbers_of(trainer), TrainedWeights(trainer).take()

    def put(trainer: Any) -> None:
        seen["before"] = numbers_of(trainer)
        TrainedWeights(trainer).put(seen["kept"], Peers())
        seen["after"] = numbers_of(trainer)

    train(tiny_trainer, {2: keep, 5: put}, **OPTIMIZERS[name])
    assert_equal(seen["then"], seen["after"])
    with pytest.raises(AssertionError):
        assert_equal(seen["then"], seen["before"])


@pytest.mark.parametrize("name", ["adamw", "fused", "momentum", "python numbers", "lora"])
def test_training_goes_on_as_if_the_numbers_had_been_set_by_hand(tiny_trainer: Callable[..., Any], name: str) -> None:
    seen: dict[str, Any] = {}

    def keep(trainer: Any) -> None:
        seen["then"] = numbers_of(trainer)
        seen["kept"] = TrainedWeights(trainer).take()

    def by_hand(trainer: Any) -> None:
        optimizer = trainer.optimizer.optimizer
        trainer.model.load_state_dict(seen["then"]["weights"])
        for i, group in enumerate(optimizer.param_groups):
            for j, parameter in enumerate(group["params"]):
                for key in optimizer.state[parameter]:
                    value = seen["then"]["moments"][f"{i}.{j}.{key}"]
                    optimizer.state[parameter][key] = value.clone() if isinstance(value, torch.Tensor) else value

    def put(trainer: Any) -> None:
        TrainedWeights(trainer).put(seen["kept"], Peers())

    ours = train(tiny_trainer, {2: keep, 4: put}, **OPTIMIZERS[name])
    theirs = train(tiny_trainer, {2: keep, 4: by_hand}, **OPTIMIZERS[name])
    assert_equal(numbers_of(ours), numbers_of(theirs))
    assert [line["loss"] for line in ours.state.log_history[:-1]] == [
        line["loss"] for line in theirs.state.log_history[:-1]
    ]


@pytest.mark.parametrize("optim", ["adamw_torch", "sgd"])
def test_before_the_first_step_there_are_no_moments_and_afterwards_there_are_none_again(
    tiny_trainer: Callable[..., Any], optim: str
) -> None:
    settings = {"optim": optim, "optim_args": "momentum=0.9,dampening=0.5" if optim == "sgd" else None}
    settings |= {"lr_scheduler_type": "constant", "dataloader_drop_last": True}
    kept: list[Snapshot] = []

    def put(trainer: Any) -> None:
        TrainedWeights(trainer).put(kept[0], Peers())
        after.append(numbers_of(trainer))

    after: list[Numbers] = []
    begin = {0: lambda trainer: kept.append(TrainedWeights(trainer).take())}
    train(tiny_trainer, {**begin, 3: put}, **settings)
    start: list[Numbers] = []
    train(tiny_trainer, {0: lambda trainer: start.append(numbers_of(trainer))}, **settings)
    assert kept[0].moments == {} == after[0]["moments"]
    assert_equal(after[0], start[0])


def test_tensors_that_others_hold_stay_the_same_objects(tiny_trainer: Callable[..., Any]) -> None:
    seen: dict[str, Any] = {}

    def places(trainer: Any) -> list[int]:
        state = trainer.optimizer.optimizer.state
        moments = [value.data_ptr() for held in state.values() for value in held.values()]
        return [*moments, *(p.data_ptr() for p in trainer.model.parameters())]

    def put(trainer: Any) -> None:
        before = places(trainer)
        TrainedWeights(trainer).put(seen["kept"], Peers())
        assert places(trainer) == before

    train(tiny_trainer, {1: lambda trainer: seen.update(kept=TrainedWeights(trainer).take()), 3: put})


def test_the_learning_rate_is_not_rewound(tiny_trainer: Callable[..., Any]) -> None:
    seen: dict[str, Any] = {}
    keep = lambda trainer: seen.update(kept=TrainedWeights(trainer).take())  # noqa: E731  # one line of a table
    put = lambda trainer: TrainedWeights(trainer).put(seen["kept"], Peers())  # noqa: E731
    ours, calm = train(tiny_trainer, {1: keep, 4: put}), train(tiny_trainer, {})
    assert [line.get("learning_rate") for line in ours.state.log_history] == [
        line.get("learning_rate") for line in calm.state.log_history
    ]


def test_names_are_those_of_the_bare_model_and_only_of_what_is_trained(tiny_trainer: Callable[..., Any]) -> None:
    seen: dict[str, Any] = {}
    trainer = train(tiny_trainer, {1: lambda trainer: seen.update(kept=TrainedWeights(trainer).take())}, lora=True)
    trained = {name for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert seen["kept"].weights.keys() == trained
    assert {name.rpartition("/")[2] for name in seen["kept"].moments} == {"step", "exp_avg", "exp_avg_sq"}
    assert {name.rpartition("/")[0] for name in seen["kept"].moments} == trained


@pytest.mark.parametrize("step", [0, 2])
def test_its_size_is_known_before_it_is_taken(tiny_trainer: Callable[..., Any], step: int) -> None:
    seen: dict[str, int] = {}

    def look(trainer: Any) -> None:
        weights = TrainedWeights(trainer)
        kept = weights.take()
        seen["said"] = weights.n_bytes()
        seen["is"] = sum(one.nbytes for one in [*kept.weights.values(), *kept.moments.values()])
        seen["weights"] = sum(one.nbytes for one in kept.weights.values())

    train(tiny_trainer, {step: look})
    assert seen["said"] == (seen["is"] if step else 3 * seen["weights"])


class Remembers(torch.optim.SGD):
    """Holds a list for each weight."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter].setdefault("past", []).append(0)
        return super().step(closure)


def test_an_optimizer_whose_state_is_no_numbers_is_named(tiny_trainer: Callable[..., Any]) -> None:
    model = tiny_model()
    optimizer = Remembers(model.parameters(), lr=1e-3)

    def keep(trainer: Any) -> None:
        with pytest.raises(TrainerError, match=r"tensors and numbers, got Remembers, whose 'past' is of type list\. "):
            TrainedWeights(trainer).take()

    train(tiny_trainer, {2: keep}, model=model, trainer_args={"optimizers": (optimizer, None)})


def test_weights_that_are_thawed_meanwhile_are_named(tiny_trainer: Callable[..., Any]) -> None:
    model = tiny_model()
    *others, last = model.parameters()
    optimizer = torch.optim.SGD(others, lr=1e-3)
    seen: dict[str, Any] = {}

    def thaw(trainer: Any) -> None:
        trainer.optimizer.optimizer.add_param_group({"params": [last]})
        with pytest.raises(TrainerError, match=r"as they were when they were kept, got another .*norm.* \(1 in all\)"):
            TrainedWeights(trainer).put(seen["kept"], Peers())

    acts = {1: lambda trainer: seen.update(kept=TrainedWeights(trainer).take()), 2: thaw}
    train(tiny_trainer, acts, model=model, trainer_args={"optimizers": (optimizer, None)}, max_steps=2)


def test_an_optimizer_of_other_weights_is_refused(tiny_trainer: Callable[..., Any]) -> None:
    model = tiny_model()
    optimizer = torch.optim.SGD([*model.parameters(), torch.nn.Parameter(torch.zeros(1))], lr=1e-3)

    def look(trainer: Any) -> None:
        with pytest.raises(TrainerError, match="each weight of the optimizer in the model, got 1 that LlamaFor"):
            TrainedWeights(trainer)

    train(tiny_trainer, {0: look}, model=model, trainer_args={"optimizers": (optimizer, None)})
