"""The scores of a run on disk: what a checkpoint remembers is what comes back, or nothing does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from campus_tune.data.prepared import TokenRows
from campus_tune.metrics.passage import HERE, Passage
from campus_tune.recipe.config import CampusConfig
from campus_tune.scores.cache import write_columns
from campus_tune.scores.run_scores import START, Scores, passage_files
from campus_tune.words.errors import ResumeError
from campus_tune.words.types import RowLosses

N = 20
IDS = np.arange(N, dtype=np.uint64)
ROWS = TokenRows(np.full(N, 9), np.full(N, 4), IDS, np.zeros(N, dtype=np.int64), IDS, IDS, IDS)
OTHERS = [Passage("./proxy/late"), Passage("./proxy/early"), Passage(part="answer"), Passage("./proxy/early", "answer")]


def losses(seed: int) -> RowLosses:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 3, N)  # some rows were not measured
    return RowLosses(rng.random(N) * tokens, tokens, tokens // 2, rng.random(N), rng.random(N))


def some_scores(passages: list[Passage] | None = None) -> Scores:
    rng = np.random.default_rng(0)
    made = [HERE, *OTHERS] if passages is None else passages
    return Scores(
        by_label={label: rng.normal(size=N) for label in ("-loss", "length", "scorer")},
        measured={passage: losses(seed) for seed, passage in enumerate(made)},
        notes={
            "-loss": {"rows_measured": 7, "prediction_correlation": 0.123456789012345, "stability": 0.5},
            "length": {"rows_measured": N},
            "scorer": {"rows_measured": N, "accuracy": 2 / 3, "tells_apart": True},
        },
    )


def through_a_checkpoint(digests: dict[str, str]) -> dict[str, str]:
    """As transformers writes and reads its state."""
    back: dict[str, str] = json.loads(json.dumps(digests, sort_keys=True))
    return back


@pytest.mark.parametrize("passages", [[HERE, *OTHERS], [HERE], [], OTHERS[:1], OTHERS[::-1]])
def test_scores_and_the_losses_of_several_passages_come_back_as_they_were(
    tmp_path: Path, passages: list[Passage]
) -> None:
    scores = some_scores(passages)
    scores.save(tmp_path, ROWS)
    again = Scores.load(tmp_path, through_a_checkpoint(scores.digests()), passages[::-1])
    assert again.digests() == scores.digests()
    assert again.notes == scores.notes
    for label, values in scores.by_label.items():
        assert again.by_label[label].tolist() == values.tolist()
    assert again.measured.keys() == scores.measured.keys()
    for passage, measured in scores.measured.items():
        for name, values in vars(measured).items():
            back = getattr(again.measured[passage], name)
            assert back.tolist() == values.tolist()
            assert back.dtype == values.dtype


def test_files_can_be_read_without_our_code(tmp_path: Path) -> None:
    scores = some_scores([HERE, OTHERS[2]])
    scores.save(tmp_path, ROWS)
    names = sorted(path.stem for path in tmp_path.iterdir())
    assert names == sorted(["-loss", "length", "scorer", START, f"{START}-1"])
    table = pq.read_table(tmp_path / "length.parquet").to_pydict()
    assert table == {"content": list(range(N)), "score": scores.by_label["length"].tolist()}
    about: Any = json.loads(pq.read_schema(tmp_path / f"{START}-1.parquet").metadata[b"campus_tune"])
    assert about == {"passage": "answers alone under the model in hand"}


def test_a_passage_has_the_same_file_name_whatever_the_sequence() -> None:
    assert passage_files([HERE, *OTHERS]) == passage_files([*OTHERS[::-1], HERE])
    assert passage_files([HERE])[START] == HERE
    assert START not in passage_files(OTHERS)


@pytest.mark.parametrize("name", ["length", START, f"{START}-2"])
def test_scores_of_another_run_are_refused_at_resume(tmp_path: Path, name: str) -> None:
    scores = some_scores()
    scores.save(tmp_path, ROWS)
    digests = scores.digests()
    assert len(set(digests.values())) == 3 + 5
    message = rf"{name}.parquet` must hold the scores that the checkpoint was planned with, got others"
    with pytest.raises(ResumeError, match=message):
        Scores.load(tmp_path, {**digests, name: "0" * 16}, OTHERS)
    (tmp_path / f"{name}.parquet").unlink()
    with pytest.raises(ResumeError, match=rf"{name}.parquet` must be the scores .* cannot be computed again"):
        Scores.load(tmp_path, digests, OTHERS)
    (tmp_path / f"{name}.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(ResumeError, match="cannot be computed again"):
        Scores.load(tmp_path, digests, OTHERS)


@pytest.mark.parametrize("name", ["length", START])
@pytest.mark.parametrize("columns", [{"a": IDS}, {"score": np.array(["x"] * N)}])
def test_a_file_of_something_else_in_place_of_scores_is_refused(
    tmp_path: Path, name: str, columns: dict[str, Any]
) -> None:
    scores = some_scores()
    scores.save(tmp_path, ROWS)
    write_columns(tmp_path / f"{name}.parquet", columns, {})
    with pytest.raises(ResumeError, match=rf"{name}.parquet` must hold the scores that the checkpoint .* got others"):
        Scores.load(tmp_path, {name: scores.digests()[name]}, OTHERS)


def test_a_change_of_any_row_or_of_their_sequence_changes_the_digest() -> None:
    first = some_scores().digests()
    changed = some_scores()
    changed.by_label["length"][3] += 1e-12
    changed.measured[HERE].nll_sum[:2] = changed.measured[HERE].nll_sum[1::-1].copy()
    after = changed.digests()
    assert {label for label in first if first[label] != after[label]} == {"length", START}


@pytest.mark.parametrize("metrics", [["length", "mtld"], [{"name": "rank_mean", "of": ["length", "mtld"]}]])
def test_a_checkpoint_that_forgot_a_metric_is_refused(metrics: list[Any]) -> None:
    config = CampusConfig(metrics=metrics, selector="random")
    with pytest.raises(
        ResumeError, match=r"must remember scores of .*mtld.*, got those of -loss, length, .* earlier one"
    ):
        some_scores().refuse_missing(config)


def test_a_selector_that_needs_losses_from_before_training_is_refused_where_there_are_none() -> None:
    needy = CampusConfig(metrics=["length"], selector="relative_perplexity")
    with pytest.raises(ResumeError, match=r"`selector` must not need the losses before training .* got 'relative_perp"):
        some_scores([]).refuse_missing(needy)
    some_scores([HERE]).refuse_missing(needy)
    some_scores([]).refuse_missing(CampusConfig(metrics=["length"], selector="random"))
