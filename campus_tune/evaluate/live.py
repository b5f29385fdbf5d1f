"""A model that is already in memory, asked by lm-eval: no copy, no merge of its adapter, nothing left behind in it.

lm-eval's `HFLM` takes such a model, tokenises, sorts requests by length and reads off the answers; all of that is
kept. What is other here:

- Documents are shared out over processes as lm-eval does for models that it loads itself; around a model that it was
  handed, it has every process answer everything.
- The batch size is found by trying: longest requests first, so the first batch is the largest, and where it does not
  fit, the size is halved and the call begins again. lm-eval runs trial batches of up to 64 beforehand, five times each,
  and a batch that fits in the trial and not later ends the run.
- One progress bar instead of one for each of MMLU's 57 subjects.
- `HFLM` ties the embeddings of whatever it gets anew, and gives a tokenizer without a padding token one: a model in
  training keeps its weights as they are, and its tokenizer is a copy.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

from campus_tune.evaluate.harness import no_bars
from campus_tune.evaluate.suites import AUTO
from campus_tune.model.peers import Peers
from campus_tune.words.errors import RecipeError, TrainerError

if TYPE_CHECKING:
    from accelerate import Accelerator
    from lm_eval.models.huggingface import HFLM
    from torch import nn
    from tqdm import tqdm
    from transformers import PreTrainedTokenizerBase, ProcessorMixin

# Documents at once where the size is to be found, at the start of every call. Logits of all tokens are kept where
# answers are weighed, and of one token each where they are written.
LARGEST = {"loglikelihood": 64, "generate_until": 256, "loglikelihood_rolling": 16}
ON_CPU = 8  # more gains nothing there
_TOO_LONG = "sequence-length-is-longer-than-the-specified-maximum"
_HFLM = "lm_eval.models.huggingface"
_ON_PURPOSE = ("`pretrained` model kwarg is not", "Passed an already-initialized model")
_CUT = ("Left truncation applied", "Combined length of context")


class Progress:
    """Counts answered documents on a bar.

    Args:
        bar: of tqdm, or None.
        world: processes that answer as many at the same time.
    """

    def __init__(self, bar: tqdm[Any] | None, world: int = 1) -> None:
        self.bar, self.world = bar, world
        self._documents = 0.0  # that one request stands for
        self._start = 0.0

    def begin(self, requests: Sequence[Any]) -> None:
        """These requests are answered next."""
        documents = {(request.task_name, request.doc_id) for request in requests}
        self._documents = len(documents) / max(1, len(requests))
        self._start = 0.0 if self.bar is None else self.bar.n

    def again(self) -> None:
        """They are answered anew."""
        if self.bar is not None:
            self.bar.n = self._start

    def add_partial(self, *_: object) -> None:
        """One of them is answered. The name is that of lm-eval's cache of answers, whose place this takes."""
        if self.bar is not None:
            self.bar.update(min(self._documents * self.world, self.bar.total - self.bar.n))


class CutPrompts(logging.Filter):
    """Drops what `HFLM` says of every live model, and counts the messages about prompts that are too long."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a message passes."""
        told = record.getMessage()
        self.seen += told.startswith(_CUT)
        return not told.startswith((*_ON_PURPOSE, *_CUT))


def whole(model: nn.Module) -> nn.Module:
    """The module itself, without the wrapping of DDP or DeepSpeed.

    Raises:
        TrainerError: this process has a part of the weights only.
    """
    from accelerate.utils import extract_model_from_parallel

    reason = ""
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()):
        reason = "FSDP"
    for weight in model.parameters():
        if hasattr(weight, "ds_id"):
            reason = "DeepSpeed ZeRO 3"
        elif hasattr(weight, "full_tensor"):
            reason = "FSDP or tensor parallelism"
        elif weight.is_meta:
            reason = "offloading"
    if reason:
        raise TrainerError(
            f"`model` must have all its weights in each process to be evaluated, got a part of them ({reason}). "
            "Evaluate the saved checkpoints instead: campus-tune eval --checkpoints 'run/checkpoint-*'."
        )
    module: nn.Module = extract_model_from_parallel(model, keep_torch_compile=False)
    return module


