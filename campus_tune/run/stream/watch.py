"""What reaches the model, and what becomes of it: the order audit, and the training losses that come for free.

Hooks on the model itself, below every loader, wrapper and collator, and one on the optimizer. Of every micro batch of
every step the rows that the forward was given are hashed, tokens and labels, where they are (`shown`), and compared
with the plan a step later on an accelerator, at once on a CPU; whatever is still open is settled before a checkpoint
is written and at the end, so no step that trained anything else reaches a checkpoint (`tie`). Where the trainer's loss
is its library's own, the gradient that comes back is looked at too, and the optimizer must step once (`loss_audit`). A
forward trains if a gradient comes back to it, in whatever mode the model is; a callback's question is none. Not seen
are parts of the model that somebody calls by themselves, and gradients or weights that are written by hand.

Each forward's own per-token losses are summed per row, and tied to the rows by what the forward was given, not by
their place: a collator may sort. They cost nothing, carry dropout noise, and are used for statistics, never for a
choice.

What that costs is in `eval/LOG.md`; nothing waits for the device.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from campus_tune.data.prepared import TokenRows
from campus_tune.model.row_sums import KeptTokens, join
from campus_tune.run.stream.loss_audit import Collected, Counts, LossAudit
from campus_tune.run.stream.shown import ShownBatch
from campus_tune.run.stream.tie import Forward, Match, tie
from campus_tune.run.stream.value import ForwardValues, ValueHooks
from campus_tune.run.stream.weighing import StepWeights, Weighing
from campus_tune.run.stream.weights_audit import StepGradients, Weights
from campus_tune.words.errors import AuditError
from campus_tune.words.types import FloatArray, IntArray, RowArray, RowLosses

KEPT = 1 << 18  # numbers of forwards that are kept before they are added up: some MB at most


@dataclass(frozen=True)
class _Step:
    """An optimizer step that has ended and is not compared yet.

    Args:
        number: from 1, as the trainer counts.
        batches: rows planned for each micro batch of this rank.
        forwards: in their sequence.
        collected: what `LossAudit` noted of them.
        answer_tokens: planned for all ranks; None where they are this rank's.
        optimizer_steps: that were made.
        measured: what its gradients show of its weights; None without any.
    """

    number: int
    batches: Sequence[Sequence[int]]
    forwards: list[Forward]
    collected: Collected
    answer_tokens: int | None
    optimizer_steps: int
    measured: StepGradients | None


class Harvest(NamedTuple):
    """What training has shown of some rows, each of n lines.

    Args:
        rows: of the plan, in the sequence of this rank's steps.
        losses: in the training forward.
        weights: what each row's loss was multiplied by, the mean over its tokens; None without weights.
        parts: of that, the mean of its tokens' own factors; None where none has one.
        values: ⟨row's gradient, each gradient of the probes⟩ as it came back, that is times the row's weight and its
            part in the mean over the step's tokens, shape (n, K); None where nobody asks.
        steps: of the optimizer in which each was trained, from 1; None likewise.
    """

    rows: RowArray
    losses: RowLosses
    weights: FloatArray | None = None
    parts: FloatArray | None = None
    values: FloatArray | None = None
    steps: IntArray | None = None


class Watch:
    """Hooks on one model for one run.

    Args:
        model: the unwrapped module; its forward is watched in training mode.
        rows: as planned.
        loss: what is known of the trainer's loss and optimizer.
        labels: those of `rows` are what the collator will make; False where it draws them, or cannot be asked.
        weighing: multiplies what rows count; None where all count alike.
        values: sees what the gradient says of each row; None where nobody asks.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        rows: TokenRows,
        loss: LossAudit,
        *,
        labels: bool = True,
        weighing: Weighing | None = None,
        values: ValueHooks | None = None,
    ) -> None:
        self.planned, self.loss, self._labels_known, self._weighing = rows, loss, labels, weighing
        self.values = values
        self.checked = self.passed = 0
        self.weights_checked = self.weights_passed = 0  # steps with weights
        self.labels_seen = True  # labels reached the model in every step so far
        self.shows_losses: bool | None = None  # the last step's forwards showed losses of rows; None before the first
        self._names = list(inspect.signature(model.forward).parameters)
        self._number: int | None = None  # of the step that is being trained
        self._ended = 0  # the last step that was trained
        self._forwards: list[Forward] = []  # of that step, or since the last one
        self._optimizer_steps = 0
        self._open: list[_Step] = []
        self._clock = 0  # counts forwards and backwards, for their sequence
        self._losses: list[tuple[IntArray, IntArray, KeptTokens]] = []  # rows, their places in sums that wait there
        self._kept: list[KeptTokens] = []  # those that are not added up yet
        self._waiting = 0  # numbers in them
        self._weights: list[Weights] = []  # of the same rows, where a step has any
        self._values: list[tuple[int, torch.Tensor]] = []  # of the same: step, values by place on the device
        self._stopwatch = ForwardTime()
        self._handles = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after, with_kwargs=True),
        ]
        if loss.optimizer is not None:
            self._handles.append(loss.optimizer.register_step_post_hook(self._stepped))

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        for part in (self._weighing, self.values):
            if part is not None:
                part.close()

    # -- steps ---------------------------------------------------------------------------------------------------

    def begin_step(self, number: int, weights: StepWeights | None = None) -> None:
        """Optimizer step `number` begins. What was trained since the last one belongs to it, and will be found.

        Of a step that was begun and never ended (an epoch that is stopped between its micro batches) nothing is asked:
        no update was made of it.

        Args:
            number: from 1.
            weights: what its rows count; None where all count alike.
        """
        given_up = self._number is not None
        self._number = number
        self._forwards = [] if given_up else [forward for forward in self._forwards if forward.reached]
        self._optimizer_steps = 0
        if self._weighing is not None:
            self._weighing.begin_step(weights, self.planned, labelled=self._labels_known)
        if self.values is not None:
            self.values.begin_step()

    @property
    def untried(self) -> bool:
        """Nobody knows yet whether weights could be multiplied here."""
        return self._weighing is not None and not self._weighing.tried

    @property
    def cannot_weigh(self) -> str:
        """Why weights could not be multiplied in a trial; "" where they could, or there was none."""
        return "" if self._weighing is None else self._weighing.cannot

    def before_update(self) -> None:
        """The gradients of a step are there, as they are to reach the optimizer."""
        if self._weighing is not None:
            self._weighing.before_update()

    def end_step(self, batches: Sequence[Sequence[int]], *, answer_tokens: int | None = None) -> None:
        """The step has ended that should have trained `batches` on this rank; ending it again changes nothing.

        Args:
            batches: row positions of each micro batch; the complement `~row` is a filling row.
            answer_tokens: of the step's rows on all ranks; None where they are those of `batches`.

        Raises:
            AuditError: in an earlier step, or on a CPU in this one, something else was trained.
        """
        if self._number is None:
            return
        steps = 1 if self.loss.skipped() else self._optimizer_steps
        collected = self.loss.collect(self._forwards)
        measured = None if self._weighing is None else self._weighing.collect(self._forwards)
        if self.values is not None:
            self.values.end_step()
        self.shows_losses = any(forward.tokens is not None for forward in self._forwards)
        self._open.append(_Step(self._number, batches, self._forwards, collected, answer_tokens, steps, measured))
        waits = any(forward.device.type != "cpu" for forward in self._forwards)
        self._ended, self._number, self._forwards = self._number, None, []
        self._settle(keep=int(waits))

    def settle(self) -> None:
        """Compare every step that has ended, and look that nothing was trained since.

        Raises:
            AuditError: one of them trained something else than planned, or a gradient came from between two steps.
        """
        self._settle(keep=0)
        if self._number is None and any(forward.reached for forward in self._forwards):
            raise AuditError(
                f"order audit after step {self._ended}: no row must be trained between two optimizer steps, got the "
                "gradient of a forward. Remove the callback that trains the model by itself."
            )

    def harvest(self) -> Harvest:
        """Rows trained since the last harvest, their training losses and weights; waits for the device.

        Raises:
            AuditError: as `settle`.
        """
        self.settle()
        if not self._losses:
            return Harvest(np.zeros(0, dtype=np.int32), RowLosses.zeros(0))
        rows, places, kept = zip(*self._losses, strict=True)
        sums = [each.sums() for each in kept]
        starts = np.cumsum([0, *(len(part.nll) for part in sums[:-1])])
        idx = np.concatenate([start + place for start, place in zip(starts, places, strict=True)])
        weights, values = self._weights, self._values
        self._losses, self._weights, self._values, self._kept, self._waiting = [], [], [], [], 0
        losses = join(sums).losses().take(idx)
        harvest = Harvest(np.concatenate(rows).astype(np.int32), losses, *Weights.join(weights))
        if not values:
            return harvest
        steps = np.concatenate([np.full(len(part), step) for part, (step, _) in zip(rows, values, strict=True)])
        return harvest._replace(steps=steps, values=torch.cat([one for _, one in values]).cpu().numpy()[idx])

    def forward_seconds(self) -> float:
        """Time of this rank's own training forwards since the last call."""
        return self._stopwatch.take()

    def _settle(self, keep: int) -> None:
        while len(self._open) > keep:
            step = self._open.pop(0)
            self.checked += 1
            try:
                together, again = not self.loss.plain, self.loss.own_step
                tied = tie(step.batches, step.forwards, self.planned, together=together, again=again)
                own_tokens = sum(match.answers for match in tied)
                all_tokens = own_tokens if step.answer_tokens is None else step.answer_tokens
                counts = Counts(own_tokens, all_tokens, step.optimizer_steps)
                self.loss.compare(step.collected, step.forwards, tied, counts)
            except AuditError as error:
                self._open.clear()
                raise AuditError(f"order audit of step {step.number}: {error}") from None
            self.passed += 1
            self._compare_weights(step, tied, counts)
            self.labels_seen &= all(match.labelled for match in tied)
            own = [match for match in tied if match.rows[0] >= 0]
            for match in own:
                if match.tokens is not None:
                    self._losses.append((match.rows, match.places, match.tokens))
                    self._kept.append(match.tokens)
                    self._waiting += match.tokens.size
            if self._waiting > KEPT:
                for tokens in self._kept:
                    tokens.sums()
                self._kept, self._waiting = [], 0
            if any(forward.values is not None for forward in step.forwards):
                self._values += self._values_of(step, own)

    def _values_of(self, step: _Step, own: Sequence[Match]) -> list[tuple[int, torch.Tensor]]:
        """What the gradients of a step say of its rows, one part for each of its own micro batches."""
        found = []
        for match in own:
            values = step.forwards[match.forward].values
            if values is not None and match.tokens is not None:
                try:
                    values.refuse_other_sums()
                except AuditError as error:
                    raise AuditError(f"value audit of step {step.number}: {error}") from None
                found.append((step.number, values.unscaled() / self.loss.factor))
        return found

    def _compare_weights(self, step: _Step, tied: Sequence[Match], counts: Counts) -> None:
        if step.measured is None or self._weighing is None:
            return
        trial = step.measured.trial
        self.weights_checked += not trial
        try:
            found = step.measured.compare(tied, self._weighing.total(step.measured.answer_tokens(tied), counts))
        except AuditError as error:
            if not trial:
                self._open.clear()
            self._weighing.fail(AuditError(f"weights audit of step {step.number}: {error}"), trial=trial)
            return
        if not trial:
            self._weights += found
            self.weights_passed += 1

    # -- hooks ---------------------------------------------------------------------------------------------------

    def _before(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if module.training and torch.is_grad_enabled():
            batch = self._batch(args, kwargs)
            ids = batch.get("input_ids")
            if ids is not None:
                self._stopwatch.start(ids.device)
                if self.values is not None:
                    self.values.begin(batch)

    def _after(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: object) -> None:
        trains, training = torch.is_grad_enabled(), module.training
        if not (trains or training):
            return
        values = self._ended_forward() if trains and training else None
        batch = self._batch(args, kwargs)
        ids, labelled = batch.get("input_ids"), batch.get("labels") is not None
        # without gradients trl asks once more, for its metrics, where the loss itself needs a forward without labels
        if ids is None or not (trains or (labelled and self._number is not None)):
            return
        with torch.no_grad():
            shown = ShownBatch(batch, labels_known=self._labels_known)
            tokens = KeptTokens.of(outputs, batch) if labelled else None
            forward = Forward(shown, tokens, ids.device, trains=trains, began=self._tick(), values=values)
        if training:
            self._forwards.append(forward)

        def came_back() -> None:
            forward.backwards += 1
            forward.backward_at = self._tick()

        def reached() -> None:
            if not (training or forward.reached):  # outside of training only a gradient says that it trains
                self._forwards.append(forward)
            forward.reached = True

        if trains:
            self.loss.listen(forward, outputs, came_back, reached)
            if self._weighing is not None:
                self._weighing.weigh(forward, outputs, labelled=labelled)

    def _ended_forward(self) -> ForwardValues | None:
        """A training forward has ended: what its gradient will say of its rows, where somebody asks."""
        self._stopwatch.stop()
        return None if self.values is None else self.values.of_forward()

    def _batch(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a forward by name."""
        return kwargs if not args else {**dict(zip(self._names, args, strict=False)), **kwargs}

    def _stepped(self, *_: object) -> None:
        self._optimizer_steps += 1

    def _tick(self) -> int:
        self._clock += 1
        return self._clock


class ForwardTime:
    """Sums the time of forwards where they are computed: by events on a GPU, which runs behind the program."""

    def __init__(self) -> None:
        self._began: torch.cuda.Event | float | None = None
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def start(self, device: torch.device) -> None:
        """A forward begins."""
        self._began = _event() if device.type == "cuda" else time.perf_counter()

    def stop(self) -> None:
        """It has ended."""
        if isinstance(self._began, float):
            self._seconds += time.perf_counter() - self._began
        elif self._began is not None:
            self._events.append((self._began, _event()))
        self._began = None

    def take(self) -> float:
        """Seconds since the last call; waits for the device where events are still to come."""
        if self._events:
            torch.cuda.synchronize()
        seconds = self._seconds + sum(float(start.elapsed_time(end)) for start, end in self._events) / 1000.0
        self._seconds, self._events = 0.0, []
        return seconds


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    event.record()
    return event
