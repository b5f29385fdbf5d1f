"""How fast `campus-tune eval` is beside lm-eval's own command, on the same model, tasks, documents and batch size.

Both are run as commands, in turns, offline. lm-eval's finds its data as on the hub: it is started inside of a folder
that holds them under the hub's names (`openai/gsm8k/…`), which `datasets` takes for the data set. A stopwatch is put
around its `evaluate`; nothing else of it is touched. The scores of all tasks and of every document must be equal to
the last digit, or this fails.

Two times: the whole command, which is what one waits for, and answering alone, without imports, index and model.

    python eval/bench_eval.py --data ../shared/data                          a tiny random model, minutes
    python eval/bench_eval.py --data ../shared/data --model runs/quickstart/model --limit 8 --max_gen_toks 32
    python eval/bench_eval.py --data ../shared/data --tasks mmlu --limit 4 --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import yaml

from campus_tune.demo.tiny import write_tiny
from campus_tune.evaluate.results import TaskResult, read_result
from campus_tune.evaluate.suites import Suite, load_suite
from campus_tune.evaluate.tasks import load_tasks
from campus_tune.words.errors import DataError
from campus_tune.words.tables import table

# lm-eval's command, timed where it answers
THEIRS = """
import json, sys, time
import lm_eval.evaluator as evaluator
from lm_eval.__main__ import cli_evaluate
evaluate, stopwatch = evaluator.evaluate, sys.argv.pop()
def timed(*args, **kwargs):
    began = time.perf_counter()
    results = evaluate(*args, **kwargs)
    with open(stopwatch, "w") as file:
        json.dump(time.perf_counter() - began, file)
    return results
evaluator.evaluate = timed
cli_evaluate()
"""


@dataclass(frozen=True)
class Turn:
    """One run of one command.

    Args:
        seconds: the whole command.
        answering: of them, inside lm-eval's `evaluate`.
        scores: task → metric → value.
        documents: (lm-eval's task, number, metric) → value.
    """

    seconds: float
    answering: float
    scores: dict[str, dict[str, float]]
    documents: dict[tuple[str, str, str], float]


def hub_folder(folder: Path, suite: Suite, data: str) -> Path:
    """The test sets of a suite under the names that the hub has for them.

    Args:
        folder: to write into.
        suite: whose tasks are run.
        data: folder of `campus-tune eval --data`.
    """
    datasets.disable_progress_bars()
    loaded = load_tasks(suite, data, allow_code_execution=False)
    configs: dict[str, dict[str, Any]] = {}
    for task in (leaf for each in loaded.tasks.values() for leaf in each.tasks.values()):
        path, name = task.config.dataset_path, task.config.dataset_name or "default"
        files = []
        for split, rows in task.dataset.items():
            file = Path(name) / f"{split}.parquet"
            (folder / path / name).mkdir(parents=True, exist_ok=True)
            rows.to_parquet(str(folder / path / file))
            files.append({"split": split, "path": str(file)})
        configs.setdefault(path, {})[name] = {"config_name": name, "data_files": files}
    for path, of in configs.items():
        card = yaml.safe_dump({"configs": list(of.values())})
        (folder / path / "README.md").write_text(f"---\n{card}---\n", "utf-8")
    return folder


def ours(model: str, suite: Suite, folder: Path, options: argparse.Namespace) -> Turn:
    """One run of `campus-tune eval`."""
    content = {key: value for key, value in asdict(suite).items() if key not in ("name", "seeds", "batch_size")}
    content["tasks"] = {each.pop("task"): {**each, "metrics": [*each["metrics"]]} for each in content["tasks"]}
    (folder / "suite.yaml").write_text(yaml.safe_dump(content), "utf-8")
    command = [sys.executable, "-m", "campus_tune", "eval", "--model", model, "--suite", str(folder / "suite.yaml")]
    command += ["--data", str(Path(options.data).resolve()), "--out", str(folder), "--dtype", "float32"]
    seconds = run([*command, "--batch_size", str(options.batch_size)], Path.cwd(), folder)
    result = read_result(folder / f"{Path(model).name}.json")
    return Turn(
        seconds,
        sum(task.seconds for task in result.tasks.values()),
        {name: {metric: told["value"] for metric, told in task.metrics.items()} for name, task in result.tasks.items()},
        {key: value for task in result.tasks.values() for key, value in flat(task).items()},
    )


def flat(task: TaskResult) -> dict[tuple[str, str, str], float]:
    """Every document's value of every metric."""
    return {
        (part, number, metric): value
        for part, documents in task.documents.items()
        for number, scores in documents.items()
        for metric, value in scores.items()
    }


def theirs(hub: Path, model: str, suite: Suite, folder: Path, options: argparse.Namespace) -> Turn:
    """One run of lm-eval's command, inside of the folder that looks like the hub."""
    command = [sys.executable, "-c", THEIRS, "run", "--model", "hf", "--tasks", ",".join(t.task for t in suite.tasks)]
    command += ["--model_args", f"pretrained={model},dtype=float32", "--batch_size", str(options.batch_size)]
    command += ["--limit", str(options.limit), "--output_path", str(folder / "out"), "--log_samples"]
    if any(task.max_gen_toks for task in suite.tasks):
        command += ["--gen_kwargs", f"max_gen_toks={options.max_gen_toks}"]
    seconds = run([*command, str(folder / "seconds.json")], hub, folder)
    told = json.loads(next((folder / "out").rglob("results_*.json")).read_text("utf-8"))
    scores = {**told.get("groups", {}), **told["results"]}
    documents = {}
    for file in (folder / "out").rglob("samples_*.jsonl"):
        part = file.name.removeprefix("samples_").rsplit("_", 1)[0]
        for line in file.read_text("utf-8").splitlines():
            sample = json.loads(line)
            for metric in sample["metrics"]:
                documents[part, str(sample["doc_id"]), f"{metric},{sample['filter']}"] = float(sample[metric])
    return Turn(seconds, json.loads((folder / "seconds.json").read_text()), scores, documents)


def run(command: Sequence[str], cwd: Path, folder: Path) -> float:
    """Seconds of a command that may load nothing from anywhere.

    Raises:
        DataError: it failed; the end of what it said is shown.
    """
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(folder.parent / "cache"),
        "TOKENIZERS_PARALLELISM": "false",
    }
    path = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **offline, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise DataError(f"`{' '.join(command[:5])} …` must run, got:\n{done.stderr[-3000:]}")
    return seconds


