"""Recipes as arms of a situation: every file appears, every block is accepted, and what some need is made first."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from campus_tune.compare.arms import RANDOM, kind_of
from campus_tune.demo.tiny import tiny_model
from campus_tune.recipe.config import CampusConfig
from eval.situations import named
from eval.situations.arms import ARMS, PARTS, asked_for, block_of, is_probed
from eval.situations.made_first import TOKENS, made_first
from eval.situations.named import LEFT_OUT, RECIPES, Given, control_of, files, why_left_out
from eval.situations.rows import made
from eval.situations.runs import one_run
from eval.situations.situation import Situation, read_situation

DOMAINS = ("arithmetic", "calendar", "lists", "text")
GIVEN = Given(90, 2, DOMAINS, {"holdout": Path("made/holdout"), "proxy": Path("made/proxy")})
SHORT = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}


def short(**more: Any) -> Situation:
    """Sixteen steps of four rows, over in two seconds."""
    rows = {"make": "graded", "levels": {0: 8}}
    one = replace(read_situation("tune_wrong_20"), name="short", rows=rows, epochs=16, points=1, training=SHORT)
    return replace(one, **more)


@pytest.fixture(scope="module")
def keep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that knows nothing."""
    folder = tmp_path_factory.mktemp("keep")
    tiny_model(hidden=16).save_pretrained(folder / "bases" / "tasks")
    return folder


def test_every_recipe_is_an_arm_or_is_left_out_with_a_reason() -> None:
    found = {arm.partition(".")[0] for arm in named.arms(DOMAINS, 2)}
    assert found | set(LEFT_OUT) == {path.stem for path in RECIPES.glob("*.yaml")}
    assert not found & set(LEFT_OUT)
    assert all(len(why_left_out(name, DOMAINS, 2) or "") > 10 for name in LEFT_OUT)


@pytest.mark.parametrize("arm", named.arms(DOMAINS, 2))
def test_every_block_is_accepted(arm: str) -> None:
    kind, block = block_of(arm, GIVEN, 3)
    name, _, control = arm.partition(".")
    if name not in ARMS:
        config = CampusConfig.from_mapping(block)
        assert config.stages <= 45
        assert "probes" not in block
    assert kind == ("control" if control else "recipe")
    assert control in ("", control_of(name))
    as_written = named._read(name)["campus"]
    if not control and name not in named.SHARED and name not in named.NEEDS and name not in ARMS:
        kept = {key: value for key, value in as_written.items() if key not in ("probes", "stages", "budget")}
        assert {key: block[key] for key in kept} == kept
    assert is_probed(arm) == bool(as_written.get("probes")) or name in ARMS


def test_a_control_is_one_of_those_that_the_recipe_names_itself() -> None:
    for name in files():
        own = (named._read(name).get("compare") or {}).get("arms", [])
        control = control_of(name)
        if own and control is not None:
            assert control in own
        assert control is None or (kind_of(control) == "control" and control != RANDOM)
    assert control_of("phases_abc") == "stacked"
    assert control_of("domains_lagging") is None


def test_random_orders_differ_by_seed_and_from_one_another() -> None:
    (_, one), (_, other), (_, again) = (block_of("campus.random_same_pacing", GIVEN, seed) for seed in (1, 2, 1))
    seeds = [[metric["seed"] for metric in block["metrics"]] for block in (one, other)]
    assert len({*seeds[0], *seeds[1]}) == 8
    assert one == again
    assert block_of("campus", GIVEN, 1) == block_of("campus", GIVEN, 2)


@drawn(st.integers(3, 9))
def test_shares_are_those_of_the_recipe_and_all_other_domains_share_the_last(n: int) -> None:
    names = [f"domain {i}" for i in range(n)]
    _, block = named.block_of("phases_abc", Given(90, 2, names), 0)
    for phase, written in zip(block["phases"], named._read("phases_abc")["campus"]["phases"], strict=True):
        assert sum(phase["shares"].values()) == pytest.approx(1)
        assert [phase["shares"][name] for name in names[:2]] == [written["shares"][key] for key in ("math", "code")]
        assert set(phase["shares"]) == set(names)
    assert block["milestones"][0]["probe"] == "domain 0"


def test_stages_are_two_steps_and_rules_end_no_run() -> None:
    assert named.block_of("bandit", replace(GIVEN, steps=30), 0)[1]["stages"] == 15
    assert named.block_of("focal", replace(GIVEN, steps=1), 0)[1]["stages"] == 1
    _, block = named.block_of("milestones", GIVEN, 0)
    assert block["when"]["saturated"]["then"] == "note"
    assert block["when"]["stagnation"] == "widen"


@pytest.mark.parametrize(
    ("arm", "given", "message"),
    [
        ("nothing", GIVEN, "`nothing` must be a recipe or its control, got another name. Write one of anti_length"),
        ("row_weights", GIVEN, "got one that is left out: its weights are the user's own. Remove it"),
        ("review", replace(GIVEN, domains=("a", "b")), "left out: it needs 3 domains, and here are 2"),
        (
            "infobatch",
            replace(GIVEN, epochs=1),
            "left out: it goes by what a row has shown before, and here are 1 epochs",
        ),
        ("rho_online", replace(GIVEN, made={}), "`rho_online` must have its holdout made first, got none"),
    ],
)
def test_arms_that_cannot_run_say_why(arm: str, given: Given, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        block_of(arm, given, 0)


def test_words_for_many_arms() -> None:
    assert asked_for(["random", "recipes"], DOMAINS, 2) == ["random", *named.arms(DOMAINS, 2)]
    assert {"trl_plain", "dataflex_less", *PARTS} <= set(asked_for(["peers"], DOMAINS, 2))
    assert "infobatch" not in asked_for(["recipes"], DOMAINS, 1)
    assert "review" not in asked_for(["recipes"], ["a"], 2)


@pytest.mark.parametrize("arm", ["bandit", "review", "infobatch", "phases_abc.stacked", "linupper"])
def test_a_short_run(arm: str, keep: Path) -> None:
    outcome = one_run(keep, short(), arm, 3)
    assert outcome["status"] == "finished"
    assert outcome["shared"]["steps"] == 16
    assert "made" not in outcome["cost"]
    assert (outcome["cost"].get("probes", 0) > 0) == is_probed(arm)


@pytest.mark.parametrize(("arm", "need"), [("rho_online", "holdout"), ("irreducible", "proxy-seed-3")])
def test_what_a_recipe_needs_is_made_once_and_charged(arm: str, need: str, keep: Path) -> None:
    outcome = one_run(keep, short(), arm, 3)
    path = keep / "short" / "made" / need / TOKENS
    assert outcome["cost"]["made"] == pytest.approx(float(json.loads(path.read_text())) / outcome["tokens"])
    others = sum(share for name, share in outcome["cost"].items() if name != "all")
    assert outcome["cost"]["made"] > 0.9
    assert outcome["cost"]["all"] == pytest.approx(others)
    before = path.stat().st_mtime_ns
    folders, tokens = made_first(keep, short(), arm, 3, made(short().rows, 3))
    assert path.stat().st_mtime_ns == before
    assert tokens > 0
    assert list(folders.values()) == [path.parent]
    assert made_first(keep, short(), f"{arm}.random_same_pacing", 3, made(short().rows, 3)) == ({}, 0.0)
