"""What the page of a comparison says in words and tables: the verdict first, then what it rests on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml

from campus_tune.compare.result_file import FINISHED
from campus_tune.compare.verdict import GAP, GROWN, rows_of
from campus_tune.evaluate.paired import LEVEL
from campus_tune.report import markdown as short
from campus_tune.report.compare_facts import CompareFacts, final_value
from campus_tune.report.figures import Picture
from campus_tune.report.forest_plot import shares
from campus_tune.report.html_tables import GAP as DASH
from campus_tune.report.html_tables import Cell, Fact, HtmlTable, number, words
from campus_tune.report.run_page import clock
from campus_tune.words.types import Json

AFTER_WORD = ("rest", "attribution", "speed", "why_speed", "equal")  # of a verdict
PRIMARY = ("recipe", "plus")  # kinds of arms whose verdict is the answer to the question
GOOD, BAD = "helped", "hurt"
OVER_ROWS = {GAP: "stderr", GROWN: "grown_stderr"}  # where a result has the standard error of a reading over rows
MOST = math.log(1e4)  # ratios beyond are shown as this one


def compare_content(facts: CompareFacts, pictures: Sequence[Picture]) -> dict[str, Any]:
    """The variables of the template `comparison`."""
    by_name = {picture.name: picture for picture in pictures}
    first = [by_name[name] for name in ("curves", "forest") if name in by_name]
    settings, test = facts.settings, facts.settings.get("test") or {}
    paths = test.get("path") or []
    files = ", ".join(map(str, [paths] if isinstance(paths, str) else paths))
    # versions stand in the settings, or else in a result: all runs share them
    of_runs = [run["shared"]["made_with"] for arm in facts.arms for run in arm.runs if "made_with" in run["shared"]]
    made_with: Mapping[str, Any] = settings.get("made_with") or (of_runs[0] if of_runs else {})
    diverged = [
        f"`{arm.name}` with seed {run['seed']} diverged: {run.get('message') or 'no reason was kept'}. It is reported "
        "here and not averaged away."
        for arm in facts.arms
        for run in arm.diverged
    ]
    old = [] if facts.verdict is None or facts.judged else [
        "The verdict is of an earlier state: other seeds or arms were asked for since. Start the comparison again."
    ]  # fmt: skip
    return {
        "title": "Did the curriculum help? A comparison",
        "name": facts.folder.resolve().name,
        "finished": facts.finished,
        "progress": f"{facts.n_done} of {facts.n_planned} runs are done.",
        "markdown": compare_markdown(facts),
        "verdicts": verdicts(facts),
        "facts": _numbers(facts),
        "warnings": [
            *old,
            *diverged,
            *((facts.verdict or {}).get("notes") or []),
            *_proxy_of(facts).get("notes", []),
            *facts.damaged,
        ],
        "pictures": first,
        "arms": arms(facts),
        "domains": domains(facts),
        "speeds": [each for each in (speeds(facts), domain_speeds(facts)) if each is not None],
        "readings": readings(facts),
        "tasks": tasks(facts),
        "proxy": proxy(facts),
        "proxy_says": [one["sentence"] for one in _proxy_of(facts).get("scores", {}).values()],
        "others": [picture for picture in pictures if picture not in first],
        "runs": runs(facts),
        "controls": [one["sentence"] for one in facts.judgements.values() if one["kind"] == "control"],
        "settings": _yaml({arm.name: {"kind": arm.kind, "campus": arm.settings} for arm in facts.arms}),
        "training": _yaml(settings.get("training") or {}),
        "command": settings.get("command", ""),
        "made_with": ", ".join(f"{name} {version}" for name, version in made_with.items()),
        "test": f"{test.get('items', '?')} {rows_of(facts.measure)} of {files or 'unnamed files'} "
        f"(fingerprint {test.get('digest', '?')})",
        "footer": "Made by campus_tune from the results of the comparison. This page is one file and needs no network.",
    }


def compare_markdown(facts: CompareFacts) -> str:
    """The comparison in short, for a pull request."""
    said = [
        " ".join(filter(None, [f"**{short.marked(one['word'])}**", *(short.marked(one[part]) for part in AFTER_WORD)]))
        for one in verdicts(facts)
    ]
    by_domain = domains(facts)
    return short.summary(
        f"Did the curriculum help? `{facts.folder.resolve().name}`",
        "\n\n".join(said) or f"{facts.n_done} of {facts.n_planned} runs are done. There is no verdict yet.",
        short.of_facts(_numbers(facts)),
        short.of_table(arms(facts)),
        "" if by_domain is None else short.of_table(by_domain),
    )


def _yaml(content: Json) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True) if content else ""


def verdicts(facts: CompareFacts) -> list[dict[str, Any]]:
    """What is said at the top: one block for each recipe, its end and its speed apart."""
    said = []
    speed = {} if facts.verdict is None else facts.verdict.get("speed") or {}
    equal = {} if facts.verdict is None else facts.verdict.get("equal") or {}
    for arm, one in facts.judgements.items():
        if one["kind"] not in PRIMARY:
            continue
        word, rest = _split(one)
        sooner, why = _split(speed[arm]) if arm in speed else ("", "")
        said.append(
            {
                "kind": {GOOD: "helped", BAD: "hurt"}.get(one["verdict"] or "", ""),
                "word": word,
                "rest": rest,
                "attribution": one.get("attribution") or "",
                "speed": sooner,
                "why_speed": why,
                "equal": (equal.get(arm) or {}).get("sentence") or "",
                "arm": arm,
            }
        )
    return said


def _split(judged: Json) -> tuple[str, str]:
    """The word of a sentence, and what comes after it; all of it where there is no word."""
    if judged["verdict"] is None:
        return judged["sentence"], ""
    word, _, rest = judged["sentence"].partition(": ")
    return f"{word}.", f"{rest[:1].upper()}{rest[1:]}"


def _numbers(facts: CompareFacts) -> list[Fact]:
    verdict = facts.verdict or {}
    kinds = Counter(arm.kind for arm in facts.arms)
    counted = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds.items())
    tests, effect = facts.settings.get("test") or {}, facts.settings.get("effect", 0.0)
    found = [
        Fact("Arms", str(len(facts.arms)), counted),
        Fact("Seeds", str(len(facts.settings["seeds"])), "paired over the arms"),
        Fact("Runs", str(facts.n_done), f"of {facts.n_planned}" if facts.n_done < facts.n_planned else "all done"),
        Fact(rows_of(facts.measure).capitalize(), f"{tests.get('items', DASH)}", "held out"),
        Fact("Worth finding", f"{effect:.1%}", f"smallest effect, share of the {facts.measure}"),
    ]
    differences = [one.get("difference") or {} for one in facts.judgements.values()]
    known = [
        one["detectable"] / one["mean_against"]
        for one in differences
        if one.get("detectable") is not None and (one.get("mean_against") or 0) > 0
    ]
    if verdict and known:
        found.append(Fact("Would be found", f"{known[0]:.1%}", "with 80 % power"))
    for name, (checked, passed) in (("Audit", facts.audit), ("Weights audit", facts.weights_audit)):
        if checked:
            bad = "" if passed == checked else "bad"
            found.append(Fact(name, f"{passed:,} of {checked:,}", "steps as planned", bad))
    return found


def arms(facts: CompareFacts) -> HtmlTable:
    """One row for each arm."""
    extra = [
        (head, keys, form)
        for head, keys, form in (
            ("calibration error", ("calibration", "error"), ".3f"),
            ("gap", ("gap", "value"), ".3f"),
            ("sharpness", ("sharpness", "value"), ".3g"),
            ("groups without a gradient", ("groups", "without_gradient"), ".1%"),
            ("pass rate in training", ("pass_rate",), ".1%"),
        )
        if any(arm.mean(*keys) is not None for arm in facts.arms)
    ]
    lost = any(arm.diverged for arm in facts.arms)
    head = ["arm", "kind", "runs", *(["diverged"] if lost else []), f"final {facts.measure}", "± over seeds"]
    head += ["difference", "generated tokens" if facts.by_reward else "tokens", "cost", "training s", "curriculum s"]
    head += [name for name, _, _ in extra]
    rows = []
    for arm in facts.arms:
        seeds = ", ".join(f"seed {run['seed']}" for run in arm.diverged)
        named = [words(seeds or "none", kind="bad" if seeds else "")] if lost else []
        first = [words(arm.name), words(arm.kind), number(len(arm.finished)), *named]
        last = [number(arm.mean(*keys), form) for _, keys, form in extra]
        losses, judgement = arm.final_losses(), facts.judgements.get(arm.name) or {}
        found = shares(judgement.get("difference") or {})
        kind = {GOOD: "good", BAD: "bad"}.get(judgement.get("verdict") or "", "")
        middle = [  # where the runs ended, and what they took
            number(float(losses.mean()) if len(losses) else None, ".4f"),
            number(float(losses.std(ddof=1)) if len(losses) > 1 else None, ".4f"),
            number(found[0] if found else None, "+.1%", kind=kind),
            number(arm.mean("tokens")),
            number(arm.mean("cost", "all"), ".1%"),
            number(arm.mean("seconds", "training"), ",.1f"),
            number(arm.mean("seconds", "curriculum"), ",.1f"),
        ]
        rows.append([*first, *middle, *last])
    return HtmlTable("Arms; means over seeds", head, rows, opened=True)


def domains(facts: CompareFacts) -> HtmlTable | None:
    """The difference of every arm in every domain."""
    rows = []
    for arm, judgement in facts.judgements.items():
        for domain, found in (judgement.get("domains") or {}).items():
            value, low, high = shares(found) or (None, None, None)
            sure = value is not None and found.get("p_adjusted") is not None and found["p_adjusted"] <= 0.05
            kind = ("good" if (value > 0) == facts.by_reward else "bad") if sure and value else ""
            rows.append(
                [
                    words(domain),
                    words(arm),
                    number(found.get("n_items")),
                    number(found.get("mean"), ".4f"),
                    number(found.get("mean_against"), ".4f"),
                    number(value, "+.1%", kind=kind),
                    number(low, "+.1%"),
                    number(high, "+.1%"),
                    number(found.get("p_adjusted"), ".2g"),
                ]
            )
    head = ["domain", "arm", "prompts" if facts.by_reward else "rows"]
    head += [facts.measure, "shuffled", "difference", "from", "to", "p"]
    caption = (
        "Differences to plain shuffling by domain; intervals (95 %) and p-values corrected for the number of domains"
    )
    return HtmlTable(caption, head, rows) if rows else None


def speeds(facts: CompareFacts) -> HtmlTable | None:
    """Tokens and seconds to a loss or reward that both reach, against plain shuffling."""
    rows = []
    for arm, one in ((facts.verdict or {}).get("speed") or {}).items():
        reached = one.get("reached") or {}
        there = [share for share in reached.values() if share is not None]
        rows.append(
            [
                words(arm),
                words(one["verdict"] or "no verdict"),
                *_ratio(one.get("charged")),
                *(_ratio(one.get(name))[0] for name in ("tokens", "seconds")),
                number(sum(there) / len(there) if there else None, ".0%"),
                Cell(f"{len(there)} of {len(reached)}", len(there)),
            ]
        )
    head = ["arm", "speed", "charged tokens", "from", "to", "tokens", "seconds", "to shuffling's end", "seeds there"]
    caption = (
        f"More (+) or fewer (−) tokens to a {facts.measure} that both reach; charged: the curriculum's cost is added. "
        f"To shuffling's end: charged tokens to its final {facts.measure}, as a share of all its tokens, of the seeds "
        "that got there"
    )
    return HtmlTable(caption, head, rows) if rows else None


def domain_speeds(facts: CompareFacts) -> HtmlTable | None:
    """Tokens until each domain is as good, against plain shuffling."""
    rows = []
    for arm, one in ((facts.verdict or {}).get("speed") or {}).items():
        for domain, found in (one.get("domains") or {}).items():
            charged, reached = found.get("charged") or {}, found.get("reached") or {}
            there = [share for share in reached.values() if share is not None]
            first, *ends = _ratio(charged)
            if charged.get("value") is not None and (charged.get("p_adjusted") or 1.0) <= LEVEL:
                first = replace(first, kind="good" if charged["value"] < 0 else "bad")
            rows.append(
                [
                    words(domain),
                    words(arm),
                    first,
                    *ends,
                    number(sum(there) / len(there) if there else None, ".0%"),
                    Cell(f"{len(there)} of {len(reached)}", len(there)),
                    words(found.get("refused") or ""),
                ]
            )
    head = ["domain", "arm", "charged tokens", "from", "to", "to shuffling's end", "seeds there", "no ratio because"]
    caption = (
        f"The same by domain: charged tokens of all domains until this one has a {facts.measure} that both reach; "
        "intervals (95 %) corrected for the number of domains"
    )
    return HtmlTable(caption, head, rows) if rows else None


def readings(facts: CompareFacts) -> HtmlTable | None:
    """Generalisation gap and sharpness, overall and by domain."""
    rows, by_name = [], {arm.name: arm for arm in facts.arms}
    for what, of in ((facts.verdict or {}).get("readings") or {}).items():
        for arm, one in of.items():
            for domain, found in ((None, one.get("difference") or {}), *(one.get("domains") or {}).items()):
                if not found:
                    continue
                key = ("gap", *(() if domain is None else ("domains", domain)), OVER_ROWS.get(what, ""))
                means = (number(found.get(name), ".3g") for name in ("mean", "mean_against"))
                apart = (number(found.get(name), "+.2g") for name in ("value", "low", "high"))
                drawn = number(by_name[arm].mean(*key) if arm in by_name else None, ".2g")
                rows.append([words(what), words(domain or "all"), words(arm), *means, *apart, drawn])
    head = ["what", "domain", "arm", "value", "shuffled", "difference", "from", "to", "value's ± over rows"]
    caption = "Against plain shuffling, nats per token; each interval (95 %) stands alone, and is of the seeds"
    return HtmlTable(caption, head, rows) if rows else None


def _ratio(found: Json | None) -> list[Cell]:
    """Log ratios as more or less than the other's."""
    values = [None if not found or found.get(name) is None else found[name] for name in ("value", "low", "high")]
    return [number(None if value is None else math.expm1(min(value, MOST)), "+,.0%") for value in values]


