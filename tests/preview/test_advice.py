"""What a method does that its name does not say: refused, warned of, or passed in silence."""

from __future__ import annotations

from typing import Any

import pytest

from campus_tune.preview.advice import problems_in_method
from campus_tune.recipe.config import CampusConfig

FOUR = ["length", "mtld", "compression", "loss"]


def found(**settings: Any) -> list[str]:
    return [str(finding) for finding in problems_in_method(CampusConfig(**{"metrics": FOUR, **settings}))]


def test_the_defaults_are_fine() -> None:
    assert found() == []


@pytest.mark.parametrize("schedule", [{"window": "slice"}, {"window": "prefix"}, {"coverage": "revisit"}])
def test_a_loss_order_under_lowest_perplexity_is_refused_with_the_ways_out(schedule: dict[str, str]) -> None:
    [refused, *_] = found(selector="lowest_perplexity", **schedule)
    assert refused.startswith("refused: lowest_perplexity with a `loss` order always takes `loss` here (20 of 20")
    assert (
        "Write selector: matched or relative_perplexity, or drop `loss` from metrics, or use window: slice" in refused
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"metrics": FOUR[:3]},
        {"metrics": ["length", "-loss"]},
        {"selector": "relative_perplexity"},
        {"window": "slice", "coverage": "revisit"},
    ],
)
def test_the_ways_out_are_not_refused(settings: dict[str, Any]) -> None:
    assert not any("refused" in text for text in found(**{"selector": "lowest_perplexity", **settings}))


def test_sorted_slices_to_the_end_are_warned_of() -> None:
    [warning] = found(window="slice", handover=1.0)
    assert warning.startswith("warning: Narrow sorted slices forget")
    assert "held-out loss of 2.5 (sorted by length) where plain shuffling reached 0.92" in warning
    assert warning.endswith("Write window: prefix, or mix: 0.2 and more, or handover: 0.6.")


@pytest.mark.parametrize("settings", [{"handover": 0.6}, {"handover": 1.0, "mix": 0.2}])
def test_slices_with_random_rows_or_a_handover_are_fine(settings: dict[str, float]) -> None:
    assert found(window="slice", **settings) == []


def test_revisiting_says_what_it_leaves_out() -> None:
    [warning] = found(coverage="revisit")
    assert "sees only about 60 % of the rows and repeats about 43 %" in warning


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"handover": 0}, "handover: 0 shuffles from the first step."),
        ({"stages": 1}, "stages: 1 makes one stage of all rows"),
        ({"pacing": {"name": "root", "start": 1.0}}, "The pacing opens nearly all rows from the start"),
        ({"metrics": ["length"], "selector": "lowest_perplexity"}, "With one metric there is nothing to select"),
        ({"budget": 2}, "budget: 2 lets the curriculum cost 2 times the training itself."),
    ],
)
def test_a_curriculum_that_is_none_is_warned_of(settings: dict[str, Any], what: str) -> None:
    [warning] = found(**settings)
    assert warning.startswith(f"warning: {what}")


def test_shuffling_with_metrics_says_what_they_are_for() -> None:
    assert found(selector="shuffle") == [
        "info: selector: shuffle trains no order, the metrics are scored for the report only."
    ]
    assert found(selector="shuffle", metrics=[]) == []


LEARNABILITY, RHO = {"name": "learnability", "proxy": "./proxy"}, {"name": "rho", "holdout": "./model"}


@pytest.mark.parametrize(
    "metric", [LEARNABILITY, RHO, {"name": "rank_mean", "of": ["mtld", RHO]}, {**RHO, "label": "worth"}]
)
def test_a_metric_whose_paper_trains_the_highest_first_is_noted_without_its_minus(metric: dict[str, Any]) -> None:
    [note] = found(metrics=["length", metric])
    assert note.startswith("info: `")
    assert "opens the rows of the lowest values first; the paper trains" in note
    assert note.endswith(f"write -{'learnability' if metric == LEARNABILITY else 'rho'}.")


@pytest.mark.parametrize("metric", [LEARNABILITY, RHO])
def test_with_its_minus_it_is_as_the_paper_has_it(metric: dict[str, Any]) -> None:
    assert found(metrics=["length", {**metric, "name": f"-{metric['name']}"}]) == []
