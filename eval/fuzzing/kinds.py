"""The kinds of inputs: each makes one from chance, and knows how to give it to the package.

A kind writes what it makes into the working directory, which is empty before. About a third of all inputs are right
and must be taken: a package that refuses everything would pass otherwise.
"""

from __future__ import annotations

import contextlib
import copy
import gzip
import io
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from eval.fuzzing import odd, settings
from eval.fuzzing.ask import ACCEPTED, EITHER, REFUSED, Answer, Input, WrongError, call, command

Json = dict[str, Any]
RECIPE = Path("recipe.yaml")


@dataclass(frozen=True)
class World:
    """What is made once, and copied from.

    Args:
        repository: the repository, for its recipes.
        corpus: folder with `data/`, `model/`, `run/`, `other/`, `made/`, `comparison/` and `results/`.
    """

    repository: Path
    corpus: Path

    def rows(self, n: int = 24) -> list[Json]:
        """Training rows that are right."""
        return [json.loads(line) for line in (self.corpus / "data" / "train.jsonl").read_text("utf-8").splitlines()[:n]]


Kind = Callable[[World, random.Random], Input]


def _expected(bad: object) -> str:
    return REFUSED if bad else ACCEPTED


def _dump(content: Any) -> str:
    try:
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    except (yaml.YAMLError, ValueError):  # half a surrogate pair, NUL
        return yaml.safe_dump(content, sort_keys=False)


# -- settings ----------------------------------------------------------------------------------------------------------


def recipe(world: World, chance: random.Random) -> Input:
    """A `campus:` block, read as every command reads it."""
    how = chance.choice(["right", "wrong", "wrong", "unknown", "odd", "odd", "no mapping", "shipped"])
    if how == "shipped":
        path = chance.choice(sorted(world.repository.glob("recipes/*.yaml")))
        RECIPE.write_bytes(path.read_bytes())
        return Input(f"shipped {path.name}", ACCEPTED, _read_recipe)
    block, bad = settings.draw(settings.CAMPUS, chance, wrong=how == "wrong", some=5, must=("metrics",))
    if how == "unknown":
        bad = [settings.unknown(settings.CAMPUS, chance)]
        block[bad[0]] = chance.choice([1, "x", None])
    if how == "odd":
        block = odd.mutated(block, chance, chance.choice([1, 2]))
    if how == "no mapping":
        block, bad = chance.choice([5, "length", [1], ["length"], True, 0.5]), ["campus"]
    _write_yaml(RECIPE, {"campus": block})
    expected = EITHER if how == "odd" else _expected(bad)
    return Input(f"{how} {', '.join(bad)}: {block!r}", expected, _read_recipe, tuple(bad))


def _write_yaml(path: Path, content: Any) -> None:
    path.write_bytes(_dump(content).encode("utf-8", "surrogatepass"))


def _read_recipe() -> Answer:
    from campus_tune.recipe.config import load_recipe

    config = load_recipe(RECIPE)
    again = load_recipe(yaml.safe_load(config.to_yaml()))
    if again != config:
        raise WrongError("the recipe that was written down is another one")
    json.dumps(config.to_mapping(), allow_nan=False)
    if Path("owned").exists():
        raise WrongError("code of the YAML was run")
    return Answer(ACCEPTED)


def yaml_text(world: World, chance: random.Random) -> Input:
    """A YAML text, right, broken or odd, to each of the readers."""
    del world
    block, _ = settings.draw(settings.CAMPUS, chance, wrong=False, some=3, must=("metrics",))
    text, what, expected = _dump({"output_dir": "out", "campus": block}), "right", ACCEPTED
    how = chance.choice(["right", "broken", "broken", "broken", "odd", "bytes"])
    if how == "broken":
        what, change = chance.choice(list(settings.BROKEN.items()))
        text, expected = change(text, chance), REFUSED
    elif how == "odd":
        what, change = chance.choice(list(settings.ODD.items()))
        text, expected = change(text, chance), EITHER
    data = text.encode("utf-8", "surrogatepass")
    if how == "bytes":
        what, data = odd.damaged(data, chance, [b"\x80abc: 1", text.encode("utf-16"), b"\xff\xfe", gzip.compress(data)])
        expected = EITHER
    RECIPE.write_bytes(data)
    if chance.random() < 0.03:
        RECIPE.unlink()
        what, expected = "no file", REFUSED
    if chance.random() < 0.25:
        words = ["simulate", "--config", str(RECIPE), "--rows", "64"]
        return Input(f"{what}, simulated", EITHER if expected == ACCEPTED else expected, partial(command, words))
    return Input(what, expected, _read_recipe)


