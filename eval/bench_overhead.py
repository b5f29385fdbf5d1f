"""What the curriculum costs a step: milliseconds that campus_tune itself takes outside decisions (goal: under 1 ms).

Its callback, its model hooks, its audit, cutting the step into micro batches; of one model and one machine. Of it the
audit apart: hashing what the model is given, comparing it with the plan, and adding up the losses of rows (goal: under
0.3 ms, the sums included). How fast it scores, `eval/bench_score.py` measures.

    python eval/bench_overhead.py                                  a tiny random model on generated tasks
    python eval/bench_overhead.py --model runs/quickstart/model --batch 4 --steps 12
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from campus_tune import CampusCallback
from campus_tune.demo.tasks import generate
from campus_tune.demo.tiny import write_tiny

# On a CPU that others use too, a thread's own time is what it would take alone; a device is waited for on the wall.
CLOCK = time.perf_counter if torch.cuda.is_available() else time.thread_time


class Stopwatch:
    """Adds up the time spent in some functions, per optimizer step."""

    def __init__(self) -> None:
        self.steps: list[float] = [0.0]

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = CLOCK()
            try:
                return function(*args, **kwargs)
            finally:
                self.steps[-1] += CLOCK() - began

        return timed


def make_trainer(model: str, out: str, *, batch: int, steps: int, curriculum: bool) -> tuple[SFTTrainer, Any]:
    """A trainer on generated tasks, LoRA, with or without the callback."""
    rows = Dataset.from_list(generate(-(-steps * batch // 25) + 1, seed=1))
    callback = CampusCallback(
        {"metrics": ["length", "mtld", "compression"], "stages": 2, "selector": "round_robin"}, report=False
    )
    config = SFTConfig(
        out,
        per_device_train_batch_size=batch,
        max_steps=steps,
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
        callbacks=[callback] if curriculum else [],
    )
    return trainer, callback


def step_overhead(model: str, out: str, batch: int, steps: int) -> tuple[float, float, float]:
    """Medians of the steps without a decision, in ms: what campus_tune takes, of it the audit, and the whole step."""
    trainer, callback = make_trainer(model, out, batch=batch, steps=steps, curriculum=True)
    watch, audit, whole = Stopwatch(), Stopwatch(), Stopwatch()
    run = callback.run
    begin, end = run.begin_step, run.end_step
    began = [time.perf_counter()]
    decided: list[bool] = []

    def begin_step() -> None:
        if not decided:  # the hooks are on the model from on_train_begin on
            for handle in run.situation.watch._handles:
                hooks = handle.hooks_dict_ref()
                hooks[handle.id] = watch.around(audit.around(hooks[handle.id]))
            watched, loader = run.situation.watch, run.situation.loaded.loader
            watched.end_step = audit.around(watched.end_step)
            loader.micro_batches = watch.around(loader.micro_batches)
        watch.steps.append(0.0)
        audit.steps.append(0.0)
        watch.around(begin)()

    def end_step(state: Any) -> None:
        curriculum = run.situation.curriculum
        stages = curriculum.n_stages
        watch.around(end)(state)
        decided.append(curriculum.n_stages > stages or curriculum.finished)
        whole.steps.append(time.perf_counter() - began[0])
        began[0] = time.perf_counter()

    run.begin_step, run.end_step = begin_step, end_step
    trainer.train()
    quiet = [i for i, was_decision in enumerate(decided) if not was_decision and i > 1]
    ours, looks, step = (statistics.median(clock.steps[i + 1] for i in quiet) for clock in (watch, audit, whole))
    return 1000 * ours, 1000 * looks, 1000 * step


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model folder or hub id; the default is a tiny random one")
    parser.add_argument("--batch", type=int, default=8, help="rows per optimizer step")
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or str(write_tiny(Path(folder) / "tiny"))
        ours, looks, step = step_overhead(model, f"{folder}/a", options.batch, options.steps)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"\n| model | device | campus_tune per step | of it the audit | step |\n|{'---|' * 5}")
    print(f"| {options.model or 'tiny random Llama'} | {device} | {ours:.2f} ms | {looks:.2f} ms | {step:.0f} ms |")


if __name__ == "__main__":
    main()
