"""README and docs say what is so: commands, options, files, links, TOML, Python, the reference."""

import functools
import importlib
import importlib.util
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from protos import config as configs

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
GENERATED = "docs/reference"
LOADERS = {
    "controller/configs/scenarios": "controller.cell.scenario:ScenarioConfig",
    "controller/configs/studies": "controller.studies.study:StudyConfig",
    "controller/configs": "controller.record.config:RunConfig",
    "edge_node/configs": "edge_node.config:NodeConfig",
    "profiling/configs": "profiling.measure.config:ProfileConfig",
}
OTHER_PROGRAMS = {".", "sed", "head", "pip", "pre-commit", "sqlite3", "tensorboard"}
"""In shell blocks, and not ours."""
FOREIGN_NAMES = {"_bps", "_frac", "_hz", "tie_weights", "test_a_leased_model_is_never_evicted"}
"""In backticks, and not names of this code."""
PRIVATE_WORDS = (
    r"referees?\b",
    r"scratch runs?\b",
    r"honest limits",
    r"head[ _]starts?\b",
    r"\btrainings\b",
    r"\ba training\b(?! run)",
    r"yardsticks?\b",
    r"\bone core, s\b",
    r"\bin deadline\b",
    r"\bover random\b",
    r"frame's begin\b",
    r"\bcontenders?\b",
    r"\btamed\b",
    r"deep fades?\b",
    r"what the simulator gets wrong",
)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(kind: str, pages=PAGES):
    """Return (page, text) of every code block of a kind, without its indentation."""
    pattern = re.compile(rf"^( *)```{kind}\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
    return [
        pytest.param(page, re.sub(rf"^{match[1]}", "", match[2], flags=re.MULTILINE), id=label)
        for page in pages
        for number, match in enumerate(pattern.finditer(page.read_text()))
        for label in [f"{name(page)}-{number}"]
    ]


@functools.cache
def reference():
    spec = importlib.util.spec_from_file_location(
        "generate_reference", ROOT / "docs" / "generate_reference.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def help_of(module: str, verb: str) -> str:
    return reference().command_help(module, verb)


@functools.cache
def scripts() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {script: entry.partition(":")[0] for script, entry in project["scripts"].items()}


def called(words: list[str]) -> tuple[str, list[str]] | None:
    """Return the module that a command line calls, and its arguments; None for other programs."""
    if words[:2] == ["python", "-m"]:
        is_package = (ROOT / words[2].replace(".", "/")).is_dir()
        return f"{words[2]}.__main__" if is_package else words[2], words[3:]
    if words[0] == "python":
        return words[1].removesuffix(".py").replace("/", "."), words[2:]
    if words[0] in scripts():
        return scripts()[words[0]], words[1:]
    assert words[0] in OTHER_PROGRAMS, f"what is {words[0]}?"
    return None


def commands(text: str) -> list[list[str]]:
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.mark.parametrize(("page", "text"), blocks("sh"))
def test_every_command_is_there_and_has_the_options_it_is_shown_with(page, text):
    for words in commands(text):
        if words[0] == "make":
            subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
            continue
        call = called(words)
        if call is None or call[0] in ("pytest", "docs.generate_reference"):
            continue
        module, arguments = call
        has_verbs = module.endswith("__main__")
        verb = arguments[0] if has_verbs else ""
        shown = help_of(module, verb)
        assert "usage" in shown, f"{name(page)}: {shlex.join(words)}"
        for option in (one for one in arguments if one.startswith("--")):
            assert re.search(rf"{re.escape(option)}\b", shown), f"{name(page)}: {option}"


@pytest.mark.parametrize(("page", "text"), blocks("sh"))
def test_every_shipped_configuration_that_is_named_exists(page, text):
    shipped = {file.name for file in ROOT.glob("*/configs/**/*.toml")}
    written = {"my-run.toml", "my-node.toml", "my-profile.toml", "my-scenario.toml"}
    written.add("attached.toml")  # the tutorial's own

    for words in commands(text):
        named = {words[i + 1] for i, word in enumerate(words[:-1]) if word == "--config"}
        unknown = {Path(one).name for one in named if one.endswith(".toml")} - shipped - written
        assert not unknown, name(page)


@pytest.mark.parametrize(("page", "text"), blocks("toml"))
def test_every_toml_block_is_read_by_its_program(page, text):
    first = re.match(r"# (\S+/configs/\S+\.toml), changed\n", text)
    assert first, f"{name(page)}: say in the first line which shipped file the block changes"
    file = ROOT / first[1]
    folder = name(file.parent)

    module, _, cls = LOADERS[folder].partition(":")
    raw = tomllib.loads(file.read_text()) | tomllib.loads(text)
    configs.parse(raw, getattr(importlib.import_module(module), cls), first[1])


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_every_python_block_runs(page, text):
    exec(compile(text, name(page), "exec"), {"__name__": "docs"})


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name(page)}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{name(page)}: {target}"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in headings}


@functools.cache
def words_of_the_code() -> set[str]:
    files = [ROOT / "Makefile", *ROOT.glob(".ci/*")]
    for pattern in ("*.py", "*.toml", "*.proto"):
        files += [file for file in ROOT.rglob(pattern) if ".venv" not in file.parts]
    return {word for file in files for word in re.findall(r"\w+", file.read_text())}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_name_of_the_code_is_there(page):
    if page.name == "CHANGELOG.md":  # which names what was before
        return
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    names = re.findall(r"`([A-Za-z_][\w.]*)(?:\(.*?\))?`", text)
    unknown = {one for one in names for part in one.split(".") if part not in words_of_the_code()}
    assert unknown <= FOREIGN_NAMES


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_path_that_is_named_exists(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    paths = re.findall(
        r"`((?:controller|edge_node|profiling|protos|tests|docs|results)/.*?)`", text
    )
    gone = {path for path in paths if "<" not in path and not any(ROOT.glob(path.rstrip("/")))}
    if page.name == "CHANGELOG.md":
        gone.discard("controller/configs/live-random.toml")
    assert not gone


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_docs_use_the_words_of_the_field(page):
    text = page.read_text()
    if page.name == "CHANGELOG.md":  # which must name what was renamed
        text = re.sub(r"^\|.*|^- Studies.*", "", text, flags=re.MULTILINE)
    found = [m[0] for word in PRIVATE_WORDS for m in re.finditer(word, text, re.IGNORECASE)]
    assert not found


def test_every_page_that_the_code_names_exists():
    files = [file for file in ROOT.rglob("*.py") if ".venv" not in file.parts]
    files += ROOT.glob("edge_node/zoo/weights/*/model_card.md")
    named = {page for file in files for page in re.findall(r"docs/[\w/-]+\.md", file.read_text())}
    assert [page for page in named if not (ROOT / page).is_file()] == []


def test_every_page_is_reached_from_the_index():
    linked = set()
    for index in (ROOT / "docs/README.md", ROOT / "docs/results/README.md"):
        targets = re.findall(r"\]\(([^)#\s]+)", index.read_text())
        linked |= {(index.parent / target).resolve() for target in targets}

    missing = [name(page) for page in ROOT.glob("docs/**/*.md") if page not in linked]
    assert missing == ["docs/README.md"]


def test_the_reference_says_what_the_code_says():
    stale = [name(file) for file, _ in reference().outdated()]
    assert not stale, "run: python docs/generate_reference.py"


def test_every_field_of_a_configuration_has_a_text():
    page = (ROOT / GENERATED / "configuration.md").read_text()
    assert not re.findall(r"^\| `(\w+)` .*\|  \|$", page, flags=re.MULTILINE)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", citation, flags=re.MULTILINE)[1] == project["version"]
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()
