"""Comparing results: by hand, against scipy's own tests and slow resampling, and never across other questions."""

from __future__ import annotations

import json
import math
import random
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from campus_tune.cli.eval_compare import compare, compare_files
from campus_tune.cli.main import main
from campus_tune.evaluate.comparable import differences
from campus_tune.evaluate.compare_table import Line, letter, markdown_table
from campus_tune.evaluate.paired import holm, paired
from campus_tune.evaluate.results import Result, TaskResult, write_result
from campus_tune.words.errors import CampusError, DataError
from campus_tune.words.types import Json

VERSIONS = {"campus_tune": "0.3.0", "lm_eval": "0.4.13", "transformers": "5.23.0", "torch": "2.13.0"}
SETTINGS = {"few_shot": 5, "limit": 4, "versions": {"gsm8k": 3.0}, "data": {"gsm8k": "1f"}}


def task(scores: dict[str, list[float]], metric: str = "acc,none", **settings: object) -> TaskResult:
    """A task whose documents are numbered from 0 in each part."""
    documents = {part: {str(i): {metric: value} for i, value in enumerate(of)} for part, of in scores.items()}
    every = [value for of in scores.values() for value in of]
    told = {metric: {"value": sum(every) / len(every), "stderr": 0.1, "n": len(every)}}
    return TaskResult({**SETTINGS, **settings}, told, documents, 1.0)


def result(tasks: dict[str, TaskResult], name: str = "m", **made_with: str) -> Result:
    model = {"name": name, "adapter": None, "step": None, "weights": None}
    return Result(model, {**VERSIONS, **made_with}, tasks)


def losses(scores: dict[str, list[tuple[float, float]]], **settings: object) -> TaskResult:
    """An answer_loss task out of (loss, tokens) by domain."""
    documents = {
        part: {str(i): {"answer_loss": loss, "tokens": tokens} for i, (loss, tokens) in enumerate(of)}
        for part, of in scores.items()
    }
    every = np.array([pair for of in scores.values() for pair in of])
    told = {
        "answer_loss": {"value": float(np.average(every[:, 0], weights=every[:, 1])), "stderr": 0.1, "n": len(every)}
    }
    return TaskResult({"max_length": 512, **settings}, told, documents, 1.0)


def line(*results: Result, place: int = 0) -> Line:
    return compare(*results).lines[place]


# -- the numbers ------------------------------------------------------------------------------------------------------


def test_a_paired_difference_is_what_it_is_by_hand() -> None:
    found = paired([0.2, 0.4, 0.6], [0.3, 0.3, 0.9])  # differences 0.1, −0.1, 0.3: mean 0.1, sd 0.2
    assert (found.mean_a, found.mean_b) == pytest.approx((0.4, 0.5))
    assert found.difference == pytest.approx(0.1)
    assert found.stderr == pytest.approx(0.2 / math.sqrt(3))
    assert (found.low, found.high) == pytest.approx((0.1 - 4.302653 * 0.1154701, 0.1 + 4.302653 * 0.1154701))
    assert found.detectable == pytest.approx(2.80 * 0.1154701, rel=1e-3)
    assert (found.n, found.changed) == (3, 3)


def test_differences_too_small_to_be_squared_have_no_p_value() -> None:
    found = paired([0.0, 0.0], [0.0, 1e-281])
    assert (found.changed, found.stderr, found.low, found.p) == (1, 0.0, None, None)


