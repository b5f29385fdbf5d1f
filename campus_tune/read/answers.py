"""The answers of a run that is driven by reward, read back from the files of its stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.run.answer_groups import FOLDER, AnswerGroups, file_of_stage, read_groups
from campus_tune.words.errors import DataError, ResumeError


def lines_of_answers(home: Path, stages: Sequence[int]) -> dict[str, NDArray[Any]]:
    """A line for each answer, as columns; {} of a run without any.

    Args:
        home: a run's `curriculum/`.
        stages: numbers of those that are over.

    Raises:
        DataError: a stage's file is missing or damaged.
    """
    parts = []
    for stage in stages:
        groups = read_stage(home / FOLDER / file_of_stage(stage))
        n, each = groups.rewards.shape
        parts.append(
            {
                "stage": np.full(n * each, stage),
                "generation": groups.generation.repeat(each),
                "row": groups.rows.repeat(each),
                "answer": np.tile(np.arange(each), n),
                "reward": groups.rewards.reshape(-1),
                "expected": groups.expected.repeat(each),
                "without_gradient": groups.flat.repeat(each),
            }
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else {})}


def read_stage(path: Path) -> AnswerGroups:
    """The groups of a stage.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return read_groups(path)
    except ResumeError as error:
        raise DataError(
            f"`{path}` must be the rewards that the run left of a stage, got {error.__cause__}. Put it back from a "
            "copy."
        ) from error
