"""The book of a run: folded from the run's own files, and named where one of them is not as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from campus_tune.method.cells import Cells
from campus_tune.method.view import PastStage
from campus_tune.model.peers import Peers
from campus_tune.run.book_keeping import FILE, FOLDER, LIVE, BookFolder, BookKeeping
from campus_tune.run.stream.training_losses import FOLDER as LOSSES
from campus_tune.run.stream.training_losses import TrainingLosses, file_of_stage
from campus_tune.words.errors import ResumeError
from campus_tune.words.types import RowLosses

N = 12
CELLS = Cells.cut(np.arange(N) % 5.0, domains=np.arange(N) % 2, domain_names=["code", "math"], bands=2)


def losses_of(n: int, seed: int) -> RowLosses:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 9, n)
    return RowLosses(rng.exponential(1.0, n) * tokens, tokens, tokens // 2, rng.random(n), rng.random(n) * tokens)


def begun(folder: Path) -> BookKeeping:
    return BookKeeping.begin(folder, CELLS, global_batch=4, spacing=2)


def trained(home: Path, n_stages: int = 3) -> tuple[BookKeeping, list[PastStage]]:
    """A book that was written stage by stage, beside the files that the run keeps of them."""
    keeping, gathered = begun(home / FOLDER), TrainingLosses()
    for stage in range(n_stages):
        rows = np.random.default_rng(stage).permutation(N)[:8].astype(np.int64)
        gathered.add(rows, losses_of(8, stage))
        gathered.share(Peers(), rows.astype(np.int32))
        keeping.close_stage(stage, 2 * stage + 2, gathered.rows, gathered.losses)
        gathered.close_stage(home / LOSSES, PastStage(stage, "shuffle", 2 * stage + 2))
    return keeping, gathered.past


def assert_same(one: BookKeeping, other: BookKeeping) -> None:
    assert one.book.chain == other.book.chain
    for name, values in one.book.columns.items():
        assert values.tolist() == other.book.columns[name].tolist(), name
    assert one.book.levels.mean.tolist() == other.book.levels.mean.tolist()


def test_a_book_that_is_folded_from_the_files_is_the_one_that_was_written(tmp_path: Path) -> None:
    written, past = trained(tmp_path)
    again = begun(tmp_path / "again")
    again.fold(tmp_path, past, written.state(), Peers())
    assert_same(again, written)
    assert again.files() == [f"{LOSSES}/{file_of_stage(stage)}" for stage in range(3)]
    assert again.book.columns["step"].max() == 6


def test_a_checkpoint_in_the_middle_folds_only_what_was_over_then(tmp_path: Path) -> None:
    early, _ = trained(tmp_path / "early", 2)
    _, past = trained(tmp_path)
    again = begun(tmp_path / "again")
    again.fold(tmp_path, past[:2], early.state(), Peers())
    assert_same(again, early)


def test_a_book_begins_in_the_middle_of_a_run_that_kept_none(tmp_path: Path) -> None:
    written, past = trained(tmp_path)
    again = begun(tmp_path / "again")
    again.fold(tmp_path, past, None, Peers())
    assert_same(again, written)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def of_another_training(path: Path) -> None:
    gathered, rows = TrainingLosses(), np.arange(8)
    gathered.add(rows, losses_of(8, 99))
    gathered.share(Peers(), rows.astype(np.int32))
    gathered.close_stage(path.parent, PastStage(1, "shuffle", 4))


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (Path.unlink, "No such file"),
        (cut_short, "got "),
        (flip_a_bit, "a damaged file"),
        (of_another_training, "those of another training"),
    ],
    ids=["missing", "cut short", "a flipped bit", "of another training"],
)
def test_a_file_that_is_not_as_it_was_is_named(damage: object, found: str, tmp_path: Path) -> None:
    written, past = trained(tmp_path)
    damage(tmp_path / LOSSES / file_of_stage(1))  # type: ignore[operator] # parametrised
    with pytest.raises(ResumeError, match=rf"stage-00001\.parquet` must be the losses .*{found}.* earlier checkpoint"):
        begun(tmp_path / "again").fold(tmp_path, past, written.state(), Peers())


def test_what_a_run_leaves_behind_has_a_line_for_each_row_and_null_where_nothing_is_known(tmp_path: Path) -> None:
    written, _ = trained(tmp_path, 1)
    written.export(tmp_path)
    table = parquet.read_table(tmp_path / FILE).to_pydict()
    known = written.book.known
    assert table["row"] == list(range(N))
    assert table["cell"] == [CELLS.names[code] for code in CELLS.codes]
    assert [value is not None for value in table["last"]] == known.tolist() == [v == 1 for v in table["visits"]]
    row = int(np.flatnonzero(known)[0])
    assert table["last"][row] == written.book.columns["last"][row]
    assert set(table) == {"row", "cell", *written.book.columns}


def test_only_the_leaders_columns_lie_in_the_runs_folder_and_all_of_them_go(tmp_path: Path) -> None:
    leader, other = BookFolder(tmp_path, Peers(0, 2)), BookFolder(tmp_path, Peers(1, 2))
    assert leader.make() == tmp_path / FOLDER / LIVE
    assert tmp_path not in other.make().parents
    assert other.make() == other.make()
    books = [begun(folder.make()).book for folder in (leader, other)]
    places = [folder.make() for folder in (leader, other)]
    for folder in (leader, other):
        folder.remove()
        folder.remove()
    assert not any(place.exists() for place in places)
    assert not any(book.known.any() for book in books)  # what is mapped stays readable
