"""The generalisation gap by hand, by slow means, and of a run that stops."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.compare.gap import BeforeAfter, generalisation_gap, sample_rows
from campus_tune.compare.recorder import Recorder
from campus_tune.compare.trained_rows import TrainedRows
from campus_tune.data.held_out import HeldOut, read_held_out
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json, RowLosses
from tests.compare.tiny_compare import write_rows
from tests.run.tiny_run import RECIPE, task_rows, tiny_trainer


def losses(per_row: Any, tokens: Any) -> RowLosses:
    tokens = np.array(tokens)
    return RowLosses(np.array(per_row) * tokens, tokens, 0 * tokens, 0.0 * tokens, 0.0 * tokens)


def rows(domains: str, before: float, after: float, tokens: int = 4) -> BeforeAfter:
    """All rows of a domain alike."""
    n = len(domains)
    return BeforeAfter(list(domains), losses([before] * n, [tokens] * n), losses([after] * n, [tokens] * n))


def joined(*parts: BeforeAfter) -> BeforeAfter:
    def both(which: str) -> RowLosses:
        known = [getattr(one, which) for one in parts]
        return RowLosses(**{name: np.concatenate([vars(one)[name] for one in known]) for name in vars(known[0])})

    return BeforeAfter([name for one in parts for name in one.domains], both("before"), both("after"))


def test_a_gap_by_hand() -> None:
    told = generalisation_gap(rows("a" * 12, 3.0, 1.5), rows("a" * 10, 2.75, 1.0))
    assert told is not None
    assert told["value"] == pytest.approx(0.5)  # 1.5 − 1.0
    assert told["at_start"] == pytest.approx(0.25)  # the test rows were harder from the start
    assert told["grown"] == pytest.approx(0.25)
    assert (told["test"], told["trained"], told["rows"]) == (pytest.approx(1.5), pytest.approx(1.0), 10)
    assert told["stderr"] == told["grown_stderr"] == 0.0
    assert "domains" not in told


def test_another_mixture_of_domains_is_no_gap() -> None:
    test = joined(rows("a" * 10, 3.0, 1.0), rows("b" * 30, 6.0, 4.0))
    trained = joined(rows("a" * 60, 3.0, 1.0), rows("b" * 10, 6.0, 4.0))
    told = generalisation_gap(test, trained)
    assert told is not None
    assert told["value"] == pytest.approx(0.0)
    assert told["trained"] == pytest.approx(told["test"]) == pytest.approx((10 * 1 + 30 * 4) / 40)
    assert list(told["domains"]) == ["a", "b"]


def test_domains_count_by_their_test_tokens_and_small_ones_not_at_all() -> None:
    test = joined(rows("a" * 10, 2.0, 1.0, tokens=1), rows("b" * 10, 2.0, 1.0, tokens=3), rows("c" * 9, 9.0, 9.0))
    trained = joined(rows("a" * 10, 2.0, 0.8), rows("b" * 10, 2.0, 0.4), rows("c" * 50, 9.0, 0.0), rows("d" * 20, 1, 0))
    told = generalisation_gap(test, trained)
    assert told is not None
    assert told["value"] == pytest.approx(0.25 * 0.2 + 0.75 * 0.6)
    assert list(told["domains"]) == ["a", "b"]
    assert told["domains"]["b"]["value"] == pytest.approx(0.6)


def test_without_ten_rows_on_both_sides_there_is_no_gap() -> None:
    assert generalisation_gap(rows("a" * 9, 2.0, 1.0), rows("a" * 30, 2.0, 1.0)) is None
    assert generalisation_gap(rows("a" * 30, 2.0, 1.0), rows("a" * 9, 2.0, 1.0)) is None
    assert generalisation_gap(rows("a" * 30, 2.0, 1.0), rows("b" * 30, 2.0, 1.0)) is None


def test_standard_errors_are_the_spread_of_gaps_of_rows_that_are_drawn_again() -> None:
    rng, found = np.random.default_rng(1), []
    for _ in range(400):
        sides = []
        for n in (60, 40):
            tokens, hard = rng.integers(2, 20, n), rng.normal(3, 1, n)
            after = 0.5 * hard + rng.normal(0, 0.2, n)
            sides.append(BeforeAfter(["a"] * n, losses(hard, tokens), losses(after, tokens)))
        told = generalisation_gap(*sides)
        assert told is not None
        found.append([told[name] for name in ("value", "grown", "stderr", "grown_stderr")])
    value, grown, stderr, grown_stderr = np.array(found).T
    assert stderr.mean() == pytest.approx(value.std(), rel=0.12)
    assert grown_stderr.mean() == pytest.approx(grown.std(), rel=0.12)
    assert abs(value.mean()) < 0.03


@given(st.lists(st.sampled_from("abc"), max_size=40), st.dictionaries(st.sampled_from("abd"), st.integers(1, 20)))
def test_a_sample_has_of_each_domain_what_is_wanted_or_all_of_it(domains: list[str], wanted: dict[str, int]) -> None:
    drawn = sample_rows(domains, wanted).tolist()
    assert drawn == sorted(set(drawn))
    sizes, found = Counter(domains), Counter(domains[row] for row in drawn)
    assert found == {name: n for name in wanted if (n := min(wanted[name], sizes[name]))}
    assert sample_rows(domains, wanted).tolist() == drawn


SETTINGS: dict[str, Any] = {"n": 36, "lora": True, "per_device_train_batch_size": 6}
BLOCK = {**RECIPE, "metrics": ["length", "loss"], "budget": 3.0}


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> HeldOut:
    return read_held_out([write_rows(tmp_path_factory.mktemp("held") / "test.jsonl", task_rows(60, seed=5))])


def trained(out: Path, held: HeldOut, **settings: Any) -> tuple[Any, Recorder]:
    recorder = Recorder(held, 2)
    trainer = tiny_trainer(out, config=BLOCK, probes=5, callbacks=[recorder], **{**SETTINGS, **settings})
    recorder.follow(trainer, _run_of(trainer))
    trainer.train()
    return trainer, recorder


def _run_of(trainer: Any) -> Any:
    return next(one.run for one in trainer.callback_handler.callbacks if hasattr(one, "run") and one.run is not None)


def asked(trainer: Any, row: Json) -> tuple[float, int]:
    """(Nats, answer tokens) of one row's answer under the model, alone."""
    import torch

    turns = [*row["prompt"], *row["completion"]]
    prompt = trainer.processing_class.apply_chat_template(turns[:-1], add_generation_prompt=True, return_dict=False)
    whole = trainer.processing_class.apply_chat_template(turns, return_dict=False)
    with torch.no_grad():
        logits = trainer.model.eval()(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
    places = range(len(prompt), len(whole))
    return sum(-logits[place - 1, whole[place]].item() for place in places), len(places)


def test_the_gap_of_a_run_is_that_of_its_model_asked_row_by_row(held: HeldOut, tmp_path: Path) -> None:
    recorder = Recorder(held, 2)
    trainer = tiny_trainer(tmp_path, config=BLOCK, probes=5, callbacks=[recorder], **{**SETTINGS, "n": 60}, max_steps=9)
    recorder.follow(trainer, _run_of(trainer))
    start = {row["id"]: asked(trainer, row) for row in trainer.train_dataset}
    trainer.train()
    seen = set(np.concatenate(recorder.visits).tolist())
    assert len(seen) == 54
    drawn = sample_rows(trainer.train_dataset["domain"], Counter(held.domains)).tolist()
    rows = [trainer.train_dataset[row] for row in drawn if row in seen]
    sizes = Counter(row["domain"] for row in rows)
    large = sorted(name for name in sizes if sizes[name] >= 10 and held.domains.count(name) >= 10)
    assert large
    end, gap = recorder.end(), recorder.gap
    assert end is not None
    assert gap is not None
    parts = gap.get("domains") or {large[0]: gap}
    assert sorted(parts) == large
    for name, part in parts.items():
        nats, tokens = map(sum, zip(*(asked(trainer, row) for row in rows if row["domain"] == name), strict=True))
        places = [i for i, domain in enumerate(held.domains) if domain == name]
        test = sum(end["loss"][i] for i in places) / sum(end["tokens"][i] for i in places)
        assert part["trained"] == pytest.approx(nats / tokens, rel=1e-5)
        assert part["test"] == pytest.approx(test, rel=1e-9)
        assert part["value"] == pytest.approx(test - nats / tokens, rel=1e-4, abs=1e-6)
        assert part["rows"] == sizes[name]
        nats, tokens = map(sum, zip(*(start[row["id"]] for row in rows if row["domain"] == name), strict=True))
        assert part["at_start"] == pytest.approx(
            recorder.curve()["domains"][name][0] - nats / tokens, rel=1e-3, abs=1e-5
        )


def test_rows_of_no_known_domain_are_one_group(held: HeldOut, tmp_path: Path) -> None:
    alone = HeldOut(held.conversations, held.domains, held.numbers, None)
    _, recorder = trained(tmp_path, alone)
    assert recorder.gap is not None
    assert recorder.gap["rows"] == 36
    assert "domains" not in recorder.gap


def test_rows_that_tell_no_question_from_an_answer_have_no_gap(held: HeldOut, tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, config=BLOCK, probes=5, **SETTINGS)
    trainer.train_dataset = trainer.train_dataset.remove_columns(["prompt", "completion"])
    with pytest.raises(DataError, match="training row 0 must have messages, or prompt and completion"):
        TrainedRows(trainer, held, RowLosses.zeros(len(held)))
    trainer = tiny_trainer(tmp_path / "other", config=BLOCK, probes=5, **SETTINGS)
    names = ["elsewhere"] * len(trainer.train_dataset)
    trainer.train_dataset = trainer.train_dataset.remove_columns(["domain"]).add_column("domain", names)
    with pytest.raises(DataError, match=r"domains of the test rows to have a gap, got 0 of such .* Name the domains"):
        TrainedRows(trainer, held, RowLosses.zeros(len(held)))


def test_a_run_that_a_callback_stops_is_measured_where_it_stopped(held: HeldOut, tmp_path: Path) -> None:
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            del args
            control.should_training_stop = state.global_step == 2

    alone = HeldOut(held.conversations, held.domains, held.numbers, None)
    for with_gap in (True, False):
        recorder = Recorder(alone, 2, with_gap=with_gap)
        folder = tmp_path / str(with_gap)
        trainer = tiny_trainer(folder, config=BLOCK, probes=5, callbacks=[recorder, Stop()], **SETTINGS)
        recorder.follow(trainer, _run_of(trainer))
        trainer.train()
        assert recorder.curve()["step"] == [0, 2]
        assert json.loads(json.dumps(recorder.gap)) == recorder.gap
        assert (recorder.gap is None) is not with_gap
