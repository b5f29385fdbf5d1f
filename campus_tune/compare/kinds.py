"""What a folder of many runs is: the file in it that says so. Known here without what writes it."""

from __future__ import annotations

from pathlib import Path

from campus_tune.words.errors import RecipeError

COMPARISON, ABLATION, SHAPLEY, SEARCH = "compare.json", "ablation.json", "shapley.json", "search.json"
COMMANDS = {COMPARISON: "compare", ABLATION: "ablate", SHAPLEY: "value", SEARCH: "search"}


def refuse_other_kind(out: Path, own: str) -> None:
    """A folder holds the runs of one command: the page and the verdict of another would be of both.

    Args:
        out: the folder.
        own: the file that says what the command makes of it.

    Raises:
        RecipeError: another command has begun in it.
    """
    other = next((name for name in COMMANDS if name != own and (out / name).is_file()), None)
    if other is not None:
        raise RecipeError(
            f"`--out` must be a folder of campus-tune {COMMANDS[own]} alone, got {str(out)!r}, which has the {other} "
            f"of campus-tune {COMMANDS[other]}. Name another folder: --out {out}-{COMMANDS[own]}"
        )
