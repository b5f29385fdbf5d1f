"""Does a run find wrong answers? Planted ones, by our score and by the four of Donkii (arXiv 2309.01669).

    python -m eval.suspects run --keep runs/suspects --seeds 0-4                    train, and keep what visits showed
    python -m eval.suspects run --keep runs/suspects --seeds 0-19 --plant none:0    clean rows: the false alarms
    python -m eval.suspects table runs/suspects --seeds 0-4                         tables for eval/LOG.md, in seconds

A tiny random Llama learns easy generated tasks (levels 0 and 1) until it copies and counts a little (five minutes,
once). Then it is trained through the product (trl's SFTTrainer, a CampusCallback with `selector: shuffle`) on 1 440
rows of levels 0 to 2, some of whose answers are wrong (`eval/planting.py`). What each visit showed is read back from
the run's own `training_losses/`; only AUM needs full logits, and has a forward hook of its own here. Every run is kept
as one .npz file, so that scores are compared without training again:

    visit_*  in the sequence of training, (V,): row, nll_sum, tokens, top1, worst, sureness, margin (AUM's, summed)
    row_*    (N,): wrong, domain, level, tokens, prompt (its tokens), loss and alone (mean nats per token before
             training, with the prompt and without)

A list is as long as there are planted rows, and the top tenth where more than a tenth of the rows are wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.demo.tasks import generate
from campus_tune.demo.tiny import tiny_model, tiny_tokenizer
from campus_tune.method.cells import Cells
from campus_tune.method.suspicion import Suspicion, of_forward, of_training
from campus_tune.run.stream.training_losses import FOLDER as LOSSES
from campus_tune.scores.cache import read_columns
from campus_tune.words.types import BoolArray, FloatArray, IntArray, Json
from eval.margins import Margins
from eval.planting import area, plant, precision
from eval.situations import situation

DOMAINS = ("arithmetic", "text", "lists", "calendar")  # code has the longest prompts and is left out
ROWS = {0: 150, 1: 150, 2: 60}  # level → rows of each domain: what the model knows, and some of what it does not
BATCH, RATE = 32, 1e-3
HIDDEN, START = 64, ((1000, 1500, 4e-3), (2000, 4000, 8e-3))  # rows of each domain and level, steps, highest rate
PLANTED = ("none:0", "swapped:0.05", "swapped:0.3", "any:0.05", "cut:0.05", "template:0.05", "two_answers:0.05",
           "weaker:0.05")  # fmt: skip
OURS, THEIRS = "local excess", ("loss", "mean probability", "lowest probability", "AUM")

Arrays = dict[str, Any]


# -- training ----------------------------------------------------------------------------------------------------------


def trainer_of(
    model: Any, rows: Sequence[Json], out: Path, *, epochs: int, seed: int, callbacks: Sequence[Any], **more: Any
) -> Any:
    """An SFTTrainer of the tiny model; `more` are arguments of its own."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    settings = {
        "per_device_train_batch_size": BATCH,
        "num_train_epochs": epochs,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 10,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1000,
        "use_cpu": True,
        "bf16": False,
        "activation_checkpointing": False,
        "disable_tqdm": True,
        "seed": seed,
    }
    columns = ("domain", "prompt", "completion", *(["weight"] if rows and "weight" in rows[0] else []))
    return SFTTrainer(
        model,
        args=SFTConfig(str(out), **{**settings, **more}),
        train_dataset=Dataset.from_list([{key: row[key] for key in columns} for row in rows]),
        processing_class=tiny_tokenizer(),
        callbacks=[*callbacks],
    )


def start_model(folder: Path, hidden: int = HIDDEN) -> Any:
    """The model that every run begins with; trained once, and kept."""
    import torch
    from transformers import AutoModelForCausalLM

    if not (folder / "config.json").is_file():
        model = tiny_model(hidden=hidden)
        for per_cell, steps, rate in START:
            rows = answered(generate(per_cell, seed=1000, levels=(0, 1)))
            optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
            warm = torch.optim.lr_scheduler.LambdaLR(
                optimizer,
                lambda step, n=steps: min(1, (step + 1) / 50) * max(0.02, (1 + math.cos(math.pi * step / n)) / 2),
            )
            for batch in islice(endless_batches(rows, np.random.default_rng(0)), steps):
                loss = loss_of(model, batch)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                warm.step()
        model.save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32")