def own_tokenizer(tokenizer: PreTrainedTokenizerBase | ProcessorMixin, template: bool | str) -> PreTrainedTokenizerBase:
    """A copy of a tokenizer, with the chat template that is asked for and no other.

    Args:
        tokenizer: of transformers, or a processor that has one.
        template: whether to use one, or the name of one among several.

    Raises:
        RecipeError: there is no such template.
    """
    inner: Any = getattr(tokenizer, "tokenizer", tokenizer)
    own: PreTrainedTokenizerBase = copy.deepcopy(inner)
    own.deprecation_warnings[_TOO_LONG] = True  # is said once by transformers; the session says it of each task
    if template is False:
        return own
    known = own.chat_template
    if isinstance(known, dict):
        name = template if isinstance(template, str) else "default"
        if name not in known:
            raise RecipeError(f"`apply_chat_template` must be one of {', '.join(known)}, got {name!r}. Name another.")
        own.chat_template = known[name]
    elif isinstance(template, str):
        raise RecipeError(
            f"`apply_chat_template` must be true or false, got {template!r}: the model's has no name. Write true."
        )
    if not own.chat_template:
        raise RecipeError(
            "`apply_chat_template` must be false for a tokenizer without a chat template, got true. Base models have "
            "none: write --chat_template off."
        )
    return own


def live_model(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int | str,
    progress: Progress,
    accelerator: Accelerator | None = None,
) -> HFLM:
    """What `lm_eval.evaluate` asks.

    Args:
        model: `whole`.
        tokenizer: `own_tokenizer`.
        batch_size: documents at once, or `auto`.
        progress: told of every answer.
        accelerator: of the processes that share the work; None for this one alone.
    """
    with one_bar():
        lm = _live_class()(model, tokenizer, batch_size=batch_size, progress=progress)
    lm.set_cache_hook(progress)
    if accelerator is not None:
        lm.accelerator = accelerator
    return lm


@cache
def _live_class() -> type[HFLM]:
    from lm_eval.models.huggingface import HFLM

    class LiveModel(HFLM):  # type: ignore[misc]  # lm-eval ships no types
        """lm-eval's own, for a model of ours."""

        def __init__(
            self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, *, batch_size: int | str, progress: Progress
        ) -> None:
            with mock.patch.object(model, "tie_weights", return_value=None):
                super().__init__(pretrained=model, tokenizer=tokenizer)
            self.given, self.progress = batch_size, progress

        def share(self, peers: Peers) -> None:
            """Which part of the documents is this process's."""
            self._rank, self._world_size = peers.rank, peers.world

        def loglikelihood(self, requests: list[Any], *_: object, **__: object) -> list[Any]:
            return _in_fitting_batches(self, "loglikelihood", super().loglikelihood, requests)

        def loglikelihood_rolling(self, requests: list[Any], *_: object, **__: object) -> list[Any]:
            return _in_fitting_batches(self, "loglikelihood_rolling", super().loglikelihood_rolling, requests)

        def generate_until(self, requests: list[Any], *_: object, **__: object) -> list[Any]:
            return _in_fitting_batches(self, "generate_until", super().generate_until, requests)

    return LiveModel


def _in_fitting_batches(lm: HFLM, kind: str, answer: Callable[..., list[Any]], requests: list[Any]) -> list[Any]:
    """All answers; where memory does not suffice, half as many documents at once.

    Raises:
        RecipeError: a size that was given does not fit, or a single document.
    """
    largest = LARGEST[kind] if lm.device.type == "cuda" else ON_CPU
    size = largest if lm.given == AUTO else int(lm.given)
    lm.progress.begin(requests)
    while True:
        lm.batch_size_per_gpu = size
        answers, problem = _tried(lambda: answer(requests, disable_tqdm=True))
        if answers is not None:
            return answers
        if lm.given != AUTO or size == 1:
            raise RecipeError(
                f"`batch_size` must be one that fits into memory, got {size}: {problem}. Write a smaller one, or auto."
            )
        size //= 2
        lm.progress.again()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _tried(answer: Callable[[], list[Any]]) -> tuple[list[Any] | None, str]:
    """The answers, or what memory lacked; by the return, whatever the failed call held is free again."""
    from accelerate.utils.memory import should_reduce_batch_size

    try:
        return answer(), ""
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        return None, str(error).splitlines()[0].rstrip(".")


@contextmanager
def one_bar() -> Iterator[CutPrompts]:
    """Inside, lm-eval and datasets draw no bars of their own, and say nothing that is meant for others.

    lm-eval draws one while it builds the prompts of a task, and has no switch for it.
    """
    import lm_eval.api.task

    cut, logger = CutPrompts(), logging.getLogger(_HFLM)
    with ExitStack() as stack:
        stack.enter_context(no_bars())
        if hasattr(lm_eval.api.task, "tqdm"):
            stack.enter_context(mock.patch.object(lm_eval.api.task, "tqdm", lambda rows, **_: rows))
        logger.addFilter(cut)
        stack.callback(logger.removeFilter, cut)
        yield cut
