"""All that happens between two stages, and at the end of the last one.

    close_stage    what its own forwards have shown, for free: losses, the audit, the load of each rank
    decide_next    official tasks, probes and re-scoring where they are due, and the next choice

A whole epoch may be left out in between (`leave_epoch`). Every rank comes here at the same step and does the same;
what costs forwards is charged to the budget, but for official tasks, which only watch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from campus_tune.method.decide import ONE_OFFER
from campus_tune.method.drawn import of_end
from campus_tune.method.view import PastStage
from campus_tune.method.weighed import of_stage
from campus_tune.run.activity import DECIDING, EVALUATING, PROBING, RESCORING, SAVING, VALUING
from campus_tune.run.ledger import FILE as LEDGER
from campus_tune.run.ledger import read_ledger
from campus_tune.run.situation import Position, Situation
from campus_tune.run.stream.training_losses import FOLDER as LOSSES
from campus_tune.run.told.events import (
    Decided,
    Ended,
    EpochEnded,
    Evaluated,
    Probed,
    Rescored,
    SignSeen,
    StageEnded,
    Suspected,
    Warned,
)
from campus_tune.run.told.steering_lines import steering_warnings
from campus_tune.run.told.weight_lines import changed_nothing, warnings_of
from campus_tune.words.errors import DivergedError
from campus_tune.words.types import Json


def share_losses(now: Situation) -> None:
    """Every rank's training losses to all ranks.

    Raises:
        AuditError: a step trained something else than planned: all of them are compared for this.
    """
    stage = now.curriculum.stage
    harvest = now.watch.harvest()
    now.training_losses.add(harvest.rows, harvest.losses, harvest.weights, harvest.parts)
    if now.valuing is not None:
        now.valuing.add(harvest)
    earning, weighting = now.drawing.earning, now.curriculum.weighting
    if earning is not None and not earning.earned and weighting is not None and weighting.waits:
        reasons = now.peers.gather(now.watch.cannot_weigh)  # of the first step, which a checkpoint must remember
        earning.cannot = earning.cannot or next(filter(None, reasons), "")
    if stage is not None:  # else nothing was trained since the last one was closed
        now.training_losses.share(now.peers, stage.rows)


def settle(now: Situation) -> None:
    """The weights are finite, on every rank.

    Raises:
        DivergedError: they are not.
    """
    before = now.finite.seconds
    with now.activities(SAVING):
        now.finite.settle()
    now.budget.seconds["checking"] += now.finite.seconds - before


def close_stage(now: Situation, position: Position) -> bool:
    """A stage ends: after its last step, or where the run or the epoch ends inside of it.

    Returns:
        Whether anything of it was trained; else there is nothing to close.

    Raises:
        DivergedError: its loss is not finite.
    """
    stage, curriculum = now.curriculum.stage, now.curriculum
    if stage is None or curriculum.step == stage.first_step:
        return False
    share_losses(now)
    now.rescorer.add_free(now.training_losses.rows, now.training_losses.losses)
    summary = now.training_losses.summary(now.domains)
    if not math.isfinite(summary.get("train_loss", 0.0)):
        settle(now)  # says more, where it finds the cause in the weights
        raise DivergedError(
            f"the training loss of stage {stage.index} must be finite, got {summary['train_loss']}. The model has "
            "diverged: lower the learning rate, or resume from an earlier checkpoint."
        )
    end: Json = {"stage": stage.index, "step": curriculum.step, "chosen": stage.chosen, **summary}
    if now.book is not None and len(now.training_losses.rows):
        now.book.close_stage(stage.index, curriculum.step, now.training_losses.rows, now.training_losses.losses)
    end["learning_rate"] = position.rates / (curriculum.step - stage.first_step)  # mean of its steps
    end["audit"] = audit(now)
    end |= close_weights(now)
    end |= {} if now.valuing is None else {"value": now.valuing.close_stage(stage.index)}
    end |= now.load.close_stage(now.watch.forward_seconds())
    now.journal.take(StageEnded({**end, "cost": now.budget.shares(), "seconds": _seconds(now)}))
    if warnings := warnings_of(end, position.warned):
        position.warned += warnings
        now.journal.take(Warned(list(warnings.values())))
    past = past_stage(now, position, summary)
    now.training_losses.close_stage(now.folder / LOSSES if now.peers.leads else None, past)
    position.rates = position.lr_tokens = 0.0
    return True


def past_stage(now: Situation, position: Position, summary: Json) -> PastStage:
    """What policies are shown of the stage that ends.

    Args:
        now: the run.
        position: where it is.
        summary: of the stage's training losses.
    """
    stage, curriculum, shown = now.curriculum.stage, now.curriculum, now.training_losses
    assert stage is not None, "a stage that ends was begun"
    trained = stage.rows[: (curriculum.step - stage.first_step) * curriculum.global_batch]
    losses, again = shown.losses, curriculum.passes.seen[shown.rows] > 1
    own, norm = (None, None) if now.rewards is None else now.rewards.close_stage()
    return PastStage(
        stage.index,
        stage.chosen,
        curriculum.step,
        summary.get("train_loss"),
        summary.get("train_loss_by_domain", {}),
        offered=tuple(position.offered),
        tokens=int(now.loaded.rows.tokens[trained].sum()),
        lr_mass=position.rates,
        lr_tokens=position.lr_tokens,
        again=(int(losses.top1[again].sum()), int(losses.tokens[again].sum())),
        own_gain=own,
        norm_gain=norm,
        **shares_of_stage(now),
    )


def shares_of_stage(now: Situation) -> Json:
    """Losses and shares of each stratum in the stage that ends, where shares go by the record; {} else."""
    apart, stage, shown = now.curriculum.apart, now.curriculum.stage, now.training_losses
    by = now.drawing.shares_by
    if by is None or stage is None:
        return {}
    codes, names = by.codes[shown.rows], by.strata_names
    nats = np.bincount(codes, shown.losses.nll_sum, len(names)).tolist()
    tokens = np.bincount(codes, shown.losses.tokens, len(names)).astype(int).tolist()
    sums = {name: (nll, n) for name, nll, n in zip(names, nats, tokens, strict=True) if n}
    drawn = stage.draw.shares if apart is not None and stage.draw is not None else ()
    shares = dict(zip(names, drawn, strict=False)) if len(drawn) == len(names) else {}
    return {"sums": sums, "shares": shares}


def close_weights(now: Situation) -> Json:
    """What there is to say of a stage's weights; its losses become the level of the next one. {} without weights."""
    curriculum, shown = now.curriculum, now.training_losses
    if curriculum.weighting is None:
        return {}
    rows, losses = shown.rows, shown.losses
    with np.errstate(divide="ignore", invalid="ignore"):
        curriculum.weighting.close(rows, losses.per_row(), losses.tokens, shown.parts)
    clipped = {} if now.clipped is None else {"clipped_steps": now.clipped.take()}
    if curriculum.weighting.idle:
        return {}
    said = of_stage(rows, shown.weights, losses, curriculum.weighting.domains, curriculum.live)
    return {**said, **clipped, **weights_audit(now)}


