"""Words that reports, verdicts and the ledger use: regions, actions, controls, situations, and the terms of the method.

Each comes with the meaning that the docstring of its own module lists, but for the few in `TERMS`, which no one file is
about.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import get_args

from campus_tune.cli.known.docstrings import card, meanings, module_doc
from campus_tune.cli.known.entry import KnownName, NameRow
from campus_tune.compare.arms import KINDS as ARMS
from campus_tune.compare.arms import RANDOM, RECIPE
from campus_tune.compare.verdict import ABLATION_WORDS, WORDS
from campus_tune.evaluate.suites import load_suite, shipped_suites
from campus_tune.method.firing import Action
from campus_tune.method.learning import REGIONS
from campus_tune.method.rewards import RewardKind
from campus_tune.method.selectors import Outcome
from campus_tune.preview.evidence import effect_words, evidence
from campus_tune.recipe.reader import in_yaml
from campus_tune.run.ledger_fields import FIELDS, SAID

OUTCOMES = (*get_args(Outcome), "no order to offer", "handed over")
TERMS: Mapping[str, str] = {
    "answer tokens": "The tokens of a row that carry loss: of a chat those of the assistant, as TRL masks the rest.",
    "data map": "What a run shows of each row at its end: its region, and how far it stands out from its kind.",
    "domain": "What a row is about, by a column of the data: math, code, chat. Losses, shares and tables go by it.",
    "easy_first": "How well a prompt is answered, drawn from what rewards have shown of it; prompts that wait rise.",
    "group": "The answers to one prompt in one generation. Where all of them earn the same, it gives no gradient.",
    "hand-over": "The point of a run from which no order is offered any more: rows are plainly shuffled (`handover`).",
    "lane": "How a row came into a stage: by an order (`offer`), at random (`mix`), or coming back (`review`).",
    "learning_progress": "How far a prompt's rewards lie from those it had before, up or down; prompts that wait rise.",
    "ledger": "`curriculum/ledger.jsonl`: every decision, measurement and cost of a run, one JSON object a line.",
    "middle": "What a prompt's next group of answers would tell: most where some pass and some do not.",
    "offer": "The rows that one sub-curriculum would give the next stage; a selector takes one of the offers.",
    "order audit": "The check, in every step, that the rows and labels that reached the model are the planned ones.",
    "pass rate": "Share of a prompt's answers whose weighted reward reached `passes: at`, 1.0 where it is not set.",
    "probes": "Held-out rows, by domain, that are measured during a run. They steer it, so they never judge it.",
    "re-scoring": "Measuring anew, under the model as it is now, the rows that still wait (`rescore`).",
    "scope": "How far an order is open, from its easy end: 0.3 is the easiest 30 % of the rows.",
    "seen_loss": "A row's loss when it was last trained. Training shows it anyway, so it costs nothing.",
    "stage": "Some steps in a row that are planned together. Between two stages a run measures and decides.",
    "sub-curriculum": "One order of all rows, easy to hard by one metric. A recipe has one for each of its `metrics`.",
    "surprise": "Σ (1 − p) over a row's answer tokens when it was last trained: how much of it was not expected.",
    "verdict": "What `compare` says at its end: helped, hurt, no detectable difference, or underpowered.",
}
_TOLD = (  # files of the method that a term is the subject of: `Excess: what a value has above …`
    "agreement", "book", "calibration", "cells", "clock", "competence", "dirt", "excess", "firing", "levels", "orders",
    "pass_rates", "passes", "phases", "pools", "review", "rewards", "reweight", "selectors.race", "shares", "steering",
    "suspicion", "thin", "value", "weights",
)  # fmt: skip

_ASIDE = re.compile(r" (numpy only|Pure functions|Data alone|The formulas|One rule is)\b.*")  # of how it is written


def _listed(kind: str, names: Sequence[str], modules: Sequence[str], page: str) -> list[KnownName]:
    """Words with the meanings that docstrings list."""
    said = {word: meaning for module in modules for word, meaning in meanings(module_doc(module)).items()}
    return [KnownName(kind, name, said[name], page=page) for name in names]


def regions() -> list[KnownName]:
    """Regions of the data map."""
    said = meanings(module_doc("method.learning"))
    facts = {word: said[word] for word in ("level", "fall")}
    return [replace(one, facts=facts) for one in _listed("region", REGIONS, ["method.learning"], "wrong")]


def outcomes() -> list[KnownName]:
    """How a decision came about."""
    return _listed("outcome", OUTCOMES, ["method.decide"], "ledger")


def actions() -> list[KnownName]:
    """What can be done when a rule sees something."""
    return _listed("action", get_args(Action), ["method.steering"], "choosing")


def rewards() -> list[KnownName]:
    """What a bandit learns from."""
    return _listed("reward", get_args(RewardKind), ["method.rewards"], "parts")


def verdicts() -> list[KnownName]:
    """The words of `compare`, and those of `ablate` that it does not have."""
    of_pairs = meanings(module_doc("compare.verdict.ablation"))
    return [
        *_listed("verdict", WORDS, ["compare.verdict.difference"], "helps"),
        *(
            KnownName("verdict", word, of_pairs[word], facts={"said by": "`campus-tune ablate`"}, page="helps")
            for word in ABLATION_WORDS
            if word not in WORDS
        ),
    ]


def arms() -> list[KnownName]:
    """The arms that a comparison knows by name."""
    found = _listed("arm", (RECIPE, *ARMS), ["compare.draw_controls", "compare.arms"], "helps")
    return [replace(one, facts={"is a": ARMS.get(one.name, one.name)}, example=_with_arm(one.name)) for one in found]


def _with_arm(name: str) -> str:
    arms = dict.fromkeys([RECIPE, RANDOM, name])
    return f"compare: {{test: {{path: ./test.jsonl}}, arms: [{', '.join(arms)}]}}"


def events() -> list[KnownName]:
    """Kinds of lines in the ledger, each with its fields, and the fields themselves."""
    found = []
    for event, line in SAID.items():
        fields = FIELDS[event]
        rows = tuple(NameRow(name, said) for name, said in fields.items())
        example = f"jq 'select(.event == \"{event}\")' OUTPUT_DIR/curriculum/ledger.jsonl"
        found.append(KnownName("event", event, line, options=rows, example=example, page="ledger"))
        for name, said in fields.items():
            inside = tuple(NameRow(one, more) for one, more in fields.items() if one.startswith(f"{name}."))
            also = (name, name.rpartition(".")[2])
            facts = {"of": f"event {event}: {line}"}
            full = f"{event}.{name}"
            found.append(KnownName("field", full, said, "", facts, inside, example, page="ledger", also=also))
    return found


def situations() -> list[KnownName]:
    """What was measured of what helps when: the table that advice rests on."""
    table, found = evidence(), []
    for row in table.rows:
        rows = tuple(
            NameRow(name, f"{arm.words}: {effect_words(arm)}", arm.verdict or "not judged")
            for name, arm in row.arms.items()
            if arm.effect is not None
        )
        helps = "nothing that was tried" if row.helps is None else row.arms[row.helps].words
        facts = {
            "what helps": helps,
            "trained": f"{table.bases[row.base]}; {row.rows} rows, {row.epochs:g} epochs",
            "measured": f"held-out loss beside plain shuffling; eval/LOG.md, {table.log}",
        }
        best = {} if row.helps is None else {"campus": dict(row.arms[row.helps].campus)}
        example = in_yaml(best) if best else ""
        example = example.removeprefix("{").removesuffix("}")
        found.append(KnownName("situation", row.name, row.looks, "", facts, rows, example, page="choosing"))
    return found


def suites() -> list[KnownName]:
    """Suites of official tasks that come with the package."""
    found = []
    for name in shipped_suites():
        tasks = load_suite(name).tasks
        rows = tuple(NameRow(one.task, ", ".join(one.metrics)) for one in tasks)
        line = f"Official tasks by lm-eval: {', '.join(one.task for one in tasks)}."
        example = f"campus-tune eval --suite {name} --model DIR"
        found.append(KnownName("suite", name, line, options=rows, example=example, page="helps"))
    return found


def terms() -> list[KnownName]:
    """Words of the method: those that a file of it is about, and `TERMS`."""
    found = dict(TERMS)
    texts = {}
    for module in _TOLD:
        said = card(module_doc(f"method.{module}"))
        word, _, meaning = said.line.partition(": ")
        name = word.removeprefix("The ").removeprefix("A ").lower()
        found[name] = _ASIDE.sub("", meaning[:1].upper() + meaning[1:])
        texts[name] = said
    return [
        KnownName("term", name, line, texts[name].text if name in texts else "", page="start",
                  source=texts[name].source if name in texts else "")
        for name, line in sorted(found.items())
    ]  # fmt: skip
