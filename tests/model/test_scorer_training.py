"""Training the scorer: features, samples, what is dropped and counted, and a model that never notices."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from campus_tune.data.prepared import read_rows
from campus_tune.data.spans import Spans, read_spans
from campus_tune.metrics.scorer import FEWEST_PAIRS, FLOOR, Heads, Scorer
from campus_tune.model import batches, compat
from campus_tune.model import scorer_training as scorer_module
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.model.scorer_training import HEAD_COLUMNS, NONE_LEFT, ScorerTrainer, Training, pooled
from campus_tune.model.subject import undisturbed
from campus_tune.scores.passages import Passages
from campus_tune.words.errors import MetricError, RecipeError
from campus_tune.words.types import FloatArray
from eval.trainers import mixtral
from tests.run.other_models import save_foreign, save_same, text, trainer_of
from tests.run.tiny_run import task_rows, tiny_trainer, tokenizer
from tests.run.witness import all_slow_losses, assert_close

END = 2
ANY = 10**9  # an allowance that pays for everything
RUBBISH = tokenizer()(" zq xj kk", add_special_tokens=False)["input_ids"]


def meter_of(trainer: Any) -> LossMeter:
    view, collator = compat.loader_view(trainer, trainer.train_dataset)
    return LossMeter(
        partial(compat.subject, trainer), view, collator, read_rows(view).tokens, peers=Peers(), what="scoring"
    )


def scorer_of(trainer: Any, *, features: Any = None, seed: int = 3, **settings: Any) -> ScorerTrainer:
    view, _ = compat.loader_view(trainer, trainer.train_dataset)
    return ScorerTrainer(
        Scorer(**{"new_tokens": 8, **settings}),
        subject=partial(compat.subject, trainer),
        features=features,
        dataset=trainer.train_dataset,
        view=view,
        rows=read_rows(view),
        tokenizer=trainer.processing_class,
        peers=Peers(),
        seed=seed,
    )


def waiting(trainer: Any) -> Any:
    return np.ones(len(trainer.train_dataset), dtype=np.bool_)


def train(trainer: Any, refresh: int = 0, allowance: float = ANY, **settings: Any) -> Training:
    return scorer_of(trainer, **settings).train(waiting(trainer), allowance=allowance, refresh=refresh)


def slow_features(model: Any, ids: list[int], start: int, end: int) -> FloatArray:
    """One row by itself, unpadded: mean of the answer's hidden states, and the last one."""
    modes = [module.training for module in model.modules()]
    model.eval()
    with torch.no_grad():
        hidden = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0].double().numpy()
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    answer = hidden[start:end]
    return np.concatenate([answer.sum(axis=0) / len(answer), answer[-1]])


