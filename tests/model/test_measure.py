from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

from campus_tune.data.prepared import read_rows
from campus_tune.demo.tiny import tiny_model
from campus_tune.model import batches, compat, measure
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.model.row_sums import batch_sums
from campus_tune.run.callback import CampusCallback
from campus_tune.words.errors import MetricError
from campus_tune.words.types import RowLosses
from tests.losses import losses_of
from tests.run.other_models import PROMPTS, chat, text, with_prompts
from tests.run.tiny_run import RECIPE, dataset, task_rows, tiny_trainer, tokenizer
from tests.run.witness import Witness, all_slow_losses, assert_close, events, flat, step_lines

Make = Callable[..., Any]


def meter_of(trainer: Any, what: str = "measuring") -> LossMeter:
    view, collator = compat.loader_view(trainer, trainer.train_dataset)
    return LossMeter(partial(compat.subject, trainer), view, collator, read_rows(view).tokens, peers=Peers(), what=what)


def sft(out: Path, kind: str) -> Any:
    settings: dict[str, dict[str, Any]] = {
        "prompt and completion": {},
        "text": {"train": text(task_rows(20))},
        "chat, assistant only": {"train": chat(task_rows(40)), "assistant_only_loss": True},
        "lora": {"lora": True},
        "padding-free": {"padding_free": True, "max_length": None},
    }
    return tiny_trainer(out, config=False, **{"n": 20, **settings[kind]})


def plain(out: Path, model: Any = None) -> Trainer:
    """A plain Trainer: it knows no answers, every token but the first carries loss."""
    tok = tokenizer()
    rows = dataset([{"input_ids": tok(row["text"])["input_ids"]} for row in text(task_rows(20))])
    args = TrainingArguments(str(out), use_cpu=True, report_to="none", per_device_train_batch_size=4)
    return Trainer(
        model or tiny_model(),
        args=args,
        train_dataset=rows,
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    )


def assert_as_slow(trainer: Any, rows: Any = range(20)) -> RowLosses:
    rows = np.array(list(rows), dtype=np.int64)
    measured = meter_of(trainer).losses(rows)
    assert_close(measured, all_slow_losses(trainer, rows))
    return measured


@pytest.mark.parametrize("kind", ["prompt and completion", "text", "chat, assistant only", "lora", "padding-free"])
def test_losses_are_those_of_a_slow_plain_forward(kind: str, tmp_path: Path) -> None:
    trainer = sft(tmp_path, kind)
    if kind == "lora":
        for name, weight in trainer.model.named_parameters():  # fresh adapters change nothing
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(5))
    measured = assert_as_slow(trainer)
    if kind == "chat, assistant only":
        assert measured.tokens.sum() < read_rows(trainer.train_dataset).tokens.sum() / 2


@pytest.mark.parametrize("kind", PROMPTS)
def test_virtual_tokens_in_front_of_a_row_are_none_of_its_own(kind: str, tmp_path: Path) -> None:
    assert_as_slow(tiny_trainer(tmp_path, config=False, n=20, model=with_prompts(kind)))


@pytest.mark.filterwarnings("ignore:Position ids are not supported")  # peft's, of any generate()
@pytest.mark.parametrize("kind", ["prompt tuning", "prefix tuning"])
def test_prompt_learning_trains_under_a_curriculum_that_measures(kind: str, tmp_path: Path) -> None:
    scorer = {"name": "scorer", "new_tokens": 2, "pairs": 32}
    config = RECIPE | {"metrics": ["length", "loss", scorer], "selector": "lowest_perplexity", "budget": 9.0}
    tiny_trainer(tmp_path, n=16, model=with_prompts(kind), config=config | {"scores": "none"}).train()
    assert events(tmp_path, "end")[0]["audit"] == {"checked": 4, "passed": 4, "labels": True}
    assert "perplexity" in events(tmp_path, "decision")[0]["offers"][0]


