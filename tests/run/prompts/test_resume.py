from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from campus_tune.run.callback import CampusCallback
from campus_tune.words.types import Json
from tests.run.prompts.tiny_rewards import SavesInside, reward_trainer
from tests.run.test_resume import SaveAt, StopAfter, StoppedError, assert_same
from tests.run.tiny_run import history_of, last_line_of, ledger_of, weights_of

MIDDLE: Json = {"metrics": ["length"], "stages": 3, "mix": 0.2, "thin": {"how": "top", "by": "length", "keep": 0.5}}
HALF: Json = {"gradient_accumulation_steps": 2, "steps_per_generation": 4}


def prompt_trainer(out: Path, kind: str = "grpo", *, config: Any = MIDDLE, callbacks: Any = (), **settings: Any) -> Any:
    """`reward_trainer` with a curriculum: 10 steps, unless `settings` say otherwise."""
    before = [one for one in callbacks if isinstance(one, SavesInside)]
    after = [one for one in callbacks if one not in before]
    made = reward_trainer(
        out, kind, callbacks=[*before, CampusCallback(config), *after], **{"max_steps": 10, **settings}
    )
    for one in before:
        one.trainer = made
    return made


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
    for step in (*stops, None):
        callbacks = [*settings.get("callbacks", ()), SaveAt(*(stops if saves is None else saves))]
        callbacks += [] if step is None else [StopAfter(step)]
        trainer = prompt_trainer(out, **{**settings, "callbacks": callbacks})
        if step is None:
            trainer.train(resume_from_checkpoint=True)
        else:
            with pytest.raises(StoppedError):
                trainer.train(resume_from_checkpoint=True)
    return outcome(trainer)


# -- goes on as if it had never stopped ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
@pytest.mark.parametrize(
    ("settings", "stops"),
    [
        pytest.param(HALF, (3, 4, 7), id="half a generation a step"),
        pytest.param({"gradient_accumulation_steps": 2, "num_iterations": 2}, (1, 5, 6), id="two iterations"),
        pytest.param(
            {"gradient_accumulation_steps": 2, "steps_per_generation": 1}, (3, 8), id="two generations a step"
        ),
        pytest.param(
            {"steps_per_generation": 4, "lora": True, "logging_steps": 4},
            (1, 6, 7),
            id="LoRA, a log line every 4 steps",
        ),
    ],
)
def test_a_run_stopped_inside_a_generation_and_at_its_border_goes_on_as_if_it_had_not(
    tmp_path: Path, kind: str, settings: Json, stops: tuple[int, ...]
) -> None:
    calm = prompt_trainer(tmp_path / "calm", kind, **settings)
    calm.train()
    assert_same(stopped(tmp_path / "stopped", kind=kind, stops=stops, **settings), outcome(calm))