def answered(rows: Sequence[Json]) -> list[tuple[list[int], int]]:
    """Rows as (token ids, how many of them are the prompt's)."""
    tokenizer = tiny_tokenizer()
    prompts = [tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True) for row in rows]
    answers = [f"{row['completion'][0]['content']}<|im_end|>\n" for row in rows]
    pairs = zip(tokenizer(prompts)["input_ids"], tokenizer(answers)["input_ids"], strict=True)
    return [(prompt + answer, len(prompt)) for prompt, answer in pairs]


def endless_batches(
    rows: Sequence[Any],
    rng: np.random.Generator,
    *,
    lengths: Sequence[int] | None = None,
    size: int = BATCH,
    near: int = 8,
) -> Iterator[list[Any]]:
    """Batches of rows of like length, epoch after epoch.

    Args:
        rows: of any kind.
        rng: the draws.
        lengths: of the rows; None where they are pairs that begin with their token ids.
        size: rows of a batch.
        near: batches that are cut from as many rows drawn at random, sorted by length.
    """
    known = np.array([len(ids) for ids, _ in rows] if lengths is None else lengths)
    while True:
        order, batches = rng.permutation(len(rows)), []
        for start in range(0, len(order), near * size):
            drawn = order[start : start + near * size]
            drawn = drawn[np.argsort(known[drawn], kind="stable")]
            batches += [drawn[i : i + size] for i in range(0, len(drawn), size)]
        for place in rng.permutation(len(batches)):
            yield [rows[i] for i in batches[place]]


def token_losses(model: Any, batch: Sequence[tuple[list[int], int]]) -> tuple[Any, Any]:
    """(Loss of each answer token, nats, the place of its row in the batch), both (t,)."""
    import torch

    width = max(len(ids) for ids, _ in batch)
    ids, answers = torch.zeros(len(batch), width, dtype=torch.long), torch.zeros(len(batch), width, dtype=torch.bool)
    for i, (tokens, prompt) in enumerate(batch):
        ids[i, : len(tokens)] = torch.tensor(tokens)
        answers[i, prompt : len(tokens)] = True
    counted = answers[:, 1:]
    states = model.model(input_ids=ids).last_hidden_state
    logits = model.lm_head(states[:, :-1][counted])
    losses = torch.nn.functional.cross_entropy(logits, ids[:, 1:][counted], reduction="none")
    return losses, counted.nonzero()[:, 0]


def loss_of(model: Any, batch: Sequence[tuple[list[int], int]]) -> Any:
    """Mean loss of the answers' tokens."""
    return token_losses(model, batch)[0].mean()


def held_out(model: Any, rows: Sequence[Json]) -> tuple[FloatArray, IntArray]:
    """(Summed loss of each answer, nats, its tokens), both (n,); the model is left in the mode for it."""
    import torch

    pairs, parts = answered(rows), []
    model.eval()
    with torch.no_grad():
        for start in range(0, len(pairs), 2 * BATCH):
            batch = pairs[start : start + 2 * BATCH]
            losses, row = (found.numpy() for found in token_losses(model, batch))
            parts.append((np.bincount(row, losses, len(batch)), np.bincount(row, minlength=len(batch))))
    nll, tokens = (np.concatenate(values) for values in zip(*parts, strict=True))
    return nll, tokens


def before_training(model: Any, dataset: Any, tokenizer: Any) -> tuple[FloatArray, FloatArray, IntArray]:
    """(Mean loss of each answer, of the answer without its prompt, its tokens) by the model as it is, each (N,)."""
    import torch

    from campus_tune.model.answer_alone import PadRight, Prepared, answers_alone
    from campus_tune.model.row_sums import batch_sums

    def losses_of(rows: Any) -> Any:
        parts = []
        with torch.no_grad():
            for start in range(0, len(rows), 64):
                batch = PadRight()(rows.__getitems__([*range(start, min(start + 64, len(rows)))]))
                sums = batch_sums(model(batch["input_ids"], attention_mask=batch["attention_mask"]), batch)
                assert sums is not None
                parts.append((sums.nll.numpy().astype(np.float64), sums.tokens.numpy()))
        return tuple(np.concatenate(values) for values in zip(*parts, strict=True))

    model.eval()
    nll, tokens = losses_of(Prepared(dataset))
    alone, _ = losses_of(answers_alone(dataset, tokenizer))
    return nll / tokens, alone / tokens, tokens


