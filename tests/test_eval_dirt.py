"""The calibration of the estimate of wrong rows: what is simulated, read and counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from campus_tune.method.dirt import Dirt
from eval import dirt
from eval.dirt import SHAPES, Asked, Record, drawn, hardness, holds, kept, looks, simulated, table


def small(share: float, seed: int = 0, *, passes: int = 2, n: int = 400) -> Record:
    return simulated(np.random.default_rng(seed), n=n, share=share, shape="normal", passes=passes)


def test_a_simulated_record_has_what_was_asked_for() -> None:
    record = small(0.1, passes=3)
    assert (record.wrong.sum(), record.passes, len(record.rows)) == (40, 3, 1200)
    for number in range(3):
        assert sorted(record.rows[400 * number : 400 * (number + 1)]) == list(range(400))
    assert (record.losses >= 0).all()
    later = record.losses[800:][np.argsort(record.rows[800:])]
    assert np.median(later[record.wrong]) > 3 * np.median(later[~record.wrong])
    assert [len(part.rows) for part in (record.after(1), record.after(0.25))] == [400, 100]
    same = small(0.1, passes=3)
    np.testing.assert_array_equal(same.losses, record.losses)


@pytest.mark.parametrize("shape", SHAPES)
def test_hardness_is_about_as_wide_whatever_its_shape(shape: str) -> None:
    found = hardness(np.random.default_rng(0), shape, 20_000)
    assert 0.8 < found.std() < 1.4
    assert abs(np.median(found)) < 0.4


def test_draws_are_the_same_for_a_seed_and_others_for_another() -> None:
    def first(seed: int) -> list[float]:
        return [float(record.losses[0]) for _, record in drawn(seed, 4)]

    assert [shape for shape, _ in drawn(0, 5)] == [*SHAPES]
    assert first(3) == first(3) != first(4)


def test_trained_sets_are_read_in_either_form(tmp_path: Path) -> None:
    record = small(0.1)
    sums = {"row": record.rows, "nll_sum": record.losses * 3, "tokens": np.full(len(record.rows), 3)}
    facts = {"wrong": record.wrong, "domain": record.domain}
    home = tmp_path / "wrong_10" / "random" / "seed-100"
    home.mkdir(parents=True)
    np.savez(home / "visits.npz", **sums)
    lengths = {"answer_tokens": record.tokens, "prompt_tokens": record.prompts}
    np.savez(home / "rows.npz", **facts, **lengths, domains=np.array(record.names))
    of_rows = {**facts, "tokens": record.tokens, "prompt": record.prompts}
    visits, rows = ({f"{of}_{k}": v for k, v in arrays.items()} for of, arrays in (("visit", sums), ("row", of_rows)))
    np.savez(tmp_path / "swapped-0.1-seed-3.npz", **visits, **rows, domains=np.array(record.names))
    found = list(kept([tmp_path]))
    assert [of for of, _ in found] == ["wrong_10", "swapped-0.1"]
    for _, one in found:
        np.testing.assert_allclose(one.losses, record.losses)
        assert one.names == record.names
        assert one.dirt(by_domain=False) == record.dirt(by_domain=False)


def test_the_table_counts_intervals_that_hold_the_truth() -> None:
    inside, quiet = Dirt(9, 0.1, 0.05, 0.2, {"a": Dirt(5, 0.1, 0.05, 0.3)}), Dirt(9, 0.0, 0.0, 0.1)
    asked = [
        Asked("x", 2, 0.1, inside, (0.4,)),
        Asked("x", 1, 0.3, inside, (0.1,)),
        Asked("x", 2, 0.0, quiet, ()),
        Asked("x", 2, 0.0, inside, (0.0,)),
    ]
    assert [holds(one.found, one.truth) for one in asked] == [True, False, True, False]
    lines = list(table(asked))
    seen = "2 of 4 (50 %) | 1 of 2 (50 %) | 2 of 2 (100 %) | -0.100 | 0.150 | 0.150 | 1 of 3 (33 %) | 0 of 1 (0 %)"
    assert lines[-1] == f"| all | all | {seen} |"
    assert [line.split(" | ")[:2] for line in lines[2:]] == [
        ["| x", "1"], ["| x", "2 or more"], ["| all", "1"], ["| all", "2 or more"], ["| all", "all"]
    ]  # fmt: skip


def test_a_look_says_when_it_would_have_acted() -> None:
    assert "acts after 0." in looks("dirty", small(0.3, n=1000, passes=1))
    assert "never acts; enough in 0 looks, the highest lower end 0.000" in looks("clean", small(0.0, passes=1))


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dirt, "SIZES", (100,) * 5)
    dirt.main(["simulated", "--times", "2"])
    assert "| all | all | " in capsys.readouterr().out
