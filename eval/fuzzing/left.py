"""Inputs made of what runs leave behind: score files, ledgers, checkpoints, results, comparisons, and their pages."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from eval.fuzzing import odd
from eval.fuzzing.ask import ACCEPTED, EITHER, REFUSED, Answer, Input, WrongError, call, command
from eval.fuzzing.kinds import World

Json = dict[str, Any]
RUN = Path("run")


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


# -- scores ------------------------------------------------------------------------------------------------------------


def score_files(world: World, chance: random.Random) -> Input:
    """The score files of a run, with the digests that its checkpoint remembers."""
    folder = world.corpus / "scores"
    how, data = "right", (folder / "length.parquet").read_bytes()
    expected = ACCEPTED
    if chance.random() < 0.7:
        how, data = odd.damaged(
            data, chance, [(folder / "mtld.parquet").read_bytes(), (world.corpus / "rows.parquet").read_bytes()]
        )
        expected = REFUSED if how in ("cut", "empty", "swapped") else EITHER
    _put(Path("scores/length.parquet"), data)
    if chance.random() < 0.05:
        Path("scores/length.parquet").unlink()
        how, expected = "missing", REFUSED
    digests = json.loads((folder / "digests.json").read_text("utf-8"))
    return Input(how, expected, partial(_load_scores, digests, folder), ("length",) if expected == REFUSED else ())


def _load_scores(digests: Json, right: Path) -> Answer:
    from campus_tune.scores.cache import read_columns
    from campus_tune.scores.run_scores import Scores

    found = Scores.load(Path("scores"), {"length": digests["length"]}, [])
    expected = read_columns(right / "length.parquet")[0]["score"]
    if found.by_label["length"].tolist() != expected.tolist():
        raise WrongError("other scores than those that were written")
    return Answer(ACCEPTED)


def score_cache(world: World, chance: random.Random) -> Input:
    """The cache that runs share: damaged shards, those of another key, odd keys."""
    shutil.copytree(world.corpus / "cache", "cache")
    folders = sorted(path for path in Path("cache").iterdir() if path.is_dir())
    ours = next(path for path in folders if path.name.startswith("length"))
    other = next(path for path in folders if path != ours)
    shard, their = next(ours.glob("shard-*")), next(other.glob("shard-*"))
    how = chance.choice(["right", "right", "shard", "shard", "shard", "key", "key", "swapped", "folder"])
    knows: bool | None = how == "right"
    if how == "shard":
        how, data = odd.damaged(shard.read_bytes(), chance)
        shard.write_bytes(data)
    elif how == "swapped":
        shard.write_bytes(their.read_bytes())
        if chance.random() < 0.5:
            shard.unlink()
            (ours / their.name).write_bytes(their.read_bytes())
    elif how == "key":
        content = json.loads((ours / "key.json").read_text("utf-8"))
        content = chance.choice([odd.mutated(content, chance), odd.value(chance)])
        data = odd.as_json(content, chance).encode("utf-8", "surrogatepass")
        if chance.random() < 0.4:
            _, data = odd.damaged((ours / "key.json").read_bytes(), chance)
        (ours / "key.json").write_bytes(data)
        knows = None
    elif how == "folder":
        shard.unlink()
        shard.mkdir()
    expected = {True: ACCEPTED, False: REFUSED, None: ACCEPTED}[knows]
    return Input(how, expected, partial(_read_cache, knows, ours.name))


def _read_cache(knows: bool | None, name: str) -> Answer:
    """A damaged cache stops nothing: what it does not know is scored again. So there is no refusal to wait for."""
    import numpy as np

    from campus_tune.scores.cache import CacheKey, ScoreCache

    cache, key = ScoreCache(Path("cache")), CacheKey("length", {"of": "response"}, version=3)
    if key.folder_name != name:
        raise LookupError(f"the corpus has another key: {name}, not {key.folder_name}")
    content = np.arange(1, 31, dtype=np.uint64)
    known, values = cache.read(key, content)
    if known.any() and values["score"][known].tolist() != (content[known] * 2.0).tolist():
        raise WrongError("other scores than those that were written")
    if knows is not None and known.any() != knows:
        raise WrongError(
            f"a damaged shard is believed: {cache.warnings}"
            if not knows
            else f"a whole shard is not believed: {cache.warnings}"
        )
    if knows is False and not cache.warnings:
        raise WrongError("a damaged shard is left out without a word")
    cache.missing(CacheKey("length", {"of": "prompt"}, version=3), content)
    cache.about(key)
    cache.write(key, content[:3], {"score": content[:3] * 2.0})
    return Answer(ACCEPTED if knows is not False else REFUSED)


# -- ledgers and pages -------------------------------------------------------------------------------------------------


def _a_run(world: World, chance: random.Random) -> tuple[Path, Path]:
    source = world.corpus / chance.choice(["made", "made", "run"])
    source = source if source.is_dir() else world.corpus / "made"
    shutil.copytree(
        source,
        RUN,
        ignore=shutil.ignore_patterns("*.safetensors", "*.pt", "*.pth", "tokenizer*", "*.bin", "plots", "*.html"),
    )
    return RUN / "curriculum", source


def _events(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _write_events(path: Path, events: Sequence[Any], chance: random.Random) -> None:
    path.write_bytes("".join(odd.as_json(event, chance) + "\n" for event in events).encode("utf-8", "surrogatepass"))


def ledger(world: World, chance: random.Random) -> Input:
    """A ledger, to `report` and to `diff`."""
    home, source = _a_run(world, chance)
    path, how, expected = home / "ledger.jsonl", "right", ACCEPTED
    events = _events(path)
    change = chance.choice(
        [
            "right",
            "right",
            "value",
            "value",
            "value",
            "values",
            "lost line",
            "moved",
            "text",
            "bytes",
            "doubled",
            "line",
        ]
    )
    if change in ("value", "values"):
        at = chance.randrange(len(events))
        events[at] = odd.mutated(events[at], chance, 1 if change == "value" else 3)
        how, expected = f"{change} in line {at}: {str(events[at])[:200]}", EITHER
    elif change == "lost line":
        events.pop(chance.randrange(len(events)))
    elif change == "moved":
        events.insert(chance.randrange(len(events)), events.pop(chance.randrange(len(events))))
    elif change == "doubled":
        at = chance.randrange(len(events))
        events.insert(at, events[at])
    elif change == "line":
        events.insert(
            chance.randrange(len(events)),
            chance.choice([5, None, [], {}, "x", {"event": None}, {"event": ["run"]}, {"event": "x"}]),
        )
    _write_events(path, events, chance)
    if change == "bytes":
        how, data = odd.damaged(path.read_bytes(), chance, [(world.corpus / "rows.csv").read_bytes(), b"{}\n", b"\n\n"])
        path.write_bytes(data)
    elif change == "text":
        lines = path.read_bytes().splitlines(keepends=True)
        lines.insert(
            chance.randrange(len(lines)), chance.choice([b"\n", b"{\n", b"NaN\n", b"\xff\n", b"[" * 50_000 + b"\n"])
        )
        path.write_bytes(b"".join(lines))
    if change not in ("right", "value", "values"):
        how, expected = f"{change} {how}", EITHER
    if chance.random() < 0.5:
        shutil.copytree(source / "curriculum", "twin")
        words = ["diff", *chance.choice([("run", "twin"), ("twin", "run"), ("run", "run")])]
        return Input(f"diff, {how}", expected, partial(command, words))
    return Input(how, expected, partial(command, ["report", "run"], page=home / "report.html"))


def page(world: World, chance: random.Random) -> Input:
    """Markup in every text that a page may show: names, warnings, rows, the recipe."""
    home, _ = _a_run(world, chance)
    path, evil = home / "ledger.jsonl", chance.choice(odd.MARKUP)
    events, where = (
        _events(path),
        chance.choice(["warnings", "texts", "texts", "examples", "recipe", "folder", "names"]),
    )
    if where == "warnings":
        events.append(events.pop() | {"warnings": [evil, f"`{evil}`", f"a `b` {evil}"]})
    elif where == "texts":
        for event in chance.sample(events, min(6, len(events))):
            spots = [p for p in odd.places(event) if isinstance(_at(event, p), str) and p != ("event",)]
            for spot in spots[:3]:
                _at(event, spot[:-1])[spot[-1]] = evil
    elif where == "names":
        text = path.read_text("utf-8").replace('"length"', json.dumps(evil))
        events = [json.loads(line) for line in text.splitlines()]
    elif where == "examples":
        kept = {str(i): {"text": evil, "domain": evil} for i in range(24)}
        _put(home / "examples.json", json.dumps({"format": 1, "rows": kept}).encode())
    elif where == "recipe":
        _put(home / "recipe.yaml", f"campus: {evil}\n".encode())
    _write_events(path, events, chance)
    run = RUN
    if where == "folder":
        run = RUN.rename(f"run {evil.replace('/', ' ')}")
    expected = ACCEPTED if where in ("warnings", "examples", "recipe", "folder") else EITHER
    return Input(
        f"{evil!r} in {where}",
        expected,
        partial(command, ["report", str(run)], page=run / "curriculum" / "report.html"),
    )


def _at(content: Any, path: Sequence[Any]) -> Any:
    for step in path:
        content = content[step]
    return content


def beside(world: World, chance: random.Random) -> Input:
    """Other files that `report` reads: examples, the trainer's state, losses, scores, the recipe."""
    home, _ = _a_run(world, chance)
    files = [
        path
        for path in [*home.rglob("*"), *RUN.glob("*/trainer_state.json")]
        if path.is_file() and path.name != "ledger.jsonl"
    ]
    path = chance.choice(sorted(files))
    if path.suffix == ".json" and chance.random() < 0.7:
        content = odd.mutated(json.loads(path.read_text("utf-8")), chance, 2)
        how, data = f"{str(content)[:100]}", odd.as_json(content, chance).encode("utf-8", "surrogatepass")
    else:
        how, data = odd.damaged(path.read_bytes(), chance, [file.read_bytes() for file in sorted(files)[:4]])
    path.write_bytes(data)
    return Input(f"{path.name}: {how}", EITHER, partial(command, ["report", "run"], page=home / "report.html"))


