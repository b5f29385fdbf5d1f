"""Hashes against their published numbers, a slow second version, and the values that files on disk already hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.words.hashing import array_digest, as_json, blake2, digest, hash_file, hash_rows, sha256, signed

MASK64, GOLDEN = (1 << 64) - 1, 0x9E3779B97F4A7C15


def splitmix64(z: int) -> int:
    z = (z + GOLDEN) & MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
    return z ^ (z >> 31)


def slow_hash(row: int, *seed: int) -> int:
    offset = 0
    for part in seed:
        offset = splitmix64((part + offset * GOLDEN) & MASK64)
    return splitmix64((row * GOLDEN + offset) & MASK64)


def test_unseeded_hashes_are_the_published_stream_of_splitmix64() -> None:
    assert hash_rows(np.arange(3)).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=5), st.lists(st.integers(-5, 2**70), max_size=3))
def test_hashes_are_splitmix64_offset_by_the_seeds(rows: list[int], seed: list[int]) -> None:
    assert hash_rows(np.array(rows, dtype=np.int32), *seed).tolist() == [slow_hash(row, *seed) for row in rows]


def test_the_sequence_of_the_seeds_matters() -> None:
    assert hash_rows(np.zeros(1), 1, 2) != hash_rows(np.zeros(1), 2, 1)


def test_hashes_are_even_in_every_bit() -> None:
    bits = np.unpackbits(hash_rows(np.arange(4096), 7).view(np.uint8))
    assert np.abs(bits.reshape(4096, 64).mean(axis=0) - 0.5).max() < 4 * 0.5 / 64  # four standard errors


def test_a_digest_of_an_array_changes_with_the_sequence_and_with_any_value() -> None:
    values = np.array([4, 5, 6], dtype=np.uint64)
    others = [values[::-1], values[:2], values + np.uint64(1)]
    assert array_digest(values) == array_digest(values.copy())
    assert len({array_digest(values), *map(array_digest, others)}) == 4
    assert len(array_digest(values)) == 16


def test_hashes_that_stand_in_files_stay_what_they_were() -> None:
    assert array_digest(np.array([4, 5, 6], dtype=np.uint64)) == "68346592fb3016fa"
    assert sha256("abc") == sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256("abc", 16) == "ba7816bf8f01cfea"
    assert (
        digest({"b": [1, None], "a": 0.5}) == digest({"a": 0.5, "b": [1, None]}) == "b9ed64369410c63aad0e0245731453b5"
    )
    assert blake2(as_json(["a", 1]), 16) == "215f544638f2193d"
    assert blake2("half \ud800", 32) == "a80087a3655a1b93321ccb8681ecc2c5"


def test_of_a_file_the_first_bytes_can_be_hashed_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abcdef")
    assert hash_file(path) == (6, sha256(b"abcdef"))
    assert hash_file(path, 3) == (3, sha256("abc"))
    assert hash_file(path, 9) == (6, sha256(b"abcdef"))


@given(st.integers(0, 2**70))
def test_a_signed_pattern_has_the_same_bits(number: int) -> None:
    assert signed(number) & MASK64 == number & MASK64
    assert -(2**63) <= signed(number) < 2**63
