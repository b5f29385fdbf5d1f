"""Evaluating a model that is in training must change nothing but the clock."""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lm_eval")

import lm_eval
import torch
from peft import LoraConfig, get_peft_model
from transformers import TrainerCallback

from campus_tune.demo.tiny import tiny_model
from campus_tune.evaluate.comparable import differences
from campus_tune.evaluate.results import TaskResult
from campus_tune.evaluate.session import Session
from campus_tune.evaluate.suites import Suite, load_suite
from campus_tune.evaluate.tasks import load_tasks
from campus_tune.words.errors import DataError, RecipeError, TrainerError
from tests.evaluate import data
from tests.run.tiny_run import history_of, tiny_trainer, tokenizer, weights_of

GROUP = "mmlu_social_sciences"  # twelve of MMLU's subjects
NAMES = ["gsm8k", GROUP, "arc_easy"]  # it writes, it weighs in a group, it weighs


def suite_of(*names: str, max_gen_toks: int = 8, **changes: Any) -> Suite:
    smoke = load_suite("smoke")
    suite = replace(smoke, tasks=(*smoke.tasks, replace(smoke.task("mmlu"), task=GROUP))).narrowed(names)
    tasks = tuple(replace(task, max_gen_toks=task.max_gen_toks and max_gen_toks) for task in suite.tasks)
    return replace(suite, tasks=tasks, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data.write(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def session(folder: Path) -> Session:
    return Session(load_tasks(suite_of(*NAMES), folder, allow_code_execution=False), silent=True)


@pytest.fixture(scope="module")
def quick(folder: Path) -> Session:
    """Without the group and its subjects, where nothing hangs on groups."""
    return session_of(folder, "gsm8k", "arc_easy")


def session_of(folder: Path, *names: str, **changes: Any) -> Session:
    return Session(load_tasks(suite_of(*names, **changes), folder, allow_code_execution=True), silent=True)


def plain(results: dict[str, TaskResult]) -> Any:
    """All but the seconds."""
    return {name: replace(task, seconds=0.0) for name, task in results.items()}


# -- the numbers -----------------------------------------------------------------------------------------------------


def test_the_same_model_has_the_same_scores_twice_and_as_lm_eval_gives_them(session: Session) -> None:
    from lm_eval.models.huggingface import HFLM

    model = tiny_model()
    first, second = (session.evaluate(model, tokenizer()) for _ in range(2))
    assert plain(first) == plain(second)
    lm = HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer()), batch_size=8)
    for name, task in session.loaded.tasks.items():
        told = lm_eval.evaluate(lm, **task.options())["results"][name]
        for metric, found in first[name].metrics.items():
            assert found["value"] == told[metric]


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[dict[int, str]]:
    """What each task of each evaluation asks, by document."""
    told: list[dict[int, str]] = []
    evaluate = lm_eval.evaluate

    def listen(lm: Any, **options: Any) -> Any:
        found = evaluate(lm, **options)
        told.append({s["doc_id"]: s["arguments"][0][0] for samples in found["samples"].values() for s in samples})
        return found

    monkeypatch.setattr(lm_eval, "evaluate", listen)
    return told


def test_prompts_are_the_same_in_every_evaluation(quick: Session, prompts: list[dict[int, str]]) -> None:
    """lm-eval draws other worked examples when it is asked again."""
    for _ in range(2):
        quick.evaluate(tiny_model(), tokenizer())
    assert prompts[0][3].count("Question:") == 6  # 5 shots
    assert prompts[:2] == prompts[2:]


def test_every_document_is_recorded_and_means_are_theirs(session: Session) -> None:
    found = session.evaluate(tiny_model(), tokenizer())
    assert list(found) == NAMES
    assert list(found["gsm8k"].documents["gsm8k"]) == ["0", "1", "2", "3"]
    assert len(found[GROUP].documents) == 12
    for task in found.values():
        for metric, told in task.metrics.items():
            scores = task.scores(metric)
            assert told["n"] == len(scores)
            assert told["value"] == pytest.approx(sum(scores.values()) / len(scores))
    assert found["arc_easy"].metrics["acc,none"]["stderr"] > 0
    assert found[GROUP].metrics["acc,none"]["stderr"] is None  # one document each: lm-eval says N/A


