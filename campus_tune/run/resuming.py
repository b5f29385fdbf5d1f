"""What a checkpoint holds of a run, and the run out of a checkpoint: no line of one without its line of the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from campus_tune.method.firing import Firing
from campus_tune.method.probe_history import ProbeHistory
from campus_tune.method.view import History, PastStage
from campus_tune.model import compat
from campus_tune.model.peers import Peers
from campus_tune.preview.cost_plan import unpaid_probes
from campus_tune.run.checkpoints import Checkpoint, bring_curriculum
from campus_tune.run.drawing import Drawing, make_drawing
from campus_tune.run.identity import cut_before
from campus_tune.run.ledger import FILE as LEDGER
from campus_tune.run.manifest import Beside
from campus_tune.run.probing import Probing
from campus_tune.run.saved_state import as_saved, refuse_misshapen
from campus_tune.run.saver import Saver
from campus_tune.run.situation import RECIPE, Outline, Position, Situation, complete
from campus_tune.run.stage_visits import FOLDER as VALUE
from campus_tune.run.stream.loop_state import LoopState
from campus_tune.run.stream.training_losses import FOLDER as LOSSES
from campus_tune.run.stream.training_losses import TrainingLosses, file_of_stage
from campus_tune.run.told import EXAMPLES
from campus_tune.run.told.dropped_rows import FILE as DROPPED
from campus_tune.run.told.events import Resumed, Warned
from campus_tune.scores.asking import Asking
from campus_tune.scores.questions import Questions
from campus_tune.scores.rescore import Rescorer
from campus_tune.scores.run_scores import Scores
from campus_tune.words.errors import ResumeError, TrainerError
from campus_tune.words.files import atomic_write
from campus_tune.words.types import Json

STATE_VERSION = 6


def state_of(now: Situation, position: Position, loop: LoopState) -> Json:
    """Everything a resumed run needs of its parts, as JSON.

    Args:
        now: the run.
        position: where it is.
        loop: of the trainer.
    """
    curriculum = now.curriculum
    inside = not loop.inside_step and curriculum.epoch == position.epoch and not curriculum.finished
    epoch_ended = inside and bool(now.trainer.control.should_epoch_stop)  # the trainer will leave it before a next step
    return {
        "version": STATE_VERSION,
        "identity": now.identity.record(),
        "curriculum": curriculum.state(),
        "competence": now.probing.competence.state(),
        "budget": now.budget.state(),
        "scores": now.start_digests,
        "rescoring": now.rescorer.state(),
        "training_losses": now.training_losses.state(),
        "rates": position.rates,
        "lr_tokens": position.lr_tokens,
        "offered": position.offered,
        **_steering_state(now),
        "loop": loop.state(epoch_over=epoch_ended or position.epoch not in (None, curriculum.epoch)),
        "epoch_ended": epoch_ended,
        "logged_step": position.logged_step,
        "padding": now.load.padding.state(),
        "audit": [now.watch.checked, now.watch.passed, now.watch.labels_seen],
        "journal": {**now.journal.state(), **now.probing.state()},
        **now.drawing.state(),
        **_weights_state(now, position),
        **({} if now.valuing is None else {"value": now.valuing.state()}),
    }


def _steering_state(now: Situation) -> Json:
    """What the probes have shown, and what rules have made of it; {} of a run without probes, steered by nothing."""
    parts: Json = {"helm": now.helm.state(), "measured": now.probing.record.state() if len(now.probing.record) else {}}
    parts["best"] = {} if now.best is None else now.best.state()
    parts["rewards"] = {} if now.rewards is None else now.rewards.state()
    return {name: state for name, state in parts.items() if state}


def _weights_state(now: Situation, position: Position) -> Json:
    """What only a weighted run has to remember beside its curriculum; {} of another."""
    if now.curriculum.weighting is None:
        return {}
    clipped = {} if now.clipped is None else {"clipped": now.clipped.state()}
    audit = [now.watch.weights_checked, now.watch.weights_passed]
    return {"weights_audit": audit, "warned": position.warned, **clipped}


def beside(now: Situation) -> Beside:
    """What a checkpoint that is saved now needs of the run's folder, and what the run has left there so far."""
    closed = now.curriculum.n_stages - (not now.curriculum.finished)
    folded = now.drawing.files(now.folder, now.training_losses.past)
    best = [] if now.best is None else now.best.files()
    best += [] if now.valuing is None else now.valuing.files()
    left = [EXAMPLES, DROPPED, *(f"{LOSSES}/{file_of_stage(stage)}" for stage in range(closed))]
    left += [f"{VALUE}/{file_of_stage(stage)}" for stage in range(closed)]
    left += [f"evaluation/stage-{stage:05d}.json" for stage in range(closed + 1)]
    left += [f"scores/{name}.parquet" for name in now.rescorer.earlier_names()]
    return Beside(
        ledger=LEDGER,
        ledger_size=now.journal.ledger.size,
        needed=(*(f"scores/{name}.parquet" for name in [*now.start_digests, *now.rescorer.names()]), *folded, *best),
        outcome=tuple(name for name in left if name not in folded and (now.folder / name).exists()),
    )


