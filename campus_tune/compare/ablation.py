"""All runs of an ablation: the recipe on all rows, without each domain, and if asked for on each domain alone.

The runs of all rows come first, with all seeds: the others are as long as these were, with the same seed. By default
they train as many tokens, so the other domains fill the place of the one that is left out, and the question is what
else its tokens could have bought. With fewer tokens, each run has as many passes over its own rows, and the question is
whether the domain is needed. These are two questions, and a folder answers one of them.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from campus_tune.compare.arms import Arm
from campus_tune.compare.file_shapes import ABLATION
from campus_tune.compare.kinds import ABLATION as ABOUT
from campus_tune.compare.kinds import refuse_other_kind
from campus_tune.compare.plan import Plan
from campus_tune.compare.result_file import DIVERGED, FINISHED, read_stored
from campus_tune.compare.task import AsLong, Task
from campus_tune.compare.trainings import Makes, Trainings
from campus_tune.compare.verdict import Ablation, AblationPart, arm_of, graph_of, judge_ablation, times_its_error
from campus_tune.data.prepared import column_names, read_column
from campus_tune.data.subset import Subset
from campus_tune.method.orders import group_rows
from campus_tune.recipe.graph_file import with_graph
from campus_tune.run.ledger import plain
from campus_tune.run.make_trainer import training_rows
from campus_tune.words.errors import DataError, DivergedError, RecipeError
from campus_tune.words.files import atomic_write
from campus_tune.words.progress import on_the_way
from campus_tune.words.registry import nearest
from campus_tune.words.types import Json
from campus_tune.words.wording import cut, differences, duration, listed

if TYPE_CHECKING:
    from campus_tune.data.held_out import HeldOut

FORMAT = 1
FULL = "full"
ENOUGH = 5  # seeds, below which it is said what they cannot tell
FIXED = ("model", "tokens", "domain_column", "domains", "test", "points", "campus", "training", "flags")
_NOT_IN_NAMES = re.compile(r"[^\w.+-]")
OF_CELL = " · "  # behind the domain in the name of a cell
_NAMED = 20  # domains or columns in a message
_SHOWN = 60  # characters of a setting in a message


@dataclass(frozen=True)
class Question:
    """What an ablation asks.

    Args:
        domains: of the training rows, with the rows of each.
        column: that names each row's domain.
        left_out: the domains that are left out in turn.
        only: each of these is trained alone too.
        fewer: whoever has fewer rows trains fewer tokens.
        target: the model that the recipe names, where another one is trained.
    """

    domains: Mapping[str, int]
    column: str
    left_out: Sequence[str]
    only: bool = False
    fewer: bool = False
    target: str | None = None

    @property
    def parts(self) -> tuple[AblationPart, ...]:
        """What is trained besides all rows."""
        return ("without", "only") if self.only else ("without",)

    def arms(self, block: Json) -> dict[tuple[AblationPart, str], Arm]:
        """The arm of each part and domain.

        Args:
            block: the recipe's campus block.

        Raises:
            RecipeError: the recipe gives nothing to the rows that are left.
        """
        slugs: dict[str, str] = {}
        for domain in self.domains:
            slug = _NOT_IN_NAMES.sub("_", domain)
            slugs[domain] = slug if slug not in slugs.values() else f"{slug}.{len(slugs)}"
        return {
            (part, domain): Arm(f"{part}_{slugs[domain]}", "control", without_domains(block, self.gone(part, domain)))
            for part in self.parts
            for domain in self.left_out
        }

    def gone(self, part: AblationPart, domain: str) -> tuple[str, ...]:
        """The domains that a run has no rows of."""
        return (domain,) if part == "without" else tuple(one for one in self.domains if one != domain)


class AblationRuns:
    """The runs of one ablation.

    Args:
        plan: what they share; its baseline is the recipe on all rows.
        question: what is asked.
        command: that started it.
        say: told every line.
        check: called after each run; raises what shall end it there.
    """

    def __init__(
        self,
        plan: Plan,
        question: Question,
        command: str,
        say: Callable[[str], object] = on_the_way,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        self.plan, self.question, self.command, self.say = plan, question, command, say
        self.arms = question.arms(plan.block)
        self.outcomes: dict[tuple[str, int], Json] = {}
        self.trainings = Trainings(plan, check)
        self._about_now: Json = {}
        self._began, self._made = time.perf_counter(), 0

    @property
    def n_runs(self) -> int:
        """All of them."""
        return (1 + len(self.arms)) * len(self.plan.settings.seeds)

    def cost(self) -> str:
        """How much there is to train, in one sentence."""
        seeds, n = len(self.plan.settings.seeds), len(self.question.left_out)
        alone = f", {n} with one alone" if self.question.only else ""
        length = "with tokens in proportion to their rows" if self.question.fewer else "each as long as the recipe's"
        return (
            f"{seeds} {'seed' if seeds == 1 else 'seeds'} of 1 run with all rows, {n} without a domain{alone}: "
            f"{self.n_runs} runs, {length}"
        )

    def begin(self, test: HeldOut) -> None:
        """Write down what is asked, and find what is there already.

        Raises:
            RecipeError: the folder holds an ablation of other settings, or another run, which are named.
            DataError: a file in it cannot be read.
        """
        refuse_other_kind(self.plan.out, ABOUT)
        path, about = self.plan.out / ABOUT, json.loads(json.dumps(plain(self._about(test))))
        if path.exists():
            there = read_stored(path, FORMAT, "say what is ablated", "delete it: finished runs are kept", ABLATION)
            changed = differences({k: there.get(k) for k in FIXED}, {k: about[k] for k in FIXED})
            if changed:
                listed = "; ".join(f"{name}: {_cut(old)} there and {_cut(new)} now" for name, old, new in changed)
                raise RecipeError(
                    f"`--out` must be a new folder or that of the same ablation, got {str(self.plan.out)!r}, which was "
                    f"begun with other settings: {listed}. Name another folder, or delete this one."
                )
        for wanted in (self._full, self._parts):  # first those that the others are as long as
            for task in wanted():
                if (outcome := self.trainings.there(task)) is not None:
                    self.outcomes[task.name, task.seed] = outcome
        self._write(about)  # once nothing is refused: a matrix that is there is not lost
        if self.outcomes:
            self.say(f"{len(self.outcomes)} of {self.n_runs} runs are there already and are kept")
        seeds, n_cells = len(self.plan.settings.seeds), len(self.question.left_out) * len(set(test.domains))
        if 1 < seeds < ENOUGH:
            needed, better = (times_its_error(n, n_cells) for n in (seeds, ENOUGH))
            self.say(
                f"{seeds} seeds: one of {n_cells} cells must differ by up to {needed:.0f} times the standard error of "
                f"its seeds to be told from chance; with {ENOUGH} seeds by {better:.0f} times: --seeds {ENOUGH}"
            )
        self._about_now = about

    def train(self, bench: Makes | None) -> None:
        """Make all runs that are missing.

        Args:
            bench: of this process; None is enough where runs have processes of their own.

        Raises:
            CampusError: a run cannot be made; those that are finished are kept.
            DivergedError: the recipe diverges on all rows, whatever the seed.
        """
        for wanted in (self._full, self._parts):
            missing = [task for task in wanted() if (task.name, task.seed) not in self.outcomes]
            for task, outcome in self.trainings.make(missing, bench):
                self.outcomes[task.name, task.seed] = outcome
                self._tell(task, outcome)
            if not any(self.outcomes[FULL, seed]["status"] == FINISHED for seed in self.plan.settings.seeds):
                raise DivergedError(
                    "the recipe must come to its end on all rows before some are left out, got a model that diverged "
                    f"with every seed: {self._results(FULL)[0]['message']}. Lower learning_rate."
                )

    def judge(self) -> dict[AblationPart, Ablation]:
        """What the runs say; it is written down too."""
        settings = self.plan.settings
        full = arm_of(self._results(FULL))
        found: dict[AblationPart, Ablation] = {}
        for part in self.question.parts:
            arms = {domain: arm_of(self._results(arm.name)) for (of, domain), arm in self.arms.items() if of == part}
            found[part] = judge_ablation(
                full,
                arms,
                part=part,
                effect=settings.effect,
                fewer=self.question.fewer,
                tokens_tolerance=settings.tokens_tolerance,
            )
        lengths = {name: self._length(name) for name in (FULL, *(arm.name for arm in self.arms.values()))}
        matrices: Json = {str(part): matrix.to_mapping() for part, matrix in found.items()}
        graph = graph_of(list(found.values()), self.question.domains)
        self._write({**self._about_now, "finished": True, "runs": lengths, **matrices, "graph": graph})
        return found

    def close(self) -> None:
        """End all processes, with the runs in them that nobody waits for any more."""
        self.trainings.close()

    def _full(self) -> list[Task]:
        return [Task(FULL, seed) for seed in self.plan.settings.seeds]

    def _parts(self) -> list[Task]:
        """The runs of some of the rows, where that of all came to its end with the same seed: they are as long."""
        tasks = []
        for seed in self.plan.settings.seeds:
            whole = self.outcomes.get((FULL, seed))
            if whole is not None and whole["status"] == FINISHED:
                as_long = AsLong.of(whole, passes=self.question.fewer)
                for key, arm in self.arms.items():
                    only = Subset(without=self.question.gone(*key), column=self.question.column)
                    tasks.append(Task(arm, seed, only=only, as_long=as_long))
        return tasks

    def _results(self, name: str) -> list[Json]:
        return [self.outcomes[name, seed] for seed in self.plan.settings.seeds if (name, seed) in self.outcomes]

    def _length(self, name: str) -> Json:
        """How long the runs of an arm were, on average, and where they ended."""
        runs = self._results(name)
        domains = {arm.name: self.question.gone(*key) for key, arm in self.arms.items()}.get(name, ())
        rows = sum(n for domain, n in self.question.domains.items() if domain not in domains)
        ends = [sum(run["test"]["loss"]) / sum(run["test"]["tokens"]) for run in runs if run["status"] != DIVERGED]
        return {
            "n": len(runs),
            "steps": _mean([run["shared"]["steps"] for run in runs]),
            "tokens": _mean([run["tokens"] for run in runs]),
            "passes": _mean([run["rows"] / rows for run in runs]),
            "loss": _mean(ends),
            "diverged": [run["seed"] for run in runs if run["status"] == DIVERGED],
        }

    def _tell(self, task: Task, outcome: Json) -> None:
        """A line on a run that was made just now."""
        self._made += 1
        left = (self.n_runs - len(self.outcomes)) * (time.perf_counter() - self._began) / self._made
        more = f"; about {duration(left)} left" if left else ""
        loss = outcome["curve"]["loss"]
        ended = f"loss {loss[0]:.4f} → {loss[-1]:.4f}"
        if outcome["status"] == DIVERGED:
            ended = f"diverged: {outcome['message']}"
        self.say(
            f"run {len(self.outcomes)} of {self.n_runs}: {task.name}, seed {task.seed}: {ended}, "
            f"{outcome['tokens']:,} tokens, {duration(outcome['seconds']['training'])}{more}"
        )

    def _about(self, test: HeldOut) -> Json:
        question, settings = self.question, self.plan.settings
        model = self.plan.parsed(settings.seeds[0], self.plan.out)[0][2].model_name_or_path
        return {
            "format": FORMAT,
            "finished": False,
            "model": model,
            "target": question.target,
            "tokens": "fewer" if question.fewer else "equal",
            "domain_column": question.column,
            "domains": dict(question.domains),
            "left_out": list(question.left_out),
            "only_too": question.only,
            "seeds": list(settings.seeds),
            "effect": settings.effect,
            "tokens_tolerance": settings.tokens_tolerance,
            "test": {"path": list(settings.test), "digest": test.digest(), "items": len(test)},
            "points": settings.points,
            "campus": self.plan.block,
            "training": {k: v for k, v in self.plan.training.items() if k not in ("output_dir", "seed")},
            "flags": list(self.plan.flags),
            "command": self.command,
        }

    def _write(self, content: Json) -> None:
        text = json.dumps(plain(content), indent=1, allow_nan=False)
        atomic_write(self.plan.out / ABOUT, text + "\n")


def domain_of_each_row(plan: Plan, column: str) -> list[object]:
    """What a column of the training rows says, as they are before they are prepared.

    Args:
        plan: that says where the rows are.
        column: that names each row's domain.

    Raises:
        DataError: no such column.
    """
    (script, _, _, mixture), _ = plan.parsed(plan.settings.seeds[0], plan.out)
    rows = training_rows(script, mixture)
    names = column_names(rows)
    if column not in names:
        raise DataError(
            f"`--domain-column` must be a column of the training set ({listed(names, _NAMED)}), got {column!r}."
            f"{nearest(column, names)} Name one of them."
        )
    return list(read_column(rows, column))


def domains_of(plan: Plan, column: str) -> dict[str, int]:
    """The domains of the training rows, and the rows of each.

    Args:
        plan: that says where the rows are.
        column: that names each row's domain.

    Raises:
        DataError: no such column, or fewer than two domains.
    """
    found = {name: len(of) for name, of in group_rows(domain_of_each_row(plan, column)).items()}
    if len(found) < 2:
        raise DataError(
            f"an ablation must have at least two domains to leave one out, got {listed(list(found), _NAMED)} alone in "
            f"the column {column!r}. Name another column with --domain-column."
        )
    return found


def make_question(
    plan: Plan,
    column: str,
    asked: Sequence[str] | None = None,
    *,
    only: bool = False,
    fewer: bool = False,
    target: str | None = None,
) -> Question:
    """What an ablation asks of the rows of a plan.

    Args:
        plan: of the runs.
        column: that names each row's domain.
        asked: domains that are left out; None for all.
        only: each of them is trained alone too.
        fewer: whoever has fewer rows trains fewer tokens.
        target: the model that the recipe names, where another one is trained.

    Raises:
        DataError: no such domains, or rows that do not fill a step once some are left out.
    """
    domains = domains_of(plan, column)
    for name in asked or ():
        if name not in domains:
            raise DataError(
                f"`--domains` must be domains of the training set ({listed(list(domains), _NAMED)}), got {name!r}."
                f"{nearest(name, domains)} Correct or remove it."
            )
    question = Question(domains, column, tuple(dict.fromkeys(asked or domains)), only, fewer, target)
    training = plan.parsed(plan.settings.seeds[0], plan.out)[0][1]
    step = training.per_device_train_batch_size * training.gradient_accumulation_steps
    for part in question.parts:
        for domain in question.left_out:
            left = sum(n for name, n in domains.items() if name not in question.gone(part, domain))
            if left < step:
                raise DataError(
                    f"each run must have the rows of an optimizer step, {step}, got {left} rows {part} {domain!r}. "
                    "Name the domains to leave out with --domains, or lower per_device_train_batch_size."
                )
    return question


def without_domains(block: Json, gone: Sequence[str]) -> Json:
    """The campus block for rows without some domains: what it says of their shares is dealt to the others.

    >>> without_domains({"domains": {"shares": {"math": 0.5, "code": 0.3, "chat": 0.2}}}, ["math"])["domains"]
    {'shares': {'code': 0.6, 'chat': 0.4}}

    Args:
        block: of the recipe.
        gone: domains.

    Raises:
        RecipeError: nothing is left that has a share.
    """
    found = dict(block)
    if isinstance(block.get("domains"), Mapping):
        found["domains"] = _with_shares(block["domains"], gone, "domains")
        reweight = with_graph(found["domains"].get("reweight"))
        if isinstance(reweight, Mapping):
            left = {name: _left(value, gone) for name, value in reweight.items()}
            found["domains"]["reweight"] = None if {} in left.values() else left  # it has nothing to go by any more
    if block.get("phases"):
        found["phases"] = [_with_shares(phase, gone, "phases") for phase in block["phases"]]
    return found


def _with_shares(settings: Json, gone: Sequence[str], what: str) -> Json:
    """Settings whose `shares`, if they name domains, are those of the domains that are left, and sum to 1."""
    shares = settings.get("shares")
    if not isinstance(shares, Mapping):
        return dict(settings)
    left = {name: share for name, share in shares.items() if name.partition(OF_CELL)[0] not in gone}
    if len(left) == len(shares):
        return dict(settings)
    total = sum(left.values())
    if not total > 0:
        raise RecipeError(
            f"`{what}: shares` must give something to the domains that are left without {', '.join(gone)}, got "
            f"{dict(shares)}. Name the domains to leave out with --domains, or give the others a share."
        )
    return {**settings, "shares": {name: share / total for name, share in left.items()}}


def _left(value: object, gone: Sequence[str]) -> object:
    """Options of a reweighting that name domains, without those that are gone."""
    if not isinstance(value, Mapping):
        return value
    left = {name: _left(one, gone) for name, one in value.items() if name not in gone}
    return {name: one for name, one in left.items() if one != {}}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _cut(value: object) -> str:
    return cut(json.dumps(value, default=str), _SHOWN, head=_SHOWN)
