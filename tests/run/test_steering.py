"""Whole runs that their record steers: a phase that forgets a domain, and every other action and clock, trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.words.types import Json
from tests.run.tiny_run import ledger_of, tiny_trainer

WORDS = ["apple", "river", "stone", "cloud", "tiger", "piano", "lemon", "chair", "ocean", "candle"]
ANSWERS = {"math": "three and four", "code": "print the list"}
RATE, STEPS = 1e-2, 39
BASE: Json = {"metrics": [], "selector": "shuffle", "stages": 5, "budget": 5.0, "handover": 1.0, "mix": 0.0}
FORGETS: list[Json] = [{"until": 0.69, "shares": {"math": 0.7, "code": 0.3}}, {"until": 1, "shares": {"code": 1.0}}]


def rows(domain: str, n: int, seed: int, words: tuple[int, int] = (3, 3)) -> list[Json]:
    """Questions that a domain always answers alike, but for one word."""
    rng, answer = np.random.default_rng(seed), ANSWERS[domain]
    return [
        {
            "prompt": f"{domain} {' '.join(rng.choice(WORDS, rng.integers(words[0], words[1] + 1)))} ?",
            "completion": f" {answer} {' '.join(answer.split()[:2])} {rng.choice(WORDS)}.",
            "domain": domain,
        }
        for _ in range(n)
    ]


def trained(out: Path, recipe: Json, *, words: tuple[int, int] = (3, 3), **sft_args: Any) -> tuple[list[Json], Any]:
    """(The ledger, the trainer) of a run of 39 steps of 8 rows, over 60 rows of each domain."""
    trainer = tiny_trainer(
        out,
        config={**BASE, **recipe},
        train=rows("math", 60, 1, words) + rows("code", 60, 2, words),
        probes=rows("math", 24, 3, words) + rows("code", 24, 4, words),
        **{
            "learning_rate": RATE,
            "lr_scheduler_type": "constant",
            "per_device_train_batch_size": 8,
            "max_steps": STEPS,
            **sft_args,
        },
    )
    trainer.train()
    return ledger_of(out), trainer


def of(ledger: Sequence[Json], event: str) -> list[Json]:
    return [line for line in ledger if line["event"] == event]


def losses(ledger: Sequence[Json], domain: str) -> list[float]:
    """At each measurement of the probes."""
    return [line["domains"][domain]["loss"] for line in of(ledger, "probes")]


# -- a planted regression ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def forgetting(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[Json]]:
    """Two runs whose second phase leaves math out: one notes it, one reviews."""
    found = {}
    for then in ("note", "review"):
        block = {
            "phases": FORGETS,
            "review": {"share": 0.05, "from": 0.69, "spacing": 1},
            "when": {"regression": {"over": 0.1, "then": then}},
        }
        found[then], _ = trained(tmp_path_factory.mktemp(then), block)
    return found


def test_a_domain_that_is_forgotten_is_found_with_its_numbers(forgetting: Mapping[str, list[Json]]) -> None:
    for then, ledger in forgetting.items():
        loss = losses(ledger, "math")
        event = of(ledger, "event")[0]
        at = event["measurement"]
        best = min(np.mean(loss[i - 2 : i + 1]) for i in range(2, at))
        numbers = {name: event.pop(name) for name in ("value", "bound")}
        assert numbers["value"] == pytest.approx(loss[at] / best - 1)
        assert numbers["value"] > numbers["bound"] > 0.1
        assert loss[at - 1] / min(np.mean(loss[i - 2 : i + 1]) for i in range(2, at - 1)) > 1.1  # twice in a row
        assert event == {
            "event": "event",
            "kind": "regression",
            "name": "regression",
            "probe": "math",
            "measurement": 11,
            "stage": 11,
            "step": 33,
            "progress": 33 / 39,
            "against": 0.1,
            "actions": [then],
            "times": 1,
        } | ({"done": {}} if "done" in event else {})


def test_review_answers_it_and_it_recovers(forgetting: Mapping[str, list[Json]]) -> None:
    ledger = forgetting["review"]
    assert [(line["kind"], line["probe"]) for line in of(ledger, "event")] == [
        ("regression", "math"),
        ("recovered", "math"),
    ]
    recovered = of(ledger, "event")[-1]
    assert recovered["bound"] < recovered["against"] == 0.1
    assert recovered["actions"] == ["note"]
    back = {line["stage"]: line["lanes"]["review"] for line in of(ledger, "decision")}
    assert {back[stage] for stage in (9, 10)} == {1}
    assert {back[stage] for stage in (11, 12)} == {2}


def test_where_it_is_only_noted_it_is_told_and_stays_forgotten(forgetting: Mapping[str, list[Json]]) -> None:
    ledger = forgetting["note"]
    assert {(line["kind"], line["probe"]) for line in of(ledger, "event")} == {("regression", "math")}
    assert {line["lanes"]["review"] for line in of(ledger, "decision") if line["step"] >= 27} == {1}
    assert losses(ledger, "math")[-1] > 1.3 * losses(forgetting["review"], "math")[-1]
    assert any("`math` regressed at step" in what for line in of(ledger, "warnings") for what in line["warnings"])


def test_both_are_one_run_until_it_is_seen(forgetting: Mapping[str, list[Json]]) -> None:
    noted, acted = (
        [line for line in ledger[1:] if line.get("step", 0) < 33 and line["event"] != "warnings"]
        for ledger in forgetting.values()
    )
    assert len(noted) > 20
    assert noted == acted


# -- a bandit under the clock of competence, until a milestone hands over ----------------------------------------------


@pytest.fixture(scope="module")
def paced(tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    block = {
        "metrics": ["length", "compression"],
        "selector": {"name": "exp3s", "reward": "probes", "eta": 1.0},
        "stages": 15,
        "coverage": "revisit",
        "handover": 0.8,
        "pacing": {"name": "linear", "start": 0.01},
        "clock": {"by": "competence", "target": 0.4},
        "milestones": [{"name": "halfway", "probe": "math", "loss": 1.5, "then": "hand_over"}],
    }
    ledger, _ = trained(tmp_path_factory.mktemp("paced"), block, words=(2, 6))
    return ledger


def test_the_clock_of_competence_goes_by_the_probes(paced: list[Json]) -> None:
    competence = [np.mean([math.exp(-one["loss"]) for one in line["domains"].values()]) for line in of(paced, "probes")]
    planned = round(0.8 * STEPS)
    told = [line for line in of(paced, "decision") if "progress" in line]
    assert len(told) > 10
    for line in told:
        u = line["step"] / planned
        reached = (max(competence[: line["stage"] + 1]) - competence[0]) / (0.4 - competence[0])
        assert line["progress"] == pytest.approx(min(max(reached, u / 2), 2 * u, 1), abs=1e-6)
    assert len({round(line["progress"] / (line["step"] / planned), 2) for line in told[1:]}) > 3  # not at its bounds


def test_a_milestone_is_met_and_rows_are_shuffled_from_there(paced: list[Json]) -> None:
    (met,) = of(paced, "event")
    assert (met["kind"], met["name"], met["probe"], met["actions"]) == ("milestone", "halfway", "math", ["hand_over"])
    assert met["value"] < met["bound"] <= 1.5
    assert met["value"] == pytest.approx(losses(paced, "math")[met["measurement"]])
    assert 10 < met["step"] < round(0.8 * STEPS)
    for line in of(paced, "decision"):
        assert (line["chosen"] == "shuffle") == (line["step"] >= met["step"])


def test_a_bandit_learns_from_the_fall_of_the_probes_per_rate_and_token(paced: list[Json]) -> None:
    decisions = of(paced, "decision")
    loss = np.mean([losses(paced, "math"), losses(paced, "code")], axis=0)
    asked = [line for line in decisions if "pi" in line]
    assert len(asked) > 8
    assert all(sum(line["pi"].values()) == pytest.approx(1) for line in asked)
    assert asked[0]["pi"] == {"length": 0.5, "compression": 0.5}
    assert max(asked[-1]["pi"].values()) > 0.52
    for line in asked[3:]:
        reward, before = line["reward"], decisions[line["stage"] - 1]
        assert (reward["stage"], reward["chosen"]) == (before["stage"], before["chosen"])
        fall = loss[before["stage"]] - loss[before["stage"] + 1]
        assert reward["value"] == pytest.approx(fall / (RATE * before["tokens"]))
        assert -1 <= reward["scaled"] <= 1


# -- shares that follow the probes, under the clock of tokens ----------------------------------------------------------


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Json], Any]:
    block = {
        "metrics": ["length"],
        "selector": "fixed",
        "clock": "tokens",
        "domains": {"reweight": {"name": "lagging", "rate": 3.0}},
    }
    return trained(tmp_path_factory.mktemp("moved"), block, words=(2, 6))


def test_a_domain_that_lags_gets_more_rows(moved: tuple[list[Json], Any]) -> None:
    ledger, _ = moved
    shares, told = of(ledger, "shares"), 0
    start = np.array([losses(ledger, name)[0] for name in ("code", "math")])
    for line in shares:
        at = line["stage"]
        behind = np.array([losses(ledger, name)[at] for name in ("code", "math")]) / start
        x = behind - behind.mean()
        assert [line["signal"][name] for name in ("code", "math")] == pytest.approx(x.tolist()) or 0.0 in line[
            "signal"
        ].values()
        weight = 0.5 * np.exp(3.0 * np.array([line["signal"][name] for name in ("code", "math")]))
        after = 0.95 * weight / weight.sum() + 0.05 * 0.5
        assert [line["after"][name] for name in ("code", "math")] == pytest.approx(after.tolist(), abs=1e-6)
        told += int(np.argmax(after) == np.argmax(behind))
    assert len(shares) > 5
    assert told == len(shares)
    assert [line["before"] for line in shares[1:]] == [line["after"] for line in shares[:-1]]


def test_the_clock_of_tokens_goes_by_the_tokens_that_were_trained(moved: tuple[list[Json], Any]) -> None:
    ledger, trainer = moved
    mean = np.mean([len(ids) for ids in trainer.train_dataset["input_ids"]])
    behind = 0
    for line in of(ledger, "decision"):
        if "progress" in line:
            assert line["progress"] == pytest.approx(min(1, behind / (STEPS * 8 * mean)), abs=1e-6)
        behind += line["tokens"]
    assert len([line for line in of(ledger, "decision") if "progress" in line]) == 13


# -- phases that a milestone ends, and a share that is raised ----------------------------------------------------------


def test_a_milestone_ends_its_phase_and_a_regression_raises_a_share(tmp_path: Path) -> None:
    phases = [{**FORGETS[0], "until": 0.9}, {"until": 1, "shares": {"code": 0.9, "math": 0.1}}]
    block = {
        "phases": phases,
        "milestones": [{"name": "sums", "probe": "math", "loss": 2.0, "then": "next_phase"}],
        "when": {"regression": "raise"},
    }
    ledger, _ = trained(tmp_path, block)
    met = next(line for line in of(ledger, "event") if line["kind"] == "milestone")
    shares = {line["stage"]: line["shares"]["math"] for line in of(ledger, "decision")}
    assert 9 < met["step"] < 0.6 * STEPS
    assert all(shares[stage] > 0.6 for stage in shares if stage < met["stage"])
    raised = [line for line in of(ledger, "event") if line["actions"] == ["raise"] and line["probe"] == "math"]
    until = raised[0]["stage"] if raised else 13
    assert all(shares[stage] <= 0.13 for stage in range(met["stage"], until))
    if raised:
        assert np.mean([shares[stage] for stage in range(until, 13)]) > 0.1


# -- it does nothing unasked -------------------------------------------------------------------------------------------


def test_rules_that_see_nothing_leave_the_run_bit_for_bit(tmp_path: Path) -> None:
    never = {"name": "far", "probe": "math", "loss": 1e-6, "then": ["rollback", "hand_over"]}
    acting = {"milestones": [never], "when": {"regression": {"over": 9.0, "then": "rollback"}}}
    orders = {"metrics": ["length", "loss"], "selector": "matched", "rescore": 2}
    weights, ledgers = [], []
    for name, more in (("with", acting), ("without", {"when": {}})):
        ledger, trainer = trained(tmp_path / name, {**orders, **more}, words=(2, 6), lora=True, max_steps=12)
        weights.append([value.detach().numpy().tobytes() for value in trainer.model.parameters()])
        lines = [line for line in ledger[1:] if line["event"] != "warnings"]
        lines[-1].pop("smallest_rise", None)  # said where somebody watches for one
        ledgers.append(lines)
    assert weights[0] == weights[1]
    assert not of(ledgers[0], "event")
    assert ledgers[0] == ledgers[1]
