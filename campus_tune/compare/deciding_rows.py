"""The rows that decide a comparison, and proof that nothing was trained or steered by them."""

from __future__ import annotations

from campus_tune.compare.plan import Plan
from campus_tune.data.held_out import HeldOut, read_held_out, refuse_rows
from campus_tune.data.held_out_prompts import HeldOutPrompts, read_held_out_prompts
from campus_tune.recipe.blocks import ProbeSettings
from campus_tune.run.make_trainer import load_rows, training_rows
from campus_tune.words.errors import DataError
from campus_tune.words.files import read_table
from campus_tune.words.types import Json

FEWEST = 30  # held-out rows, below which nothing can be said


def read_test(plan: Plan, *, what: str = "compare: test") -> HeldOut:
    """The test rows of a comparison.

    Args:
        plan: whose settings name them.
        what: names them in the YAML.

    Raises:
        DataError: too few rows, or rows that are trained or steer.
    """
    settings = plan.settings
    rows = read_held_out(settings.test, domain_column=settings.domain_column)
    if len(rows) < FEWEST:
        raise DataError(
            f"`{what}` must have at least {FEWEST} rows, got {len(rows)}: their loss says nothing. Add held-out rows."
        )
    (script, _, _, mixture), _ = plan.parsed(settings.seeds[0], plan.out)
    loaded = load_rows(script, mixture)
    train = [dict(row) for row in loaded[script.dataset_train_split]] if script.dataset_train_split in loaded else []
    raw = [(f"`{path}` row {i}", row) for path in settings.test for i, row in enumerate(read_table(path))]
    places, plain = [place for place, _ in raw], [row for _, row in raw]
    refuse_rows(plain, places, train, where="the training set", say=print)
    for path in dict.fromkeys(path for arm in plan.arms for path in _probe_files(arm.campus)):
        refuse_rows(plain, places, read_table(path), where=f"the steering probes `{path}`", say=print)
    return rows


def read_test_prompts(plan: Plan) -> HeldOutPrompts:
    """The test prompts of a comparison of runs that are trained by reward.

    Raises:
        DataError: too few prompts, rows without one, or prompts that are trained.
    """
    settings = plan.settings
    rows = read_held_out_prompts(settings.test, domain_column=settings.domain_column)
    if len(rows) < FEWEST:
        raise DataError(
            f"`compare: test` must have at least {FEWEST} prompts, got {len(rows)}: their reward says nothing. Add "
            "held-out prompts."
        )
    (script, _, _, mixture), _ = plan.parsed(settings.seeds[0], plan.out)
    rows.refuse_trained([dict(row) for row in training_rows(script, mixture)], say=print)
    return rows


def read_probes(block: Json) -> HeldOut | None:
    """The recipe's probes as text; None where it has none."""
    paths = _probe_files(block)
    if not paths:
        return None
    settings = ProbeSettings.from_mapping(block["probes"])
    first = read_table(paths[0])
    column = settings.domain_column if first and settings.domain_column in first[0] else None
    return read_held_out(paths, domain_column=column)


def _probe_files(block: Json) -> tuple[str, ...]:
    return ProbeSettings.from_mapping(block["probes"]).path if block.get("probes") else ()
