"""What a trainer by reward makes of other prompts: answers by its model, scored by its reward functions.

TRL can do so itself, as an evaluation between two steps; but it samples with the random states of the training, which
then goes another way. Here the model is asked with all modes and random states put back afterwards, so a run trains the
same answers with and without being looked at. The rewards are TRL's own (`_calculate_rewards`, a private name, tested
with the versions that we take): functions, async ones and reward models, with the columns of each row; what they log is
dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from campus_tune.data.prompt_rows import PROMPT
from campus_tune.data.shapes import has_turns
from campus_tune.model import compat
from campus_tune.model.subject import undisturbed, whole_root
from campus_tune.words.errors import DataError
from campus_tune.words.types import FloatArray, Json
from campus_tune.words.wording import listed

if TYPE_CHECKING:
    from transformers import Trainer

LOGS = ("_log_completion_extra", "_log_metric")  # of TRL's: what reward functions hand over goes into its next log line
SEED = 0  # of sampled answers, in every measurement
SHOWN = 3


@dataclass(frozen=True)
class AnswerRewards:
    """What some prompts were answered with.

    Args:
        rewards: of each prompt, weighted over the functions, mean of its answers, shape (N,).
        by_function: name of each function → its own, NaN where it said None of all answers, shape (N,).
        tokens: of all answers.
    """

    rewards: FloatArray
    by_function: dict[str, FloatArray]
    tokens: int


class PromptAnswers:
    """Asks a trainer's model the same prompts again and again.

    Args:
        trainer: TRL's GRPOTrainer or RLOOTrainer, on one process.
        rows: prompts with the columns that rewards read.
        places: what to call each in a message.
        samples: answers to each prompt, drawn as in training with the same seed every time; 0 takes one, the likeliest
            token by token.
    """

    def __init__(self, trainer: Trainer, rows: Sequence[Json], places: Sequence[str], *, samples: int = 0) -> None:
        self.trainer: Any = trainer
        self.rows, self.places, self.samples = rows, places, samples
        self._ids = [self._tokens_of(row[PROMPT]) for row in rows]
        # those of like length together, the longest first: what does not fit into memory says so at once
        self._sequence = sorted(range(len(rows)), key=lambda i: -len(self._ids[i]))

    def measure(self) -> AnswerRewards:
        """Answer and score all prompts.

        Raises:
            DataError: a prompt got no reward, or one that is no number; it is named.
        """
        n, each = len(self.rows), max(1, self.samples)
        names = list(self.trainer.reward_func_names)
        found = np.full((n, each, len(names)), np.nan)
        tokens = 0
        asked = [i for i in self._sequence for _ in range(each)]
        size = self.trainer.args.per_device_train_batch_size * self.trainer.args.steps_per_generation
        with undisturbed(compat.model_of(self.trainer)), self._unlogged():
            torch.manual_seed(SEED)
            for start in range(0, len(asked), size):  # as many at once as the training answers
                places = asked[start : start + size]
                answers = self._answers(places)
                tokens += sum(map(len, answers))
                scored = self._scored([self.rows[i] for i in places], answers)
                for at, (i, values) in enumerate(zip(places, scored, strict=True), start):
                    found[i, at % each] = values
        weights = self.trainer.reward_weights.double().cpu().numpy()  # (F,)
        self._refuse_no_number(found)
        with np.errstate(invalid="ignore"):
            weighted = np.where(np.isnan(found), 0.0, found * weights).sum(2)  # (N, K), as TRL adds them up
        tried = ~np.isnan(found)
        sums, counts = np.where(tried, found, 0.0).sum(1), tried.sum(1)  # (N, F)
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        return AnswerRewards(weighted.mean(1), {name: means[:, k] for k, name in enumerate(names)}, tokens)

    def _refuse_no_number(self, found: FloatArray) -> None:
        """Every answer must be worth something, else arms would be compared on other prompts."""
        unknown, endless = np.isnan(found), np.isinf(found)  # each of shape (N, K, F)
        none = unknown.sum(2) == unknown.shape[2]  # (N, K)
        for answers, got in ((none, "None or NaN of all functions"), (endless.sum(2) > 0, "an infinite one")):
            wrong = answers.sum(1) > 0  # (N,)
            if wrong.any():
                named = listed([self.places[int(i)] for i in np.flatnonzero(wrong)], SHOWN)
                raise DataError(
                    f"every test prompt must get a reward that is a number, got {got} for {int(wrong.sum())} of "
                    f"{len(self.rows)} ({named}). Correct the reward function, or remove these prompts."
                )

    def _tokens_of(self, prompt: Any) -> list[int]:
        """A prompt as the trainer's own would be tokenised."""
        tokenizer = compat.tokenizer_of(self.trainer)
        if not has_turns(prompt):
            return list(tokenizer(text=prompt)["input_ids"])
        kwargs = getattr(self.trainer, "chat_template_kwargs", None) or {}
        template = {"chat_template": compat.trained_template(self.trainer)}
        told = tokenizer.apply_chat_template(
            prompt, add_generation_prompt=True, tokenize=True, return_dict=True, **template, **kwargs
        )
        return list(told["input_ids"])

    def _answers(self, places: Sequence[int]) -> list[list[int]]:
        """The tokens of an answer to each of some prompts, its end among them."""
        from transformers import GenerationConfig

        trainer, subject = self.trainer, compat.subject(self.trainer)
        tokenizer = compat.tokenizer_of(trainer)
        ends = list(getattr(trainer, "eos_token_ids", None) or [tokenizer.eos_token_id])
        width = max(len(self._ids[i]) for i in places)
        ids = torch.full((len(places), width), int(tokenizer.pad_token_id))
        mask = torch.zeros_like(ids)
        for line, i in enumerate(places):  # padded on the left: answers begin in one column
            ids[line, width - len(self._ids[i]) :] = torch.tensor(self._ids[i])
            mask[line, width - len(self._ids[i]) :] = 1
        drawn = {
            name: getattr(trainer, name, None)
            for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        }
        config = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
            max_new_tokens=trainer.max_completion_length,
            do_sample=self.samples > 0,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=ends,
            disable_compile=True,
            **(drawn if self.samples else {}),
        )
        with whole_root(subject):
            out = subject.model.generate(
                input_ids=ids.to(subject.device),
                attention_mask=mask.to(subject.device),
                generation_config=config,
            )
        found = []
        for answer in out[:, width:].tolist():
            end = next((at + 1 for at, token in enumerate(answer) if token in ends), len(answer))
            found.append(answer[:end])
        return found

    def _scored(self, rows: Sequence[Json], answers: list[list[int]]) -> FloatArray:
        """Rewards of some answers by each function, shape (n, F); NaN is None."""
        prompts = [row[PROMPT] for row in rows]
        said = compat.tokenizer_of(self.trainer).batch_decode(answers, skip_special_tokens=True)
        talk = [[{"role": "assistant", "content": one}] for one in said] if has_turns(prompts[0]) else said
        scored = self.trainer._calculate_rewards([dict(row) for row in rows], prompts, talk, answers)
        values: FloatArray = scored.double().cpu().numpy()
        return values

    @contextmanager
    def _unlogged(self) -> Iterator[None]:
        """What reward functions log of these answers is not taken for what they log of trained ones."""
        own = {name: vars(self.trainer)[name] for name in LOGS if name in vars(self.trainer)}
        vars(self.trainer).update(dict.fromkeys(LOGS, lambda *_: None))
        try:
            yield
        finally:
            for name in LOGS:
                vars(self.trainer).pop(name, None)
            vars(self.trainer).update(own)
