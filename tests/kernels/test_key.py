"""The key of a zygote: which changes need another zygote."""

import os
import sys

import pytest

from dltlab.kernels.key import is_read_on_import, make_key

PYTHON = [sys.executable]
VARIABLES = {"HOME": "/home/ada", "PATH": "/usr/bin"}


@pytest.mark.parametrize(
    "name",
    ["KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL", "XLA_FLAGS", "CUDA_VISIBLE_DEVICES", "PYTHONPATH",
     "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "KERAS_HOME", "MPLCONFIGDIR",
     "MPLBACKEND", "XDG_CACHE_HOME", "LC_ALL"],
)  # fmt: skip
def test_a_variable_that_is_read_on_import_changes_the_key(name):
    key = make_key(PYTHON, VARIABLES | {name: "1"})

    assert key.identity != make_key(PYTHON, VARIABLES).identity
    assert key.variables[name] == "1"


@pytest.mark.parametrize("name", ["JPY_SESSION_NAME", "XDG_RUNTIME_DIR", "TOKEN", "DLTLAB_COURSE"])
def test_another_variable_does_not_change_the_key(name):
    key = make_key(PYTHON, VARIABLES | {name: "1"})

    assert key == make_key(PYTHON, VARIABLES)
    assert name not in key.variables


@pytest.mark.parametrize("name", ["KERAS_BACKEND", "TF_XLA_FLAGS", "OMP_NUM_THREADS", "MPLBACKEND"])
def test_a_cell_sets_a_variable_too_late_that_is_read_on_import(name):
    assert is_read_on_import(name)


@pytest.mark.parametrize(
    "name", ["CUDA_VISIBLE_DEVICES", "TF_FORCE_GPU_ALLOW_GROWTH", "PATH", "TZ"]
)
def test_a_cell_sets_a_variable_in_time_that_is_read_later(name):
    assert not is_read_on_import(name)


def test_the_working_folder_does_not_change_the_key(tmp_path, monkeypatch):
    key = make_key(PYTHON, VARIABLES)

    monkeypatch.chdir(tmp_path)

    assert make_key(PYTHON, VARIABLES) == key


def test_the_interpreter_and_its_options_change_the_key():
    interpreters = (PYTHON, ["/usr/bin/python3"], [*PYTHON, "-X", "dev"])

    assert len({make_key(interpreter, VARIABLES).name for interpreter in interpreters}) == 3


def test_installing_a_package_changes_the_stamp_only(tmp_path, monkeypatch):
    packages = tmp_path / "site-packages"
    packages.mkdir()
    monkeypatch.syspath_prepend(packages)
    before = make_key(PYTHON, VARIABLES)

    os.utime(packages, (1, 1))

    after = make_key(PYTHON, VARIABLES)
    assert after.identity == before.identity
    assert after.stamp != before.stamp


def test_changing_the_settings_of_keras_changes_the_stamp(tmp_path):
    variables = VARIABLES | {"HOME": str(tmp_path)}
    before = make_key(PYTHON, variables)

    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text("{}")

    assert make_key(PYTHON, variables).stamp != before.stamp
