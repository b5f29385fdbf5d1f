"""What a run that is driven by reward leaves of its prompts when it is over: their map, and the texts of some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from campus_tune.method.pass_rates import PassRates
from campus_tune.run.prompt_map import make_prompt_map
from campus_tune.run.told.events import PromptsMapped, Warned
from campus_tune.words.errors import CampusError
from campus_tune.words.types import FloatArray, Json

if TYPE_CHECKING:
    from campus_tune.run.prompts.situation import PromptSituation


def expected_rates(rates: PassRates) -> FloatArray:
    """The pass rate that is expected of each prompt by now, NaN where nothing is known of it, shape (N,).

    That is the mean of the posterior, of a prompt that was tried or of which something is predicted.

    Args:
        rates: what rewards have shown.
    """
    a, b = rates.posterior()
    predicted = rates.rate is not None and bool(np.ptp(rates.rate) > 0)  # else every prompt is given the same
    return np.where(predicted | (rates.tries > 0), a / (a + b), np.nan)


def map_prompts(now: PromptSituation) -> None:
    """Make the map of a run that is over and tell of it, or why there is none; every rank calls it.

    Args:
        now: the run, all of its stages closed.
    """

    def make() -> tuple[Json, str]:
        try:
            found = make_prompt_map(
                now.folder,
                [stage.index for stage in now.past],
                now.groups.domains,
                n_rows=now.n_prompts,
                at=now.rates.at,
                texts=lambda rows: [prompt_text(now.loader.dataset[row]["prompt"]) for row in rows],
                predicted=expected_rates(now.rates),
            )
        except Exception as error:  # a file is gone, the disk is full: what was trained is whole
            return {}, str(error) if isinstance(error, CampusError) else f"{type(error).__name__}: {error}"
        return found, ""

    record, problem = now.peers.led(make)
    if problem:
        now.journal.take(Warned([f"no map of the prompts: {problem}"]))
    else:
        now.journal.take(PromptsMapped({"step": now.trainer.state.global_step, **record}))


def prompt_text(prompt: Any) -> str:
    r"""A prompt as a person reads it: a text as it is, of a conversation who says what.

    Args:
        prompt: as the training set has it.

    >>> prompt_text([{"role": "system", "content": "Be short."}, {"role": "user", "content": "2 + 2?"}])
    'system: Be short.\nuser: 2 + 2?'
    >>> prompt_text([{"role": "user", "content": [{"type": "text", "text": "2 + 2?"}]}])
    '2 + 2?'
    """
    if isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, Sequence):
        return str(prompt)
    said = []
    for message in prompt:
        content = message.get("content") or ""
        parts = [{"text": content}] if isinstance(content, str) else content  # a message may say it in parts
        said.append((message.get("role", ""), "".join(str(part.get("text") or "") for part in parts)))
    return said[0][1] if len(said) == 1 else "\n".join(f"{who}: {what}" for who, what in said)
