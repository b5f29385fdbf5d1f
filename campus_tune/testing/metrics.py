"""What every metric promises: by its settings, and one of the texts by its scores too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from campus_tune.metrics import METRICS, CpuMetric, Metric, build_metric, finish_scores, parse_metric
from campus_tune.testing.promises import check_card, check_frozen, name_in, promise
from campus_tune.words.errors import MetricError
from campus_tune.words.types import FloatArray, RowTexts

PIECES = ["one", "two", "a", "of", " ", " ", " ", ", ", ". ", "\n", "ü", "42", "x = y;", "Because", "漢字"]


def check_metric(
    setting: str | Mapping[str, Any],
    *,
    columns: Mapping[str, Sequence[Any]] | None = None,
    by_place: bool = False,
    draws: int = 20,
    seed: int = 0,
) -> None:
    """Check that a metric keeps what campus_tune relies on, over rows drawn at random.

    A metric that asks a model is checked by its settings and card alone.

    Args:
        setting: as in a recipe: a registered name, or a mapping with its options.
        columns: values to draw the rows' further columns from, where the metric reads some.
        by_place: its score may depend on where a row stands (a random order); for all others that is a mistake.
        draws: data sets, of 1 to 12 rows each.
        seed: of the draws.

    Raises:
        BrokenPromise: the first promise that is not kept, in a sentence.
        RecipeError: no metric of this name is registered or installed, or it does not take these options.
    """
    name, metric = name_in(setting), build_metric(parse_metric(setting))
    check_card(METRICS, name, (Metric, CpuMetric))
    check_frozen(metric, name, may_be_plain=False)
    promise(
        (metric.kind == "cpu") == isinstance(metric, CpuMetric),
        f"`{name}` must say kind 'cpu' if, and only if, it is a CpuMetric, got {metric.kind!r}. Leave `kind` to its "
        "base class.",
    )
    if not isinstance(metric, CpuMetric):
        return
    made_with = metric.made_with()
    promise(
        all(isinstance(word, str) for pair in made_with.items() for word in pair),
        f"`{name}` must say what it was made with as library → version, both text, got {made_with!r}.",
    )
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        texts = draw_texts(rng, columns or {})
        _check_scores(setting, metric, texts)
        if by_place:
            continue
        order = rng.permutation(len(texts))
        there = metric.scores(texts, progress=False)[order].tolist()
        moved = metric.scores(texts.take(order), progress=False).tolist()
        promise(
            moved == there,
            f"`{name}` must give a row the same score wherever it stands, got {there}, and {moved} after the rows were "
            f"put in the sequence {order.tolist()} of {_shown(texts)}.",
        )


def draw_texts(rng: np.random.Generator, columns: Mapping[str, Sequence[Any]]) -> RowTexts:
    """1 to 12 rows: empty answers, single words, prose, code and letters of other scripts; counts from 0 on.

    Args:
        rng: to draw with.
        columns: the values of each further column, drawn from with repetition.
    """
    n = int(rng.integers(1, 13))
    answers = ["".join(rng.choice(PIECES, size=rng.integers(0, 15))) for _ in range(n)]
    return RowTexts(
        answers,
        rng.integers(0, 1000, n),
        rng.integers(0, 1000, n),
        {column: [values[i] for i in rng.integers(0, len(values), n).tolist()] for column, values in columns.items()},
    )


def _check_scores(setting: str | Mapping[str, Any], metric: CpuMetric, texts: RowTexts) -> None:
    """One finite number per row, twice the same, from rows that stay as they are; and a minus turns them around."""
    name, n = name_in(setting), len(texts)
    columns = {column: list(values) for column, values in texts.columns.items()}
    before = RowTexts(list(texts.response_text), texts.response_tokens.copy(), texts.prompt_tokens.copy(), columns)
    scores: FloatArray = metric.scores(texts, progress=False)
    about = f"for {_shown(texts)}"
    kind = f"{scores.dtype} {scores.shape}" if isinstance(scores, np.ndarray) else type(scores).__name__
    promise(
        isinstance(scores, np.ndarray) and scores.dtype == np.float64 and scores.shape == (n,),
        f"`{name}` must give one float64 per row, shape ({n},), got {kind} {about}.",
    )
    promise(
        np.isfinite(scores).all(),
        f"`{name}` must give every row a finite score, an empty answer too, got {scores.tolist()} {about}.",
    )
    first = scores.copy()
    scores[:] = -1.0  # what is given away is the caller's
    same = (
        texts.response_text == before.response_text
        and texts.columns == before.columns
        and texts.response_tokens.tolist() == before.response_tokens.tolist()
        and texts.prompt_tokens.tolist() == before.prompt_tokens.tolist()
    )
    promise(same, f"`{name}` must leave its rows as they were, got them changed {about}.")
    again = build_metric(parse_metric(setting))
    assert isinstance(again, CpuMetric)
    for one in (metric, again):
        second = one.scores(texts, progress=False)
        promise(
            second.tolist() == first.tolist(),
            f"`{name}` must give the same rows the same scores whenever it is asked, got {first.tolist()}, then "
            f"{second.tolist()} {about}. Draw from a seed among the settings, and remember nothing.",
        )
    notes = metric.describe(texts, first)
    promise(
        isinstance(notes, dict) and all(isinstance(note, int | float) for note in notes.values()),
        f"`{name}` must describe its scores by numbers, got {notes!r} {about}.",
    )
    entry = {"name": setting} if isinstance(setting, str) else dict(setting)
    turned = f"-{entry['name']}" if not entry["name"].startswith("-") else entry["name"].removeprefix("-")
    up, down = parse_metric(setting), parse_metric({**entry, "name": turned})
    try:
        finished = finish_scores(first, up), finish_scores(first, down)
    except MetricError:
        return  # all rows are alike: there is no order to turn around
    promise((finished[0] == -finished[1]).all(), f"`{name}` must be turned around by a minus, got {finished} {about}.")


def _shown(texts: RowTexts) -> str:
    return f"the answers {list(texts.response_text)!r} of {texts.response_tokens.tolist()} tokens"
