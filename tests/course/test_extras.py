"""Labs that import what is not installed, and what installs it."""

import importlib.util

import pytest

from dltlab.course import extra_of
from dltlab.course.extras import how_to_install, missing_modules

PROGRAM = '''
import json, keras.ops as ops
from onnx.helper import make_node
from . import onnxruntime
try:
    import nglview
except ImportError:
    nglview = None
text = """
import dask
import dask,
from here on, and import -
"""
def later():
    import openvino
import onnx
'''


@pytest.fixture
def not_installed(monkeypatch):
    """A function that lets modules be missing."""

    def not_installed(*names):
        find_spec = importlib.util.find_spec
        monkeypatch.setattr(
            "importlib.util.find_spec", lambda name: None if name in names else find_spec(name)
        )

    return not_installed


@pytest.mark.parametrize(
    ("module", "extra"),
    [("onnx", "inference"), ("dask", "batch"), ("nglview", "science"), ("keras", None)],
)
def test_the_extra_that_installs_a_module_is_known(module, extra):
    assert extra_of(module) == extra


def test_only_what_a_program_needs_at_its_beginning_is_missing(not_installed):
    assert missing_modules(PROGRAM) == []
    not_installed("onnx", "onnxruntime", "nglview", "dask", "openvino")
    assert missing_modules(PROGRAM) == ["onnx"]


@pytest.mark.parametrize(
    ("modules", "sentence"),
    [
        (["dask"], "Run: pip install 'dltlab[batch]'"),
        (["onnx", "dask", "onnx"], "Run: pip install 'dltlab[batch,inference]'"),
        (["dask", "antigravity"], "Install them in the environment of dltlab."),
    ],
)
def test_the_extras_of_several_modules_are_named_once(modules, sentence):
    assert how_to_install(modules) == sentence


def test_labs_that_import_what_is_missing_are_named(not_installed, course, source):
    assert course.missing_modules() == []
    source.write_text(source.read_text() + "\n# %%\nimport dask\nimport checks\n")
    other = source.with_name("02_other.py")
    other.write_text("import dask\n1 +")  # `outlines` says so

    not_installed("dask")

    assert course.missing_modules() == [
        "01_my_topic needs packages that are not installed: dask. Run: pip install 'dltlab[batch]'"
    ]
