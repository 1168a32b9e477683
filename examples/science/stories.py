"""Stories in the manner of bAbI's first three tasks: where somebody is, where a thing is, and where it was before.

Written from the description in Weston et al. 2015 (Towards AI-Complete Question Answering, arXiv 1502.05698): people who go, take
and drop in a simulated world, and questions that one, two or three sentences answer.  None of the original stories is here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gridc.arrays.dataset import Dataset

PEOPLE = ("mary", "john", "daniel", "sandra")
PLACES = ("kitchen", "garden", "hallway", "office", "bathroom", "bedroom")
THINGS = ("football", "apple", "milk")
GOES = ("went", "moved", "travelled", "journeyed")
TAKES = ("took", "grabbed", "got")
DROPS = ("dropped", "left", "discarded")
NOTHING = "-"
LONGEST = 30
"""Sentences of a story at most, and as many words that say how long ago each was: Sukhbaatar et al. 2015, section 4.1."""
WORDS = (NOTHING, *PEOPLE, *PLACES, *THINGS, *GOES, *TAKES, *DROPS, *(f"{ago} ago" for ago in range(LONGEST)))
ID = {word: number for number, word in enumerate(WORDS)}
ASKED = (*PEOPLE, *PLACES, *THINGS)
"""The words of a question: '… milk' or '… milk … kitchen'."""


class World:
    """Who is where and holds what; ``been`` is where each thing was, in turn, as far as the story told."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.at: dict[str, str] = {}
        self.holder: dict[str, str] = {}
        self.lies = {thing: self.pick(PLACES) for thing in THINGS}
        self.been: dict[str, list[str]] = {thing: [] for thing in THINGS}

    def pick(self, some: tuple[str, ...] | list[str]) -> str:
        return some[int(self.rng.integers(len(some)))]

    def moment(self) -> tuple[str, str, str]:
        """Let somebody do something that can be done, and tell it."""
        who = self.pick(PEOPLE)
        here = self.at.get(who)
        held = [thing for thing in THINGS if self.holder.get(thing) == who]
        near = [thing for thing in THINGS if thing not in self.holder and here is not None and self.lies[thing] == here]
        what = self.pick([*(place for place in PLACES if place != here), *near, *held])
        if what in near:
            self.holder[what] = who
            self._seen(what, self.at[who])
            return who, self.pick(TAKES), what
        if what in held:
            del self.holder[what]
            self.lies[what] = self.at[who]
            return who, self.pick(DROPS), what
        self.at[who] = what
        for thing in held:
            self._seen(thing, what)
        return who, self.pick(GOES), what

    def _seen(self, thing: str, place: str) -> None:
        if self.been[thing][-1:] != [place]:
            self.been[thing].append(place)

    def question(self, facts: int) -> tuple[tuple[str, ...], str] | None:
        """Ask what so many facts tell: where somebody is, where a thing is, or where it was before it last came to a place; None
        where the story has not told it of anybody or anything."""
        if facts == 1:
            return ((who := self.pick(sorted(self.at)),), self.at[who]) if self.at else None
        known = [thing for thing in THINGS if len(self.been[thing]) >= facts - 1]
        if not known:
            return None
        thing = self.pick(known)
        been = self.been[thing]
        if facts == 2:
            return (thing,), been[-1]
        place = self.pick(sorted(set(been[1:])))
        last = max(i for i, one in enumerate(been) if one == place)
        return (thing, place), been[last - 1]


def stories(facts: Sequence[int], samples: int, seed: int) -> Dataset:
    """Draw stories, each with one question at its end, of 2 to 30 sentences, short ones as often as long ones by their orders of
    magnitude: facts ``[n, 30, 4]`` word ids, the last sentence first, question ``[n, 13]`` of 0 and 1, place ``[n]``.

    The questions are in turn of the kinds that so many ``facts`` answer."""
    rng = np.random.default_rng([seed, *facts])
    told = np.full((samples, LONGEST, 4), ID[NOTHING], np.int64)
    question = np.zeros((samples, len(ASKED)), np.float32)
    place = np.empty(samples, np.int64)
    for row in range(samples):
        found, lines = None, []
        while found is None:
            world = World(rng)
            lines = [world.moment() for _ in range(round(math.exp(rng.uniform(math.log(2), math.log(LONGEST)))))]
            found = world.question(facts[row % len(facts)])
        for ago, line in enumerate(reversed(lines)):
            told[row, ago] = [*(ID[word] for word in line), ID[f"{ago} ago"]]
        question[row, [ASKED.index(word) for word in found[0]]] = 1
        place[row] = PLACES.index(found[1])
    return Dataset({"facts": told, "question": question}, {"place": place})
