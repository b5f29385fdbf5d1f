"""Peers on the same rows: TRL as it comes, and DataFlex's selectors, weighters and mixers.

    trl_plain              TRL's trainer without a callback: `random` must end where it ends, but for another shuffle
    dataflex_random        random_selector.RandomSelector
    dataflex_loss          loss_selector.LossSelector: the middle third of the losses, five times as often
    dataflex_delta_loss    delta_loss_selector.DeltaLossSelector: a window over how far losses have fallen
    dataflex_less          less_selector.LessSelector (LESS, arXiv 2402.04333)
    dataflex_near          near_selector.near_Selector: the nearest neighbours of the probes
    dataflex_tsds          tsds_selector.tsds_Selector (TSDS, arXiv 2410.11303)
    dataflex_weigh         loss_weighter.LossWeighter: linupper (arXiv 2502.06733)
    dataflex_adapt         adapt_weighter.AdaptWeighter: by likeness to the probes
    dataflex_odm           odm_mixer.ODMMixer (ODM, arXiv 2312.02406)
    dataflex_doremi        doremi_mixer.DoremiMixer (DoReMi, arXiv 2305.10429): all three trainings

These are DataFlex's own classes, unchanged (`dataflex`). Its trainers need LLaMA-Factory; their loops are followed
here, in TRL's trainer: `train/trainer/select_trainer.py`, `weight_trainer.py`, `mix_trainer.py`. Settings are those of
`configs/components.yaml` and of the examples: ten steps of rows drawn with replacement, then a choice every ten steps;
a weighter begins after a fifth of the run. What differs:

    seeds       are the run's, where theirs are 42 in every run
    embeddings  are means of the model's last states before training, where theirs are those of a model for them, and
                neighbours are searched exactly: `near` and `tsds` follow the method `selector` of
                `offline_selector/offline_near_selector.py` and `offline_tsds_selector.py`
    projection  of LESS is to 512 numbers by `dataflex.Sketch`, where theirs is to 4096 by `trak`
    ODM         begins after ten steps, where theirs waits for 2000, and from the rows' own proportions
    DoReMi      has domain weights in the proxy's loss, as `mix_trainer.compute_loss` says and does not do: without
                label smoothing they are left out, and with it a name is used that has no value. Reference and proxy
                are the model itself, and both trainings are charged

What a peer asks of models is charged by tokens, as for ours: a forward by its share of a training token, a gradient as
a whole one. Left out: `nice` (a reward model, by vLLM or an API), `cluster_less` (LESS by clusters), `dynamic_moe` (a
model of experts), `static` (shares by hand), `custom` (an example).
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from campus_tune.model import compat
from campus_tune.model.fingerprint import weights_at_start
from campus_tune.model.trained import as_trained
from campus_tune.words.errors import DivergedError
from campus_tune.words.types import FloatArray, IntArray, Json
from eval.situations import dataflex
from eval.situations.bases import BASES, trainer_of
from eval.situations.driven import Driven, DrivenRecorder, Peer
from eval.situations.rows import Made
from eval.situations.runs import keep_arrays, shared_of, steps_of, tests_of
from eval.situations.situation import Situation

PREFIX = "dataflex_"
SELECTORS: Mapping[str, Json] = {
    "random": {},
    "loss": {"focus": "medium"},
    "delta_loss": {"window_size": 0.2},
    "less": {"gradient_type": "adam", "proj_dim": 512, "save_interval": 16},
    "near": {},
    "tsds": {},
}
WEIGHTERS: Mapping[str, Json] = {
    "weigh": {"strategy": "linupper", "delta": 1.0},
    "adapt": {"tau": 1.0, "refresh_interval": 50, "anchor_batch_size": 8, "clip": None},
}
MIXERS: Mapping[str, Json] = {
    "odm": {"alpha": 0.9, "warmup_steps": 10, "reward_scale": 15.0, "min_exploration_rate": 0.03},
    "doremi": {"reweight_eta": 0.1, "reweight_eps": 0.01},
}
SETTINGS = {**SELECTORS, **WEIGHTERS, **MIXERS}
WARM_UP = UPDATE = 10  # steps
UNWEIGHTED = 0.2  # of the steps, before a weighter begins
NEIGHBOURS = 1000  # of each probe, `near`
SIGMA, ALPHA, TRADE = 0.75, 0.6, 5.0  # of TSDS: width of the kernel, weight of the distances, their unit


class Material:
    """What peers are made of."""

    def __init__(self, keep: Path, situation: Situation, seed: int, rows: Made, out: Path) -> None:
        self.keep, self.situation, self.seed, self.rows, self.out = keep, situation, seed, rows, out
        self.base = BASES[situation.base]
        self.steps = steps_of(situation, rows)

    def trainer(self, rows: Sequence[Json], out: Path, callbacks: Sequence[Any] = ()) -> Any:
        """A trainer of the base on these rows."""
        return trainer_of(
            self.base, self.keep, rows, out, steps=self.steps, seed=self.seed, callbacks=callbacks,
            training=self.situation.training,
        )  # fmt: skip

    def driven(self, peer: Peer, out: Path, callbacks: Sequence[Any] = ()) -> Driven:
        """The run's trainer, with a peer at the wheel."""
        return Driven(self.trainer(self.rows.rows, out, callbacks), peer)

    @cached_property
    def probes(self) -> Any:
        """The probes, tokenised as the rows are."""
        return self.trainer(self.rows.probes, self.out / "probes").train_dataset

    @cached_property
    def domains(self) -> tuple[list[str], IntArray]:
        """(Names, which of them each row has)."""
        names = sorted({row["domain"] for row in self.rows.rows})
        return names, np.array([names.index(row["domain"]) for row in self.rows.rows])

    @property
    def shares(self) -> list[float]:
        """Of the domains, in the rows."""
        return (np.bincount(self.domains[1]) / len(self.domains[1])).tolist()


