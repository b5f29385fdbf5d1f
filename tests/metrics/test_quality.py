from types import SimpleNamespace
from typing import Any

import pytest

from campus_tune.metrics.base import build_metric, parse_metric
from campus_tune.metrics.quality import Quality
from campus_tune.metrics.reward import Reward, pick_label
from campus_tune.words.errors import MetricError, RecipeError

ONE = SimpleNamespace(num_labels=1, id2label={0: "LABEL_0"})
THREE = SimpleNamespace(num_labels=3, id2label={0: "poor", 1: "fair", 2: "good"})


@pytest.mark.parametrize(
    ("config", "label", "number"), [(ONE, None, 0), (ONE, 0, 0), (THREE, "good", 2), (THREE, 1, 1), (THREE, "poor", 0)]
)
def test_the_label_is_the_only_one_or_the_chosen_one(config: Any, label: Any, number: int) -> None:
    assert pick_label(config, label) == number


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (None, r"one of the model's 3 labels, 0 \(poor\), 1 \(fair\), 2 \(good\), got None"),
        ("goood", "got 'goood'. Did you mean 'good'"),
        (3, "got 3"),
        (-1, "got -1"),
    ],
)
def test_several_labels_and_no_choice_is_an_error_that_lists_them(label: Any, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        pick_label(THREE, label)


def test_labels_of_one_name_are_chosen_by_number() -> None:
    twins = SimpleNamespace(num_labels=2, id2label={0: "same", 1: "same"})
    assert pick_label(twins, 1) == 1
    with pytest.raises(MetricError, match="got 'same'"):
        pick_label(twins, "same")


def test_labels_without_names_are_called_as_transformers_calls_them() -> None:
    assert pick_label(SimpleNamespace(num_labels=2, id2label=None), "LABEL_1") == 1


def test_it_asks_a_model_but_for_no_losses() -> None:
    metric = build_metric(parse_metric({"name": "quality", "model": "./reward", "logit": "good"}))
    assert metric == Quality(model="./reward", logit="good")
    assert metric.kind == "model"
    assert metric.reward == Reward("./reward", "good")
    assert not metric.competence_aware


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "`model` must be a model folder or a hub id, got None"),
        ({"model": "m", "logit": True}, "`logit` must be the name or the number of a label, got True"),
        ({"model": "m", "logit": 1.5}, "`logit` must be the name or the number of a label, got 1.5"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_metric({"name": "quality", **options})
