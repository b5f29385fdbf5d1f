"""Losses of training rows in every passage that metrics ask for: found in the score cache, else measured and kept.

Before the first step the model in hand is the same in every run that starts from it, so its losses are worth keeping;
later they are this run's own. Other models are loaded when something is missing, and let go again. What is measured is
written as it comes, some thousand rows at a time: a scoring that is killed goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from campus_tune.data.prepared import TokenRows
from campus_tune.metrics.learnability import EARLY, LATE
from campus_tune.metrics.passage import Passage
from campus_tune.metrics.reward import Reward
from campus_tune.model import compat
from campus_tune.model.answer_alone import PadRight, answers_alone
from campus_tune.model.measure import SLOW, LossMeter, Reader
from campus_tune.model.model_files import model_size
from campus_tune.model.peers import Peers
from campus_tune.model.reference import load_reference, own_tokenizer
from campus_tune.model.reference_losses import reads_the_same, reference_meter
from campus_tune.model.reward import SETTING as REWARD_SETTING
from campus_tune.model.reward import load_reward, reward_scores
from campus_tune.model.slopes import SlopeMeter
from campus_tune.model.subject import Subject
from campus_tune.model.trained import Trained
from campus_tune.scores.cache import CacheKey, ScoreCache
from campus_tune.scores.directions import Directions
from campus_tune.scores.proxy_losses import proxy_losses
from campus_tune.scores.row_cache import RowCache
from campus_tune.words.errors import RecipeError
from campus_tune.words.progress import bar
from campus_tune.words.types import BoolArray, FloatArray, IntArray, Json, RowLosses

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import Trainer

AT_ONCE = 2048  # rows between two shards of the cache


@dataclass(frozen=True)
class Taken:
    """Losses of some rows.

    Args:
        losses: in the sequence that was asked for; zero tokens where a model can say nothing of a row.
        read: what a reader made of the same forward, or a reward model's logit, shape (n, k).
        found: which of them came from the cache, shape (n,).
        seconds: on the clock.
        notes: what the ledger says of how they came about.
        asked: share of each row's tokens that went through the model when it was measured, in (0, 1], shape (n,); the
            others were those of another row too. None for all of them.
    """

    losses: RowLosses
    read: FloatArray
    found: BoolArray
    seconds: float
    notes: Json = field(default_factory=dict)
    asked: FloatArray | None = None

    def charged(self, tokens: IntArray) -> IntArray:
        """Forward tokens of each row that are on the bill, shape (n,).

        Args:
            tokens: of each row, all of which go through the model where it is read whole, shape (n,).
        """
        return tokens if self.asked is None else np.rint(tokens * self.asked).astype(np.int64)


@dataclass(frozen=True)
class Reading:
    """What is read of hidden states in the forward that measures losses.

    Args:
        reader: gives some numbers per row.
        columns: their names.
        key: under which they are kept in the cache; None keeps them not.
        about: what is noted with them.
    """

    reader: Reader
    columns: Sequence[str]
    key: CacheKey | None = None
    about: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Timing:
    """How long one measurement took.

    Args:
        what: was measured.
        rows: asked for.
        found: of them, in the cache.
        tokens: that went through the model, of the rows that were not found.
        seconds: on the clock.
    """

    what: str
    rows: int
    found: int
    tokens: int
    seconds: float


class Passages:
    """What can be measured of one trainer's training rows.

    Args:
        trainer: whose model is asked.
        dataset: prepared training rows, text columns included.
        rows: their token counts and keys.
        meter: of the rows under the model in hand.
        cache: of scores.
        peers: ranks.
        trained: the rows as the collator makes them; None where the columns say it.
        directions: that slopes are measured along; None where no metric asks for slopes.
    """

    def __init__(
        self,
        trainer: Trainer,
        dataset: Dataset,
        rows: TokenRows,
        meter: LossMeter,
        cache: ScoreCache,
        peers: Peers,
        *,
        trained: Trained | None = None,
        directions: Directions | None = None,
    ) -> None:
        self.trainer, self.dataset, self.rows = trainer, dataset, rows
        self.trained = dataset if trained is None else trained.dataset
        self.meter, self.peers = meter, peers
        self.directions = directions
        self.known = RowCache(trainer, dataset, rows, cache, peers, directions)
        self.timings: list[Timing] = []
        self._new: dict[str, BoolArray] = {}  # rows that this process measured itself, by key
        self.warnings = self.known.warnings
        self.warnings += [] if trained is None else trained.warnings

    @property
    def cache(self) -> ScoreCache:
        """Of scores; one without a folder where the model in hand cannot be told from others."""
        return self.known.cache

    # -- what it costs -------------------------------------------------------------------------------------------

    def tokens(self, passage: Passage) -> IntArray:
        """Forward tokens of every row, shape (N,), in tokens of the model in hand: another's count by their size."""
        tokens = self.rows.answer_tokens + 1 if passage.part == "answer" else self.rows.tokens
        if passage.towards is not None:
            return 2 * tokens
        return tokens if passage.model is None else self._by_size(tokens, passage.model, "metrics: model")

    def extra_tokens(self, passage: Passage) -> int:
        """Forward tokens of a passage that no row of it is to blame for: of the direction that slopes are along."""
        return 0 if passage.towards is None or self.directions is None else self.directions.tokens(passage.towards)

    def reward_tokens(self, reward: Reward) -> IntArray:
        """The same for a reward model."""
        return self._by_size(self.rows.tokens, reward.model, REWARD_SETTING)

    def feature_tokens(self, features: str | None) -> IntArray:
        """Forward tokens of every row under a scorer's own model, shape (N,), in tokens of the model in hand."""
        tokens = self.rows.tokens
        return np.zeros_like(tokens) if features is None else self._by_size(tokens, features, "scorer: model")

    def _by_size(self, tokens: IntArray, name: str, setting: str) -> IntArray:
        size = model_size(name, setting, trust_remote_code=self.known.trusts)
        own, _ = compat.parameter_counts(compat.model_of(self.trainer))
        return np.asarray(np.ceil(tokens * (size / own)), dtype=np.int64)

    # -- measuring -----------------------------------------------------------------------------------------------

    def take(self, passage: Passage, rows: IntArray, *, live: bool = False, reading: Reading | None = None) -> Taken:
        """Losses of `rows`, from the cache where they are known.

        Args:
            passage: which model reads which part.
            rows: shape (n,).
            live: the model has been trained since it was loaded: measure all, keep nothing.
            reading: reads hidden states in the same forward, which every row then needs.
        """
        began = time.perf_counter()
        width = len(reading.columns) if reading else 0
        losses, read, asked = RowLosses.zeros(len(rows)), np.zeros((len(rows), width)), np.ones(len(rows))
        found = np.zeros(len(rows), dtype=np.bool_)
        key = None if live else self.known.key(passage)
        if key is not None and reading is None:
            losses, found, asked = self._found(passage, key, rows)
        missing, n_tokens = np.flatnonzero(~found), 0
        notes = self._noted(key) if key is not None and passage.towards is not None and found.all() else {}
        if len(missing):
            with self._meter(passage, rows[missing]) as (meter, places):
                if isinstance(meter, SlopeMeter):
                    notes = self._directions.notes(str(passage.towards), meter.direction)
                tokens = self.tokens(passage)[rows]
                for part in _parts(meter, places, tokens, missing, str(passage), speaks=self.peers.leads):
                    measured = meter.measure(places[part], reader=reading.reader if reading else None, width=width)
                    losses.put(missing[part], measured.losses)
                    read[missing[part]] = measured.read
                    asked[missing[part]] = 1.0 if measured.asked is None else measured.asked
                    n_tokens += int(np.rint(meter.tokens[places[part]] * asked[missing[part]]).sum())
                    if key is not None:
                        where = rows[missing[part]]
                        n_asked = int(np.rint(tokens[missing[part]] * asked[missing[part]]).sum())
                        about = {"forward_tokens": n_asked, **({"notes": notes} if notes else {})}
                        columns = {**vars(measured.losses), "asked": asked[missing[part]]}
                        self.known.keep(key, where, columns, about)
                        if reading is not None and reading.key is not None:
                            columns = dict(zip(reading.columns, measured.read.T, strict=True))
                            self.known.keep(reading.key, where, columns, reading.about)
                if isinstance(meter, LossMeter) and meter.why_whole is not None:
                    said = f"{passage}: rows that begin alike are each read whole, for this model cannot look back on "
                    said += f"what they share ({meter.why_whole}). Their losses are the same, the forward is longer."
                    self.warnings += [said] if said not in self.warnings else []
        if key is not None:
            new = self._new.setdefault(key.digest(), np.zeros(len(self.rows), dtype=np.bool_))
            found = found & ~new[rows]
            new[rows[missing]] = True
        taken = Taken(losses, read, found, time.perf_counter() - began, notes, asked)
        self._note(str(passage), taken, n_tokens)
        return taken

    def _noted(self, key: CacheKey) -> Json:
        """What was noted with slopes that are in the cache."""
        noted: Json = self.known.about(key).get("notes", {})
        return noted

    @property
    def _directions(self) -> Directions:
        assert self.directions is not None, "a recipe that asks for slopes has probes"
        return self.directions

    def _found(self, passage: Passage, key: CacheKey, rows: IntArray) -> tuple[RowLosses, BoolArray, FloatArray]:
        """What the cache, or a proxy's own folder, knows of `rows`; which they are; and what part of them was asked."""
        losses, asked = RowLosses.zeros(len(rows)), np.ones(len(rows))
        found, columns = self.known.find(key, rows)
        if found.any():
            losses.put(np.arange(len(rows)), RowLosses(**{name: columns[name] for name in vars(losses)}))
            asked[found] = columns["asked"][found]
        folder = Path(str(passage.model))
        if not found.all() and passage.part == "row" and folder.name in (EARLY, LATE):
            # `campus-tune proxy` may have measured all rows already
            kept = self.peers.led(lambda: proxy_losses(folder.parent, self.rows.trained))
            if kept is not None:
                early = kept[0 if folder.name == EARLY else 1]
                return early.take(rows), np.ones(len(rows), dtype=np.bool_), np.ones(len(rows))
        return losses, found, asked

    def is_foreign(self, passage: Passage) -> bool:
        """Whether a passage's model has other tokens than the model in hand."""
        if passage.model is None:
            return False
        tokenizer = own_tokenizer(passage.model, None, "metrics: model", self.known.trusts)
        return not reads_the_same(tokenizer, compat.tokenizer_of(self.trainer))

    def rewards(self, reward: Reward, rows: IntArray) -> Taken:
        """A reward model's logit of `rows`, from the cache where it is known."""
        began, key = time.perf_counter(), self.known.reward_key(reward)
        found, columns = self.known.find(key, rows)
        read = np.zeros((len(rows), 1))
        if found.any():
            read[:, 0] = columns["score"]
        missing = np.flatnonzero(~found)
        if len(missing):
            device, n_cut = self.trainer.args.device, 0
            with load_reward(reward, device=device, trust_remote_code=self.known.trusts) as (reference, label):
                for start in range(0, len(missing), AT_ONCE):
                    part = missing[start : start + AT_ONCE]
                    read[part, 0], cut = reward_scores(
                        reference,
                        self.dataset,
                        rows[part],
                        trained=self.trained,
                        label=label,
                        tokenizer=compat.tokenizer_of(self.trainer),
                        max_length=getattr(self.trainer.args, "max_length", None),
                        text_field=self.known.text_field,
                        peers=self.peers,
                        what="quality",
                    )
                    self.known.keep(key, rows[part], {"score": read[part, 0]}, {})
                    n_cut += cut
            if n_cut:
                self.warnings.append(
                    f"`quality` reads the beginning of {n_cut} rows of {len(missing)}: these are longer."
                )
        taken = Taken(RowLosses.zeros(len(rows)), read, found, time.perf_counter() - began)
        self._note(f"quality under {reward.model}", taken, int(self.rows.tokens[rows[missing]].sum()))
        return taken

    def _note(self, what: str, taken: Taken, tokens: int) -> None:
        self.timings.append(Timing(what, len(taken.found), int(taken.found.sum()), tokens, taken.seconds))

    @contextmanager
    def _meter(self, passage: Passage, rows: IntArray) -> Iterator[tuple[LossMeter | SlopeMeter, IntArray]]:
        """(What measures a passage, the places of `rows` in it.)."""
        if passage.towards is not None:
            yield SlopeMeter(self.meter, self._directions.make(passage.towards)), rows
        elif passage.model is not None:
            with load_reference(
                passage.model,
                setting="metrics: model",
                device=self.trainer.args.device,
                trust_remote_code=self.known.trusts,
            ) as reference:
                meter, counts = reference_meter(
                    reference,
                    self.dataset,
                    rows,
                    trained=self.trained,
                    tokenizer=compat.tokenizer_of(self.trainer),
                    max_length=getattr(self.trainer.args, "max_length", None),
                    text_field=self.known.text_field,
                    part=passage.part,
                    peers=self.peers,
                    what=str(passage),
                )
                self.warnings += counts.warnings(reference)
                yield meter, np.arange(len(rows))
        elif passage.part == "row":
            yield self.meter, rows
        else:
            alone = answers_alone(self.trained, compat.tokenizer_of(self.trainer))
            subject = partial(compat.subject, self.trainer)
            yield LossMeter(subject, alone, PadRight(), self.tokens(passage), peers=self.peers, what=str(passage)), rows

    def features(self, name: str | None) -> Callable[[], AbstractContextManager[Callable[[], Subject]]] | None:
        """What opens a scorer's own model, which must read the same tokens; None for the model in hand.

        Args:
            name: its folder or hub id.
        """
        return None if name is None else partial(self._features, name)

    @contextmanager
    def _features(self, name: str) -> Iterator[Callable[[], Subject]]:
        setting, device = "scorer: model", self.trainer.args.device
        with load_reference(name, setting=setting, device=device, trust_remote_code=self.known.trusts) as reference:
            if not reads_the_same(reference.tokenizer, compat.tokenizer_of(self.trainer)):
                raise RecipeError(
                    f"`{setting}` must have the tokenizer of the model in training, got {name!r} with another one. "
                    "Name a smaller model of the same family, or leave it out."
                )
            yield reference.subject


def _parts(
    meter: LossMeter | SlopeMeter, places: IntArray, tokens: IntArray, missing: IntArray, what: str, *, speaks: bool
) -> Iterator[IntArray]:
    """Places in `missing`, some at a time, rows of like length together; a bar over all tokens.

    What is found does not shift the parts: a scoring that was killed goes on with those that it would have come to.

    Args:
        meter: of the rows.
        places: of those that are missing, as the meter has them.
        tokens: of every row that was asked for.
        missing: places of those in `tokens` that must be measured.
        what: the word before the bar.
        speaks: False for no bar.
    """
    longest_first, place = np.argsort(-tokens, kind="stable"), np.full(len(tokens), -1)
    place[missing] = np.arange(len(missing))
    total = int(meter.tokens[places].sum())
    with bar(total=total, desc=what, unit="token", unit_scale=True, delay=SLOW, disable=not speaks) as progress:
        meter.tick = progress.update
        try:
            for start in range(0, len(tokens), AT_ONCE):
                part = place[longest_first[start : start + AT_ONCE]]
                if (part >= 0).any():
                    yield part[part >= 0]
        finally:
            meter.tick = None
