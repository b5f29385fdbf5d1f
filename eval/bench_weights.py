"""What weights cost a step: with and without, in turns of one run, so that what else the machine does hits both.

On trl's fused head (`log_probs`) and on logits (a plain `transformers.Trainer`): the ratio of median step times, and of
peak memory (on a CPU that of the whole process, in the first turns only: it never falls). Goal: below 1 % of a step
with the fused head. The logits path needs one copy of the logits' gradient, and reads that three times more.

    python eval/bench_weights.py                                   a tiny random model on generated tasks
    python eval/bench_weights.py --model runs/quickstart/model --batch 4 --turns 10
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainerCallback
from transformers import TrainingArguments as Arguments
from trl import SFTConfig, SFTTrainer

from campus_tune.data.prepared import read_rows
from campus_tune.demo.tasks import generate
from campus_tune.demo.tiny import write_tiny
from campus_tune.method.levels import Groups
from campus_tune.method.weighting import Entry, Weighting, build_weight
from campus_tune.run.stream.loss_audit import LossAudit
from campus_tune.run.stream.watch import Watch
from campus_tune.run.stream.weighing import StepWeights, Weighing

GPU = torch.cuda.is_available()
CLOCK = time.perf_counter if GPU else time.thread_time  # a CPU's own time is what it would take alone
TURN = 8  # steps with, then as many without


def prepared(tokenizer: Any, n: int) -> Dataset:
    """Rows as a plain trainer takes them."""
    rows = []
    for task in generate(-(-n // 25), seed=1)[:n]:
        ids = tokenizer.apply_chat_template(task["prompt"] + task["completion"], tokenize=True, return_dict=True)
        prompt = tokenizer.apply_chat_template(task["prompt"], tokenize=True, return_dict=True)["input_ids"]
        ids = ids["input_ids"]
        rows.append({"input_ids": ids, "labels": [-100] * len(prompt) + ids[len(prompt) :]})
    return Dataset.from_list(rows)


def peak() -> float:
    """Bytes: of the step on a device, of the process so far on a CPU."""
    return float(
        torch.cuda.max_memory_allocated() if GPU else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )


class Turns(TrainerCallback):
    """Watches all steps, as a run does, and weighs those of every other turn."""

    def __init__(self, batch: int, live: str) -> None:
        self.batch, self.live, self.step, self.trainer, self.watch = batch, live, 0, None, None
        self.seconds: dict[bool, list[float]] = {True: [], False: []}
        self.peak: dict[bool, list[float]] = {True: [], False: []}

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """The watch, and weights as after a stage."""
        rows = read_rows(self.trainer.train_dataset)
        n, loss = len(rows), LossAudit.of(self.trainer)
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        self.watch = Watch(model, rows, loss, weighing=Weighing.of(self.trainer, loss))
        groups = Groups(np.arange(n) % 5, tuple("abcde"))
        weighting = Weighting(
            [Entry(self.live, build_weight(self.live))],
            tokens=rows.answer_tokens,
            global_batch=self.batch,
            cells=groups,
        )
        visits = np.arange(400) % n
        weighting.close(visits, np.random.default_rng(0).normal(2.0, 1.0, 400), rows.answer_tokens[visits])
        self.weights = weighting.live(0.5)
        self.planned = np.random.default_rng(1).gamma(2.0, 0.5, n)

    def rows(self) -> np.ndarray:
        """Of this step."""
        return (np.arange(self.batch) + self.step * self.batch) % len(self.planned)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """The clock runs."""
        self.weighs = self.step // TURN % 2 == 1
        if GPU:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self.began = CLOCK()
        rows = self.rows()
        weights = StepWeights(self.step + 1, rows, self.planned[rows], None, self.weights) if self.weighs else None
        self.watch.begin_step(self.step + 1, weights)

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        """As a run does."""
        self.watch.before_update()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """It stops."""
        self.watch.end_step([self.rows().tolist()], answer_tokens=0)
        if GPU:
            torch.cuda.synchronize()
        if self.step % TURN > 1:  # the first of a turn warm up
            self.seconds[self.weighs].append(CLOCK() - self.began)
        if GPU or self.step < 2 * TURN:  # that of a process only grows: the first turn with weights after one without
            self.peak[self.weighs].append(peak())
        self.step += 1


def measure(folder: str, out: str, *, fused: bool, batch: int, turns: int, live: str) -> tuple[float, float, float]:
    """(Median step without weights in ms, ratio of times, ratio of peak memory)."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16 if GPU else torch.float32)
    adapter = LoraConfig(r=16, target_modules="all-linear", lora_dropout=0.0)
    common: dict[str, Any] = {
        "per_device_train_batch_size": batch,
        "max_steps": 2 * TURN * turns,
        "report_to": "none",
        "save_strategy": "no",
        "bf16": GPU,
        "disable_tqdm": True,
        "logging_steps": 10_000,
        "train_sampling_strategy": "sequential",
        "dataloader_drop_last": True,
        "use_cpu": not GPU,
    }
    told, data = Turns(batch, live), prepared(tokenizer, 8 * batch)
    shared: dict[str, Any] = {"train_dataset": data, "processing_class": tokenizer, "callbacks": [told]}
    if fused:
        trainer: Any = SFTTrainer(model, args=SFTConfig(out, max_length=None, **common), peft_config=adapter, **shared)
    else:
        collator = DataCollatorForSeq2Seq(tokenizer)
        trainer = Trainer(get_peft_model(model, adapter), Arguments(out, **common), data_collator=collator, **shared)
    told.trainer = trainer
    trainer.train()
    assert told.watch.weights_passed == told.watch.weights_checked > 0, "all weighted steps must have been audited"
    told.watch.close()
    plain, weighted = (statistics.median(told.seconds[weighs]) for weighs in (False, True))
    return 1000 * plain, weighted / plain, max(told.peak[True]) / max(told.peak[False])


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model folder; the default is a tiny random one")
    parser.add_argument("--batch", type=int, default=8, help="rows per optimizer step")
    parser.add_argument("--turns", type=int, default=4, help=f"pairs of {TURN} steps with weights and {TURN} without")
    parser.add_argument("--live", default="robust", help="the live weight beside the planned ones")
    options = parser.parse_args()
    print(f"\n| model | loss | weights | step without | time | peak memory |\n|{'---|' * 6}")
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or str(write_tiny(Path(folder) / "tiny"))
        for fused in (True, False):
            settings = {"fused": fused, "batch": options.batch, "turns": options.turns, "live": options.live}
            step, ratio, memory = measure(model, f"{folder}/{fused}", **settings)
            where = "log_probs" if fused else "logits"
            weights = f"planned, {options.live}"
            named = options.model or "tiny random Llama"
            print(f"| {named} | {where} | {weights} | {step:.1f} ms | × {ratio:.3f} | × {memory:.3f} |", flush=True)


if __name__ == "__main__":
    main()