def soft_capped() -> Any:
    """A model that does something after its head, on which every logit hangs."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        final_logit_softcapping=0.5,
        initializer_range=0.5,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    return Gemma2ForCausalLM(config)


@pytest.mark.parametrize("model", [tiny_model, soft_capped])
def test_losses_of_a_plain_trainer_are_those_of_a_slow_plain_forward(tmp_path: Path, model: Make) -> None:
    assert_as_slow(plain(tmp_path, model()))


@pytest.mark.parametrize(("model", "at_once"), [(tiny_model, 7), (soft_capped, 9)])
def test_no_more_logits_exist_at_a_time_than_the_bound_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Make, at_once: int
) -> None:
    trainer = plain(tmp_path, model())
    monkeypatch.setattr(measure, "LOGIT_BYTES", 4 * 512 * 9)  # logits of nine places
    monkeypatch.setattr(measure, "TILE", 7)
    sizes: list[int] = []
    forward = trainer.model.lm_head.forward
    monkeypatch.setattr(trainer.model.lm_head, "forward", lambda x: [sizes.append(x.shape[:-1].numel()), forward(x)][1])
    measured = meter_of(trainer).losses(np.arange(20))
    assert max(sizes) == at_once
    monkeypatch.undo()
    assert_close(measured, all_slow_losses(trainer, range(20)))


def test_a_reader_sees_the_hidden_states_of_each_row_in_the_same_forward(tmp_path: Path) -> None:
    trainer = sft(tmp_path, "prompt and completion")
    forwards: list[int] = []
    trainer.model.register_forward_pre_hook(lambda *_: forwards.append(1))
    rows = np.array([4, 17, 0, 9])

    def last_token(hidden: torch.Tensor, batch: dict[str, Any], positions: Any) -> torch.Tensor:
        assert set(positions) == set(rows)
        last = batch["attention_mask"].sum(1) - 1
        return hidden[torch.arange(len(hidden)), last]

    measured = meter_of(trainer).measure(rows, reader=last_token, width=32)
    assert len(forwards) == 1
    assert_close(measured.losses, all_slow_losses(trainer, rows))
    for row, read in zip(rows, measured.read, strict=True):
        with torch.no_grad():
            ids = torch.tensor([trainer.train_dataset[int(row)]["input_ids"]])
            hidden = trainer.model.eval().model(ids).last_hidden_state[0, -1]
        np.testing.assert_allclose(read, hidden.numpy(), rtol=1e-4, atol=1e-6)


def test_rows_come_back_in_the_sequence_they_were_asked_for_repeats_included(tmp_path: Path) -> None:
    trainer = sft(tmp_path, "prompt and completion")
    assert_as_slow(trainer, [7, 3, 3, 19, 0])


def test_no_batch_is_larger_than_the_bound_on_its_padded_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH_TOKENS_CPU", 150)
    trainer = sft(tmp_path, "prompt and completion")
    sizes: list[int] = []
    trainer.model.register_forward_pre_hook(lambda _, __, kw: sizes.append(kw["input_ids"].numel()), with_kwargs=True)
    meter_of(trainer).losses(np.arange(20))
    longest = int(read_rows(trainer.train_dataset).tokens.max())
    assert 3 < len(sizes) < 20
    assert max(sizes) <= max(150, longest)


def test_sums_of_a_flat_batch_are_those_of_its_rows(tmp_path: Path) -> None:
    model = plain(tmp_path).model.eval()
    ids = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]
    labels = [[-100, -100, 7, 8], [-100, 10], [-100, 12, 13]]
    tokens = torch.tensor([flat(ids)])
    places = torch.tensor([[place for row in ids for place in range(len(row))]])
    with torch.no_grad():
        together = batch_sums(
            model(input_ids=tokens, position_ids=places),
            {"labels": torch.tensor([flat(labels)]), "position_ids": places},
        )
        for i in range(3):
            alone = batch_sums(model(input_ids=torch.tensor([ids[i]])), {"labels": torch.tensor([labels[i]])})
            assert [float(part[i]) for part in together] == pytest.approx([float(part[0]) for part in alone], rel=1e-5)


def test_losses_that_are_not_finite_are_refused_with_their_rows(tmp_path: Path) -> None:
    trainer = sft(tmp_path, "prompt and completion")
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(float("nan"))
    message = r"`probes`: the loss of every row must be finite, got NaN or inf on 3 of 3 \(rows 4, 1, 2\).*has diverged"
    with pytest.raises(MetricError, match=message):
        meter_of(trainer, "probes").losses(np.array([4, 1, 2]))


@pytest.mark.parametrize("sharded", [False, True])
def test_ranks_share_the_rows_and_merge_what_they_measured(
    sharded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = sft(tmp_path, "prompt and completion")
    monkeypatch.setattr(batches, "BATCH_TOKENS_CPU", 150)
    forwards = [0]
    trainer.model.register_forward_pre_hook(lambda *_: forwards.__setitem__(0, forwards[0] + 1))
    alone = meter_of(trainer).losses(np.arange(20))
    forwards_alone = forwards[0]
    parts, counts = [], []
    for rank in range(3):
        meter = meter_of(trainer)
        meter.peers, whole = Peers(rank, 3), meter.subject
        meter.subject = lambda whole=whole: replace(whole(), sharded=sharded)
        before = forwards[0]
        monkeypatch.setattr("accelerate.utils.gather_object", lambda mine: [parts.append(mine[0]), mine[0]][1:])
        meter.losses(np.arange(20))
        counts.append(forwards[0] - before)
    if sharded:
        assert len(set(counts)) == 1  # a sharded model waits for the last
    else:
        assert sum(counts) == forwards_alone
    monkeypatch.setattr("accelerate.utils.gather_object", lambda _: parts)
    columns = {name: np.zeros_like(values) for name, values in vars(alone).items()}
    for name, values in parts[1][0].items():  # what rank 1 knows
        columns.setdefault(name, np.zeros((20, *values.shape[1:])))[parts[1][1]] = values
    merged = Peers(1, 3).merge(columns, parts[1][1])
    for name, values in vars(alone).items():
        np.testing.assert_array_equal(merged[name], values)
    known = [int(measured.sum()) for _, measured in parts]
    assert sum(known) >= 20 > max(known)


def test_one_process_is_its_own_leader() -> None:
    losses = losses_of(np.ones(2), np.ones(2, dtype=np.int64), np.zeros(2, dtype=np.int64))
    assert Peers().leads
    assert not Peers(1, 2).leads
    assert Peers().from_leader("mine") == "mine"
    columns = vars(losses)
    assert Peers().merge(columns, losses.tokens > 0) is columns


# -- nothing leaks ----------------------------------------------------------------------------------------------------


def frozen(trainer: Any) -> dict[str, Any]:
    """Everything that measuring could disturb."""
    tensors = {f"weight {name}": value for name, value in trainer.model.state_dict().items()}
    tensors |= {
        f"grad {name}": value.grad for name, value in trainer.model.named_parameters() if value.grad is not None
    }
    for i, moments in enumerate(trainer.optimizer.state_dict()["state"].values()):
        tensors |= {f"optimizer {i} {name}": value for name, value in moments.items()}
    return {
        **{name: value.detach().clone() for name, value in tensors.items()},
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "modes": {name: module.training for name, module in trainer.model.named_modules()},
        "metrics": copy.deepcopy(dict(getattr(trainer, "_metrics", {}))),
        "tokens": getattr(trainer, "_total_train_tokens", None),
        "control": copy.deepcopy(vars(trainer.control)),
        "state": copy.deepcopy({k: v for k, v in vars(trainer.state).items() if k != "stateful_callbacks"}),
        "flos": trainer.current_flos,
        "grad on": torch.is_grad_enabled(),
    }


class MeasureInStep(TrainerCallback):
    """Measures rows between backward and optimizer step, and at a step's end, and compares everything."""

    def __init__(self) -> None:
        self.trainer: Any = None
        self.compared: set[str] = set()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, state, control, kwargs
        self._compare()

    on_step_end = on_pre_optimizer_step

    def _compare(self) -> None:
        before = frozen(self.trainer)
        meter = meter_of(self.trainer)
        collate = meter.collator
        draws = (random.random, np.random.rand, lambda: torch.rand(1))  # as a collator with noise does
        meter.collator = lambda rows: [draw() for draw in draws] and collate(rows)
        meter.losses(np.arange(8))
        after = frozen(self.trainer)
        assert before.keys() == after.keys()
        assert not all(before["modes"].values())  # nor was it disturbed by the run's own measurements
        for name, value in before.items():
            same = torch.equal(value, after[name]) if isinstance(value, torch.Tensor) else value == after[name]
            assert same, name
            self.compared.add(name.split()[0])


