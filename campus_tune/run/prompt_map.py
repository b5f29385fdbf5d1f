"""The map of the prompts: what a run's answers have shown of each of them, made when the run is over.

It is folded from the files of the stages, so a run that was killed and resumed has the same map. Counts are plain ones:
what prompts are drawn by forgets old answers, the map does not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.method.pass_rates import passes_at
from campus_tune.run.answer_groups import FOLDER, AnswerGroups, file_of_stage, read_groups
from campus_tune.scores.cache import write_columns
from campus_tune.words.files import atomic_write
from campus_tune.words.types import FloatArray, IntArray, Json
from campus_tune.words.wording import cut

Texts: TypeAlias = Callable[[Sequence[int]], Sequence[str]]

FILE, EXAMPLES = "prompt_map.parquet", "prompt_examples.jsonl"  # in the run's
# in the sequence of the page; a prompt of several is of the first of them that fits
CONTRADICTS, NEVER_DRAWN, NOT_SCORED, ALWAYS, NEVER, MIDDLE = (
    "contradicts_itself", "never_drawn", "not_scored", "always_passed", "never_passed", "middle",
)  # fmt: skip
PROMPT_REGIONS = (MIDDLE, ALWAYS, NEVER, CONTRADICTS, NOT_SCORED, NEVER_DRAWN)
IN_WORDS = {
    MIDDLE: "passed sometimes", ALWAYS: "always passed", NEVER: "never passed", NOT_SCORED: "not scored",
    NEVER_DRAWN: "never drawn",
}  # fmt: skip
HARDEST, EASIEST = "hardest", "easiest"  # sides of the examples, beside `CONTRADICTS`
N_SHOWN = 10  # of each side
LONGEST, TAIL = 600, 160  # characters of a text that is kept, and how many of them are of its end


@dataclass(frozen=True, eq=False)
class PromptMap:
    """What is known of each of N prompts; shapes are (N,).

    Args:
        at: the weighted reward from which on an answer passes.
        domains: of the prompts.
        visits: groups that were generated for it.
        flat: of them, those without a gradient.
        tries: answers that were scored.
        passes: of them, those that passed.
        reward: mean of their rewards, NaN without one.
        first: share that passed in its first group with a scored answer, NaN without one.
        last: the same in its last one.
        generation: that it was drawn in last, −1 for one that never was.
        contradicting: groups in which the same answer earned different rewards.
        predicted: the pass rate that was expected of it at the run's end, NaN where nothing was.
    """

    at: float
    domains: Domains
    visits: IntArray
    flat: IntArray
    tries: IntArray
    passes: IntArray
    reward: FloatArray
    first: FloatArray
    last: FloatArray
    generation: IntArray
    contradicting: IntArray
    predicted: FloatArray

    @staticmethod
    def of(
        stages: Iterable[AnswerGroups], domains: Domains, *, n_rows: int, at: float, predicted: FloatArray | None = None
    ) -> PromptMap:
        """The map of all prompts.

        Args:
            stages: groups of each stage, in their sequence.
            domains: of the prompts.
            n_rows: prompts of the training set.
            at: the weighted reward from which on an answer passes.
            predicted: the pass rate that is expected of each, shape (N,).
        """
        counts = {
            name: np.zeros(n_rows, dtype=np.int64) for name in ("visits", "flat", "tries", "passes", "contradicting")
        }
        sums, first, last = np.zeros(n_rows), np.full(n_rows, np.nan), np.full(n_rows, np.nan)
        generation = np.full(n_rows, -1, dtype=np.int64)
        for groups in stages:
            rows, tried = groups.rows, groups.tried
            n_tried, passed = tried.sum(axis=1), passes_at(groups.rewards, at).sum(axis=1)
            added = {"visits": 1, "flat": groups.flat, "tries": n_tried, "passes": passed}
            for name, more in (added | {"contradicting": groups.contradicting}).items():
                np.add.at(counts[name], rows, more)
            np.add.at(sums, rows, np.where(tried, groups.rewards, 0.0).sum(axis=1))
            scored = n_tried > 0
            rates, of = passed[scored] / n_tried[scored], rows[scored]
            last[of] = rates  # the last of a prompt's groups stays
            fresh = np.isnan(first[of])
            first[of[fresh][::-1]] = rates[fresh][::-1]  # the first of them stays
            generation[rows] = groups.generation
        with np.errstate(invalid="ignore", divide="ignore"):
            reward = sums / np.where(counts["tries"], counts["tries"], np.nan)
        expected = np.full(n_rows, np.nan) if predicted is None else np.asarray(predicted, dtype=np.float64)
        return PromptMap(
            at, domains, reward=reward, first=first, last=last, generation=generation, predicted=expected, **counts
        )

    @property
    def pass_rate(self) -> FloatArray:
        """Share of the scored answers that passed, NaN without one, shape (N,)."""
        return share_of(self.passes, self.tries)

    @property
    def regions(self) -> IntArray:
        """Of each prompt a place in `PROMPT_REGIONS`, shape (N,)."""
        fits = {
            CONTRADICTS: self.contradicting > 0,
            NEVER_DRAWN: self.visits == 0,
            NOT_SCORED: self.tries == 0,
            ALWAYS: self.passes == self.tries,
            NEVER: self.passes == 0,
        }
        places = [PROMPT_REGIONS.index(name) for name in fits]
        return np.select(list(fits.values()), places, PROMPT_REGIONS.index(MIDDLE))

    def columns(self) -> dict[str, Any]:
        """The table, a line for each prompt."""
        names, codes = np.array(self.domains.names, dtype=object), self.domains.codes
        return {
            "row": np.arange(len(self.visits)),
            **({} if codes is None else {"domain": names[codes]}),
            "region": np.array(PROMPT_REGIONS, dtype=object)[self.regions],
            "visits": self.visits,
            "without_gradient": self.flat,
            "tries": self.tries,
            "pass_rate": self.pass_rate,
            "mean_reward": self.reward,
            "first_pass_rate": self.first,
            "last_pass_rate": self.last,
            "last_generation": self.generation,
            "contradicting": self.contradicting,
            "predicted": self.predicted,
        }

    def record(self) -> Json:
        """What the ledger says of it."""
        regions = self.regions
        counts = np.bincount(regions, minlength=len(PROMPT_REGIONS)).tolist()
        found = dict(zip(PROMPT_REGIONS, counts, strict=True))
        return {
            "rows": len(regions),
            "at": self.at,
            "regions": {name: n for name, n in found.items() if n},
            "never_drawn": found[NEVER_DRAWN],
            "by_domain": self.by_domain(),
            "sentence": sentence(found),
        }

    def by_domain(self) -> Json:
        """Domain → its prompts, those never drawn, and the pass rate of its answers."""
        codes, names = self.domains.codes, self.domains.names
        if codes is None:
            return {}
        tries, passes = (np.bincount(codes, of, len(names)) for of in (self.tries, self.passes))
        rates, never = share_of(passes, tries), np.bincount(codes[self.visits == 0], minlength=len(names))
        return {
            name: {
                "rows": int(n),
                "never_drawn": int(never[code]),
                "pass_rate": float(rates[code]) if tries[code] else None,
            }
            for code, (name, n) in enumerate(self.domains.sizes().items())
        }

    def examples(self, n: int = N_SHOWN) -> dict[str, list[int]]:
        """Prompts for a person to look at, by side: the hardest, the easiest, those whose reward contradicts itself.

        Of those that always or never passed, those come first that were tried most often; no prompt is of two sides.

        Args:
            n: of each side, at most.
        """
        scored = np.flatnonzero((self.tries > 0) & (self.contradicting == 0))
        rate, tries, reward = self.pass_rate[scored], self.tries[scored], self.reward[scored]
        hard, easy = np.lexsort((-tries, reward, rate)), np.lexsort((-tries, -reward, -rate))
        n_sides = min(n, len(scored) // 2)
        against = np.flatnonzero(self.contradicting)
        often = against[np.argsort(-self.contradicting[against], kind="stable")]
        return {
            HARDEST: scored[hard[:n_sides]].tolist(),
            EASIEST: scored[easy[:n_sides]].tolist(),
            CONTRADICTS: often[:n].tolist(),
        }


def share_of(part: IntArray | FloatArray, whole: IntArray | FloatArray) -> FloatArray:
    """Each part of its whole, NaN where there is nothing of it."""
    share: FloatArray = np.full(len(whole), np.nan)
    np.divide(part, whole, out=share, where=whole > 0)
    return share


def sentence(counts: Json) -> str:
    """The map in one line.

    Args:
        counts: region → prompts.

    >>> print(sentence({"middle": 3, "always_passed": 2, "never_drawn": 1, "contradicts_itself": 1}))
    7 prompts: 3 passed sometimes, 2 always passed, 1 never drawn; 1 has a reward that contradicts itself
    """
    parts = [f"{counts[name]:,} {said}" for name, said in IN_WORDS.items() if counts.get(name)]
    against = counts.get(CONTRADICTS, 0)
    has = "has a reward that contradicts itself" if against == 1 else "have rewards that contradict themselves"
    behind = f"; {against:,} {has}" if against else ""
    return f"{sum(counts.values()):,} prompts: {', '.join(parts) or 'none without a contradiction'}{behind}"


def make_prompt_map(
    folder: Path,
    stages: Sequence[int],
    domains: Domains,
    *,
    n_rows: int,
    at: float,
    texts: Texts,
    predicted: FloatArray | None = None,
) -> Json:
    """Write the map of a run that is over, and the texts that its page shows; what the ledger says of it.

    Args:
        folder: the run's `curriculum/`.
        stages: numbers of those that are over.
        domains: of the prompts.
        n_rows: prompts of the training set.
        at: the weighted reward from which on an answer passes.
        texts: what some prompts say, by their rows.
        predicted: the pass rate that is expected of each at the run's end, shape (N,).

    Raises:
        ResumeError: a stage's file is missing or damaged.
        StorageError: a file cannot be written.
    """
    paths = (folder / FOLDER / file_of_stage(stage) for stage in stages)
    found = PromptMap.of(map(read_groups, paths), domains, n_rows=n_rows, at=at, predicted=predicted)
    write_columns(folder / FILE, found.columns(), {"at": at})
    shown = found.examples()
    rows = sorted({row for side in shown.values() for row in side})
    said = dict(zip(rows, texts(rows), strict=True))
    lines = [
        {"row": row, "side": side, "text": cut(said[row], LONGEST, tail=TAIL)}
        for side, of in shown.items()
        for row in of
    ]
    atomic_write(folder / EXAMPLES, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return found.record()
