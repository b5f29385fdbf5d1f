"""What the blocks of the draw and the weights ask of one another, of the recipe's metrics, and of how long the run is.

A block's own words are read in `campus_tune/recipe/draw_blocks.py`. Here a score's name is looked up: it is a label of
one of the recipe's `metrics`, or a metric that only the draw asks for, which is scored like the others and is no order.

>>> from campus_tune.metrics import parse_metric
>>> length = parse_metric("length")
>>> found = find_score("-length", [length])
>>> found.spec is length, found.turned
(True, True)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

from campus_tune.method.weights import Act, LiveWeight
from campus_tune.metrics import METRICS, MetricSpec, build_metric, leaves, parse_metric
from campus_tune.recipe.draw_blocks import (
    BOOK,
    BY_REWARDS,
    CellSettings,
    DomainSettings,
    Entry,
    PhaseSettings,
    ReviewSettings,
    ThinSettings,
)
from campus_tune.recipe.drop_block import DROPS_SUSPECTS, SUSPECTS, VALUE, WORDS, DropSettings
from campus_tune.recipe.weights_block import WeightSettings, weight_problems
from campus_tune.words.errors import RecipeError
from campus_tune.words.registry import nearest

SHUFFLED_SCORES, RANDOM_DROP, SHUFFLED_WEIGHTS = "shuffled_scores", "random_drop", "shuffled_weights"  # a `control`
DROP_BEST = "drop_best"  # and this


@dataclass(frozen=True)
class FoundScore:
    """The metric that an entry means.

    Args:
        spec: of the metric.
        turned: the entry's minus turns the metric's scores around once more.
    """

    spec: MetricSpec
    turned: bool = False


def find_score(entry: Entry, specs: Sequence[MetricSpec]) -> FoundScore:
    """The metric that a block's `by` means: a label of the recipe's metrics, with a minus or without, or another one.

    Raises:
        RecipeError: there is no such metric, or its options are wrong.
    """
    if isinstance(entry, str):
        known = {spec.label: spec for spec in specs}
        if entry in known:
            return FoundScore(known[entry])
        if entry.startswith("-") and entry[1:] in known:
            return FoundScore(known[entry[1:]], turned=True)
    return FoundScore(parse_metric(entry))


@dataclass(frozen=True)
class DrawBlocks:
    """The blocks of one recipe that say who is drawn, which rows, and how much they count; None or empty without one.

    Args:
        cells: inside which scores are compared.
        domains: the shares.
        phases: parts of the run.
        thin: which of the offered rows are trained.
        review: rows that come back.
        drop: rows that are never trained.
        weights: how much rows count.
        control: what is made random, to compare with.
        raises: some rule raises the share of a domain.
    """

    cells: CellSettings | None = None
    domains: DomainSettings | None = None
    phases: Sequence[PhaseSettings] = ()
    thin: ThinSettings | None = None
    review: ReviewSettings | None = None
    drop: Sequence[DropSettings] = ()
    weights: Sequence[WeightSettings] = ()
    control: str | None = None
    raises: bool = False

    @property
    def apart(self) -> bool:
        """Something is drawn otherwise than without the blocks."""
        shares = self.raises or (self.domains is not None and not self.domains.changes_nothing)
        phases = any(phase.draws for phase in self.phases) if self.counts_in_shares else bool(self.phases)
        return (shares and not self.counts_in_shares) or phases or bool(self.thin or self.review or self.drop)

    @property
    def counts_in_shares(self) -> bool:
        """Shares are weights: all rows are drawn as ever."""
        return self.domains is not None and self.domains.by == "weights"

    @property
    def share_weights(self) -> bool:
        """Shares are weights, and something else than natural ones."""
        changed = self.raises or (self.domains is not None and not self.domains.changes_nothing)
        return self.counts_in_shares and (changed or any(phase.shares for phase in self.phases))

    @property
    def weighs(self) -> bool:
        """Rows count otherwise than without the blocks."""
        return bool(self.weights) or self.share_weights

    @property
    def must_weigh(self) -> bool:
        """Some rows count otherwise whatever the run shows: a trainer that cannot weigh rows is refused."""
        return self.share_weights or any(entry.weight.when == "always" for entry in self.weights)

    def that_act(self, when: Act) -> tuple[str, ...]:
        """Names of what acts on wrong rows once a run shows some (auto); or of the weights that say so only (never)."""
        names = [entry.name for entry in self.weights if entry.weight.when == when]
        drops = when == "auto" and self.suspects is not None and self.suspects.acts == when
        return (*names, *([DROPS_SUSPECTS] if drops else []))

    @property
    def live(self) -> list[LiveWeight]:
        """The weights that a forward decides."""
        return [weight for entry in self.weights if isinstance(weight := entry.weight, LiveWeight)]

    @property
    def uses_domains(self) -> bool:
        """Rows are drawn by their domains, or count by them or by their cells, which lie inside of domains."""
        return self.apart or self.share_weights or any(weight.groups for weight in self.live)

    @property
    def named_by(self) -> str:
        """The block that asks for the rows' domains, for messages."""
        return "domains" if self.apart or self.share_weights else "weights"

    @property
    def over_cells(self) -> bool:
        """Cells, and not domains, have the shares."""
        return self.domains is not None and self.domains.over == "cells"

    @property
    def suspects(self) -> DropSettings | None:
        """The entry that drops rows in the middle of the run; None without one."""
        return next((entry for entry in self.drop if entry.by == SUSPECTS), None)

    @property
    def by_value(self) -> bool:
        """Some entry drops what harmed the probes of an earlier run."""
        return any(entry.by == VALUE for entry in self.drop)

    @property
    def uses_cells(self) -> bool:
        """Some block compares scores inside cells, or gives them shares. Suspects have cells of their own without.

        What rewards show of a prompt is comparable as it is: inside cells only where the recipe names them.
        """
        follows = self.domains is not None and self.domains.follow is not None
        own = self.suspects is not None and self.cells is not None
        compares = any(weight.groups == "cells" for weight in self.live)
        thins = self.thin is not None and (self.cells is not None or not self.thin.by_rewards)
        return thins or self.over_cells or follows or self.control in (RANDOM_DROP, DROP_BEST) or own or compares

    @property
    def moved_shares(self) -> bool:
        """What training or the probes show moves the shares."""
        moved = self.domains is not None and (self.domains.follow is not None or self.domains.reweight is not None)
        return self.raises or moved

    @property
    def fixed_shares(self) -> bool:
        """Something else than natural shares is asked for, and training does not change it."""
        written = [self.domains.shares if self.domains else None, *(phase.shares for phase in self.phases)]
        return any(shares not in (None, "natural") for shares in written)

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """(Setting, entry) of every metric that a block asks for."""
        if self.uses_cells:
            yield "cells: by", (self.cells or CellSettings()).by
        if self.thin is not None and self.thin.book_score is None and not self.thin.by_rewards:
            yield "thin: by", self.thin.by
        yield from (("phases: top", name) for phase in self.phases for name in phase.top or ())
        yield from (("drop: by", drop.by) for drop in self.drop if drop.by is not None and drop.by_metric)

    def extras(self, specs: Sequence[MetricSpec]) -> tuple[MetricSpec, ...]:
        """The metrics that are scored for the draw alone, each once; `specs` are those of the orders."""
        known = {spec.label for spec in specs}
        found = {spec.label: spec for _, entry in self.entries() if (spec := find_score(entry, specs).spec)}
        return tuple(spec for label, spec in found.items() if label not in known)

    def labels(self, specs: Sequence[MetricSpec]) -> dict[str, str]:
        """Label → setting of every metric that a block asks for."""
        return {find_score(entry, specs).spec.label: where for where, entry in self.entries()}

    def ordering(self, specs: Sequence[MetricSpec]) -> list[MetricSpec]:
        """The recipe's metrics and those of the draw that are asked which row comes before which, as bands are not."""
        asked = [find_score(entry, specs).spec for where, entry in self.entries() if where != "cells: by"]
        return [*leaves(specs), *specs, *leaves(asked), *asked]

    def without(self, wrong: set[str]) -> DrawBlocks:
        """The blocks that are right by themselves; a control, or a weight, may be of one of the others."""
        gone = wrong & {field.name for field in fields(self)}
        kept = {name: value for name, value in vars(self).items() if name not in gone}
        return DrawBlocks(**{**kept, **({"control": None, "weights": ()} if gone else {})})

    # -- what is wrong ---------------------------------------------------------------------------------------------

    def problems(self, specs: Sequence[MetricSpec], handover: float) -> list[str]:
        """All that does not go together, of blocks that are right by themselves.

        Args:
            specs: the recipe's metrics.
            handover: of the recipe.
        """
        labels = [spec.label for spec in specs]
        return [
            *self._of_scores(specs),
            *phase_problems(self.phases, labels),
            *self._of_pairs(),
            *weight_problems(self.weights, handover, self.thin, shares=self.share_weights),
        ]

    def _of_scores(self, specs: Sequence[MetricSpec]) -> Iterator[str]:
        """Names that no score has, and labels that would mean two of them."""
        members = [member for spec in specs for member in build_metric(spec).members]
        known = {spec.label: spec for spec in [*members, *specs]}
        labels = list(known)
        for where, entry in self.entries():
            try:
                spec = find_score(entry, specs).spec
            except RecipeError as error:
                yield from _unknown(where, entry, labels, elsewhere=known.keys(), error=error)
                continue
            if known.setdefault(spec.label, spec) != spec:
                yield (
                    f"`{where}` must mean one metric, got {spec.label!r} with other options than elsewhere in the "
                    "recipe. Give it a `label` of its own."
                )
        own = [] if self.thin is None else [self.thin.score.removeprefix("-")]
        if own and own[0] in (*BOOK, *BY_REWARDS) and own[0] in known:
            yield (
                f"`thin: by` must mean one score, got {own[0]!r}, which training shows and which is a "
                "label of `metrics` too. Give the metric another `label`."
            )

    def _of_pairs(self) -> Iterator[str]:
        """Shares that two blocks decide; a control of a block that is not there."""
        if self.domains is not None and self.domains.follow and any(phase.shares for phase in self.phases):
            yield (
                f"`domains: follow` must be alone to decide the shares, got {self.domains.follow} and shares in "
                "`phases`. Leave out one of them."
            )
        if (n := sum(entry.by == SUSPECTS for entry in self.drop)) > 1:
            yield f"`drop` must have one entry for {SUSPECTS}, got {n}: they are dropped once. Keep one of them."
        needed = {
            SHUFFLED_SCORES: ("thin", self.thin),
            RANDOM_DROP: ("drop", self.drop),
            DROP_BEST: ("drop: [{by: value}]", self.by_value),
            SHUFFLED_WEIGHTS: ("weights", self.weighs),
        }
        if self.control in needed:
            name, block = needed[self.control]
            if not block:
                yield (
                    f"`control` must be of a block that the recipe has, got {self.control} without `{name}`. Add "
                    f"`{name}`, or remove it."
                )

    def passes_problems(self, *, total_steps: int, steps_per_epoch: int, n_stages: int, revisits: bool) -> list[str]:
        """What a run of this length cannot do: rows are not seen twice, or there is but one stage.

        Args:
            total_steps: optimizer steps of the whole run.
            steps_per_epoch: of one pass over the rows.
            n_stages: about how many stages the run has.
            revisits: `coverage: revisit`.
        """
        found = []
        thin = self.thin
        shares = self.fixed_shares or self.moved_shares
        comes_again = revisits or (shares and not self.counts_in_shares)
        if thin is not None and thin.book_score and not thin.fresh and not comes_again:
            n_passes = thin.until * total_steps / steps_per_epoch
            if n_passes <= 1:
                found.append(
                    f"`thin: by` must be known before a row comes again, got {thin.book_score} for {n_passes:.3g} "
                    "passes over the rows: no row was seen before, there is nothing to go by. Train for more than one "
                    "epoch (num_train_epochs: 2), or go by a metric: thin: {by: length}."
                )
        if self.review is not None and n_stages <= 1:
            found.append(
                "`review` must have rows to come back to, got a run of one stage, before which nothing was trained. "
                "Write stages: 20, or leave `review` out."
            )
        sure = [entry for entry in self.weights if entry.weight.when == "always"]
        compare = [entry.name for entry in sure if getattr(entry.weight, "groups", None)]
        if compare and n_stages <= 1:
            found.append(
                f"`weights: {compare[0]}` must have the losses of a stage before to compare with, got a run of one "
                "stage: all rows would count 1. Write stages: 20, or leave it out."
            )
        return found

    def step_problems(self, micro_batch: int) -> list[str]:
        """What micro batches of so many rows cannot do: a row alone in its forward has nobody to deal weights with.

        Args:
            micro_batch: rows of one forward, `per_device_train_batch_size`.
        """
        live = [entry.name for entry in self.weights if entry.weight.kind == "row"]
        if self.control != SHUFFLED_WEIGHTS or not live or micro_batch > 1:
            return []
        problem = (
            f"`per_device_train_batch_size` must be at least 2 with control: {SHUFFLED_WEIGHTS} and {live[0]}, got "
            f"{micro_batch}: a row's weight that the forward decides is dealt to another row of it. Write 2, "
            "and half of gradient_accumulation_steps."
        )
        return [problem]


