"""What is it worth? Values, pruning, Shapley, ablation, search and proxies, once each, by the product's own commands.

    python -m eval.value run --keep runs/value                         graded tasks: an hour of two cores
    python -m eval.value run --keep runs/value --set mix               shared/data/mix, where it is there
    python -m eval.value run --keep /tmp/quick --quick                 minutes: whether it works, not what comes out
    python -m eval.value table runs/value                              the lines for eval/LOG.md

The tiny Llama of `eval/suspects.py`, which copies and counts a little, trains a LoRA on 250 rows of each of four
domains, two epochs, batches of 32, a constant rate. A tenth of the rows are wrong: pairs of a domain have exchanged
their answers. Three held-out sets are apart: probes steer and value, search rows rank trials, test rows judge. Which
rows are wrong is in a file of its own that no command reads.

    value      one run that measures values: do halves of the probes agree, is a wrong row worth less, what helps what
    prune      rows of negative value left out, beside as many at random and the best ones, three seeds
    shapley    what a domain is worth by sixteen trainings, three seeds
    ablate     what each domain does to each other one, three seeds, at equal tokens
    search     eight trials of what should hardly matter, and what a comparison says of the winner
    proxy      half as wide a model ranks the rows: before training, by what it learns of them, by their values

Everything is kept in the folder, by the commands themselves: the same command goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from campus_tune.data.as_dataset import as_dataset
from campus_tune.data.said_hashes import SaidHashes
from campus_tune.data.shapes import Shape
from campus_tune.demo.tasks import generate
from campus_tune.demo.tiny import tiny_model, tiny_tokenizer
from campus_tune.method.stats import spearman
from campus_tune.run.ledger import FOLDER
from campus_tune.run.row_map import FILE as MAP
from campus_tune.run.value_table import TRANSFER, VALUES
from campus_tune.scores.cache import read_columns
from campus_tune.words.files import read_jsonl
from campus_tune.words.types import BoolArray, Json
from eval.planting import area, plant
from eval.suspects import DOMAINS, HIDDEN, start_model

LEVELS = (0, 1, 2)
ROWS, PROBES, SEARCH, TESTS = 250, 32, 32, 64  # of each domain
WRONG, KIND = 0.1, "swapped"
LONGEST = 450  # characters of a prompt and its answer, of the mix
TRAIN_SEED, HELD_OUT_SEED = 0, 4000
EARLY = 0.1  # of the proxy
VALUED: Json = {"budget": 0.3}  # pays for five measurements or so of the probes' gradients; the usual 0.05 for none
MIX = Path(os.environ.get("CAMPUS_SHARED", "shared")) / "data" / "mix"


@dataclass(frozen=True)
class Setting:
    """Where and on what.

    Args:
        folder: of everything.
        rows: of each domain.
        seeds: of what is compared.
        quick: whether it is a trial of the script.
        max_length: tokens of a row.
    """

    folder: Path
    rows: int = ROWS
    seeds: int = 3
    quick: bool = False
    max_length: int = 256


# -- the files ---------------------------------------------------------------------------------------------------------


def task_rows(n: int, seed: int) -> list[Json]:
    """`n` rows of each domain, as many of each level as can be, mixed."""
    drawn = generate(-(-n // len(LEVELS)), seed=seed, levels=LEVELS, domains=DOMAINS)
    kept = [row for name in DOMAINS for row in [one for one in drawn if one["domain"] == name][:n]]
    return [kept[i] for i in np.random.default_rng([seed, 7]).permutation(len(kept))]


def mix_rows(folder: Path) -> list[Json]:
    """The short rows of the mix, as a prompt and an answer, each once."""
    with gzip.open(folder / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    found = {}
    for row in rows:
        first, *rest = row["messages"]
        if len(rest) == 1 and sum(len(turn["content"]) for turn in row["messages"]) <= LONGEST:
            found[first["content"]] = {"domain": row["domain"], "prompt": [first], "completion": rest}
    return [*found.values()]


def cut_apart(rows: Sequence[Json], sizes: Mapping[str, int]) -> dict[str, list[Json]]:
    """Disjoint sets of rows, no prompt in two of them; of each domain as many as a set asks, or as there are."""
    parts: dict[str, list[Json]] = {name: [] for name in sizes}
    by_domain: dict[str, list[Json]] = {}
    for row in {row["prompt"][0]["content"]: row for row in rows}.values():
        by_domain.setdefault(row["domain"], []).append(row)
    for of_domain in by_domain.values():
        rest = iter(of_domain)
        for name, n in sizes.items():  # the held-out sets come first, the rest is trained
            parts[name] += [row for _, row in zip(range(n), rest, strict=False)]
    return parts


def write_files(setting: Setting, *, mix: bool) -> None:
    """Rows and models, once."""
    folder, n = setting.folder, setting.rows
    for name, hidden in (("start", HIDDEN), ("small", HIDDEN // 2)):
        if not (folder / name / "tokenizer.json").exists():
            if setting.quick:
                tiny_model(hidden=hidden // 4).save_pretrained(folder / name)
            start_model(folder / name, hidden)
            tiny_tokenizer().save_pretrained(folder / name)
    if (folder / "wrong.json").exists():
        return
    held_out = {"probes": 32, "search": 32, "test": 40} if setting.quick else None
    sizes = {**(held_out or {"probes": PROBES, "search": SEARCH, "test": TESTS}), "train": n}
    rows = mix_rows(MIX) if mix else task_rows(sum(sizes.values()) + 60, TRAIN_SEED)
    parts = cut_apart(rows, sizes)
    rng = np.random.default_rng(1)
    parts = {name: [part[i] for i in rng.permutation(len(part))] for name, part in parts.items()}
    parts["train"], wrong = plant(parts["train"], KIND, WRONG, rng)
    for name, part in parts.items():
        text = "".join(json.dumps({key: row[key] for key in ("domain", "prompt", "completion")}) + "\n" for row in part)
        (folder / f"{name}.jsonl").write_text(text, "utf-8")
    (folder / "wrong.json").write_text(json.dumps(wrong.tolist()))


def write_recipe(setting: Setting, name: str, campus: Json, *, compare: Json | None = None, **more: Any) -> str:
    """A YAML of the shared settings; gives back its file.

    Args:
        setting: where.
        name: of the file and of the output.
        campus: the block.
        compare: settings of the `compare:` block besides the test rows and the seeds; None leaves the block out.
        more: other settings and blocks.
    """
    folder = setting.folder
    recipe: Json = {
        "model_name_or_path": str(folder / "start"),
        "dataset_name": str(folder / "train.jsonl"),
        "output_dir": str(folder / name),
        "num_train_epochs": 2,
        "per_device_train_batch_size": 32,
        "learning_rate": 1.0e-2,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 5,
        "use_peft": True,
        "lora_r": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.0,
        "lora_target_modules": "all-linear",
        "max_length": setting.max_length,
        "bf16": False,
        "use_cpu": True,
        "activation_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 20,
        "disable_tqdm": True,
        "campus": {"metrics": [], "selector": "shuffle", "stages": 10, "budget": 1.0, **campus},
        **more,
    }
    if compare is not None:
        test = {"path": str(folder / "test.jsonl")}
        recipe["compare"] = {"test": test, "seeds": setting.seeds, "points": 4, **compare}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), "utf-8")
    return str(path)


def probes_of(setting: Setting) -> Json:
    """The block that names the probes."""
    return {"probes": {"path": str(setting.folder / "probes.jsonl")}}


def command(setting: Setting, part: str, *words: str) -> None:
    """One command of the product; what it says is in `<part>.log`.

    Raises:
        RuntimeError: it did not end well.
    """
    from campus_tune.cli.main import main as campus_tune

    began = time.perf_counter()
    log = setting.folder / f"{part}.log"
    with log.open("a", encoding="utf-8") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        print(f"$ campus-tune {' '.join(words)}", flush=True)
        code = campus_tune([*words])
        print(f"({time.perf_counter() - began:.0f} s)", flush=True)
    if code:
        raise RuntimeError(f"campus-tune {' '.join(words)} ended with {code}: read {log}")


# -- the parts ---------------------------------------------------------------------------------------------------------


def run_value(setting: Setting) -> None:
    """One run that measures the values of its rows."""
    recipe = write_recipe(setting, "value", {**probes_of(setting), "value": VALUED})
    if not (setting.folder / "value" / FOLDER / VALUES).exists():
        command(setting, "value", "sft", "--config", recipe)


def tell_value(setting: Setting) -> list[str]:
    """Do halves agree, is a wrong row worth less, and what helps what?"""
    home = setting.folder / "value" / FOLDER
    columns, about = read_columns(home / VALUES)
    wrong, value = _wrong(setting, columns["key"].tolist()), columns["value"].astype(np.float64)
    per_token = value / np.maximum(columns["tokens"], 1)
    excess = read_columns(home / MAP)[0]["excess"].astype(np.float64)
    known = np.isfinite(value) & np.isfinite(excess)
    found = {"value": -value, "value per token": -per_token, "excess loss (the map's)": excess}
    lowest = np.argsort(value[known])[: int(wrong[known].sum())]
    harmful = (columns["a"] < 0) & (columns["b"] < 0)
    inside = []
    for name in sorted(set(map(str, columns["domain"]))):
        some = known & (columns["domain"] == name)
        inside.append(f"{name} {area(-value[some], wrong[some]):.2f}")
    halves = "; ".join(f"{name} {_shown(one['value'])}" for name, one in about["split_half"].items())
    areas = ", ".join(f"{name} {area(scores[known], wrong[known]):.2f}" for name, scores in found.items())
    shares = (
        f"Wrong of all rows {wrong.mean():.0%}, of the {len(lowest)} lowest {wrong[known][lowest].mean():.0%}, of the "
    )
    shares += f"{int(harmful.sum())} that are below 0 in both halves {wrong[harmful].mean():.0%}"
    return [
        about["sentence"] + ".",
        f"Split-half reliability: {halves}.",
        f"Area under the curve for wrong rows: {areas}. By value inside of domains: {', '.join(inside)}.",
        shares + ".",
        *_matrix("trained \\ probe", *_transfer(setting)),
    ]


def run_prune(setting: Setting) -> None:
    """Rows of negative value are left out."""
    drop = {"by": "value", "path": str(setting.folder / "value" / FOLDER / VALUES), "below": 0, "at_most": 0.1}
    arms = ["recipe", "random", "random_drop", "drop_best"]
    recipe = write_recipe(
        setting, "prune", {**probes_of(setting), "drop": [drop]}, compare={"arms": arms, "tokens_tolerance": 0.05}
    )
    command(setting, "prune", "compare", "--config", recipe)


def tell_prune(setting: Setting) -> list[str]:
    """What the comparison says, and which rows went."""
    wrong = _wrong(setting, read_columns(setting.folder / "value" / FOLDER / VALUES)[0]["key"].tolist())
    dropped = setting.folder / "prune" / "runs" / "recipe" / "seed-0" / FOLDER / "dropped.jsonl"
    rows = [json.loads(line)["row"] for line in dropped.read_text("utf-8").splitlines()] if dropped.exists() else []
    said = f"{len(rows)} rows dropped, {wrong[rows].mean():.0%} of them wrong." if rows else "No row dropped."
    return [said, *_verdict(setting.folder / "prune")]


def run_shapley(setting: Setting) -> None:
    """What a domain is worth, by trainings on sets of them."""
    recipe = write_recipe(setting, "shapley", {}, compare={})
    seeds = ["--seeds", str(setting.seeds)]
    command(setting, "shapley", "value", "--config", recipe, "--groups", "domain", *seeds, "--shuffle")


def run_ablate(setting: Setting) -> None:
    """What each domain does to each other one."""
    recipe = write_recipe(setting, "ablate", {}, compare={})
    command(setting, "ablate", "ablate", "--config", recipe, "--seeds", str(setting.seeds))


def run_search(setting: Setting) -> None:
    """A few settings that should hardly matter."""
    space = {"mix": [0.0, 0.5, 0.9], "handover": [0.4, 0.7], "pacing.start": [0.1, 0.5]}
    search = {"space": space, "rows": str(setting.folder / "search.jsonl"), "trials": 3 if setting.quick else 8}
    campus = {
        "metrics": ["length"],
        "selector": "round_robin",
        "pacing": {"name": "root", "start": 0.1},
        "handover": 0.6,
    }
    recipe = write_recipe(setting, "search", campus, compare={}, search=search)
    command(setting, "search", "search", "--config", recipe)


def run_proxy(setting: Setting) -> None:
    """A narrower model ranks the rows, by its losses and by its values."""
    folder = setting.folder
    plain = write_recipe(setting, "to-proxy", {})
    command(setting, "proxy", "proxy", "--config", plain, "--model", str(folder / "small"), "--out", str(folder / "p"))
    small = write_recipe(
        setting, "small-value", {**probes_of(setting), "value": VALUED}, model_name_or_path=str(folder / "small")
    )
    if not (folder / "small-value" / FOLDER / VALUES).exists():
        command(setting, "proxy", "sft", "--config", small)
    for name in ("p", "small-value"):
        asked = {"arms": ["recipe", "random"], "proxy": str(folder / name), "seeds": 2}
        recipe = write_recipe(setting, "proxy", {**probes_of(setting), "value": VALUED}, compare=asked)
        command(setting, "proxy", "compare", "--config", recipe)
        verdict = folder / "proxy" / "verdict.json"
        (folder / f"proxy-{name}.json").write_text(json.dumps(json.loads(verdict.read_text())["proxy"]), "utf-8")


def tell_proxy(setting: Setting) -> list[str]:
    """Its sentences."""
    lines = []
    for name in ("p", "small-value"):
        told = json.loads((setting.folder / f"proxy-{name}.json").read_text("utf-8"))
        for score, one in told["scores"].items():
            lines.append(f"{score} ({one['basis']}): {one['word']}; {one['sentence']}")
    return lines


def tell_log(setting: Setting, part: str) -> list[str]:
    """The last that a command has said."""
    lines = (setting.folder / f"{part}.log").read_text("utf-8").splitlines()
    return lines[-30:]


PARTS: Mapping[str, tuple[Callable[[Setting], None], Callable[[Setting], list[str]]]] = {
    "value": (run_value, tell_value),
    "prune": (run_prune, tell_prune),
    "shapley": (run_shapley, lambda setting: tell_log(setting, "shapley")),
    "ablate": (run_ablate, lambda setting: tell_log(setting, "ablate")),
    "search": (run_search, lambda setting: tell_log(setting, "search")),
    "proxy": (run_proxy, tell_proxy),
}


# -- in words ----------------------------------------------------------------------------------------------------------


def _wrong(setting: Setting, keys: Sequence[str]) -> BoolArray:
    """Which rows are wrong, by what they say: of those whose answer is cut off TRL keeps none."""
    rows = as_dataset(read_jsonl(setting.folder / "train.jsonl"), "train")
    said = SaidHashes.read(rows, Shape(), np.zeros(len(rows), dtype=np.uint64)).hex_keys()
    wrong = dict(zip(said, json.loads((setting.folder / "wrong.json").read_text()), strict=True))
    return np.array([wrong[key] for key in keys], dtype=np.bool_)


def _shown(value: float | None) -> str:
    return "—" if value is None else f"{value:.2f}"


def _transfer(setting: Setting) -> tuple[list[str], list[str], list[list[float | None]]]:
    """The matrix of the valued run: trained domains, probe domains, the mean of a visit."""
    told = json.loads((setting.folder / "value" / FOLDER / TRANSFER).read_text("utf-8"))
    return told["domains"], told["probes"], told["mean"]


def _matrix(corner: str, rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[Any]]) -> list[str]:
    lines = [[corner, *columns], ["---"] * (len(columns) + 1)]
    lines += [
        [name, *("" if one is None else f"{one:+.3g}" for one in row)] for name, row in zip(rows, values, strict=True)
    ]
    return [f"| {' | '.join(line)} |" for line in lines]


def _verdict(folder: Path) -> list[str]:
    """The arms of a comparison: their losses beside shuffling's."""
    verdict = json.loads((folder / "verdict.json").read_text("utf-8"))
    lines = [f"random {verdict['baseline_mean']:.4f} nats, {len(verdict['seeds'])} seeds"]
    for name, one in verdict["judgements"].items():
        found = one["difference"] or {}
        if found.get("value") is not None:
            value, low, high = (100 * found[part] / found["mean_against"] for part in ("value", "low", "high"))
            lines.append(f"{name} {value:+.2f} % ({low:+.2f} to {high:+.2f}): {one['verdict']}")
    return lines


