"""What becomes of a planned row behind the model: its loss, the gradient that comes back, the optimizer's step.

Only where all of it is the library's own is there one right answer: trl's or transformers' `compute_loss`, counted over
the answer tokens of the whole step, N of them. Then the gradient at each token's log-probability is −1/N (trl's fused
head; times its probability under `loss_type: dft`), or the model's loss is Σ nll / N and its gradient 1. Something that
scales a loss, drops a backward pass, adds one, or keeps the optimizer from stepping shows in these numbers. A loss of
the user's own is theirs: of it only the rows and labels are audited.

The numbers stay on the device until they are compared. Under DeepSpeed the engine scales and steps in its own way: not
looked at. Nor is a model's own loss that is no plain mean (`model.loss_function` set, classes from outside of
transformers), nor the part of a mixture of experts' auxiliary loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from campus_tune.model import compat
from campus_tune.model.row_sums import has_tensor
from campus_tune.run.stream.on_its_way import OnItsWay
from campus_tune.run.stream.tie import Forward, Match
from campus_tune.words.errors import AuditError
from campus_tune.words.wording import listed

if TYPE_CHECKING:
    from transformers import Trainer

FUSED, MODEL = "log_probs", "loss"  # what of the outputs the trainer trains on
EARLY = (  # what a run on plain text meets there
    "Where rows' first tokens carry loss, as those of plain text do, it is transformers itself, which before 5.11 "
    "counts them too, though nothing predicts them: pip install 'transformers>=5.11', or take those labels out. "
    "Else: "
)
CLOSE = 0.02  # relative: bf16 losses and gradients are that far off, a second loss or a forgotten one is not
SURE = 1e-3  # under dft, tokens less likely than this have gradients too small to divide by


@dataclass(frozen=True)
class LossAudit:
    """What is known of a trainer's loss and optimizer.

    Args:
        plain: the loss is the library's, and counted over the step.
        checks_value: so is the model's own.
        dft: each token's loss is weighted with its probability.
        factor: that every gradient is multiplied by: ranks, where gradients are averaged over them afterwards.
        loss_scale: of mixed precision, now.
        optimizer: that must step once; None where none can be watched.
        skipped: whether the scaler let the last step out.
        own_step: the user's own `training_step` may train a batch again.
        world: ranks.
    """

    plain: bool
    checks_value: bool
    dft: bool
    factor: float
    loss_scale: Callable[[], torch.Tensor | float]
    optimizer: torch.optim.Optimizer | None
    skipped: Callable[[], bool]
    own_step: bool
    world: int

    @staticmethod
    def of(trainer: Trainer) -> LossAudit:
        """That of a trainer whose optimizer is made."""
        plain = compat.trains_the_librarys_loss(trainer)
        world = trainer.accelerator.num_processes
        return LossAudit(
            plain=plain,
            checks_value=plain and compat.has_the_librarys_loss(compat.model_of(trainer)),
            dft=getattr(trainer.args, "loss_type", None) == "dft",
            factor=float(world) if trainer.args.average_tokens_across_devices else 1.0,
            loss_scale=lambda: compat.loss_scale(trainer),
            optimizer=compat.stepped_optimizer(trainer),
            skipped=lambda: bool(trainer.accelerator.optimizer_step_was_skipped),
            own_step=compat.has_own_training_step(trainer),
            world=world,
        )

    def listen(
        self, forward: Forward, outputs: Any, came_back: Callable[[], None], reached: Callable[[], None]
    ) -> None:
        """Note what a forward gave, and be told when a gradient comes back.

        Args:
            forward: its numbers are added to; they stay on the device.
            outputs: of the model.
            came_back: called when that of its loss does.
            reached: called when one of any of its outputs does.
        """
        names = (FUSED, MODEL) if self.plain else (FUSED, "logits", MODEL)
        shown = [name for name in names if has_tensor(outputs, name) and getattr(outputs, name).requires_grad]
        trained: torch.Tensor | None = getattr(outputs, shown[0]) if shown else None
        for output in tensors_in(outputs):
            if output.requires_grad:
                forward.reached = False
                if output is not trained:
                    output.register_hook(lambda gradient: reached())  # type: ignore[no-untyped-call]  # noqa: ARG005
        if trained is None:
            return
        forward.listens = True
        look = self._look_at(shown[0], forward, outputs)

        def hook(gradient: torch.Tensor) -> None:  # holds no output: one that held its own tensor would never be freed
            reached()
            came_back()
            if look is not None:
                look(gradient)

        trained.register_hook(hook)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def _look_at(self, name: str, forward: Forward, outputs: Any) -> Callable[[torch.Tensor], None] | None:
        """What to note of the gradient, if anything; notes what the outputs say."""
        if not self.plain or forward.tokens is None:
            return None
        numbers = forward.numbers
        if self.checks_value and has_tensor(outputs, MODEL) and getattr(outputs, "aux_loss", None) is None:
            numbers["loss"] = _number(outputs.loss.detach())
            # the losses of a fused head are 0 where no label is; where they are not, it is looked more closely
            nll = -outputs.log_probs.detach().sum() if name == FUSED else forward.tokens.lines().nll.sum()
            numbers["nll"] = _number(nll)
        if name != FUSED:
            return lambda gradient: numbers.update(factor=_number(gradient / (self.loss_scale() * self.factor)))
        counted, likely = outputs.label_mask, outputs.log_probs.detach().exp() if self.dft else None
        if likely is not None:
            counted = counted & (likely > SURE)

        def shares(gradient: torch.Tensor) -> None:
            """The least and the greatest part that any token's loss has in the step's."""
            scale = self.loss_scale() * self.factor
            share = gradient if likely is None else gradient / likely
            if share.device.type == "cpu":
                most, least = share.aminmax()
                if float(most) != float(least):  # of tokens that carry no loss it may say anything
                    told = share.masked_select(counted)
                    most, least = told.aminmax() if len(told) else (torch.tensor(math.inf), torch.tensor(-math.inf))
                numbers["least"], numbers["most"] = -float(least) / float(scale), -float(most) / float(scale)
            else:  # choosing would make the host wait
                numbers["least"] = -share.masked_fill(~counted, -torch.inf).amax().float() / scale
                numbers["most"] = -share.masked_fill(~counted, torch.inf).amin().float() / scale

        return shares

    def collect(self, forwards: Sequence[Forward]) -> Collected:
        """The numbers of a step's forwards, on their way to the host."""
        return Collected([forward.numbers for forward in forwards])

    def compare(self, collected: Collected, forwards: Sequence[Forward], tied: Sequence[Match], counts: Counts) -> None:
        """Compare what was noted of a step with the one right answer.

        Args:
            collected: its numbers.
            forwards: of the step.
            tied: its micro batches.
            counts: what is planned, and how often the optimizer stepped.

        Raises:
            AuditError: the loss, its gradient or the optimizer's step is another than the trainer's settings say.
        """
        if self.plain:
            numbers, own = collected.by_forward(), [match for match in tied if match.rows[0] >= 0]
            # What the step's loss is divided by; a rank among others knows it where it has seen what is planned for it.
            seen = counts.own_tokens if all(match.as_planned for match in own) else _tokens(own)
            total = seen if self.world == 1 else float(counts.all_tokens) if seen == counts.own_tokens else None
            for match in own:
                self._compare_one(match, forwards[match.forward], numbers[match.forward], total)
        if self.optimizer is not None and counts.optimizer_steps != 1:
            raise AuditError(
                f"the optimizer must step once, got {counts.optimizer_steps} steps, so the planned rows were "
                f"{'not trained' if not counts.optimizer_steps else 'trained more than once'}. Remove what replaces or "
                "wraps trainer.optimizer.step."
            )

    def _compare_one(self, match: Match, forward: Forward, numbers: dict[str, float], total: float | None) -> None:
        rows = f"the rows {listed(match.rows.tolist(), 8)}"
        if forward.listens and forward.backwards != 1:
            raise AuditError(
                f"the loss of {rows} must be propagated back once, got {forward.backwards} times. Remove what skips or "
                "repeats the backward pass (training_step, accelerator.backward, a hook)."
            )
        if total is None:
            return
        found = [(numbers[name] * total, "gradient") for name in ("least", "most") if name in numbers]
        found += [(numbers["factor"], "gradient")] if "factor" in numbers else []
        if numbers.get("nll") and match.tokens is not None:
            # trl asks for a mean over the micro batch, and makes its own from the tokens' parts
            divisor = total if "factor" in numbers else match.answers if match.as_planned else _tokens([match])
            ratio = numbers["loss"] * divisor / numbers["nll"]
            if not abs(ratio - 1.0) <= CLOSE and (nll := float(match.tokens.sums().nll.sum())):
                ratio = numbers["loss"] * divisor / nll
            found.append((ratio, "loss"))
        for ratio, what in found:
            if math.isfinite(ratio) and abs(ratio - 1.0) > CLOSE:
                raise AuditError(
                    f"the {what} of {rows} must be that of the mean loss over the step's {total:.0f} answer tokens, "
                    f"got {ratio:.3g} times that. {EARLY if ratio < 1.0 and compat.counts_first_tokens() else ''}"
                    "Something scales losses behind the trainer's back: a hook on the "
                    "model, a changed accelerator.backward or num_items_in_batch. Remove it; a loss of your own "
                    "belongs into a compute_loss of a trainer class of your own."
                )


