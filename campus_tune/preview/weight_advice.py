"""What weights do that their names do not say: found from the settings alone, before any data.

>>> [finding.severity for finding in weight_findings(CampusConfig(selector="shuffle", weights=["focal"]))]
['info']
"""

from __future__ import annotations

from collections.abc import Iterator

from campus_tune.method.earned import ACT_FROM
from campus_tune.method.weights import Focal, Robust, SelfPaced
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.findings import Finding


def weight_findings(config: CampusConfig) -> Iterator[Finding]:
    """What there is to say of each weight of a recipe."""
    for entry in config.weights or ():
        weight, (_, until) = entry.weight, entry.span(config.handover)
        if isinstance(weight, SelfPaced) and weight.floor == 0 and until >= 1:
            what = (
                "self_paced with floor: 0 until the end of the run: rows that are hard now teach nothing, and so stay "
                "hard."
            )
            yield Finding("warning", what, "Write floor: 0.1, or an until below 1.")
        if isinstance(weight, Focal):
            what = (
                "focal makes tokens that the model already says count less. For instruction tuning the evidence is "
                "mixed: one study found gains on word problems, others gain by the opposite on reasoning data "
                "(loss_type: dft multiplies by p, ProFit leaves unlikely tokens out, arXiv 2601.09195)."
            )
            yield Finding("info", what, "Compare it with its control: campus-tune compare.")
        if isinstance(weight, Robust) and weight.act != "always":
            acts = "robust acts" if weight.act == "auto" else "with act: auto robust would act"
            what = (
                f"{acts} once the run's own record shows, for sure, that {ACT_FROM:.0%} of the rows or more are wrong. "
                "Until then, and in a plan, all rows count 1."
            )
            yield Finding("info", what)
        elif isinstance(weight, Robust):
            what = (
                "robust makes rows that stand out from their kind count less: it helps where answers are wrong, and "
                "costs where all are right (held-out loss 1.00 to 1.18 of shuffling's)."
            )
            yield Finding("info", what, "Write act: auto, which waits until the run itself shows that some are wrong.")


def router_findings(config: CampusConfig, *, routed: bool) -> Iterator[Finding]:
    """What weights leave as it is in a mixture of experts.

    Args:
        config: settings.
        routed: the model adds an auxiliary loss of its routers to its loss.
    """
    if routed and config.weighs:
        yield Finding(
            "info", "The auxiliary loss of the model's routers stays unweighted: `weights` weigh its answers."
        )
