"""A made-up table of what helps when: three bases, every kind of situation, each of the verdicts."""

from __future__ import annotations

from typing import Any

from campus_tune.preview.evidence import EvidenceTable, as_table

ORDER = {"metrics": ["length", "mtld"]}
ACTS = {"stages": 20, "metrics": [], "selector": "shuffle", "drop": [{"by": "suspects", "act": "auto"}]}
NONE = "no detectable difference"
ROBUST = {"selector": "shuffle", "weights": [{"name": "robust"}]}


def arm(words: str, campus: dict[str, Any], effect: float | None, verdict: str | None, **more: Any) -> dict[str, Any]:
    ends = {} if effect is None else {"low": effect - 0.03, "high": effect + 0.03}
    return {
        "words": words,
        "campus": campus,
        "effect": effect,
        "low": None,
        "high": None,
        "seeds": 8,
        "verdict": verdict,
    } | (ends | more)


def order(effect: float = 0.01, verdict: str | None = NONE) -> dict[str, Any]:
    return arm("an order by length and diversity", ORDER, effect, verdict)


def acts(effect: float = -0.12, verdict: str | None = "helped") -> dict[str, Any]:
    return arm("dropping suspects", ACTS, effect, verdict)


def situation(name: str, kind: str, arms: dict[str, Any], *, helps: str | None = None, **more: Any) -> dict[str, Any]:
    usual = {"base": "tasks", "looks": kind, "share": None, "epochs": 2, "domains": 4, "rows": 1440}
    return {**usual, "name": name, "kind": kind, "helps": helps, "arms": arms, **more}


def table_json() -> dict[str, Any]:
    both = {"default": order(), "auto": acts()}
    nothing = {"default": order(0.05, "hurt"), "auto": acts(0.004, "underpowered")}
    return {
        "version": 1,
        "log": "Where does it pay?",
        "bases": {"tasks": "a tiny model that knows easy tasks", "smol": "SmolLM2 with LoRA"},
        "situations": [
            situation("clean_1", "clean", nothing, epochs=1),
            situation("clean_3", "clean", {"default": order(), "auto": acts(0.0, NONE)}, epochs=3),
            situation("wrong_5", "wrong", nothing, share=0.05),
            situation("wrong_30", "wrong", both, share=0.3, helps="auto"),
            situation("duplicates_20", "duplicates", nothing, share=0.2),
            situation("two_answers", "two answers", {"auto": acts(-0.02, None)}, share=0.1),
            situation("domains_80", "lagging", {"auto": acts(-0.01, None)}, epochs=1),
            situation("domains_99", "lagging", {}, epochs=1),
            situation("phases", "phases", nothing),
            situation("small_many", "small", nothing, epochs=12, rows=96),
            situation("hard_trivial", "mixed", nothing),
            situation("smol_wrong_30", "wrong", {"auto": acts(-0.005, "underpowered")}, share=0.3, base="smol"),
        ],
    }  # fmt: skip


def table() -> EvidenceTable:
    return as_table(table_json())
