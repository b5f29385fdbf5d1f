"""Held-out rows of each domain, prepared like the training set, and their losses under the model in hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from campus_tune.data.as_dataset import as_dataset
from campus_tune.data.prepared import TokenRows, column_names
from campus_tune.data.refusals import why_not
from campus_tune.data.shapes import Shape
from campus_tune.method.budget import FEWEST as FEWEST_ROWS
from campus_tune.method.calibration import Calibration
from campus_tune.method.orders import group_rows
from campus_tune.model import compat
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.model.trained import as_trained
from campus_tune.recipe.blocks import DOMAIN, ProbeSettings
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.errors import DataError
from campus_tune.words.files import read_jsonl
from campus_tune.words.hashing import hash_rows
from campus_tune.words.registry import nearest
from campus_tune.words.types import IntArray, RowLosses
from campus_tune.words.wording import listed

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import Trainer

Source: TypeAlias = Any  # a path, paths, a dataset with a domain column, or a mapping domain → dataset

FEWEST = FEWEST_ROWS["probes"]  # rows per domain, below which a mean loss says nothing
ALL = "all"  # the domain of probes that name none


@dataclass(frozen=True)
class Probes:
    """Prepared probe rows.

    Args:
        dataset: prepared, all domains.
        rows: their token counts and hashes.
        domains: domain → positions in `dataset`.
    """

    dataset: Dataset
    rows: TokenRows
    domains: Mapping[str, IntArray]

    def subset(self, tokens_per_measurement: float, *, seed: int, fewest: int = FEWEST) -> dict[str, IntArray]:
        """As many rows of each domain as one measurement may cost, the same rows every time.

        Args:
            tokens_per_measurement: forward tokens for all domains together.
            seed: of the choice.
            fewest: rows of a domain that are taken whatever they cost.
        """
        share = tokens_per_measurement / max(1, int(self.rows.tokens.sum()))
        chosen = {}
        for domain, rows in self.domains.items():
            n = min(len(rows), max(fewest, int(share * len(rows))))
            chosen[domain] = np.sort(rows[np.argsort(hash_rows(rows, seed), kind="stable")[:n]])
        return chosen

    def cost(self, tokens_per_measurement: float, fewest: int, *, seed: int) -> int:
        """Forward tokens of what `subset` chooses."""
        chosen = self.subset(tokens_per_measurement, seed=seed, fewest=fewest)
        return int(sum(self.rows.tokens[rows].sum() for rows in chosen.values()))


def named_probes(config: CampusConfig, trainer: Trainer) -> Probes | None:
    """The probes that a recipe names, for those who reckon with them before a run; None where it names none.

    Raises:
        DataError: as of `load_probes`.
    """
    return None if config.probes is None else load_probes(list(config.probes.path), config.probes, trainer)


def load_probes(source: Source, settings: ProbeSettings | None, trainer: Trainer) -> Probes:
    """Read probe rows and prepare them as the training rows were.

    Raises:
        DataError: no rows, a domain without rows, a missing domain column, a file that cannot be read.
    """
    column = settings.domain_column if settings else DOMAIN
    raw = _read(source, column, settings.max_rows if settings else None)
    try:
        prepared = compat.prepare_like_training(trainer, raw, "probes")
    except Exception as error:  # of TRL, of a chat template
        told = why_not(raw, Shape.of(vars(trainer.args)))
        raise DataError(
            f"`probes` must be rows as the training set's, got the columns {', '.join(column_names(raw))}, of which "
            f"the trainer says {error!r}. They are prepared as the training rows are, formatting_func included: give "
            f"them the same columns.{'' if told is None else f' As they are, {told}'}"
        ) from error
    domains = group_rows(prepared[column])
    for domain in group_rows(raw[column]):
        if domain not in domains:
            raise DataError(
                f"probe domain {domain!r} must keep rows with an answer after preparation, got none. Their answers are "
                "empty or cut off: raise max_length or remove the domain."
            )
    trained = as_trained(*compat.loader_view(trainer, prepared))
    return Probes(prepared, trained.rows(what="probes"), domains)


def _read(source: Source, column: str, max_rows: int | None) -> Any:
    """All probe rows as one Dataset with a domain column, the first `max_rows` of each domain.

    A mapping's keys are its domains; without the usual column all rows are one.
    """
    import datasets

    parts = []
    for name, value in source.items() if isinstance(source, Mapping) else ():
        part = _dataset(value, f"probe domain {name!r}")
        part = part.remove_columns([DOMAIN] if DOMAIN in column_names(part) else [])
        parts.append(part.add_column(DOMAIN, [str(name)] * len(part)))
    if parts:
        rows: Any = datasets.concatenate_datasets(parts)
    else:
        rows = _dataset(datasets.Dataset.from_list([]) if isinstance(source, Mapping) else source)
    names = column_names(rows)
    if column not in names:
        if column != DOMAIN:
            raise DataError(
                f"`probes: domain_column` must be a column of the probes ({', '.join(names)}), got {column!r}."
                f"{nearest(column, names)}"
            )
        rows = rows.add_column(DOMAIN, [ALL] * len(rows))
    if max_rows is None:
        return rows
    keep = np.concatenate([of_domain[:max_rows] for of_domain in group_rows(rows[column]).values()])
    return rows.select(np.sort(keep))


def _dataset(source: Source, what: str = "`probes`") -> Any:
    """Rows from a path, paths or a Dataset.

    Raises:
        DataError: anything else, or no rows.
    """
    import datasets

    if isinstance(source, str | Path):
        source = [source]
    if isinstance(source, Sequence) and source and isinstance(source[0], str | Path):
        source = as_dataset([row for path in source for row in read_jsonl(path)], "probes")
    if not isinstance(source, datasets.Dataset):
        raise DataError(
            f"{what} must be a path, a Dataset or a mapping domain → Dataset, got {type(source).__name__}. "
            "A stream is written to the disk once by `from datasets import Dataset; probes = Dataset.from_generator("
            "lambda: iter(stream))`."
        )
    if not len(source):
        raise DataError(f"{what} must have at least one row, got none. Give held-out rows, or leave it out.")
    return source


def refuse_overlap(probes: Probes, training: TokenRows) -> None:
    """Steering probes must be held out.

    Raises:
        DataError: probe rows that are also training rows, both named.
    """
    shared, in_probes, in_training = np.intersect1d(probes.rows.content, training.content, return_indices=True)
    if len(shared):
        pairs = listed([f"probe {p} = row {t}" for p, t in zip(in_probes, in_training, strict=True)], 5)
        raise DataError(
            f"probe rows must be held out of the training set, got {len(shared)} that are in it ({pairs}). "
            "Remove them from one of the two."
        )


class ProbeMeter:
    """Measures the same probe rows again and again."""

    def __init__(self, trainer: Trainer, probes: Probes, chosen: Mapping[str, IntArray], peers: Peers) -> None:
        dataset, collator = compat.loader_view(trainer, probes.dataset)
        subject = partial(compat.subject, trainer)
        tokens = probes.rows.tokens
        self.meter = LossMeter(subject, dataset, collator, tokens, peers=peers, what="probes", confidences=True)
        self.chosen = dict(chosen)
        self.tokens = int(sum(tokens[rows].sum() for rows in self.chosen.values()))

    def measure(self) -> tuple[dict[str, RowLosses], dict[str, Calibration]]:
        """Losses and calibration of each domain's rows, in one pass over all of them."""
        measured = self.meter.measure(np.concatenate(list(self.chosen.values())))
        assert measured.bins is not None
        losses, calibration, end = {}, {}, 0
        for domain, rows in self.chosen.items():
            places = np.arange(end, end := end + len(rows))
            losses[domain] = measured.losses.take(places)
            calibration[domain] = Calibration.of(measured.bins[places])
        return losses, calibration
