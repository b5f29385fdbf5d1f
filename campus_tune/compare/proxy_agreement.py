"""Would a curriculum that is computed with a proxy be the trained model's own? What a comparison says of it.

The proxy's scores of the training rows are put beside those that the first run of plain shuffling shows, score by score
(`method.agreement`), and its second run says what another training of the same model would have reached. That ranks
agree does not say that a curriculum by them helps: for that there are the arms.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from campus_tune.compare.plan import Plan
from campus_tune.compare.proxy_scores import (
    LEARNABILITY,
    LOSS,
    VALUE,
    ProxyScores,
    looked_up,
    read_proxy,
    read_values,
)
from campus_tune.compare.result_file import run_folder
from campus_tune.compare.training_row_losses import SEEDS, chosen, read_run_rows
from campus_tune.method.agreement import RankAgreement, RankCorrelation, agreement
from campus_tune.method.orders import group_codes
from campus_tune.run.ledger import FOLDER
from campus_tune.words.errors import CampusError
from campus_tune.words.types import Json

CALLED = {LOSS: "loss before training", LEARNABILITY: "what is learned of a row", VALUE: "value for the probes"}
CERTAIN = 0.995  # agreement of two trainings, from which on there is no noise to speak of
SAID = {
    "serves": ("ranks the rows much as", "Its scores can be used in place of the model's own."),
    "in part": (
        "ranks the rows in part as",
        "A curriculum by its scores is partly another one: score the model itself where that can be paid.",
    ),
    "does not serve": (
        "does not rank the rows as",
        "A curriculum by its scores is another one: score the model itself.",
    ),
    "nothing to transfer": (
        "cannot be compared with",
        "Two trainings of the model itself hardly agree: this score is mostly chance here, and no proxy can know it.",
    ),
    "too few rows": ("cannot be compared with", "There are too few rows that both know, or too few different scores."),
}


def of_comparison(plan: Plan) -> Json | None:
    """What `verdict.json` says of the proxy; None where none is named.

    A folder that cannot be read any more costs a note: the verdict on the arms does not hang on it.
    """
    if plan.settings.proxy is None:
        return None
    try:
        return compared_with(plan, read_proxy(plan.settings.proxy))
    except CampusError as error:
        return {"folder": plan.settings.proxy, "model": "", "rows": 0, "known": 0, "scores": {}, "notes": [str(error)]}


def compared_with(plan: Plan, proxy: ProxyScores) -> Json:
    """All scores that both have.

    Args:
        plan: of the comparison.
        proxy: that it names.

    Raises:
        DataError: what was measured of the training rows cannot be read.
    """
    about = {"folder": proxy.folder, "model": proxy.model}
    folders = [run_folder(plan.out, plan.baseline.name, seed) for seed in plan.settings.seeds[:SEEDS]]
    mine, *again = [read_run_rows(folder, proxy.early) for folder in folders]
    if mine is None:
        why = (
            f"No training rows were measured for {proxy.folder}: {folders[0]} was trained without it or diverged. "
            "Delete that folder, and the same command trains it again."
        )
        return {**about, "rows": 0, "known": 0, "scores": {}, "notes": [why]}
    other = again[0] if again else None
    scores, notes = {}, []
    for name in (LOSS, LEARNABILITY):
        if name not in proxy.scores:
            notes.append(f"{proxy.folder} says nothing of {CALLED[name]}.")
            continue
        repeated = None if other is None else looked_up(other.keys, other.scores[name], mine.keys)
        found = agreement(mine.scores[name], proxy.of(name, mine.keys), mine.domains, mine.names, again=repeated)
        scores[name] = _told(name, found, proxy)
    if VALUE in proxy.scores:
        compared = of_values(plan, proxy)
        if compared is None:
            notes.append(f"{proxy.folder} has values of rows, and no run here measured any: write `value: true`.")
        else:
            scores[VALUE] = compared
    if other is None:
        notes.append("What a perfect proxy would reach is not known from one seed of plain shuffling.")
    return {**about, "rows": len(mine.keys), "known": mine.n_known, "scores": scores, "notes": notes}


def of_values(plan: Plan, proxy: ProxyScores) -> Json | None:
    """By the values of the first run that measured any, the baseline's before a recipe's; None where none has.

    Args:
        plan: of the comparison.
        proxy: that has values.

    Raises:
        ResumeError: a file of values is damaged.
    """
    for arm in sorted(plan.arms, key=lambda arm: (arm.kind != "baseline", arm.kind != "recipe")):
        folders = [run_folder(plan.out, arm.name, seed) / FOLDER for seed in plan.settings.seeds[:SEEDS]]
        mine, *again = [read_values(folder) for folder in folders]
        if mine is None:
            continue
        names, codes = group_codes(mine.domains.tolist())
        keys, first = np.unique(mine.keys, return_index=True)  # rows that say the same are one
        known = np.isfinite(mine.values[first]) & np.isfinite(proxy.of(VALUE, keys))
        keys, first = keys[known], first[known]
        places = chosen(keys, codes[first])
        keys, first = keys[places], first[places]
        repeated = again[0].of(keys) if again and again[0] is not None else None
        found = agreement(mine.values[first], proxy.of(VALUE, keys), codes[first], names, again=repeated)
        told = _told(VALUE, found, proxy)
        return {**told, "basis": f"{told['basis']}; here, by {arm.name}, {mine.halves}"}
    return None


def _told(name: str, found: RankAgreement, proxy: ProxyScores) -> Json:
    return {**found.to_mapping(), "basis": proxy.basis[name], "sentence": sentence(name, found, proxy)}


def sentence(name: str, found: RankAgreement, proxy: ProxyScores) -> str:
    """What a person can make of it."""
    ranks, so = SAID[found.word]
    who = Path(proxy.model or proxy.folder).name
    overall, within = _in_words(found.overall), "" if found.within is None else _in_words(found.within)
    said = (
        f"by {CALLED[name]} the proxy {who} {ranks} the trained model: Spearman {overall} over {found.overall.n} rows"
    )
    said += f", {within} inside of domains." if within else "."
    if found.ceiling is not None and found.ceiling < CERTAIN:
        said += f" Another training of the same model reaches {found.ceiling:.2f}, the most that a proxy can."
    if found.third is not None:
        said += f" Of the third it ranks lowest, {100 * found.third:.0f} % are in the model's lowest third"
        said += " (33 % by chance)."
    return f"{said} {so}"


def _in_words(rho: RankCorrelation) -> str:
    if rho.value is None or rho.low is None or rho.high is None:
        return "unknown"
    return f"{rho.value:.2f} ({rho.low:.2f} to {rho.high:.2f})".replace("-", "−")
