"""Every figure that the README and the docs state, recomputed from the record that it comes from.

    [[records]]                          # results/claims.toml
    name = "effects"
    file = "studies/effects.jsonl.gz"
    sha256 = "..."
    command = "python -m controller sweep --config effects.toml"
    machine = "2 cores of AMD EPYC"
    [[claims]]
    name = "effects-6-users-score"
    text = "T2DRL with six users: score"
    record = "effects"
    read = ["default, num_users 6", "unchanged", "score"]
    value = "0.868"
    interval = ["0.856", "0.878"]
    limit = ">= 0.8"

``read`` says where the value stands: in a study by scenario, policy and quantity; in JSON by the
keys on the way, after the key of a list of objects by a value of those that are meant, in a list of
numbers by index; several values are stated as their median, least and most, each divided by what
stands at ``over``. Without a record the tree is read: ["lines", FOLDER, ...], or ["modules", ...]
of the fullest folder; "!FOLDER" is left out.

Pages state claims as ``<!-- claim: NAME -->0.868 (0.856 .. 0.878)``, with or without the interval.

Responsible for claims, and for refusing records that are no evidence. Not: measuring.
"""

import gzip
import hashlib
import json
import operator
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from controller.studies import study as studies
from controller.studies.results import BASELINES, StudyRecords, scenario_results
from protos import config as configs
from protos.config import ConfigError
from protos.manifest import Manifest

_STUDY = ".jsonl.gz"
_LIMITS = {">=": operator.ge, "<=": operator.le}
_ON_PAGES = re.compile(r"<!-- claim: (\S+) -->(-?\d+(?:\.\d+)?)?(?: \((\S+) \.\. (\S+)\))?")


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordFile:
    """A file of measurements, and where it comes from."""

    name: str
    file: str
    """Path beside claims.toml."""
    sha256: str
    command: str
    """What makes it again."""
    machine: str
    """Cores and their name, as in its manifests."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A figure that is stated."""

    name: str
    text: str
    unit: str = ""
    value: str
    """As it is stated; its digits say how exact it is meant."""
    interval: tuple[str, ...] = ()
    """Low and high, where there is one."""
    limit: str = ""
    """">= 0.9" or "<= 1.05", where one was asked for."""
    record: str = ""
    """Name of its record; empty: the tree."""
    read: tuple[str, ...]
    over: tuple[str, ...] = ()
    scale: float = 1.0
    """From the record's unit to the stated one."""

    def __post_init__(self) -> None:
        if self.limit and not re.fullmatch(r"[<>]= -?[\d.]+", self.limit):
            raise ValueError(f'claim {self.name}: limit must be like ">= 0.9", got {self.limit!r}')

    @property
    def stated(self) -> tuple[str, ...]:
        """The value, and the interval where there is one."""
        return (self.value, *self.interval)

    @property
    def verdict(self) -> str:
        """MISS where the stated value does not keep the limit, else ok."""
        sign, _, bound = self.limit.partition(" ")
        is_kept = not self.limit or _LIMITS[sign](float(self.value), float(bound))
        return "ok" if is_kept else "MISS"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimsConfig:
    """All claims and their records."""

    records: tuple[RecordFile, ...] = ()
    claims: tuple[Claim, ...]


Reader = Callable[[Claim], tuple[float, ...]]
"""Returns a claim's value, or its value and interval, as the record gives it."""


def check(file: Path) -> int:
    """Print claims with their limits; return 0 if records and pages give what is stated, else 1."""
    config, console = configs.load(file, ClaimsConfig), Console(highlight=False, soft_wrap=True)
    for claim in config.claims:
        line = f"{claim.name:<46} {claim.value:>8} {claim.limit:<9} {claim.verdict}"
        console.print(line, markup=False)
    results = file.resolve().parent
    problems = [*_in_records(config, results), *_on_pages(config, results.parent)]
    for problem in problems:
        console.print(f"claims: {problem}", markup=False)
    return 1 if problems else 0


def _on_pages(config: ClaimsConfig, root: Path) -> Iterator[str]:
    """Yield each claim that a page states otherwise."""
    claims = {claim.name: claim for claim in config.claims}
    for page in sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md")]):
        for name, *shown in _ON_PAGES.findall(page.read_text()):
            stated = claims[name].stated if name in claims else ()
            if tuple(filter(None, shown)) not in (stated, stated[:1]) or not stated:
                yield f"{name}: {page} states {shown}, the claim is {stated}"


