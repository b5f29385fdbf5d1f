"""Runs and comparisons that nobody trained: files as a run and a comparison leave them, small and quick to make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.run.decile_rates import leave_decile_rates
from campus_tune.run.ledger import plain
from campus_tune.run.told.examples import write_examples
from campus_tune.scores.cache import write_columns
from campus_tune.words.types import Json

METRICS = ("length", "mtld", "loss")
DOMAINS = ("arithmetic", "code", "text")
EVIL = "<script>document.title='owned'</script> & \"quoted\" <img src=http://example.com/x.png>"


def make_run(
    out: Path,
    *,
    stages: int = 6,
    rows: int = 60,
    finished: bool = True,
    ranks: int = 0,
    drawn: bool = False,
    weighted: bool = False,
    steered: bool = False,
) -> Path:
    """A run's output_dir with ledger, scores, losses, log and examples; gives it back."""
    home = out / "curriculum"
    home.mkdir(parents=True)
    rng = np.random.default_rng(0)
    scores = {name: rng.normal(size=rows).round(3) for name in METRICS}
    for name, values in scores.items():
        write_columns(home / "scores" / f"{name}.parquet", {"content": np.arange(rows), "score": values}, {})
    (home / "recipe.yaml").write_text("campus:\n  metrics: [length, mtld, loss]\n  note: <b>&</b>\n", "utf-8")
    lines: list[Json] = [_run_line(rows, stages), *({"event": "scores", "metric": name} for name in METRICS)]
    lines += [_health(), {"event": "warnings", "warnings": ["`mtld` has <ties>. Drop it."]}]
    for stage in range(stages):
        lines += _stage_lines(home, stage, stages, rows, rng)
    lines += [_evaluation(2, 0.25), _evaluation(stages, 0.5)]
    if finished:
        lines.append(_end(stages, rows, ranks))
    if drawn:
        _draw(home, lines, rows)
    if weighted:
        _weigh(lines)
    if steered:
        _steer(lines)
    (home / "ledger.jsonl").write_text("".join(json.dumps(plain(line)) + "\n" for line in lines), "utf-8")
    if finished:
        leave_decile_rates(home)
    write_examples(home, scores, [f"{EVIL} {i}" for i in range(rows)], [DOMAINS[i % 3] for i in range(rows)])
    return out


