import os
import subprocess
import sys

import pytest

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
EARLY = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795885051.523555    2128 port.cc:153] oneDNN custom operations are on.",
    "W0000 00:00:1795885051.523560    2128 a.cc:1] a warning",
    "E0000 00:00:1795885051.523580    2128 b.cc:2] an error",
)
FATAL = "F0000 00:00:1795885051.523590    2128 cpu_feature_guard.cc:9] AVX is missing."


@pytest.fixture
def run(tmp_path):
    """Return a function that runs code in a process of its own.

    Its `tensorflow` is the code of a module of that name; without it, TensorFlow is imported. It
    returns the exit code, and the lines that were written to stdout and stderr.
    """

    def run(code, tensorflow=None, level=None):
        if tensorflow:
            (tmp_path / "tensorflow.py").write_text(f"import os, sys\n{tensorflow}")
        environment = {name: os.environ[name] for name in os.environ if name != LEVEL}
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environment | ({LEVEL: level} if level else {}),
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()

    return run


def logging(*lines):
    """Return code that writes lines as shared libraries do when they are loaded."""
    text = "".join(f"{line}\n" for line in lines)
    return f"os.write(2, {text.encode()!r})\n"


def test_scripts_and_commands_that_import_dltlab_first_hear_nothing_of_tensorflow(run):
    code = "import dltlab, tensorflow as tf; tf.config.list_physical_devices()"

    assert run(code) == (0, [], [])


@pytest.mark.parametrize(
    ("level", "shown"), [(None, []), ("3", []), ("2", [3]), ("1", [2, 3]), ("0", [0, 1, 2, 3])]
)
def test_what_is_logged_on_import_follows_the_level_that_is_set(run, level, shown):
    *_, errors = run("import dltlab, tensorflow", logging(*EARLY), level)

    assert errors == [EARLY[place] for place in shown]


def test_a_tensorflow_imported_before_dltlab_is_left_alone(run):
    code = f"import tensorflow, dltlab, os; print(os.environ.get({LEVEL!r}))"

    assert run(code, logging(*EARLY)) == (0, ["None"], [*EARLY])


def test_other_lines_are_shown_in_order(run):
    code = "import dltlab, tensorflow, os; os.write(2, b'after')"

    *_, errors = run(code, logging("one", *EARLY, "two") + "print('three', file=sys.stderr)")

    assert errors == ["one", "two", "three", "after"]


def test_the_last_words_of_an_import_that_crashes_are_shown(run):
    code, _, errors = run("import dltlab, tensorflow", logging(*EARLY, FATAL) + "os.abort()")

    assert code != 0
    assert errors == [FATAL]


def test_an_import_that_fails_raises_its_error(run):
    code, _, errors = run("import dltlab, tensorflow", "raise ImportError('libcudart is missing')")

    assert code == 1
    assert errors[-1] == "ImportError: libcudart is missing"


def test_a_tensorflow_that_is_not_installed_is_not_found(run):
    _, _, errors = run("import dltlab, sys; sys.path.clear(); import tensorflow")

    assert errors[-1] == "ModuleNotFoundError: No module named 'tensorflow'"


def test_a_program_started_meanwhile_does_not_keep_the_import_waiting(run):
    start = (
        "import subprocess; child = subprocess.Popen(['sleep', '30'], stdout=subprocess.DEVNULL)"
    )
    code = "import dltlab, tensorflow; print('done'); tensorflow.child.kill()"

    assert run(code, start) == (0, ["done"], [])


@pytest.mark.parametrize(("set_up", "enabled"), [("", "True"), ("gc.disable();", "False")])
def test_the_import_is_not_interrupted_by_garbage_collections(run, set_up, enabled):
    code = f"import gc; {set_up} import dltlab, tensorflow; print(gc.isenabled())"

    assert run(code, "import gc; print(gc.isenabled())") == (0, ["False", enabled], [])


def test_what_was_imported_is_left_out_of_later_collections(run):
    code = "import gc, dltlab, tensorflow as tf; print(any(o is tf.held for o in gc.get_objects()))"

    assert run(code, "held = []") == (0, ["False"], [])
