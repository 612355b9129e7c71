"""Sweep files: what is valid, where a fault is, and which parameters the runs get."""

import random
import re
from pathlib import Path

import pytest

from dltlab.batch.sweep_file import Distribution, SweepFile, parameter_sets, read_sweep, varied
from dltlab.errors import Invalid

EXAMPLE = """# rates
notebook = "train.ipynb"
repeats = 2
gpus = [0,
  1]

[parameters]
epochs = 3

[grid]
batch_size = [
  32,
  64,
]
[random]
runs = 4
rate = {low = 1e-4, high = 1e-1, log = true}
units = {low = 16, high = 128, step = 16}
optimizer = {choices = ["sgd", "adam"]}
"""
SEARCH = """lab = "02"
[search]
trials = 4
objective = "accuracy"
direction = "maximize"
rate = {low = 0.1, high = 1.0}
"""


def read(folder: Path, text: str) -> SweepFile:
    (folder / "SWEEP.toml").write_text(text)
    return read_sweep(folder / "SWEEP.toml")


def test_the_runs_are_all_combinations_of_the_tables(tmp_path):
    file = read(tmp_path, EXAMPLE)

    runs = parameter_sets(file, ["SEED", "rate"])

    assert len(runs) == 2 * 4 * 2
    assert {run["batch_size"] for run in runs} == {32, 64}
    assert {run["epochs"] for run in runs} == {3}
    assert {run["SEED"] for run in runs} == {0, 1}
    assert len({run["rate"] for run in runs}) == 4
    assert runs == parameter_sets(file, ["SEED", "rate"])


def test_folds_number_the_parameter_fold(tmp_path):
    file = read(tmp_path, 'notebook = "a.ipynb"\nfolds = 3\n')

    assert parameter_sets(file, ["FOLD"]) == [{"FOLD": 0}, {"FOLD": 1}, {"FOLD": 2}]


@pytest.mark.parametrize(
    ("values", "minimum", "maximum", "kind"),
    [
        ({"low": 1, "high": 1000, "log": True}, 1, 1000, int),
        ({"low": 1e-3, "high": 10.0, "log": True}, 1e-3, 10.0, float),
        ({"low": 16, "high": 40, "step": 16}, 16, 32, int),
        ({"low": 0.0, "high": 1.0, "step": 0.25}, 0.0, 1.0, float),
        ({"low": -1, "high": 1}, -1, 1, int),
    ],
)
def test_values_are_drawn_from_the_whole_range(values, minimum, maximum, kind):
    source = random.Random(0)
    distribution = Distribution.model_validate(values)

    drawn = [distribution.draw(source) for _ in range(2000)]

    assert {type(value) for value in drawn} == {kind}
    assert min(drawn) == pytest.approx(minimum, rel=0.05, abs=0.05 if kind is float else 0)
    assert max(drawn) == pytest.approx(maximum, rel=0.05)


def test_the_logarithm_of_a_range_is_uniform():
    source = random.Random(0)
    rate = Distribution.model_validate({"low": 1e-4, "high": 1.0, "log": True})

    below = sum(rate.draw(source) < 1e-2 for _ in range(2000))

    assert 900 < below < 1100


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("repeats", "repeat", 3, "Unknown key 'repeat'"),
        ("repeats = 2", "repeats = true", 3, "'repeats': it must be a valid integer"),
        ("repeats = 2", "repeats = ", 3, "Invalid value"),
        ("  1]", "  -1]", 4, "'gpus.1': it must be greater than or equal to 0"),
        ("batch_size = [", "rate = [", 17, "rate is already set in [grid]"),
        ("[\n  32,\n  64,\n]", "[]", 11, "'grid.batch_size' has no values"),
        ("runs = 4", "", 15, "The key 'random.runs' is missing"),
        ("log = true", "lag = true", 17, "Unknown key 'random.rate.lag'"),
        ("{low = 16,", "{low = 160,", 18, "'random.units': low must be less than high"),
        ("step = 16", "step = 0", 18, "step must be above 0"),
        ("low = 1e-4", "low = 0.0", 17, "log takes a low above 0"),
        (", high = 128", "", 18, "give either low and high, or choices"),
        ('["sgd", "adam"]', '["sgd"], low = 1', 19, "choices take no other keys"),
        ('{choices = ["sgd", "adam"]}', '"sgd"', 19, "'random.optimizer': give a table, as {low"),
        ('"train.ipynb"', '"train.ipynb"\nlab = "02"', 1, "give either 'notebook' or 'lab'"),
        ('"train.ipynb"', '"train.ipynb"\nprofile = "smoke"', 3, "'profile' is for a lab"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path, monkeypatch, old, new, line, message):
    monkeypatch.chdir(tmp_path)
    assert old in EXAMPLE

    with pytest.raises(Invalid) as error:
        read(tmp_path, EXAMPLE.replace(old, new, 1))

    assert str(error.value).startswith(f"SWEEP.toml:{line}: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('"maximize"', '"up"', 5, "'search.direction': it must be 'maximize' or 'minimize'"),
        ("[search]", "folds = 5\n[search]", 2, "'folds' cannot be combined with [search]"),
        ("rate = {low = 0.1, high = 1.0}\n", "", 2, "[search] names no parameter"),
        ("trials = 4", "trials = 0", 3, "'search.trials': it must be greater than 0"),
    ],
)
def test_a_fault_of_a_search_is_named_with_its_line(tmp_path, monkeypatch, old, new, line, message):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(Invalid) as error:
        read(tmp_path, SEARCH.replace(old, new, 1))

    assert str(error.value).startswith(f"SWEEP.toml:{line}: ")
    assert message in str(error.value)


def test_repeats_need_a_parameter_for_the_seed_that_nothing_else_sets(tmp_path):
    file = read(tmp_path, EXAMPLE)
    with pytest.raises(Invalid, match=r":3: 'repeats' needs a parameter seed or SEED"):
        parameter_sets(file, ["rate"])

    file = read(tmp_path, EXAMPLE.replace("epochs", "seed"))
    with pytest.raises(Invalid, match=r":3: 'repeats' sets the parameter seed, which is set below"):
        parameter_sets(file, ["seed"])


def test_a_sweep_tells_the_values_that_its_parameters_may_have(tmp_path):
    file = read(tmp_path, EXAMPLE)

    assert {name: list(values) for _, name, values in varied(file.content)} == {
        "epochs": [3],
        "batch_size": [32, 64],
        "rate": [1e-4, 1e-1],
        "units": [16, 128],
        "optimizer": ["sgd", "adam"],
    }


def test_sweep_of_the_guide_is_valid(repository, tmp_path):
    (text,) = re.findall(
        r"(?ms)^```toml\n(.*?)^```$", (repository / "docs/guide/batch.md").read_text()
    )
    path = tmp_path / "SWEEP.toml"
    path.write_text(text)

    names = {"learning_rate", "optimizer", "seed"}
    sets = parameter_sets(read_sweep(path), names)
    assert len(sets) == 60
    assert set(sets[0]) == names
