"""A document of plain blocks, written as Markdown and as one self-contained HTML page.

Owns layout. Refuses to know what the blocks say.
"""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;"
    "color:#222}table{border-collapse:collapse;margin:1rem 0;font-size:.9rem;display:block;"
    "overflow-x:auto}td,th{border-bottom:1px solid #ddd;padding:.3rem .7rem;text-align:right}"
    "td:first-child,th:first-child{text-align:left}img{max-width:100%}"
    ".gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(9rem,1fr));gap:1rem}"
    "figure{margin:0;font-size:.8rem}figure img{width:100%;image-rendering:pixelated}"
    "@media(prefers-color-scheme:dark){body{background:#16181c;color:#ddd}p>img{background:#fff}}"
)


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading; the first of a document is its title."""

    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Bullet points."""

    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table; every row has as many cells as the head."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG."""

    path: str
    """Relative to the document: Markdown links to it."""
    data: bytes
    """HTML holds it."""
    caption: str


@dataclass(frozen=True, slots=True)
class Gallery:
    """Small pictures side by side."""

    pictures: Sequence[Picture]


Block = Heading | Paragraph | Listing | Grid | Picture | Gallery


def to_markdown(blocks: Sequence[Block]) -> str:
    """Return the document as Markdown; pictures are links."""
    parts, level = [], "#"
    for block in blocks:
        match block:
            case Heading():
                parts.append(f"{level} {block.text}")
                level = "##"
            case Paragraph():
                parts.append(block.text)
            case Listing():
                parts.append("\n".join(f"- {item}" for item in block.items))
            case Grid():
                parts.append(_markdown_table(block))
            case Picture():
                parts.append(f"![{block.caption}]({block.path})")
            case Gallery():
                parts += [f"![]({one.path}) {one.caption}" for one in block.pictures]
    return "\n\n".join(parts) + "\n"


def _markdown_table(grid: Grid) -> str:
    lines = [grid.head, ["---"] * len(grid.head), *grid.rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def to_html(blocks: Sequence[Block]) -> str:
    """Return the document as one page that needs no other file."""
    parts, tag, title = [], "h1", ""
    for block in blocks:
        match block:
            case Heading():
                parts.append(f"<{tag}>{html.escape(block.text)}</{tag}>")
                tag, title = "h2", title or block.text
            case Paragraph():
                parts.append(f"<p>{html.escape(block.text)}</p>")
            case Listing():
                items = "".join(f"<li>{html.escape(item)}</li>" for item in block.items)
                parts.append(f"<ul>{items}</ul>")
            case Grid():
                rows = _html_row("th", block.head)
                rows += "".join(_html_row("td", row) for row in block.rows)
                parts.append(f"<table>{rows}</table>")
            case Picture():
                parts.append(f"<p>{_html_image(block)}</p>")
            case Gallery():
                figures = "".join(
                    f"<figure>{_html_image(one)}<figcaption>{html.escape(one.caption)}"
                    "</figcaption></figure>"
                    for one in block.pictures
                )
                parts.append(f'<div class="gallery">{figures}</div>')
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>\n"
        + "\n".join(parts)
        + "\n</html>\n"
    )


def _html_row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _html_image(picture: Picture) -> str:
    data = base64.b64encode(picture.data).decode()
    return f'<img alt="{html.escape(picture.caption)}" src="data:image/png;base64,{data}">'
