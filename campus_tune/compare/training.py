"""Trains one arm with one seed after another; the model is loaded once, the rows are prepared once, scores are shared.

A run is the run that `campus-tune sft` would make of the same block and seed, bit for bit: a comparison says something
about the recipe that will be used. What it prints goes to its own `log.txt`.
"""

from __future__ import annotations

import time
import traceback
from collections import defaultdict
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from campus_tune.compare.arms import Arm
from campus_tune.compare.deciding_rows import read_probes, read_test
from campus_tune.compare.legs import train_leg
from campus_tune.compare.plan import Plan
from campus_tune.compare.result_file import DIVERGED, FINISHED, LOG, VISITS, run_folder, write_run_result
from campus_tune.compare.task import Task
from campus_tune.data.prepared import token_counts
from campus_tune.method.budget import VALUE
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.plugins import plugins_used
from campus_tune.run.ledger import FILE as LEDGER
from campus_tune.run.ledger import read_ledger
from campus_tune.run.make_trainer import Shared, make_shared_trainer, prepared_rows
from campus_tune.words.errors import DivergedError, RecipeError
from campus_tune.words.hashing import as_json, blake2
from campus_tune.words.progress import VOLUME
from campus_tune.words.types import Json
from campus_tune.words.versions import versions

if TYPE_CHECKING:
    from campus_tune.compare.curve_recorder import CurveRecorder
    from campus_tune.data.held_out import HeldOut
    from campus_tune.data.held_out_prompts import HeldOutPrompts
    from campus_tune.run.driven import DrivenRun
    from campus_tune.run.official_tasks import Evaluator

