import nbformat
import pytest

from dltlab.batch import parse_value
from dltlab.batch.parameters import Parameter, check_values, language_of, notebook_parameters
from dltlab.errors import Invalid
from tests.batch.notebooks import KERNEL

CELL = """
# The rate and more
epochs = 3
rate = 0.1
size: int = 64
name = "adam"  # type: str
sizes = [1, 2]
shape = (28, 28)
early = True
seed = None
limit: float | None = None
steps: "Optional[int]" = None
%matplotlib inline
first, second = 1, "two"
computed = 60 * 60
table: dict[str, int] = {}
data: str
"""


def notebook(*cells, **metadata):
    nodes = [nbformat.v4.new_code_cell(source, metadata={"tags": tags}) for source, *tags in cells]
    return nbformat.v4.new_notebook(cells=nodes, metadata={"kernelspec": KERNEL, **metadata})


@pytest.fixture(scope="module")
def parameters():
    return notebook_parameters(notebook(["1"], [CELL, "parameters"]), "train")


def test_the_names_are_those_that_the_cell_assigns(parameters):
    names = "epochs rate size name sizes shape early seed limit steps first second computed table"
    assert list(parameters) == [*names.split(), "data"]


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("epochs", [5, 0, -1], [1.5, True, "5", None]),
        ("rate", [0.5, 1, float("nan")], [True, "0.5", None]),
        ("size", [128], [128.0]),
        ("name", ["sgd", ""], [1, None]),
        ("sizes", [[], [3]], [3, (3,)]),
        ("shape", [(1, 2), [1, 2]], [1]),
        ("early", [False], [0, "False"]),
        ("seed", [None, 1, "any", [1]], []),
        ("limit", [None, 0.5, 1], ["1", True]),
        ("steps", [None, 7], ["7", 7.0]),
        ("second", [1, "any"], []),
        ("computed", [1, "any"], []),
        ("table", [{"a": 1}], [[1]]),
        ("data", ["mnist"], [1]),
    ],
)
def test_the_type_is_that_of_the_default_or_the_annotation(parameters, name, right, wrong):
    assert [value for value in right if not parameters[name].accepts(value)] == []
    assert [value for value in wrong if parameters[name].accepts(value)] == []


def test_a_parameter_without_a_value_is_required(parameters):
    assert [name for name in parameters if parameters[name].is_required] == ["data"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"epoch": 1},
            "train has no parameter 'epoch'; it has: epochs, rate, limit, data.",
        ),
        ({"epochs": 1.5}, "Parameter epochs of train must be of type int, not 1.5."),
        (
            {"limit": "1"},
            "Parameter limit of train must be of type float or None, not '1'.",
        ),
        (
            {"epochs": 1},
            "train needs a value for data: -p data VALUE; its parameters are: epochs, rate, "
            "limit, data.",
        ),
    ],
)
def test_wrong_values_get_a_sentence_that_lists_what_exists(parameters, values, message):
    some = {name: parameters[name] for name in ("epochs", "rate", "limit", "data")}

    with pytest.raises(Invalid) as caught:
        check_values(some, values, "train")
    assert str(caught.value) == message


def test_right_values_pass(parameters):
    check_values(parameters, {"data": "mnist", "rate": 1}, "train")


def test_without_a_parameters_cell_only_no_values_pass():
    assert notebook_parameters(notebook(["1"]), "plain") == {}
    check_values({}, {}, "plain")
    with pytest.raises(Invalid, match="plain has no parameters, so epochs cannot be set: tag"):
        check_values({}, {"epochs": 1}, "plain")


def test_two_parameters_cells_are_both_named():
    two = notebook(["a = 1", "parameters"], ["1"], ["b = 1", "parameters"])

    with pytest.raises(Invalid, match="train has several cells tagged 'parameters', 1 and 3"):
        notebook_parameters(two, "train")


def test_a_cell_that_is_not_python_is_named():
    with pytest.raises(Invalid, match="Cell 1 of train, tagged 'parameters', is not Python"):
        notebook_parameters(notebook(["epochs = ", "parameters"]), "train")


def test_in_another_language_nothing_is_known_and_all_passes():
    in_r = notebook(["x <- 1", "parameters"], kernelspec={**KERNEL, "language": "R"})

    assert notebook_parameters(in_r, "r") is None
    check_values(None, {"x": 2}, "r")


@pytest.mark.parametrize(
    ("metadata", "language"),
    [
        ({"language_info": {"name": "julia"}}, "julia"),
        ({"kernelspec": {**KERNEL, "language": "R"}}, "R"),
        ({"kernelspec": {"name": "python3", "display_name": "Python 3"}}, "python"),
    ],
)
def test_the_language(metadata, language):
    assert language_of(notebook(**metadata)) == language


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 0.001),
        ("True", True),
        ("None", None),
        ("mnist", "mnist"),
        ("a=b", "a=b"),
        ("true", "true"),  # as papermill
        ("[1, 2.5, a]", [1, 2.5, "a"]),
        ("{a: 1}", {"a": 1}),
        ("'01'", "01"),
        ("[1,", "[1,"),
        ("", ""),
    ],
)
def test_words_of_the_command_line(text, value):
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_any_value_fits_a_parameter_of_unknown_type():
    assert Parameter().accepts(object())
