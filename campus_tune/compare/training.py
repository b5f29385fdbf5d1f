"""Trains one arm with one seed after another; the model is loaded once, the rows are prepared once, scores are shared.

A run is the run that `campus-tune sft` would make of the same block and seed, bit for bit: a comparison says something
about the recipe that will be used. What it prints goes to its own `log.txt`.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.compare.arms import Arm
from campus_tune.compare.outcome import DIVERGED, FINISHED, run_folder, write_outcome
from campus_tune.compare.plan import Plan
from campus_tune.run.make_trainer import Shared, make_shared_trainer
from campus_tune.words.errors import DivergedError, RecipeError
from campus_tune.words.types import Json
from campus_tune.words.versions import versions

SHARP_ROWS = 64  # test rows that sharpness is measured on
LOG = "log.txt"
VISITS = "visits.npz"
NOT_SHARED = ("seed", "output_dir", "logging_dir", "run_name", "max_steps", "model_init_kwargs")


class Bench:
    """Makes the runs of one process.

    Args:
        plan: of the comparison.
        tick: told the finished steps of the present run.
    """

    def __init__(self, plan: Plan, tick: Callable[[int], object] = lambda _: None) -> None:
        self.plan, self.tick = plan, tick
        self._prepared = Shared()
        self._test: Any = None
        self._evaluation: Any = None

    def run(self, name: str, seed: int, *, max_steps: int | None = None) -> Json:
        """Train one arm with one seed and write what came of it.

        Args:
            name: of the arm.
            seed: of the run.
            max_steps: another number of steps than the recipe's.

        Returns:
            The result, as it is in the file.

        Raises:
            CampusError: the run cannot be made. A model that diverges is a result.
        """
        arm = self.plan.arm(name)
        folder = run_folder(self.plan.out, name, seed)
        folder.mkdir(parents=True, exist_ok=True)
        with _logged(folder / LOG):
            outcome = self._train(arm, seed, folder, max_steps)
        write_outcome(self.plan.out, outcome)
        return outcome

    def _train(self, arm: Arm, seed: int, folder: Path, max_steps: int | None) -> Json:
        from campus_tune.compare.recorder import Recorder
        from campus_tune.model import compat
        from campus_tune.model.fingerprint import weights_at_start
        from campus_tune.run.callback import CampusCallback

        parsed, problems = self.plan.parsed(seed, folder, max_steps)
        if problems:
            raise RecipeError(problems)
        config = arm.config(seed)
        config = config if config.scores else replace(config, scores=str(self.plan.out / "scores"))
        callback = CampusCallback(config)
        recorder = Recorder(self.read_test(), self.plan.settings.points, self.tick)
        trainer = make_shared_trainer(*parsed, callbacks=[callback, recorder], shared=self._prepared)
        recorder.follow(trainer, callback.run)  # type: ignore[arg-type]  # set when the trainer was made
        outcome: Json = {"arm": arm.name, "kind": arm.kind, "seed": seed, "status": FINISHED, "message": None}
        outcome["campus"] = config.to_mapping()
        start = weights_at_start(trainer.model)
        began = time.perf_counter()
        try:
            trainer.train()
        except DivergedError as error:
            outcome |= {"status": DIVERGED, "message": str(error)}
        seconds = time.perf_counter() - began - recorder.curve_seconds
        outcome |= self._facts(trainer, callback.run, recorder, seconds, start)
        if outcome["status"] == FINISHED:
            outcome |= self._last_looks(trainer, folder)
        compat.let_go(trainer)
        return outcome

    def read_test(self) -> Any:
        """The test rows, read and checked once: held out of the training set and of the probes.

        Raises:
            DataError: they cannot decide.
        """
        if self._test is None:
            from campus_tune.compare.deciding_rows import read_test

            self._test = read_test(self.plan)
        return self._test

    def _facts(self, trainer: Any, run: Any, recorder: Any, seconds: float, start: str) -> Json:
        """What every run says, whether it finished or diverged."""
        decisions, cost, audit = _from_ledger(run.folder)
        rates = recorder.rates()
        visits = np.concatenate(recorder.visits) if recorder.visits else np.zeros(0, dtype=np.int64)
        steps = np.repeat(np.arange(len(recorder.visits)), [len(rows) for rows in recorder.visits])
        np.savez_compressed(run.folder.parent / VISITS, rows=visits, steps=steps, rates=rates)
        curriculum = sum(run.budget.seconds[purpose] for purpose in run.budget.spent)
        found = run.budget.found_share() * run.budget.seconds["training"]
        curve = recorder.curve()
        curve["seconds"] = [spent + found for spent in curve["seconds"]]  # as if this run had been the only one
        return {
            "shared": self._shared(trainer, run, recorder, start),
            "tokens": recorder.tokens,
            "rows": len(visits),
            "seconds": {
                "training": seconds - curriculum,
                "curriculum": curriculum + found,
                "found": found,
                "curve": recorder.curve_seconds,
            },
            "cost": cost or run.budget.shares(),
            "test": recorder.end(),
            "curve": curve,
            "choices": decisions,
            "audit": audit,
            "learning_rate": {},
            "calibration": None,
            "sharpness": None,
            "evaluation": None,
        }

    def _shared(self, trainer: Any, run: Any, recorder: Any, start: str) -> Json:
        """What must be the same for all arms with this seed."""
        from campus_tune.compare.common_hashes import MADE_WITH, digest_of

        settings = {k: v for k, v in trainer.args.to_dict().items() if k not in NOT_SHARED}
        return {
            "data": run.rows.fingerprint(),
            "test": self._test.digest(),
            "training": digest_of(settings),
            "steps": run.total_steps,
            "global_batch": run.global_batch,
            "weights_before": start,
            "learning_rates": digest_of([round(rate, 12) for rate in recorder.learning_rates]),
            "made_with": versions(MADE_WITH),
        }

    def _last_looks(self, trainer: Any, folder: Path) -> Json:
        """Calibration on the probes; sharpness and official tasks where they are asked for."""
        from campus_tune.model import compat
        from campus_tune.model.calibration_sharpness import calibration, sharpness

        settings, looks, subject = self.plan.settings, {}, compat.subject(trainer)
        probes = self._tokenised(self._probe_rows(), trainer)
        if probes is not None:
            looks["calibration"] = calibration(subject, probes, probes.tokens)
        if settings.sharpness:
            rows = self._tokenised(self._test.first(SHARP_ROWS), trainer)
            looks["sharpness"] = sharpness(subject, rows, rows.tokens)
        if settings.evaluate is not None:
            looks["evaluation"] = self._official(trainer, folder)
        return looks

    def _probe_rows(self) -> Any:
        """The recipe's probes as text; None where it has none."""
        from campus_tune.compare.deciding_rows import read_probes

        return read_probes(self.plan.block)

    def _tokenised(self, rows: Any, trainer: Any) -> Any:
        from campus_tune.evaluate.answer_loss import Told
        from campus_tune.model import compat
        from campus_tune.model.conversations import retell

        if rows is None:
            return None
        told = [retell(conversation, compat.tokenizer_of(trainer)) for conversation in rows.conversations]
        tokenised = Told(told, getattr(trainer.args, "max_length", None))
        tokenised.refuse_silent(rows)
        return tokenised

    def _official(self, trainer: Any, folder: Path) -> Json:
        """Values of every document of the official tasks, by task and metric."""
        from campus_tune.model.peers import Peers
        from campus_tune.run.official_tasks import Evaluator

        if self._evaluation is None:
            self._evaluation = Evaluator(self.plan.settings.evaluate, trainer, Peers(), folder / "evaluation")
        evaluator = self._evaluation
        evaluator.trainer, evaluator.folder = trainer, folder / "evaluation"
        results = evaluator.results("end")
        found: Json = {}
        for task, result in results.items():
            for metric in evaluator.reported(task, result):
                values = result.scores(metric)
                found.setdefault(task, {})[metric] = {f"{part}/{document}": v for (part, document), v in values.items()}
        return found


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """What is printed inside goes to a file; what is raised is written there too."""
    with path.open("w", encoding="utf-8", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        try:
            yield
        except BaseException:
            traceback.print_exc(file=file)
            raise


def _from_ledger(folder: Path) -> tuple[list[Json], Json | None, Json | None]:
    """(Decisions, cost by purpose, audit) of a run."""
    from campus_tune.run.ledger import FILE, read_ledger

    if not (folder / FILE).exists():
        return [], None, None
    events = read_ledger(folder / FILE)
    kept = ("step", "steps", "chosen", "scope", "rows")
    decisions = [{key: event.get(key) for key in kept} for event in events if event["event"] == "decision"]
    end = next((event for event in events if event["event"] == "end"), None)
    return decisions, None if end is None else end["cost"], None if end is None else end["audit"]
