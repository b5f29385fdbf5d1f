"""All that happens between two stages of a run that is driven by reward, and at the end of the last one.

    close_stage    what its groups have shown (rewards, how many gave a gradient, the audit), and what that predicts
    decide_next    the next choice

Every rank comes here at the same step with the same numbers: the trainer gathers rewards anyway.
"""

from __future__ import annotations

from campus_tune.method.decide import decide
from campus_tune.method.drawn import of_end, of_stage
from campus_tune.method.selectors import RaceResult
from campus_tune.method.view import History, PastStage, View
from campus_tune.run.activity import DECIDING
from campus_tune.run.decide import record_of
from campus_tune.run.prompts.situation import PromptPosition, PromptSituation
from campus_tune.run.told.events import Decided, Ended, EpochEnded, StageEnded, Warned
from campus_tune.run.told.prompt_lines import prompt_warnings
from campus_tune.words.types import Json


def close_stage(now: PromptSituation, position: PromptPosition) -> bool:
    """A stage ends: after its last round, or where the run or the epoch ends inside of it.

    Returns:
        Whether anything of it was trained, and it is not closed yet; else there is nothing to close.
    """
    stage, curriculum = now.curriculum.stage, now.curriculum
    closed = bool(now.past) and stage is not None and now.past[-1].index == stage.index
    if stage is None or closed or curriculum.step == stage.first_step:
        return False
    with now.activities(DECIDING):  # what the stage has shown tells of the prompts that were never tried
        prediction = now.scoring.renew(now.rates, now.scores.by_label)
    shuffled = now.rates.shuffled_share(None if now.dropped is None else ~now.dropped.mask)
    end: Json = {
        "stage": stage.index,
        "step": position.steps,
        "generation": now.generation,
        "chosen": stage.chosen,
        **now.groups.record(shuffled),
        "learning_rate": position.rates / max(1, position.stage_steps),  # mean of its steps
        "audit": audit(now),
        "prediction": prediction,
        "cost": now.budget.shares(),
        "seconds": _seconds(now),
    }
    now.journal.take(StageEnded(end))
    if warnings := prompt_warnings(end, position.warned):
        position.warned += warnings
        now.journal.take(Warned(list(warnings.values())))
    now.groups.close(now.folder if now.peers.leads else None, stage.index, shuffled)
    now.past.append(
        PastStage(stage.index, stage.chosen, curriculum.step, offered=tuple(position.offered), lr_mass=position.rates)
    )
    position.rates, position.stage_steps = 0.0, 0
    return True


def leave_epoch(now: PromptSituation, position: PromptPosition) -> None:
    """The rest of the epoch is left out; the next one begins with a decision of its own.

    A round that was begun counts as trained, with the prompts of generations of it that were not made.
    """
    epoch = now.curriculum.epoch
    close_stage(now, position)
    left_out = now.curriculum.end_epoch() * now.rounds.steps
    now.journal.take(EpochEnded(position.steps, epoch, left_out))
    decide_next(now, position)


def decide_next(now: PromptSituation, position: PromptPosition) -> None:
    """A stage is closed, or none is open yet: decide the next one."""
    curriculum, rounds = now.curriculum, now.rounds
    if curriculum.finished:
        return
    with now.activities(DECIDING):
        choice = decide(
            curriculum, now.selector, _measures_nothing, history=History(now.past), agree=now.peers.from_leader
        )
        stage = choice.stage
        record = record_of(
            choice,
            tokens=int(now.scoring.rows.tokens[stage.rows].sum()) * rounds.group,
            rows_by_choice=dict(curriculum.rows_by_choice),
            drawn=of_stage(curriculum, stage),
        )
        steps = min(stage.n_steps * rounds.steps, now.total_steps - position.steps)
        record |= {"step": position.steps, "steps": steps, "generation": now.generation}
        position.offered = list(choice.offered)
    now.journal.take(Decided(record, {}, now.budget.spent_share()))


def _measures_nothing(view: View) -> RaceResult:
    """No selector of such a run asks for losses."""
    raise AssertionError(f"a selector of {view.names} asks for losses of prompts, which have none")


def audit(now: PromptSituation) -> Json:
    """Optimizer steps that were checked and that passed, and generations, on every rank."""
    mine = (now.audit.checked, now.audit.passed, *now.audit.generations)
    checked, passed, made, planned = (min(counts) for counts in zip(*now.peers.gather(mine), strict=True))
    return {"checked": checked, "passed": passed, "labels": False, "prompts": True, "generations": [made, planned]}


def summed_up(now: PromptSituation, position: PromptPosition) -> Ended:
    """What there is to say of a run when it is over.

    Args:
        now: the run.
        position: where it has ended.
    """
    seen, repeated = now.curriculum.coverage_counts()
    return Ended(
        {
            "step": position.steps,
            "generation": now.generation,
            "n_rows": now.n_prompts,
            "rows_seen": seen,
            "rows_repeated": repeated,
            "visits": seen + repeated,
            "coverage": now.config.coverage,
            "rows_by_choice": now.curriculum.rows_by_choice,
            **of_end(now.curriculum),
            **now.groups.totals(),
            "audit": audit(now),
            "budget": now.config.budget,
            "competence": {},
            "cost": now.budget.shares(),
            "found": now.budget.found_share(),
            "seconds": _seconds(now),
        }
    )


def _seconds(now: PromptSituation) -> dict[str, float]:
    return {"share": now.budget.clock_share(), **now.budget.seconds}
