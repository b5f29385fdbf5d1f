"""Whether many processes share the work: seconds of scoring, deciding and probing on one process and on several.

The same recipe at the same global batch, launched by accelerate, on one process and on `--processes`, in turns, so that
a busy machine hits both. The seconds are those of the ledger (rank 0's own clock, waiting included); a ratio below 1
is what the other processes took over. Then `campus-tune diff` says whether they trained the same rows.

With `--bare` scoring alone is measured, against what as many bare forwards side by side reach, none of which waits for
another: each of the batches that scoring has given to that process, collated beforehand, through the model without its
head, and through it with the head on the answers (goal: at least 95 % of them). Wall clock, so leave the machine alone;
and whether the losses are those of one process, to the last digit.

    python eval/bench_ranks.py                                     a small random model on generated tasks
    python eval/bench_ranks.py --model runs/quickstart/model --rows 64 --repeats 1
    python eval/bench_ranks.py --bare --repeats 9                                  scoring against bare forwards
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from campus_tune.demo.tasks import generate, write_tasks
from campus_tune.read.same_stream import compare_runs
from campus_tune.run.ledger import read_ledger

ACTIVITIES = ("scoring", "selection", "probes", "training")
GLOBAL_BATCH = 8


def small_model(folder: Path, width: int, layers: int) -> Path:
    """A random Llama that a forward pass of takes longer than Python does."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    from campus_tune.demo.tiny import write_tiny

    tokenizer = AutoTokenizer.from_pretrained(write_tiny(folder))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        tie_word_embeddings=True,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def run(processes: int, folder: Path, recipe: dict[str, Any]) -> dict[str, float]:
    """Seconds of each activity in one run; its ledger is in `folder`."""
    accumulation = GLOBAL_BATCH // (4 * processes)
    (folder.parent / "recipe.yaml").write_text(
        yaml.safe_dump({**recipe, "output_dir": str(folder), "gradient_accumulation_steps": accumulation})
    )
    launch = ["--accelerate_config", "recipes/accelerate/ddp_cpu.yaml", "--num_processes", str(processes)]
    command = [sys.executable, "-m", "campus_tune", "sft", "--config", str(folder.parent / "recipe.yaml")]
    command += launch if processes > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-4000:])
    end = read_ledger(folder / "curriculum/ledger.jsonl")[-1]
    return {activity: end["seconds"].get(activity, 0.0) for activity in ACTIVITIES}


