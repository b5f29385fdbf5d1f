"""The bases of the benchmark of situations, the rows of real text, and what its odd situations plant."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from campus_tune.data.duplicates import duplicates
from campus_tune.demo.tiny import tiny_model, tiny_tokenizer
from campus_tune.words.types import Json
from eval.planting import answer_of
from eval.situations import bases, real_text
from eval.situations.arms import FIRST, block_of
from eval.situations.bases import ADAPTER, BASES, LORA, Base, trainer_of
from eval.situations.rows import FRAMES, LEVELS, graded, made, question
from eval.situations.runs import folder_of, one_run
from eval.situations.situation import read_situation
from eval.suspects import endless_batches

WORDS = ("owl", "fox", "bee", "elk", "cod", "ant", "yak", "emu", "asp", "jay", "ram", "cat", "dog", "hen", "pig")


# -- rows of generated tasks ------------------------------------------------------------------------------------------


def test_copies_ask_in_other_words_and_answer_the_same() -> None:
    found, whole = made({"make": "repeated", "planted": 0.2}, 5), graded(5)
    assert (len(found.rows), found.tests, found.probes) == (len(whole.rows), whole.tests, whole.probes)
    assert not found.wrong.any()
    copies = [row for row in found.rows if not row["right"]]
    assert len(copies) == round(0.2 * len(found.rows))
    answer = {question(row): answer_of(row) for row in found.rows if row["right"]}
    originals = Counter()
    for row in copies:
        asked = [q for frame in FRAMES for q in answer if frame.format(q) == question(row)]
        assert len(asked) == 1
        assert answer[asked[0]] == answer_of(row)
        originals[asked[0]] += 1
    assert set(originals.values()) == {4}
    assert len({question(row) for row in found.rows}) == len(found.rows)
    assert made({"make": "repeated", "planted": 0.2}, 5).rows == found.rows


def test_half_of_the_copies_differ_in_marks_alone() -> None:
    def equal(rows: list[Json]) -> int:
        texts = [f"{question(row)} {answer_of(row)}" for row in rows]
        return len(duplicates(texts, [question(row) for row in rows]).equal_rows)

    found = made({"make": "repeated", "planted": 0.2}, 5).rows
    assert equal(graded(5).rows) == 0
    assert equal(found) == pytest.approx(0.1 * len(found), rel=0.02)


def test_domains_have_the_shares_that_the_name_says() -> None:
    rows, tests = (lambda one: (one.rows, one.tests))(made(read_situation("domains_80").rows, 0))
    counts = Counter(row["domain"] for row in rows).most_common()
    assert [n / len(rows) for _, n in counts] == pytest.approx([0.8, 0.15, 0.05])
    assert len(set(Counter(row["domain"] for row in tests).values())) == 1


@pytest.mark.parametrize(
    ("name", "n"), [("small_many", 96), ("hard_trivial", 2000), ("phases", 4 * sum(LEVELS.values()))]
)
def test_as_many_rows_as_the_file_says(name: str, n: int) -> None:
    found = made(read_situation(name).rows, 0)
    assert len(found.rows) == n
    assert not found.wrong.any()


def test_hard_and_trivial_rows() -> None:
    found = made(read_situation("hard_trivial").rows, 0)
    for rows in (found.rows, found.tests):
        shares = [n / len(rows) for _, n in sorted(Counter(row["level"] for row in rows).items())]
        assert shares == pytest.approx([0.7, 0.2, 0.1])


# -- domains in turn ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any]]:
    """Arm → (domain of each visit, its row), by a model that knows nothing."""
    keep = tmp_path_factory.mktemp("keep")
    tiny_model(hidden=16).save_pretrained(keep / "bases" / "tasks")
    small = {"rows": {"make": "graded", "levels": {0: 128}}, "points": 1}
    situation = replace(read_situation("phases"), name="small", **small)
    found = {}
    for arm in ("in_turn", "in_turn_kept", "in_turn_review"):
        one_run(keep, situation, arm, 3)
        folder = folder_of(keep, "small", arm, 3)
        rows, visits = np.load(folder / "rows.npz"), np.load(folder / "visits.npz")
        found[arm] = (rows["domains"][rows["domain"]][visits["row"]], visits["row"])
    return found


def test_one_domain_is_trained_first_and_then_no_more(in_turn: dict[str, tuple[Any, Any]]) -> None:
    domains, rows = in_turn["in_turn"]
    changed = int(np.flatnonzero(domains != FIRST)[0])
    assert changed == len(domains) // 4
    assert FIRST not in domains[changed:]
    assert len(set(rows.tolist())) == len(rows)  # each once: its rows last as long as its phase


def test_a_share_of_the_first_is_kept_or_comes_back(in_turn: dict[str, tuple[Any, Any]]) -> None:
    for arm in ("in_turn_kept", "in_turn_review"):
        domains, _ = in_turn[arm]
        later = domains[np.flatnonzero(domains != FIRST)[0] :]
        assert 0.02 < np.mean(later == FIRST) < 0.15
    _, rows = in_turn["in_turn_review"]
    assert len(set(rows.tolist())) < len(rows)


def test_the_control_of_review_differs_in_who_comes_back() -> None:
    (kind, ours), (control, theirs) = block_of("in_turn_review"), block_of("in_turn_review_control")
    assert (kind, control) == ("recipe", "control")
    assert {**ours, "review": {**ours["review"], "by": "uniform"}} == theirs


# -- rows of real text -------------------------------------------------------------------------------------------------


def row(number: int, domain: str, source: str, answer: str = "") -> Json:
    said = answer or f"The {WORDS[number % 15]} is one of {number} animals that we know."
    turns = [("user", f"Which animal is number {number}?"), ("assistant", said)]
    messages = [{"role": role, "content": text} for role, text in turns]
    return {"id": f"{source}-{number}", "domain": domain, "source": source, "level": -1, "messages": messages}


ROWS = [row(i, "code" if i % 2 else "general", "often" if i % 4 else "seldom") for i in range(160)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `shared/data`, with rows that are short, long, or asked twice."""
    folder = tmp_path_factory.mktemp("data")
    odd = [row(200, "math", "sums", "42"), row(201, "math", "sums", "long " * 80), ROWS[0]]
    asked = [ROWS[3]["messages"][0]["content"], "What is Dolly?", "What is Dolly?"]
    dolly = [{"instruction": q, "context": "", "response": f"A sheep, number {i}."} for i, q in enumerate(asked)]
    for name, rows in ((real_text.MIX, [*ROWS, *odd]), (real_text.DOLLY, dolly)):
        (folder / name).parent.mkdir()
        with gzip.open(folder / name, "wt", encoding="utf-8") as file:
            file.write("".join(json.dumps(one) + "\n" for one in rows))
    return folder