def test_the_interval_and_the_p_value_are_those_of_scipys_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30))
    found, theirs = paired(a, b), stats.ttest_rel(b, a)
    interval = theirs.confidence_interval()
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_the_loss_per_token_is_a_ratio_of_sums() -> None:
    found = paired([1.0, 2.0], [0.5, 2.5], [30, 10])  # −15 + 5 nats over 40 tokens
    assert found.difference == pytest.approx(-0.25)
    assert (found.mean_a, found.mean_b) == pytest.approx((50 / 40, 40 / 40))
    # residuals w (d − D): 30 · −0.25 = −7.5 and 10 · 0.75 = 7.5
    assert found.stderr == pytest.approx(math.sqrt(2 * (7.5**2 + 7.5**2)) / 40)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_error_is_near_that_of_a_slow_bootstrap(weighted: bool) -> None:
    rng = random.Random(5)
    n, turns = 200, 2000
    tokens = [rng.randint(1, 60) if weighted else 1 for _ in range(n)]
    a = [rng.expovariate(1) for _ in range(n)]
    b = [x - 0.1 + rng.gauss(0, 0.5) for x in a]
    means = []
    for _ in range(turns):
        drawn = [rng.randrange(n) for _ in range(n)]
        nats = sum(tokens[i] * (b[i] - a[i]) for i in drawn)
        means.append(nats / sum(tokens[i] for i in drawn))
    means.sort()
    found = paired(a, b, tokens)
    assert found.stderr == pytest.approx(np.std(means), rel=0.08)
    assert found.low == pytest.approx(means[int(0.025 * turns)], abs=0.15 * found.stderr)
    assert found.high == pytest.approx(means[int(0.975 * turns)], abs=0.15 * found.stderr)


@pytest.mark.parametrize(("better", "worse"), [(4, 0), (5, 1), (3, 3), (12, 2)])
def test_the_p_value_of_right_and_wrong_counts_every_outcome_of_as_many_coins(better: int, worse: int) -> None:
    a = [0] * better + [1] * worse + [1] * 20
    b = [1] * better + [0] * worse + [1] * 20
    throws = [abs(sum(throw) - (better + worse) / 2) for throw in product((0, 1), repeat=better + worse)]
    as_far = sum(far >= abs(better - worse) / 2 for far in throws)
    assert paired(a, b).p == pytest.approx(as_far / len(throws))


def test_a_detectable_difference_is_found_in_80_of_100_comparisons() -> None:
    rng = np.random.default_rng(2)
    n, spread = 400, 0.5
    detectable = 2.8016 * spread / math.sqrt(n)
    draws = rng.normal(detectable, spread, (2000, n))
    found = np.mean([abs(d.mean()) > 1.96 * d.std(ddof=1) / math.sqrt(n) for d in draws])
    assert found == pytest.approx(0.8, abs=0.03)
    told = paired(np.zeros(n), draws[0]).detectable
    assert told == pytest.approx(detectable, rel=0.1)


def test_where_nothing_varies_nothing_is_made_up() -> None:
    same, shifted, alone = paired([1, 0], [1, 0]), paired([0.5, 0.25], [1.0, 0.75]), paired([0.5], [0.75])
    assert (same.difference, same.stderr, same.p, same.low, same.detectable) == (0, 0, 1.0, None, None)
    assert (shifted.difference, shifted.stderr, shifted.p, shifted.low) == (0.5, 0, None, None)
    assert (alone.difference, alone.stderr, alone.p, alone.low) == (0.25, None, None, None)
    assert paired([0] * 10, [1] * 10).p == pytest.approx(2 / 2**10)  # of coins, this can be said


VALUES = st.lists(st.tuples(*[st.floats(-5, 5)] * 2, st.integers(1, 50)), min_size=1, max_size=30)


@given(VALUES, st.booleans())
def test_swapping_the_two_turns_the_sign_and_nothing_else(rows: list[tuple[float, float, int]], weighted: bool) -> None:
    a, b, tokens = (list(column) for column in zip(*rows, strict=True))
    there, back = paired(a, b, tokens if weighted else None), paired(b, a, tokens if weighted else None)
    assert back.difference == pytest.approx(-there.difference)
    assert (back.stderr, back.p, back.detectable) == pytest.approx(
        (there.stderr, there.p, there.detectable), nan_ok=True
    )
    if there.low is not None:
        assert (back.low, back.high) == pytest.approx((-there.high, -there.low))


@given(VALUES)
def test_a_result_does_not_differ_from_itself(rows: list[tuple[float, float, int]]) -> None:
    a, _, tokens = (list(column) for column in zip(*rows, strict=True))
    found = paired(a, a, tokens)
    assert (found.difference, found.changed, found.stderr or 0.0) == (0.0, 0, 0.0)


