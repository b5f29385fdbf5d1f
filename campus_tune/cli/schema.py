"""`campus-tune schema`: what a YAML may say, as JSON schema, for editors that complete and check while one writes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.cli.answer import Answer, add_json, as_json
from campus_tune.cli.options import COMMANDS, Commands, add_command
from campus_tune.words.errors import StorageError

if TYPE_CHECKING:
    from campus_tune.words.types import Json

DRAFT = "https://json-schema.org/draft/2020-12/schema"
EXAMPLE = """\
What a training YAML may say, as JSON schema: every setting of the `campus:`, `compare:` and `search:` blocks, every
metric, pacing, selector, weight, rule and reweighting with its options, those of installed packages among them, and the
fields of the TRL and accelerate that are installed. An editor with a YAML language server completes and checks with it;
`suite` is the schema of a suite of your own; `blocks` is that of our three blocks alone, which hangs on nothing that is
installed: the package has it as a file, campus_tune/recipe/campus.schema.json.

example:
  campus-tune schema --out campus.schema.json
  campus-tune schema suite --out suite.schema.json

and as the first line of the YAML:
  # yaml-language-server: $schema=campus.schema.json
"""


def add_parser(commands: Commands) -> None:
    """Add `schema` to the list of commands."""
    parser = add_command(commands, "schema", COMMANDS["schema"], EXAMPLE, main)
    parser.add_argument("of", nargs="?", choices=tuple(SCHEMAS), default="training", help="(%(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there instead of printing it")
    add_json(parser, more="the schema; with --out where it is, and the first line of a YAML")


def main(options: argparse.Namespace) -> Answer:
    """A schema, or where it was written.

    Raises:
        StorageError: the file cannot be written.
    """
    schema = SCHEMAS[options.of]()
    text = as_json(schema)
    if options.out is None:
        return Answer(schema, text)
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(f"{text}\n", "utf-8")
    except OSError as error:
        why = error.strerror or error
        raise StorageError(
            f"`--out` must be a file that can be written, got {options.out}: {why}. Name another."
        ) from error
    first = f"# yaml-language-server: $schema={options.out}"
    return Answer(
        {"out": options.out, "first_line": first}, f"schema written to {options.out}; first line of the YAML: {first}"
    )


def training_schema() -> Json:
    """A YAML for `sft`, `check`, `compare` and the others that train."""
    from campus_tune.recipe.trl_yaml import trl_schema

    blocks = blocks_schema()
    return {**blocks, "properties": {**blocks["properties"], **trl_schema()}, "additionalProperties": False}


def blocks_schema() -> Json:
    """The same of our blocks alone: TRL's fields are let be, which differ by its version."""
    from campus_tune.compare.search import SearchSettings
    from campus_tune.compare.settings import CompareSettings
    from campus_tune.recipe.config import CampusConfig, part_schemas
    from campus_tune.recipe.trl_yaml import BLOCK, COMPARE, SEARCH

    campus = {"anyOf": [CampusConfig.schema(), {"type": "null"}], "description": "the curriculum"}
    compare = {**CompareSettings.schema(), "description": "what `campus-tune compare` compares, and on which rows"}
    search = {
        **SearchSettings.schema(),
        "description": "what `campus-tune search` tries, and on which rows it is ranked",
    }
    return {
        "$schema": DRAFT,
        "title": "a training YAML of campus-tune",
        "type": "object",
        "properties": {BLOCK: campus, COMPARE: compare, SEARCH: search},
        "additionalProperties": True,
        "$defs": part_schemas(),
    }


def suite_schema() -> Json:
    """A suite for `eval` and `evaluate`."""
    from campus_tune.evaluate.suites import Suite

    return {"$schema": DRAFT, "title": "a suite of official tasks", **Suite.schema()}


SCHEMAS: dict[str, Callable[[], Json]] = {
    "training": training_schema,
    "suite": suite_schema,
    "blocks": blocks_schema,
}
