"""The recipe: a `campus:` block of YAML as frozen settings. Nothing is built, loaded or trained here.

All problems of a block are reported at once, before data or model load, and every unknown name is answered with the
nearest known one. What a null stands for is filled in by `resolved`, once the data are known.

CheckedSettings fall in two parts. The *past* (`past()`) shaped rows that were already trained: metrics, groups, seed,
coverage, window, batching. The *future* (`future()`) only says how the run goes on. A checkpoint is continued under a
changed future when the user asks for it (`resume: changed_future`), under a changed past never.

**The default** is what a block is that asks for no order: neither metrics nor a selector, nor how orders would open.
Its rows are shuffled, and those that look wrong count less and are left out once the run's own losses show that some
are (`ACTS`), unless the block says itself who is drawn or how much rows count. It is written out, so a file says what
was trained.

>>> CampusConfig(stages=10).selector, [entry.act for entry in CampusConfig(stages=10).drop]
('shuffle', ['auto'])
>>> config = CampusConfig(metrics=["length", "mtld"], stages=10)
>>> config.labels, config.resolved(has_probes=False, domain_in_data=False, seed=7).selector
(('length', 'mtld'), 'relative_perplexity')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml

from campus_tune.method.clock import Clock
from campus_tune.method.curriculum import SHUFFLE, Coverage, Schedule, Window
from campus_tune.method.grouping import NO_GROUPS
from campus_tune.method.pacing import PACINGS, build_pacing
from campus_tune.method.reweight import SHARES
from campus_tune.method.rules import Rule
from campus_tune.method.selectors import PROBES, SELECTORS, Selector, build_selector
from campus_tune.metrics import METRICS, MetricSpec, build_metric, check_labels, leaves, parse_metric
from campus_tune.recipe.batching import Batching
from campus_tune.recipe.blocks import DOMAIN, EvaluateSettings, ProbeSettings
from campus_tune.recipe.draw_blocks import (
    PHASES,
    CellSettings,
    DomainSettings,
    PhaseSettings,
    ReviewSettings,
    ThinSettings,
)
from campus_tune.recipe.draw_rules import DrawBlocks
from campus_tune.recipe.drop_block import DROPS, SUSPECTS, DropSettings
from campus_tune.recipe.passes_block import PassSettings
from campus_tune.recipe.reader import CheckedSettings, Entries, Part, part_schema
from campus_tune.recipe.reward_rules import only_by_rewards
from campus_tune.recipe.steer_blocks import MILESTONES, WHEN, Answer, ClockSettings, MilestoneSettings
from campus_tune.recipe.steer_rules import SteerBlocks
from campus_tune.recipe.value_block import VALUE, ValueSettings, needs_probes
from campus_tune.recipe.weights_block import ENTRIES, WeightSettings, weight_schema
from campus_tune.words.annotated import defaults
from campus_tune.words.errors import RecipeError
from campus_tune.words.leaves import LARGEST_SEED, Range
from campus_tune.words.registry import nearest
from campus_tune.words.strict_yaml import read_yaml
from campus_tune.words.types import Json
from campus_tune.words.wording import shown

PAST = ("metrics", "within", "seed", "coverage", "window", "batching", "cells", "passes")
DRAWN = ("cells", "domains", "phases", "thin", "review", "drop", "weights", "control")  # who, which rows, how much
STEERED = ("milestones", "when", "clock")  # what moves the plan, by the record
OF_ORDERS = ("pacing", "window", "coverage", "mix", "handover", "rescore")  # what says how orders are trained
OF_DRAW = ("domains", "phases", "thin", "review", "drop", "weights")  # in the place of what acts by default
ACTS: Json = {  # what acts by default, as settings: the arm `auto` of `eval/situations`
    "weights": [{"name": "robust", "act": "auto"}],
    "drop": [{"by": SUSPECTS, "at_most": 0.3, "act": "auto"}],
}
MIX = 0.5  # with the prefix window
MOST_STAGES = 100_000  # each of them is a decision
NOT_IDENTITY = ("resume", "scores", "level", "evaluate")


@dataclass(frozen=True)
class CampusConfig(CheckedSettings):
    """The settings of one curriculum, as the `campus:` block of a recipe gives them.

    Args:
        metrics: one per sub-curriculum: names, `-name` for the reverse, or mappings with options. Without any, rows
            are shuffled.
        pacing: how far the orders open: a name or a mapping with options.
        selector: which sub-curriculum is trained next. None becomes `fixed` for a single metric, `matched` where
            there are probes, else `relative_perplexity`; `shuffle` where the block asks for no order.
        stages: T, stages per epoch (window prefix), or slices per sub-curriculum (window slice).
        window: what a stage is drawn from: `prefix`, all rows up to the scope; or `slice`, only those that it opened
            last, as CAMPUS published it.
        coverage: `exact` (every row once per epoch), or `revisit`: sub-curricula ignore each other, as CAMPUS published
            it.
        mix: share of every stage that is drawn at random. None becomes 0.5 with the prefix window and 0 with slice, as
            CAMPUS published it.
        handover: progress from which rows are plainly shuffled.
        budget: share of the training compute that the curriculum may cost; 0 measures nothing.
        within: column whose groups are ranked apart, their orders interleaved in proportion; `none` ranks all rows
            together. None becomes the probes' domain column where the training set has it.
        rescore: stages after which the rows that wait are scored anew by the metrics that know the model, and the
            scorer is trained anew; 0 keeps the scores taken before training.
        probes: held-out rows that steer: `{path, domain_column, max_rows}`.
        evaluate: official tasks that watch the run: `{suite, every, data, limit, allow_code_execution}`.
        scores: folder of the score cache, shared by runs; None is the user's own, `none` is no cache.
        level: column with a known difficulty, to compare the metrics with; None takes `level` where there is one.
        batching: how a step is cut into micro batches: `step` (sorted by length, of equal cost), `plain` (as drawn) or
            `flat` (padding-free, of equal tokens). `auto` is `flat` where the model's attention takes rows of variable
            lengths, else `step`.
        seed: of every draw; None becomes the trainer's.
        cells: inside which scores are compared: `{by, bands, of}`; None is five bands of length inside each domain.
        domains: who is drawn: `{shares, least, over, follow, reweight, by}`; None is in proportion to the rows.
        phases: parts of the run with shares of their own: a list of `{until, shares, overlap, offer, mix, top}`.
        thin: which of the offered rows are trained: `{how, by, keep, drop, power, floor, gate, detrend, fresh, from,
            until}`.
        review: rows that come back: `{share, by, spacing, from, until}`.
        drop: rows that are never trained: a list of `{by, lowest, below, at_most, keep, near, path, on, probe}`. Where
            the block asks for no order and says nothing of who is drawn or how much rows count, None is
            `[{by: suspects, at_most: 0.3, act: auto}]`.
        weights: how much rows count: a list of names or of mappings with `{from, until, limit, normalise}`. Where the
            block says as little, None is `[{name: robust, act: auto}]`.
        control: what is made random, to compare with: which scores rows have (shuffled_scores), which rows are
            dropped (random_drop; drop_best takes those that helped most), which rows of a step have its weights
            (shuffled_weights).
        milestones: levels that the probes should reach: a list of `{name, probe, loss, competence, accuracy, hold,
            then, times}`.
        when: what is done about stagnation, regression and saturated: event → action, actions, or a mapping. None
            notes stagnation and regression where there are probes.
        clock: what progress towards the handover is read from: steps, tokens, or `{by: competence, target}`; None is
            steps.
        value: true measures what each row that is trained does to the loss of each probe domain, with a LoRA; also
            `{adam, budget}`. It changes nothing of what is trained.
        passes: what a pass is where a model is trained by reward: `{at, forget, middle, predict, answer}`.
        resume: `strict`, or `changed_future` to continue a checkpoint under changed future settings.

    Raises:
        RecipeError: with all problems of the settings.
    """

    block = "campus"
    must = "a mapping of settings"
    write = "Write `campus:` and indent them."
    unsaid = (*DRAWN, *STEERED, "value", "passes")

    metrics: Annotated[
        Sequence[str | Mapping[str, Any]],
        Entries(Part(METRICS, parse_metric), "Write metrics: [length], also for a single one."),
    ] = ()
    pacing: Annotated[str | Mapping[str, Any], Part(PACINGS, build_pacing, numbers=True)] = field(
        default_factory=lambda: {"name": "root", "power": 2, "start": 0.01}
    )
    selector: Annotated[str | Mapping[str, Any] | None, Part(SELECTORS, build_selector)] = None
    stages: Annotated[int, Range(1, MOST_STAGES)] = 20
    window: Window = "prefix"
    coverage: Coverage = "exact"
    # Why null is a half: on graded tasks prefixes alone ended 6 to 10 % above shuffling's loss, for the domains that
    # learn slowly were shown too late; with a half there was no loss (eval/LOG.md).
    mix: Annotated[float | None, Range(0, 1, "[)")] = None
    handover: Annotated[float, Range(0, 1)] = 0.6
    budget: Annotated[float, Range(0, 10)] = 0.05
    # Why null is by domain: scores of different sources are not on one scale. Over twenty graded tasks the summed
    # answer loss of SmolLM2 follows the true level with a rank correlation of 0.69 inside a task, and of 0.34 with all
    # tasks in one list.
    within: str | None = None
    rescore: Annotated[int, Range(0)] = 4
    probes: ProbeSettings | None = None
    evaluate: EvaluateSettings | None = None
    scores: str | None = None
    level: str | None = None
    batching: Batching = "auto"
    seed: Annotated[int | None, Range(0, LARGEST_SEED)] = None
    cells: CellSettings | None = None
    domains: DomainSettings | None = None
    phases: Annotated[tuple[PhaseSettings, ...] | None, PHASES] = None
    thin: ThinSettings | None = None
    review: ReviewSettings | None = None
    drop: Annotated[tuple[DropSettings, ...] | None, DROPS] = None
    weights: Annotated[tuple[WeightSettings, ...] | None, ENTRIES] = None
    control: Literal["shuffled_scores", "random_drop", "drop_best", "shuffled_weights"] | None = None
    milestones: Annotated[tuple[MilestoneSettings, ...] | None, MILESTONES] = None
    when: Annotated[Mapping[str, Answer] | None, WHEN] = None
    clock: ClockSettings | None = None
    value: Annotated[ValueSettings | None, VALUE] = None
    passes: PassSettings | None = None
    resume: Literal["strict", "changed_future"] = "strict"

    def __post_init__(self) -> None:
        """Write the default out where the block asks for no order; then check all settings."""
        usual = defaults(type(self))  # compared as they are written: nothing is checked yet
        given = {name for name in (*OF_ORDERS, *OF_DRAW) if shown(getattr(self, name)) != shown(usual[name])}
        if self.selector is None and shown(self.metrics) in ("()", "[]") and not given & {*OF_ORDERS}:
            object.__setattr__(self, "selector", SHUFFLE)
            if not given & {*OF_DRAW} and self.passes is None:
                for name, entries in ACTS.items():
                    object.__setattr__(self, name, entries)
        super().__post_init__()

    @property
    def where(self) -> str:
        """A setting of the block is called by its own name."""
        return ""

    @classmethod
    def from_mapping(cls, given: object, *, what: str = "", **apart: Any) -> Self:
        """The settings of a block; rules under the key `on`, which other readers of YAML take for true, are told.

        Raises:
            RecipeError: with all that is wrong in it.
        """
        if not isinstance(given, Mapping) or not (on := [key for key in given if key is True or key == "on"]):
            return super().from_mapping(given, what=what, **apart)
        problems = [
            f"`{cls.block}` takes `when` for what is done about events, got the key {on[0]!r}. Write when: {{…}}."
        ]
        try:
            super().from_mapping({key: value for key, value in given.items() if key not in on}, what=what, **apart)
        except RecipeError as error:
            problems += error.problems
        raise RecipeError(problems)

    def clashes(self, wrong: set[str]) -> list[str]:
        """Labels that two metrics share, or that clash with the selector or with the word for random stages."""
        if wrong & {"metrics", "selector"}:
            return []
        steer = self.steer.without(wrong)
        draw = self._draw(steer).without(wrong)
        handover = self.handover if "handover" not in wrong else type(self).handover
        problems = [*check_labels(self.specs), *draw.problems(self.specs, handover)]
        if not wrong & {*DRAWN, "window"}:
            problems += steer.problems(draw, unordered=self.unordered, sliced=self.window == "slice")
        extras = () if problems else draw.extras(self.specs)
        members = [m for spec in [*self.specs, *extras] for m in getattr(build_metric(spec), "members", ())]
        known = {spec.label: spec for spec in reversed([*self.specs, *members, *extras])}
        problems += [
            f"`label` {spec.label!r} must mean one metric, got {spec.name} with two sets of options, one of them "
            "inside an ensemble. Give one of them a `label` of its own."
            for spec in members
            if known[spec.label] != spec
        ]
        if sum(build_metric(spec).alone for spec in known.values()) > 1:
            problems.append("`metrics` must have one scorer at most, got several. Keep one of them.")
        problems += [
            f"`within` must be none with the metric {spec.name}, got {self.within or 'null'}: rows that are ranked "
            "inside groups are spread over them in proportion already. Write within: none."
            for spec in known.values()
            if build_metric(spec).ranks_all and self.within != NO_GROUPS
        ]
        if not self.specs and not self.is_shuffle:
            problems.append(
                "`metrics` must name at least one metric where other settings say how orders are trained, got none. "
                "Write for example metrics: [length], or selector: shuffle for no curriculum at all."
            )
        if SHUFFLE in self.labels:
            problems.append(
                f"`label` of a metric must be another word than that of random stages, got {SHUFFLE!r}. Choose one."
            )
        selector = None if self.selector is None else self.build_selector()
        named = {"order": [getattr(selector, "order", None)], "choices": getattr(selector, "choices", ())}
        return problems + [
            f"`selector: {option}` must be the label of one of the metrics ({', '.join(self.labels)}), got {label!r}."
            f"{nearest(str(label), self.labels)}"
            for option, labels in named.items()
            for label in dict.fromkeys(labels)
            if label not in (*self.labels, None, *([SHUFFLE] if option == "choices" else []))
        ]

    # -- what it says --------------------------------------------------------------------------------------------

    @property
    def specs(self) -> tuple[MetricSpec, ...]:
        """The metrics, read."""
        return tuple(parse_metric(entry) for entry in self.metrics)

    @property
    def labels(self) -> tuple[str, ...]:
        """What the sub-curricula are called."""
        return tuple(spec.label for spec in self.specs)

    @property
    def draw(self) -> DrawBlocks:
        """The blocks that say who is drawn, which rows, and how much they count."""
        return self._draw(self.steer)

    def _draw(self, steer: SteerBlocks) -> DrawBlocks:
        """The same, beside blocks that steer."""
        given = {name: getattr(self, name) for name in DRAWN}
        lists = {name: given[name] or () for name in ("phases", "drop", "weights")}
        return DrawBlocks(**{**given, **lists}, raises=steer.asks("raise") is not None)

    @property
    def steer(self) -> SteerBlocks:
        """The blocks that steer."""
        return SteerBlocks(self.milestones or (), self.when, self.clock)

    def rules(self, *, has_probes: bool) -> tuple[Rule, ...]:
        """What watches the probes: milestones as they are written, then the events of `when` by name.

        Args:
            has_probes: there are probes; with them stagnation and regression are noted unless the recipe says more.
        """
        return self.steer.rules(has_probes=has_probes)

    @property
    def clock_part(self) -> Clock:
        """The clock itself."""
        return self.steer.measured_by

    def steers(self, *, has_probes: bool) -> bool:
        """Something goes by the record: a rule, another clock than the steps, shares that are moved.

        Args:
            has_probes: there are probes.
        """
        moves = self.domains is not None and self.domains.reweight is not None
        return moves or self.clock_part.by != "steps" or bool(self.rules(has_probes=has_probes))

    @property
    def draws_apart(self) -> bool:
        """Some block draws otherwise than in proportion: each domain then has a pass of its own, every step is full."""
        return self.draw.apart

    @property
    def weighs(self) -> bool:
        """Rows count otherwise than one like the other. Which are drawn does not hang on it."""
        return self.draw.weighs

    @property
    def only_waits(self) -> bool:
        """All that draws or weighs waits for a sign of wrong rows, as the default does: rows are taken as they are."""
        says = any(getattr(self, name) for name in OF_DRAW if name not in ("drop", "weights"))
        says = says or self.cells not in (None, CellSettings())  # which a run fills in
        waits = [entry.act == "auto" for entry in self.drop or ()]
        waits += [entry.weight.when == "auto" for entry in self.weights or ()]
        return bool(waits) and all(waits) and not says

    @property
    def acts_by_default(self) -> bool:
        """What acts on wrong rows is what acts by default."""
        usual = CampusConfig()
        return (self.weights, self.drop) == (usual.weights, usual.drop)

    @property
    def scored(self) -> tuple[MetricSpec, ...]:
        """The metrics that rows are scored by: those of the orders, then those that only the draw asks for."""
        return (*self.specs, *self.draw.extras(self.specs))

    @property
    def no_orders(self) -> tuple[str, ...]:
        """Labels of the metrics that only the draw asks for."""
        return tuple(spec.label for spec in self.scored[len(self.metrics) :])

    @property
    def bands_alone(self) -> set[str]:
        """Labels of metrics that nothing but `cells` asks for."""
        return {spec.label for spec in self.scored} - {spec.label for spec in self.draw.ordering(self.specs)}

    @property
    def domain_column(self) -> str:
        """The column of the domains that are drawn from, if the training set has it."""
        if self.within not in (None, NO_GROUPS):
            return str(self.within)
        return self.probes.domain_column if self.probes else DOMAIN

    @property
    def selector_name(self) -> str | None:
        """The selector's registered name; None while it is not resolved."""
        return self.selector["name"] if isinstance(self.selector, Mapping) else self.selector

    @property
    def is_shuffle(self) -> bool:
        """No curriculum at all: the plain baseline."""
        return self.selector_name == SHUFFLE

    @property
    def unordered(self) -> str:
        """The setting by which no order is trained; empty where one is."""
        if self.is_shuffle:
            return f"selector: {SHUFFLE}"
        return "" if self.handover else "handover: 0"

    @property
    def share_at_random(self) -> float:
        """`mix`, or what its null stands for: there is nothing to mix into slices as published, or into a shuffle."""
        if self.mix is not None:
            return self.mix
        by_rewards = self.thin is not None and self.thin.by_rewards  # these try what is not known by themselves
        return 0.0 if self.window == "slice" or self.is_shuffle or by_rewards else MIX

    def build_selector(self) -> Selector:
        """The selector itself.

        Raises:
            RecipeError: it is still null.
        """
        if self.selector is None:
            raise RecipeError("`selector` must be resolved before it is built, got null. Call resolved() first.")
        return build_selector(self.selector)

    def schedule(self) -> Schedule:
        """Pacing, window, coverage, mix and handover as the curriculum takes them.

        Raises:
            RecipeError: the seed is still null.
        """
        if self.seed is None:
            raise RecipeError("`seed` must be resolved before rows are drawn, got null. Call resolved() first.")
        return Schedule(
            pacing=build_pacing(self.pacing),
            stages=self.stages,
            window=self.window,
            coverage=self.coverage,
            mix=self.share_at_random,
            handover=self.handover,
            seed=self.seed,
        )

    def resolved(self, *, has_probes: bool, domain_in_data: bool, seed: int, by_rewards: bool = False) -> CampusConfig:
        """The same settings without nulls that a run decides: selector, mix, groups, seed, cells that are used.

        Args:
            has_probes: probe rows are at hand, from the recipe or from the caller.
            domain_in_data: the training set has the column that `probes` names as the domain (`domain` without
                probes).
            seed: the trainer's, used where the recipe has none.
            by_rewards: the trainer goes by rewards, and `for_rewards` made these settings.

        Raises:
            RecipeError: rewards are asked for and there are none; the selector, a metric, or what steers, needs probes
                and there are none.
        """
        name = "fixed" if len(self.metrics) == 1 else "matched" if has_probes else "relative_perplexity"
        selector = name if self.selector is None else self.selector
        problems = [] if by_rewards else [*only_by_rewards(self)]
        problems += [] if has_probes else self.steer.without_probes(self.draw)
        if self.value is not None and not has_probes:
            problems.append(needs_probes())
        problems += [
            f"`{spec.label}` must have probes to say what lowers their loss, got none. Give probes: {{path: "
            "./probes.jsonl}, or drop the metric."
            for spec in leaves(self.scored)
            if build_metric(spec).needs_probes and not has_probes
        ]
        if PROBES in build_selector(selector).needs and not has_probes:
            problems.append(
                f"`selector` must have probes to be {selector!r}, got none. Give probes: {{path: ./probes.jsonl}}, or "
                "write selector: relative_perplexity."
            )
        if problems:
            raise RecipeError(problems)
        domain = self.probes.domain_column if self.probes else DOMAIN
        within = self.within or (domain if domain_in_data else NO_GROUPS)
        seed = seed if self.seed is None else self.seed
        cells = CellSettings() if self.cells is None and self.draw.uses_cells else self.cells
        return replace(self, selector=selector, mix=self.share_at_random, within=within, seed=seed, cells=cells)

    # -- as data -------------------------------------------------------------------------------------------------

    def to_yaml(self) -> str:
        """The block as YAML, `campus:` included; `load_recipe` reads it back."""
        return yaml.safe_dump({"campus": self.to_mapping()}, sort_keys=False, allow_unicode=True)

    def identity(self) -> Json:
        """All settings that make a run this run and no other."""
        return {key: value for key, value in self.to_mapping().items() if key not in NOT_IDENTITY}

    def past(self) -> Json:
        """The settings that shaped what was already trained: they can never change within a run."""
        return {key: value for key, value in self.identity().items() if key in PAST}

    def future(self) -> Json:
        """The settings that only say how the run goes on: they may be changed, explicitly."""
        return {key: value for key, value in self.identity().items() if key not in PAST}


