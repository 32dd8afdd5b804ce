"""The reference pages, written from what they describe.

    python docs/generate_reference.py            write docs/reference
    python docs/generate_reference.py --check    name the pages that are not up to date, exit 1

Configuration and record columns come from the dataclasses and the strings under their fields,
commands from their own ``--help``, gRPC from the comments of the ``.proto`` files, metrics from the
docstring of controller/training/metrics.py. Responsible for their layout; not for the texts, which
are corrected where the code has them.
"""

import ast
import contextlib
import functools
import importlib
import inspect
import io
import os
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_PAGES = _ROOT / "docs" / "reference"
_NOTICE = "<!-- Written by docs/generate_reference.py: change the docstrings, then run it. -->"

_CONFIGS = {
    "A live run": ("controller.record.config:RunConfig", "controller run", "controller/configs/"),
    "A scenario": (
        "controller.cell.scenario:ScenarioConfig",
        "controller train, levers and evaluate",
        "controller/configs/scenarios/",
    ),
    "A training run": (
        "controller.training.run_folder:TrainConfig",
        "controller train",
        "controller/configs/",
    ),
    "A study": (
        "controller.studies.study:StudyConfig",
        "controller sweep",
        "controller/configs/studies/",
    ),
    "An edge node or a cloud": (
        "edge_node.config:NodeConfig",
        "edge_node serve",
        "edge_node/configs/",
    ),
    "A profile": (
        "profiling.measure.config:ProfileConfig",
        "profiling/fit_curves.py",
        "profiling/configs/",
    ),
}
_RECORDS = {
    "requests": "controller.record.request_log:RequestRecord",
    "caches": "controller.record.request_log:CacheRecord",
    "nodes": "controller.record.request_log:NodeRecord",
}
_COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "edge_node": ("edge_node.__main__", ("serve",)),
    "controller": (
        "controller.__main__",
        ("run", "report", "compare", "levers", "train", "evaluate", "sweep", "claims"),
    ),
    "profiling/fit_curves.py": ("profiling.fit_curves", ()),
    "edge_node.zoo.train": ("edge_node.zoo.train", ()),
    "edge_node.zoo.evaluate": ("edge_node.zoo.evaluate", ()),
    "profiling.bench": ("profiling.bench.__main__", ("serving", "loading", "gpu", "check")),
}
_TOOLS = {
    "protos.compile": "protos/compile.py",
}
_PROTO = (
    (
        r"service (\w+)",
        "\n## `{0}`\n\n| call | request | answer | meaning |\n|---|---|---|---|",
    ),
    (r"rpc (\w+)\((.*?)\) returns \((.*?)\)", "| `{0}` | `{1}` | `{2}` | {text} |"),
    (r"message (\w+) \{\}", "\n### `{0}`\n\n{text}No fields."),
    (
        r"(?:message|enum) (\w+) \{",
        "\n### `{0}`\n\n{text}\n\n| name | type | number | meaning |\n|---|---|---|---|",
    ),
    (r"((?:optional |repeated )?\S+) (\w+) = (\d+);", "| `{1}` | {0} | {2} | {text} |"),
    (r"(\w+) = (\d+);", "| `{0}` | | {1} | {text} |"),
)
"""What a line of a .proto file becomes; the first pattern that fits counts."""


def configuration() -> str:
    """Return the page of every TOML file's fields."""
    parts = [
        "# Configuration\n",
        "Every field of the TOML files. A field is also an option of the command that reads the "
        "file: `radio.bandwidth_hz` is `--radio.bandwidth-hz`. Unknown keys, wrong types and "
        "values out of bounds are refused by a message that names the file, the key and the "
        "value. Paths start at the working directory; shipped files are also found by their bare "
        "name, such as `live-demo.toml`.\n",
    ]
    titles = _titles()
    parts += [f"- [{title}](#{_anchor(title)})" for title in _CONFIGS]
    for cls, title in titles.items():
        if title not in _CONFIGS:
            parts.append(f"\n### {title}\n\n{_summary(cls)}\n\n{_table(cls)}")
            continue
        _, command, folder = _CONFIGS[title]
        parts.append(
            f"\n## {title}\n\n{_summary(cls)} `{cls.__name__}`, read by `{command}`; examples: "
            f"`{folder}`.\n\n{_table(cls)}"
        )
    return "\n".join(parts) + "\n"


