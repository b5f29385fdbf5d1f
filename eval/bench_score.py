"""How fast scoring is: against the bare forward, against lm-eval, in memory, and with two processes.

Every ratio is taken within one run, of things measured in turns, and is the median over the turns. On a CPU the clock
is this process's own CPU time (one torch thread is best: OMP_NUM_THREADS=1), as other jobs may use the machine too.

- *speed*: tokens per second of scoring, everything included (reading rows, collating, losses of the answer tokens),
  against a bare forward of the very same batches, collated beforehand (goal: at least 95 % of it): of the model
  without its head, which makes no loss; the same without its adapter, which scoring before the first step does not ask
  either; with logits of the answers, from which losses are made; and with logits of every position.
- *harness*: rows per second against `HFLM.loglikelihood` of lm-eval with the best of some batch sizes, the same model
  object, the same tokens; the losses of every row are compared.
- *shared*: the same of rows that all begin with the same `--shots` solved tasks (goal: at least twice as fast), and
  against scoring that reads each of them whole.
- *memory*: what scoring N and 4 N rows adds to the peak, each in a fresh process (goal: the same).
- *cpu*: the metrics of the texts alone, two processes against one (goal: at least 1.8 times as fast). This is wall
  clock, so leave the machine alone; on a busy one look at the CPU time that both took, and what that would give on two
  free cores.
- *sweep*: scoring with other batch and tile sizes, only where it is asked for.

    python eval/bench_score.py                                                     a tiny random model, generated tasks
    python eval/bench_score.py --model MODEL --data mix/train.jsonl.gz --rows 64 --parts speed harness
    python eval/bench_score.py --model MODEL --data mix/train.jsonl.gz --rows 32 --parts sweep --batches 512 1024 2048
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig
from torch.nn import functional
from trl import SFTConfig, SFTTrainer

from campus_tune.data.prepared import TokenRows, read_rows
from campus_tune.data.token_hashes import IGNORED
from campus_tune.demo.tasks import generate
from campus_tune.demo.tiny import write_tiny
from campus_tune.metrics import METRICS
from campus_tune.metrics.extras import missing_parts
from campus_tune.model import batches, compat, measure
from campus_tune.model.batches import long_rows_first
from campus_tune.model.peers import Peers
from campus_tune.model.subject import undisturbed
from campus_tune.scores.cache import ScoreCache
from campus_tune.scores.passages import Passages
from campus_tune.scores.run_scores import HERE
from campus_tune.words.files import read_jsonl
from campus_tune.words.types import RowTexts

PARTS = ("speed", "harness", "shared", "memory", "cpu")
TEXT_METRICS = ("compression", "mtld", "readability")
SAME = 1e-3  # nats per token by which two ways to the same loss may differ
ON_GPU = torch.cuda.is_available()
CLOCK = time.perf_counter if ON_GPU else time.process_time


# -- the arithmetic ---------------------------------------------------------------------------------------------------


def plain_row(row: Mapping[str, Any]) -> dict[str, str]:
    """A row as plain text: the answer begins with a space, so that prompt and answer are cut at the same token by all.

    Takes messages, prompt and completion (conversations or texts), or question and answer.
    """
    if "messages" in row:
        question, answer = row["messages"][0]["content"], row["messages"][-1]["content"]
    elif "question" in row:
        question, answer = row["question"], row["answer"]
    else:
        question, answer = (row[part] for part in ("prompt", "completion"))
        question, answer = (part if isinstance(part, str) else part[-1]["content"] for part in (question, answer))
    return {"prompt": f"{question.strip()}\nAnswer:", "completion": f" {answer.strip()}"}


def in_turns(
    what: Mapping[str, Callable[[], Any]], rounds: int, *, warm: bool = False, clock: Callable[[], Any] = CLOCK
) -> dict[str, list[Any]]:
    """Seconds of each of some functions, called one after the other, `rounds` times; once more before if not `warm`."""
    seconds: dict[str, list[Any]] = {name: [] for name in what}
    for turn in range(warm, rounds + 1):
        for name, function in what.items():
            began = clock()
            function()
            if ON_GPU:
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(clock() - began)
    return seconds


def median_ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """How many times as fast the second one is, turn by turn, in the middle."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


