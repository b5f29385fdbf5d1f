"""Metrics: one float per row, higher = harder. Importing this package registers all; none of them loads a model."""

from campus_tune.difficulty.base import (
    METRICS,
    CpuMetric,
    Metric,
    MetricSpec,
    build_metric,
    check_labels,
    finish_scores,
    parse_metric,
)
from campus_tune.difficulty.column import Column
from campus_tune.difficulty.compression import Compression
from campus_tune.difficulty.confidence import Confidence
from campus_tune.difficulty.diversity import Mtld
from campus_tune.difficulty.ifd import Ifd
from campus_tune.difficulty.learnability import Learnability
from campus_tune.difficulty.length import Length
from campus_tune.difficulty.loss import Loss
from campus_tune.difficulty.parallel import map_texts
from campus_tune.difficulty.parse_depth import ParseDepth
from campus_tune.difficulty.passage import Passage, PassageMetric
from campus_tune.difficulty.perplexity import Perplexity
from campus_tune.difficulty.quality import Quality
from campus_tune.difficulty.random_order import Random
from campus_tune.difficulty.rank_mean import RankMean
from campus_tune.difficulty.readability import Readability
from campus_tune.difficulty.rho import Rho
from campus_tune.difficulty.scorer import Scorer

__all__ = [
    "METRICS",
    "Column",
    "Compression",
    "Confidence",
    "CpuMetric",
    "Ifd",
    "Learnability",
    "Length",
    "Loss",
    "Metric",
    "MetricSpec",
    "Mtld",
    "ParseDepth",
    "Passage",
    "PassageMetric",
    "Perplexity",
    "Quality",
    "Random",
    "RankMean",
    "Readability",
    "Rho",
    "Scorer",
    "build_metric",
    "check_labels",
    "finish_scores",
    "map_texts",
    "parse_metric",
]