def records() -> str:
    """Return the page of the columns of a run's database."""
    parts = [
        "# Records of a live run\n\n`requests.sqlite` in a run's folder holds three tables. Times "
        "are seconds, sizes bytes, rates bits per second; a column without a value is NULL."
    ]
    for table, path in _RECORDS.items():
        cls = _class(path)
        rows = [
            f"| `{one.name}` | {_type(typing.get_type_hints(cls)[one.name])} | {meaning} |"
            for one, meaning in _documented(cls)
        ]
        head = "| column | type | meaning |\n|---|---|---|"
        parts.append(f"\n## `{table}`\n\n{_summary(cls)}\n\n{head}\n" + "\n".join(rows))
    return "\n".join(parts) + "\n"


def metrics() -> str:
    """Return the page of the keys that a training run logs."""
    text = inspect.getdoc(importlib.import_module("controller.training.metrics")) or ""
    before, _, rest = text.partition("All keys:\n")
    listing, _, after = rest.strip("\n").partition("\n\n")
    rows = [re.split(r"\s{2,}|(?<=score) ", line.strip(), maxsplit=1) for line in
            listing.splitlines()]  # fmt: skip
    table = "\n".join(f"| `{key}` | {meaning.strip()} |" for key, meaning in rows)
    return (
        f"# Metrics of a training run\n\n{before.strip()}\n\n| key | meaning |\n|---|---|\n"
        f"{table}\n\n{after.strip()}\n"
    )


def commands() -> str:
    """Return the page of every command's own help."""
    parts = [
        "# Command line\n\nThe help texts of the commands, as `--help` prints them. Exit codes: 0 "
        "done, 1 failed or interrupted, 2 bad usage or configuration."
    ]
    for program, (module, verbs) in _COMMANDS.items():
        called = program if program.endswith(".py") else f"-m {program}"
        for verb in verbs or ("",):
            heading = f"python {called} {verb}".strip()
            parts.append(f"\n## `{heading}`\n\n```text\n{command_help(module, verb)}\n```")
    parts.append("\n## Tools\n\n`--help` of each lists its options.")
    for module, file in _TOOLS.items():
        docstring = ast.get_docstring(ast.parse((_ROOT / file).read_text())) or ""
        parts.append(f"\n### `python -m {module}`\n\n```text\n{docstring}\n```")
    return "\n".join(parts) + "\n"


def grpc() -> str:
    """Return the page of services, messages, enums and errors."""
    parts = [
        "# gRPC\n\nThe wire contract, `protos/*.proto`. Units are in the names. Server reflection "
        "and health checking are on, so `grpcurl` works. A failed call carries one status code and "
        "a message that names the thing, the limit and the value."
    ]
    for name in ("edge_node", "controller"):
        parts += _proto((_ROOT / "protos" / f"{name}.proto").read_text().splitlines())
    errors = importlib.import_module("protos.errors")
    rows = [
        f"| `{error.__name__}` | `{code.name}` | {_summary(error)} |"
        for code, error in errors.BY_CODE.items()
    ]
    parts.append("\n## Errors\n\n| class | status code | meaning |\n|---|---|---|")
    parts += rows
    return "\n".join(parts) + "\n"