def tasks(facts: CompareFacts) -> HtmlTable | None:
    """Official tasks on the trained models."""
    rows = [
        [
            words(task),
            words(arm),
            number((one.get("difference") or {}).get("mean"), ".3f"),
            number((one.get("difference") or {}).get("mean_against"), ".3f"),
            *(number((one.get("difference") or {}).get(name), "+.3f") for name in ("value", "low", "high")),
            words(one["verdict"] or "no verdict"),
        ]
        for task, of in ((facts.verdict or {}).get("tasks") or {}).items()
        for arm, one in of.items()
    ]
    head = ["task", "arm", "score", "shuffled", "difference", "from", "to", "verdict"]
    return HtmlTable("Official tasks; higher is better", head, rows) if rows else None


def proxy(facts: CompareFacts) -> HtmlTable | None:
    """How far a proxy ranks the training rows as the trained model does: overall, inside of domains, by domain."""
    rows = []
    for name, one in _proxy_of(facts).get("scores", {}).items():
        inside = {} if one["within"] is None else {"inside of domains": one["within"]}
        for place, rho in {"all rows": one["overall"], **inside, **one["domains"]}.items():
            decides = rho is (one["within"] or one["overall"])
            cells = [number(rho[part], ".2f") for part in ("value", "low", "high")]
            most = number(one["ceiling"] if decides else None, ".2f")
            rows.append(
                [words(name), words(place), number(rho["n"]), *cells, most, words(one["word"] if decides else "")]
            )
    head = ["score", "where", "rows", "Spearman", "from", "to", "another seed", "so"]
    caption = (
        "The proxy's ranks of training rows beside the trained model's, with 95 % intervals over rows. Another seed: "
        "what a second training of the same model reaches"
    )
    return HtmlTable(caption, head, rows, opened=True) if rows else None


