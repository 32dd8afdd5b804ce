"""Scenes of the open world: 3 to 8 things, named by count, colour and kind, now and then related.

Responsible for captions and for the held-out split. Not: what the caption leaves open (painting.py:
places, sizes, angles, textures, light) and reading images (atoms.py).

    two red stars, a blue ring and a yellow ball; the blue ring above the yellow ball
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from zlib import crc32

import numpy as np

from edge_node.zoo.worlds.interface import Split

KINDS = ("ball", "ring", "star")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 35, 40),
    "yellow": (240, 205, 35),
    "green": (45, 165, 60),
    "cyan": (45, 195, 215),
    "blue": (45, 75, 225),
    "purple": (165, 50, 205),
}
COUNTS = ("a", "two", "three")
RELATIONS: dict[str, tuple[int, int]] = {
    "left of": (-1, 0),
    "right of": (1, 0),
    "above": (0, -1),
    "below": (0, 1),
}
"""Direction from the second thing to the first (x to the right, y down)."""

COLUMNS, ROWS = "ABCDEFGH", "12345678"
"""Of the image, from its top left corner: where a described thing's centre is."""

MIN_OBJECTS, MAX_OBJECTS = 3, 8
_NUM_GROUPS = (2, 3, 4)
_NUM_GROUPS_CHANCES = (0.5, 0.35, 0.15)
_COUNT_CHANCES = (0.5, 0.3, 0.2)
_RELATED_FRAC = 0.3
"""Of the scenes that have two single things."""
_HELD_OUT_ONE_IN = 5


@dataclass(frozen=True, slots=True)
class Thing:
    """A colour and a kind."""

    colour: str
    kind: str

    def __str__(self) -> str:
        return f"{self.colour} {self.kind}"


@dataclass(frozen=True, slots=True)
class Group:
    """Things that are alike in the words of the caption."""

    count: int
    thing: Thing

    def __str__(self) -> str:
        return f"{COUNTS[self.count - 1]} {self.thing}{'s' if self.count > 1 else ''}"


@dataclass(frozen=True, slots=True)
class Relation:
    """How two single things stand to each other."""

    first: Thing
    name: str
    second: Thing

    def __str__(self) -> str:
        return f"the {self.first} {self.name} the {self.second}"

    def margin(self, x: float, y: float) -> float:
        """Return by how much it holds, > 0 where it does, for the first's centre less the second's.

        The offset along the relation's direction must exceed that across it.
        """
        toward_x, toward_y = RELATIONS[self.name]
        return x * toward_x - abs(y) if toward_x else y * toward_y - abs(x)


@dataclass(frozen=True, slots=True)
class Scene:
    """What a caption says."""

    groups: tuple[Group, ...]
    relation: Relation | None = None

    @property
    def caption(self) -> str:
        """The prompt."""
        return self._said([str(group) for group in self.groups])

    def described(self, centres: Iterable[tuple[float, float]]) -> str:
        """Return the caption with the cell of each thing behind its group.

        Takes the centres of all things, group by group, as (x, y) shares of the image's side.
        """
        cells = iter(
            f"{COLUMNS[int(x * len(COLUMNS))]} {ROWS[int(y * len(ROWS))]}" for x, y in centres
        )
        return self._said([" ".join([str(g), *islice(cells, g.count)]) for g in self.groups])

    def _said(self, groups: list[str]) -> str:
        *firsts, last = groups
        named = f"{', '.join(firsts)} and {last}" if firsts else last
        return f"{named}; {self.relation}" if self.relation else named

    @property
    def num_objects(self) -> int:
        """Things in the image."""
        return sum(group.count for group in self.groups)

    @property
    def num_atoms(self) -> int:
        """Statements of the caption that hold or not."""
        return len(self.groups) + (self.relation is not None)


def words() -> list[str]:
    """Return every word and mark that a caption may hold, those of descriptions last."""
    found = {",", ";", "and", "the", *KINDS, *(f"{kind}s" for kind in KINDS), *COLOURS, *COUNTS}
    found |= {word for relation in RELATIONS for word in relation.split()}
    return [*sorted(found), *COLUMNS, *ROWS]


def split_of(scene: Scene) -> Split:
    """Return the split of a scene: a fifth of all combinations of groups is held out."""
    combination = ", ".join(sorted(map(str, scene.groups)))
    return "held-out" if crc32(combination.encode()) % _HELD_OUT_ONE_IN == 0 else "train"


def draw(rng: np.random.Generator, count: int, split: Split) -> list[Scene]:
    """Return ``count`` random scenes of the split."""
    drawn: list[Scene] = []
    while len(drawn) < count:
        scene = _scene(rng)
        if split_of(scene) == split:
            drawn.append(scene)
    return drawn


def spoiled(scene: Scene, rng: np.random.Generator) -> Scene:
    """Return the scene with one thing about it changed: what a judge must tell from the right one.

    It is one of this world's scenes too: where a related thing changes, its relation goes along.
    """
    while True:
        changed = _changed(scene, rng)
        if not _fault(changed):
            return changed


