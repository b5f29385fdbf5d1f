"""A run that re-scores goes on as if it had never stopped, wherever it was stopped: also in the middle of a sample."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from campus_tune.model.measure import LossMeter
from campus_tune.model.scorer_training import ScorerTrainer
from campus_tune.scores import passages, row_cache
from campus_tune.scores.cache import read_columns, write_columns
from campus_tune.words.errors import ResumeError
from campus_tune.words.types import Json
from tests.run.sealing import reseal
from tests.run.test_resume import SaveAt, StopAfter, StoppedError, assert_same, outcome
from tests.run.tiny_run import saved_state, tiny_trainer
from tests.run.witness import events

SCORER: Json = {"name": "scorer", "new_tokens": 4, "pairs": 32}
CONFIG: Json = {
    "metrics": ["length", "loss", SCORER, {"name": "rank_mean", "of": ["mtld", "confidence"]}],
    "stages": 6,
    "rescore": 2,
    "handover": 1.0,
    "budget": 6.0,
    "mix": 0.2,
    "selector": "lowest_perplexity",
}
SETTINGS: Json = {"config": CONFIG, "n": 96, "per_device_train_batch_size": 8, "lora": True}  # 12 steps, 2 a stage
REFRESHED = [4, 8]  # steps before which orders are dealt anew


def trainer_of(out: Path, *callbacks: Any, **changes: Any) -> Any:
    return tiny_trainer(out, callbacks=list(callbacks), **{**SETTINGS, **changes})


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Json:
    trainer = trainer_of(tmp_path_factory.mktemp("calm"))
    trainer.train()
    out = Path(trainer.args.output_dir)
    assert [event["step"] for event in events(out, "rescored")] == REFRESHED
    return outcome(trainer)


def go_on(out: Path) -> Json:
    trainer = trainer_of(out)
    trainer.train(resume_from_checkpoint=True)
    return outcome(trainer)


@pytest.mark.parametrize("stops", [(3, 4), (5, 9)], ids=["before and at a re-scoring", "after each of them"])
def test_a_run_stopped_around_a_re_scoring_goes_on_as_if_it_had_not(
    tmp_path: Path, calm: Json, stops: tuple[int, ...]
) -> None:
    for step in stops:
        with pytest.raises(StoppedError):
            trainer_of(tmp_path, SaveAt(*stops), StopAfter(step)).train(resume_from_checkpoint=step != stops[0])
    assert_same(go_on(tmp_path), calm)


class KilledError(Exception):
    """The process ended here."""


@pytest.mark.parametrize("where", ["generate", "measure"])
def test_a_run_killed_in_the_middle_of_a_re_scoring_does_the_same_again(
    tmp_path: Path, calm: Json, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    with monkeypatch.context() as patch:
        done = [0]
        owner: Any = ScorerTrainer if where == "generate" else LossMeter
        name = "_write" if where == "generate" else "measure"
        real = getattr(owner, name)
        train = ScorerTrainer.train

        def begins(self: ScorerTrainer, *args: Any, refresh: int, **rest: Any) -> Any:
            done[0] += refresh == 2
            return train(self, *args, refresh=refresh, **rest)

        def dies(*args: Any, **rest: Any) -> Any:
            done[0] += done[0] > 0
            if done[0] > 2:  # in the second batch, or after the pairs
                raise KilledError
            return real(*args, **rest)

        patch.setattr(ScorerTrainer, "train", begins)
        patch.setattr(owner, name, dies)
        with pytest.raises(KilledError):
            trainer_of(tmp_path, SaveAt(6)).train()
    assert len(events(tmp_path, "rescored")) == 1
    assert_same(go_on(tmp_path), calm)


def test_a_scoring_killed_before_the_first_step_goes_on_where_it_stopped_and_gives_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passages, "AT_ONCE", 30)
    keep, kept = row_cache.RowCache.keep, [0]

    def dies(self: Any, *args: Any) -> None:
        if kept[0] == 3:  # losses of a part, scorer scores of it, losses of the next
            raise KilledError
        kept[0] += 1
        keep(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(row_cache.RowCache, "keep", dies)
        trainer = trainer_of(tmp_path / "killed")
        with pytest.raises(KilledError):
            trainer.train()
    runs = []
    for name in ("afterwards", "calm"):
        trainer = trainer_of(tmp_path / name)
        trainer.train()
        runs.append(outcome(trainer))
        monkeypatch.setenv("CAMPUS_TUNE_CACHE", str(tmp_path / "nothing in it"))
    assert events(tmp_path / "afterwards", "end")[0]["found"] > 0 == events(tmp_path / "calm", "end")[0]["found"]
    assert_same(*runs)


# -- what lies in the folder is damaged -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(StoppedError):
        trainer_of(out, SaveAt(5), StopAfter(5)).train()
    return out


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    """A run that was stopped after its first re-scoring."""
    return Path(shutil.copytree(stopped_once, tmp_path / "run"))


def test_a_re_scoring_leaves_its_scores_and_orders_in_a_folder_of_its_own(stopped: Path) -> None:
    import pyarrow.parquet as pq

    folder = stopped / "curriculum" / "scores" / "refresh-0001"
    names = sorted(path.stem for path in folder.iterdir())
    assert names == sorted(["length", "loss", "scorer", "rank_mean", "confidence"])
    table = pq.read_table(folder / "loss.parquet").to_pydict()
    assert sorted(table["order"]) == list(range(96))
    assert table.keys() == {"content", "score", "order"}
    assert "order" not in pq.read_table(folder / "confidence.parquet").column_names
    state = saved_state(stopped / "checkpoint-5")["stateful_callbacks"]["CampusCallback"]["attributes"]["curriculum"]
    assert state["version"] == 6
    assert (state["rescoring"]["count"], sorted(state["rescoring"]["digests"])) == (1, names)


def missing(path: Path) -> None:
    path.unlink()


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def of_the_start(path: Path) -> None:
    columns, about = read_columns(path)
    write_columns(path, columns | {"order": columns["order"][::-1]}, about)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (missing, r"scores/refresh-0001/loss\.parquet is missing.*Put the run's curriculum/ folder back"),
        (cut_off, r"scores/refresh-0001/loss\.parquet has 100 bytes, not \d+"),
        (of_the_start, r"scores/refresh-0001/loss\.parquet is damaged, or of another run"),
    ],
)
def test_a_file_of_a_re_scoring_that_is_missing_or_damaged_is_named(
    stopped: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(stopped / "curriculum" / "scores" / "refresh-0001" / "loss.parquet")
    with pytest.raises(ResumeError, match=message):
        trainer_of(stopped).train(resume_from_checkpoint=True)


def test_scores_that_are_recorded_and_not_those_of_the_plan_are_named(stopped: Path) -> None:
    of_the_start(stopped / "curriculum" / "scores" / "refresh-0001" / "loss.parquet")
    reseal(stopped / "checkpoint-5")
    with pytest.raises(ResumeError, match=r"refresh-0001/loss\.parquet` must hold the scores .* planned with, got o"):
        trainer_of(stopped).train(resume_from_checkpoint=True)


def test_another_future_of_re_scorings_is_allowed_when_asked_for(stopped: Path) -> None:
    config = {**CONFIG, "rescore": 0}
    with pytest.raises(ResumeError, match=r"`campus: rescore`: 2 in the checkpoint, 0 now.*changed_future"):
        trainer_of(stopped, config=config).train(resume_from_checkpoint=True)
    trainer_of(stopped, config={**config, "resume": "changed_future"}).train(resume_from_checkpoint=True)
    assert len(events(stopped, "rescored")) == 1


def test_a_run_resumed_in_another_folder_brings_the_orders_that_were_dealt_anew(
    stopped: Path, tmp_path: Path, calm: Json
) -> None:
    trainer = trainer_of(tmp_path / "elsewhere")
    trainer.train(resume_from_checkpoint=str(stopped / "checkpoint-5"))
    ours = outcome(trainer)
    ours["training losses"] = calm["training losses"]  # those of earlier stages stay where they were written
    assert_same(ours, calm)