def _in_records(config: ClaimsConfig, folder: Path) -> Iterator[str]:
    """Yield what is wrong with records, and with the claims of those that are evidence."""
    readers: dict[str, Reader | None] = {"": partial(_tree, folder.parent)}
    for record in config.records:
        try:
            readers[record.name] = _reader(record, folder / record.file)
        except ConfigError as error:
            readers[record.name] = None
            yield f"record {record.name}: {error}"
    for claim in config.claims:
        try:
            if reader := readers[claim.record]:
                digits = [len(text.partition(".")[2]) for text in claim.stated]
                pairs = zip(reader(claim), digits, strict=False)
                given = tuple(f"{value * claim.scale:.{places}f}" for value, places in pairs)
                if given != claim.stated:
                    yield f"{claim.name}: stated is {claim.stated}, the record gives {given}"
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            yield f"{claim.name}: record {claim.record!r} has no {list(claim.read)} ({error!r})"


def _reader(record: RecordFile, file: Path) -> Reader:
    """Return what reads a record's values; ConfigError where the record is no evidence."""
    if not file.is_file():
        raise ConfigError(f"{file} is missing")
    raw = file.read_bytes()
    if hashlib.sha256(raw).hexdigest() != record.sha256:
        raise ConfigError(f"{file} has changed: its sha256 is not the stated one")
    is_study = file.name.endswith(_STUDY)
    lines = gzip.decompress(raw).splitlines() if is_study else [raw]
    documents = [json.loads(line) for line in lines]
    for one in documents:
        manifest = configs.parse(one.get("manifest", {}), Manifest, f"{file}: its manifest")
        if manifest.git_is_dirty:
            raise ConfigError(f"{file} is no evidence: its manifest says that the tree was dirty")
        device = "" if manifest.device == "cpu" else f", {manifest.device}"
        machine = f"{manifest.num_cpus} cores of {manifest.cpu}{device}"
        if machine != record.machine:
            raise ConfigError(f"{file} was made on {machine}, not on {record.machine}")
    if is_study and file.name != BASELINES:  # which is read through the studies
        return _study(file)
    return partial(_document, documents[0])


def _tree(root: Path, claim: Claim) -> tuple[float, ...]:
    quantity, *folders = claim.read
    files: set[Path] = set()
    for folder in folders:
        found = set((root / folder.removeprefix("!")).rglob("*.py"))
        files = files - found if folder.startswith("!") else files | found
    if quantity == "lines":
        written = (file for file in files if not file.stem.endswith(("_pb2", "_pb2_grpc")))
        return (float(sum(file.read_text().count("\n") for file in written)),)
    return (float(max(Counter(one.parent for one in files if one.stem != "__init__").values())),)


def _study(file: Path) -> Reader:
    name = file.name.removesuffix(_STUDY)
    cells = studies.cells(studies.load(Path(f"{name}.toml")))
    found = {
        (scenario.name, policy.name): policy
        for scenario in scenario_results(cells, StudyRecords(file.parent, name))
        for policy in scenario.policies
    }
    return lambda claim: found[claim.read[0], claim.read[1]].value(claim.read[2])


def _document(document: Any, claim: Claim) -> tuple[float, ...]:
    found = _selected(document, claim.read)
    if isinstance(found[0], dict):
        return tuple(found[0][key] for key in ("value", "low", "high"))
    under = _selected(document, claim.over) if claim.over else [1.0] * len(found)
    ratios = [one / other for one, other in zip(found, under, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def _selected(document: Any, path: tuple[str, ...]) -> list[Any]:
    """Return what a path leads to; of several lists of numbers the median of each."""
    nodes = [document]
    for step in path:
        nodes = [found for node in nodes for found in _step(node, step)]
    if len(nodes) == 1 and isinstance(nodes[0], list):
        return nodes[0]
    return [statistics.median(node) if isinstance(node, list) else node for node in nodes]


def _step(node: Any, step: str) -> list[Any]:
    if isinstance(node, list):
        return [node[int(step)]]
    if step in node:
        value = node[step]
        return value if isinstance(value, list) and isinstance(value[0], dict) else [value]
    return [node] if step in map(str, node.values()) else []
