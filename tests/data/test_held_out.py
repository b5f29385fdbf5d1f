"""Parts of held-out rows."""

from __future__ import annotations

from campus_tune.data.held_out import HeldOut
from campus_tune.data.turns import Conversation


def held(domains: str) -> HeldOut:
    conversations = tuple(Conversation((f"{i}?", "yes"), (False, True)) for i in range(len(domains)))
    return HeldOut(conversations, tuple(domains), tuple(map(str, range(len(domains)))), "domain")


def test_the_first_of_each_domain_are_taken_wherever_they_stand() -> None:
    found = held("aaabbacab").first_of_each(2, of_one=5)
    assert found.numbers == ("0", "1", "3", "4", "6")
    assert found.domains == tuple("aabbc")
    assert [one.turns[0] for one in found.conversations] == ["0?", "1?", "3?", "4?", "6?"]
    assert found.domain_column == "domain"


def test_rows_of_one_domain_have_a_number_of_their_own() -> None:
    assert held("aaaaaa").first_of_each(2, of_one=5).numbers == tuple("01234")
    assert held("aaa").first_of_each(2, of_one=5).numbers == tuple("012")
