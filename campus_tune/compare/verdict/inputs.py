"""What the statistics of a comparison take: arrays and a few facts of each arm, and no files.

So the verdict can be asked of simulated runs (`eval/calibration.py`), of runs on disk (`arm_of`), and of the answers to
official tasks (values of 0 and 1, weights of 1) alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from campus_tune.words.errors import CampusError, DataError
from campus_tune.words.types import FloatArray, IntArray, Json

KINDS = ("recipe", "baseline", "control", "plus")
PRIMARY = ("recipe", "plus")  # those that the verdict is about
FINISHED = "finished"
LOSS, REWARD = "loss", "reward"  # what is measured on the test rows
GAP, GROWN = "generalisation gap", "gap grown by training"
SHARPNESS, RELATIVE, MERGED = "sharpness", "relative sharpness", "merged sharpness"
READINGS = {  # name → where a result has it
    GAP: ("gap", "value"),
    GROWN: ("gap", "grown"),
    SHARPNESS: ("sharpness", "value"),
    RELATIVE: ("sharpness", "relative"),
    MERGED: ("sharpness", "merged"),
}


@dataclass(frozen=True)
class ItemValues:
    """One number per seed and test item.

    The mean of an arm is Σ values / (S · Σ weights): sums of nats over answer tokens give nats per token, zeros and
    ones over ones give an accuracy.

    Args:
        values: what each item adds, shape (S, I); finite.
        weights: what each item counts, > 0, shape (I,).
        domain: number of each item's domain, from 0, shape (I,).
        domains: names of the domains.
        items: a name or hash of each item; empty where nobody can tell.
        higher_is_better: false for losses.
    """

    values: FloatArray
    weights: FloatArray
    domain: IntArray
    domains: tuple[str, ...]
    items: tuple[str, ...] = ()
    higher_is_better: bool = False

    def __post_init__(self) -> None:
        n = len(self.weights)
        if self.values.ndim != 2 or self.values.shape[1] != n or len(self.domain) != n or len(self.items) not in (0, n):
            raise DataError(
                f"`values` must be of shape (seeds, items), `weights`, `domain` and `items` must have one entry per "
                f"item, got {self.values.shape}, {self.weights.shape}, {self.domain.shape} and {len(self.items)}. "
                "Measure all seeds on the same items."
            )
        if not np.isfinite(self.values).all():
            raise DataError("`values` must be finite, got NaN or inf. Report such a seed as diverged.")
        if not (np.isfinite(self.weights).all() and (self.weights > 0).all()):
            raise DataError("`weights` must be positive and finite, got others. Leave out items without tokens.")
        if n and not 0 <= int(self.domain.min()) <= int(self.domain.max()) < len(self.domains):
            raise DataError(
                f"`domain` must be in 0..{len(self.domains) - 1}, got {int(self.domain.min())} to "
                f"{int(self.domain.max())}. Name all domains."
            )

    @property
    def n_items(self) -> int:
        """How many items there are."""
        return len(self.weights)

    def mean(self) -> float:
        """Mean over seeds and items."""
        return float(self.values.sum() / (len(self.values) * self.weights.sum()))

    def take(self, seeds: Sequence[int]) -> ItemValues:
        """The same of some seeds, by their place."""
        return ItemValues(
            self.values[list(seeds)], self.weights, self.domain, self.domains, self.items, self.higher_is_better
        )


@dataclass(frozen=True)
class Curve:
    """Loss on the way, of one seed of an arm.

    Args:
        tokens: trained (by reward: generated) tokens so far, rising, shape (P,).
        seconds: of training and curriculum so far, those of measuring this curve left out, shape (P,).
        loss: what falls as a run gets better: nats per token, or the mean reward with its sign turned, shape (P,).
        cost: what the curriculum cost, as a share of the training compute, ≥ 0.
        domains: the loss of each domain at the same points.
    """

    tokens: FloatArray
    seconds: FloatArray
    loss: FloatArray
    cost: float = 0.0
    domains: Mapping[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = {one.shape for one in (self.tokens, self.seconds, self.loss, *self.domains.values())}
        if len(shapes) > 1 or self.tokens.ndim != 1 or len(self.tokens) < 2:
            raise DataError(
                "a curve must have tokens, seconds and all losses at two points or more, got the shapes "
                f"{', '.join(map(str, sorted(shapes)))}. Measure it at the start and the end."
            )
        if not (np.diff(self.tokens) > 0).all():
            raise DataError("`tokens` of a curve must rise from point to point, got others. Sort its points.")

    def of(self, domain: str) -> Curve:
        """The same of one domain's loss."""
        return replace(self, loss=self.domains[domain], domains={})


