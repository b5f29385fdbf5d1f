"""The recipe: a `campus:` block of YAML as frozen settings. Nothing is built, loaded or trained here.

All problems of a block are reported at once, before data or model load, and every unknown name is answered with the
nearest known one. What a null stands for is filled in by `resolved`, once the data are known.

Settings fall in two parts. The *past* (`past()`) shaped rows that were already trained: metrics, groups, seed,
coverage, window, batching. The *future* (`future()`) only says how the run goes on. A checkpoint is continued under a
changed future when the user asks for it (`resume: changed_future`), under a changed past never.

>>> config = CampusConfig(metrics=["length", "mtld"], stages=10)
>>> config.labels, config.resolved(has_probes=False, domain_in_data=False, seed=7).selector
(('length', 'mtld'), 'relative_perplexity')
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from campus_tune.method.curriculum import SHUFFLE, Coverage, Schedule, Window
from campus_tune.method.grouping import NO_GROUPS
from campus_tune.method.pacing import build_pacing
from campus_tune.method.selectors import PROBES, Selector, build_selector
from campus_tune.metrics.base import MetricSpec, build_metric, check_labels, parse_metric
from campus_tune.recipe.blocks import DOMAIN, EvaluateSettings, ProbeSettings
from campus_tune.words import fields as check_field
from campus_tune.words.errors import RecipeError
from campus_tune.words.registry import nearest
from campus_tune.words.strict_yaml import read_yaml
from campus_tune.words.types import Json

PAST = ("metrics", "within", "seed", "coverage", "window", "batching")
MIX = 0.5  # with the prefix window
MOST_STAGES = 100_000  # each of them is a decision
NOT_IDENTITY = ("resume", "scores", "level", "evaluate")
_CHOICES = {
    "window": ("prefix", "slice"),
    "coverage": ("exact", "revisit"),
    "batching": ("step", "plain", "flat"),
    "resume": ("strict", "changed_future"),
}


@dataclass(frozen=True)
class CampusConfig:
    """The settings of one curriculum, as the `campus:` block of a recipe gives them.

    Args:
        metrics: one per sub-curriculum: names, `-name` for the reverse, or mappings with options. May be empty only
            with `selector: shuffle`.
        pacing: how far the orders open: a name or a mapping with options.
        selector: which sub-curriculum is trained next. None becomes `fixed` for a single metric, `matched` where
            there are probes, else `relative_perplexity`.
        stages: T from 1 to 100 000, slices per sub-curriculum (window slice) or stages per epoch (window prefix).
        window: `prefix`, or `slice` as CAMPUS published it.
        coverage: `exact` (every row once per epoch), or `revisit` as CAMPUS published it.
        mix: share of every stage that is drawn at random, in [0, 1). None becomes 0.5 with the prefix window and 0 with
            slice, as CAMPUS published it. Why a half: on graded tasks prefixes alone ended 6 to 10 % above shuffling's
            loss, for the domains that learn slowly were shown too late; with a half there was no loss (eval/LOG.md).
        handover: progress in [0, 1] from which rows are plainly shuffled.
        budget: share of the training compute that the curriculum may cost, in (0, 10].
        within: column whose groups are ranked apart, their orders interleaved in proportion; `none` ranks all rows
            together. None becomes the probes' domain column where the training set has it. Why: scores of different
            sources are not on one scale. Over twenty graded tasks the summed answer loss of SmolLM2 follows the true
            level with a rank correlation of 0.69 inside a task, and of 0.34 with all tasks in one list.
        rescore: stages after which the rows that wait are scored anew by the metrics that know the model, and the
            scorer is trained anew; 0 keeps the scores taken before training.
        probes: held-out rows that steer: `{path, domain_column, max_rows}`.
        evaluate: official tasks that watch the run: `{suite, every, data, limit, allow_code_execution}`.
        scores: folder of the score cache, shared by runs; None is the user's own, `none` is no cache.
        level: column with a known difficulty, to compare the metrics with; None takes `level` where there is one.
        batching: `step` (length-aware inside an optimizer step), `plain` (as drawn) or `flat` (padding-free).
        seed: None becomes the trainer's.
        resume: `strict`, or `changed_future` to continue a checkpoint under changed future settings.

    Raises:
        RecipeError: with all problems of the settings.
    """

    metrics: Sequence[str | Mapping[str, Any]] = ()
    pacing: str | Mapping[str, Any] = field(default_factory=lambda: {"name": "root", "power": 2, "start": 0.01})
    selector: str | Mapping[str, Any] | None = None
    stages: int = 20
    window: Window = "prefix"
    coverage: Coverage = "exact"
    mix: float | None = None
    handover: float = 0.6
    budget: float = 0.05
    within: str | None = None
    rescore: int = 4
    probes: ProbeSettings | None = None
    evaluate: EvaluateSettings | None = None
    scores: str | None = None
    level: str | None = None
    batching: Literal["step", "plain", "flat"] = "step"
    seed: int | None = None
    resume: Literal["strict", "changed_future"] = "strict"

    def __post_init__(self) -> None:
        problems = [*self._scalar_problems(), *self._part_problems()]
        if problems:
            raise RecipeError(problems)
        object.__setattr__(self, "metrics", tuple(copy.deepcopy(list(self.metrics))))
        object.__setattr__(self, "pacing", copy.deepcopy(self.pacing))
        object.__setattr__(self, "selector", copy.deepcopy(self.selector))

    @classmethod
    def from_mapping(cls, block: Mapping[str, Any]) -> CampusConfig:
        """The settings in a `campus:` block.

        Raises:
            RecipeError: with all problems of the block: unknown keys, values, parts that cannot work together.
        """
        if not isinstance(block, Mapping):
            raise RecipeError(
                f"`campus` must be a mapping of settings, got {block!r}. Write `campus:` and indent them."
            )
        known = {f.name: f for f in fields(cls)}
        problems = check_field.keys("campus", block, list(known))
        settings = {key: value for key, value in block.items() if key in known}
        try:
            config = cls(**settings)
        except RecipeError as error:
            problems += error.problems
        if problems:
            raise RecipeError(problems)
        return config

    # -- what is wrong -------------------------------------------------------------------------------------------

    def _scalar_problems(self) -> list[str]:
        problems: list[str] = []
        for name, accepted in _CHOICES.items():
            problems += check_field.choice(name, getattr(self, name), accepted)
        problems += check_field.whole("stages", self.stages, low=1, high=MOST_STAGES)
        if self.mix is not None:
            problems += check_field.number("mix", self.mix, low=0, high=1, open_high=True)
        problems += check_field.number("handover", self.handover, low=0, high=1)
        problems += check_field.number("budget", self.budget, low=0, high=10, open_low=True)
        if self.seed is not None:
            problems += check_field.whole("seed", self.seed, low=0, high=check_field.LARGEST_SEED)
        problems += check_field.whole("rescore", self.rescore, low=0)
        for name in ("within", "scores", "level"):
            if getattr(self, name) is not None:
                problems += check_field.text(name, getattr(self, name))
        return problems

    def _part_problems(self) -> list[str]:
        """Problems of metrics, pacing, selector and probes, alone and together."""
        problems = [*check_field.numbers_inside("pacing", self.pacing)]
        if not problems:
            problems += _problems_of(build_pacing, self.pacing, "pacing")
        problems += self._read_block("probes", ProbeSettings, "probes: {path: ./probes.jsonl}")
        problems += self._read_block("evaluate", EvaluateSettings, "evaluate: {suite: smoke, every: 5 stages}")
        selector_problems = [] if self.selector is None else _problems_of(build_selector, self.selector, "selector")
        metric_problems = self._metric_problems()
        if not metric_problems and not selector_problems:
            metric_problems += check_labels(self.specs) + self._label_problems()
        return problems + selector_problems + metric_problems

    def _read_block(self, name: str, kind: type[ProbeSettings] | type[EvaluateSettings], example: str) -> list[str]:
        """Put the settings of an inner block in the place of its mapping; what is wrong with it."""
        setting = getattr(self, name)
        if setting is None or isinstance(setting, kind):
            return []
        if not isinstance(setting, Mapping):
            return [f"`{name}` must be a mapping, got {setting!r}. Write {example}."]
        try:
            object.__setattr__(self, name, kind.from_mapping(setting))
        except RecipeError as error:
            return error.problems
        return []

    def _metric_problems(self) -> list[str]:
        if isinstance(self.metrics, str | Mapping) or not isinstance(self.metrics, Sequence):
            return [f"`metrics` must be a list, got {self.metrics!r}. Write metrics: [length], also for a single one."]
        return [problem for entry in self.metrics for problem in _problems_of(parse_metric, entry, "metrics")]

    def _label_problems(self) -> list[str]:
        """Labels that clash with the selector or with the word for random stages."""
        problems, selector = self._clashes(), self.build_selector() if self.selector is not None else None
        if not self.specs and not self.is_shuffle:
            problems.append(
                "`metrics` must name at least one metric, got none. Write for example metrics: [length], or "
                "selector: shuffle for no curriculum at all."
            )
        if SHUFFLE in self.labels:
            problems.append(
                f"`label` of a metric must be another word than that of random stages, got {SHUFFLE!r}. Choose one."
            )
        order = getattr(selector, "order", None)
        if order is not None and order not in self.labels:
            problems.append(
                f"`selector: order` must be the label of one of the metrics ({', '.join(self.labels)}), got {order!r}."
                f"{nearest(str(order), self.labels)}"
            )
        return problems

    def _clashes(self) -> list[str]:
        """One label for two metrics, one of them inside an ensemble; two scorers."""
        members = [m for spec in self.specs for m in getattr(build_metric(spec), "members", ())]
        known = {spec.label: spec for spec in reversed([*self.specs, *members])}
        problems = [
            f"`label` {spec.label!r} must mean one metric, got {spec.name} with two sets of options, one of them "
            "inside an ensemble. Give one of them a `label` of its own."
            for spec in members
            if known[spec.label] != spec
        ]
        if sum(build_metric(spec).alone for spec in known.values()) > 1:
            problems.append("`metrics` must have one scorer at most, got several. Keep one of them.")
        return problems

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
    def selector_name(self) -> str | None:
        """The selector's registered name; None while it is not resolved."""
        return self.selector["name"] if isinstance(self.selector, Mapping) else self.selector

    @property
    def is_shuffle(self) -> bool:
        """No curriculum at all: the plain baseline."""
        return self.selector_name == SHUFFLE

    @property
    def share_at_random(self) -> float:
        """`mix`, or what its null stands for: there is nothing to mix into slices as published, or into a shuffle."""
        if self.mix is not None:
            return self.mix
        return 0.0 if self.window == "slice" or self.is_shuffle else MIX

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

    def resolved(self, *, has_probes: bool, domain_in_data: bool, seed: int) -> CampusConfig:
        """The same settings without nulls that a run decides: selector, mix, groups, seed.

        Args:
            has_probes: probe rows are at hand, from the recipe or from the caller.
            domain_in_data: the training set has the column that `probes` names as the domain (`domain` without
                probes).
            seed: the trainer's, used where the recipe has none.

        Raises:
            RecipeError: the selector needs probes and there are none.
        """
        name = "fixed" if len(self.metrics) == 1 else "matched" if has_probes else "relative_perplexity"
        selector = name if self.selector is None else self.selector
        if PROBES in build_selector(selector).needs and not has_probes:
            raise RecipeError(
                f"`selector` must have probes to be {selector!r}, got none. Give probes: {{path: ./probes.jsonl}}, or "
                "write selector: relative_perplexity."
            )
        domain = self.probes.domain_column if self.probes else DOMAIN
        within = self.within or (domain if domain_in_data else NO_GROUPS)
        seed = seed if self.seed is None else self.seed
        return replace(self, selector=selector, mix=self.share_at_random, within=within, seed=seed)

    # -- as data -------------------------------------------------------------------------------------------------

    def to_mapping(self) -> Json:
        """All settings as plain JSON values, in the block's sequence; `from_mapping` reads it back."""
        mapping: Json = {f.name: _plain(getattr(self, f.name)) for f in fields(self)}
        for name in ("probes", "evaluate"):
            if (block := getattr(self, name)) is not None:
                mapping[name] = {f.name: _plain(getattr(block, f.name)) for f in fields(block)}
        return mapping

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
    return CampusConfig.from_mapping(
        _block(source if isinstance(source, Mapping) else read_yaml(source), named or source)
    )


def _block(content: Mapping[str, Any], source: object) -> Mapping[str, Any]:
    """The `campus:` block in `content`, which may be the block itself."""
    if "campus" in content:
        return content["campus"] if content["campus"] is not None else {}
    if not content and isinstance(source, Mapping):
        return content  # an empty block: what it lacks is said by name
    known = [f.name for f in fields(CampusConfig)]
    own = [key for key in content if key in known and key != "seed"]  # a trainer's YAML has a seed too
    if not own or len(own) < len(content) / 2:
        where = "the mapping" if isinstance(source, Mapping) else str(source)
        hint = nearest("campus", [str(key) for key in content])
        raise RecipeError(f"`campus` must be a block in {where}, got none.{hint} Add `campus:` with `metrics`.")
    return content


def _problems_of(build: Any, setting: object, what: str) -> list[str]:
    """The sentences in which `build` refuses `setting`."""
    if not isinstance(setting, str | Mapping):
        return [f"`{what}` must be a name or a mapping, got {setting!r}. Write a name, or {{name: …, option: …}}."]
    try:
        build(setting)
    except RecipeError as error:
        return error.problems
    return []


def _plain(value: Any) -> Any:
    """Tuples as lists and mappings as dicts, all the way down: what JSON and YAML would make of them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
