"""What a recipe's method does that its name does not say: found from the settings alone, before any data.

`check` prints these and refuses some; a run repeats the warnings in its last lines. The numbers are ours: two seeds of
a tiny model trained from scratch on four graded tasks (6 000 rows × 3 epochs, equal tokens, constant rate), and the
plans of `campus-tune simulate` over 10 000 rows.

>>> from campus_tune.recipe.config import CampusConfig
>>> [finding.severity for finding in problems_in_method(CampusConfig(metrics=["length"], handover=0))]
['warning']
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from campus_tune.method.curriculum import SHUFFLE
from campus_tune.method.pacing import build_pacing, scope_at
from campus_tune.metrics import build_metric, leaves
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.findings import Finding

_HARDLY_A_CURRICULUM = 0.95  # scope at the start from which nothing is held back


def problems_in_method(config: CampusConfig) -> list[Finding]:
    """Everything in `config` that works and is probably not meant, or is no multi-perspective curriculum at all."""
    if config.is_shuffle:
        unused = "selector: shuffle trains no order, the metrics are scored for the report only."
        return [Finding("info", unused)] if config.metrics else []
    checks: list[Callable[[CampusConfig], Iterator[Finding]]] = [
        _loss_always_wins,
        _forgets,
        _repeats,
        _no_curriculum,
        _single_metric,
        _paper_turns_it_around,
        _budget,
    ]
    return [finding for check in checks for finding in check(config)]


def _loss_always_wins(config: CampusConfig) -> Iterator[Finding]:
    has_loss = any(build_metric(spec).own_loss and not spec.reverse for spec in config.specs)
    competes = config.coverage == "exact" or config.window == "prefix"
    if config.selector_name != "lowest_perplexity" or not has_loss or len(config.specs) < 2 or not competes:
        return
    yield Finding(
        "refused",
        "lowest_perplexity with a `loss` order always takes `loss` here (20 of 20 stages when simulated): the slice "
        "that is sorted by what selects it wins, and what it takes leaves the other slices harder. This is no "
        "multi-perspective curriculum.",
        "Write selector: matched or relative_perplexity, or drop `loss` from metrics, or use window: slice with "
        "coverage: revisit, as published.",
    )


def _forgets(config: CampusConfig) -> Iterator[Finding]:
    if config.window != "slice" or config.share_at_random > 0 or config.handover < 1:
        return
    yield Finding(
        "warning",
        "Narrow sorted slices forget: a small model trained this way ended at a held-out loss of 2.5 (sorted by "
        "length) where plain shuffling reached 0.92, 1.3 with half of each stage drawn at random, 1.0 with the prefix "
        "window. Fine-tuning forgets less and has less to gain.",
        "Write window: prefix, or mix: 0.2 and more, or handover: 0.6.",
    )


def _repeats(config: CampusConfig) -> Iterator[Finding]:
    if config.coverage != "revisit":
        return
    yield Finding(
        "warning",
        "coverage: revisit lets sub-curricula train the same rows: one epoch's worth of tokens sees only about 60 % "
        "of the rows and repeats about 43 % (simulated, four metrics).",
        "Write coverage: exact to train every row once per epoch; `campus-tune simulate` shows your numbers.",
    )


def _no_curriculum(config: CampusConfig) -> Iterator[Finding]:
    if config.handover == 0:
        yield Finding(
            "warning", "handover: 0 shuffles from the first step.", f"Raise it, or write selector: {SHUFFLE}."
        )
    elif config.stages == 1:
        yield Finding(
            "warning",
            "stages: 1 makes one stage of all rows, drawn in random order: nothing is left of the curriculum.",
            "Use several stages; 20 is the default.",
        )
    elif scope_at(build_pacing(config.pacing), 0.0) >= _HARDLY_A_CURRICULUM:
        yield Finding(
            "warning",
            "The pacing opens nearly all rows from the start: nothing is held back.",
            "Lower its `start`; 0.01 is the default.",
        )


def _single_metric(config: CampusConfig) -> Iterator[Finding]:
    if len(config.specs) == 1 and config.selector is not None and config.build_selector().needs:
        yield Finding(
            "warning",
            f"With one metric there is nothing to select: {config.selector_name} would measure and decide nothing.",
            "Write selector: fixed, or add a metric.",
        )


def _paper_turns_it_around(config: CampusConfig) -> Iterator[Finding]:
    for spec in leaves(config.specs):
        if (highest := build_metric(spec).highest_first) and not spec.reverse:
            yield Finding(
                "info",
                f"`{spec.label}` opens the rows of the lowest values first; the paper trains {highest} first: "
                f"write -{spec.name}.",
            )


def _budget(config: CampusConfig) -> Iterator[Finding]:
    if config.budget > 1:
        yield Finding(
            "warning",
            f"budget: {config.budget:g} lets the curriculum cost {config.budget:g} times the training itself.",
            "0.05 is the default.",
        )
