"""Stand-ins for parts that are being made: each goes when its part is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from campus_tune.metrics import build_metric
from campus_tune.model import compat
from campus_tune.scores.run_scores import Scores
from campus_tune.words.hashing import array_digest, text_keys
from campus_tune.words.types import RowTexts


def for_rewards(config: Any) -> Any:
    if config.only_waits:
        config = replace(config, weights=None, drop=None)
    if config.selector is None and len(config.metrics) > 1:
        config = replace(config, selector="round_robin")
    return config


def row_keys(rows: Iterable[Mapping[str, Any]]) -> Any:
    return text_keys([repr(sorted(row.items())) for row in rows])


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


@dataclass
class Heard:
    generation: int
    rows: Any
    weighted: Any
    by_function: Any
    completion_tokens: Any
    tells_apart: Any
    contradicting: Any


class RewardWatch:
    @staticmethod
    def on(trainer, heard, planned):
        self = RewardWatch()
        score = trainer._calculate_rewards
        G = trainer.num_generations

        def scored(inputs, prompts, completions, ids):
            out = score(inputs, prompts, completions, ids)
            if trainer.model.training:
                from accelerate.utils import gather_object

                generation = trainer._step // (trainer.args.steps_per_generation * trainer.num_iterations)
                own = out.double().cpu().numpy()
                w = (out * trainer.reward_weights.to(out.device)).nansum(1).view(-1, G).double().cpu().numpy()
                lengths = np.array(gather_object([len(i) for i in ids])).reshape(-1, G)
                by = {n: own[:, i].reshape(-1, G) for i, n in enumerate(trainer.reward_func_names)}
                apart = w.max(1) > w.min(1)
                heard(Heard(generation, planned(generation), w, by, lengths, apart, np.zeros(len(w), bool)))
            return out

        trainer._calculate_rewards = scored
        self.close = lambda: vars(trainer).pop("_calculate_rewards", None)
        return self


class PromptAudit:
    @staticmethod
    def on(trainer, dataset, keys, planned):
        self = PromptAudit()
        self.checked = self.passed = 0
        self.generations = [0, 0]
        make = trainer._generate_and_score_completions

        def made(inputs):
            if trainer.model.training:
                generation = trainer._step // (trainer.args.steps_per_generation * trainer.num_iterations)
                local = len(inputs)
                rank = trainer.accelerator.process_index
                rows = np.repeat(planned(generation), trainer.num_generations)[rank * local : (rank + 1) * local]
                self.generations[0] += 1
                self.generations[1] += [dataset[int(r)]["prompt"] for r in rows] == [x["prompt"] for x in inputs]
            return make(inputs)

        trainer._generate_and_score_completions = made
        self.close = lambda: vars(trainer).pop("_generate_and_score_completions", None)
        return self

    def begin(self):
        pass

    def settle(self, step):
        self.checked += 1
        self.passed += 1
