"""What a checkpoint holds of a run of prompts, and the run out of a checkpoint: no line of one without the other.

trainer_state.json                    where the curriculum stands, its stages, the budget, the end of the ledger
campus_prompts.safetensors            what rewards have shown of the prompts, over the run and in the stage
campus_generation-RANK.*              the generation in progress, and what was compared of it (`kept`)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from campus_tune.method.view import PastStage
from campus_tune.model.generated import not_kept
from campus_tune.run.answer_groups import FOLDER, file_of_stage
from campus_tune.run.checkpoints import Checkpoint, bring_curriculum
from campus_tune.run.ledger import FILE as LEDGER
from campus_tune.run.manifest import Beside
from campus_tune.run.prompts.identity import refuse_other
from campus_tune.run.prompts.kept import read_arrays, write_arrays
from campus_tune.run.prompts.situation import PromptOutline, PromptPosition, PromptSituation, complete
from campus_tune.run.saved_state import BUDGET, CURRICULUM, LOOP, PAST, as_saved, refuse_misshapen
from campus_tune.run.saver import Saver
from campus_tune.run.situation import RECIPE
from campus_tune.run.stream.loop_state import LoopState
from campus_tune.run.told.dropped_rows import FILE as DROPPED
from campus_tune.run.told.events import Resumed, Warned
from campus_tune.run.told.examples import FILE as EXAMPLES
from campus_tune.scores.dropping import Dropped
from campus_tune.scores.questions import Questions
from campus_tune.scores.run_scores import Scores
from campus_tune.words.errors import ResumeError, TrainerError
from campus_tune.words.files import atomic_write
from campus_tune.words.hashing import array_digest
from campus_tune.words.types import Json

VERSION = "prompts 1"  # of rows it is a number
SHAPE: dict[str, Any] = {
    "identity": {"past": {}, "future": {}, "batch": {"world": int}, "prepared": {}},
    "curriculum": CURRICULUM,
    "budget": BUDGET,
    "scores": {str: str},
    "past": [PAST],
    "position": {
        "steps": int,
        "inside": int,
        "rates": float,
        "stage_steps": int,
        "offered": [str],
        "warned": [str],
    },
    "loop": LOOP,
    "epoch_ended": bool,
    "journal": {"size": int, "pending": {}},
    "dropped?": str,
}


def state_of(now: PromptSituation, position: PromptPosition, loop: LoopState) -> Json:
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
        "version": VERSION,
        "identity": now.identity.record(),
        "curriculum": curriculum.state(),
        "budget": now.budget.state(),
        "scores": now.scores.digests(),
        "past": [dict(vars(stage)) for stage in now.past],
        "position": {name: getattr(position, name) for name in SHAPE["position"]},
        "loop": loop.state(epoch_over=epoch_ended or position.epoch not in (None, curriculum.epoch)),
        "epoch_ended": epoch_ended,
        "journal": now.journal.state(),
        **({} if now.dropped is None else {"dropped": digest_of(now.dropped)}),
    }


def digest_of(dropped: Dropped | None) -> str | None:
    """What a checkpoint remembers of the prompts that are never drawn; None where the recipe drops none."""
    return None if dropped is None else array_digest(dropped.mask)


def keep(now: PromptSituation, checkpoint: Path) -> None:
    """What is no JSON, into a checkpoint that is being saved; every rank calls it.

    Args:
        now: the run.
        checkpoint: its folder, which is there.

    Raises:
        StorageError: it cannot be written, on every rank.
    """
    now.kept.write(checkpoint, now.audit.state())
    now.peers.led(lambda: write_arrays(checkpoint, {"rates": now.rates.state(), "groups": now.groups.arrays()}))


def beside(now: PromptSituation) -> Beside:
    """What a checkpoint that is saved now needs of the run's folder, and what the run has left there so far."""
    stages = [f"{FOLDER}/{file_of_stage(stage.index)}" for stage in now.past]
    return Beside(
        ledger=LEDGER,
        ledger_size=now.journal.ledger.size,
        needed=(*(f"scores/{name}.parquet" for name in now.scores.digests()), *stages),
        outcome=tuple(name for name in (EXAMPLES, DROPPED) if (now.folder / name).exists()),
    )


