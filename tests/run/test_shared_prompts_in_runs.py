"""Runs on rows with a system prompt: what is measured reads it once, is charged for that, and goes on as ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from campus_tune.data.prepared import read_rows
from campus_tune.words.types import Json
from tests.run.tiny_run import ledger_of, task_rows, tiny_trainer
from tests.run.witness import events

SYSTEM = {"role": "system", "content": "Answer each question briefly and say no more than is asked of you. " * 2}
CONFIG: Json = {
    "metrics": ["length", "loss", "ifd"],
    "selector": "lowest_perplexity",
    "stages": 3,
    "rescore": 1,
    "handover": 1.0,
    "budget": 4.0,
}


def with_system(n: int, seed: int = 1) -> list[Json]:
    return [{**row, "prompt": [SYSTEM, *row["prompt"]]} for row in task_rows(n, seed)]


def trainer_of(out: Path, **settings: Any) -> Any:
    config = CONFIG | {"scores": str(out.parent / f"scores of {out.name}")} | settings.pop("config", {})
    return tiny_trainer(out, config=config, train=with_system(40), probes=with_system(20, 77), **settings)


class Asked:
    """Tokens that go through a model without being trained, padding left out, and forwards that look back."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.tokens, self.behind = 0, 0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: torch.nn.Module, args: Any, kwargs: Json) -> None:
        del args
        if not module.training:
            self.tokens += int(kwargs["attention_mask"][:, -kwargs["input_ids"].shape[1] :].sum())
            self.behind += kwargs.get("past_key_values") is not None


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Asked]:
    out = tmp_path_factory.mktemp("ran") / "run"
    trainer = trainer_of(out, save_steps=4)
    asked = Asked(trainer.model)
    trainer.train()
    return out, trainer, asked


def test_what_is_on_the_bill_is_what_went_through_the_model(ran: tuple[Path, Any, Asked]) -> None:
    out, trainer, asked = ran
    assert asked.behind > 10
    (end,) = events(out, "end")
    tokens = read_rows(trainer.train_dataset).tokens
    charged = 3 * end["cost"]["all"] * tokens.sum()  # a forward is a third of training all weights
    checks = 2 * 6 * tokens.max()  # some rows were measured both ways, once of the training rows and once of the probes
    assert asked.tokens - checks <= charged <= asked.tokens
    whole = sum(decision["selection_tokens"] for decision in events(out, "decision"))
    assert 0 < whole == round(3 * end["cost"]["selection"] * tokens.sum())
    assert 3 * end["cost"]["scoring"] < 0.7  # of which answers alone are some; read whole the rows would be 1


def test_a_resumed_run_measures_and_pays_as_one_that_was_never_stopped(ran: tuple[Path, Any, Asked]) -> None:
    out, trainer, _ = ran
    whole = ledger_of(out)
    again = trainer_of(out, save_steps=4)
    again.train(resume_from_checkpoint=str(out / "checkpoint-4"))
    assert ledger_of(out)[-1]["cost"] == whole[-1]["cost"]
    decisions = [event for event in whole if event["event"] == "decision"]
    assert [event for event in ledger_of(out) if event["event"] == "decision"][-len(decisions) :] == decisions
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
