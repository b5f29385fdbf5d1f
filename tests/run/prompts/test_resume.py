from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback
from trl import GRPOTrainer

from campus_tune.demo.tiny import tiny_model
from campus_tune.run.checkpoints import CALLBACK
from campus_tune.run.ledger import read_ledger
from campus_tune.run.prompts.kept import ARRAYS, read_arrays
from campus_tune.words.errors import ResumeError, TrainerError
from campus_tune.words.sealed_json import read_sealed, write_sealed
from campus_tune.words.types import Json
from tests.run.prompts.tiny_prompts import SavesInside, passes, prompts, reward_trainer
from tests.run.sealing import reseal
from tests.run.test_resume import SaveAt, StopAfter, StoppedError, assert_same
from tests.run.tiny_run import dataset, history_of, last_line_of, ledger_of, saved_state, tiny_trainer, weights_of

PRUNED: Json = {"metrics": ["length"], "stages": 3, "mix": 0.2, "thin": {"how": "top", "by": "middle", "keep": 0.5}}
HALF: Json = {"steps_per_generation": 4}  # a step takes two of the four pieces of a generation
GENERATION = "campus_generation-0"


def prompt_trainer(out: Path, kind: str = "grpo", **settings: Any) -> Any:
    """`reward_trainer`: 24 prompts, 10 steps, learning rates that fall, unless `settings` say otherwise."""
    return reward_trainer(
        out, kind, **{"config": PRUNED, "train": 24, "max_steps": 10, "lr_scheduler_type": "linear", **settings}
    )


def outcome(trainer: Any) -> Json:
    """All that must not depend on whether a run was stopped."""
    out = Path(trainer.args.output_dir)
    home = out / "curriculum"
    files = [*sorted((home / "prompt_rewards").glob("*.parquet")), *sorted(home.glob("prompt_map.parquet"))]
    tables = sorted((out / "completions").glob("*.parquet"))
    return {
        "ledger": ledger_of(out),
        "history": [*history_of(trainer), last_line_of(trainer)],
        "groups": {path.name: path.read_bytes() for path in [*files, *tables]},
        "weights": {name: value.tolist() for name, value in weights_of(trainer).items()},
    }


def stopped(out: Path, *, stops: tuple[int, ...], saves: tuple[int, ...] | None = None, **settings: Any) -> Json:
    """The outcome of a run that saves before each of `stops`, is stopped there, and resumed each time."""
    more = settings.pop("more", ())
    for step in (*stops, None):
        callbacks = [*(one() for one in more), SaveAt(*(stops if saves is None else saves))]
        trainer = prompt_trainer(out, callbacks=[*callbacks, *([] if step is None else [StopAfter(step)])], **settings)
        if step is None:
            trainer.train(resume_from_checkpoint=True)
        else:
            with pytest.raises(StoppedError):
                trainer.train(resume_from_checkpoint=True)
    return outcome(trainer)


# -- goes on as if it had never stopped ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings", "stops"),
    [
        pytest.param("grpo", HALF, (3, 4, 7), id="half a generation a step"),
        pytest.param("rloo", HALF, (1, 6), id="half a generation a step, RLOO"),
        pytest.param(
            "grpo",
            {"num_iterations": 2, "restore_callback_states_from_checkpoint": True},
            (5, 6),
            id="two iterations, callbacks made anew from the checkpoint",
        ),
        pytest.param("rloo", {"num_iterations": 2, "logging_steps": 4}, (1, 7), id="two iterations, a line every 4"),
        pytest.param("grpo", {"steps_per_generation": 1}, (3, 8), id="two generations a step"),
        pytest.param(
            "rloo",
            {"gradient_accumulation_steps": 1, "steps_per_generation": 4, "lora": True},
            (2, 7),
            id="a quarter of a generation a step, LoRA with dropout",
        ),
    ],
)
def test_a_run_stopped_inside_a_generation_and_at_its_border_goes_on_as_if_it_had_not(
    tmp_path: Path, kind: str, settings: Json, stops: tuple[int, ...]
) -> None:
    calm = prompt_trainer(tmp_path / "calm", kind, **settings)
    calm.train()
    assert_same(stopped(tmp_path / "stopped", kind=kind, stops=stops, **settings), outcome(calm))


