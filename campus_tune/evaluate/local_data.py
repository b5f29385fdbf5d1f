"""Test sets out of a folder of your own, for machines without the hub: `--data DIR`.

lm-eval's tasks download their rows. Where nothing can be downloaded, the same rows come from files: one folder per
set, one file per split, `SET/SPLIT.jsonl.gz` or `SET/SPLIT.jsonl`, one JSON object a line. `describe_layout()` prints
which sets, files and fields there are; `check_folder` says what is missing before anything is evaluated. Rows are
checked one by one and never repaired: an evaluation on half a file looks like an evaluation.

    DIR/gsm8k/test.jsonl.gz, train.jsonl.gz     DIR/mbpp/test.jsonl.gz      DIR/mmlu/test.jsonl.gz, dev.jsonl.gz
    DIR/arc/test.jsonl.gz, train.jsonl.gz       DIR/humaneval/test.jsonl.gz     DIR/math/test.jsonl.gz (your own copy)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campus_tune.evaluate.data_sets import DATA_SETS, DataSet
from campus_tune.evaluate.suites import Suite
from campus_tune.words.errors import DataError
from campus_tune.words.files import read_jsonl
from campus_tune.words.hashing import sha256
from campus_tune.words.registry import nearest
from campus_tune.words.types import Json
from campus_tune.words.wording import cut, listed

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

SUFFIXES = (".jsonl.gz", ".jsonl")
SHOWN = 3  # wrong rows of one file that a message lists
_MISSING = object()


@dataclass(frozen=True)
class Problem:
    """Something about a data folder.

    Args:
        text: what it is and what to do.
        fatal: the suite cannot be evaluated with it; otherwise its scores are just not those of the official set.
    """

    text: str
    fatal: bool = True

    def __str__(self) -> str:
        return self.text if self.fatal else f"warning: {self.text}"


def check_folder(path: str | Path, suite: Suite) -> list[Problem]:
    """Everything that is wrong with a data folder for what a suite's tasks read; an empty list when all is there."""
    return LocalData(path).check(setting.task for setting in suite.tasks)


def describe_layout() -> str:
    """The files and fields of a data folder, as text for a person.

    >>> print(describe_layout().splitlines()[1])
    math/test.jsonl.gz: 5000 rows, for minerva_math
    """
    lines = ["One JSON object a line, .jsonl.gz or .jsonl. Other fields may be there."]
    for data_set in DATA_SETS:
        for split, rows in data_set.splits.items():
            lines.append(f"{data_set.folder}/{split}.jsonl.gz: {rows} rows, for {', '.join(data_set.tasks)}")
        lines += [f"    {name}: {column.must}" for name, column in data_set.columns.items()]
        lines.append(f"    {data_set.note}")
    return "\n".join(lines)


