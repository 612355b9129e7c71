"""Parameters that papermill sets: a wrong name or type is an error."""

from types import SimpleNamespace

import papermill
import pytest

from dltlab.course import check_parameters, learner_notebook, notebook_text, read_lab
from dltlab.errors import Invalid


@pytest.fixture
def run(source, edit, tmp_path, cold_kernels):
    """Return a function that runs the lab's notebook with parameters and returns its cells."""
    more = '\nRATE = 0.5\nNAME = "a"\nFAST = False\nNONE = None\nRATES = (0.1, 0.2)'
    edit(source, "SAMPLES = 1000", f"SAMPLES = 1000{more}")
    edit(source, "from checks import my_topic as ex", "")
    before, _ = source.read_text().split("# %%\nrng")
    source.write_text(f"{before}# %%\nprint(SAMPLES)\n")
    text = notebook_text(learner_notebook(read_lab(source)))
    (tmp_path / "in.ipynb").write_text(text)

    def execute(**parameters):
        return papermill.execute_notebook(
            tmp_path / "in.ipynb", tmp_path / "out.ipynb", parameters, progress_bar=False
        ).cells

    return execute


def test_the_cell_after_the_parameters_checks_them(source):
    cells = learner_notebook(read_lab(source)).cells

    (place,) = [i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    assert "check_parameters(SAMPLES=int)" in cells[place + 1].source
    assert cells[place + 1].metadata.jupyter.source_hidden


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"SAMPLES": 7, "RATE": 1, "NAME": "b", "FAST": True, "NONE": [1], "RATES": [0.1]},
        {"RATE": float("nan")},
        {"RATE": float("-inf")},
        {"PAPERMILL_INPUT_PATH": "in.ipynb", "PAPERMILL_OUTPUT_PATH": "out.ipynb"},
    ],
)
def test_right_names_and_types_are_accepted(run, parameters):
    cells = run(**parameters)

    assert cells[-1].outputs[0].text == f"{parameters.get('SAMPLES', 1000)}\n"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"SAMPELS": 7},
            "There is no parameter 'SAMPELS'; the lab has: SAMPLES, RATE, NAME, FAST, NONE, RATES.",
        ),
        ({"SAMPLES": "many"}, "Parameter SAMPLES must be of type int, which 'many' is not."),
        ({"SAMPLES": 0.5}, "Parameter SAMPLES must be of type int, which 0.5 is not."),
        ({"SAMPLES": float("nan")}, "Parameter SAMPLES must be of type int, which nan is not."),
        ({"NAME": None}, "Parameter NAME must be of type str, which None is not."),
        ({"FAST": 1}, "Parameter FAST must be of type bool, which 1 is not."),
        ({"NAME": ["a"]}, "Parameter NAME must be of type str, which ['a'] is not."),
    ],
)
def test_a_wrong_name_or_type_is_an_error(run, parameters, message):
    with pytest.raises(papermill.PapermillExecutionError) as caught:
        run(**parameters)

    assert (caught.value.ename, caught.value.evalue) == ("Invalid", message)


@pytest.mark.parametrize(
    ("injected", "message"),
    [
        ("SAMPLES = 7", ""),
        ("SAMPLES = 7 * 2", ""),
        ("SAMPLE = 7", "There is no parameter 'SAMPLE'; the lab has: SAMPLES."),
        ("SAMPLES = 'a'", "Parameter SAMPLES must be of type int, which 'a' is not."),
    ],
)
def test_of_an_opened_output_a_person_may_run_other_cells_in_between(
    monkeypatch, injected, message
):
    cells = ["", "other = 1", f"# Parameters\n{injected}\n", "%matplotlib inline"]
    shell = SimpleNamespace(user_ns={"In": cells})
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)

    if not message:
        check_parameters(SAMPLES=int)
        return
    with pytest.raises(Invalid) as caught:
        check_parameters(SAMPLES=int)
    assert str(caught.value) == message


def test_without_papermill_nothing_is_checked():
    check_parameters()
