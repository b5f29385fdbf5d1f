"""Runs that are driven by reward, as the ranks of `tests.distributed.ranks` train them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from campus_tune.words.types import Json
from tests.distributed.scenarios import _beat, digest, save_at, stop_before, train_until


def train(
    out: str,
    kind: str = "grpo",
    *,
    config: Any = None,
    saves: tuple[int, ...] = (),
    saves_itself: bool = False,
    stop: int | None = None,
    resume: bool = False,
    **settings: Any,
) -> Json:
    """One run of `tiny_prompts.reward_trainer` with a curriculum.

    Args:
        out: output_dir.
        kind: "grpo" or "rloo".
        config: recipe of the CampusCallback.
        saves: steps after which a checkpoint is written.
        saves_itself: a callback before ours saves too, in the middle of steps.
        stop: step before which training breaks off on every rank, as by Ctrl-C.
        resume: go on from the last checkpoint.
        settings: of `reward_trainer`.

    Returns:
        first: steps done before; asked: prompts of each generation of this life on this rank, each once per answer;
        history: the trainer's log; weights: a digest of them; stopped: training broke off.
    """
    from tests.run.prompts.tiny_prompts import SavesInside, reward_trainer
    from tests.run.tiny_run import history_of

    stopper, beat = stop_before(stop), _beat(Path(f"{out}.beats"), lambda: None)
    ours: Json = {"before": [SavesInside()] * saves_itself, "callbacks": [save_at(*saves), stopper, beat]}
    trainer = reward_trainer(Path(out), kind, config=config, **ours, **settings)
    asked: list[list[str]] = []
    answer = trainer._generate_and_score_completions

    def answered(inputs: Any) -> Any:
        asked.append([row["prompt"] for row in inputs])
        return answer(inputs)

    trainer._generate_and_score_completions = answered
    train_until(trainer, stopper, resume=resume)
    return {
        "first": beat.first,
        "asked": asked,
        "history": history_of(trainer),
        "weights": digest(trainer.model),
        "stopped": stopper.reached,
    }


def heard(out: str, kind: str, *, fails_on: int | None = None, shift: int | None = None, **settings: Any) -> Json:
    """Two generations without a curriculum, heard and audited on every rank.

    Args:
        out: output_dir.
        kind: "grpo" or "rloo".
        fails_on: row on whose answers the reward function fails.
        shift: rank that is handed its rows in another sequence.
        settings: of `reward_trainer`.

    Returns:
        rows, weighted, tokens, contradicting: of each generation, as heard; asked: rows of each on this rank, as the
        reward function saw them; own: the rewards it gave them; counts: of the audit.
    """
    from tests.run.prompts.planned_loader import PlannedRun
    from tests.run.prompts.tiny_prompts import passes, reward_trainer

    asked: list[list[int]] = []
    own: list[list[float]] = []

    def judge(completion_ids: Any, cut: Any, prompts: list[str], **_: Any) -> list[float]:
        if fails_on is not None and any(f"task {fails_on} " in prompt for prompt in prompts):
            raise LookupError("no answer is known")
        asked.append([int(prompt.split()[1]) for prompt in prompts])
        own.append(passes(completion_ids, cut))
        return own[-1]

    trainer = reward_trainer(Path(out), kind, config=False, rewards=judge, **settings)
    run = PlannedRun(trainer, 2)
    if shift == trainer.accelerator.process_index:
        run.change = lambda micro, batch: batch[1:] + batch[:1]  # noqa: ARG005
    run.train()
    return {
        "rows": [one.rows.tolist() for one in run.heard],
        "weighted": [one.weighted.tolist() for one in run.heard],
        "tokens": [one.completion_tokens.tolist() for one in run.heard],
        "contradicting": [one.contradicting.tolist() for one in run.heard],
        "asked": asked,
        "own": own,
        "counts": [run.audit.checked, run.audit.passed, *run.audit.generations],
        "weights": digest(trainer.model),
    }
