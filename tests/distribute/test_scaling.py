import json
from pathlib import Path

import numpy as np
import pytest

from dltlab.distribute import measure_scaling
from dltlab.distribute.fits import fit_alpha_beta, fit_scaling
from dltlab.distribute.launching_plan import usable_cores
from dltlab.distribute.scaling import Scaling
from dltlab.errors import Invalid, LabError, Unavailable

NETWORKS = """
import os
from pathlib import Path

import keras


def tiny():
    place = f"{os.environ['DLTLAB_WORLD_SIZE']}-{os.environ['DLTLAB_RANK']}"
    Path(f"cores-{place}").write_text(",".join(map(str, sorted(os.sched_getaffinity(0)))))
    return keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a module of networks."""
    folder = tmp_path_factory.mktemp("scaling")
    (folder / "tiny_networks.py").write_text(NETWORKS)
    return folder


@pytest.fixture(scope="module")
def scaling(folder) -> Scaling:
    """A measurement with one and two real workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return measure_scaling("tiny_networks:tiny", batch_size=6, num_steps=3, repeats=2)


def test_every_worker_has_its_own_cores_and_a_single_one_no_more(scaling, folder):
    cores = {path.name: set(path.read_text().split(",")) for path in folder.glob("cores-*")}

    assert cores.keys() == {"cores-1-0", "cores-2-0", "cores-2-1"}
    assert {len(used) for used in cores.values()} == {scaling.cores} == {len(usable_cores()) // 2}
    assert not cores["cores-2-0"] & cores["cores-2-1"]


def test_weak_and_strong_scaling_are_measured_with_all_numbers_of_workers(scaling):
    for fit in (scaling.weak, scaling.strong):
        assert [(point.num_workers, point.repeats) for point in fit.points] == [(1, 2), (2, 2)]
        assert all(point.seconds > 0 for point in fit.points)
    assert scaling.weak.points[0] == scaling.strong.points[0]  # one worker has the same work


def test_sums_alone_are_measured_by_size(scaling):
    assert scaling.communication.num_bytes.min() == 1 << 10
    assert scaling.communication.num_bytes.max() == 1 << 24
    assert scaling.gradient_seconds.keys() == {2}
    assert json.loads(json.dumps(scaling.as_dict()))["network"] == "tiny_networks:tiny"


@pytest.fixture
def example() -> Scaling:
    """100 images; two workers take 1.1 s for a step of weak scaling, three 1.25 s."""
    counts = [1, 1, 2, 2, 3, 3]
    return Scaling(
        network="small_resnet",
        batch_size=100,
        cores=1,
        weak=fit_scaling(counts, [1, 1, 1.1, 1.1, 1.25, 1.25], "weak"),
        strong=fit_scaling(counts, [1, 1, 0.6, 0.6, 0.5, 0.5], "strong"),
        communication=fit_alpha_beta([1e3, 1e6, 2e6], [1e-3, 2e-3, 3e-3]),
        gradient_seconds={2: 0.4, 3: 0.2},
    )


def test_what_a_step_takes_longer_than_that_of_one_worker_is_not_hidden(example):
    assert example.hidden_share(2) == pytest.approx(0.75)
    assert example.hidden_share(3) == 0  # it takes longer by more than the communication


def test_the_table_has_rates_of_all_workers_together(example):
    table = example.table.set_index(["scaling", "workers"])

    assert table.loc[("weak", 2), "images/s"] == pytest.approx(200 / 1.1)
    assert table.loc[("strong", 2), "images/s"] == pytest.approx(100 / 0.6)
    assert table.loc[("weak", 2), "efficiency"] == pytest.approx(1 / 1.1)
    assert table.loc[("strong", 3), "efficiency"] == pytest.approx(2 / 3)
    assert table.loc[("weak", 2), "communication (ms)"] == pytest.approx(400)
    assert np.isnan(table.loc[("weak", 1), "hidden"])
    assert "one core" in example.summary
    assert "75%" in repr(example)


def test_the_figure_has_a_panel_for_rates_and_one_for_communication(example):
    rates, sums = example.figure().axes

    assert [line.get_label() for line in rates.lines] == [
        *("weak scaling", "Gustafson", "strong scaling", "Amdahl", "ideal"),
    ]
    assert (rates.get_ylabel(), sums.get_xlabel()) == ("images per second", "size (bytes)")


def test_the_failure_of_a_worker_is_told_with_its_reason():
    with pytest.raises(LabError, match="There is no network 'small_resnett'"):
        measure_scaling("small_resnett")


@pytest.mark.parametrize(
    "options", [{"max_workers": 1}, {"batch_size": 1}, {"num_steps": 0}, {"repeats": 0}]
)
def test_numbers_out_of_their_range_are_refused(options):
    with pytest.raises(Invalid, match="max_workers must be at least 2"):
        measure_scaling(**options)


def test_more_workers_than_cores_are_refused():
    with pytest.raises(Unavailable, match="need a core each"):
        measure_scaling(batch_size=4096, max_workers=4096)
