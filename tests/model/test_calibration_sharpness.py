"""Calibration and sharpness against slow references, and nothing of the model touched."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from campus_tune.demo.tiny import tiny_model
from campus_tune.evaluate.answer_loss import Told
from campus_tune.method.calibration import Calibration
from campus_tune.model import calibration_sharpness
from campus_tune.model.answer_alone import Labelled
from campus_tune.model.calibration_sharpness import calibration, sharpness
from campus_tune.model.subject import Subject
from tests.run.other_models import with_prompts

LENGTHS = (7, 3, 12, 5, 9, 4)


@pytest.fixture(scope="module")
def rows() -> Told:
    draw = np.random.default_rng(4)
    labelled = []
    for length in LENGTHS:
        ids = draw.integers(3, 60, length).tolist()
        cut = length // 2
        labelled.append(Labelled(ids, [-100] * cut + ids[cut:]))
    return Told(labelled, None)


def subject_of(model: Any) -> Subject:
    return Subject(model=model, forward=model, device=torch.device("cpu"), place=lambda batch: batch)


@pytest.fixture(scope="module")
def trained(rows: Told) -> Any:
    """Near a minimum on these rows, where the loss rises in every direction."""
    model = tiny_model(hidden=16, layers=1, seed=2).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        mean_loss(model, rows).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    optimizer.zero_grad()
    return model


@pytest.fixture
def model(trained: Any) -> Any:
    return copy.deepcopy(trained)


def test_virtual_tokens_of_prompt_learning_are_no_answers(rows: Told) -> None:
    model = with_prompts("prompt tuning")
    tokens = np.array(LENGTHS)
    told = calibration(subject_of(model), rows, tokens)
    confidence, hit = [], []
    for row in rows.whole(range(len(rows))):
        probabilities = model(input_ids=torch.tensor([row.ids])).logits[0, -len(row.ids) :].softmax(-1).detach()
        for place in range(1, len(row.ids)):
            if row.labels[place] != -100:
                confidence.append(float(probabilities[place - 1].max()))
                hit.append(bool(probabilities[place - 1].argmax() == row.labels[place]))
    assert told["error"] == pytest.approx(Calibration.of_tokens(np.array(confidence), np.array(hit)).error, rel=1e-5)


def mean_loss(model: Any, rows: Told) -> torch.Tensor:
    """Row by row, token by token."""
    total, n = torch.zeros(()), 0
    for row in rows.whole(range(len(rows))):
        logits = model(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(-1)
        for place, label in enumerate(row.labels[1:]):
            if label != -100:
                total = total - logits[place, label]
                n += 1
    return total / n


def state(model: Any) -> dict[str, Any]:
    return {
        "weights": {name: weight.detach().clone() for name, weight in model.state_dict().items()},
        "gradients": {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "wanted": {name: p.requires_grad for name, p in model.named_parameters()},
        "random": torch.get_rng_state(),
    }


def assert_untouched(before: dict[str, Any], after: dict[str, Any]) -> None:
    for part in ("modes", "wanted"):
        assert before[part] == after[part]
    assert torch.equal(before["random"], after["random"])
    for part in ("weights", "gradients"):
        assert before[part].keys() == after[part].keys()
        for name, value in before[part].items():
            other = after[part][name]
            assert (value is None and other is None) or torch.equal(value, other), name


def test_calibration_is_that_of_a_slow_reference(model: Any, rows: Told) -> None:
    before = state(model)
    found = calibration(subject_of(model), rows, rows.tokens)
    assert_untouched(before, state(model))
    model.eval()
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row in rows.whole(range(len(rows))):
        with torch.no_grad():
            chances = model(input_ids=torch.tensor([row.ids])).logits[0].softmax(-1)
        for place, label in enumerate(row.labels[1:]):
            if label != -100:
                best = chances[place].max().item()
                bins.setdefault(min(14, int(best * 15)), []).append((best, chances[place].argmax().item() == label))
    n = sum(map(len, bins.values()))
    gaps = [
        abs(sum(c for c, _ in one) / len(one) - sum(h for _, h in one) / len(one)) * len(one) for one in bins.values()
    ]
    assert found["error"] == pytest.approx(sum(gaps) / n, abs=1e-6)
    assert [count for _, _, count in found["bins"]] == [len(bins[place]) for place in sorted(bins)]
    assert sum(count for _, _, count in found["bins"]) == n


def test_calibration_hangs_on_no_batch_size(model: Any, rows: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = calibration(subject_of(model), rows, rows.tokens)
    monkeypatch.setattr(calibration_sharpness, "BATCH_TOKENS", 1)  # one row at a time
    assert calibration(subject_of(model), rows, rows.tokens)["error"] == pytest.approx(whole["error"], abs=1e-6)


def test_each_domain_has_an_error_of_its_own_where_there_are_several(model: Any, rows: Told) -> None:
    whole = calibration(subject_of(model), rows, rows.tokens)
    assert calibration(subject_of(model), rows, rows.tokens, ["all"] * len(LENGTHS)) == whole
    told = calibration(subject_of(model), rows, rows.tokens, ["b", "a", "b", "c", "a", "b"])
    assert {name: value for name, value in told.items() if name != "domains"} == whole
    labelled = rows.whole(range(len(LENGTHS)))
    for name, places in {"a": [1, 4], "b": [0, 2, 5], "c": [3]}.items():
        alone = Told([labelled[place] for place in places], None)
        error = calibration(subject_of(model), alone, alone.tokens)["error"]
        assert told["domains"][name] == pytest.approx(error, abs=1e-6)
    assert list(told["domains"]) == ["a", "b", "c"]


@pytest.mark.parametrize("batch_tokens", [1, 2048])
def test_sharpness_is_that_of_a_slow_reference(
    model: Any, rows: Told, batch_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration_sharpness, "BATCH_TOKENS", batch_tokens)
    found = sharpness(subject_of(model), rows, rows.tokens, radius=0.1)
    model.eval()
    here = mean_loss(model, rows)
    gradients = torch.autograd.grad(here, list(model.parameters()))
    norm = torch.sqrt(sum(((g.double() ** 2).sum() for g in gradients), torch.zeros((), dtype=torch.float64)))
    with torch.no_grad():
        for weight, gradient in zip(model.parameters(), gradients, strict=True):
            weight += (0.1 * gradient.double() / norm).float()
        there = mean_loss(model, rows)
    assert found["radius"] == 0.1
    assert found["value"] == pytest.approx(float((there - here).detach()), rel=1e-3, abs=2e-6)
    assert found["value"] > 0


def test_sharpness_leaves_weights_gradients_and_random_states_bit_for_bit(model: Any, rows: Told) -> None:
    weights = list(model.parameters())
    weights[0].grad = torch.full_like(weights[0], 0.25)
    weights[1].requires_grad_(False)
    before = state(model)
    sharpness(subject_of(model), rows, rows.tokens)
    assert_untouched(before, state(model))


def test_sharpness_moves_only_what_is_trained(model: Any, rows: Told) -> None:
    for name, weight in model.named_parameters():
        weight.requires_grad_("norm" in name)
    few = sharpness(subject_of(model), rows, rows.tokens)["value"]
    for weight in model.parameters():
        weight.requires_grad_(True)
    assert sharpness(subject_of(model), rows, rows.tokens)["value"] > few >= 0


def test_an_error_on_the_way_puts_the_weights_back(model: Any, rows: Told) -> None:
    before, calls = state(model), []

    def broken(*args: Any, **settings: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:  # uphill
            raise RuntimeError("out of memory")
        return model(*args, **settings)

    subject = Subject(model=model, forward=broken, device=torch.device("cpu"), place=lambda batch: batch)
    with pytest.raises(RuntimeError, match="out of memory"):
        sharpness(subject, rows, rows.tokens)
    assert_untouched(before, state(model))
