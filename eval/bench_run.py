r"""A whole run beside plain TRL's, all included: seconds, padding, tokens a second, peak memory.

Arms train the same rows for as many steps, each in a process of its own, in turns: every turn has its own rows and its
own seed, the same for all arms, and goes through the arms the other way round than the one before. So what else the
machine does hits all arms alike, and a turn's ratio to plain TRL is of a pair. What is timed is `trainer.train()`: the
reading of rows, scores, planning, probes, decisions and audits are in it; loading the model and TRL's tokenising are
not, for they are the same in all arms. All have the head of TRL's own loss, which keeps no logits.

    plain       TRL: rows drawn at random, micro batches as they come
    grouped     TRL with `train_sampling_strategy: group_by_length`: other rows in a step than a random draw has
    rebalanced  TRL with `batch_rebalance`: a step's rows dealt out by length
    shuffle     ours, `selector: shuffle`
    default     ours: three metrics and probes, a budget of 5 %
    flat        `shuffle` without padding (`batching: flat`)
    packed      TRL with `packing: true`, as many tokens in a step
    translated  what we say to write instead of it
    shuffle_before, default_before   the same two by the checkout `--before`

Rows: `mix`, of `--data` (the experiment mixture), `spread`, made up with lengths like it, and `equal`, made up and all
of one length, where nothing can be saved. The interval is Student's t over the logarithms of the turns' ratios, both
sides 95 %, so its upper end is a bound of 97.5 %. Turns are kept in `--keep`: the same command goes on, and `--turns 0`
prints what is there.

    python eval/bench_run.py --data ../shared/data/mix --keep runs/bench_run --turns 8
    python eval/bench_run.py --data ../shared/data/mix --keep runs/bench_run --turns 3 --rows 64 --sets mix \
        --model runs/quickstart/model --arms plain shuffle default
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit  # type: ignore[import-untyped]  # scipy ships no types

from campus_tune.words.files import atomic_write
from campus_tune.words.tables import table
from campus_tune.words.types import Json

PLAIN = "plain"
TRL: dict[str, Json] = {
    PLAIN: {},
    "grouped": {"train_sampling_strategy": "group_by_length"},
    "rebalanced": {"train_sampling_strategy": "batch_rebalance"},
}
METRICS = ["length", "mtld", "loss"]
OURS: dict[str, Json] = {
    "shuffle": {"selector": "shuffle"},
    "default": {"metrics": METRICS},
    "flat": {"selector": "shuffle", "batching": "flat"},
}
PACKED = ("packed", "translated")  # compared with each other, by the token
BEFORE = "_before"  # of an arm that another checkout runs
ARMS = (*TRL, *OURS, *PACKED)
OLD = (f"shuffle{BEFORE}", f"default{BEFORE}")
SETS = ("mix", "spread", "equal")
SEQUENCE = 512  # tokens of a packed one
MEAN, SPREAD = 136, 0.6  # of the mix: tokens of a row, and the deviation of their logarithm
N_PROBES = 8  # of each domain
GOALS = {  # set → (bound of the default's time beside plain TRL's, what is added to it by the budget)
    "mix": 0.60,
    "equal": 1.0 + 0.05 + 0.01,
}
MEMORY = 1.02


@dataclass(frozen=True)
class Job:
    """One run.

    Args:
        arm: of `ARMS`.
        rows_of: of `SETS`.
        turn: seeds the rows, their sequence, and the adapter.
        model: a folder; "" makes a tiny random one.
        rows: of the training set.
        micro: rows of a micro batch.
        accumulation: micro batches of a step.
        epochs: through the rows.
        data: folder of the mixture.
    """

    arm: str
    rows_of: str
    turn: int
    model: str
    rows: int
    micro: int
    accumulation: int
    epochs: int
    data: str

    @property
    def name(self) -> str:
        """Of its file; runs under the same name but for the arm and the turn can be compared."""
        return f"{self.of}-{self.arm}-{self.turn}"

    @property
    def of(self) -> str:
        """What it shares with those that it is compared with."""
        model = Path(self.model).name or "tiny"
        shape = f"{self.rows}x{self.epochs}-{self.micro}x{self.accumulation}"
        return f"{model}-{self.rows_of}-{shape}"


# -- rows ------------------------------------------------------------------------------------------------------------


def rows_of(job: Job, vocabulary: int) -> tuple[list[Json], list[Json]]:
    """(Training rows, probes) of a job: a mixture's, drawn anew in each turn, or made-up tokens."""
    rng = np.random.default_rng([job.turn, job.rows])
    if job.rows_of == "mix":
        with gzip.open(Path(job.data) / "train.jsonl.gz", "rt") as file:
            every = [json.loads(line) for line in file]
        chosen = [every[i] for i in rng.choice(len(every), job.rows, replace=False)]
        probes = []
        for path in sorted(Path(job.data).glob("probe_*.jsonl.gz")):
            with gzip.open(path, "rt") as file:
                probes += [json.loads(line) for line, _ in zip(file, range(N_PROBES), strict=False)]
        kept = ("messages", "domain")
        return [{name: row[name] for name in kept} for row in chosen], [{n: row[n] for n in kept} for row in probes]
    lengths = np.full(job.rows + N_PROBES, MEAN)
    if job.rows_of == "spread":
        drawn = rng.lognormal(math.log(MEAN) - SPREAD**2 / 2, SPREAD, len(lengths))
        lengths = drawn.clip(16, 4 * MEAN).astype(int)
    rows = []
    for length in lengths.tolist():
        ids = rng.integers(3, vocabulary, length).tolist()
        rows.append({"input_ids": ids, "completion_mask": [0] * (length // 2) + [1] * (length - length // 2)})
    return rows[: job.rows], rows[job.rows :]


# -- one run, in a process of its own --------------------------------------------------------------------------------


class Seen:
    """What goes through the model with gradients: own tokens, tokens with padding, the largest micro batch."""

    def __init__(self) -> None:
        self.own = self.padded = self.largest = 0

    def look(self, module: Any, _: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """A forward hook of the model."""
        import torch

        ids, mask = named["input_ids"], named.get("attention_mask")
        if not torch.is_grad_enabled() or not module.training:
            return
        self.own += ids.numel() if mask is None else int(mask.sum())
        self.padded += ids.numel()
        self.largest = max(self.largest, ids.numel())


def make_trainer(job: Job, folder: Path) -> Any:
    """The arm's trainer, its rows prepared."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from campus_tune import CampusCallback
    from campus_tune.demo.tiny import write_tiny

    gpu = torch.cuda.is_available()
    model = job.model or str(write_tiny(folder / "tiny"))
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows, probes = rows_of(job, len(tokenizer))
    length = 512 if not job.model else 1024  # the tiny model's context
    batch = {"per_device_train_batch_size": job.micro, "gradient_accumulation_steps": job.accumulation}
    asked: Json = {**batch, "max_length": length, **TRL.get(job.arm, {})}
    arm = job.arm.removesuffix(BEFORE)
    config = OURS.get(arm)
    if job.arm in PACKED:  # as many tokens in a step as the other arms have, about
        micro = max(1, round(job.micro * MEAN / SEQUENCE))
        asked |= {"packing": True, "per_device_train_batch_size": micro, "max_length": SEQUENCE}
    if job.arm == "translated":
        texts = [tokenizer.apply_chat_template(row["messages"], tokenize=False) for row in rows if "messages" in row]
        ids = tokenizer(texts)["input_ids"] if texts else [row["input_ids"] for row in rows]
        lengths = np.array([len(each) for each in ids])
        from campus_tune.recipe.packing import translate  # which a checkout of before has not

        asked |= translate(lengths, max_length=SEQUENCE, micro=micro, accumulation=job.accumulation).settings
        config = OURS["flat"]
    callbacks = []
    if config is not None:
        given = dict(config)
        if arm == "default":
            if job.rows_of == "equal":  # which `length` cannot order
                given["metrics"] = METRICS[1:]
            (folder / "probes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in probes))
            given["probes"] = {"path": str(folder / "probes.jsonl")}
        callbacks.append(CampusCallback({**given, "scores": "none"}, report=False))
    return SFTTrainer(
        model,
        args=SFTConfig(
            str(folder / "out"),
            **asked,
            num_train_epochs=job.epochs,
            seed=job.turn,
            report_to="none",
            save_strategy="no",
            bf16=gpu,
            use_cpu=not gpu,
            activation_checkpointing=False,
            disable_tqdm=True,
            logging_steps=1,
            use_liger_kernel=False,
            model_init_kwargs={"dtype": "bfloat16" if gpu else "float32"},
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, target_modules="all-linear", lora_dropout=0.0),
        callbacks=callbacks,
    )


def train(job: Job) -> Json:
    """One run; what it took and what came out."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(job, Path(folder))
        seen = Seen()
        trainer.model.register_forward_pre_hook(seen.look, with_kwargs=True)
        began, used = time.perf_counter(), time.process_time()
        result = trainer.train()
        wall, cpu = time.perf_counter() - began, time.process_time() - used
        losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        return {
            "wall": wall,
            "cpu": cpu,
            "peak": peak or 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            "steps": result.global_step,
            "loss": statistics.fmean(losses),
            "own": seen.own,
            "padded": seen.padded,
            "largest": seen.largest,
            **_of_ours(Path(folder)),
        }


def _of_ours(folder: Path) -> Json:
    """What our run says of itself, {} for one of TRL's."""
    ledger = folder / "out" / "curriculum" / "ledger.jsonl"
    if not ledger.exists():
        return {}
    end = json.loads(ledger.read_text().splitlines()[-1])
    return {"cost": end["cost"], "audit": end["audit"], "seconds": end["seconds"], "padding": end.get("padding", {})}


# -- many of them ----------------------------------------------------------------------------------------------------


def run_turn(jobs: Sequence[Job], keep: Path, before: str) -> None:
    """The arms of one turn, those that are not kept already; each in its own process."""
    for job in jobs:
        package = before if job.arm.endswith(BEFORE) else str(Path(__file__).parents[1])
        path = keep / f"{job.name}.json"
        if path.exists():
            continue
        ended = subprocess.run(
            [sys.executable, __file__, "--job", json.dumps(asdict(job))],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": package},
            check=False,
        )
        if ended.returncode:
            raise SystemExit(f"{job.name} failed:\n{ended.stderr[-3000:]}")
        atomic_write(path, ended.stdout.splitlines()[-1])
        print(f"{job.name}: {summary(json.loads(path.read_text()))}", flush=True)


def summary(run: Json) -> str:
    """One run in a line."""
    return (
        f"{run['wall']:.1f} s, {run['cpu']:.1f} s of CPU, padding {1 - run['own'] / run['padded']:.3f}, "
        f"loss {run['loss']:.3f}"
    )


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean of paired ratios, and its 95 % interval: Student's t of their logarithms.

    >>> interval([0.5])
    (0.5, nan, nan)
    """
    logs = np.log(ratios)
    if len(logs) < 2:
        return float(np.exp(logs.mean())), math.nan, math.nan
    half = stdtrit(len(logs) - 1, 0.975) * logs.std(ddof=1) / math.sqrt(len(logs))
    low, mean, high = np.exp(logs.mean() + half * np.array([-1.0, 0.0, 1.0])).tolist()
    return mean, low, high


def ratios(runs: Mapping[str, Mapping[int, Json]], arm: str, what: str, by: str = "steps") -> list[float]:
    """Of an arm to the one that it is compared with, turn by turn, at equal `by`."""
    base = PACKED[0] if arm in PACKED else PLAIN
    both = sorted(runs.get(arm, {}).keys() & runs.get(base, {}).keys())
    return [
        (runs[arm][turn][what] / runs[arm][turn][by]) / (runs[base][turn][what] / runs[base][turn][by]) for turn in both
    ]


def tell(runs: Mapping[str, Mapping[int, Json]]) -> tuple[str, Json]:
    """(The table of runs that can be compared, its numbers).

    Args:
        runs: arm → turn → what it took.
    """
    lines, numbers = [], {}
    for arm, turns in runs.items():
        each = list(turns.values())
        found: Json = {
            "turns": len(each),
            "wall": statistics.median(run["wall"] for run in each),
            "cpu": statistics.median(run["cpu"] for run in each),
            "padding": 1 - sum(run["own"] for run in each) / sum(run["padded"] for run in each),
            "largest": max(run["largest"] for run in each),
            "tokens_per_cpu_second": sum(run["own"] for run in each) / sum(run["cpu"] for run in each),
            "peak": statistics.median(run["peak"] for run in each),
            "loss": statistics.fmean(run["loss"] for run in each),
        }
        by = "own" if arm in PACKED else "steps"
        for what in ("wall", "cpu", "peak"):
            found[f"{what}_ratio"] = interval(ratios(runs, arm, what, by if what != "peak" else "steps"))
        numbers[arm] = found
        cells = [
            f"{found['wall']:.1f}",
            f"{found['cpu']:.1f}",
            f"{found['padding']:.3f}",
            f"{found['largest']:,}",
            f"{found['tokens_per_cpu_second']:,.0f}",
            f"{found['peak'] / 2**30:.2f}",
            f"{found['loss']:.3f}",
            *(_shown(found[f"{what}_ratio"]) for what in ("wall", "cpu", "peak")),
        ]
        lines.append([arm, str(len(each)), *cells])
    head = ["arm", "turns", "wall s", "CPU s", "padding", "largest", "tokens / CPU s", "peak GB", "loss"]
    return table([*head, "wall ×", "CPU ×", "peak ×"], lines), numbers


def _shown(ratio: tuple[float, float, float]) -> str:
    mean, low, high = ratio
    return f"{mean:.3f}" if math.isnan(low) else f"{mean:.3f} ({low:.3f} to {high:.3f})"


def verdicts(rows_of_run: str, numbers: Json) -> list[str]:
    """Each goal, reached or missed; nothing where its arm has fewer than two turns."""
    said = []
    default, goal = numbers.get("default"), GOALS.get(rows_of_run)
    if default is not None and goal is not None and default["turns"] > 1:
        for what in ("wall", "cpu"):
            mean, _, high = default[f"{what}_ratio"]
            word = "reached" if high <= goal else "missed"
            said.append(f"default, {what}: at most {goal:g} × plain TRL, got {mean:.3f}, bound {high:.3f}: {word}")
    for arm, found in numbers.items():
        if arm in OURS and found["turns"] > 1:
            mean, _, high = found["peak_ratio"]
            word = "reached" if high <= MEMORY else "missed"
            said.append(f"{arm}, memory: at most {MEMORY:g} × plain TRL, got {mean:.3f}, bound {high:.3f}: {word}")
    return said


def kept(keep: Path, jobs: Sequence[Job]) -> dict[str, dict[int, Json]]:
    """Arm → turn → what was kept of runs like these, of any number of turns."""
    runs: dict[str, dict[int, Json]] = {}
    for job in jobs:
        for path in sorted(keep.glob(f"{job.of}-{job.arm}-*.json")):
            runs.setdefault(job.arm, {})[int(path.stem.rpartition("-")[2])] = json.loads(path.read_text())
    return runs


def main() -> None:
    """Run the turns that are missing, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--model", default="", help="a model folder; the default is a tiny random one")
    parser.add_argument("--data", default="", help="folder of the mixture")
    parser.add_argument("--sets", nargs="+", choices=SETS, help="rows (mix and equal; without --data spread and equal)")
    parser.add_argument("--arms", nargs="+", choices=(*ARMS, *OLD), default=ARMS, help="what is compared")
    parser.add_argument("--before", default="", help="another checkout, of the arms that end with `_before`")
    parser.add_argument("--rows", type=int, default=512, help="of the training set")
    parser.add_argument("--epochs", type=int, default=1, help="through them")
    parser.add_argument("--batch", type=int, nargs=2, default=(8, 4), metavar="N", help="rows, accumulation")
    parser.add_argument("--turns", type=int, default=3, help="of every arm; 0 prints what is kept")
    parser.add_argument("--first", type=int, default=0, help="turn, where some were run by an earlier version")
    parser.add_argument("--keep", type=Path, help="folder of the turns; the default forgets them")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    options = parser.parse_args()
    if options.job:
        print(json.dumps(train(Job(**json.loads(options.job)))))
        return
    sets = options.sets or (("mix", "equal") if options.data else ("spread", "equal"))
    with tempfile.TemporaryDirectory() as scratch:
        keep = options.keep or Path(scratch)
        keep.mkdir(parents=True, exist_ok=True)
        told: Json = {}
        micro, accumulation = options.batch
        size = (options.rows, micro, accumulation, options.epochs, options.data)
        made = {name: [Job(arm, name, 0, options.model, *size) for arm in options.arms] for name in sets}
        for turn in range(options.first, options.first + options.turns):
            for name in sets:
                jobs = [Job(arm, name, turn, options.model, *size) for arm in options.arms]
                run_turn(jobs[::-1] if turn % 2 else jobs, keep, options.before)
        for name in sets:
            shown, told[name] = tell(kept(keep, made[name]))
            print(f"\n{made[name][0].of}\n{shown}", *verdicts(name, told[name]), sep="\n")
        if options.json:
            atomic_write(options.json, json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
