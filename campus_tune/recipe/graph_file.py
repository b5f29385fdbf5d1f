"""Which domain helps which, read from what a command has measured: the graph of `reweight: skill_graph`.

    ablation.json   of `campus-tune ablate`: the cells that were told from chance
    transfer.json   of a run with `value: true`: the cells whose interval leaves 0 out, and whose halves agree

Sizes are shares of the largest, so that `eta` means the same whatever was measured. A domain that helps none, and that
none helps, stays at its prior, like one that was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from campus_tune.words.errors import RecipeError
from campus_tune.words.json_shapes import misshapen, read_json

ABLATION = {"finished": bool, "graph?": {str: {str: float}}}
TRANSFER = {"domains": [str], "probes": [str], "mean": [[(float, None)]], "clear": [[bool]]}
Graphs = dict[str, dict[str, float]]


def with_graph(reweight: Any) -> Any:
    """A reweighting as it is written, with the graph in the place of the file that holds it.

    Args:
        reweight: a name, or a mapping with options; anything else is given back.

    Raises:
        RecipeError: there is no such file, or nothing in it that was told from chance.
    """
    if not isinstance(reweight, Mapping) or not isinstance(reweight.get("graph"), str):
        return reweight
    return {**reweight, "graph": read_graph(Path(reweight["graph"]))}


def read_graph(path: Path) -> Graphs:
    """Domain → domain → how much training on the first helps the second, the largest size 1.

    Args:
        path: of an `ablation.json` or a `transfer.json`.

    Raises:
        RecipeError: it is neither, or not finished, or nothing in it was told from chance.
    """
    try:
        content = read_json(path, {})
        shape = TRANSFER if "clear" in content else ABLATION
        if problem := misshapen(content, shape):
            raise ValueError(problem)
        graph: Graphs = content.get("graph", {})
        if shape is TRANSFER:
            rows = zip(content["domains"], content["mean"], content["clear"], strict=True)
            cells = {
                (domain, probe): value
                for domain, values, clear in rows
                for probe, value, sure in zip(content["probes"], values, clear, strict=True)
                if sure and value and probe in content["domains"]  # others have no share that could be moved
            }
            largest = max(map(abs, cells.values()), default=0.0)
            for (domain, probe), value in cells.items():
                graph.setdefault(domain, {})[probe] = round(value / largest, 4)
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"`reweight: graph` must be a mapping, or the ablation.json or transfer.json of a finished command, got "
            f"{str(path)!r} ({error}). Name another file, or write {{math: {{math: 1, code: 0.5}}}}."
        ) from error
    if not content.get("finished", True):
        raise RecipeError(
            f"`reweight: graph` must be of an ablation that is finished, got {str(path)!r}, in which runs are missing. "
            "Start its command again: it goes on where it stopped."
        )
    if not graph:
        raise RecipeError(
            f"`reweight: graph` must have something that was told from chance, got nothing in {str(path)!r}: no share "
            "would move. Leave reweight out, or measure with more seeds or rows."
        )
    return graph