def greedy(model: Any, prompts: Sequence[str]) -> list[str]:
    """What the model answers, up to 96 tokens."""
    import torch

    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = "left"
    answers = []
    for start in range(0, len(prompts), 64):
        chats = [[{"role": "user", "content": text}] for text in prompts[start : start + 64]]
        texts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.no_grad():
            ids = model.generate(**batch, max_new_tokens=96, do_sample=False, pad_token_id=0, eos_token_id=2)
        answers += tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return answers


def planted_rows(
    kind: str, share: float, seed: int, start: Any, sizes: Mapping[int, int] | None = None
) -> tuple[list[Json], BoolArray]:
    """The rows of one run, and which of them are wrong; `sizes` are rows of each domain by level, else `ROWS`."""
    sizes = sizes or ROWS
    rows = [row for level, n in sizes.items() for row in generate(n, seed=seed, levels=[level], domains=DOMAINS)]
    rng = np.random.default_rng([seed, *kind.encode(), round(1000 * share)])
    rows = [rows[i] for i in rng.permutation(len(rows))]
    if kind == "none":
        return rows, np.zeros(len(rows), dtype=bool)
    answers = None
    if kind == "weaker":  # asked of twice as many rows as are made wrong, for some answers are right
        asked = np.sort(rng.permutation(len(rows))[: round(2 * share * len(rows))]).tolist()
        said = dict(zip(asked, greedy(start, [rows[i]["prompt"][0]["content"] for i in asked]), strict=True))
        answers = [said.get(i, "") for i in range(len(rows))]
    lengths = np.array(
        [len(ids) for ids in tiny_tokenizer()([row["completion"][0]["content"] for row in rows])["input_ids"]]
    )
    return plant(rows, kind, share, rng, lengths=lengths, answers=answers)


def visits_of(run: Path) -> Arrays:
    """What training has shown, from a run's own files, in its sequence."""
    stages = [read_columns(path)[0] for path in sorted((run / "curriculum" / LOSSES).glob("stage-*.parquet"))]
    return {f"visit_{name}": np.concatenate([stage[name] for stage in stages]) for name in stages[0]}


def one_run(start: Path, kind: str, share: float, *, epochs: int, seed: int) -> Arrays:
    """Train once; everything that scores can be made of."""
    from campus_tune import CampusCallback

    model = start_model(start)
    rows, wrong = planted_rows(kind, share, seed, model)
    with tempfile.TemporaryDirectory() as out:
        callback = CampusCallback({"metrics": [], "selector": "shuffle", "stages": 10}, report=False)
        trainer = trainer_of(model, rows, Path(out), epochs=epochs, seed=seed, callbacks=[callback])
        loss, alone, tokens = before_training(model, trainer.train_dataset, trainer.processing_class)
        whole = np.array([len(ids) for ids in trainer.train_dataset["input_ids"]])
        margins = Margins(model)
        trainer.train()
        visits = visits_of(Path(out))
    visits["visit_margin"] = margins.of_visits(visits["visit_nll_sum"])
    domains = sorted({row["domain"] for row in rows})
    return {
        **visits,
        "row_wrong": wrong,
        "row_domain": np.array([domains.index(row["domain"]) for row in rows]),
        "row_level": np.array([row["level"] for row in rows]),
        "row_tokens": tokens,
        "row_prompt": whole - tokens,
        "row_loss": loss,
        "row_alone": alone,
        "domains": np.array(domains),
    }


# -- scores ------------------------------------------------------------------------------------------------------------


def ours_by_basis(run: Arrays) -> dict[str, Suspicion]:
    """Our score by what it is made of; the one that a run has for free comes first."""
    rows, losses, n_rows = run["visit_row"], run["visit_nll_sum"] / run["visit_tokens"], len(run["row_tokens"])
    like = {"tokens": run["row_tokens"], "groups": run["row_domain"], "prompts": run["row_prompt"]}
    names = [str(name) for name in run["domains"]]
    cells = Cells.cut(run["row_tokens"].astype(np.float64), domains=run["row_domain"], domain_names=names).codes
    first = slice(n_rows)  # of a plain shuffle: each row's first visit
    two = of_forward(run["row_loss"], alone=run["row_alone"], **like)
    return {
        OURS: of_training(rows, losses, cells, n_rows, **like),
        "first pass": of_training(rows[first], losses[first], cells, n_rows, **like),
        "one forward before": of_forward(run["row_loss"], alone=None, **like),
        "two forwards before": two,
        "all of it": of_training(rows, losses, cells, n_rows, before=two.score, alone=run["row_alone"], **like),
    }


