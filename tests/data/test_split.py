"""Probes and test rows cut off a training set: like rows on one side, each domain's share, the same cut again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.domains import Domains
from campus_tune.data.duplicates import groups
from campus_tune.data.overlap import overlap
from campus_tune.data.split import (
    AT_MOST,
    PROBES,
    TEST,
    TRAIN,
    Split,
    part_files,
    quotas,
    refuse_written,
    split,
    write_parts,
)
from campus_tune.words.errors import DataError
from campus_tune.words.files import atomic_write, read_jsonl
from campus_tune.words.types import Json

WORDS = [f"w{i}" for i in range(4000)]
SENTENCE = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def texts_of(n: int, seed: int = 0, length: int = 20) -> list[str]:
    drawn = np.random.default_rng(seed).choice(WORDS, size=(n, length))
    return [" ".join(row) for row in drawn.tolist()]


def cut(texts: list[str], *, prompts: list[str] | None = None, domains: list[str] | None = None, **how: float) -> Split:
    of = Domains() if domains is None else Domains.of(domains)
    return split(texts, prompts or [""] * len(texts), of, **how)  # type: ignore[arg-type]


def sides(found: Split) -> dict[int, str]:
    return {row: part for part in (TRAIN, PROBES, TEST) for row in getattr(found, part).tolist()}


def test_every_row_is_on_one_side_and_each_side_has_what_was_asked_for() -> None:
    found = cut(texts_of(400), probes=40, test=0.1, seed=3)
    assert (len(found.train), len(found.probes), len(found.test)) == (320, 40, 40)
    assert sorted(sides(found)) == list(range(400))
    assert len(found.train) + len(found.probes) + len(found.test) == 400
    assert all((np.diff(getattr(found, part)) > 0).all() for part in (TRAIN, PROBES, TEST))


@given(
    rows=st.lists(st.tuples(st.integers(0, 12), st.sampled_from("ab")), min_size=1, max_size=40),
    seed=st.integers(0, 9),
)
def test_rows_that_say_the_same_are_never_on_two_sides(rows: list[tuple[int, str]], seed: int) -> None:
    said = texts_of(13, length=6)
    texts = [said[which] for which, _ in rows]
    try:
        found = cut(texts, domains=[domain for _, domain in rows], seed=seed)
    except DataError:  # all hang together
        return
    side = sides(found)
    assert sorted(side) == list(range(len(rows)))
    for text in set(texts):
        assert len({side[row] for row, other in enumerate(texts) if other == text}) == 1
    for part, name in ((found.probes, PROBES), (found.test, TEST)):
        of = Counter(rows[row][1] for row in part.tolist())
        sizes = Counter(domain for _, domain in rows)
        assert all(n <= AT_MOST * sizes[domain] for domain, n in of.items()), name


def test_rows_that_share_a_sentence_or_ask_the_same_are_on_one_side() -> None:
    texts = texts_of(60)
    texts[3], texts[7] = f"{texts[3]} {SENTENCE}", f"{SENTENCE} {texts[7]}"
    prompts = [f"question {row}" for row in range(60)]
    prompts[11] = prompts[20]
    for seed in range(25):
        side = sides(cut(texts, prompts=prompts, probes=12, test=12, seed=seed))
        assert side[3] == side[7], seed
        assert side[11] == side[20], seed


def test_nothing_held_out_is_found_again_by_the_overlap_that_check_looks_for() -> None:
    texts = texts_of(120)
    for row in range(0, 60, 3):  # pairs, and one chain of all of them would be too long to hold out
        texts[row + 1] = f"{texts[row]} and then some"
    found = cut(texts, probes=20, test=20)
    held = [texts[row] for row in (*found.probes.tolist(), *found.test.tolist())]
    shared = overlap(held, [texts[row] for row in found.train.tolist()])
    assert (shared.equal, shared.near) == ([], [])
    assert (found.near, found.together) == (0, 40)


def test_a_set_that_hangs_together_as_a_whole_gives_rows_all_the_same_and_says_so() -> None:
    words = [f"u{i}" for i in range(3000)]
    texts = [" ".join(words[20 * row : 20 * row + 60]) for row in range(100)]  # each shares words with its neighbours
    found = cut(texts, probes=10, test=0)
    assert len(found.probes) == 10
    assert found.near == 10
    assert f"{found.near} rows held out share 13 words in a row with a training row" in " ".join(found.sentences())


def test_rows_that_could_not_be_held_out_are_counted() -> None:
    found = cut([*texts_of(30), *["the same words"] * 70], probes=25, test=25)
    assert (len(found.probes) + len(found.test), found.missing) == (30, 20)
    assert "20 rows less than asked for were held out: the rest hangs together in too large groups" in found.sentences()


def test_rows_that_all_ask_the_same_cannot_be_held_out() -> None:
    with pytest.raises(DataError, match="`probes` must be rows that are like no training row, got none"):
        cut(texts_of(40), prompts=["the same question"] * 40, probes=5, test=0)
    assert len(cut(texts_of(40), prompts=["the same question"] * 40, probes=0, test=0).train) == 40  # as it advises


def test_a_row_without_words_is_trained() -> None:
    found = cut(["", "!", *texts_of(38)], probes=9, test=9)
    assert {0, 1} <= set(found.train.tolist())


def test_the_cut_hangs_on_the_seed_and_on_what_rows_say_not_on_their_place() -> None:
    texts = texts_of(200)
    first, again, other = (cut(texts, probes=20, test=20, seed=seed) for seed in (0, 0, 1))
    assert first.probes.tolist() == again.probes.tolist()
    assert first.probes.tolist() != other.probes.tolist()
    backwards = cut(texts[::-1], probes=20, test=20)
    assert {texts[row] for row in first.probes} == {texts[::-1][row] for row in backwards.probes}
    more = cut([*texts, *texts_of(10, seed=9)], probes=20, test=20)
    assert len({*more.probes.tolist()} & {*first.probes.tolist()}) >= 16


def test_quotas_are_what_was_asked_for_and_leave_small_domains_visible() -> None:
    sizes = np.array([900, 90, 10])
    assert quotas("probes", 100, sizes).tolist() == [76, 22, 2]  # half of them equally, as far as a quarter goes
    assert quotas("probes", 0.1, sizes).sum() == 100
    assert quotas("test", 0, sizes).tolist() == [0, 0, 0]
    assert quotas("probes", None, np.array([10_000, 400, 100, 3])).tolist() == [100, 30, 10, 0]
    assert quotas("test", None, np.array([10_000, 400, 100, 3])).tolist() == [300, 40, 15, 0]


@given(n_of=st.lists(st.integers(0, 50), min_size=1, max_size=6), share=st.floats(0, 0.99))
def test_quotas_add_up_and_never_take_more_than_a_quarter(n_of: list[int], share: float) -> None:
    sizes = np.array(n_of)
    asked = round(share * sizes.sum())
    most = (AT_MOST * sizes).astype(int)
    if asked > most.sum():
        with pytest.raises(DataError, match=f"`--probes` must be at most {most.sum()} of these"):
            quotas("probes", share, sizes)
        return
    found = quotas("probes", share, sizes)
    assert found.sum() == asked
    assert (found <= most).all()


def test_the_advice_of_a_refused_number_is_one_that_is_taken() -> None:
    with pytest.raises(DataError, match="Write --test 25, or add rows"):
        cut(texts_of(100), test=60)
    assert len(cut(texts_of(100), test=25).test) == 25


def test_each_domain_gives_its_share_and_the_sentences_say_so() -> None:
    found = cut(texts_of(1000), domains=["math"] * 800 + ["code"] * 200)
    assert found.sizes(PROBES) == {"code": 20, "math": 40}
    assert found.sizes(TEST) == {"code": 30, "math": 80}
    assert list(found.sentences()) == [
        "60 probes: measured while training (code 20, math 40)",
        "110 test rows: they judge a comparison (code 30, math 80)",
        "830 rows are trained",
    ]
    assert cut(texts_of(100)).sizes(PROBES) == {"all": 10}


def test_parts_are_written_as_they_stood_and_never_over_a_file(tmp_path: Path) -> None:
    rows = [{"text": text, "n": i, "né": "ü"} for i, text in enumerate(texts_of(40))]
    rows[5]["né"] = "\ud800"  # half a surrogate pair
    found = cut([row["text"] for row in rows], probes=4, test=0)  # type: ignore[misc]
    files = write_parts(tmp_path / "data", rows, found)
    assert files == {TRAIN: str(tmp_path / "data/train.jsonl"), PROBES: str(tmp_path / "data/probes.jsonl")}
    assert read_jsonl(files[PROBES]) == [rows[row] for row in found.probes]
    assert read_jsonl(files[TRAIN]) == [rows[row] for row in found.train]
    assert "ü" in Path(files[TRAIN]).read_text("utf-8")
    with pytest.raises(DataError, match=r"`--out` must name files that are not there yet, got .*train.jsonl"):
        refuse_written(part_files(tmp_path / "data").values(), "--out")
    refuse_written(part_files(tmp_path / "other").values(), "--out")


def slow_groups(texts: list[str], prompts: list[str]) -> list[set[int]]:
    """By comparing every row with every other one."""
    words = [text.split() for text in texts]
    runs = [{tuple(one[i : i + 2]) for i in range(len(one) - 1)} for one in words]
    often = Counter(run for has in runs for run in has)
    found = [{row} for row in range(len(texts))]
    for a in range(len(texts)):
        for b in range(a):
            shared = any(often[run] <= 10 for run in runs[a] & runs[b])
            if (words[a] == words[b] and words[a]) or (prompts[a] and prompts[a] == prompts[b]) or shared:
                joined = found[a] | found[b]
                for row in joined:
                    found[row] = joined
    return found


@given(st.lists(st.tuples(st.lists(st.sampled_from("abcd"), max_size=5), st.sampled_from(["", "p", "q"])), max_size=14))
def test_groups_are_what_comparing_all_pairs_finds(rows: list[tuple[list[str], str]]) -> None:
    texts, prompts = [" ".join(words) for words, _ in rows], [prompt for _, prompt in rows]
    found = groups(texts, prompts, n=2).tolist()
    slow = slow_groups(texts, prompts)
    assert [{row for row, one in enumerate(found) if one == mine} for mine in found] == slow


def test_groups_of_duplicates_ask_for_half_of_a_rows_words() -> None:
    long = " ".join(WORDS[:60])
    texts = [long, f"{long} more", f"{' '.join(WORDS[45:60])} {' '.join(WORDS[100:160])}"]
    assert groups(texts).tolist() == [0, 0, 0]
    assert groups(texts, nearly=False).tolist() == [0, 0, 1]


def test_a_row_of_json_is_a_line(tmp_path: Path) -> None:
    rows = [{"text": text, "when": np.datetime64("2024-01-01")} for text in texts_of(8)]
    files = write_parts(tmp_path, rows, cut([str(row["text"]) for row in rows], probes=2, test=0))
    assert [json.loads(line)["when"] for line in Path(files[PROBES]).read_text("utf-8").splitlines()] == [
        "2024-01-01"
    ] * 2


def test_what_is_interrupted_leaves_no_file_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path, lines: Iterable[bytes]) -> None:
        if path.stem != TRAIN:
            raise KeyboardInterrupt
        atomic_write(path, lines)

    monkeypatch.setattr("campus_tune.data.split.atomic_write", interrupted)
    rows: list[Json] = [{"text": text} for text in texts_of(20)]
    found = cut([str(row["text"]) for row in rows], probes=2, test=0)
    with pytest.raises(KeyboardInterrupt):
        write_parts(tmp_path, rows, found)
    assert list(tmp_path.iterdir()) == []
