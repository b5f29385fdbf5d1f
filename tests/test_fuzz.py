"""A sample of `eval/fuzz.py`, and that it finds faults, ends what hangs, and repeats an input by its number."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from eval import fuzz
from eval.fuzzing import corpus, odd
from eval.fuzzing.ask import ACCEPTED, REFUSED, Answer, Input, WrongError, refuse_empty_words, refuse_markup
from eval.fuzzing.faults import FAULTS, Fault, plant
from eval.fuzzing.kinds import World

N = 80
TRAINED = (
    "checkpoint",
    "state",
    "prepared rows",
    "check",
)  # seconds each; tests/preview/test_check.py and damage.py have them

COMMANDS = ("main", "sft", "score", "proxy", "launch", "compare", "eval")
OURS = [*(f"campus_tune.cli.{name}" for name in COMMANDS), "campus_tune.report.figures", "campus_tune.evaluate.suites"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the corpus, of what needs no training. What is loaded here, no process that is forked loads again."""
    folder = tmp_path_factory.mktemp("fuzz")
    for module in (*fuzz.LIBRARIES, *OURS):
        importlib.import_module(module)
    corpus.make(folder / "corpus", trains=False)
    return folder


@pytest.fixture
def options(request: pytest.FixtureRequest) -> Any:
    """Alike in CI, and as the seed of the property tests says elsewhere, which a failure names."""
    seed = 0 if settings.default.derandomize else int(request.config.option.hypothesis_seed)
    return fuzz.parse(["-n", str(N), "--seed", str(seed), "--jobs", "1", "--hang", "20"])


@pytest.mark.hypothesis
def test_a_sample_of_inputs_is_taken_or_refused_in_a_sentence(
    folder: Path, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "KINDS", {name: kind for name, kind in fuzz.KINDS.items() if name not in TRAINED})
    found = fuzz.fuzz(folder, fuzz.REPOSITORY, range(N), options)
    assert not found.faults, "\n".join([f"seed {options.seed}", *fuzz.listed(found, options.seed, None)])
    assert sum(counts.total() for counts in found.outcomes.values()) == N


def hang() -> Answer:
    while True:
        pass


def eat() -> Answer:
    return Answer(ACCEPTED, str(len(bytearray(2 * fuzz.MEMORY))))


def crash() -> Answer:
    raise KeyError("metrics")


def die() -> Answer:
    import os

    os._exit(3)


def no_sentence() -> Answer:
    from campus_tune.words.errors import DataError

    raise DataError("bad rows")


def a_sentence(names: str = "rows") -> Answer:
    from campus_tune.words.errors import DataError

    raise DataError(f"`{names}` must be a list, got 5. Write a list.")


ASKED: list[tuple[Callable[[], Answer], dict[str, Any], str]] = [
    (hang, {}, "a hang of 1 s"),
    (eat, {}, "MemoryError"),
    (crash, {}, "KeyError: 'metrics'"),
    (die, {}, "the process died (3)"),
    (no_sentence, {"expected": REFUSED}, "no sentence of ours: bad rows"),
    (a_sentence, {}, "refused, but must be accepted: `rows` must be a list"),
    (a_sentence, {"expected": REFUSED, "names": ("stages",)}, "the refusal does not name stages"),
    (a_sentence, {"expected": REFUSED, "names": ("stages", "rows")}, REFUSED),
    (partial(Answer, ACCEPTED), {"expected": REFUSED}, "accepted, but must be refused"),
    (partial(Answer, ACCEPTED), {}, ACCEPTED),
]


