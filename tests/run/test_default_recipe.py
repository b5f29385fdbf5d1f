"""The default, an empty block: shuffled rows, a map and advice at the end, and what looks wrong goes once it is shown.

It must train whatever plain shuffling trains: who writes nothing has asked for nothing that could be refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from campus_tune.compare.arms import default_arms, make_arms
from campus_tune.method import suspicion
from campus_tune.method.dirt import Dirt
from campus_tune.preview.check import check, check_recipe
from campus_tune.run import earned
from campus_tune.run.callback import CampusCallback, attach
from campus_tune.run.ledger import read_ledger
from campus_tune.words.errors import CampusError, DataError, TrainerError
from campus_tune.words.types import Json
from tests.run.plain_run import plain_trainer
from tests.run.test_resume import SaveAt, StopAfter, StoppedError, assert_same, outcome
from tests.run.tiny_run import RECIPE, task_rows, tiny_trainer

SHUFFLE: Json = {"selector": "shuffle"}
N = 48


@pytest.fixture(autouse=True)
def estimated() -> Iterator[dict[str, float]]:
    """What the estimate says of hundreds of rows is `tests/method/test_dirt.py`'s: here a test says it."""
    says = {"low": 0.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suspicion, "stands_out", lambda scores: float(np.sort(scores)[-4]))
        patch.setattr(earned, "estimate_dirt", lambda *_, **__: Dirt(N, says["low"], says["low"], says["low"] + 0.1))
        yield says


def events_of(out: Path, kind: str) -> list[Json]:
    return [one for one in read_ledger(out / "curriculum/ledger.jsonl") if one["event"] == kind]


def test_an_empty_block_trains_says_what_it_is_and_does_nothing_without_a_sign(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, n=N, config={}, num_train_epochs=2)
    trainer.train()
    [begun], [end] = events_of(tmp_path, "run"), events_of(tmp_path, "end")
    assert begun["future"]["campus: selector"] == "shuffle"
    assert [entry["act"] for entry in begun["future"]["campus: drop"]] == ["auto"]
    assert {one["chosen"] for one in events_of(tmp_path, "decision")} == {"shuffle"}
    assert (end["suspects"], end["rows_seen"], end["visits"]) == (0, N, 2 * N)
    assert (tmp_path / "curriculum/book/map.parquet").exists()
    written = yaml.safe_load((tmp_path / "curriculum/recipe.yaml").read_text("utf-8"))["campus"]
    assert CampusCallback(written).config.only_waits


def test_rows_that_look_wrong_go_once_there_is_a_sign(tmp_path: Path, estimated: dict[str, float]) -> None:
    estimated["low"] = 0.1
    trainer = tiny_trainer(tmp_path, n=N, config={}, num_train_epochs=3)
    trainer.train()
    [acted] = events_of(tmp_path, "suspects")
    assert (acted["act"], acted["dropped"]) == ("auto", acted["would_drop"])
    assert acted["dropped"] > 0
    assert events_of(tmp_path, "end")[0]["suspects"] == acted["dropped"]


def with_domain(name: Callable[[int], object]) -> list[Json]:
    return [{**row, "domain": name(i)} for i, row in enumerate(task_rows(N))]


ODD: dict[str, Callable[[int], object]] = {
    "null": lambda i: None if i % 3 == 0 else "a",
    "ids": lambda i: f"row {i}",
    "spaces": lambda i: "a " if i % 2 else "a",
}


@pytest.mark.parametrize("kind", ODD)
def test_a_column_of_domains_that_names_none_is_no_reason_to_refuse(tmp_path: Path, kind: str) -> None:
    rows = with_domain(ODD[kind])
    trainer = tiny_trainer(tmp_path, train=rows, config={})
    trainer.train()
    assert trainer.state.global_step == N // 4
    assert {tuple(one["shares"]) for one in events_of(tmp_path, "decision")} == {("all rows",)}
    if kind != "ids":  # who goes by domains is told, as ever
        with pytest.raises(DataError, match=r"must (name a group in every row|have names without spaces)"):
            tiny_trainer(tmp_path / "strict", train=rows, config={**SHUFFLE, "drop": [{"by": "suspects"}]}).train()