@given(VALUES, st.randoms())
def test_the_sequence_of_documents_does_not_matter(rows: list[tuple[float, float, int]], rng: random.Random) -> None:
    shuffled = rng.sample(rows, len(rows))
    one, other = (paired(*(list(column) for column in zip(*r, strict=True))) for r in (rows, shuffled))
    assert one.difference == pytest.approx(other.difference)
    assert (one.stderr or 0.0) == pytest.approx(other.stderr or 0.0, abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holms_correction_is_the_slow_reading_of_his_paper(p_values: list[float]) -> None:
    raised = holm(p_values)
    ordered = sorted(p_values)
    for p, high in zip(p_values, raised, strict=True):
        steps = [(len(ordered) - i) * q for i, q in enumerate(ordered) if q <= p]
        assert high == pytest.approx(min(1.0, max(steps[: ordered.index(p) + 1])))
        assert high >= p
    by_p = [high for _, high in sorted(zip(p_values, raised, strict=True))]
    assert all(x <= y for x, y in pairwise(by_p))


def test_a_bar_in_a_name_does_not_break_the_markdown() -> None:
    assert markdown_table(["a|b"], [["1"]]).splitlines()[0] == "| a\\|b |"


def test_one_comparison_needs_no_correction_and_unknown_ones_count_not() -> None:
    assert holm([0.03]) == [0.03]
    assert holm([None, 0.03, None]) == [None, 0.03, None]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("a", "b", "weights", "says"),
    [
        ([], [], None, r"one value for each of at least one document, got the shapes \(0,\)"),
        ([1.0, 2.0], [1.0], None, r"got the shapes \(2,\), \(1,\) and \(2,\). Pair the documents"),
        ([1.0, math.nan], [1.0, 1.0], None, "must be finite, got NaN or inf. Evaluate the model again"),
        ([1.0, 2.0], [1.0, 1.0], [1, 0], "`weights` must be positive and finite"),
    ],
)
def test_what_cannot_be_paired_is_refused(
    a: list[float], b: list[float], weights: list[float] | None, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        paired(a, b, weights)


# -- what is compared -------------------------------------------------------------------------------------------------


def test_documents_are_paired_by_what_they_are_and_not_by_their_place() -> None:
    a = task({"gsm8k": [0, 1, 1, 0]})
    b = TaskResult(a.settings, a.metrics, {"gsm8k": dict(reversed(a.documents["gsm8k"].items()))}, 1.0)
    found = line(result({"gsm8k": a}), result({"gsm8k": b})).found
    assert (found.difference, found.changed, found.p) == (0, 0, 1.0)


def test_a_task_of_many_parts_is_one_line_and_one_of_few_has_its_parts_too() -> None:
    def of(parts: int) -> Result:
        return result({"group": task({f"part_{i}": [i % 2, 1] for i in range(parts)})})

    assert [each.part for each in compare(of(57), of(57)).lines] == [""]
    assert [each.part for each in compare(of(3), of(3)).lines] == ["", "part_0", "part_1", "part_2"]
    assert [each.part for each in compare(of(1), of(1)).lines] == [""]
    assert compare(of(3), of(3)).lines[0].found.n == 6


def test_answer_loss_is_weighed_by_tokens_and_has_a_line_for_each_domain() -> None:
    a = result({"answer_loss": losses({"math": [(1.0, 30), (2.0, 10)], "code": [(3.0, 1), (4.0, 1)]})})
    b = result({"answer_loss": losses({"math": [(0.5, 30), (2.5, 10)], "code": [(3.0, 1), (4.5, 1)]})})
    whole, math_, code = compare(a, b).lines
    assert [each.part for each in (whole, math_, code)] == ["", "math", "code"]
    assert whole.found.difference == pytest.approx((-15 + 5 + 0.5) / 42)
    assert math_.found.difference == pytest.approx(-0.25)
    assert code.found.difference == pytest.approx(0.25)


def test_a_task_that_was_asked_otherwise_is_not_compared_and_the_others_are() -> None:
    a = result({"gsm8k": task({"gsm8k": [0, 1]}), "arc": task({"arc": [0, 1]})})
    b = result({"gsm8k": task({"gsm8k": [1, 1]}, limit=8, few_shot=0), "arc": task({"arc": [1, 1]})})
    found = compare(a, b)
    assert [each.task for each in found.lines] == ["arc"]
    assert found.refused[0].task == "gsm8k"
    assert found.refused[0].reasons == ("few_shot is 5 against 0", "limit is 4 against 8")
    assert "gsm8k: not compared with result 2: few_shot is 5 against 0; limit is 4 against 8." in found.as_text()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"versions": {"gsm8k": 2.0}}, "versions: gsm8k is 3.0 against 2.0"),
        ({"chat_template": "9a"}, 'chat_template is not said against "9a"'),
        ({"data": "hub"}, 'data: gsm8k is "1f" against not said'),
        ({"data": {"gsm8k": "2e"}}, 'data: gsm8k is "1f" against "2e"'),
        ({"few_shot": None}, "few_shot is 5 against null"),
    ],
)
def test_whatever_decides_what_a_score_means_must_be_equal(changed: Json, says: str) -> None:
    a, b = result({"gsm8k": task({"gsm8k": [0, 1]})}), result({"gsm8k": task({"gsm8k": [0, 1]}, **changed)})
    found = compare(a, b)
    assert not found.lines
    assert says in found.refused[0].reasons
    assert "No task could be compared." in found.as_text()


