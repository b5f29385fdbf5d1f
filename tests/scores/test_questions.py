"""What a recipe's metrics ask for: each thing once, whoever asks for it, and no metric that nobody can ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from campus_tune.metrics import METRICS, Kind, Metric
from campus_tune.metrics.passage import HERE, Passage
from campus_tune.metrics.reward import Reward
from campus_tune.recipe.config import CampusConfig
from campus_tune.scores.questions import Questions
from campus_tune.words.errors import MetricError


def asked(*metrics: Any, selector: str = "random") -> Questions:
    return Questions(CampusConfig(metrics=list(metrics), selector=selector))


def passages(*metrics: Any, selector: str = "random") -> list[Passage]:
    return list(asked(*metrics, selector=selector).passages)


def test_metrics_of_one_forward_share_it_and_each_passage_is_asked_for_once() -> None:
    assert passages("length") == []
    assert passages("loss", "-loss", {"name": "confidence"}) == [HERE]
    assert passages("length", selector="relative_perplexity") == [HERE]
    assert passages("ifd", "loss") == [HERE, Passage(part="answer")]
    assert passages("scorer") == [HERE]
    assert passages({"name": "-rho", "holdout": "./h"}) == [HERE, Passage("./h")]
    assert passages({"name": "perplexity", "model": "./m"}) == [Passage("./m")]


def test_members_of_ensembles_are_metrics_like_any_other() -> None:
    found = asked("length", {"name": "rank_mean", "of": ["length", "ifd"]})
    assert list(found.specs) == ["length", "ifd"]
    assert found.passages == (HERE, Passage(part="answer"))
    assert list(found.ensembles) == ["rank_mean"]


def test_metrics_are_sorted_by_how_they_are_asked() -> None:
    quality = {"name": "quality", "model": "./r", "logit": 1}
    found = asked("length", quality, "scorer", "ifd", {"name": "rank_mean", "of": ["-mtld", "loss"]})
    assert list(found.specs) == ["length", "quality", "scorer", "ifd", "-mtld", "loss"]
    assert [list(kind) for kind in (found.texts, found.losses, found.rewards, found.scorers)] == [
        ["length", "-mtld"],
        ["ifd", "loss"],
        ["quality"],
        ["scorer"],
    ]
    assert found.rewards["quality"].reward == Reward("./r", 1)
    assert found.scorer is found.scorers["scorer"]
    assert asked("length").scorer is None


def test_of_the_passages_those_of_other_models_are_not_taken_again() -> None:
    assert asked({"name": "-rho", "holdout": "./h"}, "ifd").live == (HERE, Passage(part="answer"))
    assert asked({"name": "perplexity", "model": "./m"}).live == ()


def test_a_metric_that_does_not_say_how_it_is_asked_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Mute(Metric):
        """No kind of its own."""

        kind: Kind = "cpu"  # type: ignore[misc]  # what it says of itself is not how it is asked

    monkeypatch.setattr(METRICS, "_factories", {**METRICS._factories, "mute": Mute})
    with pytest.raises(MetricError, match=r"`mute` must be a CpuMetric, .* got a Mute, which does not say how it is"):
        asked("length", "mute")
