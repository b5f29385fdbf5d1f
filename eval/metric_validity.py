"""Do the metrics measure difficulty? Spearman's ρ of every metric with the true level, where that is known.

Rows of graded tasks are scored by the model as it comes ("before"), the model is trained a little on other rows of the
same tasks ("after": it knows the format by then, and its loss is less about how answers are written), and they are
scored again. Three readings of one table:

- *mean over tasks*: ρ inside each task, averaged over the tasks that have one. What a metric is worth within a domain.
- *pooled*: ρ over all rows in one list. Levels of different tasks are not on one scale, so this one also asks a metric
  to put tasks in a sequence that nobody has defined: what `within: none` leads to.
- *pooled within*: ranks of score and level inside each task, correlated over all rows. What `within: task` leads to; a
  task where a metric is constant counts, as 0, which it does not in the mean over tasks.

Intervals are 95 % percentile bootstraps over rows, drawn inside each task, the same draws for every metric: they say
what other rows would have given, not what another model, seed or warm-up would. A metric that does not vary inside a
task has no ρ there; the last column counts those tasks, and the table per task shows them as "-".

    python eval/metric_validity.py                                             a tiny random model, generated tasks
    python eval/metric_validity.py --model runs/quickstart/model --per-cell 8 --warm-up 50
    python eval/metric_validity.py --model MODEL --data reasoning_gym/train.jsonl.gz --per-cell 4 --out validity.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from datasets import Dataset
from peft import LoraConfig
from scipy import stats
from transformers import set_seed
from trl import SFTConfig, SFTTrainer

from campus_tune.data.domains import Domains
from campus_tune.data.prepared import read_column, read_rows
from campus_tune.demo.tasks import generate
from campus_tune.demo.tiny import write_tiny
from campus_tune.method.orders import group_codes
from campus_tune.method.stats import spearman
from campus_tune.metrics import build_metric
from campus_tune.metrics.extras import missing_parts
from campus_tune.model import compat
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.model.trained import as_trained
from campus_tune.preview.setup import make_budget
from campus_tune.recipe.config import CampusConfig
from campus_tune.scores.planning import make_scoring
from campus_tune.words.files import atomic_write, read_jsonl

SUM = {"name": "loss", "reduce": "sum", "label": "loss sum"}
METRICS: tuple[Any, ...] = (
    {"name": "length", "of": "response", "label": "length response"},
    {"name": "length", "of": "prompt", "label": "length prompt"},
    "mtld",
    "compression",
    "readability",
    {"name": "loss", "reduce": "mean", "label": "loss mean"},
    SUM,
    {"name": "confidence", "of": "least", "label": "confidence least"},
    {"name": "confidence", "of": "mean", "label": "confidence mean"},
    "ifd",
    {"name": "rank_mean", "of": [SUM, {"name": "length", "of": "prompt", "label": "length prompt"}]},
)
CHANCE = "random numbers"  # a row of the table: what no metric at all looks like
PLENTY = 1e12  # training tokens that pay for the scoring: the scorer takes all the pairs that it may
TASK, LEVEL = "task", "level"


# -- the arithmetic ---------------------------------------------------------------------------------------------------


def row_pearson(a: Any, b: Any) -> Any:
    """Pearson's r of each line of `a` with the same line of `b`, both (B, n); NaN where a side is constant."""
    x, y = (values - values.mean(axis=-1, keepdims=True) for values in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (x * y).sum(-1) / np.sqrt((x**2).sum(-1) * (y**2).sum(-1))


def row_spearman(a: Any, b: Any) -> Any:
    """The same of their ranks: Spearman's ρ."""
    return row_pearson(stats.rankdata(a, axis=-1), stats.rankdata(b, axis=-1))


def ranks_inside(values: Any, tasks: Any) -> Any:
    """Ranks inside each task as shares of its size, for each line of `values`, (B, n); a task's rows lie together."""
    out = np.empty(values.shape)
    for task in np.unique(tasks):
        mine = tasks == task
        out[:, mine] = (stats.rankdata(values[:, mine], axis=-1) - 0.5) / mine.sum()
    return out


def readings(scores: Any, level: Any, tasks: Any) -> dict[str, Any]:
    """The three readings of the module's docstring, and ρ of each task.

    Args:
        scores: one line per resample, shape (B, n); a task's rows lie in the same columns in every line.
        level: of the same rows, shape (B, n).
        tasks: number of each column's task, shape (n,).

    Returns:
        `mean`, `pooled`, `within`, each of shape (B,), and `by_task`, shape (B, tasks). NaN where there is none.
    """
    columns = [tasks == task for task in np.unique(tasks)]
    by_task = np.stack([row_spearman(scores[:, mine], level[:, mine]) for mine in columns], axis=1)  # (B, tasks)
    known = np.isfinite(by_task)
    with np.errstate(invalid="ignore"):
        mean = np.where(known, by_task, 0.0).sum(1) / known.sum(1)
    within = row_pearson(ranks_inside(scores, tasks), ranks_inside(level, tasks))
    return {"mean": mean, "pooled": row_spearman(scores, level), "within": within, "by_task": by_task}


def resamples(tasks: Any, n: int, seed: int) -> Any:
    """Row numbers drawn with replacement inside each task, shape (n, rows)."""
    rng, drawn = np.random.default_rng(seed), np.empty((n, len(tasks)), dtype=np.int64)
    for task in np.unique(tasks):
        rows = np.flatnonzero(tasks == task)
        drawn[:, rows] = rows[rng.integers(len(rows), size=(n, len(rows)))]
    return drawn


def interval(values: Any) -> list[float] | None:
    """The middle 95 % of a bootstrap's values; None where there are none."""
    finite = values[np.isfinite(values)]
    return np.quantile(finite, [0.025, 0.975]).tolist() if len(finite) else None


def validity(scores: Any, level: Any, tasks: Any, drawn: Any) -> dict[str, Any]:
    """Everything that the tables say of one metric.

    Args:
        scores: shape (n,).
        level: true level, shape (n,).
        tasks: task number of each row, shape (n,).
        drawn: of `resamples`, shape (B, n).
    """
    here = readings(scores[None], level[None], tasks)
    again = readings(scores[drawn], level[drawn], tasks)
    found: dict[str, Any] = {
        name: [float(here[name][0]), interval(again[name])] for name in ("mean", "pooled", "within")
    }
    found["by_task"] = [[float(rho), interval(again["by_task"][:, i])] for i, rho in enumerate(here["by_task"][0])]
    found["no_variation"] = int((~np.isfinite(here["by_task"][0])).sum())
    return found


# -- the rows ---------------------------------------------------------------------------------------------------------


def as_row(row: Mapping[str, Any], task_column: str | None) -> dict[str, Any]:
    """A graded row as TRL trains it, from prompt and completion, messages, or question and answer."""
    task = row[task_column or next(name for name in (TASK, "domain") if name in row)]
    labels = {TASK: str(task), LEVEL: int(row[LEVEL])}
    if "prompt" in row:
        return {**labels, "prompt": row["prompt"], "completion": row["completion"]}
    if "messages" in row:
        return {**labels, "prompt": row["messages"][:-1], "completion": row["messages"][-1:]}
    said = {"prompt": ("user", row["question"]), "completion": ("assistant", row["answer"])}
    return {**labels, **{part: [{"role": role, "content": str(text)}] for part, (role, text) in said.items()}}


def deal(rows: Sequence[dict[str, Any]], *, per_cell: int, seed: int) -> tuple[list[Any], list[Any]]:
    """(`per_cell` rows of each task and level to be scored, task by task; the others, shuffled, to warm up on).

    A task that has a level less often gives what it has. Rows without a level (below 0) are left out.
    """
    shuffled = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows)) if rows[i][LEVEL] >= 0]
    counts: dict[tuple[str, int], int] = {}
    scored, others = [], []
    for row in shuffled:
        cell = (row[TASK], row[LEVEL])
        counts[cell] = counts.get(cell, 0) + 1
        (scored if counts[cell] <= per_cell else others).append(row)
    return sorted(scored, key=lambda row: (row[TASK], row[LEVEL])), others


