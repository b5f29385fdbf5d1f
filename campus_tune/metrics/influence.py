"""What a row is worth before it is trained: how fast training it would lower the loss of the probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from campus_tune.metrics.base import METRICS
from campus_tune.metrics.passage import EVERY_PROBE, Passage, PassageMetric
from campus_tune.metrics.settings import Reduce, reduced
from campus_tune.words.leaves import Wording
from campus_tune.words.types import FloatArray, RowLosses


@METRICS.register("influence")
@dataclass(frozen=True, kw_only=True)
class Influence(PassageMetric):
    """How much a row's gradient points the way of the probes': `⟨∇ℓ_r, G⟩`, G = gradient of the probes' mean loss.

    In the weights that are trained, of the model in hand. Above 0: a step on the row lowers the probes' loss; below 0:
    it raises it. **Write `-influence` to train the most helpful first** (orders go from low to high); plain `influence`
    trains the most harmful first and is the control.

    When it helps: where the data are a mixture of which some is of no use for what the probes ask, before anything is
    trained. Of rows that are trained, a run with `value: true` measures the same at no forward of its own. It is of
    this model, now, and of these probes: early on it is ruled by format, rows of a few tokens have large values per
    token, and what is near 0 has no sign. `thin: {how: top, by: influence, keep: 0.5, fresh: true}` asks anew before
    each stage which of its rows help the most. Cost: two forwards over the rows, and one backward over some probes, a
    quarter of what scores may cost; all of it again at every re-scoring.

    Args:
        probe: domain of the probes whose loss counts; None is the mean over all domains, each counted alike.
        reduce: `mean` per answer token, or `sum` over the answer: what one visit of the row does.

    Reference:
        Pruthi et al. 2020, Estimating Training Data Influence by Tracing Gradient Descent, arXiv 2002.08484 (TracIn);
        Xia et al. 2024, LESS, arXiv 2402.04333, selects instruction data by it; Wang et al. 2024, GREATS, picks rows
        out of each batch.

    Differs from the papers: they keep a gradient of every row, projected by LESS to some thousand numbers; we never
    make one, but see each loss change as the model is moved along G (`model.slopes`). TracIn adds up checkpoints of a
    run, we look at one moment. LESS divides by Adam's second moments and by the gradients' lengths; we do not.
    """

    needs_probes: ClassVar[bool] = True
    highest_first: ClassVar[str] = "what lowers the loss of the probes the most"

    probe: Annotated[str | None, Wording("a domain of the probes")] = None
    reduce: Reduce = "mean"

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The slopes of the rows' losses, towards the probes."""
        return (Passage(towards=self.probe or EVERY_PROBE),)

    def from_losses(self, losses: Sequence[RowLosses]) -> FloatArray:
        """Scores of measured rows, shape (n,)."""
        (slopes,) = losses
        return reduced(slopes, self.reduce)
