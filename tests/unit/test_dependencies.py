"""pyproject.toml says what may be installed, requirements.txt pins one set of it."""

import tomllib

from packaging.requirements import Requirement

from protos.config import packages

PROJECT = tomllib.loads((packages() / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pinned() -> dict[str, Requirement]:
    lines = (packages() / "requirements.txt").read_text().splitlines()
    told = (line.split("#")[0].strip() for line in lines)
    return {one.name: one for one in (Requirement(line) for line in told if line)}


def ranges(*extras: str) -> dict[str, Requirement]:
    told = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    return {one.name: one for one in map(Requirement, told)}


def test_the_pinned_set_is_the_core_with_its_tools_and_the_reference_agents():
    assert set(pinned()) == set(ranges("dev", "sb3"))


def test_every_pinned_version_lies_in_its_range():
    allowed = ranges("dev", "sb3")
    for name, pin in pinned().items():
        (version,) = (one.version for one in pin.specifier)
        assert allowed[name].specifier.contains(version), f"{pin} is not within {allowed[name]}"


def test_the_core_installs_no_test_tool_and_no_other_agents():
    assert not set(ranges()) & {"pytest", "hypothesis", "ruff", "mypy", "stable-baselines3", "ray"}