def theirs_of(run: Arrays) -> dict[str, FloatArray]:
    """Donkii's four, high is likelier wrong: means over epochs of a row's own numbers."""
    rows, tokens = run["visit_row"], run["visit_tokens"]
    visits = np.maximum(1, np.bincount(rows))
    numbers = {
        "loss": run["visit_nll_sum"] / tokens,
        "mean probability": -run["visit_sureness"] / tokens,
        "lowest probability": -np.exp(-run["visit_worst"]),
        "AUM": -run["visit_margin"] / tokens,
    }
    return {name: np.bincount(rows, weights=values) / visits for name, values in numbers.items()}


def all_scores(run: Arrays) -> dict[str, FloatArray]:
    """Ours first, then theirs, each of shape (N,)."""
    return {OURS: ours_by_basis(run)[OURS].score, **theirs_of(run)}


def length_of_list(wrong: BoolArray) -> int:
    """As many as are wrong, and no more than the top tenth."""
    return int(min(wrong.sum(), round(0.1 * len(wrong)))) if wrong.mean() > 0.1 else int(wrong.sum())


# -- tables ------------------------------------------------------------------------------------------------------------


def interval(values: Sequence[float]) -> tuple[float, float]:
    """(Mean, half of its 95 % interval by t) of numbers, one a seed."""
    from scipy import stats

    mean, n = float(np.mean(values)), len(values)
    half = stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n) if n > 1 else math.nan
    return mean, float(half)


def found_by(runs: Sequence[Arrays], what: Callable[[FloatArray, BoolArray], float]) -> dict[str, list[float]]:
    """Score → one number a run."""
    found: dict[str, list[float]] = {}
    for run in runs:
        for name, score in all_scores(run).items():
            found.setdefault(name, []).append(what(score, run["row_wrong"]))
    return found


def table_of_kinds(by_kind: dict[str, list[Arrays]]) -> str:
    """Precision in the list by kind and score, its paired differences, and the area."""
    names = (OURS, *THEIRS)
    lines = [f"| planted | {' | '.join(names)} | ours less the best of theirs | area: {' / '.join(names)} |"]
    lines.append("| --- " * (len(names) + 3) + "|")
    for planted, runs in by_kind.items():
        right = found_by(runs, lambda score, wrong: precision(score, wrong, length_of_list(wrong)))
        areas = found_by(runs, area)
        best = max(THEIRS, key=lambda name: float(np.mean(right[name])))
        gain, half = interval(np.subtract(right[OURS], right[best]).tolist())
        shown = " | ".join(f"{np.mean(right[name]):.3f}" for name in names)
        lines.append(
            f"| {planted} ({len(runs)}) | {shown} | {gain:+.3f} ± {half:.3f} ({best}) | "
            f"{' / '.join(f'{np.mean(areas[name]):.3f}' for name in names)} |"
        )
    return "\n".join(lines)


def table_of_domains(by_kind: dict[str, list[Arrays]]) -> str:
    """Share of a domain's wrong rows, of all seeds, that the list has (recall): ours, and the best of theirs."""
    domains = [str(name) for name in next(iter(by_kind.values()))[0]["domains"]]
    lines = [f"| planted | score | {' | '.join(domains)} |", "| --- " * (len(domains) + 2) + "|"]
    for planted, runs in by_kind.items():
        there, listed = np.zeros(len(domains)), {name: np.zeros(len(domains)) for name in (OURS, *THEIRS)}
        for run in runs:
            wrong, codes = run["row_wrong"], run["row_domain"]
            there += np.bincount(codes[wrong], minlength=len(domains))
            for name, score in all_scores(run).items():
                first = np.argsort(-score, kind="stable")[: length_of_list(wrong)]
                listed[name] += np.bincount(codes[first[wrong[first]]], minlength=len(domains))
        for name in (OURS, max(THEIRS, key=lambda name: float(listed[name].sum()))):
            shares = [f"{n / all_of:.2f}" if all_of else "-" for n, all_of in zip(listed[name], there, strict=True)]
            lines.append(f"| {planted} | {name} | {' | '.join(shares)} |")
    return "\n".join(lines)


