"""What the ranks of `tests.distributed.ranks` run: every function here is called on each rank and gives back JSON."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from campus_tune.words.types import Json


def train(
    out: str,
    *,
    saves: tuple[int, ...] = (),
    stop: int | None = None,
    resume: bool = False,
    fail: Json | None = None,
    hold_step: Json | None = None,
    hold_save: Json | None = None,
    dropout: bool = True,
    patience: float | None = None,
    helper: bool = False,
    moe: bool = False,
    by_rank: Mapping[str, Json] | None = None,
    dirt: float | None = None,
    **settings: Any,
) -> Json:
    """One run of `tiny_run.tiny_trainer`.

    Args:
        out: output_dir.
        saves: steps after which a checkpoint is written.
        stop: step before which training breaks off on every rank, as by Ctrl-C.
        resume: go on from the last checkpoint.
        fail: arguments of `fail_in`.
        hold_step: {"step", "sign"}: at the end of that step rank 0 makes the file `sign` and waits to be killed.
        hold_save: {"step", "sign"}: in the save of that step rank 0 makes the file `sign` and waits to be killed.
        dropout: False switches the adapter's off.
        patience: seconds that the process group waits for a rank; None leaves it as it is.
        helper: start a process before the first step and end it with SIGTERM, as libraries do with theirs.
        moe: train a mixture of experts and its router.
        by_rank: settings that one rank has otherwise, by its number.
        dirt: share of wrong rows that the estimate sees for sure once a row has been seen; None leaves it as it is.
        settings: of `tiny_trainer`.

    Returns:
        first: steps done before; rows: of each step of this life on this rank; history: the trainer's log;
        weights: a digest of them; stopped: training broke off; written: files that this rank opened to write;
        kind: accelerate's word for the launch; counted: tokens that trl and the trainer say were trained.
    """
    from tests.run.other_models import tiny_moe
    from tests.run.tiny_run import history_of, tiny_trainer
    from tests.run.witness import Witness

    if patience is not None:
        _make_group(patience)
    if dirt is not None:
        _see(dirt)
    written = _writes_below(Path(out))
    stopper, beat = stop_before(stop), _beat(Path(f"{out}.beats"), _end_a_helper if helper else lambda: None)
    settings = {"out": out, **settings, **(by_rank or {}).get(str(rank()), {})}
    if moe:
        settings["model"] = tiny_moe()
    trainer = tiny_trainer(
        Path(settings.pop("out")), callbacks=[save_at(*saves), stopper, beat, stand_at(hold_step)], **settings
    )
    if not dropout:
        _switch_dropout_off(trainer.model)
    witness = Witness(trainer)
    if fail:
        fail_in(trainer, **fail)
    if hold_save:
        _hold_save(trainer, **hold_save)
    train_until(trainer, stopper, resume=resume)
    return {
        "first": beat.first,
        "rows": witness.steps[: beat.finished],
        "history": history_of(trainer),
        "weights": digest(trainer.model),
        "stopped": stopper.reached,
        "written": written,
        "kind": trainer.accelerator.distributed_type.value,
        "counted": [trainer._total_train_tokens, trainer.state.num_input_tokens_seen],
    }


def score(argv: list[str], scores: str, metrics: list[str]) -> int:
    """`campus-tune score` as the command line calls it."""
    from campus_tune.cli.score import main

    return main(argv, metrics=metrics, scores=scores).code


def sft(argv: list[str]) -> int:
    """`campus-tune sft` as the command line calls it."""
    from campus_tune.cli.sft import main

    return main(argv)


def rank() -> int:
    """Of this process."""
    return int(os.environ.get("RANK", "0"))


def digest(model: Any) -> str:
    """Of all weights, bit for bit."""
    whole = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        whole.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    return whole.hexdigest()


def _see(share: float) -> None:
    """The estimate sees so many wrong rows, on the rank that is asked; on the others nobody looks."""
    from campus_tune.method.dirt import Dirt
    from campus_tune.run import earned

    def estimate(*_: object, **__: object) -> Dirt:
        assert rank() == 0, "the leader looks"
        return Dirt(60, share, share, share)

    earned.estimate_dirt = estimate  # type: ignore[assignment]


def _make_group(patience: float) -> None:
    """As accelerate would make it, but with a timeout: on a CPU transformers passes no `ddp_timeout` on."""
    from datetime import timedelta

    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=timedelta(seconds=patience))


def _switch_dropout_off(model: Any) -> None:
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def _writes_below(folder: Path) -> list[str]:
    """Grows by every path in `folder` and in the score cache that this process opens to write, makes or renames."""
    found: list[str] = []
    watched = (str(folder), os.environ["CAMPUS_TUNE_CACHE"])

    def see(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and not (arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            return
        if event in ("open", "os.mkdir", "os.rename", "os.remove") and isinstance(arguments[0], str | os.PathLike):
            path = os.fspath(arguments[0])
            if str(path).startswith(watched):
                found.append(str(path))

    sys.addaudithook(see)
    return found


# -- callbacks -----------------------------------------------------------------------------------------------------


class StoppedError(Exception):
    """Ends training as an error or Ctrl-C would."""


def save_at(*steps: int) -> Any:
    """Saves after these steps, and no others."""
    from transformers import TrainerCallback

    class SaveAt(TrainerCallback):  # type: ignore[misc]  # untyped here
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, kwargs
            control.should_save |= state.global_step in steps

    return SaveAt()


def stop_before(step: int | None) -> Any:
    """Breaks off before a step, after what belongs to the one before, a checkpoint for example."""
    from transformers import TrainerCallback

    class StopBefore(TrainerCallback):  # type: ignore[misc]  # untyped here
        reached = False

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control, kwargs
            if state.global_step == step:
                self.reached = True
                raise StoppedError

    return StopBefore()


def train_until(trainer: Any, stopper: Any, *, resume: bool) -> None:
    """Train until a `stop_before` breaks it off, or to the end; whatever else ends it is an error."""
    try:
        trainer.train(resume_from_checkpoint=resume)
    except BaseException:
        if not stopper.reached:
            raise


def _end_a_helper() -> None:
    import multiprocessing
    import time

    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    process.start()
    process.terminate()
    process.join(10)
    assert process.exitcode == -signal.SIGTERM


def _beat(path: Path, begin: Callable[[], None]) -> Any:
    """Counts the finished steps; rank 0 writes them down too, a line each over all lives of a run."""
    from transformers import TrainerCallback

    class Beat(TrainerCallback):  # type: ignore[misc]  # untyped here
        first = finished = 0

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control, kwargs
            self.first = state.global_step
            begin()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control, kwargs
            self.finished += 1
            if rank() == 0:
                with path.open("a") as file:
                    file.write(f"{state.global_step}\n")

    return Beat()


def stand_at(hold: Json | None) -> Any:
    """Rank 0 stands still at the end of a step, once it has made a file; without `hold` nobody does."""
    from transformers import TrainerCallback

    class StandAt(TrainerCallback):  # type: ignore[misc]  # untyped here
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control, kwargs
            if hold and state.global_step == hold["step"] and rank() == 0:
                _stand_still(hold["sign"])

    return StandAt()


# -- failures ------------------------------------------------------------------------------------------------------


class OutOfMemoryError(RuntimeError):
    """What a rank fails with."""


def fail_in(trainer: Any, activity: str, *, on: int, how: str, step: int = 0) -> None:
    """Let one rank fail in an activity.

    Args:
        trainer: not trained yet.
        activity: "scoring" (a forward before training), "deciding" (a forward of a decision), "training" (a forward
            with gradients) or "choosing" (the selector; only on ranks that ask it).
        on: the rank.
        how: "raise", "kill" (SIGKILL of itself) or "hang".
        step: the first time after so many optimizer steps.
    """
    if rank() != on:
        return

    def fail() -> None:
        if trainer.state.global_step < step:
            return
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        while how == "hang":
            signal.pause()
        raise OutOfMemoryError("the cat has eaten the memory")

    if activity == "training":
        trainer.model.register_forward_pre_hook(
            lambda module, _: fail() if module.training and _with_gradient() else None
        )
    else:
        _fail_measuring(activity, fail)


def _with_gradient() -> bool:
    import torch

    return torch.is_grad_enabled()


def _fail_measuring(activity: str, fail: Callable[[], None]) -> None:
    from campus_tune.method.selectors import GreedySelector
    from campus_tune.model.measure import LossMeter
    from campus_tune.run.decide import Decider

    deciding = False
    forward, decide, choose = LossMeter._forward, Decider.decide, GreedySelector.choose

    def failing_forward(self: Any, *args: Any) -> Any:
        if activity == ("deciding" if deciding else "scoring"):
            fail()
        return forward(self, *args)

    def noticed_decide(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal deciding
        deciding = True
        decision = decide(self, *args, **kwargs)
        deciding = False
        return decision

    def failing_choose(self: Any, view: Any) -> str:
        if activity == "choosing":
            fail()
        return choose(self, view)

    LossMeter._forward = failing_forward  # type: ignore[method-assign]
    Decider.decide = noticed_decide  # type: ignore[method-assign]
    GreedySelector.choose = failing_choose  # type: ignore[method-assign]


def _hold_save(trainer: Any, *, step: int, sign: str) -> None:
    """Stand still between the weights and the trainer state, on rank 0; the others wait for it, or do not."""
    save = trainer._save_optimizer_and_scheduler

    def save_and_wait(*args: Any, **kwargs: Any) -> None:
        save(*args, **kwargs)
        if trainer.state.global_step == step and rank() == 0:
            _stand_still(sign)

    trainer._save_optimizer_and_scheduler = save_and_wait


def _stand_still(sign: str) -> None:
    """Say so by a file, and wait to be killed."""
    Path(sign).touch()
    while True:
        signal.pause()
