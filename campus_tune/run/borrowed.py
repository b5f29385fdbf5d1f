"""Attributes of the user's own objects that are ours for a time, and given back as they were."""

from __future__ import annotations

_ABSENT = object()


class Borrowed:
    """Attributes of one object: taken, given back however the run ends, taken again for the next one.

    What somebody else has set over ours meanwhile is theirs: it stays, and ours is not put over it again.

    >>> from types import SimpleNamespace
    >>> args = SimpleNamespace(skip=False)
    >>> borrowed = Borrowed(args, skip=True, fresh=1)
    >>> borrowed.take()
    >>> args
    namespace(skip=True, fresh=1)
    >>> borrowed.give_back()
    >>> args
    namespace(skip=False)

    Args:
        owner: the object.
        ours: name → value while it is ours.
    """

    def __init__(self, owner: object, **ours: object) -> None:
        self.owner, self.ours = owner, ours
        self._before: dict[str, object] = {}
        self._theirs: set[str] = set()

    def take(self) -> None:
        """Set what is not ours already."""
        for name in self.ours.keys() - self._before.keys() - self._theirs:
            self._before[name] = vars(self.owner).get(name, _ABSENT)
            setattr(self.owner, name, self.ours[name])

    def give_back(self) -> None:
        """As it was before: an attribute that the object itself did not have is its class's again."""
        for name, before in self._before.items():
            if vars(self.owner).get(name, _ABSENT) is not self.ours[name]:
                self._theirs.add(name)
            elif before is _ABSENT:
                delattr(self.owner, name)
            else:
                setattr(self.owner, name, before)
        self._before.clear()
