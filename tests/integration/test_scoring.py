from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from campus_tune.budget import Budget
from campus_tune.errors import MetricError, ResumeError
from campus_tune.integrations.rows import TokenRows
from campus_tune.integrations.scoring import FEWEST, START, Scores, compute_scores, prediction_warnings
from campus_tune.recipe import CampusConfig
from campus_tune.types import FloatArray, IntArray, RowLosses, RowTexts
from tests.integration.tiny_run import tiny_trainer
from tests.integration.witness import all_slow_losses, events
from tests.losses import losses_of

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
ROWS = TokenRows(TOKENS, ANSWERS, IDS, np.zeros(N, dtype=np.int64), IDS)


class Meter:
    def __init__(self, per_token: FloatArray = PER_TOKEN) -> None:
        self.per_token, self.seconds, self.asked = per_token, 0.0, np.zeros(0, dtype=np.int64)

    def losses(self, rows: IntArray) -> RowLosses:
        self.asked = np.concatenate([self.asked, rows])
        self.seconds += 1.5
        return losses_of(self.per_token[rows] * ANSWERS[rows], ANSWERS[rows], np.zeros(len(rows), dtype=np.int64))


def score(metrics: list[Any], share: float, *, meter: Any = None, **rest: Any) -> tuple[Scores, Any, Budget]:
    config = CampusConfig(metrics=metrics, selector=rest.pop("selector", "round_robin"), seed=3)
    meter = meter or Meter()
    budget = Budget(share, float(TOKENS.sum()), 0.5)
    scores = compute_scores(config, TEXTS, meter, budget, groups=rest.pop("groups", None), num_proc=1)
    return scores, meter, budget


def test_metrics_of_the_texts_cost_nothing_and_ask_no_model() -> None:
    scores, meter, budget = score(["length", "-mtld", {"name": "column", "column": "level"}], 0.05)
    assert list(scores.by_label) == ["length", "-mtld", "level"]
    assert scores.by_label["length"].tolist() == ANSWERS.tolist()
    assert scores.by_label["level"].tolist() == TEXTS.columns["level"]
    assert scores.by_label["-mtld"].max() <= 0
    assert (len(meter.asked), budget.spent["scoring"], scores.start) == (0, 0, None)
    assert scores.notes["length"]["rows_measured"] == N


def test_all_rows_are_measured_where_half_the_budget_pays_for_them() -> None:
    scores, meter, budget = score(["loss"], 1.1)
    assert meter.asked.tolist() == list(range(N))
    np.testing.assert_allclose(scores.by_label["loss"], PER_TOKEN)
    assert scores.notes["loss"] == {"rows_measured": N}
    assert budget.spent["scoring"] == TOKENS.sum()
    assert budget.seconds["scoring"] == 1.5
    assert scores.known is not None
    assert scores.known.all()


def test_a_sample_is_measured_and_the_others_predicted_where_it_does_not() -> None:
    scores, meter, budget = score(["loss"], 0.5)
    n = len(meter.asked)
    assert FEWEST < n < N
    assert budget.spent["scoring"] == TOKENS[meter.asked].sum() <= 1.1 * budget.total / 2
    assert scores.notes["loss"]["rows_measured"] == n
    assert scores.notes["loss"]["prediction_correlation"] > 0.8  # the loss follows the length
    measured = np.zeros(N, dtype=np.bool_)
    measured[meter.asked] = True
    assert scores.known is not None
    assert scores.known.tolist() == measured.tolist()
    np.testing.assert_allclose(scores.by_label["loss"][measured], PER_TOKEN[measured])
    predicted = scores.by_label["loss"][~measured]
    assert np.isfinite(predicted).all()
    assert np.corrcoef(predicted, PER_TOKEN[~measured])[0, 1] > 0.8


