"""The part of a run's page that says what steered it: there for runs that something steered."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from campus_tune.report.run_facts import read_run
from campus_tune.report.run_page import how_far, run_content
from campus_tune.report.run_plots import competence
from campus_tune.report.steer_facts import FiringFacts, MovedShares, RewardFacts, SteerFacts, read_steer
from campus_tune.report.steer_page import SteerSection, steer_section
from campus_tune.report.steer_plots import (
    APART,
    MARKS,
    MOST_TOLD,
    NUMBERED,
    STEER_PICTURES,
    bandit,
    calibration,
    clock,
    events_text,
    lifted,
    mark_events,
    signals,
    steer_pictures,
)
from campus_tune.report.write import write_report
from campus_tune.words.types import Json
from tests.report.conftest import coarse_pictures
from tests.report.made_up import make_run

RUN: Json = {"event": "run", "past": {"n_rows": 8}, "future": {"total_steps": 40, "campus: handover": 0.5}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("steer") / "run", steered=True)


@pytest.fixture(scope="module")
def facts(run: Path) -> SteerFacts:
    found = read_run(run).steer
    assert found is not None
    return found


def firing(step: int, kind: str = "regression", probe: str | None = "code", **other: object) -> Json:
    numbers = {"value": 0.06, "bound": 0.03, "against": 0.02, "actions": ["note"], "times": 1}
    return {"event": "event", "kind": kind, "name": kind, "probe": probe, "step": step, **numbers, **other}


def steered(*events: Json, **future: object) -> SteerFacts:
    found = read_steer([{**RUN, "future": {**RUN["future"], **future}}, *events])
    assert found is not None
    return found


def table(section: SteerSection, caption: str) -> list[list[str]]:
    [found] = [one for one in section.tables if caption in one.caption]
    return [list(found.head), *([cell.text for cell in row] for row in found.rows)]


# -- facts -----------------------------------------------------------------------------------------------------------


def test_what_the_ledger_says_is_read(facts: SteerFacts) -> None:
    assert [(one.kind, one.step) for one in facts.firings] == [
        ("regression", 6),
        ("recovered", 10),
        ("milestone", 10),
        ("stagnation", 12),
    ]
    assert facts.firings[0].answer == "weights and moments of step 2 are back, then its rows in the review lane × 2"
    assert facts.stopped is facts.firings[3]
    assert [sorted(one.signal) for one in facts.moved] == [["arithmetic", "code"]]  # of text nothing is known
    assert facts.edges == (0, 2, 4, 6, 8, 10, 12)
    assert sum(facts.pi.values()) == pytest.approx(np.ones(6))
    assert [(one.step, one.chosen) for one in facts.rewards[:2]] == [(0, "length"), (2, "mtld")]
    assert facts.progress[3] == (6, pytest.approx(0.5**0.5))


def test_a_regression_is_open_until_its_own_probe_recovers() -> None:
    found = steered(firing(4), firing(4, probe="text"), firing(8, "recovered"), firing(12), firing(16, "milestone"))
    assert [one.is_open for one in found.firings] == [False, True, False, True, False]


@pytest.mark.parametrize(
    ("said", "shown"),
    [(None, False), ("steps", False), ({"by": "steps"}, False), ("tokens", True), ({"by": "competence"}, True)],
)
def test_the_clock_is_shown_where_it_is_not_that_of_the_steps(said: object, shown: bool) -> None:
    decision = {"event": "decision", "stage": 0, "step": 0, "steps": 2, "progress": 0.0}
    found = read_steer([{**RUN, "future": {**RUN["future"], "campus: clock": said}}, decision])
    assert (found is not None) == shown
    if found is not None:
        assert (found.progress, found.handover, found.total_steps) == (((0, 0.0),), 0.5, 40)


def test_what_a_rule_has_widened_shows_on_the_clock_and_a_note_does_not() -> None:
    decision = {"event": "decision", "stage": 0, "step": 0, "steps": 2, "progress": 0.25}
    assert steered(decision, firing(2, actions=["widen"])).progress == ((0, 0.25),)
    assert steered(decision, firing(2)).progress == ()


def test_a_run_that_goes_on_shows_what_was_seen_so_far(tmp_path: Path) -> None:
    found = read_run(make_run(tmp_path / "run", steered=True, finished=False)).steer
    assert found is not None
    assert len(found.firings) == 4


# -- the page --------------------------------------------------------------------------------------------------------


def test_a_run_that_nothing_steered_has_nothing_of_it(tmp_path: Path) -> None:
    plain = read_run(make_run(tmp_path / "plain", stages=2))
    assert plain.steer is None
    assert run_content(plain, [])["steer"] is None
    with coarse_pictures():
        page = write_report(tmp_path / "plain").read_text("utf-8")
    assert "What steered it" not in page
    assert not re.search(r'id="(bandit|share_signal|clock|calibration|steering)"', page)
    assert "Events:" not in page


def test_the_page_has_the_section_once_and_its_pictures_in_it(run: Path) -> None:
    with coarse_pictures():
        page = write_report(run).read_text("utf-8")
    assert page.count("<h2>What steered it</h2>") == 1
    for name in STEER_PICTURES:
        assert page.count(f'id="{name}"') == 1
        assert page.index('id="steering"') < page.index(f'id="{name}"')
    places = [page.index(f'id="{name}"') for name in ("decisions", "steering", "competence", "calibration")]
    assert places == sorted(places)
    assert "The numbers are those of the table of events." in page
    assert "Training was stopped early, because the probes stand still: gain 0.1%" in page
    assert "<script>document.title" not in page  # the name of a milestone


def test_the_tables_say_what_was_seen_with_its_numbers_and_what_was_done(facts: SteerFacts) -> None:
    section = steer_section(facts, [])
    head, first, second, third, fourth = table(section, "Events")
    assert head == ["no.", "step", "event", "time", "probe", "value", "bound", "limit", "done"]
    assert first[:8] == ["1", "6", "regression", "1", "code", "6.12%", "3.2%", "2%"]
    assert second[-1] == "noted"
    assert third[5:8] == ["0.520", "0.510", "0.500"]  # of a milestone: no shares
    assert fourth[2:6] == ["stagnation", "2", "–", "0.1%"]
    assert table(section, "Shares") == [
        ["step", "arithmetic", "code", "text"],
        ["6", "35.0 (−5.0)", "30.0 (+10.0)", "35.0 (−5.0)"],
    ]
    assert (
        section.sentences[1]
        == "Shares followed the record, 1 time: code 20% → 30%, arithmetic 40% → 35%, text 40% → 35%."
    )


def test_an_open_regression_is_marked_and_unknown_numbers_are_dashes() -> None:
    found = steered(firing(4, value=None), firing(8, value=-0.01, bound=-0.02))
    [events] = steer_section(found, []).tables
    assert [row[2].kind for row in events.rows] == ["bad", "bad"]
    assert events.rows[0][2].text == "regression, still open"
    assert [row[4].text for row in events.rows] == ["–", "−1%"]
    assert "time" not in events.head


def test_a_group_that_comes_or_goes_has_its_share_all_the_same() -> None:
    moved = MovedShares(4, {"a": 1.0}, {"a": 0.5, "b": 0.5}, {}), MovedShares(8, {"b": 1.0}, {"b": 1.0}, {})
    [shares] = steer_section(SteerFacts((), (), moved, (0, 8)), []).tables
    assert [[cell.text for cell in row] for row in shares.rows] == [
        ["4", "50.0 (−50.0)", "50.0 (+50.0)"],
        ["8", "–", "100.0 (0.0)"],
    ]


def test_an_early_stop_stands_at_the_top(run: Path, facts: SteerFacts) -> None:
    whole = read_run(run)
    assert how_far(whole) == "of 12, stopped early"
    assert how_far(replace(whole, steer=replace(facts, firings=facts.firings[:3]))) == ""
    assert how_far(replace(whole, steer=None, finished=False)) == "of 12"


# -- pictures --------------------------------------------------------------------------------------------------------


def test_every_picture_says_in_numbers_what_it_shows(facts: SteerFacts) -> None:
    with coarse_pictures():
        found = {picture.name: picture for picture in steer_pictures(facts)}
    assert tuple(found) == STEER_PICTURES
    assert found["bandit"].alt == (
        "Chances at the last choice: length 62%, mtld 25%, loss 13%. Mean rewards: length 0.18, mtld 0.02, loss 0.10."
    )
    assert found["share_signal"].alt == (
        "Signal when shares moved last: arithmetic 0.1, code 0.4. Times that they moved: 1."
    )
    assert found["clock"].alt == (
        "The clock went from 0% at step 0 to 91% at step 10; it was furthest from the steps at step 4, by 24% ahead of "
        "them."
    )


def test_the_competence_says_which_events_are_marked_on_it(run: Path) -> None:
    with coarse_pictures():
        found = competence(read_run(run))
    assert found is not None
    assert "Events: 1 at step 6: code regressed: loss 6.12% above its best (at least 3.2%, limit 2%); 2 at" in found.alt
    many = [FiringFacts.of(firing(step)) for step in range(MOST_TOLD + 3)]
    assert events_text(many).endswith("; and 3 more.")
    assert events_text([]) == ""


def test_calibration_is_drawn_for_each_domain_where_it_was_measured() -> None:
    with coarse_pictures():
        found = calibration([(0, {"code": 0.5}), (4, {}), (8, {"code": 0.125, "text": 0.25})])
    assert found is not None
    assert found.alt == "Expected calibration error from first to last: code 0.500 to 0.125, text 0.250 to 0.250."
    assert calibration([(0, {}), (4, {})]) is None
    with coarse_pictures():
        many = calibration([(0, {f"domain {i}": i / 100 for i in range(20)})])
    assert many is not None
    assert many.note.endswith("Of 20 domains the worst.")
    assert "domain 19 " in many.alt
    assert "domain 7 " not in many.alt


def test_a_bandit_whose_rewards_are_not_known_yet_is_drawn(facts: SteerFacts) -> None:
    with coarse_pictures():
        bare = bandit(replace(facts, rewards=()))
        few = bandit(replace(facts, rewards=(RewardFacts(0, "length", 0.5), RewardFacts(2, "gone", 1.0))))
    assert bare is not None
    assert "rewards" not in bare.alt
    assert few is not None
    assert few.alt.endswith("Mean rewards: length 0.50.")
    assert bandit(replace(facts, pi={})) is None


def test_nothing_to_show_is_no_picture_and_many_groups_are_the_largest() -> None:
    bare = steered(firing(4))
    assert steer_pictures(bare) == []
    assert clock(bare) is None
    many = MovedShares(4, {}, {}, {f"cell {i}": i / 10 for i in range(20)})
    with coarse_pictures():
        found = signals(replace(bare, moved=(many,), edges=(0, 8)))
    assert found is not None
    assert found.note.endswith("Of 20 groups those with the largest.")
    assert "cell 19 1.9" in found.alt


def test_a_clock_that_is_handed_over_at_once_is_drawn(facts: SteerFacts) -> None:
    with coarse_pictures():
        found = clock(replace(facts, handover=0.0))
    assert found is not None
    assert "furthest from the steps at step 0, by 100% behind them" in found.alt


@pytest.mark.parametrize("size", [(9.6, 3.6), (3.7, 4.0)])
def test_no_mark_of_an_event_covers_another(size: tuple[float, float]) -> None:
    axis = Figure(figsize=size).subplots()
    axis.set(xlim=(0, 100), ylim=(0, 1))
    steps, heights = [10, 10, 10, 11, 50, 50, 90], [0.5, 0.52, 0.5, 0.6, 0.1, 0.9, 0.5]
    lifts = lifted(steps, heights, axis, gap=APART)
    assert min(lifts) > 0
    scale = (0.88 * 72 * size[0] / 100, 0.68 * 72 * size[1])
    places = [(step * scale[0], y * scale[1] + lift) for step, y, lift in zip(steps, heights, lifts, strict=True)]
    for (a, b), (c, d) in combinations(places, 2):
        assert max(abs(a - c), abs(b - d)) > 0.85 * APART
    assert lifts[4] == lifts[5] == lifts[6]  # alone


def test_marks_are_numbered_as_the_table_is_unless_there_are_many() -> None:
    def marked(n: int) -> list[str]:
        axis = Figure().subplots()
        axis.plot([0, 4, 8], [0.1, 0.2, 0.3], label="code")
        kinds = [*MARKS, "another"]
        firings = [FiringFacts.of(firing(4 * (i % 3), kinds[i % 6], "code" if i % 2 else None)) for i in range(n)]
        mark_events(axis.figure, axis, firings, {"code": {0: 0.1, 4: 0.2, 8: 0.3}})  # type: ignore[arg-type]  # no subfigure
        labels = axis.get_legend_handles_labels()[1]
        assert labels[:2] == ["code", "milestone met"]
        assert len(labels) == len(set(labels))
        return [text.get_text() for text in axis.texts]

    assert marked(6) == ["1", "2", "3", "4", "5", "6"]
    assert marked(NUMBERED + 1) == []
