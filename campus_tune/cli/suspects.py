"""`campus-tune suspects`: which rows look wrong, of a run that is over or before any training, and judging them."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.cli.answer import Answer, add_json
from campus_tune.cli.options import COMMANDS, Commands, add_command, count
from campus_tune.words.errors import DataError, RecipeError

if TYPE_CHECKING:
    from campus_tune.read.likely_wrong import LikelyWrong

EXAMPLE = """\
Which rows look wrong, likeliest first: of a run, from what its training showed of each row (RUN is its output_dir), or
before any training, from one or two forwards of a recipe's own model (--config). --out writes them for a person to
judge, --judge asks in the terminal, a key a row; what is judged wrong is left out of the next run by its recipe:

  drop: [{by: judged, path: rows.jsonl}]

example:
  campus-tune suspects runs/quickstart/run
  campus-tune suspects run --top 50 --data train.jsonl --out rows.jsonl
  campus-tune suspects run --judge --out rows.jsonl
  campus-tune suspects --config recipe.yaml --rows 5000 --out rows.jsonl
"""
USAGE = "campus-tune suspects RUN [options]\n       campus-tune suspects --config YAML [options] [flags of TRL]"
USUAL_TOP = 20
JUDGED = Path("suspects.jsonl")  # where what is judged is kept, if nothing else is said
LONGEST = 24  # characters of a domain's name
OF_DOMAIN = ("domain", "rows", "suspects", "never_learned", "contradicting", "duplicate")


def add_parser(commands: Commands) -> None:
    """Add `suspects` to the commands of `campus-tune`; with --config, what it does not know itself is TRL's."""
    parser = add_command(
        commands,
        "suspects",
        COMMANDS["suspects"],
        EXAMPLE,
        main,
        takes_rest=True,  # RUN too, which would else be taken for the value of a flag of TRL's
        interrupted="What was judged is kept, and so is what was measured: the same command goes on.",
        allow_abbrev=False,
    )
    parser.usage = USAGE
    parser.add_argument("--config", metavar="YAML", help="a recipe, instead of RUN: its model is asked, as it is now")
    parser.add_argument("--top", type=count, metavar="N", help=f"rows that are shown ({USUAL_TOP})")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write them as JSON lines for a person to judge")
    parser.add_argument("--judge", action="store_true", help=f"judge them here, a key a row (into --out, {JUDGED})")
    add_json(
        parser,
        sentence="what was found in a line",
        suspects="how many rows stand out",
        rows="that are shown, the likeliest wrong first",
        by_domain="of a RUN: how many of each domain",
        dirt="of a RUN: the estimate of how many are wrong, or null",
        measured="with --config: rows that were asked for",
        out="file of rows to judge, or null",
    )
    of_run = parser.add_argument_group("of a RUN")
    of_run.add_argument("--by-domain", action="store_true", help="also how many of each domain")
    of_run.add_argument("--data", type=Path, metavar="FILE", help="its training file, for texts that it has not kept")
    before = parser.add_argument_group("with --config")
    before.add_argument("--rows", type=count, metavar="N", help="ask for so many rows, drawn at random (all)")
    before.add_argument("--forwards", type=int, choices=(1, 2), help="2 (default): of the answers alone too")


def main(options: argparse.Namespace) -> Answer:
    """Show the likeliest wrong rows, write them, let them be judged.

    Raises:
        CampusError: flags that do not go together, no run, no map, more rows than there are, a file of other data.
    """
    out = options.out or (JUDGED if options.judge else None)
    answer = Answer({"out": out})  # rows that were written before are judged
    if options.config is not None:
        _refuse(options, "RUN", by_domain=options.by_domain)
        from campus_tune.cli.suspects_before import before

        argv = ["--config", options.config, *options.rest]
        argv += [] if options.data is None else ["--dataset_name", str(options.data)]
        answer = before(argv, rows=options.rows, top=options.top, out=out, forwards=options.forwards or 2)
    else:
        _refuse(options, "--config", rows=options.rows, forwards=options.forwards)
        run = run_of(options.rest, judges=options.judge and out is not None and out.exists())
        if run is not None:
            answer = show_run(options, run, out)
    if options.judge:
        from campus_tune.cli.judge import judge

        assert out is not None, "what is judged has a file"
        judge(out)
    return answer


def _refuse(options: argparse.Namespace, other: str, **given: object) -> None:
    """Flags that only the other form takes."""
    wrong = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
    if wrong:
        form = f"--config {options.config}" if options.config else "RUN"
        raise RecipeError(f"`{wrong[0]}` must go with {other}, got it with {form}. Leave it out.")


def run_of(rest: Sequence[str], *, judges: bool) -> Path | None:
    """The run among words that are nobody's flags; None where rows that were written before are judged.

    Args:
        rest: the words.
        judges: there are such rows.

    Raises:
        RecipeError: none, several, or a flag that is unknown.
    """
    flags = [word for word in rest if word.startswith("-")]
    if flags:
        raise RecipeError(f"`suspects RUN` must have no flags of TRL's, got {flags[0]}. Remove it, or give --config.")
    if not rest and judges:
        return None
    if len(rest) != 1:
        got = f"{len(rest)}: {', '.join(rest)}" if rest else "none"
        raise RecipeError(
            f"`suspects` must have one RUN, the output_dir of a run, or --config with a recipe, got {got}. Name one."
        )
    return Path(rest[0])


