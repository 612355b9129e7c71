import importlib
from typing import Any

import numpy as np
import pytest

from dltlab.course import read_lab
from dltlab.errors import Invalid, NotFound
from dltlab.exercises import lab_of, reference
from dltlab.exercises.source import is_stub

NAME = "mean_squared_error"


@pytest.fixture
def lab(source):
    return read_lab(source)


@pytest.fixture
def add(source):
    """Return a function that adds a cell to the end of the lab and reads it again."""

    def at_its_end(cell: str):
        source.write_text(f"{source.read_text()}\n{cell}")
        return read_lab(source)

    return at_its_end


@pytest.fixture
def function():
    """Return a function that runs a learner's cell and returns what it defines."""

    def define(cell: str):
        namespace: dict[str, Any] = {}
        exec(cell, namespace)
        return namespace[NAME]

    return define


def test_a_module_finds_the_lab_of_its_topic_in_the_folders_above_it(course, source):
    importlib.import_module("checks.my_topic")

    assert lab_of("checks.my_topic").path == source


def test_a_module_finds_the_lab_of_its_topic_in_the_course_of_this_session(
    course, source, monkeypatch
):
    monkeypatch.setenv("DLTLAB_COURSE", str(course.root))

    assert lab_of("elsewhere.my_topic").path == source


def test_a_module_of_dltlab_finds_its_lab_from_any_course(course, monkeypatch):
    monkeypatch.setenv("DLTLAB_COURSE", str(course.root))

    assert lab_of("dltlab.checks.first_network").name == "01_first_network"


def test_a_module_without_a_lab_is_an_error(course):
    with pytest.raises(NotFound, match="No lab of the course is called 'nothing'"):
        lab_of("checks.nothing")


def test_the_reference_is_the_function_of_the_solution_cell(lab):
    assert reference(lab, NAME)(np.array([1.0, 3.0]), np.array([2.0, 1.0])) == 2.5


def test_the_reference_sees_the_imports_that_it_uses_and_nothing_else(lab):
    namespace = reference(lab, NAME).__globals__

    assert {"np", NAME} <= namespace.keys()
    assert not {"ex", "SAMPLES", "truth", "rng"} & namespace.keys()


def test_a_function_that_needs_more_than_imports_is_an_error_with_its_line(add):
    lab = add("# %%\ndef scaled(x=SAMPLES):\n    return x\n")

    with pytest.raises(Invalid) as caught:
        reference(lab, "scaled")

    line = lab.path.read_text().splitlines().index("def scaled(x=SAMPLES):") + 1
    assert f"01_my_topic.py:{line}: 'scaled' cannot be defined from the imports" in str(
        caught.value
    )
    assert "NameError" in str(caught.value)


def test_the_stub_itself_is_the_stub(lab):
    assert is_stub(lab, NAME, reference(lab, NAME, stub=True))
    assert not is_stub(lab, NAME, reference(lab, NAME))


@pytest.mark.parametrize(
    "body",
    ["...", "pass", "return", "return None", '"""Mine."""', "# hm\n    ...", "...  # what now?"],
)
@pytest.mark.parametrize("arguments", ["predictions, truth", "a, b: int = 1"])
def test_a_function_without_code_is_a_stub(lab, function, arguments, body):
    assert is_stub(lab, NAME, function(f"def {NAME}({arguments}):\n    {body}\n"))


def test_a_stub_that_calls_a_function_of_an_imported_module_is_a_stub(add):
    stub = "def ordered(x):\n    x = np.sort(x)\n    ..."
    lab = add(f"# %%\nimport numpy as np\n\n# %%\n{stub}\n")
    namespace: dict[str, Any] = {}
    exec(stub, namespace)

    assert is_stub(lab, "ordered", namespace["ordered"])
    assert is_stub(lab, "ordered", reference(lab, "ordered", stub=True))


@pytest.mark.parametrize("body", ["return 0", "return ...", "x = 1", "raise ValueError", "yield"])
def test_a_function_with_any_code_is_not_a_stub(lab, function, body):
    assert not is_stub(lab, NAME, function(f"def {NAME}(predictions, truth):\n    {body}\n"))


STUB = """\
# %% tags=["exercise"]
def total(x):
    def double(y):
        return {factor} * y
    ### BEGIN SOLUTION
    return sum(map(double, x))
    ### END SOLUTION
"""


@pytest.mark.parametrize(("factor", "same"), [("2", True), ("3", False), ("2.0", False)])
def test_the_code_of_a_stub_counts_down_to_nested_constants(add, factor, same):
    lab = add(STUB.format(factor=2))
    namespace: dict[str, Any] = {}
    exec(STUB.format(factor=factor).replace("return sum(map(double, x))", "..."), namespace)

    assert is_stub(lab, "total", namespace["total"]) is same