_THING = rf"({'|'.join(COLOURS)}) ({'|'.join(KINDS)})"
_GROUP = re.compile(rf"({'|'.join(COUNTS)}) {_THING}(s?)")
_RELATION = re.compile(rf"the {_THING} ({'|'.join(RELATIONS)}) the {_THING}")


def parse(caption: str) -> Scene:
    """Return the scene of a caption.

    Raises:
        ValueError: it is none of this world's captions; the message names the part.
    """
    named, mark, related = caption.partition("; ")
    groups = tuple(map(_group, re.split(r", | and ", named)))
    scene = Scene(groups, _relation(related) if mark else None)
    fault = _fault(scene)
    if fault:
        raise ValueError(f"{caption!r} is not of the open world: {fault}")
    if scene.caption != caption:
        raise ValueError(f"{caption!r} is not of the open world, which says {scene.caption!r}")
    return scene


def _group(part: str) -> Group:
    found = _GROUP.fullmatch(part)
    if not found or (found[1] == "a") == bool(found[4]):
        known = f"{'/'.join(COUNTS)} {'/'.join(COLOURS)} {'/'.join(KINDS)}(s)"
        raise ValueError(f"{part!r} is not of the open world: it names {known}")
    return Group(COUNTS.index(found[1]) + 1, Thing(found[2], found[3]))


def _relation(part: str) -> Relation:
    found = _RELATION.fullmatch(part)
    if not found:
        known = f"the (thing) {'/'.join(RELATIONS)} the (thing)"
        raise ValueError(f"{part!r} is no relation of the open world: it says {known}")
    return Relation(Thing(found[1], found[2]), found[3], Thing(found[4], found[5]))


def _fault(scene: Scene) -> str:
    """Return what keeps a scene from being one of this world's; nothing where it is one."""
    if len(scene.groups) not in _NUM_GROUPS:
        limits = f"{_NUM_GROUPS[0]} to {_NUM_GROUPS[-1]}"
        return f"it names {limits} different things, got {len(scene.groups)}"
    if not MIN_OBJECTS <= scene.num_objects <= MAX_OBJECTS:
        return f"it shows {MIN_OBJECTS} to {MAX_OBJECTS} objects, got {scene.num_objects}"
    for thing, times in Counter(group.thing for group in scene.groups).items():
        if times > 1:
            return f"it names a thing once, got {str(thing)!r} {times} times"
    if scene.relation:
        return _relation_fault(scene, scene.relation)
    return ""


def _relation_fault(scene: Scene, relation: Relation) -> str:
    singles = [group.thing for group in scene.groups if group.count == 1]
    for thing in (relation.first, relation.second):
        if thing not in singles:
            known = ", ".join(map(str, singles)) or "none"
            return f"it relates single things ({known}), got {str(thing)!r}"
    if relation.first == relation.second:
        return f"it relates two things, got {str(relation.first)!r} and itself"
    return ""


def _changed(scene: Scene, rng: np.random.Generator) -> Scene:
    groups = list(scene.groups)
    index = int(rng.integers(len(groups)))
    group, relation = groups[index], scene.relation
    count, thing = group.count, group.thing
    change = rng.random()
    if relation and change < 0.25:
        other = _other(RELATIONS, relation.name, rng)
        return replace(scene, relation=replace(relation, name=other))
    if change < 0.5:
        count = int(rng.choice([n + 1 for n in range(len(COUNTS)) if n + 1 != count]))
    elif change < 0.75:
        thing = replace(thing, colour=_other(COLOURS, thing.colour, rng))
    else:
        thing = replace(thing, kind=_other(KINDS, thing.kind, rng))
    groups[index] = Group(count, thing)
    if relation:
        first, second = (
            thing if one == group.thing else one for one in (relation.first, relation.second)
        )
        relation = replace(relation, first=first, second=second)
    return Scene(tuple(groups), relation)


def _scene(rng: np.random.Generator) -> Scene:
    num_groups = int(rng.choice(_NUM_GROUPS, p=_NUM_GROUPS_CHANCES))
    while True:
        counts = 1 + rng.choice(len(COUNTS), num_groups, p=_COUNT_CHANCES)
        if MIN_OBJECTS <= counts.sum() <= MAX_OBJECTS:
            break
    things = rng.choice(len(COLOURS) * len(KINDS), num_groups, replace=False)
    groups = tuple(
        Group(int(count), Thing((*COLOURS,)[thing // len(KINDS)], KINDS[thing % len(KINDS)]))
        for count, thing in zip(counts, things, strict=True)
    )
    singles = [group.thing for group in groups if group.count == 1]
    if len(singles) < 2 or rng.random() >= _RELATED_FRAC:
        return Scene(groups)
    first, second = (singles[index] for index in rng.permutation(len(singles))[:2])
    return Scene(groups, Relation(first, (*RELATIONS,)[rng.integers(len(RELATIONS))], second))


def _other(choices: Collection[str], now: str, rng: np.random.Generator) -> str:
    rest = [choice for choice in choices if choice != now]
    return rest[rng.integers(len(rest))]