def test_domains_that_are_some_keep_half_of_their_rows_each(tmp_path: Path, estimated: dict[str, float]) -> None:
    estimated["low"] = 0.1
    trainer = tiny_trainer(tmp_path, train=with_domain(lambda i: "ab"[i % 2]), config={}, num_train_epochs=3)
    trainer.train()
    [acted] = events_of(tmp_path, "suspects")
    assert set(acted["by_domain"]) <= {"a", "b"}


def test_a_trainer_that_shows_no_losses_of_rows_trains_and_it_is_said(tmp_path: Path) -> None:
    blind = {"label_smoothing_factor": 0.1}
    trainer = plain_trainer(tmp_path, config={}, **blind)
    trainer.train()
    assert trainer.state.global_step == 7
    told = [warning for event in events_of(tmp_path, "warnings") for warning in event["warnings"]]
    assert [text for text in told if "training shows no losses of single rows" in text]
    with pytest.raises(TrainerError, match="must show the losses of single rows"):
        plain_trainer(tmp_path / "strict", config={**SHUFFLE, "drop": [{"by": "suspects"}]}, **blind).train()


def test_the_callback_and_attach_take_nothing_at_all(tmp_path: Path) -> None:
    assert CampusCallback().config == CampusCallback({}).config
    trainer = tiny_trainer(tmp_path, n=8, config=False)
    assert attach(trainer).config.only_waits
    trainer.train()
    assert events_of(tmp_path, "end")[0]["visits"] == 8


@pytest.mark.parametrize("before", [SHUFFLE, RECIPE])
def test_a_checkpoint_of_another_recipe_does_not_go_on_as_the_default(tmp_path: Path, before: Json) -> None:
    tiny_trainer(tmp_path, n=16, config=before, save_steps=2, max_steps=2).train()
    with pytest.raises(CampusError, match=r"(?s)the checkpoint must belong to this run.*campus: (drop|metrics)"):
        tiny_trainer(tmp_path, n=16, config={}, max_steps=4).train(resume_from_checkpoint=True)


def test_a_run_of_the_default_that_is_stopped_goes_on_as_if_it_was_not(
    tmp_path: Path, estimated: dict[str, float]
) -> None:
    estimated["low"] = 0.1
    settings: Json = {"n": N, "config": {}, "num_train_epochs": 3}
    whole = tiny_trainer(tmp_path / "whole", **settings, callbacks=[SaveAt(10, 30)])
    whole.train()
    assert events_of(tmp_path / "whole", "suspects")[0]["dropped"]
    for k, step in enumerate((10, 30)):  # before anything has acted, and after it
        with pytest.raises(StoppedError):
            tiny_trainer(tmp_path / "cut", **settings, callbacks=[SaveAt(10, 30), StopAfter(step)]).train(
                resume_from_checkpoint=bool(k)
            )
    last = tiny_trainer(tmp_path / "cut", **settings, callbacks=[SaveAt(10, 30)])
    last.train(resume_from_checkpoint=True)
    assert_same(outcome(last), outcome(whole))


# -- beside a run --------------------------------------------------------------------------------------------------


def test_check_says_what_an_empty_block_does_and_finds_nothing_wrong(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("campus: {}\n", "utf-8")
    found = check_recipe(tmp_path / "recipe.yaml")
    assert not found.grave
    [told] = [str(one) for one in found.findings if "asks for no order" in str(one)]
    assert told.endswith(
        "Write metrics: [length] for an order, or selector: shuffle and nothing else for plain shuffling."
    )
    for followed in ("metrics: [length]", "selector: shuffle"):
        (tmp_path / "recipe.yaml").write_text(f"campus: {{{followed}}}\n", "utf-8")
        assert not [one for one in check(tmp_path / "recipe.yaml") if "asks for no order" in str(one)]


def test_a_comparison_of_the_default_has_the_control_of_what_it_leaves_out() -> None:
    arms = {arm.name: arm.config(0) for arm in make_arms({}, {name: {} for name in default_arms({})})}
    assert {"random", "recipe", "random_drop"} <= set(arms)
    assert arms["random"].drop is None
    assert arms["recipe"].only_waits
    assert (arms["random_drop"].control, arms["random_drop"].drop) == ("random_drop", arms["recipe"].drop)
    uniform = arms["uniform_weights"]
    assert (uniform.weights, uniform.drop, uniform.selector) == (None, arms["recipe"].drop, "shuffle")
