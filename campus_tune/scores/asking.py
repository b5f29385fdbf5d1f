"""All scores a recipe asks for, before the first step: CPU metrics on every row, losses on as many as are paid for.

What the model is asked for comes from the score cache where it is known. A run decides the same with a full cache as
with an empty one: the rows of the sample follow from the budget, and what is found is charged as if it had been
measured (the ledger says how much was). Only where the cache knows *all* rows are all of them used: they were scored
ahead (`campus-tune score`), which was the user's choice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from campus_tune.data.prepared import Answers
from campus_tune.data.readings import Readings
from campus_tune.method.budget import Budget
from campus_tune.method.orders import order_rows
from campus_tune.method.selectors.race import stratified_sample
from campus_tune.method.stats import spearman
from campus_tune.metrics import CpuMetric, Metric, MetricSpec, build_metric, finish_scores
from campus_tune.metrics.extras import missing_parts
from campus_tune.metrics.learnability import Learnability
from campus_tune.metrics.passage import Passage, PassageMetric
from campus_tune.metrics.quality import Quality
from campus_tune.metrics.rank_mean import RankMean
from campus_tune.metrics.rho import Rho
from campus_tune.metrics.scorer import Heads, Scorer
from campus_tune.model.scorer_training import HEAD_COLUMNS, ScorerTrainer
from campus_tune.recipe.config import CampusConfig
from campus_tune.scores.cache import CacheKey
from campus_tune.scores.columns import HERE, Scores, leaf_specs, passages_of
from campus_tune.scores.passages import Passages, Reading, Taken, Timing
from campus_tune.scores.surrogate import spread
from campus_tune.words.errors import MetricError
from campus_tune.words.hashing import text_keys
from campus_tune.words.plugins import version_of
from campus_tune.words.types import FloatArray, IntArray, Json, RowLosses, RowTexts

FEWEST_TOLD = 10  # rows with a loss, below which nothing can be predicted from them
TEXTS_AT_ONCE = 1 << 17  # between two shards of the cache
CPU_VERSION = 1  # of what the CPU metrics give; raised when one gives other values


@dataclass
class Scoring:
    """Makes the scores of a run.

    Args:
        config: resolved settings.
        texts: the rows as CPU metrics see them.
        passages: what can be measured.
        budget: charged for what is measured.
        scorer: trains the scorer; None where no metric asks for one.
        groups: domain number of every row, shape (N,), or None.
        num_proc: processes for CPU metrics.
        n_refreshes: re-scorings to come, which share the scorer's part of the budget.
        whole: measure all rows, whatever they cost.
        price: forward tokens of each row in all that is measured, shape (N,); known once it is.
    """

    config: CampusConfig
    texts: RowTexts
    passages: Passages
    budget: Budget
    scorer: ScorerTrainer | None = None
    groups: IntArray | None = None
    num_proc: int = 1
    n_refreshes: int = 0
    whole: bool = False
    _discount: float = 1.0  # on rows that were scored ahead
    price: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # forward tokens of each row

    def start(self) -> Scores:
        """Every score the recipe asks for, before the first step.

        Raises:
            MetricError: a metric whose scores do not order the rows, or that needs what is not installed.
        """
        scores = Scores()
        metrics = [(spec, build_metric(spec)) for spec in leaf_specs(self.config)]
        if missing := missing_parts(metric for _, metric in metrics):
            raise MetricError(" ".join(missing))
        if self.config.scores is not None:  # a cache that was named and holds nothing of use is worth a word
            why = filter(None, map(self.passages.why_missing, passages_of(self.config)))
            scores.warnings += [f"`scores`: {reason}" for reason in why]
        for spec, metric in metrics:
            if isinstance(metric, CpuMetric):
                self._add_cpu(scores, spec, metric)
        asked = [(spec, metric) for spec, metric in metrics if not isinstance(metric, CpuMetric)]
        if asked or passages_of(self.config):
            self._ask(scores, asked)
        self.combine(scores)
        return scores

    def mark_ahead(self) -> None:
        """Note in the cache that all rows were scored on purpose: a run that finds the note uses all of them."""
        for passage in passages_of(self.config):
            self.passages.mark_ahead(self.passages.key(passage))
        for metric in map(build_metric, leaf_specs(self.config)):
            if isinstance(metric, Quality):
                self.passages.mark_ahead(self.passages.reward_key(metric))

    def _ask(self, scores: Scores, asked: Sequence[tuple[MetricSpec, Metric]]) -> None:
        """Everything that takes a forward, of the same rows; the scorer first, whose forward shows the losses too."""
        wanted = passages_of(self.config)
        rows = self._affordable_rows(wanted, [metric for _, metric in asked if isinstance(metric, Quality)])
        for spec, metric in asked:
            if isinstance(metric, Scorer):
                self._add_scorer(scores, spec, rows)
            elif isinstance(metric, Quality):
                self._add_quality(scores, spec, metric, rows)
        for passage in wanted:
            if passage not in scores.measured:
                self._put(scores, passage, rows, self.passages.take(passage, rows))
        for spec, metric in asked:
            if isinstance(metric, PassageMetric):
                self._add_passages(scores, spec, metric, rows)

    def _add_passages(self, scores: Scores, spec: MetricSpec, metric: PassageMetric, rows: IntArray) -> None:
        """A metric of measured losses; rows of which a model can say nothing are predicted."""
        told = rows[np.stack([scores.measured[p].tokens[rows] > 0 for p in metric.passages]).all(axis=0)]
        if len(told) < min(FEWEST_TOLD, len(rows)):
            raise MetricError(
                f"`{spec.label}` must have an answer that its model can read in at least {FEWEST_TOLD} rows, got "
                f"{len(told)} of {len(rows)}. Name a model with a longer context, or drop it."
            )
        losses = [scores.measured[passage].take(told) for passage in metric.passages]
        self.add(scores, spec, told, metric.from_losses(losses), {"rows_measured": len(told)})
        if isinstance(metric, Learnability) and losses[0].mean() < losses[1].mean():
            scores.warnings.append(
                f"`{spec.label}`: the proxy is worse late than early (mean loss {losses[0].mean():.3f}, then "
                f"{losses[1].mean():.3f}): what it seems to have learned is noise. Train another one, with a lower "
                "learning rate or more steps."
            )
        if isinstance(metric, Rho) and any(map(self.passages.is_foreign, metric.passages)):
            scores.warnings += metric.on_other_tokens()

    # -- metrics of the texts ------------------------------------------------------------------------------------

    def _add_cpu(self, scores: Scores, spec: MetricSpec, metric: CpuMetric) -> None:
        raw = self._cpu_scores(spec, metric)
        scores.by_label[spec.label] = finish_scores(raw, spec)
        scores.notes[spec.label] = {"rows_measured": len(raw), **metric.describe(self.texts, raw)}

    def _cpu_scores(self, spec: MetricSpec, metric: CpuMetric) -> FloatArray:
        """From the cache where all texts are known; what costs nothing is not kept there."""
        peers, cache = self.passages.peers, self.passages.cache
        if not metric.cached:
            return metric.scores(self.texts, num_proc=self.num_proc)
        began = time.perf_counter()
        settings = {**spec.options, "made with": {**metric.made_with(), **version_of(type(metric))}}
        key = CacheKey(what=spec.name, settings=settings, version=CPU_VERSION)
        content = self._text_keys
        known, columns = peers.led(lambda: cache.read(key, content))
        raw = np.array(columns.get("score", np.zeros(len(content))), dtype=np.float64)
        missing = np.flatnonzero(~known)
        for start in range(0, len(missing), TEXTS_AT_ONCE):
            rows = missing[start : start + TEXTS_AT_ONCE]
            raw[rows] = self._shared(metric, rows)
            if peers.leads:
                cache.write(key, content[rows], {"score": raw[rows]})
        seconds = time.perf_counter() - began
        self.passages.timings.append(Timing(spec.label, len(raw), len(raw) - len(missing), 0, seconds))
        return raw

    @cached_property
    def _text_keys(self) -> NDArray[np.uint64]:
        """Content key of every response, shape (N,): one for all metrics of the texts."""
        texts = self.texts.response_text
        if not isinstance(texts, Answers):
            return text_keys(texts)
        readings = Readings(self.passages.cache.folder, writes=self.passages.peers.leads)
        keys = texts.keys(readings)
        self.passages.warnings += readings.warnings
        return keys

    def _shared(self, metric: CpuMetric, rows: IntArray) -> FloatArray:
        """A CPU metric of some rows, each rank's part of them computed there."""
        peers = self.passages.peers
        mine = np.arange(len(rows)) % peers.world == peers.rank
        scores = np.zeros(len(rows))
        if mine.any():
            processes = max(1, self.num_proc // peers.world)
            scores[mine] = metric.scores(self.texts.take(rows[mine]), num_proc=processes, progress=peers.leads)
        return np.asarray(peers.merge({"score": scores}, mine)["score"], dtype=np.float64)

    # -- what the model is asked for -----------------------------------------------------------------------------

    def _affordable_rows(self, wanted: Sequence[Passage], qualities: Sequence[Quality]) -> IntArray:
        """All rows if their part of the budget pays for them or the cache knows them, else a sample by length."""
        price = self._asked_tokens(wanted, qualities)
        self.price, everything = price, np.arange(len(self.texts))
        affordable = self.budget.part("scoring") / max(1.0, float(np.mean(price)))
        if self.whole or affordable >= len(everything):
            return everything
        keys = [*map(self.passages.key, wanted), *map(self.passages.reward_key, qualities)]
        if all(map(self.passages.scored_ahead, keys)):
            self._discount = affordable / len(everything)  # on the bill they cost what a sample would have cost
            return everything
        seed, tokens = self.config.seed or 0, self.passages.tokens(HERE).astype(np.float64)
        by_length = order_rows(tokens, seed=seed, groups=self.groups)
        fewest = self.budget.fewest("scoring")
        n = min(len(everything), max(fewest, int(affordable)))
        sample = stratified_sample(by_length, n, seed=[seed, 0x57A27])
        while self.budget.caps is not None and n > fewest and price[sample].sum() > self.budget.part("scoring"):
            n -= 1
            sample = stratified_sample(by_length, n, seed=[seed, 0x57A27])
        return np.sort(sample).astype(np.int64)

    def _asked_tokens(self, wanted: Sequence[Passage], qualities: Sequence[Quality]) -> IntArray:
        tokens = [self.passages.tokens(passage) for passage in wanted]
        tokens += [self.passages.reward_tokens(metric) for metric in qualities]
        total: IntArray = np.sum([np.zeros(len(self.texts), dtype=np.int64), *tokens], axis=0)
        return total

    def start_tokens(self) -> IntArray:
        """Forward tokens of every row in all that is measured before the first step, shape (N,)."""
        metrics = [build_metric(spec) for spec in leaf_specs(self.config)]
        qualities = [metric for metric in metrics if isinstance(metric, Quality)]
        return self._asked_tokens(passages_of(self.config), qualities) + self.feature_tokens()

    def live_tokens(self) -> IntArray:
        """The same in all that is measured anew under the model in hand."""
        return self._asked_tokens([passage for passage in passages_of(self.config) if passage.model is None], [])

    def feature_tokens(self) -> IntArray:
        """The same of a scorer's own model, whose hidden states are read."""
        return self.passages.feature_tokens(None if self.scorer is None else self.scorer.settings.model)

    def _put(self, scores: Scores, passage: Passage, rows: IntArray, taken: Taken) -> None:
        """Losses of `rows` in one passage, on the bill."""
        everything = RowLosses.zeros(len(self.texts))
        everything.put(rows, taken.losses)
        scores.measured[passage] = everything
        self._charge(self.passages.tokens(passage)[rows], taken)

    def _charge(self, tokens: IntArray, taken: Taken) -> None:
        """Put rows on the bill."""
        found = int(self._discount * tokens[taken.found].sum())
        self.budget.charge("scoring", int(tokens[~taken.found].sum()) + found, taken.seconds, found=found)

    def _add_quality(self, scores: Scores, spec: MetricSpec, metric: Quality, rows: IntArray) -> None:
        taken = self.passages.rewards(metric, rows)
        self._charge(self.passages.reward_tokens(metric)[rows], taken)
        self.add(scores, spec, rows, taken.read[:, 0], {"rows_measured": len(rows)})

    # -- the scorer ----------------------------------------------------------------------------------------------

    def _add_scorer(self, scores: Scores, spec: MetricSpec, rows: IntArray) -> None:
        """Scores under a scorer trained on the model as it is; the same forward gives the losses."""
        assert self.scorer is not None
        allowance = self.budget.per_time("scorer", 1 + self.n_refreshes)
        everything = np.ones(len(self.texts), dtype=np.bool_)
        n_asked, rows = len(rows), rows[self.scorer.spans.known[rows]]  # the others have no prompt: they are predicted
        fewest = self.budget.fewest("scorer")
        plan = self.scorer.plan(everything, allowance=allowance, refresh=0, fewest=fewest)
        key = self.passages.scorer_key(plan, self.scorer.settings.model)
        found, columns = self.passages.find(key, rows)
        read = np.stack([columns.get(name, np.zeros(len(rows))) for name in HEAD_COLUMNS], axis=1)
        about: Json = self.passages.about(key) if found.any() else {}
        if found.all():
            self.budget.charge("scorer", about["forward_tokens"], 0.0, found=about["forward_tokens"])
        else:  # the same again, where another run was killed in the middle: heads follow from the model and the plan
            training = self.scorer.train(everything, allowance=allowance, refresh=0, fewest=fewest)
            self.budget.charge("scorer", training.tokens, training.seconds)
            pairs, seconds = training.notes["pairs"], training.seconds
            self.passages.timings.append(Timing("scorer: its training", pairs, 0, training.tokens, seconds))
            about = {"forward_tokens": training.tokens, "notes": training.notes, "warnings": training.warnings}
            missing = np.flatnonzero(~found)
            read[missing] = self._read(scores, training.heads, rows, missing, key, about, n_asked)
        scores.warnings += about["warnings"]
        notes = {"rows_measured": len(rows), **about["notes"], "stability": spearman(read[:, 1], read[:, 2])}
        self.add(scores, spec, rows, read[:, 0], notes)

    def _read(
        self,
        scores: Scores,
        heads: Heads,
        rows: IntArray,
        missing: IntArray,
        key: CacheKey,
        about: Json,
        n_asked: int,
    ) -> FloatArray:
        """What the heads give the missing ones of `rows`, kept in the cache as it comes."""
        assert self.scorer is not None
        if self.scorer.settings.model is not None:
            began = time.perf_counter()
            read = self.scorer.read(heads, rows[missing])
            tokens = self.passages.feature_tokens(self.scorer.settings.model)[rows[missing]]
            self.budget.charge("scoring", int(tokens.sum()), time.perf_counter() - began)
            self.passages.keep(key, rows[missing], dict(zip(HEAD_COLUMNS, read.T, strict=True)), about)
            return read
        reading = Reading(self.scorer.scores_reader(heads), HEAD_COLUMNS, key, about)
        taken = self.passages.take(HERE, rows[missing], reading=reading)
        if len(missing) == len(rows) == n_asked:
            self._put(scores, HERE, rows, taken)  # else the cache has the others' losses too
        return taken.read

    # -- from measured rows to all rows --------------------------------------------------------------------------

    def add(
        self,
        scores: Scores,
        spec: MetricSpec,
        rows: IntArray,
        values: FloatArray,
        notes: Json,
        before: FloatArray | None = None,
    ) -> None:
        """Scores of all rows from those of the measured ones, predicted where they were not.

        Args:
            scores: added to.
            spec: the metric.
            rows: measured, shape (n,).
            values: their scores, not reversed, shape (n,).
            notes: what the ledger says of them; what prediction adds comes in front.
            before: scores of all rows at an earlier time, reversed as the recipe says, shape (N,).
        """
        notes = dict(notes)
        if len(rows) < len(self.texts):
            finish_scores(values, spec)  # NaN and ties are found before they are spread
            predicted = spread(rows, values, self._features(scores, before), self.groups)
            notes = {
                "prediction_correlation": predicted.correlation,
                "stability": predicted.stability,
                **{name: value for name, value in notes.items() if name != "stability"},
            }
            values = predicted.scores
        else:
            values = values[np.argsort(rows, kind="stable")]
        scores.by_label[spec.label] = finish_scores(values, spec)
        scores.notes[spec.label] = notes

    def _features(self, scores: Scores, before: FloatArray | None) -> Mapping[str, FloatArray]:
        """What is known of every row and costs nothing."""
        features = {
            "response tokens": self.texts.response_tokens.astype(np.float64),
            "prompt tokens": self.texts.prompt_tokens.astype(np.float64),
        }
        for spec in leaf_specs(self.config):
            if isinstance(build_metric(spec), CpuMetric):
                features[f"metric {spec.label}"] = scores.by_label[spec.label]
        return features if before is None else {**features, "before": before}

    def combine(self, scores: Scores) -> None:
        """The ensembles, from the scores of their members; labels in the recipe's sequence, members behind them."""
        for spec in self.config.specs:
            metric = build_metric(spec)
            if isinstance(metric, RankMean):
                members = {member.label: scores.by_label[member.label] for member in metric.members}
                scores.by_label[spec.label] = finish_scores(metric.combine(members, self.groups), spec)
                measured = [scores.notes[label]["rows_measured"] for label in members]
                scores.notes[spec.label] = {"rows_measured": min(measured)}
        first = list(self.config.labels)
        labels = [*first, *(label for label in scores.by_label if label not in first)]
        scores.by_label = {label: scores.by_label[label] for label in labels}


def prediction_warnings(scores: Scores, scoring: Scoring, enough: Callable[[], float]) -> list[str]:
    """What a user must know of scores that were predicted for some rows.

    Args:
        scores: of the run.
        scoring: that made them.
        enough: gives the budget that would have paid for all rows.
    """
    warnings = []
    for label, notes in scores.notes.items():
        if "prediction_correlation" in notes:
            warnings.append(
                f"`{label}` was measured on {notes['rows_measured']} of {len(scoring.texts)} rows and predicted on the "
                f"others (cross-validated rank correlation {notes['prediction_correlation']:.2f}). budget: "
                f"{enough():g} pays for all of them; so does `campus-tune score`, ahead of training."
            )
    return warnings
