"""Advice that does not work is worse than none: each sentence that says what to do is followed here, and then it works.

A table for each room: the input that fails, what is said of it, and the inputs that follow what is said, one for each
way out. The last test reads the source: no advice of these modules is left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import campus_tune
from campus_tune.compare.settings import CompareSettings
from campus_tune.data.overlap import overlap, overlap_findings
from campus_tune.method.pacing import PACINGS
from campus_tune.metrics import Column, Random, build_metric, finish_scores, parse_metric
from campus_tune.preview.advice import problems_in_method
from campus_tune.preview.health import known_level, score_findings, score_health
from campus_tune.preview.simulate import simulate
from campus_tune.recipe.config import CampusConfig, load_recipe
from campus_tune.recipe.training_yaml import run_size
from campus_tune.words.errors import CampusError, RecipeError
from campus_tune.words.leaves import Files, Flag, Texts
from campus_tune.words.registry import Registry
from campus_tune.words.strict_yaml import read_value, read_yaml
from campus_tune.words.types import RowTexts


class Case(NamedTuple):
    """An input that fails, what is said, and inputs after following it."""

    said: str
    wrong: Any
    mended: list[Any]


RECIPES = Path(__file__).parents[1] / "recipes"
ONE = {"metrics": ["length"]}
TWO: dict[str, Any] = {"metrics": ["length", "mtld"]}
PIECES = [{"name": "linear", "until": 0.3, "to": 0.5}, {"name": "root", "until": 1, "to": 1}]

BLOCKS = [
    Case("`metrics` must name at least one metric", {"rescore": 0}, [
        {"rescore": 0, **ONE}, {"rescore": 0, "selector": "shuffle"}]),
    Case("`metrics` must be a list, .* Write metrics: \\[length\\]", {"metrics": "length"}, [ONE]),
    Case("must be a name or a mapping, .* Write a name, or", {**ONE, "selector": 3}, [
        {**ONE, "selector": "fixed"}, {**ONE, "selector": {"name": "fixed", "order": "length"}}]),
    Case("`campus` must be a mapping", {"campus": 3}, [{"campus": ONE}]),
    Case("Add `campus:` with `metrics`", {"lr": 3, "model": "a"}, [{"lr": 3, "model": "a", "campus": ONE}]),
    Case("`probes` must be a mapping, .* Write probes: {path: ./probes.jsonl}", {**ONE, "probes": "a.jsonl"}, [
        {**ONE, "probes": {"path": "./probes.jsonl"}}]),
    Case("`evaluate` must be a mapping, .* Write evaluate: {suite: smoke, every: 5 stages}", {**ONE, "evaluate": 1}, [
        {**ONE, "evaluate": {"suite": "smoke", "every": "5 stages"}}]),
    Case("`label` 'a' must mean one metric, .* Give one of them a `label` of its own", {"metrics": [
        {"name": "random", "seed": 1, "label": "a"},
        {"name": "rank_mean", "of": [{"name": "random", "seed": 2, "label": "a"}, "length"]}]}, [
        {"metrics": [{"name": "random", "seed": 1, "label": "a"},
                     {"name": "rank_mean", "of": [{"name": "random", "seed": 2, "label": "b"}, "length"]}]}]),
    Case("and at most .* Lower it", {**ONE, "stages": 2**40}, [{**ONE, "stages": 4}]),
    Case("`label` of a metric must be another word .*, got 'shuffle'. Choose one", {
        "metrics": [{"name": "random", "label": "shuffle"}]}, [{"metrics": [{"name": "random", "label": "chance"}]}]),
    Case("one scorer at most, got several. Keep one", {"metrics": ["scorer", {"name": "scorer", "label": "b"}]}, [
        {"metrics": ["scorer"]}]),
    Case("`metrics` must have different labels", {"metrics": ["length", "length"]}, [
        {"metrics": ["length", {"name": "length", "label": "other"}]}]),
    Case("`metrics` entry must be a name or a mapping with a `name`", {"metrics": [{"column": "a"}]}, [
        {"metrics": ["length"]}, {"metrics": ["-length"]}, {"metrics": [{"name": "column", "column": "level"}]}]),
    Case("`label` of metric 'length' must be letters, .* Give the entry", {"metrics": [
        {"name": "length", "label": "a/b"}]}, [{"metrics": [{"name": "length", "label": "a.b"}]}]),
    Case("Choose a value in this range", {**ONE, "mix": 1.5}, [{**ONE, "mix": 0.5}]),
    Case("at least 1, got 0. Raise it", {**ONE, "stages": 0}, [{**ONE, "stages": 1}]),
    Case("YAML reads it as text: write 0.001", {**ONE, "mix": "1e-3"}, [{**ONE, "mix": 0.001}]),
    Case("got 'many'. Write a number", {**ONE, "stages": "many"}, [{**ONE, "stages": 3}]),
    Case("reads yes, no, on and off as this.\\) Write a number", {**ONE, "stages": True}, [{**ONE, "stages": 3}]),
    Case("must be a text, got 3. Quote it", {**ONE, "within": 3}, [{**ONE, "within": "3"}]),
    Case("must be a text, got \\[\\]. Write a name", {**ONE, "within": []}, [{**ONE, "within": "domain"}]),
    Case("takes metrics, .* Did you mean 'stages'\\? Correct or remove", {**ONE, "stagse": 3}, [
        {**ONE, "stages": 3}, ONE]),
    Case("must be one of prefix, slice, got 'slices'. Did you mean 'slice'", {**ONE, "window": "slices"}, [
        {**ONE, "window": "slice"}]),
    Case("Write {path: ./probes.jsonl}", {**ONE, "probes": {"path": []}}, [
        {**ONE, "probes": {"path": "./probes.jsonl"}}]),
    Case("must be a number of stages, got 0. Write 5 stages", {**ONE, "evaluate": {"every": 0}}, [
        {**ONE, "evaluate": {"every": "5 stages"}}]),
    Case("a list of names, got 'mmlu'. Write \\[mmlu, gsm8k\\]", {**ONE, "evaluate": {"tasks": "mmlu"}}, [
        {**ONE, "evaluate": {"tasks": ["mmlu", "gsm8k"]}}]),
    Case("true or false, got 'yes'. Write it without quotes", {**ONE, "evaluate": {"allow_code_execution": "yes"}}, [
        {**ONE, "evaluate": {"allow_code_execution": True}}]),
    Case("`steps` must be .* Use 2 or more", {**ONE, "pacing": {"name": "step", "steps": 1}}, [
        {**ONE, "pacing": {"name": "step", "steps": 2}}]),
    Case("of each piece must be .* Write such a number", {**ONE, "pacing": {"name": "join", "pieces": [
        {"name": "linear", "until": None}]}}, [
        {**ONE, "pacing": {"name": "join", "pieces": [{"name": "linear", "until": 1}]}}]),
    Case("at least one pacing, got none. Give \\[{name", {**ONE, "pacing": {"name": "join", "pieces": []}}, [
        {**ONE, "pacing": {"name": "join", "pieces": PIECES}}]),
    Case("must grow and end at 1, .* Order the pieces", {**ONE, "pacing": {"name": "join", "pieces": PIECES[::-1]}}, [
        {**ONE, "pacing": {"name": "join", "pieces": PIECES}}]),
    Case("at least its start 0.8, got 0.5. Raise it", {**ONE, "pacing": {"name": "join", "pieces": [
        {**PIECES[0], "start": 0.8}, PIECES[1]]}}, [
        {**ONE, "pacing": {"name": "join", "pieces": [{**PIECES[0], "start": 0.8, "to": 0.8}, PIECES[1]]}}]),
    Case("`random: seed` must be .* Try 0", {"metrics": [{"name": "random", "seed": -1}]}, [
        {"metrics": [{"name": "random", "seed": 0}]}]),
    Case("`of` must be a list of two or more metrics", {"metrics": [{"name": "rank_mean", "of": ["length"]}]}, [
        {"metrics": [{"name": "rank_mean", "of": ["length", "mtld"]}]}]),
    Case("must not have a rank_mean in it, .* Name its members", {"metrics": [
        {"name": "rank_mean", "of": ["length", {"name": "rank_mean", "of": ["mtld", "compression"]}]}]}, [
        {"metrics": [{"name": "rank_mean", "of": ["length", "mtld", "compression"]}]}]),
    Case("`column: column` must name a column, .* Write {name: column", {"metrics": [{"name": "column"}]}, [
        {"metrics": [{"name": "column", "column": "level"}]}]),
    Case("Add `path`, or leave `on` out", {"metrics": [{"name": "column", "column": "a", "on": "id"}]}, [
        {"metrics": [{"name": "column", "column": "a"}]},
        {"metrics": [{"name": "column", "column": "a", "on": "id", "path": "a.csv"}]}]),
    Case("takes `when` for what is done .* the key 'on'. Write when: ", {**ONE, "on": {"stagnation": "note"}}, [
        {**ONE, "when": {"stagnation": "note"}}]),
    Case("a list of these, got \\[\\]. Choose one of them", {**ONE, "when": {"stagnation": []}}, [
        {**ONE, "when": {"stagnation": "note"}}]),
    Case("for example on: id or on: \\[prompt", {"metrics": [{"name": "column", "column": "a", "path": "a.csv"}]}, [
        {"metrics": [{"name": "column", "column": "a", "path": "a.csv", "on": on}]} for on in ("id", ["a", "b"])]),
]  # fmt: skip


@pytest.mark.parametrize("case", BLOCKS, ids=lambda case: case.said[:40])
def test_a_block_that_follows_what_is_said_of_it_is_taken(case: Case) -> None:
    with pytest.raises(RecipeError, match=case.said):
        load_recipe(case.wrong)
    for mended in case.mended:
        load_recipe(mended)


SLICE = {**TWO, "window": "slice", "mix": 0.0, "handover": 1.0}
METHODS = [
    Case("always takes `loss` here", {"metrics": ["length", "loss"], "selector": "lowest_perplexity"}, [
        {"metrics": ["length", "loss"], "selector": "matched"},
        {"metrics": ["length", "loss"], "selector": "relative_perplexity"},
        {"metrics": ["length", "mtld"], "selector": "lowest_perplexity"},
        {"metrics": ["length", "loss"], "selector": "lowest_perplexity", "window": "slice", "coverage": "revisit"}]),
    Case("Narrow sorted slices forget", SLICE, [
        {**SLICE, "window": "prefix"}, {**SLICE, "mix": 0.2}, {**SLICE, "handover": 0.6}]),
    Case("lets sub-curricula train the same rows", {**TWO, "coverage": "revisit"}, [{**TWO, "coverage": "exact"}]),
    Case("handover: 0 shuffles", {**TWO, "handover": 0.0}, [{**TWO, "handover": 0.6}, {"selector": "shuffle"}]),
    Case("stages: 1 makes one stage", {**TWO, "stages": 1}, [{**TWO, "stages": 20}]),
    Case("opens nearly all rows from the start", {**TWO, "pacing": {"name": "linear", "start": 1.0}}, [
        {**TWO, "pacing": {"name": "linear", "start": 0.01}}]),
    Case("With one metric there is nothing to select", {**ONE, "selector": "matched"}, [
        {**ONE, "selector": "fixed"}, {**TWO, "selector": "matched"}]),
    Case("lets the curriculum cost 3 times", {**TWO, "budget": 3.0}, [{**TWO, "budget": 0.05}]),
]  # fmt: skip


def in_method(block: Mapping[str, Any]) -> list[str]:
    return [str(finding) for finding in problems_in_method(CampusConfig(**block))]


@pytest.mark.parametrize("case", METHODS, ids=lambda case: case.said[:40])
def test_a_method_that_follows_what_is_said_of_it_is_not_warned_of(case: Case) -> None:
    assert any(case.said in finding for finding in in_method(case.wrong))
    for mended in case.mended:
        assert not any(case.said in finding for finding in in_method(mended))


COMPARED = {"test": {"path": "test.jsonl"}}
COMPARISONS = [
    Case("Write `compare:` and below it test: {path: test.jsonl}", "test.jsonl", [COMPARED]),
    Case("Write test: {path: test.jsonl}", {"test": 3}, [COMPARED]),
    Case("`compare: arms: a` must be settings .* Write {stages: 10}", {**COMPARED, "arms": {"a": 3}}, [
        {**COMPARED, "arms": {"a": {"stages": 10}}}]),
    Case("`compare: seeds` must be how many, .* Write seeds: 5", {**COMPARED, "seeds": "five"}, [
        {**COMPARED, "seeds": 5}]),
    Case("no second observation. Remove it", {**COMPARED, "seeds": [1, 1, 2]}, [{**COMPARED, "seeds": [1, 2]}]),
    Case("Write evaluate: {suite: campus}", {**COMPARED, "evaluate": "campus"}, [
        {**COMPARED, "evaluate": {"suite": "campus"}}]),
    Case("must look once, at the end, got every: 2. Remove `every`", {**COMPARED, "evaluate": {"every": 2}}, [
        {**COMPARED, "evaluate": {}}]),
    Case("Write devices: \\[0, 1\\]", {**COMPARED, "devices": "cuda"}, [{**COMPARED, "devices": [0, 1]}]),
    Case("one run at a time. Remove it", {**COMPARED, "devices": [0, 0]}, [{**COMPARED, "devices": [0]}]),
    Case("`compare: sharpness` must be true or false, .* Write true", {**COMPARED, "sharpness": 1}, [
        {**COMPARED, "sharpness": True}]),
]  # fmt: skip


def test_the_arms_that_are_named_in_an_answer_are_taken() -> None:
    with pytest.raises(RecipeError, match=r"Write arms: \[") as told:
        CompareSettings.from_mapping({**COMPARED, "arms": "random"})
    [names] = re.findall(r"Write arms: \[(.*)\]\.", str(told.value))
    assert list(CompareSettings.from_mapping({**COMPARED, "arms": names.split(", ")}).arms) == names.split(", ")


@pytest.mark.parametrize("case", COMPARISONS, ids=lambda case: case.said[:40])
def test_a_comparison_that_follows_what_is_said_of_it_is_taken(case: Case) -> None:
    with pytest.raises(RecipeError, match=case.said):
        CompareSettings.from_mapping(case.wrong)
    for mended in case.mended:
        CompareSettings.from_mapping(mended)


UP = np.arange(100.0)
MIXED = np.random.default_rng(0).permutation(100).astype(np.float64)
SHUFFLED = np.random.default_rng(1).permutation(100).astype(np.float64)
SCORES = [
    Case("is NaN or infinite in 1 of 100", {"a": np.where(UP == 3, np.nan, UP)}, [
        {"a": UP[UP != 3]}, {"a": np.where(UP == 3, 0.5, UP)}]),
    Case("the order is a coin toss", {"a": np.minimum(UP, 9)}, [{"a": UP}, {"b": MIXED}]),
    Case("order the rows alike", {"a": UP, "b": UP * 2}, [{"a": UP}, {"b": UP * 2}]),
    Case("order the rows in reverse", {"a": UP, "b": -UP}, [{"a": UP}, {"b": -UP}]),
]  # fmt: skip


@pytest.mark.parametrize("case", SCORES, ids=lambda case: case.said[:40])
def test_scores_that_follow_what_is_said_of_them_are_healthy(case: Case) -> None:
    [found] = [finding for finding in score_findings(score_health(case.wrong)) if case.said in finding.what]
    assert found.remedy
    for mended in case.mended:
        assert not score_findings(score_health(mended))


GROUPED = np.arange(100) % 50


def grouped(**how: Any) -> list[str]:
    return [str(found) for found in score_findings(score_health({"a": MIXED, "b": SHUFFLED}, **how))]


def test_groups_that_are_named_or_left_out_are_no_longer_warned_of() -> None:
    [small] = grouped(groups=GROUPED, column="id")
    assert "hardly any can be compared" in small
    assert "Write within: none to order all rows together, or name a column of a few groups." in small
    assert not grouped()
    assert not grouped(groups=GROUPED % 2, column="domain")
    levels = (MIXED >= 50).astype(np.int64)
    [apart] = [text for text in grouped(groups=levels, column="domain") if "themselves easier and harder" in text]
    assert "Write within: none to keep the sequence of the groups, or within: domain to say" in apart
    assert not grouped(groups=levels, column="domain", chosen=True)


def test_an_order_that_is_mostly_noise_can_be_measured_better_or_dropped() -> None:
    noisy = score_findings(score_health({"a": MIXED}, stability={"a": 0.2}))
    assert "Measure more (a larger budget), or drop it." in str(noisy[0])
    assert not score_findings(score_health({"a": MIXED}, stability={"a": 0.8}))


def texts(**columns: Any) -> RowTexts:
    n = len(next(iter(columns.values())))
    return RowTexts(["a b"] * n, np.ones(n, dtype=np.int64), np.ones(n, dtype=np.int64), columns)


def level(values: Any) -> Any:
    return Column(column="level").scores(texts(level=values))


def finished(values: Any) -> Any:
    return finish_scores(values, parse_metric("length"))


def registered(kind: Registry[Any], name: str, doc: str | None) -> None:
    def part() -> None: ...

    part.__doc__ = doc
    kind.register(name)(part)


def taken(name: str, doc: str | None = "A card.") -> None:
    kind: Registry[Any] = Registry("thing")
    registered(kind, "one", "A card.")
    registered(kind, name, doc)


def overlaps(probes: list[str], rows: list[str]) -> None:
    for finding in overlap_findings(overlap(probes, rows)):
        raise ValueError(str(finding))


LONG = "the quick brown fox jumps over the lazy dog and then it sleeps for the rest of the whole long day " * 2

CALLS: list[tuple[Callable[..., Any], Case]] = [
    (partial(Flag().read, "a setting"), Case("Write one of them", "yes", [True, False])),
    (partial(Texts().read, "a setting"), Case(r"Write \[one, another\]", [], [["one", "another"]])),
    (partial(Files().read, "a setting"), Case("Name one", [], ["one.jsonl", ["one.jsonl", "another.jsonl"]])),
    (level, Case("Fill them in, or drop these rows", [1, None], [[1, 0], [1]])),
    (level, Case("Write 1 for harder and 0", [True, False], [[1, 0]])),
    (level, Case("Store a number, higher = harder", ["easy", "hard"], [[0, 1]])),
    (level, Case("Store its logarithm, or its rank", [1, 2**2000], [[0.0, 2000 * np.log(2)], [0, 1]])),
    (finished, Case("Return one float per row", [[1.0, 2.0]], [[1.0, 2.0]])),
    (finished, Case("Drop these rows, or correct", [1.0, 2.0, np.inf], [[1.0, 2.0], [1.0, 2.0, 3.0]])),
    (finished, Case("or use one that differs", [1.0, 1.0], [[1.0, 2.0]])),
    (lambda values: known_level({"grade": values}, "grade"), Case("Number the levels", ["easy", "hard"], [[0, 1]])),
    (lambda name: taken(name), Case("snake case, got 'No'. Rename", "No", ["no"])),
    (lambda name: taken(name), Case("must be new, got 'one' twice. Rename", "one", ["two"])),
    (lambda doc: taken("two", doc), Case("must have a docstring.* Write one", None, ["A card."])),
    (lambda n: simulate(CampusConfig(**ONE), n_rows=n[0], global_batch=n[1]),
     Case("Use a smaller batch or more rows", (4, 8), [(4, 4), (8, 8)])),
    (lambda settings: run_size(settings, 10),
     Case(r"must be a number in \[1, 65536\], got 0.0. Choose a value", {"per_device_train_batch_size": 0}, [{}])),
    (lambda settings: run_size(settings, 10),
     Case("`max_steps` must be a number, got 'x'. Write a number", {"max_steps": "x"}, [{"max_steps": 4}])),
    (lambda n: build_metric(parse_metric("mtld")).scores(texts(a=[1]), num_proc=n),
     Case("Use 1 for no further processes", 0, [1])),
    (lambda probes: overlaps(probes, [LONG]), Case("Remove them from one of the two files", [LONG], [["unlike"]])),
    (lambda seed: Random(seed=seed), Case("Try 0", 1.5, [0])),
    (lambda call: call(), Case("Call resolved\\(\\) first", CampusConfig(**ONE).build_selector, [
        CampusConfig(**ONE).resolved(has_probes=False, domain_in_data=False, seed=0).build_selector])),
    (lambda call: call(), Case("`seed` must be resolved .* Call resolved\\(\\) first", CampusConfig(**ONE).schedule, [
        CampusConfig(**ONE).resolved(has_probes=False, domain_in_data=False, seed=0).schedule])),
    (lambda block: CampusConfig(**block).resolved(has_probes="probes" in block, domain_in_data=False, seed=0),
     Case("Give probes: {path: ./probes.jsonl}, or write selector: relative", {**TWO, "selector": "matched"}, [
         {**TWO, "selector": "matched", "probes": {"path": "./probes.jsonl"}},
         {**TWO, "selector": "relative_perplexity"}])),
    (lambda text: read_value(text, "--campus.seed"), Case("Write it into the YAML", "1" + " " * 2**17, ["1"])),
    (read_yaml, Case("Name the file itself", RECIPES, [RECIPES / "quickstart.yaml"])),
    (lambda start: PACINGS.build("root", {"start": start}), Case("write 0.01 or 1.0e-2", "1e-2", [0.01, 1.0e-2])),
]  # fmt: skip


@pytest.mark.parametrize(("act", "case"), CALLS, ids=lambda value: value.said[:40] if isinstance(value, Case) else "")
def test_what_follows_the_advice_works(act: Callable[..., Any], case: Case) -> None:
    with pytest.raises((CampusError, ValueError), match=case.said):
        act(case.wrong)
    for mended in case.mended:
        act(mended)


YAMLS = [
    Case("must be a mapping, .* Write `key: value` lines", b"- a\n", [b"key: value\n"]),
    Case("Check indentation, quotes and brackets", b"a: [1\n", [b"a: [1]\n"]),
    Case("Convert it: iconv", "a: ä\n".encode("latin1"), ["a: ä\n".encode()]),
    Case(
        "Write one of 64 bits, or quote it as text",
        b"a: 9223372036854775808\n",
        [b"a: 9223372036854775807\n", b"a: '9223372036854775808'\n"],
    ),
    Case("Write a finite one, or quote it as text", b"a: .nan\n", [b"a: 0.5\n", b"a: '.nan'\n"]),
    Case("Write out what it stands for, or quote the text", b"a: *b\n", [b"a: 1\n", b"a: '*b'\n"]),
    Case("Write the value where it is needed, or quote it", b"a: &b 1\n", [b"a: 1\n", b"a: '&b 1'\n"]),
    Case("Write the value without it, or quote the text", b"a: !!str 1\n", [b"a: 1\n", b"a: '!!str 1'\n"]),
    Case("Write it flatter", b"a: " + 50 * b"[" + 50 * b"]" + b"\n", [b"a: [[]]\n"]),
    Case("Write a name before the colon", b"? [a]\n: 1\n", [b"a: 1\n"]),
    Case("Take it out: no file can hold it", b'a: "\\0"\n', [b'a: ""\n']),
    Case("Name the recipe, not its data", b"a: " + b"x" * 2**16, [b"a: x"]),
]


@pytest.mark.parametrize("case", YAMLS, ids=lambda case: case.said[:40])
def test_a_yaml_that_follows_what_is_said_of_it_is_read(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(case.wrong)
    with pytest.raises(RecipeError, match=case.said):
        read_yaml(path)
    for mended in case.mended:
        path.write_bytes(mended)
        read_yaml(path)


def test_a_plan_that_follows_what_is_said_of_it_is_not_warned_of() -> None:
    def told(**block: Any) -> str:
        return " ".join(map(str, simulate(CampusConfig(**block), n_rows=400, global_batch=8).findings()))

    assert "Write coverage: exact" in told(**TWO, coverage="revisit", selector="round_robin")
    assert "Write coverage: exact" not in told(**TWO, coverage="exact", selector="round_robin")
    one_sided = {"metrics": ["length", "loss"], "selector": "lowest_perplexity", "window": "slice", "handover": 1.0}
    assert "Drop the other metrics, or write selector: round_robin, which" in told(**one_sided)
    for mended in ({"metrics": ["loss"]}, {"selector": "round_robin"}):
        assert "Drop the other metrics" not in told(**{**one_sided, **mended})


# -- that nothing is left out ------------------------------------------------------------------------------------------

ROOMS = (
    "recipe/config",
    "recipe/blocks",
    "words/leaves",
    "method/pacing",
    "preview/advice",
    "compare/settings",
    "words/registry",
    "preview/simulate",
    "data/overlap",
)
ROOMS += ("preview/health", "words/strict_yaml", "metrics/base", "metrics/rank_mean", "metrics/random_order")
VERBS = "Add|Call|Choose|Correct|Drop|Fill|Give|Keep|Lower|Measure|Name|Number|Order|Quote|Raise|Remove|Rename|Return"
ADVICE = re.compile(rf"(?:^|[.?:)] )((?:{VERBS}|Store|Try|Use|Write|Look)\b[^`{{]*)")
FOLLOWED_BY_A_TEST_ABOVE = (  # in sentences that are parts of findings
    "Use a metric", "Measure more", "Write within", "Drop one", "Drop these", "Write selector", "Write window",
    "Write coverage", "Raise it, or write selector", "Use several stages", "Lower its", "Drop the other metrics",
    "Write arms", "Rename ", "Remove them from", "Look at these pairs",
)  # fmt: skip


def advices(path: Path) -> Iterator[str]:
    """The sentences of a module that tell what to do."""
    tree = ast.parse(path.read_text("utf-8"))
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    inner |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            text = node.value
        else:
            continue
        yield from (found.strip() for found in ADVICE.findall(text) if " " in found.strip())


def told_above() -> str:
    """All that the tables of this file are answered with."""
    said = []
    for cases, act in ((BLOCKS, load_recipe), (COMPARISONS, CompareSettings.from_mapping)):
        for case in cases:
            with pytest.raises(RecipeError) as told:
                act(case.wrong)
            said.append(str(told.value))
    for call, case in CALLS:
        with pytest.raises((CampusError, ValueError)) as why:
            call(case.wrong)
        said.append(str(why.value))
    return "\n".join([*said, *(case.said for case in YAMLS)])


def test_no_advice_of_these_rooms_is_left_out() -> None:
    said, root = told_above(), Path(campus_tune.__file__).parent
    found = {advice: room for room in ROOMS for advice in advices(root / f"{room}.py")}
    assert len(found) > 50
    left = [
        f"{room}: {advice}"
        for advice, room in found.items()
        if advice.rstrip(". ") not in said and not advice.startswith(FOLLOWED_BY_A_TEST_ABOVE)
    ]
    assert left == []
