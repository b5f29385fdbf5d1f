"""Are the prompts that the model answers, and is trained on, the planned ones?

Two places of the trainer are looked at, below every loader, sampler and collator.

- Where a generation is made: the rows it is made of are those planned for it, on this rank, in their sequence, with
  every column, compared before anything is answered.
- In the training forward, by a hook on the model: each micro batch is the prompts and answers of its part of that
  generation, token by token, and every part is trained once in each of `num_iterations`, before the next is made.

What was generated is known from what the trainer's own method gives back, so an answer that is changed in the buffer
shows like a prompt that is. Tokens of a forward are compared when the step has ended; nothing waits for the device.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from campus_tune.model import compat
from campus_tune.model.peers import Peers
from campus_tune.model.reward_seams import (
    GENERATES,
    answers_in_its_own_way,
    generation_of,
    hides_forwards,
    listen,
    loss_of_its_own,
    micro_batches_of_a_generation,
    tokens_of,
)
from campus_tune.model.reward_trainers import answers_of, micro_step
from campus_tune.run.prompts.asked_with_care import last_turn
from campus_tune.run.prompts.shown_tokens import token_key
from campus_tune.run.stream.loss_audit import tensors_in
from campus_tune.run.stream.on_its_way import OnItsWay
from campus_tune.words.errors import AuditError, ResumeError
from campus_tune.words.hashing import as_json, text_keys
from campus_tune.words.types import Json, RowArray, RowSource
from campus_tune.words.wording import listed, shown

if TYPE_CHECKING:
    from transformers import Trainer

SHOWN = 8  # rows that a message names
REMOVE = (
    "Remove whatever sets or wraps trainer.get_train_dataloader or train_dataset after the CampusCallback was "
    "attached, and any collator that changes prompts."
)
UNTOUCHED = "Remove what changes the trainer's buffered answers, or the batch on its way to the model."


def row_keys(rows: Iterable[Mapping[str, Any]]) -> NDArray[np.uint64]:
    """What rows are known by: a 64-bit hash of all their columns, shape (N,).

    >>> one, again, other = row_keys([{"prompt": "1+1=", "level": 1}, {"level": 1, "prompt": "1+1="}, {"prompt": "1"}])
    >>> bool(one == again), bool(one == other)
    (True, False)
    """
    return text_keys([as_json(dict(row)) for row in rows])


def not_compared(trainer: Trainer) -> list[str]:
    """What a person should know that the audit of this trainer cannot see; nothing where it sees all."""
    said = []
    if answers_in_its_own_way(trainer):
        said.append(
            "a rollout_func or a trainer class of your own answers the prompts: the rows that it is handed are "
            "compared with the plan, and what is trained with what it gives back; what it has asked the model is not."
        )
    if hides_forwards(trainer):
        said.append(
            "use_liger_kernel asks a part of the model by itself here: the prompts that are answered are compared with "
            "the plan, what is trained is not. Set use_liger_kernel: false to have both compared."
        )
    return said


@dataclass(eq=False)
class Generation:
    """One rank's part of a generation.

    Args:
        number: from 0.
        rows: that it is made of, as planned, n of them.
        prompts: keys of their tokens, n of them.
        answered: keys of prompt and answer together, as they are trained, n of them.
        parts: the same of each micro batch that they are cut into; empty until the first is trained.
    """

    number: int
    rows: list[int]
    prompts: list[int]
    answered: list[int]
    parts: list[list[int]] = field(default_factory=list)

    def row_of(self, key: int) -> int:
        """Whose answer it is."""
        return self.rows[self.answered.index(key)]


@dataclass(eq=False)
class TrainedPart:
    """What a forward was given.

    Args:
        micro: number of the micro batch, as the trainer counts.
        generation: that it is of.
        tokens: ids and mask, shape (b, L) each, on their way to the host.
        width: places that prompts take.
        trains: whether a gradient came back to it: to a callback's question none does.
    """

    micro: int
    generation: Generation
    tokens: OnItsWay
    width: int
    trains: bool = False


def keys_of(ids: NDArray[Any], mask: NDArray[Any], width: int) -> tuple[list[int], list[int]]:
    """Keys of (the prompts, the prompts with their answers) of a batch.

    Args:
        ids: tokens, shape (b, L).
        mask: which of them are no padding, shape (b, L).
        width: places that the prompts take.
    """
    lines = list(zip(ids, mask.astype(bool), strict=True))
    prompts = [token_key(line[:width][there[:width]]) for line, there in lines]
    return prompts, [token_key(line[there]) for line, there in lines]


def keys_in(part: Mapping[str, torch.Tensor]) -> tuple[list[int], list[int]]:
    """The same of what the trainer keeps of some answers; waits for the device."""
    ids, mask = (
        torch.cat([part[f"prompt_{what}"], part[f"completion_{what}"]], dim=1).cpu().numpy() for what in ("ids", "mask")
    )
    return keys_of(ids, mask, part["prompt_ids"].shape[1])


class PromptAudit:
    """Hooks on one trainer for one run.

    Args:
        trainer: TRL's own for reward.
        dataset: its rows, as its loader hands them over.
        keys: `row_keys` of them when the run was planned, shape (N,).
        planned: the prompts of a generation by its number, those of all ranks, shape (P,).
    """

    def __init__(
        self, trainer: Trainer, dataset: RowSource, keys: NDArray[np.uint64], planned: Callable[[int], RowArray]
    ) -> None:
        self._trainer: Any = trainer
        self._dataset, self._keys, self._planned, self._peers = dataset, keys, planned, Peers.of(trainer)
        self._columns = list(dataset[0])
        self._arguments = list(inspect.signature(compat.model_of(trainer).forward).parameters)
        self.checked = self.passed = 0  # optimizer steps
        self.generations = [0, 0]  # (checked, passed)
        self._generations_settled = [0, 0]  # when the last step was
        self.sees_forwards = not hides_forwards(trainer)
        self._loss_of_its_own = loss_of_its_own(trainer)
        self._generation: Generation | None = None
        self._settled = micro_step(trainer)  # micro batches that were compared
        self._forwards: list[TrainedPart] = []  # since then
        self._at_settled: Generation | None = None  # that was in progress then
        self._end = listen(trainer, GENERATES, self._generate)
        self._hook = compat.model_of(trainer).register_forward_hook(self._after, with_kwargs=True)

    def close(self) -> None:
        """Take off what was put on the trainer and its model."""
        self._end()
        self._hook.remove()

    def begin(self) -> None:
        """The trainer counts its micro batches from another place; what it left unfinished is forgotten."""
        self._settled, self._forwards, self._generation, self._at_settled = micro_step(self._trainer), [], None, None

    def settle(self, step: int) -> None:
        """An optimizer step has ended; settling it again changes nothing.

        Args:
            step: its number, from 1.

        Raises:
            AuditError: the model was trained on anything but the planned prompts and the answers to them.
        """
        began, ended = self._settled, micro_step(self._trainer)
        forwards, self._forwards = [one for one in self._forwards if one.trains], []
        if ended == began:
            return
        self._settled = ended
        at_border = ended % micro_batches_of_a_generation(self._trainer) == 0
        self._at_settled = None if at_border else self._generation
        self._generations_settled = list(self.generations)
        if not self.sees_forwards:
            return
        self.checked += 1
        for micro in range(began, ended):
            try:
                self._compare(micro, [one for one in forwards if one.micro == micro])
            except AuditError as error:
                raise AuditError(f"prompt audit of step {step}: {error}") from None
        self.passed += 1

    # -- resume --------------------------------------------------------------------------------------------------

    def state(self) -> Json:
        """What it knew at the end of the last step, of this rank; for `load`."""
        now = self._at_settled
        kept = None if now is None else {name: value for name, value in vars(now).items() if name != "parts"}
        return {
            "checked": self.checked,
            "passed": self.passed,
            "generations": self._generations_settled,
            "generation": kept,
        }

    def load(self, state: Json) -> None:
        """Go on from a checkpoint; the trainer's answers that were kept with it are back in their place.

        Args:
            state: of this rank.

        Raises:
            ResumeError: the kept answers are not those that were made, or their prompts not the planned ones.
        """
        self.begin()
        self.checked, self.passed = state["checked"], state["passed"]
        self.generations, self._generations_settled = list(state["generations"]), list(state["generations"])
        if state["generation"] is None:
            return
        kept = Generation(**state["generation"])
        rows = self._mine(kept.number).tolist()
        if kept.rows != rows:
            raise ResumeError(
                f"the checkpoint's generation {kept.number} must be of the planned rows {listed(rows, SHOWN)}, got "
                f"{listed(kept.rows, SHOWN)}. Resume from an earlier checkpoint."
            )
        try:
            self._cut(kept)
        except AuditError as error:
            raise ResumeError(f"{error} Or resume from another checkpoint: this one's answers are damaged.") from None
        self._generation = self._at_settled = kept

    # -- where a generation is made ------------------------------------------------------------------------------

    def _generate(
        self, answer: Callable[..., Mapping[str, torch.Tensor]], inputs: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, torch.Tensor]:
        number = generation_of(self._trainer)
        rows = self._mine(number)
        self.generations[0] += 1
        self._compare_rows(number, rows, inputs)
        answers = answer(inputs)
        prompts, answered = keys_in(answers)
        once = list(dict.fromkeys(rows.tolist()))
        own = tokens_of(self._trainer, [self._dataset[row]["prompt"] for row in once])
        if own is not None:
            expected = dict(zip(once, map(token_key, own), strict=True))
            for place, row in enumerate(rows.tolist()):
                if prompts[place] != expected[row]:
                    given = self._text_of(answers["prompt_ids"][place], answers["prompt_mask"][place])
                    raise self._error(
                        number,
                        f"row {row} was planned but the model was given other tokens than those of its prompt: "
                        f"{given}. Remove what wraps the trainer's way to tokenise or generate.",
                    )
        self._generation = Generation(number, rows.tolist(), prompts, answered)
        self.generations[1] += 1
        return answers

    def _mine(self, generation: int) -> RowArray:
        """What is planned for this rank, each prompt as often as it is answered."""
        rows = np.repeat(self._planned(generation), self._trainer.num_generations)
        n = len(rows) // self._peers.world
        return rows[self._peers.rank * n : (self._peers.rank + 1) * n]

    def _compare_rows(self, number: int, rows: RowArray, inputs: Sequence[Mapping[str, Any]]) -> None:
        """The rows that a generation is about to be made of, with all the columns that the data set has.

        Raises:
            AuditError: other rows, in another sequence, or with other columns.
        """
        given = row_keys({name: row[name] for name in self._columns if name in row} for row in inputs)
        planned = self._keys[rows]
        if np.array_equal(given, planned):
            return
        if len(given) != len(planned):
            raise self._error(number, f"{len(planned)} answers were planned on this rank, got {len(given)}. {REMOVE}")
        if np.array_equal(np.sort(given), np.sort(planned)):
            raise self._error(
                number, f"the rows {listed(rows.tolist(), SHOWN)} were planned in this sequence, got another. {REMOVE}"
            )
        place = int((given != planned).nonzero()[0][0])
        row, got = int(rows[place]), inputs[place]
        others = (self._keys == given[place]).nonzero()[0]
        if len(others):
            raise self._error(number, f"row {row} was planned but row {others[0]} came in its place. {REMOVE}")
        there = self._dataset[row]
        changed = [name for name in self._columns if name not in got or as_json(got[name]) != as_json(there[name])]
        if not changed:
            raise self._error(
                number,
                f"row {row} is no longer what it was when the run was planned. Give the trainer a data set whose rows "
                "stay as they are, without a transform that draws.",
            )
        raise self._error(
            number,
            f"row {row} was planned but its {listed([f'`{name}`' for name in changed], SHOWN)} came otherwise: "
            f"{shown(last_turn(got.get(changed[0])))} in place of {shown(last_turn(there[changed[0]]))}. {REMOVE}",
        )

    # -- where it is trained -------------------------------------------------------------------------------------

    def _after(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: object) -> None:
        given = {**dict(zip(self._arguments, args, strict=False)), **kwargs}
        generation, ids = self._generation, given.get("input_ids")
        if not (module.training and torch.is_grad_enabled()) or generation is None or ids is None:
            return
        if not generation.parts:
            self._cut(generation)
        micro, parts = micro_step(self._trainer), (answers_of(self._trainer) or ())
        mask = given.get("attention_mask")
        tokens = OnItsWay(ids, torch.ones_like(ids) if mask is None else mask)
        forward = TrainedPart(micro, generation, tokens, parts[micro % len(parts)]["prompt_ids"].shape[1])
        self._forwards.append(forward)

        def came_back(_: torch.Tensor) -> None:
            forward.trains = True

        for output in tensors_in(outputs):
            if output.requires_grad:
                output.register_hook(came_back)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def _cut(self, generation: Generation) -> None:
        """Note what the trainer has cut a generation into.

        Raises:
            AuditError: other answers than those that the model gave.
        """
        parts = [keys_in(part)[1] for part in (answers_of(self._trainer) or ())]
        missing = Counter(generation.answered) - Counter(key for part in parts for key in part)
        if missing:
            rows = sorted({generation.row_of(key) for key in missing})
            raise self._error(
                generation.number,
                f"the model's answers to the rows {listed(rows, SHOWN)} are not among those that the trainer has kept. "
                f"{UNTOUCHED}",
            )
        generation.parts = parts

    def _compare(self, micro: int, forwards: Sequence[TrainedPart]) -> None:
        """The forwards of one micro batch.

        Raises:
            AuditError: they are not those of its part of the generation.
        """
        if not forwards:
            raise AuditError(
                f"answers were planned for micro batch {micro} but the model was trained on nothing. Remove what calls "
                "a part of the model by itself, or keeps its loss from being propagated back."
            )
        generation = forwards[0].generation
        wanted = Counter(generation.parts[micro % len(generation.parts)])
        seen: Counter[int] = Counter()
        for forward in forwards:
            ids, mask = forward.tokens.arrays()
            prompts, answered = keys_of(ids, mask, forward.width)
            seen.update(answered)
            for place, key in enumerate(answered):
                if key not in wanted:
                    text = self._text_of(ids[place], mask[place])
                    raise AuditError(self._stranger(generation, prompts[place], key, text))
        if seen != wanted and not (self._loss_of_its_own and wanted <= seen):
            rows = sorted({generation.row_of(key) for key in ((wanted - seen) or (seen - wanted))})
            often = "left out" if wanted - seen else "trained again"
            raise AuditError(
                f"each answer in micro batch {micro} must be trained once, but answers to the rows "
                f"{listed(rows, SHOWN)} were {often}. Remove what calls the model or training_step a second time; a "
                "loss that needs two forwards belongs into a compute_loss of a trainer class of your own."
            )

    def _stranger(self, generation: Generation, prompt: int, answered: int, text: str) -> str:
        """What is wrong with an answer that does not belong into a micro batch."""
        if answered in generation.answered:
            row = generation.row_of(answered)
            return f"the model was trained on an answer to row {row} that belongs into another micro batch. {UNTOUCHED}"
        if prompt in generation.prompts:
            row = generation.rows[generation.prompts.index(prompt)]
            return f"the model was trained on another answer to row {row} than it gave: {text}. {UNTOUCHED}"
        rows = listed(sorted(set(generation.rows)), SHOWN)
        return f"the rows {rows} were planned but the model was trained on another prompt: {text}. {UNTOUCHED}"

    def _text_of(self, ids: Any, mask: Any) -> str:
        return shown(self._trainer.processing_class.decode([int(i) for i, m in zip(ids, mask, strict=True) if m]))

    def _error(self, generation: int, what: str) -> AuditError:
        return AuditError(f"prompt audit of generation {generation}: {what}")
