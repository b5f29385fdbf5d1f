"""`campus-tune suspects --config`: the likeliest wrong rows before any training."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from campus_tune.cli.suspects_before import Measured, before
from campus_tune.data.domains import Domains
from campus_tune.data.judged import Known
from campus_tune.data.shapes import Shape
from campus_tune.method.suspicion import Suspicion
from campus_tune.model.measure import LossMeter
from campus_tune.run.row_map import NOTHING
from campus_tune.words.errors import DataError, RecipeError
from campus_tune.words.types import Json
from tests.json_answers import answer
from tests.libraries import CHECKPOINTING

N, WRONG = 80, (7, 31, 64)
Suspects = Callable[..., str]


def rows(n: int = N, wrong: tuple[int, ...] = ()) -> list[Json]:
    """Questions of two kinds that all have their kind's answer, but for the wrong rows."""
    found = []
    for i in range(n):
        kind = ("red", "blue")[i % 2]
        answer = kind if i not in wrong else {"red": "blue", "blue": "red"}[kind]
        turns = ("user", f"{kind} {i}"), ("assistant", f"{answer} " * (1 + i % 3))
        said = [{"role": role, "content": text.strip()} for role, text in turns]
        found.append({"prompt": said[:1], "completion": said[1:], "domain": kind, "source": f"s{i % 4}"})
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model that has learned these answers."""
    from campus_tune.demo.tiny import tiny_model
    from tests.run.tiny_run import tiny_trainer

    home = tmp_path_factory.mktemp("suspects")
    trainer = tiny_trainer(
        home / "run", config=False, train=rows(), model=tiny_model(), num_train_epochs=8, learning_rate=1e-2
    )
    trainer.train()
    trainer.save_model(str(home / "model"))
    return str(home / "model")


@pytest.fixture
def recipe(model: str, tmp_path: Path) -> Json:
    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(wrong=WRONG)))
    return {
        "model_name_or_path": model,
        "dataset_name": str(data),
        "output_dir": str(tmp_path / "run"),
        "per_device_train_batch_size": 4,
        "bf16": False,
        "use_cpu": True,
        CHECKPOINTING: False,
        "campus": {"metrics": ["length"], "scores": str(tmp_path / "cache")},
    }


@pytest.fixture
def suspects(recipe: Json, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Suspects:
    """Runs the command on the recipe as it then is, and gives back what it says."""

    def run(
        *argv: str, rows: int | None = None, top: int | None = None, out: Path | None = None, forwards: int = 2
    ) -> str:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe))
        capsys.readouterr()
        assert before(["--config", str(path), *argv], rows=rows, top=top, out=out, forwards=forwards).code == 0
        return capsys.readouterr().out

    return run


def listed(out: str) -> list[int]:
    return [int(row) for row in re.findall(r"^ *(\d+)  (?:red|blue|s\d|-?\d)", out, re.MULTILINE)]


@pytest.mark.parametrize("forwards", [1, 2])
def test_the_planted_rows_stand_first(suspects: Suspects, forwards: int) -> None:
    out = suspects(top=3, forwards=forwards)
    assert sorted(listed(out)) == list(WRONG)
    assert ("alone" in out) == (forwards == 2)


def test_their_json_has_the_rows_of_the_table(recipe: Json, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**recipe, "dataset_name": "nowhere"}))
    found = answer(capsys, "suspects", path, "--data", recipe["dataset_name"], "--top", 3)
    assert sorted(row["row"] for row in found["rows"]) == list(WRONG)
    assert found["measured"] == N
    assert (found["suspects"], found["sentence"]) == (0, NOTHING)


def test_what_it_costs_is_said_first_and_nothing_is_measured_twice(
    suspects: Suspects, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = suspects(top=3)
    cost = re.search(
        r"^2 forwards over 80 rows: ([\d,]+) tokens, [\d.]+% of the recipe's training compute$", first, re.M
    )
    assert cost is not None
    assert cost.start() < first.index("row")
    monkeypatch.setattr(LossMeter, "measure", None)  # whoever asks breaks
    again = suspects(top=3)
    assert (
        "2 forwards over 80 rows: 0 tokens, 0.0% of the recipe's training compute; 160 losses are in the score cache"
        in again
    )
    assert again[again.index("row  ") :] == first[first.index("row  ") :]
    one = suspects(top=3, forwards=1)
    assert "1 forward over 80 rows: 0 tokens" in one


def test_a_killed_one_goes_on_where_it_stopped(
    suspects: Suspects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from campus_tune.scores import passages

    whole, measured = suspects("--scores", str(tmp_path / "another")), list[int]()
    monkeypatch.setattr(passages, "AT_ONCE", 32)
    measure = LossMeter.measure

    def counted(self: LossMeter, places: Any, **how: Any) -> Any:
        if sum(measured) == 64:
            raise KeyboardInterrupt
        measured.append(len(places))
        return measure(self, places, **how)

    monkeypatch.setattr(LossMeter, "measure", counted)
    with pytest.raises(KeyboardInterrupt):
        suspects()
    monkeypatch.setattr(LossMeter, "measure", measure)
    rest = suspects()
    assert "64 losses are in the score cache" in rest
    assert rest[rest.index("row  ") :] == whole[whole.index("row  ") :]


def test_some_of_the_rows_are_measured_and_more_of_them_are_no_others(suspects: Suspects) -> None:
    few, more = (listed(suspects(rows=n, forwards=1)) for n in (10, 16))
    assert len(few) == 10
    assert set(few) < set(more)


def test_rows_to_judge_are_written_and_the_next_run_obeys_what_was_judged(
    suspects: Suspects, recipe: Json, tmp_path: Path
) -> None:
    from campus_tune.cli import sft
    from campus_tune.words.files import read_jsonl

    out = tmp_path / "rows.jsonl"
    assert f"5 rows to judge are in {out}" in suspects(top=5, out=out)
    lines = read_jsonl(out)
    names = ["row", "key", "content", "domain", "score", "spread", "visits", "loss", "text", "answer", "keep"]
    assert list(lines[0]) == names
    assert lines[0]["text"].endswith(f"\n{lines[0]['answer']}")
    assert sorted(line["row"] for line in lines[:3]) == list(WRONG)
    assert lines[0]["score"] >= lines[1]["score"]
    assert lines[0]["text"].split("\n")[0] == f"{lines[0]['domain']} {lines[0]['row']}"  # the prompt, then the answer
    assert {(line["spread"], line["visits"], line["keep"]) for line in lines} == {(None, 0, None)}
    out.write_text("".join(json.dumps({**line, "keep": line["row"] not in WRONG}) + "\n" for line in lines))
    path = tmp_path / "next.yaml"
    campus = {**recipe["campus"], "drop": [{"by": "judged", "path": str(out)}]}
    path.write_text(yaml.safe_dump({**recipe, "max_steps": 2, "report_to": "none", "campus": campus}))
    sft.main(["--config", str(path)])
    dropped = read_jsonl(tmp_path / "run" / "curriculum" / "dropped.jsonl")
    assert [line["row"] for line in dropped] == list(WRONG)


def test_rows_are_compared_inside_their_domain_and_what_cells_are_made_of(suspects: Suspects, recipe: Json) -> None:
    assert re.search(r"^ *7  blue  ", suspects(top=3), re.MULTILINE)
    recipe["campus"]["cells"] = {"of": "source"}
    assert re.search(r"^ *7  blue · s3  ", suspects(top=3), re.MULTILINE)
    recipe["campus"] |= {"cells": {"of": "sourse"}}
    with pytest.raises(DataError, match=r"`cells: of` must be a column .*, got 'sourse'\. Did you mean 'source'\?"):
        suspects()


def test_rows_without_prompts_get_one_forward(suspects: Suspects, recipe: Json, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": f"red {i} is red"}) + "\n" for i in range(40)))
    recipe["dataset_name"] = str(path)
    out = suspects(top=2)
    assert "no row has a prompt, so answers alone would show the same: one forward is used" in out
    assert "1 forward over 40 rows" in out
    assert "alone" not in out[out.index("1 forward") :]
    assert "nothing to see: no row stands out from its kind" in out


@pytest.mark.parametrize("columns", [40, 60, 140])
def test_the_table_is_as_wide_as_the_terminal(
    suspects: Suspects, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    out = suspects(top=3)
    shown = out[out.index("row  ") :].splitlines()[:-1]
    assert max(map(len, shown)) <= columns
    assert len(shown) == (4 if columns == 140 else 7)  # texts stand under their lines where there is no room
    assert sum(" → " in line for line in shown) == 3


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"rows": 81},
            r"`--rows` must be from 1 to 80, the number of rows of the training set, got 81\. Write --rows 80",
        ),
        ({"rows": 0}, r"`--rows` must be from 1 to 80, .* got 0"),
        ({"top": 81}, r"`--top` must be from 1 to 80, the number of rows that are measured, got 81\. Write --top 80"),
        ({"rows": 10, "top": 11}, r"`--top` must be from 1 to 10"),
    ],
)
def test_more_rows_than_there_are_is_refused(suspects: Suspects, asked: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        suspects(**asked)


def test_a_recipe_that_cannot_be_measured_is_refused(suspects: Suspects, recipe: Json) -> None:
    recipe["campus"]["scores"] = "none"
    with pytest.raises(RecipeError, match=r"`scores` must name a folder .*, got none\. Write --scores DIR"):
        suspects()
    del recipe["model_name_or_path"]
    with pytest.raises(RecipeError, match=r"`model_name_or_path` must be a model folder or a hub id, got nothing"):
        suspects()


def test_the_sentence_says_how_many_and_where_most_are() -> None:
    codes, ones, four = np.array([0, 0, 1, 1]), np.ones(4), np.arange(4)
    known = Known({}, None, Shape(), np.arange(4, dtype=np.uint64))
    groups = Domains(codes, ["code", "math"])

    def said(*suspects: bool) -> str:
        measured = Measured(four, ones, None, four, four, groups, known, [""] * 4)
        vars(measured)["suspicion"] = Suspicion(ones, ones, np.array(suspects), 1.0)
        return measured.sentence()

    assert said(False, True, True, True) == "3 of 4 rows look wrong (75.0%; most in math: 2)"
    assert said(False, False, False, True) == "1 of 4 rows looks wrong (25.0%; most in math: 1)"
    assert said(False, False, False, False) == "nothing to see: no row stands out from its kind"
