"""Keeps the things that were asked for last."""

import collections
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """The things that were asked for last, by their keys: what is there is not made again."""

    def __init__(self, most: int):
        """Args:
        most: how many; the one that nobody asked for the longest is let go.
        """
        self.most = most
        self.things: collections.OrderedDict[Hashable, T] = collections.OrderedDict()
        self.lock = threading.Lock()

    def forget(self) -> None:
        """Let go of everything."""
        with self.lock:
            self.things.clear()

    def get(self, key: Hashable | None, make: Callable[[], T], keep: Callable[[T], bool] = lambda made: True) -> T:
        """The thing of a key, made now unless it is there; one without a key is made and not kept.

        Args:
          keep: whether what was made may be kept.
        """
        if key is None:
            return make()
        with self.lock:
            if key in self.things:
                self.things.move_to_end(key)
                return self.things[key]
        made = make()
        if not keep(made):
            return made
        with self.lock:
            self.things[key] = made
            while len(self.things) > self.most:
                self.things.popitem(last=False)
        return made