def peer_of(arm: str, given: Material) -> Peer:
    """The peer of an arm."""
    name = arm.removeprefix(PREFIX)
    if name in SELECTORS:
        return Selecting(name, SELECTORS[name], given)
    if name in WEIGHTERS:
        return Weighing(name, WEIGHTERS[name], given)
    return Mixing(name, MIXERS[name], given, given.shares) if name in MIXERS else Peer()


# -- which rows --------------------------------------------------------------------------------------------------------


class WithIndex:
    """The trainer's collator, which lets DataFlex's column `idx` pass, and takes no other."""

    def __init__(self, trainer: Any) -> None:
        view, self.collator = compat.loader_view(trainer, trainer.train_dataset)
        self.columns = list(view.column_names)

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A batch of prepared rows."""
        batch = dict(self.collator([{name: item[name] for name in self.columns} for item in items]))
        return {**batch, "idx": torch.tensor([item["idx"] for item in items])} if "idx" in items[0] else batch


class Theirs(Peer):
    """One of DataFlex's parts.

    Args:
        name: of the part.
        settings: of it.
        given: the run.
    """

    def __init__(self, name: str, settings: Json, given: Material) -> None:
        self.name, self.settings, self.given = name, settings, given
        self.made = dataflex.part(name)


class Selecting(Theirs):
    """`select_trainer.SelectTrainer._inner_training_loop` around one of DataFlex's selectors."""

    def begin(self, driven: Driven) -> None:
        """Make the selector, which needs the rows as tokens."""
        super().begin(driven)
        trainer, cache = self.trainer, self.given.out / "dataflex"
        collator, settings = WithIndex(trainer), dict(self.settings)
        cache.mkdir(exist_ok=True)
        if self.name == "less":
            settings["eval_dataset"] = self.given.probes
        if self.name in ("near", "tsds"):
            with driven.thinking():
                rows, probes = (
                    embeddings(trainer.model, data, collator) for data in (trainer.train_dataset, self.given.probes)
                )
            path = cache / f"{self.name}.npy"
            np.save(path, neighbours(rows, probes) if self.name == "near" else tsds_odds(rows, probes))
            settings["indices_path" if self.name == "near" else "probs_path"] = str(path)
        self.selector = self.made(
            dataset=trainer.train_dataset,
            accelerator=trainer.accelerator,
            data_collator=collator,
            cache_dir=str(cache),
            **settings,
        )
        self.selector.seed = self.given.seed

    def rows(self, step: int) -> Sequence[int] | None:
        """Rows with replacement at first, then as many as ten steps take, chosen every ten steps."""
        rows_of_step = self.trainer.args.per_device_train_batch_size * self.trainer.args.gradient_accumulation_steps
        if step == 0:
            first: Sequence[int] = self.selector.warmup(rows_of_step * WARM_UP, replacement=True)
            return first
        if step < WARM_UP or (step - WARM_UP) % UPDATE:
            return None
        chosen: Sequence[int] = self.selector.select(
            model=self.trainer.model,
            step_id=step,
            num_samples=rows_of_step * UPDATE,
            optimizer_state=self.trainer.optimizer.state,
            scheduler_state=self.trainer.lr_scheduler.state_dict(),
            current_update_times=(step - WARM_UP) // UPDATE + 1,
            update_times=max(1, -(-(self.given.steps - WARM_UP) // UPDATE)),
            tokenizer=self.trainer.processing_class,
        )
        return chosen


@torch.no_grad()
def embeddings(model: Any, rows: Any, collator: Callable[[Any], Any], batch_size: int = 64) -> FloatArray:
    """Means of the last states of each row, of length one, (n, h)."""
    model.eval()
    found = []
    for start in range(0, len(rows), batch_size):
        batch = collator([rows[i] for i in range(start, min(start + batch_size, len(rows)))])
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        states = model(**inputs, output_hidden_states=True).hidden_states[-1]
        mask = inputs["attention_mask"][..., None].to(states.dtype)
        found.append(torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1))
    return torch.cat(found).double().numpy()


def distances(rows: FloatArray, probes: FloatArray) -> FloatArray:
    """Squared, of each probe to each row, (m, n)."""
    return np.maximum(0.0, (probes**2).sum(1)[:, None] + (rows**2).sum(1) - 2 * probes @ rows.T)


def neighbours(rows: FloatArray, probes: FloatArray) -> IntArray:
    """Of each probe its nearest rows, nearest first, (m, k): `offline_near_selector.offline_near_Selector.selector`."""
    return np.argsort(distances(rows, probes), axis=1, kind="stable")[:, :NEIGHBOURS]


def tsds_odds(rows: FloatArray, probes: FloatArray) -> FloatArray:
    """Odds of each row to be drawn, (n,): `offline_tsds_selector.offline_tsds_Selector.selector`.

    Each probe's mass goes to its nearest rows, less of it to rows that stand close together, and to as many of them as
    the distance allows.
    """
    n_probes, n_rows = len(probes), len(rows)
    squared = distances(rows, probes)
    near = np.argsort(squared, axis=1, kind="stable")
    far = np.sqrt(np.take_along_axis(squared, near, axis=1))
    density = np.maximum(0.0, 1 - distances(rows, rows) / SIGMA**2).sum(1)[near]
    last, cost = [0] * n_probes, np.zeros(n_probes)
    weighted = (far[:, 0] / density[:, 0]).tolist()
    heap = [(1.0 / density[j, 0], 0, j) for j in range(n_probes)]
    heapq.heapify(heap)
    total = count = 0.0
    while heap:
        count, k, j = heapq.heappop(heap)
        total -= cost[j]
        cost[j] = far[j, k + 1] * count - weighted[j]
        total += cost[j]
        if ALPHA / TRADE * total >= (1 - ALPHA) * n_probes:
            break
        last[j] = k
        if k < n_rows - 2:
            heapq.heappush(heap, (count + 1.0 / density[j, k + 1], k + 1, j))
            weighted[j] += far[j, k + 1] / density[j, k + 1]
    odds = np.zeros(n_rows)
    for j in range(n_probes):
        shares = 1.0 / (n_probes * count * density[j, : last[j] + 1])
        np.add.at(odds, near[j, : last[j] + 1], shares)
        odds[near[j, last[j] + 1]] += max(1.0 / n_probes - shares.sum(), 0.0)
    found: FloatArray = odds / odds.sum()
    return found


# -- how much they count -----------------------------------------------------------------------------------------------


class Weighing(Theirs):
    """`weight_trainer.WeightTrainer._inner_training_loop` around one of DataFlex's weighters."""

    def begin(self, driven: Driven) -> None:
        """Make the weighter."""
        super().begin(driven)
        more = (
            {"eval_dataset": self.given.probes, "data_collator": WithIndex(self.trainer)}
            if self.name == "adapt"
            else {}
        )
        self.weighter = self.made(**self.settings, **more)

    def weighted(self, losses: Any, rows: Sequence[int], model: Any, batch: Any) -> Any:
        """Theirs, after a fifth of the run."""
        del rows
        if self.trainer.state.global_step < UNWEIGHTED * self.given.steps:
            return None
        return self.weighter.get_weighted_loss(losses, ctx=self.trainer, model=model, inputs=batch)


# -- of which domains --------------------------------------------------------------------------------------------------


class Mixing(Theirs):
    """`mix_trainer.MixTrainer._inner_training_loop` around one of DataFlex's mixers, or around shares that stay.

    Args:
        name: of the mixer; `mixture` for none.
        settings: of it.
        given: the run.
        shares: of the domains, to begin with.
    """

    def __init__(self, name: str, settings: Json, given: Material, shares: Sequence[float]) -> None:
        super().__init__(name, settings, given)
        self.shares, self.mixture = shares, dataflex.part("mixture")
        self.mixer: Any = None

    def begin(self, driven: Driven) -> None:
        """Make the mixture and the mixer."""
        super().begin(driven)
        names, self.domain = self.given.domains
        places = {name: np.flatnonzero(self.domain == i).tolist() for i, name in enumerate(names)}
        self.manager = self.mixture(places, proportions=list(self.shares), seed=self.given.seed)
        if self.name == "odm":
            self.mixer = self.made(self.manager, initial_proportions=list(self.shares), **self.settings)
        elif self.name == "doremi":
            self.mixer = self.made(self.manager, **self.settings)
            self.mixer._load_reference_model(self.trainer.model)
            driven.watch(self.mixer.reference_model)

    def rows(self, step: int) -> Sequence[int] | None:
        """Rows by the proportions of the moment, with replacement; new proportions every ten steps."""
        if step and (step < WARM_UP or (step - WARM_UP) % UPDATE):
            return None
        if step and self.mixer is not None:
            rows, batch = self.last
            codes = torch.as_tensor(self.domain[rows])
            self.manager.set_proportions(self.mixer.mix(self.trainer.model, step, batch=batch, domain_ids=codes))
        args = self.trainer.args
        n = args.per_device_train_batch_size * args.gradient_accumulation_steps * (UPDATE if step else WARM_UP)
        drawn = self.manager.rebuild(num_samples=n)
        return [drawn[i] for i in range(n)]

    def weighted(self, losses: Any, rows: Sequence[int], model: Any, batch: Any) -> Any:
        """DoReMi's proxy: by the weight of a row's domain."""
        del model, batch
        if self.name != "doremi":
            return None
        weights = torch.as_tensor(self.mixer.get_current_doremi_weights(), dtype=losses.dtype)
        return (losses * weights[self.domain[list(rows)]]).mean()

    def trained(self, rows: Sequence[int], batch: Any, loss: float) -> None:
        """ODM takes a batch for one of its first row's domain."""
        self.last = list(rows), batch
        if self.name == "odm":
            self.mixer.update_batch_info(loss, int(self.domain[rows[0]]))


def doremi_shares(given: Material) -> tuple[float, list[float]]:
    """(Tokens that it cost, shares): a reference trained on equal shares, and a proxy that is weighted against it.

    Raises:
        SystemExit: the base trains an adapter, and theirs reads a whole model.
    """
    n = len(given.domains[0])
    equal, spent = [1 / n] * n, 0.0
    folder = given.out / "reference"
    driven = given.driven(Mixing("mixture", {}, given, equal), given.out / "doremi_1")
    if hasattr(driven.trainer.model, "peft_config"):
        raise SystemExit("`dataflex_doremi` must train a whole model, got an adapter. Leave this arm out here.")
    driven.trainer.train()
    driven.trainer.save_model(str(folder))
    spent += sum(tokens for _, _, tokens in driven.visits)
    peer = Mixing("doremi", {**MIXERS["doremi"], "reference_model_path": str(folder)}, given, equal)
    driven = given.driven(peer, given.out / "doremi_2")
    driven.trainer.train()
    spent += sum(tokens for _, _, tokens in driven.visits) + driven.asked
    return spent, peer.mixer.get_average_weights().tolist()


# -- one run -----------------------------------------------------------------------------------------------------------


def train(keep: Path, situation: Situation, arm: str, seed: int, rows: Made, out: Path) -> Json:
    """One run of a peer: a result as `runs` writes it, and its arrays.

    Raises:
        SystemExit: there is no checkout of DataFlex, or the peer cannot train this base.
    """
    given = Material(keep, situation, seed, rows, out)
    before = 0.0
    if arm == f"{PREFIX}doremi":
        before, shares = doremi_shares(given)
        peer: Peer = Mixing("mixture", {}, given, shares)
    else:
        peer = peer_of(arm, given)
    recorder = DrivenRecorder(tests_of(rows, out), situation.points, with_gap=False)
    driven = given.driven(peer, out, [recorder])
    recorder.drive(driven)
    start, began = weights_at_start(driven.trainer.model), time.perf_counter()
    status: Json = {"status": "finished", "message": None}
    try:
        driven.trainer.train()
    except DivergedError as error:
        status = {"status": "diverged", "message": str(error)}
    seconds = time.perf_counter() - began - recorder.curve_seconds
    tokens = as_trained(*compat.loader_view(driven.trainer, driven.trainer.train_dataset), speaks=False).rows()
    parts = [(places, sums.nll.numpy(), sums.tokens.numpy()) for places, sums, _ in driven.visits]
    row, nll, counted = (np.concatenate(values) for values in zip(*parts, strict=True))
    keep_arrays(out, tokens, rows, {"row": row, "nll_sum": nll, "tokens": counted})
    cost = (before + driven.asked) / recorder.tokens
    outcome: Json = {
        "situation": situation.name,
        "arm": arm,
        "kind": "recipe",
        "seed": seed,
        **status,
        "campus": {"peer": arm, **SETTINGS.get(arm.removeprefix(PREFIX), {})},
        "shared": shared_of(tokens.fingerprint(), recorder, given.steps, start),
        "tokens": recorder.tokens,
        "rows": sum(len(step) for step in recorder.visits),
        "seconds": {"training": seconds, "curve": recorder.curve_seconds},
        "cost": {"peer": cost, "all": cost},
        "test": recorder.end(),
        "curve": recorder.curve(),
        "audit": None,
        "ledger": [],
        "planted": float(rows.wrong.mean()),
    }
    compat.let_go(driven.trainer)
    return outcome
