"""`eval/suspects_text.py`: what is planted, how it is counted, and one small run."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from campus_tune.words.types import Json
from eval import suspects_text


def row(number: int, source: str, tokens: int) -> Json:
    said = [{"role": role, "content": f"{role} {number}"} for role in ("user", "assistant")]
    return {"source": source, "domain": "text", "tokens": tokens, "prompt_tokens": 9, "messages": said}


ROWS = [row(i, "often" if i % 3 else f"seldom {i % 2}", 10 + i % 12) for i in range(48)]


def test_answers_are_exchanged_in_pairs_inside_a_source_and_at_about_the_same_length() -> None:
    planted, wrong = suspects_text.swapped(ROWS, 6, seed=1)
    assert wrong.sum() == 12
    answers = [one["messages"][1]["content"] for one in planted]
    assert sorted(answers) == sorted(one["messages"][1]["content"] for one in ROWS)
    for place, one in enumerate(planted):
        giver = int(answers[place].split()[1])
        assert (giver != place) == wrong[place]
        assert one["messages"][0] == ROWS[place]["messages"][0]
        assert one["source"] == ROWS[giver]["source"] or "often" not in (one["source"], ROWS[giver]["source"])
        assert abs(ROWS[place]["tokens"] - ROWS[giver]["tokens"]) <= 0.25 * ROWS[place]["tokens"]
        assert answers[giver] == (ROWS[place]["messages"][1]["content"])


def test_nothing_is_planted_where_nothing_is_asked_for() -> None:
    planted, wrong = suspects_text.swapped(ROWS, 0, seed=1)
    assert planted == ROWS
    assert not wrong.any()


def test_no_source_is_more_than_a_third_of_a_pool() -> None:
    pool = suspects_text.mixed(ROWS, 18)
    assert Counter(one["source"] for one in pool)["often"] == 6
    assert len(pool) == 18
    assert pool == suspects_text.mixed(ROWS, 18)


def test_a_line_has_the_means_and_what_each_seed_gave() -> None:
    seeds = [(0.5, 0.9, 3, 1.0), (0.75, 0.95, 0, np.nan)]
    assert suspects_text.line("ours", seeds) == ["ours", "0.62", "0.50 0.75", "0.925", "3 0", "1.00 -"]
    assert suspects_text.line("theirs", [(0.5, 0.9, -1, np.nan)])[4:] == ["", ""]


def test_one_small_run_gives_all_scores_and_the_second_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from campus_tune.demo.tiny import write_tiny

    model = write_tiny(tmp_path / "model")
    data = tmp_path / "data" / "mix"
    data.mkdir(parents=True)
    lines = "".join(json.dumps({**one, "id": str(i)}) + "\n" for i, one in enumerate(ROWS))
    (data / "train.jsonl").write_text(lines)
    monkeypatch.setattr(suspects_text, "MIX", "mix/train.jsonl")
    monkeypatch.setattr(suspects_text, "UPPER", [0, 1])
    flags = f"--model {model} --data {tmp_path / 'data'} --keep {tmp_path / 'kept'} --seeds 3 --rows 24 --least 1"
    monkeypatch.setattr(sys, "argv", ["suspects_text", *flags.split(), "--longest", "60", "--share", "0.25"])
    suspects_text.main()
    out = capsys.readouterr().out
    table = out[out.index("score  ") :]
    names = [text.split("  ")[0] for text in table.splitlines()[1:]]
    assert names[:5] == [
        "one forward",
        "two forwards",
        "training alone",
        "training, one forward before",
        "training, two forwards before",
    ]
    assert names[-4:] == ["loss (perplexity)", "mean probability", "lowest probability", "AUM"]
    assert "seed 3: 24 rows, 6 wrong" in out
    kept = dict(np.load(next((tmp_path / "kept").glob("*.npz"))))
    assert kept["visit_row"].tolist() != list(range(24))
    np.testing.assert_array_equal(np.sort(kept["visit_row"]), np.arange(24))
    chance = kept["visit_aum"][np.argmax(kept["visit_top1"] / kept["visit_tokens"])]
    assert chance > kept["visit_aum"].min()
    monkeypatch.setattr(suspects_text, "measure", None)  # whoever asks breaks
    suspects_text.main()
    again = capsys.readouterr().out
    assert again[again.index("score  ") :] == table
