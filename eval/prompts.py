"""Does drawing prompts of middle pass rate help? Arms beside plain shuffling, on sums, with a tiny model and GRPO.

    python -m eval.prompts run --keep runs/prompts                   five seeds: half an hour of two cores
    python -m eval.prompts table runs/prompts                        the tables for eval/LOG.md
    python -m eval.prompts plot runs/prompts --out runs/prompts.png  the same as curves
    python -m eval.prompts run --keep runs/quick --quick             a minute: whether it works, not what comes out

The model is that of `campus-tune demo sums`; what it gets right before training is known exactly: the probability of
the right answer's tokens. 960 prompts, 16 of them and eight answers each in a step, 120 steps. An arm that thins draws
half of the prompts in its first 30 steps, each at most once: that is *one epoch*, at most half of the prompts drawn.
After it all are free again: the whole run is *several epochs*. Of shuffling the first 30 steps are as many prompts.

    random      no recipe but shuffling
    own         middle, by what a prompt's own tries have shown alone
    level       the same, and rates of prompts never tried are predicted: from their text, `domain` and `level`
    level ¼     that, with a quarter of the prompts in a pass
    hint .3     as level, with text and a column whose rank correlation with the true rates is 0.3 (and .6, and 1)
    shuffled    the control of hint 1: every prompt has the score of another

A run is kept as one JSON file: groups without a gradient and reward of each stage, and the mean chance of a right
answer on 120 other prompts (exact, no sampling), every 15 steps, with the tokens generated so far.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.demo.sums import right_sum, sums, warm_model
from campus_tune.words.files import atomic_write
from campus_tune.words.types import FloatArray, Json
from eval.suspects import interval

GROUP, PROMPTS, STEPS, EVERY = 8, 16, 120, 15  # answers of a prompt, prompts of a step, steps, of them until a look
CELL, TESTS = 64, 8  # prompts of each domain and level, those held out
PASS, STAGES = 30, 20  # steps in which half of the prompts are drawn; stages of all prompts
SEEDS = 5
RANDOM, CONTROL = "random", "shuffled"
HINTS = {"hint .3": 0.3, "hint .6": 0.6, "hint 1": 1.0, CONTROL: 1.0}  # arm → rank correlation of its column
MIDDLE: Json = {"selector": "shuffle", "thin": {"how": "top", "by": "middle", "keep": 0.5}, "mix": 0.2}
ARMS: Mapping[str, Json] = {  # arm → its `campus` block
    RANDOM: {"selector": "shuffle"},
    "own": {**MIDDLE, "passes": {"predict": False}},
    "level": MIDDLE,
    "level ¼": {**MIDDLE, "thin": {"how": "top", "by": "middle", "keep": 0.25}},
    **dict.fromkeys(HINTS, MIDDLE),
    CONTROL: {**MIDDLE, "control": "shuffled_scores"},
}


def campus_of(arm: str) -> Json:
    """The `campus` block of an arm."""
    return {**ARMS[arm], "stages": STAGES}


def chances(model: Any, tokenizer: Any, rows: Sequence[Json]) -> FloatArray:
    """How likely the model is to give each prompt's right answer and to end there, shape (n,).

    Args:
        model: a causal model of `warm_model`'s kind; it is put into training mode again if it was there.
        tokenizer: its.
        rows: with `prompt` and `answer`.
    """
    import torch

    chats = [row["prompt"] for row in rows]
    asked = tokenizer(tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=False))["input_ids"]
    said = [[*ids, tokenizer.eos_token_id] for ids in tokenizer([row["answer"] for row in rows])["input_ids"]]
    width = max(len(prompt) + len(answer) for prompt, answer in zip(asked, said, strict=True))
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    right = torch.zeros(len(rows), width, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(zip(asked, said, strict=True)):
        ids[row, -len(prompt) - len(answer) :] = torch.tensor(prompt + answer)
        right[row, -len(answer) :] = True
    was_training = model.training
    model.eval()
    with torch.no_grad():
        logits = model(ids, attention_mask=(ids != tokenizer.pad_token_id).long()).logits[:, :-1]  # (n, t−1, V)
    model.train(was_training)
    told = logits.log_softmax(-1).gather(2, ids[:, 1:, None]).squeeze(2)
    found: FloatArray = (told * right[:, 1:]).sum(1).exp().double().numpy()
    return found


def hinted(rates: FloatArray, rho: float, seed: int) -> FloatArray:
    """A number of every prompt whose rank correlation with its rate is `rho`, up to chance, shape (n,).

    Args:
        rates: true ones, shape (n,).
        rho: Spearman's, 0 to 1.
        seed: of the noise.
    """
    from scipy.stats import norm

    draw = np.random.default_rng([seed, 7])
    ranks = (np.argsort(np.argsort(rates)) + 0.5) / len(rates)
    r = 2 * np.sin(np.pi * rho / 6)  # Pearson's of two normal numbers whose Spearman's is rho
    hint: FloatArray = r * norm.ppf(ranks) + np.sqrt(max(0.0, 1 - r * r)) * draw.standard_normal(len(rates))
    return hint


def rows_of(arm: str, seed: int, *, per_cell: int, start: tuple[Any, Any]) -> list[Json]:
    """The prompts of an arm, with the columns that it may know, shuffled by the seed.

    Args:
        arm: of the evaluation.
        seed: of the run.
        per_cell: prompts of each domain and level.
        start: model and tokenizer before training.
    """
    rows = [row for row in sums(per_cell + TESTS, seed=seed) if int(row["id"][-4:]) >= TESTS]
    known = [{"prompt": row["prompt"], "answer": row["answer"]} for row in rows]
    if arm.startswith("level"):
        known = [{**new, "domain": row["domain"], "level": row["level"]} for new, row in zip(known, rows, strict=True)]
    elif arm in HINTS:
        hint = hinted(chances(*start, rows), HINTS[arm], seed)
        known = [{**new, "hint": float(value)} for new, value in zip(known, hint, strict=True)]
    return [known[i] for i in np.random.default_rng([seed, 3]).permutation(len(known))]


def held_out(seed: int) -> list[Json]:
    """Prompts that are never trained."""
    return sums(TESTS, seed=seed)


def one_run(start: tuple[Any, Any], arm: str, *, seed: int, steps: int, per_cell: int) -> Json:
    """Train once, and return what came of it: see the top of this file.

    Args:
        start: model and tokenizer before training; the model is copied.
        arm: of the evaluation.
        seed: of the prompts, their sequence and the answers.
        steps: optimizer steps.
        per_cell: prompts of each domain and level.
    """
    import copy

    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from campus_tune import CampusCallback
    from campus_tune.run.ledger import read_ledger

    model, tokenizer = copy.deepcopy(start[0]), start[1]
    tests = held_out(seed)
    ours = CampusCallback(campus_of(arm), quiet=True)
    looks: list[Json] = [{"step": 0, "tokens": 0, "chance": float(chances(model, tokenizer, tests).mean())}]

    class Look(TrainerCallback):
        def on_step_end(self, *given: Any, **_: Any) -> None:
            state = given[1]
            if state.global_step % EVERY == 0:
                chance = float(chances(model, tokenizer, tests).mean())
                looks.append({"step": state.global_step, "tokens": ours.run.generated_tokens, "chance": chance})

    with tempfile.TemporaryDirectory() as folder:
        args = GRPOConfig(
            folder, per_device_train_batch_size=PROMPTS * GROUP, num_generations=GROUP, max_completion_length=4,
            max_steps=steps, learning_rate=5e-4, lr_scheduler_type="constant_with_warmup", warmup_steps=10,
            adam_beta2=0.99, beta=0.0, bf16=False, use_cpu=True, activation_checkpointing=False, report_to="none",
            logging_steps=steps, disable_tqdm=True, save_strategy="no", seed=seed,
        )  # fmt: skip
        trainer = GRPOTrainer(
            model,
            reward_funcs=right_sum,
            args=args,
            train_dataset=Dataset.from_list(rows_of(arm, seed, per_cell=per_cell, start=start)),
            processing_class=tokenizer,
            callbacks=[ours, Look()],
        )
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            trainer.train()
        events = read_ledger(Path(folder) / "curriculum/ledger.jsonl")
    ends = [event for event in events if event["event"] == "stage_end"]
    fields = ("step", "generated_tokens", "groups", "reward", "pass_rate", "prediction", "seconds")
    stages = [{name: event.get(name) for name in fields} for event in ends]
    return {"arm": arm, "seed": seed, "steps": steps, "stages": stages, "looks": looks, "audit": events[-1]["audit"]}


# -- what came of it -------------------------------------------------------------------------------------------------


def without_gradient(run: Json, first: int, last: int) -> float:
    """Share of groups without a gradient in the stages that end in steps `first` < step ≤ `last`."""
    inside = [stage["groups"] for stage in run["stages"] if first < stage["step"] <= last]
    n = sum(groups["n"] for groups in inside)
    return sum(groups["n"] * groups["without_gradient"] for groups in inside) / n


def gained(run: Json, tokens: float) -> float:
    """Chance of a right answer on held-out prompts after so many generated tokens, over that before training."""
    at = np.interp(tokens, [look["tokens"] for look in run["looks"]], [look["chance"] for look in run["looks"]])
    return float(at) - float(run["looks"][0]["chance"])


def read_runs(folder: Path) -> dict[str, dict[int, Json]]:
    """Arm → seed → run, the arms in the sequence of `ARMS`."""
    found: dict[str, dict[int, Json]] = {arm: {} for arm in ARMS}
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text("utf-8"))
        found[run["arm"]][run["seed"]] = run
    return {arm: runs for arm, runs in found.items() if runs}


def tables(runs: Mapping[str, Mapping[int, Json]]) -> str:
    """Markdown: groups without a gradient, and what was gained at equal generated tokens.

    Args:
        runs: arm → seed → run; those of `RANDOM` are among them.
    """
    steps = min(run["steps"] for of_arm in runs.values() for run in of_arm.values())
    parts = [(0, PASS // 2), (PASS // 2, PASS), *((first, first + PASS) for first in range(0, steps, PASS)), (0, steps)]
    parts = [part for part in parts if part[0] < part[1] <= steps]
    heads = [f"{first + 1}–{last}" for first, last in parts]
    lines = ["Share of groups without a gradient, by steps:", "", f"| arm | {' | '.join(heads)} |"]
    lines += ["|---" * (len(heads) + 1) + "|"]
    for arm, of_arm in runs.items():
        means = [np.mean([without_gradient(run, *part) for run in of_arm.values()]) for part in parts]
        lines.append(f"| {arm} | {' | '.join(f'{mean:.2f}' for mean in means)} |")
    lines += ["", "Gain in the chance of a right answer on held-out prompts, at equal generated tokens:", ""]
    lines += ["| arm | one epoch | beside shuffling | several epochs | beside shuffling |", "|---|---|---|---|---|"]
    ends = [_tokens_of_all(runs, min(PASS, steps)), _tokens_of_all(runs, steps)]
    for arm, of_arm in runs.items():
        cells = [arm]
        for end in ends:
            seeds = sorted(set(of_arm) & set(runs[RANDOM]))
            ours = np.array([gained(of_arm[seed], end[seed]) for seed in seeds])
            beside = ours - [gained(runs[RANDOM][seed], end[seed]) for seed in seeds]
            mean, half = interval(beside.tolist())
            told = "" if arm == RANDOM else f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"
            cells += [f"{ours.mean():+.3f}", told]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _tokens_of_all(runs: Mapping[str, Mapping[int, Json]], step: int) -> dict[int, float]:
    """Seed → tokens that every arm of this seed has generated by a step."""
    found: dict[int, float] = {}
    for of_arm in runs.values():
        for seed, run in of_arm.items():
            tokens = next(look["tokens"] for look in run["looks"] if look["step"] == step)
            found[seed] = min(found.get(seed, np.inf), tokens)
    return found


def plot(runs: Mapping[str, Mapping[int, Json]], path: Path) -> None:
    """Both measures over the run, the mean of the seeds, each arm a line.

    Args:
        runs: arm → seed → run.
        path: of the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, (arm, of_arm) in enumerate(runs.items()):
        look: Json = {"color": f"C{number}", "lw": 2.4 if arm == RANDOM else 1.4, "label": arm}
        look |= {"ls": "--"} if arm == CONTROL else {}
        some = next(iter(of_arm.values()))
        steps = [stage["step"] for stage in some["stages"]]
        shares = [[stage["groups"]["without_gradient"] for stage in run["stages"]] for run in of_arm.values()]
        left.plot(steps, np.mean(shares, axis=0), **look)
        tokens = np.linspace(0, min(run["looks"][-1]["tokens"] for run in of_arm.values()), 60)
        right.plot(
            tokens / 1000, np.mean([[gained(run, at) for at in tokens] for run in of_arm.values()], axis=0), **look
        )
    left.axvline(PASS, color="0.8", lw=1, zorder=0)
    left.set(xlabel="step", ylabel="groups without a gradient", ylim=(0, 1))
    right.set(xlabel="generated tokens (thousands)", ylabel="gain in the chance of a right answer")
    left.legend(fontsize=8, ncols=2)
    figure.savefig(path, dpi=120)


