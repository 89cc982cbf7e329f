"""What the site shows of the code itself."""

from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from tests.docs.generator import generate

GRAPH = {"observe": {"measure"}, "fit": {"observe", "measure"}, "measure": set(), "draw": {"fit", "measure"}}


def test_a_picture_has_every_box_and_no_arrow_that_longer_ways_imply():
    picture = ElementTree.fromstring(generate.picture(GRAPH))
    name = "{http://www.w3.org/2000/svg}"
    boxes = {text.text: float(text.get("y")) for text in picture.iter(f"{name}text")}
    arrows = [path for path in picture.iter(f"{name}path") if path.get("marker-end")]
    assert boxes.keys() == GRAPH.keys()
    assert boxes["measure"] < boxes["observe"] < boxes["fit"] < boxes["draw"]
    assert len(arrows) == 3


def test_an_arrow_across_rows_bends_around_boxes():
    picture = generate.picture({"a": set(), "b": {"a"}, "c": {"b"}, "x": set(), "d": {"c", "x"}})
    assert picture.count("marker-end") == 4
    assert ">x<" in picture and picture.count("<text") == 5  # bends have no box


def test_the_packages_are_read_from_the_imports():
    graph = generate.package_graph()
    assert "laws" in graph["planning"]
    assert "torch" not in graph and "errors" not in graph
    assert graph["units"] == set()


def test_links_out_of_the_documentation_lead_to_pages_of_sources():
    text = "[law](../../src/stratalaw/laws/forms.py#L3), [page](engine.md), [web](https://a.org), [no](../none.py)"
    links = dict(generate.links_to_sources(text, "explanation/page.md"))
    assert links == {"../../src/stratalaw/laws/forms.py#L3": "src/stratalaw/laws/forms.py"}
    assert generate.source_page("src/stratalaw/laws/forms.py") == "source/src/stratalaw/laws/forms.py.md"


def test_a_page_brought_in_has_its_links_as_seen_from_its_new_place():
    page = generate.brought_in("README.md", "index.md")
    assert "](explanation/ladder.md)" in page and "](../config/README.md)" in page
    assert "](https://arxiv.org/abs/2508.18609)" in page


@pytest.mark.parametrize(
    "loads", ['<script src="https://example.org/a.js">', '<link rel="stylesheet" href=https://example.org/a.css>']
)
def test_a_site_that_loads_from_a_network_is_refused(tmp_path, loads):
    page = tmp_path / "index.html"
    page.write_text('<a href="https://example.org">a link to follow is none</a><script src="a.js"></script>')
    generate.on_post_build(SimpleNamespace(site_dir=str(tmp_path)))
    page.write_text(loads)
    with pytest.raises(SystemExit, match="must open offline"):
        generate.on_post_build(SimpleNamespace(site_dir=str(tmp_path)))


def test_every_source_that_pages_show_has_a_language():
    sources = {
        Path(source)
        for page in Path("docs").rglob("*.md")
        for _, source in generate.links_to_sources(page.read_text(), page.relative_to("docs").as_posix())
    }
    assert {source.suffix for source in sources} <= {*generate.LANGUAGES, ".md"}
