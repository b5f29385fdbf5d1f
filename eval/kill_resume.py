"""Whether a stopped run goes on as if it had never stopped: train once in peace, then again under SIGKILL, and compare.

Each setting is trained once undisturbed. Then the same run is started in another folder, killed, resumed with
`resume_from_checkpoint=True`, killed again, … until it has had its kills, and is left to end. Kills come at a random
moment of the process's life, after a random optimizer step, in the middle of a save (a checkpoint folder is there
and its trainer_state.json is not) and, where there is a scorer, while answers are sampled for it; where weights may go
back to the best ones, while these are kept. Both runs must then agree in every decision and measurement of the ledger,
in every row's training loss, in every line of the trainer's log (loss, grad_norm, learning_rate, epoch, num_tokens, …,
up to the last one's train_loss; without clocks), and bit for bit in weights and optimizer state.

Three settings are odd: a callback before ours that saves by itself, in the middle of steps too, as transformers'
just-in-time checkpoint does; callbacks that transformers makes anew from the checkpoint; and a log line every five
steps, whose window the kills cut. A fourth one has all of it. Settings whose names begin with `weigh` let rows and
tokens count differently: what each row's loss was multiplied by is in the ledger, and compared with it. Where rows are
valued (`value-…`), their values are compared too, and by which gradients of the probes they were.

    python eval/kill_resume.py                                  # 36 settings of a tiny random model, 36 kills, minutes
    python eval/kill_resume.py --kills 100                      # the proof
    python eval/kill_resume.py --kills 4 --only w0-a1-exact     # one setting
    python eval/kill_resume.py --model PATH --data train.jsonl --probes probes.jsonl --rows 400 --steps 40 --batch 8

With --model the processes are started afresh (no fork), with a LoRA on your model, and killed twice: between two
checkpoints in the middle of a stage, and while saving; a third time while sampling, if the recipe has a scorer. The
table goes to stdout; the exit status is 1 on any difference.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

STATE = "trainer_state.json"
BEATS = "beats.txt"  # one line per finished optimizer step, over all lives of a run
SAMPLES = "samples.txt"  # one line each time that answers are sampled for the scorer
HISTORY = "history.json"  # the trainer's log when the run has ended
CLOCKS = ("runtime", "per_second")
OWN_SAVES = ("on_step_end", "on_step_begin", "on_pre_optimizer_step", "on_substep_end")  # where a callback saves
PATIENCE = 3600.0  # seconds after which a life counts as hung


@dataclass(frozen=True)
class Setting:
    """One run.

    Args:
        name: in the table.
        workers: of the data loader.
        batch: rows per micro batch.
        accumulation: micro batches per optimizer step.
        rows: training rows.
        steps: optimizer steps; −1 for two epochs.
        save_steps: between checkpoints.
        campus: the recipe.
        model: folder of a model; None for a random one of 35 000 weights.
        data: JSON lines to train on; None for the demo tasks.
        probes: JSON lines of held-out rows; None for demo tasks, if there is no `data`.
        logs_every: steps between two log lines.
        evaluates_every: steps between two evaluations on the probes; 0 for none.
        restores: transformers makes the callbacks anew from the checkpoint.
        saves_itself: a callback before ours saves on its own.
        chats: rows are conversations whose messages have weights, else prompts and completions.
        spoils_every: steps behind which the weights become worse, the same numbers in each life; 0 for never.
    """

    name: str
    workers: int = 0
    batch: int = 8
    accumulation: int = 1
    rows: int = 96
    steps: int = -1
    save_steps: int = 4
    campus: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    data: str | None = None
    probes: str | None = None
    logs_every: int = 1
    evaluates_every: int = 0
    restores: bool = False
    saves_itself: bool = False
    chats: bool = False
    spoils_every: int = 0


def settings() -> list[Setting]:
    """Workers × accumulation × coverage, with the window changing such that each pair of values occurs together."""
    found = []
    for workers, accumulation, coverage in product((0, 2), (1, 4), ("exact", "revisit")):
        odd = (workers > 0) ^ (accumulation > 1) ^ (coverage == "revisit")
        window, selector = ("slice", "lowest_perplexity") if odd else ("prefix", "matched")
        campus = {"metrics": ["length", "mtld", "loss"], "stages": 4, "handover": 0.9, "mix": 0.2, "budget": 2.0}
        campus |= {"coverage": coverage, "window": window, "selector": selector}
        name = f"w{workers}-a{accumulation}-{coverage}-{window}"
        found.append(Setting(name, workers, 8 // accumulation, accumulation, campus=campus))
    aware = {"metrics": ["length", "loss", {"name": "scorer", "new_tokens": 8}], "stages": 8, "rescore": 2}
    aware |= {"handover": 0.9, "budget": 1.0}
    exact = {**aware, "coverage": "exact", "window": "prefix", "selector": "matched"}
    revisit = {**aware, "coverage": "revisit", "window": "slice", "selector": "lowest_perplexity"}
    found.append(Setting("w0-a1-exact-prefix-rescored", campus=exact))
    found.append(Setting("w2-a4-revisit-slice-rescored", 2, 2, 4, campus=revisit))
    found += odd_settings(found[0].campus)
    found += drawn_settings()
    found += weighed_settings()
    found += steered_settings()
    found += valued_settings()
    return [replace(setting, campus={**setting.campus, "scores": "none"}) for setting in found]


def odd_settings(campus: dict[str, Any]) -> list[Setting]:
    """What people also switch on, each alone and all of it together."""
    alone = [
        Setting("odd-saves-itself", batch=4, accumulation=2, campus=campus, saves_itself=True, evaluates_every=6),
        Setting("odd-restores-callbacks", campus=campus, restores=True),
        Setting("odd-logs-every-5", campus=campus, logs_every=5),
    ]
    return [*alone, replace(alone[0], name="odd-all", workers=2, restores=True, logs_every=5)]


def drawn_settings() -> list[Setting]:
    """Who is drawn and which of them: each part of the draw once, in pairs that lean on each other."""
    plain = {"metrics": [], "selector": "shuffle", "stages": 6}
    ordered = {"metrics": ["length", "mtld"], "selector": "round_robin", "stages": 6, "handover": 0.7, "mix": 0.3}
    ends = {"arithmetic": 0.5, "code": 0.5}, {"lists": 0.6, "text": 0.2, "calendar": 0.2}
    phases = [{"until": 0.5, "shares": ends[0], "overlap": 0.2}, {"until": 1.0, "shares": ends[1]}]
    pruned = {"thin": {"how": "prune", "by": "seen_loss"}, "domains": {"shares": {"temperature": 2}}}
    fresh = {"thin": {"how": "top", "by": "loss", "fresh": True}, "budget": 2.0}
    followed = {"domains": {"over": "cells", "follow": "seen_loss"}, "cells": {"by": "length", "bands": 2}}
    dropped = {"drop": [{"by": "-length", "lowest": 0.1}], "review": {"share": 0.2, "by": "forgetting"}}
    recipes = {
        "phases-review": {**plain, "phases": phases, "review": {"share": 0.25}},
        "prune-shares-slice": {**ordered, **pruned, "window": "slice"},
        "rank-excess-exact": {**ordered, "thin": {"how": "rank", "by": "excess", "keep": 0.6, "from": 0.3}},
        "proportional-surprise": {**plain, "thin": {"how": "proportional", "by": "surprise"}},
        "top-fresh": {**plain, **fresh},
        "follow-cells-revisit": {**ordered, **followed, "coverage": "revisit"},
        "drop-forgetting": {**ordered, **dropped},
        "drop-suspects": {**plain, "drop": [{"by": "suspects", "at_most": 0.1, "from": 0.3, "act": "always"}]},
    }
    return [
        Setting(f"draw-{name}", 2 * (i % 2), 4, 2, campus=campus, steps=40)
        for i, (name, campus) in enumerate(recipes.items())
    ]


def weighed_settings() -> list[Setting]:
    """How much rows and tokens count: planned and live weights, over two passes and more."""
    plain = {"metrics": [], "selector": "shuffle", "stages": 6}
    ordered = {"metrics": ["length", "mtld"], "selector": "round_robin", "stages": 6, "handover": 0.7, "mix": 0.3}
    ends = {"arithmetic": 0.5, "code": 0.5}, {"lists": 0.6, "text": 0.2, "calendar": 0.2}
    phases = [{"until": 0.5, "shares": ends[0], "overlap": 0.2}, {"until": 1.0, "shares": ends[1]}]
    few = {"cells": {"by": "length", "bands": 1}}  # that are visited twenty times
    focal = [{"name": "focal", "of": "token", "limit": 2}, {"name": "linupper", "from": 0.4}]
    recipes = {
        "column-slice": {**ordered, "window": "slice", "weights": [{"name": "column", "limit": 1.5, "until": 0.9}]},
        "prune-unbiased": {**plain, "thin": {"how": "prune", "by": "seen_loss"}, "weights": ["unbiased", "column"]},
        "superloss-phases": {**plain, "phases": phases, "domains": {"by": "weights"}, "weights": ["superloss"]},
        "robust-self-paced": {**ordered, **few, "weights": ["robust", {"name": "self_paced", "form": "log"}]},
        "focal-token": {**plain, "weights": focal},
        "shuffled": {**plain, "weights": ["superloss", "column"], "control": "shuffled_weights"},
        "messages": {**plain, **few, "weights": [{"name": "column", "of": "message"}, "robust"]},
    }
    return [
        Setting(f"weigh-{name}", 2 * (i % 2), 4, 2, campus=campus, steps=40, chats=name == "messages")
        for i, (name, campus) in enumerate(recipes.items())
    ]


def steered_settings() -> list[Setting]:
    """What the record steers: weights go back to the best, rules act, a bandit chooses, shares follow, clocks."""
    plain = {"metrics": [], "selector": "shuffle", "stages": 10, "budget": 4.0}
    ordered = {"metrics": ["length", "mtld"], "selector": "round_robin", "stages": 10, "handover": 1.0, "budget": 4.0}
    still = {"least": 0.9, "times": 3}  # so small a model hardly learns anything: it always stands still
    back = {"stagnation": {**still, "window": 7, "then": ["rollback", "hand_over"]}}  # the second time from spoilt ones
    review = {"stagnation": {**still, "window": 5, "probe": "lists", "then": "review"}}
    widen = {"stagnation": {**still, "window": 1, "then": "widen"}}
    bandit = {"selector": {"name": "exp3s", "reward": "own", "eta": 1.0}, "clock": "tokens"}
    rollback = Setting("steer-rollback", 2, 4, 2, campus={**ordered, "when": back}, steps=40, save_steps=5)
    recipes = {
        "review": {**plain, "review": {"share": 0.2, "spacing": 1}, "when": review},
        "bandit": {**ordered, **bandit, "when": widen},
        "lagging": {**plain, "domains": {"reweight": {"name": "lagging", "rate": 5.0}}},
    }
    others = [replace(rollback, name=f"steer-{name}", campus=campus) for name, campus in recipes.items()]
    return [replace(one, spoils_every=5) for one in (rollback, others[0])] + others[1:]


def valued_settings() -> list[Setting]:
    """What rows are worth, by the same gradients of the probes in each life."""
    plain = {"metrics": [], "selector": "shuffle", "stages": 6, "value": {"budget": 10.0}}
    ordered = {"metrics": ["length", "loss"], "stages": 5, "handover": 0.8, "budget": 2.0, "rescore": 2}
    recipes = {
        "shuffled": plain,
        "adam-weighed": {**plain, "value": {"budget": 4.0, "adam": True}, "weights": ["column", "focal"]},
        "rescored-revisit": {**ordered, "value": {"budget": 2.0}, "coverage": "revisit", "window": "slice"},
    }
    found = [Setting(f"value-{name}", 2 * (i % 2), 4, 2, campus=one) for i, (name, one) in enumerate(recipes.items())]
    return [replace(one, steps=24, save_steps=3) for one in found]


# -- one life of a run, in its own process -------------------------------------------------------------------------


def train(setting: Setting, out: Path) -> None:
    """Start the run, or go on from its last complete checkpoint."""
    import torch
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from campus_tune import CampusCallback
    from campus_tune.model.scorer_training import ScorerTrainer

    torch.set_num_threads(1)

    class Beat(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control, kwargs
            with (out / BEATS).open("a") as file:
                file.write(f"{state.global_step}\n")

    class SavesItself(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        """Every second step, each time in another event."""

        def __init__(self) -> None:
            self.trainer: Any = None
            for k, name in enumerate(OWN_SAVES):
                setattr(self, name, self._saver(k))

        def _saver(self, k: int) -> Any:
            def save(args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                del args, control, kwargs
                if state.global_step > 0 and state.global_step % (2 * len(OWN_SAVES)) == 2 * k:
                    self.trainer._save_checkpoint(self.trainer.model, trial=None)

            return save

    sample = ScorerTrainer._sample

    def sample_and_say(self: ScorerTrainer, *args: Any) -> Any:
        with (out / SAMPLES).open("a") as file:
            file.write("sampling\n")
        return sample(self, *args)

    ScorerTrainer._sample = sample_and_say  # type: ignore[method-assign]  # to be killed in the middle of it
    on_gpu = setting.model is not None and torch.cuda.is_available()
    arguments = SFTConfig(
        str(out),
        per_device_train_batch_size=setting.batch,
        gradient_accumulation_steps=setting.accumulation,
        max_steps=setting.steps,
        num_train_epochs=2,
        learning_rate=1e-3,
        logging_steps=setting.logs_every,
        eval_strategy="steps" if setting.evaluates_every else "no",
        eval_steps=setting.evaluates_every or None,
        restore_callback_states_from_checkpoint=setting.restores,
        save_steps=setting.save_steps,
        dataloader_num_workers=setting.workers,
        report_to="none",
        use_cpu=not on_gpu,
        bf16=False,
        full_determinism=on_gpu,
        disable_tqdm=True,
        max_length=512,
    )
    torch.manual_seed(0)  # the weights of the adapter
    model, tokenizer, rows, probes = ingredients(setting)
    own_saves = SavesItself()
    trainer = SFTTrainer(
        model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=probes if setting.evaluates_every else None,
        processing_class=tokenizer,
        peft_config=LoraConfig(r=8, lora_dropout=0.1, target_modules="all-linear"),
        callbacks=[
            *[own_saves] * setting.saves_itself,
            CampusCallback(setting.campus, probes=probes, report=False),
            spoils(setting.spoils_every),
            Beat(),
        ],
    )
    own_saves.trainer = trainer
    trainer.train(resume_from_checkpoint=True)
    (out / HISTORY).write_text(json.dumps(trainer.state.log_history))


def spoils(every: int) -> Any:
    """A callback behind some of whose steps the weights become worse, each time by the same numbers."""
    import torch
    from transformers import TrainerCallback

    class Spoils(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control
            if every and state.global_step % every == 0:
                chance = torch.Generator().manual_seed(state.global_step)
                with torch.no_grad():
                    for parameter in (one for one in kwargs["model"].parameters() if one.requires_grad):
                        parameter.add_(0.3 * torch.randn(parameter.shape, generator=chance))

    return Spoils()


def ingredients(setting: Setting) -> tuple[Any, Any, Any, Any]:
    """Model, tokenizer, training rows and probes (or None) of a setting."""
    from datasets import Dataset

    from campus_tune.demo.tasks import generate
    from campus_tune.demo.tiny import tiny_model, tiny_tokenizer
    from campus_tune.words.files import read_jsonl

    if setting.data is None:
        cells = -(-setting.rows // 25)
        rows, probes = generate(cells, seed=1), generate(6 if "value" in setting.campus else 1, seed=77)
        random.Random(0).shuffle(rows)
    else:
        rows, probes = read_jsonl(setting.data), read_jsonl(setting.probes) if setting.probes else []
    if setting.model is None:
        model, tokenizer = tiny_model(), tiny_tokenizer()
    else:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(setting.model, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(setting.model)
    if "weights" in setting.campus:
        rows = [weighted(row, i, chats=setting.chats) for i, row in enumerate(rows)]
        probes = [weighted(row, 0, chats=setting.chats) for row in probes]
    held_out = Dataset.from_list(probes) if probes else None
    return model, tokenizer, Dataset.from_list(rows[: setting.rows]), held_out


def weighted(row: dict[str, Any], i: int, *, chats: bool) -> dict[str, Any]:
    """A row with a weight of its own; or as a chat, each message of which has one."""
    if not chats:
        return {**row, "weight": 0.25 * (1 + i % 7)}
    turns = [{**turn, "weight": 0.5 * (1 + (i + k) % 3)} for k, turn in enumerate([*row["prompt"], *row["completion"]])]
    return {"domain": row["domain"], "messages": turns}


class Life:
    """A process that trains: forked from this one, where everything is imported already, or started afresh."""

    def __init__(self, setting: Setting, out: Path) -> None:
        self.log = out / "log.txt"
        out.mkdir(parents=True, exist_ok=True)
        self.pid = self._fork(setting, out) if setting.model is None else self._start(setting, out)
        self.status: int | None = None

    def _fork(self, setting: Setting, out: Path) -> int:
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            train(setting, out)
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _start(self, setting: Setting, out: Path) -> int:
        command = [sys.executable, __file__, "--life", json.dumps([asdict(setting), str(out)])]
        with self.log.open("a") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT).pid

    def over(self) -> bool:
        """Whether the process has ended by itself."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status is not None

    def kill(self) -> bool:
        """SIGKILL; False if the process ended before."""
        if self.over():
            return False
        os.kill(self.pid, signal.SIGKILL)
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status == -signal.SIGKILL