def close_cut_stage(now: Situation, position: Position) -> None:
    """A run goes on, and decides first: a stage that a changed recipe lets end here is not closed yet.

    One that ended by itself is: the run has come to its end, and is longer now.
    """
    stage, past = now.curriculum.stage, now.training_losses.past
    if stage is not None and (past[-1].index < stage.index if past else stage.index == 0):
        close_stage(now, position)


def leave_epoch(now: Situation, position: Position) -> None:
    """The rest of the epoch is left out; the next one begins with a decision of its own."""
    epoch = now.curriculum.epoch
    close_stage(now, position)
    left_out = now.curriculum.end_epoch()
    now.journal.take(EpochEnded(now.curriculum.step, epoch, left_out))
    decide_next(now, position)


def decide_next(now: Situation, position: Position) -> None:
    """A stage is closed, or none is open yet: decide the next one, or measure a last time."""
    curriculum, probing, budget = now.curriculum, now.probing, now.budget
    if curriculum.finished:
        measure_probes(now, ends=True)
    if now.evaluator.due(curriculum.n_stages, ends=curriculum.finished):
        with now.activities(EVALUATING):
            scored = now.evaluator.evaluate(curriculum.n_stages)
        now.journal.take(Evaluated({"stage": curriculum.n_stages, "step": curriculum.step, **scored}))
    if curriculum.finished:
        return

    with now.activities(DECIDING):
        look_for_wrong_rows(now)
        act_on_suspects(now)
        if probing.due(curriculum.n_stages):
            measure_probes(now)
        if now.valuing is not None and now.valuing.due(curriculum.n_stages):
            with now.activities(VALUING):
                now.valuing.measure(curriculum.step, curriculum.n_stages)
        history, step = now.helm.look(now), curriculum.step
        now.helm.tell_shares(now)
        refreshes = now.refreshes_to_come(step)
        if now.rescorer.due():
            with now.activities(RESCORING):
                rescored, warnings = now.rescorer.again(1 + refreshes)
            now.journal.take(Rescored({"stage": curriculum.n_stages, "step": step, **rescored}, warnings))
        # What this decision may spend: its share of what is left once the probes and re-scorings to come are paid for.
        reserved = now.stages_between(step, now.total_steps) // probing.every * float(probing.tokens)
        if refreshes:
            reserved += sum(budget.per_time(purpose, 1) for purpose in budget.to_come)
        allowance = budget.per_decision(now.stages_between(step, curriculum.handover_step), reserved)
        record = now.decider.decide(
            curriculum,
            probe_loss=probing.loss,
            allowance=allowance,
            history=history,
            n_left=now.stages_between(step, thinned_until(now)),
            shown=now.training_losses.before,
        )
        nothing = record["outcome"] == ONE_OFFER  # to choose
        position.offered = [] if nothing else [offer["name"] for offer in record.get("offers", [])]
        if now.rewards is not None and curriculum.stage is not None:
            now.rewards.open_stage(curriculum.stage)
        now.journal.take(Decided(record, probing.report, budget.spent_share()))