def agreement_of_matrices(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> tuple[float, float]:
    """(Spearman over the cells, share of cells with the same sign) of two matrices of what helps what."""
    x, y = np.array(a, dtype=np.float64).ravel(), np.array(b, dtype=np.float64).ravel()
    return spearman(x, y), float((np.sign(x) == np.sign(y)).mean())


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("run", help="train what is not kept yet")
    train.add_argument("--keep", type=Path, required=True, metavar="DIR")
    train.add_argument("--set", default="tasks", choices=("tasks", "mix"))
    train.add_argument("--quick", action="store_true", help="few rows of a model that knows nothing, two seeds")
    show = commands.add_parser("table", help="what is kept, in lines")
    show.add_argument("keep", type=Path, metavar="DIR")
    for one in (train, show):
        one.add_argument("--parts", nargs="+", default=[*PARTS], choices=[*PARTS], metavar="NAME")
    options: Any = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    quick = getattr(options, "quick", False)
    mix = getattr(options, "set", "tasks") == "mix"
    more = {"rows": 60, "seeds": 2, "quick": True} if quick else {}
    setting = Setting(options.keep, **more, max_length=512 if mix else 256)
    if options.command == "run":
        options.keep.mkdir(parents=True, exist_ok=True)
        write_files(setting, mix=mix)
    for part in options.parts:
        run, tell = PARTS[part]
        if options.command == "run":
            began = time.perf_counter()
            run(setting)
            print(f"## {part}: {time.perf_counter() - began:.0f} s", flush=True)
        print("\n".join([f"### {part}", "", *tell(setting), ""]), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
