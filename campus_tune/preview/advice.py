"""What a recipe's method does that its name does not say: found from the settings alone, before any data.

`check` prints these and refuses some; a run repeats the warnings in its last lines. The numbers are ours: two seeds of
a tiny model trained from scratch on four graded tasks (6 000 rows × 3 epochs, equal tokens, constant rate), and the
plans of `campus-tune simulate` over 10 000 rows.

>>> from campus_tune.recipe.config import CampusConfig
>>> [finding.severity for finding in problems_in_method(CampusConfig(metrics=["length"], handover=0))]
['warning']
"""

from __future__ import annotations

from campus_tune.method.curriculum import SHUFFLE
from campus_tune.method.pacing import build_pacing, scope_at
from campus_tune.metrics import build_metric, leaves
from campus_tune.preview.draw_advice import draw_findings
from campus_tune.preview.steer_advice import bandit_findings
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.findings import Finding

_HARDLY_A_CURRICULUM = 0.95  # scope at the start from which nothing is held back


def problems_in_method(config: CampusConfig) -> list[Finding]:
    """Everything in `config` that works and is probably not meant, or is no multi-perspective curriculum at all."""
    found = [*draw_findings(config), *bandit_findings(config)]
    if config.is_shuffle:
        unused = "selector: shuffle trains no order, the metrics are scored for the report only."
        return [*found, *([Finding("info", unused)] if config.metrics else [])]
    # The slice that is sorted by what selects it wins wherever orders compete for the same rows.
    has_loss = any(build_metric(spec).own_loss and not spec.reverse for spec in config.specs)
    competes = len(config.specs) > 1 and (config.coverage == "exact" or config.window == "prefix")
    if config.selector_name == "lowest_perplexity" and has_loss and competes:
        what = (
            "lowest_perplexity with a `loss` order always takes `loss` here (20 of 20 stages when simulated): the "
            "slice that is sorted by what selects it wins, and what it takes leaves the other slices harder. This is "
            "no multi-perspective curriculum."
        )
        remedy = (
            "Write selector: matched or relative_perplexity, or drop `loss` from metrics, or use window: slice with "
            "coverage: revisit, as published."
        )
        found.append(Finding("refused", what, remedy))
    if config.window == "slice" and config.share_at_random <= 0 and config.handover >= 1:
        what = (
            "Narrow sorted slices forget: a small model trained this way ended at a held-out loss of 2.5 (sorted by "
            "length) where plain shuffling reached 0.92, 1.3 with half of each stage drawn at random, 1.0 with the "
            "prefix window. Fine-tuning forgets less and has less to gain."
        )
        found.append(Finding("warning", what, "Write window: prefix, or mix: 0.2 and more, or handover: 0.6."))
    if config.coverage == "revisit":
        what = (
            "coverage: revisit lets sub-curricula train the same rows: one epoch's worth of tokens sees only about "
            "60 % of the rows and repeats about 43 % (simulated, four metrics)."
        )
        remedy = "Write coverage: exact to train every row once per epoch; `campus-tune simulate` shows your numbers."
        found.append(Finding("warning", what, remedy))
    # What leaves nothing of a curriculum, by the first that does.
    if config.handover == 0 and not config.draws_apart and not config.weighs:
        remedy = f"Raise it, or write selector: {SHUFFLE}."
        found.append(Finding("warning", "handover: 0 shuffles from the first step.", remedy))
    elif config.stages == 1:
        what = "stages: 1 makes one stage of all rows, drawn in random order: nothing is left of the curriculum."
        found.append(Finding("warning", what, "Use several stages; 20 is the default."))
    elif scope_at(build_pacing(config.pacing), 0.0) >= _HARDLY_A_CURRICULUM:
        what = "The pacing opens nearly all rows from the start: nothing is held back."
        found.append(Finding("warning", what, "Lower its `start`; 0.01 is the default."))
    if len(config.specs) == 1 and config.selector is not None and config.build_selector().needs:
        what = f"With one metric there is nothing to select: {config.selector_name} would measure and decide nothing."
        found.append(Finding("warning", what, "Write selector: fixed, or add a metric."))
    turned = ((spec, build_metric(spec).highest_first) for spec in leaves(config.specs) if not spec.reverse)
    found += [
        Finding(
            "info",
            f"`{spec.label}` opens the rows of the lowest values first; the paper trains {highest} first: write "
            f"-{spec.name}.",
        )
        for spec, highest in turned
        if highest
    ]
    if config.budget > 1:
        what = f"budget: {config.budget:g} lets the curriculum cost {config.budget:g} times the training itself."
        found.append(Finding("warning", what, "0.05 is the default."))
    return found
