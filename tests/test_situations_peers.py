"""Peers: TRL as it comes is bit for bit what it was, rows and weights are the peer's, DataFlex's files are opened."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from campus_tune.demo.tiny import tiny_model
from campus_tune.words.types import FloatArray
from eval.situations import dataflex, peers
from eval.situations.arms import DATAFLEX, PLAIN, is_peer
from eval.situations.bases import BASES, trainer_of
from eval.situations.dataflex import CHECKOUT, CLASSES, FILES, Sketch, part
from eval.situations.driven import Driven, Peer
from eval.situations.rows import Made, made
from eval.situations.runs import VISITS, folder_of, one_run
from eval.situations.situation import Situation, read_situation

TRAINING = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
SHORT = replace(
    read_situation("tune_wrong_20"), name="short", rows={"make": "graded", "levels": {0: 8}}, epochs=8, points=1,
    training=TRAINING,
)  # fmt: skip
THERE = os.environ.get(CHECKOUT)


@pytest.fixture(scope="module")
def keep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that knows nothing."""
    folder = tmp_path_factory.mktemp("keep")
    tiny_model(hidden=16).save_pretrained(folder / "bases" / "tasks")
    return folder


@pytest.fixture(scope="module")
def rows() -> Made:
    """Thirty-two of them."""
    return made(SHORT.rows, 3)


@pytest.fixture
def unopened() -> Iterator[None]:
    """DataFlex as if nobody had opened it yet, before and after."""
    held = {name: sys.modules.pop(name) for name in [*sys.modules] if name.split(".")[0] in ("dataflex", "trak")}
    yield
    for name in [*sys.modules]:
        if name.split(".")[0] in ("dataflex", "trak"):
            del sys.modules[name]
    sys.modules.update(held)


def trainer(keep: Path, rows: Made, out: Path, steps: int = 4, **more: Any) -> Any:
    """TRL's, of the base."""
    training = {**TRAINING, **more}
    return trainer_of(BASES["tasks"], keep, rows.rows, out, steps=steps, seed=3, callbacks=[], training=training)


# -- the trainer and its driver ----------------------------------------------------------------------------------------


