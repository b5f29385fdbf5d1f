"""What a weighted run tells a person: a line at each stage's end, what to warn of, and how the audit of it came out.

>>> weights = {"min": 0.13, "max": 2.4, "ess": 0.714, "half": 0.3, "by_domain": {}}
>>> record = {"step": 40, "stage": 3, "train_loss": 1.4, "weights": weights, "weighted_loss": 1.21}
>>> stage_line(record, 120)
'step 40/120 · after stage 3 · weights 0.13–2.4, ess 71% · loss 1.400, weighted 1.210'
>>> warnings_of(record, said=set())
{}
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from campus_tune.method.weighed import LITTLE
from campus_tune.preview.weight_plan import LEAST_ESS
from campus_tune.run.ledger import weights_audited
from campus_tune.words.types import Json
from campus_tune.words.wording import listed

MANY_CLIPPED = 0.3  # of a stage's steps
EVEN = 0.99  # an effective share above which weights have as good as no part in it
ALIKE: Json = {"ess": 1.0}  # rows without weights
FEW_STEPS = 5  # that were clipped, below which a share of them says nothing
SHUT_OUT = 0.1  # of a domain's rows, from which on it is said that self-pacing has shut them out
_ALIKE = 1e-4  # of a weight: single precision has multiplied it
MOST_DOMAINS = 4  # that a warning names


def stage_line(record: Json, total_steps: int) -> str | None:
    """How much the rows of a stage counted; None where all counted alike.

    Args:
        record: the ledger's line of the stage's end.
        total_steps: of the run.
    """
    if "weights" not in record:
        return None
    weights, loss, weighted = record["weights"], record.get("train_loss"), record["weighted_loss"]
    parts = [f"step {record['step']}/{total_steps}", f"after stage {record['stage']}"]
    low, high = f"{weights['min']:.2g}", f"{weights['max']:.2g}"
    parts.append(f"weights {low}–{high}, ess {weights['ess']:.0%}" if low != high else f"all weights {low}")
    if loss is not None and weighted is not None:
        parts.append(f"loss {loss:.3f}, weighted {weighted:.3f}")
    clipped, steps = record.get("clipped_steps") or (0, 0)
    if clipped:
        parts.append(f"{clipped} of {steps} clipped")
    return " · ".join(parts)


def warnings_of(record: Json, said: Collection[str]) -> dict[str, str]:
    """What is to be warned of when a stage is over, by kind; each is said once in a run.

    Args:
        record: the ledger's line of the stage's end.
        said: kinds that were warned of before.
    """
    found = {kind: looks(record) for kind, looks in _KINDS.items() if kind not in said}
    return {kind: text for kind, text in found.items() if text is not None}


def clips_often(clipped: int, steps: int, ess: float) -> bool:
    """Whether it is worth a word how many steps of a stage were clipped.

    Args:
        clipped: of the steps.
        steps: of the stage.
        ess: effective sample size of its weights, as a share of the rows.
    """
    return clipped >= FEW_STEPS and clipped > MANY_CLIPPED * steps and ess <= EVEN


def _few_rows(record: Json) -> str | None:
    weights = record.get("weights")
    if weights is None or weights["ess"] >= LEAST_ESS:
        return None
    half, ess = weights["half"], weights["ess"]
    return (
        f"{half:.1%} of the rows of stage {record['stage']} carried half of the gradient (the effective sample size of "
        f"the weights was {ess:.0%} of the rows). Give the weight that makes them so unequal a `limit`, or a lower "
        "one, or leave it out."
    )


def _clipped(record: Json) -> str | None:
    clipped, steps = record.get("clipped_steps") or (0, 1)
    if not clips_often(clipped, steps, record.get("weights", ALIKE)["ess"]):
        return None
    return (
        f"{clipped} of {steps} steps of stage {record['stage']} had their gradient clipped (max_grad_norm): the rows "
        "of such a step count less than their weights say. Write a `limit` at the weights, raise max_grad_norm, or "
        "lower the learning rate."
    )


def _shut_out(record: Json) -> str | None:
    shares = record.get("weights", {}).get("shut_out", {})
    worst_first = sorted((pair for pair in shares.items() if pair[1] >= SHUT_OUT), key=lambda pair: -pair[1])
    if not worst_first:
        return None
    by_domain = bool(record["weights"]["by_domain"])
    of = [f"{share:.0%} of {f'`{name}`' if by_domain else name}" for name, share in worst_first]
    return (
        f"self-pacing shut out {listed(of, MOST_DOMAINS)} in stage {record['stage']}: these rows counted for less "
        f"than {LITTLE:g} of the mean. Raise its `floor`, let it end earlier (`until`), or let the pacing open faster."
    )


def changed_nothing(events: Sequence[Json]) -> str | None:
    """That a run is over in which no row ever counted otherwise than without weights; None where one did.

    Args:
        events: the lines of its ledger.
    """
    told = [event["weights"] for event in events if event["event"] == "stage_end" and "weights" in event]
    if not told or any(max(abs(weights["min"] - 1), abs(weights["max"] - 1)) > _ALIKE for weights in told):
        return None
    return (
        f"the weights changed nothing: every row of all {len(told)} stages counted 1. A weight that compares losses "
        "waits for twenty visits of what it compares with: write cells: {bands: 1}, an earlier `from`, or train "
        "longer. One that makes up for thinning waits for rows that come again."
    )


_KINDS = {"ess": _few_rows, "clipped": _clipped, "shut_out": _shut_out}


def audit_line(counts: Sequence[int]) -> str:
    """One of a run's last lines.

    >>> audit_line([120, 120])
    'weights audit: 120 of 120 checked steps multiplied the planned weights'
    """
    return f"weights audit: {weights_audited(*counts)}"


def card_line(events: Sequence[Json]) -> str | None:
    """What a model card says of how its rows were weighted; None for a run without weights.

    Args:
        events: the lines of its ledger.
    """
    counts = [event["weights_audit"] for event in events if "weights_audit" in event]
    if not counts:
        return None
    shares = [event["weights"]["ess"] for event in events if "weights" in event]
    worth = f"effective sample size {min(shares):.0%} to {max(shares):.0%} of the rows of a stage; " if shares else ""
    return f"rows counted by the `weights` below: {worth}{audit_line(counts[-1])}"
