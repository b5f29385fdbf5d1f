"""From a recipe's blocks to the policy that the curriculum draws by: names become numbers of rows.

In this sequence, for each needs the one before:

    column_of      which column the domains are read from
    cells_of       domain × band, once the difficulty is scored
    book_columns   what the book must keep, if there is one
    steering_of    what the record moves; None where a recipe lets it move nothing
    policy_of      all of it together; None where a recipe uses none of it

>>> from campus_tune.recipe.config import CampusConfig
>>> sizes = Domains(np.repeat([0, 1, 2], [8000, 1500, 500]), ["chat", "code", "math"])
>>> config = CampusConfig(selector="shuffle", domains={"shares": {"chat": 0.4, "code": 0.3, "math": 0.3}})
>>> policy_of(config, n_rows=10_000, domains=sizes).shares_at(0.5).tolist()
[0.4, 0.3, 0.3]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.method.acting import Acting
from campus_tune.method.book import REVIEWED, columns_of
from campus_tune.method.cells import Cells
from campus_tune.method.drop import at_random
from campus_tune.method.orders import order_rows
from campus_tune.method.policy import ALL_ROWS, Period, Policy
from campus_tune.method.review import Review
from campus_tune.method.reweight import build_reweight
from campus_tune.method.shares import SharePhase, at_least, fixed, natural, tempered
from campus_tune.method.steering import Steering
from campus_tune.method.thin import Thin
from campus_tune.recipe.draw_blocks import (
    NATURAL,
    TEMPERATURE,
    CellSettings,
    DomainSettings,
    PhaseSettings,
    Shares,
    ThinSettings,
)
from campus_tune.recipe.draw_rules import RANDOM_DROP, SHUFFLED_SCORES, find_score
from campus_tune.recipe.steer_rules import OF_DOMAINS
from campus_tune.words.errors import DataError, RecipeError
from campus_tune.words.registry import nearest
from campus_tune.words.types import BoolArray, FloatArray
from campus_tune.words.wording import listed, shown

if TYPE_CHECKING:
    from campus_tune.method.book import Book
    from campus_tune.method.pass_rates import PassRates
    from campus_tune.recipe.config import CampusConfig

ScoreOf: TypeAlias = Callable[[str], FloatArray]  # metric label → scores of all rows now, shape (N,)

FEW = 8  # rows of a domain, on average, below which it tells nothing of its rows
INVISIBLE = " \t\r\n\x0b\x0c\x00\xa0\u200b\ufeff"  # at the end of a name these make it another one that looks the same


# -- columns -----------------------------------------------------------------------------------------------------------


def column_of(config: CampusConfig, columns: Iterable[str]) -> str | None:
    """The column of the domains that are drawn from; None where the training set has none and none is needed.

    Args:
        config: settings.
        columns: of the training set.

    Raises:
        RecipeError: shares are asked for, and there are no domains.
    """
    known, column = list(columns), config.domain_column
    if column in known:
        return column
    needs = "domains" if config.domains is not None and not config.draw.over_cells else ""
    needs = needs or ("phases" if any(phase.shares for phase in config.phases or ()) else "")
    needs = "" if config.draw.over_cells else needs
    needs = needs or config.steer.asks(*OF_DOMAINS) or ""
    if needs:
        raise RecipeError(
            f"`{needs}` must have a column of domains in the training set ({', '.join(known)}), got none that is "
            f"called {column!r}.{nearest(column, known)} Name it: within: source, or take `{needs}` out."
        )
    return None


def strict_domains(values: Iterable[object], column: str, setting: str) -> Domains:
    """The groups in a column that rows are drawn by: every row has a name, and no two names look alike.

    Args:
        values: of the column, one a row.
        column: its name.
        setting: that reads it, for messages.

    Raises:
        DataError: a row without a name, or a name that ends in NUL or has spaces around it; the first rows are named.
    """
    values = list(values)
    names = ["" if value is None or value != value else str(value) for value in values]  # NaN is not itself
    if empty := [row for row, name in enumerate(names) if not name.strip(INVISIBLE)]:
        raise DataError(
            f"`{column}` must name a group in every row, for `{setting}` goes by it, got null or an empty name in "
            f"{len(empty)} of {len(values)} rows (first: {listed(empty, 3)}). Fill them in: `dataset = dataset.map("
            f"lambda row: {{{column!r}: 'other' if str(row[{column!r}] or '').strip({INVISIBLE!r}) in ('', 'nan') else "
            f"row[{column!r}]}})`."
        )
    if odd := [row for row, name in enumerate(names) if name != name.strip(INVISIBLE)]:
        raise DataError(
            f"`{column}` must have names without spaces or NUL at their ends, for `{setting}` goes by it, got "
            f"{shown(names[odd[0]])} in {len(odd)} of {len(values)} rows (first: {listed(odd, 3)}). Strip them: "
            f"`dataset = dataset.map(lambda row: {{{column!r}: row[{column!r}].strip({INVISIBLE!r})}})`."
        )
    return Domains.of(values)


def drawn_domains(config: CampusConfig, values: Iterable[object], column: str) -> Domains:
    """The domains that a recipe draws from.

    Where it only waits for a sign of wrong rows, nobody has asked for domains: rows of a column that does not part them
    into named groups of eight rows and more are of one domain.

    Args:
        config: settings.
        values: of the column, one a row.
        column: its name.

    Raises:
        DataError: as `strict_domains`, where the recipe goes by domains.
    """
    if not config.only_waits:
        return strict_domains(values, column, config.draw.named_by)
    try:
        found = strict_domains(values, column, "drop")
    except DataError:
        return Domains()
    return found if found.codes is not None and len(found.names) * FEW <= len(found.codes) else Domains()


# -- cells and the book ------------------------------------------------------------------------------------------------


def cells_of(
    config: CampusConfig, score_of: ScoreOf, *, domains: Domains | None = None, others: Domains | None = None
) -> Cells | None:
    """The cells that the recipe compares rows in; None where nothing does.

    Where it only waits for a sign of wrong rows, bands are fewer if one of them would have less than eight rows.

    Args:
        config: settings.
        score_of: gives a metric's scores.
        domains: of the rows.
        others: their groups in the column that `cells: of` names.

    Raises:
        RecipeError: more cells than rows.
    """
    if not config.draw.uses_cells:
        return None
    settings, domains, others = config.cells or CellSettings(), domains or Domains(), others or Domains()
    found = find_score(settings.by, config.specs)
    scores, bands = score_of(found.spec.label), settings.bands
    if config.only_waits:
        bands = min(bands, max(1, len(scores) // (FEW * max(1, len(domains.names)))))
    return Cells.cut(
        -scores if found.turned else scores,
        domains=domains.codes,
        domain_names=domains.names,
        bands=bands,
        by=found.spec.label,
        others=others.codes,
        other_names=others.names,
    )


def book_columns(config: CampusConfig) -> set[str] | None:
    """What the book must keep for this recipe beside visits; None where the recipe needs no book at all."""
    found: set[str] | None = None
    if config.domains is not None and config.domains.follow is not None:
        found = set()  # the levels of cells, which are no columns
    if config.thin is not None and config.thin.book_score is not None:
        found = (found or set()) | columns_of([config.thin.book_score], detrend=config.thin.detrend)
    if config.review is not None:
        found = (found or set()) | {*REVIEWED}
    return found


# -- the policy --------------------------------------------------------------------------------------------------------


def policy_of(
    config: CampusConfig,
    *,
    n_rows: int,
    domains: Domains | None = None,
    cells: Cells | None = None,
    score_of: ScoreOf | None = None,
    dropped: BoolArray | None = None,
    book: Book | None = None,
    rates: PassRates | None = None,
    steering: Steering | None = None,
) -> Policy | None:
    """The policy of a recipe; None where it draws as ever.

    Args:
        config: resolved settings.
        n_rows: N.
        domains: of the rows; None for none.
        cells: as `cells_of` made them.
        score_of: gives a metric's scores, as they are at the moment it is asked.
        dropped: rows that are never trained, shape (N,).
        book: with the columns of `book_columns`.
        rates: what rewards show of each prompt, where the trainer goes by rewards.
        steering: as `steering_of` made it.

    Raises:
        RecipeError: shares of names that no row has.
    """
    if not config.draws_apart:
        return None
    counts = config.draw.counts_in_shares  # then shares are weights, and of the draw they say nothing
    base = _strata(n_rows, domains, cells, over_cells=config.draw.over_cells and not counts)
    base = replace(base, dropped=dropped, book=book)
    thin, block, review = config.thin, None if counts else config.domains, config.review
    return replace(
        base,
        shares=None if block is None else _shares(config, base, block.shares, "domains: shares"),
        follow=None if block is None else block.follow,
        periods=_periods(config, base, score_of),
        thin=None if thin is None else thin_of(thin),
        review=None if review is None else Review(**vars(review)),
        control="shuffled_scores" if config.control == SHUFFLED_SCORES else None,
        steering=steering,
        fixed=counts,
        rates=rates,
        scores=None if thin is None or thin.by_rewards else _scores(config, thin, score_of, book),
    )


def shares_that_count(
    config: CampusConfig,
    *,
    n_rows: int,
    domains: Domains | None = None,
    cells: Cells | None = None,
    dropped: BoolArray | None = None,
    book: Book | None = None,
    steering: Steering | None = None,
) -> Policy | None:
    """Who would be drawn by the shares of a recipe that makes weights of them; None where it does not.

    Args:
        config: resolved settings.
        n_rows: N.
        domains: of the rows; None for none.
        cells: as `cells_of` made them.
        dropped: rows that are never trained, shape (N,).
        book: whose levels the shares follow, with `domains: follow`.
        steering: as `steering_of` made it.

    Raises:
        RecipeError: shares of names that no row has.
    """
    block = config.domains
    if block is None or not config.draw.share_weights:
        return None
    base = _strata(n_rows, domains, cells, over_cells=config.draw.over_cells)
    base = replace(base, dropped=dropped, book=book)
    return replace(
        base,
        shares=_shares(config, base, block.shares, "domains: shares"),
        follow=block.follow,
        periods=tuple(Period(_share_phase(config, base, phase)) for phase in config.phases or ()),
        steering=steering,
    )


def steering_of(
    config: CampusConfig,
    *,
    has_probes: bool,
    domains: Domains | None = None,
    cells: Cells | None = None,
    n_stages: int = 1,
    handover_tokens: float = 0.0,
) -> Steering | None:
    """What the record moves in a recipe's plan; None where nothing goes by it.

    Args:
        config: resolved settings.
        has_probes: there are probes.
        domains: of the rows; None for none.
        cells: as `cells_of` made them.
        n_stages: about how many stages there are up to the handover.
        handover_tokens: that the steps up to the handover train on average.

    Raises:
        RecipeError: a domain that would be raised or reviewed has no rows; a reweighting names one that has none.
    """
    if not config.steers(has_probes=has_probes):
        return None
    domains = domains or Domains()
    known = tuple(domains.names) if domains.codes is not None else (ALL_ROWS,)
    names, domain_of = known, {}
    if config.draw.over_cells and cells is not None:
        names = cells.names
        domain_of = {name: known[code] for name, code in zip(names, cells.strata_of.tolist(), strict=True)}
    if domains.codes is not None and (problems := config.steer.rowless(known)):
        raise RecipeError(problems)
    block = config.domains or DomainSettings()
    return Steering(
        rules=config.rules(has_probes=has_probes),
        clock=config.clock_part,
        reweight=None if block.reweight is None else build_reweight(block.reweight),
        names=names,
        n_stages=n_stages,
        handover_tokens=handover_tokens,
        domain_of=domain_of,
        least=block.least,
    )


def _strata(n_rows: int, domains: Domains | None, cells: Cells | None, *, over_cells: bool) -> Policy:
    """A policy that knows the rows' domains, cells and strata, and draws all alike."""
    domains = domains or Domains()
    base = Policy(n_rows=n_rows, cells=cells)
    if domains.codes is not None:
        base = replace(base, domains=domains.codes, domain_names=tuple(domains.names))
    if over_cells and cells is not None:
        return replace(base, strata=cells.codes, strata_names=cells.names)
    return replace(base, strata=base.domains, strata_names=base.domain_names)