def load_recipe(source: str | Path | Mapping[str, Any] | CampusConfig, *, named: str | Path = "") -> CampusConfig:
    """The curriculum settings of a YAML file, a mapping, or settings as they are.

    A YAML may be a whole training recipe with a `campus:` block, or the bare block.

    Args:
        source: of the settings.
        named: the file that a mapping was read from, for messages.

    Raises:
        RecipeError: the file is absent, not UTF-8 or not YAML (file and line are named), has no `campus:` block, or
            the block is wrong, with all its problems.
    """
    if isinstance(source, CampusConfig):
        return source
    content = source if isinstance(source, Mapping) else read_yaml(source)
    origin = named or source
    if "campus" in content:
        return CampusConfig.from_mapping(content["campus"] if content["campus"] is not None else {})
    # the bare block; an empty one is told by name what it lacks
    own = [key for key in content if key in CampusConfig.known() and key != "seed"]  # a trainer's YAML has a seed too
    if (content or not isinstance(origin, Mapping)) and (not own or len(own) < len(content) / 2):
        where = "the mapping" if isinstance(origin, Mapping) else str(origin)
        hint = nearest("campus", [str(key) for key in content])
        raise RecipeError(f"`campus` must be a block in {where}, got none.{hint} Add `campus:` with `metrics`.")
    return CampusConfig.from_mapping(content)


def part_schemas() -> Json:
    """What the schema of a block refers to: all parts that have names, and the pieces of a joined pacing."""
    share = {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 1}
    label = {"type": ["string", "null"], "minLength": 1, "description": "what reports and files call it"}
    ends = {
        "until": {**share, "description": "progress at which the piece ends"},
        "to": {**share, "description": "scope at which the piece ends"},
    }
    return {
        "metric": part_schema(METRICS, reverse=True, more={"label": label}),
        "pacing": part_schema(PACINGS),
        "piece": {"type": "object", **part_schema(PACINGS, more=ends)},
        "selector": part_schema(SELECTORS),
        "weight": weight_schema(),
        SHARES.kind: part_schema(SHARES),
    }
