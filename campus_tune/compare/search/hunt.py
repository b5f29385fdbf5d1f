"""The trials of a search: the recipe as it stands first, then points of the space, rung by rung.

    the recipe     as it stands, with three seeds or more: what trials are compared with, and how much seeds differ
    trials         each is one change of the recipe, with the same seeds; ranked by their loss on the search rows
    the best       what `rerun` trains anew

Probes steer each run, search rows rank the runs, test rows judge what was ranked first: three sets of rows, none of
which has a row of another. Seeds are not those of the comparison that judges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from campus_tune.compare.arms import RECIPE, Arm
from campus_tune.compare.folder import refuse_other_block
from campus_tune.compare.legs import forget, read_leg
from campus_tune.compare.plan import Plan
from campus_tune.compare.result_file import FINISHED
from campus_tune.compare.search.halving import SHARES, Ladder, finalists, make_ladder, next_legs
from campus_tune.compare.search.record import SearchRecord
from campus_tune.compare.search.sampler import RANDOM, TPE, Tried, ask
from campus_tune.compare.search.settings import SearchSettings
from campus_tune.compare.search.space import Point, Space
from campus_tune.compare.search.winner import Standing, luck, stand
from campus_tune.compare.settings import CompareSettings
from campus_tune.compare.task import Leg, Task
from campus_tune.compare.trainings import Makes, Trainings
from campus_tune.compare.verdict import from_pilot
from campus_tune.compare.verdict.inputs import ItemValues
from campus_tune.compare.verdict.sentences import percent
from campus_tune.data.overlap import overlap
from campus_tune.data.plain import full_texts
from campus_tune.words.errors import CampusError, DataError
from campus_tune.words.files import read_table
from campus_tune.words.progress import on_the_way
from campus_tune.words.types import Json
from campus_tune.words.wording import cut, listed

RECIPE_SEEDS = 3  # of the recipe as it stands, at least: fewer hardly know how much seeds differ
FIRST_SEED = 1000  # of the trials; comparisons count theirs from 0
WHOLE = Leg(marks=SHARES)
SHOWN = 6  # things in a message
LONGEST = 200  # characters of a trial's changes in a line


class Hunt:
    """The trials of one search.

    Args:
        plan: of them; its test rows are the search rows.
        space: that is searched.
        settings: of the search.
        trainings: makes the runs.
        bench: of this process.
        record: `search.json`.
        n_test: rows that judge the best trial.
        say: told every line.
    """

    def __init__(
        self,
        plan: Plan,
        space: Space,
        settings: SearchSettings,
        trainings: Trainings,
        bench: Makes | None,
        record: SearchRecord,
        n_test: int,
        say: Callable[[str], object] = on_the_way,
    ) -> None:
        self.n_test = n_test
        self.plan, self.space, self.settings = plan, space, settings
        self.trainings, self.bench, self.record, self.say = trainings, bench, record, say
        self.points: list[Point] = []  # trial 1 is the first
        self.ladder = Ladder((1,), "")
        self.recipe: list[Json] = []  # its results, seed by seed
        self.losses: dict[tuple[int, int], float] = {}  # (trial, rung) → mean over seeds; infinite where one is none
        self.messages: dict[int, str] = {}  # trial → why it did not get on

    @property
    def seeds(self) -> list[int]:
        """Of the recipe; the first ones are those of the trials too."""
        return search_seeds(self.plan.settings.seeds, max(RECIPE_SEEDS, self.settings.seeds))

    @property
    def trials(self) -> range:
        """Their numbers."""
        return range(1, len(self.points) + 1)

    def run(self) -> Standing:
        """All runs that are missing; where the best trial stands.

        Raises:
            CampusError: the recipe as it stands cannot be trained, or no trial can.
        """
        self.points = self.record.begin()[: self.settings.trials]
        self.train_recipe()
        self.draw()
        n_rungs = len(self.ladder.steps)
        while legs := next_legs(self.losses, self.trials, n_rungs):
            self._train(legs)
            self._tidy()
        last = finalists(self.losses, self.trials, n_rungs)
        if not last:
            raise CampusError(f"no trial was trained to the end: {self._why()}")
        losses = [run["curve"]["loss"][-1] for run in self.recipe]
        standing = stand(last, losses, n_trials=len(self.points), seeds=self.settings.seeds)
        self._write(standing=standing.to_mapping())
        return standing

    def changes(self, trial: int) -> Json:
        """What a trial has changed of the recipe."""
        return self.space.changes(self.points[trial - 1])

    def arm(self, trial: int) -> Arm:
        """A trial as an arm."""
        return Arm(name_of(trial), "recipe", self.space.block_of(self.points[trial - 1]))

    # -- the recipe --------------------------------------------------------------------------------------------------

    def train_recipe(self) -> None:
        """With all its seeds; what they say is said before a trial is trained.

        Raises:
            CampusError: it cannot be trained.
        """
        arm = Arm(RECIPE, "recipe", self.space.block)
        for _, outcome in self._results([Task(arm, seed, leg=WHOLE) for seed in self.seeds]):
            if outcome["status"] != FINISHED:
                raise CampusError(
                    f"the recipe as it stands must be one that can be trained, got a run with seed {outcome['seed']} "
                    f"that {outcome['status']}: {outcome['message']}. Mend the recipe, then search."
                )
            self.recipe.append(outcome)
            loss = outcome["curve"]["loss"][-1]
            self.say(f"the recipe as it stands, seed {outcome['seed']}: loss {loss:.4f}")
        self.recipe.sort(key=lambda outcome: self.seeds.index(outcome["seed"]))
        self.ladder = make_ladder(trained_with(self.plan), int(self.recipe[0]["steps"]))
        losses = [run["curve"]["loss"][-1] for run in self.recipe]
        spread = float(np.std(losses, ddof=1)) / float(np.mean(losses))
        n, each = min(self.settings.trials, self.space.n_points), self.settings.seeds
        better = percent(luck(n) * spread / math.sqrt(each))
        self.say(
            f"its seeds differ by {percent(spread)}: where nothing matters, the best of {n} trial{'s' * (n > 1)} of "
            f"{each} seed{'s' * (each > 1)} will look {better} better than it. Less than that is "
            "noise, whatever is ranked first"
        )
        judging = self.plan.settings
        if len(judging.seeds) > 1:
            power = from_pilot(
                pilot_of(self.recipe), seeds=len(judging.seeds), effect=judging.effect, items=self.n_test
            )
            self.say(f"the comparison that judges the best one: {power.sentence}")

    # -- trials ------------------------------------------------------------------------------------------------------

    def draw(self) -> None:
        """Draw all trials and train them up to the first rung; a sampler that learns sees each batch before the next.

        Raises:
            CampusError: none of them can be trained.
        """
        while True:
            missing = [(trial, 0) for trial in self.trials if (trial, 0) not in self.losses]
            if missing:
                self._train(missing)
                continue
            left = self.settings.trials - len(self.points)
            known = [self.losses[trial, 0] for trial in self.trials]
            tried = [Tried(point, finite(loss)) for point, loss in zip(self.points, known, strict=True)]
            wide = len(self.trainings.processes.plans) if self.trainings.processes else 1
            wanted = min(left, wide) if self.settings.sampler == TPE else left
            kind = self.settings.sampler or RANDOM
            new = ask(kind, self.space, tried, wanted, seed=self.settings.seed) if wanted > 0 else []
            if not new:
                break
            self.points += new
            self._write()
        if len(self.points) < self.settings.trials:
            self.say(f"the space has {len(self.points)} recipes besides the one that stands there, and all are tried")
        if not any(math.isfinite(loss) for loss in self.losses.values()):
            raise CampusError(f"every trial failed: {self._why()}")
        self._tidy()

    def _train(self, legs: Sequence[tuple[int, int]]) -> None:
        """Legs of one rung, with all their seeds."""
        rung, steps = legs[0][1], self.ladder.steps
        until = None if rung + 1 == len(steps) else steps[rung]
        arms = {trial: self.arm(trial) for trial, _ in legs}
        by_name = {arm.name: trial for trial, arm in arms.items()}
        leg = Leg(until, steps[rung - 1] if rung else 0)
        seeds = self.seeds[: self.settings.seeds]
        found: dict[int, dict[int, float]] = {trial: {} for trial in arms}  # trial → seed → loss
        over = dict.fromkeys(arms, True)
        for task, outcome in self._results([Task(arm, seed, leg=leg) for arm in arms.values() for seed in seeds]):
            trial = by_name[task.name]
            ended = outcome["status"] == FINISHED
            found[trial][task.seed] = outcome["curve"]["loss"][-1] if ended else math.inf
            over[trial] &= ended and outcome["over"]
            said = f"loss {found[trial][task.seed]:.4f}" if ended else f"{outcome['status']}: {outcome['message']}"
            if not ended:
                self.messages[trial] = f"{outcome['status']}: {outcome['message']}"
            of = f"trial {trial} of {self.settings.trials}, seed {task.seed}, step {steps[rung]} of {steps[-1]}"
            self.say(f"{of}: {said} ({shown_changes(self.changes(trial))})")
            if len(found[trial]) == len(seeds):
                loss = float(np.mean([found[trial][seed] for seed in seeds]))
                last = len(steps) if over[trial] else rung + 1  # a rule has ended all its seeds: so it stays
                self.losses |= {(trial, at): loss for at in range(rung, last)}
                self._write()

    def _results(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Json]]:
        """Each leg with its result: those that are there first, then the others as they end."""
        missing = []
        for task in tasks:
            assert task.leg is not None
            assert isinstance(task.arm, Arm)
            outcome = read_leg(self.plan.out, task.name, task.seed, task.leg)
            if outcome is None:
                missing.append(task)
            else:
                refuse_other_block(task.arm, task.seed, outcome, self.plan.out)
                yield task, outcome
        yield from self.trainings.make(missing, self.bench)

    def _tidy(self) -> None:
        """Behind a rung: say who goes on; checkpoints from which nothing goes on any more are removed."""
        steps = self.ladder.steps
        going = dict(next_legs(self.losses, self.trials, len(steps)))  # trial → its next rung
        if going:
            before = min(going.values()) - 1
            n = sum((trial, before) in self.losses for trial in self.trials)
            self.say(f"behind step {steps[before]} of {steps[-1]}: {len(going)} of {n} trials go on")
        for trial in self.trials:
            if trial not in going:
                for seed in self.seeds[: self.settings.seeds]:
                    forget(self.plan.out, name_of(trial), seed)

    # -- told --------------------------------------------------------------------------------------------------------

    def _why(self) -> str:
        """Why trials failed, each reason once."""
        reasons: dict[str, list[int]] = {}
        for trial, message in sorted(self.messages.items()):
            reasons.setdefault(message.partition(" (its log")[0], []).append(trial)
        return "; ".join(
            f"{cut(reason, LONGEST)} (trial {listed(numbers, SHOWN)}; {shown_changes(self.changes(numbers[0]))})"
            for reason, numbers in list(reasons.items())[:SHOWN]
        )

    def _write(self, **more: object) -> None:
        """What is known by now, into `search.json`."""
        steps = self.ladder.steps
        self.record.write(
            ladder={"steps": list(steps), "why": self.ladder.why},
            recipe=[{"seed": run["seed"], **run["curve"]} for run in self.recipe],
            rungs=[
                spread_at(
                    step,
                    [run["curve"] for run in self.recipe],
                    [loss for (_, at), loss in self.losses.items() if at == rung],
                )
                for rung, step in enumerate(steps)
            ],
            trials=[
                {
                    "trial": trial,
                    "changes": self.changes(trial),
                    "losses": [finite(self.losses.get((trial, rung))) for rung in range(len(steps))],
                    "message": self.messages.get(trial),
                }
                for trial in self.trials
            ],
            **more,
        )


def finite(loss: float | None) -> float | None:
    """A loss; None where there is none, because it is not known or the model diverged."""
    return loss if loss is not None and math.isfinite(loss) else None


def pilot_of(runs: Sequence[Json]) -> ItemValues:
    """The held-out rows' losses at the end of several runs: how much seeds and rows differ.

    Args:
        runs: results of last legs, of one recipe with several seeds.
    """
    first = runs[0]["test"]
    tokens = np.array(first["tokens"], dtype=np.float64)
    values = np.array([run["test"]["loss"] for run in runs], dtype=np.float64)
    counted = tokens > 0  # an answer cut to no token says nothing
    domain = np.array(first["domain"], dtype=np.int64)
    return ItemValues(values[:, counted], tokens[counted], domain[counted], tuple(first["domains"]))


def spread_at(step: int, curves: Sequence[Json], losses: Sequence[float]) -> Json:
    """How far trials lie apart at a rung, and the seeds of the recipe at the same step; as shares of its loss.

    Args:
        step: of the rung.
        curves: of the recipe's runs: step and loss.
        losses: of the trials; those that are not finite are left out.
    """
    at_step = [dict(zip(curve["step"], curve["loss"], strict=True)).get(step) for curve in curves]
    known = [loss for loss in at_step if loss is not None]
    trials = [loss for loss in losses if math.isfinite(loss)]
    mean = float(np.mean(known)) if known else None
    return {
        "step": step,
        "trials": len(trials),
        "trial_spread": float(np.std(trials, ddof=1)) / mean if mean and len(trials) > 1 else None,
        "seed_spread": float(np.std(known, ddof=1)) / mean if mean and len(known) > 1 else None,
    }


def name_of(trial: int) -> str:
    """What a trial is called as an arm: of its folder, and in the comparison that judges it."""
    return f"trial-{trial:03d}"


def shown_changes(changes: Mapping[str, object]) -> str:
    """What a trial has changed, for a line.

    >>> shown_changes({"mix": 0.25, "thin": None})
    'mix: 0.25, thin: null'
    """
    written = (f"{name}: {'null' if choice is None else choice}" for name, choice in changes.items())
    return cut(", ".join(written), LONGEST)


def search_seeds(judging: Collection[int], n: int) -> list[int]:
    """Seeds of a search: none of those with which its best trial is judged.

    >>> search_seeds((0, 1, 1001), 3)
    [1000, 1002, 1003]

    Args:
        judging: seeds of the comparison.
        n: how many.
    """
    return [seed for seed in range(FIRST_SEED, FIRST_SEED + n + len(judging)) if seed not in judging][:n]


def trained_with(plan: Plan) -> Json:
    """What a plan says of the learning rate, with TRL's flags and defaults in it."""
    parsed, _ = plan.parsed(plan.settings.seeds[0], plan.out)
    names = ("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "warmup_ratio")
    found = {name: getattr(parsed[1], name, None) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def plan_of_trials(judging: Plan, settings: SearchSettings, space: Space) -> Plan:
    """The plan of the trials of a search.

    Args:
        judging: the plan of the comparison that judges.
        settings: of the search.
        space: that is searched.
    """
    ranked: CompareSettings = replace(judging.settings, test=settings.rows)
    return replace(judging, settings=ranked, arms=(Arm(RECIPE, "recipe", space.block),), out=judging.out.parent)


def refuse_test_rows(rows: Sequence[str], tests: Sequence[str]) -> None:
    """No row that ranks may be one that judges.

    Args:
        rows: files of those that rank.
        tests: files of those that judge.

    Raises:
        DataError: rows are among both.
    """
    ranking, judging = (
        [(path, i, row) for path in of for i, row in enumerate(read_table(path))] for of in (rows, tests)
    )
    equal = overlap(*(full_texts([row for *_, row in of]) for of in (ranking, judging))).equal
    if equal:
        named = [f"`{ranking[a][0]}` row {ranking[a][1]} = `{judging[b][0]}` row {judging[b][1]}" for a, b in equal]
        raise DataError(
            f"`search: rows` must be other rows than `compare: test`, which judge what these have chosen, got "
            f"{len({a for a, _ in equal})} that are in both ({listed(named, SHOWN)}). Remove them from one of the two."
        )
