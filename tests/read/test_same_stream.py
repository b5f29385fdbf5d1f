"""`campus-tune diff`: two ledgers say whether two runs trained the same rows, and what floats did meanwhile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from campus_tune.cli.main import main
from campus_tune.read.same_stream import compare_runs
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json
from tests.json_answers import answer

BATCH: Json = {"micro": 4, "world": 1, "accumulation": 2}


def decision(stage: int, chosen: str = "length", digest: str = "d", perplexity: float = 10.0) -> Json:
    offers = [
        {"name": "length", "perplexity": perplexity},
        {"name": "mtld", "perplexity": 12.0},
        {"name": "unmeasured"},
    ]
    return {
        "event": "decision",
        "stage": stage,
        "step": 3 * stage,
        "epoch": 0,
        "chosen": chosen,
        "rows": 24,
        "rows_digest": f"{digest}{stage}",
        "margin": 0.25,
        "offers": offers,
    }


def ledger(n_stages: int = 3) -> list[Json]:
    events: list[Json] = [{"event": "run", "batch": BATCH}]
    for stage in range(n_stages):
        events.append({"event": "probes", "step": 3 * stage, "domains": {"all": {"loss": 2.0}}})
        events.append(decision(stage))
        events.append({"event": "stage_end", "stage": stage, "train_loss": 4.0})
    return events


def write(folder: Path, events: list[Json]) -> Path:
    path = folder / "curriculum/ledger.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def test_equal_ledgers_are_the_same_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write(tmp_path / "a", ledger()), write(tmp_path / "b", ledger())
    assert main(["diff", str(a), str(b)]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0] == "the same rows in every step of 3 stages"
    assert "largest relative difference of a perplexity: 0.0e+00" in said
    assert "cut as" not in said


def test_what_floats_did_is_shown_and_how_the_batch_was_cut(tmp_path: Path) -> None:
    other = ledger()
    other[0]["batch"] = {"micro": 4, "world": 2, "accumulation": 1}
    other[2]["offers"][0]["perplexity"] = 10.001
    other[3]["train_loss"] = 4.0004
    comparison = compare_runs(write(tmp_path / "a", ledger()), write(tmp_path / "b", other))
    assert comparison.same
    assert comparison.largest["perplexity"] == pytest.approx(0.001 / 10.001)
    assert comparison.largest["training loss"] == pytest.approx(0.0004 / 4.0004)
    assert comparison.largest["probe loss"] == 0.0
    cut = "the global batch was cut as 4 rows × 1 processes × accumulation 2 and 4 rows × 2 processes × accumulation 1"
    assert cut in comparison.lines()
    other[0]["batch"] |= {"world": 1, "accumulation": 2, "cut": "even"}  # a ledger of before says nothing of it
    lines = compare_runs(tmp_path / "a", write(tmp_path / "c", other)).lines()
    one = "4 rows × 1 processes × accumulation 2"
    assert f"the global batch was cut as {one} and {one}, even" in lines


def test_perplexities_of_other_samples_are_not_compared_but_counted(tmp_path: Path) -> None:
    runs = [ledger(), ledger()]
    for run, n_rows, perplexity in zip(runs, (8, 16), (10.0, 11.0), strict=True):
        run[2]["offers"][0] |= {"sampled_rows": n_rows, "perplexity": perplexity}
    comparison = compare_runs(*(write(tmp_path / name, run) for name, run in zip("ab", runs, strict=True)))
    assert comparison.same
    assert (comparison.regrown, comparison.largest["perplexity"]) == (1, 0.0)
    assert "1 offers were measured on more rows in one run than in the other" in comparison.lines()


def test_the_first_other_choice_is_shown_with_its_margin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = ledger()
    other[5] = decision(1, chosen="mtld", digest="other", perplexity=12.5) | {"margin": 0.001}
    other[8] = decision(2, digest="other", perplexity=99.0)
    a, b = write(tmp_path / "a", ledger()), write(tmp_path / "b", other)
    assert main(["diff", str(a), str(b)]) == 1
    said = capsys.readouterr().out
    assert "other rows from stage 1 on" in said
    assert "first run: length, 2.5e-01 nats ahead (perplexity length 10, mtld 12)" in said
    assert "second run: mtld, 1.0e-03 nats ahead (perplexity length 12.5, mtld 12)" in said
    assert "perplexity: 0.0e+00" in said  # of stage 0; what follows other rows is no noise of floats


def test_their_json_says_whether_and_where_they_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = [*ledger()[:-2], decision(2, digest="other")]
    a, b = write(tmp_path / "a", ledger()), write(tmp_path / "b", other)
    assert answer(capsys, "diff", a, a)["same"]
    found = answer(capsys, "diff", a, b, code=1)
    assert (found["same"], found["stages"], found["first"]) == (False, 3, 2)
    assert found["largest"]["perplexity"] == 0.0


def test_the_same_choice_of_other_rows_is_a_difference(tmp_path: Path) -> None:
    other = ledger()
    other[5] = decision(1, digest="other")
    comparison = compare_runs(write(tmp_path / "a", ledger()), write(tmp_path / "b", other))
    assert (comparison.first, comparison.why) == (1, ["  rows_digest: d1 and other1"])


def test_who_was_drawn_is_a_reason_for_other_rows(tmp_path: Path) -> None:
    ours, theirs = ledger(), ledger()
    cells = {f"c{i}": 0.1 for i in range(6)}
    ours[2] |= {"lanes": {"offer": 20, "mix": 4}, "shares": cells, "shortage": {}}
    theirs[2] |= {"rows_digest": "other", "lanes": {"offer": 18, "mix": 6}, "shortage": {"c1": "next pass"}}
    theirs[2] |= {"shares": {name: share + 0.05 for name, share in cells.items()}}
    comparison = compare_runs(write(tmp_path / "a", ours), write(tmp_path / "b", theirs))
    assert comparison.why == [
        "  rows_digest: d0 and other",
        "  lanes: offer 20 and 18, mix 4 and 6",
        "  shares: c0 0.1 and 0.15, c1 0.1 and 0.15, c2 0.1 and 0.15, c3 0.1 and 0.15, …",
        "  shortage: c1 nothing and next pass",
    ]


def test_a_run_that_stopped_early_is_not_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write(tmp_path / "a", ledger(3)), write(tmp_path / "b", ledger(2))
    assert main(["diff", str(a), str(b)]) == 1
    assert "1 further stages are in one of the two only" in capsys.readouterr().out


def test_a_folder_a_curriculum_folder_and_a_ledger_all_name_a_run(tmp_path: Path) -> None:
    run = write(tmp_path / "a", ledger())
    for path in (run, run / "curriculum", run / "curriculum/ledger.jsonl"):
        assert compare_runs(run, path).same


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write(tmp_path / "a", ledger())
    with pytest.raises(DataError, match=r"must hold a run's curriculum/ledger\.jsonl, got none"):
        compare_runs(run, tmp_path)
    with pytest.raises(DataError, match="must begin with the line of a run, got another line"):
        compare_runs(run, write(tmp_path / "b", ledger()[1:]))
    broken = write(tmp_path / "c", ledger()) / "curriculum/ledger.jsonl"
    broken.write_text(broken.read_text()[:-5] + "\n")
    with pytest.raises(DataError, match=r"line [0-9]+ must be one whole JSON object of a ledger, got something else"):
        compare_runs(run, broken)
    assert main(["diff", str(run), str(tmp_path / "absent")]) == 2
    assert "Name the output_dir of a run" in capsys.readouterr().err


def steered(events: list[Json], **changed: object) -> list[Json]:
    """A ledger in which a rule fired and shares were moved before its last stage."""
    fired = {"event": "event", "kind": "regression", "name": "regression", "probe": "math", "stage": 2, "step": 6}
    fired |= {"value": 0.06, "bound": 0.03, "actions": ["review"], **changed}
    moved = {"event": "shares", "stage": 2, "step": 6, "before": {"math": 0.2}, "after": {"math": 0.25}}
    return [*events[:-2], fired, moved, *events[-2:]]


def test_the_same_events_are_compared_in_their_numbers(tmp_path: Path) -> None:
    other = steered(ledger(), value=0.060006)
    next(event for event in other if event["event"] == "shares")["after"]["math"] = 0.2500025
    comparison = compare_runs(write(tmp_path / "a", steered(ledger())), write(tmp_path / "b", other))
    assert comparison.same
    assert comparison.steered == []
    assert comparison.largest["number of an event"] == pytest.approx(1e-4, rel=1e-3)
    assert comparison.largest["share that was moved"] == pytest.approx(1e-5, rel=1e-3)
    assert "largest relative difference of a share that was moved: 1.0e-05" in comparison.lines()


def test_the_first_event_that_only_one_run_has_is_named(tmp_path: Path) -> None:
    plain, seen = write(tmp_path / "a", ledger()), write(tmp_path / "b", steered(ledger()))
    later = write(tmp_path / "c", steered(ledger(), step=9, kind="milestone", name="fractions", actions=["note"]))
    assert compare_runs(plain, seen).lines()[1:5] == [
        "other events from step 6 on",
        "  first run: nothing more",
        "  second run: regression of math at step 6 (review)",
        "shares were moved 0 times and 1 times",
    ]
    said = compare_runs(seen, later).lines()
    assert said[1] == "other events from step 6 on"
    assert said[3] == "  second run: milestone fractions of math at step 9 (note)"
    assert compare_runs(seen, seen).steered == []


def test_rewards_and_calibration_are_compared_where_there_are_some(tmp_path: Path) -> None:
    runs = [ledger(), ledger()]
    for run, factor in zip(runs, (1.0, 1.001), strict=True):
        run[1]["domains"]["all"]["ece"] = 0.05 * factor
        run[2]["reward"] = None
        run[5]["reward"] = {"stage": 0, "chosen": "length", "value": -0.2 * factor, "scaled": 0.0}
    found = compare_runs(*(write(tmp_path / name, run) for name, run in zip("ab", runs, strict=True))).largest
    assert found["calibration error"] == found["reward"] == pytest.approx(0.001, rel=1e-2)
    assert {"calibration error", "reward"}.isdisjoint(
        compare_runs(tmp_path / "a", write(tmp_path / "c", ledger())).largest
    )


def test_since_when_what_acts_that_waits_for_a_sign_of_wrong_rows(tmp_path: Path) -> None:
    told = {"event": "act", "stage": 1, "step": 3, "threshold": 0.02, "spared": 2}
    events = {
        "one": [*ledger(), {**told, "acts": ["robust", "drop: suspects"]}],
        "other": [*ledger(), {**told, "acts": []}],
        "third": ledger(),
    }
    runs = {name: write(tmp_path / name, lines) for name, lines in events.items()}
    said = "what waits for a sign of wrong rows: robust and drop: suspects from step 3 on and nothing acts"
    assert compare_runs(runs["one"], runs["other"]).steered == [said]
    assert compare_runs(runs["other"], runs["third"]).steered == []
