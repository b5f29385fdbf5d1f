"""What ranks tell one another: who leads, whose word counts, and that an error on one is an error on all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from campus_tune.model.peers import Peers
from campus_tune.run.checkpoints import last_complete, named
from campus_tune.run.identity import Identity
from campus_tune.run.lineage import Lineage, write_lineage
from campus_tune.run.manifest import Manifest, hash_files, names_in
from campus_tune.words.errors import DataError, ResumeError, TrainerError
from campus_tune.words.types import Json
from tests.run.threads import on_ranks


def test_what_the_leader_does_is_done_once_and_known_to_all() -> None:
    called: list[int] = []

    def act(peers: Peers) -> str:
        return peers.led(lambda: called.append(peers.rank) or f"read by {peers.rank}")

    assert on_ranks(3, act) == ["read by 0"] * 3
    assert called == [0]


def test_what_stops_the_leader_stops_all_with_the_same_message() -> None:
    def act(peers: Peers) -> Any:
        def fail() -> None:
            raise DataError(f"no file, says rank {peers.rank}")

        return peers.led(fail)

    for error in on_ranks(3, act):
        with pytest.raises(DataError, match="no file, says rank 0"):
            raise error


def test_a_leader_without_peers_does_it_itself() -> None:
    assert Peers().led(lambda: 7) == 7
    with pytest.raises(DataError, match="as it is"):
        Peers().led(lambda: (_ for _ in ()).throw(DataError("as it is")))


def test_each_row_is_taken_from_the_lowest_rank_that_measured_it() -> None:
    def act(peers: Peers) -> Any:
        known = np.array([peers.rank == 0, True, peers.rank == 2, False])
        column = np.where(known, 10.0 * peers.rank + np.arange(4), np.nan)
        wide = np.stack([column, -column], axis=1)
        return peers.merge({"loss": column, "read": wide}, known)

    for merged in on_ranks(3, act):
        assert not isinstance(merged, Exception)
        np.testing.assert_array_equal(merged["loss"], [0.0, 1.0, 22.0, 0.0])
        np.testing.assert_array_equal(merged["read"], [[0.0, 0.0], [1.0, -1.0], [22.0, -22.0], [0.0, 0.0]])


# -- all ranks are of one run -----------------------------------------------------------------------------------------


def identity(rank: int, *, other: int, changes: Json) -> Identity:
    past: Json = {"dataset": "abc", "n_rows": 20, "global_batch": 4, "campus: metrics": ["length"]}
    future: Json = {"total_steps": 10, "probes": "p"}
    batch: Json = {"micro": 2, "world": 3, "accumulation": 1}
    for part in (past, future, batch):
        part |= {key: value for key, value in changes.items() if key in part and rank == other}
    return Identity(past, future, batch, {})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"dataset": "xyz"},
            r"training rows \(fingerprint\): 'abc' \(ranks 0, 2\), 'xyz' \(rank 1\)\. Start every process",
        ),
        ({"campus: metrics": ["mtld"]}, r"`campus: metrics`: \['length'\] \(ranks 0, 2\), \['mtld'\] \(rank 1\)"),
        ({"probes": "q"}, r"probe rows \(fingerprint\): 'p' \(ranks 0, 2\), 'q' \(rank 1\)"),
        ({"accumulation": 2}, r"`gradient_accumulation_steps`: 1 \(ranks 0, 2\), 2 \(rank 1\)"),
        ({"n_rows": 19, "total_steps": 9}, "number of training rows: .*; optimizer steps of the whole run: "),
    ],
)
def test_a_rank_with_other_rows_or_settings_is_named_on_all(changes: Json, named: str) -> None:
    errors = on_ranks(3, lambda peers: identity(peers.rank, other=1, changes=changes).refuse_different_ranks(peers))
    for error in errors:
        with pytest.raises(TrainerError, match=named):
            raise error  # type: ignore[misc]  # None fails here too


def test_ranks_of_one_run_go_on() -> None:
    same = identity(0, other=1, changes={})
    assert on_ranks(3, same.refuse_different_ranks) == [None] * 3


# -- checkpoints ------------------------------------------------------------------------------------------------------


LINEAGE = Lineage.new()


def checkpoint(folder: Path, step: int, world: int, *, random_states: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text("{}")
    for rank in range(random_states):
        torch.save({"cpu": torch.get_rng_state()}, path / f"rng_state_{rank}.pth")
    Manifest(LINEAGE, step, world, files=hash_files(path, names_in(path))).write(path)
    write_lineage(folder / "curriculum", LINEAGE)
    return path


def last_step(folder: Path, peers: Peers) -> str | None:
    found = last_complete(folder, folder / "curriculum", peers)
    return None if found is None else found.path.name


def test_a_save_that_one_rank_did_not_finish_does_not_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(tmp_path, 4, 3, random_states=3)
    (checkpoint(tmp_path, 8, 3, random_states=3) / "rng_state_2.pth").unlink()
    cut_off = checkpoint(tmp_path, 12, 3, random_states=3) / "rng_state_1.pth"
    cut_off.write_bytes(cut_off.read_bytes()[:-30])
    Manifest(LINEAGE, 16, 3).write(checkpoint(tmp_path, 16, 3, random_states=2))  # the leader waits for rank 2's
    assert on_ranks(3, lambda peers: last_step(tmp_path, peers)) == ["checkpoint-4"] * 3
    said = capsys.readouterr().out
    assert said.count("skipping checkpoint-16: its save was interrupted") == 1
    assert re.search(r"skipping checkpoint-12: rng_state_1\.pth has \d+ bytes, not \d+ \(of rank 1\)", said)
    assert said.count("skipping checkpoint-8: rng_state_2.pth is missing (of rank 2)") == 1


def test_other_ranks_than_before_need_no_random_states_and_a_save_of_the_model_alone_has_none(tmp_path: Path) -> None:
    (checkpoint(tmp_path, 4, 3, random_states=3) / "rng_state_2.pth").unlink()
    for world in (1, 2, 4):
        assert on_ranks(world, lambda peers: last_step(tmp_path, peers)) == ["checkpoint-4"] * world
    checkpoint(tmp_path, 8, 2, random_states=0)
    assert on_ranks(2, lambda peers: last_step(tmp_path, peers)) == ["checkpoint-8"] * 2


def test_a_checkpoint_that_a_rank_cannot_see_is_an_error_on_all_that_names_it(tmp_path: Path) -> None:
    checkpoint(tmp_path / "shared", 4, 2, random_states=2)
    folders = [tmp_path / "shared", tmp_path / "disk of another machine"]
    for error in on_ranks(2, lambda peers: last_step(folders[peers.rank], peers)):
        with pytest.raises(ResumeError, match=r"readable by every process, got none on rank 1: .* all machines share"):
            raise error  # type: ignore[misc]  # a path fails here too


def test_a_named_checkpoint_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 4, 2, random_states=2)
    (path / "rng_state_1.pth").unlink()
    for error in on_ranks(2, lambda peers: named(path, tmp_path / "curriculum", peers)):
        with pytest.raises(ResumeError, match=r"saved to its end, got .*rng_state_1\.pth is missing"):
            raise error  # type: ignore[misc]  # a checkpoint fails here too
