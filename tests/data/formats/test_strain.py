"""Strain of gravitational-wave detectors: the embedded files, and files that are wrong."""

import hashlib
import io
import sys

import h5py
import numpy as np
import pytest

from dltlab import paths
from dltlab.data import info, series
from dltlab.data.formats.strain import read_strain
from dltlab.errors import Damaged, Invalid, Unavailable

CARD = """\
name = "mine"
title = "A few seconds of strain."
format = "strain"
license = "CC0-1.0"
citation = "Made by a test."
version = "1"
sampling_rate = 64
gps_start = 100

[detectors]
H1 = "h1.hdf5"
L1 = "l1.hdf5"

[splits.train]
size = 128

[splits.test]
size = 192
"""


def npz(values, detector="H1", start=100, rate=64, leave_out=None):
    """Return the bytes of a file that NumPy reads."""
    arrays = {"strain": values, "detector": detector, "gps_start": start, "sampling_rate": rate}
    content = io.BytesIO()
    np.savez(content, **{name: arrays[name] for name in arrays if name != leave_out})
    return content.getvalue()


def hdf5(values, detector="H1", start=100, rate=64, leave_out=None):
    """Return the bytes of a file in the layout of GWOSC."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        column = file.create_dataset("strain/Strain", data=values)
        column.attrs["Xspacing"] = 1 / rate
        file["meta/Detector"] = detector.encode()
        file["meta/GPSstart"] = start
        if leave_out:
            del file[leave_out]
    return content.getvalue()


@pytest.fixture
def strain():
    """Five seconds of two detectors."""
    return np.random.default_rng(1).normal(0, 1e-21, (320, 2))


@pytest.fixture
def write_card(tmp_path, monkeypatch):
    """A function that writes a card with the files of both detectors."""
    monkeypatch.setenv("DLTLAB_COURSE", str(tmp_path))
    folder = tmp_path / "datasets"
    folder.mkdir()

    def write(h1, l1, suffix=".hdf5"):
        lines = [CARD.replace(".hdf5", suffix)]
        for name, content in ((f"h1{suffix}", h1), (f"l1{suffix}", l1)):
            (folder / name).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            size = len(content)
            lines.append(f'[[files]]\nname = "{name}"\nsize = {size}\nsha256 = "{digest}"\n')
        (folder / "mine.toml").write_text("\n".join(lines))

    return write


@pytest.mark.parametrize(("content", "suffix"), [(hdf5, ".hdf5"), (npz, ".npz")])
def test_a_card_gives_one_column_for_each_detector(write_card, strain, content, suffix):
    write_card(content(strain[:, 0]), content(strain[:, 1], "L1"), suffix)
    assert series("mine").shape == (320, 2)
    assert series("mine").dtype == np.float32
    assert np.allclose(series("mine"), strain, rtol=1e-6, atol=0)
    assert np.array_equal(series("mine", "test"), series("mine")[128:])
    assert info("mine").contents == "5 s at 64 Hz of H1, L1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"detector": "H1"}, "l1.hdf5: the detector is H1; .* says L1"),
        ({"detector": "L1", "start": 99}, r"start \(GPS\) is 99"),
        ({"detector": "L1", "rate": 128}, r"sampling rate \(Hz\) is 128"),
    ],
)
def test_a_file_of_another_detector_time_or_rate_is_refused(write_card, strain, options, message):
    write_card(hdf5(strain[:, 0]), hdf5(strain[:, 1], **options))
    with pytest.raises(Invalid, match=message):
        series("mine")


def test_a_shorter_file_is_refused(write_card, strain):
    write_card(hdf5(strain[:, 0]), hdf5(strain[:100, 1], "L1"))
    with pytest.raises(Invalid, match="number of samples is 100"):
        series("mine")


def test_a_gap_is_refused_with_its_time(write_card, strain):
    strain[64:96, 1] = np.nan
    write_card(hdf5(strain[:, 0]), hdf5(strain[:, 1], "L1"))
    with pytest.raises(Invalid, match=r"no data for 0\.5 s, the first time 1 s after its start"):
        series("mine")


@pytest.mark.parametrize("part", ["strain/Strain", "meta/Detector", "meta/GPSstart"])
def test_a_file_without_a_part_is_damaged(strain, part):
    with pytest.raises(Damaged, match=r"mine\.hdf5 is not a file of strain"):
        read_strain(hdf5(strain[:, 0], leave_out=part), "mine.hdf5")


@pytest.mark.parametrize("part", ["strain", "detector", "gps_start", "sampling_rate"])
def test_an_npz_file_without_an_array_is_damaged(strain, part):
    with pytest.raises(Damaged, match=r"mine\.npz is not a file of strain"):
        read_strain(npz(strain[:, 0], leave_out=part), "mine.npz")


@pytest.mark.parametrize("name", ["mine.hdf5", "mine.npz"])
@pytest.mark.parametrize("content", [b"", b"nothing of the kind"])
def test_a_file_in_another_format_is_damaged(name, content):
    with pytest.raises(Damaged, match=f"{name} is not a file of strain"):
        read_strain(content, name)


def test_a_file_with_pickled_objects_is_not_read():
    with pytest.raises(Damaged, match=r"mine\.npz is not a file of strain"):
        read_strain(npz(np.array([print, 1.0])), "mine.npz")


def test_hdf5_without_h5py_names_the_extra(strain, monkeypatch):
    content = hdf5(strain[:, 0])
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(Unavailable, match=r"pip install 'dltlab\[science\]'"):
        read_strain(content, "mine.hdf5")


def test_the_embedded_event_is_read_without_h5py(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert series("gw150914", "test").shape == (36_864, 2)


def test_a_detector_without_a_file_is_refused(write_card, strain):
    write_card(hdf5(strain[:, 0]), hdf5(strain[:, 1], "L1"))
    card = paths.card_folders()[-1] / "mine.toml"
    card.write_text(card.read_text().replace('L1 = "l1.hdf5"', 'V1 = "v1.hdf5"'))
    with pytest.raises(Invalid, match=r"has no file 'v1\.hdf5'; its files are: h1\.hdf5, l1\.hdf5"):
        series("mine")


def test_infinite_strain_is_refused_as_a_gap_is(write_card, strain):
    strain[10, 0] = np.inf
    write_card(hdf5(strain[:, 0]), hdf5(strain[:, 1], "L1"))
    with pytest.raises(Invalid, match=r"h1\.hdf5 has no data"):
        series("mine")


def test_the_embedded_event_has_two_detectors_without_gaps():
    strain = series("gw150914")
    assert strain.shape == (65_536, 2)
    assert np.isfinite(strain).all()
    assert info("gw150914").detectors.keys() == {"H1", "L1"}
    assert 1e-20 < strain.std() < 1e-18
