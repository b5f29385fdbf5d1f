"""What a run spends of the budget it was given, from a handful of steps to a long run (goal: never more, and most).

The quickstart's recipe (four sub-curricula, `matched`, probes of each domain, LoRA) on its graded tasks and a tiny
random model, for so many steps of four rows and so many budgets. What is spent is counted in tokens, so neither the
model nor the machine matters. With another checkout's folder the same runs are made by that one too, in turns.

    python eval/bench_budget.py                                 four lengths and six budgets, minutes
    python eval/bench_budget.py --before ../old                 the same, before and after
    python eval/bench_budget.py --steps 1600 --budgets 0.05     a long run
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
STEPS, BUDGETS = (10, 38, 100, 400), (0.0, 0.01, 0.05, 0.2, 0.6, 1.0)
BATCH, CELLS = 4, 25
QUICKSTART = {
    "metrics": ["length", "mtld", "compression", {"name": "loss", "reduce": "sum"}],
    "pacing": {"name": "root", "power": 2, "start": 0.01},
    "selector": "matched",
    "stages": 8,
    "handover": 0.5,
    "scores": "none",
}
ASKED = {"separated", "budget spent", "all rows measured"}  # how a decision ends that measured its offers
FREE, TURNS = "losses of training", "not paid for"


def run_once(n_steps: int, budget: float, out: Path) -> dict[str, Any]:
    """One run; what its ledger says of the cost.

    Args:
        n_steps: of four rows.
        budget: share of the training compute.
        out: its folder.
    """
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from campus_tune import CampusCallback, CampusError
    from campus_tune.demo.tasks import generate
    from campus_tune.demo.tiny import tiny_model, tiny_tokenizer

    rows = generate(-(-n_steps * BATCH // CELLS), seed=1)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[: n_steps * BATCH]
    arguments = SFTConfig(
        str(out),
        per_device_train_batch_size=BATCH,
        max_steps=n_steps,
        max_length=256,
        learning_rate=5e-4,
        logging_steps=max(1, n_steps // 4),
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
        disable_tqdm=True,
        seed=0,
    )
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            trainer = SFTTrainer(
                tiny_model(),
                args=arguments,
                train_dataset=Dataset.from_list([rows[i] for i in order]),
                processing_class=tiny_tokenizer(),
                peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
                callbacks=[
                    CampusCallback(
                        {**QUICKSTART, "budget": budget},
                        probes=Dataset.from_list(generate(1, seed=77)),
                        report=False,
                    )
                ],
            )
            trainer.train()
    except CampusError as error:
        return {"steps": n_steps, "budget": budget, "refused": str(error)}
    lines = [json.loads(line) for line in (out / "curriculum/ledger.jsonl").read_text("utf-8").splitlines()]
    decisions = [line["outcome"] for line in lines if line["event"] == "decision"]
    warned = re.findall(r"It is kept: (.*?)\. Write|measures nothing: (.*?)\.\n", said.getvalue())
    return {
        "steps": n_steps,
        "budget": budget,
        "cost": lines[-1]["cost"],
        "asked": sum(one in ASKED for one in decisions),
        "free": decisions.count(FREE),
        "turns": decisions.count(TURNS),
        "probes": sum(line["event"] == "probes" for line in lines),
        "without": "".join(warned[0]) if warned else "",
    }


def runs_of(checkout: Path, n_steps: int, budgets: Sequence[float]) -> list[dict[str, Any]]:
    """The runs of one length by a checkout's code, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    words = ["--steps", str(n_steps), "--budgets", *map(str, budgets), "--alone"]
    made = subprocess.run(
        [sys.executable, __file__, *words], env=environment, capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise SystemExit(f"{checkout} ended with {made.returncode}: {made.stderr[-2000:]}")
    return [json.loads(line) for line in made.stdout.splitlines() if line.startswith('{"steps"')]


def line_of(run: dict[str, Any]) -> str:
    """A run in a line of the table."""
    begins = f"{run['steps']:5d}  {run['budget']:6.1%}"
    if "refused" in run:
        return f"{begins}  refused: {run['refused'][:90]}"
    cost, budget = run["cost"], run["budget"]
    parts = " ".join(f"{name} {share:.1%}" for name, share in cost.items() if name != "all" and share)
    used = f"{cost['all'] / budget:5.0%}" if budget else "    –"
    decided = f"{run['asked']} asked, {run['free']} free, {run['turns']} in turns; probes {run['probes']} times"
    over = " OVER" if cost["all"] > budget + 1e-9 else ""
    without = f"; {run['without']}" if run["without"] else ""
    return f"{begins}  {cost['all']:6.1%} {used}{over}  {decided}{without} ({parts or 'nothing'})"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="another version's folder, run beside this one")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, help="optimizer steps of the runs")
    parser.add_argument("--budgets", type=float, nargs="+", default=BUDGETS, help="shares of the training compute")
    parser.add_argument("--alone", action="store_true", help="make the runs in this process, one JSON object a line")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Make the runs and print the table; 1 if a budget is overspent by this checkout."""
    options = parse(arguments)
    if options.alone:
        for n_steps in options.steps:
            for budget in options.budgets:
                with tempfile.TemporaryDirectory() as folder:
                    print(json.dumps(run_once(n_steps, budget, Path(folder))), flush=True)
        return 0
    over = 0
    for n_steps in options.steps:
        for name, checkout in (("before", options.before), ("now", HERE)):
            if checkout is None:
                continue
            made = runs_of(checkout.resolve(), n_steps, options.budgets)
            over += sum("cost" in run and run["cost"]["all"] > run["budget"] + 1e-9 for run in made if name == "now")
            print("\n".join(f"{name:6s} {line_of(run)}" for run in made), flush=True)
    return int(over > 0)


if __name__ == "__main__":
    sys.exit(main())