def test_other_weights_have_other_answers(session: Session) -> None:
    first, other = (session.evaluate(tiny_model(seed=seed), tokenizer())[GROUP] for seed in (0, 1))
    assert first.settings == other.settings
    assert first.documents != other.documents


def test_settings_say_what_a_number_depends_on(session: Session) -> None:
    settings = session.settings("gsm8k", tokenizer(), tiny_model())
    digest = settings.pop("data")
    assert sorted(digest) == ["gsm8k/test.jsonl.gz", "gsm8k/train.jsonl.gz"]
    assert all(len(value) == 64 for value in digest.values())
    assert settings == {
        "few_shot": 5,
        "max_gen_toks": 8,
        "limit": 4,
        "chat_template": None,
        "fewshot_as_multiturn": None,
        "system_instruction": None,
        "seeds": {"fewshot": 1234, "random": 0, "numpy": 1234, "torch": 1234},
        "versions": {"gsm8k": "3.0"},
        "dtype": "float32",
    }
    assert session.settings(GROUP, tokenizer(), tiny_model())["max_gen_toks"] is None


def test_weights_of_another_precision_are_another_question(quick: Session) -> None:
    whole, half = (quick.settings("arc_easy", tokenizer(), tiny_model().to(t)) for t in (torch.float32, torch.bfloat16))
    assert differences(whole, half) == ['dtype is "float32" against "bfloat16"']
    adapted = get_peft_model(tiny_model().to(torch.bfloat16), LoraConfig(r=2, target_modules=["q_proj"]))
    assert {weight.dtype for weight in adapted.parameters()} == {
        torch.float32,
        torch.bfloat16,
    }
    assert quick.settings("arc_easy", tokenizer(), adapted) == half


def test_a_chat_template_changes_the_settings(folder: Path) -> None:
    chat = session_of(folder, "arc_easy", apply_chat_template=True)
    settings = chat.settings("arc_easy", tokenizer(), tiny_model())
    assert len(settings["chat_template"]) == 32
    assert settings["fewshot_as_multiturn"] is True
    other = copy.deepcopy(tokenizer())
    other.chat_template += " "
    assert chat.settings("arc_easy", other, tiny_model())["chat_template"] != settings["chat_template"]


def test_a_named_chat_template_is_the_one_that_is_used(folder: Path, prompts: list[dict[int, str]]) -> None:
    several = copy.deepcopy(tokenizer())
    several.chat_template = {"default": "{{ 'x' }}", "chat": tokenizer().chat_template}
    session_of(folder, "arc_easy").evaluate(tiny_model(), tokenizer())
    session_of(folder, "arc_easy", apply_chat_template=True).evaluate(tiny_model(), tokenizer())
    session_of(folder, "arc_easy", apply_chat_template="chat").evaluate(tiny_model(), several)
    as_text, alone, named = prompts
    assert as_text[0].startswith("Question: Which colour")
    assert alone[0].startswith("<|im_start|>user\nQuestion: Which colour")
    assert named == alone


# -- what training must not notice -----------------------------------------------------------------------------------


class EvaluateAtStepEnds(TrainerCallback):  # type: ignore[misc]  # untyped
    def __init__(self, session: Session) -> None:
        self.session, self.found = session, []

    def on_step_end(self, _: Any, state: Any, __: Any, model: Any = None, **___: Any) -> None:
        if state.global_step in (2, 5):
            self.found.append(self.session.evaluate(model, tokenizer()))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_is_the_same_to_the_last_bit_with_and_without(
    quick: Session, tmp_path: Path, checkpointing: bool
) -> None:
    from trl import SFTConfig

    names = SFTConfig.__dataclass_fields__  # transformers renamed this one
    name = "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"
    evaluations, trainers = EvaluateAtStepEnds(quick), []
    for callbacks in ([], [evaluations]):  # made and trained one after the other: making one seeds the generators
        more = {name: checkpointing}
        trainer = tiny_trainer(tmp_path / "run", config=False, n=28, lora=True, callbacks=callbacks, **more)
        trainer.train()
        trainers.append(trainer)
    assert len(evaluations.found) == 2
    assert len(history_of(trainers[0])) == 7
    assert history_of(trainers[0]) == history_of(trainers[1])
    weights = [weights_of(trainer) for trainer in trainers]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_generators_that_are_seeded_as_lm_eval_does_change_the_training(tmp_path: Path) -> None:
    """So that the test above can fail."""

    class Seed(TrainerCallback):  # type: ignore[misc]  # untyped
        def on_step_end(self, *_: Any, **__: Any) -> None:
            torch.manual_seed(1234)

    histories = []
    for callbacks in ([], [Seed()]):
        trainer = tiny_trainer(tmp_path / "run", config=False, n=12, lora=True, callbacks=callbacks)
        trainer.train()
        histories.append(history_of(trainer))
    assert histories[0][0] == histories[1][0]
    assert histories[0][1]["loss"] != histories[1][1]["loss"]


