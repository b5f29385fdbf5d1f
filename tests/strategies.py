"""What hypothesis draws in more than one test file: names of groups, pacings, and whole plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from campus_tune.method.curriculum import Curriculum, Offer, Schedule
from campus_tune.method.pacing import build_pacing

EXAMPLES = 60  # of a property at home, where its test does not ask for another number

shares = st.floats(0.001, 1.0)
_shapes = st.floats(0.01, 100.0)

# the options of every registered pacing; a new one must say here what it takes
PACING_OPTIONS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "root": {"power": _shapes, "start": shares},
    "linear": {"start": shares},
    "quadratic": {"start": shares},
    "exponential": {"start": shares, "rate": _shapes},
    "logarithmic": {"start": shares, "rate": _shapes},
    "step": {"steps": st.integers(2, 12), "start": shares},
    "join": {},
}


# the options of every registered weight, likewise
WEIGHT_OPTIONS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "column": {"column": st.sampled_from(["weight", "votes"]), "of": st.sampled_from(["row", "message"])},
    "unbiased": {},
    "self_paced": {"form": st.sampled_from(["linear", "log", "hard"]), "floor": st.floats(0, 0.99)},
    "focal": {"gamma": st.floats(0, 10), "of": st.sampled_from(["token", "row"])},
    "superloss": {"temper": _shapes},
    "linupper": {"delta": _shapes, "r": _shapes},
    "robust": {"act": st.sampled_from(["auto", "always", "never"])},
}
_of_every_weight = {
    "from": st.none() | st.floats(0, 0.99),
    "until": st.none() | st.floats(0.01, 1),
    "limit": st.none() | st.floats(1, 100),
    "normalise": st.sampled_from([None, "step", "none"]),
}


def examples(n: int) -> settings:
    """`n` examples for a test that is slow, or fast, in proportion more where the profile has more for all tests."""
    return settings(max_examples=max(1, round(n * settings.default.max_examples / EXAMPLES)))


def group_names() -> st.SearchStrategy[str]:
    """Names of groups as users write them and as nobody would: any text, and near twins of a few others."""
    ends = st.sampled_from(["", "\0", "\0\0", " ", "\n", "\ufeff", "\u200b", "\ud800"])
    return st.text(max_size=4) | st.builds(str.__add__, st.sampled_from(["", "a", "A", "math"]), ends)


def weight_entries() -> st.SearchStrategy[dict[str, Any]]:
    """Entries of `weights`, right by themselves: any registered weight with any of its options and of everyone's."""
    return st.one_of(
        st.fixed_dictionaries({"name": st.just(name)}, optional={**options, **_of_every_weight})
        for name, options in WEIGHT_OPTIONS.items()
    )


def simple_pacings() -> st.SearchStrategy[dict[str, Any]]:
    """Settings of one of the pacings that stand alone, with any options."""
    return st.one_of(
        st.fixed_dictionaries({"name": st.just(name), **options})
        for name, options in PACING_OPTIONS.items()
        if name != "join"
    )


@st.composite
def joins(draw: st.DrawFn) -> dict[str, Any]:
    """Settings of up to four pacings one after the other."""
    n = draw(st.integers(1, 4))
    inner = st.lists(st.floats(0.01, 0.99), min_size=n - 1, max_size=n - 1, unique=True).map(sorted)
    untils, tos = [*draw(inner), 1.0], [*draw(inner), 1.0]
    pieces = [draw(simple_pacings()) for _ in range(n)]
    pieces[0]["start"] = draw(st.floats(0.001, tos[0]))
    return {
        "name": "join",
        "pieces": [{**p, "until": until, "to": to} for p, until, to in zip(pieces, untils, tos, strict=True)],
    }


def pacings() -> st.SearchStrategy[dict[str, Any]]:
    """Settings of any registered pacing."""
    return st.one_of(simple_pacings(), joins())


@dataclass(frozen=True)
class Plan:
    """Settings from which a curriculum is made as often as a test wants; `choices` stands in for a selector."""

    n_rows: int
    global_batch: int
    total_steps: int
    names: tuple[str, ...]
    groups: tuple[int, ...] | None
    drop_last: bool
    pacing: Mapping[str, Any]
    schedule: Mapping[str, Any]
    choices: int

    def make(self) -> Curriculum:
        """A new curriculum at step 0."""
        orders = {
            name: np.random.default_rng([self.n_rows, k]).permutation(self.n_rows).astype(np.int32)
            for k, name in enumerate(self.names)
        }
        return Curriculum(
            Schedule(pacing=build_pacing(self.pacing), **self.schedule),
            orders,
            n_rows=self.n_rows,
            global_batch=self.global_batch,
            total_steps=self.total_steps,
            groups=None if self.groups is None else np.array(self.groups, dtype=np.int64),
            drop_last=self.drop_last,
        )

    def choose(self, curriculum: Curriculum, offers: Sequence[Offer]) -> Offer | None:
        """An arbitrary choice that depends on the stage's number and on nothing else."""
        return offers[hash((self.choices, curriculum.n_stages)) % len(offers)] if offers else None


def _some_groups(n_rows: int, seed: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(0, 4, n_rows).tolist())


@st.composite
def plans(draw: st.DrawFn, **fixed: Any) -> Plan:
    """Any schedule over up to 70 rows, with up to three orders and three epochs. `fixed` holds some of it still.

    Sizes are drawn from ranges by `sampled_from`, for `integers` prefers the smallest, which make dull plans.
    """
    n_rows = draw(st.sampled_from(range(1, 71)))
    global_batch = draw(st.sampled_from([*range(1, min(12, n_rows) + 1), n_rows]))
    drop_last = draw(st.booleans())
    per_epoch = n_rows // global_batch if drop_last else -(-n_rows // global_batch)
    schedule = {
        "stages": draw(st.sampled_from(range(1, 13))),
        "window": draw(st.sampled_from(["prefix", "slice"])),
        "coverage": draw(st.sampled_from(["exact", "revisit"])),
        "mix": draw(st.sampled_from([0.0, 0.0, 0.1, 0.2, 0.5, 0.9])),
        "handover": draw(st.sampled_from([1.0, 1.0, 0.6, 0.3, 0.0])),
        "seed": draw(st.sampled_from(range(10))),
    }
    plan = {
        "n_rows": n_rows,
        "global_batch": global_batch,
        "total_steps": draw(st.sampled_from([2 * per_epoch, 3 * per_epoch, *range(1, 3 * per_epoch)])),
        "names": draw(st.sampled_from([("a", "b"), ("a", "b", "c"), ("a",), ()])),
        "groups": draw(st.none() | st.integers(0, 9).map(lambda seed: _some_groups(n_rows, seed))),
        "drop_last": drop_last,
        "pacing": draw(simple_pacings()),
        "choices": draw(st.sampled_from(range(100))),
    }
    plan |= {key: value for key, value in fixed.items() if key in plan}
    schedule |= {key: value for key, value in fixed.items() if key in schedule}
    return Plan(**plan, schedule=schedule)