def test_a_save_in_the_middle_of_a_step_trains_that_step_again_with_the_same_answers(tmp_path: Path) -> None:
    settings: Json = {**HALF, "log_completions": True, "eval_strategy": "steps", "eval_steps": 2}
    settings |= {"trainer_args": {"eval_dataset": dataset(prompts(4))}, "before": [SavesInside()]}
    calm = prompt_trainer(tmp_path / "calm", **settings)
    calm.train()
    ours = stopped(tmp_path / "stopped", stops=(3, 5, 7, 9), saves=(), **settings)  # each after another event's save
    assert_same(ours, outcome(calm))


class LeavesEpoch(TrainerCallback):
    """Ends an epoch in the middle of a generation."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, kwargs
        control.should_epoch_stop |= state.global_step == 3


def test_an_epoch_that_ends_inside_a_generation_is_left_in_the_same_place_after_a_resume(tmp_path: Path) -> None:
    calm = prompt_trainer(tmp_path / "calm", callbacks=[LeavesEpoch()], **HALF)
    calm.train()
    ours = stopped(tmp_path / "stopped", stops=(3, 4, 6), more=[LeavesEpoch], **HALF)
    assert_same(ours, outcome(calm))


def test_a_reference_model_is_the_same_again(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "model")
    settings: Json = {"model": str(tmp_path / "model"), "beta": 0.1, "max_steps": 6, **HALF}
    settings |= {"sync_ref_model": True, "ref_model_sync_steps": 2}
    calm = prompt_trainer(tmp_path / "calm", **settings)
    calm.train()
    assert_same(stopped(tmp_path / "stopped", stops=(3,), **settings), outcome(calm))


def test_a_run_that_goes_on_in_another_folder_takes_what_its_prompts_have_shown_with_it(tmp_path: Path) -> None:
    calm = prompt_trainer(tmp_path / "calm", callbacks=[SaveAt(5)], **HALF)
    calm.train()
    other = prompt_trainer(tmp_path / "other", **HALF)
    other.train(resume_from_checkpoint=str(tmp_path / "calm" / "checkpoint-5"))
    assert_same(outcome(other), outcome(calm))


def test_a_limit_of_checkpoints_leaves_one_that_counts_with_its_generation(tmp_path: Path) -> None:
    trainer = prompt_trainer(tmp_path, save_steps=3, save_total_limit=1, max_steps=9, **HALF)
    trainer.train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-9"]
    assert read_sealed(tmp_path / "checkpoint-9" / f"{GENERATION}.json")["micro_step"] == 18
    assert set(read_arrays(tmp_path / "checkpoint-9")) == {"rates", "groups"}


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a checkpoint inside a generation, and one at its border."""
    out = tmp_path_factory.mktemp("saved") / "run"
    prompt_trainer(out, callbacks=[SaveAt(3, 4)], max_steps=4, **HALF).train()
    return out


def copied(saved: Path, tmp_path: Path) -> Path:
    shutil.copytree(saved, tmp_path / "run")
    return tmp_path / "run"


def renamed(completion_ids: Any, cut: Any, **columns: Any) -> list[float]:
    """The same rewards under another name."""
    return passes(completion_ids, cut, **columns)


