"""A run of a plain `transformers.Trainer` on token rows: a tiny random model, 26 rows, 7 steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from campus_tune.demo.tiny import tiny_model
from campus_tune.run.callback import CampusCallback
from campus_tune.run.stream.loss_audit import LossAudit
from tests.run.tiny_run import dataset, tokenizer

SHUFFLE = {"selector": "shuffle", "stages": 2}
ROWS = [{"input_ids": list(range(9, 9 + n)), "labels": list(range(9, 9 + n))} for n in range(4, 30)]


def plain_trainer(
    out: Path, collator: Any = None, *, model: Any = None, kind: type = Trainer, config: Any = None, **settings: Any
) -> Any:
    """A trainer that learns nothing (its rate is 0) under a shuffled plan; settings are its arguments."""
    names = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no", "learning_rate": 0.0}
    own = {name: settings.pop(name) for name in ("compute_loss_func",) if name in settings}
    defaults = {"per_device_train_batch_size": 4, "num_train_epochs": 1, "logging_steps": 1}
    args = TrainingArguments(str(out), **{**names, **defaults, **settings})
    return kind(
        model or tiny_model(),
        args,
        collator or DataCollatorForSeq2Seq(tokenizer()),
        dataset(ROWS),
        callbacks=[CampusCallback(SHUFFLE if config is None else config)],
        **own,
    )


ROWS_ONLY = LossAudit(
    plain=False,
    checks_value=False,
    dft=False,
    factor=1.0,
    loss_scale=lambda: 1.0,
    optimizer=None,
    skipped=lambda: False,
    own_step=False,
    world=1,
)
