"""selectors: which of the offered slices is trained next. Importing this registers all of them."""

from campus_tune.method.selectors import greedy
from campus_tune.method.selectors.bandits import Bandit
from campus_tune.method.selectors.base import (
    LOSS,
    NORM,
    OWN,
    PROBES,
    SELECTORS,
    START_LOSS,
    GreedySelector,
    Selector,
    build_selector,
)
from campus_tune.method.selectors.baselines import RoundRobin
from campus_tune.method.selectors.race import Outcome, RaceResult, measure_offers, stratified_sample
from campus_tune.method.view import View

__all__ = [
    "LOSS",
    "NORM",
    "OWN",
    "PROBES",
    "SELECTORS",
    "START_LOSS",
    "Bandit",
    "GreedySelector",
    "Outcome",
    "RaceResult",
    "RoundRobin",
    "Selector",
    "View",
    "build_selector",
    "greedy",
    "measure_offers",
    "stratified_sample",
]
