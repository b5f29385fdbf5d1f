"""The evaluation of training by reward: arms that a run takes, hints as good as they say, the arithmetic by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from campus_tune.demo.sums import sums, warm_model
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.reward_rules import for_rewards
from campus_tune.words.types import Json
from eval import prompts
from eval.prompts import ARMS, CONTROL, HINTS, PASS, RANDOM
from eval.suspects import interval


@pytest.mark.parametrize("arm", list(ARMS))
def test_every_arm_is_one_that_a_run_by_reward_takes(arm: str) -> None:
    config = for_rewards(CampusConfig.from_mapping(prompts.campus_of(arm)))
    assert config.is_shuffle
    assert (config.thin is None) == (arm == RANDOM)
    assert (config.control is not None) == (arm == CONTROL)


@pytest.mark.parametrize("rho", [0.3, 0.6, 1.0])
def test_a_hint_has_the_rank_correlation_that_it_says(rho: float) -> None:
    rates = np.random.default_rng(0).beta(0.3, 0.3, size=4000)
    hint = prompts.hinted(rates, rho, seed=1)
    assert spearmanr(rates, hint).statistic == pytest.approx(rho, abs=0.03)
    assert np.allclose(prompts.hinted(rates, rho, seed=2), hint, atol=1e-6) == (
        rho == 1
    )  # there is no noise in the last


@pytest.fixture(scope="module")
def start() -> tuple[object, object]:
    return warm_model(steps=2)


def test_the_chance_of_a_right_answer_is_that_of_its_tokens_one_by_one(start: tuple[object, object]) -> None:
    model, tokenizer = start
    rows = sums(1, seed=0)
    found = prompts.chances(model, tokenizer, rows)
    for chance, row in zip(found, rows, strict=True):
        text = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
        ids = tokenizer(text)["input_ids"]
        expected = 1.0
        for token in [*tokenizer(row["answer"])["input_ids"], tokenizer.eos_token_id]:
            with torch.no_grad():
                expected *= float(model(torch.tensor([ids])).logits[0, -1].softmax(0)[token])
            ids = [*ids, token]
        assert chance == pytest.approx(expected, rel=1e-4)


def test_an_arm_sees_only_the_columns_that_it_may_and_no_held_out_prompt(start: tuple[object, object]) -> None:
    seen = {arm: prompts.rows_of(arm, 0, per_cell=2, start=start) for arm in (RANDOM, "own", "level ¼", *HINTS)}
    columns = {arm: set(rows[0]) - {"prompt", "answer"} for arm, rows in seen.items()}
    assert columns == {RANDOM: set(), "own": set(), "level ¼": {"domain", "level"}, **{arm: {"hint"} for arm in HINTS}}
    held_out = {row["prompt"][0]["content"] for row in prompts.held_out(0)}
    for rows in seen.values():
        asked = [row["prompt"][0]["content"] for row in rows]
        assert len(asked) == len(set(asked)) == 30
        assert not held_out & set(asked)
        assert asked == [row["prompt"][0]["content"] for row in seen[RANDOM]]  # the same prompts, in one sequence


def made_up(arm: str, seed: int, share: float, ends: tuple[float, float], tokens: int = 100) -> Json:
    """A run of two passes: shares of the two halves of the first and of the second; chances 30 and 60 steps on."""
    shares = [share, share + 0.1, 0.5, 0.5]
    stages = [
        {"step": (number + 1) * PASS // 2, "groups": {"n": 10, "without_gradient": one}}
        for number, one in enumerate(shares)
    ]
    looks = [{"step": step, "tokens": step * tokens // PASS, "chance": chance}
             for step, chance in zip((0, PASS, 2 * PASS), (0.4, *ends), strict=True)]  # fmt: skip
    return {"arm": arm, "seed": seed, "steps": 2 * PASS, "stages": stages, "looks": looks}


def test_the_tables_have_shares_by_steps_and_gains_at_equal_tokens(tmp_path: Path) -> None:
    runs = [
        made_up(RANDOM, 0, 0.6, (0.42, 0.44)),
        made_up(RANDOM, 1, 0.6, (0.44, 0.46)),
        made_up("own", 0, 0.2, (0.5, 0.6), tokens=200),  # half of its tokens count
        made_up("own", 1, 0.4, (0.46, 0.6), tokens=200),
    ]
    for run in runs:
        (tmp_path / f"{run['arm']}-{run['seed']}.json").write_text(json.dumps(run), "utf-8")
    lines = prompts.tables(prompts.read_runs(tmp_path)).splitlines()
    assert "| own | 0.30 | 0.40 | 0.35 | 0.50 | 0.42 |" in lines
    # at 100 tokens: own 0.05 and 0.03 (half way to its first look), random 0.02 and 0.04; at 200: 0.1, 0.06; 0.04, 0.06
    mean, half = interval([0.05 - 0.02, 0.03 - 0.04])
    told = f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"
    assert f"| own | +0.040 | {told} |" in "\n".join(lines)
    assert "| random | +0.030 |  | +0.050 |  |" in lines
    prompts.plot(prompts.read_runs(tmp_path), tmp_path / "all.png")
    assert (tmp_path / "all.png").stat().st_size > 10_000


def test_a_small_run_is_kept_and_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []
    real = prompts.one_run

    def counted(start: tuple[object, object], arm: str, **size: int) -> Json:
        trained.append(arm)
        return real(start, arm, seed=size["seed"], steps=6, per_cell=8)

    monkeypatch.setattr("campus_tune.report.callback.report_on", lambda _: None)
    monkeypatch.setattr(prompts, "one_run", counted)
    monkeypatch.setattr(prompts, "warm_model", lambda **_: warm_model(steps=2))
    monkeypatch.setattr(prompts, "EVERY", 3)
    for _ in range(2):
        prompts.main(["run", "--keep", str(tmp_path), "--arms", "hint 1", "--seeds", "1"])
    assert trained == ["hint 1"]
    run = prompts.read_runs(tmp_path)["hint 1"][0]
    assert [look["step"] for look in run["looks"]] == [0, 3, 6]
    assert run["looks"][-1]["tokens"] == run["stages"][-1]["generated_tokens"] > 0
    assert sum(stage["groups"]["n"] for stage in run["stages"]) == 6 * prompts.PROMPTS
    assert run["audit"]["passed"] == run["audit"]["checked"] == 6