def compare_block(world: World, chance: random.Random) -> Input:
    """A `compare:` block."""
    del world
    block, bad = settings.draw(settings.COMPARE, chance, wrong=chance.random() < 0.6, must=("test",))
    return _from_mapping(block, bad, chance, settings.COMPARE, _read_compare)


def suite(world: World, chance: random.Random) -> Input:
    """A suite of official tasks."""
    del world
    block, bad = settings.draw(settings.SUITE, chance, wrong=chance.random() < 0.6, some=2, must=("tasks",))
    return _from_mapping(block, bad, chance, settings.SUITE, _read_suite)


def _from_mapping(block: Json, bad: list[str], chance: random.Random, table: settings.Table, read: Any) -> Input:
    expected, how = _expected(bad), "wrong" if bad else "right"
    if not bad and chance.random() < 0.5:
        if chance.random() < 0.5:
            bad = [settings.unknown(table, chance)]
            block, how, expected = {**block, bad[0]: 1}, "unknown", REFUSED
        else:
            block, how, expected = odd.mutated(block, chance), "odd", EITHER
    return Input(f"{how} {', '.join(bad)}: {block!r}", expected, partial(read, block), tuple(bad))


def _read_compare(block: Any) -> Answer:
    from campus_tune.compare.settings import CompareSettings

    return call(lambda: json.dumps(CompareSettings.from_mapping(block).to_mapping(), allow_nan=False))


def _read_suite(block: Any) -> Answer:
    from campus_tune.evaluate.suites import load_suite

    _write_yaml(Path("suite.yaml"), block)
    return call(lambda: json.dumps(load_suite("suite.yaml").record(), allow_nan=False))


def accelerate(world: World, chance: random.Random) -> Input:
    """A YAML of accelerate's launcher."""
    path = chance.choice(sorted(world.repository.glob("recipes/accelerate/*.yaml")))
    content, expected, how = yaml.safe_load(path.read_text("utf-8")), ACCEPTED, "shipped"
    if chance.random() < 0.7:
        content, expected, how = odd.mutated(content, chance), EITHER, "odd"
        if chance.random() < 0.3:
            key = settings.unknown(dict.fromkeys(content, ((), ())), chance) if isinstance(content, dict) else "x"
            content, expected, how = {**yaml.safe_load(path.read_text("utf-8")), f"{key}_": 1}, REFUSED, "unknown"
    return Input(f"{how} {path.name}: {content!r}", expected, partial(_read_accelerate, content))


def _read_accelerate(content: Any) -> Answer:
    from campus_tune.cli.launch import Launch, read_asked
    from campus_tune.words.errors import RecipeError

    def read() -> None:
        if problems := read_asked(Launch(Path("accelerate.yaml"), {}, ["eval"]))[2]:
            raise RecipeError(problems)

    _write_yaml(Path("accelerate.yaml"), content)
    return call(read)


# -- the command line --------------------------------------------------------------------------------------------------