def test_a_peer_without_a_say_changes_nothing(keep: Path, rows: Made, tmp_path: Path) -> None:
    bare, watched = trainer(keep, rows, tmp_path / "a"), trainer(keep, rows, tmp_path / "b")
    driven = Driven(watched, Peer())
    told = [one.train().training_loss for one in (bare, watched)]
    assert told[0] == told[1]
    pairs = zip(bare.model.parameters(), watched.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    trained = np.concatenate([places for places, _, _ in driven.visits])
    assert sorted(trained.tolist()) == [*range(32)]
    assert driven.asked == 0
    lengths = np.array([len(ids) for ids in watched.train_dataset["input_ids"]])
    assert [n for _, _, n in driven.visits] == [lengths[places].sum() for places, _, _ in driven.visits]


class Named(Peer):
    """Names ten rows at the start and eight others after two steps; every row counts alike, or the first alone."""

    def __init__(self, alone: bool = False) -> None:
        self.alone, self.events = alone, []

    def rows(self, step: int) -> Sequence[int] | None:
        """By step."""
        self.events.append(("rows", step))
        return {0: [*range(10)], 2: [*range(20, 28)]}.get(step)

    def weighted(self, losses: Any, rows: Sequence[int], model: Any, batch: Any) -> Any:
        """The first row's loss; else the tokens' mean, which is TRL's."""
        del rows, model
        if self.alone:
            return losses[0]
        tokens = (batch["labels"][:, 1:] != -100).sum(1)
        return (losses * tokens).sum() / tokens.sum()

    def trained(self, rows: Sequence[int], batch: Any, loss: float) -> None:
        """Written down."""
        assert loss > 0
        assert len(batch["labels"]) == len(rows)
        self.events.append(("trained", tuple(rows)))


def test_rows_are_chosen_once_the_step_before_is_trained_and_drawn_without_replacement(
    keep: Path, rows: Made, tmp_path: Path
) -> None:
    peer = Named()
    driven = Driven(trainer(keep, rows, tmp_path), peer)
    driven.trainer.train()
    kinds = [kind for kind, _ in peer.events]
    assert kinds == ["rows", "trained", "trained"] * 4
    trained = [set(what) for kind, what in peer.events if kind == "trained"]
    first = [row for one in trained[:4] for row in one]
    assert len(trained[0] | trained[1]) == 8
    assert set(first) == {*range(10)}
    assert trained[4] | trained[5] == trained[6] | trained[7] == {*range(20, 28)}


def test_the_peers_loss_is_what_is_minimised(keep: Path, rows: Made, tmp_path: Path) -> None:
    """With the weights of TRL's own loss it trains what TRL trains; with those of one row, that row's gradient."""
    one = {"gradient_accumulation_steps": 1, "steps": 1}
    plain, same, alone = (trainer(keep, rows, tmp_path / name, **one) for name in "abc")
    for each, peer in ((plain, Peer()), (same, Named()), (alone, Named(alone=True))):
        peer.rows = lambda _: [0, 1, 2, 3]  # type: ignore[method-assign]
        Driven(each, peer)
        each.create_optimizer()
        each.optimizer.step = lambda *_, **__: None
        each.args.max_grad_norm = 0
        each.model.zero_grad = lambda *_, **__: None
        each.train()
    grads = [torch.cat([p.grad.flatten() for p in each.model.parameters()]) for each in (plain, same, alone)]
    assert torch.allclose(grads[0], grads[1], atol=1e-7)
    assert not torch.allclose(grads[0], grads[2], atol=1e-3)


def test_what_is_asked_of_the_model_is_charged(keep: Path, rows: Made, tmp_path: Path) -> None:
    driven = Driven(trainer(keep, rows, tmp_path), Peer())
    batch = {
        "input_ids": torch.ones(2, 5, dtype=torch.long),
        "attention_mask": torch.tensor([[1] * 5, [1] * 3 + [0] * 2]),
    }
    model = driven.trainer.model
    model(**batch)
    assert driven.asked == 0
    with driven.thinking(), torch.no_grad():
        model(**batch)
    assert driven.asked == pytest.approx(8 / 3)
    with driven.thinking():
        model(batch["input_ids"])
    assert driven.asked == pytest.approx(8 / 3 + 10)
    assert driven.seconds > 0


def test_trl_plain_is_a_result_beside_the_others(keep: Path) -> None:
    plain, random = (one_run(keep, SHORT, arm, 3) for arm in (PLAIN, "random"))
    assert plain["shared"] == random["shared"]
    assert plain["test"]["items"] == random["test"]["items"]
    assert plain["curve"]["loss"][0] == random["curve"]["loss"][0]
    assert plain["curve"]["loss"][-1] == pytest.approx(random["curve"]["loss"][-1], rel=0.02)
    assert plain["tokens"] == random["tokens"]
    for arm in (PLAIN, "random"):
        folder = folder_of(keep, "short", arm, 3)
        visits, told = np.load(folder / VISITS), np.load(folder / "rows.npz")
        assert np.bincount(visits["row"]).tolist() == [2] * 32
        assert (visits["tokens"] == told["answer_tokens"][visits["row"]]).all()


# -- DataFlex's files --------------------------------------------------------------------------------------------------

SELECTOR = """
from dataflex.utils.logging import logger
from trak.projectors import BasicProjector, CudaProjector, ProjectionType
from .base import first

class RandomSelector:
    def __init__(self, dataset, accelerator, data_collator, cache_dir, seed=42):
        self.dataset, self.collator, self.asked, self.seed = dataset, data_collator, [], seed
    def warmup(self, n, replacement):
        assert replacement
        return [0] * n
    def select(self, model, step_id, num_samples, **kwargs):
        logger.info("a line that nobody wants")
        batch = self.collator([{"idx": 5, **self.dataset[5]}])
        assert batch.pop("idx").tolist() == [5]
        assert model(**batch).loss > 0
        self.asked.append((step_id, num_samples, kwargs["current_update_times"], kwargs["update_times"]))
        return first(num_samples)
"""


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unopened: None) -> Path:
    """A checkout with one selector."""
    del unopened
    folder = tmp_path / "checkout" / "src" / "dataflex"
    (folder / "train" / "selector").mkdir(parents=True)
    for package in (folder, folder / "train", folder / "train" / "selector"):
        (package / "__init__.py").write_text("raise ImportError('llamafactory')")
    (folder / "train" / "selector" / "random_selector.py").write_text(SELECTOR)
    (folder / "train" / "selector" / "base.py").write_text("def first(n):\n    return [i % 7 for i in range(n)]\n")
    monkeypatch.setenv(CHECKOUT, str(tmp_path / "checkout"))
    return folder


