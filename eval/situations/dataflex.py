"""DataFlex's own selectors, weighters and mixers, opened without LLaMA-Factory (arXiv 2603.26164).

Its algorithms are classes of a file each, which need torch and a few helpers of theirs; its trainers need LLaMA-Factory
and are not opened: `peers` follows their loops. A checkout is named by the environment:

    git clone https://github.com/OpenDCAI/DataFlex && export DATAFLEX=$PWD/DataFlex      (read at commit 3c13e37)

Nothing of it is installed, copied or changed. Two modules stand in for those that it imports: its logger, which would
print a line for every step, and `trak`, whose projectors LESS makes its gradients small with (`Sketch`).
"""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

CHECKOUT = "DATAFLEX"
COMMIT = "3c13e37"
PACKAGES = ("", ".core", ".utils", ".train", ".train.selector", ".train.weighter", ".train.mixer", ".train.dataset")
FILES = {
    "random": "train.selector.random_selector",
    "loss": "train.selector.loss_selector",
    "delta_loss": "train.selector.delta_loss_selector",
    "less": "train.selector.less_selector",
    "near": "train.selector.near_selector",
    "tsds": "train.selector.tsds_selector",
    "weigh": "train.weighter.loss_weighter",
    "adapt": "train.weighter.adapt_weighter",
    "odm": "train.mixer.odm_mixer",
    "doremi": "train.mixer.doremi_mixer",
    "mixture": "train.dataset.mixed_proportion_manager",
}
CLASSES = {
    "random": "RandomSelector",
    "loss": "LossSelector",
    "delta_loss": "DeltaLossSelector",
    "less": "LessSelector",
    "near": "near_Selector",
    "tsds": "tsds_Selector",
    "weigh": "LossWeighter",
    "adapt": "AdaptWeighter",
    "odm": "ODMMixer",
    "doremi": "DoremiMixer",
    "mixture": "MixedProportionManager",
}


def checkout() -> Path | None:
    """The folder of DataFlex's package, if the environment names one."""
    folder = os.environ.get(CHECKOUT)
    return None if folder is None else Path(folder) / "src" / "dataflex"


def part(name: str) -> Any:
    """A class of theirs.

    Args:
        name: as in `FILES`.

    Raises:
        SystemExit: no checkout is named, or it has no such file.
    """
    folder = checkout()
    if folder is None or not folder.is_dir():
        found = "none" if folder is None else f"{folder.parents[1]}, which has no src/dataflex"
        raise SystemExit(
            f"`{CHECKOUT}` must name a checkout of github.com/OpenDCAI/DataFlex, got {found}. Clone it (read at commit "
            f"{COMMIT}) and export {CHECKOUT}."
        )
    _stand_in(folder)
    try:
        return getattr(import_module(f"dataflex.{FILES[name]}"), CLASSES[name])
    except (ImportError, AttributeError) as error:
        raise SystemExit(
            f"`{CHECKOUT}` must have {CLASSES[name]} in {FILES[name]}, got {error}. Check out {COMMIT}."
        ) from error


def _stand_in(folder: Path) -> None:
    """Packages without their `__init__`, which would import all trainers, and the two modules."""
    if "dataflex" in sys.modules:
        return
    for package in PACKAGES:
        module = ModuleType(f"dataflex{package}")
        module.__path__ = [str(folder.joinpath(*package.split(".")))]
        sys.modules[module.__name__] = module
    quiet = ModuleType("dataflex.utils.logging")
    vars(quiet)["logger"] = logging.getLogger("dataflex")
    vars(quiet)["logger"].setLevel(logging.ERROR)
    sys.modules[quiet.__name__] = quiet
    try:
        import_module("trak.projectors")
    except ImportError:
        projectors = ModuleType("trak.projectors")
        vars(projectors).update(BasicProjector=Sketch, CudaProjector=Sketch, ProjectionType=_Kinds)
        sys.modules |= {"trak": ModuleType("trak"), "trak.projectors": projectors}


class _Kinds:
    rademacher = "rademacher"


class Sketch:
    """Gradients made small: each weight is added, with a random sign, to one of a few sums.

    Inner products are kept in expectation, as by the Rademacher matrix of `trak`, whose memory is as many times the
    model's (Weinberger et al. 2009, arXiv 0902.2206).

    Args:
        grad_dim: numbers in a gradient.
        proj_dim: sums.
        seed: of the signs and sums.
        others: what else `trak` is told.
    """

    def __init__(self, grad_dim: int, proj_dim: int, seed: int = 0, **others: Any) -> None:
        import torch

        del others
        drawn = torch.Generator().manual_seed(seed)
        self.place = torch.randint(proj_dim, (grad_dim,), generator=drawn)
        self.sign = torch.randint(2, (grad_dim,), generator=drawn).float() * 2 - 1
        self.proj_dim = proj_dim

    def project(self, grads: Any, model_id: int = 0) -> Any:
        """Gradients (n, grad_dim) as (n, proj_dim)."""
        del model_id
        signed = grads.float() * self.sign
        return signed.new_zeros(len(signed), self.proj_dim).index_add_(1, self.place, signed)
