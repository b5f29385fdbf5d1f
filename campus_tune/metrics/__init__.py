"""metrics: what makes a row hard, one float per row, higher = harder. Importing it registers all and loads no model."""

from campus_tune.metrics.base import (
    METRICS,
    CpuMetric,
    EnsembleMetric,
    Kind,
    Metric,
    MetricSpec,
    build_metric,
    check_labels,
    finish_scores,
    leaves,
    parse_metric,
)
from campus_tune.metrics.column import Column
from campus_tune.metrics.compression import Compression
from campus_tune.metrics.confidence import Confidence
from campus_tune.metrics.diversity import Mtld
from campus_tune.metrics.ifd import Ifd
from campus_tune.metrics.influence import Influence
from campus_tune.metrics.learnability import Learnability
from campus_tune.metrics.length import Length
from campus_tune.metrics.loss import Loss
from campus_tune.metrics.parallel import map_texts
from campus_tune.metrics.parse_depth import ParseDepth
from campus_tune.metrics.passage import EVERY_PROBE, HERE, Passage, PassageMetric
from campus_tune.metrics.perplexity import Perplexity
from campus_tune.metrics.quality import Quality
from campus_tune.metrics.random_order import Random
from campus_tune.metrics.rank_mean import RankMean
from campus_tune.metrics.readability import Readability
from campus_tune.metrics.reward import Reward, RewardMetric
from campus_tune.metrics.rho import Rho
from campus_tune.metrics.scorer import Scorer
from campus_tune.metrics.spread import Spread

__all__ = [
    "EVERY_PROBE",
    "HERE",
    "METRICS",
    "Column",
    "Compression",
    "Confidence",
    "CpuMetric",
    "EnsembleMetric",
    "Ifd",
    "Influence",
    "Kind",
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
    "Reward",
    "RewardMetric",
    "Rho",
    "Scorer",
    "Spread",
    "build_metric",
    "check_labels",
    "finish_scores",
    "leaves",
    "map_texts",
    "parse_metric",
]