def _shares(config: CampusConfig, base: Policy, written: Shares, setting: str) -> FloatArray | None:
    """What a recipe writes as shares of the strata, shape (S,); None for natural ones.

    Raises:
        RecipeError: a name that no stratum has, or a floor that is too high for so many.
    """
    least = config.domains.least if config.domains is not None else 0.0
    sizes = base.sizes(base.codes, len(base.strata_names))
    if isinstance(written, str):
        return at_least(natural(sizes), least) if least else None
    if list(written) == [TEMPERATURE]:
        shares = tempered(sizes, written[TEMPERATURE])
    else:
        shares = fixed(written, base.strata_names, what=setting)
    return at_least(shares, least) if least else shares


def _periods(config: CampusConfig, base: Policy, score_of: ScoreOf | None) -> tuple[Period, ...]:
    """The user's phases; their shares too, unless these are weights."""
    periods = []
    for phase in config.phases or ():
        top = None
        for name, share in (phase.top or {}).items():
            assert score_of is not None, "a phase of the best rows needs their scores"
            found = find_score(name, config.specs)
            scores = score_of(found.spec.label)
            top = best_rows(-scores if found.turned else scores, share, base, seed=config.seed or 0)
        shares = SharePhase(phase.until, None) if config.draw.counts_in_shares else _share_phase(config, base, phase)
        periods.append(Period(shares, phase.offer, phase.mix, top))
    return tuple(periods)