def states(model: Any) -> Any:
    numpy_state = np.random.get_state()[1].tolist()  # noqa: NPY002  # the global one is meant
    return random.getstate(), numpy_state, torch.get_rng_state().tolist(), [m.training for m in model.modules()]


def test_states_modes_and_settings_are_as_before(quick: Session) -> None:
    model = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules="all-linear")).train()
    model.base_model.model.model.layers[0].eval()
    model.config.use_cache = False
    own = copy.deepcopy(tokenizer())
    own.pad_token, own.padding_side = None, "right"

    def seen() -> Any:
        settings = model.config.to_dict(), model.generation_config.to_dict(), own.init_kwargs, own.chat_template
        return states(model), settings, own.pad_token, own.padding_side, sorted(vars(model))

    before, weights = seen(), {name: value.clone() for name, value in model.state_dict().items()}
    quick.evaluate(model, own)
    assert seen() == before
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_states_are_as_before_when_it_breaks_off(quick: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    model = tiny_model().train()
    before = states(model)
    monkeypatch.setattr(lm_eval, "evaluate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        quick.evaluate(model, tokenizer())
    assert states(model) == before


def test_embeddings_that_were_untied_in_training_are_not_tied_again(quick: Session) -> None:
    model = tiny_model()  # its configuration says that they are tied
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone() * 2)
    quick.evaluate(model, tokenizer())
    assert model.lm_head.weight is not model.get_input_embeddings().weight


# -- going on --------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the tasks that a model is asked."""
    names: list[str] = []
    evaluate = lm_eval.evaluate

    def listen(lm: Any, **options: Any) -> Any:
        names.append(next(iter(options["task_dict"]["tasks"])))
        return evaluate(lm, **options)

    monkeypatch.setattr(lm_eval, "evaluate", listen)
    return names


def test_tasks_that_are_done_are_not_asked_again(session: Session, asked: list[str]) -> None:
    told: list[str] = []
    full = session.evaluate(tiny_model(), tokenizer())
    asked.clear()
    done = {
        "gsm8k": full["gsm8k"],
        "arc_easy": replace(full["arc_easy"], settings={"limit": 99}),
        "other": full[GROUP],
    }
    again = session.evaluate(tiny_model(), tokenizer(), done=done, on_task=lambda name, _: told.append(name))
    assert asked == ["mmlu_econometrics", "arc_easy"]  # arc_easy was done with other settings
    assert told == [GROUP, "arc_easy"]
    assert again["gsm8k"] is full["gsm8k"]
    assert plain(again) == plain(full)


def test_what_on_task_raises_ends_the_evaluation(quick: Session, asked: list[str]) -> None:
    def full_disk(*_: object) -> None:
        raise DataError("no space")

    with pytest.raises(DataError, match="no space"):
        quick.evaluate(tiny_model(), tokenizer(), on_task=full_disk)
    assert asked == ["gsm8k"]


# -- batches ---------------------------------------------------------------------------------------------------------


def narrow(model: Any, rows: int) -> list[int]:
    """Let a model hold so many rows at once, as memory would; gives back the batches it has answered."""
    sizes: list[int] = []

    def refuse(_: Any, args: Any, kwargs: Any) -> None:
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        if len(ids) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        sizes.append(len(ids))

    model.register_forward_pre_hook(refuse, with_kwargs=True)
    return sizes


def test_a_batch_that_does_not_fit_is_halved_until_it_does(quick: Session) -> None:
    roomy, tight = tiny_model(), tiny_model()
    sizes = narrow(tight, 3)
    found = quick.evaluate(tight, tokenizer(), batch_size="auto")
    assert max(sizes) == 2  # 8, 4, 2
    assert plain(found) == plain(quick.evaluate(roomy, tokenizer()))


def test_a_given_batch_size_that_does_not_fit_is_an_error(quick: Session) -> None:
    model = tiny_model()
    narrow(model, 3)
    with pytest.raises(RecipeError, match="`batch_size` must be one that fits into memory, got 4: CUDA out of memory"):
        quick.evaluate(model, tokenizer(), batch_size=4)


def test_other_errors_of_the_model_are_not_taken_for_memory(quick: Session) -> None:
    model = tiny_model()

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="a bug"):
        quick.evaluate(model, tokenizer())


