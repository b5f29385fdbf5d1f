"""How many wrong answers in real text do a pretrained model's losses find, before training and after one epoch?

Short rows of the mix in `../shared/data` (at most `--longest` tokens, prompt included, the template's system turn left
out), of which a share gets the answer of another row of the same source and about the same length. The rows are
measured as `campus-tune suspects --config` measures them, with their prompts and without; then a LoRA is trained on
them for one epoch under trl's own trainer, and everything else is made of that training forward: our score, and the
four of Donkii (arXiv 2309.01669), of which AUM needs the full logits and so a hook of this script. Answers of fewer
than `--least` tokens are left out: most are a number or a name, and another number is no worse to a model of this size.

A list is as long as the number of wrong rows, its score the share of them that is wrong; the area is that under the ROC
curve. `--share 0` plants nothing, and what is called suspect then is a false alarm (some rows of the mix are wrong by
nature: they count as false alarms here).

    python -m eval.suspects_text --model MODEL                                        five seeds, one epoch each
    python -m eval.suspects_text --model MODEL --epochs 0 --seeds 0 1 2 3 4           before training alone
    python -m eval.suspects_text --model MODEL --share 0 --seeds 100 101              false alarms

MODEL: `python -c "from campus_tune.demo.smollm2 import convert; convert('smollm2')"`. What was measured is kept in
`--keep` by seed, and a second call with other scores measures nothing anew.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, set_seed
from trl import SFTConfig, SFTTrainer

from campus_tune import CampusCallback
from campus_tune.cli.score import prepare
from campus_tune.data.domains import Domains
from campus_tune.method.suspicion import of_forward, of_training
from campus_tune.metrics.passage import HERE, Passage
from campus_tune.recipe.config import CampusConfig
from campus_tune.run.acting import cells_by_answer
from campus_tune.run.stream.training_losses import FOLDER
from campus_tune.scores.cache import read_columns
from campus_tune.words.files import read_jsonl
from campus_tune.words.tables import table
from eval.margins import Margins
from eval.planting import area, precision

MIX = "mix/train.jsonl.gz"
FEW = 8  # rows of a source, up to which answers are swapped inside the domain
LENGTH = 0.2  # by which share of its tokens a swapped answer may be longer or shorter
ANSWER = Passage(part="answer")
UPPER = list(range(20, 30))  # layers of SmolLM2-135M that get an adapter: a third less to compute than with one in all


# -- the rows ---------------------------------------------------------------------------------------------------------


def tokenizer_of(model: str) -> Any:
    """The model's tokenizer, without the system turn that its template opens every conversation with: 22 tokens."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    before, _, rest = tokenizer.chat_template.partition("{% if loop.first")
    tokenizer.chat_template = before + rest.partition("{% endif %}")[2] if rest else before
    return tokenizer


def short_rows(path: Path, tokenizer: Any, *, least: int, longest: int) -> list[dict[str, Any]]:
    """Rows of one question and one answer with at most `longest` tokens, `least` of them the answer's: `tokens`."""
    found = []
    for row in read_jsonl(path):
        if len(row["messages"]) == 2:
            said = tokenizer.apply_chat_template(row["messages"], return_dict=True, return_assistant_tokens_mask=True)
            tokens = int(np.sum(said["assistant_masks"]))
            if len(said["input_ids"]) <= longest and tokens >= least:
                found.append({**row, "tokens": tokens, "prompt_tokens": len(said["input_ids"]) - tokens})
    return found


