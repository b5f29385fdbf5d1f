"""A real run of prompts tells the same in every place that tells of runs: ledger, files, console, card, tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune import open_run
from campus_tune.run.answer_groups import FOLDER
from campus_tune.run.ledger import read_ledger
from campus_tune.run.ledger_fields import FIELDS
from campus_tune.run.prompt_map import EXAMPLES, FILE
from campus_tune.run.prompts import leaving
from campus_tune.run.prompts.leaving import expected_rates, prompt_text
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json
from tests.run.prompts.tiny_prompts import GROUP, prompts, reward_trainer

RECIPE: Json = {"metrics": ["length"], "stages": 4, "domains": {"shares": "natural"}, "mix": 0.25}
STEPS, PER_STEP = 10, 4  # optimizer steps, prompts of each


@dataclass(frozen=True)
class Told:
    """What one run has told."""

    out: Path
    trainer: Any
    said: str

    def events(self, kind: str) -> list[Json]:
        return [event for event in read_ledger(self.out / "curriculum/ledger.jsonl") if event["event"] == kind]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    out = tmp_path_factory.mktemp("told")
    trainer = reward_trainer(out, config=RECIPE, max_steps=STEPS)
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("campus_tune.words.progress.say", said.append)
        trainer.train()
    return Told(out, trainer, "\n".join(said))


def test_every_field_that_a_run_of_prompts_writes_is_told(told: Told) -> None:
    events = read_ledger(told.out / "curriculum/ledger.jsonl")
    unsaid = {
        f"{e['event']}.{name}" for e in events for name in e if name != "event" and name not in FIELDS[e["event"]]
    }
    assert unsaid == set()


def test_stages_tell_what_trl_logs_of_the_same_generations(told: Told) -> None:
    ends = told.events("stage_end")
    flat = [line["frac_reward_zero_std"] for line in told.trainer.state.log_history if "frac_reward_zero_std" in line]
    rewards = [line["reward"] for line in told.trainer.state.log_history if "reward" in line]
    assert len(flat) == STEPS
    first = 0
    for end in ends:
        assert end["groups"]["n"] == PER_STEP * (end["step"] - first)
        assert end["groups"]["without_gradient"] == pytest.approx(np.mean(flat[first : end["step"]]), abs=1e-6)
        assert end["reward"] == end["pass_rate"] == pytest.approx(np.mean(rewards[first : end["step"]]), abs=1e-6)
        assert sum(shown["groups"] for shown in end["by_domain"].values()) == end["groups"]["n"]
        first = end["step"]
    assert ends[-1]["audit"] == {
        "checked": STEPS, "passed": STEPS, "labels": False, "prompts": True, "generations": [STEPS, STEPS],
    }  # fmt: skip


def test_the_end_adds_the_stages_up(told: Told) -> None:
    [end], stages = told.events("end"), told.events("stage_end")
    n = sum(stage["groups"]["n"] for stage in stages)
    flat = sum(stage["groups"]["n"] * stage["groups"]["without_gradient"] for stage in stages)
    assert end["groups"]["n"] == n == STEPS * PER_STEP
    assert end["groups"]["without_gradient"] == pytest.approx(flat / n)
    assert end["generated_tokens"] == stages[-1]["generated_tokens"]


def test_tables_have_each_answer_and_each_prompt(told: Told) -> None:
    run, stages = open_run(told.out), told.events("stage_end")
    assert len(run.answers) == STEPS * PER_STEP * GROUP
    assert run.groups.without_gradient.tolist() == [stage["groups"]["without_gradient"] for stage in stages]
    assert run.groups.groups.sum() == STEPS * PER_STEP
    by_domain = run.pass_rates[run.pass_rates.by == "domain"]
    assert by_domain.groups.sum() == STEPS * PER_STEP
    rates = run.answers.groupby("row").reward.mean()
    known = run.prompts.set_index("row")
    assert np.allclose(known.pass_rate[rates.index], rates)
    assert known.visits.sum() == STEPS * PER_STEP
    assert set(known.domain) == {"a", "b"}
    assert known.loc[known.region == "never_drawn"].pass_rate.isna().all()
    assert run.facts["prompts"] == told.events("prompt_map")[0]["sentence"].partition(": ")[2]
    assert run.facts["answers"].endswith("tokens generated")


def test_the_console_has_a_line_for_each_stage_and_a_last_word(told: Told) -> None:
    stages = told.events("stage_end")
    assert told.said.count("groups without a gradient") == len(stages) + 1
    assert f"order audit: all {STEPS} steps trained the planned prompts" in told.said
    assert f"prompts · {told.events('prompt_map')[0]['sentence']}" in told.said
    assert " prompts of scope " in told.said


def test_the_trainers_log_and_so_every_tracker_has_the_scalars(told: Told) -> None:
    logged = {name for line in told.trainer.state.log_history for name in line}
    assert {
        "campus/pass_rate", "campus/pass_rate/a", "campus/without_gradient", "campus/without_gradient_shuffled",
        "campus/generated_tokens",
    } <= logged  # fmt: skip


def test_the_card_says_how_it_was_trained(told: Told) -> None:
    told.trainer.create_model_card()
    card = (told.out / "README.md").read_text("utf-8")
    assert "Trained by reward with a curriculum of prompts by campus_tune:" in card
    assert f"- order audit: all {STEPS} steps trained the planned prompts; " in card
    assert f"- the map of its prompts: {told.events('prompt_map')[0]['sentence']}\n" in card


def test_pictures_of_a_run_are_figures_and_of_a_run_of_rows_words(told: Told) -> None:
    run = open_run(told.out)
    for plot in (run.plot_gradients, run.plot_pass_rates, run.plot_prompts):
        assert plot().axes


def test_the_answers_of_a_damaged_stage_are_named(told: Told, tmp_path: Path) -> None:
    home = tmp_path / "curriculum"
    home.mkdir()
    (home / "ledger.jsonl").write_bytes((told.out / "curriculum/ledger.jsonl").read_bytes())
    with pytest.raises(DataError, match=r"stage-00000.parquet` must be the rewards .* Put it back from a copy"):
        _ = open_run(tmp_path).answers
    (home / FOLDER).symlink_to(told.out / "curriculum" / FOLDER)
    assert len(open_run(tmp_path).answers)


def test_a_map_that_cannot_be_written_is_a_warning_and_the_run_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        del args, kwargs
        raise OSError("no space left on device")

    monkeypatch.setattr(leaving, "make_prompt_map", full)
    reward_trainer(tmp_path, max_steps=2).train()
    events = read_ledger(tmp_path / "curriculum/ledger.jsonl")
    assert events[-1]["event"] == "end"
    warned = [warning for event in events for warning in event.get("warnings", [])]
    assert "no map of the prompts: OSError: no space left on device" in warned
    assert len(open_run(tmp_path).prompts) == 0


def test_a_new_run_in_the_same_folder_puts_the_old_ones_files_aside(tmp_path: Path) -> None:
    for _ in range(2):
        reward_trainer(tmp_path, train=prompts(8), max_steps=1).train()
    home = tmp_path / "curriculum"
    assert {f"{FOLDER}.1", "prompt_map.1.parquet", "prompt_examples.1.jsonl"} <= {path.name for path in home.iterdir()}
    assert (home / FILE).is_file()
    assert (home / EXAMPLES).is_file()


def test_what_is_expected_of_a_prompt_is_known_of_those_tried_or_predicted() -> None:
    from campus_tune.method.pass_rates import PassRates

    rates = PassRates(3, group=2, at=1.0, forget=0.0, scaled=True)
    rates.note(np.array([1]), np.array([[1.0, 1.0]]), when=0)
    assert expected_rates(rates).tolist()[0::2] != [0.5, 0.5]
    assert np.isnan(expected_rates(rates)[[0, 2]]).all()
    assert expected_rates(rates)[1] == pytest.approx(0.75)
    rates.expect(np.array([0.1, 0.5, 0.9]), 10.0)
    assert expected_rates(rates)[[0, 2]] == pytest.approx([0.1, 0.9])


def test_a_conversation_reads_as_who_says_what() -> None:
    assert prompt_text("2 + 2?") == "2 + 2?"
    assert prompt_text([{"role": "user", "content": None}]) == ""
    assert prompt_text(7) == "7"
