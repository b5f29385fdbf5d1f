"""Data maps that no run has made: the files as a run leaves them, of any size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from campus_tune.report.map_facts import MapFacts
from campus_tune.report.run_facts import read_run
from campus_tune.scores.cache import write_columns
from campus_tune.words.types import Json
from tests.report.made_up import DOMAINS, EVIL, make_run

THRESHOLD = 4.0


def make_map(
    run: Path,
    *,
    rows: int = 60,
    wrong: float = 0.1,
    passes: int = 2,
    domains: bool = True,
    basis: str = "training",
    texts: bool = True,
    dirt: Json | None = None,
) -> dict[str, Any]:
    """Leave a map in the folder of a run: every `1/wrong`-th row of code and text is wrong. Gives its columns."""
    rng = np.random.default_rng(rows)
    number = np.arange(rows)
    planted = (number % max(1, round(1 / wrong)) == 1) if wrong else np.zeros(rows, dtype=bool)
    planted &= number % 3 != 0  # none in arithmetic
    excess = (rng.normal(0.0, 1.0, rows).clip(-3, 3) + 7.0 * planted).astype(np.float32)
    spread = rng.gamma(4.0, 0.15, rows).astype(np.float32)
    suspect = excess >= THRESHOLD
    ordinary = np.array(["learned_early", "learned", "still_learning", "never_learned"])[rng.integers(0, 4, rows)]
    region = np.where(suspect, "suspect", ordinary if passes > 1 else "seen_once").astype(object)
    contradicting, repeats = number % 29 == 2, number % 31 == 30
    region[contradicting & ~suspect], region[repeats & ~suspect] = "contradicting", "duplicate"
    unknown = number == rows - 1  # never trained
    region[unknown] = "not_seen"
    if basis != "training":  # nothing is known of how rows were learned
        region[region == "seen_once"] = None
    sentence = (
        f"{suspect.sum()} of {rows} rows look wrong ({suspect.mean():.1%})"
        if suspect.any()
        else "nothing to see: no row stands out from its kind"
    )
    domain = np.array(DOMAINS, dtype=object)[number % 3]
    columns = {
        "row": number.astype(np.int32),
        "content": rng.integers(0, 1 << 63, rows, dtype=np.uint64),
        "key": pa.array([f"{i:016x}" for i in range(rows)]),
        **({"domain": pa.array(domain).dictionary_encode()} if domains else {}),
        "region": pa.array(region).dictionary_encode(),
        "visits": np.where(unknown, 0, passes).astype(np.uint8),
        "excess": pa.array(excess, mask=unknown),
        "spread": pa.array(spread, mask=unknown | (passes < 2)),
        "suspect": suspect & ~unknown,
        "contradicting": contradicting,
        "duplicate_of": pa.array(np.zeros(rows, dtype=np.int32), mask=~repeats),
    }
    home = run / "curriculum"
    about = {
        "basis": basis,
        "threshold": THRESHOLD,
        "n_suspects": int(suspect.sum()),
        "sentence": sentence,
        "dirt": dirt,
    }
    write_columns(home / "book" / "map.parquet", columns, about)
    order = np.argsort(-np.where(unknown, -np.inf, excess), kind="stable")[:20]
    lines = [_likely(int(row), place, str(domain[row]), excess, passes, texts) for place, row in enumerate(order)]
    listed = "".join(json.dumps(line) + "\n" for line in lines)
    (home / "book" / "likeliest.jsonl").write_text(listed, "utf-8")
    tell(run, {"basis": basis, "rows": rows, "sentence": sentence, "threshold": THRESHOLD})
    return {
        **columns,
        "region": region,
        "domain": domain,
        "excess": excess,
        "spread": spread,
    }


def _likely(row: int, place: int, domain: str, excess: np.ndarray[Any, Any], passes: int, texts: bool) -> Json:
    """One of the rows to look at; the first of them hold what texts may hold."""
    line: Json = {"row": row, "key": f"{row:016x}", "domain": domain, "excess": float(excess[row])}
    line |= {"spread": 0.25 if passes > 1 else None, "visits": passes, "mean_loss": 2.5, "lowest_probability": 0.004}
    odd = [
        EVIL,
        "قل 12 بالعربية",
        "a\tb\x00\x1b[31m\x7f\ud800 end",
        "line one\n  line two\n\nline four",
        "x" * 1_000_000,
    ]
    if texts:
        prompt, answer = (odd[place], odd[place]) if place < len(odd) else (f"What is {row} + 1?", f"{row + 7} 🙂")
        line |= {"prompt": prompt, "answer": answer, "said": " 7", "rather": f" {row}", "rather_probability": 0.62}
        line |= {"before": "the answer is"}
    else:
        line |= {"text": f"user: {row}? assistant: {row}"}
    return line


def tell(run: Path, line: Json) -> None:
    """Put the ledger's line of a map before its end."""
    ledger = run / "curriculum" / "ledger.jsonl"
    *lines, end = ledger.read_text("utf-8").splitlines()
    ledger.write_text("\n".join([*lines, json.dumps({"event": "map", "step": 12, **line}), end]) + "\n", "utf-8")


def facts_of(run: Path, **how: Any) -> MapFacts:
    """What a page reads of such a map, in the folder of a run that is made up too."""
    make_run(run)
    make_map(run, **how)
    found = read_run(run).map
    assert found is not None
    return found