def restore(
    now: PromptOutline,
    saver: Saver,
    loop: LoopState,
    step: int,
    checkpoint: Checkpoint | None,
    saved: Json | None,
    heard: Callable[..., None],
) -> tuple[PromptSituation, PromptPosition]:
    """A run that goes on, and where it is.

    Args:
        now: its outline.
        saver: that counts its checkpoints.
        loop: of the trainer, which gets back what it had added up.
        step: of the checkpoint.
        checkpoint: that was found to be whole; None where nobody looked.
        saved: the curriculum's state in it.
        heard: is told of the rewards of every generation.

    Raises:
        TrainerError: something else has resumed the trainer.
        ResumeError: the checkpoint is of another run or version, or its state, scores or generation are damaged.
    """
    checkpoint, saved = _refuse_others_resume(step, checkpoint, saved)
    changed = now.config.resume == "changed_future"
    refuse_other(now.identity, saved["identity"], changed_future=changed)

    # The scores that it was planned with, and every part as it was.
    home = checkpoint.home
    with as_saved(step):
        now.budget.load(saved["budget"])
    scores = now.peers.led(lambda: Scores.load(home / "scores", saved["scores"], Questions(now.config).passages))
    added = now.scoring.asking.add_texts(scores) if changed else []
    scores.refuse_missing(now.config, now.budget.unpaid)
    rates, dropped = now.make_rates(), now.make_dropped(scores)
    if not changed and saved.get("dropped") != digest_of(dropped):
        raise ResumeError(
            "the checkpoint must belong to this run, got one that leaves out other prompts: a file that `drop` reads "
            "has changed. Put it back, or go on with the others on purpose: campus: {resume: changed_future}."
        )
    curriculum = now.make_curriculum(scores, now.make_policy(scores, rates, dropped))
    arrays = now.peers.led(lambda: read_arrays(checkpoint.path))
    with as_saved(step):
        rates.load(arrays["rates"])
        curriculum.load(saved["curriculum"])
        past = [PastStage.of(stage) for stage in saved["past"]]
        position = PromptPosition(**{name: saved["position"][name] for name in SHAPE["position"]})
        loop.load(saved["loop"])
    situation = complete(now, scores, curriculum, rates, dropped, heard)
    situation.past.extend(past)
    try:
        with as_saved(step):
            situation.groups.load(arrays["groups"])
            situation.audit.load(situation.kept.restore(checkpoint.path, step))
    except ResumeError:
        situation.close()
        raise

    # Nothing can refuse the resume any more: from here on the run's folder is written to.
    def move_in() -> None:
        saver.go_on(step)
        bring_curriculum(home, now.folder, now.journal.put_aside)
        atomic_write(now.folder / RECIPE, now.config.to_yaml())  # its future may have changed
        scores.save_metrics(now.folder / "scores", now.scoring.rows, added)
        now.list_dropped(dropped)

    now.peers.led(move_in)
    now.journal.load(saved["journal"])
    world = now.peers.world
    now.journal.take(Resumed(step, curriculum.n_stages - 1, before=world, now=world))
    if lost := not_kept(now.trainer):
        now.journal.take(Warned(lost))
    return situation, position


def _refuse_others_resume(step: int, checkpoint: Checkpoint | None, saved: Json | None) -> tuple[Checkpoint, Json]:
    """A checkpoint of a run of prompts, which somebody has looked at.

    Raises:
        TrainerError: nobody has.
        ResumeError: it is of something else, or its state is not whole.
    """
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
    if saved.get("version") != VERSION:
        kind = "of rows" if isinstance(saved.get("version"), int) else f"of version {saved.get('version')!r}"
        raise ResumeError(
            f"the checkpoint at step {step} must hold a curriculum of prompts ({VERSION!r}), got one {kind}. Resume "
            "with the trainer and the campus_tune that wrote it, or train without resuming."
        )
    refuse_misshapen(saved, step, SHAPE)
    return checkpoint, saved