def ids_of(trainer: Any, row: int) -> list[int]:
    return [int(token) for token in trainer.train_dataset[row]["input_ids"]]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A trainer that no test trains or changes."""
    return tiny_trainer(tmp_path_factory.mktemp("shared"), config=False, n=48)


# -- features ---------------------------------------------------------------------------------------------------------


def padded_left(collator: Callable[..., Any]) -> Callable[..., Any]:
    """The same collator with every batch rolled to the right."""

    def collate(rows: Any) -> dict[str, torch.Tensor]:
        batch = collator(rows)
        shifts = batch["attention_mask"].shape[1] - batch["attention_mask"].sum(1)
        for name, tensor in batch.items():
            if tensor.ndim == 2:
                batch[name] = torch.stack([row.roll(int(shift)) for row, shift in zip(tensor, shifts, strict=True)])
        batch["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
        return dict(batch)

    return collate


@pytest.mark.parametrize("kind", ["prompt and completion", "padding-free", "padded on the left", "chat", "lora"])
def test_features_are_those_of_a_row_by_itself(kind: str, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, "prompt and completion" if kind == "padded on the left" else kind)
    spans = read_spans(trainer.train_dataset, trainer.processing_class, [END]).cut(6)
    meter = meter_of(trainer)
    if kind == "padded on the left":
        meter.collator = padded_left(meter.collator)
    rows = np.array([5, 0, 11, 3, 8])
    read = meter.measure(rows, reader=pooled(spans), width=64).read
    for row, features in zip(rows.tolist(), read, strict=True):
        slow = slow_features(trainer.model, ids_of(trainer, row), int(spans.start[row]), int(spans.end[row]))
        np.testing.assert_allclose(features, slow, rtol=2e-4, atol=2e-6)


def test_a_row_without_a_prompt_breaks_no_batch(shared: Any) -> None:
    spans = read_spans(shared.train_dataset, shared.processing_class, [END])
    start, end = spans.start.copy(), spans.end.copy()
    start[[1, 4]], end[[1, 4]] = 0, 0
    read = meter_of(shared).measure(np.arange(6), reader=pooled(Spans(start, end)), width=64).read
    assert np.isfinite(read).all()
    for row in (0, 2, 3, 5):
        slow = slow_features(shared.model, ids_of(shared, row), int(start[row]), int(end[row]))
        np.testing.assert_allclose(read[row], slow, rtol=2e-4, atol=2e-6)


def test_the_losses_of_the_same_forward_are_not_touched(shared: Any) -> None:
    scorer = scorer_of(shared)
    reader = scorer.scores_reader(Heads(np.zeros(64), np.ones(64), np.ones((3, 64)), 1.0, 32))
    measured = meter_of(shared).measure(np.arange(8), reader=reader, width=len(HEAD_COLUMNS))
    assert_close(measured.losses, all_slow_losses(shared, range(8)))


def test_scores_of_rows_are_the_heads_on_their_features(shared: Any) -> None:
    scorer, rng = scorer_of(shared), np.random.default_rng(0)
    heads = Heads(rng.normal(size=64), rng.uniform(0.5, 2, 64), rng.normal(size=(3, 64)), 0.7, 40)
    rows = np.array([7, 2, 30])
    spans = scorer.spans
    slow = np.stack(
        [slow_features(shared.model, ids_of(shared, r), int(spans.start[r]), int(spans.end[r])) for r in rows.tolist()]
    )
    wanted = np.stack([((slow - heads.mean) / heads.scale) @ w for w in heads.weights], axis=1)
    reader = scorer.scores_reader(heads)
    np.testing.assert_allclose(
        meter_of(shared).measure(rows, reader=reader, width=len(HEAD_COLUMNS)).read, wanted, rtol=1e-3, atol=1e-5
    )
    np.testing.assert_allclose(scorer.read(heads, rows), wanted, rtol=1e-3, atol=1e-5)


# -- prompts ----------------------------------------------------------------------------------------------------------


def test_as_many_prompts_are_taken_as_the_allowance_pays_for(shared: Any) -> None:
    scorer, everything = scorer_of(shared, pairs=40), waiting(shared)
    per_pair = 3 * scorer.spans.start.mean() + 3 * 8
    for n in (36, 39.5):
        assert len(scorer.prompts(everything, allowance=n * per_pair, refresh=0)) == int(n)
    assert len(scorer.prompts(everything, allowance=0, refresh=0)) == FEWEST_PAIRS
    assert len(scorer.prompts(everything, allowance=ANY, refresh=0)) == 40  # `pairs` bounds it


def test_only_rows_that_wait_are_asked_and_each_refresh_asks_others(shared: Any) -> None:
    scorer, some = scorer_of(shared, pairs=32), waiting(shared)
    some[:8] = False
    first = scorer.prompts(some, allowance=ANY, refresh=0)
    assert first.min() >= 8
    assert len(set(first.tolist())) == 32
    assert first.tolist() == scorer.prompts(some, allowance=ANY, refresh=0).tolist()
    assert set(first.tolist()) != set(scorer.prompts(some, allowance=ANY, refresh=1).tolist())
    assert set(first.tolist()) != set(scorer_of(shared, pairs=32, seed=4).prompts(some, allowance=ANY, refresh=0))
    assert (np.diff(scorer.spans.start[first]) <= 0).all()  # long ones first: rows of a batch are alike


def test_rows_whose_answer_would_not_fit_into_the_context_are_not_asked(shared: Any) -> None:
    scorer = scorer_of(shared)
    room = 512 - int(np.median(scorer.spans.start))
    tight = scorer_of(shared, new_tokens=room)
    asked = tight.prompts(waiting(shared), allowance=ANY, refresh=0)
    assert 0 < len(asked) < len(shared.train_dataset)
    assert (tight.spans.start[asked] + room <= 512).all()


def test_rows_without_prompts_are_refused_with_what_to_do(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, config=False, train=text(task_rows(24)))
    message = r"`scorer` must have at least 10 rows with a prompt .* got 0 of 24\. Use prompt and completion columns"
    with pytest.raises(MetricError, match=message):
        train(trainer)


def test_too_few_rows_that_wait_are_refused(shared: Any) -> None:
    few = waiting(shared)
    few[NONE_LEFT - 1 :] = False
    with pytest.raises(MetricError, match=r"at least 10 rows with a prompt .* got 9 of 9"):
        scorer_of(shared).train(few, allowance=ANY, refresh=2)


# -- samples ----------------------------------------------------------------------------------------------------------


def samples(trainer: Any, refresh: int = 0, seed: int = 3, **settings: Any) -> dict[int, list[int]]:
    scorer = scorer_of(trainer, seed=seed, **settings)
    rows = scorer.prompts(waiting(trainer), allowance=ANY, refresh=0)
    return scorer._sample(rows, refresh)[0]


def test_the_same_seed_writes_the_same_answers_and_another_refresh_or_seed_writes_others(shared: Any) -> None:
    first = samples(shared)
    torch.manual_seed(99)  # the state of training has no say
    assert samples(shared) == first
    assert samples(shared, refresh=1) != first
    assert samples(shared, seed=4) != first
    assert all(len(answer) <= 8 for answer in first.values())
    assert len({tuple(answer) for answer in first.values()}) > 40  # not one answer for all


def test_answers_are_drawn_from_the_models_own_distribution_at_temperature_one(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    generate = shared.model.generate
    monkeypatch.setattr(shared.model, "generate", lambda **kw: [asked.append(kw), generate(**kw)][1])
    shared.model.generation_config.temperature = 0.1  # what a model's folder may say
    shared.model.generation_config.top_k = 5
    try:
        answers = samples(shared)
    finally:
        shared.model.generation_config.temperature = shared.model.generation_config.top_k = None
    (config,) = {id(kw["generation_config"]): kw["generation_config"] for kw in asked[:1]}.values()
    assert (config.do_sample, config.temperature, config.top_k, config.top_p) == (True, 1.0, 0, 1.0)
    assert len({tuple(answer) for answer in answers.values()}) > 40


def test_each_batch_has_a_seed_of_its_own_and_is_written_by_a_slow_sampler(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row at a time, without a cache of keys and values, by the inverse of nothing: torch's own multinomial."""
    monkeypatch.setattr(batches, "BATCH_TOKENS_CPU", 1)  # one row a batch
    seeds: list[int] = []
    manual_seed = torch.manual_seed
    monkeypatch.setattr(torch, "manual_seed", lambda seed: [seeds.append(seed), manual_seed(seed)][1])
    scorer = scorer_of(shared)
    rows = scorer.prompts(waiting(shared), allowance=ANY, refresh=0)[:4]
    written, steps = scorer._sample(rows, 7)
    seeds_of_batches = list(seeds)
    assert len(set(seeds_of_batches)) == 4
    assert steps == 4 * 8 or any(len(answer) < 8 for answer in written.values())
    shared.model.eval()
    for row, seed in zip(rows.tolist(), seeds_of_batches, strict=True):
        ids = ids_of(shared, row)[: int(scorer.spans.start[row])]
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            manual_seed(seed)
            answer: list[int] = []
            while len(answer) < 8:
                logits = shared.model(input_ids=torch.tensor([ids + answer])).logits[0, -1]
                token = int(torch.multinomial(torch.softmax(logits.float(), -1)[None], 1))
                if token == END:
                    break
                answer.append(token)
        assert written[row] == answer


