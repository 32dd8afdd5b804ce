"""Report pages: Markdown for a repository, and one HTML file that needs no other.

Responsible for how pages and their figures look, and for words that must not become markup. Not:
what they say.

A page is a list of Markdown blocks; its first block is the title. A list whose items begin with
pictures is shown as a gallery. Words that users wrote (prompts, reasons) go through ``plain``.
"""

import base64
import html
import io
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, unquote

from markdown_it import MarkdownIt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from protos.manifest import Manifest

_STYLE = """
:root{color-scheme:light dark;--line:#dfe3e8;--soft:#f5f7f9;--muted:#5b6570}
body{font:16px/1.55 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1.2rem;
color:#1f2328;background:#fff}
h1{font-size:1.8rem;line-height:1.2}
h2{font-size:1.25rem;margin-top:2.4rem;padding-bottom:.3rem;border-bottom:1px solid var(--line)}
p,ol,ul{max-width:46rem}
table{border-collapse:collapse;margin:1rem 0;font-size:.88rem;display:block;overflow-x:auto;
font-variant-numeric:tabular-nums}
td,th{border-bottom:1px solid var(--line);padding:.35rem .8rem;text-align:left}
th{background:var(--soft);font-weight:600}
td[style*=right]{white-space:nowrap}
img{max-width:100%}
p>img{background:#fff;border-radius:6px}
ul:has(>li>img){display:grid;grid-template-columns:repeat(auto-fill,minmax(9rem,1fr));gap:1rem;
max-width:none;list-style:none;padding:0}
li:has(>img){font-size:.8rem;line-height:1.35;color:var(--muted)}
li>img{display:block;width:100%;margin-bottom:.3rem;image-rendering:pixelated;border-radius:4px}
@media(prefers-color-scheme:dark){:root{--line:#333a42;--soft:#1e2329;--muted:#9aa5b1}
body{background:#14171a;color:#d8dee4}}
"""


def write(blocks: Sequence[str], folder: Path) -> Path:
    """Write report.md and report.html, whose pictures lie in the folder; return the latter."""
    text = "\n\n".join(blocks) + "\n"
    (folder / "report.md").write_text(text)
    page = folder / "report.html"
    page.write_text(to_html(text, folder))
    return page


def to_html(text: str, folder: Path) -> str:
    """Return a Markdown page as HTML, with the PNGs that it links to (relative paths) inside."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    for image in (child for token in tokens for child in token.children or ()):
        if image.type == "image":
            data = (folder / unquote(str(image.attrs["src"]))).read_bytes()
            image.attrs["src"] = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    first = next((token.children for token in tokens if token.children), ())
    title = "".join(child.content for child in first)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>\n"
        f"{parser.renderer.render(tokens, parser.options, {})}</html>\n"
    )


def plain(text: str) -> str:
    r"""Return words on one line that Markdown shows as they are.

    >>> print(plain("<b> *and* [so]\n on"))
    \<b\> \*and\* \[so\] on
    """
    line = re.sub(r"[\\`*_\[\]<>&~]", r"\\\g<0>", " ".join(text.split()))
    return re.sub(r"^(\d*)([#+=.)-])", r"\1\\\2", line)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; a column of numbers is aligned to the right."""
    columns = zip(*rows, strict=True) if rows else [()] * len(head)
    ends = [
        "---:" if any(cells) and all(re.match(r"[-+]?\d|$", cell) for cell in cells) else "---"
        for cells in columns
    ]
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (head, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], ends, *lines[1:]))


def items(lines: Sequence[str], *, is_numbered: bool = False) -> str:
    """Return a list of bullet points, or a numbered one."""
    return "\n".join(f"{f'{n}.' if is_numbered else '-'} {line}" for n, line in enumerate(lines, 1))


def picture(path: str, shows: str) -> str:
    """Return a picture by its path in the page's folder, and what it shows."""
    return f"![{shows}]({quote(path)})"


def origin(manifest: Manifest) -> list[str]:
    """Return where a measurement comes from, as items."""
    state = " with uncommitted changes" if manifest.git_is_dirty else ""
    packages = ", ".join(f"{name} {version}" for name, version in manifest.packages.items())
    driver = f" ({manifest.driver})" if manifest.driver else ""
    return [
        f"command: {plain(manifest.command)}",
        f"code: {manifest.git_sha[:12]}{state}",
        f"Python {manifest.python}; {packages}",
        f"{manifest.cpu}, {manifest.num_cpus} cores, {manifest.memory_bytes / 1e9:.1f} GB;"
        f" {plain(manifest.host)}; device {manifest.device}{driver}; {manifest.created_utc}",
    ]


def axes(width_in: float, height_in: float, x: str, y: str = "") -> tuple[Figure, Axes]:
    """Return an empty figure in the style of the pages, and its axes with their labels."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    found = figure.add_subplot(xlabel=x, ylabel=y)
    found.spines[["top", "right"]].set_visible(False)
    return figure, found


def png(figure: Figure) -> bytes:
    """Return a figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
