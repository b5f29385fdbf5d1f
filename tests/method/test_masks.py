"""Masks asked part by part, against the same question asked at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campus_tune.method.masks import held, how_far, rows_where
from campus_tune.words import cores

masks = st.lists(st.booleans(), min_size=1, max_size=50).map(np.array)
many_cases = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=[3, 1 << 18])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "PART", request.param)


@pytest.mark.usefixtures("parts")
@many_cases
@given(masks, st.data())
def test_parts_say_what_the_whole_says(mask: np.ndarray[tuple[int], np.dtype[np.bool_]], data: st.DataObject) -> None:
    rows = np.array(data.draw(st.lists(st.integers(0, len(mask) - 1))), dtype=np.int32)
    kept = rows[mask[rows]]
    found = held(rows, mask.take)
    assert (found.tolist(), found.dtype) == (kept.tolist(), np.int32)
    where = rows_where(mask)
    assert (where.tolist(), where.dtype) == (np.flatnonzero(mask).tolist(), np.int32)
    for n in range(1, len(rows) + 2):
        far = how_far(rows, mask.take, n)
        assert far == next((end for end in range(len(rows) + 1) if mask[rows[:end]].sum() == n), None)