def _share_phase(config: CampusConfig, base: Policy, phase: PhaseSettings) -> SharePhase:
    """The shares of one of the user's phases: its own, or those of `domains`."""
    usual = config.domains.shares if config.domains is not None else NATURAL
    return SharePhase(phase.until, _shares(config, base, phase.shares or usual, "phases: shares"), phase.overlap)


def best_rows(scores: FloatArray, share: float, policy: Policy, *, seed: int) -> BoolArray:
    """The rows of the highest scores in each stratum: `⌈share · rows⌉` of those that are not dropped, shape (N,).

    Of each stratum, so that its share of a stage can still be drawn. Equal scores are parted by the tie-breaking hash.

    Args:
        scores: shape (N,).
        share: of each stratum's rows.
        policy: strata, and what is dropped.
        seed: of the hash.
    """
    order = order_rows(scores, seed=seed)[::-1]  # the best first
    if policy.dropped is not None:
        order = order[~policy.dropped[order]]
    codes = policy.codes[order]
    by_stratum = order[np.argsort(codes, kind="stable")]
    sizes = np.bincount(codes, minlength=len(policy.strata_names))
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    best = np.zeros(policy.n_rows, dtype=np.bool_)
    best[by_stratum[place < np.repeat(np.ceil(share * sizes - 1e-9), sizes)]] = True
    return best


