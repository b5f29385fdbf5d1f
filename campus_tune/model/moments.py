"""What training has made of a model, taken out by name and put back in place: its weights, and its optimizer's moments.

Numbers are copied into the tensors that are there, so whatever holds one (the buckets of DDP, a fused optimizer, a
gradient scaler) goes on holding it. Buffers that no optimizer steps are left as they are, and so are the settings of
its groups: the learning rate goes on.

Processes are those of DDP, or one: each has all of it, and all of them have the same. Rank 0 alone needs to know what
is put back; the others get it from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import torch

from campus_tune.model import compat
from campus_tune.model.peers import Peers
from campus_tune.words.errors import TrainerError

if TYPE_CHECKING:
    from transformers import Trainer

Tensors: TypeAlias = Mapping[str, torch.Tensor]
Kind: TypeAlias = Literal["tensor", "host", "int", "float", "bool", "none"]
Layout: TypeAlias = dict[str, tuple[Kind, torch.dtype, tuple[int, ...]]]
KINDS: tuple[Kind, ...] = get_args(Kind)

MOMENTS = 2  # numbers for each weight that an optimizer is taken to hold before its first step, as Adam does
INSTEAD = "or take `rollback` out of the recipe's `milestones` and `when` (`hand_over` and `note` need no weights)"
_NUMBERS: dict[type, Kind] = {int: "int", float: "float", bool: "bool"}
_DTYPES = {"int": torch.int64, "float": torch.float64, "bool": torch.bool}


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Weights and moments of one time, on the CPU.

    Args:
        weights: parameter's name → its numbers.
        moments: "parameter's name/moment's name" → its numbers, those that are no tensors in one of one number.
        kinds: of each moment: a tensor; one on the host though its parameter is not; a number of Python's; None.
    """

    weights: Tensors
    moments: Tensors
    kinds: Mapping[str, Kind]

    def layout(self) -> tuple[Layout, Layout]:
        """What there is of weights and of moments, without the numbers; moments in the optimizer's sequence."""
        weights: Layout = {name: ("tensor", one.dtype, tuple(one.shape)) for name, one in self.weights.items()}
        moments: Layout = {
            name: (kind, self.moments[name].dtype, tuple(self.moments[name].shape)) for name, kind in self.kinds.items()
        }
        return weights, moments


