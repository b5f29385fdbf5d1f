"""Scores before the first step: which rows are measured, what the others get, and what it is charged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.prepared import TokenRows
from campus_tune.method.budget import FEWEST, Budget
from campus_tune.method.orders import order_rows
from campus_tune.method.selectors.race import stratified_sample
from campus_tune.metrics import METRICS, EnsembleMetric, parse_metric
from campus_tune.metrics.passage import HERE, Passage, PassageMetric
from campus_tune.model.measure import MeasuredRows
from campus_tune.model.peers import Peers
from campus_tune.recipe.config import CampusConfig
from campus_tune.scores import asking as asking_module
from campus_tune.scores.asking import Asking, most_paid_for, prediction_warnings
from campus_tune.scores.cache import ScoreCache
from campus_tune.scores.passages import Passages
from campus_tune.scores.run_scores import START, Scores
from campus_tune.words.errors import MetricError
from campus_tune.words.types import FloatArray, IntArray, RowLosses, RowTexts
from tests.losses import losses_of
from tests.run.tiny_run import tiny_trainer
from tests.run.witness import all_slow_losses, events

N = 300
RNG = np.random.default_rng(0)
ANSWERS = RNG.integers(2, 60, N)
TEXTS = RowTexts(
    response_text=[f"{'word ' * int(n)}{i}" for i, n in enumerate(ANSWERS)],
    response_tokens=ANSWERS,
    prompt_tokens=np.full(N, 10),
    columns={"level": RNG.integers(0, 5, N).tolist()},
)
TOKENS = ANSWERS + 10
PER_TOKEN = 4.0 - np.log(ANSWERS) / 2 + RNG.normal(0, 0.05, N)  # long answers are easy, token by token
IDS = np.arange(N, dtype=np.uint64)
ROWS = TokenRows(TOKENS, ANSWERS, IDS, np.zeros(N, dtype=np.int64), IDS, IDS, IDS)


class KilledError(Exception):
    """The process ended here."""


@dataclass
class Meter:
    """Losses by a rule, and which rows it was asked for."""

    per_token: FloatArray = field(default_factory=lambda: PER_TOKEN)
    tokens: IntArray = field(default_factory=lambda: TOKENS)
    asked: list[int] = field(default_factory=list)
    tick: Any = None

    def measure(self, rows: IntArray, *, reader: Any = None, width: int = 0) -> MeasuredRows:
        assert reader is None
        self.asked += rows.tolist()
        losses = losses_of(self.per_token[rows] * ANSWERS[rows], ANSWERS[rows], np.zeros(len(rows), dtype=np.int64))
        return MeasuredRows(losses, np.zeros((len(rows), width)))


def make(metrics: list[Any], share: float, *, meter: Any = None, cache: Path | None = None, **rest: Any) -> Asking:
    config = CampusConfig(
        metrics=metrics,
        selector=rest.pop("selector", "round_robin"),
        seed=3,
        scores=rest.pop("scores", None),
        within=rest.pop("within", None),
    )
    passages = Passages(None, [{}] * N, ROWS, meter or Meter(), ScoreCache(cache), Peers())
    passages.known.__dict__["_identity"] = {"model": "m", "adapter": None, "template": "t", "precision": "no"}
    return Asking(config, TEXTS, passages, Budget(share, float(TOKENS.sum()), 0.5), **rest)


def score(metrics: list[Any], share: float, **settings: Any) -> tuple[Scores, list[int], Asking]:
    """(The scores, the rows that were measured in that sequence, what made them)."""
    scoring = make(metrics, share, **settings)
    scores = scoring.start()
    meter: Any = scoring.passages.meter
    return scores, meter.asked, scoring


def test_metrics_of_the_texts_cost_nothing_and_ask_no_model() -> None:
    scores, asked, scoring = score(["length", "-mtld", {"name": "column", "column": "level"}], 0.05)
    assert list(scores.by_label) == ["length", "-mtld", "level"]
    assert scores.by_label["length"].tolist() == ANSWERS.tolist()
    assert scores.by_label["level"].tolist() == TEXTS.columns["level"]
    assert scores.by_label["-mtld"].max() <= 0
    assert (len(asked), scoring.budget.spent["scoring"], scores.start) == (0, 0, None)
    assert scores.notes["length"]["rows_measured"] == N


def test_all_rows_are_measured_where_their_part_of_the_budget_pays_for_them() -> None:
    scores, asked, scoring = score(["loss"], 1.1)
    assert sorted(asked) == list(range(N))
    np.testing.assert_allclose(scores.by_label["loss"], PER_TOKEN)
    assert scores.notes["loss"] == {"rows_measured": N}
    assert scoring.budget.spent["scoring"] == TOKENS.sum()
    assert scoring.budget.found["scoring"] == 0
    assert scoring.budget.seconds["scoring"] > 0
    assert scores.known is not None
    assert scores.known.all()


def test_a_sample_is_measured_and_the_others_predicted_where_it_does_not() -> None:
    scores, asked, scoring = score(["loss"], 0.5)
    n = len(asked)
    assert FEWEST["scoring"] < n < N
    assert scoring.budget.spent["scoring"] == TOKENS[asked].sum() <= 1.1 * scoring.budget.part("scoring")
    notes = scores.notes["loss"]
    assert notes["rows_measured"] == n
    assert notes["prediction_correlation"] > 0.8  # the loss follows the length
    assert notes["stability"] > 0.9  # and so do predictions from either half of the sample
    measured = np.zeros(N, dtype=np.bool_)
    measured[asked] = True
    assert scores.known is not None
    assert scores.known.tolist() == measured.tolist()
    np.testing.assert_allclose(scores.by_label["loss"][measured], PER_TOKEN[measured])
    predicted = scores.by_label["loss"][~measured]
    assert np.isfinite(predicted).all()
    assert np.corrcoef(predicted, PER_TOKEN[~measured])[0, 1] > 0.8


def test_the_sample_holds_short_and_long_rows_of_every_domain() -> None:
    groups = np.arange(N) % 3
    _, asked, _ = score(["loss"], 0.5, groups=groups)
    assert np.bincount(groups[asked]).min() > 0.8 * len(asked) / 3
    quartiles = np.searchsorted(np.quantile(TOKENS, [0.25, 0.5, 0.75]), TOKENS[asked])
    assert np.bincount(quartiles, minlength=4).min() > 0.15 * len(asked)


def test_a_small_budget_measures_the_fewest_rows_and_says_what_all_would_cost() -> None:
    scores, asked, scoring = score(["loss"], 0.12)
    assert len(asked) == FEWEST["scoring"]
    (warning,) = prediction_warnings(scores, scoring, lambda: 1.1)
    assert "`loss` was measured on 64 of 300 rows and predicted on the others" in warning
    assert "budget: 1.1 pays for all of them; so does `campus-tune score`, ahead of training" in warning
    everything, _, paid = score(["loss"], 1.0)
    assert prediction_warnings(everything, paid, pytest.fail) == []


@given(
    rows=st.lists(st.tuples(st.integers(1, 300), st.integers(0, 300), st.integers(0, 2)), min_size=1, max_size=80),
    share=st.floats(0.0, 1.2),
    most=st.integers(1, 80),
    fewest=st.integers(1, 40),
    grouped=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_sample_is_the_largest_that_is_paid_for_one_by_one_from_above(
    rows: list[tuple[int, int, int]], share: float, most: int, fewest: int, *, grouped: bool, seed: int
) -> None:
    tokens, more, groups = np.array(rows).T
    by_length = order_rows(tokens.astype(np.float64), seed=seed, groups=groups if grouped else None)
    price, most = tokens + more, min(most, len(tokens))
    allowance = share * float(price.sum())
    n = most
    while n > fewest and price[stratified_sample(by_length, n, seed=[seed])].sum() > allowance:
        n -= 1
    assert most_paid_for(by_length, price, allowance, most, fewest=fewest, seed=[seed]) == n


def test_all_rows_are_measured_whatever_they_cost_when_asked_to() -> None:
    scores, asked, _ = score(["loss"], 0.001, whole=True)
    assert len(asked) == N
    np.testing.assert_allclose(scores.by_label["loss"], PER_TOKEN)


def test_loss_can_be_the_sum_over_the_answer_and_reversed() -> None:
    summed = {"name": "loss", "reduce": "sum", "label": "sum"}
    scores, asked, _ = score([summed, "-loss"], 1.1)
    np.testing.assert_allclose(scores.by_label["sum"], PER_TOKEN * ANSWERS)
    np.testing.assert_allclose(scores.by_label["-loss"], -PER_TOKEN)
    assert len(asked) == N  # one forward serves both


def test_start_losses_are_measured_for_the_selector_that_asks_for_them() -> None:
    scores, asked, _ = score(["length"], 1.1, selector="relative_perplexity")
    assert len(asked) == N
    assert scores.start is not None
    np.testing.assert_allclose(scores.start.per_row(), PER_TOKEN)
    assert list(scores.by_label) == ["length"]


def test_labels_keep_the_sequence_of_the_recipe_and_members_of_ensembles_come_last() -> None:
    assert list(score(["loss", "length", "-length"], 1.1)[0].by_label) == ["loss", "length", "-length"]
    both = {"name": "rank_mean", "of": ["mtld", "loss"]}
    assert list(score([both, "length"], 1.1)[0].by_label) == ["rank_mean", "length", "mtld", "loss"]


def test_an_ensemble_is_the_mean_rank_of_its_members_each_scored_once() -> None:
    both = {"name": "rank_mean", "of": ["length", "-loss"]}
    scores, asked, _ = score([both, "-loss"], 1.1)
    assert len(asked) == N
    ranks = [np.array([(v < x).sum() + ((v == x).sum() + 1) / 2 for x in v]) for v in (ANSWERS, -PER_TOKEN)]
    np.testing.assert_allclose(scores.by_label["rank_mean"], (ranks[0] + ranks[1]) / 2 / N)
    assert scores.notes["rank_mean"] == {"rows_measured": N}


def test_an_ensemble_was_measured_where_all_its_members_were() -> None:
    scores, asked, _ = score([{"name": "rank_mean", "of": ["length", "loss"]}], 0.5)
    assert scores.notes["rank_mean"] == {"rows_measured": len(asked)}


def test_a_metric_of_someone_else_is_asked_as_the_class_that_it_extends_says(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Half(PassageMetric):
        """Half the loss."""

        passages = (HERE,)

        def from_losses(self, losses: Sequence[RowLosses]) -> FloatArray:
            return losses[0].per_row() / 2

        def remarks(self, label: str, losses: Sequence[RowLosses], is_foreign: Callable[[Passage], bool]) -> list[str]:
            return [f"{label} saw {len(losses[0])} rows, of other tokens: {is_foreign(HERE)}"]

    @dataclass(frozen=True)
    class Largest(EnsembleMetric):
        """The larger of two."""

        members = (parse_metric("length"), parse_metric({"name": "column", "column": "level"}))

        def combine(self, scores: Mapping[str, FloatArray], groups: IntArray | None) -> FloatArray:
            assert groups is None
            return np.maximum(scores["length"], scores["level"])

    monkeypatch.setattr(METRICS, "_factories", {**METRICS._factories, "half": Half, "largest": Largest})
    scores, asked, _ = score(["-half", "largest"], 1.1)
    assert sorted(asked) == list(range(N))
    np.testing.assert_allclose(scores.by_label["-half"], -PER_TOKEN / 2)
    assert scores.by_label["largest"].tolist() == np.maximum(ANSWERS, TEXTS.columns["level"]).tolist()
    assert scores.warnings == [f"-half saw {N} rows, of other tokens: False"]


def test_an_ensemble_s_own_groups_are_a_column_and_one_that_is_not_there_is_told_before_anything_is_measured() -> None:
    spread = {"name": "spread", "groups": "level", "gamma": 3}
    scores, asked, _ = score([spread], 1.1, within="none")
    assert sorted(asked) == list(range(N))
    low, high = np.quantile(PER_TOKEN, [0.25, 0.75])
    for level in range(5):
        rows = np.flatnonzero(np.array(TEXTS.columns["level"]) == level)
        gained = PER_TOKEN[rows] - scores.by_label["spread"][rows]
        assert np.argsort(-gained).tolist() == np.argsort(PER_TOKEN[rows]).tolist()
        assert gained.max() == pytest.approx(3 * (high - low))
    meter = Meter()
    with pytest.raises(MetricError, match=r"`spread: groups` must be a column .* \(level\), got 'topic'"):
        score([{**spread, "groups": "topic"}], 1.1, within="none", meter=meter)
    assert meter.asked == []


def test_losses_that_do_not_order_the_rows_are_refused() -> None:
    for share in (1.1, 0.1):
        with pytest.raises(MetricError, match="`loss` gives every row the same score"):
            score(["loss"], share, meter=Meter(np.ones(N)))


def test_what_is_found_is_charged_as_if_it_had_been_measured_and_says_so(tmp_path: Path) -> None:
    first, asked, paid = score(["loss", "-loss"], 1.1, cache=tmp_path)
    again, nothing, found = score(["loss", "-loss"], 1.1, cache=tmp_path)
    assert (len(asked), nothing) == (N, [])
    assert found.budget.spent == paid.budget.spent
    assert found.budget.found["scoring"] == TOKENS.sum()
    assert again.digests() == first.digests()
    assert again.notes == first.notes


def test_scores_taken_ahead_of_training_are_all_used_for_the_price_of_their_part(tmp_path: Path) -> None:
    score(["loss"], 1.0, cache=tmp_path, whole=True)[2].mark_ahead()
    scores, asked, scoring = score(["loss"], 0.6, cache=tmp_path)
    assert asked == []
    assert scores.notes["loss"] == {"rows_measured": N}
    np.testing.assert_allclose(scores.by_label["loss"], PER_TOKEN)
    spent, part = scoring.budget.spent["scoring"], scoring.budget.part("scoring")
    assert spent <= part + 1
    assert spent == pytest.approx(part, rel=0.1)


def test_all_rows_that_other_runs_happen_to_have_measured_change_no_decision(tmp_path: Path) -> None:
    calm, asked, _ = score(["loss"], 0.6)
    score(["loss"], 1.1, cache=tmp_path)  # a larger budget
    scores, nothing, scoring = score(["loss"], 0.6, cache=tmp_path)
    assert nothing == []
    assert scores.digests() == calm.digests()
    assert scoring.budget.spent["scoring"] == TOKENS[asked].sum()


def test_a_part_of_the_rows_in_the_cache_changes_nothing_but_what_is_measured(tmp_path: Path) -> None:
    calm, asked, _ = score(["loss"], 0.5)
    some = make(["loss"], 0.5, cache=tmp_path)
    known = np.arange(0, N, 2)
    some.passages.take(Passage(), known)
    scores, measured, scoring = score(["loss"], 0.5, cache=tmp_path)
    assert sorted(measured) == sorted(row for row in asked if row % 2)
    assert scores.digests() == calm.digests()
    assert scoring.budget.found["scoring"] == TOKENS[[row for row in asked if row % 2 == 0]].sum()
    assert scoring.budget.spent["scoring"] == TOKENS[asked].sum()


def test_metrics_of_the_texts_are_found_again_and_only_new_texts_are_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from campus_tune.metrics.diversity import Mtld

    asked: list[int] = []
    measure = Mtld.scores
    monkeypatch.setattr(
        Mtld, "scores", lambda self, texts, **k: [asked.append(len(texts)), measure(self, texts, **k)][1]
    )
    first = score(["mtld"], 0.05, cache=tmp_path)[0]
    again = score(["-mtld"], 0.05, cache=tmp_path)[0]  # reversed is the same metric
    assert asked == [N]
    np.testing.assert_array_equal(again.by_label["-mtld"], 0.0 - first.by_label["mtld"])
    texts = list(TEXTS.response_text)
    texts[17] = "something else altogether"
    changed = make(["mtld"], 0.05, cache=tmp_path)
    changed.texts = RowTexts(texts, TEXTS.response_tokens, TEXTS.prompt_tokens, TEXTS.columns)
    scores = changed.start()
    assert asked == [N, 1]
    others = np.arange(N) != 17
    np.testing.assert_array_equal(scores.by_label["mtld"][others], first.by_label["mtld"][others])


def test_metrics_of_the_texts_are_kept_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from campus_tune.metrics.diversity import Mtld

    monkeypatch.setattr(asking_module, "TEXTS_AT_ONCE", 128)
    sizes: list[int] = []
    measure = Mtld.scores

    def dies(self: Mtld, texts: RowTexts, **rest: Any) -> FloatArray:
        if len(sizes) == 2:
            raise KilledError
        sizes.append(len(texts))
        return measure(self, texts, **rest)

    monkeypatch.setattr(Mtld, "scores", dies)
    with pytest.raises(KilledError):
        score(["mtld"], 0.05, cache=tmp_path)
    sizes.clear()
    scores = score(["mtld"], 0.05, cache=tmp_path)[0]
    assert sizes == [N - 256]
    monkeypatch.setattr(Mtld, "scores", measure)
    np.testing.assert_array_equal(scores.by_label["mtld"], score(["mtld"], 0.05)[0].by_label["mtld"])


def test_a_cache_that_was_named_and_holds_nothing_of_use_says_why(tmp_path: Path) -> None:
    score(["loss"], 1.1, cache=tmp_path / "there")
    scoring = make(["loss"], 1.1, cache=tmp_path / "there", scores=str(tmp_path / "there"))
    scoring.passages.known.__dict__["_identity"]["model"] = "another"
    (warning,) = scoring.start().warnings
    assert warning.startswith("`scores`: the `loss` scores in")
    assert warning.endswith("were taken with another model (m there, another now).")
    assert score(["loss"], 1.1, cache=tmp_path / "there")[0].warnings == []


def test_a_run_leaves_the_losses_of_its_untrained_model(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, n=16, config={"metrics": ["loss", "length"], "stages": 2, "budget": 5.0})
    slow = all_slow_losses(trainer, range(16))  # before training
    trainer.train()
    scores = tmp_path / "curriculum" / "scores"
    table = pq.read_table(scores / f"{START}.parquet").to_pydict()
    np.testing.assert_allclose(table["nll_sum"], slow.nll_sum, rtol=2e-6)
    assert table["tokens"] == slow.tokens.tolist()
    np.testing.assert_allclose(pq.read_table(scores / "loss.parquet")["score"], slow.per_row(), rtol=2e-6)
    recorded = {event["metric"]: event for event in events(tmp_path, "scores")}
    assert recorded["loss"]["rows_measured"] == 16
    assert recorded["length"]["quantiles"][-1] == max(slow.tokens)


def test_losses_of_no_row_are_known_before_they_are_measured() -> None:
    assert Scores().known is None
    assert not (Scores(measured={Passage(): RowLosses.zeros(4)}).known == np.ones(4)).any()