def look_for_wrong_rows(now: Situation) -> None:
    """Look at the run's record, if something in the recipe waits for a sign in it."""
    earning, curriculum, past = now.drawing.earning, now.curriculum, now.training_losses.past
    if earning is None or not past or not earning.due(past, curriculum.global_batch):
        return
    look, weighting = earning.look(now.folder, past, now.peers), curriculum.weighting
    if not earning.note(look):
        return
    if weighting is not None and weighting.waits:
        weighting.earned = not earning.cannot
    now.journal.take(SignSeen(earning.record(look)))


def give_up_looking(now: Situation) -> None:
    """The run is over, and nothing has acted that waited for a sign of wrong rows: say what there was to see."""
    earning, past = now.drawing.earning, now.training_losses.past
    if earning is not None and not earning.earned and past:
        look = earning.look(now.folder, past, now.peers, ends=True)
        now.journal.take(SignSeen(earning.record(look, ends=True)))


def act_on_suspects(now: Situation) -> None:
    """Leave out the rows that look wrong, if the recipe says so and it is time: once in a run."""
    suspects = now.drawing.suspects
    if suspects is None or suspects.acted is not None or not suspects.acting.due(now.curriculum):
        return
    if not now.drawing.may_drop:
        return
    acted = suspects.act(now.curriculum, now.folder, now.training_losses.past, now.peers)
    now.journal.take(Suspected(acted.record))
    if now.peers.leads and len(acted.rows):
        now.list_dropped(now.drawing)


