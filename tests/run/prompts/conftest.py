"""Tests here make real trainers."""

from tests.real_trainers import _one_thread, _quick_collections

__all__ = ["_one_thread", "_quick_collections"]