def mixed(rows: Sequence[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    """`n` of the rows, the same in each call; no source gives more than a third of them."""
    found, counts = [], Counter[str]()
    for place in np.random.default_rng(n).permutation(len(rows)).tolist():
        source = rows[place]["source"]
        if len(found) < n and counts[source] < n / 3:
            found.append(rows[place])
            counts[source] += 1
    return found


def swapped(rows: Sequence[Mapping[str, Any]], n_pairs: int, seed: int) -> tuple[list[dict[str, Any]], Any]:
    """(The rows, of which 2 · `n_pairs` have each other's answers; which of them, shape (N,))."""
    rng, sizes = np.random.default_rng(seed), Counter(row["source"] for row in rows)
    groups = [row["source"] if sizes[row["source"]] > FEW else row["domain"] for row in rows]
    members = defaultdict(list)
    for place, group in enumerate(groups):
        members[group].append(place)
    planted, wrong = [dict(row) for row in rows], np.zeros(len(rows), dtype=np.bool_)

    def fits(a: int, b: int) -> bool:
        texts = [rows[i]["messages"][-1]["content"].strip().lower() for i in (a, b)]
        near = abs(rows[a]["tokens"] - rows[b]["tokens"]) <= max(1, LENGTH * rows[a]["tokens"])
        return bool(near and texts[0] != texts[1] and not wrong[b])

    for a in rng.permutation(len(rows)).tolist():
        others = [] if wrong[a] or wrong.sum() >= 2 * n_pairs else [b for b in members[groups[a]] if fits(a, b)]
        if others:
            b = others[rng.integers(len(others))]
            for one, other in ((a, b), (b, a)):
                planted[one]["messages"] = [rows[one]["messages"][0], rows[other]["messages"][-1]]
            wrong[[a, b]] = True
    return planted, wrong


# -- one seed ---------------------------------------------------------------------------------------------------------


def trainer_of(
    rows: Sequence[Mapping[str, Any]], out: Path, seed: int, options: argparse.Namespace, **more: Any
) -> Any:
    """The trainer of trl for these rows, which trains the answers."""
    set_seed(seed)  # an adapter's first weights are drawn before the trainer seeds anything
    on_gpu = torch.cuda.is_available()
    args = SFTConfig(
        str(out),
        num_train_epochs=max(1, options.epochs),
        per_device_train_batch_size=options.batch,
        learning_rate=options.rate,
        seed=seed,
        use_cpu=not on_gpu,
        bf16=on_gpu,
        activation_checkpointing=False,
        assistant_only_loss=True,
        report_to="none",
        save_strategy="no",
        logging_steps=10,
        disable_tqdm=True,
        model_init_kwargs={"dtype": "float32"},
    )
    columns = [{name: row[name] for name in ("messages", "source", "domain")} for row in rows]
    tokenizer = tokenizer_of(options.model)
    return SFTTrainer(options.model, args, train_dataset=Dataset.from_list(columns), processing_class=tokenizer, **more)


def measure(rows: Sequence[Mapping[str, Any]], out: Path, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Everything that the scores are made of, of one seed.

    Returns:
        before_*, alone_*: losses of each row before training, as in `RowLosses`, shape (N,); visit_*: the same of each
        visit in the sequence of training, with `visit_row` and `visit_aum`, shape (V,).
    """
    settings = {"metrics": ["loss", "ifd"], "within": "source", "selector": "round_robin"}
    config = CampusConfig.from_mapping({**settings, "scores": str(options.keep / "scores")})
    scoring, _ = prepare(trainer_of(rows, out, seed, options), config)
    measured = scoring.start().measured
    found = {f"before_{name}": values for name, values in vars(measured[HERE]).items()}
    found |= {f"alone_{name}": values for name, values in vars(measured[ANSWER]).items()}
    if options.epochs:
        del scoring
        lora = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], layers_to_transform=UPPER)
        ours = CampusCallback({"selector": "shuffle", "scores": "none"})
        trainer = trainer_of(rows, out, seed, options, peft_config=lora, callbacks=[ours])
        margins = Margins(trainer.model.get_base_model())
        trainer.train()
        files = sorted((out / "curriculum" / FOLDER).glob("*.parquet"))
        columns = [read_columns(file)[0] for file in files]
        found |= {f"visit_{name}": np.concatenate([part[name] for part in columns]) for name in columns[0]}
        found["visit_aum"] = margins.of_visits(found["visit_nll_sum"]) / found["visit_tokens"]
    return found


# -- the scores -------------------------------------------------------------------------------------------------------


def found_by(score: Any, wrong: Any) -> tuple[float, float]:
    """(Share of wrong rows in a list as long as they are many, area under the ROC curve)."""
    return precision(score, wrong, int(wrong.sum())), area(score, wrong)


def mean_of_visits(values: Any, rows: Any, n_rows: int) -> Any:
    """Donkii's: the mean of a row's own numbers over its visits, shape (N,)."""
    return np.bincount(rows, values, n_rows) / np.bincount(rows, minlength=n_rows)


def suspicions(found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Our scores, as the product makes them of a recipe with `within: source`, by what they need."""
    sources = Domains.of(row["source"] for row in rows)
    before, alone = (found[f"{part}_nll_sum"] / found[f"{part}_tokens"] for part in ("before", "alone"))
    prompts = np.array([row["prompt_tokens"] for row in rows])
    how = {"tokens": found["before_tokens"], "groups": sources.codes, "prompts": prompts}
    ours = {
        "one forward": of_forward(before, alone=None, **how),
        "two forwards": of_forward(before, alone=alone, **how),
    }
    if "visit_row" in found:
        visits, losses = found["visit_row"], found["visit_nll_sum"] / found["visit_tokens"]
        cells = cells_by_answer(found["before_tokens"], sources).codes
        for name, more in (
            ("training alone", {}),
            ("training, one forward before", {"before": ours["one forward"].score}),
            ("training, two forwards before", {"before": ours["two forwards"].score, "alone": alone}),
        ):
            ours[name] = of_training(visits, losses, cells, len(rows), **how, **more)
    return ours


def theirs(found: Mapping[str, Any], n_rows: int) -> dict[str, Any]:
    """The loss before training, and Donkii's four from the training forwards; high is suspect."""
    scores = {"loss before training": found["before_nll_sum"] / found["before_tokens"]}
    if "visit_row" in found:
        visits, tokens = found["visit_row"], found["visit_tokens"]
        for name, values in (
            ("loss (perplexity)", found["visit_nll_sum"] / tokens),
            ("mean probability", -found["visit_sureness"] / tokens),
            ("lowest probability", -np.exp(-found["visit_worst"])),
            ("AUM", -found["visit_aum"]),
        ):
            scores[name] = mean_of_visits(values, visits, n_rows)
    return scores


# -- the table --------------------------------------------------------------------------------------------------------


def of_seed(
    pool: Sequence[Mapping[str, Any]], seed: int, options: argparse.Namespace
) -> tuple[list[dict[str, Any]], Any, dict[str, Any]]:
    """(The rows of a seed, which of them are wrong, what was measured of them now or in an earlier call)."""
    chosen = np.random.default_rng([seed, 1]).choice(len(pool), options.rows, replace=False)
    rows, wrong = swapped([pool[i] for i in chosen], round(options.share * options.rows / 2), seed)
    place = options.keep / f"{seed}-{options.rows}-{options.least}-{options.longest}-{options.share:g}-{options.epochs}"
    place = options.keep / f"pool{options.pool}" / place.name if options.pool else place
    kept = place.with_name(f"{place.name}.npz")
    if not kept.exists():
        np.savez(kept, wrong=wrong, **measure(rows, place, seed, options))
    return rows, wrong, dict(np.load(kept))


def line(name: str, seeds: Sequence[tuple[float, float, int, float]]) -> list[str]:
    """One line of the table."""
    lists, areas, called, right = zip(*seeds, strict=True)
    ours = called[0] >= 0
    by_seed, caught = (" ".join("-" if np.isnan(x) else f"{x:.2f}" for x in values) for values in (lists, right))
    means = [f"{np.mean(values):.{digits}f}" for values, digits in ((lists, 2), (areas, 3))]
    return [name, means[0], by_seed, means[1], " ".join(map(str, called)) if ours else "", caught if ours else ""]


def main() -> None:
    """Measure, or find what was measured, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of mix/train.jsonl.gz")
    parser.add_argument("--keep", type=Path, default=Path("runs/suspects_text"), help="where what was measured is kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102, 103, 104])
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--longest", type=int, default=42, help="tokens of a row")
    parser.add_argument("--least", type=int, default=8, help="of them, the answer's, end marks included")
    parser.add_argument("--pool", type=int, help="draw the rows of every seed from so many (all short ones)")
    parser.add_argument("--share", type=float, default=0.08, help="of the rows that get another's answer")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate")
    options = parser.parse_args()
    mix, tokenizer = options.data / MIX, tokenizer_of(options.model)
    pool = short_rows(mix, tokenizer, least=options.least, longest=options.longest)
    pool = mixed(pool, options.pool) if options.pool else pool
    answers = np.mean([row["tokens"] for row in pool])
    print(f"pool: {len(pool)} rows of at most {options.longest} tokens, answers of {answers:.1f} on average")
    results: dict[str, list[tuple[float, float, int, float]]] = defaultdict(list)
    for seed in options.seeds:
        rows, wrong, found = of_seed(pool, seed, options)
        for name, one in suspicions(found, rows).items():
            right = float(wrong[one.suspects].mean()) if one.suspects.any() else np.nan
            results[name].append((*found_by(one.score, wrong), int(one.suspects.sum()), right))
        for name, score in theirs(found, len(rows)).items():
            results[name].append((*found_by(score, wrong), -1, np.nan))
        print(f"seed {seed}: {len(rows)} rows, {wrong.sum()} wrong", flush=True)
    head = ["score", "list", "by seed", "area", "suspects", "of them wrong"]
    print(table(head, [line(name, seeds) for name, seeds in results.items()]))


if __name__ == "__main__":
    main()
