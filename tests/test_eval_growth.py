"""`eval/growth.py`: exponents of planted numbers, and one small measurement of each part."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import growth
from eval.growth import Cost, Size


@given(st.floats(0.1, 3), st.floats(1e-3, 1e3), st.floats(2, 100))
def test_the_exponent_of_a_power_is_that_power(power: float, factor: float, times: float) -> None:
    sizes = [1.0, times, times**2]
    values = [factor * size**power for size in sizes]
    assert growth.exponent(sizes, values, least=1e-12) == pytest.approx(power)


def test_what_is_too_quick_to_tell_has_no_exponent_and_does_not_make_one() -> None:
    assert math.isnan(growth.exponent([1, 10, 100], [0.0, 0.0, 0.01], growth.CLOCK))
    # from nothing to something: as if the one before had been as much as can be told
    assert growth.exponent([1, 10, 100], [0.0, 0.0, 0.2], growth.CLOCK) == pytest.approx(1.0)


@pytest.mark.parametrize(("seconds", "memory", "grows", "part", "bad"), [
    ([1, 10, 120], [1, 1, 1], "rows", "orders", False),  # N log N
    ([1, 10, 1000], [1, 1, 1], "rows", "orders", True),
    ([1, 10, 100], [100, 1000, 100_000], "rows", "orders", True),
    ([0.1, 1.6, 25.6], [1, 1, 1], "metrics", "health", False),  # correlations are of pairs
    ([0.1, 1.6, 25.6], [1, 1, 1], "metrics", "check", True),
])  # fmt: skip
def test_more_than_n_log_n_is_told(seconds: list[float], memory: list[float], grows: str, part: str, bad: bool) -> None:
    sizes = [Size(n) for n in (1, 10, 100)] if grows == "rows" else [Size(9, metrics=n) for n in (1, 4, 16)]
    cells, worse = growth.line(part, grows, sizes, [Cost(*both) for both in zip(seconds, memory, strict=True)])
    assert worse is bad
    assert cells[-1] == ("WORSE THAN N LOG N" if bad else "")


def test_one_thing_grows_at_a_time_and_parts_of_texts_have_a_tenth_of_the_rows() -> None:
    assert growth.sizes_of("orders", "rows", [10, 100, 1000]) == [Size(10), Size(100), Size(1000)]
    assert growth.sizes_of("check", "rows", [10, 100, 1000]) == [Size(1), Size(10), Size(100)]
    assert growth.sizes_of("orders", "metrics", [10, 100, 1000]) == [Size(100, metrics=n) for n in (1, 4, 16)]
    assert {size.stages for size in growth.sizes_of("report", "stages", [10, 100, 1000])} == {20, 200, 2000}
    assert all(
        sizes for part, (_, grows) in growth.PARTS.items() for sizes in [growth.sizes_of(part, grows[0], [1, 2, 3])]
    )


def test_the_most_memory_is_what_was_there_meanwhile() -> None:
    with growth.most_private_mb() as most:
        before = most[0]
        some = np.ones(12_500_000)
        while most[0] < before + 90:
            some += 1
    del some
    assert 90 <= most[0] - before < 300


@pytest.mark.parametrize("part", [name for name in growth.PARTS if name not in ("check", "report", "simulate")])
def test_every_part_can_be_measured(part: str) -> None:
    cost = growth.in_this_process(part, Size(2000, metrics=2, domains=3, stages=4))
    assert 0 <= cost.seconds < 60


def test_check_asks_as_many_metrics_and_domains_as_it_is_told(tmp_path: Path) -> None:
    growth.check(Size(60, metrics=5, domains=3, stages=4), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    recipe = json.loads((tmp_path / "recipe.yaml").read_text())
    assert (len(lines), len({line["domain"] for line in lines}), len(recipe["campus"]["metrics"])) == (60, 3, 5)
    assert {"own0", "own1"} <= lines[0].keys()


def test_the_table_is_printed_and_what_grows_too_fast_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(growth, "measure", lambda _, size: Cost(1e-6 * size.rows**2, 1.0))
    monkeypatch.setattr(
        sys, "argv", ["growth", "--parts", "said", "--rows", "1e4", "1e5", "1e6", "--json", str(tmp_path / "n")]
    )
    assert growth.main() == 1
    assert "2.00" in capsys.readouterr().out.splitlines()[1]
    assert [one["rows"] for one in json.loads((tmp_path / "n").read_text())] == [1000, 10_000, 100_000]
    monkeypatch.setattr(growth, "measure", lambda _, size: Cost(1e-6 * size.rows, 1.0))
    assert growth.main() == 0
