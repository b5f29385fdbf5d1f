"""What the score cache knows of one trainer's training rows: what each kind of value hangs on, and which rows have it.

Values of the model in hand hang on its weights, adapter, template and precision, and are found by a row's tokens.
Those of another model hang on its files and on which tokens count, and are found by a row's texts: the same folder
serves every model that is trained on them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.data.prepared import TokenRows, column_names, read_column
from campus_tune.data.tokenizers import tokenizer_fingerprint
from campus_tune.metrics.passage import Passage
from campus_tune.metrics.reward import Reward
from campus_tune.model import compat
from campus_tune.model.fingerprint import config_fingerprint, weights_fingerprint
from campus_tune.model.model_files import model_identity
from campus_tune.model.peers import Peers
from campus_tune.model.reward import SETTING as REWARD_SETTING
from campus_tune.scores.cache import CacheKey, ScoreCache
from campus_tune.scores.directions import Directions
from campus_tune.words.errors import TrainerError
from campus_tune.words.hashing import array_digest, text_keys
from campus_tune.words.types import BoolArray, IntArray, Json

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import Trainer

TEXT = "text"  # what trl calls the column of plain texts
VERSION = 1  # of what is measured; raised when the same rows and weights give other values
LOSSES = (
    2  # the same of losses; since 2 what rows share at their beginning is read once, and its last digits are others
)
TEXT_COLUMNS = ("messages", "prompt", "completion", TEXT)
GIVEN = ("tools", "chat_template_kwargs")  # what else a template is given of a row


class RowCache:
    """The score cache, asked by row.

    Args:
        trainer: whose model is in hand.
        dataset: prepared training rows, text columns included.
        rows: their token counts and keys.
        cache: of scores.
        peers: ranks; the leader reads and writes, all know the same.
        directions: that slopes are measured along; None where none are.

    Attributes:
        warnings: what a person should know.
    """

    def __init__(
        self,
        trainer: Trainer,
        dataset: Dataset,
        rows: TokenRows,
        cache: ScoreCache,
        peers: Peers,
        directions: Directions | None = None,
    ) -> None:
        self.directions = directions
        self.trainer, self.dataset, self.rows, self.cache, self.peers = trainer, dataset, rows, cache, peers
        self.warnings: list[str] = []
        self._others: dict[str, str] = {}  # identities of other models, by name

    # -- what a value hangs on -----------------------------------------------------------------------------------

    def key(self, passage: Passage) -> CacheKey:
        """What a passage's losses hang on besides the rows."""
        if passage.towards is not None:
            identity, settings = self._identity, dict[str, Any](towards=passage.towards)  # first: it may end the cache
            if self.cache.folder is not None and self.directions is not None:
                settings |= self.directions.settings(passage.towards)
            return CacheKey(what="slope", settings=settings, version=LOSSES, **identity)
        if passage.model is None:
            return CacheKey(what="loss", settings={"part": passage.part}, version=LOSSES, **self._identity)
        return self._foreign_key("loss", passage.model, "metrics: model", {"part": passage.part}, LOSSES)

    def scorer_key(self, plan: Json, features: str | None) -> CacheKey:
        """What a scorer's scores hang on: the model, the answers that it is asked for, and who reads them.

        Args:
            plan: of the scorer's training.
            features: another model whose hidden states are read.
        """
        if features is not None:
            plan = {**plan, "features": self._other_identity(features, "scorer: model")}
        return CacheKey(what="scorer", settings=plan, version=VERSION, **self._identity)

    def reward_key(self, reward: Reward) -> CacheKey:
        """What a reward model's logits hang on."""
        return self._foreign_key("quality", reward.model, REWARD_SETTING, {"logit": reward.logit})

    def _foreign_key(self, what: str, name: str, setting: str, settings: Json, version: int = VERSION) -> CacheKey:
        """Another model's values hang on its files and on the texts, not on the model in training or its precision."""
        kept = ("max_length", "assistant_only_loss", "completion_only_loss")  # which tokens there are, and which count
        settings = {**settings, **{name: getattr(self.trainer.args, name, None) for name in kept}}
        if self.text_field != TEXT:
            settings["dataset_text_field"] = self.text_field
        return CacheKey(what=what, settings=settings, version=version, model=self._other_identity(name, setting))

    @property
    def text_field(self) -> str:
        """The column of plain texts."""
        return str(getattr(self.trainer.args, "dataset_text_field", TEXT))

    def _other_identity(self, name: str, setting: str) -> str:
        """Which model another one is: its files are read once, not at every look into the cache."""
        if name not in self._others:
            self._others[name] = model_identity(name, setting, trust_remote_code=self.trusts)
        return self._others[name]

    @cached_property
    def _identity(self) -> Json:
        """Weights, adapter, template and precision of the model in hand as it is before its first step."""
        model: str | None = None
        adapter: str | None = None
        if self.cache.folder is None:
            return {"precision": compat.precision(self.trainer)}  # nothing is looked up or kept
        in_hand: Any = compat.model_of(self.trainer)  # transformers' own class, or peft's around it
        try:
            model, adapter = weights_fingerprint(in_hand)
        except TrainerError as error:  # parameters that no rank holds whole
            self.cache = ScoreCache(None)
            self.warnings.append(f"scores are neither looked up nor kept in the score cache: {error}")
        return {
            "model": f"{model}-{config_fingerprint(in_hand)}",
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
        names = [name for name in dict.fromkeys([*TEXT_COLUMNS, self.text_field, *GIVEN]) if name in known]
        if not names:
            return self.rows.trained
        rows = zip(*(read_column(self.dataset, name) for name in names), strict=True)
        return text_keys([json.dumps(row, sort_keys=True, default=str) for row in rows])

    # -- which rows have one -------------------------------------------------------------------------------------

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
        return CacheKey(what="scored-ahead", settings={"key": key.digest(), "rows": array_digest(self._content(key))})

    def why_missing(self, passage: Passage) -> str | None:
        """Why a cache that holds scores has none of a passage: what differs from what it has."""
        key = self.key(passage)
        content = self._content(key)
        folder = self.cache.folder

        def ask() -> str | None:
            holds_any = folder is not None and any(folder.glob("*/key.json"))
            return self.cache.missing(key, content) if holds_any else None

        return self.peers.led(ask)

    @property
    def trusts(self) -> bool:
        """Whether the user's own configuration lets code of a model's folder run."""
        return bool((getattr(self.trainer.args, "model_init_kwargs", None) or {}).get("trust_remote_code", False))
