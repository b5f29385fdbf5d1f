"""View: the whole record of a run, as a policy is shown it before a stage. Every policy is a pure function of it.

What a policy needs to know of earlier decisions is here and not in the policy: it has no state to save, a resumed run
cannot disagree with itself, and `simulate` and the tests show it made-up records through the same door.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from campus_tune.method.firing import Firing
from campus_tune.method.probe_history import ProbeHistory
from campus_tune.method.stages import Offer
from campus_tune.words.types import FloatArray, Json


@dataclass(frozen=True)
class PastStage:
    """A stage that is over.

    Args:
        index: stages before it.
        chosen: the sub-curriculum, or `shuffle`.
        end: optimizer steps finished after it.
        loss: mean loss of its rows in the training forwards, nats per answer token; None where these show none.
        loss_by_domain: the same of each domain in it.
        offered: the sub-curricula that there were to choose from, in the recipe's sequence; none where there was
            nothing to choose.
        tokens: that it trained, prompts included; 0 where nobody counted.
        lr_mass: learning rates of its optimizer steps, added up.
        lr_tokens: learning rate times tokens of each of its optimizer steps, added up.
        sums: stratum → (nats, answer tokens) of its rows in the training forwards; where shares go by them.
        shares: part of its new rows that each stratum got; where shares go by the record.
        again: (most likely tokens, answer tokens) of its rows that had been trained before.
        own_gain: fall of the loss, in nats, of a sample of its rows over the stage; where a reward is that.
        norm_gain: rise of half the squared norm of the trained weights over the stage; likewise.
    """

    index: int
    chosen: str
    end: int
    loss: float | None = None
    loss_by_domain: Mapping[str, float] = field(default_factory=dict)
    offered: Sequence[str] = ()
    tokens: int = 0
    lr_mass: float = 0.0
    lr_tokens: float = 0.0
    sums: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    again: tuple[int, int] = (0, 0)
    own_gain: float | None = None
    norm_gain: float | None = None

    @staticmethod
    def of(state: Json) -> PastStage:
        """From its fields as JSON; a checkpoint of a version that kept fewer of them is one in which they are unknown.

        Raises:
            TypeError: it has others.
        """
        pairs: Json = {name: tuple(sums) for name, sums in state.get("sums", {}).items()}
        tuples: Json = {name: tuple(state[name]) for name in ("offered", "again") if name in state}
        return PastStage(**{**state, **tuples, "sums": pairs})


@dataclass(frozen=True)
class History:
    """What a run has chosen and measured so far.

    Args:
        stages: those that are over, in sequence.
        probes: domain → competence at each measurement of its probes so far, in (0, 1]: exp(−mean loss).
        measured: the same measurements with what rules and bandits ask of them: losses, errors, learning-rate mass.
        firings: of rules so far, in sequence.
    """

    stages: Sequence[PastStage] = ()
    probes: Mapping[str, Sequence[float]] = field(default_factory=dict)
    measured: ProbeHistory = field(default_factory=ProbeHistory)
    firings: Sequence[Firing] = ()


@dataclass(frozen=True)
class View:
    """What a policy is shown before a stage.

    Args:
        names: the offered sub-curricula, in the recipe's sequence; at least one.
        offers: what each of them would train next, in the same sequence.
        stage: how many stages were decided before.
        step: optimizer steps finished.
        total_steps: of the whole run.
        n_decisions: about how many of them offer something, over the whole run; 0 where nobody counted.
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
    n_decisions: int = 0
    epoch: int = 0
    progress: float = 0.0
    times_chosen: Mapping[str, int] = field(default_factory=dict)
    rows_by_choice: Mapping[str, int] = field(default_factory=dict)
    history: History = field(default_factory=History)
    seed: int = 0
    mean_loss: FloatArray | None = None
    start_loss: FloatArray | None = None
    probe_loss: float | None = None
