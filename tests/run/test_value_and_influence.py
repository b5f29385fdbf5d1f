"""Two ways to one number: what training shows of a row, and what two forwards show of it before it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from campus_tune.run.stage_visits import FOLDER
from campus_tune.scores.cache import read_columns
from tests.run.tiny_run import tiny_trainer

DOMAINS = ("arithmetic", "calendar", "code", "lists", "text")
ASKED = ("code", "text", "all")


def adapted() -> Any:
    """Without dropout, which training has and a measurement has not; of which A has a gradient too."""
    from campus_tune.demo.tiny import tiny_model

    torch.manual_seed(0)
    model = get_peft_model(tiny_model(), LoraConfig(r=4, target_modules="all-linear"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(5))
    return model


@pytest.mark.parametrize("flat", [False, True], ids=["padded", "flat"])
def test_values_of_a_model_that_stands_still_are_its_influences(flat: bool, tmp_path: Path) -> None:
    entries = [{"name": "influence", "reduce": "sum", "label": name, "probe": name} for name in ASKED]
    config = {
        "metrics": entries,
        "selector": "round_robin",
        "stages": 3,
        "rescore": 0,
        "budget": 10.0,
        "value": {"budget": 10.0},
    }
    settings: dict[str, Any] = {"padding_free": True, "max_length": None} if flat else {}
    trainer = tiny_trainer(
        tmp_path, model=adapted(), config=config, n=48, probes=150, learning_rate=0.0, num_train_epochs=14, **settings
    )
    trainer.train()
    home = tmp_path / "curriculum"
    influence = {name: read_columns(home / "scores" / f"{name}.parquet")[0]["score"] for name in ASKED}
    visits = [read_columns(path)[0] for path in sorted((home / FOLDER).glob("stage-*.parquet"))]
    rows = np.concatenate([stage["row"] for stage in visits])
    assert np.bincount(rows).tolist() == [14] * 48
    value = {
        name: np.mean([np.concatenate([stage[f"{half} {name}"] for stage in visits]) for half in "ab"], axis=0)
        for name in DOMAINS
    }
    value["all"] = np.mean(list(value.values()), axis=0)
    for name in ASKED:
        np.testing.assert_allclose(value[name], influence[name][rows], rtol=0, atol=0.01 * float(value[name].std()))