def easier() -> list[Json]:
    """The same prompts, one of them with another column."""
    rows = prompts(24)
    return [*rows[:5], {**rows[5], "cut": rows[5]["cut"] + 1}, *rows[6:]]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"train": easier()}, r"prompts with all their columns \(fingerprint\)", id="a column"),
        pytest.param({"train": 26}, r"number of prompts: 24 in the checkpoint, 26 now", id="more prompts"),
        pytest.param(
            {"num_generations": 2},
            r"answers to a prompt \(`num_generations`\): 4 in .*, 2 now; prompts of a generation: 8 in .*, 16 now",
            id="a generation of another size",
        ),
        pytest.param({"steps_per_generation": 8}, "`steps_per_generation`: 4 in the checkpoint, 8 now", id="longer"),
        pytest.param({"num_iterations": 2}, "`num_iterations`: 1 in the checkpoint, 2 now", id="trained twice"),
        pytest.param(
            {"rewards": renamed},
            r"reward functions and their weights: \[\['passes', 1.0\]\] in .*'renamed'",
            id="reward",
        ),
        pytest.param({"reward_weights": [0.5]}, r"\[\['passes', 0.5\]\] now", id="a weight of it"),
        pytest.param({"temperature": 0.7}, "`trl: temperature`: 1.0 in .*, 0.7 now", id="how answers come"),
        pytest.param({"config": {**PRUNED, "stages": 4}}, r"`campus: stages`", id="the recipe"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_every_difference_named(
    tmp_path: Path, saved: Path, changed: Json, said: str
) -> None:
    out = copied(saved, tmp_path)
    trainer = prompt_trainer(out, max_steps=4, **{**HALF, **changed})
    before = (out / "curriculum" / "ledger.jsonl").read_bytes()
    with pytest.raises(ResumeError, match=f"one that differs in .*{said}.* or train without resuming") as refused:
        trainer.train(resume_from_checkpoint=str(out / "checkpoint-3"))
    future = "temperature" in changed or "config" in changed
    assert ("write campus: {resume: changed_future}" in str(refused.value)) == future
    assert (out / "curriculum" / "ledger.jsonl").read_bytes() == before


def test_what_only_says_how_a_run_goes_on_may_change_on_purpose(tmp_path: Path, saved: Path) -> None:
    out = copied(saved, tmp_path)
    config = {**PRUNED, "resume": "changed_future"}
    trainer = prompt_trainer(out, max_steps=6, temperature=0.7, config=config, **HALF)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 6


def test_a_run_that_ended_inside_a_generation_goes_on_in_it_when_it_is_made_longer(tmp_path: Path) -> None:
    prompt_trainer(tmp_path, max_steps=3, save_steps=3, **HALF).train()
    before = ledger_of(tmp_path)
    assert ended(prompt_trainer(tmp_path, max_steps=3, **HALF)) == before  # nothing is left to train
    longer = prompt_trainer(tmp_path, max_steps=6, config={**PRUNED, "resume": "changed_future"}, **HALF)
    assert ended(longer)[-1]["audit"] == {
        "checked": 6, "passed": 6, "labels": False, "prompts": True, "generations": [3, 3]
    }  # fmt: skip
    assert longer.state.global_step == 6


def ended(trainer: Any) -> list[Json]:
    """The ledger of a run that has gone on to its end."""
    trainer.train(resume_from_checkpoint=True)
    return ledger_of(Path(trainer.args.output_dir))


def test_another_number_of_processes_is_refused_with_what_to_do(tmp_path: Path, saved: Path) -> None:
    def of_two(curriculum: Json) -> None:
        curriculum["identity"]["batch"]["world"] = 2

    out = copied(saved, tmp_path)
    edit(out / "checkpoint-3", of_two)
    with pytest.raises(ResumeError, match=r"number of processes: 2 in .*, 1 now.*over 2 processes: start as many"):
        prompt_trainer(out, max_steps=4, **HALF).train(resume_from_checkpoint=str(out / "checkpoint-3"))


def edit(checkpoint: Path, change: Callable[[Json], None]) -> None:
    """Change the curriculum's state in a checkpoint, as if it had been written so."""
    import json

    state = saved_state(checkpoint)
    change(state["stateful_callbacks"][CALLBACK]["attributes"]["curriculum"])
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    reseal(checkpoint)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.clear(), "must hold a curriculum state, got none"),
        (lambda state: state.update(version=6), r"must hold a curriculum of prompts \('prompts 1'\), got one of rows"),
        (lambda state: state.update(version="prompts 9"), "got one of version 'prompts 9'"),
        (lambda state: state.pop("past"), "that was changed .*must have `past`"),
        (lambda state: state["position"].update(inside="one"), "`position: inside` must be a whole number"),
    ],
)
def test_a_state_that_is_not_of_such_a_run_or_not_whole_is_named(
    tmp_path: Path, saved: Path, change: Any, said: str
) -> None:
    out = copied(saved, tmp_path)
    edit(out / "checkpoint-3", change)
    with pytest.raises(ResumeError, match=said):
        prompt_trainer(out, max_steps=4, **HALF).train(resume_from_checkpoint=str(out / "checkpoint-3"))


