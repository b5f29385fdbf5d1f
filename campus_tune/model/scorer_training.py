"""Training the scorer: answers sampled from the model as it is now, and heads that tell them from the references.

Everything here happens with the model in eval mode, without gradients, and with random states of its own that are
drawn from (seed, refresh, batch): a run that is killed in the middle of it does the same again, and training never
notices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from campus_tune.data.prepared import TokenRows, items
from campus_tune.data.spans import Spans, read_spans, unknown_roles
from campus_tune.data.token_hashes import IGNORED
from campus_tune.metrics.scorer import FEWEST_PAIRS, Heads, Scorer, fit_heads
from campus_tune.model.answer_alone import Labelled, PadRight, Prepared, TokenLists, labelled
from campus_tune.model.batches import long_rows_first, token_bound
from campus_tune.model.measure import SLOW, LossMeter, Reader, share
from campus_tune.model.peers import Peers
from campus_tune.model.row_sums import is_flat
from campus_tune.model.subject import Subject, undisturbed, whole_root
from campus_tune.words.errors import MetricError
from campus_tune.words.hashing import array_digest, hash_rows
from campus_tune.words.progress import bar
from campus_tune.words.types import BoolArray, FloatArray, IntArray, Json, RowSource

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

SALT = 0x5C02E2  # of the choice of prompts
NONE_LEFT = 10  # pairs below which nothing can be fitted and held out
HEAD_COLUMNS = ("score", "score_half_a", "score_half_b")  # one head on all pairs, and one on each half of them


class NothingToLearnError(MetricError):
    """The model ends its answers at once: there is nothing to tell references from."""


@dataclass(frozen=True)
class Training:
    """One training of the scorer.

    Args:
        heads: what came out.
        tokens: forward tokens that it took: prompts read, answers written, both read again.
        seconds: on the clock.
        notes: what the ledger says of it.
        warnings: what a person should know of the samples.
    """

    heads: Heads
    tokens: int
    seconds: float
    notes: Json
    warnings: list[str]


class ScorerTrainer:
    """Trains scorers for one run.

    Args:
        settings: of the metric.
        subject: the model that writes, as it is now.
        features: opens the model whose hidden states are read; the same one unless the recipe names another.
        dataset: prepared training rows, text columns included.
        view: the same rows as the collator makes them.
        rows: their token counts and keys.
        tokenizer: of the model that writes.
        peers: ranks; prompts are shared among them.
        seed: of the run.
    """

    def __init__(
        self,
        settings: Scorer,
        *,
        subject: Callable[[], Subject],
        features: Callable[[], AbstractContextManager[Callable[[], Subject]]] | None = None,
        dataset: Dataset,
        view: RowSource,
        rows: TokenRows,
        tokenizer: PreTrainedTokenizerBase,
        peers: Peers,
        seed: int,
    ) -> None:
        self.settings, self.subject = settings, subject
        self.features = features or (lambda: nullcontext(subject))
        self.dataset, self.view, self.rows, self.tokenizer = dataset, view, rows, tokenizer
        self.peers, self.seed = peers, seed

    @cached_property
    def ends(self) -> list[int]:
        """Ids of the tokens that end an answer, as the tokenizer and the model's own settings say."""
        named = getattr(getattr(self.subject().model, "generation_config", None), "eos_token_id", None)
        listed = list(named) if isinstance(named, list | tuple) else [named]
        return sorted({int(t) for t in [*listed, getattr(self.tokenizer, "eos_token_id", None)] if t is not None})

    @cached_property
    def spans(self) -> Spans:
        """What the scorer looks at in each training row."""
        spans = read_spans(self.dataset, self.tokenizer, self.ends, trained=self.view)
        return spans.cut(self.settings.new_tokens)

    def train(self, waiting: BoolArray, *, allowance: float, refresh: int, fewest: int = FEWEST_PAIRS) -> Training:
        """Sample, read, fit.

        Args:
            waiting: rows whose prompts may be used, shape (N,).
            allowance: forward tokens that this may take.
            refresh: how many trainings came before it in this run.
            fewest: pairs that are taken whatever they cost.

        Raises:
            MetricError: too few rows have a prompt of their own.
            NothingToLearnError: nearly all samples are empty.
        """
        began = time.perf_counter()
        rows = self.prompts(waiting, allowance=allowance, refresh=refresh, fewest=fewest)
        written, steps = self._sample(rows, refresh)
        kept = [row for row in rows.tolist() if written[row]]
        if len(kept) < min(NONE_LEFT, len(rows)):
            raise NothingToLearnError(
                f"`scorer` must have {NONE_LEFT} sampled answers to learn from, got {len(kept)} that are not empty of "
                f"{len(rows)}. The model ends its answers at once: train it first, or drop scorer from metrics."
            )
        reference = [self._pair(row, None) for row in kept]
        sampled = [self._pair(row, written[row]) for row in kept]
        table = _Pairs([*reference, *sampled])
        with self.features() as subject:
            meter = LossMeter(subject, table, PadRight(), table.tokens, peers=self.peers, what="scorer")
            width = 2 * subject().width
            read = meter.measure(np.arange(len(table)), reader=pooled(table.spans), width=width).read
        heads = fit_heads(read[: len(kept)], read[len(kept) :], seed=self.seed)
        cut_off = sum(len(written[row]) >= self.settings.new_tokens for row in kept)
        notes = {
            "pairs": len(kept),
            "accuracy": heads.accuracy,
            "tells_apart": heads.tells_apart,
            "sampled_tokens": int(sum(map(len, written.values()))),
            "empty": len(rows) - len(kept),
            "cut_off": cut_off,
        }
        tokens = int(self.spans.start[rows].sum()) + steps + int(table.tokens.sum())
        seconds = time.perf_counter() - began
        return Training(heads, tokens, seconds, notes, self._warnings(notes, len(rows)))

    def scores_reader(self, heads: Heads) -> Reader:
        """What gives the scores of training rows in the forward that measures their losses, (n, 3)."""
        a, b = heads.linear()
        weights, offset = torch.tensor(a, dtype=torch.float32), torch.tensor(b, dtype=torch.float32)
        pool = pooled(self.spans)

        def read(hidden: torch.Tensor, batch: dict[str, Any], rows: IntArray) -> torch.Tensor:
            features = pool(hidden, batch, rows)  # (n, F)
            scores: torch.Tensor = features @ weights.to(features.device).T + offset.to(features.device)
            return scores

        return read

    def read(self, heads: Heads, rows: IntArray) -> FloatArray:
        """Scores of training rows under the three heads, shape (n, 3), by a forward of their own.

        For a scorer that reads another model's hidden states; else the forward that measures losses gives them.
        """
        with self.features() as subject:
            meter = LossMeter(
                subject, Prepared(self.view), PadRight(), self.rows.tokens, peers=self.peers, what="scorer"
            )
            return meter.measure(rows, reader=self.scores_reader(heads), width=len(HEAD_COLUMNS)).read

    def plan(self, waiting: BoolArray, *, allowance: float, refresh: int, fewest: int = FEWEST_PAIRS) -> Json:
        """What a training hangs on besides the model, as JSON: two of the same plan and model are the same."""
        rows = self.prompts(waiting, allowance=allowance, refresh=refresh, fewest=fewest)
        contents = array_digest(self.rows.content[rows])
        return {"prompts": contents, "new_tokens": self.settings.new_tokens, "seed": self.seed, "refresh": refresh}

    def most_tokens(self, waiting: BoolArray, *, allowance: float, refresh: int, fewest: int) -> int:
        """Forward tokens that `train` cannot exceed: every sample as long as it may be."""
        rows = self.prompts(waiting, allowance=allowance, refresh=refresh, fewest=fewest)
        return int(3 * self.spans.start[rows].sum()) + 3 * len(rows) * self.settings.new_tokens

    def has_prompts(self, waiting: BoolArray) -> bool:
        """Whether enough of these rows have a prompt to train a scorer with."""
        return len(self._askable(waiting)) >= FEWEST_PAIRS

    def _askable(self, waiting: BoolArray) -> IntArray:
        """Rows with a prompt that leaves the model room for an answer."""
        context = self.subject().context
        fits = self.spans.start + self.settings.new_tokens <= context if context else np.ones_like(waiting)
        return np.flatnonzero(waiting & self.spans.known & fits)

    def prompts(self, waiting: BoolArray, *, allowance: float, refresh: int, fewest: int = FEWEST_PAIRS) -> IntArray:
        """Rows whose prompts are answered, a random choice that the allowance pays for, long ones first.

        Raises:
            MetricError: too few rows have a prompt.
        """
        rows = self._askable(waiting)
        if len(rows) < NONE_LEFT:
            raise MetricError(
                f"`scorer` must have at least {NONE_LEFT} rows with a prompt before the answer to compare answers to, "
                f"got {len(rows)} of {int(waiting.sum())}. Use prompt and completion columns, or messages with a chat "
                f"template; plain text has no prompt: drop scorer from metrics.{unknown_roles(self.dataset)}"
            )
        per_pair = 3 * float(np.mean(self.spans.start[rows])) + 3 * self.settings.new_tokens
        n = int(np.clip(allowance / per_pair, fewest, self.settings.pairs))
        chosen = rows[np.argsort(hash_rows(rows, self.seed, refresh, SALT), kind="stable")[:n]]
        return chosen[np.argsort(-self.spans.start[chosen], kind="stable")]

    def _sample(self, rows: IntArray, refresh: int) -> tuple[dict[int, list[int]], int]:
        """What the model writes for each row's prompt, its end left out; and the decoding steps of all rows."""
        subject = self.subject()
        lengths = self.spans.start[rows] + self.settings.new_tokens
        batches = [rows[places] for places in long_rows_first(lengths, token_bound(subject.device))]
        mine = share(list(enumerate(batches)), self.peers)
        shown = bar(mine, desc="sampling", unit="batch", delay=SLOW, disable=not self.peers.leads)
        with undisturbed(subject.model), whole_root(subject):
            parts = {number: self._write(subject, batch, [refresh, number]) for number, batch in shown}
        for theirs in reversed(self.peers.gather(parts)):  # a batch that several wrote is taken from the lowest
            parts |= theirs
        written: dict[int, list[int]] = {}
        for number in sorted(parts):
            written |= parts[number][0]
        return written, sum(n_steps for _, n_steps in parts.values())

    def _write(self, subject: Subject, rows: IntArray, place: list[int]) -> tuple[dict[int, list[int]], int]:
        """Answers to one batch of prompts."""
        from transformers import GenerationConfig

        prompts = [self._tokens(row)[: self.spans.start[row]] for row in rows.tolist()]
        width = max(map(len, prompts))
        pad = self.ends[0] if self.ends else 0
        ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        config = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=self.settings.new_tokens,
            eos_token_id=self.ends or None,
            pad_token_id=pad,
        )
        torch.manual_seed(int(hash_rows(np.zeros(1), self.seed, *place)[0] >> np.uint64(2)))
        batch = subject.place({"input_ids": ids, "attention_mask": mask})
        synced = subject.sharded and self.peers.world > 1  # who is done goes on with the others, and writes no more
        out = subject.model.generate(**batch, generation_config=config, synced_gpus=synced)[:, width:].cpu().numpy()
        over = np.pad(np.isin(out, self.ends), ((0, 0), (0, 1)), constant_values=True)  # the first that ends an answer
        lengths = np.argmax(over, axis=1).tolist()
        answers = {row: new[:n].tolist() for row, new, n in zip(rows.tolist(), out, lengths, strict=True)}
        return answers, int(out.size)

    def _pair(self, row: int, written: list[int] | None) -> tuple[list[int], int]:
        """(Tokens of a prompt and an answer, where the answer begins): the reference, or what was written."""
        start, end = int(self.spans.start[row]), int(self.spans.end[row])
        ids = self._tokens(row)
        answer = ids[start:end] if written is None else written[: self.settings.new_tokens]
        return [*ids[:start], *answer], start

    def _tokens(self, row: int) -> list[int]:
        return labelled(items(self.view, [row])[0]).ids

    def _warnings(self, notes: Json, asked: int) -> list[str]:
        warnings = []
        if notes["empty"]:
            warnings.append(f"`scorer`: {notes['empty']} of {asked} sampled answers were empty and were left out.")
        if notes["cut_off"] > notes["pairs"] / 2:
            warnings.append(
                f"`scorer`: {notes['cut_off']} of {notes['pairs']} sampled answers ran to the limit of "
                f"{self.settings.new_tokens} tokens and are compared up to there. Raise new_tokens if answers differ "
                "only later."
            )
        if not notes["tells_apart"]:
            warnings.append(
                f"`scorer` tells {notes['accuracy']:.0%} of held-out pairs apart, no better than a coin: its order is "
                "not offered until the next re-scoring. Raise pairs, or drop scorer from metrics."
            )
        return warnings