def simulate(world: World, chance: random.Random) -> Input:
    """`campus-tune simulate`, with flags and perhaps a recipe."""
    del world
    wrong = chance.random() < 0.45
    flags, bad = settings.draw(settings.SIMULATE, chance, wrong=wrong, some=3)
    expected, how = _expected(bad), "wrong" if bad else "right"
    if {"--coverage", "--window", "--selector"} & set(flags) and not bad:
        flags["--metrics"] = flags.get("--metrics", "length,mtld")
    if not bad and chance.random() < 0.2:
        name = chance.choice(
            [name for name in settings.SIMULATE if name not in ("--rows", "--batch", "--domains", "--epochs")]
        )
        flags[name], expected, how = odd.text(chance), EITHER, "odd"
    elif not bad and chance.random() < 0.15:
        flags[chance.choice(["--epochs", "--rows", "--batch", "--domains", "--seed", "--stages"])] = chance.choice(
            settings.HUGE
        )
        expected, how = EITHER, "huge"
    flags.setdefault("--rows", "100")
    words = ["simulate", *(f"{name}={value}" for name, value in flags.items())]
    if chance.random() < 0.5:
        block, _ = settings.draw(settings.CAMPUS, chance, wrong=False, some=4, must=("metrics",))
        training, worse = settings.draw(settings.TRAINING, chance, wrong=False, some=3)
        if chance.random() < 0.2:
            training, worse = settings.draw(settings.TRAINING, chance, wrong=True, some=3)
            how, expected = f"{how}, training {worse}", EITHER
        _write_yaml(RECIPE, {**training, "campus": {**block, "seed": 3}})
        words += ["--config", str(RECIPE)]
        expected = (
            EITHER if expected == ACCEPTED else expected
        )  # a selector may ask for several metrics, rows be too few
    words += ["--json"] if chance.random() < 0.3 else []
    names = tuple(name.removeprefix("--") for name in bad)
    return Input(f"{how} {' '.join(words)!r}", expected, partial(_simulated, words), names)


def _simulated(words: Sequence[str]) -> Answer:
    answer = command([odd_word.replace("\0", "") for odd_word in words])
    if answer.outcome == ACCEPTED and "--json" in words:
        json.loads(answer.said, parse_constant=_no_constant)
    return answer


def _no_constant(name: str) -> None:
    raise WrongError(f"{name} in JSON")


COMMANDS: Mapping[str, list[str]] = {  # with a recipe that is right; what would train or load a model is cut off
    "check": ["check", "recipe.yaml"],
    "sft": ["sft", "--config", "recipe.yaml"],
    "sft over": ["sft", "--config", "recipe.yaml", "--learning_rate", "1e-4", "--campus.stages", "5"],
    "score": ["score", "--config", "recipe.yaml", "--scores", "scores"],
    "proxy": ["proxy", "--config", "recipe.yaml", "--out", "proxy"],
    "compare": ["compare", "--config", "recipe.yaml", "--seeds", "3", "--test", "test.jsonl"],
    "report": ["report", "nowhere"],
    "eval": ["eval", "--model", "model", "--suite", "smoke", "--tasks", "mmlu"],
    "eval compare": ["eval", "compare", "a.json", "b.json"],
    "eval check-data": ["eval", "check-data", "data"],
    "diff": ["diff", "a", "b"],
    "demo tasks": [
        "demo",
        "tasks",
        "--out",
        "tasks",
        "--rows-per-cell",
        "1",
        "--probes-per-cell",
        "1",
        "--tests-per-cell",
        "1",
    ],
    "help": ["simulate", "--help"],
}
TAKEN = ("sft", "sft over", "score", "proxy", "compare", "eval", "demo tasks", "help")
ODD_WORDS = {
    "sft": [["--campus.metrics", "[*x]"], ["--deepspeed", "1"], ["--lr_scheduler_type", "CON"],
    ["--campus.stages", "nan"], ["--num_processes", "x"],
            ["--campus.", "1"], ["--campus.metrics", "!!python/object/apply:os.system [ls]"],
            ["--learning_rate", "x"], ["--campus.mix", "{"],
            ["--bf16", "maybe"], ["--max_steps", "1e3"], ["--warmup_steps", "nan"], ["--report_to", "nobody"],
            ["--campus.probes", "{path: 5}"],
            ["--lora_r", "x", "--use_peft"], ["--optim", "x"], ["--campus.seed", "2020-01-01"], ["--seed", "-1"],
            ["--save_strategy", "x"],
            ["--fsdp", "x"], ["--dtype", "x"], ["--accelerator_config", "{"], ["--lr_scheduler_kwargs", "x"],
            ["--packing"], ["--dataset_streaming"]],
    "compare": [["--seeds", "x"], ["--compare.effect", "nan"], ["--compare.effect", "["], ["--arms", "x"],
    ["--jobs", "0"], ["--devices", "-1"],
                ["--seed", "1"], ["--compare.", "1"], ["--compare.seeds", "2147483648"],
                ["--seeds", "9223372036854775808"], ["--earlier", "nowhere"]],
    "eval": [["--limit", "0"], ["--limit", "x"], ["--batch_size", "-1"], ["--tasks", "x"], ["--suite", "x"],
    ["--dtype", "x"], ["--tasks", ","],
             ["--limit", "²"], ["--batch_size", "99999999999999999999"], ["--data", "nowhere"],
             ["--suite", "/dev/null"], ["--suite", "."]],
    "proxy": [["--early", "nan"], ["--early", "2"], ["--early", "x"], ["--out", ""], ["--model", ""]],
    "score": [["--metrics", "{"], ["--metrics", "{name: 5}"], ["--metrics", "x"], ["--metrics", "{name: *x}"],
    ["--scores", ""], ["--metrics", "{a"]],
    "demo tasks": [["--rows-per-cell", "0"], ["--rows-per-cell", "x"], ["--seed", "-1"],
    ["--seed", "99999999999999999999999"], ["--out", ""],
                   ["--rows-per-cell", "9223372036854775808"]],
}  # fmt: skip


