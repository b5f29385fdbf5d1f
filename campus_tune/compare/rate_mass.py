"""With which learning rate each arm trained the easy and the hard rows: one thing that may explain a verdict.

A curriculum that ends under a decayed learning rate trains its hardest rows with hardly any: it is a schedule for the
learning rate of each row as much as an order. So the mean rate that each difficulty decile met is computed for every
run, by the metrics of the recipes, whatever order the run itself was trained in: when a page is drawn, for only then
the recipes' scores are there.

Reference:
    Luo et al. 2026, arXiv 2511.18903.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from campus_tune.compare.result_file import VISITS, run_folder
from campus_tune.preview.lr_mass import deciles_of, lr_by_decile
from campus_tune.recipe.config import load_recipe
from campus_tune.run.ledger import FOLDER
from campus_tune.scores.cache import read_columns
from campus_tune.scores.run_scores import FOLDER as SCORES
from campus_tune.words.errors import CampusError
from campus_tune.words.types import IntArray, Json


def add_rates(out: Path, results: Sequence[Json]) -> list[str]:
    """Put `learning_rate` into results that have none: metric of a recipe → mean rate of each decile, easy to hard.

    Args:
        out: folder of the comparison.
        results: of its runs, the seeds of an arm in their sequence.

    Returns:
        What could not be read, in sentences.
    """
    deciles, damaged = _deciles(out, results)
    for result in results:
        path = run_folder(out, result["arm"], result["seed"]) / VISITS
        if result.get("learning_rate") or not path.exists():  # of a version that wrote it, or brought here alone
            continue
        try:
            with np.load(path) as visits:
                rows, rates = visits["rows"], visits["rates"][visits["steps"]]
            result["learning_rate"] = {label: lr_by_decile(each, rows, rates) for label, each in deciles.items()}
        except (OSError, ValueError, LookupError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            damaged.append(f"`{path}` is damaged ({error}): no learning rates of deciles for this run.")
    return damaged


def _deciles(out: Path, results: Sequence[Json]) -> tuple[dict[str, IntArray], list[str]]:
    """Of every row by each metric of the recipes, as they were scored before training; what could not be read."""
    deciles: dict[str, IntArray] = {}
    damaged, arms = [], set()
    for result in results:
        arm, seed = result["arm"], result["seed"]
        if result["kind"] != "recipe" or arm in arms or "campus" not in result:
            continue
        arms.add(arm)  # its first seed says it
        try:
            for label in load_recipe(result["campus"]).labels:
                path = run_folder(out, arm, seed) / FOLDER / SCORES / f"{label}.parquet"
                if label not in deciles and path.exists():
                    deciles[label] = deciles_of(read_columns(path)[0]["score"], seed=seed)
        except (CampusError, KeyError) as error:
            damaged.append(f"Not all learning rates of deciles by the metrics of `{arm}` are known: {error}")
    return deciles, damaged
