"""A process of `test_trackers_offline`: a tiny run that reports to four trackers, and a map that goes to them after it.

    python tests/run/all_trackers.py OUT

`OUT/curriculum/` has the map; `OUT/said.json` tells which trackers took it, and what wandb has.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from transformers.integrations import integration_utils

from campus_tune.demo.tasks import generate
from campus_tune.demo.tiny import tiny_model, tiny_tokenizer
from campus_tune.run.callback import CampusCallback
from campus_tune.run.told.trackers import log_map

CONFIG = {"selector": "shuffle", "stages": 2, "budget": 0.2}
MAP: dict[str, Any] = {
    "regions": {"learned": 5, "suspect": 2},
    "suspects": 2,
    "share_of_suspects": 0.25,
    "rows": 8,
    "by_domain": {"code": {"rows": 5, "suspects": 2}, "math": {"rows": 3, "suspects": 0}},
}


def main(out: Path) -> None:
    """Train, and send the map."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    integration_utils.is_mlflow_available = lambda: True  # mlflow-skinny is a package of another name
    args = SFTConfig(
        str(out / "run"),
        report_to=["tensorboard", "wandb", "trackio", "mlflow"],
        per_device_train_batch_size=5,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        tiny_model(),
        args=args,
        train_dataset=Dataset.from_list(generate(1, seed=1)),
        processing_class=tiny_tokenizer(),
        callbacks=[CampusCallback(CONFIG, probes=Dataset.from_list(generate(1, seed=7)))],
    )
    trainer.train()
    took = log_map(trainer, MAP, out / "curriculum")
    import wandb

    (out / "said.json").write_text(json.dumps({"took": took, "wandb": sorted(wandb.run.summary.keys())}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
