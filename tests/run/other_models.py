"""Models that are not the one in training, made in a second, and rows of every kind for them to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from campus_tune.demo.tiny import tiny_model
from campus_tune.words.types import Json
from tests.run.tiny_run import task_rows, tiny_trainer, tokenizer

OTHER_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '[' + message['role'] + '] ' + message['content'] + ' ;\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"
)


def chat(rows: Any) -> list[Json]:
    """Two rounds of question and answer per row."""
    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    return [{"messages": [*a["prompt"], *a["completion"], *b["prompt"], *b["completion"]]} for a, b in pairs]


def plain(rows: Any) -> list[Json]:
    """Prompt and completion without roles."""
    return [
        {"prompt": row["prompt"][0]["content"] + " ", "completion": row["completion"][0]["content"]} for row in rows
    ]


def text(rows: Any) -> list[Json]:
    """One text, all of which is trained."""
    return [{"text": row["prompt"] + row["completion"]} for row in plain(rows)]


def trainer_of(out: Path, kind: str, n: int = 12) -> Any:
    """A trainer without a curriculum over `n` rows of one kind."""
    rows = task_rows(2 * n)
    settings: dict[str, Json] = {
        "prompt and completion": {"n": n},
        "plain prompt and completion": {"train": plain(rows[:n])},
        "text": {"train": text(rows[:n])},
        "chat": {"train": chat(rows)},
        "chat, assistant only": {"train": chat(rows), "assistant_only_loss": True},
        "lora": {"n": n, "lora": True},
        "padding-free": {"n": n, "padding_free": True, "max_length": None},
    }
    return tiny_trainer(out, config=False, **settings[kind])


def other_tokenizer(template: str | None = OTHER_TEMPLATE) -> Any:
    """Words and single characters of punctuation, learnt from other demo rows than `task_rows` gives by default."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel(unk_token="<unk>"))
    split = pre_tokenizers.Split(Regex(r"\s+|\w+|[^\w\s]"), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), split])
    special = ["<unk>", "<s>", "</s>"]
    texts = [message["content"] for row in task_rows(100, seed=9) for message in row["prompt"] + row["completion"]]
    texts += ["[user] [assistant] [system] ;\n"]
    backend.train_from_iterator(
        texts, trainers.WordLevelTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    made = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    made.chat_template = template
    return made


def save_same(folder: Path, seed: int = 5) -> Path:
    """A model of other weights with the trainer's tokenizer."""
    tiny_model(seed=seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def save_foreign(folder: Path, template: str | None = OTHER_TEMPLATE) -> Path:
    """A model with a tokenizer and a template of its own."""
    tiny_model(vocab_size=400, seed=6).save_pretrained(folder)
    other_tokenizer(template).save_pretrained(folder)
    return folder


def save_reward(folder: Path, labels: tuple[str, ...] = ("reward",), *, tok: Any = None, pad: int | None = 0) -> Path:
    """A sequence classifier with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        pad_token_id=pad,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        LlamaForSequenceClassification(config).save_pretrained(folder)
    (tokenizer() if tok is None else tok).save_pretrained(folder)
    return folder


PROMPTS = {  # kinds of prompt learning that trl trains: in front of the embeddings, or as keys and values
    "prompt tuning": ("PromptTuningConfig", {}),
    "p-tuning": ("PromptEncoderConfig", {"encoder_hidden_size": 16}),
    "prefix tuning": ("PrefixTuningConfig", {}),
}


def with_prompts(kind: str) -> Any:
    """The tiny model behind four virtual tokens, learnt in one of the ways of `PROMPTS`."""
    import peft
    import torch

    from campus_tune.demo.tiny import tiny_model

    name, settings = PROMPTS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(peft, name)(task_type="CAUSAL_LM", num_virtual_tokens=4, **settings)
        return peft.get_peft_model(tiny_model(), config)


def tiny_moe() -> Any:
    """A Mixtral of four experts whose router's auxiliary loss is trained."""
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=512,
        output_router_logits=True,
        router_aux_loss_coef=0.1,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MixtralForCausalLM(config)
