"""What is measured around a stage for a bandit: the right numbers, on the bill, the same after a kill, or None."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from campus_tune.method.budget import Budget
from campus_tune.method.stages import SHUFFLE, Stage
from campus_tune.model.peers import Peers
from campus_tune.recipe.config import CampusConfig
from campus_tune.run.loaded import Loaded, load
from campus_tune.run.stage_rewards import SAMPLE, StageRewards, half_square
from campus_tune.words.errors import TrainerError
from campus_tune.words.types import IntArray, Json

N = 100


@dataclass
class Scene:
    """A trainer that is not trained, and what is measured of it."""

    trainer: Any
    loaded: Loaded
    asked: list[IntArray]

    def rewards(self, kind: str = "own", share: float = 10.0) -> StageRewards:
        """For a bandit, with a budget that pays for `share` of the training compute."""
        self.asked.clear()
        tokens = float(self.loaded.rows.tokens.sum())
        budget = Budget(share, tokens, 0.5)
        found = StageRewards.of(config(kind), self.trainer, self.loaded.meter, self.loaded.rows, budget)
        assert found is not None
        return found


def config(kind: str = "own", **settings: Any) -> CampusConfig:
    recipe = {"metrics": ["length", "mtld"], "selector": {"name": "exp3s", "reward": kind}, "stages": 4, **settings}
    return CampusConfig.from_mapping(recipe).resolved(has_probes=True, domain_in_data=False, seed=3)


def stage(index: int = 2, n: int = 60, chosen: str = "mtld", first_step: int = 0) -> Stage:
    rows = np.random.default_rng(index).permutation(N)[:n].astype(np.int32)
    return Stage(index, 0, chosen, first_step, 15, rows, (0.0, 1.0), 0, 0, widened=False)


@pytest.fixture
def scene(tiny_trainer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    trainer = tiny_trainer(n=N)
    loaded = load(trainer, config(), Peers(), to_train=True)
    assert isinstance(loaded, Loaded)
    asked: list[IntArray] = []
    losses = loaded.meter.losses
    monkeypatch.setattr(loaded.meter, "losses", lambda rows: (asked.append(rows), losses(rows))[1])
    yield Scene(trainer, loaded, asked)
    loaded.loader.close()


def nudge(trainer: Any, factor: float = 0.99) -> None:
    """Something is trained."""
    with torch.no_grad():
        for p in trainer.model.parameters():
            p.mul_(factor)


def test_the_own_gain_is_the_fall_of_the_loss_of_the_same_rows(scene: Scene) -> None:
    rewards, meter = scene.rewards(), scene.loaded.meter
    rewards.open_stage(stage())
    before = meter.losses(scene.asked[0]).mean()
    nudge(scene.trainer)
    gain, norm = rewards.close_stage()
    after = meter.losses(scene.asked[0]).mean()
    assert gain == pytest.approx(before - after, abs=1e-12)
    assert gain != 0
    assert norm is None
    assert scene.asked[0].tolist() == scene.asked[2].tolist()


def test_the_norm_gain_is_the_rise_of_half_the_squared_norm(scene: Scene) -> None:
    rewards = scene.rewards("norm")
    weights = [p.detach().numpy().astype(np.float64) for p in scene.trainer.model.parameters() if p.requires_grad]
    slow = sum(float((w**2).sum()) for w in weights) / 2
    rewards.open_stage(stage())
    nudge(scene.trainer, 2.0)
    own, norm = rewards.close_stage()
    assert norm == pytest.approx(3 * slow, rel=1e-12)
    assert own is None
    assert scene.asked == []
    assert rewards.budget.spent["selection"] == 0


def test_only_what_is_trained_counts(tiny_trainer: Callable[..., Any]) -> None:
    model = tiny_trainer(n=N, lora=True).model
    trained = [p for p in model.parameters() if p.requires_grad]
    slow = sum(float((p.detach().numpy().astype(np.float64) ** 2).sum()) for p in trained) / 2
    assert half_square(trained) == pytest.approx(slow, rel=1e-12)
    assert len(trained) < len(list(model.parameters()))
    assert half_square([]) == 0.0


def test_a_small_change_of_large_weights_is_not_lost() -> None:
    weight = torch.nn.Parameter(torch.full((1000,), 100.0))
    before = half_square([weight])
    with torch.no_grad():
        weight[0] += 1e-3  # float32 adds 5e6 up in steps of 0.5
    assert half_square([weight]) - before == pytest.approx(0.1, rel=2e-3)


def test_weights_that_were_thawed_or_frozen_meanwhile_are_no_gain(scene: Scene) -> None:
    rewards = scene.rewards("norm")
    rewards.open_stage(stage())
    next(iter(scene.trainer.model.parameters())).requires_grad_(False)
    assert rewards.close_stage() == (None, None)


def test_the_sample_is_of_the_stage_and_drawn_by_seed_and_stage(scene: Scene) -> None:
    samples: list[list[int]] = []
    for index in (2, 2, 3):
        scene.rewards().open_stage(stage(index))
        samples.append(scene.asked[0].tolist())
        assert set(samples[-1]) <= set(stage(index).rows.tolist())
        assert len(set(samples[-1])) == SAMPLE
        assert samples[-1] == sorted(samples[-1])
    assert samples[0] == samples[1] != samples[2]


def test_a_small_stage_is_measured_whole(scene: Scene) -> None:
    scene.rewards().open_stage(stage(n=5))
    assert scene.asked[0].tolist() == sorted(stage(n=5).rows.tolist())


def test_rows_that_come_twice_are_one(scene: Scene) -> None:
    twice = stage(n=5)
    scene.rewards().open_stage(Stage(**{**vars(twice), "rows": np.repeat(twice.rows, 2)}))
    assert scene.asked[0].tolist() == sorted(twice.rows.tolist())


@pytest.mark.parametrize("kind", ["own", "norm"])
def test_a_shuffled_stage_is_not_measured(scene: Scene, kind: str) -> None:
    rewards = scene.rewards(kind)
    rewards.open_stage(stage())
    rewards.open_stage(stage(chosen=SHUFFLE))
    assert rewards.close_stage() == (None, None)


def test_a_stage_that_nobody_opened_has_no_gain(scene: Scene) -> None:
    rewards = scene.rewards()
    rewards.open_stage(stage())
    assert rewards.close_stage()[0] is not None
    assert rewards.close_stage() == (None, None)


# -- the bill ------------------------------------------------------------------------------------------------------


def test_both_forwards_are_on_the_bill_of_the_selection(scene: Scene) -> None:
    rewards = scene.rewards()
    rewards.open_stage(stage())
    tokens = int(scene.loaded.rows.tokens[scene.asked[0]].sum())
    assert rewards.budget.spent["selection"] == tokens
    rewards.close_stage()
    assert rewards.budget.spent["selection"] == 2 * tokens
    assert rewards.budget.seconds["selection"] > 0


def test_the_sample_is_as_large_as_is_paid_for_and_none_below_eight_rows(scene: Scene) -> None:
    sizes = []
    for share in (4.0, 0.6, 0.3, 0.1, 0.0):
        rewards = scene.rewards(share=share)
        rewards.open_stage(stage())
        sizes.append(len(scene.asked[0]) if scene.asked else 0)
        rewards.close_stage()
        assert rewards.budget.spent["selection"] <= rewards.budget.total
    assert sizes[0] == SAMPLE
    assert SAMPLE > sizes[1] > sizes[2] >= 8
    assert sizes[3:] == [0, 0]


def test_what_is_paid_for_is_kept_for_all_stages_to_come(scene: Scene) -> None:
    """Four stages an epoch, of which 2.4 lie before the handover: the last one may take all that is left."""
    first, last = scene.rewards(share=0.6), scene.rewards(share=0.6)
    first.open_stage(stage())
    few = len(scene.asked[0])
    last.open_stage(stage(first_step=14))
    assert few < len(scene.asked[1])


def test_probes_that_are_still_to_be_measured_keep_their_part(scene: Scene) -> None:
    alone, with_probes = scene.rewards(share=0.6), scene.rewards(share=0.6)
    with_probes.budget.charge("probes", 1, 0.0)
    alone.open_stage(stage())
    few = len(scene.asked[0])
    with_probes.open_stage(stage())
    assert few > len(scene.asked[1])


# -- a kill --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["own", "norm"])
def test_a_run_that_was_killed_inside_of_a_stage_goes_on_the_same(scene: Scene, kind: str) -> None:
    rewards = scene.rewards(kind)
    rewards.open_stage(stage())
    state: Json = json.loads(json.dumps(rewards.state()))
    nudge(scene.trainer)
    gains = rewards.close_stage()
    again = scene.rewards(kind)
    again.load(state)
    assert again.close_stage() == gains
    assert gains != (None, None)
    again.load(json.loads(json.dumps(again.state())))
    assert again.close_stage() == (None, None)


# -- who asks for it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("selector", ["round_robin", {"name": "exp3s", "reward": "probes"}])
def test_what_asks_for_neither_has_none(scene: Scene, selector: Any) -> None:
    trainer, loaded, budget = scene.trainer, scene.loaded, Budget(1.0, 1.0, 0.5)
    assert StageRewards.of(config(selector=selector), trainer, loaded.meter, loaded.rows, budget) is None


@pytest.mark.parametrize("sharded", ["FSDP", "DeepSpeed ZeRO 3"])
def test_the_norm_of_weights_in_parts_is_refused_by_name(
    scene: Scene, sharded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    if sharded != "FSDP":
        weight.ds_id = 0  # type: ignore[attr-defined]  # as DeepSpeed marks it
    model = SimpleNamespace(parameters=lambda: [weight])
    monkeypatch.setattr(
        "campus_tune.run.stage_rewards.compat.subject", lambda _: SimpleNamespace(model=model, sharded=True)
    )
    with pytest.raises(TrainerError, match=rf"got norm under {sharded}.*Write reward: probes, or own"):
        scene.rewards("norm")
    for advised in ("own", "probes"):
        loaded = scene.loaded
        StageRewards.of(config(advised), scene.trainer, loaded.meter, loaded.rows, Budget(1.0, 1.0, 0.5))