def test_a_pool_has_short_rows_with_answers_of_some_length_once_each(data: Path) -> None:
    pool, rest = real_text.of_mix(data)
    assert pool == ROWS
    assert [one["id"] for one in rest] == ["sums-200", "sums-201"]


def test_what_is_read_asks_nothing_that_the_pool_asks(data: Path) -> None:
    asked = [messages[0]["content"] for messages in real_text.reading(data)]
    assert asked == ["Which animal is number 200?", "Which animal is number 201?", "What is Dolly?"]


def test_where_there_are_no_data_it_says_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"`shared/data` must have mix.* Set CAMPUS_SHARED to the folder that holds"
    ):
        real_text.of_mix(tmp_path)


def test_tests_and_probes_are_apart_and_of_each_domain_the_same() -> None:
    parts = real_text.cut_apart(ROWS, tests=10, probes=4)
    ids = [{one["id"] for one in part} for part in parts]
    assert [len(part) for part in parts] == [160 - 28, 20, 8]
    assert len(ids[0] | ids[1] | ids[2]) == 160
    assert Counter(one["domain"] for one in parts[1]) == {"code": 10, "general": 10}
    assert real_text.cut_apart(ROWS, tests=10, probes=4) == parts
    assert [len(part) for part in real_text.cut_apart(ROWS, tests=99, probes=99)] == [100, 40, 20]
    assert real_text.cut_apart(ROWS, longest=20, tests=9, probes=9) == ([], [], [])


def test_rows_are_drawn_by_shares_or_with_no_source_above_a_third() -> None:
    rows = [*ROWS, *[row(i, "general", "third") for i in range(300, 360)]]
    drawn = real_text.draw(rows, 60, np.random.default_rng(0))
    assert Counter(one["source"] for one in drawn) == {"often": 20, "seldom": 20, "third": 20}
    shares = real_text.draw(rows, 50, np.random.default_rng(0), {"code": 0.8, "general": 0.2})
    assert Counter(one["domain"] for one in shares) == {"code": 40, "general": 10}
    assert len({one["id"] for one in shares}) == 50
    with pytest.raises(ValueError, match=r"`n` must be at most the rows that there are, got 300 for .*Ask for fewer"):
        real_text.draw(rows, 300, np.random.default_rng(0))