def command_help(module: str, verb: str) -> str:
    """Return what a command prints for ``--help``, 100 columns wide and without colours."""
    printed, argv, environment = io.StringIO(), sys.argv, dict(os.environ)
    sys.argv = [module.partition(".__main__")[0], *filter(None, [verb]), "--help"]
    os.environ["COLUMNS"] = "100"
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            importlib.import_module(module).main()
    finally:
        sys.argv = argv
        os.environ.clear()
        os.environ.update(environment)
    text = re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue())
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def documented_fields(cls: type) -> Iterator[tuple[str, str]]:
    """Yield a dataclass's fields with the strings under them, "" where there is none."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    if not isinstance(tree, ast.ClassDef):
        raise TypeError(f"{cls} is no class")
    for statement, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = ""
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                text = str(following.value.value)
            yield statement.target.id, " ".join(text.split())


def _documented(cls: type) -> Iterator[tuple[Field[Any], str]]:
    texts = dict(documented_fields(cls))
    for one in fields(cls):
        yield one, texts[one.name].replace("|", "\\|")


def _table(cls: type) -> str:
    hints = typing.get_type_hints(cls)
    rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for one, meaning in _documented(cls):
        inner = _dataclass_in(hints[one.name])
        text = meaning or (_summary(inner) if inner else "")
        rows.append(f"| `{one.name}` | {_type(hints[one.name])} | {_default(one)} | {text} |")
    return "\n".join(rows)


@functools.cache
def _titles() -> dict[type, str]:
    """Return each documented class and its heading, in the order of the page."""
    roots = {_class(path): title for title, (path, _, _) in _CONFIGS.items()}
    titles: dict[type, str] = {}
    for root, title in roots.items():
        titles[root] = title
        for cls in _nested(root):
            name = cls.__name__
            if cls not in roots:
                is_taken = any(one is not cls and one.__name__ == name for one in titles)
                titles.setdefault(cls, f"{name} ({title.lower()})" if is_taken else name)
    return titles


def _nested(cls: type) -> Iterator[type]:
    for hint in typing.get_type_hints(cls).values():
        inner = _dataclass_in(hint)
        if inner:
            yield inner
            yield from _nested(inner)


def _dataclass_in(hint: Any) -> type | None:
    return next((one for one in (hint, *typing.get_args(hint)) if is_dataclass(one)), None)


def _type(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return ", ".join(f'`"{one}"`' for one in args)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_type(one) for one in args if one is not type(None))
    if origin is tuple and args[-1] is Ellipsis:
        return f"list of {_type(args[0])}"
    if origin is tuple:
        return f"{len(args)} x {_type(args[0])}"
    if origin is dict:
        return f"table of {_type(args[1])}"
    if is_dataclass(hint):
        return f"[{hint.__name__}](#{_anchor(_titles()[hint])})"
    names = {str: "string", int: "integer", float: "number", bool: "true or false"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _default(one: Field[Any]) -> str:
    if one.default is MISSING and one.default_factory is MISSING:
        return "required"
    value = one.default if one.default is not MISSING else one.default_factory()
    if is_dataclass(value):
        return "its defaults"
    return f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return "{}" if value == {} else str(value)


def _class(path: str) -> type:
    module, _, name = path.partition(":")
    found: type = getattr(importlib.import_module(module), name)
    return found


def _summary(cls: type) -> str:
    return " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")


def _proto(lines: list[str]) -> Iterator[str]:
    comment: list[str] = []
    oneof = ""
    for line in map(str.strip, lines):
        if line.startswith("//"):
            comment.append(line.removeprefix("//").strip())
            continue
        if line.startswith("oneof"):
            oneof = f"One of `{line.split()[1]}`. "
        if line == "}":
            oneof = ""
        text = oneof + " ".join(comment).replace("|", "\\|")
        comment = []
        for pattern, template in _PROTO:
            if match := re.match(pattern, line):
                yield template.format(*match.groups(), text=text)
                break


PAGES: dict[str, Callable[[], str]] = {
    "command-line.md": commands,
    "configuration.md": configuration,
    "grpc.md": grpc,
    "metrics.md": metrics,
    "records.md": records,
}


def outdated() -> Iterator[tuple[Path, str]]:
    """Yield the pages whose file differs from what the code says now, with that text."""
    for name, page in PAGES.items():
        file = _PAGES / name
        text = re.sub(r"\n{3,}", "\n\n", f"{_NOTICE}\n\n{page().rstrip()}\n")
        text = re.sub(r"(?<!`)``(?!`)", "`", text)  # docstrings are not Markdown
        if not file.is_file() or file.read_text() != text:
            yield file, text


def main() -> int:
    """Write the pages, or check them; return the exit code."""
    sys.path[0] = str(_ROOT)
    stale = list(outdated())
    for file, text in stale:
        if sys.argv[1:] != ["--check"]:
            file.write_text(text)
        sys.stdout.write(f"{file.relative_to(_ROOT)}\n")
    return 1 if stale and sys.argv[1:] == ["--check"] else 0


if __name__ == "__main__":
    sys.exit(main())
