"""What some recipes need before their run: a model trained on other rows (`rho_online`), a proxy (`irreducible`).

    KEEP/<situation>/made/holdout              the base, trained as long as a run on rows of the same make
    KEEP/<situation>/made/proxy-seed-<seed>    the base, trained on the run's rows, as `campus-tune proxy` trains

Each is made once and kept. It is charged to every run that uses it: nobody else would train it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from eval.situations.bases import BASES, trainer_of
from eval.situations.named import HOLDOUT, PROXY, need_of
from eval.situations.rows import Made, made
from eval.situations.situation import Situation

HOLDOUT_SEED = 5000
EARLY = 0.1  # of the steps of a proxy, as the command has it
TOKENS = "tokens.json"


def made_first(keep: Path, situation: Situation, arm: str, seed: int, rows: Made) -> tuple[dict[str, Path], float]:
    """(Folders by name, training tokens that they cost) of what an arm needs; nothing for most arms."""
    need = need_of(arm)
    if need is None:
        return {}, 0.0
    name = need if need == HOLDOUT else f"{need}-seed-{seed}"
    folder = keep / situation.name / "made" / name
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as out:
            _make(need, keep, situation, seed, rows, Path(out) / name, Path(out) / "run")
            if not folder.is_dir():  # another process may have been quicker
                shutil.move(Path(out) / name, folder)
    return {need: folder}, float(json.loads((folder / TOKENS).read_text()))


def _make(need: str, keep: Path, situation: Situation, seed: int, rows: Made, folder: Path, out: Path) -> None:
    from campus_tune.model import compat
    from campus_tune.run import proxy
    from eval.situations.driven import Driven, Peer

    base = BASES[situation.base]
    if need == HOLDOUT:
        seed, rows = HOLDOUT_SEED, made(situation.rows, HOLDOUT_SEED)
    steps = round(situation.epochs * len(rows.rows) / base.batch)
    callbacks: list[Any] = [proxy.KeepEarly(EARLY, folder / "early")] if need == PROXY else []
    trainer = trainer_of(
        base, keep, rows.rows, out, steps=steps, seed=seed, callbacks=callbacks, training=situation.training
    )
    driven = Driven(trainer, Peer())
    tokens: float
    if need == HOLDOUT:
        trainer.train()
        trainer.save_model(str(folder))
        tokens = sum(n for _, _, n in driven.visits)
    else:
        folder.mkdir(parents=True)
        for callback in callbacks:
            callback.trainer = trainer
        proxy.train(trainer, folder, EARLY)
        of_rows, _ = proxy.measure(trainer, folder, trust_remote_code=False)
        tokens = sum(n for _, _, n in driven.visits) + 2 * driven.ratio * float(of_rows.tokens.sum())
    (folder / TOKENS).write_text(json.dumps(float(tokens)))
    compat.let_go(trainer)
