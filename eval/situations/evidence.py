"""What was measured, as the package reads it: `campus_tune/preview/evidence.json`, a row a situation that judged.

Arms that are no block of ours, as those of peers, are left out, and of a block what everybody has by default.
The package claims nothing beside it: the README's table and the advice of `check` and of a run are made of this file.
An arm *helps* in a situation where its word is `helped` after Holm's correction over the whole table, and where it
beats each of its own controls that were run; of several the one that ended lowest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from campus_tune.compare.verdict import HELPED
from campus_tune.evaluate.paired import LEVEL
from campus_tune.preview.evidence import PATH, VERSION, as_table
from campus_tune.words.files import atomic_write
from campus_tune.words.types import Json
from eval.situations.arms import STAGES
from eval.situations.judged import WORST_DOMAIN, ArmFound, Found
from eval.situations.transfer import plain_name

HEADING = "2026-11-30 · Where does it pay? Situations, recipes and seeds"  # of the entry in eval/LOG.md
KINDS = {  # how the name of a situation begins, without its base's → what it is made of
    "clean": "clean",
    "wrong": "wrong",
    "cut": "cut off",
    "template": "template",
    "duplicates": "duplicates",
    "two_answers": "two answers",
    "domains": "lagging",
    "phases": "phases",
    "small": "small",
    "hard": "mixed",
}
WORDS = {  # arm → what it does, as the end of "what helps: …"
    "auto": "acting on wrong answers where they are seen (`act: auto`)",
    "both": "`robust` weights and dropping suspects",
    "robust": "`robust` weights",
    "drop": "dropping suspects",
    "auto_drop": "dropping suspects where they are seen (`drop: act: auto`)",
    "order": "an order by length, diversity of words and compression",
    "dedup": "dropping duplicates",
    "lagging": "shares that follow lagging probes",
    "tempered": "shares of domains drawn to equal ones (`temperature: 2`)",
    "equal": "equal shares of all domains",
    "in_turn": "domains in turn",
    "in_turn_kept": "domains in turn, with a tenth of the first kept",
    "in_turn_review": "domains in turn, with a tenth of review",
}


def evidence_of(found: Sequence[Found], bases: Mapping[str, str], heading: str = HEADING) -> Json:
    """The table as the package reads it.

    Args:
        found: all situations, corrected together; those that tuned are left out.
        bases: what each base is.
        heading: of the entry of `eval/LOG.md` with the command and the seeds.

    Raises:
        ValueError: it claims what was not judged so.
    """
    judging = [one for one in found if one.use == "judge"]
    written = {
        "version": VERSION,
        "log": heading,
        "bases": {name: about for name, about in bases.items() if name in {one.base for one in judging}},
        "situations": [_row(one) for one in judging],
    }
    as_table(written)  # what reads it is as strict
    return written


def write_evidence(found: Sequence[Found], bases: Mapping[str, str], path: Path = PATH) -> Path:
    """Write it; gives back the file."""
    atomic_write(path, json.dumps(evidence_of(found, bases), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def helps(found: Found) -> str | None:
    """The arm that is claimed to help; None where none is."""
    good = [arm for arm in found.claims() if arm.word == HELPED and beats_its_controls(arm)]
    return min(good, key=lambda arm: arm.effect or 0.0).name if good else None


def beats_its_controls(arm: ArmFound) -> bool:
    """It ended lower than each of its controls, and that is told from chance; true of an arm without any."""
    return all(
        one.value is not None and one.value < 0 and one.p_adjusted is not None and one.p_adjusted <= LEVEL
        for one in arm.contrasts.values()
    )


def is_ours(arm: ArmFound) -> bool:
    """It is a block that somebody could write."""
    return bool(arm.campus) and "peer" not in arm.campus


def kind_of(found: Found) -> str:
    """What a situation is made of.

    Raises:
        ValueError: its name says none.
    """
    name = plain_name(found)
    for begins, kind in KINDS.items():
        if name.startswith(begins):
            return kind
    raise ValueError(
        f"a situation's name must begin with one of {', '.join(KINDS)}, got {name!r}. Name its kind there."
    )


def _row(found: Found) -> Json:
    looks = found.looks
    return {
        "name": found.name,
        "base": found.base,
        "kind": kind_of(found),
        "looks": found.about,
        "share": looks["share"],
        "epochs": looks["epochs"],
        "domains": looks["domains"],
        "rows": looks["rows"],
        "loss": round(found.loss, 5),
        "helps": helps(found),
        "arms": {
            arm.name: _arm(arm, found.judged_by)
            for arm in found.arms.values()
            if arm.kind in ("recipe", "plus") and is_ours(arm)
        },
    }


def _arm(arm: ArmFound, judged_by: str) -> Json:
    low, high = arm.interval or (None, None)
    reached = None if arm.speed is None or arm.speed.reached is None else [*arm.speed.reached.values()]
    return {
        "words": WORDS.get(arm.name, f"the recipe `{arm.name}`"),
        "campus": {key: value for key, value in arm.campus.items() if (key, value) != ("stages", STAGES)},
        "effect": rounded(arm.effect),
        "low": rounded(low),
        "high": rounded(high),
        "detectable": rounded(arm.detectable),
        "mean": rounded(arm.mean.relative if judged_by == WORST_DOMAIN and arm.mean is not None else None),
        "seeds": len(arm.seeds),
        "acted": arm.acted,
        "verdict": arm.word,
        "cost": rounded(arm.cost),
        "charged": rounded(arm.charged.relative if arm.charged is not None else None),
        "reached": None if reached is None else [rounded(one) for one in reached],
        "of_oracle": None if arm.share is None or arm.share.refused else rounded(arm.share.value),
        "beats_controls": beats_its_controls(arm) if arm.contrasts else None,
    }


def rounded(share: float | None) -> float | None:
    """A share with five digits after the point, as the file has them."""
    return None if share is None else round(share, 5)
