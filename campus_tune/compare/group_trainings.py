"""Trains on sets of groups, one after another or side by side, until it is known what each group is worth.

A training on some groups is the run that `campus-tune sft` would make of a file that has no other rows: as many epochs
as the recipe says, so fewer steps of fewer rows; where it says `max_steps`, as many of them as the set's share of all
rows. Its value is minus the loss that it ends with on the test rows, over all their tokens and in each test domain. The
value of no group is that of the model as it comes, which each run measures before its first step.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from campus_tune.compare.ablation import without_domains
from campus_tune.compare.arms import Arm
from campus_tune.compare.plan import Plan
from campus_tune.compare.result_file import FINISHED
from campus_tune.compare.row_groups import RowGroups
from campus_tune.compare.task import Task
from campus_tune.compare.trainings import Makes, Trainings
from campus_tune.method.shapley import Coalition, CoalitionDesign, CoalitionWalk
from campus_tune.words.errors import DivergedError, RecipeError
from campus_tune.words.progress import on_the_way
from campus_tune.words.types import FloatArray, Json
from campus_tune.words.wording import duration, harmless


class GroupTrainings:
    """The trainings behind the values of some groups.

    Args:
        plan: what they share; its arm is what is trained.
        groups: of rows.
        design: which sets of them are trained.
        say: told every line.
        check: called after each training; raises what shall end it there.

    Raises:
        RecipeError: the recipe gives some group no share when it is alone.
    """

    def __init__(
        self,
        plan: Plan,
        groups: RowGroups,
        design: CoalitionDesign,
        say: Callable[[str], object] = on_the_way,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        self.plan, self.groups, self.design, self.say = plan, groups, design, say
        self.known: dict[Coalition, FloatArray] = {}
        self.domains: list[str] = []  # of the test rows, as the first result has them
        self.trainings = Trainings(plan, check)
        self.n_kept = 0  # trainings that were there already
        self._steps = int(plan.parsed(design.seeds[0], plan.out)[0][1].max_steps)
        self._rows_made = 0  # of the trainings that this command has made
        self._began = time.perf_counter()
        for group in range(design.groups):  # what can be trained alone can be trained with others
            self.task(1 << group, design.seeds[0])

    @property
    def outcomes(self) -> list[Coalition]:
        """Trainings that are finished."""
        return [key for key in self.known if key[0]]

    @property
    def n_runs(self) -> int:
        """Trainings that are to be made, at most."""
        return self.design.most

    def cost(self) -> str:
        """How much there is to train, in one sentence."""
        most, seeds = self.design.most, len(self.design.seeds)
        which = f"every set of them: {most}"
        if not self.design.is_exact:
            n = (most - seeds) // (self.design.groups - 1)
            which = f"about {n} drawn {'sequence' if n == 1 else 'sequences'} of them: at most {most}"
        times = seeds + (most - seeds) / 2  # a set has half of the groups, on average
        return (
            f"{self.design.groups} groups, {seeds} {'seed' if seeds == 1 else 'seeds'}, {which} trainings, together "
            f"about as long as {times:.0f} on all rows"
        )

    def train(self, bench: Makes | None) -> CoalitionWalk:
        """Make all trainings that are missing; what they say.

        Args:
            bench: of this process; None is enough where trainings have processes of their own.

        Raises:
            CampusError: a training cannot be made, or one that is there is another; finished ones are kept.
            DivergedError: one has no value.
        """
        settings = self.plan.settings
        at_once = None if self.design.is_exact else len(settings.devices or ()) or settings.jobs
        while (walk := self.design.walk(self.known, at_once)).wanted:
            missing = []
            for key in walk.wanted:
                task = self.task(*key)
                outcome = self.trainings.there(task)
                if outcome is None:
                    missing.append(task)
                else:
                    self._take(key[0], outcome)
                    self.n_kept += 1
            if missing and self.n_kept and not self._rows_made:
                self.say(f"{self.n_kept} trainings are there already and are kept")
            coalitions = {self.groups.folder(coalition): coalition for coalition, _ in walk.wanted}
            for task, outcome in self.trainings.make(missing, bench):
                self._take(coalitions[task.name], outcome)
                self._tell(coalitions[task.name], outcome)
        return walk

    def task(self, coalition: int, seed: int) -> Task:
        """The run of a set of groups with a seed.

        Raises:
            RecipeError: the recipe gives these groups no share.
        """
        arm, groups = self.plan.arms[0], self.groups
        share = groups.rows_of(coalition) / groups.rows_of(groups.all)
        steps = max(1, round(share * self._steps)) if self._steps > 0 else None
        try:
            own = without_domains(arm.campus, groups.without(coalition))
        except RecipeError as error:
            raise RecipeError(
                f"`--groups` must have a recipe that can be trained on {groups.named(coalition)} alone, got one whose "
                "shares give it no rows. Write --shuffle, which trains plain shuffling instead, or give it a share."
            ) from error
        return Task(Arm(groups.folder(coalition), "recipe", own), seed, steps, only=groups.subset(coalition))

    def close(self) -> None:
        """End all processes, with the trainings in them that nobody waits for any more."""
        self.trainings.close()

    def _take(self, coalition: int, outcome: Json) -> None:
        """What a result says of its set, and of no group at all."""
        seed, test, curve = outcome["seed"], outcome["test"], outcome["curve"]
        if outcome["status"] != FINISHED or test is None:
            raise DivergedError(
                f"each set of groups must have a loss, got none of {self.groups.named(coalition)} with seed {seed}: "
                f"its training diverged ({outcome['message']}). Lower learning_rate, and name another --out: all sets "
                "are trained alike."
            )
        self.domains = list(test["domains"])
        tokens, loss, codes = (np.asarray(test[name], dtype=np.float64) for name in ("tokens", "loss", "domain"))
        of = [np.ones(len(codes), dtype=np.bool_), *(codes == code for code in range(len(self.domains)))]
        self.known[coalition, seed] = -np.array([loss[some].sum() / tokens[some].sum() for some in of])
        before = [curve["loss"][0], *(curve["domains"][name][0] for name in self.domains)]
        self.known[0, seed] = -np.array(before, dtype=np.float64)

    def _tell(self, coalition: int, outcome: Json) -> None:
        """A line on a training that was made just now."""
        self._rows_made += self.groups.rows_of(coalition)
        pace = (time.perf_counter() - self._began) / self._rows_made
        left = self.rows_left * pace
        more = f"; about {duration(left)} left" if left else ""
        loss, at_most = outcome["curve"]["loss"], "" if self.design.is_exact else "at most "
        self.say(
            f"training {len(self.outcomes)} of {at_most}{self.n_runs}: {harmless(self.groups.named(coalition))}, seed "
            f"{outcome['seed']}: loss {loss[0]:.4f} → {loss[-1]:.4f}, {duration(outcome['seconds']['training'])}{more}"
        )

    @property
    def rows_left(self) -> float:
        """Rows of the trainings that are still to be made, about."""
        every = self.groups.rows_of(self.groups.all)
        if not self.design.is_exact:
            return (self.design.most - len(self.outcomes)) * every / 2
        done = sum(self.groups.rows_of(coalition) for coalition, _ in self.known)
        return float(len(self.design.seeds) * (every << self.design.groups - 1) - done)