@pytest.mark.usefixtures("made_up")
def test_a_selector_of_theirs_is_asked_as_their_trainer_asks(
    keep: Path, rows: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = peers.Material(keep, replace(SHORT, epochs=25), 3, rows, tmp_path)
    peer = peers.peer_of("dataflex_random", given)
    driven = given.driven(peer, tmp_path / "run")
    driven.trainer.train()
    assert peer.selector.seed == 3  # type: ignore[attr-defined]
    assert peer.selector.asked == [(10, 80, 1, 2), (20, 80, 2, 2)]  # type: ignore[attr-defined]
    trained = np.concatenate([places for places, _, _ in driven.visits])
    assert not trained[:80].any()
    assert set(trained[80:].tolist()) == {*range(7)}
    assert driven.asked > 0
    assert "nobody wants" not in capsys.readouterr().out


def test_without_a_checkout_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(CHECKOUT, raising=False)
    with pytest.raises(SystemExit, match=r"`DATAFLEX` must name a checkout of .*, got none\. Clone it"):
        part("loss")
    monkeypatch.setenv(CHECKOUT, str(tmp_path))
    with pytest.raises(SystemExit, match="which has no src/dataflex"):
        part("loss")


@pytest.mark.usefixtures("made_up")
def test_a_checkout_of_another_time() -> None:
    with pytest.raises(SystemExit, match=r"must have LossSelector in train.selector.loss_selector, got .* Check out"):
        part("loss")


def test_every_peer_has_a_file_and_settings() -> None:
    assert {arm.removeprefix(peers.PREFIX) for arm in DATAFLEX} == set(peers.SETTINGS)
    assert set(FILES) == set(CLASSES) == {*peers.SETTINGS, "mixture"}
    assert all(map(is_peer, (PLAIN, *DATAFLEX)))
    assert not is_peer("random")


def test_a_sketch_keeps_inner_products() -> None:
    one, other = torch.randn(2, 1, 3000, generator=torch.Generator().manual_seed(0))
    found = []
    for seed in range(200):
        sketch = Sketch(3000, 64, seed, proj_type="rademacher", max_batch_size=8)
        small = sketch.project(torch.cat([one, other, 2 * one - other]))
        assert torch.allclose(small[2], 2 * small[0] - small[1], atol=1e-3)
        found.append(float(small[0] @ small[1]))
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - float(one[0] @ other[0])) < 4 * error


# -- TSDS and near -----------------------------------------------------------------------------------------------------


def unit(values: FloatArray) -> FloatArray:
    """Rows of length one."""
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def slow_odds(rows: FloatArray, probes: FloatArray) -> FloatArray:
    """TSDS by its own words: each probe's mass goes to its k nearest rows, by one over their density.

    k is as far as the cost allows, found by going through all counts at which some probe takes one row more.
    """
    n, m = len(rows), len(probes)
    far = np.array([[np.linalg.norm(row - probe) for row in rows] for probe in probes])
    apart = np.array([[np.sum((a - b) ** 2) for b in rows] for a in rows])
    density = np.array([sum(max(0.0, 1 - d / 0.75**2) for d in line) for line in apart])
    order = np.argsort(far, axis=1, kind="stable")
    reached = [np.cumsum(1 / density[order[j]]) for j in range(m)]  # the count at which row k of probe j is full
    events = sorted((reached[j][k], k, j) for j in range(m) for k in range(n - 1))
    last = [0] * m
    costs = [0.0] * m
    for count, k, j in events:
        taken = order[j][: k + 1]
        costs[j] = far[j][order[j][k + 1]] * count - sum(far[j][i] / density[i] for i in taken)
        if 0.6 / 5.0 * sum(costs) >= 0.4 * m:
            break
        last[j] = k
    odds = np.zeros(n)
    for j in range(m):
        given = 0.0
        for i in order[j][: last[j] + 1]:
            odds[i] += 1 / (m * count * density[i])
            given += 1 / (m * count * density[i])
        odds[order[j][last[j] + 1]] += max(1 / m - given, 0.0)
    return odds / odds.sum()


@settings(max_examples=25)
@drawn(st.integers(0, 10**6), st.integers(4, 14), st.integers(1, 5))
def test_odds_are_those_of_the_slow_way(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    rows, probes = unit(rng.normal(size=(n, 3))), unit(rng.normal(size=(m, 3)))
    found = peers.tsds_odds(rows, probes)
    assert found == pytest.approx(slow_odds(rows, probes))
    assert found.sum() == pytest.approx(1)
    assert found.min() >= 0


def test_rows_that_stand_twice_share_what_one_of_them_gets() -> None:
    rng = np.random.default_rng(0)
    rows, probes = unit(rng.normal(size=(30, 8))), unit(rng.normal(size=(6, 8)))
    single, double = peers.tsds_odds(rows, probes), peers.tsds_odds(np.repeat(rows, 2, axis=0), probes)
    assert np.abs(double[::2] + double[1::2] - single).max() < 0.05


def test_neighbours_are_the_nearest_rows() -> None:
    rng = np.random.default_rng(0)
    rows, probes = rng.normal(size=(20, 4)), rng.normal(size=(3, 4))
    slow = [sorted(range(20), key=lambda i, p=probe: float(np.sum((rows[i] - p) ** 2))) for probe in probes]
    assert peers.neighbours(rows, probes).tolist() == slow


# -- all of them, where there is a checkout ----------------------------------------------------------------------------


@pytest.mark.skipif(THERE is None, reason=f"{CHECKOUT} names no checkout of DataFlex")
@pytest.mark.parametrize("arm", DATAFLEX)
def test_each_peer_trains(arm: str, keep: Path) -> None:
    situation: Situation = replace(SHORT, name="longer", rows={"make": "graded", "levels": {0: 24}})
    outcome = one_run(keep, situation, arm, 3)
    assert outcome["status"] == "finished"
    assert outcome["rows"] == 8 * outcome["shared"]["steps"]
    assert outcome["cost"]["all"] >= (2 if arm.endswith("doremi") else 0)
    assert dataflex.checkout() is not None
