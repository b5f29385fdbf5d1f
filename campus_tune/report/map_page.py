"""What the page of a run says of its rows in words and tables: shares by domain, and the rows to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from campus_tune.report.characters import visible
from campus_tune.report.figures import Picture
from campus_tune.report.html_tables import GAP, Cell, HtmlTable, number, signed, words
from campus_tune.report.map_facts import SUSPECT, DomainRows, LikelyRow, MapFacts
from campus_tune.report.map_plots import MAP_PICTURE, region_words
from campus_tune.run.row_map import ALL_ROWS, interval_words
from campus_tune.words.wording import cut

MOST_DOMAINS = 200  # that the table lists, the largest
OPENED = 5  # of the likeliest rows, shown without being asked for
LONGEST, TAIL = 600, 160  # characters of a text, and how many of them are of its end
SHORT = 80  # characters of a token, and of the words before it
BLANKS = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥"})
LEAST = 0.0001  # a probability below which a number says no more
NOTABLE = 2.0  # times the share of all rows, from which on a domain's share of suspects is marked
BASES = {
    "training": "Made from the losses that training shows anyway: nothing was measured for it.",
    "forward": "Training showed no losses of single rows here: made from one forward of the model over the rows.",
    "two forwards": "Training showed no losses of single rows here: made from two forwards of the model over the rows, "
    "of each answer with its prompt and without.",
}


@dataclass(frozen=True)
class ShownRow:
    """One row for a person to look at; what is not known is "".

    Args:
        title: which row it is.
        why: it is here, in numbers.
        parts: (what it is, text): prompt and answer, or the row.
        before: the answer's words before the place where it departs.
        said: what the answer says there.
        rather: what the model would rather have said there; "" where that is the same.
        chance: that it gives to its own choice.
    """

    title: str
    why: str
    parts: tuple[tuple[str, str], ...]
    before: str
    said: str
    rather: str
    chance: str


@dataclass(frozen=True)
class MapSection:
    """The section of the page.

    Args:
        sentence: what is to be said first.
        basis: what it was made from.
        picture: None where no row has a score.
        tables: counts by domain.
        notes: further sentences, code between backticks.
        caption: of the rows.
        first: rows that are shown.
        rest: those that wait to be opened.
    """

    sentence: str
    basis: str
    picture: Picture | None
    tables: tuple[HtmlTable, ...]
    notes: tuple[str, ...]
    caption: str
    first: tuple[ShownRow, ...]
    rest: tuple[ShownRow, ...]


def map_section(facts: MapFacts, pictures: Sequence[Picture]) -> MapSection:
    """What the page says of a run's rows.

    Args:
        facts: of the run.
        pictures: of the run, that of its map among them.
    """
    opened = OPENED if facts.n_suspects else 0
    rows = tuple(shown_row(row) for row in facts.likeliest)
    return MapSection(
        sentence=map_sentence(facts),
        basis=BASES.get(facts.basis, ""),
        picture=next((picture for picture in pictures if picture.name == MAP_PICTURE), None),
        tables=(regions_table(facts),) if facts.domains else (),
        notes=notes(facts),
        caption=f"The {len(rows)} rows that are likeliest wrong"
        if len(rows) > 1
        else "The row that is likeliest wrong",
        first=rows[:opened],
        rest=rows[opened:],
    )


def map_sentence(facts: MapFacts) -> str:
    """What the map says in one sentence."""
    return f"{facts.sentence[:1].upper()}{facts.sentence[1:].rstrip('.')}."


def regions_table(facts: MapFacts) -> HtmlTable:
    """Rows and shares of each region in each domain, and of the suspects."""
    regions = [name for name in facts.regions if name != SUSPECT]
    domains, share = facts.domains or {}, facts.n_suspects / max(1, facts.n_rows)
    listed = dict(list(domains.items())[:MOST_DOMAINS])
    if len(domains) > 1:
        sums = {region: sum(of.regions[region] for of in domains.values()) for region in regions}
        listed[ALL_ROWS] = DomainRows(facts.n_rows, facts.n_suspects, sums)
    rows = [
        [
            words(name),
            number(of.rows),
            _counted(of.suspects, of.rows, "bad" if of.suspects > NOTABLE * share * of.rows else ""),
            *([] if facts.dirt is None else [words(interval_words(facts.dirt, name))]),
            *(_counted(of.regions[region], of.rows) for region in regions),
        ]
        for name, of in listed.items()
    ]
    asked = [] if facts.dirt is None else ["estimated wrong"]
    more = f"; the {MOST_DOMAINS} largest of {len(domains):,} domains" if len(domains) > MOST_DOMAINS else ""
    return HtmlTable(
        f"Suspects, and where the rows lie{more}",
        ["domain", "rows", "suspects", *asked, *map(region_words, regions)],
        rows,
    )


def _counted(n: int, of: int, kind: str = "") -> Cell:
    return Cell(f"{n:,} ({n / max(1, of):.1%})" if n else GAP, float(n), kind)


def notes(facts: MapFacts) -> tuple[str, ...]:
    """What else is found, and how a person judges."""
    found = [f"{facts.acted[0].upper()}{facts.acted[1:]}."] if facts.acted else []
    if facts.dirt is not None:
        found.append(
            "A suspect is one row that stands out. How many are wrong is an estimate, with a 95 % interval, from the "
            "losses that training showed before anything was done about them. It counts rows whose answers stand out "
            "as wrong answers of their kind do, and knows nothing of those that the model finds likely."
        )
    if facts.n_contradicting:
        found.append(
            f"{facts.n_contradicting:,} rows contradict each other: their prompt is that of another row, their answer "
            "is not."
        )
    if facts.n_duplicates:
        repeat = "1 row repeats" if facts.n_duplicates == 1 else f"{facts.n_duplicates:,} rows repeat"
        found.append(f"{repeat} an earlier one.")
    if facts.likeliest:
        found.append(
            "A score says where to look; whether a row is wrong is for a person to say. "
            "`campus-tune suspects RUN --judge --out rows.jsonl`, with this run's output_dir for RUN, shows one row "
            "after the other and keeps what you say; `drop: [{by: judged, path: rows.jsonl}]` in a recipe leaves the "
            "wrong ones out of its run."
        )
    return tuple(found)


def shown_row(row: LikelyRow) -> ShownRow:
    """A row as it is shown.

    Args:
        row: one of the likeliest.
    """
    marks = [row.domain, "suspect" if row.suspect else "", "contradicts another row" if row.contradicting else ""]
    parts = (("row", row.text),) if row.text and not row.answer else (("prompt", row.prompt), ("answer", row.answer))
    return ShownRow(
        title=" · ".join([f"Row {row.row}", *(readable(mark, SHORT) for mark in marks if mark)]),
        why=" · ".join(_why(row)),
        parts=tuple((what, readable(text)) for what, text in parts if text),
        before=readable(row.before[-SHORT:], SHORT),
        said=_token(row.said),
        rather="" if row.rather == row.said else _token(row.rather),
        chance="" if row.rather_probability is None else f"{row.rather_probability:.0%}",
    )


def _why(row: LikelyRow) -> list[str]:
    said = []
    if row.excess is not None:
        spread = "" if row.spread is None else f" ± {row.spread:.2f}"
        said.append(signed(f"{row.excess:.2f}") + f"{spread} excess")
    if row.visits:
        said.append("trained once" if row.visits == 1 else f"trained {row.visits:.0f} times")
    if row.mean_loss is not None:
        said.append(f"mean loss {row.mean_loss:.2f}")
    if row.lowest_probability is not None:
        least = row.lowest_probability
        said.append(f"lowest probability {f'{least:.2g}' if least >= LEAST else f'under {LEAST:g}'}")
    return said


def readable(text: str, longest: int = LONGEST) -> str:
    r"""A text of a training set as a page can hold it: its two ends, and every character one that can be seen.

    Control characters get their pictures, half of a surrogate pair a mark; line ends and tabs stay what they are.

    >>> readable("a\x00b\nc\ud800"), readable("x" * 999, 20)
    ('a␀b\nc�', 'xxxxxxxxxxxxxx…xxxxx')
    """
    return visible(cut(text, longest, tail=min(TAIL, longest // 4)))


def _token(text: str) -> str:
    """A token as a page can hold it; one of nothing but blanks by their signs."""
    return readable(text, SHORT) if text.strip() else text.translate(BLANKS)[:SHORT]