class TrainedWeights:
    """The weights that an optimizer steps, under their names in the bare model, and what it holds of them.

    Args:
        trainer: whose optimizer is made.

    Raises:
        TrainerError: processes that each hold a part, an engine's own optimizer, weights that are not the model's.
    """

    def __init__(self, trainer: Trainer) -> None:
        refuse_parts(trainer)
        self._model: torch.nn.Module = compat.unwrapped(trainer)
        self._optimizer: torch.optim.Optimizer = compat.stepped_optimizer(trainer)
        self.adapter = hasattr(self._model, "peft_config")
        if not self.parameters():
            raise TrainerError(f"`rollback` must have weights that are trained, got none. Train some, {INSTEAD}.")

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Name → parameter, in the model's sequence; a callback may have added some to the optimizer.

        Raises:
            TrainerError: the optimizer steps weights that the model does not have.
        """
        stepped = {id(p) for group in self._optimizer.param_groups for p in group["params"]}
        found = {name: p for name, p in self._model.named_parameters() if id(p) in stepped}
        if len(found) != len(stepped):
            raise TrainerError(
                f"`rollback` must find each weight of the optimizer in the model, got {len(stepped) - len(found)} that "
                f"{type(self._model).__name__} has not. Make the optimizer of the model's own parameters, {INSTEAD}."
            )
        return found

    def n_bytes(self) -> int:
        """Of a snapshot; before the first step, about."""
        parameters = self.parameters()
        weights = sum(p.numel() * p.element_size() for p in parameters.values())
        held = [value for p in parameters.values() for value in self._held(p).values()]
        moments = sum(value.numel() * value.element_size() for value in held if isinstance(value, torch.Tensor))
        return weights + (moments if held else MOMENTS * weights)

    def take(self) -> Snapshot:
        """A copy of them as they are now.

        Raises:
            TrainerError: the optimizer holds something that is neither a tensor nor a number.
        """
        weights: dict[str, torch.Tensor] = {}
        moments: dict[str, torch.Tensor] = {}
        kinds: dict[str, Kind] = {}
        for name, parameter in self.parameters().items():
            weights[name] = _copied(parameter)
            for key, value in self._held(parameter).items():
                one = f"{name}/{key}"
                kinds[one] = self._kind(parameter, key, value)
                moments[one] = _copied(value) if isinstance(value, torch.Tensor) else _as_tensor(value, kinds[one])
        return Snapshot(weights, moments, kinds)

    def put(self, snapshot: Snapshot | None, peers: Peers) -> None:
        """Make them again what they were; every rank calls it.

        A moment that was not there yet, because no step had been made, is not there afterwards.

        Args:
            snapshot: on rank 0; the others may pass None.
            peers: ranks.

        Raises:
            TrainerError: other weights are trained now.
        """
        weights, moments = peers.from_leader(None if snapshot is None else snapshot.layout()) or ({}, {})
        parameters, state = self.parameters(), self._optimizer.state
        _refuse_other(weights, parameters)
        held: dict[str, dict[str, Any]] = {name: {} for name in parameters}
        for one, layout in moments.items():
            name, _, key = one.rpartition("/")
            source = None if snapshot is None else snapshot.moments[one]
            held[name][key] = self._filled(parameters[name], key, layout, source, peers)
        for name, parameter in parameters.items():
            source = None if snapshot is None else snapshot.weights[name]
            _fill(parameter.data, source, parameter.device, peers)
            if held[name]:
                state[parameter].clear()  # makes room for it where there was none
                state[parameter].update(held[name])
            elif parameter in state:
                del state[parameter]

    def _filled(
        self,
        parameter: torch.nn.Parameter,
        key: str,
        layout: tuple[Kind, torch.dtype, tuple[int, ...]],
        source: torch.Tensor | None,
        peers: Peers,
    ) -> Any:
        """One moment as it was, in the tensor that is there if it fits."""
        kind, dtype, shape = layout
        there = self._held(parameter).get(key)
        if kind in ("tensor", "host"):
            if not isinstance(there, torch.Tensor) or there.dtype != dtype or there.shape != shape:
                there = torch.empty(shape, dtype=dtype, device="cpu" if kind == "host" else parameter.device)
            _fill(there, source, parameter.device, peers)
            return there
        number = torch.empty(shape, dtype=dtype)
        _fill(number, source, parameter.device, peers)
        return None if kind == "none" else number.item()

    def _held(self, parameter: torch.nn.Parameter) -> dict[str, Any]:
        """What the optimizer holds of a parameter, without making room for it."""
        found: dict[str, Any] = self._optimizer.state.get(parameter, {})
        return found

    def _kind(self, parameter: torch.nn.Parameter, key: str, value: object) -> Kind:
        if type(value) in (torch.Tensor, torch.nn.Parameter):
            assert isinstance(value, torch.Tensor)
            return "host" if value.device.type == "cpu" != parameter.device.type else "tensor"
        kind: Kind | None = "none" if value is None else _NUMBERS.get(type(value))
        if kind is None:
            raise TrainerError(
                f"`rollback` must have an optimizer whose state is tensors and numbers, got "
                f"{type(self._optimizer).__name__}, whose {key!r} is of type {type(value).__name__}. Take another one "
                f"(optim: adamw_torch), {INSTEAD}."
            )
        return kind


def refuse_parts(trainer: Trainer) -> None:
    """Refuse a trainer whose weights and moments are not whole in each process, or not where they can be reached.

    Raises:
        TrainerError: FSDP, ZeRO, tensor parallelism, or an optimizer that is not stepped as torch's are.
    """
    kind = "FSDP" if trainer.is_fsdp_enabled else "DeepSpeed" if trainer.is_deepspeed_enabled else None
    parts = [p for p in compat.model_of(trainer).parameters() if p.requires_grad and type(p.data) is not torch.Tensor]
    if kind is None and parts:
        kind = type(parts[0].data).__name__
    if kind is not None:
        raise TrainerError(
            f"`rollback` must have whole weights and moments in each process, got {kind}, which cuts or keeps them in "
            f"its own way. Train in one process or under DDP, {INSTEAD}."
        )
    if compat.stepped_optimizer(trainer) is None:
        inner = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
        raise TrainerError(
            f"`rollback` must have an optimizer of torch that steps behind the backward pass, got "
            f"{type(inner).__name__}. Take another one (optim: adamw_torch), {INSTEAD}."
        )


def _refuse_other(kept: Layout, now: Mapping[str, torch.nn.Parameter]) -> None:
    """The weights that are trained must be those that were.

    Raises:
        TrainerError: one was thawed or frozen since, or has another shape.
    """
    other = [name for name in {**kept, **now} if name not in kept or name not in now]
    other += [name for name in kept.keys() & now.keys() if kept[name][1:] != (now[name].dtype, tuple(now[name].shape))]
    if other:
        raise TrainerError(
            f"`rollback` must find the weights as they were when they were kept, got another {other[0]} "
            f"({len(other)} in all): the optimizer got it, or lost it, since then. Thaw and freeze weights before "
            f"training, {INSTEAD}."
        )


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def _as_tensor(value: float | None, kind: Kind) -> torch.Tensor:
    return torch.zeros(0) if value is None else torch.tensor(value, dtype=_DTYPES[kind])


def _fill(target: torch.Tensor, source: torch.Tensor | None, device: torch.device, peers: Peers) -> None:
    """Rank 0's numbers into the tensor of every rank, by way of the device on which ranks can talk."""
    if peers.world == 1:
        assert source is not None
        target.copy_(source)
        return
    moved = torch.empty(target.shape, dtype=target.dtype, device=device) if source is None else source.to(device)
    peers.broadcast(moved)
    target.copy_(moved)
