"""How sure a model is of its most likely tokens, from the forward that gives its losses, and at no cost to these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.demo.tiny import tiny_model
from campus_tune.evaluate.answer_loss import Told
from campus_tune.method.calibration import BINS, SUMS, Calibration
from campus_tune.model import batches, compat, measure
from campus_tune.model.answer_alone import Labelled
from campus_tune.model.calibration_sharpness import calibration
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.model.probes import ProbeMeter, load_probes
from campus_tune.model.row_sums import token_confidences, token_losses
from campus_tune.words.errors import DivergedError
from campus_tune.words.types import FloatArray
from tests.model.test_measure import meter_of, plain, sft, soft_capped
from tests.run.other_models import with_prompts
from tests.run.tiny_run import RECIPE, dataset, task_rows, tiny_trainer
from tests.run.witness import events

ROWS = np.arange(20)
CAP = 15.0  # of a soft cap that changes every probability and still leaves some tokens sure


def sharpened(trainer: Any, factor: float = 8.0) -> Any:
    """The trainer, its model's head turned up: a new model gives all tokens about the same probability."""
    with torch.no_grad():
        next(compat.subject(trainer).head.parameters()).mul_(factor)
    return trainer


def capped() -> Any:
    model = soft_capped()
    model.config.final_logit_softcapping = CAP
    return model


def trainer_of(kind: str, out: Path) -> Any:
    """One whose model is sure of some tokens and not of others."""
    if kind == "soft cap":
        return sharpened(plain(out, capped()), 1.5)
    if kind == "plain":
        return sharpened(plain(out))
    if kind == "bf16":
        return sharpened(tiny_trainer(out, config=False, n=20, bf16=True))
    if kind == "prompt tuning":
        return sharpened(tiny_trainer(out, config=False, n=20, model=with_prompts(kind)))
    return sharpened(sft(out, kind))


KINDS = [
    *("prompt and completion", "chat, assistant only", "lora", "padding-free"),
    *("prompt tuning", "plain", "soft cap", "bf16"),
]


def sure_meter(trainer: Any, what: str = "measuring") -> LossMeter:
    meter = meter_of(trainer, what)
    meter.confidences = True
    return meter


def bins_of(meter: LossMeter, rows: Any = ROWS) -> FloatArray:
    bins = meter.measure(rows).bins
    assert bins is not None
    return bins


def slow_bins(trainer: Any, row: int, data: Any = None) -> FloatArray:
    """Of one row by itself: a plain forward and a softmax in float64, token by token."""
    item = (trainer.train_dataset if data is None else data)[row]
    trainer.model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=trainer.args.bf16):
        logits = trainer.model(input_ids=torch.tensor([item["input_ids"]])).logits[0].double()
    chances = logits[-len(item["input_ids"]) :].softmax(-1)
    labels = item.get("labels", item["input_ids"])
    bins = np.zeros((BINS, SUMS))
    for place in range(1, len(labels)):
        if labels[place] != -100:
            sure = float(chances[place - 1].max())
            bins[min(BINS - 1, int(sure * BINS))] += [1, sure, int(chances[place - 1].argmax() == labels[place])]
    return bins


# -- a tile of logits --------------------------------------------------------------------------------------------------


@given(
    st.integers(0, 10_000),
    st.integers(1, 6),
    st.sampled_from([0.1, 3.0, 60.0]),
    st.sampled_from(["float32", "bfloat16"]),
)
def test_confidences_leave_losses_and_hits_to_the_last_bit(seed: int, k: int, scale: float, kind: str) -> None:
    make = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(k, 13, generator=make)).to(getattr(torch, kind))  # bfloat16: some are equal
    wanted = torch.randint(0, 13, (k,), generator=make)
    losses, hits = token_losses(logits, wanted)
    same_losses, same_hits, confidence = token_confidences(logits, wanted)
    assert torch.equal(losses, same_losses)
    assert torch.equal(hits, same_hits)
    assert confidence.dtype == torch.float32
    assert bool((confidence <= 1).all())
    np.testing.assert_allclose(confidence, logits.double().softmax(-1).amax(-1), rtol=1e-5)
    np.testing.assert_allclose(confidence[hits], torch.exp(-losses[hits]), rtol=1e-6)  # the same token's probability


