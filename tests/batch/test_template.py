import http.server
import socket
import threading

import pytest

from dltlab.batch import read_template
from dltlab.course import Course
from dltlab.errors import Damaged, Invalid, NotFound, Unavailable
from tests.batch.notebooks import write_notebook


@pytest.fixture
def notebook(tmp_path):
    return write_notebook(tmp_path / "train.ipynb", "print(epochs)", parameters="epochs = 3")


def read(name, course=None, **options):
    return read_template(str(name), course or Course.own(), **options)


def test_a_notebook_is_named_by_its_stem_and_found_from_any_folder(notebook, monkeypatch):
    monkeypatch.chdir(notebook.parent)
    template = read("train.ipynb")

    assert (template.name, template.notebook) == ("train", str(notebook))


def test_a_run_is_identified_by_its_parameters_and_its_cells(notebook):
    one, two = (read(notebook).run({"epochs": epochs}) for epochs in (1, 2))
    again = read(notebook).run({"epochs": 1}, timeout=5)
    write_notebook(notebook, "print(epochs + 1)", parameters="epochs = 3")
    changed = read(notebook).run({"epochs": 1})

    assert one.id == again.id
    assert len({one.id, two.id, changed.id}) == 3
    assert one.id.startswith("train-")


def test_outputs_do_not_make_it_another_run(notebook):
    import nbformat

    before = read(notebook).source_hash
    node = nbformat.read(notebook, 4)
    node.cells[1].outputs = [nbformat.v4.new_output("stream", text="3")]
    nbformat.write(node, notebook)

    assert read(notebook).source_hash == before


def test_wrong_parameters_are_refused(notebook):
    with pytest.raises(Invalid, match="train has no parameter 'rate'; it has: epochs"):
        read(notebook).run({"rate": 1})
    with pytest.raises(Invalid, match="train is no lab, so it has no profile 'smoke'"):
        read(notebook).run(profile="smoke")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, NotFound, "There is no notebook"),
        ("{", Damaged, "is not a valid notebook"),
        ("[]", Damaged, "is not a valid notebook"),
        ('{"nbformat": 4, "nbformat_minor": 5}', Damaged, "is not a valid notebook"),
        ("\x00\x01", Damaged, "is not a valid notebook"),
        ("", Damaged, "is not a valid notebook"),
    ],
)
def test_what_is_no_notebook_is_named(tmp_path, content, error, message):
    path = tmp_path / "damaged.ipynb"
    if content is not None:
        path.write_text(content)

    with pytest.raises(error, match=message) as caught:
        read(path)
    assert "damaged.ipynb" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_notebook_that_papermill_runs_need_not_fit_the_schema(tmp_path):
    cell = '{"cell_type": "code", "source": "1", "metadata": {}}'  # no outputs
    head = '"nbformat": 4, "nbformat_minor": 2, "metadata": {}'
    (tmp_path / "loose.ipynb").write_text(f'{{{head}, "cells": [{cell}]}}')

    assert read(tmp_path / "loose.ipynb").run().name == "loose"


def test_bytes_that_are_no_text_are_damaged(tmp_path):
    (tmp_path / "damaged.ipynb").write_bytes(b"\xff\xfe{}")

    with pytest.raises(Damaged, match=r"damaged\.ipynb is not a valid notebook"):
        read(tmp_path / "damaged.ipynb")


@pytest.fixture
def address(notebook):
    """The address of a server of the notebook's folder."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, directory=str(notebook.parent), **options)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_notebook_is_read_from_wherever_papermill_reads(address):
    template = read(f"{address}/train.ipynb")

    assert (template.name, list(template.parameters)) == ("train", ["epochs"])
    with pytest.raises(Damaged, match="is not a valid notebook"):
        read(f"{address}/missing.ipynb")


def test_an_address_that_cannot_be_read_is_named():
    with pytest.raises(Unavailable, match=r"http://127.0.0.1:1/train.ipynb cannot be read"):
        read("http://127.0.0.1:1/train.ipynb")


def test_a_server_that_does_not_answer_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr("dltlab.batch.template.ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        with pytest.raises(Unavailable, match=r"cannot be read \(no answer within 0\.2 s\)"):
            read(f"http://127.0.0.1:{port}/train.ipynb")


@pytest.mark.parametrize("name", ["1", "01", "my_topic", "01_my_topic"])
def test_a_lab_by_number_or_name(built, name):
    template = read(name, built)

    assert template.notebook == str(built.labs / "01_my_topic.ipynb")
    assert template.name == "01_my_topic"
    assert template.lab.name == "01_my_topic"


def test_a_lab_with_the_answers(built):
    solved = read("01", built, solved=True)

    assert solved.notebook == str(built.solutions / "01_my_topic.ipynb")
    assert solved.run().id != read("01", built).run().id


def test_a_profile_sets_the_parameters_of_a_lab_also_of_a_copy(workspace):
    course, copy = workspace.course, workspace.copy("01_my_topic")
    (lab,) = course.read(["01"])
    smoke = lab.front_matter.profiles.smoke

    assert read("01", course).run(profile="smoke").parameters == smoke
    assert read(copy, course).run(profile="smoke").parameters == smoke


def test_a_lab_that_is_not_built_is_named(course):
    with pytest.raises(Unavailable, match=r"01_my_topic.ipynb is missing; make it with: dltlab b"):
        read("01", course)


def test_an_unknown_lab_is_named(built):
    with pytest.raises(NotFound, match=r"There is no lab '99'. The labs are: 01_my_topic"):
        read("99", built)