def _proxy_of(facts: CompareFacts) -> Json:
    return (facts.verdict or {}).get("proxy") or {}


def runs(facts: CompareFacts) -> HtmlTable:
    """One row for each run."""
    rows = []
    for name, run in [(arm.name, run) for arm in facts.arms for run in arm.runs]:
        test, seconds, audit = run.get("test"), run.get("seconds") or {}, run.get("audit") or {}
        trained = seconds.get("training")
        ok = run["status"] == FINISHED
        rows.append(
            [
                words(name),
                number(run["seed"]),
                words(FINISHED) if ok else words(f"{run['status']}: {run.get('message') or ''}", kind="bad"),
                number(final_value(run) if test and ok else None, ".4f"),
                number(run.get("tokens")),
                number(run.get("rows")),
                Cell(DASH) if trained is None else Cell(clock(trained), trained),
                number((run.get("cost") or {}).get("all"), ".1%"),
                words(f"{audit['passed']} of {audit['checked']}" if audit else DASH),
            ]
        )
    counted = ["generated tokens", "prompts"] if facts.by_reward else ["tokens", "rows"]
    head = ["arm", "seed", "status", f"final {facts.measure}", *counted, "training time", "cost", "audit"]
    return HtmlTable("Every run", head, rows, opened=False)
