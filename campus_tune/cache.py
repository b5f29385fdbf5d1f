"""Scores on disk, one parquet file per metric in the run's `curriculum/scores/`.

A resumed run must not compute them again: a loss taken after training has begun is another loss. The checkpoint
remembers a digest of the scores, so a file of another run is found out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.errors import ResumeError
from campus_tune.files import atomic_write
from campus_tune.types import Json


def write_columns(path: Path, columns: dict[str, NDArray[Any]], about: Json) -> None:
    """Write arrays of one length as a parquet table, with `about` in its metadata.

    Raises:
        StorageError: the disk is full or the folder read-only; an earlier file is still whole.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    table = table.replace_schema_metadata({"campus_tune": json.dumps(about)})
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    atomic_write(path, buffer.getvalue().to_pybytes())


def read_columns(path: Path) -> tuple[dict[str, NDArray[Any]], Json]:
    """What `write_columns` wrote.

    Raises:
        ResumeError: the file is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ResumeError(
            f"`{path}` must be the scores that this run was planned with, got {error}. They cannot be computed again: "
            "the model has moved since. Put the run's curriculum/ folder back beside its checkpoints, or start anew."
        ) from error
    about = json.loads((table.schema.metadata or {}).get(b"campus_tune", b"{}"))
    return {name: np.array(table[name]) for name in table.column_names}, about