def thin_of(thin: ThinSettings) -> Thin:
    """The settings as the method takes them: the score is one word there."""
    return Thin(**{**vars(thin), "by": thin.score})


def _scores(config: CampusConfig, thin: ThinSettings, score_of: ScoreOf | None, book: Book | None) -> ScoreOf:
    """What rows are thinned by, as it is at the moment it is asked, higher = more wanted."""
    name, turned = thin.book_score, thin.reversed_by
    if name is None:
        found = find_score(thin.by, config.specs)
        assert score_of is not None, "thinning by a metric needs its scores"
        return lambda _: -score_of(found.spec.label) if found.turned else score_of(found.spec.label)
    assert book is not None, "thinning by what training shows needs the book"
    ratio = Thin(thin.how or "", name).thinner.scale == "ratio"

    def scores(_: str) -> FloatArray:
        values = book.score(name, detrend=thin.detrend)
        if ratio and thin.detrend and book.known.any():  # a loss again, of which a chance can be a multiple
            values = values + np.nanmean(book.score(name)) - np.nanmean(values)
        return -values if turned else values

    return scores


def acting_of(config: CampusConfig) -> Acting | None:
    """What a recipe does about suspects, and when; None where it says nothing of them."""
    entry = config.draw.suspects
    return None if entry is None else Acting(entry.bound, entry.begins, entry.acts)


def dropped_rows(config: CampusConfig, wanted: BoolArray, cells: Cells | None) -> BoolArray:
    """The rows that a run drops: those that were chosen, or under `control: random_drop` as many of each cell.

    Args:
        config: resolved settings.
        wanted: chosen by the recipe's `drop`, shape (N,).
        cells: as `cells_of` made them.
    """
    if config.control != RANDOM_DROP:
        return wanted
    codes = np.zeros(len(wanted), dtype=np.int64) if cells is None else cells.codes
    return at_random(wanted, codes, seed=config.seed or 0)