@pytest.mark.parametrize("tiled", [True, False])
def test_nothing_leaks_into_training(tiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = MeasureInStep()
    trainer = tiny_trainer(tmp_path, lora=True, n=8, include_num_input_tokens_seen="all", callbacks=[spy])
    spy.trainer = trainer
    if not tiled:
        monkeypatch.setattr(measure.AnswerHead, "ends_the_model", lambda *_: False)
    frozen_part = next(module for name, module in trainer.model.named_modules() if name.endswith("self_attn"))
    monkeypatch.setattr(frozen_part, "train", lambda _=True: frozen_part)  # a module that a user keeps in eval mode
    for module in frozen_part.modules():
        module.training = False
    trainer.train()
    assert {"weight", "grad", "optimizer", "torch", "modes", "metrics", "control", "state"} <= spy.compared


def lowest(selector: Any, out: Path, **settings: Any) -> Any:
    recipe = RECIPE | {"metrics": ["-length", "length"], "stages": 2, "selector": selector, "budget": 2.0}
    trainer = tiny_trainer(out, config=recipe, lora=True, n=32, **settings)
    witness = Witness(trainer)
    trainer.train()
    return witness.steps, step_lines(trainer, "loss", "grad_norm", "entropy"), trainer


def test_training_with_probes_is_bit_for_bit_training_without(tmp_path: Path) -> None:
    steps, lines, trainer = lowest("round_robin", tmp_path / "without")
    probed_steps, probed_lines, probed = lowest("round_robin", tmp_path / "with", probes=20)
    assert len(events(tmp_path / "with", "probes")) == 3
    assert probed_steps == steps
    assert probed_lines == lines
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, probed.model.state_dict()[name])