def test_real_answers_are_exchanged_inside_a_source(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = real_text.of_mix(data)
    monkeypatch.setattr(real_text, "of_mix", lambda: whole)
    given = {"make": "real", "n": 60, "tests": 10, "probes": 4, "domains": {"code": 0.5, "general": 0.5}}
    clean, found, other = made(given, 1), made({**given, "kind": "swapped", "planted": 0.3}, 1), made(given, 2)
    assert [question(one) for one in found.rows] == [question(one) for one in clean.rows]
    changed = [answer_of(a) != answer_of(b) for a, b in zip(clean.rows, found.rows, strict=True)]
    assert changed == found.wrong.tolist()
    assert found.wrong.sum() == 18
    assert [one["right"] for one in found.rows] == [float(not bad) for bad in found.wrong]
    assert sorted(map(answer_of, found.rows)) == sorted(map(answer_of, clean.rows))
    assert clean.tests == other.tests == found.tests
    assert {question(one) for one in clean.rows} != {question(one) for one in other.rows}
    assert not {question(one) for one in clean.rows} & {question(one) for one in [*clean.tests, *clean.probes]}
    with pytest.raises(ValueError, match=r"`kind` must be none or swapped, got 'cut'\. Write one of the two\."):
        made({**given, "kind": "cut"}, 1)


@pytest.mark.skipif(not real_text.available(), reason="shared/data is not here")
@pytest.mark.parametrize("name", ["text_wrong_30", "text_domains", "smol_wrong_30"])
def test_the_mix_has_the_rows_that_the_files_ask_for(name: str) -> None:
    situation = read_situation(name)
    found = made(situation.rows, 100)
    assert len(found.rows) == situation.rows["n"]
    assert found.wrong.mean() == pytest.approx(situation.rows.get("planted", 0), abs=0.01)
    right = [one for one in found.rows if one["right"]]
    assert max(len(question(one)) + len(answer_of(one)) for one in right) <= situation.rows.get("longest", 300)


# -- bases -------------------------------------------------------------------------------------------------------------


def test_a_model_that_has_read_is_the_same_in_each_call(data: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        real_text.write_model(tmp_path / name, data, steps=2)
    one, other = (AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in ("a", "b"))
    assert one.keys() == other.keys()
    assert all((one[key] == other[key]).all() for key in one)
    assert (tmp_path / "a" / "tokenizer.json").read_text() == (tmp_path / "b" / "tokenizer.json").read_text()


def test_texts_of_like_length_come_together_and_each_once_a_pass() -> None:
    ids = [[i] * (1 + i % 40) for i in range(2 * 16 * real_text.BATCH)]
    source = endless_batches(
        ids, np.random.default_rng(0), lengths=[len(one) for one in ids], size=real_text.BATCH, near=real_text.NEAR
    )
    one_pass = [next(source) for _ in range(32)]
    assert sorted(ids_of[0] for batch in one_pass for ids_of in batch) == list(range(len(ids)))
    assert max(max(map(len, batch)) - min(map(len, batch)) for batch in one_pass) < 10


def tiny(folder: Path) -> None:
    """A model that knows nothing, whose template opens with a system turn."""
    tiny_model(hidden=16).save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    first = "{% for message in messages %}"
    opened = "{% if loop.first and message['role'] != 'system' %}{{ 'You are kind.' }}{% endif %}"
    tokenizer.chat_template = tokenizer.chat_template.replace(first, first + opened, 1)
    tokenizer.save_pretrained(folder)


def test_a_base_is_made_once_and_opens_with_no_system_turn(tmp_path: Path) -> None:
    made_in = []
    base = Base("small", "a model that knows nothing", lambda folder: (made_in.append(folder), tiny(folder))[0])
    assert base.folder(tmp_path) == base.folder(tmp_path) == tmp_path / "bases" / "small"
    assert made_in == [tmp_path / "bases" / "small"]
    said = base.tokenizer(tmp_path).apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert said == "<|im_start|>user\nHi<|im_end|>\n"
    assert base.model(tmp_path).config.hidden_size == 16


def test_the_task_base_may_come_without_a_tokenizer(tmp_path: Path) -> None:
    tiny_model(hidden=16).save_pretrained(tmp_path / "bases" / "tasks")
    text = "<|im_start|>user\nWhat is 7 + 4?"
    assert BASES["tasks"].tokenizer(tmp_path)(text)["input_ids"] == tiny_tokenizer()(text)["input_ids"]


def test_an_adapter_begins_alike_with_a_seed_and_is_all_that_trains(tmp_path: Path) -> None:
    adapter = {**ADAPTER, "layers_to_transform": [1]}
    base = Base("small", "a model that knows nothing", tiny, 8, LORA, adapter)
    rows = graded(0, levels={0: 4}).rows

    def first(seed: int) -> tuple[set[str], Any]:
        trainer = trainer_of(base, tmp_path, rows, tmp_path, steps=1, seed=seed, callbacks=[], training={})
        named = {name: one for name, one in trainer.model.named_parameters() if one.requires_grad}
        return set(named), next(one for name, one in named.items() if "lora_A" in name).detach().clone()

    (names, one), (_, again), (_, other) = first(1), first(1), first(2)
    assert all("layers.1" in name and ("q_proj.lora" in name or "v_proj.lora" in name) for name in names)
    assert (one == again).all()
    assert (one != other).any()


def test_every_base_is_named_as_its_folder() -> None:
    assert list(BASES) == [base.name for base in BASES.values()] == ["tasks", "text", "smol"]
    assert max(bases.UPPER) < 30