SHARP_ROWS, OF_DOMAIN = 64, 32  # test rows that sharpness is measured on: of one domain, and of each of several
MADE_WITH = ("torch", "transformers", "trl", "peft", "accelerate")
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
        self._test: HeldOut | None = None
        self._evaluation: Evaluator | None = None

    def make(self, task: Task) -> Json:
        """Make one run; the result, as it is in its file.

        Raises:
            CampusError: the run cannot be made. A model that diverges is a result.
        """
        arm = self.plan.arm(task.arm) if isinstance(task.arm, str) else task.arm
        folder = run_folder(self.plan.out, arm.name, task.seed)
        folder.mkdir(parents=True, exist_ok=True)
        mode = "a" if task.leg is not None and task.leg.since else "w"
        with (
            (folder / LOG).open(mode, encoding="utf-8", buffering=1) as log,
            redirect_stdout(log),
            redirect_stderr(log),
            VOLUME.into_a_file(),
        ):
            if task.leg is not None:
                return train_leg(self.plan, arm, task, self.read_test(), self._prepared, self.tick)
            try:
                outcome = self._train(arm.config(task.seed, task.recorded), arm, task, folder)
            except BaseException:
                traceback.print_exc(file=log)
                raise
        write_run_result(self.plan.out, outcome)
        return outcome

    def _train(self, config: CampusConfig, arm: Arm, task: Task, folder: Path) -> Json:
        from campus_tune.model import compat
        from campus_tune.model.fingerprint import weights_at_start

        parsed = self._parsed(task, folder, task.max_steps)
        if task.as_long is not None:
            dataset = prepared_rows(*parsed, shared=self._prepared)
            every = token_counts(dataset)
            short = not (parsed[1].dataloader_drop_last or config.coverage == "revisit" or config.draws_apart)
            kept = every if task.only is None else every[task.only.places(dataset)]
            parsed = self._parsed(task, folder, task.as_long.steps(every, kept, short=short))
        config = config if config.scores else replace(config, scores=str(self.plan.out / "scores"))
        trainer, run, recorder = self._equipped(parsed, config, arm, task)
        outcome: Json = {"arm": arm.name, "kind": arm.kind, "seed": task.seed, "status": FINISHED, "message": None}
        outcome |= task.asked()
        outcome["campus"] = config.to_mapping()
        start = weights_at_start(trainer.model)
        began = time.perf_counter()
        try:
            trainer.train()
        except DivergedError as error:
            outcome |= {"status": DIVERGED, "message": str(error)}
        seconds = time.perf_counter() - began - recorder.curve_seconds
        outcome |= self._facts(trainer, run, recorder, seconds, start)
        if outcome["status"] == FINISHED:
            outcome |= self._last_looks(trainer, folder)
            recorder.leave(folder)
        compat.let_go(trainer)
        return outcome

    def _equipped(
        self, parsed: tuple[Any, ...], config: CampusConfig, arm: Arm, task: Task
    ) -> tuple[Any, DrivenRun, CurveRecorder]:
        """(The trainer of a run, its curriculum, what records it)."""
        from campus_tune.compare.recorder import Recorder
        from campus_tune.compare.training_row_losses import asked_of_run
        from campus_tune.run.callback import CampusCallback
        from campus_tune.run.run import CampusRun

        callback = CampusCallback(config)
        asked = asked_of_run(self.plan, arm, task)
        points, gap = self.plan.settings.points, task.only is None
        recorder = Recorder(self.read_test(), points, self.tick, training_rows=asked, with_gap=gap)
        trainer = make_shared_trainer(*parsed, callbacks=[callback, recorder], shared=self._prepared, only=task.only)
        assert isinstance(callback.run, CampusRun)  # it was made with the trainer
        recorder.follow(trainer, callback.run)
        return trainer, callback.run, recorder

    def _parsed(self, task: Task, folder: Path, max_steps: int | None) -> tuple[Any, ...]:
        parsed, problems = self.plan.parsed(task.seed, folder, max_steps)
        if problems:
            raise RecipeError(problems)
        return parsed

    def read_test(self, *, what: str = "compare: test") -> HeldOut:
        """The test rows, read and checked once: held out of the training set and of the probes.

        Args:
            what: names them in the YAML.

        Raises:
            DataError: they cannot decide.
        """
        if self._test is None:
            self._test = read_test(self.plan, what=what)
        return self._test

    def test_digest(self) -> str:
        """Which rows decide."""
        return self.deciding_rows().digest()

    def deciding_rows(self) -> HeldOut | HeldOutPrompts:
        """What runs are measured on.

        Raises:
            DataError: they cannot decide.
        """
        return self.read_test()

    def _data_of(self, trainer: Any, run: Any) -> Json:
        """What must be the same for all arms with this seed of the rows that are trained."""
        del trainer
        loaded = run.situation.loaded
        return {"data": loaded.rows.fingerprint(), "global_batch": loaded.global_batch}

    def _facts(self, trainer: Any, run: Any, recorder: CurveRecorder, seconds: float, start: str) -> Json:
        """What every run says, whether it finished or diverged."""
        ledger = run.folder / LEDGER
        events = read_ledger(ledger) if ledger.exists() else []
        kept = ("step", "steps", "chosen", "scope", "rows")
        end = next((event for event in events if event["event"] == "end"), {})
        plugins = {name: made for one in self.plan.arms for name, made in plugins_used(one.config(0)).items()}
        shared = {k: v for k, v in trainer.args.to_dict().items() if k not in NOT_SHARED}
        rates = recorder.rates()
        visits, steps = recorder.all_visits()
        np.savez_compressed(run.folder.parent / VISITS, rows=visits, steps=steps, rates=rates)
        curriculum = sum(run.situation.budget.seconds[purpose] for purpose in run.situation.budget.spent)
        found = run.situation.budget.found_share() * run.situation.budget.seconds["training"]
        curve = recorder.curve()
        curve["seconds"] = [spent + found for spent in curve["seconds"]]  # as if this run had been the only one
        return {
            "shared": {  # what must be the same for all arms with this seed
                **self._data_of(trainer, run),
                "test": self.test_digest(),
                "training": blake2(as_json(shared), 16),
                "steps": run.situation.total_steps,
                "weights_before": start,
                "learning_rates": blake2(as_json([round(rate, 12) for rate in recorder.learning_rates]), 16),
                "made_with": {**versions(MADE_WITH), **plugins},
            },
            "tokens": recorder.tokens,
            "rows": len(visits),
            "seconds": {
                "training": seconds - curriculum,
                "curriculum": curriculum + found,
                "found": found,
                "curve": recorder.curve_seconds,
            },
            "cost": of_the_order(end.get("cost") or run.situation.budget.shares()),
            "test": recorder.end(),
            "curve": curve,
            "choices": [
                {**{key: event.get(key) for key in kept}, **({"shares": event["shares"]} if "shares" in event else {})}
                for event in events
                if event["event"] == "decision"
            ],
            "audit": end.get("audit"),
            **{name: end[name] for name in ("weights_audit",) if name in end},  # of an arm that weighs rows
            "gap": recorder.gap,
            "calibration": None,
            "sharpness": None,
            "evaluation": None,
        }

    def _last_looks(self, trainer: Any, folder: Path) -> Json:
        """Calibration on the probes; sharpness and official tasks where they are asked for."""
        from campus_tune.evaluate.answer_loss import Told
        from campus_tune.model import compat
        from campus_tune.model.calibration_sharpness import calibration, sharpness
        from campus_tune.model.peers import Peers
        from campus_tune.run.official_tasks import Evaluator

        settings, looks, subject = self.plan.settings, {}, compat.subject(trainer)
        tokenised = partial(
            Told.of, tokenizer=compat.tokenizer_of(trainer), limit=getattr(trainer.args, "max_length", None)
        )
        if (rows := read_probes(self.plan.block)) is not None:
            probes = tokenised(rows)
            looks["calibration"] = calibration(subject, probes, probes.tokens, rows.domains)
        if settings.sharpness:
            few = self.read_test().first_of_each(OF_DOMAIN, of_one=SHARP_ROWS)
            test = tokenised(few)
            looks["sharpness"] = sharpness(subject, test, test.tokens, few.domains)
        if settings.evaluate is not None:
            if self._evaluation is None:
                self._evaluation = Evaluator(settings.evaluate, trainer, Peers(), folder / "evaluation")
            values: dict[str, Json] = defaultdict(dict)  # of every document, by task and metric
            evaluator = self._evaluation
            evaluator.trainer, evaluator.folder = trainer, folder / "evaluation"
            for task, result in evaluator.results("end").items():
                for metric in evaluator.reported(task, result):
                    scores = result.scores(metric).items()
                    values[task][metric] = {f"{part}/{document}": value for (part, document), value in scores}
            looks["evaluation"] = dict(values)
        return looks


def of_the_order(cost: Json) -> Json:
    """What a run has paid for its curriculum: values decide nothing, and an arm is not charged for them.

    >>> of_the_order({"probes": 0.25, "value": 0.5, "all": 0.75})
    {'probes': 0.25, 'all': 0.25}

    Args:
        cost: shares of the training compute by purpose, and of all of them.
    """
    if VALUE not in cost:
        return cost
    own = {purpose: share for purpose, share in cost.items() if purpose not in (VALUE, "all")}
    return {**own, "all": sum(own.values())}