@dataclass(frozen=True)
class ArmResults:
    """Everything the verdict asks of an arm. Seeds that diverged are named, and are not in the arrays.

    Args:
        name: of the recipe.
        kind: one of recipe, baseline, control, plus.
        seeds: those that finished, length S.
        end: measured after the last step, values of shape (S, I).
        trained: tokens that each seed trained, or generated, shape (S,); empty where nobody counted.
        shared: per seed, what all arms must have in common (hashes of data, settings, start weights, …); length S or 0.
        curves: one per seed, length S or 0.
        diverged: seed → why it did not finish.
        tasks: name of a task's metric → what it measured on the same seeds.
        readings: what else was read off each model at its end, NaN where it was not, shape (S,); by (name, domain), the
            domain of all rows together is None.
        measure: loss, or reward of arms that are trained by reward.
    """

    name: str
    kind: str
    seeds: tuple[int, ...]
    end: ItemValues
    trained: FloatArray = field(default_factory=lambda: np.zeros(0))
    shared: tuple[Json, ...] = ()
    curves: tuple[Curve, ...] = ()
    diverged: Mapping[int, str] = field(default_factory=dict)
    tasks: Mapping[str, ItemValues] = field(default_factory=dict)
    readings: Mapping[tuple[str, str | None], FloatArray] = field(default_factory=dict)
    measure: str = LOSS

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(f"`kind` must be one of {', '.join(KINDS)}, got {self.kind!r}. Correct arm {self.name}.")
        n = len(self.seeds)
        counts = [len(self.end.values), *(len(one.values) for one in self.tasks.values())]
        counts += [len(one) for one in (self.trained, self.shared, self.curves) if len(one)]
        counts += [len(one) for one in self.readings.values()]
        if any(count != n for count in counts):
            raise DataError(
                f"arm {self.name} must have one entry per seed in all its parts, got {n} seeds and "
                f"{', '.join(map(str, counts))} entries. Leave diverged seeds out of all of them."
            )


def arm_of(results: Sequence[Json]) -> ArmResults:
    """An arm from what its runs wrote (`result.json`, one mapping per seed), seeds in rising order.

    Raises:
        DataError: no results, results of several arms, seeds of one arm that were tested on other items, or a result in
            which something is missing or is not what a run writes.
    """
    try:
        names = {str(result["arm"]) for result in results}
        if len(names) != 1:
            raise DataError(
                f"`results` must be those of one arm, got {sorted(names) or 'none'}. Give one arm's results."
            )
        ordered = sorted(results, key=lambda result: int(result["seed"]))
        done = [result for result in ordered if result["status"] == FINISHED]
        measure = measure_of(ordered[0])
        sign = -1.0 if measure == REWARD else 1.0
        curves = []
        for result in done:
            tokens, seconds, loss = (
                np.array(result["curve"][part], dtype=np.float64) for part in ("tokens", "seconds", measure)
            )
            by_domain = {
                str(name): sign * np.array(losses, dtype=np.float64)
                for name, losses in (result["curve"].get("domains") or {}).items()
            }
            curves.append(Curve(tokens, seconds, sign * loss, float(result["cost"].get("all", 0.0)), by_domain))
        return ArmResults(
            names.pop(),
            str(ordered[0]["kind"]),
            tuple(int(result["seed"]) for result in done),
            _end_of(done, measure),
            np.array([result["tokens"] for result in done], dtype=np.float64),
            tuple(dict(result["shared"]) for result in done),
            tuple(curves),
            {int(r["seed"]): str(r["message"]) for r in ordered if r["status"] != FINISHED},
            _tasks_of(done),
            _readings_of(done),
            measure,
        )
    except CampusError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(
            f"`results` must be what the runs of a comparison wrote, got one that is not ({type(error).__name__}: "
            f"{error}). It was changed: put it back, or delete the result.json of that run, which is repeated then."
        ) from error