def restore(
    now: Outline, saver: Saver, loop: LoopState, step: int, checkpoint: Checkpoint | None, saved: Json | None
) -> tuple[Situation, Position]:
    """A run that goes on, and where it is.

    Args:
        now: its outline.
        saver: that counts its checkpoints.
        loop: of the trainer, which gets back what it had added up.
        step: of the checkpoint.
        checkpoint: that was found to be whole; None where nobody looked.
        saved: the curriculum's state in it.

    Raises:
        TrainerError: something else has resumed the trainer.
        ResumeError: the checkpoint is of another run or version, or its state or scores are damaged.
    """
    config, probing, budget = now.config, now.probing, now.budget
    if checkpoint is None:
        raise TrainerError(
            f"`train` must be told where to resume as resume_from_checkpoint, got a resume at step {step} that "
            "something else began: whether its checkpoint is whole was not asked. Call trainer.train("
            "resume_from_checkpoint=…); a train method of your own must have that parameter and pass it on."
        )
    if not saved:
        raise ResumeError(
            f"the checkpoint at step {step} must hold a curriculum state, got none: it was written without the "
            "CampusCallback. Resume from a checkpoint of this recipe, or train without resuming."
        )
    if saved.get("version") != STATE_VERSION:
        version, who = saved.get("version"), "campus_tune"
        who = who if isinstance(version, int) else f"trainer and the {who}"  # of a run of prompts it is a text
        raise ResumeError(
            f"the checkpoint at step {step} must hold a curriculum state of version {STATE_VERSION}, got {version!r}. "
            f"Resume with the {who} that wrote it, or train without resuming."
        )
    refuse_misshapen(saved, step)
    changed = config.resume == "changed_future"
    now.identity.refuse_other(saved["identity"], changed_future=changed)

    # The scores that it was planned with, and every part as it was.
    home, scoring = checkpoint.home, now.make_scoring()
    with as_saved(step):
        budget.load(saved["budget"])
    if changed and budget.share > saved["identity"]["future"].get("campus: budget", budget.share):
        budget.pay_again()
    scores, added = _scores_of(scoring, home, saved["scores"], now.peers, changed=changed)
    drawing = make_drawing(now, scores)
    start_digests = scores.digests()  # before re-scoring has its say
    curriculum, training_losses = now.make_curriculum(scores, drawing), TrainingLosses()
    rescorer = Rescorer(scoring, scores, curriculum, now.loaded.rows, home / "scores")
    with as_saved(step):
        training_losses.load(saved["training_losses"])
        firings = _take_record(saved, probing, drawing, training_losses.past)
        drawing.go_on(saved, curriculum, home, training_losses.past, now.peers, changed=changed)
        rescorer.load(saved["rescoring"])
        curriculum.load(saved["curriculum"])
        _take_what_it_keeps(now, saved, home)
    probing.report = saved["journal"]["probes"]
    probing.choose()
    with as_saved(step):
        loop.load(saved["loop"])

    # Nothing can refuse the resume any more: from here on the run's folder is written to.
    def move_in() -> None:
        saver.go_on(step)
        bring_curriculum(home, now.folder, now.journal.put_aside)

    now.peers.led(move_in)
    rescorer.folder = now.folder / "scores"
    world = saved["identity"]["batch"]["world"]
    now.journal.load(saved["journal"])
    drawn = drawing.told() if changed else {}
    cut = now.loaded.loader.cut
    cuts = (cut_before(saved["identity"], cut), cut)
    now.journal.take(Resumed(step, curriculum.n_stages - 1, before=world, now=now.peers.world, cuts=cuts, drawn=drawn))
    if changed and probing.tokens > budget.left and not curriculum.finished:  # the budget may be smaller than before
        now.journal.take(Warned([unpaid_probes(budget, probing.tokens)]))
    if world != now.peers.world:
        compat.seed_anew(config.seed or 0, step, now.peers.rank)  # no random state of this cut was saved
    if now.peers.leads:
        atomic_write(now.folder / RECIPE, config.to_yaml())  # its future may have changed
        scores.save_metrics(now.folder / "scores", now.loaded.rows, added)
        now.list_dropped(drawing)
    same_world = world == now.peers.world
    digests = {**saved["scores"], **{label: start_digests[label] for label in added}}
    parts = (scores, digests, curriculum, drawing, rescorer, training_losses)
    situation = complete(now, *parts, same_world=same_world)
    situation.load.padding.load(saved.get("padding"))
    watch = situation.watch
    watch.checked, watch.passed, watch.labels_seen = saved["audit"]
    watch.weights_checked, watch.weights_passed = saved.get("weights_audit", [0, 0])
    if situation.clipped is not None and "clipped" in saved:
        situation.clipped.load(saved["clipped"])
    situation.helm.load(firings)
    return situation, Position(
        rates=saved["rates"],
        lr_tokens=saved.get("lr_tokens", 0.0),
        offered=saved.get("offered", []),
        logged_step=saved["logged_step"],
        warned=saved.get("warned", []),
    )


