"""A search of tiny runs: random weights, 48 rows, 6 steps; half a second per trial on one CPU thread."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from campus_tune.cli.main import make_parser
from campus_tune.words.types import Json
from tests.compare.tiny_compare import tiny_recipe, write_rows
from tests.run.tiny_run import task_rows

SEARCH_ROWS = 36


def tiny_search(folder: Path, *, search: Json | None = None, compare: Any = None, **settings: Any) -> Path:
    """A recipe with a `search:` block, in a folder with all that it names.

    Args:
        folder: of all of it; what is there already is kept.
        search: settings of the block that differ.
        compare: settings of the `compare:` block besides `test`.
        settings: other settings of the YAML.
    """
    path = tiny_recipe(folder, compare=compare, **{"lr_scheduler_type": "constant", **settings})
    if not (folder / "search.jsonl").exists():
        write_rows(folder / "search.jsonl", task_rows(SEARCH_ROWS, seed=9))
    recipe = yaml.safe_load(path.read_text("utf-8"))
    if "campus" not in settings:
        recipe["campus"] = {"metrics": ["length"], "stages": 3, "probes": recipe["campus"]["probes"]}
    space = {"mix": [0.0, 0.5, 0.75], "stages": [3, 2], "pacing.start": [0.01, 0.3]}
    drawn = {"trials": 4, "sampler": "random", **(search or {})}
    recipe["search"] = {"space": space, "rows": str(folder / "search.jsonl"), **drawn}
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path


def options(recipe: Path, *words: str) -> argparse.Namespace:
    """What the command line makes of these words."""
    found, rest = make_parser().parse_known_args(["search", "--config", str(recipe), *words])
    found.rest = rest
    return found