def phase_problems(phases: Sequence[PhaseSettings], labels: Sequence[str]) -> Iterator[str]:
    """Phases that do not follow one another, cross-fades that meet, orders that nobody has."""
    if not phases:
        return
    untils = [phase.until for phase in phases]
    if untils[-1] != 1 or any(a >= b for a, b in pairwise(untils)):
        got = ", ".join(f"{until:g}" for until in untils)
        yield f"`phases: until` must rise and end with 1, got {got}. Sort them, and write until: 1 for the last one."
        return
    if phases[-1].overlap:
        yield f"`phases: overlap` of the last phase must be 0, got {phases[-1].overlap:g}: none follows. Remove it."
    ends = [0.0, *(end for one in phases[:-1] for end in (one.until - one.overlap / 2, one.until + one.overlap / 2)), 1]
    for number, (begins, end) in enumerate(zip(ends[::2], ends[1::2], strict=True), 1):
        if begins > end + 1e-9:
            yield (
                f"`phases: overlap` must leave something of each phase, got {-(end - begins):.3g} too much for phase "
                f"{number}. Lower it there or before."
            )
    for phase in phases:
        for label in phase.offer or ():
            if label not in labels:
                known = ", ".join(labels) or "there are none"
                yield (
                    f"`phases: offer` must be labels of `metrics` ({known}), got {label!r}.{nearest(label, labels)} "
                    "Name one of them."
                )


def _unknown(
    where: str, entry: Entry, known: Sequence[str], *, elsewhere: Collection[str], error: RecipeError
) -> Iterator[str]:
    """What is said of an entry that means no metric; `elsewhere`: labels of other blocks' metrics too."""
    name = entry if isinstance(entry, str) else str(entry.get("name"))
    bare = name.removeprefix("-")
    if bare in METRICS.names() or not isinstance(entry, str):
        yield from (f"`{where}`: {problem}" for problem in error.problems)
        return
    words = {"thin: by": (*BOOK, *BY_REWARDS), "drop: by": WORDS}.get(where, ())
    others = [*words, *known, *METRICS.names()]
    listed = ", ".join(dict.fromkeys(others))
    hint = f"{nearest(bare, others)} Name one of them."
    if bare in elsewhere:
        hint = " It is the label of another block's metric: write the same mapping here, or name it under `metrics`."
    yield f"`{where}` must be one of {listed}, got {entry!r}.{hint}"
