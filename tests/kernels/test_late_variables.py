"""A variable that is set too late for the libraries of a warm kernel."""

import pytest

WARNING = (
    "KERAS_BACKEND may have no effect: this is a warm kernel, whose libraries were imported before "
    "it started, and they read such variables on import. Set them before you start JupyterLab, or "
    "start it with cold kernels: dltlab lab --cold\n"
)


@pytest.fixture
def warm(launch, zygote):
    kernel = launch()
    assert kernel.is_warm
    return kernel


@pytest.mark.parametrize(
    "cell",
    [
        "import os\nos.environ['KERAS_BACKEND'] = 'jax'",
        "%env KERAS_BACKEND=jax",
        "import os\nos.environ.update(KERAS_BACKEND='jax')",
        "import os\nos.environ.setdefault('KERAS_BACKEND', 'jax')\nraise ValueError",
    ],
)
def test_a_warm_kernel_warns_once_when_a_cell_sets_a_variable_too_late(warm, cell):
    assert warm.run("x = 1").stderr == ""

    assert WARNING in warm.try_to_run(cell).stderr
    assert warm.run("%env OMP_NUM_THREADS=1\n%env KERAS_BACKEND=torch").stderr == ""


def test_a_variable_that_an_earlier_cell_names_is_noticed_when_it_is_set(warm):
    define = "import os\ndef use(backend):\n    os.environ['KERAS_BACKEND'] = backend"
    assert warm.run(define).stderr == ""

    assert warm.run("use('jax')").stderr == WARNING


def test_several_variables_are_named_in_one_warning(warm):
    result = warm.run("%env TF_XLA_FLAGS=x\n%env OMP_NUM_THREADS=1")

    assert result.stderr.startswith("OMP_NUM_THREADS and TF_XLA_FLAGS may have no effect: ")


@pytest.mark.parametrize(
    "cell",
    [
        "%env COURSE=1",
        "%env CUDA_VISIBLE_DEVICES=0",
        "%env TF_FORCE_GPU_ALLOW_GROWTH=true",
        "import os\nos.environ['PATH'] += ':/opt/bin'",
        "%env KERAS_BACKEND=tensorflow",
        "import os\nos.environ['KERAS_' + 'BACKEND'] = 'jax'  # as a library would",
    ],
)
def test_other_variables_give_no_warning(warm, cell):
    assert warm.run(cell).stderr == ""


def test_a_cold_kernel_does_not_warn(launch, cold_kernels):
    kernel = launch()

    assert not kernel.is_warm
    assert kernel.run("%env KERAS_BACKEND=jax").stderr == ""