def differing(a: Turn, b: Turn) -> list[str]:
    """Scores that are not the same to the last digit; of documents and tasks that both must have."""
    found = []
    for task, metrics in a.scores.items():
        other: Mapping[str, Any] = b.scores.get(task, {})
        found += [f"{task} {m}: {v!r} and {other.get(m)!r}" for m, v in metrics.items() if other.get(m) != v]
    for key in {*a.documents, *b.documents}:
        if a.documents.get(key) != b.documents.get(key):
            found.append(f"{' '.join(key)}: {a.documents.get(key)!r} and {b.documents.get(key)!r}")
    return found


def narrowed(options: argparse.Namespace) -> Suite:
    """The tasks of `campus_wide` that are timed; lm-eval's command has one limit for all answers, so ours too."""
    suite = load_suite("campus_wide").narrowed(options.tasks, options.limit)
    tasks = tuple(t if t.max_gen_toks is None else replace(t, max_gen_toks=options.max_gen_toks) for t in suite.tasks)
    return replace(suite, tasks=tasks)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with the test sets")
    parser.add_argument("--model", help="a model folder; the default is a tiny random one")
    parser.add_argument(
        "--tasks", nargs="+", default=["arc_easy", "gsm8k", "mmlu"], help="of campus_wide, without code"
    )
    parser.add_argument("--limit", type=int, default=16, help="documents of each task")
    parser.add_argument("--max_gen_toks", type=int, default=64, help="tokens of a written answer")
    parser.add_argument("--batch_size", default="8")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure in turns and print a table.

    Raises:
        DataError: a command failed, or a score differs.
    """
    options = parse(argv)
    suite = narrowed(options)
    turns: dict[str, list[Turn]] = {"campus-tune eval": [], "lm_eval": []}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        model = str(Path(options.model).resolve()) if options.model else str(write_tiny(place / "tiny"))
        hub = hub_folder(place / "hub", suite, options.data)
        for i in range(options.rounds + 1):  # the first turn warms the caches of the disk and is not counted
            for which, turn in turns.items():
                folder = place / f"{which.split()[0]}-{i}"
                folder.mkdir()
                mine = which == "campus-tune eval"
                turn.append((ours if mine else partial(theirs, hub))(model, suite, folder, options))
            if found := differing(*(turn[-1] for turn in turns.values())):
                raise DataError(f"{len(found)} scores differ, such as {'; '.join(found[:5])}.")
    counted = {which: turn[1:] for which, turn in turns.items()}
    n = len({key[:2] for key in counted["lm_eval"][0].documents})
    rows = []
    for which, turn in counted.items():
        whole, alone = (statistics.median(getattr(t, f) for t in turn) for f in ("seconds", "answering"))
        rows.append([which, str(n), f"{whole:.1f}", f"{n / whole:.1f}", f"{alone:.1f}", f"{n / alone:.1f}"])
    print(table(["command", "documents", "seconds", "documents/s", "answering, s", "documents/s"], rows))
    pairs = list(zip(counted["lm_eval"], counted["campus-tune eval"], strict=True))
    for what in ("seconds", "answering"):
        print(f"{what}: lm_eval / campus-tune, turn by turn, median {ratio(pairs, what):.2f}")
    print(f"the scores of {len(counted['lm_eval'][0].documents)} documents and metrics are the same to the last digit")


def ratio(pairs: Sequence[tuple[Turn, Turn]], what: str) -> float:
    """How many times as long the first of each pair took, median over the turns."""
    return statistics.median(getattr(a, what) / getattr(b, what) for a, b in pairs)


if __name__ == "__main__":
    main()