def give_up_suspects(now: Situation) -> None:
    """The run is over, and it was never time to leave suspects out: say so."""
    suspects = now.drawing.suspects
    if suspects is not None and suspects.acted is None:
        now.journal.take(Suspected(suspects.why_not(now.curriculum, earned=now.drawing.may_drop)))


def give_up_weights(now: Situation) -> None:
    """The run is over, and no row ever counted otherwise: say so."""
    weighting = now.curriculum.weighting
    if weighting is not None and not weighting.idle and now.peers.leads:
        idle = changed_nothing(read_ledger(now.folder / LEDGER))
        if idle is not None:
            now.journal.take(Warned([idle]))


def give_up_steering(now: Situation) -> None:
    """The run is over: say what rules saw and what was done about it did not end."""
    if now.helm.firings and now.peers.leads:
        open_still = steering_warnings(read_ledger(now.folder / LEDGER))
        if open_still:
            now.journal.take(Warned(open_still))


def thinned_until(now: Situation) -> int:
    """The step at which thinning ends."""
    thin = now.config.thin
    return math.ceil((1.0 if thin is None else thin.until) * now.total_steps)


def measure_probes(now: Situation, *, ends: bool = False) -> None:
    """How well the model does on the held-out rows, if there are any; and what rules see in that.

    Args:
        now: the run.
        ends: it is over: what is seen is told, and nothing is done about it.
    """
    with now.activities(PROBING):
        measured = now.probing.measure(now.helm.at(now))
    if measured:
        now.journal.take(Probed(now.curriculum.step, now.probing.report))
        now.helm.measured(now, ends=ends)


def audit(now: Situation) -> Json:
    """Steps that were checked, that passed, and whether labels were seen in all of them, on every rank."""
    mine = (now.watch.checked, now.watch.passed, now.watch.labels_seen)
    checked, passed, labels = (min(counts) for counts in zip(*now.peers.gather(mine), strict=True))
    return {"checked": checked, "passed": passed, "labels": labels}


def weights_audit(now: Situation) -> Json:
    """Steps whose weights were checked, and that passed, on every rank; {} where nothing was ever multiplied."""
    if now.curriculum.weighting is None or now.curriculum.weighting.idle:
        return {}
    mine = (now.watch.weights_checked, now.watch.weights_passed)
    return {"weights_audit": [min(counts) for counts in zip(*now.peers.gather(mine), strict=True)]}


def summed_up(now: Situation, advice: Sequence[Json] = (), dirt: Json | None = None) -> Ended:
    """What there is to say of a run when it is over.

    Args:
        now: the run.
        advice: that it gives.
        dirt: how many of its rows are wrong; None where nothing tells.
    """
    seen, repeated = now.curriculum.coverage_counts()
    return Ended(
        {
            "step": now.curriculum.step,
            "n_rows": len(now.loaded.rows),
            "rows_seen": seen,
            "rows_repeated": repeated,
            "visits": seen + repeated,
            "coverage": now.config.coverage,
            "rows_by_choice": now.curriculum.rows_by_choice,
            **of_end(now.curriculum),
            **now.drawing.told_at_end(),
            "audit": audit(now),
            **weights_audit(now),
            "budget": now.config.budget,
            **now.load.total(),
            **now.load.padding.told(now.loaded.rows.tokens, now.curriculum.visits()),
            "competence": now.probing.changes(),
            **({"smallest_rise": power} if (power := now.helm.power(now)) else {}),
            **({} if dirt is None else {"dirt": dirt}),
            **({"advice": list(advice)} if advice else {}),
            "cost": now.budget.shares(),
            "found": now.budget.found_share(),
            "seconds": _seconds(now),
        }
    )


def _seconds(now: Situation) -> dict[str, float]:
    return {"share": now.budget.clock_share(), **now.budget.seconds}
