"""Whether a checkpoint belongs to this run: the same rows, recipe, seed and ranks, or the difference by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from campus_tune.errors import ResumeError
from campus_tune.integrations.rows import digest
from campus_tune.types import Json

WORDS = {
    "dataset": "training rows (fingerprint)",
    "n_rows": "number of training rows",
    "domains": "domains of the training rows (fingerprint)",
    "steps_per_epoch": "optimizer steps of an epoch",
    "probes": "probe rows (fingerprint)",
    "global_batch": "global batch (micro batch × processes × accumulation)",
    "world": "number of processes",
    "total_steps": "optimizer steps of the whole run",
}


@dataclass(frozen=True)
class Identity:
    """What makes a run this run.

    Args:
        past: what shaped rows already trained; it can never differ.
        future: what only says how the run goes on; it may differ when the user asks for it.
    """

    past: Json
    future: Json

    @staticmethod
    def of(run: Any) -> Identity:
        """The identity of a run whose settings are resolved and whose rows and probes are read."""
        past = {
            "dataset": run.rows.fingerprint(),
            "n_rows": len(run.rows),
            "domains": None if run.domains.codes is None else digest(run.domains.codes),
            "steps_per_epoch": run.steps_per_epoch,
            "global_batch": run.global_batch,
            "world": run.peers.world,
            **{f"campus: {name}": value for name, value in run.config.past().items()},
        }
        future = {
            "total_steps": run.total_steps,
            "probes": run.probes_fingerprint,
            **{f"campus: {name}": value for name, value in run.config.future().items() if name != "probes"},
        }
        return Identity(past, future)

    def record(self) -> Json:
        """As the ledger and a checkpoint hold it."""
        return {"past": self.past, "future": self.future}

    def refuse_other(self, saved: Json, *, changed_future: bool) -> None:
        """Compare with what a checkpoint holds.

        Args:
            saved: `record()` of the run that wrote it.
            changed_future: the user allows a changed future.

        Raises:
            ResumeError: they differ; every difference is named.
        """
        past = _differences(saved["past"], self.past)
        future = [] if changed_future else _differences(saved["future"], self.future)
        if not past and not future:
            return
        remedy = "Resume with the settings and data it was written with, or train without resuming."
        if future and not past:
            remedy += " To go on from it under the new settings on purpose, write campus: {resume: changed_future}."
        listed = "; ".join(past + future)
        raise ResumeError(f"the checkpoint must belong to this run, got one that differs in {listed}. {remedy}")


def _differences(saved: Json, ours: Json) -> list[str]:
    return [
        f"{WORDS.get(name, f'`{name}`')}: {saved.get(name)!r} in the checkpoint, {ours.get(name)!r} now"
        for name in sorted({*saved, *ours})
        if saved.get(name) != ours.get(name)
    ]
