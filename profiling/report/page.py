"""Pages as blocks, written as Markdown and as one HTML file that needs no other.

Owns the two formats. Refuses to know what a page says.
"""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#222}table{border-collapse:collapse;margin:1rem 0;font-size:.9rem;display:block;"
    "overflow-x:auto}td,th{border-bottom:1px solid #ddd;padding:.3rem .7rem;text-align:right}"
    "td:first-child,th:first-child{text-align:left}img{max-width:100%}"
    "@media(prefers-color-scheme:dark){body{background:#16181c;color:#ddd}img{background:#fff}}"
)


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading; the page's first is its title."""

    words: str


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    words: str


@dataclass(frozen=True, slots=True)
class Items:
    """A numbered list."""

    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells; the first row is the head."""

    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG by its file's name, and what it shows."""

    name: str
    shows: str


Block = Heading | Text | Items | Table | Picture


def markdown(blocks: Sequence[Block]) -> str:
    """Return the page as Markdown; pictures are links to files beside it."""
    parts, level = [], "#"
    for block in blocks:
        match block:
            case Heading(words):
                parts.append(f"{level} {words}")
                level = "##"
            case Text(words):
                parts.append(words)
            case Items(items):
                parts.append("\n".join(f"{n}. {item}" for n, item in enumerate(items, start=1)))
            case Table(rows):
                head, *rest = (f"| {' | '.join(row)} |" for row in rows)
                parts.append("\n".join([head, "|" + "---|" * len(rows[0]), *rest]))
            case Picture(name, shows):
                parts.append(f"![{shows}]({name})")
    return "\n\n".join(parts) + "\n"


def to_html(blocks: Sequence[Block], pictures: Mapping[str, bytes]) -> str:
    """Return the page as HTML, with the pictures (PNG by name) inside it."""
    parts, tag, title = [], "h1", ""
    for block in blocks:
        match block:
            case Heading(words):
                parts.append(f"<{tag}>{html.escape(words)}</{tag}>")
                title, tag = title or words, "h2"
            case Text(words):
                parts.append(f"<p>{html.escape(words)}</p>")
            case Items(items):
                cells = "".join(f"<li>{html.escape(item)}</li>" for item in items)
                parts.append(f"<ol>{cells}</ol>")
            case Table(rows):
                lines = [_row(row, "td" if index else "th") for index, row in enumerate(rows)]
                parts.append(f"<table>{''.join(lines)}</table>")
            case Picture(name, shows):
                data = base64.b64encode(pictures[name]).decode()
                label = html.escape(shows)
                parts.append(f'<p><img alt="{label}" src="data:image/png;base64,{data}"></p>')
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>\n"
        + "\n".join(parts)
        + "\n</html>\n"
    )


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"
