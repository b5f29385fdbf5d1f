"""Evaluate a live model, as often as wanted, and leave it and every random state as they were.

    session = Session(load_tasks(load_suite("smoke"), "data", allow_code_execution=True))
    before = session.evaluate(model, tokenizer)          # dict: task → TaskResult
    ...                                                  # train on
    after = session.evaluate(model, tokenizer)           # same documents, same prompts: compare them pairwise

The tasks are built once. Between two evaluations training goes on bit by bit as without them: lm-eval's
`simple_evaluate` seeds Python's, numpy's and torch's generators at every call, and with them dropout and the order
of rows of whatever is trained next; here `lm_eval.evaluate` is called, inside of `undisturbed`. The worked examples
are drawn anew with the same seed, so the prompts are the same in every evaluation. An adapter stays where it is.

Under several processes each answers its share of a task's documents, and all get the whole result. A task that has
fewer documents than there are processes is answered by each of them. A model whose weights are spread over processes
(FSDP, ZeRO 3) is refused. Answers are never kept from one evaluation for the next: a store of answers knows the
prompts and not the weights.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from campus_tune.evaluate.live import Progress, live_model, one_bar, own_tokenizer, whole
from campus_tune.evaluate.local_data import set_of_task
from campus_tune.evaluate.models import dtype_of
from campus_tune.evaluate.results import TaskResult
from campus_tune.evaluate.tasks import LoadedSuite, LoadedTask
from campus_tune.model.peers import Peers
from campus_tune.model.subject import undisturbed
from campus_tune.words.console import say
from campus_tune.words.errors import DataError, RecipeError
from campus_tune.words.hashing import sha256
from campus_tune.words.progress import bar
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from accelerate import Accelerator
    from lm_eval.models.huggingface import HFLM
    from torch import nn
    from transformers import PreTrainedTokenizerBase, ProcessorMixin

BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total_fmt} documents [{elapsed}<{remaining}]"


class Session:
    """A loaded suite and the evaluations made with it.

    Args:
        loaded: the suite's tasks.
        silent: draw no bar and say nothing.
    """

    def __init__(self, loaded: LoadedSuite, *, silent: bool = False) -> None:
        self.loaded, self.silent = loaded, silent
        self._sizes: dict[str, list[int]] = {}

    def evaluate(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase | ProcessorMixin,
        *,
        accelerator: Accelerator | None = None,
        batch_size: int | str | None = None,
        done: Mapping[str, TaskResult] | None = None,
        on_task: Callable[[str, TaskResult], object] | None = None,
    ) -> dict[str, TaskResult]:
        """Ask the model all tasks of the suite.

        Args:
            model: a causal language model on its device, with or without an adapter, wrapped by DDP or not. Under
                mixed precision it computes as in training, which rounds otherwise than a checkpoint that is loaded.
            tokenizer: its own.
            accelerator: of the processes that share the documents, all of which must call this; None for this one.
            batch_size: documents at once, or `auto`: as many as fit on a GPU, 8 on a CPU. None takes the suite's.
            done: results that are there; tasks whose settings are still the same are not asked again.
            on_task: called with the name and result of every task that is finished, on the first process alone.

        Returns:
            The result of each task, the same on every process, in the suite's sequence.

        Raises:
            RecipeError: the tokenizer lacks the chat template, the model's context is too short for a task's answers, a
                batch size that does not fit, or MATH outside of the main thread.
            TrainerError: the model is sharded or offloaded.
            CampusError: what `on_task` raised, on every process.
        """
        peers = Peers() if accelerator is None else Peers(accelerator.process_index, accelerator.num_processes)
        module, own = whole(model), own_tokenizer(tokenizer, self.loaded.suite.apply_chat_template)
        settings = {name: self.settings(name, own, module) for name in self.loaded.tasks}
        kept = peers.from_leader({n: one for n, one in (done or {}).items() if settings.get(n) == one.settings})
        waiting = [task for name, task in self.loaded.tasks.items() if name not in kept]
        timed = [task.setting.task for task in waiting if "math" in task.setting.task]
        if timed and threading.current_thread() is not threading.main_thread():
            raise RecipeError(
                f"`evaluate` must be called in the main thread for {timed[0]}, whose metric sets an alarm, got "
                "another one. Call it there, or leave the task out."
            )
        results = dict(kept)
        with undisturbed(module), self._bar(waiting, peers) as progress:
            size = self.loaded.suite.batch_size if batch_size is None else batch_size
            lm = live_model(
                module, own, batch_size=size, progress=progress, accelerator=accelerator if peers.world > 1 else None
            )
            for name in (task.setting.task for task in waiting):
                limit = settings[name]["max_gen_toks"]
                longest = max(limit.values()) if isinstance(limit, Mapping) else limit
                if longest is not None and longest >= lm.max_length:
                    raise RecipeError(
                        f"`tasks: {name}: max_gen_toks` must be less than the {lm.max_length} tokens of the model's "
                        f"context, got {longest}. Lower it in a suite of your own."
                    )
            for task in waiting:
                name = task.setting.task
                results[name] = self._ask(lm, task, settings[name], peers, progress)
                if on_task is not None:
                    peers.led(lambda name=name: on_task(name, results[name]))  # type: ignore[misc]  # of a default
        return {name: results[name] for name in self.loaded.tasks}

    def settings(self, name: str, tokenizer: PreTrainedTokenizerBase, model: nn.Module) -> Json:
        """What must be equal for two results of a task to be comparable; a model's precision decides close calls."""
        suite = self.loaded.suite
        template = str(tokenizer.chat_template) if suite.apply_chat_template else None
        return self.known_settings(name) | {
            "chat_template": None if template is None else sha256(template, 32),
            "dtype": dtype_of(model),
        }

    def known_settings(self, name: str) -> Json:
        """Those of them that are the same for every model."""
        task, suite = self.loaded.tasks[name], self.loaded.suite
        limits = {
            leaf: each.get_config("generation_kwargs")["max_gen_toks"]
            if each.get_config("output_type") == "generate_until"
            else None
            for leaf, each in task.tasks.items()
        }
        files: Any = "hub"  # where rows are from: the hub, or SHA-256 of the files, by their names
        if self.loaded.data is not None:
            try:
                folder = set_of_task(name).folder
            except DataError:  # a set without a layout: it cannot be from the folder, so all of it is said
                folder = ""
            files = {file: told["sha256"] for file, told in self.loaded.data.items() if file.startswith(folder)}
        record = {
            "few_shot": _one({leaf: each.get_config("num_fewshot") or 0 for leaf, each in task.tasks.items()}),
            "max_gen_toks": _one(limits),
            "limit": task.setting.limit,
            "fewshot_as_multiturn": suite.fewshot_as_multiturn if suite.apply_chat_template else None,
            "system_instruction": suite.system_instruction,
            "seeds": vars(suite.seeds),
            "data": files,
            "versions": task.versions,
        }
        plain: Json = json.loads(json.dumps(record))  # as it will be read back
        return plain

    def documents(self, name: str) -> list[int]:
        """How many documents each of lm-eval's tasks has of a task of the suite, after its limit."""
        if name not in self._sizes:
            task = self.loaded.tasks[name]
            sizes = [len(each.eval_docs) for each in task.tasks.values()]
            self._sizes[name] = [min(size, task.setting.limit or size) for size in sizes]
        return self._sizes[name]

    def _ask(self, lm: HFLM, task: LoadedTask, settings: Json, peers: Peers, progress: Progress) -> TaskResult:
        import lm_eval

        name, began = task.setting.task, time.perf_counter()
        alone = min(self.documents(name)) < peers.world  # a process without documents is an error to lm-eval
        lm.share(Peers() if alone else peers)
        progress.world = 1 if alone else peers.world
        if progress.bar is not None:
            progress.bar.set_description_str(name)
        seeds = self.loaded.suite.seeds  # as lm-eval's command line does, for tasks that sample; it is taken back
        random.seed(seeds.random)
        np.random.seed(seeds.numpy)  # noqa: NPY002  # the global one is what tasks draw from
        torch.manual_seed(seeds.torch)
        with one_bar() as cut:
            found = lm_eval.evaluate(lm, **task.options())
        seconds = time.perf_counter() - began
        result: TaskResult | None = None
        if found is not None:  # lm-eval gives it to the first process alone
            documents: dict[str, dict[str, dict[str, float]]] = {}  # lm-eval's task → number → metric → value
            for leaf, answered in found["samples"].items():
                scores: dict[int, dict[str, float]] = defaultdict(dict)
                for sample in answered:
                    values = {f"{metric},{sample['filter']}": sample[metric] for metric in sample["metrics"]}
                    scores[sample["doc_id"]] |= {n: float(v) for n, v in values.items() if _is_number(v)}
                documents[leaf] = {str(number): scores[number] for number in sorted(scores)}
            metrics: dict[str, Json] = {}  # the official means, their errors, and of how many documents they are
            for metric, value in (told := found["results"].get(name, {})).items():
                what, _, filter_ = metric.partition(",")
                if not filter_ or what.endswith("_stderr") or not _is_number(value):
                    continue
                error = told.get(f"{what}_stderr,{filter_}")
                n = sum(metric in each for numbers in documents.values() for each in numbers.values())
                stderr = float(error) if _is_number(error) else None
                metrics[metric] = {"value": float(value), "stderr": stderr, "n": n}
            result = TaskResult(settings, metrics, documents, seconds)
        if any(peers.gather(cut.seen)) and peers.leads and not self.silent:
            say(f"warning: {name}: prompts longer than the {lm.max_length} tokens of the model lost their beginnings.")
        whole_result = peers.from_leader(result)
        assert whole_result is not None
        return whole_result

    @contextmanager
    def _bar(self, waiting: list[LoadedTask], peers: Peers) -> Iterator[Progress]:
        with one_bar():
            total = sum(sum(self.documents(task.setting.task)) for task in waiting)
        if self.silent or not peers.leads or not waiting:
            yield Progress(None)
            return
        with bar(total=total, desc="evaluating", unit="document", bar_format=BAR) as progress:
            yield Progress(progress)


def _one(values: Mapping[str, Any]) -> Any:
    """The value that all tasks of a group have, or each one's."""
    distinct = set(values.values())
    return distinct.pop() if len(distinct) == 1 else dict(values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number | np.bool_)
