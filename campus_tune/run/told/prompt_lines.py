"""What a run that answers prompts tells a person: a line at each stage's end, what to warn of, what it comes to.

>>> groups = {"n": 64, "without_gradient": 0.1875, "shuffled": 0.52, "untried": 0}
>>> record = {"step": 40, "stage": 3, "groups": groups, "pass_rate": 0.42, "reward": 0.42, "generated_tokens": 12400}
>>> groups_line(record, 120)
'step 40/120 · after stage 3 · 42% passed · 19% of 64 groups without a gradient (shuffled about 52%) · 12,400 tokens'
>>> prompt_warnings(record, said=())
{}
"""

from __future__ import annotations

from collections.abc import Collection

from campus_tune.words.types import Json

MANY_FLAT = 0.9  # of a stage's groups without a gradient, from which on that is worth a word
MANY_UNTRIED = 0.1  # of a stage's groups without any reward
FEW_GROUPS = 16  # below which shares of them say nothing


def groups_line(record: Json, total_steps: int) -> str | None:
    """What the answers of a stage have shown; None of a stage without any.

    Args:
        record: the ledger's line of the stage's end.
        total_steps: of the run.
    """
    if "groups" not in record:
        return None
    parts = [f"step {record['step']}/{total_steps}", f"after stage {record['stage']}"]
    if record["pass_rate"] is not None:
        parts.append(f"{record['pass_rate']:.0%} passed")
    if record["reward"] is not None and record["reward"] != record["pass_rate"]:
        parts.append(f"reward {record['reward']:.3g}")
    return " · ".join([*parts, flat_words(record["groups"]), f"{record['generated_tokens']:,} tokens"])


def flat_words(groups: Json) -> str:
    """How many groups gave no gradient, and how many shuffling would have had without.

    Args:
        groups: of the ledger's line of a stage's end, or of the run's.
    """
    shuffled = groups.get("shuffled")
    beside = "" if shuffled is None else f" (shuffled about {shuffled:.0%})"
    return f"{groups['without_gradient']:.0%} of {groups['n']:,} groups without a gradient{beside}"


def answered_line(end: Json) -> str | None:
    """What the answers of a whole run have shown; None of a run without any.

    Args:
        end: the ledger's last line.
    """
    if "groups" not in end:
        return None
    passed = "" if end.get("pass_rate") is None else f"{end['pass_rate']:.0%} of the answers passed; "
    return f"{passed}{flat_words(end['groups'])}; {end['generated_tokens']:,} tokens generated"


def prompt_warnings(record: Json, said: Collection[str]) -> dict[str, str]:
    """What is to be warned of when a stage is over, by kind; each is said once in a run.

    Args:
        record: the ledger's line of the stage's end.
        said: kinds that were warned of before.
    """
    groups = record.get("groups", {"n": 0})
    if groups["n"] < FEW_GROUPS:
        return {}
    found = {}
    flat, stage = groups["without_gradient"], record["stage"]
    if flat >= MANY_FLAT:
        found["flat"] = (
            f"{flat:.0%} of the {groups['n']:,} groups of stage {stage} gave no gradient: their answers all earned the "
            f"same ({record['pass_rate'] or 0:.0%} passed). Nothing much is learned from such a stage: raise "
            "num_generations or the temperature, take easier or harder prompts, or a reward of more than two values."
        )
    if record["pass_rate"] in (0, 1) and flat < MANY_FLAT:
        which, earn = ("all", "wrong answers earn as much") if record["pass_rate"] else ("none", "right ones earn less")
        found["at"] = (
            f"{which} of the answers of stage {stage} passed, though their rewards differ (mean "
            f"{record['reward']:.3g}): one passes from the weighted reward on that `passes: at` says, 1 where the "
            f"recipe does not. If {earn}, change it: passes: {{at: 0.5}}, for example. Till then pass rates and the "
            "map tell no prompt from another; prompts are drawn by whether their rewards differ."
        )
    if groups["untried"] > MANY_UNTRIED * groups["n"]:
        found["untried"] = (
            f"{groups['untried']:,} of the {groups['n']:,} groups of stage {stage} got no reward at all: every reward "
            "function gave None for them. Such prompts count as not tried and train nothing: leave them out of the "
            "data, or give a reward function that scores them."
        )
    return {kind: text for kind, text in found.items() if kind not in said}


def prompt_map_line(record: Json) -> str:
    """What the map of the prompts says.

    >>> prompt_map_line({"sentence": "7 prompts: 7 always passed"})
    'prompts · 7 prompts: 7 always passed'
    """
    return f"prompts · {record['sentence']}"