def test_another_lm_eval_is_another_question_but_not_for_the_answer_loss() -> None:
    tasks = {"arc": task({"arc": [0, 1]}), "answer_loss": losses({"math": [(1.0, 3), (2.0, 4)]})}
    found = compare(result(tasks), result(tasks, lm_eval="0.4.12"))
    assert [each.task for each in found.lines] == ["answer_loss"]
    assert found.refused[0].reasons == ('lm_eval is "0.4.13" against "0.4.12"',)


def test_another_torch_is_worth_a_word() -> None:
    tasks = {"arc": task({"arc": [0, 1]})}
    found = compare(result(tasks), result(tasks, torch="2.14.0"))
    assert len(found.lines) == 1
    assert found.notes[0].startswith("Made with different versions of torch: 2.13.0 (result 1), 2.14.0 (result 2).")


def test_documents_that_only_one_has_are_left_out_counted_and_named() -> None:
    a, b = result({"arc": task({"arc": [0, 1, 1, 1, 1]})}), result({"arc": task({"arc": [0, 1]})})
    found = compare(a, b, names=["base", "tuned"])
    assert found.lines[0].found.n == 2
    assert found.unpaired[0].only_first == (("arc", "2"), ("arc", "3"), ("arc", "4"))
    assert "arc: 3 documents only in base, left out (arc 2, arc 3, arc 4)." in found.as_text()
    assert (
        "2 documents only in base" in compare(b, result({"arc": task({"arc": [1] * 4})}), names=["x", "base"]).as_text()
    )
    assert not compare(a, a).unpaired


def test_results_without_a_common_task_metric_or_document_say_so() -> None:
    arc, other = task({"arc": [0, 1]}), task({"arc": [0, 1]}, metric="acc_norm,none")
    apart = TaskResult(arc.settings, arc.metrics, {"arc": {"9": {"acc,none": 1.0}}}, 1.0)

    def reasons(a: dict[str, TaskResult], b: dict[str, TaskResult]) -> list[tuple[str, ...]]:
        return [one.reasons for one in compare(result(a), result(b)).refused]

    assert reasons({"arc": arc}, {}) == [("only the first result has it",)]
    assert reasons({}, {"arc": arc}) == [("only the other result has it",)]
    assert reasons({"arc": arc}, {"arc": other}) == [("no metric in common (acc,none against acc_norm,none)",)]
    assert reasons({"arc": arc}, {"arc": apart}) == [("no document with acc,none in common",)]


def test_losses_over_other_tokens_are_not_compared() -> None:
    a, b = losses({"math": [(1.0, 3), (2.0, 4)]}), losses({"math": [(1.0, 3), (2.0, 5)]})
    found = compare(result({"answer_loss": a}), result({"answer_loss": b}))
    assert found.refused[0].reasons == ("tokens of the same documents differ, so the models read them in other tokens",)


