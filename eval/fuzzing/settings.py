"""What the settings take and what they must refuse, written down apart from the code that decides it.

Each setting has values that are right whatever the others are, and values that are wrong whatever the others are. What
is in neither list may be taken or refused, but only in a sentence.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from eval.fuzzing import odd

NAN, INF = float("nan"), float("inf")
Table = Mapping[str, tuple[tuple[Any, ...], tuple[Any, ...]]]  # setting → (right, wrong)

_NO_NUMBER = (NAN, INF, -INF, -1, "1e-3", "x", True, [], {}, [1], date(2020, 2, 2))
_NO_WHOLE = (*_NO_NUMBER, 1.5, 0.5, "3")
_NO_TEXT = (5, 1.5, True, "", [], {}, [1], NAN)
_NO_WORD = ("", "prefx", 5, None, True, [], {}, ["prefix"], {"a": 1}, NAN, "PREFIX", "prefix ")

CAMPUS: Table = {
    "metrics": (
        (
            ["length"], ["length", "mtld"], ["-length"], [{"name": "length", "of": "both"}], ["length", "loss"],
            [{"name": "column", "column": "level"}], [{"name": "rank_mean", "of": ["length", "mtld"]}], ["random"],
            ["compression", "mtld", "length"], [{"name": "length", "label": "how long"}], ["-mtld", "length"],
            [{"name": "random", "seed": 3}, "length"],
        ),
        (
            "length", 5, None, [], [5], [None], [["length"]], ["lenght"], ["length", "length"], [{"of": "both"}],
            True, NAN,
            [{"name": "length", "off": "both"}], [{"name": "length", "of": 3}], [{"name": "length", "label": "a/b"}],
            [{"name": "length", "label": "../x"}], {"length": 1}, [{"name": "column"}],
            [{"name": "column", "column": 3}],
            [{"name": "random", "seed": -1}], [{"name": "rank_mean", "of": ["length"]}], [{}], ["length", 2**63], [NAN],
            [{"name": "column", "column": "a", "path": "x.csv"}], [{"name": "column", "column": "a", "on": "id"}],
            [{"name": "loss", "reduce": "max"}], ["scorer", {"name": "scorer", "label": "b"}], [{"name": ["length"]}],
            ["shuffle"], [{"name": "length", "label": "shuffle"}, "mtld"], [date(2020, 2, 2)],
            [{"name": "column", "path": 48, "on": 0.7}],
        ),
    ),
    "pacing": (
        (
            "root", "linear", "quadratic", "exponential", "logarithmic", {"name": "root", "power": 2, "start": 0.01},
            {"name": "linear", "start": 1.0}, {"name": "step", "steps": 3},
            {"name": "join", "pieces": [{"name": "linear", "until": 0.5, "to": 0.5},
            {"name": "root", "until": 1.0, "to": 1.0}]},
        ),
        (
            "rot", 5, [], ["root"], True, {"name": "root", "power": 0}, {"name": "root", "power": NAN}, {"power": 2},
            {"name": "root", "start": 0}, {"name": "root", "start": 2}, {"name": "root", "start": "1e-2"},
            {"name": "join"},
            {"name": "step", "steps": 1}, {"name": "root", "pover": 2}, {"name": "join", "pieces": []}, {}, NAN,
            {"name": "linear", "start": INF}, {"name": "root", "power": True}, {"name": ["root"]},
            {"name": "join", "pieces": [{"name": "linear", "until": 0.5, "to": 0.5}]}, {"name": "root", "power": 1e300},
        ),
    ),
    "selector": (
        (None, "matched", "round_robin", "relative_perplexity", "random", {"name": "round_robin"}),
        ("mached", 5, [], True, {}, {"name": "matched", "x": 1}, ["matched"], {"name": 5},
        NAN, {"name": "fixed", "order": "nobody"}),
    ),
    "stages": ((1, 2, 3, 8, 20), (0, None, *_NO_WHOLE)),
    "window": (("prefix", "slice"), _NO_WORD),
    "coverage": (("exact", "revisit"), _NO_WORD),
    "mix": ((None, 0, 0.0, 0.25, 0.5, 0.99), (1, 1.0, 1.5, 2**63, *_NO_NUMBER)),
    "handover": ((0, 0.0, 0.6, 1, 1.0), (1.0001, None, *_NO_NUMBER)),
    "budget": ((0, 0.05, 0.5, 1, 10), (-0.5, 10.5, None, 2**31, *_NO_NUMBER)),
    "within": ((None, "none"), _NO_TEXT),
    "rescore": ((0, 1, 4), (None, *_NO_WHOLE)),
    "scores": ((None, "none", "scores"), _NO_TEXT),
    "level": ((None, "level"), _NO_TEXT),
    "batching": (("auto", "step", "plain", "flat"), _NO_WORD),
    "seed": ((None, 0, 7, 2**31), _NO_WHOLE),
    "resume": (("strict", "changed_future"), _NO_WORD),
    "probes": (
        (None,),
        (5, [], True, "probes.jsonl", {}, {"path": 5}, {"path": []}, {"path": [1]}, {"pth": "p.jsonl"},
        {"path": "p.jsonl", "max_rows": 0},
         {"path": "p.jsonl", "max_rows": 1.5}, {"path": "p.jsonl", "domain_column": 7}, {"path": None}),
    ),
    "evaluate": (
        (None,),
        (5, [], True, "smoke", {"every": 0}, {"every": "often"}, {"suite": 5}, {"tasks": "mmlu"}, {"tasks": []},
        {"limit": 0},
         {"limit": NAN}, {"evry": 5}, {"allow_code_execution": "yes"}, {"data": 5}, {"every": NAN}, {"every": -3},
         {"every": None}),
    ),
}  # fmt: skip

TRAINING: Table = {  # of TRL's keys, those that `check` and `simulate` read
    "per_device_train_batch_size": ((1, 2, 4), (0, -1, NAN, "x", INF, [], {}, None)),
    "gradient_accumulation_steps": ((1, 2), (0, -3, NAN, "x", [], {})),
    "num_train_epochs": ((1, 1.0, 2, 0.5), (0, -1, NAN, INF, "x", [], {})),
    "max_steps": ((-1, 3, 10), (NAN, INF, "x", [], {})),
    "learning_rate": ((1e-4, 2.0e-4, 0.1), ("x", [], {})),
    "warmup_steps": ((0, 2), ("x", [], {})),
    "seed": ((0, 3, 42), (NAN, "x", [], {})),
    "lr_scheduler_type": (("linear", "constant", "cosine", "constant_with_warmup"), ("linar", 5, [], {}, "CON")),
    "logging_steps": ((1, 10), ("x", [])),
}

COMPARE: Table = {
    "test": (("t.jsonl", ["t.jsonl", "u.jsonl"], {"path": "t.jsonl"}, {"path": "t.jsonl", "domain_column": None}),
             (5, [], None, {}, {"path": 5}, {"pth": "t"}, [1], True, {"path": "t.jsonl", "domain_column": 5})),
    "seeds": ((1, 3, [0, 1], [7, 5, 3]), (0, -1, [], [1, 1], "3", [True], [1.5], NAN, None, [-1], {}, True, [0, 2, 0])),
    "arms": ((["recipe", "random"], {"recipe": None, "random": {}, "mine": {"stages": 10}}),
    (5, [], {}, "recipe", [5], {"mine": 5}, [None])),
    "effect": ((0.02, 0.5), (0, 1, *_NO_NUMBER)),
    "speedup": ((0.1, 0.9), (0, 1, *_NO_NUMBER)),
    "points": ((1, 20), (0, None, *_NO_WHOLE)),
    "jobs": ((1, 2), (0, None, *_NO_WHOLE)),
    "tokens_tolerance": ((0, 0.01, 1), (1.5, *_NO_NUMBER)),
    "sharpness": ((True, False), (1, "true", None, [], {})),
    "devices": ((None, [0], [0, 1], 1), (-1, [-1], [], [0, 0], "0", [1.5], True, {})),
    "evaluate": ((None,), (5, "smoke", [], {"every": 5}, {"limit": 0}, True)),
}  # fmt: skip

SUITE: Table = {
    "tasks": (
        ({"mmlu": {"metrics": ["acc,none"]}},
        {"mmlu": {"metrics": ["acc,none"], "limit": 1}, "gsm8k": {"metrics": ["exact_match,strict-match"]}}),
        (5, [], {}, None, "mmlu", {"mmlu": 5}, {"mmlu": {}}, {"mmlu": {"metrics": 5}}, {"mmlu": {"metrics": []}},
        {"mmlu": {"metrics": ["acc"]}},
         {"mmlu": {"metrics": ["acc,none"], "limit": 0}}, {"mmlu": {"metrics": ["acc,none"], "limt": 1}}),
    ),
    "seeds": (({},), (5, [], "x", {"x": 1})),
    "apply_chat_template": ((True, False, "tool"), (5, [], {}, NAN)),
    "fewshot_as_multiturn": ((True, False), (5, "yes", [], None)),
    "system_instruction": ((None, "Be brief."), (5, "", [], True)),
    "batch_size": (("auto", 1, 8), (0, -1, "x", 1.5, NAN, True, [])),
}  # fmt: skip

SIMULATE: Table = {  # flags, as words
    "--rows": (("64", "100", "400"), ("0", "-1", "x", "", "1.5", "nan", "1e3", "0x10", "-9223372036854775808")),
    "--batch": (("1", "4", "16"), ("0", "-1", "x", "1.5", "")),
    "--epochs": (("1", "2", "0.5"), ("0", "-1", "x", "nan", "")),
    "--domains": (("1", "4"), ("0", "-2", "x", "2.5")),
    "--seed": (("0", "7"), ("-1", "x", "1.5")),
    "--stages": (("1", "4", "20"), ("0", "-1", "x", "1.5", "nan")),
    "--mix": (("0", "0.5"), ("1", "-0.1", "x", "nan", "inf", "1e300")),
    "--handover": (("0", "0.6", "1"), ("-1", "1.1", "x", "nan", "inf")),
    "--window": (("prefix", "slice"), ("prefx", "", "5")),
    "--coverage": (("exact", "revisit"), ("exakt", "", "5")),
    "--selector": (("round_robin", "matched", "random", "relative_perplexity"), ("robin", "", "5")),
    "--pacing": (("root", "linear", "step"), ("rot", "", "5")),
    "--metrics": (("length", "length,mtld", "length,-mtld,loss"), ("lenght", "length,length", "5")),
}
HUGE = ("2147483648", "9223372036854775808", "1e400", "99999999999999999999999999")


def draw(
    table: Table, chance: random.Random, *, wrong: bool, some: int = 4, must: tuple[str, ...] = ()
) -> tuple[dict[str, Any], list[str]]:
    """(Settings, the names of those that are wrong): right ones, of which one or two are made wrong if asked for."""
    names = [*must, *chance.sample([name for name in table if name not in must], min(some, len(table) - len(must)))]
    given = {name: chance.choice(table[name][0]) for name in names}
    bad = chance.sample(names, chance.choice([1, 1, 2])) if wrong else []
    for name in bad:
        given[name] = chance.choice(table[name][1])
    return given, bad


def unknown(table: Table, chance: random.Random) -> str:
    """The misspelt name of a setting."""
    while (name := odd.misspelt(chance.choice(list(table)), chance)) in table:
        pass
    return name


Change = Callable[[str, random.Random], str]


def _twice(text: str, chance: random.Random) -> str:
    lines = [line for line in text.splitlines() if ": " in line and not line.startswith((" ", "-", "}", "]"))]
    return f"{text}\n{chance.choice(lines)}\n" if lines else f"{text}\na: 1\na: 2\n"


BROKEN: Mapping[str, Change] = {  # of a YAML text, what must be refused
    "a key twice": _twice,
    "an open bracket": lambda text, _: f"{text}\nx: [1, 2\n",
    "an open quote": lambda text, _: f"{text}\nx: 'abc\n",
    "a tab": lambda text, _: f"{text}\nx:\n\ty: 1\n",
    "no alias": lambda text, _: f"{text}\nx: *nobody\n",
    "python": lambda text, _: f"{text}\nx: !!python/object/apply:os.system [touch owned]\n",
    "an unknown tag": lambda text, _: f"{text}\nx: !mine 3\n",
    "no timestamp": lambda text, _: f"{text}\nx: !!timestamp z\n",
    "a list": lambda *_: "- a\n- b\n",
    "a word": lambda *_: "just words\n",
    "nothing": lambda *_: "",
    "a key that is a mapping": lambda text, _: f"{text}\n? {{a: b}}\n: c\n",
    "two documents": lambda text, _: f"{text}\n---\na: 1\n",
    "a NUL": lambda text, _: f"{text}\nx: a\0b\n",
}
_KEYS = ("1", "1.5", "true", "null", "2020-01-01", "~", ".nan")
_NAMES = ("x", "lerning_rate", "env", "dataset_streaming", "packing", "compare")
_VALUES = ("1", "[]", "{}", "null", "true", "x", ".nan")
ODD: Mapping[str, Change] = {  # what may be taken, or refused in a sentence
    "deep": lambda text, chance: f"{text}\nx: {'[' * (n := chance.choice([50, 500, 5000]))}{']' * n}\n",
    "deep mappings": lambda text, chance: f"{text}\nx: {'{a: ' * (n := chance.choice([50, 2000]))}1{'}' * n}\n",
    "aliases of aliases": lambda text, _: f"{text}\na0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
    ),
    "an alias of itself": lambda text, _: f"{text}\nx: &a [*a]\n",
    "no date": lambda text, _: f"{text}\nx: 2020-99-99\n",
    "merged with a number": lambda text, _: f"{text}\nx:\n  <<: 3\n",
    "a date": lambda text, _: f"{text}\nx: 2020-01-01\n",
    "a set": lambda text, _: f"{text}\nx: !!set {{a, b}}\n",
    "bytes": lambda text, _: f"{text}\nx: !!binary aGVsbG8=\n",
    "keys that are no text": lambda text, chance: f"{text}\n{chance.choice(_KEYS)}: x\n",
    "a sexagesimal": lambda text, _: f"{text}\nx: 1:30:00\n",
    "no": lambda text, _: f"{text}\nx: no\n",
    "a huge number": lambda text, _: f"{text}\nx: {'9' * 5000}\n",
    "a BOM": lambda text, _: f"\ufeff{text}",
    "lines of Windows": lambda text, _: text.replace("\n", "\r\n"),
    "another key": lambda text, chance: f"{text}\n{chance.choice(_NAMES)}: {chance.choice(_VALUES)}\n",
}  # fmt: skip