# -- the command -----------------------------------------------------------------------------------------------------


def main(words: Sequence[str] | None = None) -> None:
    """Run, or tell what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    run = parts.add_parser("run", help="train what is not kept yet")
    run.add_argument("--keep", type=Path, required=True, metavar="DIR")
    run.add_argument("--seeds", type=int, default=SEEDS)
    run.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    run.add_argument("--quick", action="store_true", help="few prompts, few steps, a colder model, one seed")
    for name, about in (("table", "print the tables"), ("plot", "draw the curves")):
        part = parts.add_parser(name, help=about)
        part.add_argument("folder", type=Path)
        if name == "plot":
            part.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args(words)
    if asked.part == "table":
        print(tables(read_runs(asked.folder)), end="")
    elif asked.part == "plot":
        plot(read_runs(asked.folder), asked.out)
    else:
        train_all(asked.keep, asked.arms, seeds=1 if asked.quick else asked.seeds, quick=asked.quick)


def train_all(keep: Path, arms: Sequence[str], *, seeds: int, quick: bool) -> None:
    """Train all arms, seed by seed; runs that are kept are not trained again."""
    start = warm_model(steps=300 if quick else None)
    size = {"steps": 30, "per_cell": 32} if quick else {"steps": STEPS, "per_cell": CELL}
    keep.mkdir(parents=True, exist_ok=True)
    for seed in range(seeds):
        for arm in arms:
            path = keep / f"{arm.replace(' ', '_')}-{seed}.json"
            if not path.exists():
                done = one_run(start, arm, seed=seed, **size)
                atomic_write(path, json.dumps(done) + "\n")
                shares = [stage["groups"]["without_gradient"] for stage in done["stages"]]
                ends = [round(done["looks"][i]["chance"], 3) for i in (0, -1)]
                print(
                    f"{arm} {seed}: without a gradient {np.mean(shares):.2f}, chance {ends[0]} → {ends[1]}", flush=True
                )


if __name__ == "__main__":
    main()