def table_of_suspects(by_kind: dict[str, list[Arrays]]) -> str:
    """Who is called suspect, by what the score is made of: how many, how many of them are wrong, and the list."""
    lines = ["| planted | score | nothing to see | suspects, share of rows (most) | precision | recall | list | area |"]
    lines.append("| --- " * 8 + "|")
    for planted, runs in by_kind.items():
        found: dict[str, list[tuple[float, ...]]] = {}
        for run in runs:
            wrong = run["row_wrong"]
            for name, ours in ours_by_basis(run).items():
                called, n = ours.suspects, length_of_list(wrong)
                right = float(wrong[called].mean()) if called.any() else math.nan
                recall = float(called[wrong].mean()) if wrong.any() else math.nan
                listed = precision(ours.score, wrong, n), area(ours.score, wrong)
                found.setdefault(name, []).append((float(called.mean()), right, recall, *listed))
        for name, numbers in found.items():
            called, *others = zip(*numbers, strict=True)
            quiet = f"{sum(share == 0 for share in called)} of {len(runs)}"
            shares = f"{np.mean(called):.2%} ({max(called):.2%})"
            known = [[value for value in values if not math.isnan(value)] for values in others]
            shown = " | ".join(f"{np.mean(values):.3f}" if values else "-" for values in known)
            lines.append(f"| {planted} | {name} | {quiet} | {shares} | {shown} |")
    return "\n".join(lines)


# -- the command -------------------------------------------------------------------------------------------------------


def seeds_of(text: str) -> list[int]:
    """`0-4` or `0,3,7`, as in the file of a situation."""
    return [*situation.seeds_of(text)]


def file_of(folder: Path, planted: str, seed: int) -> Path:
    """Where a run is kept."""
    return folder / f"{planted.replace(':', '-')}-seed-{seed}.npz"


def load(folder: Path, seeds: Sequence[int], planted: Sequence[str]) -> dict[str, list[Arrays]]:
    """The runs of these seeds that are kept, by what was planted."""
    found: dict[str, list[Arrays]] = {}
    for name in planted:
        for seed in seeds:
            path = file_of(folder, name, seed)
            if path.is_file():
                found.setdefault(name, []).append(dict(np.load(path)))
    return found


def run_all(folder: Path, seeds: Sequence[int], planted: Sequence[str], epochs: int) -> None:
    """Train what is not kept yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for name in planted:
            path = file_of(folder, name, seed)
            if path.is_file():
                continue
            kind, share = name.split(":")
            began = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                found = one_run(folder / "start", kind, float(share), epochs=epochs, seed=seed)
            np.savez_compressed(path, **found)
            right = {
                key: round(precision(score, found["row_wrong"], length_of_list(found["row_wrong"])), 3)
                for key, score in all_scores(found).items()
            }
            print(f"{name} seed {seed}: {time.perf_counter() - began:.0f} s {json.dumps(right)}", flush=True)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("run", help="train, and keep what every visit showed")
    train.add_argument("--keep", type=Path, required=True, metavar="DIR")
    train.add_argument("--epochs", type=int, default=2)
    show = commands.add_parser("table", help="tables of runs that are kept")
    show.add_argument("keep", type=Path, metavar="DIR")
    for command in (train, show):
        command.add_argument("--seeds", default="0-4", help="0-4, or 0,3,7 (%(default)s)")
        command.add_argument("--plant", nargs="+", default=[*PLANTED], metavar="KIND:SHARE")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.command == "run":
        run_all(options.keep, seeds_of(options.seeds), options.plant, options.epochs)
        return 0
    by_kind = load(options.keep, seeds_of(options.seeds), options.plant)
    dirty = {name: runs for name, runs in by_kind.items() if runs[0]["row_wrong"].any()}
    print("\n\n".join([table_of_kinds(dirty), table_of_domains(dirty), table_of_suspects(by_kind)]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
