"""One run of one arm: trained by the product, measured as `campus-tune compare` measures, kept as it keeps.

KEEP/<situation>/<arm>/seed-<seed>/result.json   what `compare.verdict.arm_of` reads, and the ledger's last words
visits.npz    row, nll_sum, tokens of every visit in the sequence of training
rows.npz      wrong, domain, level, answer_tokens, prompt_tokens of all rows
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.data.prepared import TokenRows
from campus_tune.words.files import atomic_write
from campus_tune.words.types import Json
from eval.situations.arms import block_of, is_peer, is_probed
from eval.situations.bases import BASES, trainer_of
from eval.situations.made_first import made_first
from eval.situations.named import Given
from eval.situations.rows import Made, made
from eval.situations.situation import Situation

RESULT, VISITS, ROWS, LOG = "result.json", "visits.npz", "rows.npz", "log.txt"
TOLD = ("act", "end", "shares", "event")  # events of the ledger that a result keeps


def folder_of(keep: Path, situation: str, arm: str, seed: int) -> Path:
    """Where a run is kept."""
    return keep / situation / arm / f"seed-{seed}"


def one_run(keep: Path, situation: Situation, arm: str, seed: int) -> Json:
    """Train once, and keep what came of it; a run that is kept already is not made again."""
    folder = folder_of(keep, situation.name, arm, seed)
    if (folder / RESULT).is_file():
        kept: Json = json.loads((folder / RESULT).read_text())
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    rows = made(situation.rows, seed)
    with (
        tempfile.TemporaryDirectory() as out,
        (folder / LOG).open("w", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        if is_peer(arm):
            from eval.situations import peers

            outcome = peers.train(keep, situation, arm, seed, rows, Path(out))
        else:
            outcome = _train(keep, situation, arm, seed, rows, Path(out))
        for name in (VISITS, ROWS):
            shutil.move(Path(out) / name, folder / name)
    atomic_write(folder / RESULT, json.dumps(outcome))
    return outcome


def _train(keep: Path, situation: Situation, arm: str, seed: int, rows: Made, out: Path) -> Json:
    from datasets import Dataset

    from campus_tune import CampusCallback
    from campus_tune.compare.recorder import Recorder
    from campus_tune.compare.training import of_the_order
    from campus_tune.model import compat
    from campus_tune.model.fingerprint import weights_at_start
    from campus_tune.run.ledger import read_ledger
    from campus_tune.words.errors import DivergedError
    from eval.suspects import visits_of

    base = BASES[situation.base]
    steps = steps_of(situation, rows)
    made, made_cost = made_first(keep, situation, arm, seed, rows)
    kind, block = block_of(arm, Given(steps, situation.epochs, [row["domain"] for row in rows.rows], made), seed)
    probes = None
    if is_probed(arm):
        columns = ("domain", "prompt", "completion")
        probes = Dataset.from_list([{key: row[key] for key in columns} for row in rows.probes])
    callback = CampusCallback({"scores": "none", **block, "seed": seed}, probes=probes, report=False)
    recorder = Recorder(tests_of(rows, out), situation.points, with_gap=False)
    trainer = trainer_of(
        base, keep, rows.rows, out, steps=steps, seed=seed, callbacks=[callback, recorder], training=situation.training
    )
    run = callback.run
    assert run is not None  # it was made with the trainer
    recorder.follow(trainer, run)
    start, began = weights_at_start(trainer.model), time.perf_counter()
    status: Json = {"status": "finished", "message": None}
    try:
        trainer.train()
    except DivergedError as error:
        status = {"status": "diverged", "message": str(error)}
    seconds = time.perf_counter() - began - recorder.curve_seconds
    ledger = read_ledger(out / "curriculum" / "ledger.jsonl")
    end = next((event for event in ledger if event["event"] == "end"), {})
    visits = visits_of(out)
    seen = {key: visits[f"visit_{key}"] for key in ("row", "nll_sum", "tokens")}
    keep_arrays(out, run.situation.loaded.rows, rows, seen)
    cost = of_the_order(end.get("cost") or run.situation.budget.shares())
    if made_cost:
        cost = {**cost, "made": made_cost / recorder.tokens, "all": cost["all"] + made_cost / recorder.tokens}
    outcome: Json = {
        "situation": situation.name,
        "arm": arm,
        "kind": kind,
        "seed": seed,
        **status,
        "campus": block,
        "shared": shared_of(run.situation.loaded.rows.fingerprint(), recorder, run.situation.total_steps, start),
        "tokens": recorder.tokens,
        "rows": sum(len(step) for step in recorder.visits),
        "seconds": {"training": seconds, "curve": recorder.curve_seconds},
        "cost": cost,
        "test": recorder.end(),
        "curve": recorder.curve(),
        "audit": end.get("audit"),
        "ledger": [event for event in ledger if event["event"] in TOLD],
        "planted": float(rows.wrong.mean()),
    }
    compat.let_go(trainer)
    return outcome


def tests_of(rows: Made, out: Path) -> Any:
    """The test rows as a comparison reads them."""
    from campus_tune.data.held_out import read_held_out

    path = out / "test.jsonl"
    keys = ("domain", "prompt", "completion")
    path.write_text("".join(json.dumps({key: row[key] for key in keys}) + "\n" for row in rows.tests))
    return read_held_out([path])


def steps_of(situation: Situation, rows: Made) -> int:
    """Of a run."""
    return round(situation.epochs * len(rows.rows) / BASES[situation.base].batch)


def shared_of(data: str, recorder: Any, steps: int, start: str) -> Json:
    """What must be the same for all arms with a seed: rows, test rows, steps, first weights and learning rates."""
    rates = [round(rate, 12) for rate in recorder.learning_rates]
    return {
        "data": data,
        "test": recorder.rows.digest(),
        "steps": steps,
        "weights_before": start,
        "learning_rates": rates,
    }


def keep_arrays(out: Path, tokens: TokenRows, rows: Made, visits: Mapping[str, Any]) -> None:
    """What visits showed, and the truth about the rows."""
    np.savez_compressed(out / VISITS, **visits)
    domains = sorted({row["domain"] for row in rows.rows})
    np.savez_compressed(
        out / ROWS,
        wrong=rows.wrong,
        domain=np.array([domains.index(row["domain"]) for row in rows.rows]),
        domains=np.array(domains),
        level=np.array([row.get("level", 0) for row in rows.rows]),
        answer_tokens=tokens.answer_tokens,
        prompt_tokens=tokens.prompt_tokens,
    )
