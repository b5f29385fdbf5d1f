"""An epoch whose last optimizer step has fewer micro batches: trained and logged as the trainer itself would.

26 rows, 4 to a micro batch, accumulation 3: the trainer's own loader gives an epoch the micro batches
4 4 4 | 4 4 4 | 2, of which the last step has one, and not three. 29 rows make it two: 4 4 4 | 4 4 4 | 4 1.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import Trainer

from campus_tune.words.types import Json
from tests.run.other_models import tiny_moe
from tests.run.recorded import lines_of, ours_and_plain
from tests.run.test_resume import assert_same, calm, resumed
from tests.run.tiny_run import tiny_trainer, weights_of
from tests.run.witness import events

__all__ = ["calm"]  # the fixture

SHUFFLED: Json = {"selector": "shuffle"}
UNEVEN: Json = {"config": SHUFFLED, "gradient_accumulation_steps": 3}


@pytest.mark.parametrize(
    ("settings", "micro_batches"),
    [
        pytest.param({"n": 26}, 7, id="one micro batch is left"),
        pytest.param({"n": 29, "lora": True}, 8, id="two are left, LoRA with dropout"),
        pytest.param({"n": 26, "config": {**SHUFFLED, "batching": "plain"}}, 7, id="as drawn"),
        pytest.param({"n": 26, "padding_free": True, "max_length": None}, 7, id="flat"),
        pytest.param({"n": 29, "loss_type": "dft"}, 8, id="dft"),
        pytest.param(
            {"n": 29, "label_smoothing_factor": 0.1},
            8,
            id="label smoothing",
            marks=pytest.mark.filterwarnings("ignore:`label_smoothing_factor` is deprecated:FutureWarning"),
        ),
        pytest.param({"n": 26, "make_model": tiny_moe}, 7, id="experts whose router is trained"),
    ],
)
def test_losses_metrics_counts_and_weights_are_those_of_plain_trl_on_the_same_micro_batches(
    tmp_path: Path, settings: Json, micro_batches: int
) -> None:
    ours, plain = ours_and_plain(tmp_path, include_num_input_tokens_seen="all", **{**UNEVEN, **settings})
    assert len(ours.callback_handler.train_dataloader) == micro_batches
    assert len(lines_of(ours)) == 7  # three steps an epoch, and the counts
    assert lines_of(ours) == lines_of(plain)
    ends = [3 / micro_batches, 6 / micro_batches, 1.0]
    assert [line["epoch"] for line in lines_of(ours)[:-1]] == [*ends, *(1 + end for end in ends)]
    for name, weights in weights_of(plain).items():
        assert weights.equal(weights_of(ours)[name]), name


@pytest.mark.parametrize(
    ("steps", "settings"),
    [
        pytest.param((2, 5), {"n": 26}, id="one micro batch is left"),
        pytest.param((1, 2, 3, 4, 5), {"n": 29, "dataloader_num_workers": 2, "lora": True}, id="two are left, workers"),
    ],
)
def test_a_run_killed_after_every_step_of_uneven_epochs_goes_on_as_if_it_had_not(
    tmp_path: Path, calm: Callable[..., Json], steps: tuple[int, ...], settings: Json
) -> None:
    settings = {"gradient_accumulation_steps": 3, **settings}  # six steps, three an epoch
    assert_same(resumed(tmp_path, stops=steps, saves=steps, **settings), calm(**settings))
    assert events(tmp_path, "end")[0]["step"] == 6


@pytest.mark.skipif(not hasattr(Trainer, "_run_epoch"), reason="these versions ask the loader in each epoch")
@pytest.mark.parametrize("own", [False, True])
def test_what_is_set_on_the_trainer_for_a_resume_is_gone_afterwards(tmp_path: Path, own: bool) -> None:
    settings = {**UNEVEN, "n": 26}
    tiny_trainer(tmp_path, **{**settings, "save_steps": 2}).train()
    trainer = tiny_trainer(tmp_path, **{**settings, "save_steps": 2})
    run_epoch = trainer._run_epoch
    if own:
        trainer._run_epoch = run_epoch
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert trainer.state.global_step == 3
    assert vars(trainer).get("_run_epoch") == (run_epoch if own else None)