def commands(world: World, chance: random.Random) -> Input:
    """A command line of any subcommand: right, misspelt, cut short, or with odd words."""
    name = chance.choice(list(COMMANDS))
    words, expected, how = list(COMMANDS[name]), ACCEPTED if name in TAKEN else EITHER, "right"
    training = {
        "model_name_or_path": str(world.corpus / "model"),
        "dataset_name": "train.jsonl",
        "output_dir": "out",
        "bf16": False,
    }
    _write_yaml(RECIPE, {**training, "campus": {"metrics": ["length", "mtld"]}})
    change = chance.choice(["right", "flag", "cut", "cut", "word", "odd", "odd", "command"])
    flags = [i for i, word in enumerate(words) if word.startswith("--")]
    names: tuple[str, ...] = ()
    if change == "flag" and flags and name != "help":
        at = chance.choice(flags)
        words[at] = f"{words[at]}x"
        name = words[at].removeprefix("--").removesuffix("x")
        expected, how, names = REFUSED, "misspelt", (name, name.removeprefix("campus."))
    elif change == "cut" and flags and name != "help":
        words, expected, how, names = words[: flags[-1] + 1], REFUSED, "cut", (words[flags[-1]],)
    elif change == "command":
        words[0], expected, how = odd.misspelt(words[0], chance), REFUSED, "no command"
    elif change == "word" and len(words) > 1:
        words[chance.randrange(1, len(words))] = odd.text(chance)
        expected, how = EITHER, "a word exchanged"
    elif change == "odd" and name in ODD_WORDS:
        words += chance.choice(ODD_WORDS[name])
        expected, how = EITHER, "odd words"
    words = [word.replace("\0", "") for word in words]
    return Input(f"{how} {words!r}", expected, partial(command, words, refusals=(1, 2)), names)


def check(world: World, chance: random.Random) -> Input:
    """`campus-tune check` on a YAML and its rows, with a tokenizer now and then."""
    how = chance.choice(["right", "wrong", "rows", "training", "key"])
    block, bad = settings.draw(settings.CAMPUS, chance, wrong=how == "wrong", some=3, must=("metrics",))
    if how != "wrong":
        block = {"metrics": chance.choice([["length"], ["length", "compression"], ["mtld", "length"]]), "stages": 2}
    training: Json = {
        "dataset_name": "train.jsonl",
        "output_dir": "out",
        "bf16": False,
        "per_device_train_batch_size": 2,
    }
    if chance.random() < 0.25:
        training["model_name_or_path"] = str(world.corpus / "model")
    expected, rows = _expected(bad), world.rows()
    if how == "rows":
        rows, expected = [_odd_row(row, chance) if chance.random() < 0.2 else row for row in rows], EITHER
    if how == "training":
        more, _ = settings.draw(settings.TRAINING, chance, wrong=True, some=2)
        training, expected = {**training, **more}, EITHER
    if how == "key":
        training[odd.misspelt(chance.choice(["learning_rate", "output_dir", "max_length", "warmup_steps"]), chance)] = 1
        expected = REFUSED
    Path("train.jsonl").write_bytes(_lines(rows, chance))
    _write_yaml(RECIPE, {**training, "campus": block})
    return Input(
        f"{how} {bad}: {training} {block}",
        expected,
        partial(command, ["check", str(RECIPE)], refusals=(1, 2)),
        tuple(bad),
    )


