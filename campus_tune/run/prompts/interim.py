"""Stand-ins for parts that are being made: each goes when its part is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from campus_tune.metrics import build_metric
from campus_tune.model import compat
from campus_tune.scores.run_scores import Scores
from campus_tune.words.hashing import array_digest, text_keys
from campus_tune.words.types import RowTexts


@dataclass
class _Rows:
    tokens: Any
    content: Any

    def __len__(self):
        return len(self.tokens)

    def fingerprint(self):
        return array_digest(self.content)


class PromptScoring:
    def __init__(self, trainer, config, budget):
        dataset = trainer.train_dataset
        texts = [p if isinstance(p, str) else "\n".join(m["content"] for m in p) for p in dataset["prompt"]]
        counts = np.array([len(ids) for ids in compat.tokenizer_of(trainer)(texts)["input_ids"]])
        self.config, self.budget = config, budget
        self.texts = RowTexts(texts, counts, counts * 0, {name: dataset[name] for name in dataset.column_names})
        self.rows = _Rows(counts, text_keys(texts))

    @staticmethod
    def of(trainer, config, peers, *, training_tokens):
        from campus_tune.preview.setup import make_budget

        return PromptScoring(trainer, config, make_budget(trainer, config, training_tokens, 0))

    def start(self):
        scores = Scores()
        for spec in self.config.scored:
            metric = build_metric(spec)
            if hasattr(metric, "scores"):
                scores.put_texts(spec, metric, self.texts, metric.scores(self.texts))
        return scores

    def predict(self, rates):
        return None

    def told(self, prediction):
        return {}
