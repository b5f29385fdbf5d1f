"""What a run says it saved: of the tokens that went through its model, however cut, however often stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DataCollatorForSeq2Seq

from campus_tune.model import compat
from campus_tune.run.ledger import read_ledger
from campus_tune.words.types import Json
from tests.run.sealing import reseal
from tests.run.test_resume import SaveAt, StopAfter, StoppedError
from tests.run.tiny_run import saved_state, tiny_trainer, tokenizer

SHUFFLED: Json = {"selector": "shuffle", "stages": 2}
RUN: Json = {"n": 22, "num_train_epochs": 2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}


class Through:
    """Counts what goes through the model with gradients: own tokens, and all."""

    def __init__(self, trainer: Any) -> None:
        self.own = self.all = 0
        trainer.model.register_forward_pre_hook(self.look, with_kwargs=True)

    def look(self, module: torch.nn.Module, _: Any, given: Mapping[str, Any]) -> None:
        if module.training and torch.is_grad_enabled():
            ids, mask = given["input_ids"], given.get("attention_mask")
            self.own += ids.numel() if mask is None else int(mask.sum())
            self.all += ids.numel()


def told_by(out: Path) -> Json:
    return read_ledger(out / "curriculum" / "ledger.jsonl")[-1]["padding"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("batching", "multiple", "says"),
    [
        ("step", None, "where drawn at random would have had"),
        ("step", 64, "campus: padding"),
        ("plain", None, "rows were cut as drawn, so nothing was saved"),
        ("flat", None, "campus: no padding where drawn at random would have had"),
    ],
)
def test_a_run_tells_what_went_through_its_model(
    batching: str, multiple: int | None, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = tiny_trainer(tmp_path, config=SHUFFLED | {"batching": batching}, pad_to_multiple_of=multiple, **RUN)
    through = Through(trainer)
    trainer.train()
    told = told_by(tmp_path)
    assert told["tokens"] == [through.own, through.all]
    assert told["share"] == round(1 - through.own / through.all, 4)
    assert (told["micro"], told["steps"]) == (4, 6)
    assert [line for line in capsys.readouterr().out.splitlines() if "padding" in line and says in line]


def test_measuring_is_no_training(tmp_path: Path) -> None:
    trainer = tiny_trainer(
        tmp_path, config={"metrics": ["length", "loss"], "stages": 2, "budget": 1.0}, probes=8, **RUN
    )
    through = Through(trainer)
    trainer.train()
    assert told_by(tmp_path)["tokens"] == [through.own, through.all]


def test_a_run_that_was_stopped_has_counted_the_same(tmp_path: Path) -> None:
    calm = tiny_trainer(tmp_path / "calm", config=SHUFFLED, **RUN)
    calm.train()
    for stop in (2, 5, None):
        callbacks = [SaveAt(2, 4), *([] if stop is None else [StopAfter(stop)])]
        trainer = tiny_trainer(tmp_path / "run", config=SHUFFLED, callbacks=callbacks, **RUN)
        if stop is None:
            trainer.train(resume_from_checkpoint=True)
            break
        with pytest.raises(StoppedError):
            trainer.train(resume_from_checkpoint=stop > 2)
    assert told_by(tmp_path / "run") == told_by(tmp_path / "calm")


def test_a_checkpoint_that_counted_nothing_goes_on_and_says_of_how_many_steps(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, config=SHUFFLED, callbacks=[SaveAt(4), StopAfter(4)], **RUN)
    with pytest.raises(StoppedError):
        trainer.train()
    checkpoint = tmp_path / "checkpoint-4"
    state = saved_state(checkpoint)
    del state["stateful_callbacks"]["CampusCallback"]["attributes"]["curriculum"]["padding"]
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    reseal(checkpoint)
    trainer = tiny_trainer(tmp_path, config=SHUFFLED, **RUN)
    trainer.train(resume_from_checkpoint=True)
    assert told_by(tmp_path)["steps"] == 2


@pytest.mark.parametrize(
    ("settings", "multiple"),
    [
        ({}, 1),
        ({"pad_to_multiple_of": 8}, 8),
        ({"padding": "max_length", "max_length": 30}, 30),
        ({"padding": "max_length", "max_length": 30, "pad_to_multiple_of": 8}, 32),
    ],
)
def test_a_collator_that_pads_further_than_to_the_longest_is_known(settings: Json, multiple: int) -> None:
    collator = DataCollatorForSeq2Seq(tokenizer(), **settings)
    assert compat.pads_to_multiple_of(collator) == multiple
    lengths = {collator([{"input_ids": [5] * n, "labels": [5] * n}])["input_ids"].shape[1] for n in range(1, 31)}
    assert lengths == {-(-n // multiple) * multiple for n in range(1, 31)}
