"""The built site: links, anchors, images, and that it needs nothing from elsewhere."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from dltlab.course import Course
from docs.extensions.reference_pages import MODULES, exported, rooms
from tests.docs.site import REPOSITORY, Element, elements

# Attributes whose addresses a browser loads when it shows the page.
LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src")}


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, list[Element]]:
    """The start tags of each page."""
    paths = [path for path in sorted(site.rglob("*.html")) if site / "_static" not in path.parents]
    return {path: elements(path) for path in paths}


def anchors(tags: list[Element]) -> set[str]:
    names = {tag.attributes.get("id") for tag in tags} | {
        tag.attributes.get("name") for tag in tags if tag.tag == "a"
    }
    return {name for name in names if name}


def broken(site: Path, pages: dict[Path, list[Element]]) -> Iterator[str]:
    """Yield the internal links of each page that lead nowhere."""
    known = {path: anchors(tags) for path, tags in pages.items()}
    for page, tags in pages.items():
        for tag in tags:
            for name in ("href", "src"):
                address = urlsplit(tag.attributes.get(name) or "")
                if address.scheme or address.netloc or not (address.path or address.fragment):
                    continue
                target = (page.parent / unquote(address.path)).resolve() if address.path else page
                place = f"{page.relative_to(site)}: {tag.attributes[name]}"
                if not target.is_file() or unquote(address.fragment) not in known.get(
                    target, set()
                ) | {""}:
                    yield place


def test_every_internal_link_leads_to_a_file_and_an_anchor(site, pages):
    resolved = {path.resolve(): tags for path, tags in pages.items()}

    assert list(broken(site.resolve(), resolved)) == []


def test_no_page_has_two_elements_with_one_id(site, pages):
    for page, tags in pages.items():
        ids = [tag.attributes["id"] for tag in tags if tag.attributes.get("id")]
        assert sorted({name for name in ids if ids.count(name) > 1}) == [], page.relative_to(site)


def test_every_image_has_a_description(site, pages):
    for page, tags in pages.items():
        missing = [
            tag.attributes.get("src")
            for tag in tags
            if tag.tag == "img" and not (tag.attributes.get("alt") or "").strip()
        ]
        assert missing == [], page.relative_to(site)


def test_every_diagram_has_a_title(site, pages):
    diagrams = [
        text
        for page in pages
        for text in re.findall(r'(?s)<svg class="dltlab-diagram".*?</svg>', page.read_text())
    ]

    assert len(diagrams) == len([*(REPOSITORY / "docs/how_it_works").glob("*.svg")])
    assert all("<title id=" in text for text in diagrams)


def test_no_page_loads_anything_from_elsewhere(site, pages):
    for page, tags in pages.items():
        loaded = [
            address
            for tag in tags
            for name, address in tag.attributes.items()
            if ((tag.tag, name) in LOADED or (tag.tag == "link" and name == "href"))
            and urlsplit(address or "").netloc
        ]
        assert loaded == [], page.relative_to(site)


def test_every_public_name_has_an_entry(site, pages):
    documented = {
        page.stem: anchors(tags) for page, tags in pages.items() if page.parent.name == "reference"
    }
    modules = MODULES | {f"dltlab.{room}": exported(room) for room in rooms()}

    missing = [
        f"{module}.{name}"
        for module, names in modules.items()
        for name in names
        if f"{module}.{name}" not in documented[module]
    ]

    assert missing == []


def test_every_lab_has_a_page_with_its_launch_links(site, pages):
    for name in Course.own().lab_names():
        links = {tag.attributes.get("href") for tag in pages[site / "course" / f"{name}.html"]}
        assert any(link and link.startswith("https://mybinder.org/v2/gh/") for link in links)
        assert any(link and link.startswith("https://colab.research.google.com/") for link in links)
        assert any(
            link and link.endswith(f"{name}.ipynb") and "_downloads" in link for link in links
        )


def test_the_site_is_small(site):
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())

    assert size < 30e6
