"""What another model says of the training rows, by the folder that `campus-tune proxy` or a run has left.

    loss           mean loss per token before training
    learnability   loss early less loss late (a proxy), or at a row's first visit less at its last one (a run, of the
                   rows that it visited twice)
    value          what training the row did for the probes (a run with `value: true`)

What a folder does not hold is left out. Rows are known by a hash of what they say, so that the two models may have
different tokenizers and the same row may stand elsewhere in another file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.metrics.learnability import EARLY, LATE
from campus_tune.run.ledger import FOLDER
from campus_tune.run.row_map import FILE as MAP
from campus_tune.run.value_table import ALL_ROWS, VALUES
from campus_tune.run.value_table import agreement as agreement_of_halves
from campus_tune.scores.cache import read_columns
from campus_tune.scores.proxy_losses import ABOUT, BEFORE, LOSSES
from campus_tune.scores.run_scores import FOLDER as SCORES
from campus_tune.scores.run_scores import START
from campus_tune.words.errors import RecipeError, ResumeError
from campus_tune.words.json_shapes import read_json
from campus_tune.words.types import FloatArray, Json

LOSS, LEARNABILITY, VALUE = "loss", "learnability", "value"
DEFAULT_EARLY = 0.1  # of `campus-tune proxy`


@dataclass(frozen=True, eq=False)
class ProxyScores:
    """What another model says of rows.

    Args:
        folder: that says it.
        model: its name; empty where the folder does not say it.
        keys: of what each row says, shape (n,), different.
        scores: `loss`, `learnability`, `value`, those that are there; NaN where a row has none, shape (n,) each.
        basis: of each score, what it is, in words.
        early: after which share of its steps `early` is; None for a run, where it is the row's first visit.
    """

    folder: str
    model: str
    keys: NDArray[np.uint64]
    scores: Mapping[str, FloatArray]
    basis: Mapping[str, str]
    early: float | None

    def of(self, name: str, keys: NDArray[np.uint64]) -> FloatArray:
        """A score of rows with these keys, NaN where it has none of them, shape (n,)."""
        return looked_up(self.keys, self.scores[name], keys)


def looked_up(known: NDArray[np.uint64], values: FloatArray, keys: NDArray[np.uint64]) -> FloatArray:
    """The value of each key, NaN for one that is not known; of a key that comes twice the first.

    >>> looked_up(np.array([7, 3], dtype=np.uint64), np.array([0.5, 0.25]), np.array([3, 4], dtype=np.uint64)).tolist()
    [0.25, nan]

    Args:
        known: keys, shape (n,).
        values: of them, shape (n,).
        keys: that are asked for, shape (k,).
    """
    if not len(known):
        return np.full(len(keys), np.nan)
    order = np.argsort(known, kind="stable")
    place = order[np.minimum(np.searchsorted(known, keys, sorter=order), len(known) - 1)]
    return np.where(known[place] == keys, values[place], np.nan)


def read_proxy(folder: str) -> ProxyScores:
    """What a folder holds.

    Args:
        folder: of a proxy, or of a finished run.

    Raises:
        RecipeError: it is neither, or its files are damaged or from an earlier version.
    """
    place = Path(folder)
    homes = [place / FOLDER, place]  # a run is named by its output_dir, or by the folder in it
    try:
        if (place / LOSSES).exists():
            return scores_of_proxy(place)
        home = next((home for home in homes if (home / MAP).exists()), None)
        if home is not None:
            return scores_of_run(place, home)
    except (ResumeError, KeyError, ValueError, OSError) as error:
        raise RecipeError(
            f"`compare: proxy` must be a folder that can be read, got {folder!r}: {error}. Make it again, or name "
            "another one."
        ) from error
    raise RecipeError(
        f"`compare: proxy` must be a folder that campus-tune proxy has made, or that of a finished run, got {folder!r}"
        f", which holds neither {LOSSES} nor {FOLDER}/{MAP}. Make one: campus-tune proxy --config recipe.yaml --model "
        f"SMALL_MODEL --out {folder}"
    )


def scores_of_proxy(folder: Path) -> ProxyScores:
    """What `campus-tune proxy` has measured.

    Args:
        folder: that it has left.

    Raises:
        RecipeError: an earlier version made it.
        ResumeError: a file is damaged.
    """
    columns, _ = read_columns(folder / LOSSES)
    if "key" not in columns:
        raise RecipeError(
            f"`compare: proxy` must say which rows its losses are of, got {str(folder)!r}, made by an earlier version "
            f"that does not. Delete {folder / ABOUT} and {folder / LOSSES} and the models beside them, and run "
            "campus-tune proxy again."
        )
    about = read_json(folder / ABOUT) if (folder / ABOUT).exists() else {}
    settings: Json = about.get("settings") or {}
    early, steps = settings.get("early", DEFAULT_EARLY), about.get("steps") or {}
    flags = settings.get("flags") or []
    named = [flags[i + 1] for i, flag in enumerate(flags[:-1]) if flag == "--model_name_or_path"]
    per_row = {
        name: _mean(columns[f"{name}_nll_sum"], columns[f"{name}_tokens"])
        for name in (BEFORE, EARLY, LATE)
        if f"{name}_nll_sum" in columns
    }
    scores = {LEARNABILITY: per_row[EARLY] - per_row[LATE]}
    basis = {LEARNABILITY: f"loss after step {steps.get(EARLY, '?')} less loss after step {steps.get(LATE, '?')}"}
    if BEFORE in per_row:
        scores[LOSS], basis[LOSS] = per_row[BEFORE], "before training"
    model = named[-1] if named else settings.get("model_name_or_path", "")
    return ProxyScores(str(folder), str(model), *_first_of_each(columns["key"], scores), basis, float(early))


def scores_of_run(folder: Path, home: Path) -> ProxyScores:
    """What a run has left: its map, its losses before training, its values.

    Args:
        folder: by which the user knows it.
        home: its `curriculum/`.

    Raises:
        ResumeError: a file is damaged.
    """
    columns, _ = read_columns(home / MAP)
    keys = _keys(columns)
    values = read_values(home)
    visits, first, last = (columns[name].astype(np.float64) for name in ("visits", "first_loss", "last_loss"))
    scores, basis = {}, {}
    again = visits > 1
    if again.any():
        scores[LEARNABILITY] = np.where(again, first - last, np.nan)
        basis[LEARNABILITY] = "training loss at a row's first visit less that at its last, of rows visited twice"
    if (home / SCORES / f"{START}.parquet").exists():
        before, _ = read_columns(home / SCORES / f"{START}.parquet")
        scores[LOSS], basis[LOSS] = _mean(before["nll_sum"], before["tokens"]), "before training"
    elif np.isfinite(first).any():
        scores[LOSS], basis[LOSS] = first, "at its first visit, for the run measured none before training"
    if values is not None:
        scores[VALUE], basis[VALUE] = values.of(keys), f"of the run, all its probes; {values.halves}"
    return ProxyScores(str(folder), "", *_first_of_each(keys, scores), basis, None)


@dataclass(frozen=True, eq=False)
class MeasuredValues:
    """What a run with `value: true` says of its rows.

    Args:
        keys: of what each row says, shape (n,).
        values: for all its probes together, NaN where a row was not measured, shape (n,).
        domains: names, of each row, shape (n,).
        halves: how well the halves of its probes agree, in words.
    """

    keys: NDArray[np.uint64]
    values: FloatArray
    domains: NDArray[Any]
    halves: str

    def of(self, keys: NDArray[np.uint64]) -> FloatArray:
        """Of rows with these keys, NaN where there is none, shape (n,)."""
        return looked_up(self.keys, self.values, keys)


def read_values(home: Path) -> MeasuredValues | None:
    """What a run's `curriculum/` says of the values of its rows; None of a run that measured none.

    Args:
        home: that folder.

    Raises:
        ResumeError: the file is damaged.
    """
    if not (home / VALUES).exists():
        return None
    columns, about = read_columns(home / VALUES)
    known = ((about.get("split_half") or {}).get("all") or {}).get("value")
    halves = f"the halves of the probes {agreement_of_halves(known)}" + ("" if known is None else f" ({known:.2f})")
    domains = columns.get("domain", np.full(len(columns["key"]), ALL_ROWS))
    return MeasuredValues(_keys(columns), columns["value"].astype(np.float64), domains, halves)


def _keys(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.uint64]:
    return np.array([int(str(key), 16) for key in columns["key"]], dtype=np.uint64)


def _mean(nll_sum: NDArray[Any], tokens: NDArray[Any]) -> FloatArray:
    """Loss per token; NaN where nothing was measured."""
    return np.where(tokens > 0, nll_sum / np.maximum(tokens, 1), np.nan)


def _first_of_each(
    keys: NDArray[np.uint64], scores: Mapping[str, FloatArray]
) -> tuple[NDArray[np.uint64], dict[str, FloatArray]]:
    """Rows that say the same are one."""
    kept, first = np.unique(keys, return_index=True)
    return kept, {name: values[first] for name, values in scores.items()}
