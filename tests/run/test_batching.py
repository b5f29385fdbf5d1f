"""What `batching: auto` becomes in a run, that it is told, and that checkpoints of another cut go on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, flash_attention_mask

from campus_tune.demo.tiny import tiny_model
from campus_tune.model.flat_rows import layout_of
from campus_tune.run.identity import cut_before
from campus_tune.run.stream import loader
from campus_tune.words.errors import ResumeError
from campus_tune.words.types import Json
from tests.run.other_models import tiny_moe
from tests.run.plain_run import plain_trainer
from tests.run.test_own_loss import Focal, Scaled
from tests.run.test_resume import edit_curriculum_state
from tests.run.tiny_run import tiny_trainer, weights_of
from tests.run.witness import events

FLASH = "flash_by_hand"
SHUFFLED: Json = {"selector": "shuffle", "stages": 2}
STEPS: Json = {"n": 24, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}


def attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    scaling: Any = None,
    cu_seq_lens_q: Any = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of variable lengths, row by row: a flat batch is told where its rows end, a padded one by its mask."""
    del module, rest
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    within = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool).tril()
    if cu_seq_lens_q is not None:
        row = torch.searchsorted(cu_seq_lens_q, torch.arange(query.shape[2]), right=True)
        within &= row[:, None] == row
    elif mask is not None:
        within = within & mask[:, None, None, :].bool() | torch.eye(query.shape[2], dtype=torch.bool)
    out = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=within, scale=scaling)
    return out.transpose(1, 2).contiguous(), None


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    AttentionInterface.register(FLASH, attend)
    AttentionMaskInterface.register(FLASH, flash_attention_mask)
    yield
    for interface in (AttentionInterface, AttentionMaskInterface):
        interface._global_mapping.pop(FLASH)


def flash_model() -> Any:
    model = tiny_model()
    model.config._attn_implementation = FLASH
    return model


def trained(out: Path, **settings: Any) -> Any:
    trainer = tiny_trainer(out, **{"config": SHUFFLED, **STEPS, **settings})
    trainer.train()
    return trainer


def told(out: Path) -> Json:
    found: Json = events(out, "run")[0]["batching"]
    return found


# -- what it becomes ---------------------------------------------------------------------------------------------------


def test_under_an_attention_of_variable_lengths_rows_lie_flat_and_are_packed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat, padded = (
        trained(tmp_path / name, model=flash_model(), config={**SHUFFLED, "batching": name})
        for name in ("auto", "step")
    )
    why = f"the model's attention ({FLASH}) takes rows of any lengths"
    assert told(tmp_path / "auto") == {"is": "flat", "cut": "packed", "why": why}
    assert told(tmp_path / "step") == {"is": "step", "cut": "even"}
    assert f"campus: batching: flat: {why}. So rows lie flat, without padding" in capsys.readouterr().out
    for name, weights in weights_of(padded).items():
        torch.testing.assert_close(weights_of(flat)[name], weights, rtol=1e-4, atol=1e-5)


def test_elsewhere_steps_are_cut_evenly_and_the_reason_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    auto = trained(tmp_path / "auto")
    why = "the model's attention (sdpa) takes rows padded; flash attention would take them flat"
    assert told(tmp_path / "auto") == {"is": "step", "cut": "even", "why": why}
    assert f"campus: batching: step: {why}. So rows are padded" in capsys.readouterr().out
    step = trained(tmp_path / "step", config={**SHUFFLED, "batching": "step"})
    assert "batching" not in capsys.readouterr().out
    assert all(weights.equal(weights_of(step)[name]) for name, weights in weights_of(auto).items())


def layout(trainer: Any, asked: Any = "auto") -> tuple[str, str]:
    found = layout_of(trainer, trainer.data_collator, asked)
    return found.batching, found.why


def test_what_is_asked_for_is_what_one_gets(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, n=8, config=False, model=flash_model())
    for asked in ("step", "plain", "flat"):
        assert layout(trainer, asked) == (asked, "")


def test_rows_that_trl_lays_flat_itself_stay_so(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, n=8, config=False, padding_free=True, max_length=None)
    assert layout(trainer) == ("flat", "the trainer's padding_free is on")


def prompt_tuned() -> Any:
    from peft import PromptTuningConfig, get_peft_model

    return get_peft_model(flash_model(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))


def changed(change: Any) -> Any:
    model = flash_model()
    change(model)
    return model


def foreign(model: Any) -> None:
    model.__class__ = type("Elsewhere", (type(model),), {"__module__": "elsewhere"})


def blind(model: Any) -> None:
    def forward(self: Any, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, **rest: Any) -> None:
        del self, input_ids, attention_mask, labels, rest

    model.__class__ = type("Blind", (type(model),), {"__module__": "transformers.models.blind", "forward": forward})


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"model": tiny_model()}, r"attention \(sdpa\) takes rows padded"),
        ({"trainer_class": Focal}, "Focal.compute_loss is not the library's"),
        ({"trainer_class": Scaled}, "may read rows one by one"),
        ({"model": changed(foreign)}, "may read rows one by one"),
        ({"model": tiny_moe()}, "the router's auxiliary loss is a mean per micro batch"),
        ({"model": prompt_tuned()}, "adds places to each row that are no tokens"),
        (
            {"model": changed(lambda model: setattr(model, "_is_stateful", True))},
            "has more than attention in which tokens meet",
        ),
        (
            {"model": changed(lambda model: setattr(model.config, "layer_types", ["full_attention", "conv"]))},
            "has more than attention in which tokens meet",
        ),
        ({"model": changed(blind)}, "takes no positions"),
    ],
)
def test_where_it_is_not_known_that_rows_may_lie_flat_they_are_padded(tmp_path: Path, settings: Json, why: str) -> None:
    batching, reason = layout(tiny_trainer(tmp_path, n=8, config=False, **{"model": flash_model(), **settings}))
    assert batching == "step"
    assert re.search(why, reason)