def _run_line(rows: int, stages: int) -> Json:
    return {
        "event": "run",
        "past": {"dataset": "cafe", "n_rows": rows, "global_batch": 4},
        "future": {"total_steps": 2 * stages, "campus: budget": 0.05},
        "rows_by_domain": dict.fromkeys(DOMAINS, rows // 3),
    }


def _health() -> Json:
    return {
        "event": "health",
        "names": list(METRICS),
        "correlation": [[1.0, 0.5, -0.25], [0.5, 1.0, None], [-0.25, None, 1.0]],
    }


def _stage_lines(home: Path, stage: int, stages: int, rows: int, rng: np.random.Generator) -> list[Json]:
    chosen = "shuffle" if stage >= max(1, stages * 2 // 3) else METRICS[stage % 3]
    step, shown = 2 * stage, stage / stages
    offers = [{"name": name, "loss": 3.0 - shown + 0.1 * i, "stderr": 0.1} for i, name in enumerate(METRICS)]
    decision = {
        "event": "decision",
        "stage": stage,
        "step": step,
        "steps": 2,
        "epoch": 0,
        "chosen": chosen,
        "outcome": "separated",
        "scope": [0.0, min(1.0, 0.1 + shown)],
        "rows": 8,
        "random_rows": 2,
        "repeated_rows": 0,
        "rows_by_choice": dict.fromkeys((*METRICS, "shuffle"), 8),
        "offers": [] if chosen == "shuffle" else offers,
    }
    if stages < 100:  # parquet files of a thousand stages would take the test's time, not the page's
        visited = {"row": rng.integers(0, rows, 8)}
        write_columns(home / "training_losses" / f"stage-{stage:05d}.parquet", visited, {})
    probes = {name: {"competence": 0.2 + 0.4 * shown + 0.01 * i, "loss": 1.0} for i, name in enumerate(DOMAINS)}
    end = {
        "event": "stage_end",
        "stage": stage,
        "step": step + 2,
        "chosen": chosen,
        "train_loss": 2.0 - shown,
        "learning_rate": 1e-3 * (1 - shown / 2),
        "train_loss_by_domain": {name: 2.1 - shown + 0.1 * i for i, name in enumerate(DOMAINS)},
        "audit": {"checked": step + 2, "passed": step + 2, "labels": True},
        "cost": _cost(0.03),
        "seconds": {"share": 0.1, "training": 5.0, "probes": 1},
    }
    return [decision, end, {"event": "probes", "step": step + 2, "domains": probes}]


def _draw(home: Path, lines: list[Json], rows: int) -> None:
    """What a recipe with shares, thinning, review and drop adds to a ledger, and the files of such a run."""
    lines[0] |= {"cells": {f"{name}/{band}": rows // 6 for name in DOMAINS for band in (1, 2)}}
    lines[0] |= {"dropped": {"duplicates: equal": 2, "judged": 1}}
    for line in lines:
        if line["event"] == "decision":
            u, passes = line["step"] / lines[0]["future"]["total_steps"], {"arithmetic": 0.5, "code": 1.0, "text": 2.0}
            line |= {
                "lanes": {"offer": 5, "mix": 2, "review": 1 if u else 0},
                "shares": {"arithmetic": 0.6 - 0.4 * u, "code": 0.2 + 0.4 * u, "text": 0.2},
                "offered": 14,
                "passed_over": 7 if u else 0,
                "passes": {name: u * value for name, value in passes.items()},
                "shortage": {"text": "next pass"} if line["stage"] == 3 else {},
                "thin": {"how": "rank", "by": "seen_loss", "tau": 1.5, "known": 7, "ess": 0.8 - 0.3 * u}
                if u
                else {"how": "rank", "by": "seen_loss", "skipped": "nothing is known of the rows offered"},
            }
        if line["event"] == "end":
            never = {"rows": 5, "by_domain": {"arithmetic": 4, "code": 1}}
            line |= {"passes": {"arithmetic": 0.5}, "never_trained": never, "dropped": 3, "visits_most": 4}
            line |= {"review_rows": 5}
            visits = np.arange(rows) % 5
            last = np.where(visits > 0, 2.0 - visits / 10, np.nan)
            write_columns(home / "book.parquet", {"row": np.arange(rows), "visits": visits, "last": last}, {})
    dropped = [
        {"row": 7, "reason": "duplicates: equal", "key": "ab", "domain": "code", "instead": 4, "text": f"{EVIL} 7"},
        {"row": 9, "reason": "duplicates: equal", "key": "cd", "domain": "text", "instead": 4, "text": "nine"},
        {"row": 11, "reason": "judged", "key": "ef", "domain": "text", "text": "eleven"},
    ]
    (home / "dropped.jsonl").write_text("".join(json.dumps(line) + "\n" for line in dropped), "utf-8")


def _weigh(lines: list[Json]) -> None:
    """What weights add to a ledger: none in the first stage, then more and more unequal ones."""
    n_steps = lines[0]["future"]["total_steps"]
    for line in lines:
        if line["event"] == "stage_end":
            line["weights_audit"] = [max(0, line["step"] - 2), max(0, line["step"] - 2)]
            line["clipped_steps"] = [line["stage"] % 3, 2]
        if line["event"] == "stage_end" and line["stage"]:
            u = line["step"] / n_steps
            line |= {
                "weights": {
                    "mean": 1.0,
                    "min": round(0.6 - 0.5 * u, 6),
                    "max": round(1.5 + 4 * u, 6),
                    "ess": round(1 - 0.6 * u, 6),
                    "half": round(0.4 - 0.3 * u, 6),
                    "by_domain": {"arithmetic": 1.0 + u, "code": 1.0, "text": 1.0 - u / 2},
                    "histogram": [0, 0, *([1, 1, 3, 2, 1] if u > 0.5 else [0, 2, 4, 2, 0]), 0, 0],
                    "shut_out": {"text": 0.25} if u > 0.9 else {},
                },
                "weighted_loss": line["train_loss"] - 0.2 * u,
                "level": {"mean": 0.9, "robust": {"code/1": [1.5, 0.3], "text/1": [None, None]}},
            }
        if line["event"] == "end":
            line["weights_audit"] = [n_steps - 2, n_steps - 2]


def _steer(lines: list[Json]) -> None:
    """What rules, a bandit, shares that follow and a clock add to a ledger: `code` is forgotten and comes back."""
    n_steps = lines[0]["future"]["total_steps"]
    lines[0]["future"] |= {"campus: clock": {"by": "competence", "target": 0.6}, "campus: handover": 1.0}
    first = {name: 1 / len(METRICS) for name in METRICS}
    told: list[Json] = []
    for line in lines:
        told.append(line)
        if line["event"] == "decision":
            u = line["step"] / n_steps
            reward = {"stage": line["stage"] - 1, "chosen": METRICS[(line["stage"] - 1) % 3], "value": 30 - 50 * u}
            line |= {"progress": u**0.5, "reward": {**reward, "scaled": 0.6 - u} if u else None}
            line["pi"] = dict(zip(METRICS, (0.2 + 0.5 * u, 0.5 - 0.3 * u, 0.3 - 0.2 * u), strict=True)) if u else first
        if line["event"] == "probes":
            u = line["step"] / n_steps
            for i, of in enumerate(line["domains"].values()):
                of["ece"] = 0.02 + 0.03 * i + 0.1 * u
            line["domains"]["code"]["competence"] -= 0.15 if 0.4 < u < 0.8 else 0.0
            told += _seen_at(line["step"], n_steps)
    lines[:] = told


def _seen_at(step: int, n_steps: int) -> list[Json]:
    """What rules saw after a measurement, and what became of the shares."""
    u, when = step / n_steps, {"measurement": step // 2, "stage": step // 2, "step": step, "progress": step / n_steps}
    found: list[Json] = []
    if step == n_steps // 2:
        numbers = {"value": 0.0612, "bound": 0.032, "against": 0.02, "times": 1}
        fired = {"event": "event", "kind": "regression", "name": "regression", "probe": "code", **when, **numbers}
        found.append({**fired, "actions": ["rollback", "review"], "done": {"rollback": {"step": 2}}})
        before, after = {"arithmetic": 0.4, "code": 0.2, "text": 0.4}, {"arithmetic": 0.35, "code": 0.3, "text": 0.35}
        signal = {"arithmetic": 0.1, "code": 0.4, "text": None}
        found.append({"event": "shares", **{k: when[k] for k in ("stage", "step")}, "before": before, "after": after})
        found[-1]["signal"] = signal
    if 0.8 < u < 0.9:
        numbers = {"value": 0.004, "bound": 0.012, "against": 0.02, "actions": ["note"], "times": 1}
        found.append({"event": "event", "kind": "recovered", "name": "recovered", "probe": "code", **when, **numbers})
        numbers = {"value": 0.52, "bound": 0.51, "against": 0.5, "actions": ["note"], "times": 1}
        found.append({"event": "event", "kind": "milestone", "name": EVIL, "probe": "text", **when, **numbers})
    if step == n_steps:
        numbers = {"value": 0.001, "bound": 0.0031, "against": 0.005, "actions": ["stop"], "times": 2}
        fired = {"event": "event", "kind": "stagnation", "name": "stagnation", "probe": None, **when, **numbers}
        found.append({**fired, "done": {"stop": {"said": f"stopped at step {step}"}}})
    return found


def _evaluation(stage: int, value: float) -> Json:
    scores = {"gsm8k": {"exact_match,strict": {"value": value, "stderr": 0.05}, "n": {"value": None}}}
    return {"event": "evaluation", "stage": stage, "suite": "smoke", "scores": scores, "seconds": 3.0}


def _cost(total: float) -> Json:
    return {"scoring": total / 2, "selection": total / 4, "probes": total / 4, "scorer": 0.0, "all": total}


def _end(stages: int, rows: int, ranks: int) -> Json:
    end: Json = {
        "event": "end",
        "step": 2 * stages,
        "n_rows": rows,
        "rows_seen": rows,
        "visits": 8 * stages,
        "audit": {"checked": 2 * stages, "passed": 2 * stages, "labels": True},
        "budget": 0.05,
        "cost": _cost(0.04),
        "seconds": {"share": 0.1, "training": 5.0, "probes": 1.0},
        "padding": {"share": 0.17, "at_random": 0.49, "tokens": [830, 1000], "micro": 8, "cut": "even", "steps": 8},
    }
    if ranks:
        end["ranks"] = {"tokens": [1000 + rank for rank in range(ranks)], "padding": [0.1] * ranks, "seconds": {}}
    return end


ARMS = {"recipe": "recipe", "random": "baseline", "random_same_pacing": "control", "reversed": "control"}
GAIN = {"recipe": -0.08, "random": 0.0, "random_same_pacing": -0.03, "reversed": 0.02}


def make_comparison(
    out: Path, *, seeds: int = 4, diverged: tuple[str, int] | None = None, verdict: bool = True, items: int = 120
) -> Path:
    """A comparison's folder; `diverged` names the arm and seed of a run that did not end. Gives the folder back."""
    out.mkdir(parents=True)
    test = {"path": ["test.jsonl"], "digest": "beef", "items": items, "domains": dict.fromkeys(DOMAINS, items // 3)}
    settings = {
        "format": 1,
        "arms": {name: {"kind": kind, "campus": {"note": EVIL, "stages": 8}} for name, kind in ARMS.items()},
        "seeds": list(range(seeds)),
        "effect": 0.02,
        "test": test,
        "training": {"learning_rate": 1e-3},
        "command": "campus-tune compare --config compare.yaml",
        "made_with": {"campus_tune": "0.3.0"},
    }
    (out / "compare.json").write_text(json.dumps(settings), "utf-8")
    for arm, kind in ARMS.items():
        for seed in range(seeds):
            outcome = make_outcome(arm, kind, seed, items, diverged=(arm, seed) == diverged)
            folder = out / "runs" / arm / f"seed-{seed}"
            folder.mkdir(parents=True)
            (folder / "result.json").write_text(json.dumps(plain(outcome)), "utf-8")
    if verdict:
        (out / "verdict.json").write_text(json.dumps(make_verdict(out)), "utf-8")
    return out


def make_verdict(out: Path) -> Json:
    """What the comparison's own judge says of the made-up results."""
    from campus_tune.compare.verdict import arm_of, judge

    results = [json.loads(path.read_text("utf-8")) for path in sorted(out.glob("runs/*/*/result.json"))]
    by_arm: dict[str, list[Json]] = {}
    for result in results:
        by_arm.setdefault(result["arm"], []).append(result)
    return judge([arm_of(by_arm[name]) for name in ARMS], resamples=200).to_mapping()


def make_outcome(arm: str, kind: str, seed: int, items: int, *, diverged: bool) -> Json:
    """The result of one run in the format of a comparison."""
    rng = np.random.default_rng([seed, list(ARMS).index(arm)])
    level = np.random.default_rng(5).normal(1.0, 0.3, items)
    tokens = np.random.default_rng(6).integers(5, 30, items)
    domain = np.arange(items) % 3
    loss = (level + GAIN[arm] * (1 + 0.5 * domain) + rng.normal(0, 0.08, items) + rng.normal(0, 0.01)) * tokens
    grid = np.linspace(0, 24_000, 11)
    end = float(loss.sum() / tokens.sum())
    curve = end + 2.5 * (np.exp(-grid / 6000) - np.exp(-24_000 / 6000))
    points = 5 if diverged else 11
    result: Json = {
        "format": 1,
        "arm": arm,
        "kind": kind,
        "seed": seed,
        "status": "diverged" if diverged else "finished",
        "message": "the loss was NaN at step 300" if diverged else None,
        "shared": {"data": "a", "test": "b", "training": "c", "steps": 900, "global_batch": 8, "made_with": {}},
        "tokens": 24_000,
        "rows": 7200,
        "seconds": {"training": 50.1, "curriculum": 3.2, "curve": 4.0},
        "cost": _cost(0.04) if kind == "recipe" else {"all": 0.0},
        "curve": {
            "step": (grid[:points] / 27).round().tolist(),
            "tokens": grid[:points].tolist(),
            "seconds": (grid[:points] / 500).tolist(),
            "loss": curve[:points].tolist(),
            "domains": {name: (curve[:points] + 0.1 * i).tolist() for i, name in enumerate(DOMAINS)},
        },
        "choices": _made_choices(arm, seed),
        "learning_rate": {name: [1 + 0.05 * i * (arm == "recipe") for i in range(10)] for name in METRICS},
        "calibration": {
            "error": 0.05,
            "bins": [[0.1 * i + 0.05, 0.1 * i + 0.02, 50] for i in range(10)],
            "domains": {},
        },
        "gap": None if diverged else _made_gap(rng),
        "sharpness": None if diverged else _made_sharpness(rng),
        "audit": {"checked": 38, "passed": 38},
        "evaluation": None,
        "test": None,
    }
    if not diverged:
        parts: Mapping[str, Any] = {"domains": list(DOMAINS), "items": [f"{i:04x}" for i in range(items)]}
        result["test"] = {**parts, "domain": domain, "tokens": tokens, "loss": loss}
    return result


def _made_gap(rng: np.random.Generator) -> Json:
    def part() -> Json:
        value, at_start = rng.normal(0.2, 0.02), rng.normal(0.05, 0.02)
        said = {"value": value, "at_start": at_start, "grown": value - at_start, "stderr": 0.02, "grown_stderr": 0.01}
        return {**said, "test": 1.2, "trained": 1.2 - value, "rows": 40}

    return {**part(), "domains": {name: part() for name in DOMAINS}}


def _made_sharpness(rng: np.random.Generator) -> Json:
    """Of weights in half precision, where a relative step is lost."""

    def part() -> Json:
        return {"value": rng.normal(0.3, 0.01), "relative": None, "merged": rng.normal(0.2, 0.01)}

    whole = {**part(), "radius": 0.05, "relative_radius": 0.5, "rows": 96}
    return {**whole, "domains": {name: part() for name in DOMAINS}}


def _made_choices(arm: str, seed: int) -> list[Json]:
    names = ["shuffle"] * 8 if arm != "recipe" else [METRICS[(i + seed) % 3] for i in range(5)] + ["shuffle"] * 3
    return [
        {"step": 100 * i, "steps": 100, "chosen": name, "scope": [0, 1], "rows": 800} for i, name in enumerate(names)
    ]
