"""The generation in progress, kept with a checkpoint: a resume inside of it goes on with the same answers.

trl trains a generation for `steps_per_generation × num_iterations` micro steps. A checkpoint in between holds weights,
optimizer and random states, and nothing of the answers that are still to be trained: the trainer's own resume generates
others, of other prompts, and the run is another one from there on (weights off by 6e-2 after five steps of a tiny
model). So every rank writes two files into the checkpoint:

    campus_generation-RANK.json           micro steps done, what each piece of the generation is made of, texts of a log
    campus_generation-RANK.safetensors    its tensors, exactly; nothing at a border between two generations

What training has shown of the prompts is in `campus_prompts.safetensors`, written by rank 0. No file holds a pickle.

A callback may save in the middle of an optimizer step. That step is trained again after a resume, so what is kept is
what there was when it began; where it begins a generation, the answers are drawn again, by the random state of then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, load_model, save_file, save_model

from campus_tune.model.generated import NUMBERS, Generated, reference_of
from campus_tune.model.peers import Peers
from campus_tune.run.manifest import GENERATION
from campus_tune.words.console import say
from campus_tune.words.errors import ResumeError, StorageError
from campus_tune.words.json_shapes import misshapen
from campus_tune.words.sealed_json import read_sealed, write_sealed
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from transformers import Trainer

ARRAYS = "campus_prompts.safetensors"
REFERENCE = "campus_reference.safetensors"
VERSION = 1
SHAPE: Json = {
    "version": int,
    "rank": int,
    "world": int,
    "micro_step": int,
    "pieces": ([{str: object}], None),
    "texts": {str: [object]},
    "extra": {str: [object]},
    "rewards": [str],
    "own": object,
}
ENTROPY = "entropy"  # trl writes it down itself, but as it is at the end of a step
HELD = "tensor"  # in place of a value of a piece that is in the other file


class KeptGeneration:
    """Keeps what a trainer holds of its generation, and gives it back.

    Args:
        trainer: that generates.
        peers: ranks; each keeps its own part.
        micro_per_generation: micro steps that one generation is trained for.
    """

    def __init__(self, trainer: Trainer, peers: Peers, *, micro_per_generation: int) -> None:
        self.trainer, self.peers, self.micro_per_generation = trainer, peers, micro_per_generation
        self.lost: set[str] = set()  # columns of the log that JSON cannot hold
        self._start: Generated | None = None  # of the optimizer step in progress

    def begin_step(self) -> None:
        """An optimizer step begins."""
        self._start = Generated.of(self.trainer)

    def end_step(self) -> None:
        """It has ended, or will never end."""
        self._start = None

    def write(self, checkpoint: Path, own: object = None) -> None:
        """Into a checkpoint that is being saved; every rank calls it.

        Args:
            checkpoint: its folder, which is there.
            own: what else this rank has to remember, as JSON.

        Raises:
            StorageError: a rank cannot write its part; on every rank.
        """
        now = self._start or Generated.of(self.trainer)

        def write() -> None:
            pieces, tensors = _pieces_of(now.inputs if now.micro_step % self.micro_per_generation else None)
            record: Json = {"version": VERSION, "rank": self.peers.rank, "world": self.peers.world}
            record |= {"micro_step": now.micro_step, "pieces": pieces, "own": own, **self._log_of(now, tensors)}
            if now.entropy is not None:
                tensors[ENTROPY] = torch.tensor(now.entropy, dtype=torch.float64)
            name = GENERATION.format(rank=self.peers.rank)
            save_file(tensors, checkpoint / f"{name}.safetensors")
            write_sealed(checkpoint / f"{name}.json", record)
            reference = reference_of(self.trainer)
            if reference is not None and self.peers.leads:
                save_model(self.trainer.accelerator.unwrap_model(reference), str(checkpoint / REFERENCE))

        wrong = _tried_by_all(self.peers, write)
        if wrong:
            raise StorageError(
                f"the generation in progress must be kept with {checkpoint.name}, got {wrong}. Free space or mend the "
                "folder's rights, then resume: the checkpoint before it counts."
            )

    def restore(self, checkpoint: Path, step: int) -> Any:
        """The trainer goes on inside the generation that a checkpoint was saved in; every rank calls it.

        Args:
            checkpoint: its folder, found to be whole.
            step: optimizer steps that it has finished.

        Returns:
            What this rank had to remember besides (`own`).

        Raises:
            ResumeError: a rank's part is missing, changed, or of other sizes; on every rank.
        """
        found: list[Any] = []

        def restore() -> None:
            record, tensors = self._read(checkpoint)
            inputs = _inputs_of(record["pieces"], tensors, self.trainer.accelerator.device)
            self._refuse_other_cut(record["micro_step"], inputs)
            rewards = {name: _numbers(tensors, f"reward {name}") for name in record["rewards"]}
            texts = {**record["texts"], NUMBERS: _numbers(tensors, NUMBERS)}
            entropy = tuple(tensors[ENTROPY].tolist()) if ENTROPY in tensors else None
            Generated(record["micro_step"], inputs, texts, rewards, record["extra"], entropy).put(self.trainer)
            reference = reference_of(self.trainer)
            if reference is not None:
                load_model(self.trainer.accelerator.unwrap_model(reference), checkpoint / REFERENCE)
            found.append(record["own"])

        wrong = _tried_by_all(self.peers, restore)
        if wrong:
            raise ResumeError(
                f"the checkpoint at step {step} must hold the generation that it was saved in, got {wrong}. Put the "
                "checkpoint back from a copy, resume from an earlier one, or train without resuming."
            )
        return found[0]

    def _log_of(self, now: Generated, tensors: dict[str, torch.Tensor]) -> Json:
        """The log of completions, where rank 0 will show it; its numbers go to the tensors, as JSON has no NaN."""
        if not (self.peers.leads and getattr(self.trainer.args, "log_completions", False)):
            return {"texts": {}, "extra": {}, "rewards": []}
        texts = {name: values for name, values in now.log.items() if name != NUMBERS}
        kept = {name: values for name, values in texts.items() if _is_json(values)}
        if len(kept) < len(texts):  # a table of unequal columns cannot be shown
            self._tell_lost(texts.keys() - kept.keys())
            return {"texts": {}, "extra": {}, "rewards": []}
        extra = {name: values for name, values in now.extra.items() if _is_json(values)}
        self._tell_lost(now.extra.keys() - extra.keys())
        tensors[NUMBERS] = torch.tensor(now.log.get(NUMBERS, []), dtype=torch.float64)
        for name, values in now.rewards.items():
            tensors[f"reward {name}"] = torch.tensor(values, dtype=torch.float64)
        return {"texts": kept, "extra": extra, "rewards": list(now.rewards)}

    def _tell_lost(self, names: set[str]) -> None:
        if names - self.lost:
            self.lost |= names
            say(
                f"warning: {', '.join(sorted(names))} of the logged completions is no JSON, so a resume inside this "
                "generation leaves it out of one table; training is not touched"
            )

    def _read(self, checkpoint: Path) -> tuple[Json, dict[str, torch.Tensor]]:
        """This rank's two files.

        Raises:
            ValueError: they are not as they were written.
        """
        name = GENERATION.format(rank=self.peers.rank)
        record = read_sealed(checkpoint / f"{name}.json")
        problem = misshapen(record, SHAPE)
        if problem is not None:
            raise ValueError(f"{name}.json is not as it was written: {problem}")
        if record["version"] != VERSION:
            raise ValueError(f"{name}.json is of version {record['version']}, not {VERSION}")
        if (record["rank"], record["world"]) != (self.peers.rank, self.peers.world):
            raise ValueError(f"{name}.json is of rank {record['rank']} of {record['world']}")
        return record, load_file(checkpoint / f"{name}.safetensors")

    def _refuse_other_cut(self, micro_step: int, inputs: list[dict[str, Any]] | None) -> None:
        """The pieces must be those that the trainer will ask for.

        Raises:
            ValueError: they are not.
        """
        inside, args = micro_step % self.micro_per_generation, self.trainer.args
        if inside and inputs is None:
            raise ValueError(f"no answers, {inside} micro steps into a generation of {self.micro_per_generation}")
        pieces: int = getattr(args, "steps_per_generation", 0)
        if inputs is not None and len(inputs) != pieces:
            raise ValueError(f"{len(inputs)} pieces of a generation that is cut into {pieces}")


def write_arrays(checkpoint: Path, parts: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
    """What training has shown of the prompts, into a checkpoint that is being saved: on the leader.

    Args:
        checkpoint: its folder, which is there.
        parts: arrays by part and name.

    Raises:
        StorageError: it cannot be written.
    """
    arrays = {f"{part}/{name}": values for part, named in parts.items() for name, values in named.items()}
    try:
        save_arrays({name: np.ascontiguousarray(values) for name, values in arrays.items()}, checkpoint / ARRAYS)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"what the prompts have shown must be kept with {checkpoint.name}, got {error}. Free space or mend the "
            "folder's rights, then resume: the checkpoint before it counts."
        ) from error


def read_arrays(checkpoint: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """What `write_arrays` wrote, by part and name.

    Raises:
        ResumeError: it is missing or damaged.
    """
    parts: dict[str, dict[str, NDArray[Any]]] = {}
    try:
        arrays = load_arrays(checkpoint / ARRAYS)
    except (OSError, SafetensorError) as error:
        raise ResumeError(
            f"`{checkpoint / ARRAYS}` must hold what the prompts have shown, got {error}. Put the checkpoint back from "
            "a copy, resume from an earlier one, or train without resuming."
        ) from error
    for place, values in arrays.items():
        part, _, name = place.partition("/")
        parts.setdefault(part, {})[name] = values
    return parts


def _pieces_of(inputs: Sequence[Mapping[str, Any]] | None) -> tuple[list[Json] | None, dict[str, torch.Tensor]]:
    """What a generation is made of: the tensors by name, and all else as JSON with a mark where a tensor was."""
    if inputs is None:
        return None, {}
    tensors = {
        f"{place} {name}": value.detach().cpu().contiguous().clone()  # pieces are views of one tensor
        for place, piece in enumerate(inputs)
        for name, value in piece.items()
        if isinstance(value, torch.Tensor)
    }
    return [
        {name: {HELD: True} if isinstance(value, torch.Tensor) else value for name, value in piece.items()}
        for piece in inputs
    ], tensors


def _inputs_of(
    pieces: list[Json] | None, tensors: Mapping[str, torch.Tensor], device: torch.device
) -> list[dict[str, Any]] | None:
    """The reverse of `_pieces_of`, on the device that trains.

    Raises:
        KeyError: a tensor is missing.
    """
    if pieces is None:
        return None
    return [
        {
            name: tensors[f"{place} {name}"].to(device) if value == {HELD: True} else value
            for name, value in piece.items()
        }
        for place, piece in enumerate(pieces)
    ]


def _numbers(tensors: Mapping[str, torch.Tensor], name: str) -> list[float]:
    values: list[float] = tensors[name].tolist() if name in tensors else []
    return values


def _is_json(values: object) -> bool:
    """Whether JSON gives back what it was given."""
    try:
        return bool(json.loads(json.dumps(values, allow_nan=False)) == values)
    except (TypeError, ValueError):
        return False


def _tried_by_all(peers: Peers, act: Callable[[], None]) -> str:
    """What went wrong with the lowest rank that failed; "" where none did. None waits for a rank that has stopped."""
    wrong = ""
    try:
        act()
    except (OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        wrong = f"{type(error).__name__}: {error} (rank {peers.rank})"
    return next((one for one in peers.gather(wrong) if one), "")
