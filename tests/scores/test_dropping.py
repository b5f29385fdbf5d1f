"""Rows that a recipe leaves out: which, why, in what sequence, and how far a bound lets it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.domains import Domains
from campus_tune.data.judged import Known
from campus_tune.data.prepared import read_content
from campus_tune.data.said import Said
from campus_tune.data.shapes import Shape
from campus_tune.method.cells import Cells
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.drop_block import DropSettings
from campus_tune.run.told.dropped_rows import list_dropped
from campus_tune.scores.dropping import EQUAL, NEAR, Dropped, drop_rows, dropped_of, known_of, worst_by_score
from campus_tune.words.types import FloatArray
from tests.run.tiny_run import tiny_trainer

SENTENCE = "one two three four five six seven eight nine ten eleven twelve thirteen"


def entry(**given: Any) -> DropSettings:
    return DropSettings.from_mapping(given)


def known(texts: list[str], *, tokens_only: bool = False) -> Known:
    said = None if tokens_only else Said.of({"text": texts}, Shape())
    content = np.array([hash(text) % 2**64 for text in texts], dtype=np.uint64)
    return Known({"text": texts, "id": list(range(len(texts)))}, said, Shape(), content)


def numbered(n: int) -> Known:
    return known([f"row {i}" for i in range(n)])


def dropped(
    entries: list[DropSettings], rows: Known, scores: FloatArray | None = None, codes: list[int] | None = None
) -> Dropped:
    domains = Domains() if codes is None else Domains(np.array(codes), ["a", "b", "c"][: max(codes) + 1])
    values = np.arange(len(rows.content), dtype=np.float64) if scores is None else scores
    return drop_rows(entries, lambda _: values, rows, domains, seed=3)


def rows_of(found: Dropped) -> list[int]:
    return np.flatnonzero(found.mask).tolist()


def test_the_lowest_share_by_a_score_goes() -> None:
    found = dropped([entry(by="length", lowest=0.2)], numbered(10), np.array([5.0, 1, 9, 0, 3, 4, 6, 7, 8, 2]))
    assert rows_of(found) == [1, 3]
    assert found.counts() == {"length: lowest 0.2": 2}
    assert found.notes == ()


def test_rows_below_a_number_go_up_to_a_tenth_unless_the_recipe_says_more() -> None:
    scores = np.arange(-4.0, 16.0)
    few = dropped([entry(by={"name": "column", "column": "worth"}, below=0)], numbered(20), scores)
    assert rows_of(few) == [0, 1]
    assert few.notes == (
        "`drop: worth: below 0` names 4 rows and drops 2: 2 stay, for at_most: 0.1 of all rows are dropped (2).",
    )
    more = dropped([entry(by={"name": "column", "column": "worth"}, below=0, at_most=0.3)], numbered(20), scores)
    assert (rows_of(more), more.notes) == ([0, 1, 2, 3], ())


def test_equal_scores_go_at_random_by_the_seed() -> None:
    one, two = (worst_by_score(entry(by="length", lowest=0.5), np.zeros(40), seed=seed) for seed in (1, 2))
    assert len(set(one.tolist())) == len(set(two.tolist())) == 20
    assert set(one.tolist()) != set(two.tolist())
    assert one.tolist() == worst_by_score(entry(by="length", lowest=0.5), np.zeros(40), seed=1).tolist()


def test_the_first_of_each_duplicate_stays_and_is_named() -> None:
    texts = ["a b", "x", f"{SENTENCE} q", "A, b!", f"but {SENTENCE}", "y", "z", "w"]
    found = dropped([entry(by="duplicates", keep="first")], known(texts))
    assert found.counts() == {EQUAL: 1, NEAR: 1}
    assert [(row, int(found.instead[row])) for row in rows_of(found)] == [(3, 0), (4, 2)]
    equal_alone = dropped([entry(by="duplicates", near=False)], known(texts))
    assert equal_alone.counts() == {EQUAL: 1}


def test_rows_that_came_as_tokens_are_duplicates_when_their_tokens_are() -> None:
    found = dropped([entry(by="duplicates")], known(["a", "b", "a", "A"], tokens_only=True))
    assert found.counts() == {EQUAL: 1}
    assert rows_of(found) == [2]


def test_judged_rows_go(tmp_path: Path) -> None:
    path = tmp_path / "judged.jsonl"
    path.write_text(json.dumps({"id": 4}) + "\n" + json.dumps({"id": 2, "verdict": "right"}) + "\n", "utf-8")
    found = dropped([entry(by="judged", path=str(path), on=["id"])], numbered(6))
    assert (rows_of(found), found.counts()) == ([4], {"judged": 1})


def test_entries_are_gone_through_in_sequence_and_each_row_goes_once() -> None:
    # the first copy is the worst by score: the second is then the first one that is left
    texts = ["same", "b", "same", "c", "d", "same", "e", "f"]
    by_score, twice = entry(by="length", lowest=0.125), entry(by="duplicates")
    found = dropped([by_score, twice], known(texts))
    assert found.counts() == {"length: lowest 0.125": 1, EQUAL: 1}
    assert [(row, int(found.instead[row])) for row in rows_of(found)] == [(0, -1), (5, 2)]
    assert rows_of(dropped([twice, by_score], known(texts))) == [0, 2, 5]


def test_no_domain_loses_more_than_half_whatever_the_entries_are() -> None:
    codes = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]
    entries = [entry(by="length", lowest=0.3), entry(by={"name": "column", "column": "worth"}, below=9, at_most=0.9)]
    found = dropped(entries, numbered(10), codes=codes)
    assert rows_of(found) == [0, 1, 2, 6, 7]
    assert found.notes == (
        "`drop: worth: below 9` names 6 rows and drops 2: 4 stay, for half of their domain would be gone (a 3, b 1).",
    )


def test_the_half_of_a_set_without_domains_stays() -> None:
    found = dropped([entry(by="duplicates")], known(["same"] * 6))
    assert rows_of(found) == [1, 2, 3]
    assert found.notes == (
        "`drop: duplicates` names 5 rows and drops 3: 2 stay, for half of the set would be gone (2).",
    )


@given(
    scores=st.lists(st.integers(0, 5), min_size=4, max_size=40),
    lowest=st.floats(0.05, 0.95),
    n_domains=st.integers(1, 3),
    seed=st.integers(0, 3),
)
def test_a_random_drop_takes_as_many_of_each_cell(scores: list[int], lowest: float, n_domains: int, seed: int) -> None:
    codes = np.arange(len(scores)) % n_domains
    rows, domains = numbered(len(scores)), Domains(codes, [f"d{i}" for i in range(n_domains)])
    values = np.array(scores, dtype=np.float64)
    cells = Cells.cut(values, domains=codes, domain_names=domains.names, bands=1)
    entries = [{"by": "length", "lowest": lowest}, {"by": "-length", "lowest": 0.1}]
    config = CampusConfig.from_mapping({"metrics": ["length"], "drop": entries, "seed": seed})
    found = dropped_of(config, {"length": values}, rows, domains, cells)
    control = replace(config, control="random_drop")
    drawn, again = (dropped_of(control, {"length": values}, rows, domains, cells) for _ in range(2))
    assert found is not None
    assert drawn is not None
    assert again is not None
    count = [np.bincount(codes[one.mask], minlength=n_domains).tolist() for one in (found, drawn)]
    assert count[0] == count[1]
    assert all(n <= size // 2 for n, size in zip(count[0], np.bincount(codes).tolist(), strict=True))
    assert set(drawn.counts()) <= {"random_drop"}
    assert rows_of(drawn) == rows_of(again)


def test_a_minus_drops_the_highest() -> None:
    config = CampusConfig.from_mapping({"metrics": ["length"], "drop": [{"by": "-length", "lowest": 0.2}], "seed": 0})
    found = dropped_of(config, {"length": np.arange(10.0)}, numbered(10), Domains())
    assert found is not None
    assert (rows_of(found), found.counts()) == ([8, 9], {"-length: lowest 0.2": 2})


def test_a_recipe_without_drop_leaves_nothing_out() -> None:
    config = CampusConfig.from_mapping({"metrics": ["length"], "seed": 0})
    assert dropped_of(config, {}, numbered(4), Domains()) is None


def test_a_line_says_which_row_why_and_what_is_kept_instead() -> None:
    rows = known(["same", "b", "same", "c"])
    domains = Domains(np.array([0, 1, 0, 1]), ["math", "code"])
    found = drop_rows([entry(by="duplicates")], lambda _: np.zeros(4), rows, domains, seed=0)
    [line] = found.lines(rows, domains, lambda row: f"text of {row}")
    assert line == {
        "row": 2,
        "reason": EQUAL,
        "key": rows.keys()[0],
        "domain": "math",
        "instead": 0,
        "text": "text of 2",
    }
    [line] = found.lines(rows, Domains(), str)
    assert "domain" not in line


def test_the_list_of_a_run_finds_the_same_rows_again_in_another(tmp_path: Path) -> None:
    rows = known(["same", "b", "Same!", "c\ud800", "d"])
    found = dropped([entry(by="duplicates")], rows)
    list_dropped(tmp_path, found, rows, Domains(), [], None)
    [line] = (tmp_path / "dropped.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line) == {"row": 2, "reason": EQUAL, "key": rows.keys()[2], "instead": 0, "text": "Same!"}
    again = dropped([entry(by="judged", path=str(tmp_path / "dropped.jsonl"))], rows)
    assert rows_of(again) == [2]


def test_rows_that_came_as_tokens_are_listed_as_the_tokenizer_reads_them(tmp_path: Path) -> None:
    rows = known(["a", "b", "a", "c"], tokens_only=True)
    found = dropped([entry(by="duplicates")], rows)
    dataset = [{"input_ids": [row, row]} for row in range(4)]
    tokenizer = SimpleNamespace(decode=lambda ids, skip_special_tokens: f"row {ids[0]} {skip_special_tokens}")
    for reads, text in ((tokenizer, "row 2 True"), (None, "")):
        list_dropped(tmp_path, found, rows, Domains(), dataset, reads)
        assert json.loads((tmp_path / "dropped.jsonl").read_text("utf-8"))["text"] == text


def test_the_rows_of_a_trainer_are_known_by_what_its_user_wrote(tmp_path: Path) -> None:
    texts = ["one is one", "two is two"] * 8
    trainer = tiny_trainer(tmp_path, config=False, train=[{"text": text} for text in texts])
    columns = {"text": list(trainer.train_dataset["text"])}
    found = known_of(trainer, columns, read_content(trainer.train_dataset)[0])
    assert columns["text"][0] != texts[0]  # the end of sequence stands there
    assert found.said is not None
    assert list(found.said.whole) == [f"\n{text}" for text in texts]
    path = tmp_path / "judged.jsonl"
    path.write_text(json.dumps({"text": "Two is two."}), "utf-8")
    assert rows_of(dropped([entry(by="judged", path=str(path))], found)) == list(range(1, 16, 2))
