"""Locks that survive a fork: a child has one thread, and what the others held when it was forked nobody would ever release."""

from __future__ import annotations

import functools
import os
import threading
import weakref
from typing import Any, TypeVar

_all: weakref.WeakSet[Lock] = weakref.WeakSet()


class Lock:
    """A lock to be held in a ``with`` block, by the same thread as often as it likes.

    A forked child finds it free, unless the thread that forked holds it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _all.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        """In a child: lets go what a thread held that is not there."""
        if self._lock.acquire(blocking=False):  # free, or held by this very thread
            self._lock.release()
        else:
            self._lock = threading.RLock()


def _renew() -> None:
    for lock in list(_all):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


T = TypeVar("T")


class once(functools.cached_property[T]):  # it stands where functools.cached_property would
    """As ``functools.cached_property``, without the lock that Python 3.11 holds meanwhile, one for all objects of a class: a
    forked child would find it held by a thread that it does not have.  Two threads may both make the value."""

    def __get__(self, instance: object, owner: type[Any] | None = None) -> Any:
        """Give the value, made when it is first asked for."""
        if instance is None:
            return self
        kept, name = vars(instance), str(self.attrname)
        if name not in kept:
            kept[name] = self.func(instance)
        return kept[name]