# -- rows --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_bins_are_those_of_a_slow_plain_forward_and_losses_the_same_bits(kind: str, tmp_path: Path) -> None:
    trainer = trainer_of(kind, tmp_path)
    without, told = meter_of(trainer).measure(ROWS), sure_meter(trainer).measure(ROWS)
    assert without.bins is None
    for name, values in vars(without.losses).items():
        np.testing.assert_array_equal(getattr(told.losses, name), values)
    assert told.bins is not None
    slow = np.stack([slow_bins(trainer, row) for row in ROWS.tolist()])
    tolerance = 0.02 if kind == "bf16" else 0.0  # there padding moves some tokens over an edge of their bin
    assert np.abs(told.bins - slow)[:, :, 0].sum() <= 5 * tolerance * slow[:, :, 0].sum()
    assert Calibration.of(told.bins).error == pytest.approx(Calibration.of(slow).error, abs=max(1e-6, tolerance))
    assert told.bins[:, :, 0].sum(1).tolist() == told.losses.tokens.tolist()
    assert told.bins[:, :, 2].sum(1).tolist() == told.losses.top1.tolist()
    assert (told.bins.sum(0)[:, 0] > 0).sum() > 3  # else the bins would prove nothing


def test_bins_hang_on_no_batch_and_on_no_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = sharpened(sft(tmp_path, "prompt and completion"))
    whole = bins_of(sure_meter(trainer))
    monkeypatch.setattr(batches, "BATCH_TOKENS_CPU", 150)
    rows = np.array([7, 3, 3, 19, 0])
    np.testing.assert_allclose(bins_of(sure_meter(trainer), rows), whole[rows], rtol=1e-5)