def test_a_collator_that_cannot_flatten_pads(tmp_path: Path) -> None:
    trainer = plain_trainer(tmp_path)
    assert layout(trainer) == ("step", "DataCollatorForSeq2Seq cannot flatten rows")


def test_a_control_that_deals_weights_inside_of_micro_batches_has_equal_ones(tmp_path: Path) -> None:
    """Cut evenly, a long row is often alone: it has nobody to change its weight with."""
    config = {**SHUFFLED, "weights": ["focal"], "control": "shuffled_weights"}
    trained(tmp_path, config=config)
    assert told(tmp_path)["cut"] == "drawn"


# -- however a step is cut ---------------------------------------------------------------------------------------------


def equal_numbers(rows: Any, lengths: Any, *, micro: int, world: int, **_: Any) -> list[list[Any]]:
    """Sorted by length into equal numbers, as steps were cut before."""
    parts = np.array_split(rows[np.argsort(lengths[rows], kind="stable")], -(-len(rows) // (micro * world)) * world)
    return [parts[a : a + world] for a in range(0, len(parts), world)]


def test_losses_and_weights_are_the_same_within_rounding_however_a_step_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: Json = {"n": 30, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 3, "optim": "sgd"}
    settings |= {"learning_rate": 0.5, "num_train_epochs": 2}
    runs = {
        name: trained(tmp_path / name, config={**SHUFFLED, "batching": name}, **settings)
        for name in ("plain", "step", "flat")
    }
    monkeypatch.setattr(loader, "split_step", equal_numbers)
    runs["equal"] = trained(tmp_path / "equal", config={**SHUFFLED, "batching": "step"}, **settings)
    losses = {name: [line["loss"] for line in run.state.log_history if "loss" in line] for name, run in runs.items()}
    for name in ("plain", "step", "flat"):
        assert losses[name] == pytest.approx(losses["equal"], rel=1e-5)
        for key, weights in weights_of(runs["equal"]).items():
            torch.testing.assert_close(weights_of(runs[name])[key], weights, rtol=1e-4, atol=1e-6, msg=f"{name}: {key}")
    assert {name: told(tmp_path / name)["cut"] for name in runs} == {
        "plain": "drawn",
        "step": "even",
        "flat": "packed",
        "equal": "even",
    }


# -- checkpoints -------------------------------------------------------------------------------------------------------


def older(state: Json) -> None:
    identity = state["identity"]
    del identity["batch"]["cut"]
    identity["past"]["campus: batching"] = "step"


def of_flat_rows(state: Json) -> None:
    identity = state["identity"]
    identity["batch"]["cut"] = "packed"
    identity["past"]["campus: batching"] = "flat"


@pytest.mark.parametrize(
    ("change", "before"),
    [(older, "by length into equal numbers of rows"), (of_flat_rows, "into equal tokens")],
    ids=["an older version", "rows lay flat"],
)
def test_a_checkpoint_of_another_cut_goes_on_with_the_same_rows_and_says_so(
    tmp_path: Path, change: Any, before: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**STEPS, "save_steps": 1}
    trained(tmp_path, **settings)
    decided = events(tmp_path, "decision")
    edit_curriculum_state(tmp_path / "checkpoint-2", change)
    capsys.readouterr()
    trainer = tiny_trainer(tmp_path, **{"config": SHUFFLED, **settings})
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    said = capsys.readouterr().out
    assert f"campus: a step is cut by length into equal costs, before the checkpoint {before}: the same rows" in said
    assert events(tmp_path, "resumed")[0]["cut"]["now"] == "even"
    assert [line["rows"] for line in events(tmp_path, "decision")] == [line["rows"] for line in decided]
    assert events(tmp_path, "end")[0]["step"] == 3


def test_a_checkpoint_of_the_same_cut_says_nothing_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {**STEPS, "save_steps": 1}
    trained(tmp_path, **settings)
    capsys.readouterr()
    tiny_trainer(tmp_path, **{"config": SHUFFLED, **settings}).train(resume_from_checkpoint=True)
    assert "is cut" not in capsys.readouterr().out
    assert "cut" not in events(tmp_path, "resumed")[0]


@pytest.mark.parametrize(("before", "now"), [("plain", "auto"), ("step", "plain")])
def test_from_rows_as_drawn_to_sorted_ones_no_checkpoint_goes_on(tmp_path: Path, before: str, now: str) -> None:
    settings = {**STEPS, "save_steps": 1}
    trained(tmp_path, config={**SHUFFLED, "batching": before}, **settings)
    trainer = tiny_trainer(tmp_path, config={**SHUFFLED, "batching": now}, **settings)
    with pytest.raises(ResumeError, match=r"`campus: batching`: '(plain|step)' in the checkpoint, '(plain|step)' now"):
        trainer.train(resume_from_checkpoint=True)


@pytest.mark.parametrize(
    ("batch", "now", "before"),
    [
        ({"world": 1, "accumulation": 2, "cut": "packed"}, "even", "packed"),
        ({"world": 1, "accumulation": 2}, "even", "equal"),
        ({"world": 2, "accumulation": 1}, "even", "equal"),
        ({"world": 1, "accumulation": 1}, "even", "even"),  # one micro batch is the whole step, however it is cut
        ({"world": 1, "accumulation": 1}, "packed", "equal"),
        ({"world": 2, "accumulation": 2}, "drawn", "drawn"),  # and so it was
    ],
)
def test_how_a_checkpoint_was_cut_is_known_of_older_ones_too(batch: Json, now: str, before: str) -> None:
    assert cut_before({"batch": batch}, now) == before
