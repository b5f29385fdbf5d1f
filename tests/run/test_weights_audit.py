"""Weights of a real run: told, resumed, and every way to multiply something else found within its step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback
from trl import SFTTrainer

from campus_tune.run.stream.seam import AtLogProbs
from campus_tune.run.stream.shown import ShownRows
from campus_tune.scores.cache import read_columns
from campus_tune.words.errors import AuditError, TrainerError
from campus_tune.words.types import Json
from tests.run.test_audit_mutants import AT, REACHES, _as_on_an_accelerator, during, replaced
from tests.run.tiny_run import task_rows
from tests.run.witness import events

__all__ = ["_as_on_an_accelerator"]
Make = Callable[..., Any]
COLUMN: Json = {"selector": "shuffle", "stages": 2, "weights": [{"name": "column", "column": "weight"}]}
LIVE: Json = {"selector": "shuffle", "stages": 2, "weights": [{"name": "linupper"}, {"name": "focal"}]}


def rows(n: int) -> list[Json]:
    return [{**row, "weight": 0.25 + i % 5} for i, row in enumerate(task_rows(n))]


def weighted(make: Make, config: Json = COLUMN, **settings: Any) -> Any:
    """Two micro batches a step, steps 1 to 6; levels need twenty rows of a stage."""
    batch = 4 if config is LIVE else 2
    settings = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": 2, **settings}
    return make(train=rows(12 * batch), config=config, **settings)


def told(out: Path) -> list[dict[str, np.ndarray[Any, Any]]]:
    return [read_columns(file)[0] for file in sorted((out / "curriculum" / "training_losses").glob("*.parquet"))]


def test_what_was_multiplied_stands_beside_the_losses_of_its_rows(tiny_trainer: Make, tmp_path: Path) -> None:
    weighted(tiny_trainer).train()
    assert events(tmp_path / "run", "end")[0]["weights_audit"] == [6, 6]
    for stage in told(tmp_path / "run"):
        assert "part" not in stage
        weights = 0.25 + stage["row"] % 5  # one scale for the stage: its steps have fewer than 32 rows
        ratio = stage["weight"] / weights
        assert ratio == pytest.approx(np.full(len(ratio), ratio[0]), rel=1e-3)
        mean = (stage["weight"] * stage["tokens"]).sum() / stage["tokens"].sum()
        assert mean == pytest.approx(1.0, rel=1e-3)


def test_live_weights_of_a_run_are_checked_in_every_step(tiny_trainer: Make, tmp_path: Path) -> None:
    weighted(tiny_trainer, LIVE).train()
    assert events(tmp_path / "run", "end")[0]["weights_audit"] == [6, 6]
    _, second = told(tmp_path / "run")
    assert np.ptp(second["weight"]) > 0.05
    assert second["part"].min() > 0


def test_a_run_without_weights_writes_none(tiny_trainer: Make, tmp_path: Path) -> None:
    weighted(tiny_trainer, {"selector": "shuffle", "stages": 2}).train()
    assert all({"weight", "part"}.isdisjoint(stage) for stage in told(tmp_path / "run"))
    assert "weights_audit" not in events(tmp_path / "run", "end")[0]


# -- mutants -------------------------------------------------------------------------------------------------------


def weighing_of(trainer: Any) -> Any:
    (callback,) = (one for one in trainer.callback_handler.callbacks if hasattr(one, "run"))
    return callback.run.situation.watch._weighing


def changed(**fields: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any], Callable[[], None]]:
    """Numbers of the rows exchanged where the forward is computed."""

    def act(trainer: Any) -> Callable[[], None]:
        def make(ours: Any) -> Any:
            def there(device: Any) -> Any:
                numbers = ours(device)
                return dataclasses.replace(numbers, **{name: of(getattr(numbers, name)) for name, of in fields.items()})

            return there

        return replaced(weighing_of(trainer), "numbers_on", make)

    return act


def exchanged(trainer: Any) -> Callable[[], None]:
    """The weights of the rows of a micro batch, after they were tied."""

    def make(ours: Any) -> Any:
        def made(*args: Any, **rest: Any) -> Any:
            weighed = ours(*args, **rest)
            weighed.wanted = weighed.wanted.flip(0)
            return weighed

        return made

    return replaced(weighing_of(trainer), "weighed", make)


def ignored(trainer: Any) -> Callable[[], None]:
    del trainer
    return replaced(AtLogProbs, "product", lambda _: lambda *args: args[1].clone())


def tied_by_tokens(trainer: Any) -> Callable[[], None]:
    del trainer

    def make(ours: Any) -> Any:
        def keys(rows: Any, *, labelled: bool) -> Any:
            del labelled
            return ours(rows, labelled=False)

        return keys

    return replaced(ShownRows, "keys", make)


def zeroed_row(before_ours: bool) -> Callable[[Any], Callable[[], None]]:
    def hook(module: Any, args: Any, outputs: Any) -> None:
        del module, args

        def zero(gradient: torch.Tensor) -> torch.Tensor:
            gradient = gradient.clone()
            gradient[0] = 0.0
            return gradient

        outputs.log_probs.register_hook(zero)

    return lambda trainer: trainer.model.register_forward_hook(hook, prepend=before_ours).remove


def zeroed_behind_ours(trainer: Any) -> Callable[[], None]:
    """In the node itself, in front of what looks at the outgoing gradient: as a bug of the seam would."""

    def make(ours: Any) -> Any:
        def product(*args: Any) -> torch.Tensor:
            changed: torch.Tensor = ours(*args).clone()
            changed[0] = 0.0
            return changed

        return product

    del trainer
    return replaced(AtLogProbs, "product", make)


def one_token(trainer: Any) -> Callable[[], None]:
    """One answer token of a row gets what another should: the row's mean stays."""

    def make(ours: Any) -> Any:
        def made(*args: Any, **rest: Any) -> Any:
            weighed = ours(*args, **rest)
            first, last = weighed.counted[0].nonzero()[[0, -1], 0].tolist()
            wanted = weighed.wanted.clone()
            wanted[0, [first, last]] = wanted[0, [last, first]]
            weighed.wanted, weighed.whole = wanted, True
            return weighed

        return made

    return replaced(weighing_of(trainer), "weighed", make)


