"""Trainers, models and rows of other tasks: refused when a curriculum is put on, by what they are. The others train."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
import trl
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    DataCollatorForLanguageModeling,
    LlamaConfig,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
)
from trl import SFTTrainer

import campus_tune
from campus_tune.cli import score, sft
from campus_tune.demo.tiny import tiny_model
from campus_tune.model import compat
from campus_tune.model.model_tasks import task_of_config, task_of_model
from campus_tune.model.other_tasks import refuse_other_model, refuse_other_rows, refuse_other_task
from campus_tune.run.attach import refuse
from campus_tune.words.errors import RecipeError, TrainerError
from tests.run.other_models import save_reward
from tests.run.tiny_run import RECIPE, dataset, task_rows, tiny_trainer, tokenizer
from tests.run.witness import events

Make = Callable[..., Any]
SIZES: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
LLAMA = LlamaConfig(vocab_size=512, pad_token_id=0, bos_token_id=1, eos_token_id=2, **SIZES)
BERT = BertConfig(vocab_size=512, **SIZES)
T5 = T5Config(vocab_size=512, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0)


def coded(n: int = 8) -> list[dict[str, Any]]:
    return [{"input_ids": list(range(9, 13 + k)), "labels": list(range(9, 13 + k))} for k in range(n)]


# -- models ------------------------------------------------------------------------------------------------------------

OTHERS: dict[str, tuple[Make, str]] = {
    "one label a row": (lambda: AutoModelForSequenceClassification.from_config(LLAMA), "sequence classification"),
    "one label a token": (lambda: AutoModelForTokenClassification.from_config(LLAMA), "token classification"),
    "two places": (lambda: AutoModelForQuestionAnswering.from_config(LLAMA), "question answering"),
    "hidden tokens": (lambda: AutoModelForMaskedLM.from_config(BERT), "masked language modelling"),
    "hidden tokens and the next sentence": (lambda: transformers.BertForPreTraining(BERT), "pretraining"),
    "an encoder first": (lambda: T5ForConditionalGeneration(T5), r"an encoder-decoder \(T5ForConditionalGeneration"),
    "no head": (lambda: transformers.LlamaModel(LLAMA), r"a model without its head \(LlamaModel"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_model_of_another_task_is_refused_when_the_trainer_is_made(kind: str, tmp_path: Path) -> None:
    make, task = OTHERS[kind]
    with pytest.raises(TrainerError, match=f"the model must be a causal language model, got .*{task}"):
        tiny_trainer(tmp_path, model=make(), train=coded(), trainer_class=plain_trainer)
    assert not (tmp_path / "curriculum").exists()


def plain_trainer(model: Any, *, peft_config: Any = None, data_collator: Any = None, **more: Any) -> Any:
    del peft_config
    collator = data_collator or transformers.DataCollatorForSeq2Seq(tokenizer())
    return Trainer(model, data_collator=collator, **more)


def test_a_model_is_looked_at_through_whatever_wraps_it() -> None:
    other, ours = AutoModelForSequenceClassification.from_config(LLAMA), tiny_model()
    for model, refused in ((other, True), (ours, False)):
        adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
        for wrapped in (adapted, torch.nn.DataParallel(model), torch.nn.DataParallel(adapted)):
            assert (task_of_model(wrapped) is not None) is refused


class Own(torch.nn.Module):
    """A model of nobody's library, that gives a loss and logits."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny_model()

    def forward(self, input_ids: Any, attention_mask: Any = None, labels: Any = None) -> Any:
        return self.inner(input_ids=input_ids, attention_mask=attention_mask, labels=labels)


