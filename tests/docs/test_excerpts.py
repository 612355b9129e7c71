from docs.extensions.excerpts import Part, parts, with_links

DOCUMENT = """\
# Title

Above.

## First
One.

```
# a comment, not a heading
```

### Second
Two.
"""


def test_a_heading_begins_a_part_except_in_a_block_of_code():
    assert parts(DOCUMENT) == [
        Part(0, "", ""),
        Part(1, "Title", "Above."),
        Part(2, "First", "One.\n\n```\n# a comment, not a heading\n```"),
        Part(3, "Second", "Two."),
    ]


def test_links_lead_to_pages_of_the_site():
    text = "[a](CONTRIBUTING.md#add-a-lab) [b](solutions/01_first.ipynb) [c](benchmarks/README.md)"

    assert with_links(text, "README.md", "") == (
        "[a](/contributing.md#add-a-lab) [b](/course/01_first.ipynb) [c](/benchmarks/index.md)"
    )


def test_links_are_relative_to_the_document():
    text = "[results](results/kernel_start.md)"

    assert with_links(text, "benchmarks/README.md", "") == (
        "[results](/benchmarks/results/kernel_start.md)"
    )


def test_a_file_without_a_page_is_linked_in_the_repository_where_that_is_known():
    blob = "https://github.com/someone/dltlab/blob/main"

    assert with_links("[LICENSE](LICENSE)", "README.md", "") == "LICENSE"
    assert with_links("[LICENSE](LICENSE)", "README.md", blob) == f"[LICENSE]({blob}/LICENSE)"


def test_other_links_are_kept():
    text = "[a](https://example.org/x) [b](#anchor)"

    assert with_links(text, "README.md", "") == text