def test_the_sample_holds_short_and_long_rows_of_every_domain() -> None:
    groups = np.arange(N) % 3
    _, meter, _ = score(["loss"], 0.5, groups=groups)
    assert np.bincount(groups[meter.asked]).min() > 0.8 * len(meter.asked) / 3
    quartiles = np.searchsorted(np.quantile(TOKENS, [0.25, 0.5, 0.75]), TOKENS[meter.asked])
    assert np.bincount(quartiles, minlength=4).min() > 0.15 * len(meter.asked)


def test_a_budget_for_nothing_still_measures_the_fewest_rows_and_says_what_all_would_cost() -> None:
    scores, meter, budget = score(["loss"], 0.001)
    assert len(meter.asked) == FEWEST
    (warning,) = prediction_warnings(scores, budget, TOKENS)
    assert "`loss` was measured on 64 of 300 rows and predicted on the others" in warning
    assert "budget: 1.00 pays for all of them" in warning
    everything, _, paid = score(["loss"], 1.0)
    assert prediction_warnings(everything, paid, TOKENS) == []


def test_loss_can_be_the_sum_over_the_answer_and_reversed() -> None:
    summed = {"name": "loss", "reduce": "sum", "label": "sum"}
    scores, meter, _ = score([summed, "-loss"], 1.1)
    np.testing.assert_allclose(scores.by_label["sum"], PER_TOKEN * ANSWERS)
    np.testing.assert_allclose(scores.by_label["-loss"], -PER_TOKEN)
    assert len(meter.asked) == N  # one forward serves both


def test_start_losses_are_measured_for_the_selector_that_asks_for_them() -> None:
    scores, meter, _ = score(["length"], 1.1, selector="relative_perplexity")
    assert len(meter.asked) == N
    assert scores.start is not None
    np.testing.assert_allclose(scores.start.per_row(), PER_TOKEN)
    assert list(scores.by_label) == ["length"]


def test_labels_keep_the_sequence_of_the_recipe() -> None:
    assert list(score(["loss", "length", "-length"], 1.1)[0].by_label) == ["loss", "length", "-length"]


def test_losses_that_do_not_order_the_rows_are_refused() -> None:
    with pytest.raises(MetricError, match="`loss` gives every row the same score"):
        score(["loss"], 1.1, meter=Meter(np.ones(N)))
    with pytest.raises(MetricError, match="`loss` gives every row the same score"):
        score(["loss"], 0.1, meter=Meter(np.ones(N)))


def test_scores_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    scores, _, _ = score(["length", "-loss"], 0.5)
    scores.save(tmp_path, ROWS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["-loss.parquet", "length.parquet", f"{START}.parquet"]
    again = Scores.load(tmp_path, scores.digests())
    assert again.digests() == scores.digests()
    assert {label: values.tolist() for label, values in again.by_label.items()} == {
        label: values.tolist() for label, values in scores.by_label.items()
    }
    assert again.start is not None
    assert scores.start is not None
    assert again.start.nll_sum.tolist() == scores.start.nll_sum.tolist()
    assert again.notes == scores.notes
    table = pq.read_table(tmp_path / "length.parquet").to_pydict()  # readable without our code
    assert table == {"content": list(range(N)), "score": ANSWERS.tolist()}


def test_scores_of_another_run_are_refused_at_resume(tmp_path: Path) -> None:
    scores, _, _ = score(["length", "loss"], 1.1)
    scores.save(tmp_path, ROWS)
    digests = scores.digests()
    assert len(set(digests.values())) == 3
    changed = {**digests, "length": "0" * 16}
    with pytest.raises(ResumeError, match=r"length.parquet` must hold the scores that the checkpoint was planned with"):
        Scores.load(tmp_path, changed)
    (tmp_path / "loss.parquet").unlink()
    with pytest.raises(ResumeError, match=r"loss.parquet` must be the scores .* cannot be computed again"):
        Scores.load(tmp_path, digests)
    (tmp_path / "loss.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(ResumeError, match="cannot be computed again"):
        Scores.load(tmp_path, digests)


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
