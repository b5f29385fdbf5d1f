"""Whether many processes share the work: seconds of scoring, deciding and probing on one process and on several.

The same recipe at the same global batch, launched by accelerate, on one process and on `--processes`, in turns, so that
a busy machine hits both. The seconds are those of the ledger (rank 0's own clock, waiting included); a ratio below 1
is what the other processes took over. Then `campus-tune diff` says whether they trained the same rows.

    python eval/bench_ranks.py                                     a small random model on generated tasks
    python eval/bench_ranks.py --model runs/quickstart/model --rows 64 --repeats 1
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from campus_tune.demo.tasks import write_tasks
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


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model folder or hub id; the default is a random one")
    parser.add_argument("--width", type=int, default=256, help="of the random one (%(default)s)")
    parser.add_argument("--layers", type=int, default=6, help="of the random one (%(default)s)")
    parser.add_argument("--rows", type=int, default=400, help="training rows, about (%(default)s)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (%(default)s)")
    options = parser.parse_args()
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