@pytest.mark.parametrize("kind", ["plain", "soft cap"])
def test_confidences_cost_no_forward_and_no_more_logits(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(kind, tmp_path)
    monkeypatch.setattr(measure, "LOGIT_BYTES", 4 * 512 * 9)  # logits of nine places
    monkeypatch.setattr(measure, "TILE", 7)
    sizes: list[int] = []
    forward = trainer.model.lm_head.forward

    def counted(hidden: torch.Tensor) -> torch.Tensor:
        sizes.append(hidden.shape[:-1].numel())
        projected: torch.Tensor = forward(hidden)
        return projected

    monkeypatch.setattr(trainer.model.lm_head, "forward", counted)
    meter_of(trainer).measure(ROWS)
    without, sizes[:] = sizes[:], []
    bins = bins_of(sure_meter(trainer))
    assert sizes == without
    monkeypatch.undo()
    np.testing.assert_allclose(bins, bins_of(sure_meter(trainer)), rtol=1e-5)


def test_a_model_that_has_diverged_is_refused_by_its_losses(tmp_path: Path) -> None:
    trainer = sft(tmp_path, "prompt and completion")
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(float("nan"))
    meter = sure_meter(trainer, "probes")
    with pytest.raises(
        DivergedError, match="`probes`: the loss of every row must be finite, got NaN or inf on 20 of 20"
    ):
        meter.measure(ROWS)


@pytest.mark.parametrize("bound", [150, 100_000], ids=["each batch is one rank's", "all do the only batch"])
def test_ranks_merge_the_bins_of_all_rows_and_count_a_batch_done_twice_once(
    bound: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = sharpened(sft(tmp_path, "prompt and completion"))
    monkeypatch.setattr(batches, "BATCH_TOKENS_CPU", bound)
    forwards: list[int] = []
    trainer.model.register_forward_pre_hook(lambda *_: forwards.append(1))
    alone = bins_of(sure_meter(trainer))
    world, n_batches = 4, len(forwards)
    parts: list[Any] = []

    def keep(mine: list[Any]) -> list[Any]:
        parts.extend(mine)
        return mine

    monkeypatch.setattr("accelerate.utils.gather_object", keep)
    for rank in range(world):
        meter = sure_meter(trainer)
        meter.peers = Peers(rank, world)
        meter.measure(ROWS)
    assert len(forwards) - n_batches == max(world, n_batches)
    monkeypatch.setattr("accelerate.utils.gather_object", lambda _: parts)
    np.testing.assert_array_equal(bins_of(meter), alone)


# -- domains -----------------------------------------------------------------------------------------------------------


def as_told(data: Dataset, rows: Any) -> Told:
    """Prepared rows as `calibration` reads them."""
    picked = [data[int(row)] for row in rows]
    return Told([Labelled(item["input_ids"], item["labels"]) for item in picked], None)


@pytest.mark.parametrize("model", [tiny_model, capped])
def test_the_calibration_of_each_domain_is_that_of_whole_logits(tmp_path: Path, model: Callable[[], Any]) -> None:
    trainer = tiny_trainer(tmp_path, config=False, n=8, model=model())
    if model is tiny_model:
        sharpened(trainer)
    probes = load_probes(dataset(task_rows(20, seed=77)), None, trainer)
    chosen = probes.subset(1e9, seed=0)
    meter = ProbeMeter(trainer, probes, chosen, Peers())
    losses, found = meter.measure()
    assert list(losses) == list(found) == list(chosen)
    for name, rows in chosen.items():
        told = as_told(probes.dataset, rows)
        whole = calibration(compat.subject(trainer), told, told.tokens)
        assert found[name].error == pytest.approx(whole["error"], abs=1e-6)
        np.testing.assert_allclose(found[name].bins, whole["bins"], rtol=1e-5)
        slow = np.stack([slow_bins(trainer, int(row), probes.dataset) for row in rows])
        assert found[name].error == pytest.approx(Calibration.of(slow).error, abs=1e-6)
    assert len({one.error for one in found.values()}) == len(found) > 1
    for name, values in meter.measure()[0].items():
        np.testing.assert_array_equal(values.nll_sum, losses[name].nll_sum)


def test_only_the_probe_meter_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: Any) -> Any:
        raise AssertionError("nobody needs confidences here")

    monkeypatch.setattr(measure, "token_confidences", asked)
    recipe = RECIPE | {"metrics": ["length", "loss"], "selector": "lowest_perplexity", "stages": 2, "budget": 3.0}
    trainer = tiny_trainer(tmp_path / "without", config=recipe, n=16)
    trainer.train()
    assert "perplexity" in events(tmp_path / "without", "decision")[0]["offers"][0]
    with pytest.raises(AssertionError, match="nobody needs confidences here"):
        tiny_trainer(tmp_path / "with", config=recipe, n=16, probes=12).train()


def test_every_measurement_of_a_run_tells_the_calibration_of_each_domain(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, n=16, config=RECIPE | {"stages": 2, "budget": 5.0}, probes=20, learning_rate=5e-3)
    trainer.train()
    probed = events(tmp_path, "probes")
    assert len(probed) == 3
    for event in probed:
        for report in event["domains"].values():
            assert abs(report["confidence"] - report["token_accuracy"]) - 1e-9 <= report["ece"] <= 1
    probes = load_probes(dataset(task_rows(20, seed=77)), None, trainer)
    for name, report in probed[-1]["domains"].items():  # the model has not moved since
        assert report["rows"] == len(probes.domains[name])
        slow = Calibration.of(np.stack([slow_bins(trainer, int(row), probes.dataset) for row in probes.domains[name]]))
        assert report["ece"] == pytest.approx(slow.error, abs=1e-6)
        assert report["confidence"] == pytest.approx(slow.confidence, rel=1e-5)
