"""What every selector promises, whatever it is shown."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from campus_tune.method.estimates import Estimate
from campus_tune.method.probe_history import Measurement, ProbeHistory
from campus_tune.method.selectors import (
    LOSS,
    NORM,
    OWN,
    PROBES,
    SELECTORS,
    START_LOSS,
    GreedySelector,
    Selector,
    View,
    build_selector,
)
from campus_tune.method.stages import SHUFFLE
from campus_tune.method.view import History, PastStage
from campus_tune.testing.promises import check_card, check_frozen, name_in, promise

NAMES = "abcdef"  # of the offers; a setting that names one gets one of these
SHOWN = (LOSS, START_LOSS, PROBES, OWN, NORM)  # what a run can show


def check_selector(setting: str | Mapping[str, Any], *, draws: int = 30, seed: int = 0) -> None:
    """Check that a selector keeps what campus_tune relies on, over views drawn at random.

    Args:
        setting: as in a recipe: a registered name, or a mapping with its options. An option that names an order
            should name one of "a" to "f", which are offered.
        draws: views.
        seed: of the draws.

    Raises:
        BrokenPromise: the first promise that is not kept, in a sentence.
        RecipeError: no selector of this name is registered or installed, or it does not take these options.
    """
    name, selector = name_in(setting), build_selector(setting)
    check_card(SELECTORS, name, (Selector, GreedySelector))
    promise(isinstance(selector, Selector), f"`{name}` must be a Selector, got {type(selector).__name__}. Inherit it.")
    check_frozen(selector, name, may_be_plain=True)
    promise(
        selector.needs <= set(SHOWN),
        f"`{name}` must need only what a run can show ({', '.join(SHOWN)}), got {', '.join(sorted(selector.needs))}.",
    )
    promise(
        isinstance(selector, GreedySelector) == (LOSS in selector.needs),
        f"`{name}` must be a GreedySelector if, and only if, it needs {LOSS!r}: offers are measured as far as it takes "
        "to tell their distances apart.",
    )
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        view = draw_view(rng)
        selector, shown = build_selector(setting), copy.deepcopy(view)
        chosen = selector.choose(view)
        promise(chosen in view.names, f"`{name}` must take one of the offers {view.names}, got {chosen!r}.")
        promise(repr(view) == repr(shown), f"`{name}` must leave the view as it was, got it changed after {shown}.")
        selector.choose(replace(view, stage=view.stage + 1))
        again = [selector.choose(view), build_selector(setting).choose(view)]
        promise(
            again == [chosen, chosen],
            f"`{name}` must choose by what it is shown and by nothing else, got {chosen!r}, {again[0]!r} after another "
            f"stage and {again[1]!r} when made anew, shown {view}. Draw from [view.seed, view.stage]; remember "
            "nothing.",
        )
        _check_what_it_looks_at(setting, view)
        _check_names(setting, view)


def draw_view(rng: np.random.Generator) -> View:
    """What a selector may be shown: 1 to 6 offers, some of them alike, some often chosen, at any stage of a run."""
    names = rng.permutation(list(NAMES))[: rng.integers(1, len(NAMES) + 1)].tolist()
    losses = [np.where(rng.random(len(names)) < 0.3, 1.0, rng.uniform(0, 12, len(names))) for _ in range(2)]
    stage = int(rng.integers(0, 1000))
    return View(
        names=names,
        stage=stage,
        n_decisions=int(rng.integers(0, 1000)),
        times_chosen={name: int(rng.integers(0, 10)) for name in NAMES if rng.random() < 0.5},
        history=_draw_history(rng, stage),
        seed=int(rng.integers(0, 2**40)),
        mean_loss=losses[0],
        start_loss=losses[1],
        probe_loss=float(rng.uniform(0, 12)),
    )


def _draw_history(rng: np.random.Generator, stage: int) -> History:
    """Up to thirty stages before this one, some of them shuffled, with probes at every stage, or at every third."""
    stages: list[PastStage] = []
    measured: list[Measurement] = []
    every, first = int(rng.choice([1, 3])), max(0, stage - int(rng.integers(0, 31)))
    for index in range(first, stage + 1):
        if index % every == 0:
            loss, accuracy = Estimate(float(rng.uniform(0, 12)), 0.1, 8), Estimate(0.5, 0.1, 8)
            u = index / 1000
            measured.append(Measurement(index, index, u, u, index, {"probe": loss}, {"probe": accuracy}))
        if index < stage:
            offered = rng.permutation(list(NAMES))[: rng.integers(1, len(NAMES) + 1)].tolist()
            past = PastStage(
                index,
                SHUFFLE if rng.random() < 0.1 else offered[0],
                index + 1,
                float(rng.uniform(0, 12)),
                offered=offered,
                tokens=100,
                lr_mass=0.1,
                lr_tokens=float(rng.choice([0.0, 10.0, 20.0])),
                own_gain=float(rng.normal()),
                norm_gain=float(rng.uniform()),
            )
            stages.append(past)
    competence = [float(np.exp(-one.loss["probe"].value)) for one in measured]
    return History(stages, {"probe": competence} if competence else {}, ProbeHistory(measured))


def _without(history: History, needs: frozenset[str]) -> History:
    """The history with what a selector says that it needs, and no more."""
    stages = [
        replace(
            stage,
            own_gain=stage.own_gain if OWN in needs else None,
            norm_gain=stage.norm_gain if NORM in needs else None,
        )
        for stage in history.stages
    ]
    history = replace(history, stages=stages)
    return history if PROBES in needs else replace(history, probes={}, measured=ProbeHistory())


def _check_what_it_looks_at(setting: str | Mapping[str, Any], view: View) -> None:
    """Only what it says it needs; and never an offer of which nothing could be measured, while there are others."""
    name, selector = name_in(setting), build_selector(setting)
    chosen = selector.choose(view)
    bare = replace(
        view,
        mean_loss=view.mean_loss if LOSS in selector.needs else None,
        start_loss=view.start_loss if START_LOSS in selector.needs else None,
        probe_loss=view.probe_loss if PROBES in selector.needs else None,
        history=_without(view.history, selector.needs),
    )
    try:
        alone = selector.choose(bare)
    except Exception as error:  # of arithmetic with None
        alone = f"{type(error).__name__}: {error}"
    promise(
        alone == chosen,
        f"`{name}` must look only at what it says it needs ({', '.join(sorted(selector.needs)) or 'nothing'}), got "
        f"{chosen!r} with everything shown and {alone!r} with that alone. Add to `needs` what it reads.",
    )
    if LOSS not in selector.needs or len(view.names) == 1:
        return
    assert view.mean_loss is not None  # as drawn
    for unmeasured, offer in enumerate(view.names):
        losses = view.mean_loss.copy()
        losses[unmeasured] = np.nan
        promise(
            selector.choose(replace(view, mean_loss=losses)) != offer,
            f"`{name}` must prefer any measured offer to one of which nothing could be measured (NaN), got {offer!r} "
            f"of {view.names} with the losses {losses.tolist()}.",
        )


def _check_names(setting: str | Mapping[str, Any], view: View) -> None:
    """What the offers are called does not matter, and a single one is taken."""
    name, called = name_in(setting), {offer: f"renamed {offer}" for offer in NAMES}
    chosen = build_selector(setting).choose(view)
    options = dict(setting) if isinstance(setting, Mapping) else {"name": setting}
    new = {key: [called.get(one, one) for one in value] for key, value in options.items() if isinstance(value, list)}
    new |= {key: called.get(value, value) for key, value in options.items() if isinstance(value, str)}
    selector = build_selector(options | new)
    past = [
        replace(stage, chosen=called.get(stage.chosen, stage.chosen), offered=[called[one] for one in stage.offered])
        for stage in view.history.stages
    ]
    renamed = replace(
        view,
        names=[called[offer] for offer in view.names],
        times_chosen={called[offer]: times for offer, times in view.times_chosen.items()},
        history=replace(view.history, stages=past),
    )
    taken = selector.choose(renamed)
    promise(
        taken == called[chosen],
        f"`{name}` must not go by what the offers are called, got {chosen!r} of {view.names}, and {taken!r} once they "
        f"were called {renamed.names}.",
    )
    assert view.mean_loss is not None  # as drawn
    assert view.start_loss is not None
    alone = replace(view, names=view.names[:1], mean_loss=view.mean_loss[:1], start_loss=view.start_loss[:1])
    taken = build_selector(setting).choose(alone)
    promise(taken == view.names[0], f"`{name}` must take the only offer {alone.names}, got {taken!r}.")
