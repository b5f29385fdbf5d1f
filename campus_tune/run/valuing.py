"""What each row is worth, in a run that asks: when the probes' gradients are measured, and what becomes of the values.

    due, measure   at the beginning of a stage: the gradient of each half of each probe domain (`probe_gradients`), on
                   an account of its own (`value: budget`), so that it decides nothing
    add, share     what the hooks have seen since (`stream.value`), tied to the planned rows by the watch
    close_stage    written beside the training losses (`stage_visits`)
    keep           before a checkpoint: the gradients in use are in a file beside it

Which half a probe row is in hangs on the seed, and on how many the account pays for. A resume that changes this on
purpose, or the probes, or their unit, makes other values, which are not added to those before. Gradients are as old as
the measurement before: a part of a stage, or some stages where the account pays for fewer. Nothing of what is trained
hangs on any of it.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from campus_tune.method.budget import VALUE, Budget
from campus_tune.model import compat
from campus_tune.model.peers import Peers
from campus_tune.model.probe_gradients import GradientMeter, ProbeGradient, halves
from campus_tune.model.probes import Probes
from campus_tune.model.valuable import lora_layers
from campus_tune.preview.value_plan import ValuePlan, refuse_probes
from campus_tune.recipe.config import CampusConfig
from campus_tune.run.checkpoints import kept_for_checkpoints
from campus_tune.run.gradient_files import prune, read_gradients, write_gradients
from campus_tune.run.manifest import Files
from campus_tune.run.stage_visits import FOLDER, StageVisits
from campus_tune.run.stream.training_losses import file_of_stage
from campus_tune.run.stream.value import ValueHooks
from campus_tune.run.stream.watch import Harvest
from campus_tune.words.hashing import array_digest
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from transformers import Trainer


class Valuing:
    """The values of one run.

    Args:
        trainer: that is trained.
        config: resolved settings, with `value`.
        plan: what is asked, and how often.
        meter: asks the model for gradients.
        budget: charged for it.
        peers: ranks.
        folder: of the run, on rank 0's disk.
        trained: 64-bit hashes of the probe rows, shape (N,).
    """

    def __init__(
        self,
        trainer: Trainer,
        config: CampusConfig,
        plan: ValuePlan,
        meter: GradientMeter,
        budget: Budget,
        peers: Peers,
        folder: Path,
        trained: NDArray[np.uint64],
    ) -> None:
        assert config.value is not None, "only a run that asks for values has one"
        self.settings, self.plan, self.budget = config.value, plan, budget
        self.peers, self.folder = peers, folder / FOLDER
        self._trainer, self._meter = trainer, meter
        cut = {domain: halves(rows, config.seed or 0) for domain, rows in plan.rows.items()}
        self.groups = {f"{half} {domain}": rows[i] for domain, rows in cut.items() for i, half in enumerate("ab")}
        said = array_digest(np.concatenate([trained[rows] for rows in self.groups.values()]))
        self.visits = StageVisits(list(self.groups), f"{'adam' if config.value.adam else 'plain'} {said}")
        self.hooks: ValueHooks | None = None  # once the run is planned
        self._gradients: dict[str, ProbeGradient] = {}
        self._measured: tuple[int, int] | None = None  # (steps finished, stages decided) at the last measurement
        self._files: Files = {}  # of these gradients, once they are written
        self._saved: set[str] = set()  # what the last checkpoint needs, whose record may not be sealed yet

    @staticmethod
    def of(
        trainer: Trainer,
        config: CampusConfig,
        probes: Probes | None,
        budget: Budget,
        peers: Peers,
        folder: Path,
        *,
        n_stages: int,
    ) -> Valuing | None:
        """Those of a run; None where nobody asks.

        Args:
            trainer: that is trained.
            config: resolved settings.
            probes: held-out rows.
            budget: of the run.
            peers: ranks.
            folder: of the run.
            n_stages: about how many stages it has.

        Raises:
            DataError: a domain has too few probe rows, or a name that is taken.
        """
        if config.value is None or probes is None:
            return None
        refuse_probes(probes)
        plan = ValuePlan.of(probes, budget, config.value.budget, n_stages, seed=config.seed or 0)
        meter = GradientMeter.of_probes(trainer, probes, peers)
        return Valuing(trainer, config, plan, meter, budget, peers, folder, probes.rows.trained)

    def too_small(self, n_stages: int) -> str | None:
        """That the account does not pay for one measurement, and what does; None where it does."""
        return self.plan.too_small(self.budget, self.settings.budget, n_stages)

    # -- gradients ----------------------------------------------------------------------------------------------

    def due(self, n_stages: int) -> bool:
        """Whether the gradients belong before the decision on stage `n_stages`: at first, and as often as is paid."""
        if self.settings.adam and not self._moments():
            return False
        if self._measured is None:
            return True
        account = self.settings.budget * self.budget.training_tokens / self.budget.ratio
        paid = self.budget.spent[VALUE] + self.plan.cost <= account
        return paid and n_stages - self._measured[1] >= self.plan.every

    def measure(self, step: int, n_stages: int) -> None:
        """Measure them now, on the bill, and go by them; every rank calls it.

        Args:
            step: optimizer steps finished.
            n_stages: stages decided before.
        """
        began = time.perf_counter()
        found = self._meter.gradients(self.groups)
        if self.settings.adam:
            by, of = self._moments(), {group: one.of for group, one in found.items()}
            steps = {group: {name: part / by[name] for name, part in parts.items()} for group, parts in of.items()}
            found = {group: ProbeGradient(steps[group], one.loss, one.tokens) for group, one in found.items()}
        self._gradients, self._measured, self._files = found, (step, n_stages), {}
        self.budget.charge(VALUE, round(self.plan.cost), time.perf_counter() - began)
        if self.hooks is not None:
            self.hooks.go_by(list(found.values()))

    def go_on(self, hooks: ValueHooks, stage: int) -> None:
        """The run is planned: from here on rows are valued by the gradients in use.

        Args:
            hooks: on its model.
            stage: the first that is not over: files of later ones are of a future that was given up.
        """
        self.hooks = hooks
        hooks.go_by(list(self._gradients.values()))
        for path in self.folder.glob("stage-*.parquet") if self.peers.leads else ():
            if path.name >= file_of_stage(stage):
                path.unlink()

    def _moments(self) -> dict[str, torch.Tensor]:
        """What Adam divides each weight's step by, √v + ε with v corrected for its bias; {} before the first step.

        Infinite where a weight has had no gradient yet: its first step hangs on nothing but itself.
        """
        optimizer: Any = compat.stepped_optimizer(self._trainer)
        found = {}
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        for name, layer in lora_layers(compat.unwrapped(self._trainer)).items():
            held = optimizer.state.get(layer.weight, {})
            if "exp_avg_sq" not in held:
                return {}
            group, v = groups[id(layer.weight)], held["exp_avg_sq"].float()
            corrected = 1.0 - group["betas"][1] ** float(held["step"])
            found[name] = torch.where(v > 0, (v / corrected).sqrt() + group["eps"], torch.inf)
        return found

    # -- rows ---------------------------------------------------------------------------------------------------

    def close_stage(self, stage: int) -> Json:
        """Write a stage that is over; what the ledger says of it."""
        told = {"measured": None if self._measured is None else self._measured[0], **self.visits.counts()}
        if self.peers.leads:
            self.visits.write(self.folder / file_of_stage(stage))
        self.visits.forget()
        return told

    def add(self, harvest: Harvest) -> None:
        """Rows that this rank has trained, and those of the others; every rank calls it."""
        self.visits.add(harvest)
        self.visits.share(self.peers)

    # -- state --------------------------------------------------------------------------------------------------

    def keep(self) -> None:
        """Before a checkpoint is saved: the gradients in use are written; every rank calls it.

        Raises:
            StorageError: the disk is full, or the folder read-only.
        """
        if self._measured is None or self._files:
            return
        step, parts = self._measured[0], {group: one.of for group, one in self._gradients.items()}
        self._files = self.peers.led(lambda: write_gradients(self.folder, step, parts))
        self.tidy()

    def tidy(self) -> None:
        """Remove what neither this run nor a checkpoint on the disk needs."""
        if self.peers.leads:
            prune(self.folder, {*self._saved, *self._files, *kept_for_checkpoints(self.folder.parents[1], FOLDER)})

    def files(self) -> list[str]:
        """Of the run's folder: what a checkpoint that is saved now needs."""
        self._saved = set(self._files)
        return [f"{FOLDER}/{name}" for name in self._files]

    def state(self) -> Json:
        """The stage so far, and which gradients are in use, as JSON."""
        measured = None if self._measured is None else list(self._measured)
        files = {name: list(known) for name, known in self._files.items()}
        return {"measured": measured, "files": files, "visits": self.visits.state()}

    def load(self, state: Json | None, home: Path) -> None:
        """Go on from `state()`, where its values add up with these; else from the next stage on. All ranks call it.

        Args:
            state: of a checkpoint; None where its run had no values.
            home: the folder of the run that wrote it, on rank 0's disk.

        Raises:
            ResumeError: the gradients are missing there, or are no longer as they were.
        """
        if state is None or not self.visits.goes_on(state["visits"]):
            return
        self.visits.load(state["visits"])
        if state["measured"] is None or not state["files"]:
            return
        self._measured = (int(state["measured"][0]), int(state["measured"][1]))
        self._files = {name: (known[0], known[1]) for name, known in state["files"].items()}
        self._saved = set(self._files)
        found: list[dict[str, torch.Tensor]] = []
        self.peers.led(lambda: found.append(read_gradients(home / FOLDER, self._files)))
        layers = lora_layers(compat.unwrapped(self._trainer))
        for group, rows in self.groups.items():
            of = {}
            for name, layer in layers.items():
                part = torch.empty(layer.weight.shape, dtype=torch.float32, device=layer.weight.device)
                if found:
                    part.copy_(found[0][f"{group}/{name}"])
                self.peers.broadcast(part)
                of[name] = part
            self._gradients[group] = ProbeGradient(of, math.nan, len(rows))
