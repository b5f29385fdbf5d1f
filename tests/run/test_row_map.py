"""What a map says in one line, in the ledger and in its table, made of facts that are made up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.domains import Domains
from campus_tune.data.said_hashes import SaidHashes
from campus_tune.method.cells import Cells
from campus_tune.method.dirt import Dirt
from campus_tune.method.learning import REGIONS, Learning
from campus_tune.method.suspicion import Suspicion
from campus_tune.run.row_map import NOTHING, Basis, RowMap
from campus_tune.words.types import RowLosses

N = 10
NAN = np.nan


def made(
    suspects: tuple[int, ...] = (), *, seen: int = N, domains: int = 2, basis: Basis = "training", doubled: int = 0
) -> RowMap:
    """Ten rows of alternating domains, of which the first were seen twice."""
    rows = np.tile(np.arange(seen), 2)
    losses = RowLosses.zeros(len(rows))
    losses.tokens[:] = 1
    losses.nll_sum[:] = np.linspace(3, 1, len(rows))
    score = np.where(np.arange(N) < seen, np.arange(N) / 4, NAN)
    marks = np.isin(np.arange(N), suspects)
    words = np.arange(1, N + 1, dtype=np.uint64)
    words[N - doubled :] = 1
    codes = np.arange(N) % 2 if domains == 2 else np.zeros(N, dtype=np.int64)
    return RowMap(
        basis=basis,
        content=words + np.uint64(100),
        learning=Learning.of(rows, 1 + np.arange(len(rows)) // 4, losses, N),
        suspicion=Suspicion(score, np.full(N, NAN), marks, 1.5 if suspects else None),
        domains=Domains() if not domains else Domains(codes, ["code", "math"][:domains]),
        cells=Cells.cut(np.ones(N), bands=1),
        said=SaidHashes(words, words, words * np.uint64(0), words),
    )


@pytest.mark.parametrize(
    ("suspects", "settings", "said"),
    [
        ((), {}, NOTHING),
        ((4,), {}, "1 of 10 rows looks wrong (10.0%)"),
        ((1, 3, 4), {}, "3 of 10 rows look wrong (30.0%; most in math: 2)"),
        ((1, 3, 4), {"domains": 0}, "3 of 10 rows look wrong (30.0%)"),
        ((1, 3, 4), {"domains": 1}, "3 of 10 rows look wrong (30.0%)"),
        ((1, 3), {"seen": 8}, "2 of the 8 rows that were seen look wrong (25.0%; most in math: 2)"),
    ],
)
def test_one_line_says_what_there_is_to_see(suspects: tuple[int, ...], settings: dict[str, int], said: str) -> None:
    assert made(suspects, **settings).sentence() == said  # type: ignore[arg-type]  # parametrised


@given(
    st.sets(st.integers(0, 5)).map(tuple), st.integers(6, N), st.integers(0, 2), st.integers(0, 3),
    st.sampled_from(["training", "forward"]),
)  # fmt: skip
def test_the_ledgers_line_adds_up_and_is_the_tables(
    suspects: tuple[int, ...], seen: int, domains: int, doubled: int, basis: Basis
) -> None:
    made_up = made(suspects, seen=seen, domains=domains, doubled=doubled, basis=basis)
    record, columns, about = made_up.record(), made_up.columns(), made_up.about()
    regions = columns["region"].to_pylist()
    assert record["regions"] == {name: regions.count(name) for name in REGIONS}
    assert record["regions"]["suspect"] == record["suspects"] == about["n_suspects"] == len(suspects)
    assert record["regions"]["not_seen"] == N - seen
    if basis == "training":
        assert sum(record["regions"].values()) == N
    else:
        assert regions.count(None) + sum(record["regions"].values()) == N
        assert columns["visits"].null_count == seen
        assert columns["first_loss"].null_count == N
    assert record["share_of_suspects"] == pytest.approx(len(suspects) / seen)
    assert sum(found["suspects"] for found in record["by_domain"].values()) == (len(suspects) if domains else 0)
    assert ("domain" in columns) == (domains > 0)
    assert columns["excess"].null_count == columns["mean_loss"].null_count == N - seen


def test_a_list_for_people_has_few_digits_and_null_where_nothing_is_known() -> None:
    line = made((1,)).line(3)
    assert line == {
        "row": 3,
        "key": "0000000000000004",
        "domain": "math",
        "excess": 0.75,
        "spread": pytest.approx(NAN, nan_ok=True),
        "visits": 2,
        "mean_loss": round(float(np.mean([3 - 2 * 3 / 19, 3 - 2 * 13 / 19])), 4),
        "lowest_probability": 1.0,
    }
    assert made(basis="forward", domains=0).line(3)["visits"] is None


def test_the_estimate_stands_behind_what_stands_out_and_in_both_records() -> None:
    dirt = Dirt(10, 0.2, 0.1, 0.3, {"code": Dirt(5, 0.3, 0.2, 0.4), "math": Dirt(5, 0.0, 0.0, 0.1)})
    made_up = replace(made((4,)), dirt=dirt)
    assert made_up.sentence() == "1 of 10 rows looks wrong (10.0%); estimated wrong: 10 to 30 %, of `code` 20 to 40 %"
    assert Dirt.from_mapping(made_up.record()["dirt"]) == Dirt.from_mapping(made_up.about()["dirt"]) == dirt
    clean = replace(made(), dirt=Dirt(10, 0.0, 0.0, 0.1))
    assert clean.sentence() == NOTHING
    assert made().record()["dirt"] is None
