import base64

import nbformat

from dltlab.course import Course
from docs.extensions.course_pages import drop_records, launch_links, split_figures, write_pages


def notebook(*outputs):
    cell = nbformat.v4.new_code_cell(
        outputs=[nbformat.v4.new_output("display_data", {"text/html": html}) for html in outputs]
    )
    return nbformat.v4.new_notebook(cells=[cell])


def test_figures_become_files_with_their_descriptions():
    data = base64.b64encode(b"content").decode()
    executed = notebook(
        "<p>no figure</p>",
        f'<img alt="a &lt; b" width="8" src="data:image/webp;base64,{data}">',
    )

    (figure,) = split_figures("01_my_topic", executed)

    assert (figure.alt, figure.content) == ("a < b", b"content")
    assert executed.cells[0].outputs[1].data["text/html"] == (
        '<img id="figure-1" alt="a &lt; b" width="8" loading="lazy"'
        ' src="figures/01_my_topic/1.webp">'
    )


def test_the_styles_of_jupyterlab_are_left_out_and_tables_scroll():
    executed = notebook("<style onload='x'>a { b: c; }</style><table></table>")

    assert list(split_figures("01_my_topic", executed)) == []
    assert executed.cells[0].outputs[0].data["text/html"] == (
        '<div class="dltlab-table" tabindex="0"><table></table></div>'
    )


def test_recorded_metrics_are_left_out():
    executed = notebook("<p>shown</p>")
    record = {"application/scrapbook.scrap.json+json": {"name": "accuracy", "data": 0.9}}
    executed.cells[0].outputs.append(nbformat.v4.new_output("display_data", record))

    drop_records(executed)

    (output,) = executed.cells[0].outputs
    assert output.data == {"text/html": "<p>shown</p>"}


def test_a_lab_is_run_on_binder_and_colab_from_the_repository():
    links = launch_links("01_my_topic", "https://github.com/someone/dltlab/", "v1")

    assert (
        "https://mybinder.org/v2/gh/someone/dltlab/v1?urlpath=lab/tree/01_my_topic.ipynb" in links
    )
    assert (
        "https://colab.research.google.com/github/someone/dltlab/blob/v1/labs/01_my_topic.ipynb"
        in links
    )


def test_without_a_repository_a_lab_is_downloaded():
    links = launch_links("01_my_topic", "", "main")

    assert "labs/01_my_topic.ipynb" in links
    assert "https:" not in links


def test_every_lab_has_a_page_a_row_of_the_table_and_its_figures_in_the_gallery(tmp_path):
    write_pages(tmp_path, tmp_path / "files", "", "main")

    table, gallery = (
        (tmp_path / "course/index.md").read_text(),
        (tmp_path / "gallery.md").read_text(),
    )
    for name in Course.own().lab_names():
        assert (tmp_path / "course" / f"{name}.ipynb").is_file()
        assert f"({name}.ipynb)" in table
        assert f"course/{name}.html#figure-1" in gallery
    for path in (tmp_path / "files").rglob("*.*"):
        assert str(path.relative_to(tmp_path / "files")) in gallery


def test_the_page_of_a_lab_that_is_no_more_is_removed(tmp_path):
    (tmp_path / "course").mkdir()
    (tmp_path / "course" / "99_gone.ipynb").touch()

    write_pages(tmp_path, tmp_path / "files", "", "main")

    assert not (tmp_path / "course" / "99_gone.ipynb").exists()