# -- checkpoints -------------------------------------------------------------------------------------------------------


def checkpoint(world: World, chance: random.Random) -> Input:
    """A file of a checkpoint or of its run: damaged, lost or another's. None is taken without a word."""
    source = world.corpus / "run"
    newest = max(source.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    kept = json.loads((newest / "campus_files.json").read_text("utf-8"))
    counts = {f"{newest.name}/{name}" for name in kept["files"]} | {f"curriculum/{name}" for name in kept["beside"]}
    shutil.copytree(source, RUN, ignore=shutil.ignore_patterns("plots", "*.html"), copy_function=_link)
    how = chance.choice(["right", "damaged", "damaged", "damaged", "lost", "run", "record", "record", "stranger"])
    name = chance.choice(sorted(counts))
    record = chance.choice([f"{newest.name}/campus_files.json", "curriculum/lineage.json"])
    if how == "record":
        name = record
    data = (source / name).read_bytes()
    if how in ("damaged", "record"):
        what, new = odd.damaged(data, chance, [(world.corpus / "other" / name).read_bytes()])
        if how == "record" and chance.random() < 0.5:
            what, new = (
                "mutated",
                odd.as_json(odd.mutated(json.loads(data), chance), chance).encode("utf-8", "surrogatepass"),
            )
        if name.endswith("ledger.jsonl") and new.startswith(data[: kept["beside"]["ledger.jsonl"][0]]):
            new = b"x" + new
        how = f"{how}: {what}"
        _replace(RUN / name, new)
    elif how == "lost":
        (RUN / name).unlink()
    elif how == "run":
        name = f"{newest.name} of another run"
        shutil.rmtree(RUN / newest.name)
        shutil.copytree(world.corpus / "other" / newest.name, RUN / newest.name)
    elif how == "stranger":
        name = f"{newest.name}/{chance.choice(['scaler.pt', 'optimizer.bin', 'pytorch_model.bin'])}"
        _put(RUN / name, b"of another run")
    right = how == "right" or (how.startswith("record") and _same(RUN / name, data))
    return Input(f"{how} {name}", ACCEPTED if right else REFUSED, partial(_take, newest.name, chance.random() < 0.3))


def _link(old: str, new: str) -> None:
    Path(new).hardlink_to(old)


def _replace(path: Path, data: bytes) -> None:
    path.unlink()  # never through the link
    path.write_bytes(data)


def _same(path: Path, data: bytes) -> bool:
    """The JSON is the same, whatever its spaces."""
    with contextlib.suppress(ValueError):
        return bool(json.loads(path.read_bytes()) == json.loads(data))
    return False


def _take(newest: str, named: bool) -> Answer:
    """What a resume would take: the newest one is accepted, anything else must be said."""
    from campus_tune.model.peers import Peers
    from campus_tune.run import checkpoints

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        if named:
            found: Any = checkpoints.named(RUN / newest, RUN / "curriculum", Peers())
        else:
            found = checkpoints.last_complete(RUN, RUN / "curriculum", Peers())
    if found is not None and found.path.name == newest:
        return Answer(ACCEPTED)
    if f"skipping {newest}" not in said.getvalue():
        raise WrongError(f"{newest} is not taken, without a word: {said.getvalue()!r}")
    return Answer(REFUSED, said.getvalue())


def state(world: World, chance: random.Random) -> Input:
    """What a checkpoint says of the curriculum, changed and sealed again, to a resume."""
    source = world.corpus / "run"
    newest = max(source.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    shutil.copytree(source, RUN, ignore=shutil.ignore_patterns("plots", "*.html"))
    path, how, expected = RUN / newest.name / "trainer_state.json", "right", ACCEPTED
    if chance.random() < 0.75:
        whole = json.loads(path.read_text("utf-8"))
        saved = whole["stateful_callbacks"]["CampusCallback"]["attributes"]["curriculum"]
        changed = odd.mutated(saved, chance)
        whole["stateful_callbacks"]["CampusCallback"]["attributes"]["curriculum"] = changed
        lost = [key for key in saved if key not in (changed if isinstance(changed, dict) else {})]
        how, expected = f"changed, lost {lost}: {_difference(saved, changed)}", EITHER
        path.write_text(json.dumps(whole, indent=2), "utf-8")
        seal(RUN / newest.name, path)
    return Input(how, expected, _resume)


def seal(checkpoint: Path, changed: Path) -> None:
    """Make the checkpoint's record fit a file that was changed."""
    from campus_tune.run.manifest import FILE, hash_file
    from campus_tune.words.sealed_json import CHECK, read_sealed, write_sealed

    record = read_sealed(checkpoint / FILE)
    record.pop(CHECK, None)
    record["files"][changed.relative_to(checkpoint).as_posix()] = list(hash_file(changed))
    write_sealed(checkpoint / FILE, record)


def _difference(a: Any, b: Any) -> str:
    if isinstance(a, dict) and isinstance(b, dict):
        return "; ".join(
            f"{key} {_difference(a.get(key), b.get(key))}" for key in {**a, **b} if a.get(key, a) != b.get(key, b)
        )[:300]
    return f"{str(a)[:60]} → {str(b)[:60]}"


def _resume() -> Answer:
    from tests.run.tiny_run import tiny_trainer

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        trainer = tiny_trainer(RUN, n=24, save_steps=2)
        return call(lambda: trainer.train(resume_from_checkpoint=True))


# -- results and comparisons -------------------------------------------------------------------------------------------


def results(world: World, chance: random.Random) -> Input:
    """Files of `campus-tune eval`, compared."""
    first, second = ((world.corpus / "results" / name).read_bytes() for name in ("a.json", "b.json"))
    content, how, expected = (
        json.loads(second),
        chance.choice(["right", "odd", "odd", "odd", "format", "value", "bytes"]),
        EITHER,
    )
    if how == "right":
        expected = ACCEPTED
    elif how == "format":
        content["format"], expected = chance.choice([0, 2, "1", None, 1.5]), REFUSED
    elif how == "value":
        documents = content["tasks"]["gsm8k"]["documents"]["gsm8k"]
        documents[chance.choice(list(documents))] = {
            "exact_match,strict-match": chance.choice(["1.0", None, [], {}, True, "x"])
        }
        expected = REFUSED
    elif how == "odd":
        content = odd.mutated(content, chance, chance.choice([1, 1, 3]))
    data = odd.as_json(content, chance).encode("utf-8", "surrogatepass")
    if how == "bytes":
        how, data = odd.damaged(data, chance, [b"[]", b"{}", b"null", (world.corpus / "rows.csv").read_bytes()])
    _put(Path("a.json"), first)
    _put(Path("b.json"), data)
    words = ["eval", "compare", *chance.choice([("a.json", "b.json"), ("b.json", "a.json")])]
    words += chance.choice([[], ["--json", "out.json"], ["--markdown", "out.md"]])
    return Input(f"{how}: {data[:150]!r}", expected, partial(_compare_results, words))


def _compare_results(words: list[str]) -> Answer:
    answer = command(words, refusals=(1, 2))
    if Path("out.json").exists():
        json.loads(Path("out.json").read_text("utf-8"), parse_constant=_no_constant)
    return answer


def _no_constant(name: str) -> None:
    raise WrongError(f"{name} in JSON")


def comparison(world: World, chance: random.Random) -> Input:
    """The folder of a comparison, to `report`."""
    shutil.copytree(world.corpus / "comparison", "comparison")
    folder, how, expected = (
        Path("comparison"),
        chance.choice(["right", "odd", "odd", "odd", "bytes", "markup", "lost"]),
        EITHER,
    )
    path = chance.choice(sorted(folder.rglob("*.json")))
    content = json.loads(path.read_text("utf-8"))
    if how == "right":
        expected = ACCEPTED
    elif how == "odd":
        content = odd.mutated(content, chance, chance.choice([1, 1, 2]))
        path.write_bytes(odd.as_json(content, chance).encode("utf-8", "surrogatepass"))
    elif how == "bytes":
        how, data = odd.damaged(
            path.read_bytes(), chance, [one.read_bytes() for one in sorted(folder.rglob("*.json"))[:3]]
        )
        path.write_bytes(data)
    elif how == "lost":
        path.unlink()
    else:
        evil = chance.choice(odd.MARKUP)
        spots = [p for p in odd.places(content) if isinstance(_at(content, p), str)]
        for spot in chance.sample(spots, min(3, len(spots))):
            _at(content, spot[:-1])[spot[-1]] = evil
        path.write_bytes(odd.as_json(content, chance).encode("utf-8"))
    return Input(f"{how} {path}", expected, partial(command, ["report", "comparison"], page=folder / "report.html"))


def judged(world: World, chance: random.Random) -> Input:
    """The results of a comparison's runs, read and judged as `compare` does when it goes on."""
    results = [
        json.loads(path.read_text("utf-8")) for path in sorted(world.corpus.glob("comparison/runs/*/*/result.json"))
    ]
    how, expected, at = (
        chance.choice(["right", "odd", "odd", "format", "nan", "bytes"]),
        EITHER,
        chance.randrange(len(results)),
    )
    path = Path("comparison/runs") / results[at]["arm"] / f"seed-{results[at]['seed']}" / "result.json"
    if how == "right":
        expected = ACCEPTED
    elif how == "odd":
        results[at] = odd.mutated(results[at], chance, chance.choice([1, 2]))
    elif how == "nan":
        results[at]["test"]["loss"][chance.randrange(12)], expected = (
            chance.choice([float("nan"), float("inf"), None]),
            REFUSED,
        )
    elif how == "format":
        results[at]["format"], expected = chance.choice([0, 2, None, "1"]), REFUSED
    data = odd.as_json(results[at], chance).encode("utf-8", "surrogatepass")
    if how == "bytes":
        how, data = odd.damaged(data, chance, [b"[]", b"null", b"5"])
    shutil.copytree(world.corpus / "comparison", "comparison")
    path.write_bytes(data)
    return Input(f"{how} {path}: {data[:200]!r}", expected, _judge)


def _judge() -> Answer:
    from campus_tune.compare.result_file import read_run_result
    from campus_tune.compare.verdict import arm_of, judge

    out, kinds = Path("comparison"), json.loads(Path("comparison/compare.json").read_text("utf-8"))
    found = {arm: [read_run_result(out, arm, seed) for seed in kinds["seeds"]] for arm in kinds["arms"]}
    arms = [arm_of([one for one in results if one is not None]) for results in found.values()]
    return call(lambda: json.dumps(judge(arms, resamples=100).to_mapping(), allow_nan=False))