def read_graded(options: argparse.Namespace) -> tuple[list[Any], list[Any]]:
    """The rows to be scored, and those to warm up on."""
    n_others = options.warm_up * options.batch
    if options.data:
        raw = [row for path in options.data for row in read_jsonl(path)]
    else:
        raw = generate(options.per_cell + -(-n_others // 25), seed=options.seed)
    scored, others = deal(
        [as_row(row, options.task_column) for row in raw], per_cell=options.per_cell, seed=options.seed
    )
    if n_others > len(others):
        print(f"only {len(others)} other rows for a warm-up of {n_others}: some are trained twice")
    return scored, others[:n_others]


# -- the model --------------------------------------------------------------------------------------------------------


def make_trainer(model: Any, rows: Sequence[Any], out: str, options: argparse.Namespace) -> SFTTrainer:
    """A trainer of `rows`, as `campus-tune sft` makes one; LoRA on a model that is named and not yet loaded."""
    set_seed(options.seed)  # an adapter's first weights are drawn before the trainer seeds anything
    on_gpu = torch.cuda.is_available()
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
    names = SFTConfig.__dataclass_fields__  # transformers renamed this one
    checkpointing = "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"
    config = SFTConfig(
        out,
        max_steps=max(1, options.warm_up),
        per_device_train_batch_size=options.batch,
        learning_rate=options.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=max(1, options.warm_up // 10),
        seed=options.seed,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        **{checkpointing: False},
        report_to="none",
        save_strategy="no",
        logging_steps=10,
        disable_tqdm=True,
        model_init_kwargs={"dtype": "bfloat16" if on_gpu else "float32"} if isinstance(model, str) else None,
    )
    named = isinstance(model, str)
    return SFTTrainer(
        model, args=config, train_dataset=Dataset.from_list(list(rows)), peft_config=lora if named else None
    )


@dataclass
class Scored:
    """One scoring of all rows.

    Args:
        scores: by label of the metric, each of shape (N,).
        notes: what the ledger would say of each.
        seconds: on the clock.
        tokens: that went through the model, to train the scorer too.
        seeds: stability of the scorer between two seeds, where it was asked for.
    """

    scores: dict[str, Any]
    notes: dict[str, Any]
    seconds: float
    tokens: int
    seeds: float | None = None
    warnings: list[str] = field(default_factory=list)


def score(trainer: SFTTrainer, metrics: Sequence[Any], options: argparse.Namespace) -> Scored:
    """The package's own scoring of all of the trainer's rows, with the model as it is now, nothing from a cache."""
    began = time.perf_counter()
    view, collator = compat.loader_view(trainer, trainer.train_dataset)
    rows, peers = read_rows(view), Peers.of(trainer)
    config = CampusConfig(metrics=metrics, scores="none", selector="round_robin", within=TASK)
    config = config.resolved(has_probes=False, domain_in_data=False, seed=options.seed)
    budget = make_budget(trainer, config, PLENTY, refreshes=0)
    meter = LossMeter(partial(compat.subject, trainer), view, collator, rows.tokens, peers=peers, what="scoring")
    trained = as_trained(view, collator)
    groups = Domains.read(trainer.train_dataset, config.within).codes
    scoring = make_scoring(trainer, config, rows, meter, budget, peers, groups=groups, whole=True, trained=trained)
    found = scoring.start()
    tokens = sum(timing.tokens for timing in scoring.passages.timings)
    warnings = [*found.warnings, *scoring.passages.warnings]
    scored = Scored(found.by_label, found.notes, time.perf_counter() - began, tokens, warnings=warnings)
    if scoring.scorer is not None and options.stability_rows:
        scored.seeds = between_seeds(scoring.scorer, found.by_label["scorer"], options)
    return scored


def between_seeds(scorer: Any, scores: Any, options: argparse.Namespace) -> float:
    """Rank correlation of the scorer's scores with those of one trained with another seed, on some of the rows."""
    n = min(options.stability_rows, len(scores))
    some = np.sort(np.random.default_rng(options.seed).permutation(len(scores))[:n])
    scorer.seed += 1
    training = scorer.train(np.ones(len(scores), dtype=np.bool_), allowance=np.inf, refresh=0)
    return spearman(scorer.read(training.heads, some)[:, 0], scores[some])


def chosen_metrics(options: argparse.Namespace) -> list[Any]:
    """The recipe's `metrics`, without those whose library is not installed."""
    wanted = [yaml.safe_load(entry) for entry in options.metrics]
    if not wanted:
        wanted = [*METRICS, {"name": "scorer", "new_tokens": options.new_tokens, "pairs": options.pairs}]
        if options.reference:
            wanted += [
                {"name": "perplexity", "model": options.reference, "reduce": r, "label": f"perplexity {r}"}
                for r in ("mean", "sum")
            ]
        if options.holdout:
            wanted += [{"name": "-rho", "holdout": options.holdout, "reduce": "sum", "label": "-rho sum"}]
        if options.proxy:
            wanted += [{"name": "-learnability", "proxy": options.proxy, "reduce": "sum", "label": "-learnability sum"}]
    usable = []
    for entry in wanted:
        problems = missing_parts([build_metric(spec) for spec in CampusConfig(metrics=[entry]).specs])
        for problem in problems:
            print(f"left out: {problem}")
        usable += [] if problems else [entry]
    return usable


# -- the tables -------------------------------------------------------------------------------------------------------


def cell(value: Sequence[Any] | None) -> str:
    """ρ and its interval."""
    if value is None or not np.isfinite(value[0]):
        return "-"
    low_high = "" if value[1] is None else f" [{value[1][0]:.2f}, {value[1][1]:.2f}]"
    return f"{value[0] + 0.0:.2f}{low_high}"


def summary_table(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """One row per metric; "same" after the warm-up where the model is not asked."""
    head = [
        f"{what}, {when}" for what in ("mean over tasks", "pooled", "pooled within") for when in ("before", "after")
    ]
    lines = [f"| metric | {' | '.join(head)} | tasks without |", f"|{'---|' * (len(head) + 2)}"]
    for name, now in before.items():
        later = after.get(name)
        cells = [
            text
            for what in ("mean", "pooled", "within")
            for text in (cell(now[what]), cell(later[what]) if later else "same" if after else "")
        ]
        without = [str(found["no_variation"]) for found in (now, later) if found]
        lines.append(f"| {name} | {' | '.join(cells)} | {' / '.join(dict.fromkeys(without))} |")
    return "\n".join(lines)


def task_table(found: Mapping[str, Any], tasks: Sequence[str], sizes: Sequence[int]) -> str:
    """One row per task, one column per metric: ρ alone, without intervals (they are in the JSON)."""
    lines = [f"| task | rows | {' | '.join(found)} |", f"|{'---|' * (len(found) + 2)}"]
    for i, (task, size) in enumerate(zip(tasks, sizes, strict=True)):
        rhos = [cell([metric["by_task"][i][0], None]) for metric in found.values()]
        lines.append(f"| {task} | {size} | {' | '.join(rhos)} |")
    return "\n".join(lines)


def scorer_line(when: str, scored: Scored) -> str:
    """What its trainings say of the scorer, if there is one."""
    notes = scored.notes.get("scorer")
    if notes is None:
        return ""
    seeds = "" if scored.seeds is None else f", between two seeds {scored.seeds:.2f}"
    return (
        f"scorer {when}: {notes['pairs']} pairs ({notes['cut_off']} cut off, {notes['empty']} empty), held-out "
        f"accuracy {notes['accuracy']:.2f}, rank correlation between two halves {notes['stability']:.2f}{seeds}"
    )


# -- all of it --------------------------------------------------------------------------------------------------------


def measure(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Score, warm up, score again, print, and give everything back as JSON."""
    model = options.model or str(write_tiny(Path(folder) / "tiny"))
    rows, others = read_graded(options)
    metrics = chosen_metrics(options)
    trainer = make_trainer(model, rows, f"{folder}/scored", options)
    level = np.array(read_column(trainer.train_dataset, LEVEL), dtype=np.float64)
    names, tasks = group_codes(read_column(trainer.train_dataset, TASK))
    drawn = resamples(tasks, options.resamples, options.seed)

    def judge(scores: Mapping[str, Any]) -> dict[str, Any]:
        return {label: validity(values, level, tasks, drawn) for label, values in scores.items()}

    first = score(trainer, metrics, options)
    first.scores = {CHANCE: np.random.default_rng(options.seed).random(len(level)), **first.scores}
    before, after = judge(first.scores), {}
    sizes = np.bincount(tasks).tolist()
    title = f"{len(level)} rows, {len(names)} tasks, seed {options.seed}"
    print(f"\n{title}; before: {first.tokens} tokens, {first.seconds:.0f} s\n\n{task_table(before, names, sizes)}\n")
    print(scorer_line("before", first), *first.warnings, sep="\n", flush=True)
    result = {"rows": len(level), "tasks": names, "sizes": sizes, "before": before, "options": vars(options)}
    if options.warm_up:
        warming = make_trainer(trainer.model, others, f"{folder}/warm", options)
        began = time.perf_counter()
        log = warming.train().metrics
        took = time.perf_counter() - began
        print(f"\nwarm-up: {options.warm_up} steps, training loss {log['train_loss']:.3f}, {took:.0f} s")
        second = score(trainer, [entry for entry in metrics if not is_cpu(entry)], options)
        after = judge({name: values for name, values in second.scores.items() if name not in cpu_labels(metrics)})
        print(f"after: {second.tokens} tokens, {second.seconds:.0f} s\n\n{task_table(after, names, sizes)}\n")
        print(scorer_line("after", second), *second.warnings, sep="\n")
        result |= {"after": after, "notes_after": second.notes, "seeds_after": second.seeds}
        result |= {"scores_after": {name: second.scores[name].tolist() for name in after}}
    result |= {"notes_before": first.notes, "seeds_before": first.seeds}
    result |= {"level": level.tolist(), "task": tasks.tolist()}
    result |= {"scores_before": {name: values.tolist() for name, values in first.scores.items()}}
    print(f"\n{title}\n\n{summary_table(before, after)}")
    return result


def is_cpu(entry: Any) -> bool:
    """Whether a metric does not ask the model, so that a warm-up does not change it."""
    (spec,) = CampusConfig(metrics=[entry]).specs
    return build_metric(spec).kind == "cpu"


def cpu_labels(metrics: Sequence[Any]) -> set[str]:
    """Labels of the metrics that do not ask the model; members of ensembles are among the scores too."""
    return {CampusConfig(metrics=[entry]).labels[0] for entry in metrics if is_cpu(entry)}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model folder or hub id; the default is a tiny random one")
    parser.add_argument("--data", nargs="+", help="JSON lines with a level and a task; default: generated tasks")
    parser.add_argument("--task-column", help="the default is task, else domain")
    parser.add_argument("--per-cell", type=int, default=5, help="rows scored of each task and level")
    parser.add_argument("--warm-up", type=int, default=50, help="LoRA steps on other rows; 0 for none")
    parser.add_argument("--batch", type=int, default=4, help="rows per step of the warm-up")
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--metrics", nargs="*", default=[], help="entries as in a recipe, YAML; default: all of them")
    parser.add_argument("--reference", help="a model for perplexity")
    parser.add_argument("--holdout", help="a model for -rho")
    parser.add_argument("--proxy", help="a folder of `campus-tune proxy`, for -learnability")
    parser.add_argument("--new-tokens", type=int, default=64, help="of each sampled answer, for the scorer")
    parser.add_argument("--pairs", type=int, default=64, help="sampled answers, for the scorer")
    parser.add_argument("--stability-rows", type=int, default=100, help="rows scored by a second scorer; 0 for none")
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="of rows, adapter, warm-up and scorer")
    parser.add_argument("--out", type=Path, help="write everything as JSON")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the tables."""
    options = parse(argv)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, folder)
    if options.out:
        atomic_write(options.out, json.dumps(result, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