def _take_record(saved: Json, probing: Probing, drawing: Drawing, past: Sequence[PastStage]) -> list[Firing]:
    """What the probes showed and what rules saw in it, as the current stage was opened by it; gives the firings."""
    probing.competence.load(saved["competence"])
    if "measured" in saved:
        probing.record = ProbeHistory.of(saved["measured"])
    firings = [Firing.of(line) for line in saved.get("helm", {}).get("firings", [])]
    if drawing.steering is not None:  # a curriculum and its passes ask for what it has moved
        drawing.steering.look(History(past, probing.competence.history, probing.record, tuple(firings)))
    return firings


def _take_what_it_keeps(now: Outline, saved: Json, home: Path) -> None:
    """Weights that a rule may go back to, and what a reward began to measure.

    Raises:
        ResumeError: the weights are not those of then.
    """
    if now.best is not None and "best" in saved:
        now.best.load(saved["best"], home)
    if now.rewards is not None and "rewards" in saved:
        now.rewards.load(saved["rewards"])
    if now.valuing is not None:
        now.valuing.load(saved.get("value"), home)


def _scores_of(
    scoring: Asking, home: Path, digests: Mapping[str, str], peers: Peers, *, changed: bool
) -> tuple[Scores, list[str]]:
    """The scores that a run was planned with, and which of them it was not: what the texts say can be asked later.

    Args:
        scoring: what scores the rows.
        home: the folder of the run that wrote the checkpoint.
        digests: what that remembers of them.
        peers: ranks; every one calls it.
        changed: the recipe may say something else than it did.

    Raises:
        ResumeError: they are missing or damaged, or the recipe asks for others that only the model could say.
    """
    config = scoring.config
    scores = peers.led(lambda: Scores.load(home / "scores", digests, Questions(config).passages))
    added = scoring.add_texts(scores) if changed else []
    scores.refuse_missing(config, scoring.budget.unpaid)
    return scores, added