def test_a_damaged_generation_is_skipped_for_the_checkpoint_before_it(
    tmp_path: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = copied(saved, tmp_path)
    data = bytearray((out / "checkpoint-3" / f"{GENERATION}.safetensors").read_bytes())
    data[-1] ^= 1
    (out / "checkpoint-3" / f"{GENERATION}.safetensors").write_bytes(data)
    (out / "checkpoint-4" / ARRAYS).unlink()
    trainer = prompt_trainer(out, max_steps=4, **HALF)
    with pytest.raises(
        ResumeError, match=rf"checkpoint-4: {ARRAYS} is missing; checkpoint-3: {GENERATION}.* is damaged"
    ):
        trainer.train(resume_from_checkpoint=True)
    assert f"skipping checkpoint-3: {GENERATION}.safetensors is damaged" in capsys.readouterr().out


def test_a_generation_that_was_swapped_for_another_ones_is_refused(tmp_path: Path, saved: Path) -> None:
    out = copied(saved, tmp_path)
    name = out / "checkpoint-3" / f"{GENERATION}.json"
    write_sealed(name, {**read_sealed(name), "pieces": None})
    reseal(out / "checkpoint-3")
    trainer = prompt_trainer(out, max_steps=4, **HALF)
    with pytest.raises(ResumeError, match=r"step 3 must hold the generation that it was saved in, got .*no answers"):
        trainer.train(resume_from_checkpoint=str(out / "checkpoint-3"))
    assert "_calculate_rewards" not in vars(trainer)  # nothing of ours is left on it


def test_a_checkpoint_of_trl_alone_and_one_of_rows_are_refused(tmp_path: Path) -> None:
    prompt_trainer(tmp_path / "plain", config=False, max_steps=2, save_steps=2, **HALF).train()
    with pytest.raises(ResumeError, match="it was written without a curriculum"):
        prompt_trainer(tmp_path / "ours", max_steps=4, **HALF).train(
            resume_from_checkpoint=str(tmp_path / "plain" / "checkpoint-2")
        )
    tiny_trainer(tmp_path / "rows", n=8, save_steps=2).train()
    with pytest.raises(ResumeError, match="got one of rows"):
        prompt_trainer(tmp_path / "rows", max_steps=4, **HALF).train(
            resume_from_checkpoint=str(tmp_path / "rows" / "checkpoint-2")
        )


def test_a_run_of_rows_refuses_a_checkpoint_of_prompts(tmp_path: Path, saved: Path) -> None:
    out = copied(saved, tmp_path)
    with pytest.raises(ResumeError, match=r"state of version \d, got 'prompts 1'"):
        tiny_trainer(out, n=32).train(resume_from_checkpoint=str(out / "checkpoint-4"))


class ResumesByItself(GRPOTrainer):
    """Asks nobody where to go on."""

    def train(self) -> Any:
        return super().train(resume_from_checkpoint=str(Path(self.args.output_dir) / "checkpoint-3"))


def test_a_resume_that_something_else_began_is_refused(tmp_path: Path, saved: Path) -> None:
    trainer = prompt_trainer(copied(saved, tmp_path), max_steps=4, trainer_class=ResumesByItself, **HALF)
    with pytest.raises(TrainerError, match="told where to resume as resume_from_checkpoint, got a resume at step 3"):
        trainer.train()


def test_answers_of_a_server_are_said_to_be_others_from_the_next_generation_on(tmp_path: Path, saved: Path) -> None:
    out = copied(saved, tmp_path)
    trainer = prompt_trainer(out, max_steps=4, **HALF)
    trainer.args.use_vllm, trainer.args.vllm_mode = True, "server"
    trainer.train(resume_from_checkpoint=str(out / "checkpoint-3"))
    warned = [line for line in read_ledger(out / "curriculum" / "ledger.jsonl") if line["event"] == "warnings"]
    assert any("answers are sampled by vLLM (server)" in text for line in warned for text in line["warnings"])
