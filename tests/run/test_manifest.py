from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from campus_tune.run.lineage import Lineage
from campus_tune.run.manifest import (
    Manifest,
    damaged_outcome,
    hash_file,
    hash_files,
    names_in,
    read_manifest,
    what_is_wrong,
    wrong_of_rank,
)

LINEAGE = Lineage((("a", 0),))
CONTENT = {"optimizer.pt": b"moments" * 99, "global_step4/zero.pt": b"shard" * 50, "README.md": b"# a card\n"}


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Manifest, Path]:
    """A checkpoint of three files, with a ledger and a score file beside it."""
    checkpoint, home = tmp_path / "checkpoint-4", tmp_path / "curriculum"
    for name, data in CONTENT.items():
        (checkpoint / name).parent.mkdir(parents=True, exist_ok=True)
        (checkpoint / name).write_bytes(data)
    (home / "scores").mkdir(parents=True)
    (home / "ledger.jsonl").write_text('{"event": "run"}\n' * 3)
    (home / "scores" / "length.parquet").write_bytes(b"1234")
    (home / "stage.parquet").write_bytes(b"losses")
    ledger = {"ledger.jsonl": 34}
    manifest = Manifest(
        LINEAGE,
        4,
        files=hash_files(checkpoint, names_in(checkpoint)),
        beside=hash_files(home, ["ledger.jsonl", "scores/length.parquet"], ledger),
        outcome=hash_files(home, ["stage.parquet"]),
        ledger="ledger.jsonl",
    )
    manifest.write(checkpoint)
    return checkpoint, manifest, home


def test_a_record_says_what_sha256sum_says(saved: tuple[Path, Manifest, Path]) -> None:
    checkpoint, _, home = saved
    known = json.loads((checkpoint / "campus_files.json").read_text())["files"]
    assert known == {name: [len(data), hashlib.sha256(data).hexdigest()] for name, data in CONTENT.items()}
    assert hash_file(home / "ledger.jsonl", 17) == (17, hashlib.sha256(b'{"event": "run"}\n').hexdigest())


def test_what_is_as_it_was_has_nothing_wrong(saved: tuple[Path, Manifest, Path]) -> None:
    checkpoint, _, home = saved
    manifest = read_manifest(checkpoint)
    assert manifest is not None
    with (home / "ledger.jsonl").open("a") as ledger:
        ledger.write("a later line\n")
    (checkpoint / "notes.txt").write_text("my own")
    (checkpoint / "merged").mkdir()
    (checkpoint / "merged" / "model.safetensors").write_text("for another purpose")
    assert what_is_wrong(checkpoint, manifest, home) is None
    assert damaged_outcome(manifest, home) == []


def lose(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lose, "is missing"),
        (cut, "bytes, not"),
        (empty, "has 0 bytes"),
        (lengthen, "bytes, not"),
        (flip, "is damaged, or of another run"),
    ],
)
@pytest.mark.parametrize("name", [*CONTENT, "../curriculum/scores/length.parquet"])
def test_every_file_that_is_not_as_it_was_is_named(
    saved: tuple[Path, Manifest, Path], name: str, damage: Callable[[Path], None], said: str
) -> None:
    checkpoint, manifest, home = saved
    damage(checkpoint / name)
    wrong = what_is_wrong(checkpoint, manifest, home)
    assert wrong is not None
    assert wrong.startswith(f"{name.removeprefix('../')} ")
    assert said in wrong


def test_a_ledger_that_begins_otherwise_is_named(saved: tuple[Path, Manifest, Path]) -> None:
    checkpoint, manifest, home = saved
    flip(home / "ledger.jsonl")
    assert "curriculum/ledger.jsonl is damaged" in str(what_is_wrong(checkpoint, manifest, home))


@pytest.mark.parametrize(
    "name",
    [
        "scaler.pt",
        "rng_state.pth",
        "rng_state_3.pth",
        "pytorch_model.bin",
        "model-00001-of-00002.safetensors",
        "optimizer_0/__0_0.distcp",
        "global_step4/other.pt",
        "latest",
    ],
)
def test_a_file_that_the_trainer_would_read_and_the_save_did_not_write_is_named(
    saved: tuple[Path, Manifest, Path], name: str
) -> None:
    checkpoint, manifest, home = saved
    (checkpoint / name).parent.mkdir(exist_ok=True)
    (checkpoint / name).write_bytes(b"of another run")
    assert what_is_wrong(checkpoint, manifest, home) == f"{name} is no part of it: its save did not write that file"


def test_damage_of_what_no_resume_reads_is_told_apart(saved: tuple[Path, Manifest, Path]) -> None:
    checkpoint, manifest, home = saved
    flip(home / "stage.parquet")
    assert what_is_wrong(checkpoint, manifest, home) is None
    assert "curriculum/stage.parquet is damaged" in damaged_outcome(manifest, home)[0]


def test_every_rank_looks_after_its_own_random_state(saved: tuple[Path, Manifest, Path]) -> None:
    checkpoint, manifest, home = saved
    for rank in range(2):
        (checkpoint / f"rng_state_{rank}.pth").write_bytes(bytes([rank] * 9))
    manifest = replace(manifest, world=2, files=hash_files(checkpoint, names_in(checkpoint)))
    (checkpoint / "rng_state_1.pth").unlink()  # on rank 0's machine there may be none
    assert what_is_wrong(checkpoint, manifest, home) is None
    assert wrong_of_rank(checkpoint, manifest, 0) is None
    assert wrong_of_rank(checkpoint, manifest, 1) == "rng_state_1.pth is missing"


@pytest.mark.parametrize("place", range(0, 600, 37))
def test_a_flipped_byte_of_the_record_is_found(saved: tuple[Path, Manifest, Path], place: int) -> None:
    checkpoint, _, _ = saved
    path = checkpoint / "campus_files.json"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"campus_files\.json is damaged"):
        read_manifest(checkpoint)


def test_a_record_of_another_version_is_refused(
    saved: tuple[Path, Manifest, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("campus_tune.run.manifest.VERSION", 2)
    with pytest.raises(ValueError, match=r"campus_files\.json is of another version of campus_tune"):
        read_manifest(saved[0])


def test_a_record_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    (tmp_path / "campus_files.json").mkdir()
    with pytest.raises(ValueError, match=r"campus_files\.json cannot be read"):
        read_manifest(tmp_path)