def show_run(options: argparse.Namespace, run: Path, out: Path | None) -> Answer:
    """The likeliest wrong rows of a run that is over: shown, unless a program asks, and written where asked."""
    from campus_tune.data.judging import write_rows
    from campus_tune.read.likely_wrong import read_likely_wrong

    found = read_likely_wrong(run, options.data)
    worst = found.worst_first
    top = min(USUAL_TOP, len(worst)) if options.top is None else options.top
    if top > len(worst):
        raise DataError(
            f"`--top` must be from 1 to {len(worst)}, the number of rows that have a score, got {top}. Write --top "
            f"{len(worst)}, or leave it out."
        )
    rows = worst[:top].tolist()
    sentence = found.about.get("sentence", "")
    if not options.json:
        print(sentence)
        if doubt := unseen(found):
            print(doubt)
        if rows and not options.judge:
            print(as_table(found, rows))
        if options.by_domain:
            print(f"\n{domain_table(found)}")
    if out is not None:
        told = write_rows(out, [found.to_judge(row) for row in rows], known=set(map(str, found.table["key"].tolist())))
        print(f"\n{told.line(out)}")
        unknown = sum(row not in found.texts for row in rows)
        if unknown:
            print(f"{unknown} of them without their text, which the run has not kept: give its training file, --data")
    return Answer(
        {
            "sentence": sentence,
            "suspects": int(found.table["suspect"].astype(bool).sum()),
            "rows": [{**found.to_judge(row), "suspect": bool(found.table["suspect"][row])} for row in rows],
            "by_domain": [dict(zip(OF_DOMAIN, counts, strict=True)) for counts in domain_counts(found)],
            "dirt": found.about.get("dirt"),
            "out": out,
        }
    )


def unseen(found: LikelyWrong) -> str:
    """That rows stand out, while the record as a whole shows no wrong rows: then they may just be of another kind."""
    from campus_tune.method.dirt import Dirt
    from campus_tune.preview.earned_advice import span

    dirt = Dirt.from_mapping(found.about["dirt"]) if found.about.get("dirt") else None
    if dirt is None or dirt.seen or not found.table["suspect"].any():
        return ""
    kinds = "" if "domain" in found.table else " Name the kinds of your rows in a column `domain`, and train again."
    return (
        f"The record as a whole shows no sign of wrong rows ({span(dirt)} by the estimate): these stand out, and may "
        f"be another kind of row.{kinds}"
    )


def as_table(found: LikelyWrong, rows: Sequence[int]) -> str:
    """The likeliest wrong rows, those that stand out marked, with as much of their texts as there is room for."""
    from campus_tune.words.tables import table_with_texts
    from campus_tune.words.wording import cut, harmless

    width = shutil.get_terminal_size().columns
    suspect = found.table["suspect"]

    def shown(name: str, row: int, form: str = ".2f") -> str:
        value = found.number(name, row)
        return "-" if value is None else f"{value:{form}}"

    columns = {
        "row": [f"{row}{'*' if suspect[row] else ' '}" for row in rows],
        "domain": [harmless(cut(found.domain(row), LONGEST)) for row in rows],
        "excess": [shown("excess", row) for row in rows],
        "spread": [shown("spread", row) for row in rows],
        "visits": [shown("visits", row, ".0f") for row in rows],
        "loss": [shown("mean_loss", row) for row in rows],
        "lowest p": [shown("lowest_probability", row, ".2g") for row in rows],
    }
    if "domain" not in found.table:
        del columns["domain"]
    texts = []
    for row in rows:
        text = found.texts.get(row)
        asked = cut(" ".join(text.prompt[: 4 * width].split()), width // 3) if text is not None else ""
        answer = f"row {row}" if text is None else " ".join(text.answer[: 4 * width].split())
        texts.append(harmless(f"{asked} → {answer}" if asked else answer))
    lines = table_with_texts(list(columns), list(zip(*columns.values(), strict=True)), texts, width=width)
    marked = any(suspect[row] for row in rows)
    return f"{lines}\n* stands out from its kind" if marked else lines


def domain_table(found: LikelyWrong) -> str:
    """What the map says of each domain, the one with the most suspects first."""
    from campus_tune.method.dirt import Dirt
    from campus_tune.run.row_map import interval_words
    from campus_tune.words.tables import table
    from campus_tune.words.wording import harmless

    dirt = Dirt.from_mapping(found.about["dirt"]) if found.about.get("dirt") else None
    lines = []
    for name, n, n_suspects, *others in domain_counts(found):
        cells = [harmless(name), *map(str, (n, n_suspects)), f"{n_suspects / n:.1%}", *map(str, others)]
        cells += [] if dirt is None else [interval_words(dirt, name)]
        lines.append(cells)
    head = ["domain", "rows", "suspect", "share", "never learned", "contradicting", "duplicate"]
    if dirt is not None:
        head.append("estimated wrong")
    return table(head, lines)


def domain_counts(found: LikelyWrong) -> list[tuple[str, int, int, int, int, int]]:
    """Each domain with its rows, and how many of them are what (`OF_DOMAIN`), the one with the most suspects first."""
    suspect, region = found.table["suspect"].astype(bool), found.table["region"].astype(str)
    counts = []
    for name, rows in found.by_domain():
        never, contradicting, duplicate = (int((region[rows] == what).sum()) for what in OF_DOMAIN[3:])
        counts.append((name, len(rows), int(suspect[rows].sum()), never, contradicting, duplicate))
    return sorted(counts, key=lambda one: -one[2])
