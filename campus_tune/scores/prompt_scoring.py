"""What scores the prompts of a run that is driven by reward: the same metrics, of prompts, and predicted pass rates.

Metrics of texts read the prompt. Metrics of losses, of the model in hand or of a smaller one, need something to be the
loss of: the reference answer of each prompt, in the column that `passes: answer` names. They are measured once, as the
model is before training; what it learns later, the rewards say.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from campus_tune.data.prepared import TokenRows, read_rows
from campus_tune.data.prompts import PROMPT, read_answers, read_prompts
from campus_tune.method.budget import PREDICTION, Budget, forward_ratio, rounded_up
from campus_tune.method.pass_rates import PassRates
from campus_tune.model import compat
from campus_tune.model.answer_alone import PadRight, Prepared
from campus_tune.model.answered import answered
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.passes_block import PassSettings
from campus_tune.scores.asking import Asking, prediction_warnings
from campus_tune.scores.pass_prediction import FEWEST_TRIED, PromptFeatures, predict_pass_rates, predict_spreads
from campus_tune.scores.passages import Passages
from campus_tune.scores.planning import MOST_PROCESSES, open_cache
from campus_tune.scores.prompt_features import prompt_features
from campus_tune.scores.questions import Questions, unscored
from campus_tune.scores.run_scores import Scores
from campus_tune.words.hashing import text_keys
from campus_tune.words.types import FloatArray, IntArray, Json, RowTexts

if TYPE_CHECKING:
    from transformers import Trainer


@dataclass
class PromptScoring:
    """Scores the prompts of one trainer, and predicts how they will pass.

    Args:
        config: resolved settings, their metrics such as prompts can have.
        asking: that makes the scores.
        peers: ranks.
    """

    config: CampusConfig
    asking: Asking
    peers: Peers
    _features: PromptFeatures | None = None  # read when they are first asked for

    @staticmethod
    def of(
        trainer: Trainer, config: CampusConfig, peers: Peers, *, n_answers: int, groups: IntArray | None
    ) -> PromptScoring:
        """For a trainer that is driven by reward; nothing is measured yet.

        Args:
            trainer: that is driven by reward.
            config: resolved settings, their metrics such as prompts can have.
            peers: ranks.
            n_answers: that the run will train, each as often as it is trained.
            groups: domain number of every prompt, shape (N,), or None.

        Raises:
            DataError: the column of reference answers is not there, or a row has no answer.
        """
        texts = read_prompts(compat.training_rows(trainer), compat.tokenizer_of(trainer))
        budget, questions = prompt_budget(trainer, config, texts, n_answers), Questions(config)
        dataset: Any = trainer.train_dataset
        rows = _without_answers(texts)
        answer = (config.passes or PassSettings()).answer
        answers = None if answer is None else read_answers(texts.columns, answer)
        if questions.passages or questions.rewards:
            assert answers is not None, "metrics that ask a model are refused where no column of answers is named"
            prompts, given = texts.columns[PROMPT], getattr(trainer.args, "chat_template_kwargs", None)
            dataset = answered(prompts, answers, compat.tokenizer_of(trainer), given=given or {})
            rows = read_rows(dataset, what="train_dataset")
        subject = partial(compat.subject, trainer)
        meter = LossMeter(subject, Prepared(dataset), PadRight(), rows.tokens, peers=peers, what="scoring")
        passages = Passages(trainer, dataset, rows, meter, open_cache(config, peers), peers)
        num_proc = getattr(trainer.args, "dataset_num_proc", None) or min(os.cpu_count() or 1, MOST_PROCESSES)
        asking = Asking(config, texts, passages, budget, groups=groups, num_proc=num_proc, ahead=False)
        return PromptScoring(config, asking, peers)

    @property
    def texts(self) -> RowTexts:
        """The prompts as metrics see them."""
        return self.asking.texts

    @property
    def rows(self) -> TokenRows:
        """Their token counts, and hashes of what is asked; with the reference answer where a model is asked for it."""
        return self.asking.passages.rows

    @property
    def budget(self) -> Budget:
        """Charged for what is measured."""
        return self.asking.budget

    def start(self) -> Scores:
        """Every score the recipe asks for, before the first step.

        Raises:
            MetricError: a metric whose scores do not order the prompts, or that needs what is not installed.
            RecipeError: the budget does not pay for scores that prompts are drawn by.
        """
        asking, scores = self.asking, self.asking.start()
        gone = sorted(unscored(self.config, self.budget.unpaid))
        if gone:
            share = self.budget.ratio * asking.fewest_cost() / self.budget.training_tokens
            scores.warnings.append(
                f"`budget: {self.config.budget:g}` does not pay for asking a model of the fewest prompts that say "
                f"anything: there is no order by {', '.join(gone)}. Write budget: {rounded_up(share):g} or more."
            )
        scores.warnings += prediction_warnings(scores, asking, self._pays_for_all)
        scores.warnings += [*asking.passages.warnings, *asking.passages.cache.warnings]
        return scores

    def _pays_for_all(self) -> float:
        """The budget that would have paid for scores of all prompts."""
        return rounded_up(self.budget.ratio * float(self.asking.start_tokens().sum()) / self.budget.training_tokens)

    def renew(self, rates: PassRates, scores: Mapping[str, FloatArray]) -> Json | None:
        """Tell the pass rates what to expect of every prompt, as those tell it that were tried: on every rank the same.

        Where rewards are of more than two values, also the chance that a group has a spread, which is what is drawn by.
        Where no feature says anything, they have a rate of their own for all prompts, which follows every generation.

        Args:
            rates: what rewards have shown so far; what they expect is renewed.
            scores: of the recipe's metrics by label, each of shape (N,).

        Returns:
            What the ledger says of it; None where too few prompts were tried to say anything, and where the recipe
            asks for no predictions.
        """
        if not (self.config.passes or PassSettings()).predict or np.count_nonzero(rates.tries) < FEWEST_TRIED:
            return None
        began = time.perf_counter()
        passing = self.peers.led(lambda: predict_pass_rates(rates, self._read_features(scores)))
        rates.expect(passing.rate if passing.used else None, passing.worth)
        told = {"of": "pass_rate", **passing.told()}
        if not rates.two_valued:
            spread = self.peers.led(lambda: predict_spreads(rates, self._read_features(scores)))
            rates.expect_spread(spread.rate if spread.used else None, spread.worth)
            told = {"of": "spread", **spread.told()}
        self.budget.charge(PREDICTION, 0, time.perf_counter() - began)
        return told

    def _read_features(self, scores: Mapping[str, FloatArray]) -> PromptFeatures:
        """Read once in a run."""
        if self._features is None:
            n, speaks = self.asking.num_proc, self.peers.leads
            self._features = prompt_features(self.texts, scores, num_proc=n, progress=speaks)
        return self._features


def prompt_budget(trainer: Trainer, config: CampusConfig, texts: RowTexts, n_answers: int) -> Budget:
    """What scoring prompts may cost: a share of the training compute, of which the prompts alone are counted.

    How long the model's answers will be nobody knows yet, nor what generating them costs: a run spends at most what
    `budget` says, and less.

    Args:
        trainer: whose model is trained.
        config: resolved settings.
        texts: of the prompts.
        n_answers: that the run will train, each as often as it is trained.
    """
    everything, trained = compat.parameter_counts(compat.model_of(trainer))
    ratio = forward_ratio(everything, trained, checkpointing=compat.checkpoints_activations(trainer))
    return Budget(config.budget, n_answers * float(np.mean(texts.prompt_tokens)), ratio, ("scoring", PREDICTION))


def _without_answers(texts: RowTexts) -> TokenRows:
    """Prompts as rows of which nothing is trained: their token counts, and hashes of what they say."""
    content, nothing = text_keys(texts.response_text), np.zeros(len(texts), dtype=np.int64)
    return TokenRows(texts.prompt_tokens, nothing, content, nothing, content, content, content)