def pooled(spans: Spans) -> Reader:
    """Features of rows: hidden states of the answer's tokens, their mean and the last one, (n, 2d) in float32."""

    def read(hidden: torch.Tensor, batch: dict[str, Any], rows: IntArray) -> torch.Tensor:
        flat = hidden.reshape(-1, hidden.shape[-1])  # (n·L, d)
        if is_flat(batch):  # where each row's first token stands among all positions, (n,)
            begins = (batch["position_ids"][0] == 0).nonzero()[:, 0]
        else:
            begins = torch.arange(len(hidden), device=hidden.device) * hidden.shape[1]
            if batch.get("attention_mask") is not None:
                begins = begins + batch["attention_mask"].long().argmax(1)  # rows that are padded on the left
        start = torch.as_tensor(spans.start[rows], device=hidden.device)
        end = torch.as_tensor(np.maximum(spans.end, spans.start + 1)[rows], device=hidden.device)
        place = torch.arange(int((end - start).max()), device=hidden.device)[None, :] + start[:, None]  # (n, longest)
        inside = place < end[:, None]
        states = flat[torch.where(inside, place + begins[:, None], begins[:, None])].float()  # (n, longest, d)
        mean = (states * inside[:, :, None]).sum(1) / inside.sum(1, keepdim=True)
        return torch.cat([mean, flat[begins + end - 1].float()], dim=1)

    return read


class _Pairs(TokenLists):
    """Prompts with answers, as rows of a dataset.

    Args:
        pairs: token ids, and where the answer begins, of each row.
    """

    def __init__(self, pairs: Sequence[tuple[list[int], int]]) -> None:
        super().__init__(len(pairs))
        self._pairs = pairs
        self.tokens = np.array([len(ids) for ids, _ in pairs], dtype=np.int64)
        self.spans = Spans(np.array([start for _, start in pairs], dtype=np.int64), self.tokens)

    def whole(self, places: Sequence[int]) -> list[Labelled]:
        """These rows; their answers carry loss."""
        rows = [self._pairs[place] for place in places]
        return [Labelled(ids, [IGNORED] * start + ids[start:]) for ids, start in rows]
