"""View: the whole record of a run, as a policy is shown it before a stage. Every policy is a pure function of it.

What a policy needs to know of earlier decisions is here and not in the policy: it has no state to save, a resumed run
cannot disagree with itself, and `simulate` and the tests show it made-up records through the same door.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from campus_tune.method.stages import Offer
from campus_tune.words.types import FloatArray


@dataclass(frozen=True)
class PastStage:
    """A stage that is over.

    Args:
        index: stages before it.
        chosen: the sub-curriculum, or `shuffle`.
        end: optimizer steps finished after it.
        loss: mean loss of its rows in the training forwards, nats per answer token; None where these show none.
        loss_by_domain: the same of each domain in it.
    """

    index: int
    chosen: str
    end: int
    loss: float | None = None
    loss_by_domain: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """What a run has chosen and measured so far.

    Args:
        stages: those that are over, in sequence.
        probes: domain → competence at each measurement of its probes so far, in (0, 1]: exp(−mean loss).
    """

    stages: Sequence[PastStage] = ()
    probes: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """What a policy is shown before a stage.

    Args:
        names: the offered sub-curricula, in the recipe's sequence; at least one.
        offers: what each of them would train next, in the same sequence.
        stage: how many stages were decided before.
        step: optimizer steps finished.
        total_steps: of the whole run.
        epoch: of the next step.
        progress: of the clock towards the handover, in [0, 1].
        times_chosen: how often each sub-curriculum of the recipe was chosen.
        rows_by_choice: rows that each of them supplied so far, and `shuffle`.
        history: stages and probes so far.
        seed: of the run; a random selector draws from `[seed, stage]`.
        mean_loss: token-weighted mean answer loss of each offer under the current model, nats, shape (K,); where the
            selector needs it, as are the next two.
        start_loss: the same rows' mean loss before training, nats, shape (K,).
        probe_loss: mean loss of the held-out probes now, nats.
    """

    names: Sequence[str]
    offers: Sequence[Offer] = ()
    stage: int = 0
    step: int = 0
    total_steps: int = 0
    epoch: int = 0
    progress: float = 0.0
    times_chosen: Mapping[str, int] = field(default_factory=dict)
    rows_by_choice: Mapping[str, int] = field(default_factory=dict)
    history: History = field(default_factory=History)
    seed: int = 0
    mean_loss: FloatArray | None = None
    start_loss: FloatArray | None = None
    probe_loss: float | None = None
