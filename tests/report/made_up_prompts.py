"""A run of prompts that nobody trained: its ledger, its files and its map, small and quick to make."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.run.answer_groups import StageGroups
from campus_tune.run.ledger import plain
from campus_tune.run.prompt_map import make_prompt_map
from campus_tune.words.types import Json
from tests.report.made_up import EVIL

G, P = 8, 16  # answers of a group, groups of a stage
KINDS = ("sums", "products", "words")


def make_prompt_run(
    out: Path,
    *,
    stages: int = 6,
    rows: int = 96,
    finished: bool = True,
    domains: bool = True,
    plain_rewards: bool = True,
) -> Path:
    """A run's output_dir: prompts whose pass rates rise, drawn more and more from the middle; gives it back.

    Args:
        out: the folder, made.
        stages: of one generation and two optimizer steps each.
        rows: prompts.
        finished: with a map and a last line.
        domains: prompts have three.
        plain_rewards: one function that gives 0 or 1; else two, one of which is a fraction.
    """
    home = out / "curriculum"
    home.mkdir(parents=True)
    rng = np.random.default_rng(0)
    of = Domains.of([KINDS[row % 3] for row in range(rows)]) if domains else Domains()
    groups = StageGroups(["right"] if plain_rewards else ["right", "short <b>"], of, at=1.0)
    ability = np.sort(rng.beta(0.5, 0.6, rows))[rng.permutation(rows)]
    lines: list[Json] = [_run_line(rows, stages, of)]
    for stage in range(stages):
        lines.append(_decision(stage))
        rate = np.clip(ability + 0.05 * stage, 0, 1)
        middle = np.argsort(np.abs(rate - 0.5) + (0.4 if stage == 0 else 0.1) * rng.random(rows))
        drawn = rng.permutation(middle[: 2 * P])[:P]
        right = (rng.random((P, G)) < rate[drawn, None]).astype(float)
        short = rng.random((P, G)).round(2)
        if stage == 1:
            right[0] = np.nan
        weighted = right if plain_rewards else right + 0.25 * short
        groups.add(
            drawn,
            generation=stage,
            weighted=weighted,
            by_function={"right": right} if plain_rewards else {"right": right, "short <b>": short},
            tokens=rng.integers(3, 9, (P, G)),
            expected=np.where(rng.random(P) < 0.8, np.clip(rate[drawn] + rng.normal(0, 0.1, P), 0, 1), np.nan),
            contradicting=np.arange(P) == (0 if stage == 2 else -1),
        )
        shuffled = 0.6 - 0.01 * stage
        lines.append(_stage_end(stage, groups.record(shuffled)))
        groups.close(home, stage, shuffled)
    if finished:

        def say(rows: object) -> list[str]:
            return [f"{EVIL} what is {row} + {row}?" for row in rows]  # type: ignore[attr-defined]

        predicted = np.clip(ability + rng.normal(0, 0.1, rows), 0, 1)
        mapped = make_prompt_map(home, range(stages), of, n_rows=rows, at=1.0, texts=say, predicted=predicted)
        lines.append({"event": "prompt_map", "step": 2 * stages, **mapped})
        lines.append(_end(stages, rows, groups.totals()))
    (home / "recipe.yaml").write_text("campus:\n  thin: {how: top, by: middle, keep: 0.5}\n", "utf-8")
    (home / "ledger.jsonl").write_text("".join(json.dumps(plain(line)) + "\n" for line in lines), "utf-8")
    return out


def _run_line(rows: int, stages: int, domains: Domains) -> Json:
    return {
        "event": "run",
        "task": "prompts",
        "rounds": stages,
        "past": {"dataset": "cafe", "n_rows": rows, "global_batch": P},
        "future": {"total_steps": 2 * stages, "campus: budget": 0.05},
        "rows_by_domain": domains.sizes(),
    }


def _decision(stage: int) -> Json:
    return {
        "event": "decision",
        "stage": stage,
        "step": 2 * stage,
        "generation": stage,
        "steps": 2,
        "epoch": 0,
        "chosen": "shuffle",
        "outcome": "no order to offer",
        "scope": [0.0, 1.0],
        "rows": P,
        "random_rows": 2,
        "repeated_rows": 0,
        "rows_by_choice": {"shuffle": P * (stage + 1)},
        "offers": [],
    }


def _audit(steps: int) -> Json:
    return {
        "checked": steps,
        "passed": steps,
        "labels": False,
        "prompts": True,
        "generations": [steps // 2, steps // 2],
    }


def _stage_end(stage: int, record: Json) -> Json:
    step = 2 * stage + 2
    return {
        "event": "stage_end",
        "stage": stage,
        "step": step,
        "generation": stage + 1,
        "chosen": "shuffle",
        **record,
        "audit": _audit(step),
        "prediction": _prediction(0.3 + 0.05 * stage) if stage else None,
        "cost": {"scoring": 0.001, "all": 0.001},
        "seconds": {"share": 0.01, "training": 5.0},
    }


def _prediction(correlation: float) -> Json:
    gains = {"level": 0.21, "length of prompt <i>": 0.02, "domain": -0.001}
    told = {"of": "pass_rate", "prompts": 40, "worth": 3.4, "correlation": correlation, "gain": 0.2, "error": 0.05}
    return {**told, "used": ["level", "length of prompt <i>"], "gains": gains}


def _end(stages: int, rows: int, totals: Json) -> Json:
    return {
        "event": "end",
        "step": 2 * stages,
        "n_rows": rows,
        "rows_seen": min(rows, 60),
        "rows_repeated": P * stages - min(rows, 60),
        "visits": P * stages,
        "coverage": "exact",
        "rows_by_choice": {"shuffle": P * stages},
        **totals,
        "audit": _audit(2 * stages),
        "budget": 0.05,
        "competence": {},
        "found": 0.0,
        "cost": {"scoring": 0.001, "all": 0.001},
        "seconds": {"share": 0.01, "training": 12.0, "scoring": 0.1},
    }
