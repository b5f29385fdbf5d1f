from __future__ import annotations

from pathlib import Path

import pytest

from campus_tune.run.lineage import Lineage, read_lineage, refuse_strange_folder, write_lineage
from campus_tune.words.errors import ResumeError, TrainerError
from campus_tune.words.sealed_json import read_sealed, write_sealed


def lives(*parts: tuple[str, int], earlier: tuple[str, ...] = ()) -> Lineage:
    return Lineage(parts, earlier)


OURS = lives(("a", 0), ("b", 40), ("c", 60), earlier=("z",))  # begun; resumed at 40; resumed at 60


@pytest.mark.parametrize(
    ("saved", "step"),
    [
        (lives(("a", 0)), 20),
        (lives(("a", 0)), 40),
        (lives(("a", 0), ("b", 40)), 60),
        (lives(("a", 0), ("b", 40), ("c", 60)), 1000),
    ],
)
def test_what_every_life_saved_before_the_next_one_began_counts(saved: Lineage, step: int) -> None:
    assert OURS.why_not(saved, step) is None


@pytest.mark.parametrize(
    ("saved", "step", "why", "damaged"),
    [
        (lives(("a", 0)), 41, "resumed from step 40 since", False),
        (lives(("a", 0), ("b", 40)), 80, "resumed from step 60 since", False),
        (lives(("a", 0), ("x", 40)), 50, "resumed from step 40 since", False),  # two lives began at 40: this was one
        (lives(("a", 0), ("x", 20)), 30, "resumed from step 40 since", False),
        (lives(("z", 0)), 20, "another one was begun here since", False),
        (lives(("q", 0)), 20, "of another run than the curriculum/ folder", True),
        (lives(("a", 0), ("b", 40), ("c", 60), ("d", 70)), 80, "newer than curriculum/lineage.json", True),
    ],
)
def test_what_does_not_count_says_why(saved: Lineage, step: int, why: str, damaged: bool) -> None:
    found = OURS.why_not(saved, step)
    assert found is not None
    assert why in found[0]
    assert found[1] is damaged


def test_a_new_run_gives_up_those_before_it_and_a_resumed_one_does_not(tmp_path: Path) -> None:
    first = Lineage.new()
    second = Lineage.new(first)
    third = Lineage.new(second)
    assert third.earlier == (first.run, second.run)
    again = second.resumed(10, second)
    assert (again.run, again.lives[1][1], again.earlier) == (second.run, 10, (first.run,))
    elsewhere = first.resumed(10, third)  # from another folder, into one in which there was a run
    assert set(elsewhere.earlier) == {first.run, second.run, third.run}
    write_lineage(tmp_path, elsewhere)
    assert read_lineage(tmp_path) == elsewhere
    assert read_lineage(tmp_path / "absent") is None
    assert first.resumed(3, None).lives[0] == first.lives[0]


@pytest.mark.parametrize("place", range(0, 120, 7))
def test_a_flipped_byte_of_the_lineage_is_found(tmp_path: Path, place: int) -> None:
    write_lineage(tmp_path, OURS)
    path = tmp_path / "lineage.json"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(ResumeError, match=r"damaged.*start anew without resuming"):
        read_lineage(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"lives": []', "\ud800".encode("utf-8", "surrogatepass")])
def test_a_lineage_that_is_cut_off_or_something_else_is_refused(tmp_path: Path, text: str | bytes) -> None:
    (tmp_path / "lineage.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ResumeError, match="must say which checkpoints are this run's"):
        read_lineage(tmp_path)


def test_a_sealed_file_comes_back_as_it_was(tmp_path: Path) -> None:
    write_sealed(tmp_path / "a.json", {"ü": [1, 2.5, None], "b": {"c": "d"}})
    assert read_sealed(tmp_path / "a.json") == {"ü": [1, 2.5, None], "b": {"c": "d"}}


@pytest.mark.parametrize("name", ["recipe.yaml", "scores", "ledger.jsonl", "training_losses", "evaluation"])
def test_a_curriculum_folder_of_something_else_is_not_written_into(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("lesson 1: the alphabet")
    with pytest.raises(TrainerError, match=f"no .* of something else, got {name} in .*Choose another output_dir"):
        refuse_strange_folder(tmp_path)


def test_a_folder_in_which_a_run_has_begun_or_nothing_is_in_the_way_is_written_into(tmp_path: Path) -> None:
    refuse_strange_folder(tmp_path / "absent")
    (tmp_path / "lessons.txt").write_text("lesson 1: the alphabet")
    refuse_strange_folder(tmp_path)
    (tmp_path / "recipe.yaml").write_text("metrics: [length]")
    (tmp_path / "ledger.jsonl").write_text('{"event": "run"}\n')  # of a campus_tune that wrote no lineage
    refuse_strange_folder(tmp_path)
    (tmp_path / "ledger.jsonl").write_text("")  # killed before its first line
    refuse_strange_folder(tmp_path)
    (tmp_path / "ledger.jsonl").write_text("damaged")
    write_lineage(tmp_path, OURS)
    refuse_strange_folder(tmp_path)
