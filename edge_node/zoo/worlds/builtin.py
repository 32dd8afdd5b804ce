"""The built-in worlds, by name."""

from collections.abc import Mapping
from typing import Any

from edge_node.zoo.worlds.interface import World
from edge_node.zoo.worlds.open import atoms, painting
from edge_node.zoo.worlds.open import scenes as open_scenes
from edge_node.zoo.worlds.plain import checker
from edge_node.zoo.worlds.plain import scenes as plain_scenes

PLAIN: World[plain_scenes.Scene] = World(
    name="plain",
    prefix="",
    words=tuple(plain_scenes.words()),
    max_tokens=16,
    latent_channels=8,
    layout_time=850,
    draw=plain_scenes.draw,
    spoiled=plain_scenes.spoiled,
    render=plain_scenes.render,
    described=lambda scenes, _: [scene.caption for scene in scenes],
    held_frac=checker.held_frac,
)
OPEN: World[open_scenes.Scene] = World(
    name="open",
    prefix="open-",
    words=tuple(open_scenes.words()),
    max_tokens=44,
    latent_channels=16,
    layout_time=600,
    draw=open_scenes.draw,
    spoiled=open_scenes.spoiled,
    render=painting.render,
    described=painting.described,
    held_frac=atoms.held_frac,
    parse=open_scenes.parse,
)
WORLDS: Mapping[str, World[Any]] = {world.name: world for world in (PLAIN, OPEN)}
