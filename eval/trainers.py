"""Trainers as people have them: what `eval/host_parity.py` trains with and without a curriculum.

Each is a few lines in `SETTINGS`, made of the rows, models, losses, collators and callbacks above it. All are of a size
that trains in a second on one core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from torch import nn
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
)
from trl import SFTTrainer

from campus_tune.demo.tasks import generate
from campus_tune.demo.tiny import tiny_model, tiny_tokenizer

# -- what people train ------------------------------------------------------------------------------------------------


def tasks(n: int = 24) -> list[dict[str, Any]]:
    """Prompts and completions, `n` of them drawn from all domains and levels."""
    rows = generate(-(-n // 25), seed=11)
    return [rows[i] for i in np.random.default_rng(11).permutation(len(rows))[:n]]


def prompts(n: int = 24) -> Any:
    """As trl's prompt-completion rows."""
    return Dataset.from_list([{part: row[part] for part in ("prompt", "completion")} for row in tasks(n)])


def chats() -> Any:
    """As conversations."""
    return Dataset.from_list([{"messages": [*row["prompt"], *row["completion"]]} for row in tasks()])


def texts() -> Any:
    """As bare texts."""
    rows = [{"text": f"{row['prompt'][0]['content']} {row['completion'][0]['content']}"} for row in tasks()]
    return Dataset.from_list(rows)


def tool_calls() -> Any:
    """Conversations in which a tool is called and answers."""
    function = {"name": "calculate", "description": "Work it out.", "parameters": {"type": "object", "properties": {}}}
    rows = []
    for row in tasks():
        call = {"type": "function", "function": {"name": "calculate", "arguments": {"of": row["prompt"][0]["content"]}}}
        turns = [*row["prompt"], {"role": "assistant", "content": "", "tool_calls": [call]}]
        turns += [{"role": "tool", "name": "calculate", "content": "done"}, *row["completion"]]
        rows.append({"messages": turns, "tools": [{"type": "function", "function": function}]})
    return Dataset.from_list(rows)


def coded(n: int = 24) -> Any:
    """Tokenised already, for a plain Trainer."""
    tokenizer, rows = tiny_tokenizer(), []
    for row in tasks(n):
        prompt, answer = (tokenizer(row[part][0]["content"])["input_ids"] for part in ("prompt", "completion"))
        rows.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})
    return Dataset.from_list(rows)


def listed() -> list[Any]:
    """The same as a plain list."""
    return coded().to_list()


def questions() -> Any:
    """Columns that only a formatting function understands."""
    return Dataset.from_list(
        [{"q": row["prompt"][0]["content"], "a": row["completion"][0]["content"]} for row in tasks()]
    )


TOOL_TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}\n{% endif %}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{{ m.content }}{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
)


def tokenizer_with(template: str) -> Any:
    """The tiny tokenizer under another chat template."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


# -- models and adapters ----------------------------------------------------------------------------------------------


def of_config(kind: str, **changes: Any) -> Any:
    """A model of another class with random weights, as small as the tiny Llama."""
    import transformers

    sizes = {"vocab_size": 512, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
    sizes |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **changes}
    return transformers.AutoModelForCausalLM.from_config(getattr(transformers, f"{kind}Config")(**sizes))


def mixtral(**changes: Any) -> Any:
    """A mixture of experts."""
    return of_config("Mixtral", num_local_experts=4, num_experts_per_tok=2, **changes)


def qwen_moe() -> Any:
    """Another, with a shared expert."""
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    return of_config("Qwen2Moe", shared_expert_intermediate_size=32, decoder_sparse_step=1, **experts)


def half_frozen() -> Any:
    """The tiny model, of which the embeddings and the first layer are not trained."""
    model = tiny_model()
    for part in (model.model.embed_tokens, model.model.layers[0]):
        part.requires_grad_(requires_grad=False)
    return model


def lora(**changes: Any) -> Callable[[], dict[str, Any]]:
    """An adapter with dropout on all linear layers."""
    from peft import LoraConfig

    settings: dict[str, Any] = {"r": 4, "lora_dropout": 0.2, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    return lambda: {"peft_config": LoraConfig(**{**settings, **changes})}


def prompt_tuning() -> dict[str, Any]:
    """Vectors in front of every row."""
    from peft import PromptTuningConfig

    return {"peft_config": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)}


def ia3() -> dict[str, Any]:
    """Vectors that scale keys, values and the feed-forward part."""
    from peft import IA3Config

    targets = {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]}
    return {"peft_config": IA3Config(task_type="CAUSAL_LM", **targets)}


# -- trainers, losses and collators of people's own -------------------------------------------------------------------


class MeanOfBatch(SFTTrainer):  # type: ignore[misc]  # trl is untyped here
    """A loss of one's own: the mean over the micro batch, whatever the step holds."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Cross entropy."""
        del num_items_in_batch
        labels = inputs.pop("labels")
        logits = model(**inputs, use_cache=False).logits
        loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return (loss, {"logits": logits}) if return_outputs else loss


