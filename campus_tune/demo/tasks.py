"""Graded tasks: instruction rows whose true difficulty is known, made from integers.

Whether a metric orders rows by difficulty, and whether a curriculum helps, can only be seen where the difficulty is
known. `campus_tune.demo.domains` has the questions; here they become rows and files.

A row is a pure function of (seed, domain, level, number of the draw): the first ten rows of a cell stay the same when
you ask for a hundred, and a new domain changes no other.

How well a model's loss sees the levels (Spearman with the level, 40 rows per domain, the de-quantised SmolLM2-135M
after 50 LoRA steps on 200 other rows): summed over the answer, arithmetic 0.98, text 0.96, lists 0.98, calendar 0.73,
code 0.85; as mean per token -0.59, 0.74, 0.65, 0.09, -0.18.

>>> row = generate(1, seed=0, levels=[2], domains=["arithmetic"])[0]
>>> row["id"], row["prompt"][0]["content"], row["completion"][0]["content"]
('arithmetic-L2-0000', 'What is 56 * 9 + 33? Show both steps.', '56 * 9 = 504; 504 + 33 = 537')
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from campus_tune.demo.domains import DOMAINS, N_LEVELS
from campus_tune.words.errors import DataError, RecipeError
from campus_tune.words.files import atomic_write
from campus_tune.words.json_shapes import parse
from campus_tune.words.registry import nearest
from campus_tune.words.types import Json

# A cell counts as used up after so many draws in a row that only repeat questions: by then, with even odds per
# question, more than 97 % of its questions have been given out.
_MAX_REPEATS = 200


def generate(
    n_per_cell: int, *, seed: int, levels: Iterable[int] = range(N_LEVELS), domains: Iterable[str] | None = None
) -> list[Json]:
    """Rows for every (domain, level), no question twice, domain by domain and level by level.

    Args:
        n_per_cell: rows of each domain and level, at least 1; every cell has room for 3000.
        seed: at least 0; the same seed gives the same rows, and the first rows do not depend on `n_per_cell`.
        levels: a choice of 0..4.
        domains: names out of `DOMAINS`; None takes all.

    Returns:
        Rows as TRL trains them with loss on the answer only: `id`, `domain`, `level`, and `prompt` and `completion`,
        each a list of one message.

    Raises:
        RecipeError: a number out of range or an unknown domain; all problems are named.
        DataError: a cell has no further questions.
    """
    chosen = list(DOMAINS if domains is None else domains)
    numbers = list(levels)
    _check({"n_per_cell": (n_per_cell, 1), "seed": (seed, 0)}, numbers, chosen)
    return [row for domain in chosen for level in numbers for row in _cell(domain, level, n_per_cell, seed)]


def write_tasks(
    folder: Path,
    *,
    rows_per_cell: int,
    probes_per_cell: int,
    tests_per_cell: int = 0,
    search_per_cell: int = 0,
    seed: int = 0,
) -> dict[str, Path]:
    """Write `train.jsonl`, `probes.jsonl`, `test.jsonl` and `search.jsonl`, with no question in two of them.

    Tests are dealt first, then probes, then search rows: a larger training set leaves them as they were. The training
    file is shuffled, so that a row's place in it says nothing about its level.

    Args:
        folder: made if it is not there; such files in it are replaced, others are not.
        rows_per_cell: training rows of each domain and level, at least 1.
        probes_per_cell: held-out rows that may steer a run, at least 1.
        tests_per_cell: held-out rows for the final evaluation; 0 writes no test file.
        search_per_cell: held-out rows that rank the trials of a search; 0 writes no such file.
        seed: at least 0.

    Returns:
        The written files under "train", "probes" and, if there are such rows, "test" and "search".

    Raises:
        RecipeError: a number out of range.
        DataError: the cells have fewer questions than asked for; or a file of such a name holds something else.
        StorageError: a file cannot be written.
    """
    counts = {"rows_per_cell": (rows_per_cell, 1), "probes_per_cell": (probes_per_cell, 1)}
    counts |= {"tests_per_cell": (tests_per_cell, 0), "search_per_cell": (search_per_cell, 0), "seed": (seed, 0)}
    _check(counts, [], [])
    probed = tests_per_cell + probes_per_cell
    held_out = probed + search_per_cell
    per_cell = held_out + rows_per_cell
    rows = generate(per_cell, seed=seed)
    place = np.arange(len(rows)) % per_cell
    train_idx = np.random.default_rng(seed).permutation(np.flatnonzero(place >= held_out))
    splits = {
        "train": train_idx,
        "probes": np.flatnonzero((place >= tests_per_cell) & (place < probed)),
        "test": np.flatnonzero(place < tests_per_cell),
        "search": np.flatnonzero((place >= probed) & (place < held_out)),
    }
    paths = {name: folder / f"{name}.jsonl" for name, idx in splits.items() if len(idx)}
    strangers = [path for path in paths.values() if path.exists() and not _is_made_here(path)]
    if strangers:
        raise DataError(
            f"`--out` must hold no rows of yours under the names of the tasks, got {strangers[0].name} in "
            f"{str(folder)!r}: it would be replaced. Name another folder."
        )
    for name, path in paths.items():
        atomic_write(path, "".join(json.dumps(rows[i]) + "\n" for i in splits[name]))
    return paths


def _is_made_here(path: Path) -> bool:
    """Whether a file begins with a row as `generate` makes them."""
    try:
        with path.open(encoding="utf-8") as file:
            row = parse(file.readline())
        return [*row] == ["id", "domain", "level", "prompt", "completion"] and row["domain"] in DOMAINS
    except (OSError, ValueError, TypeError):
        return False


def _cell(domain: str, level: int, n_rows: int, seed: int) -> Iterator[Json]:
    """The first `n_rows` different questions of one cell."""
    seen: set[str] = set()
    draw_number = last_new = 0
    while len(seen) < n_rows:
        # One generator per draw: the row needs nothing but these integers.
        draw = np.random.default_rng([seed, level, draw_number, *domain.encode()])
        question, answer = DOMAINS[domain](draw, level)
        draw_number += 1
        if question not in seen:
            last_new = draw_number
            yield {
                "id": f"{domain}-L{level}-{len(seen):04d}",
                "domain": domain,
                "level": level,
                "prompt": [{"role": "user", "content": question}],
                "completion": [{"role": "assistant", "content": answer}],
            }
            seen.add(question)
        elif draw_number - last_new >= _MAX_REPEATS:
            raise DataError(
                f"`{domain}` level {level} must have {n_rows} different questions, got {len(seen)}. "
                "Ask for fewer rows per cell."
            )


def _check(numbers: dict[str, tuple[int, int]], levels: Sequence[int], domains: Sequence[str]) -> None:
    """Refuse what no rows can be made from, all of it at once."""
    problems = [
        f"`{name}` must be a whole number, at least {least}, got {value!r}. Change it."
        for name, (value, least) in numbers.items()
        if not isinstance(value, int) or value < least
    ]
    problems += [
        f"`levels` must be out of 0..{N_LEVELS - 1}, got {level!r}. Leave it out."
        for level in levels
        if level not in range(N_LEVELS)
    ]
    problems += [
        f"`domains` must be out of {', '.join(DOMAINS)}, got {name!r}.{nearest(name, DOMAINS)}"
        for name in domains
        if name not in DOMAINS
    ]
    if problems:
        raise RecipeError(problems)
