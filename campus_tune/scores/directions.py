"""Which way the probes' loss rises, for a metric that asks how much a row's own loss rises that way (`influence`).

A direction is made where slopes are measured and let go of afterwards: at the next re-scoring the model is another one.
It is made of as many rows of each probe domain as a quarter of what scores may cost pays for, the same rows all through
the run, in two halves: how far these agree says how much of the direction is of more than these very rows.

What a slope hangs on, besides the row and the model, is in `settings`, and so in the key of the score cache: the
weights that are trained with their bits (an adapter that changes nothing yet has gradients of its own), the probe rows,
and how the step was chosen. Not the direction's own bits, which two accelerators would round differently.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from campus_tune.method.budget import FEWEST
from campus_tune.metrics import EVERY_PROBE, Influence, build_metric, leaves
from campus_tune.model import compat
from campus_tune.model.fingerprint import trained_fingerprint
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.model.probe_gradients import GradientMeter, ProbeGradient, halves, mean_gradient
from campus_tune.model.probes import Probes
from campus_tune.model.slopes import MOVES, MOVES_HALF, Direction, losses_along, step_of
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.hashing import array_digest
from campus_tune.words.registry import nearest
from campus_tune.words.types import IntArray, Json

if TYPE_CHECKING:
    from transformers import Trainer

PART = 0.25  # of what scores before training may cost that goes into directions
AGREES = 0.2  # cosine of the halves' directions, below which a score is mostly of the rows that the probes happen to be
AGREEMENT = "probe_agreement"  # that cosine, in the notes of a score
FULL = 4  # bytes of a number in single precision
_SIDES = 2  # forwards over the probe rows that a step is chosen by


def direction_problems(config: CampusConfig, probes: Mapping[str, int] | None) -> list[str]:
    """What is said of a metric whose probes are not there, or too few; empty where none asks for probes.

    Args:
        config: settings.
        probes: domain → rows; None without probes, which `resolved` refuses.
    """
    if probes is None:
        return []
    metrics = {spec.label: build_metric(spec) for spec in leaves(config.scored)}
    problems = []
    for label, metric in metrics.items():
        if not isinstance(metric, Influence):
            continue
        known = ", ".join(probes)
        if metric.probe is not None and metric.probe not in {*probes, EVERY_PROBE}:
            problems.append(
                f"`{label}: probe` must be a domain of the probes ({known}), got {metric.probe!r}."
                f"{nearest(metric.probe, list(probes))} Name one of them, or leave it out for all of them."
            )
            continue
        asked = probes if metric.probe in (None, EVERY_PROBE) else [metric.probe]
        if few := [f"{name} has {probes[name]}" for name in asked if probes[name] < FEWEST["probes"]]:
            problems.append(
                f"`{label}` must have {FEWEST['probes']} probe rows or more of each domain to know which way its loss "
                f"rises, got fewer: {', '.join(few)}. Give more of them, or name another `probe`."
            )
    return problems


def launch_problems(config: CampusConfig, trainer: Trainer) -> list[str]:
    """What is said of a metric of slopes where the weights cannot be moved; empty where none asks for them."""
    labels = [spec.label for spec in leaves(config.scored) if isinstance(build_metric(spec), Influence)]
    if not labels:
        return []
    kind = "FSDP" if trainer.is_fsdp_enabled else "DeepSpeed" if trainer.is_deepspeed_enabled else None
    problems = []
    if kind is not None:
        problems.append(
            f"`{labels[0]}` must have all trained weights in each process to move them, got {kind}, which deals them "
            "out. Launch with distributed_type MULTI_GPU, or score ahead on one process with `campus-tune score`."
        )
    if not any(weight.requires_grad for weight in compat.model_of(trainer).parameters()):
        problems.append(f"`{labels[0]}` must have weights that are trained, got none. Train some, or drop the metric.")
    return problems


@dataclass
class Directions:
    """Makes the directions of one run.

    Args:
        trainer: whose model is asked.
        probes: prepared.
        peers: ranks.
        seed: of the choice of rows and of their halves.
        ratio: cost of a forward token in training tokens.
        allowance: gives forward tokens that each domain of a direction may cost, and the fewest rows of one.
    """

    trainer: Trainer
    probes: Probes
    peers: Peers
    seed: int
    ratio: float
    allowance: Callable[[], tuple[float, int]] = field(default=lambda: (0.0, FEWEST["probes"]))

    def domains(self, towards: str) -> list[str]:
        """The domains that a direction is of."""
        return list(self.probes.domains) if towards == EVERY_PROBE else [towards]

    def rows(self, towards: str, allowance: float, fewest: int) -> dict[str, IntArray]:
        """The probe rows of each of its domains.

        Args:
            towards: a domain, or `EVERY_PROBE`.
            allowance: forward tokens that each of its domains may cost.
            fewest: rows of a domain that are taken whatever they cost.
        """
        names, tokens = self.domains(towards), self.probes.rows.tokens
        among = Probes(self.probes.dataset, self.probes.rows, {name: self.probes.domains[name] for name in names})
        # `subset` takes its share of all rows' tokens, whichever domains they are of.
        share = int(tokens.sum()) / max(1, sum(int(tokens[rows].sum()) for rows in among.domains.values()))
        return among.subset(allowance * len(names) * share / self._per_token, seed=self.seed, fewest=fewest)

    def cost(self, towards: str, allowance: float, fewest: int) -> int:
        """Forward tokens of making one: a backward over its rows, and the forwards that the step is chosen by."""
        rows = self.rows(towards, allowance, fewest).values()
        return math.ceil(self._per_token * sum(int(self.probes.rows.tokens[places].sum()) for places in rows))

    def tokens(self, towards: str) -> int:
        """The same for the rows that this run takes."""
        return self.cost(towards, *self.allowance())

    @property
    def _per_token(self) -> float:
        return 1 / self.ratio + _SIDES

    def settings(self, towards: str) -> Json:
        """What slopes hang on besides their rows and the model's base."""
        content = self.probes.rows.trained
        rows = {
            name: [array_digest(np.sort(content[half])) for half in self._halves(places)]
            for name, places in self.rows(towards, *self.allowance()).items()
        }
        return {"probes": rows, "trained": self._trained, "moves": self._moves}

    @cached_property
    def _trained(self) -> str:
        """The weights before training, when alone the cache is asked."""
        return trained_fingerprint(compat.model_of(self.trainer))

    @property
    def _moves(self) -> float:
        """How far losses should move, in nats: what half precision computes is coarse."""
        weights = compat.model_of(self.trainer).parameters()
        coarse = compat.precision(self.trainer) != "no" or any(one.dtype.itemsize < FULL for one in weights)
        return MOVES_HALF if coarse else MOVES

    def _halves(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        return halves(rows, self.seed)

    def notes(self, towards: str, direction: Direction) -> Json:
        """What the ledger says of a direction."""
        n = sum(len(rows) for rows in self.rows(towards, *self.allowance()).values())
        return {"probe_rows": n, AGREEMENT: direction.agreement, "step": direction.step}

    def make(self, towards: str) -> Direction:
        """The direction of the model as it is now; every rank calls it.

        Raises:
            MetricError: there is none.
            DivergedError: the probes' loss or its gradient is not finite.
        """
        rows = self.rows(towards, *self.allowance())
        meter = GradientMeter.of_probes(self.trainer, self.probes, self.peers)
        sums: list[list[ProbeGradient]] = [[], []]
        for places in rows.values():
            for found, half in zip(sums, self._halves(places), strict=True):
                found.extend(meter.gradients({"": half}).values())
        direction = Direction.between([mean_gradient(found) for found in sums])
        of_probes = LossMeter(
            meter.subject, meter.dataset, meter.collator, meter.tokens, peers=self.peers, what="influence"
        )
        every = np.concatenate(list(rows.values()))
        along = partial(losses_along, of_probes, direction.gradient, every)
        step = step_of(lambda length: along([length])[0], direction.gradient.norm, moves=self._moves)
        return Direction(direction.gradient, step, direction.agreement)


def agreement_warning(label: str, notes: Json) -> str | None:
    """What a person should know of a direction that is mostly of the rows that the probes happen to be."""
    agreement = notes.get(AGREEMENT, 1.0)
    if agreement >= AGREES:
        return None
    return (
        f"`{label}`: two halves of its {notes['probe_rows']} probe rows hardly agree on which way their loss rises "
        f"(cosine {agreement:.2f}): the order is mostly of these very rows. Give more probes or a larger budget, or "
        "train by another metric until the model knows the form of an answer."
    )
