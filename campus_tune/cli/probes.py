"""`campus-tune probes`: held-out rows cut off a training set, to steer a run and to judge it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.cli.answer import Answer, add_json
from campus_tune.cli.options import COMMANDS, Commands, add_command, held_out, number
from campus_tune.cli.parser import CommandParser
from campus_tune.words.errors import RecipeError
from campus_tune.words.leaves import LARGEST_SEED
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from campus_tune.data.split import Split
    from campus_tune.preview.first_look import FirstLook

EXAMPLE = """\
Cuts rows off a training set: probes, which a run measures, and test rows, which decide a comparison. Each domain gives
some, and a quarter of its rows at most; rows that say or ask much the same stay on one side. The same rows and seed
give the same cut. Writes train.jsonl, probes.jsonl and test.jsonl, and writes over nothing.

example:
  campus-tune probes --data rows.jsonl --out data --probes 200 --test 0.1
  campus-tune probes --config recipe.yaml --out data
"""


def add_parser(commands: Commands) -> None:
    """Add `probes` to the commands of `campus-tune`."""
    parser = add_command(commands, "probes", COMMANDS["probes"], EXAMPLE, main)
    add_rows(parser)
    parser.add_argument("--config", metavar="YAML", help="a recipe whose training rows are cut, in place of --data")
    parser.add_argument("--out", type=Path, default=Path("data"), metavar="DIR", help="folder to write into (data)")


def add_rows(parser: CommandParser) -> None:
    """The flags that say which rows are cut, and how many are held out.

    Args:
        parser: of the command.
    """
    parser.add_argument("--data", metavar="NAME", help="a file (.jsonl, .json, .csv, .parquet), a folder or a hub id")
    parser.add_argument("--data-config", metavar="NAME", help="configuration of a data set of the hub")
    parser.add_argument("--split", default="train", metavar="NAME", help="of the data set (%(default)s)")
    parser.add_argument("--domain-column", metavar="NAME", help="column of the domains, or none (the likeliest)")
    usual = "rows, or a share below 1; 0 for none (some of each domain)"
    parser.add_argument("--probes", type=held_out, metavar="N", help=f"probes: {usual}")
    parser.add_argument("--test", type=held_out, metavar="N", help=f"test rows: {usual}")
    add_json(parser)
    parser.add_argument("--seed", type=number(int, 0, LARGEST_SEED), default=0, help="of the choice (%(default)s)")


def main(options: argparse.Namespace) -> Answer:
    """Write the files, and say what is in them.

    Raises:
        RecipeError: neither rows nor a recipe are named, or both.
    """
    if (options.data is None) == (options.config is None):
        raise RecipeError(
            "`probes` must be given --data or --config, one of them, got "
            f"{'neither' if options.data is None else 'both'}. Write: campus-tune probes --data rows.jsonl --out data"
        )
    from campus_tune.data.plain import load_rows
    from campus_tune.data.split import PROBES, TRAIN, part_files, refuse_written, split, write_parts
    from campus_tune.preview.first_look import first_look
    from campus_tune.preview.recipe_rows import of_recipe

    refuse_written(part_files(options.out).values(), "--out")
    if options.config is None:
        name, column = options.data, options.domain_column
        rows = load_rows(name, config=options.data_config, split=options.split)
    else:
        name, rows, column = of_recipe(options.config, options.domain_column)
    look = first_look(name, rows, column)
    held = {"probes": options.probes, "test": options.test, "seed": options.seed}
    cut = split(look.texts, look.said.prompts, look.domains, **held)
    files = write_parts(options.out, look.written, cut)
    lines = [*look.sentences(), *cut.sentences(), f"wrote {', '.join(files.values())}"]
    lines.append(f"next: in the recipe, dataset_name: {files[TRAIN]}")
    if PROBES in files:
        named = "" if look.column in (None, "domain") else f", domain_column: {look.column}"
        lines.append(f"      and campus: {{probes: {{path: {files[PROBES]}{named}}}}}")
    return Answer(as_document(look, cut, files), "\n".join(lines))


def as_document(look: FirstLook, cut: Split, files: Mapping[str, str]) -> Json:
    """What rows are and how they were cut, for a program.

    Args:
        look: at all of them.
        cut: which of them are what.
        files: part → its file.
    """
    parts = {
        part: {"file": file, "rows": len(getattr(cut, part)), "domains": cut.sizes(part)}
        for part, file in files.items()
    }
    return {
        "data": look.name,
        "rows": len(look.rows),
        "kind": look.kind,
        "conversion": look.conversion,
        "domain_column": look.column,
        "domains": look.domains.sizes(),
        **parts,
        "together": cut.together,
        "near": cut.near,
        "missing": cut.missing,
    }