def test_a_value_that_is_no_mean_over_documents_is_told() -> None:
    odd = task({"arc": [0, 1]})
    odd.metrics["acc,none"]["value"] = 0.75
    found = compare(result({"arc": odd}), result({"arc": task({"arc": [0, 1]})}), names=["a", "b"])
    assert found.notes == (
        "arc: acc,none is 0.7500 in a, and 0.5000 as a mean over its documents, which is what is compared.",
    )


def test_few_changed_documents_are_told() -> None:
    a, b = result({"arc": task({"arc": [0] * 50})}), result({"arc": task({"arc": [1] * 3 + [0] * 47})})
    assert compare(a, b).notes[0].startswith("arc: acc,none changed on 3 of 50 documents between result 1 and result 2")


def test_several_results_are_corrected_over_the_results_for_each_line_apart() -> None:
    base = result({"arc": task({"arc": [0] * 12}), "gsm8k": task({"gsm8k": [0] * 12})})
    others = [
        result({"arc": task({"arc": [1] * n + [0] * (12 - n)}), "gsm8k": task({"gsm8k": [1] * 8 + [0] * 4})})
        for n in (6, 9)
    ]
    lines = compare(base, *others).lines
    assert [(each.task, each.model) for each in lines] == [("arc", 1), ("arc", 2), ("gsm8k", 1), ("gsm8k", 2)]
    p = [2 / 2**6, 2 / 2**9]
    assert [each.found.p for each in lines[:2]] == pytest.approx(p)
    assert [each.p_holm for each in lines[:2]] == pytest.approx([p[0], 2 * p[1]])
    assert [each.p_holm for each in lines[2:]] == pytest.approx([2 * 2 / 2**8] * 2)
    assert compare(base, others[0]).lines[0].p_holm is None


def test_settings_are_compared_by_their_paths() -> None:
    assert differences({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}) == ["a: b: c is 1 against 2"]
    assert differences({"a": [1], "x": {}}, {"a": [1], "x": {}}) == []


def test_a_single_result_is_refused() -> None:
    with pytest.raises(DataError, match="`compare` must have at least two results, got one"):
        compare(result({}))
    with pytest.raises(DataError, match=r"at least two result files, got one\. Name the base first"):
        compare_files(["a.json"])


def test_a_loss_without_its_tokens_is_refused() -> None:
    broken = losses({"math": [(1.0, 3), (2.0, 4)]})
    del broken.documents["math"]["1"]["tokens"]
    with pytest.raises(DataError, match="every document of answer_loss must have its tokens, got math 1 with None"):
        compare(result({"answer_loss": broken}), result({"answer_loss": broken}))


def test_a_score_that_is_no_number_is_named() -> None:
    a, b = task({"arc": [0, 1]}), task({"arc": [0, math.nan]})
    found = compare(result({"arc": a}), result({"arc": b}))
    assert found.refused[0].reasons == ("acc,none is NaN or infinite on some documents of the other result",)


# -- what is shown ----------------------------------------------------------------------------------------------------

BASE = {
    "arc": task({"arc": [0, 0, 1, 1, 0, 0, 0, 0]}),
    "gsm8k": task({"gsm8k": [0, 1]}),
    "answer_loss": losses({"math": [(1.0, 30), (2.0, 10)], "code": [(3.0, 1), (4.0, 1)]}),
}
TUNED = {
    "arc": task({"arc": [1, 1, 1, 0, 1, 1, 0, 0]}),
    "gsm8k": task({"gsm8k": [1, 1]}, limit=8),
    "answer_loss": losses({"math": [(0.5, 30), (2.5, 10)], "code": [(3.0, 1), (4.5, 1)]}),
}