def test_the_padding_of_a_batch_does_not_change_what_the_model_would_write(shared: Any) -> None:
    """Greedy, so that seeds have no say: padded batches continue each prompt as the prompt alone would be continued."""
    from transformers import GenerationConfig

    scorer = scorer_of(shared)
    rows = scorer.prompts(waiting(shared), allowance=ANY, refresh=0)[[0, 9, 30]]
    generate = shared.model.generate
    greedy = GenerationConfig(do_sample=False, max_new_tokens=8, eos_token_id=END, pad_token_id=0)

    class Greedy:
        config, generation_config = shared.model.config, shared.model.generation_config

        def generate(self, **kw: Any) -> Any:
            return generate(**{**kw, "generation_config": greedy})

    subject = compat.subject(shared)
    shared.model.eval()
    together = scorer._write(subject.__class__(Greedy(), None, subject.device, subject.place), rows, [0, 0])[0]
    for row in rows.tolist():
        ids = torch.tensor([ids_of(shared, row)[: int(scorer.spans.start[row])]])
        alone = generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=greedy)[
            0, ids.shape[1] :
        ]
        alone = alone.tolist()
        assert together[row] == (alone[: alone.index(END)] if END in alone else alone)


def test_batches_of_prompts_stay_under_the_bound_on_tokens(shared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    generate = shared.model.generate
    monkeypatch.setattr(
        shared.model, "generate", lambda **kw: [sizes.append(kw["input_ids"].numel()), generate(**kw)][1]
    )
    monkeypatch.setattr(batches, "BATCH_TOKENS_CPU", 300)
    samples(shared)
    assert len(sizes) > 3
    assert max(sizes) <= 300


def test_the_tokens_of_several_ranks_are_those_of_one(shared: Any) -> None:
    """Which rank writes a batch has no say in what it writes."""
    alone = samples(shared)
    parts: list[Any] = []
    for rank in range(2):
        scorer = scorer_of(shared)

        class Rank(Peers):
            def gather(self, value: Any) -> list[Any]:
                parts.append(value)
                return [value]

        scorer.peers = Rank(rank, 2)
        scorer._sample(scorer.prompts(waiting(shared), allowance=ANY, refresh=0), 0)
    merged = {row: answer for part in parts for answers, _ in part.values() for row, answer in answers.items()}
    assert merged == alone


# -- what comes out ---------------------------------------------------------------------------------------------------


def writes(monkeypatch: pytest.MonkeyPatch, answer: Callable[[ScorerTrainer, int], list[int]]) -> None:
    """The model writes what `answer` says."""

    def write(self: ScorerTrainer, subject: Any, rows: Any, place: Any) -> tuple[dict[int, list[int]], int]:
        del subject, place
        return {row: answer(self, row) for row in rows.tolist()}, 10 * len(rows)

    monkeypatch.setattr(ScorerTrainer, "_write", write)


def reference(scorer: ScorerTrainer, row: int) -> list[int]:
    return scorer._tokens(row)[scorer.spans.start[row] : scorer.spans.end[row]]


def test_a_model_that_writes_its_references_is_not_told_apart_and_the_order_is_not_offered(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes(monkeypatch, reference)
    training = train(shared)
    assert training.notes["accuracy"] == 0.5
    assert training.notes["tells_apart"] is False
    assert training.warnings[-1].startswith("`scorer` tells 50% of held-out pairs apart, no better than a coin: its")
    assert "not offered until the next re-scoring" in training.warnings[-1]


def test_a_model_that_writes_as_well_as_the_references_is_near_a_coin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes another row's reference of the same kind: nothing systematic is left to learn."""
    trainer = tiny_trainer(tmp_path, config=False, n=200)
    n = len(trainer.train_dataset)
    writes(monkeypatch, lambda scorer, row: reference(scorer, (row * 7 + 3) % n))
    accuracies = [train(trainer, refresh, pairs=150).notes["accuracy"] for refresh in range(3)]
    assert np.mean(accuracies) < 0.68
    assert min(accuracies) < FLOOR + 0.1


def test_a_model_that_writes_rubbish_is_told_apart(shared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    writes(monkeypatch, lambda *_: RUBBISH)
    training = train(shared)
    assert training.notes["accuracy"] > 0.9
    assert training.notes["tells_apart"] is True
    assert not any("tells" in warning for warning in training.warnings)
    assert training.notes["pairs"] == len(shared.train_dataset)


def test_empty_answers_are_left_out_and_counted(shared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    writes(monkeypatch, lambda _, row: [] if row % 4 == 0 else RUBBISH)
    training = train(shared)
    assert (training.notes["pairs"], training.notes["empty"]) == (36, 12)
    assert training.notes["sampled_tokens"] == 36 * len(RUBBISH)
    assert "`scorer`: 12 of 48 sampled answers were empty and were left out." in training.warnings


def test_a_model_that_ends_every_answer_at_once_is_refused(shared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    writes(monkeypatch, lambda _, row: RUBBISH if row < 4 else [])
    with pytest.raises(
        MetricError, match=r"must have 10 sampled answers .* got 4 that are not empty of 48.*train it f"
    ):
        train(shared)


def test_answers_that_run_to_the_limit_are_counted_and_most_of_them_are_a_warning(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 8
    writes(monkeypatch, lambda _, row: (RUBBISH * 9)[: limit if row % 4 else 3])
    training = train(shared)
    assert training.notes["cut_off"] == 36
    assert f"36 of 48 sampled answers ran to the limit of {limit} tokens and are compared up to" in training.warnings[0]
    writes(monkeypatch, lambda _, row: (RUBBISH * 9)[: 3 if row % 4 else limit])
    few = train(shared)
    assert few.notes["cut_off"] == 12
    assert not few.warnings


def test_the_bill_is_prompts_read_steps_written_and_both_answers_read_again(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes(monkeypatch, lambda *_: RUBBISH)
    scorer = scorer_of(shared, pairs=32)
    rows = scorer.prompts(waiting(shared), allowance=ANY, refresh=0)
    prompts = int(scorer.spans.start[rows].sum())
    answers = int((scorer.spans.end - scorer.spans.start)[rows].sum()) + 32 * len(RUBBISH)
    training = scorer.train(waiting(shared), allowance=ANY, refresh=0)
    assert training.tokens == prompts + 10 * 32 + (2 * prompts + answers)


def test_both_answers_of_a_pair_are_read_up_to_the_same_limit(shared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[int], int]] = []
    pair = ScorerTrainer._pair
    monkeypatch.setattr(ScorerTrainer, "_pair", lambda *args: [seen.append(pair(*args)), seen[-1]][1])
    writes(monkeypatch, lambda *_: RUBBISH * 5)
    train(shared, new_tokens=5)
    assert max(len(ids) - start for ids, start in seen) == 5
    assert all(END not in ids[start:] for ids, start in seen)


def test_the_heads_are_those_of_the_pairs_features(shared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    fit_heads = scorer_module.fit_heads
    monkeypatch.setattr(
        scorer_module, "fit_heads", lambda a, b, seed: [given.update(a=a, b=b), fit_heads(a, b, seed=seed)][1]
    )
    writes(monkeypatch, lambda _, row: RUBBISH[: 1 + row % 5])
    scorer = scorer_of(shared, pairs=32)
    scorer.train(waiting(shared), allowance=ANY, refresh=0)
    rows = scorer.prompts(waiting(shared), allowance=ANY, refresh=0)
    for place in (0, 13, 31):
        row = int(rows[place])
        start, end, ids = int(scorer.spans.start[row]), int(scorer.spans.end[row]), ids_of(shared, row)
        np.testing.assert_allclose(
            given["a"][place], slow_features(shared.model, ids, start, end), rtol=1e-3, atol=2e-6
        )
        other = [*ids[:start], *RUBBISH[: 1 + row % 5]]
        slow = slow_features(shared.model, other, start, len(other))
        np.testing.assert_allclose(given["b"][place], slow, rtol=1e-3, atol=2e-6)


def test_training_it_twice_gives_the_same_heads(shared: Any) -> None:
    first, again, other = train(shared), train(shared), train(shared, refresh=1)
    np.testing.assert_array_equal(first.heads.weights, again.heads.weights)
    assert first.notes == again.notes
    assert not np.array_equal(first.heads.weights, other.heads.weights)


# -- nothing is disturbed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [False, True])
def test_weights_gradients_moments_modes_and_random_states_are_as_before(lora: bool, tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, config=False, n=48, lora=lora, max_steps=2)
    trainer.train()
    model = trainer.model
    for weight in model.parameters():
        if weight.requires_grad:
            weight.grad = torch.full_like(weight, 0.5)
    trained = [weight.requires_grad for weight in model.parameters()]
    some = next(module for name, module in model.named_modules() if name.endswith("self_attn"))
    some.training = False  # a user may keep a part in eval mode

    def everything() -> dict[str, Any]:
        moments = trainer.optimizer.state_dict()["state"].values()
        return {
            "weights": [value.clone() for value in model.state_dict().values()],
            "gradients": [weight.grad.clone() for weight in model.parameters() if weight.grad is not None],
            "moments": [value.clone() for state in moments for value in state.values()],
            "modes": [module.training for module in model.modules()],
            "trained": [weight.requires_grad for weight in model.parameters()],
            "torch": [torch.get_rng_state()],
            "python": [random.getstate()],
            "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
            "grad on": [torch.is_grad_enabled()],
            "generation": [model.generation_config.to_dict(), getattr(model.config, "use_cache", None)],
            "hooks": [len(module._forward_pre_hooks) for module in model.modules()],
        }

    before = everything()
    assert any(before["modes"])
    training = train(trainer, pairs=32)
    after = everything()
    assert training.notes["pairs"] >= NONE_LEFT
    for what, values in before.items():
        assert len(values) == len(after[what]), what
        for a, b in zip(values, after[what], strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, what
    assert before["trained"] == trained


def test_the_adapter_writes_and_is_read_too(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, config=False, n=48, lora=True)
    before, answers = train(trainer), samples(trainer)
    for name, weight in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5, generator=torch.Generator().manual_seed(5))
    assert samples(trainer) != answers
    assert not np.array_equal(train(trainer).heads.weights, before.heads.weights)


def test_under_bfloat16_it_still_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes(monkeypatch, lambda *_: RUBBISH)
    trainer = tiny_trainer(tmp_path, config=False, n=48, bf16=True)
    trainer.model.to(torch.bfloat16)
    training = train(trainer)
    assert np.isfinite(training.heads.weights).all()
    assert training.notes["accuracy"] > 0.9


def test_a_mixture_of_experts_writes_too_and_keeps_its_routers_told(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trainer = tiny_trainer(tmp_path, config=False, n=48, model=mixtral())
    config = trainer.model.config
    assert config.output_router_logits  # trl switched them on: they are part of its loss
    assert np.isfinite(train(trainer).heads.weights).all()
    assert config.output_router_logits
    with contextlib.suppress(KeyError), undisturbed(trainer.model):
        assert not config.output_router_logits
        raise KeyError
    assert config.output_router_logits


# -- another model's hidden states ------------------------------------------------------------------------------------


def with_features(trainer: Any, folder: Path, **settings: Any) -> ScorerTrainer:
    passages: Any = Passages.__new__(Passages)
    passages.trainer, passages.known = trainer, SimpleNamespace(trusts=False)
    return scorer_of(trainer, features=passages.features(str(folder)), model=str(folder), **settings)


def test_another_models_hidden_states_can_be_read(shared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from campus_tune.demo.tiny import tiny_model

    writes(monkeypatch, lambda *_: RUBBISH)
    folder = save_same(tmp_path / "small", seed=5)
    scorer = with_features(shared, folder)
    training = scorer.train(waiting(shared), allowance=ANY, refresh=0)
    assert training.heads.weights.shape == (3, 64)
    assert training.notes["accuracy"] > 0.9
    rows = np.array([3, 40])
    small, spans = tiny_model(seed=5), scorer.spans
    slow = np.stack(
        [slow_features(small, ids_of(shared, r), int(spans.start[r]), int(spans.end[r])) for r in rows.tolist()]
    )
    np.testing.assert_allclose(scorer.read(training.heads, rows), training.heads.scores(slow), rtol=1e-2, atol=1e-3)


def test_a_feature_model_that_reads_other_tokens_is_refused(shared: Any, tmp_path: Path) -> None:
    scorer = with_features(shared, save_foreign(tmp_path / "foreign"))
    with pytest.raises(
        RecipeError, match=r"`scorer: model` must have the tokenizer of the model in training, got '.*fo"
    ):
        scorer.train(waiting(shared), allowance=ANY, refresh=0)


def test_the_plan_changes_with_whatever_the_samples_hang_on(shared: Any) -> None:
    def plan(refresh: int = 0, allowance: float = ANY, **settings: Any) -> Any:
        return scorer_of(shared, **settings).plan(waiting(shared), allowance=allowance, refresh=refresh)

    first = plan()
    assert plan() == first
    others = [plan(1), plan(allowance=0), plan(seed=4), plan(new_tokens=9), plan(pairs=33)]
    assert all(other != first for other in others)
