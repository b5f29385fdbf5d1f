"""Whether a checkpoint belongs to this run, and whether all ranks are of one run: differences by name.

How a global batch is cut into micro batches, processes and accumulation is no part of a run's identity: the rows of
every optimizer step are the same however many processes there are, and in whichever micro batches `batching` puts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from campus_tune.data.domains import Domains
from campus_tune.data.prepared import column_names
from campus_tune.model import compat
from campus_tune.model.peers import Peers
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.plugins import plugins_used
from campus_tune.run.loaded import Loaded
from campus_tune.words.errors import ResumeError, TrainerError
from campus_tune.words.hashing import array_digest, sha256
from campus_tune.words.types import Json
from campus_tune.words.wording import differences, listed

if TYPE_CHECKING:
    from transformers import Trainer

WORDS = {
    "dataset": "training rows (fingerprint)",
    "labels": "which tokens of the training rows carry loss (fingerprint)",
    "n_rows": "number of training rows",
    "domains": "domains of the training rows (fingerprint)",
    "steps_per_epoch": "optimizer steps of an epoch",
    "probes": "probe rows (fingerprint)",
    "drawn domains": "domains that are drawn from (fingerprint)",
    "cells": "groups in the column of `cells: of` (fingerprint)",
    "global_batch": "global batch",
    "total_steps": "optimizer steps of the whole run",
    "batch: micro": "rows of a micro batch",
    "batch: world": "number of processes",
    "batch: accumulation": "`gradient_accumulation_steps`",
    "batch: cut": "how a step is cut into micro batches",
}

CELLS, DOMAINS, BATCHING = "campus: cells", "campus: domains", "campus: batching"
AS_DRAWN = "plain"  # of `batching`: of the others the user may change from one to the other
EQUAL = "equal"  # cut of a checkpoint that says nothing of it: sorted by length, in equal numbers

# Settings of trl that make the rows and their labels. Where the rows come out the same, they may differ.
PREPARED_BY = (
    "completion_only_loss", "assistant_only_loss", "max_length", "truncation_mode", "packing", "packing_strategy",
    "shuffle_dataset", "dataset_text_field", "dataset_kwargs", "chat_template_path", "eos_token", "pad_token",
)  # fmt: skip
# What collators know of labels, where it is they that make them.
LABELLED_BY = ("completion_only_loss", "assistant_only_loss", "max_length", "truncation_mode", "mlm", "mlm_probability")


@dataclass(frozen=True)
class Identity:
    """What makes a run this run.

    Args:
        past: what shaped rows already trained; it can never differ.
        future: what only says how the run goes on; it may differ when the user asks for it.
        batch: how the global batch is cut: `micro`, `world`, `accumulation`, `cut`; it may differ, the product of the
            three numbers may not.
        prepared: settings that the rows and labels were made with: named where these differ.
    """

    past: Json
    future: Json
    batch: Json
    prepared: Json

    @staticmethod
    def of(
        trainer: Trainer,
        config: CampusConfig,
        loaded: Loaded,
        domains: Domains,
        *,
        probes: str | None,
        kinds: Mapping[str, str],
        total_steps: int,
    ) -> Identity:
        """The identity of a run.

        Args:
            trainer: that is trained.
            config: resolved settings.
            loaded: its rows.
            domains: of the rows.
            probes: fingerprint of the probe rows, if there are any.
            kinds: fingerprints of the kinds of rows that are drawn from, if there are any.
            total_steps: optimizer steps of the whole run.
        """
        # What makes the labels where the rows have none of their own: the collator, a function or an object.
        made_later: Json = {}
        if "labels" not in column_names(compat.training_rows(trainer)):
            collator = trainer.data_collator
            made_later["collator"] = getattr(collator, "__qualname__", type(collator).__qualname__)
            known = (name for name in LABELLED_BY if hasattr(collator, name))
            made_later |= {f"collator: {name}": getattr(collator, name) for name in known}
        past = {
            "dataset": loaded.rows.fingerprint(),
            "labels": array_digest(loaded.rows.trained),
            **made_later,
            "n_rows": len(loaded.rows),
            "domains": None if domains.codes is None else array_digest(domains.codes),
            "steps_per_epoch": loaded.steps_per_epoch,
            "global_batch": loaded.global_batch,
            **{f"campus: {name}": value for name, value in config.past().items()},
        }
        future = {
            "total_steps": total_steps,
            "probes": probes,
            **kinds,
            **{f"campus: {name}": value for name, value in config.future().items() if name != "probes"},
            **{f"plug-in {name}": version for name, version in plugins_used(config).items()},
        }
        batch = {
            "micro": compat.micro_batch_size(trainer),
            "world": loaded.loader.peers.world,
            "accumulation": trainer.args.gradient_accumulation_steps,
            "cut": loaded.loader.cut,
        }
        prepared: Json = {name: getattr(trainer.args, name, None) for name in PREPARED_BY}
        prepared["completion_only_loss"] = getattr(trainer, "completion_only_loss", None)  # as trl has resolved it
        template = getattr(trainer.processing_class, "chat_template", None)
        prepared["chat_template"] = sha256(repr(template), 16) if template else None
        for name, value in prepared.items():
            prepared[name] = value if isinstance(value, str | int | float | None) else repr(value)
        return Identity(past, future, batch, prepared)

    def record(self) -> Json:
        """As the ledger and a checkpoint hold it."""
        return {"past": self.past, "future": self.future, "batch": self.batch, "prepared": self.prepared}

    def refuse_different_ranks(self, peers: Peers) -> None:
        """All processes must train the same rows under the same recipe; every rank calls it, before anything else.

        Raises:
            TrainerError: they do not, on every rank; each difference is named with the ranks.
        """
        mine = {**self.past, **self.future, **{f"batch: {name}": size for name, size in self.batch.items()}}
        ranks = peers.gather(mine)
        unlike = []
        for name in mine:
            values: dict[str, list[int]] = {}
            for rank, theirs in enumerate(ranks):
                values.setdefault(repr(theirs.get(name)), []).append(rank)
            if len(values) > 1:
                said = ", ".join(
                    f"{value} (rank{'s' if len(on) > 1 else ''} {listed(on, 4)})" for value, on in values.items()
                )
                unlike.append(f"{WORDS.get(name, f'`{name}`')}: {said}")
        if unlike:
            raise TrainerError(
                f"all processes must have the same rows and settings, got {'; '.join(unlike)}. Start every process "
                "with the same files: the same recipe, the same data, the same versions."
            )

    def refuse_other(self, saved: Json, *, changed_future: bool) -> None:
        """Compare with what a checkpoint holds.

        Args:
            saved: `record()` of the run that wrote it.
            changed_future: the user allows a changed future.

        Raises:
            ResumeError: they differ; every difference is named.
        """
        before, now = dict(saved["past"]), dict(self.past)
        cells: tuple[Json, Json] = {}, {}
        if None in (before.get(CELLS), now.get(CELLS)):  # only one of the two compares anything in cells
            cells = {CELLS: before.pop(CELLS, None)}, {CELLS: now.pop(CELLS, None)}
        if AS_DRAWN not in (before.get(BATCHING), now.get(BATCHING)):  # other micro batches of the same rows
            before.pop(BATCHING, None), now.pop(BATCHING, None)
        past, future = _differences(before, now), []
        counted = [(one["future"].get(DOMAINS) or {}).get("by") for one in (saved, self.record())]
        if None not in counted and counted[0] != counted[1]:  # rows of shares that count were drawn as without them
            past.append(f"`{DOMAINS}: by`: {counted[0]!r} in the checkpoint, {counted[1]!r} now")
        if not changed_future:
            future = _differences({**saved["future"], **cells[0]}, {**self.future, **cells[1]})
        if not past and not future:
            return
        remedy = "Resume with the settings and data it was written with, or train without resuming."
        if future and not past:
            remedy += " To go on from it under the new settings on purpose, write campus: {resume: changed_future}."
        if saved["past"]["global_batch"] != self.past["global_batch"]:
            past.insert(0, f"{WORDS['global_batch']}: {_cut(saved['batch'])} in the checkpoint, {_cut(self.batch)} now")
            global_batch = saved["past"]["global_batch"]
            accumulation, rest = divmod(global_batch, self.batch["micro"] * self.batch["world"])
            remedy += (
                " The number of processes may change, their global batch may not: choose per_device_train_batch_size "
                f"and gradient_accumulation_steps that give {global_batch} together."
                if rest
                else f" With these processes its global batch is gradient_accumulation_steps: {accumulation}."
            )
        if any(saved["past"].get(name) != self.past[name] for name in ("dataset", "labels")):
            past += [f"prepared with {what}" for what in _differences(saved["prepared"], self.prepared)]
        found = "; ".join(past + future)
        raise ResumeError(f"the checkpoint must belong to this run, got one that differs in {found}. {remedy}")


def cut_before(saved: Json, now: str) -> str:
    """How steps were cut into micro batches before a checkpoint.

    Args:
        saved: `Identity.record()` of the run that wrote it.
        now: how they are cut from here on.
    """
    batch = saved["batch"]
    if "cut" in batch or now == "drawn":
        return str(batch.get("cut", now))
    one = batch["world"] * batch.get("accumulation", 1) == 1  # whose rows are the whole step, however it is cut
    return now if one and now == "even" else EQUAL


def _cut(batch: Json) -> str:
    """How a global batch is made up, in words."""
    micro, world, accumulation = batch["micro"], batch["world"], batch["accumulation"]
    return f"{micro * world * accumulation} ({micro} rows × {world} processes × accumulation {accumulation})"


def _differences(saved: Json, ours: Json) -> list[str]:
    return [
        f"{WORDS.get(name, f'`{name}`')}: {there!r} in the checkpoint, {now!r} now"
        for name, there, now in sorted(differences(saved, ours))
        if name != "global_batch"  # said with how it is cut
    ]