def test_training_with_selection_is_bit_for_bit_training_the_same_rows_without(tmp_path: Path) -> None:
    steps, lines, _ = lowest("lowest_perplexity", tmp_path / "measured")
    decisions = events(tmp_path / "measured", "decision")
    chosen = {decision["chosen"] for decision in decisions}
    assert all(decision["selection_tokens"] > 0 for decision in decisions[:1])
    assert len(chosen) == 1, "this test needs a run that chose one sub-curriculum throughout"
    again, again_lines, _ = lowest({"name": "fixed", "order": chosen.pop()}, tmp_path / "fixed")
    assert "selection_tokens" not in events(tmp_path / "fixed", "decision")[0]
    assert again == steps
    assert again_lines == lines


# -- the training losses that come for free ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs by kind, each with the rows its model saw."""
    runs = {}
    kinds: dict[str, dict[str, Any]] = {
        "padded": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4},
        "flat": {"config": RECIPE | {"batching": "flat"}, "gradient_accumulation_steps": 2},
    }
    for kind, settings in kinds.items():
        out = tmp_path_factory.mktemp("free")
        trainer = tiny_trainer(out, n=30, **settings)
        witness = Witness(trainer)
        trainer.train()
        runs[kind] = (out, trainer, witness)
    return runs


@pytest.mark.parametrize("kind", ["padded", "flat"])
def test_a_stages_train_loss_is_the_trainers_own(kind: str, free: Any) -> None:
    out, trainer, witness = free[kind]
    per_step = trainer.args.gradient_accumulation_steps
    counted = np.add.reduceat(witness.counted, np.arange(0, len(witness.counted), per_step))
    logged = np.array([loss for (loss,) in step_lines(trainer, "loss")])
    ends = events(out, "stage_end")
    assert len(ends) == 3
    first = 0
    for end in ends:
        tokens, loss = counted[first : end["step"]], logged[first : end["step"]]
        assert end["train_loss"] == pytest.approx(float((tokens * loss).sum() / tokens.sum()), abs=1e-5)
        first = end["step"]


@pytest.mark.parametrize("kind", ["padded", "flat"])
def test_the_rows_with_training_losses_are_the_planned_rows(kind: str, free: Any) -> None:
    import pyarrow.parquet as pq

    out, _, witness = free[kind]
    files = sorted((out / "curriculum" / "training_losses").glob("*.parquet"))
    tables = [pq.read_table(path).to_pydict() for path in files]
    steps = [decision["step"] for decision in events(out, "decision")] + [len(witness.steps)]
    assert len(tables) == len(steps) - 1
    for table, first, last in zip(tables, steps, steps[1:], strict=False):
        assert sorted(table["row"]) == sorted(flat(witness.steps[first:last]))
        assert all(nll > 0 and tokens > 0 for nll, tokens in zip(table["nll_sum"], table["tokens"], strict=True))


def test_a_trainer_without_per_token_losses_trains_without_them(tmp_path: Path) -> None:
    class Hidden(Trainer):
        """Keeps the labels from the model, as a trainer with its own loss does."""

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
            del kwargs
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            wanted = labels[:, 1:].reshape(-1)
            loss = torch.nn.functional.cross_entropy(outputs.logits[:, :-1].reshape(len(wanted), -1), wanted)
            return (loss, outputs) if return_outputs else loss

    base = plain(tmp_path)
    trainer = Hidden(
        tiny_model(),
        args=base.args,
        train_dataset=base.train_dataset,
        data_collator=base.data_collator,
        processing_class=tokenizer(),
        callbacks=[CampusCallback(RECIPE)],
    )
    trainer.args.num_train_epochs = 1
    trainer.train()
    assert all("train_loss" not in end for end in events(tmp_path, "stage_end"))
    assert events(tmp_path, "end")[0]["audit"]["passed"] == 5