MUTANTS: dict[str, tuple[Json, Callable[[Any], None], str]] = {
    "weights exchanged after the tie": (COLUMN, during(exchanged), r"planned weight \d\.\d\d for row \d+ but"),
    "planned weights of other rows": (COLUMN, during(changed(planned=lambda x: x.roll(1))), "planned weight"),
    "rows tied by their tokens": (COLUMN, during(tied_by_tokens), r"but its loss was multiplied by 1\.00"),
    "planned weights ignored": (COLUMN, during(ignored), r"but its loss was multiplied by 1\.00"),
    "a row's gradient zeroed behind the weights": (COLUMN, during(zeroed_behind_ours), r"multiplied by 0\.00"),
    "a row's gradient zeroed before our hook": (COLUMN, during(zeroed_row(True)), "got -?0 times"),
    "a row's gradient zeroed after our hook": (COLUMN, during(zeroed_row(False)), "got -?0 times"),
    "a level of another group": (LIVE, during(changed(levels=lambda x: x - 1.0)), r"weight \d\.\d\d for row"),
    "a token's weight at another token": (LIVE, during(one_token), "for answer token|of single tokens"),
    "a micro batch twice": (COLUMN, REACHES["a micro batch twice, the other not"][0], "trained on them again|planned"),
    "labels exchanged": (COLUMN, REACHES["labels exchanged"][0], "other labels than planned"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_found_in_its_own_step(name: str, tiny_trainer: Make) -> None:
    config, put_on, says = MUTANTS[name]
    trainer = weighted(tiny_trainer, config)
    put_on(trainer)
    with pytest.raises(AuditError, match=rf"audit of step {AT}: .*({says})"):
        trainer.train()
    assert trainer.state.global_step == AT


def test_a_loss_of_the_users_own_that_scales_is_found(tiny_trainer: Make) -> None:
    class Halves(SFTTrainer):
        loss_is_scaled_for_ga = True

        def compute_loss(self, *args: Any, **rest: Any) -> Any:
            loss = super().compute_loss(*args, **rest)
            return (loss[0] * 0.5, *loss[1:]) if isinstance(loss, tuple) else loss * 0.5

    trainer = weighted(tiny_trainer, trainer_class=Halves)
    with pytest.raises(AuditError, match=r"weights audit of step 1: the gradient of row .* got 0\.5 times that"):
        trainer.train()


def test_a_loss_of_the_users_own_that_is_as_it_says_is_weighted(tiny_trainer: Make, tmp_path: Path) -> None:
    class Same(SFTTrainer):
        loss_is_scaled_for_ga = True

        def compute_loss(self, *args: Any, **rest: Any) -> Any:
            return super().compute_loss(*args, **rest)

    weighted(tiny_trainer, trainer_class=Same).train()
    assert events(tmp_path / "run", "end")[0]["weights_audit"] == [6, 6]


def zero(parameter: torch.nn.Parameter) -> None:
    assert parameter.grad is not None
    parameter.grad.zero_()


def forget(parameter: torch.nn.Parameter) -> None:
    parameter.grad = None


@pytest.mark.parametrize("change", [zero, forget])
def test_a_callback_that_changes_a_gradient_is_found_before_the_update(change: Any, tiny_trainer: Make) -> None:
    class Changes(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            del args, control
            if state.global_step == AT - 1:
                change(next(one for one in model.parameters() if one.grad is not None))

    trainer = weighted(tiny_trainer, callbacks=[Changes()])
    with pytest.raises(AuditError, match="weighted gradients must reach the optimizer as they are, got 1 of"):
        trainer.train()
    assert trainer.state.global_step == AT - 1


def test_labels_that_are_taken_away_later_stop_the_run_before_an_update(tiny_trainer: Make) -> None:
    from transformers.trainer_pt_utils import LabelSmoother

    def smooth(trainer: Any) -> Callable[[], None]:
        trainer.label_smoother = LabelSmoother(0.1)
        return lambda: None

    trainer = weighted(tiny_trainer)
    during(smooth)(trainer)
    with pytest.raises(TrainerError, match="a forward that is weighted must be given `labels`, got none"):
        trainer.train()
    assert trainer.state.global_step == AT - 1


def test_a_question_of_a_callback_under_gradients_is_no_training(tiny_trainer: Make, tmp_path: Path) -> None:
    class Asks(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            del args, state, control
            model(input_ids=torch.tensor([[5, 6, 7]]))

    weighted(tiny_trainer, callbacks=[Asks()]).train()
    assert events(tmp_path / "run", "end")[0]["weights_audit"] == [6, 6]


@pytest.mark.usefixtures("_as_on_an_accelerator")
def test_on_an_accelerator_weights_are_compared_while_the_next_step_runs(tiny_trainer: Make) -> None:
    trainer = weighted(tiny_trainer)
    during(ignored)(trainer)
    with pytest.raises(AuditError, match=f"weights audit of step {AT}: planned weight"):
        trainer.train()
    assert trainer.state.global_step == AT + 1