def tensors_in(outputs: object) -> Iterator[torch.Tensor]:
    """All tensors that a model gives, those in tuples of them too."""
    if isinstance(outputs, torch.Tensor):
        yield outputs
    elif isinstance(outputs, (Mapping, tuple, list)):
        for value in outputs.values() if isinstance(outputs, Mapping) else outputs:
            yield from tensors_in(value)


@dataclass(frozen=True)
class Counts:
    """What a step is compared with.

    Args:
        own_tokens: answer tokens planned for this rank.
        all_tokens: for all ranks.
        optimizer_steps: that were made; one that a gradient scaler left out counts as made.
    """

    own_tokens: int
    all_tokens: int
    optimizer_steps: int


class Collected:
    """Numbers of one step.

    Args:
        numbers: of each forward, by name.
    """

    def __init__(self, numbers: Sequence[dict[str, torch.Tensor | float]]) -> None:
        self._numbers = numbers
        late = [value for each in numbers for value in each.values() if isinstance(value, torch.Tensor)]
        self._late = OnItsWay(torch.stack([value.detach().double() for value in late])) if late else None

    def by_forward(self) -> list[dict[str, float]]:
        """Each forward's numbers by name."""
        late = iter([] if self._late is None else self._late.arrays()[0].tolist())
        return [
            {name: next(late) if isinstance(value, torch.Tensor) else value for name, value in each.items()}
            for each in self._numbers
        ]


def _tokens(matches: Sequence[Match]) -> float:
    """Tokens that carry loss in the forwards of some micro batches; waits for them."""
    return math.fsum(math.nan if one.tokens is None else float(one.tokens.sums().tokens.sum()) for one in matches)


def _number(value: torch.Tensor) -> torch.Tensor | float:
    """A single number, taken at once where nothing waits for it."""
    return float(value) if value.device.type == "cpu" else value