class LocalData:
    """Reads the sets of one folder; every file once, however many tasks ask for it.

    Args:
        root: the folder that has one folder per set.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._files: dict[tuple[str, str], dict[str | None, list[Json]]] = {}
        self._record: dict[str, Json] = {}

    def check(self, tasks: Iterable[str]) -> list[Problem]:
        """All problems that tasks of these names would meet, sets in the order in which they are first needed."""
        if not self.root.is_dir():
            hint = nearest(self.root.name, _names_in(self.root.parent))
            return [Problem(f"`data` must be a folder with one folder per set, got {str(self.root)!r}.{hint}")]
        problems: list[Problem] = []
        needed: dict[str, DataSet] = {}
        for task in tasks:
            try:
                data_set = set_of_task(task)
                needed[data_set.folder] = data_set
            except DataError as error:
                problems.append(Problem(str(error)))
        for data_set in needed.values():
            for split, official in data_set.splits.items():
                try:
                    parts = self._parts(data_set, split)
                except DataError as error:
                    problems.append(Problem(str(error)))
                    continue
                name, rows = self._find(data_set, split), sum(map(len, parts.values()))
                problems += [Problem(_no_rows(name, part)) for part in data_set.parts if part not in parts]
                if rows != official:
                    text = f"`{name}` has {rows} rows, the official {split} split of {data_set.hub} has {official}. "
                    problems.append(Problem(f"{text}Scores on it are not comparable with published ones.", fatal=False))
        return problems

    def dataset(self, hub: str, part: str | None) -> DatasetDict:
        """The splits of one part of a set, as `datasets.load_dataset(hub, part)` would return them.

        Args:
            hub: `dataset_path` of a task definition.
            part: `dataset_name` of a task definition.

        Raises:
            DataError: no layout for this set, a file is missing or damaged, or rows are wrong.
        """
        from datasets import DatasetDict

        data_set = set_of_hub(hub)
        splits = {}
        for split in data_set.splits:
            path, parts = self._find(data_set, split), self._parts(data_set, split)
            if part not in parts:
                raise DataError(_no_rows(path, part))
            digest = self._record[f"{data_set.folder}/{path.name}"]["sha256"]
            splits[split] = _dataset(parts[part], data_set, fingerprint=f"{digest[:16]}-{part}")
        return DatasetDict(splits)

    def record(self) -> Json:
        """What was read: rows and SHA-256 of every file, by its name in the folder."""
        return {name: self._record[name] for name in sorted(self._record)}

    def _parts(self, data_set: DataSet, split: str) -> dict[str | None, list[Json]]:
        """Official rows of a file by the part they belong to."""
        key = (data_set.folder, split)
        if key not in self._files:
            path = self._find(data_set, split)
            rows = read_jsonl(path)
            _check_rows(path, rows, data_set)
            parts = defaultdict(list)
            columns = data_set.columns
            for row in rows:  # as the hub has it: its columns, in its sequence, and no others
                official = data_set.official(row) if data_set.official else {name: row[name] for name in columns}
                parts[data_set.part(row)].append(official)
            digest = sha256(path.read_bytes())
            self._record[f"{data_set.folder}/{path.name}"] = {"rows": len(rows), "sha256": digest}
            self._files[key] = dict(parts)
        return self._files[key]

    def _find(self, data_set: DataSet, split: str) -> Path:
        folder = self.root / data_set.folder
        there = [path for suffix in SUFFIXES if (path := folder / f"{split}{suffix}").is_file()]
        if len(there) > 1:
            several = " and ".join(path.name for path in there)
            raise DataError(f"`{folder / split}` must be one file, got {several}. Remove the one that is not meant.")
        if there:
            return there[0]
        names = _names_in(folder) if folder.is_dir() else _names_in(self.root)
        hint = f" The folder has {', '.join(names)}." if names else " The folder is empty."
        hint = hint if folder.is_dir() else nearest(data_set.folder, names)
        raise DataError(
            f"`{folder / split}{SUFFIXES[0]}` must be there for {', '.join(data_set.tasks)}, got no such file.{hint} "
            f"Fields: {', '.join(data_set.columns)}. {data_set.note}"
        )


def set_of_task(task: str) -> DataSet:
    """The set that a task reads.

    Raises:
        DataError: campus_tune knows no layout for it; the nearest task is named.
    """
    for data_set in DATA_SETS:
        if task in data_set.tasks:
            return data_set
    known = [name for data_set in DATA_SETS for name in data_set.tasks]
    raise DataError(
        f"`task` must be one of {', '.join(known)} to be evaluated from a data folder, got {task!r}."
        f"{nearest(task, known)} Take the task out of the suite, or evaluate without `data`."
    )


def set_of_hub(hub: str) -> DataSet:
    """The set of this name on the hub.

    Raises:
        DataError: campus_tune knows no layout for it.
    """
    for data_set in DATA_SETS:
        if hub == data_set.hub:
            return data_set
    known = ", ".join(data_set.hub for data_set in DATA_SETS)
    raise DataError(f"`data` must be asked for one of {known}, got {hub!r}. Evaluate this task without `data`.")


def _check_rows(path: Path, rows: list[Json], data_set: DataSet) -> None:
    """Every row has the columns, and they hold what they must.

    Raises:
        DataError: naming the first wrong rows, their fields and what is in them.
    """
    checks = [(name, column.holds) for name, column in data_set.columns.items()]
    right = all(all(map(holds, [row.get(name, _MISSING) for row in rows])) for name, holds in checks)
    if right and all(map(data_set.agrees, rows)):
        return
    wrong = []
    for number, row in enumerate(rows, 1):
        values = {name: row.get(name, _MISSING) for name in data_set.columns}
        bad = [name for name, holds in checks if not holds(values[name])]
        for name in bad:
            got = "no such field" if values[name] is _MISSING else cut(repr(values[name]), 60, mark=" …")
            wrong.append(f"row {number}: `{name}` must be {data_set.columns[name].must}, got {got}.")
        if not bad and not data_set.agrees(row):
            choices = f"the position of one of the {len(row['choices'])} choices"
            wrong.append(f"row {number}: `answer` must be {choices}, got {row['answer']}.")
    if wrong:
        first = listed(wrong, SHOWN, by=" ", more=" … and {n} more.")
        raise DataError(
            f"`{path}` must have rows with the fields {', '.join(data_set.columns)}. {first} "
            "Correct the file; a row is a line that is not blank."
        )


def _dataset(rows: list[Json], data_set: DataSet, *, fingerprint: str) -> Dataset:
    """The rows with the official columns; a column of empty lists still is one of texts.

    Not through `Dataset.from_list`, which looks at every value again and hashes the whole: for MMLU's 57 subjects that
    took 2 seconds, and this takes 0.1.
    """
    from datasets import DatasetInfo, Features, List, Value
    from pyarrow import Table

    kinds = {"text": Value("string"), "texts": List(Value("string")), "whole": Value("int64")}

    def feature(kind: object) -> Any:
        if isinstance(kind, Mapping):
            return {name: feature(inner) for name, inner in kind.items()}
        return kinds[str(kind)]

    schema = data_set.schema or {name: column.kind for name, column in data_set.columns.items()}
    features = Features(feature(schema))
    table = Table.from_pylist(rows, schema=features.arrow_schema)
    return _rows_class()(table, info=DatasetInfo(features=features), fingerprint=fingerprint)


@cache
def _rows_class() -> type[Dataset]:
    from datasets import Dataset

    class ListedRows(Dataset):  # type: ignore[misc]  # datasets ships no types
        """A data set that hands out all its rows at once where it is gone through.

        lm-eval lists every row that worked examples can be drawn from, 11 000 of `campus_wide`; one by one, that was a
        quarter of the time to load it. What `map` or `select` make of it is an ordinary data set again.
        """

        def __iter__(self) -> Iterator[Json]:
            return super().__iter__() if self.format["type"] else iter(self.data.table.to_pylist())

    return ListedRows


def _no_rows(name: Path, part: str | None) -> str:
    return f"`{name}` must have rows of {part}, got none. Take the official file, which has all parts."


def _names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
