"""Everything that the page of a comparison shows: its settings, the results of its runs, and the verdict on them.

A comparison that is still going on can be read too: runs that are not finished are counted and not shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.compare import file_shapes as shapes
from campus_tune.compare.detectable import VERDICT
from campus_tune.compare.kinds import COMPARISON
from campus_tune.compare.rate_mass import add_rates
from campus_tune.compare.result_file import FILE as RESULT
from campus_tune.compare.result_file import FINISHED, FORMAT
from campus_tune.compare.verdict import REWARD, measure_of
from campus_tune.words.errors import DataError
from campus_tune.words.json_shapes import misshapen, read_json
from campus_tune.words.types import FloatArray, Json

RECIPE, BASELINE = "recipe", "baseline"  # kinds of arms


@dataclass(frozen=True)
class ArmFacts:
    """One arm and its runs.

    Args:
        name: of the arm.
        kind: recipe, baseline, control or plus.
        settings: its `campus:` block.
        runs: results, in the sequence of the seeds; those that are not there yet are left out.
    """

    name: str
    kind: str
    settings: Json
    runs: tuple[Json, ...]

    @property
    def finished(self) -> list[Json]:
        """Results of runs that came to their end."""
        return [run for run in self.runs if run["status"] == FINISHED]

    @property
    def diverged(self) -> list[Json]:
        """Results of runs that did not."""
        return [run for run in self.runs if run["status"] != FINISHED]

    def final_losses(self) -> FloatArray:
        """Nats per token on the test rows after the last step, or their mean reward, of each finished run."""
        found = [final_value(run) for run in self.finished if run.get("test")]
        return np.array(found, dtype=np.float64)

    def curves(self, domain: str | None = None) -> tuple[FloatArray, FloatArray] | None:
        """(tokens of shape (P,), losses or rewards of shape (runs, P)) of the finished runs; None without any.

        Args:
            domain: whose; None takes that of all rows.
        """
        found = [(run["curve"], run["curve"].get(measure_of(run))) for run in self.finished if run.get("curve")]
        if domain is not None:
            found = [(curve, (curve.get("domains") or {}).get(domain)) for curve, _ in found]
        known = [(curve["tokens"], values) for curve, values in found if values]
        if not known:
            return None
        shortest = min(len(values) for _, values in known)
        losses = np.array([_floats(values[:shortest]) for _, values in known])
        return np.mean([_floats(tokens[:shortest]) for tokens, _ in known], axis=0), losses

    def mean(self, *keys: str) -> float | None:
        """Mean over finished runs of the number that lies below `keys`; None where none has it."""
        found = []
        for run in self.finished:
            value: Any = run
            for key in keys:
                value = value.get(key) if isinstance(value, Mapping) else None
            if value is not None:
                found.append(float(value))
        return float(np.mean(found)) if found else None


@dataclass(frozen=True)
class CompareFacts:
    """What the page of a comparison shows.

    Args:
        folder: of the comparison.
        settings: compare.json.
        arms: the recipes first, as they were named.
        verdict: verdict.json; None while there is none.
        damaged: files that the page goes without, in sentences.
    """

    folder: Path
    settings: Json
    arms: tuple[ArmFacts, ...]
    verdict: Json | None
    damaged: tuple[str, ...] = ()

    @property
    def measure(self) -> str:
        """What the test rows say: loss, or reward."""
        return measure_of(self.settings)

    @property
    def by_reward(self) -> bool:
        """Its arms are trained by reward."""
        return self.measure == REWARD

    @property
    def n_planned(self) -> int:
        """Runs that were asked for."""
        return len(self.arms) * len(self.settings["seeds"])

    @property
    def n_done(self) -> int:
        """Runs that are there."""
        return sum(len(arm.runs) for arm in self.arms)

    @property
    def finished(self) -> bool:
        """Nothing is left to wait for."""
        return self.judged and self.n_done >= self.n_planned

    @property
    def judged(self) -> bool:
        """There is a verdict, and it is on the arms and seeds that are asked for now."""
        if self.verdict is None:
            return False
        runs = {(arm.name, run["seed"]) for arm in self.arms for run in arm.finished}
        seeds = {seed for name, seed in runs if name == self.baseline}
        arms = {arm.name for arm in self.arms if arm.runs} - {self.baseline}
        return seeds == set(self.verdict["seeds"]) and arms == set(self.judgements)

    @property
    def baseline(self) -> str:
        """Name of the arm that all are compared with."""
        return next((arm.name for arm in self.arms if arm.kind == BASELINE), "random")

    @property
    def judgements(self) -> Mapping[str, Json]:
        """Arm → what the verdict says of its end."""
        return {} if self.verdict is None else self.verdict["judgements"]

    @property
    def audit(self) -> tuple[int, int]:
        """(steps checked, steps that trained the planned rows) over all runs."""
        audits = [run["audit"] for arm in self.arms for run in arm.runs if run.get("audit")]
        return sum(one["checked"] for one in audits), sum(one["passed"] for one in audits)

    @property
    def weights_audit(self) -> tuple[int, int]:
        """(steps checked, steps that multiplied the planned weights) over the runs of arms that weigh rows."""
        audits = [run["weights_audit"] for arm in self.arms for run in arm.runs if "weights_audit" in run]
        return sum(checked for checked, _ in audits), sum(passed for _, passed in audits)


def read_comparison(folder: Path) -> CompareFacts:
    """What a comparison left behind.

    Raises:
        DataError: no comparison is there, one of its files is damaged or of another format, or no run is done yet.
    """
    if not (folder / COMPARISON).is_file():
        raise DataError(
            f"`comparison` must be a folder with {COMPARISON}, got {str(folder)!r} without. Give the folder that "
            "campus-tune compare wrote into."
        )
    settings = _read(folder / COMPARISON, shapes.COMPARISON)
    arms = []
    for name, arm in settings["arms"].items():
        paths = [folder / "runs" / name / f"seed-{seed}" / RESULT for seed in settings["seeds"]]
        runs = tuple(_read(path, shapes.RESULT) for path in paths if path.is_file())
        arms.append(ArmFacts(name, arm["kind"], arm.get("campus") or {}, runs))
    if not any(arm.runs for arm in arms):
        raise DataError(
            f"`{folder}` must hold the result of a run, got none yet. Wait for the first one, or start the comparison "
            "again: it goes on where it stopped."
        )
    order = {RECIPE: 0, "plus": 2, "control": 3}
    sorted_arms = tuple(sorted(arms, key=lambda arm: order.get(arm.kind, 1)))
    verdict = _read(folder / VERDICT, shapes.VERDICT) if (folder / VERDICT).is_file() else None
    damaged = add_rates(folder, [run for arm in arms for run in arm.runs])
    return CompareFacts(folder, settings, sorted_arms, verdict, tuple(damaged))


def _read(path: Path, shape: Json) -> Json:
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"`{path}` must be whole JSON, got {error}. Delete it and start the comparison again: it makes what is "
            "missing."
        ) from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise DataError(
            f"`{path}` must be of format {FORMAT}, got {found!r}. Read it with the campus_tune that wrote it."
        )
    if problem := misshapen(content, shape):
        raise DataError(
            f"`{path}` must be as a comparison writes it, got another shape: {problem}. Delete it and start the "
            "comparison again: it makes what is missing."
        )
    return dict(content)


def final_value(run: Json) -> float:
    """The loss of a run's test rows at its end, nats per token, or their mean reward.

    Args:
        run: a result that has `test`.
    """
    test = run["test"]
    values = test[measure_of(run)]
    return float(sum(values) / (sum(test["tokens"]) if "tokens" in test else len(values)))


def _floats(values: list[float | None]) -> FloatArray:
    """As an array; null is NaN."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
