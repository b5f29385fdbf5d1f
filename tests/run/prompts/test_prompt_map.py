"""The map of the prompts, folded from the files of the stages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from campus_tune.data.domains import Domains
from campus_tune.run.answer_groups import StageGroups
from campus_tune.run.prompt_map import (
    CONTRADICTS,
    EASIEST,
    EXAMPLES,
    FILE,
    HARDEST,
    PROMPT_REGIONS,
    PromptMap,
    make_prompt_map,
    sentence,
)
from campus_tune.scores.cache import read_columns
from campus_tune.words.types import Json

NAN = float("nan")
DOMAINS = Domains.of(["a", "a", "a", "b", "b", "b", "b"])
# generation → row → its rewards
DRAWN: list[dict[int, list[float]]] = [
    {0: [1, 1], 1: [0, 0], 2: [0, 1]},
    {2: [1, 1], 3: [0, 1], 4: [NAN, NAN]},
    {1: [0, 0], 3: [1, 1]},
]
WORD = {0: "always_passed", 1: "never_passed", 2: "middle", 3: CONTRADICTS, 4: "not_scored", 5: "never_drawn"}


def say(rows: Sequence[int]) -> list[str]:
    return [f"prompt {row} " + "long " * 400 for row in rows]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stages of a generation each."""
    home = tmp_path_factory.mktemp("run")
    groups = StageGroups(["right"], DOMAINS, at=1.0)
    for generation, drawn in enumerate(DRAWN):
        rewards = np.array(list(drawn.values()), dtype=float)
        groups.add(
            np.array(list(drawn)),
            generation=generation,
            weighted=rewards,
            by_function={"right": rewards},
            tokens=np.ones_like(rewards, dtype=np.int64),
            contradicting=np.array([row == 3 and generation % 2 == 1 for row in drawn]),
        )
        groups.close(home, generation, shuffled=0.5)
    return home


@pytest.fixture(scope="module")
def record(folder: Path) -> Json:
    predicted = np.linspace(0, 1, 7)
    return make_prompt_map(folder, range(3), DOMAINS, n_rows=7, at=1.0, texts=say, predicted=predicted)


@pytest.mark.usefixtures("record")
def test_each_prompt_has_its_region_and_plain_counts(folder: Path) -> None:
    columns, about = read_columns(folder / FILE)
    assert about == {"at": 1.0}
    assert {row: columns["region"][row] for row in WORD} == WORD
    assert columns["domain"].tolist() == ["a"] * 3 + ["b"] * 4
    assert columns["visits"].tolist() == [1, 2, 2, 2, 1, 0, 0]
    assert columns["tries"].tolist() == [2, 4, 4, 4, 0, 0, 0]
    assert columns["without_gradient"].tolist() == [1, 2, 1, 1, 1, 0, 0]
    np.testing.assert_array_equal(columns["pass_rate"], [1, 0, 0.75, 0.75, NAN, NAN, NAN])
    np.testing.assert_array_equal(columns["first_pass_rate"], [1, 0, 0.5, 0.5, NAN, NAN, NAN])
    np.testing.assert_array_equal(columns["last_pass_rate"], [1, 0, 1, 1, NAN, NAN, NAN])
    assert columns["last_generation"].tolist() == [0, 2, 1, 2, 1, -1, -1]
    assert columns["predicted"][-1] == 1.0


def test_the_ledger_has_the_counts_and_a_sentence(record: Json) -> None:
    assert record["rows"] == 7
    assert record["never_drawn"] == 2
    assert sum(record["regions"].values()) == 7
    assert set(record["regions"]) <= set(PROMPT_REGIONS)
    assert record["by_domain"]["b"] == {"rows": 4, "never_drawn": 2, "pass_rate": 0.75}
    assert record["sentence"] == (
        "7 prompts: 1 passed sometimes, 1 always passed, 1 never passed, 1 not scored, 2 never drawn; "
        "1 has a reward that contradicts itself"
    )


@pytest.mark.usefixtures("record")
def test_the_hardest_and_easiest_are_kept_with_their_texts(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / EXAMPLES).read_text("utf-8").splitlines()]
    assert [(line["row"], line["side"]) for line in lines] == [(1, HARDEST), (0, EASIEST), (3, CONTRADICTS)]
    assert lines[0]["text"].startswith("prompt 1 ")
    assert len(lines[0]["text"]) == 600


def test_prompts_without_domains_or_prediction_have_a_map_too(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt_rewards").symlink_to(folder / "prompt_rewards")
    found = make_prompt_map(tmp_path, range(2), Domains(), n_rows=7, at=1.0, texts=say)
    assert found["by_domain"] == {}
    assert np.isnan(read_columns(tmp_path / FILE)[0]["predicted"]).all()


def test_of_those_that_always_passed_the_most_tried_come_first() -> None:
    groups = StageGroups(["right"], Domains(), at=1.0)
    stages = []
    for rows in ([0, 1, 2, 3], [1, 3]):
        rewards = np.array([[float(row > 1)] * 2 for row in rows])
        tokens = np.ones_like(rewards)
        groups.add(np.array(rows), generation=0, weighted=rewards, by_function={"right": rewards}, tokens=tokens)
        assert groups.groups is not None
        stages.append(groups.groups)
        groups.close(None, 0, shuffled=None)
    found = PromptMap.of(stages, Domains(), n_rows=4, at=1.0).examples()
    assert (found[HARDEST], found[EASIEST]) == ([1, 0], [3, 2])


def test_the_sentence_names_what_there_is() -> None:
    assert sentence({"middle": 2}) == "2 prompts: 2 passed sometimes"
    many = sentence({CONTRADICTS: 5})
    assert many == "5 prompts: none without a contradiction; 5 have rewards that contradict themselves"