class Weighted(SFTTrainer):  # type: ignore[misc]
    """The trainer's own loss, doubled."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Twice trl's."""
        return 2 * super().compute_loss(*args, **kwargs)


class MeanOfBatchPlain(Trainer):  # type: ignore[misc]
    """The same for a plain Trainer."""

    compute_loss = MeanOfBatch.compute_loss


def per_token(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    """A `compute_loss_func`: the summed loss over the tokens of the step."""
    logits, wanted = outputs.logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten()
    return nn.functional.cross_entropy(logits, wanted, reduction="sum") / num_items_in_batch


class Sorting:
    """A collator that puts the longest row first, as recurrent models once wanted it."""

    def __init__(self) -> None:
        self.inner = DataCollatorForSeq2Seq(tiny_tokenizer())

    def __call__(self, rows: list[Any]) -> Any:
        """The batch."""
        return self.inner(sorted(rows, key=lambda row: -len(row["input_ids"])))


class WithoutMask(Sorting):
    """A collator that gives no attention mask: padding stands at the end, and causal models do not look there."""

    def __call__(self, rows: list[Any]) -> Any:
        """The batch."""
        batch = self.inner(rows)
        del batch["attention_mask"]
        return batch


class OnlyTokens(Sorting):
    """A collator that is given all columns and takes what it wants."""

    def __call__(self, rows: list[Any]) -> Any:
        """The batch."""
        assert "number" in rows[0]
        return self.inner([{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows])


class WithMore(Sorting):
    """A collator that says positions too, and pads on the left."""

    def __call__(self, rows: list[Any]) -> Any:
        """The batch."""
        self.inner.tokenizer.padding_side = "left"
        batch = self.inner(rows)
        batch["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
        return batch


def own_optimizer(model: Any) -> dict[str, Any]:
    """An optimizer and a schedule that the user made."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return {"optimizers": (optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 3))}


class Asks(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Sets one flag of the trainer's control after some steps.

    Args:
        flag: without its `should_`.
        steps: after which.
        event: `step_end`, or another that comes once a step.
    """

    def __init__(self, flag: str, *steps: int, event: str = "step_end") -> None:
        self.flag, self.steps = f"should_{flag}", steps
        setattr(self, f"on_{event}", self._ask)

    def _ask(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        del args, kwargs
        if state.global_step in self.steps:
            setattr(control, self.flag, True)
        return control


class Pulls(TrainerCallback):  # type: ignore[misc]
    """Pulls weights, gradients and the learning rate about, as regularisers and schedules of one's own do."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Gradients shrink."""
        del args, state, control, kwargs
        for weight in model.parameters():
            if weight.grad is not None:
                weight.grad.mul_(0.9)

    def on_step_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        """The rate falls."""
        del args, control, kwargs
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 / state.global_step


# -- the settings -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One trainer.

    Args:
        args: of SFTConfig, or TrainingArguments.
        rows: makes the training set.
        model: makes the model.
        trainer: its class.
        more: makes further arguments of the trainer.
        by_model: makes further ones from the model.
        before: makes callbacks that come before ours.
        after: makes callbacks that come after ours.
        campus: changes of the recipe.
        refused: what the product says where it must refuse, as a pattern.
    """

    args: Mapping[str, Any] = field(default_factory=dict)
    rows: Callable[[], Any] = prompts
    model: Callable[[], Any] = tiny_model
    trainer: type = SFTTrainer
    more: Callable[[], dict[str, Any]] = dict
    by_model: Callable[[Any], dict[str, Any]] = lambda _: {}
    before: Callable[[], list[Any]] = list
    after: Callable[[], list[Any]] = list
    campus: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""


def eval_rows() -> dict[str, Any]:
    """Rows that the trainer evaluates on."""
    return {"eval_dataset": prompts(40).select(range(24, 40))}


def seq2seq() -> dict[str, Any]:
    """A collator that pads labels."""
    return {"data_collator": DataCollatorForSeq2Seq(tiny_tokenizer())}


def counted(found: Any) -> dict[str, float]:
    """A metric of one's own."""
    return {"rows": float(len(found.label_ids))}


EVALUATED = {"eval_strategy": "steps", "eval_steps": 2}
SAVED = {"save_strategy": "steps", "save_steps": 4}
MEASURED = {  # a curriculum that asks the model before, between and after the steps
    "metrics": ["length", "mtld", "loss", {"name": "scorer", "new_tokens": 4, "pairs": 32}],
    "selector": "lowest_perplexity", "mix": 0.2, "handover": 0.9, "budget": 2.0, "rescore": 1,
}  # fmt: skip

SETTINGS: dict[str, Setting] = {
    # rows
    "prompt and completion": Setting(),
    "all tokens": Setting(args={"completion_only_loss": False}),
    "chats": Setting(rows=chats),
    "assistant only": Setting(rows=chats, args={"assistant_only_loss": True}),
    "texts": Setting(rows=texts),
    "formatting_func": Setting(rows=questions, more=lambda: {"formatting_func": lambda row: row["q"] + " " + row["a"]}),
    "tool calls": Setting(rows=tool_calls, more=lambda: {"processing_class": tokenizer_with(TOOL_TEMPLATE)}),
    "two data sets": Setting(rows=lambda: concatenate_datasets([chats(), chats().shuffle(seed=1)])),
    "cut rows": Setting(args={"max_length": 40}),
    "truncated and tokenised before": Setting(rows=coded, args={"max_length": 24}),
    # adapters and models
    "lora": Setting(more=lora()),
    "rslora": Setting(more=lora(use_rslora=True)),
    "dora": Setting(more=lora(use_dora=True)),
    "lora, some layers, bias": Setting(more=lora(target_modules=["q_proj", "v_proj"], bias="lora_only")),
    "lora, modules_to_save": Setting(
        more=lora(modules_to_save=["lm_head"]), model=lambda: of_config("Llama", tie_word_embeddings=False)
    ),
    "lora, pissa": Setting(more=lora(init_lora_weights="pissa_niter_2")),
    "ia3": Setting(more=ia3),
    "prompt tuning": Setting(more=prompt_tuning),
    "half frozen": Setting(model=half_frozen),
    "untied, dropout in attention": Setting(
        model=lambda: of_config("Llama", tie_word_embeddings=False, attention_dropout=0.1)
    ),
    "gpt2 with dropout": Setting(model=lambda: of_config("GPT2", n_embd=32, n_layer=2, n_head=4, n_positions=512)),
    "mixtral": Setting(model=mixtral),
    "mixtral, lora": Setting(model=mixtral, more=lora(target_modules=["q_proj", "v_proj"])),
    "mixtral, accumulated": Setting(model=mixtral, args={"gradient_accumulation_steps": 3}),
    "qwen2 moe": Setting(model=qwen_moe),
    "plain mixtral": Setting(
        trainer=Trainer, rows=coded, more=seq2seq, model=lambda: mixtral(output_router_logits=True)
    ),
    # losses
    "a mean per device, accumulated": Setting(
        args={"average_tokens_across_devices": False, "gradient_accumulation_steps": 2}
    ),
    "dft": Setting(args={"loss_type": "dft"}),
    "dft, lora, accumulated": Setting(args={"loss_type": "dft", "gradient_accumulation_steps": 2}, more=lora()),
    "label smoothing": Setting(args={"label_smoothing_factor": 0.1}),
    "NEFTune": Setting(args={"neftune_noise_alpha": 5.0}),
    "compute_loss_func": Setting(more=lambda: {"compute_loss_func": per_token}),
    "own compute_loss": Setting(trainer=MeanOfBatch),
    "own compute_loss, accumulated": Setting(trainer=MeanOfBatch, args={"gradient_accumulation_steps": 3}),
    "own compute_loss around trl's": Setting(trainer=Weighted, args={"gradient_accumulation_steps": 2}),
    # batches
    "micro batch of 1": Setting(args={"per_device_train_batch_size": 1}),
    "micro batch of 7, short last": Setting(args={"per_device_train_batch_size": 7}),
    "accumulation": Setting(args={"gradient_accumulation_steps": 3}),
    "accumulation, short last step": Setting(
        rows=lambda: prompts(22), args={"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    ),
    "accumulation, fewer rows than micro batches": Setting(
        rows=lambda: prompts(26), args={"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}
    ),
    "mixtral, fewer rows than micro batches": Setting(
        model=mixtral,
        rows=lambda: prompts(26),
        args={"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3},
    ),
    "drop_last": Setting(rows=lambda: prompts(26), args={"dataloader_drop_last": True}),
    "workers": Setting(args={"dataloader_num_workers": 2, "gradient_accumulation_steps": 2}),
    "workers that stay": Setting(args={"dataloader_num_workers": 2, "dataloader_persistent_workers": True}),
    "data_seed": Setting(args={"data_seed": 9}),
    "padding_free": Setting(args={"padding_free": True, "max_length": None}),
    "batching: flat": Setting(campus={"batching": "flat"}, args={"gradient_accumulation_steps": 2}),
    "batching: plain": Setting(campus={"batching": "plain"}, args={"gradient_accumulation_steps": 2}),
    "a padding multiple": Setting(args={"pad_to_multiple_of": 16}),
    # how long, and what else the trainer does
    "max_steps": Setting(args={"max_steps": 8}),
    "a fraction of an epoch": Setting(args={"num_train_epochs": 1.4, "gradient_accumulation_steps": 2}),
    "evaluation": Setting(args={**EVALUATED, "eval_on_start": True}, more=eval_rows),
    "evaluation each epoch": Setting(args={"eval_strategy": "epoch", "logging_strategy": "epoch"}, more=eval_rows),
    "checkpoints": Setting(args=SAVED, more=lora()),
    "best checkpoint": Setting(
        args={**EVALUATED, "save_strategy": "steps", "save_steps": 4, "load_best_model_at_end": True}, more=eval_rows
    ),
    "logging every 3, first step too": Setting(args={"logging_steps": 3, "logging_first_step": True}),
    "tokens seen": Setting(args={"include_num_input_tokens_seen": "all"}),
    "tokens seen, padding left out": Setting(args={"include_num_input_tokens_seen": "non_padding"}),
    "no clipping": Setting(args={"max_grad_norm": 0.0}),
    "hard clipping": Setting(args={"max_grad_norm": 0.05}),
    "adafactor, cosine": Setting(args={"optim": "adafactor", "lr_scheduler_type": "cosine", "warmup_steps": 3}),
    "two evaluation sets": Setting(
        args=EVALUATED, more=lambda: {"eval_dataset": {"a": prompts(8), "b": prompts(40).select(range(30, 40))}}
    ),
    "a plateau": Setting(args={**EVALUATED, "lr_scheduler_type": "reduce_lr_on_plateau"}, more=eval_rows),
    "own optimizer": Setting(by_model=own_optimizer),
    "gradient checkpointing": Setting(args={"gradient_checkpointing": True}),
    "gradient checkpointing, lora": Setting(args={"gradient_checkpointing": True}, more=lora()),
    "bf16": Setting(args={"bf16": True}),
    "bf16, lora": Setting(args={"bf16": True}, more=lora()),
    # curricula that measure: whatever they ask the model, training goes on as if they had not
    "measured, lora": Setting(campus=MEASURED, more=lora()),
    "measured, NEFTune, gradient checkpointing, bf16": Setting(
        campus=MEASURED, args={"neftune_noise_alpha": 5.0, "gradient_checkpointing": True, "bf16": True}
    ),
    "measured, mixtral, evaluation, checkpoints": Setting(
        campus=MEASURED, model=mixtral, args={**EVALUATED, **SAVED, "gradient_accumulation_steps": 2}, more=eval_rows
    ),
    "measured, plain, label smoothing, tokens seen": Setting(
        campus=MEASURED,
        trainer=Trainer,
        rows=coded,
        more=seq2seq,
        args={"label_smoothing_factor": 0.1, "include_num_input_tokens_seen": "all"},
    ),
    # callbacks
    **{
        f"asks for {flag}, {place}": Setting(
            args={**EVALUATED, **SAVED, "logging_steps": 4, "eval_steps": 4}, more=eval_rows,
            **{place: lambda flag=flag: [Asks(flag, 3, 7)]},
        )
        for flag in ("log", "evaluate", "save")
        for place in ("before", "after")
    },
    "asks for all, at other events": Setting(
        args={"logging_steps": 5},
        more=eval_rows,
        after=lambda: [
            Asks("log", 2, event="step_begin"), Asks("evaluate", 3, event="pre_optimizer_step"),
            Asks("save", 5, event="epoch_end"), Asks("log", 6, event="epoch_begin"),
        ],
    ),
    **{
        f"stops, {place}": Setting(**{place: lambda: [Asks("training_stop", 8)]}) for place in ("before", "after")
    },
    **{
        f"ends the epoch, {place}": Setting(**{place: lambda: [Asks("epoch_stop", 4)]}) for place in ("before", "after")
    },
    "early stopping": Setting(
        args={**EVALUATED, "save_strategy": "steps", "save_steps": 2, "load_best_model_at_end": True,
              "metric_for_best_model": "entropy", "num_train_epochs": 3},
        more=eval_rows, after=lambda: [EarlyStoppingCallback(1)],
    ),
    "callbacks that pull": Setting(before=lambda: [Pulls()], after=lambda: [Pulls()]),
    # plain trainers and own collators
    "plain": Setting(trainer=Trainer, rows=coded, more=seq2seq, args={"gradient_accumulation_steps": 2}),
    "plain, a list of rows": Setting(trainer=Trainer, rows=listed, more=seq2seq),
    "plain, a torch format": Setting(trainer=Trainer, rows=lambda: coded().with_format("torch"), more=seq2seq),
    "plain, other columns kept": Setting(
        trainer=Trainer,
        rows=lambda: coded().add_column("number", range(24)),
        more=lambda: {"data_collator": OnlyTokens()},
        args={"remove_unused_columns": False},
    ),
    "plain, metrics": Setting(
        trainer=Trainer,
        rows=coded,
        args=EVALUATED,
        more=lambda: {**seq2seq(), "eval_dataset": coded(8), "compute_metrics": counted},
    ),
    "plain, language modelling": Setting(
        trainer=Trainer,
        rows=lambda: coded().remove_columns("labels"),
        more=lambda: {"data_collator": DataCollatorForLanguageModeling(tiny_tokenizer(), mlm=False)},
    ),
    "plain, own compute_loss": Setting(trainer=MeanOfBatchPlain, rows=coded, more=seq2seq),
    "plain, label smoothing": Setting(trainer=Trainer, rows=coded, more=seq2seq, args={"label_smoothing_factor": 0.1}),
    "plain, a mean per device": Setting(
        trainer=Trainer, rows=coded, more=seq2seq, args={"average_tokens_across_devices": False}
    ),
    "a collator that sorts": Setting(rows=coded, more=lambda: {"data_collator": Sorting()}),
    "a collator without a mask": Setting(trainer=Trainer, rows=coded, more=lambda: {"data_collator": WithoutMask()}),
    "a collator that says more": Setting(rows=coded, more=lambda: {"data_collator": WithMore()}),
}  # fmt: skip