class OwnForward(transformers.LlamaForSequenceClassification):
    """Somebody's way to reuse a class: its forward writes."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


def test_a_module_of_ones_own_trains(tmp_path: Path) -> None:
    trainer = tiny_trainer(
        tmp_path, model=Own(), train=coded(), trainer_class=plain_trainer, config={"selector": "shuffle"}
    )
    assert trainer.train().global_step == 2
    assert events(tmp_path, "end")[0]["audit"]["passed"] == 2


MEASURES: dict[str, Any] = {"metrics": ["length", "loss"], "scores": "none", "budget": 5.0}


class WithHead(Own):
    """The same as its measuring needs it; the outputs are whatever `made` makes of them."""

    def __init__(self, made: Make) -> None:
        super().__init__()
        self.made = made

    def get_output_embeddings(self) -> Any:
        return self.inner.get_output_embeddings()

    def forward(self, input_ids: Any, attention_mask: Any = None, labels: Any = None, **kwargs: Any) -> Any:
        return self.made(self.inner(input_ids=input_ids, attention_mask=attention_mask, labels=labels, **kwargs))


def test_a_module_that_names_no_head_is_refused_when_it_would_be_measured(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"train": coded(), "trainer_class": plain_trainer}
    with pytest.raises(TrainerError, match=r"must name its head, got Own without get_output_embeddings\(\)\. Give its"):
        tiny_trainer(tmp_path, model=Own(), config=MEASURES, **settings)
    with pytest.raises(TrainerError, match="must name its head"):
        tiny_trainer(tmp_path, model=Own(), config={"selector": "shuffle"}, probes=4, **settings)
    headed = type("Headed", (Own,), {"get_output_embeddings": WithHead.get_output_embeddings})
    with pytest.raises(TrainerError, match="got Headed without an argument use_cache"):
        tiny_trainer(tmp_path, model=headed(), config=MEASURES, **settings)
    asks_nothing = RECIPE | {"metrics": ["length", "random"], "selector": "round_robin"}
    assert tiny_trainer(tmp_path, model=Own(), config=asks_nothing, **settings).train().global_step == 2


@pytest.mark.parametrize("made", [lambda outputs: outputs, dict, lambda outputs: outputs.to_tuple()])
def test_a_module_that_names_its_head_is_measured_as_the_model_inside(made: Make, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"train": coded(), "trainer_class": plain_trainer, "config": MEASURES}
    tiny_trainer(tmp_path / "own", model=WithHead(made), **settings).train()
    tiny_trainer(tmp_path / "inside", model=tiny_model(), **settings).train()
    offers = [[decision.get("offers") for decision in events(tmp_path / run, "decision")] for run in ("own", "inside")]
    assert offers[0] == offers[1]


def test_a_class_of_ones_own_is_asked_nothing_but_whether_an_encoder_reads_the_row() -> None:
    assert task_of_model(OwnForward(LLAMA)) is None
    inherits = type("Inherits", (transformers.LlamaForSequenceClassification,), {})
    assert "LlamaForSequenceClassification" in str(task_of_model(inherits(LLAMA)))
    with_encoder = Own()
    with_encoder.config = T5  # type: ignore[assignment]  # as a wrapper of one has it
    assert task_of_model(with_encoder) == "an encoder-decoder (Own)"


def test_classes_that_write_are_none_of_another_task() -> None:
    named = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    writes = [*named, "LlavaForConditionalGeneration", "Qwen2AudioForConditionalGeneration", "FooForCausalLM"]
    for name in writes:
        assert task_of_config(SimpleNamespace(architectures=[name])) is None, name
    both = SimpleNamespace(architectures=["FooForTokenClassification"], auto_map={"AutoModelForCausalLM": "foo.Foo"})
    assert task_of_config(both) is None
    decoder = SimpleNamespace(architectures=["BartForCausalLM"], is_encoder_decoder=True)
    assert task_of_config(decoder) is None  # its decoder alone


@pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in v6:FutureWarning")  # trl's own default
def test_a_model_is_refused_by_its_configuration_before_it_is_loaded(
    tmp_path: Path,
) -> None:
    model = save_reward(tmp_path / "model")
    (model / "model.safetensors").unlink()  # nobody gets as far
    settings = {"model_name_or_path": str(model), "dataset_name": "none.jsonl", "output_dir": str(tmp_path / "out")}
    words = [word for name, value in settings.items() for word in (f"--{name}", value)]
    for command in (sft.main, score.main):
        with pytest.raises(RecipeError, match=r"must be a causal language model, got .* a model for sequence class"):
            command([*words, "--use_cpu", "--campus.metrics", "[length]"])
    refuse_other_model(str(tmp_path / "nothing"), trust_remote_code=False)  # left to who loads it


# -- trainers ----------------------------------------------------------------------------------------------------------

TRAINERS = ["trl.DPOTrainer", "trl.KTOTrainer", "trl.RewardTrainer"]
TRAINERS += ["trl.experimental.cpo.CPOTrainer", "trl.experimental.orpo.ORPOTrainer", "trl.experimental.gkd.GKDTrainer"]


@pytest.mark.parametrize("path", TRAINERS)
def test_trainers_of_trl_with_a_loss_of_another_task_are_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    module, name = path.rsplit(".", 1)
    kind = getattr(importlib.import_module(module), name)
    for each in (kind, type("Mine", (kind,), {})):
        with pytest.raises(TrainerError, match=f"must learn the answers of its rows, got {each.__name__}.* SFTTrainer"):
            refuse_other_task(object.__new__(each))


PAIRS = [{"prompt": f"Say {n}. ", "chosen": f"{n}, gladly" + "!" * n, "rejected": "No."} for n in range(8)]


@pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in v6:FutureWarning")  # trl's own default
def test_a_preference_trainer_is_refused_when_it_is_made(tmp_path: Path) -> None:
    args = trl.DPOConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none", disable_tqdm=True)
    with pytest.raises(TrainerError, match="got DPOTrainer: trl's own for another task"):
        trl.DPOTrainer(
            tiny_model(),
            args=args,
            train_dataset=dataset(PAIRS),
            processing_class=tokenizer(),
            callbacks=[campus_tune.CampusCallback(RECIPE)],
        )
    assert not (tmp_path / "curriculum").exists()


def test_a_loss_of_the_users_own_is_no_other_task() -> None:
    class Mine(SFTTrainer):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            return super().compute_loss(*args, **kwargs)

    for kind in (Mine, SFTTrainer, Trainer, transformers.Seq2SeqTrainer):
        assert compat.trains_another_task(object.__new__(kind)) is None


def test_a_collator_that_hides_tokens_is_refused_and_one_that_does_not_trains(tmp_path: Path) -> None:
    rows = [{"input_ids": row["input_ids"]} for row in coded()]
    settings: dict[str, Any] = {
        "train": rows,
        "trainer_class": plain_trainer,
        "config": RECIPE | {"metrics": ["length"]},
    }
    tok = tokenizer()
    tok.mask_token = tok.eos_token
    collator = DataCollatorForLanguageModeling(tok, mlm=True)
    with pytest.raises(TrainerError, match=r"must leave tokens as they are, got one that masks .*mlm=False"):
        tiny_trainer(tmp_path, trainer_args={"data_collator": collator}, **settings)
    collator = DataCollatorForLanguageModeling(tok, mlm=False)
    assert tiny_trainer(tmp_path, trainer_args={"data_collator": collator}, **settings).train().global_step == 2


# -- rows --------------------------------------------------------------------------------------------------------------


def test_rows_of_answers_to_compare_are_refused_and_the_answers_to_learn_train(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"one answer a row, got answers to compare \(chosen, rejected\)"):
        refuse_other_rows(dataset(PAIRS))
    with pytest.raises(TrainerError, match=r"got answers to compare \(chosen_ids\)"):
        refuse_other_rows([{"chosen_ids": [1]}])
    refuse_other_rows([{"chosen": "left over", "input_ids": [1]}])
    kept = dataset(PAIRS).remove_columns("rejected").rename_column("chosen", "completion")
    assert tiny_trainer(tmp_path, train=kept, config=RECIPE | {"metrics": ["length"]}).train().global_step == 2


@pytest.mark.parametrize("as_dataset", [True, False])
def test_rows_with_one_label_each_are_refused_and_train_without_it(tmp_path: Path, as_dataset: bool) -> None:
    rows: Any = [{"input_ids": row["input_ids"], "labels": k % 2} for k, row in enumerate(coded())]
    settings: dict[str, Any] = {"trainer_class": plain_trainer, "config": RECIPE | {"metrics": ["length"]}}
    with pytest.raises(
        TrainerError, match="`labels` must have one label for each token of a row, got one number a row"
    ):
        plain_trainer(
            tiny_model(),
            args=tiny_trainer(tmp_path, n=4, config=False).args,
            train_dataset=dataset(rows) if as_dataset else rows,
            callbacks=[campus_tune.CampusCallback(RECIPE)],
        )
    if as_dataset:
        collator = DataCollatorForLanguageModeling(tokenizer(), mlm=False)
        kept = dataset(rows).remove_columns("labels")
        trainer = tiny_trainer(tmp_path, train=kept, trainer_args={"data_collator": collator}, **settings)
        assert trainer.train().global_step == 2


def test_sounds_are_refused_as_pictures_are() -> None:
    with pytest.raises(TrainerError, match=r"must be text, got image or sound columns \['audio'\]"):
        refuse_other_rows([{"audio": [0.0], "text": "heard"}])
    refuse_other_rows([{"audio": "left over", "input_ids": [1]}])


# -- models that see, on rows of text ----------------------------------------------------------------------------------


class Processor(transformers.ProcessorMixin):  # type: ignore[misc]
    """A tokenizer and a template of its own."""

    def __init__(self, template: str) -> None:
        self.tokenizer, self.chat_template = copy.copy(tokenizer()), template


def test_the_tokenizer_of_a_processor_is_asked_with_the_processors_template() -> None:
    own = Processor("theirs")
    assert compat.tokenizer_of(SimpleNamespace(processing_class=own)) is own.tokenizer
    own.tokenizer.chat_template = None
    borrowed = compat.tokenizer_of(SimpleNamespace(processing_class=own))
    assert borrowed.chat_template == "theirs"
    assert own.tokenizer.chat_template is None
    assert compat.tokenizer_of(SimpleNamespace(processing_class=borrowed)) is borrowed


def seeing() -> Any:
    vision = {"image_size": 16, "patch_size": 8, "projection_dim": 16, **SIZES}
    text = {**LLAMA.to_dict(), "vocab_size": 520}
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**vision),
        text_config=LlamaConfig(**text),
        image_token_index=512,
    )
    return transformers.LlavaForConditionalGeneration(config)


def test_a_model_that_sees_trains_on_rows_of_text(tmp_path: Path) -> None:
    config = RECIPE | {"metrics": ["length", "loss"], "scores": "none", "selector": "lowest_perplexity", "budget": 2.0}
    trainer = tiny_trainer(tmp_path, n=8, model=seeing(), config=config)
    refuse(trainer, ours=vars(trainer))
    assert trainer.train().global_step == 2
    assert events(tmp_path, "end")[0]["audit"]["passed"] == 2


def test_its_processor_reads_them_too(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    size = {"height": 16, "width": 16}
    tok = tokenizer().__class__.from_pretrained(_saved(tmp_path / "tokenizer"))
    tok.add_special_tokens({"additional_special_tokens": ["<image>"]})
    template = "{% for m in messages %}[{{ m.role }}]{% if m.content is string %}{{ m.content }}{% else %}"
    template += "{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %};{% endfor %}"
    template += "{% if add_generation_prompt %}[assistant]{% endif %}"
    tok.chat_template = None
    images = transformers.CLIPImageProcessor(size=size, crop_size=size)
    processor = transformers.LlavaProcessor(images, tok, patch_size=8, chat_template=template)

    class Seeing(SFTTrainer):
        def __init__(self, *args: Any, processing_class: Any, **kwargs: Any) -> None:
            del processing_class
            super().__init__(*args, processing_class=processor, **kwargs)

    rows = [{"messages": [*row["prompt"], *row["completion"]]} for row in task_rows(12)]
    scorer = {"name": "scorer", "new_tokens": 2, "pairs": 32}
    config = RECIPE | {"metrics": ["length", "mtld", scorer], "scores": "none", "budget": 2.0}
    trainer = tiny_trainer(tmp_path / "run", train=rows, model=seeing(), config=config, trainer_class=Seeing)
    assert trainer.train().global_step == 3
    assert events(tmp_path / "run", "end")[0]["audit"]["passed"] == 3


def _saved(folder: Path) -> Path:
    tokenizer().save_pretrained(folder)
    return folder