def measure_of(result: Json) -> str:
    """What was measured in a run, by what it wrote: loss, or reward."""
    return str(result.get("measure", LOSS))


def _end_of(done: Sequence[Json], measure: str) -> ItemValues:
    """Losses or rewards after the last step; of no seed, no items."""
    by_reward = measure == REWARD
    if not done:
        return ItemValues(np.zeros((0, 0)), np.zeros(0), np.zeros(0, dtype=np.int64), (), higher_is_better=by_reward)
    first = done[0]["test"]
    for result in done:
        for part in ("items", *(() if by_reward else ("tokens",)), "domain", "domains"):
            if result["test"][part] != first[part]:
                raise DataError(
                    f"the seeds of arm {result['arm']} must be tested on the same items, got other {part} with seed "
                    f"{result['seed']}. Run it again with the same test rows."
                )
    tokens = np.ones(len(first["items"])) if by_reward else np.array(first["tokens"], dtype=np.float64)
    counted = tokens > 0  # an answer cut to no token says nothing
    return ItemValues(
        np.array([result["test"][measure] for result in done], dtype=np.float64)[:, counted],
        tokens[counted],
        np.array(first["domain"], dtype=np.int64)[counted],
        tuple(first["domains"]),
        tuple(item for item, counts in zip(first["items"], counted, strict=True) if counts),
        by_reward,
    )


def _readings_of(done: Sequence[Json]) -> dict[tuple[str, str | None], FloatArray]:
    """What the runs' last looks found; results of earlier versions have fewer of them.

    Sharpness of an earlier version is left out: it was measured on other rows, which it does not name.
    """
    found: dict[tuple[str, str | None], list[float]] = {}
    for place, result in enumerate(done):
        for name, (look, key) in READINGS.items():
            whole = result.get(look) or {}
            whole = {} if look == "sharpness" and "rows" not in whole else whole
            for domain, one in ((None, whole), *(whole.get("domains") or {}).items()):
                if one.get(key) is not None:
                    found.setdefault((name, domain), [np.nan] * len(done))[place] = float(one[key])
    return {reading: np.array(values) for reading, values in found.items()}


def _tasks_of(done: Sequence[Json]) -> dict[str, ItemValues]:
    """Values per document of the tasks that all seeds have, on the documents that all seeds have."""
    found = [
        {f"{task}: {metric}": values for task, metrics in (result.get("evaluation") or {}).items()
         for metric, values in metrics.items()}
        for result in done
    ]  # fmt: skip
    tasks = {}
    for name in found[0] if found else ():
        if not all(name in one for one in found):
            continue
        documents = [document for document in found[0][name] if all(document in one[name] for one in found)]
        parts = [document.rpartition("/")[0] for document in documents]
        names = tuple(dict.fromkeys(parts))
        values = np.array([[one[name][document] for document in documents] for one in found], dtype=np.float64)
        number = {part: i for i, part in enumerate(names)}
        domain = np.array([number[part] for part in parts], dtype=np.int64)
        better = not any(word in name.rpartition(": ")[2] for word in ("loss", "perplexity", "nll"))
        tasks[name] = ItemValues(values, np.ones(len(documents)), domain, names, tuple(documents), better)
    return tasks
