"""All scores a recipe asks for, before the first step: CPU metrics on every row, losses on as many as are paid for.

What the model is asked for comes from the score cache where it is known. A run decides the same with a full cache as
with an empty one: the rows of the sample follow from the budget, and what is found is charged as if it had been
measured (the ledger says how much was). Only where the cache knows *all* rows are all of them used: they were scored
ahead (`campus-tune score`), which was the user's choice.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from campus_tune.data.prepared import AnswerTexts
from campus_tune.data.readings import Readings
from campus_tune.method.budget import FEWEST, Budget, Purpose, rounded_up
from campus_tune.method.orders import order_rows
from campus_tune.method.selectors import stratified_sample
from campus_tune.method.stats import spearman
from campus_tune.metrics import CpuMetric, MetricSpec, finish_scores
from campus_tune.metrics.extras import missing_parts
from campus_tune.metrics.passage import HERE, Passage
from campus_tune.model.scorer_training import HEAD_COLUMNS, ScorerTrainer
from campus_tune.recipe.config import CampusConfig
from campus_tune.scores.cache import CacheKey
from campus_tune.scores.directions import PART, agreement_warning
from campus_tune.scores.passages import Passages, Reading, Taken, Timing
from campus_tune.scores.questions import Questions, blocks_unpaid, unscored
from campus_tune.scores.run_scores import Scores
from campus_tune.scores.surrogate import predict
from campus_tune.words.errors import MetricError, RecipeError
from campus_tune.words.hashing import text_keys
from campus_tune.words.plugins import version_of
from campus_tune.words.types import FloatArray, IntArray, Json, RowArray, RowLosses, RowTexts

FEWEST_TOLD = 10  # rows with a loss, below which nothing can be predicted from them
TEXTS_AT_ONCE = 1 << 17  # between two shards of the cache
SALT = 0x57A27  # of the rows that are measured where not all are
CPU_VERSION = 1  # of what the CPU metrics give; raised when one gives other values


@dataclass
class Asking:
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
        ahead: `campus-tune score` can score these rows before a run.
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
    ahead: bool = True
    _discount: float = 1.0  # on rows that were scored ahead
    _noted: dict[Passage, Json] = field(default_factory=dict)  # of passages that have more to say than losses

    def __post_init__(self) -> None:
        if self.passages.directions is not None:
            self.passages.directions.allowance = self._for_directions

    @cached_property
    def questions(self) -> Questions:
        """What the recipe's metrics ask for, by how each is asked."""
        return Questions(self.config)

    @cached_property
    def _groups_of(self) -> dict[str, IntArray | None]:
        """The groups that each ensemble's rows are in, by label."""
        return {label: one.groups_of(self.texts, self.groups) for label, one in self.questions.ensembles.items()}

    def start(self) -> Scores:
        """Every score the recipe asks for, before the first step.

        Raises:
            MetricError: a metric whose scores do not order the rows, or that needs what is not installed.
        """
        scores, asked = Scores(), self.questions
        if missing := missing_parts(asked.metrics.values()):
            raise MetricError(" ".join(missing))
        _ = self._groups_of  # a column that is not there is told before anything is measured
        if self.config.scores is not None:  # a cache that was named and holds nothing of use is worth a word
            why = filter(None, map(self.passages.known.why_missing, asked.passages))
            scores.warnings += [f"`scores`: {reason}" for reason in why]
        self.add_texts(scores)
        if len(asked.texts) < len(asked.specs) or asked.passages:
            self._ask_models(scores)
        self.combine(scores)
        return scores

    def add_texts(self, scores: Scores) -> list[str]:
        """What the texts alone say, as far as it is not there yet: the labels. It is the same at any time of a run."""
        missing = [label for label in self.questions.texts if label not in scores.by_label]
        for label in missing:
            spec, metric = self.questions.specs[label], self.questions.texts[label]
            orders = label not in self.config.bands_alone
            scores.put_texts(spec, metric, self.texts, self._text_scores(spec, metric), orders=orders)
        return missing

    def _ask_models(self, scores: Scores) -> None:
        """Everything that takes a forward, of the same rows."""
        asked, rows = self.questions, self._affordable_rows()
        if not len(rows):
            return
        for label, spec in asked.specs.items():
            if label in asked.scorers:  # before the passages, as its forward shows the losses too
                if self._pays_for_scorer():
                    self._ask_scorer(scores, spec, rows)
            elif label in asked.rewards:
                reward = asked.rewards[label]
                taken = self.passages.rewards(reward.reward, rows)
                self._charge(self.passages.reward_tokens(reward.reward)[rows], taken)
                self.add(scores, spec, rows, reward.from_logits(taken.read[:, 0]), {"rows_measured": len(rows)})
        for passage in asked.passages:  # metrics of the same passage share it
            if passage not in scores.measured:
                self._put(scores, passage, rows, self.passages.take(passage, rows))
        for label, metric in asked.losses.items():  # rows of which a model can say nothing are predicted
            told = rows[np.stack([scores.measured[p].tokens[rows] > 0 for p in metric.passages]).all(axis=0)]
            if len(told) < min(FEWEST_TOLD, len(rows)):
                raise MetricError(
                    f"`{label}` must have an answer that its model can read in at least {FEWEST_TOLD} rows, got "
                    f"{len(told)} of {len(rows)}. Name a model with a longer context, or drop it."
                )
            losses = [scores.measured[passage].take(told) for passage in metric.passages]
            notes = self.notes(label, len(told))
            self.add(scores, asked.specs[label], told, metric.from_losses(losses), notes)
            scores.warnings += metric.remarks(label, losses, self.passages.is_foreign)
            scores.warnings += filter(None, [agreement_warning(label, notes)])

    def notes(self, label: str, measured: int) -> Json:
        """What the ledger says of a metric of losses, of which so many rows were measured."""
        parts = (self._noted.get(passage, {}) for passage in self.questions.losses[label].passages)
        return {"rows_measured": measured, **{name: value for part in parts for name, value in part.items()}}

    def note(self, passage: Passage, taken: Taken) -> None:
        """Keep what there is to say of how a passage was measured last."""
        if taken.notes:
            self._noted[passage] = taken.notes

    def mark_ahead(self) -> None:
        """Note in the cache that all rows were scored on purpose: a run that finds the note uses all of them."""
        for key in self._keys():
            self.passages.known.mark_ahead(key)

    # -- what it costs, and of which rows ------------------------------------------------------------------------

    def start_tokens(self) -> IntArray:
        """Forward tokens of every row in all that is measured before the first step, shape (N,)."""
        return self._asked_tokens() + self.feature_tokens()

    def live_tokens(self) -> IntArray:
        """The same in all that is measured anew under the model in hand."""
        return self._sum(map(self.passages.tokens, self.questions.live))

    def feature_tokens(self) -> IntArray:
        """The same of a scorer's own model, whose hidden states are read."""
        return self.passages.feature_tokens(None if self.scorer is None else self.scorer.settings.model)

    def extra_tokens(self) -> int:
        """Forward tokens of what is made once each time that rows are measured, however many: of all directions."""
        return sum(map(self.passages.extra_tokens, self.questions.directions))

    def direction_cost(self, part: float, fewest: int, fewest_rows: int) -> int:
        """Forward tokens of all directions of a run that may spend so much on scores before training.

        Args:
            part: forward tokens for scores before training.
            fewest: probe rows of a domain that are taken whatever they cost.
            fewest_rows: training rows that are measured whatever they cost: of what these leave, a part.
        """
        directions, asked = self.passages.directions, self.questions.directions
        share = self._for_a_domain(part, fewest_rows)
        return sum(0 if directions is None else directions.cost(str(p.towards), share, fewest) for p in asked)

    def _for_directions(self) -> tuple[float, int]:
        """(Forward tokens that each domain of a direction may cost, the fewest rows of one)."""
        budget = self.budget
        return self._for_a_domain(budget.part("scoring"), budget.fewest("scoring")), budget.fewest("probes")

    def _for_a_domain(self, part: float, fewest_rows: int) -> float:
        directions, asked = self.passages.directions, self.questions.directions
        left = part - fewest_rows * float(np.mean(self._asked_tokens()))
        n_domains = 0 if directions is None else sum(len(directions.domains(str(p.towards))) for p in asked)
        return max(0.0, min(PART * part, left)) / max(1, n_domains)

    def _asked_tokens(self) -> IntArray:
        """The same of passages and rewards, whose rows the scorer's part of the budget does not pay for."""
        rewards = (self.passages.reward_tokens(metric.reward) for metric in self.questions.rewards.values())
        return self._sum([*map(self.passages.tokens, self.questions.passages), *rewards])

    def _sum(self, tokens: Iterable[IntArray]) -> IntArray:
        return np.asarray(sum(tokens, np.zeros(len(self.texts), dtype=np.int64)), dtype=np.int64)

    def _keys(self) -> list[CacheKey]:
        """What is kept in the cache of passages and rewards hangs on these."""
        rewards = (self.passages.known.reward_key(metric.reward) for metric in self.questions.rewards.values())
        return [*map(self.passages.known.key, self.questions.passages), *rewards]

    def _affordable_rows(self) -> IntArray:
        """All rows if their part of the budget pays for them or the cache knows them, else a sample by length."""
        price, everything = self._asked_tokens(), np.arange(len(self.texts))
        allowance, fewest = self.budget.part("scoring") - self.extra_tokens(), self.budget.fewest("scoring")
        affordable = max(0.0, allowance) / max(1.0, float(np.mean(price)))
        spare = self.budget.left - 2 * self.budget.to_end
        if self.whole or (affordable >= len(everything) and self._price(everything) <= spare):
            return everything
        if all(map(self.passages.known.scored_ahead, self._keys())):
            self._discount = affordable / len(everything)  # on the bill they cost what a sample would have cost
            self.budget.unpaid = tuple(name for name in self.budget.unpaid if name != "scoring")  # it is there
            return everything
        if "scoring" not in self.budget.unpaid:
            by_length, seed = self._by_length, [self.config.seed or 0, SALT]
            n = min(len(everything), max(fewest, int(affordable)))
            if self.budget.caps is not None:
                n = most_paid_for(by_length, price, allowance, n, fewest=fewest, seed=seed)
            for held in (2 * self.budget.to_end, self.budget.held):  # the probes as they were chosen, or the fewest
                for size in (n, fewest, FEWEST["scoring"] // 2):
                    rows = np.sort(stratified_sample(by_length, min(n, size), seed=seed)).astype(np.int64)
                    if self._price(rows) <= self.budget.left - held:
                        return rows
            self.budget.leave_out("scoring", self._price(rows))
        self._refuse_unpaid()
        return everything[:0]

    @cached_property
    def _by_length(self) -> RowArray:
        """The rows, short ones first, as samples are taken of them."""
        tokens = self.passages.tokens(HERE).astype(np.float64)
        return order_rows(tokens, seed=self.config.seed or 0, groups=self.groups)

    def _price(self, rows: IntArray) -> int:
        """Forward tokens of all that is measured of some rows before the first step."""
        return int(self.start_tokens()[rows].sum()) + self.extra_tokens()

    def fewest_cost(self) -> float:
        """Forward tokens of the fewest scores before training: of the very rows that would be measured."""
        along = self.direction_cost(0.0, FEWEST["probes"] // 2, FEWEST["scoring"])
        return float(self._fewest_rows_cost + along)

    @cached_property
    def _fewest_rows_cost(self) -> int:
        price = self.start_tokens()
        if not price.any():
            return 0
        sample = stratified_sample(self._by_length, FEWEST["scoring"] // 2, seed=[self.config.seed or 0, SALT])
        return int(price[sample].sum())

    def _refuse_unpaid(self) -> None:
        """Orders that nobody pays for are left out; scores by which rows are drawn cannot be.

        Raises:
            RecipeError: there are some, with the budget that pays for them.
        """
        budget = self.budget
        if blocks_unpaid(self.config, budget.unpaid):
            tokens = max(self.fewest_cost(), budget.short)
            share = budget.ratio * tokens / budget.training_tokens
            raise RecipeError(unpaid_scores(self.config, share, budget.unpaid, ahead=self.ahead))

    def _pays_for_scorer(self) -> bool:
        """Whether what is left pays for training a scorer; else there is no order by it."""
        budget, fewest = self.budget, self.budget.fewest("scorer")
        if self.whole or self.scorer is None:
            return self.whole
        if "scorer" not in budget.unpaid:
            everything = np.ones(len(self.texts), dtype=np.bool_)
            allowance = budget.per_time("scorer", 1 + self.n_refreshes)
            tokens = self.scorer.most_tokens(everything, allowance=allowance, refresh=0, fewest=fewest)
            if tokens <= budget.left - budget.held:
                return True
            budget.leave_out("scorer", tokens)
        self._refuse_unpaid()
        return False

    def _put(self, scores: Scores, passage: Passage, rows: IntArray, taken: Taken) -> None:
        """Losses of `rows` in one passage, on the bill."""
        everything = RowLosses.zeros(len(self.texts))
        everything.put(rows, taken.losses)
        scores.measured[passage] = everything
        self._charge(self.passages.tokens(passage)[rows], taken)
        if (extra := self.passages.extra_tokens(passage)) > 0 and self._discount > 0:
            self.budget.charge("scoring", extra, 0.0, found=extra if taken.found.all() else 0)
        self.note(passage, taken)

    def _charge(self, tokens: IntArray, taken: Taken) -> None:
        """Put rows on the bill, as far as they went through the model, now or when they were kept."""
        tokens = taken.charged(tokens)
        found = int(self._discount * tokens[taken.found].sum())
        self.budget.charge("scoring", int(tokens[~taken.found].sum()) + found, taken.seconds, found=found)

    # -- the texts -----------------------------------------------------------------------------------------------

    def _text_scores(self, spec: MetricSpec, metric: CpuMetric) -> FloatArray:
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
        processes = max(1, self.num_proc // peers.world)
        for start in range(0, len(missing), TEXTS_AT_ONCE):
            rows = missing[start : start + TEXTS_AT_ONCE]
            mine, new = np.arange(len(rows)) % peers.world == peers.rank, np.zeros(len(rows))
            if mine.any():
                new[mine] = metric.scores(self.texts.take(rows[mine]), num_proc=processes, progress=peers.leads)
            raw[rows] = peers.merge({"score": new}, mine)["score"]
            if peers.leads:
                cache.write(key, content[rows], {"score": raw[rows]})
        seconds = time.perf_counter() - began
        self.passages.timings.append(Timing(spec.label, len(raw), len(raw) - len(missing), 0, seconds))
        return raw

    @cached_property
    def _text_keys(self) -> NDArray[np.uint64]:
        """Content key of every response, shape (N,): one for all metrics of the texts."""
        texts = self.texts.response_text
        if not isinstance(texts, AnswerTexts):
            return text_keys(texts)
        readings = Readings(self.passages.cache.folder, writes=self.passages.peers.leads)
        keys = texts.keys(readings)
        self.passages.warnings += readings.warnings
        return keys

    # -- the scorer ----------------------------------------------------------------------------------------------

    def _ask_scorer(self, scores: Scores, spec: MetricSpec, rows: IntArray) -> None:
        """Scores under a scorer trained on the model as it is; the same forward gives the losses."""
        assert self.scorer is not None
        allowance = self.budget.per_time("scorer", 1 + self.n_refreshes)
        everything = np.ones(len(self.texts), dtype=np.bool_)
        n_asked, rows = len(rows), rows[self.scorer.spans.known[rows]]  # the others have no prompt: they are predicted
        fewest = self.budget.fewest("scorer")
        plan = self.scorer.plan(everything, allowance=allowance, refresh=0, fewest=fewest)
        key = self.passages.known.scorer_key(plan, self.scorer.settings.model)
        found, columns = self.passages.known.find(key, rows)
        read = np.stack([columns.get(name, np.zeros(len(rows))) for name in HEAD_COLUMNS], axis=1)
        about: Json = self.passages.known.about(key) if found.any() else {}
        if found.all():
            self.budget.charge("scorer", about["forward_tokens"], 0.0, found=about["forward_tokens"])
        else:  # the same again, where another run was killed in the middle: heads follow from the model and the plan
            training = self.scorer.train(everything, allowance=allowance, refresh=0, fewest=fewest)
            self.budget.charge("scorer", training.tokens, training.seconds)
            pairs, seconds = training.notes["pairs"], training.seconds
            self.passages.timings.append(Timing("scorer: its training", pairs, 0, training.tokens, seconds))
            about = {"forward_tokens": training.tokens, "notes": training.notes, "warnings": training.warnings}
            missing = np.flatnonzero(~found)
            if self.scorer.settings.model is None:
                reading = Reading(self.scorer.scores_reader(training.heads), HEAD_COLUMNS, key, about)
                taken = self.passages.take(HERE, rows[missing], reading=reading)
                read[missing] = taken.read
                if len(missing) == n_asked:
                    self._put(scores, HERE, rows, taken)  # else the cache has the others' losses too
            else:
                began = time.perf_counter()
                read[missing] = self.scorer.read(training.heads, rows[missing])
                tokens = int(self.feature_tokens()[rows[missing]].sum())
                self.budget.charge("scoring", tokens, time.perf_counter() - began)
                self.passages.known.keep(
                    key, rows[missing], dict(zip(HEAD_COLUMNS, read[missing].T, strict=True)), about
                )
        scores.warnings += about["warnings"]
        notes = {"rows_measured": len(rows), **about["notes"], "stability": spearman(read[:, 1], read[:, 2])}
        self.add(scores, spec, rows, read[:, 0], notes)

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
            features = {  # what is known of every row and costs nothing
                "response tokens": self.texts.response_tokens.astype(np.float64),
                "prompt tokens": self.texts.prompt_tokens.astype(np.float64),
                **{f"metric {label}": scores.by_label[label] for label in self.questions.texts},
                **({} if before is None else {"before": before}),
            }
            predicted = predict(rows, values, features, self.groups)
            notes = {
                "prediction_correlation": predicted.correlation,
                "stability": predicted.stability,
                **{name: value for name, value in notes.items() if name != "stability"},
            }
            values = predicted.scores
        else:
            values = values[np.argsort(rows, kind="stable")]
        scores.put(spec, values, notes)

    def combine(self, scores: Scores) -> None:
        """The ensembles, from the scores of their members; labels in the recipe's sequence, members behind them."""
        for spec in self.config.scored:
            if spec.label in self.questions.ensembles and spec.label not in unscored(self.config, self.budget.unpaid):
                scores.combine(spec, self.questions.ensembles[spec.label], self._groups_of[spec.label])
        labels = dict.fromkeys([*self.config.labels, *scores.by_label])
        scores.by_label = {label: scores.by_label[label] for label in labels if label in scores.by_label}


def most_paid_for(
    by_length: RowArray, price: IntArray, allowance: float, most: int, *, fewest: int, seed: Sequence[int]
) -> int:
    """The largest n ≤ `most` whose stratified sample the allowance pays for; `fewest` where none does.

    A sample of n + 1 lies, place by place from the end, nowhere before a sample of n, so its cost cannot fall where
    prices only rise along `by_length`. They do not where domains take turns or answers are read alone (measured: the
    cost fell at one n of six), so what is bisected is a bound below it: the cheapest row from each place on.

    Args:
        by_length: the rows, short ones first, shape (N,).
        price: forward tokens of each row, shape (N,).
        allowance: forward tokens.
        most: rows, fewer than N + 1.
        fewest: rows that are measured whatever they cost.
        seed: of the sample.
    """
    if most <= fewest:
        return most
    bound = np.empty_like(price)
    bound[by_length] = np.minimum.accumulate(price[by_length][::-1])[::-1]
    rising = range(fewest + 1, most + 1)
    n = fewest + bisect_right(rising, allowance, key=lambda n: bound[stratified_sample(by_length, n, seed=seed)].sum())
    while n > fewest and price[stratified_sample(by_length, n, seed=seed)].sum() > allowance:
        n -= 1
    return n


def unpaid_scores(config: CampusConfig, share: float, unpaid: Collection[Purpose], *, ahead: bool = True) -> str:
    """That rows cannot be drawn by scores that nothing pays for, and what to do.

    Args:
        config: settings.
        share: of the training compute that the fewest of them cost.
        unpaid: purposes that nothing is measured for.
        ahead: `campus-tune score` can score the rows before a run.
    """
    blocks = blocks_unpaid(config, unpaid)
    score = ", score the rows ahead with `campus-tune score`," if ahead else ""
    by = ", ".join(f"`{where}` {label}" for label, where in blocks.items())
    return (
        f"`budget` must pay for the scores that rows are drawn by ({by}), got {config.budget:g}: the fewest that can "
        f"be measured cost {share:.1%} of the training compute. Write budget: {rounded_up(share):g}{score} or take "
        "these blocks out of the recipe."
    )


def prediction_warnings(scores: Scores, asking: Asking, enough: Callable[[], float]) -> list[str]:
    """What a user must know of scores that were predicted for some rows.

    Args:
        scores: of the run.
        asking: that made them.
        enough: gives the budget that would have paid for all rows.
    """
    warnings, score = [], "; so does `campus-tune score`, ahead of training" if asking.ahead else ""
    for label, notes in scores.notes.items():
        if "prediction_correlation" in notes:
            warnings.append(
                f"`{label}` was measured on {notes['rows_measured']} of {len(asking.texts)} rows and predicted on the "
                f"others (cross-validated rank correlation {notes['prediction_correlation']:.2f}). budget: "
                f"{enough():g} pays for all of them{score}."
            )
    return warnings