# -- when to kill ------------------------------------------------------------------------------------------------


def beats(out: Path) -> list[int]:
    """The optimizer steps finished so far, over all lives, in sequence."""
    try:
        return [int(line) for line in (out / BEATS).read_text().split()]
    except FileNotFoundError:
        return []


def half_saved(out: Path) -> set[str]:
    """Checkpoint folders without a whole trainer state."""
    return {folder.name for folder in out.glob("checkpoint-*") if not is_whole(folder / STATE)}


def is_whole(path: Path) -> bool:
    """Whether a JSON file is there to its end."""
    try:
        json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return True


Moment = Callable[[], bool]


def moments(
    out: Path, chance: random.Random, seconds: float, total_steps: int, *, samples: bool, keeps: bool
) -> Iterator[tuple[str, Moment]]:
    """What to wait for, one after the other: a time, a save, a step; a sampling and a keeping, where there are some."""
    while True:
        if keeps:
            yield "keeping", keeping_begins(out, chance)
        if samples:
            yield "sampling", sampling_begins(out, chance)
        until = time.monotonic() + chance.uniform(0.0, seconds)
        yield "time", lambda until=until: time.monotonic() >= until  # type: ignore[misc]  # bound now
        yield "save", save_begins(out, chance)
        at = len(beats(out)) + chance.randint(1, max(1, total_steps // 2))
        yield "step", lambda at=at: len(beats(out)) >= at  # type: ignore[misc]  # bound now


def save_begins(out: Path, chance: random.Random) -> Moment:
    """True shortly after a further checkpoint folder has appeared and while it has no trainer state."""
    there, delay = {path.name for path in out.glob("checkpoint-*")}, chance.uniform(0.0, 0.02)

    def now() -> bool:
        new = [path for path in out.glob("checkpoint-*") if path.name not in there or not (path / STATE).exists()]
        last = (beats(out) or [0])[-1]  # a callback before the beat may save the step that follows
        fresh = [path for path in new if int(path.name.partition("-")[2]) in (last, last + 1)]
        if fresh and not (fresh[0] / STATE).exists():
            time.sleep(delay)
            return True
        there.update(path.name for path in new)
        return False

    return now


def sampling_begins(out: Path, chance: random.Random) -> Moment:
    """True shortly after the scorer has begun to be trained anew."""
    there, delay = samplings(out), chance.uniform(0.0, 0.3)

    def now() -> bool:
        if samplings(out) <= max(1, there):  # the first one is before training
            return False
        time.sleep(delay)
        return True

    return now


def keeping_begins(out: Path, chance: random.Random) -> Moment:
    """True shortly after one of the next files of kept weights has been begun."""
    home, delay, further = out / "curriculum" / "best", chance.uniform(0.0, 0.02), chance.randint(1, 5)
    there, new = {path.name for path in home.glob("*")}, set[str]()

    def now() -> bool:
        new.update(path.name for path in home.glob("[!.]*") if path.name not in there)
        if len(new) < further:
            return False
        time.sleep(delay)
        return True

    return now


def samplings(out: Path) -> int:
    """How often answers were sampled so far, over all lives."""
    try:
        return len((out / SAMPLES).read_text().split())
    except FileNotFoundError:
        return 0


def has_scorer(setting: Setting) -> bool:
    """Whether a scorer is trained in this run."""
    names = [metric["name"] if isinstance(metric, dict) else metric for metric in setting.campus["metrics"]]
    return "scorer" in names and bool(setting.campus.get("rescore", 1))


def rolls_back(setting: Setting) -> bool:
    """Whether weights are kept in this run."""
    return "rollback" in json.dumps(setting.campus.get("when"))


def between_saves(out: Path, save_steps: int) -> Moment:
    """True between two checkpoints and, unless all stages are of one step, inside a stage."""
    from campus_tune.run.ledger import read_ledger

    def now() -> bool:
        done = beats(out)
        if not done or done[-1] <= save_steps or done[-1] % save_steps == 0:
            return False
        stages = [event for event in read_ledger(out / "curriculum" / "ledger.jsonl") if event["event"] == "decision"]
        inside: bool = stages[-1]["step"] < done[-1] < stages[-1]["step"] + stages[-1]["steps"]
        return inside or all(stage["steps"] == 1 for stage in stages)

    return now


# -- one setting: in peace, under kills, compared ----------------------------------------------------------------


@dataclass
class Outcome:
    """One line of the table.

    Args:
        setting: which.
        steps: optimizer steps of the run.
        runs: under kills; one that ended early is followed by another.
        kills: that hit a living process.
        in_saves: kills after which a checkpoint was half written.
        redone: steps trained more than once.
        differences: what → the first difference; empty if there is none.
    """

    setting: Setting
    steps: int = 0
    runs: int = 0
    kills: int = 0
    in_saves: int = 0
    redone: int = 0
    differences: dict[str, str] = field(default_factory=dict)

    def cells(self) -> list[str]:
        """The line's cells."""
        equal = ["**no**" if what in self.differences else "yes" for what in ("ledger", "losses", "weights")]
        return [self.setting.name, *map(str, (self.steps, self.runs, self.kills, self.in_saves, self.redone)), *equal]


def examine(setting: Setting, kills: int, folder: Path, chance: random.Random) -> Outcome:
    """Train a setting in peace once, then under kills until it has had them all, and compare."""
    calm = folder / setting.name / "calm"
    began = time.monotonic()
    live_on(setting, calm)
    seconds = time.monotonic() - began
    outcome = Outcome(setting, steps=len(beats(calm)))
    while outcome.kills < kills:
        hunted = folder / setting.name / f"hunted-{outcome.runs}"
        outcome.runs += 1
        if outcome.runs > kills + 3:
            raise SystemExit(f"{setting.name}: the runs end before they are killed. Give more --steps.")
        if setting.model is None:
            waits = moments(
                hunted, chance, seconds, outcome.steps, samples=has_scorer(setting), keeps=rolls_back(setting)
            )
        else:
            waits = iter(
                [
                    ("stage", between_saves(hunted, setting.save_steps)),
                    ("save", save_begins(hunted, chance)),
                    ("sampling", sampling_begins(hunted, chance)),
                ]
            )
        began = time.monotonic()
        while outcome.kills < kills and kill_once(setting, hunted, *next(waits), outcome):
            began = time.monotonic()
        if outcome.kills < kills:  # it ended before: the calm run was slower, and so late a moment may never come
            seconds = min(seconds, time.monotonic() - began)
        live_on(setting, hunted)
        outcome.redone += len(beats(hunted)) - outcome.steps
        outcome.differences |= differences(calm, hunted, outcome.steps)
    return outcome


def kill_once(setting: Setting, out: Path, kind: str, now: Moment, outcome: Outcome) -> bool:
    """Let the run live until the moment; False if it ended before."""
    if not hunt(Life(setting, out), now):
        return False
    done = beats(out)
    outcome.kills += 1
    last = done[-1] if done else 0  # a callback before the beat may save the step that follows
    outcome.in_saves += any(f"checkpoint-{step}" in half_saved(out) for step in (last, last + 1))
    print(f"  {setting.name}: killed ({kind}) after step {done[-1] if done else 0}", file=sys.stderr, flush=True)
    return True


def live_on(setting: Setting, out: Path) -> None:
    """Train to the end."""
    life = Life(setting, out)
    deadline = time.monotonic() + PATIENCE
    while not life.over():
        time.sleep(0.02)
        if time.monotonic() > deadline:
            life.kill()
    if life.status != 0:
        tail = "\n".join(life.log.read_text(errors="replace").splitlines()[-30:])
        raise SystemExit(f"{setting.name}: training ended with status {life.status}\n{tail}")


def hunt(life: Life, now: Moment) -> bool:
    """Wait for the moment and kill; False if the run ended before."""
    deadline = time.monotonic() + PATIENCE
    while not life.over():
        if now() or time.monotonic() > deadline:
            return life.kill()
        time.sleep(0.001)
    return False


def differences(calm: Path, hunted: Path, steps: int) -> dict[str, str]:
    """What differs between two finished runs: what → the first difference, in words."""
    pairs = {
        "ledger": (ledger(calm) + remembered(calm, steps), ledger(hunted) + remembered(hunted, steps)),
        "losses": (history(calm), history(hunted)),
        "weights": (tensors(calm, steps), tensors(hunted, steps)),
    }
    return {what: first_difference(*pair) for what, pair in pairs.items() if pair[0] != pair[1]}


def first_difference(one: list[Any], other: list[Any]) -> str:
    """The first entry that differs, cut to a readable length."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            if isinstance(a, dict) and isinstance(b, dict):
                a, b = ({key: part.get(key) for key in {*a, *b} if a.get(key) != b.get(key)} for part in (a, b))
            return f"entry {place}: {str(a)[:400]} in peace, {str(b)[:400]} under kills"
    return f"{len(one)} entries in peace, {len(other)} under kills"


def ledger(out: Path) -> list[Any]:
    """Ledger events without clocks, each stage's row losses, and the map of the rows."""
    from campus_tune.run.ledger import comparable, read_ledger
    from campus_tune.run.row_map import FILE, LIKELIEST, SHOWN

    home = out / "curriculum"
    files = [*sorted((home / "training_losses").glob("*.parquet")), home / FILE, home / LIKELIEST, home / SHOWN]
    files += sorted((home / "value").glob("*.parquet"))
    return [*comparable(read_ledger(home / "ledger.jsonl")), *[(path.name, path.read_bytes()) for path in files]]


def remembered(out: Path, steps: int) -> list[Any]:
    """What the last checkpoint knows of its rows' weights, levels and values, and of what is kept in files."""
    from campus_tune.run.checkpoints import read_state, saved_curriculum

    state = saved_curriculum(read_state(out / f"checkpoint-{steps}") or {})
    plan = state["curriculum"]
    return [
        ("weights", (plan["stage"] or {}).get("weights")),
        ("levels", plan.get("levels")),
        state.get("best"),
        state.get("value"),
    ]


def history(out: Path) -> list[Any]:
    """The trainer's log lines without clocks."""
    lines = json.loads((out / HISTORY).read_text())
    return [{key: value for key, value in line.items() if not key.endswith(CLOCKS)} for line in lines]


def tensors(out: Path, steps: int) -> list[Any]:
    """Weights and optimizer state of the last checkpoint: (name, bytes)."""
    import torch
    from safetensors.torch import load_file

    checkpoint = out / f"checkpoint-{steps}"
    weights = {name: value for path in checkpoint.glob("*.safetensors") for name, value in load_file(path).items()}
    optimizer = torch.load(checkpoint / "optimizer.pt", weights_only=True)["state"]
    moments = {f"{k}.{name}": value for k, values in optimizer.items() for name, value in values.items()}
    every = sorted({**weights, **moments}.items())
    return [(name, value.contiguous().view(torch.uint8).numpy().tobytes()) for name, value in every if value.dim()]


# -- the command -------------------------------------------------------------------------------------------------


def table(outcomes: list[Outcome]) -> str:
    """The outcomes as markdown."""
    head = [
        "setting",
        "steps",
        "runs",
        "kills",
        "in a save",
        "re-done",
        "ledger equal",
        "losses equal",
        "weights equal",
    ]
    lines = [head, ["---"] * len(head), *[outcome.cells() for outcome in outcomes]]
    counts = [(o.runs, o.kills, o.in_saves, o.redone) for o in outcomes]
    lines.append(["**all**", "", *[str(sum(column)) for column in zip(*counts, strict=True)], "", "", ""])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30, help="in all, spread over the settings")
    parser.add_argument("--only", default="", help="settings whose name contains this")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--keep", type=Path, help="folder for the runs, kept; without it a temporary one")
    real = parser.add_argument_group("a run of your own")
    real.add_argument("--model", help="folder of a model")
    real.add_argument("--data", help="JSON lines to train on")
    real.add_argument("--probes", help="JSON lines of held-out rows")
    real.add_argument("--recipe", help="a recipe; without it four metrics, the library's defaults and --budget")
    real.add_argument("--rows", type=int, default=400)
    real.add_argument("--steps", type=int, default=40)
    real.add_argument("--batch", type=int, default=8, help="rows per micro batch")
    real.add_argument("--accumulation", type=int, default=1)
    real.add_argument("--workers", type=int, default=0)
    real.add_argument("--save-steps", type=int, default=8)
    real.add_argument("--budget", type=float, default=0.05)
    parser.add_argument("--life", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if bool(options.model) != bool(options.data):
        parser.error("`--model` and `--data` must be given together. Name both, or neither for the tiny model.")
    return options


def own_setting(options: argparse.Namespace) -> Setting:
    """The run that --model and its companions describe."""
    from campus_tune.recipe.config import load_recipe

    recipe = options.recipe or {"metrics": ["length", "mtld", "compression", "loss"], "budget": options.budget}
    return Setting(
        Path(options.model).name,
        options.workers,
        options.batch,
        options.accumulation,
        options.rows,
        options.steps,
        options.save_steps,
        {**load_recipe(recipe).to_mapping(), "scores": "none"},
        options.model,
        options.data,
        options.probes,
    )


def main() -> int:
    """Run the settings; 1 if any of them differs."""
    options = parse()
    if options.life:
        setting, out = json.loads(options.life)
        train(Setting(**setting), Path(out))
        return 0
    if options.model:
        chosen = [own_setting(options)]
        kills = [3 if has_scorer(chosen[0]) else 2]
    else:
        chosen = [setting for setting in settings() if options.only in setting.name]
        if not chosen:
            raise SystemExit(f"`--only` must be part of one of {', '.join(s.name for s in settings())}.")
        kills = [options.kills // len(chosen) + (k < options.kills % len(chosen)) for k in range(len(chosen))]
        import_once()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="kill_resume-"))
    with contextlib.ExitStack() as stack:
        if options.keep is None:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        outcomes = [
            examine(setting, n, folder, random.Random(f"{options.seed} {setting.name}"))
            for setting, n in zip(chosen, kills, strict=True)
        ]
    print(table(outcomes))
    for outcome in outcomes:
        for what, difference in outcome.differences.items():
            print(f"\n{outcome.setting.name}: {what} differ at {difference}")
    return int(any(outcome.differences for outcome in outcomes))


def import_once() -> None:
    """Load in this process what every forked child needs, and start no thread."""
    import peft  # noqa: F401
    import torch
    import trl

    import campus_tune
    from campus_tune.metrics.diversity import text_mtld

    torch.set_num_threads(1)
    text_mtld("loads what it needs when it is first called")
    assert trl.SFTTrainer
    assert campus_tune.CampusCallback
    gc.collect()
    gc.freeze()  # else each child searches all of this for garbage when training begins


if __name__ == "__main__":
    sys.exit(main())
