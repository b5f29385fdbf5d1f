"""What the files of a data folder hold: one entry per set, in the schema that lm-eval's official tasks expect.

The columns, their sequence and their values are the hub's, so that prompts *and* the document hashes that lm-eval
records come out as if the rows had been downloaded. Tables only; `local_data` reads and checks with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from campus_tune.words.types import Json

MMLU_SUBJECTS = (
    "abstract_algebra", "anatomy", "astronomy", "business_ethics", "clinical_knowledge", "college_biology",
    "college_chemistry", "college_computer_science", "college_mathematics", "college_medicine", "college_physics",
    "computer_security", "conceptual_physics", "econometrics", "electrical_engineering", "elementary_mathematics",
    "formal_logic", "global_facts", "high_school_biology", "high_school_chemistry", "high_school_computer_science",
    "high_school_european_history", "high_school_geography", "high_school_government_and_politics",
    "high_school_macroeconomics", "high_school_mathematics", "high_school_microeconomics", "high_school_physics",
    "high_school_psychology", "high_school_statistics", "high_school_us_history", "high_school_world_history",
    "human_aging", "human_sexuality", "international_law", "jurisprudence", "logical_fallacies", "machine_learning",
    "management", "marketing", "medical_genetics", "miscellaneous", "moral_disputes", "moral_scenarios",
    "nutrition", "philosophy", "prehistory", "professional_accounting", "professional_law", "professional_medicine",
    "professional_psychology", "public_relations", "security_studies", "sociology", "us_foreign_policy", "virology",
    "world_religions",
)  # fmt: skip
MATH_TYPES = {  # as a row says it → as lm-eval asks for it
    "Algebra": "algebra",
    "Counting & Probability": "counting_and_probability",
    "Geometry": "geometry",
    "Intermediate Algebra": "intermediate_algebra",
    "Number Theory": "number_theory",
    "Prealgebra": "prealgebra",
    "Precalculus": "precalculus",
}
_LETTERS = "ABCDEFGH"


@dataclass(frozen=True)
class RowField:
    """One field of a row.

    Args:
        kind: `text`, `texts` (a list) or `whole` (a number).
        must: what a value has to be, in words.
        holds: whether a value is that.
    """

    kind: str
    must: str
    holds: Callable[[object], bool]


@dataclass(frozen=True)
class DataSet:
    """One folder of a data folder.

    Args:
        folder: its name.
        hub: the set's name on the hub, by which lm-eval's task definitions ask for it.
        tasks: the official tasks that read it.
        splits: the files that are needed, and the rows that the official set has in each.
        columns: fields of a row in a file. Others may be there and are left out.
        parts: the configurations of the set on the hub, one of which a task reads.
        part: the part that a row belongs to.
        agrees: whether a row's fields fit each other, each being right alone.
        schema: kinds of the official columns, where they are not those of the file.
        official: the row as the hub has it, where that is not the row itself.
        note: what else a user must know.
    """

    folder: str
    hub: str
    tasks: tuple[str, ...]
    splits: Mapping[str, int]
    columns: Mapping[str, RowField]
    parts: tuple[str | None, ...]
    part: Callable[[Json], str | None]
    agrees: Callable[[Json], bool] = lambda _: True
    schema: Mapping[str, object] = field(default_factory=dict)
    official: Callable[[Json], Json] | None = None
    note: str = ""


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _texts(value: object) -> int:
    """How many texts a list has; −1 for what is no list of texts."""
    return len(value) if isinstance(value, list) and all(map(_is_text, value)) else -1


def _matches(pattern: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and re.search(pattern, value) is not None


def _always(part: str | None) -> Callable[[Json], str | None]:
    """Every row belongs to the one part there is."""
    return lambda _: part


ANY_TEXT = RowField("text", "a text, which may be empty", _is_text)
TEXT = RowField("text", "a text that is not empty", lambda value: isinstance(value, str) and bool(value.strip()))
SOLVED = RowField("text", "a text that ends in `#### number`", _matches(r"#### *-?[\d.,]+\s*$"))
BOXED = RowField("text", r"a text with its answer in \boxed{}", _matches(r"\\boxed"))
TYPE = RowField("text", f"one of {', '.join(MATH_TYPES)}", lambda value: value in tuple(MATH_TYPES))
SUBJECT = RowField("text", "one of MMLU's 57 subjects", lambda value: value in MMLU_SUBJECTS)
ARC_CONFIG = RowField("text", "ARC-Easy or ARC-Challenge", lambda value: value in ("ARC-Easy", "ARC-Challenge"))
TEXTS = RowField("texts", "a list of texts, which may be empty", lambda value: _texts(value) >= 0)
TESTS = RowField("texts", "a list of three texts or more", lambda value: _texts(value) >= 3)
FOUR = RowField("texts", "a list of four texts", lambda value: _texts(value) == 4)
CHOICES = RowField("texts", "a list of two to eight texts", lambda value: _texts(value) in range(2, 9))
WHOLE = RowField("whole", "a whole number", _is_whole)
CHOICE = RowField(
    "whole", "the position of the right choice, from 0", lambda value: _is_whole(value) and value in range(8)
)


def _answer_is_a_choice(row: Json) -> bool:
    return int(row["answer"]) < len(row["choices"])


def _arc_as_on_the_hub(row: Json) -> Json:
    """The hub writes choices as texts and letters, and the answer as a letter."""
    labels = list(_LETTERS[: len(row["choices"])])
    choices = {"text": row["choices"], "label": labels}
    return {"id": row["id"], "question": row["question"], "choices": choices, "answerKey": labels[row["answer"]]}


DATA_SETS = (
    DataSet(
        folder="math",
        hub="EleutherAI/hendrycks_math",
        tasks=("minerva_math",),
        splits={"test": 5000},
        columns={"problem": TEXT, "level": ANY_TEXT, "type": TYPE, "solution": BOXED},
        parts=tuple(MATH_TYPES.values()),
        part=lambda row: MATH_TYPES[row["type"]],
        note="MATH (Hendrycks et al. 2021). Its rights are disputed (taken off the hub in January 2025), so it does "
        "not come with campus_tune and nothing here downloads it: put a copy that you may use there.",
    ),
    DataSet(
        folder="gsm8k",
        hub="openai/gsm8k",
        tasks=("gsm8k", "gsm8k_cot", "gsm8k_cot_zeroshot"),
        splits={"test": 1319, "train": 7473},
        columns={"question": TEXT, "answer": SOLVED},
        parts=("main",),
        part=_always("main"),
        note="GSM8K (Cobbe et al. 2021), MIT. The worked examples are drawn from train.",
    ),
    DataSet(
        folder="mbpp",
        hub="google-research-datasets/mbpp",
        tasks=("mbpp", "mbpp_instruct"),
        splits={"test": 500},
        columns={
            "task_id": WHOLE,
            "text": TEXT,
            "code": TEXT,
            "test_list": TESTS,
            "test_setup_code": ANY_TEXT,
            "challenge_test_list": TEXTS,
        },
        parts=("full",),
        part=_always("full"),
        note="MBPP (Austin et al. 2021), CC-BY-4.0, the full set, not the sanitized one.",
    ),
    DataSet(
        folder="humaneval",
        hub="openai/openai_humaneval",
        tasks=("humaneval", "humaneval_instruct"),
        splits={"test": 164},
        columns={"task_id": TEXT, "prompt": TEXT, "canonical_solution": TEXT, "test": TEXT, "entry_point": TEXT},
        parts=(None,),
        part=_always(None),
        note="HumanEval (Chen et al. 2021), MIT.",
    ),
    DataSet(
        folder="mmlu",
        hub="cais/mmlu",
        tasks=("mmlu", "mmlu_stem", "mmlu_humanities", "mmlu_social_sciences", "mmlu_other"),
        splits={"test": 14042, "dev": 285},
        columns={"question": TEXT, "subject": SUBJECT, "choices": FOUR, "answer": CHOICE},
        parts=MMLU_SUBJECTS,
        part=lambda row: str(row["subject"]),
        agrees=_answer_is_a_choice,
        note="MMLU (Hendrycks et al. 2021), MIT, all subjects in one file. The worked examples are from dev.",
    ),
    DataSet(
        folder="arc",
        hub="allenai/ai2_arc",
        tasks=("arc_easy", "arc_challenge"),
        splits={"test": 3548, "train": 3370},
        columns={"id": TEXT, "question": TEXT, "choices": CHOICES, "answer": CHOICE, "config": ARC_CONFIG},
        parts=("ARC-Easy", "ARC-Challenge"),
        part=lambda row: str(row["config"]),
        agrees=_answer_is_a_choice,
        schema={"id": "text", "question": "text", "choices": {"text": "texts", "label": "texts"}, "answerKey": "text"},
        official=_arc_as_on_the_hub,
        note="ARC (Clark et al. 2018), CC-BY-SA-4.0, both parts in one file. Choices are lettered A, B, …",
    ),
)
