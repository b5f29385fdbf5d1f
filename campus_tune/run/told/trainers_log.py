"""The curriculum's scalars in the trainer's own log, which carries them to every tracker."""

from __future__ import annotations

from functools import singledispatchmethod

from campus_tune.run.told.events import Decided, Evaluated, Event, Fired, Probed, Rescored, SharesMoved, StageEnded
from campus_tune.words.types import Json


class TrainersLog:
    """Collects what the trainer's next log line will carry."""

    def __init__(self) -> None:
        self.pending: dict[str, float] = {}

    @singledispatchmethod
    def take(self, event: Event) -> None:
        """Of other events the log has no scalars."""

    @take.register
    def _(self, event: Rescored) -> None:
        for label, order in event.record["orders"].items():
            self.pending[f"campus/order_kept/{label}"] = order["correlation"]
        if "scorer" in event.record:
            self.pending["campus/scorer_accuracy"] = event.record["scorer"]["accuracy"]

    @take.register
    def _(self, event: Probed) -> None:
        for domain, values in event.domains.items():
            self.pending[f"campus/competence/{domain}"] = values["competence"]
            self.pending[f"campus/probe_loss/{domain}"] = values["loss"]
            if values.get("ece") is not None:
                self.pending[f"campus/ece/{domain}"] = values["ece"]

    @take.register
    def _(self, event: Fired) -> None:
        self.pending[f"campus/event/{event.firing.kind}"] = 1

    @take.register
    def _(self, event: SharesMoved) -> None:
        # the next decision says what a stage of so many whole rows makes of them
        self.pending |= {f"campus/target_share/{name}": share for name, share in event.after.items()}

    @take.register
    def _(self, event: Evaluated) -> None:
        for task, metrics in event.record["scores"].items():
            for metric, found in metrics.items():
                self.pending[f"campus/eval/{task}/{metric}"] = found["value"]

    @take.register
    def _(self, event: StageEnded) -> None:
        self.pending |= scalars_of_groups(event.record)
        if "weights" in event.record:
            self.pending["campus/weight_ess"] = event.record["weights"]["ess"]
            if event.record["weighted_loss"] is not None:
                self.pending["campus/weighted_loss"] = event.record["weighted_loss"]

    @take.register
    def _(self, event: Decided) -> None:
        record = event.record
        self.pending |= {
            "campus/stage": record["stage"],
            "campus/scope": record["scope"][1],
            "campus/cost_share": event.cost_share,
        }
        if "lanes" in record:
            self.pending["campus/passed_over"] = record["passed_over"]
            for what, values in (("share", record["shares"]), ("passes", record["passes"])):
                self.pending |= {f"campus/{what}/{name}": value for name, value in values.items()}
            if "ess" in record.get("thin", {}):
                self.pending["campus/ess"] = record["thin"]["ess"]
        if record.get("reward") is not None:
            self.pending["campus/reward"] = record["reward"]["scaled"]
        self.pending |= {f"campus/pi/{name}": chance for name, chance in record.get("pi", {}).items()}
        for offer in record.get("offers", []):
            self.pending[f"campus/chosen/{offer['name']}"] = int(offer["name"] == record["chosen"])
            if "perplexity" in offer:
                self.pending[f"campus/perplexity/{offer['name']}"] = offer["perplexity"]


def scalars_of_groups(record: Json) -> dict[str, float]:
    """What the log says of a stage's answers to prompts; {} where it had none.

    Args:
        record: the ledger's line of the stage's end.
    """
    groups, prediction = record.get("groups", {}), record.get("prediction") or {}
    found = {
        "pass_rate": record.get("pass_rate"),
        "without_gradient": groups.get("without_gradient"),
        "without_gradient_shuffled": groups.get("shuffled"),
        "generated_tokens": record.get("generated_tokens"),
        "prediction_correlation": prediction.get("correlation"),
        **{f"pass_rate/{name}": shown["pass_rate"] for name, shown in record.get("by_domain", {}).items()},
    }
    return {f"campus/{name}": value for name, value in found.items() if value is not None}
