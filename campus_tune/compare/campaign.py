"""All runs of a comparison: which are there, which are to be made, on how many processes; then the verdict.

The baseline comes first, with all its seeds: they are the pilot that says, before anything else is trained, which
effect the comparison could find. Finished runs are kept whatever happens; the same command goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from campus_tune.compare.arms import RECIPE, Arm
from campus_tune.compare.folder import refuse_other_block, write_about
from campus_tune.compare.plan import Plan
from campus_tune.compare.recorded import OF_RUN
from campus_tune.compare.result_file import DIVERGED, read_run_result
from campus_tune.compare.task import Task
from campus_tune.compare.trainings import Makes, Trainings
from campus_tune.compare.verdict import ArmResults, arm_of, measure_of
from campus_tune.words.progress import on_the_way
from campus_tune.words.types import Json
from campus_tune.words.wording import duration

if TYPE_CHECKING:
    from campus_tune.data.held_out import HeldOut
    from campus_tune.data.held_out_prompts import HeldOutPrompts


class Campaign:
    """The runs of one comparison.

    Args:
        plan: what is compared.
        command: that started it.
        say: told every line.
        pilot: only the baseline is trained.
        check: called after each run; raises what shall end the comparison there.
    """

    def __init__(
        self,
        plan: Plan,
        command: str,
        say: Callable[[str], object] = on_the_way,
        *,
        pilot: bool = False,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        self.plan, self.command, self.say, self.pilot = plan, command, say, pilot
        self.outcomes: dict[tuple[str, int], Json] = {}
        self._made = 0
        self.trainings = Trainings(plan, check)
        self._began = time.perf_counter()

    def begin(self, test: HeldOut | HeldOutPrompts) -> None:
        """Write down what is compared, and find what is there already.

        Raises:
            RecipeError: the folder holds a comparison of other settings, or a run of another recipe, which are named.
            DataError: a result in it cannot be read.
        """
        write_about(self.plan, test, self.command)
        for arm in self._asked():  # the recipe before what awaits its run: without it such a run is none
            for seed in self.plan.settings.seeds:
                outcome = read_run_result(self.plan.out, arm.name, seed)
                if outcome is not None and not (arm.awaits and (RECIPE, seed) not in self.outcomes):
                    refuse_other_block(arm, seed, outcome, self.plan.out, self._recorded_for(arm, seed))
                    self.outcomes[arm.name, seed] = outcome
        if self.outcomes:
            self.say(f"{len(self.outcomes)} of {self.n_runs} runs are there already and are kept")

    @property
    def n_runs(self) -> int:
        """Runs of the whole comparison, or of its pilot."""
        return len(self._asked()) * len(self.plan.settings.seeds)

    def _asked(self) -> tuple[Arm, ...]:
        """The arms that are trained."""
        return (self.plan.baseline,) if self.pilot else self.plan.arms

    def train(self, kinds: Sequence[str], bench: Makes | None) -> None:
        """Make all missing runs of the arms of some kinds, one after the other on this process's bench or side by side.

        An arm that awaits the recipe's runs is left for a later call, if these are still to be made.

        Raises:
            CampusError: a run cannot be made; those that are finished are kept.
        """
        tasks = [
            Task(
                arm.name,
                seed,
                self._steps_of_plus(seed) if arm.kind == "plus" else None,
                self._recorded_for(arm, seed),
            )
            for kind in kinds
            for seed in self.plan.settings.seeds
            for arm in self.plan.arms
            if arm.kind == kind and (arm.name, seed) not in self.outcomes
            if not arm.awaits or (RECIPE, seed) in self.outcomes
        ]
        for _, outcome in self.trainings.make(tasks, bench):
            self.outcomes[outcome["arm"], outcome["seed"]] = outcome
            self._made += 1
            spent = time.perf_counter() - self._began
            left = (self.n_runs - len(self.outcomes)) * spent / self._made
            more = f"; about {duration(left)} left" if left else ""
            if outcome["status"] == DIVERGED:
                ended = f"diverged: {outcome['message']}"
            else:
                measure = measure_of(outcome)
                ended = f"{measure} {outcome['curve'][measure][0]:.4f} → {outcome['curve'][measure][-1]:.4f}"
            took = duration(sum(outcome["seconds"][what] for what in ("training", "curriculum", "curve")))
            audit = outcome["audit"] or {"passed": 0, "checked": 0}
            self.say(
                f"run {len(self.outcomes)} of {self.n_runs}: {outcome['arm']}, seed {outcome['seed']}: {ended}, cost "
                f"{outcome['cost']['all']:.1%}, audit {audit['passed']} of {audit['checked']}, {took}{more}"
            )

    def close(self) -> None:
        """End all processes, with the runs in them that nobody waits for any more."""
        self.trainings.close()

    def results(self, name: str) -> list[Json]:
        """The results of one arm, one per seed."""
        return [self.outcomes[name, seed] for seed in self.plan.settings.seeds if (name, seed) in self.outcomes]

    def arms(self) -> list[ArmResults]:
        """All arms that have results, as the statistics take them."""
        return [arm_of(found) for arm in self.plan.arms if (found := self.results(arm.name))]

    def _recorded_for(self, arm: Arm, seed: int) -> Json | None:
        """What an arm has of the recipe's run with this seed; None for those that await none."""
        return OF_RUN[arm.name].read(self.outcomes[RECIPE, seed]["choices"], seed) if arm.awaits else None

    def _steps_of_plus(self, seed: int) -> int:
        """Steps that the recipe's whole bill would have paid for, with this seed; without `recipe`, the first arm's."""
        recipes = [arm for arm in self.plan.arms if arm.kind == "recipe"]
        recipe = next((arm for arm in recipes if arm.name == RECIPE), recipes[0])
        base, bill = self.outcomes[self.plan.baseline.name, seed], self.outcomes[recipe.name, seed]["cost"]["all"]
        return round(int(base["shared"]["steps"]) * (1 + float(bill)))
