"""Selectors: which of the offered slices is trained next. Importing this registers all of them."""

from campus_tune.method.selectors import baselines, greedy
from campus_tune.method.selectors.base import (
    LOSS,
    PROBES,
    SELECTORS,
    START_LOSS,
    GreedySelector,
    Selector,
    View,
    build_selector,
)

__all__ = [
    "LOSS",
    "PROBES",
    "SELECTORS",
    "START_LOSS",
    "GreedySelector",
    "Selector",
    "View",
    "baselines",
    "build_selector",
    "greedy",
]
