"""What the curriculum costs a step: milliseconds that campus_tune itself takes outside decisions.

All of ours that a step runs is timed where the trainer, the model, autograd and the optimizer call it: the callback's
methods, hooks of modules, tensors, nodes and the optimizer, and of the data path what is not the trainer's collator.
Goals: 0.3 ms for the tiny model, 0.5 ms for SmolLM2, every step audited (tokens and labels), losses and book kept.

    python eval/bench_overhead.py                                  a tiny random model on generated tasks
    python eval/bench_overhead.py --model runs/quickstart/model --steps 12
    python eval/bench_overhead.py --recipe weights                 with weights of rows
    python eval/bench_overhead.py --against OLD --turns 5          this code and that of another checkout, in turns

Time is the host's, which waits for no accelerator: medians over the steps without a decision, added up. `--parts` says
which call takes how much. Rows of a step are those of one micro batch, or of `--accumulation` of them. How fast it
scores, `eval/bench_score.py` measures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from campus_tune import CampusCallback
from campus_tune.demo.tasks import generate
from campus_tune.demo.tiny import write_tiny
from campus_tune.run.stream import weighing
from campus_tune.run.stream.loader import CurriculumLoader
from campus_tune.words.tables import table

CLOCK = time.perf_counter  # a thread's own time takes 3 µs to ask for, as long as what is timed
OURS = "campus_tune."
PLAIN = {"metrics": ["length", "mtld", "compression"], "stages": 2, "selector": "round_robin"}
RECIPES: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "weights": {**PLAIN, "weights": ["focal", {"name": "column", "column": "vote"}]},
}


class Stopwatch:
    """Time spent in our calls, step by step and by name; what we call back into is not ours."""

    def __init__(self) -> None:
        self.steps: list[defaultdict[str, float]] = [defaultdict(float)]
        self._open: list[list[Any]] = []  # [name, since]

    def _switch(self) -> None:
        """Charge what has passed to whoever is open."""
        now = CLOCK()
        if self._open:
            name, since = self._open[-1]
            self.steps[-1][name] += now - since
            self._open[-1][1] = now

    def around(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """`function`, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._switch()
            self._open.append([name, CLOCK()])
            try:
                return function(*args, **kwargs)
            finally:
                self._switch()
                self._open.pop()
                if self._open:
                    self._open[-1][1] = CLOCK()

        return timed

    def theirs(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Something that we call and that would run without us too."""
        return self.around(function, "")


def named(function: Callable[..., Any]) -> str | None:
    """Our name of a hook; None of somebody else's."""
    inner = getattr(function, "func", function)
    module = str(getattr(inner, "__module__", ""))
    return f"{module.rsplit('.', 1)[1]}.{inner.__qualname__.split('.')[-1]}" if module.startswith(OURS) else None


class _Node:
    """An autograd node whose hooks are timed."""

    def __init__(self, node: Any, watch: Stopwatch) -> None:
        self.node, self.watch = node, watch

    def register_prehook(self, hook: Callable[..., Any]) -> Any:
        """As a node's."""
        return self.node.register_prehook(self.watch.around(hook, named(hook) or "hook"))


@contextmanager
def timed(watch: Stopwatch) -> Iterator[None]:
    """Inside, everything of ours that a trainer's step calls is timed."""
    undo: list[Callable[[], None]] = []

    def put(owner: Any, name: str, value: Any) -> None:
        before = getattr(owner, name)
        undo.append(lambda: setattr(owner, name, before))
        setattr(owner, name, value)

    def time_hooks(owner: Any, name: str) -> None:
        register = getattr(owner, name)

        def registered(self: Any, hook: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            ours = named(hook)
            return register(self, hook if ours is None else watch.around(hook, ours), *args, **kwargs)

        put(owner, name, registered)

    module, optimizer = torch.nn.Module, torch.optim.Optimizer
    for owner, name in (
        (module, "register_forward_pre_hook"),
        (module, "register_forward_hook"),
        (torch.Tensor, "register_hook"),
        (optimizer, "register_step_pre_hook"),
        (optimizer, "register_step_post_hook"),
    ):
        time_hooks(owner, name)
    for event in ("step_begin", "pre_optimizer_step", "optimizer_step", "step_end"):
        put(CampusCallback, f"on_{event}", watch.around(getattr(CampusCallback, f"on_{event}"), f"on_{event}"))
    seam_of = weighing.seam_of

    def seam(*args: Any) -> Any:
        found = seam_of(*args)
        return found and (found[0], _Node(found[1], watch), found[2])

    put(weighing, "seam_of", seam)
    try:
        yield
    finally:
        for back in reversed(undo):
            back()


def make_trainer(model: str, out: str, options: argparse.Namespace, recipe: dict[str, Any]) -> tuple[Any, Any]:
    """A trainer on generated tasks, LoRA, with the callback."""
    rows = Dataset.from_list(generate(-(-options.steps * options.batch * options.accumulation // 25) + 1, seed=1))
    rows = rows.add_column("vote", np.random.default_rng(0).gamma(2.0, 0.5, len(rows)).tolist())
    out, callback = f"{out}/{len(list(Path(out).iterdir()))}", CampusCallback(recipe)
    config = SFTConfig(
        out,
        per_device_train_batch_size=options.batch,
        gradient_accumulation_steps=options.accumulation,
        max_steps=options.steps,
        report_to="none",
        save_strategy="no",
        bf16=torch.cuda.is_available(),
        disable_tqdm=True,
        logging_steps=1000,
        model_init_kwargs={"dtype": "bfloat16" if torch.cuda.is_available() else "float32"},
    )
    trainer = SFTTrainer(
        model,
        args=config,
        train_dataset=rows,
        peft_config=LoraConfig(r=16, target_modules="all-linear", lora_dropout=0.05),
        callbacks=[callback],
    )
    return trainer, callback


def time_loader(loader: CurriculumLoader, watch: Stopwatch) -> None:
    """Of the data path, what is not the trainer's: its collator, and the reading of rows."""
    loader.rows.__class__.__getitems__ = watch.around(loader.rows.__class__.__getitems__, "")
    loader._batches = watch.around(loader._batches, "loader.batches")  # type: ignore[method-assign]
    collate = loader._collate
    collate.collator = watch.theirs(collate.collator)


def measure(model: str, out: str, options: argparse.Namespace, recipe: str) -> dict[str, Any]:
    """Of one recipe: medians in ms of the steps without a decision: ours, by name, and the whole step."""
    watch, whole, quiet = Stopwatch(), [], []
    with timed(watch):
        trainer, callback = make_trainer(model, out, options, RECIPES[recipe])
        begin, end = CampusCallback.on_step_begin, CampusCallback.on_step_end
        began = [CLOCK()]

        def on_step_begin(self: Any, *args: Any, **kwargs: Any) -> None:
            if not whole and len(watch.steps) == 1:
                time_loader(self.run.loaded.loader, watch)
            watch.steps.append(defaultdict(float))
            began[0] = CLOCK()
            begin(self, *args, **kwargs)

        def on_step_end(self: Any, *args: Any, **kwargs: Any) -> None:
            stages = self.run.situation.curriculum.n_stages
            end(self, *args, **kwargs)
            curriculum = self.run.situation.curriculum
            quiet.append(curriculum.n_stages == stages and not curriculum.finished)
            whole.append(CLOCK() - began[0])

        CampusCallback.on_step_begin, CampusCallback.on_step_end = on_step_begin, on_step_end  # type: ignore[method-assign]
        try:
            trainer.train()
        finally:
            CampusCallback.on_step_begin, CampusCallback.on_step_end = begin, end  # type: ignore[method-assign]
        steps = [step for step, good in zip(watch.steps[1:], quiet, strict=True) if good][2:]
    audit = callback.run.situation.watch if callback.run is not None else None
    assert audit is not None, "the trainer lives"
    assert audit.passed == audit.checked == options.steps, "every step must have been audited"
    names = sorted({name for step in steps for name in step if name})
    parts = {name: 1000 * statistics.median(step.get(name, 0.0) for step in steps) for name in names}
    return {"ours": sum(parts.values()), "step": 1000 * statistics.median(whole), "parts": parts}


def in_turns(options: argparse.Namespace, model: str, recipe: str) -> list[list[dict[str, Any]]]:
    """The same, before and after, in processes of their own one after the other; a list of pairs."""
    here = Path(__file__).resolve()
    pairs = []
    for _ in range(options.turns):
        pair = []
        for checkout in (options.against, here.parents[1]):
            command = [sys.executable, str(here), "--model", model, "--recipe", recipe, "--json"]
            for name in ("batch", "accumulation", "steps"):
                command += [f"--{name}", str(getattr(options, name))]
            told = subprocess.run(
                command, env={**os.environ, "PYTHONPATH": str(checkout)}, check=True, capture_output=True, text=True
            )
            pair.append(json.loads(told.stdout.splitlines()[-1])[recipe])
        pairs.append(pair)
    return pairs


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model folder or hub id; the default is a tiny random one")
    parser.add_argument("--batch", type=int, default=8, help="rows per micro batch")
    parser.add_argument("--accumulation", type=int, default=1, help="micro batches per optimizer step")
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps")
    parser.add_argument("--recipe", action="append", choices=[*RECIPES], help="several times for several")
    parser.add_argument("--parts", action="store_true", help="which of our calls takes how much")
    parser.add_argument("--json", action="store_true", help="the numbers as a last line of JSON, and no table")
    parser.add_argument("--against", type=Path, help="another checkout of campus_tune")
    parser.add_argument("--turns", type=int, default=3, help="pairs of runs with --against")
    options = parser.parse_args()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    named_model, recipes = options.model or "tiny random Llama", options.recipe or ["plain"]
    lines, found = [], {}
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or str(write_tiny(Path(folder) / "tiny"))
        for recipe in recipes:
            rows = f"{options.batch} × {options.accumulation}"
            start = [named_model, device, recipe, rows]
            if options.against is not None:
                pairs = in_turns(options, model, recipe)
                before, after = (statistics.median(pair[i]["ours"] for pair in pairs) for i in (0, 1))
                ratio = statistics.median(pair[1]["ours"] / pair[0]["ours"] for pair in pairs)
                step = statistics.median(pair[1]["step"] for pair in pairs)
                lines.append([*start, f"{before:.2f} ms", f"{after:.2f} ms", f"{ratio:.2f}", f"{step:.0f} ms"])
                parts = {name: [pair[1]["parts"].get(name, 0.0) for pair in pairs] for name in pairs[0][1]["parts"]}
                found[recipe] = {"parts": {name: statistics.median(values) for name, values in parts.items()}}
            else:
                out = Path(folder) / "out"
                out.mkdir(exist_ok=True)
                found[recipe] = measure(model, str(out), options, recipe)
                lines.append([*start, f"{found[recipe]['ours']:.2f} ms", f"{found[recipe]['step']:.0f} ms"])
    if options.json:
        print(json.dumps(found))
        return
    ours = ["before", "ours", "ratio"] if options.against is not None else ["ours"]
    print("\n" + table(["model", "device", "recipe", "rows", *ours, "step"], lines))
    for recipe in recipes if options.parts else ():
        parts = sorted(found[recipe]["parts"].items(), key=lambda part: -part[1])
        print(f"\n{recipe}\n" + table(["part", "ms"], [[name, f"{ms:.3f}"] for name, ms in parts]))


if __name__ == "__main__":
    main()
