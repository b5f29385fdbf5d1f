"""Calibration and sharpness against slow references, and nothing of the model touched."""

import copy
from collections.abc import Callable
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
from campus_tune.model.uphill import adapter_pairs, merged_step
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


def uphill_by_hand(model: Any, rows: Told, radius: float, *, relative: bool = False) -> float:
    """One weight after the other, in double precision."""
    model.eval()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    here = mean_loss(model, rows)
    gradients = [g.double() for g in torch.autograd.grad(here, weights)]
    scales = [weight.detach().double() if relative else torch.ones_like(weight).double() for weight in weights]
    norm = sum(float(((t * g) ** 2).sum()) for t, g in zip(scales, gradients, strict=True)) ** 0.5
    with torch.no_grad():
        for weight, t, gradient in zip(weights, scales, gradients, strict=True):
            weight += (radius * t * t * gradient / norm).float()
        return (mean_loss(model, rows) - here).item()


@pytest.mark.parametrize("batch_tokens", [1, 2048])
def test_sharpness_is_that_of_a_slow_reference(
    model: Any, rows: Told, batch_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration_sharpness, "BATCH_TOKENS", batch_tokens)
    found = sharpness(subject_of(model), rows, rows.tokens, radius=0.1)
    assert (found["radius"], found["relative_radius"], found["rows"]) == (0.1, 1.0, len(LENGTHS))
    assert found["value"] == pytest.approx(uphill_by_hand(copy.deepcopy(model), rows, 0.1), rel=1e-3, abs=2e-6)
    assert found["relative"] == pytest.approx(uphill_by_hand(model, rows, 1.0, relative=True), rel=1e-3, abs=2e-6)
    assert found["value"] > 0
    assert found.keys() == {"value", "relative", "radius", "relative_radius", "rows"}  # no adapter, and no domains


def test_each_domain_has_a_sharpness_of_its_own_on_its_own_rows(model: Any, rows: Told) -> None:
    model = adapted(model)
    whole = sharpness(subject_of(model), rows, rows.tokens)
    told = sharpness(subject_of(model), rows, rows.tokens, ["b", "a", "b", "c", "a", "b"])
    assert {name: value for name, value in told.items() if name != "domains"} == whole
    labelled = rows.whole(range(len(LENGTHS)))
    for name, places in {"a": [1, 4], "b": [0, 2, 5], "c": [3]}.items():
        alone = Told([labelled[place] for place in places], None)
        found = sharpness(subject_of(model), alone, alone.tokens)
        for reading in ("value", "relative", "merged"):
            assert told["domains"][name][reading] == pytest.approx(found[reading], rel=1e-3)
    assert list(told["domains"]) == ["a", "b", "c"]


def test_tokens_that_are_cut_off_count_nowhere(model: Any, rows: Told) -> None:
    whole = rows.whole(range(len(LENGTHS)))
    cut = Told([Labelled(row.ids[:8], row.labels[:8]) for row in whole], None)
    limited = Told(whole, 8)
    assert limited.cut == 2
    model = adapted(model)
    assert readings(model, limited) == readings(model, cut)


def adapted(model: Any, **settings: Any) -> Any:
    """The model with an adapter that training has moved."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    wrapped = get_peft_model(model, LoraConfig(r=3, lora_alpha=12, target_modules="all-linear", **settings))
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.05)
    return wrapped


def regauged(model: Any, change: Callable[[int], torch.Tensor]) -> Any:
    """The same model: B is multiplied by an invertible M, and A by its inverse."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for module in twin.modules():
            for name in getattr(module, "lora_A", {}):
                a, b = module.lora_A[name].weight, module.lora_B[name].weight
                gauge = change(len(a)).double()
                a.copy_(torch.linalg.inv(gauge) @ a.double())
                b.copy_(b.double() @ gauge)
    return twin


def readings(model: Any, rows: Told, **settings: Any) -> list[Any]:
    found = sharpness(subject_of(model), rows, rows.tokens, **settings)
    return [found[name] for name in ("value", "relative", "merged")]