MARKDOWN = """\
- **A**: base: smol
- **B**: tuned: smol, adapter run/checkpoint-8, step 8

| task | metric | documents | A | B | difference | ± SE | 95 % interval | detectable | p |
|---|---|---|---|---|---|---|---|---|---|
| arc | acc,none | 8 | 0.2500 | 0.6250 | 0.3750 | 0.2631 | -0.2470 … 0.9970 | 0.7370 | 0.375 |
| answer_loss | answer_loss ↓ | 4 | 1.3571 | 1.1310 | -0.2262 | 0.3022 | -1.1878 … 0.7354 | 0.8465 | 0.508 |
| · math | answer_loss ↓ | 2 | 1.2500 | 1.0000 | -0.2500 | 0.3750 | -5.0148 … 4.5148 | 1.0506 | 0.626 |
| · code | answer_loss ↓ | 2 | 3.5000 | 3.7500 | 0.2500 | 0.2500 | -2.9266 … 3.4266 | 0.7004 | 0.500 |

- gsm8k: not compared with tuned: limit is 4 against 8.
- arc: acc,none changed on 5 of 8 documents between base and tuned: the interval is rough.
- answer_loss: answer_loss changed on 3 of 4 documents between base and tuned: the interval is rough.

Paired over documents. Detectable: the true difference found in 80 of 100 such comparisons at the two-sided 5 % \
level, 2.80 · SE. p: Student's t, exact (McNemar) where every document is 0 or 1. ↓: lower \
is better.
"""


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    tuned = result(TUNED, "smol")
    tuned.model.update(adapter="run/checkpoint-8", step=8)
    for name, each in {"base": result(BASE, "smol"), "tuned": tuned}.items():
        write_result(tmp_path / f"{name}.json", each)
    return [str(tmp_path / "base.json"), str(tmp_path / "tuned.json")]


def command(*argv: str) -> int:
    return main(["eval", "compare", *argv])


def test_the_command_prints_a_table_and_writes_markdown_and_json(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    markdown, as_json = tmp_path / "new" / "c.md", tmp_path / "c.json"
    assert command(*files, "--markdown", str(markdown), "--json", str(as_json)) == 0
    assert markdown.read_text("utf-8") == MARKDOWN
    printed = capsys.readouterr().out
    assert "A  base: smol\nB  tuned: smol, adapter run/checkpoint-8, step 8\n" in printed
    assert "\narc          acc,none               8  0.2500" in printed
    content = json.loads(as_json.read_text("utf-8"))
    assert [(one["task"], one["part"]) for one in content["lines"]][:2] == [("arc", None), ("answer_loss", None)]
    assert content["lines"][0]["stderr"] == pytest.approx(math.sqrt((5 - 9 / 8) / 7 / 8))
    assert content["refused"] == [{"name": "tuned", "task": "gsm8k", "reasons": ["limit is 4 against 8"]}]
    assert "2.80 * SE" in content["statistics"]["detectable"]
    assert content["results"][1]["model"]["step"] == 8


def test_its_json_is_printed_where_no_file_is_named_and_never_over_a_result(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*files, "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == compare_files(files).as_json()
    assert said.err == ""
    before = Path(files[0]).read_bytes()
    assert command("--json", *files, files[1]) == 2
    assert f"`--json` must be a file to write, got {files[0]}, which is a result." in capsys.readouterr().err
    assert Path(files[0]).read_bytes() == before
    assert command(*files, "--json", f"{files[0]}.new") == 0  # as it says


def test_several_results_have_a_column_for_which_one(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*files, files[1]) == 0  # the same file twice is called by its whole path
    head = next(row for row in capsys.readouterr().out.splitlines() if row.startswith("task"))
    assert head.split("  ")[-1] == "p (Holm)"
    assert "result" in head
    assert [letter(i) for i in (0, 25, 26, 27)] == ["A", "Z", "A1", "B1"]


def test_without_a_comparison_the_exit_code_says_so(tmp_path: Path) -> None:
    write_result(tmp_path / "a.json", result({"arc": BASE["arc"]}))
    write_result(tmp_path / "b.json", result({"gsm8k": BASE["gsm8k"]}))
    assert command(str(tmp_path / "a.json"), str(tmp_path / "b.json")) == 1


def test_a_file_that_is_not_there_is_refused(files: list[str]) -> None:
    with pytest.raises(CampusError, match="nowhere"):
        command(files[0], "nowhere.json", "--debug")
