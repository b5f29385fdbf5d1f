"""With which learning rate each arm trained the easy and the hard rows: one thing that may explain a verdict.

A curriculum that ends under a decayed learning rate trains its hardest rows with hardly any: it is a schedule for the
learning rate of each row as much as an order. So the mean rate that each difficulty decile met is computed for every
run, by the orders of the recipes, whatever order the run itself was trained in.

Reference:
    Luo et al. 2026, arXiv 2511.18903.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from campus_tune.compare.campaign import Campaign
from campus_tune.compare.result_file import run_folder, write_run_result
from campus_tune.compare.training import VISITS
from campus_tune.method.orders import order_rows, rank_of_rows
from campus_tune.preview.lr_mass import lr_by_decile
from campus_tune.run.ledger import plain
from campus_tune.scores.cache import read_columns
from campus_tune.words.errors import ResumeError
from campus_tune.words.types import RowArray


def add_rate_mass(campaign: Campaign) -> None:
    """Put `learning_rate` into every result: order of a recipe → mean learning rate of each decile, easy to hard.

    Args:
        campaign: with its runs made.
    """
    out, ranks = campaign.plan.out, _difficulty(campaign)
    for (name, seed), outcome in campaign.outcomes.items():
        path = run_folder(out, name, seed) / VISITS
        if not path.exists():  # a result that was brought here alone
            continue
        try:
            with np.load(path) as visits:
                found = plain({label: _by_decile(rank, visits) for label, rank in ranks.items()})
        except (OSError, ValueError, LookupError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            campaign.say(f"warning: `{path}` is damaged ({error}): no learning rates of deciles for this run")
            continue
        if found != outcome["learning_rate"]:
            outcome["learning_rate"] = found
            write_run_result(out, outcome)


def _by_decile(rank: RowArray, visits: Mapping[str, Any]) -> list[float]:
    """Mean rate of each tenth of all rows, those that were never trained included: what a decile is hangs on no run."""
    untrained = np.full(len(rank), -1)
    steps, ranks = np.concatenate([visits["steps"], untrained]), np.concatenate([rank[visits["rows"]], rank])
    deciles: list[float] = lr_by_decile(steps, ranks, visits["rates"]).tolist()
    return deciles


def _difficulty(campaign: Campaign) -> dict[str, RowArray]:
    """Place of every row from easy to hard by each metric of the recipes, as they were scored before training."""
    ranks: dict[str, RowArray] = {}
    for arm in campaign.plan.arms:
        seed = next((s for s in campaign.plan.settings.seeds if (arm.name, s) in campaign.outcomes), None)
        if arm.kind != "recipe" or seed is None:
            continue
        folder = run_folder(campaign.plan.out, arm.name, seed) / "curriculum" / "scores"
        for label in arm.config(seed).labels:
            path = folder / f"{label}.parquet"
            if label not in ranks and path.exists():
                try:
                    ranks[label] = rank_of_rows(order_rows(read_columns(path)[0]["score"], seed=seed))
                except (ResumeError, KeyError) as error:
                    campaign.say(f"warning: no learning rates of deciles by {label}: {error}")
    return ranks