@pytest.mark.parametrize("factor", [0.25, 11.3])
def test_scales_between_the_factors_of_an_adapter_change_the_plain_sharpness_alone(
    model: Any, rows: Told, factor: float
) -> None:
    model = adapted(model)
    here, there = readings(model, rows), readings(regauged(model, lambda r: factor * torch.eye(r)), rows)
    assert abs(there[0] / here[0] - 1) > 0.2
    assert there[1:] == pytest.approx(here[1:], rel=1e-3)


def test_rotations_and_shears_of_the_factors_leave_the_merged_sharpness_alone(model: Any, rows: Told) -> None:
    model = adapted(model, use_rslora=True, modules_to_save=["norm"])
    draw = torch.Generator().manual_seed(1)
    twin = regauged(model, lambda r: torch.eye(r) + 0.8 * torch.randn(r, r, generator=draw))
    assert mean_loss(twin, rows).item() == pytest.approx(mean_loss(model, rows).item(), abs=1e-4)
    here, there = readings(model, rows), readings(twin, rows)
    assert abs(there[0] / here[0] - 1) > 0.05
    assert abs(there[1] / here[1] - 1) > 0.05
    assert there[2] == pytest.approx(here[2], rel=2e-3)


def test_the_merged_step_is_the_steepest_that_an_adapter_can_make(model: Any, rows: Told) -> None:
    """Against dense matrices: the gradient of each merged weight, projected by the singular vectors of B A."""
    model = adapted(model).eval()
    layers = [module for module in model.modules() if hasattr(module, "lora_A")]
    bases = [layer.base_layer.weight for layer in layers]
    for weight in bases:
        weight.requires_grad_(True)
    dense = torch.autograd.grad(mean_loss(model, rows), bases)
    steps = []
    for layer, gradient in zip(layers, dense, strict=True):
        product = (layer.lora_B["default"].weight @ layer.lora_A["default"].weight).double().detach()
        left, _, right = torch.linalg.svd(product)
        columns, lines = left[:, :3] @ left[:, :3].T, right[:3].T @ right[:3]
        g = gradient.double()
        steps.append(columns @ g + g @ lines - columns @ g @ lines)
    norm = sum(float((step**2).sum()) for step in steps) ** 0.5
    for weight in bases:
        weight.requires_grad_(False)

    trained = [weight for weight in model.parameters() if weight.requires_grad]
    before = [weight.detach().clone() for weight in trained]
    gradients = torch.autograd.grad(mean_loss(model, rows), trained)
    pairs = adapter_pairs(model, trained)
    assert len(pairs) == len(layers) == len(trained) // 2
    moves = merged_step(before, gradients, pairs, 0.01)
    for pair, layer, step in zip(pairs, layers, steps, strict=True):
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        assert trained[pair.a] is a
        assert trained[pair.b] is b
        first_order = b.double() @ moves[pair.a] + moves[pair.b] @ a.double()
        torch.testing.assert_close(pair.scale * first_order, 0.01 * step / norm, rtol=1e-4, atol=1e-9)
    rise = readings(model, rows, radius=0.01)[2]
    with torch.no_grad():  # the same step made in the merged weights
        here = mean_loss(model, rows)
        for weight, step in zip(bases, steps, strict=True):
            weight += (0.01 * step / norm).float()
        assert rise == pytest.approx((mean_loss(model, rows) - here).item(), rel=0.02)


def test_an_adapter_that_was_never_moved_can_be_measured(model: Any, rows: Told) -> None:
    from peft import LoraConfig, get_peft_model

    fresh = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))  # B = 0
    assert all(np.isfinite(readings(fresh, rows)))
    assert readings(fresh, rows)[2] > 0


def test_factors_of_which_one_is_frozen_are_no_pair(model: Any) -> None:
    model = adapted(model)
    for name, weight in model.named_parameters():
        if "lora_A" in name:
            weight.requires_grad_(False)
    assert adapter_pairs(model, [weight for weight in model.parameters() if weight.requires_grad]) == []
    assert adapter_pairs(model.base_model.model.lm_head, []) == []


def test_a_step_that_is_lost_in_rounding_has_no_sharpness(model: Any, rows: Told) -> None:
    model = adapted(model)
    assert readings(model.bfloat16(), rows, radius=1e-3) == [None] * 3


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