def test_what_must_not_happen_is_a_fault_and_the_inputs_behind_it_are_asked_all_the_same(
    folder: Path, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = [fuzz.chance_of(options.seed, number) for number in range(len(ASKED))]
    for draw in draws:
        draw.choices(["ours"], [1.0])  # the kind is drawn before
    places = {draw.random(): place for place, draw in enumerate(draws)}

    def make(world: World, chance: Any) -> Input:
        del world
        ask, given, _ = ASKED[places[chance.random()]]
        return Input(**{"what": "made here", "expected": ACCEPTED, "ask": ask, **given})

    options.hang = 1.0
    monkeypatch.setattr(fuzz, "KINDS", {"ours": (make, 1.0)})
    found = fuzz.fuzz(folder, fuzz.REPOSITORY, range(len(ASKED)), options)
    told = [found.faults[number][2] if number in found.faults else None for number in range(len(ASKED))]
    expected = [None if what in (ACCEPTED, REFUSED) else what for _, _, what in ASKED]
    assert [said and said[: len(what or "")] for said, what in zip(told, expected, strict=True)] == expected
    assert found.outcomes["ours"] == {fuzz.FAULT: 8, REFUSED: 1, ACCEPTED: 1}


def test_a_number_gives_the_same_input_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(fuzz.REPOSITORY, folder / "corpus")
    seen = []
    for attempt in ("first", "second"):
        (tmp_path / attempt).mkdir()
        monkeypatch.chdir(tmp_path / attempt)
        made = [fuzz.make(world, 5, number, "recipe") for number in range(20)]
        files = {path.name: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
        seen.append(([(kind, given.what, given.expected) for kind, given in made], files))
    assert seen[0] == seen[1]


def test_a_kind_that_takes_all_or_refuses_all_is_no_test() -> None:
    found = fuzz.Found()
    for number in range(30):
        found.add(number, "recipe", "x", REFUSED, "", 0.0)
        found.add(number, "rows", "x", REFUSED if number % 2 else ACCEPTED, "", 0.0)
    assert found.one_sided() == ["recipe accepted none"]


@pytest.mark.parametrize("evil", odd.MARKUP)
def test_markup_that_is_not_escaped_is_seen_and_escaped_markup_is_not(evil: str) -> None:
    import html

    page = "<title>{}</title><script>var x = 1;</script><p title=\"{}\">{}</p><b title='{}'></b>"
    refuse_markup(page.format(*[html.escape(evil)] * 4))
    for place in range(4):
        texts = ["x", "x", "x", "x"]
        texts[place] = evil
        try:
            refuse_markup(page.format(*texts))
        except WrongError:
            return
    pytest.fail("in no place of the page was it seen")


@pytest.mark.parametrize(
    "said",
    [
        "`mix` must be a number in [0, 1], got 3. Choose one.",
        "2 problems in this recipe:\n  1. `a` must be b, got c.\n  2. `campus` takes mix, got 'mx'.",
    ],
)
def test_our_sentences_are_sentences(said: str) -> None:
    refuse_empty_words(said)


@pytest.mark.parametrize(
    "said", ["bad", "2 problems in this recipe:\n  1. `a` must be b, got c.\n  2. no", "`a` must be b"]
)
def test_words_without_a_must_or_a_got_are_none(said: str) -> None:
    with pytest.raises(WrongError, match="no sentence of ours"):
        refuse_empty_words(said)


def test_there_are_faults_enough_and_each_has_its_place(tmp_path: Path) -> None:
    assert len(FAULTS) >= 20
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    for fault in FAULTS:
        source = (fuzz.REPOSITORY / "campus_tune" / fault.file).read_text("utf-8")
        assert source.count(fault.old) == 1, fault.name
        compile(source.replace(fault.old, fault.new), fault.file, "exec")
    with pytest.raises(LookupError, match="cannot be planted"):
        plant(Fault("nothing", "cli/main.py", "no such source", ""), fuzz.REPOSITORY / "campus_tune", tmp_path)


def test_a_planted_fault_is_found(folder: Path, options: Any, tmp_path: Path) -> None:
    options.kind, options.seed = "recipe", 0
    fault = next(fault for fault in FAULTS if fault.name == "unknown settings are taken")
    product = plant(fault, fuzz.REPOSITORY / "campus_tune", tmp_path)
    found = fuzz.fuzz(folder, product, range(40), options, until=1)
    assert "accepted, but must be refused" in next(iter(found.faults.values()))[2]
