"""Losses of training rows in every passage that metrics ask for: found in the score cache, else measured and kept.

Before the first step the model in hand is the same in every run that starts from it, so its losses are worth keeping;
later they are this run's own. Other models are loaded when something is missing, and let go again. What is measured is
written as it comes, some thousand rows at a time: a scoring that is killed goes on where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.data.prepared import TokenRows, column_names, digest, read_column
from campus_tune.data.tokenizers import tokenizer_fingerprint
from campus_tune.metrics.learnability import EARLY, LATE
from campus_tune.metrics.passage import Passage
from campus_tune.metrics.quality import Quality
from campus_tune.model import compat
from campus_tune.model.answer_alone import PadRight, answers_alone
from campus_tune.model.fingerprint import config_fingerprint, weights_fingerprint
from campus_tune.model.measure import SLOW, LossMeter, Measurement, Reader
from campus_tune.model.model_files import model_identity, model_size
from campus_tune.model.peers import Peers
from campus_tune.model.reference import load_reference, own_tokenizer
from campus_tune.model.reference_losses import reads_the_same, reference_meter
from campus_tune.model.reward import SETTING as REWARD_SETTING
from campus_tune.model.reward import load_reward, reward_scores
from campus_tune.model.subject import Subject
from campus_tune.model.trained import Trained
from campus_tune.scores.cache import CacheKey, ScoreCache
from campus_tune.scores.proxy_losses import proxy_losses
from campus_tune.words.errors import RecipeError, TrainerError
from campus_tune.words.hashing import text_keys
from campus_tune.words.progress import bar
from campus_tune.words.types import BoolArray, FloatArray, IntArray, Json, RowLosses

TEXT = "text"  # what trl calls the column of plain texts
VERSION = 1  # of what a measured loss is; raised when the same rows and weights give other values
AT_ONCE = 2048  # rows between two shards of the cache
TEXT_COLUMNS = ("messages", "prompt", "completion", TEXT)
GIVEN = ("tools", "chat_template_kwargs")  # what else a template is given of a row


@dataclass(frozen=True)
class Taken:
    """Losses of some rows.

    Args:
        losses: in the sequence that was asked for; zero tokens where a model can say nothing of a row.
        read: what a reader made of the same forward, or a reward model's logit, shape (n, k).
        found: which of them came from the cache, shape (n,).
        seconds: on the clock.
    """

    losses: RowLosses
    read: FloatArray
    found: BoolArray
    seconds: float


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
    """

    def __init__(
        self,
        trainer: Any,
        dataset: Any,
        rows: TokenRows,
        meter: LossMeter,
        cache: ScoreCache,
        peers: Peers,
        *,
        trained: Trained | None = None,
    ) -> None:
        self.trainer, self.dataset, self.rows = trainer, dataset, rows
        self.trained = dataset if trained is None else trained.dataset
        self.meter, self.cache, self.peers = meter, cache, peers
        self.timings: list[Timing] = []
        self._others: dict[str, str] = {}  # identities of other models, by name
        self._new: dict[str, BoolArray] = {}  # rows that this process measured itself, by key
        self.warnings: list[str] = [] if trained is None else list(trained.warnings)

    # -- what it costs -------------------------------------------------------------------------------------------

    def tokens(self, passage: Passage) -> IntArray:
        """Forward tokens of every row, shape (N,), in tokens of the model in hand: another's count by their size."""
        tokens = self.rows.answer_tokens + 1 if passage.part == "answer" else self.rows.tokens
        return tokens if passage.model is None else self._by_size(tokens, passage.model, "metrics: model")

    def reward_tokens(self, metric: Quality) -> IntArray:
        """The same for a reward model."""
        return self._by_size(self.rows.tokens, str(metric.model), REWARD_SETTING)

    def _by_size(self, tokens: IntArray, name: str, setting: str) -> IntArray:
        size = model_size(name, setting, trust_remote_code=self._trusts)
        own, _ = compat.parameter_counts(self.trainer.model)
        return np.asarray(np.ceil(tokens * (size / own)), dtype=np.int64)

    # -- the cache -----------------------------------------------------------------------------------------------

    def key(self, passage: Passage) -> CacheKey:
        """What a passage's losses hang on besides the rows."""
        if passage.model is None:
            return CacheKey(what="loss", settings={"part": passage.part}, version=VERSION, **self._identity)
        return self._foreign_key("loss", passage.model, "metrics: model", {"part": passage.part})

    def scorer_key(self, plan: Json, features: str | None) -> CacheKey:
        """What a scorer's scores hang on: the model, the answers that it is asked for, and who reads them.

        Args:
            plan: of the scorer's training.
            features: another model whose hidden states are read.
        """
        if features is not None:
            plan = {**plan, "features": self._other_identity(features, "scorer: model")}
        return CacheKey(what="scorer", settings=plan, version=VERSION, **self._identity)

    def feature_tokens(self, features: str | None) -> IntArray:
        """Forward tokens of every row under a scorer's own model, shape (N,), in tokens of the model in hand."""
        tokens = self.rows.tokens
        return np.zeros_like(tokens) if features is None else self._by_size(tokens, features, "scorer: model")

    def reward_key(self, metric: Quality) -> CacheKey:
        """What a reward model's logits hang on."""
        return self._foreign_key("quality", str(metric.model), REWARD_SETTING, {"logit": metric.logit})

    def _foreign_key(self, what: str, name: str, setting: str, settings: Json) -> CacheKey:
        """Another model's values hang on its files and on the texts, not on the model in training or its precision."""
        kept = ("max_length", "assistant_only_loss", "completion_only_loss")  # which tokens there are, and which count
        settings = {**settings, **{name: getattr(self.trainer.args, name, None) for name in kept}}
        if self._text_field != TEXT:
            settings["dataset_text_field"] = self._text_field
        return CacheKey(what=what, settings=settings, version=VERSION, model=self._other_identity(name, setting))

    @property
    def _text_field(self) -> str:
        """The column of plain texts."""
        return str(getattr(self.trainer.args, "dataset_text_field", TEXT))

    def _other_identity(self, name: str, setting: str) -> str:
        """Which model another one is: its files are read once, not at every look into the cache."""
        if name not in self._others:
            self._others[name] = model_identity(name, setting, trust_remote_code=self._trusts)
        return self._others[name]

    @cached_property
    def _identity(self) -> Json:
        """Weights, adapter, template and precision of the model in hand as it is before its first step."""
        model: str | None = None
        adapter: str | None = None
        if self.cache.folder is None:
            return {"precision": compat.precision(self.trainer)}  # nothing is looked up or kept
        try:
            model, adapter = weights_fingerprint(self.trainer.model)
        except TrainerError as error:  # parameters that no rank holds whole
            self.cache = ScoreCache(None)
            self.warnings.append(f"scores are neither looked up nor kept in the score cache: {error}")
        return {
            "model": f"{model}-{config_fingerprint(self.trainer.model)}",
            "adapter": adapter,
            "template": tokenizer_fingerprint(compat.tokenizer_of(self.trainer)),
            "precision": compat.precision(self.trainer),
        }

    def _content(self, key: CacheKey) -> NDArray[np.uint64]:
        """Keys of the rows, shape (N,): their tokens for the model in hand, their texts for another one."""
        return self._texts if key.precision is None else self.rows.trained

    @cached_property
    def _texts(self) -> NDArray[np.uint64]:
        known = column_names(self.dataset)
        names = [name for name in dict.fromkeys([*TEXT_COLUMNS, self._text_field, *GIVEN]) if name in known]
        if not names:
            return self.rows.trained
        rows = zip(*(read_column(self.dataset, name) for name in names), strict=True)
        return text_keys([json.dumps(row, sort_keys=True, default=str) for row in rows])

    def find(self, key: CacheKey, rows: IntArray) -> tuple[BoolArray, Mapping[str, NDArray[Any]]]:
        """(Which of `rows` are in the cache, their values): read by the leader, the same on every rank."""
        return self.find_content(key, self._content(key)[rows])

    def find_content(self, key: CacheKey, content: NDArray[np.uint64]) -> tuple[BoolArray, Mapping[str, NDArray[Any]]]:
        """The same for rows by their keys, shape (n,)."""
        return self.peers.led(lambda: self.cache.read(key, content))

    def keep(self, key: CacheKey, rows: IntArray, columns: Mapping[str, NDArray[Any]], about: Json) -> None:
        """Write values of `rows` to the cache."""
        if self.peers.leads:
            self.cache.write(key, self._content(key)[rows], columns, about)

    def about(self, key: CacheKey) -> Json:
        """What was noted with the values under `key`."""
        return self.peers.led(lambda: self.cache.about(key)[-1])

    def scored_ahead(self, key: CacheKey) -> bool:
        """Whether `campus-tune score` has scored all of these rows under `key`, and the cache still has them."""
        marked = bool(self.find_content(self._mark(key), np.zeros(1, dtype=np.uint64))[0].all())
        return marked and bool(self.find(key, np.arange(len(self.rows)))[0].all())

    def mark_ahead(self, key: CacheKey) -> None:
        """Note that all of these rows were scored under `key`."""
        if self.peers.leads:
            self.cache.write(self._mark(key), np.zeros(1, dtype=np.uint64), {"rows": np.array([len(self.rows)])})

    def _mark(self, key: CacheKey) -> CacheKey:
        return CacheKey(what="scored-ahead", settings={"key": key.digest(), "rows": digest(self._content(key))})

    def why_missing(self, passage: Passage) -> str | None:
        """Why a cache that holds scores has none of a passage: what differs from what it has."""
        key = self.key(passage)
        content = self._content(key)
        folder = self.cache.folder

        def ask() -> str | None:
            holds_any = folder is not None and any(folder.glob("*/key.json"))
            return self.cache.missing(key, content) if holds_any else None

        return self.peers.led(ask)

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
        losses, read = RowLosses.zeros(len(rows)), np.zeros((len(rows), width))
        found = np.zeros(len(rows), dtype=np.bool_)
        key = None if live else self.key(passage)
        if key is not None and reading is None:
            losses, found = self._found(passage, key, rows)
        missing, n_tokens = np.flatnonzero(~found), 0
        if len(missing):
            with self._meter(passage, rows[missing]) as (meter, places):
                n_tokens = int(meter.tokens[places].sum())
                for part in _parts(meter, places, str(passage), speaks=self.peers.leads):
                    measured = meter.measure(places[part], reader=reading.reader if reading else None, width=width)
                    losses.put(missing[part], measured.losses)
                    read[missing[part]] = measured.read
                    if key is not None:
                        self._keep_measured(passage, key, rows[missing[part]], measured, reading)
        if key is not None:
            new = self._new.setdefault(key.digest(), np.zeros(len(self.rows), dtype=np.bool_))
            found = found & ~new[rows]
            new[rows[missing]] = True
        taken = Taken(losses, read, found, time.perf_counter() - began)
        self._note(str(passage), taken, n_tokens)
        return taken

    def _found(self, passage: Passage, key: CacheKey, rows: IntArray) -> tuple[RowLosses, BoolArray]:
        """What the cache, or a proxy's own folder, knows of `rows`."""
        losses = RowLosses.zeros(len(rows))
        found, columns = self.find(key, rows)
        if found.any():
            losses.put(np.arange(len(rows)), RowLosses(**{name: columns[name] for name in vars(losses)}))
        if not found.all() and (kept := self._kept_by_a_proxy(passage)) is not None:
            return kept.take(rows), np.ones(len(rows), dtype=np.bool_)
        return losses, found

    def _keep_measured(
        self, passage: Passage, key: CacheKey, rows: IntArray, measured: Measurement, reading: Reading | None
    ) -> None:
        tokens = int(self.tokens(passage)[rows].sum())
        self.keep(key, rows, vars(measured.losses), {"forward_tokens": tokens})
        if reading is not None and reading.key is not None:
            self.keep(reading.key, rows, dict(zip(reading.columns, measured.read.T, strict=True)), reading.about)

    def _kept_by_a_proxy(self, passage: Passage) -> RowLosses | None:
        """What `campus-tune proxy` has measured of all rows already, shape (N,)."""
        folder = Path(str(passage.model))
        if passage.part != "row" or folder.name not in (EARLY, LATE):
            return None
        kept = self.peers.led(lambda: proxy_losses(folder.parent, self.rows.trained))
        return None if kept is None else kept[0 if folder.name == EARLY else 1]

    def is_foreign(self, passage: Passage) -> bool:
        """Whether a passage's model has other tokens than the model in hand."""
        if passage.model is None:
            return False
        tokenizer = own_tokenizer(passage.model, None, "metrics: model", self._trusts)
        return not reads_the_same(tokenizer, compat.tokenizer_of(self.trainer))

    def rewards(self, metric: Quality, rows: IntArray) -> Taken:
        """A reward model's logit of `rows`, from the cache where it is known."""
        began, key = time.perf_counter(), self.reward_key(metric)
        found, columns = self.find(key, rows)
        read = np.zeros((len(rows), 1))
        if found.any():
            read[:, 0] = columns["score"]
        missing = np.flatnonzero(~found)
        if len(missing):
            device, n_cut = self.trainer.args.device, 0
            with load_reward(metric, device=device, trust_remote_code=self._trusts) as (reference, label):
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
                        text_field=self._text_field,
                        peers=self.peers,
                        what="quality",
                    )
                    self.keep(key, rows[part], {"score": read[part, 0]}, {})
                    n_cut += cut
            if n_cut:
                self.warnings.append(
                    f"`quality` reads the beginning of {n_cut} rows of {len(missing)}: these are longer."
                )
        taken = Taken(RowLosses.zeros(len(rows)), read, found, time.perf_counter() - began)
        self._note(f"quality under {metric.model}", taken, int(self.rows.tokens[rows[missing]].sum()))
        return taken

    def _note(self, what: str, taken: Taken, tokens: int) -> None:
        self.timings.append(Timing(what, len(taken.found), int(taken.found.sum()), tokens, taken.seconds))

    @contextmanager
    def _meter(self, passage: Passage, rows: IntArray) -> Iterator[tuple[LossMeter, IntArray]]:
        """(What measures a passage, the places of `rows` in it.)."""
        if passage.model is not None:
            with load_reference(
                passage.model,
                setting="metrics: model",
                device=self.trainer.args.device,
                trust_remote_code=self._trusts,
            ) as reference:
                meter, counts = reference_meter(
                    reference,
                    self.dataset,
                    rows,
                    trained=self.trained,
                    tokenizer=compat.tokenizer_of(self.trainer),
                    max_length=getattr(self.trainer.args, "max_length", None),
                    text_field=self._text_field,
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
        with load_reference(name, setting=setting, device=device, trust_remote_code=self._trusts) as reference:
            if not reads_the_same(reference.tokenizer, compat.tokenizer_of(self.trainer)):
                raise RecipeError(
                    f"`{setting}` must have the tokenizer of the model in training, got {name!r} with another one. "
                    "Name a smaller model of the same family, or leave it out."
                )
            yield reference.subject

    @property
    def _trusts(self) -> bool:
        """Whether the user's own configuration lets code of a model's folder run."""
        return bool((getattr(self.trainer.args, "model_init_kwargs", None) or {}).get("trust_remote_code", False))


def _parts(meter: LossMeter, rows: IntArray, what: str, *, speaks: bool) -> Iterator[IntArray]:
    """Places in `rows`, some at a time, rows of like length together; a bar over all tokens."""
    longest_first = np.argsort(-meter.tokens[rows], kind="stable")
    total = int(meter.tokens[rows].sum())
    with bar(total=total, desc=what, unit="token", unit_scale=True, delay=SLOW, disable=not speaks) as progress:
        meter.tick = progress.update
        try:
            for start in range(0, len(rows), AT_ONCE):
                yield longest_first[start : start + AT_ONCE]
        finally:
            meter.tick = None