def side_by_side(model: str, options: argparse.Namespace) -> str:
    """Scoring on all processes against bare forwards on each, as a table."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    world = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": str(options.processes)}
    started = []
    for rank in range(options.processes):
        places = {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, __file__, "--child", "--model", model, "--rows", str(options.rows)]
        command += ["--repeats", str(options.repeats)]
        started.append(subprocess.Popen(command, env={**os.environ, **world, **places}, stdout=subprocess.PIPE))
    told = [child.communicate()[0] for child in started]
    if any(child.returncode for child in started):
        sys.exit("a process failed; its last lines are above")
    found = json.loads(told[0].splitlines()[-1])
    lines = [f"| bare forward | its seconds | seconds of scoring | ratio in turns |\n|{'---|' * 4}"]
    for name in ("without the head", "with the answers' logits"):
        ratios = sorted(bare / ours for bare, ours in zip(found[name], found["scoring"], strict=True))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        seconds = [f"{statistics.median(found[one]):.2f}" for one in (name, "scoring")]
        lines.append(f"| {name} | {seconds[0]} | {seconds[1]} | {spread} |")
    alone = sorted(ours / two for ours, two in zip(found["alone"], found["scoring"], strict=True))
    lines.append(
        f"one process scores in {statistics.median(alone):.2f} times the time ({alone[0]:.2f} to {alone[-1]:.2f})"
    )
    lines.append(f"{found['rows']} rows, {found['tokens']} tokens; the same to the last digit: {found['same']}")
    return "\n".join(lines)


def one_of_them(options: argparse.Namespace) -> None:
    """A process of `side_by_side`; the first one writes what it found, in seconds until the slowest was done."""
    import torch
    from accelerate import PartialState
    from torch.nn import functional
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from campus_tune.data.token_hashes import IGNORED
    from campus_tune.model.answer_alone import PadRight
    from campus_tune.model.batches import long_rows_first, token_bound
    from campus_tune.model.measure import Loads, LossMeter
    from campus_tune.model.peers import Peers
    from campus_tune.model.shared_prompts import Batch
    from campus_tune.model.subject import Subject, undisturbed

    state, device = PartialState(cpu=True), torch.device("cpu")
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    rows: Any = _Told()
    for row in generate(-(-options.rows // 25), seed=1)[: options.rows]:
        prompt, answer = (tokenizer(row[part][0]["content"])["input_ids"] for part in ("prompt", "completion"))
        rows.append({"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer})
    tokens, subject = np.array([len(row["input_ids"]) for row in rows]), Subject(model, model, device, lambda one: one)
    peers, everything = Peers(state.process_index, state.num_processes), np.arange(len(rows))
    ours = LossMeter(lambda: subject, rows, PadRight(), tokens, peers=peers, what="scoring")
    alone = LossMeter(lambda: subject, rows, PadRight(), tokens, peers=Peers(), what="scoring")
    ours._shares = alone._shares = False  # each row whole, as in the bare forward
    parts = [Batch(part) for part in long_rows_first(tokens, token_bound(device))]
    mine = [PadRight()([rows[place] for place in part.places]) for part in Loads(peers).mine(parts, tokens)]

    def bare(with_answers: bool) -> None:
        with undisturbed(model):
            for batch in mine:
                hidden = model.get_decoder()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])[0]
                wanted = batch["labels"][:, 1:]
                if with_answers:
                    logits = model.get_output_embeddings()(hidden[:, :-1][wanted != IGNORED]).float()
                    functional.cross_entropy(logits, wanted[wanted != IGNORED], reduction="none")

    ways: dict[str, Callable[[], Any]] = {
        "scoring": lambda: ours.losses(everything),
        "without the head": lambda: bare(False),
        "with the answers' logits": lambda: bare(True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in [*ways, "alone"]}
    for turn in range(options.repeats + 1):
        for name, act in ways.items():
            torch.distributed.barrier()
            began = time.perf_counter()
            act()
            torch.distributed.barrier()
            seconds[name] += [time.perf_counter() - began] * (turn > 0)
        if peers.leads:
            began = time.perf_counter()
            expected = alone.losses(everything)
            seconds["alone"] += [time.perf_counter() - began] * (turn > 0)
    found = ours.losses(everything)
    if peers.leads:
        same = all(np.array_equal(values, getattr(found, name)) for name, values in vars(expected).items())
        print(json.dumps({**seconds, "rows": len(rows), "tokens": int(tokens.sum()), "same": same}))


class _Told(list[Any]):
    """Prepared rows in memory."""

    column_names = ("input_ids", "labels")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model folder or hub id; the default is a random one")
    parser.add_argument("--width", type=int, default=256, help="of the random one (%(default)s)")
    parser.add_argument("--layers", type=int, default=6, help="of the random one (%(default)s)")
    parser.add_argument("--rows", type=int, default=400, help="training rows, about (%(default)s)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (%(default)s)")
    parser.add_argument("--bare", action="store_true", help="scoring alone, against bare forwards side by side")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        one_of_them(options)
        return
    if options.bare:
        with tempfile.TemporaryDirectory() as scratch:
            model = options.model or str(small_model(Path(scratch) / "model", options.width, options.layers))
            print(side_by_side(model, options))
        return
    seconds: dict[int, list[dict[str, float]]] = {1: [], options.processes: []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = options.model or str(small_model(folder / "model", options.width, options.layers))
        write_tasks(folder / "data", rows_per_cell=-(-options.rows // 25), probes_per_cell=3, seed=1)
        recipe = {
            "model_name_or_path": model,
            "dataset_name": str(folder / "data/train.jsonl"),
            "num_train_epochs": 1,
            "per_device_train_batch_size": 4,
            "use_cpu": True,
            "bf16": False,
            "use_peft": True,
            "lora_target_modules": "all-linear",
            "lora_dropout": 0.0,
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
            "campus": {
                "metrics": ["length", "mtld", "loss"],
                "selector": "lowest_perplexity",
                "stages": 8,
                "handover": 1.0,
                "budget": 0.5,
                "scores": "none",
                "probes": {"path": str(folder / "data/probes.jsonl")},
            },
        }
        for repeat in range(options.repeats):
            for processes, found in seconds.items():
                found.append(run(processes, folder / f"run-{processes}-{repeat}", recipe))
        same = compare_runs(folder / "run-1-0", folder / f"run-{options.processes}-0").lines()
    print(f"\n| activity | 1 process, s | {options.processes} processes, s | ratio in turns |\n|{'---|' * 4}")
    for activity in ACTIVITIES:
        alone, shared = ([one[activity] for one in found] for found in seconds.values())
        ratios = sorted(b / a for a, b in zip(alone, shared, strict=True))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"| {activity} | {statistics.median(alone):.2f} | {statistics.median(shared):.2f} | {spread} |")
    print("\n".join(same))


if __name__ == "__main__":
    main()