# -- bad input -------------------------------------------------------------------------------------------------------


def test_a_sharded_or_offloaded_model_is_refused(quick: Session) -> None:
    zero3, offloaded = tiny_model(), tiny_model()
    next(zero3.parameters()).ds_id = 1
    with pytest.raises(TrainerError, match=r"got a part of them \(DeepSpeed ZeRO 3\). Evaluate the saved checkpoints"):
        quick.evaluate(zero3, tokenizer())
    offloaded.to("meta")
    with pytest.raises(TrainerError, match=r"got a part of them \(offloading\)"):
        quick.evaluate(offloaded, tokenizer())

    class FullyShardedDataParallel(torch.nn.Module):
        inner = None

    wrapped = torch.nn.Sequential(FullyShardedDataParallel())
    with pytest.raises(TrainerError, match=r"got a part of them \(FSDP\)"):
        quick.evaluate(wrapped, tokenizer())


def test_a_wrapped_model_is_unwrapped(quick: Session) -> None:
    model = tiny_model()
    wrapped = torch.nn.DataParallel(model)
    assert plain(quick.evaluate(wrapped, tokenizer())) == plain(quick.evaluate(model, tokenizer()))


def test_a_tokenizer_without_the_template_is_refused(folder: Path) -> None:
    chat = session_of(folder, "arc_easy", apply_chat_template=True)
    bare, several = copy.deepcopy(tokenizer()), copy.deepcopy(tokenizer())
    bare.chat_template = None
    with pytest.raises(RecipeError, match="must be false for a tokenizer without a chat template, got true"):
        chat.evaluate(tiny_model(), bare)
    named = session_of(folder, "arc_easy", apply_chat_template="tools")
    with pytest.raises(RecipeError, match="`apply_chat_template` must be true or false, got 'tools'"):
        named.evaluate(tiny_model(), tokenizer())
    several.chat_template = {"default": "x", "chat": "y"}
    with pytest.raises(RecipeError, match="`apply_chat_template` must be one of default, chat, got 'tools'"):
        named.evaluate(tiny_model(), several)


def test_answers_longer_than_the_context_are_refused_before_any_task(folder: Path, asked: list[str]) -> None:
    long = session_of(folder, "arc_easy", "gsm8k", max_gen_toks=512)
    with pytest.raises(
        RecipeError, match="gsm8k: max_gen_toks` must be less than the 512 tokens of the model's context"
    ):
        long.evaluate(tiny_model(), tokenizer())
    assert asked == []


def test_prompts_that_lose_their_beginning_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("campus_tune.words.progress.SELDOM", 0.0)  # of a bar in a file: half a minute
    loud = Session(load_tasks(suite_of("gsm8k", "arc_easy"), folder, allow_code_execution=False))
    loud.evaluate(tiny_model(), tokenizer())
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "campus: warning: gsm8k: prompts longer than the 512 tokens of the model lost their beginnings."
    ]
    assert "arc_easy:  50%|█████     | 4/8 documents" in err
    assert "Running" not in err  # lm-eval's own bars
    assert "already-initialized" not in err


def test_a_math_task_outside_of_the_main_thread_is_refused(quick: Session) -> None:
    math = copy.copy(quick)
    tasks = {"minerva_math": quick.loaded.tasks["arc_easy"]}
    setting = replace(tasks["minerva_math"].setting, task="minerva_math")
    math.loaded = replace(quick.loaded, tasks={"minerva_math": replace(tasks["minerva_math"], setting=setting)})
    raised: list[BaseException] = []

    def evaluate() -> None:
        try:
            math.evaluate(tiny_model(), tokenizer())
        except RecipeError as error:
            raised.append(error)

    thread = threading.Thread(target=evaluate)
    thread.start()
    thread.join()
    assert "must be called in the main thread for minerva_math" in str(raised[0])
