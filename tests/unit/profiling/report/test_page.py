import doctest

import pytest

from profiling.report import page

PNG = b"\x89PNG\r\n\x1a\n"


def html_of(*blocks: str, folder=None) -> str:
    return page.to_html("\n\n".join(blocks), folder)


def test_a_page_is_the_same_in_both_forms(tmp_path):
    blocks = ["# Title", "Text & more", page.items(["one", "two"]), page.table(["a"], [["x"]])]

    written = page.write(blocks, tmp_path).read_text()

    text = "# Title\n\nText & more\n\n- one\n- two\n\n| a |\n| --- |\n| x |\n"
    assert (tmp_path / "report.md").read_text() == text
    assert "<title>Title</title>" in written
    assert "<h1>Title</h1>\n<p>Text &amp; more</p>\n<ul>\n<li>one</li>" in written
    assert "<th>a</th>" in written
    assert "<td>x</td>" in written


@pytest.mark.parametrize(
    "words",
    [
        "<b>bold</b> & <script>",
        "*stars* _lines_ ~~gone~~ `code` \\",
        "[a link](http://there) ![a picture](x.png)",
        "# no title",
        "1. no item",
        "12) no item",
        "- no item",
        "a | b &amp; c",
        "=== no title",
    ],
)
def test_words_of_users_stay_words(words):
    shown = words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    written = html_of(
        page.plain(words), page.items([page.plain(words)]), page.table(["h"], [[page.plain(words)]])
    )

    assert f"<p>{shown}</p>" in written
    assert f"<li>{shown}</li>" in written
    assert f">{shown}</td>" in written


def test_words_of_users_stay_on_their_line():
    assert page.plain("one\n\ntwo\t three") == "one two three"


def test_pictures_are_inside_the_page(tmp_path):
    (tmp_path / "a b.png").write_bytes(PNG)

    written = html_of(page.picture("a b.png", "what it shows"), folder=tmp_path)

    assert '<img src="data:image/png;base64,iVBORw0KGgo=" alt="what it shows"' in written


def test_columns_of_numbers_are_aligned_to_the_right():
    rows = [["a", "1.5 [1, 2]", "3"], ["b", "-2", ""]]
    assert page.table(["name", "value", "n"], rows).splitlines()[1] == "| --- | ---: | ---: |"
    assert page.table(["name"], []) == "| name |\n| --- |"


def test_the_doctests_hold():
    found = doctest.testmod(page)
    assert found.attempted
    assert not found.failed