def markdown(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table for the log."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


# -- what is measured -------------------------------------------------------------------------------------------------


def read_plain(options: argparse.Namespace, n: int) -> list[dict[str, str]]:
    """`n` rows in a random sequence, over and over where there are fewer."""
    if options.data:
        raw = [row for path in options.data for row in read_jsonl(path)]
    else:
        raw = generate(max(1, min(n // 25 + 1, 200)), seed=options.seed)
    order = np.random.default_rng(options.seed).permutation(len(raw))
    return [plain_row(raw[order[i % len(raw)]]) for i in range(n)]


def make_trainer(model: str, rows: Sequence[Mapping[str, str]], out: str) -> SFTTrainer:
    """A trainer of plain rows with a LoRA, not trained."""
    names = SFTConfig.__dataclass_fields__  # transformers renamed this one
    checkpointing = "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"
    config = SFTConfig(
        out,
        max_steps=1,
        report_to="none",
        save_strategy="no",
        bf16=ON_GPU,
        use_cpu=not ON_GPU,
        disable_tqdm=True,
        **{checkpointing: False},
        model_init_kwargs={"dtype": "bfloat16" if ON_GPU else "float32"},
    )
    lora = LoraConfig(r=16, target_modules="all-linear")
    return SFTTrainer(model, args=config, train_dataset=Dataset.from_list(list(rows)), peft_config=lora)


def make_meter(trainer: SFTTrainer) -> tuple[measure.LossMeter, TokenRows]:
    """What measures the losses of a trainer's rows, and their token counts."""
    view, collator = compat.loader_view(trainer, trainer.train_dataset)
    rows = read_rows(view)
    subject = partial(compat.subject, trainer)
    return measure.LossMeter(subject, view, collator, rows.tokens, peers=Peers.of(trainer), what="scoring"), rows


def speed(model: str, folder: str, options: argparse.Namespace) -> str:
    """Scoring against the bare forward of the same batches, as a table."""
    ways, what, tokens = scored_and_bare(model, folder, options)
    seconds = in_turns(ways, options.rounds)
    best = {name: tokens / min(times) for name, times in seconds.items()}
    head, cells = [*what, "scoring"], [*what.values(), f"{best['scoring']:.0f} tokens/s"]
    for name in [name for name in ways if name != "scoring"]:
        head += [f"bare forward {name}", "ratio"]
        cells += [f"{best[name]:.0f} tokens/s", f"{median_ratio(seconds[name], seconds['scoring']):.2f}"]
    return markdown(head, [cells])


def speeds(model: str, folder: str, options: argparse.Namespace) -> dict[str, list[float]]:
    """The same in seconds of each turn, by what was called."""
    return in_turns(scored_and_bare(model, folder, options)[0], options.rounds)


def scored_and_bare(
    model: str, folder: str, options: argparse.Namespace
) -> tuple[dict[str, Callable[[], Any]], dict[str, Any], int]:
    """Scoring and bare forwards of the same batches by name; what they are of, in words; and its tokens."""
    trainer = make_trainer(model, read_plain(options, options.rows), f"{folder}/speed")
    meter, rows = make_meter(trainer)
    meter._shares = False  # each row whole, as in the bare forward
    wanted, subject = np.arange(len(rows)), meter.subject()
    parts = long_rows_first(meter.tokens[wanted], meter.token_bound(subject, wanted))
    made = [subject.place(meter.collator([meter.dataset[int(row)] for row in part])) for part in parts]
    batches = [{name: value for name, value in batch.items() if name != "labels"} for batch in made]
    whole = subject.model.get_base_model()

    def forwards(module: Any) -> None:
        with undisturbed(subject.model):
            for batch in batches:
                module(**batch, use_cache=False)

    def without_adapter() -> None:
        with subject.model.disable_adapter():
            forwards(whole.get_decoder())

    def answers() -> None:
        with undisturbed(subject.model):
            for batch, full in zip(batches, made, strict=True):
                mask = full["labels"][:, 1:] != IGNORED
                hidden = whole.get_decoder()(**batch, use_cache=False).last_hidden_state[:, :-1][mask]
                functional.cross_entropy(subject.head(hidden).float(), full["labels"][:, 1:][mask], reduction="none")

    bare = {
        "without the head": partial(forwards, whole.get_decoder()),
        "without the head and the adapter": without_adapter,
        "with logits of the answers": answers,
        "with all logits": partial(forwards, subject.model),
    }
    tokens, answers_ = int(rows.tokens.sum()), int(rows.answer_tokens.sum())
    what = {"model": name_of(options), "rows": len(rows), "tokens (answers)": f"{tokens} ({answers_})"}
    return {"scoring": lambda: meter.losses(wanted), **bare}, {**what, "batches": len(batches)}, tokens


def behind_shots(plain: Sequence[dict[str, str]], n: int) -> list[dict[str, str]]:
    """Rows without the n shortest, which now stand, solved, before each of the others."""
    by_length = sorted(range(len(plain)), key=lambda i: len(plain[i]["prompt"]) + len(plain[i]["completion"]))
    shots = [plain[i] for i in by_length[:n]]
    head = "".join(f"{one['prompt']}{one['completion']}\n\n" for one in shots)
    return [{**row, "prompt": head + row["prompt"]} for row in plain if row not in shots]


def harness(model: str, folder: str, options: argparse.Namespace, shots: int = 0) -> str:
    """Scoring against lm-eval's own loglikelihood, and whether both say the same of every row."""
    if importlib.util.find_spec("lm_eval") is None:
        return "harness: lm-eval is not installed, so nothing is compared. Type: pip install lm-eval"
    plain = behind_shots(read_plain(options, options.rows + shots), shots)
    trainer = make_trainer(model, plain, f"{folder}/harness")
    meter, rows = make_meter(trainer)
    if len(rows) != len(plain):
        return f"harness: {len(plain) - len(rows)} rows are longer than the trainer takes; choose shorter ones"
    wanted, tried, ways, apart = np.arange(len(rows)), {}, {}, 0.0
    ours, spared = meter.losses(wanted), meter.spared
    for size in options.lm_eval_batches:
        ways[size] = loglikelihood(trainer, plain, size)
        began = CLOCK()
        theirs = ways[size]()
        tried[size] = CLOCK() - began
        apart = max(apart, float(np.abs((ours.nll_sum - theirs) / ours.tokens).max()))
    best = min(tried, key=lambda size: tried[size])
    turns = {"ours": lambda: meter.losses(wanted), "theirs": ways[best]}
    if shots:
        each_whole, _ = make_meter(trainer)
        each_whole._shares = False  # as for a model that cannot look back
        turns["whole"] = lambda: each_whole.losses(wanted)
    seconds = in_turns(turns, options.rounds, warm=True)
    ratio = median_ratio(seconds["theirs"], seconds["ours"])
    rates = [f"{len(rows) / min(seconds[who]):.2f} rows/s" for who in ("ours", "theirs")]
    others = ", ".join(f"{size}: {len(rows) / took:.2f}" for size, took in tried.items())
    head = [
        "model",
        "rows",
        "scoring",
        "lm-eval",
        "batch size (rows/s of all tried)",
        "ratio",
        "most that a row differs",
    ]
    differs = f"{apart:.1e} nats per token{'' if apart < SAME else ': NOT THE SAME'}"
    line = [name_of(options), len(rows), *rates, f"{best} ({others})", f"{ratio:.2f}", differs]
    if shots:
        head += ["against rows read whole", "tokens", "of them read"]
        line += [
            f"{median_ratio(seconds['whole'], seconds['ours']):.2f}",
            int(rows.tokens.sum()),
            int(rows.tokens.sum()) - spared,
        ]
    return markdown(head, [line])


def loglikelihood(trainer: SFTTrainer, plain: Sequence[Mapping[str, str]], size: int) -> Callable[[], Any]:
    """A call of lm-eval's loglikelihood that gives the summed loss of each row, shape (N,)."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    end = trainer.processing_class.eos_token  # trl closes every answer with it
    requests = [
        Instance("loglikelihood", {}, (row["prompt"], row["completion"] + end), i) for i, row in enumerate(plain)
    ]
    lm = HFLM(pretrained=trainer.model, tokenizer=trainer.processing_class, batch_size=size)

    def losses() -> Any:
        with undisturbed(trainer.model), contextlib.redirect_stderr(None):
            return np.array([-found[0] for found in lm.loglikelihood(requests, disable_tqdm=True)])

    return losses


def sweep(model: str, folder: str, options: argparse.Namespace) -> str:
    """Scoring with other sizes of batches and tiles, in turns."""
    trainer = make_trainer(model, read_plain(options, options.rows), f"{folder}/sweep")
    meter, rows = make_meter(trainer)
    wanted, usual = np.arange(len(rows)), (batches.BATCH_TOKENS_CPU, batches.BATCH_TOKENS, measure.TILE)

    def with_sizes(batch: int, tile: int) -> None:
        batches.BATCH_TOKENS_CPU, batches.BATCH_TOKENS, measure.TILE = batch, batch, tile
        meter.losses(wanted)

    sizes = [(batch, tile) for batch in options.batches for tile in options.tiles]
    seconds = in_turns({f"{b}/{t}": partial(with_sizes, b, t) for b, t in sizes}, options.rounds)
    batches.BATCH_TOKENS_CPU, batches.BATCH_TOKENS, measure.TILE = usual
    first = next(iter(seconds.values()))
    lines = []
    for (batch, tile), times in zip(sizes, seconds.values(), strict=True):
        n_batches = len(long_rows_first(meter.tokens[wanted], batch))
        speed_ = f"{rows.tokens.sum() / statistics.median(times):.0f} tokens/s"
        lines.append([batch, tile, n_batches, speed_, f"{median_ratio(first, times):.3f}"])
    return markdown(["tokens of a batch", "tile", "batches", name_of(options), "against the first line"], lines)


# -- memory -----------------------------------------------------------------------------------------------------------


def memory(model: str, options: argparse.Namespace) -> str:
    """Peak memory that scoring adds, of N and of 4 N rows."""
    lines = []
    for n in (options.memory_rows, 4 * options.memory_rows):
        data = ["--data", *options.data] if options.data else []
        command = [sys.executable, __file__, "--model", model, *data, "--seed", str(options.seed), "--child", str(n)]
        child = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        found = json.loads(child.stdout.splitlines()[-1])
        lines.append([name_of(options), n, found["tokens"], f"{found['before']:.0f} MB", f"{found['added']:.1f} MB"])
    return markdown(["model", "rows", "tokens", "before scoring", "added at the peak"], lines)


def added_memory(model: str, options: argparse.Namespace) -> dict[str, float]:
    """What scoring `options.child` rows adds to this process's peak, in MB; the first batches are not counted."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(model, read_plain(options, options.child), folder)
        meter, rows = make_meter(trainer)
        peers, dataset = Peers.of(trainer), trainer.train_dataset
        longest = np.argsort(-rows.tokens, kind="stable")[: options.memory_rows // 4]
        for _ in range(2):
            Passages(trainer, dataset, rows, meter, ScoreCache(None), peers).take(HERE, longest)
        forget_peak()
        before = memory_now("VmRSS")
        Passages(trainer, dataset, rows, meter, ScoreCache(None), peers).take(HERE, np.arange(len(rows)))
        added = memory_now("VmHWM") - before
    return {"tokens": int(rows.tokens.sum()), "before": before, "added": added}


def forget_peak() -> None:
    """Start a new peak here."""
    if ON_GPU:
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def memory_now(field: str) -> float:
    """Resident memory now (VmRSS) or at its peak (VmHWM), in MB; the accelerator's where there is one."""
    if ON_GPU:
        return (torch.cuda.max_memory_allocated() if field == "VmHWM" else torch.cuda.memory_allocated()) / 1e6
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field)) * 1024 / 1e6


# -- metrics of the texts ---------------------------------------------------------------------------------------------


def both_clocks() -> Any:
    """(Seconds on the wall, CPU seconds of this process and of its children that have ended)."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return np.array([time.perf_counter(), sum(each.ru_utime + each.ru_stime for each in used)])


def cpu(options: argparse.Namespace) -> str:
    """Two processes against one."""
    texts = [row["completion"].strip() for row in read_plain(options, options.texts)]
    sizes = np.array([len(text) for text in texts])
    rows, few, lines = RowTexts(texts, sizes, sizes, {}), RowTexts(texts[:2000], sizes[:2000], sizes[:2000], {}), []
    for name in TEXT_METRICS:
        metric = METRICS.build(name, {})
        problems = missing_parts([metric])
        if problems:
            print(f"left out: {problems[0]}")
            continue
        same = np.array_equal(*(metric.scores(few, num_proc=n, progress=False) for n in (1, 2)))  # loads libraries too
        assert same, f"{name}: two processes give other scores"
        busy = os.getloadavg()[0]
        ways = {str(n): partial(metric.scores, rows, num_proc=n, progress=False) for n in (1, 2)}
        seconds = in_turns(ways, options.rounds, warm=True, clock=both_clocks)
        one, two = (np.median(times, axis=0) for times in seconds.values())
        ratio, spent = (median_ratio(*([t[i] for t in seconds[n]] for n in "12")) for i in (0, 1))
        walls = [f"{one[0]:.1f} s", f"{two[0]:.1f} s", f"{ratio:.2f}"]
        lines.append([name, len(texts), *walls, f"{one[1]:.1f} s / {two[1]:.1f} s", f"{2 * spent:.2f}", f"{busy:.1f}"])
    head = ["metric", "texts", "one process", "two processes", "ratio", "CPU time of one / of two"]
    return markdown([*head, "ratio on two free cores, by CPU time", "load of the machine before"], lines)


def name_of(options: argparse.Namespace) -> str:
    """What tables call the model."""
    return Path(options.model).name if options.model else "tiny random Llama"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model folder or hub id; the default is a tiny random one")
    parser.add_argument("--data", nargs="+", help="JSON lines of rows; default: generated tasks")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=[*PARTS, "sweep"])
    parser.add_argument("--rows", type=int, default=256, help="rows scored (speed, harness, sweep)")
    parser.add_argument("--rounds", type=int, default=5, help="turns that are counted, after one to warm up")
    parser.add_argument("--lm-eval-batches", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--shots", type=int, default=5, help="solved tasks that all rows begin with (shared)")
    parser.add_argument("--memory-rows", type=int, default=1000, help="N")
    parser.add_argument("--texts", type=int, default=200_000, help="of the metrics of texts alone")
    parser.add_argument("--batches", type=int, nargs="+", default=[512, 1024, 2048, 4096], help="tokens, for the sweep")
    parser.add_argument("--tiles", type=int, nargs="+", default=[256], help="positions, for the sweep")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of rows")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print tables."""
    options = parse(argv)
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or str(write_tiny(Path(folder) / "tiny"))
        if options.child:
            print(json.dumps(added_memory(model, options)))
            return
        device = torch.cuda.get_device_name() if ON_GPU else f"CPU, {torch.get_num_threads()} threads"
        print(f"{device}; load of the machine {os.getloadavg()[0]:.1f}; seed {options.seed}")
        ways: dict[str, Callable[[], str]] = {
            "speed": lambda: speed(model, folder, options),
            "harness": lambda: harness(model, folder, options),
            "shared": lambda: harness(model, folder, options, shots=options.shots),
            "memory": lambda: memory(model, options),
            "cpu": lambda: cpu(options),
            "sweep": lambda: sweep(model, folder, options),
        }
        for part in options.parts:
            print(f"\n{part}\n\n{ways[part]()}", flush=True)


if __name__ == "__main__":
    main()