# -- rows --------------------------------------------------------------------------------------------------------------


def _lines(rows: Sequence[Any], chance: random.Random) -> bytes:
    return "".join(odd.as_json(row, chance) + "\n" for row in rows).encode("utf-8", "surrogatepass")


ODD_ROWS: tuple[Any, ...] = (
    {"messages": [None]}, {"messages": ["x"]}, {"messages": None}, {"messages": []}, {"messages": {}},
    {"messages": "x"}, {"messages": 5},
    {"messages": [{"role": "assistant"}]}, {"messages": [{"role": None, "content": None}]},
    {"messages": [{"role": "asistant", "content": "x"}]},
    {"messages": [{"role": "assistant", "content": [{"type": "text", "text": "x"}]}]},
    {"messages": [{"role": 5, "content": 5}]},
    {"messages": [{"role": "assistant", "content": {"a": {"content": {}}}}]}, {"messages": [[], {}]},
    {"messages": [{"content": "x"}]},
    {"messages": [{"role": "assistant",
    "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}], "tools": "[{"},
    {"conversations": [None]}, {"conversations": [{"from": "gpt"}]},
    {"conversations": [{"from": None, "value": None}, "x"]}, {"conversations": "x"},
    {"conversations": [{"from": "human", "value": "x"}, None]},
    {"conversations": [{"from": "human", "value": 5}, {"from": 5}]},
    {"prompt": None, "completion": None}, {"prompt": 5, "completion": [5, [None]]}, {"prompt": "x"},
    {"completion": "x"}, {"prompt": [{}], "completion": [{}]},
    {"text": None}, {"text": ""}, {"text": 5}, {"text": ["a", 5]}, {"text": {"text": {"text": "x"}}},
    {"body": "a b c"}, {}, {"": ""},
    {"text": "x" * 20000}, {"text": "\ud800"}, {"text": "<script>"},
    {"prompt": "x", "completion": "x", "level": None}, {"text": [[[[[[]]]]]]},
    {"instruction": "x", "input": "", "output": "y"}, {"text": {"a": 1}}, {"prompt": "x", "completion": ""},
    {"text": "\n"}, {"text": "\0"},
)  # fmt: skip
NO_ROW = (
    b"[1, 2]\n",
    b"5\n",
    b'"x"\n',
    b"null\n",
    b"{\n",
    b"{'a': 1}\n",
    b'{"a": 1} x\n',
    b'{"a": [' + b"[" * 50_000 + b"\n",
    b"\xff\xfe\n",
    b"a: 1\n",
)


def _odd_row(row: Json, chance: random.Random) -> Any:
    return copy.deepcopy(chance.choice(ODD_ROWS)) if chance.random() < 0.6 else odd.mutated(row, chance)


def rows(world: World, chance: random.Random) -> Input:
    """A file of rows: read, split into prompts and answers, and scored by what needs no model."""
    suffix, make = chance.choice(list(FORMATS.items()))
    path, data = Path(f"rows{suffix}"), make(world, chance)
    how = chance.choice(["right", "bytes", "odd", "odd", "no row", "no row", "missing"])
    expected = {"right": ACCEPTED, "no row": REFUSED, "missing": REFUSED}.get(how, EITHER)
    if how == "bytes":
        others = [(world.corpus / "rows.parquet").read_bytes(), b"PK\3\4", gzip.compress(data)]
        how, data = odd.damaged(data, chance, others)
        expected = REFUSED if how == "cut" and suffix.endswith(".gz") and len(data) > 12 else EITHER
    elif how == "odd":
        path, data = Path("rows.jsonl"), _lines(_odd_rows(world.rows(12), chance), chance)
    elif how == "no row" and suffix == ".csv":
        data += chance.choice([b"a,b,c,d,e,f,g,h,i\n", b"a\n"])
    elif how == "no row":
        path, lines = Path("rows.jsonl"), _lines(world.rows(12), chance).splitlines(keepends=True)
        lines.insert(chance.randrange(len(lines)), chance.choice(NO_ROW))
        data = b"".join(lines)
    path.write_bytes(data)
    if how == "missing":
        path = Path(chance.choice(["nowhere.jsonl", f"row{suffix}", "nowhere.parquet", "nowhere.csv", "."]))
    return Input(f"{how}: {path} {data[:200]!r}", expected, partial(_score_rows, path))


FORMATS: Mapping[str, Callable[[World, random.Random], bytes]] = {
    ".jsonl": lambda world, chance: _lines(world.rows(12), chance),
    ".jsonl.gz": lambda world, chance: gzip.compress(_lines(world.rows(12), chance), mtime=0),
    ".csv": lambda world, _: (world.corpus / "rows.csv").read_bytes(),
    ".parquet": lambda world, _: (world.corpus / "rows.parquet").read_bytes(),
}


def _odd_rows(good: list[Json], chance: random.Random) -> list[Any]:
    """Some odd ones among the right, all of them odd, or one odd shape throughout."""
    share = chance.choice([0.1, 0.4, 1.0])
    if chance.random() < 0.25:
        return [copy.deepcopy(chance.choice(ODD_ROWS))] * 6
    return [_odd_row(row, chance) if chance.random() < share else row for row in good]


def _score_rows(path: Path) -> Answer:
    from campus_tune.data.plain import count_words, full_texts, row_texts
    from campus_tune.data.shapes import Shape
    from campus_tune.metrics import build_metric, finish_scores, parse_metric
    from campus_tune.words.errors import DataError
    from campus_tune.words.files import read_table

    found = read_table(path)
    texts = row_texts(found, count_words, Shape())
    full_texts(found)
    with contextlib.suppress(DataError):  # roles of another name are right in what else is asked
        row_texts(found, count_words, Shape(assistant_only_loss=True))
    for name in ("length", "compression", "mtld"):
        spec = parse_metric(name)
        scores = build_metric(spec).scores(texts, num_proc=1, progress=False)
        with contextlib.suppress(Exception) if len(set(scores.tolist())) < 2 else contextlib.nullcontext():
            finish_scores(scores, spec)
    return Answer(ACCEPTED)


NO_NUMBERS: Mapping[str, list[Any]] = {
    "nan": [settings.NAN, None],
    "inf": [settings.INF, -settings.INF],
    "huge": [2**31, 2**40, 10**30, 10**400, -(2**62)],
    "odd": ["5", True],
}


def column(world: World, chance: random.Random) -> Input:
    """Scores of the user's own: a column of the rows, or a table that is joined to them."""
    del world
    n = 8
    ids, numbers = [f"id{i}" for i in range(n)], [chance.choice([i, i + 0.5, -i]) for i in range(n)]
    numbers[0], numbers[1] = -100, 100
    how = chance.choice(["right", "right table", "right table", "odd", "odd", "table", "nan", "lost", "huge", "inf"])
    expected = ACCEPTED if how.startswith("right") else EITHER
    values: list[Any] = list(numbers)
    if how in ("nan", "inf", "odd", "huge"):
        values[chance.randrange(n)] = chance.choice([*NO_NUMBERS[how], *([odd.value(chance)] if how == "odd" else [])])
        expected = REFUSED if how in ("nan", "inf") else EITHER
    table = [{"id": key, "score": value} for key, value in zip(ids, values, strict=True)]
    entry: Json = {"name": "column", "column": "score"}
    joined = "table" in how or how == "lost" or chance.random() < 0.5
    if joined:
        entry |= {"path": "table.jsonl", "on": "id"}
        if how == "lost":
            table, expected = table[: chance.randrange(n)], REFUSED
        data = _lines(table, chance)
        if how == "table":
            _, data = odd.damaged(data, chance)
        chance.shuffle(table)
        Path("table.jsonl").write_bytes(data)
    columns = {"id": [*ids]} if joined else {"id": ids, "score": values}
    return Input(f"{how} {'joined' if joined else 'own'}: {values}", expected, partial(_score_column, entry, columns))


def _score_column(entry: Json, columns: Json) -> Answer:
    import numpy as np

    from campus_tune.metrics import build_metric, finish_scores, parse_metric
    from campus_tune.words.types import RowTexts

    spec = parse_metric(entry)
    n = len(columns["id"])
    texts = RowTexts(["x"] * n, np.ones(n, dtype=np.int64), np.ones(n, dtype=np.int64), columns)
    scores = finish_scores(build_metric(spec).scores(texts), spec)
    if not np.isfinite(scores).all():
        raise WrongError("scores that are not finite")
    return Answer(ACCEPTED)


def tokens(world: World, chance: random.Random) -> Input:
    """Rows that are tokenised already, as a trainer's loader sees them."""
    del world
    n = 5
    lengths = [chance.randrange(2, 9) for _ in range(n)]
    prepared = [
        {"input_ids": [chance.randrange(500) for _ in range(k)], "labels": [-100] + [7] * (k - 1)} for k in lengths
    ]
    how = chance.choice(["right", "right", "right without labels", "silent", "silent", "odd", "empty", "no ids"])
    expected = ACCEPTED if how.startswith("right") else REFUSED
    if how == "right without labels":
        prepared = [{"input_ids": row["input_ids"]} for row in prepared]
    elif how == "silent":
        row = chance.choice(prepared)
        row["labels"] = [-100] * len(row["labels"])
    elif how == "empty":
        prepared = []
    elif how == "no ids":
        prepared = [{"text": "x"} for _ in prepared]
    elif how == "odd":
        at, key, expected = chance.randrange(n), chance.choice(["input_ids", "labels"]), EITHER
        old = prepared[at][key]
        prepared[at][key] = chance.choice(
            [[], old[:1], old * 2, [2**40] * len(old), [-5] * len(old), [7] * 3000, [0] * len(old)]
        )
    return Input(f"{how}: {str(prepared)[:200]}", expected, partial(_read_tokens, prepared))


def _read_tokens(prepared: list[Json]) -> Answer:
    from campus_tune.data.prepared import read_rows

    return call(lambda: read_rows(_Rows(prepared)).fingerprint())


class _Rows(list[Json]):
    """A dataset of the plainest kind."""


def prepared_rows(world: World, chance: random.Random) -> Input:
    """Rows and settings through TRL's own preparation, with a small tokenizer."""
    how = chance.choice(["right", "right messages", "odd", "odd", "odd all"])
    good = world.rows(8)
    if how == "right messages":
        good = [
            {"messages": [{"role": "user", "content": str(i)}, {"role": "assistant", "content": f"answer {i}"}]}
            for i in range(8)
        ]
    if how == "odd":
        good[chance.randrange(8)] = _odd_row(good[0], chance)
    if how == "odd all":
        good = [copy.deepcopy(chance.choice(ODD_ROWS))] * 8
    more = chance.choice(
        [{}, {}, {"max_length": 16}, {"assistant_only_loss": True}, {"completion_only_loss": False}, {"packing": True}]
    )
    asked = {"model_name_or_path": str(world.corpus / "model"), "output_dir": "out", "bf16": False, **more}
    expected = ACCEPTED if how.startswith("right") and not more else EITHER
    return Input(f"{how} {more}: {str(good)[:200]}", expected, partial(_prepare, asked, good))


def _prepare(asked: Json, found: list[Json]) -> Answer:
    from campus_tune.model.prepare import prepare_rows

    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        return call(lambda: prepare_rows(asked, found))
