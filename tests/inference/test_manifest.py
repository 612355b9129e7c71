"""The manifest of an engine: written, verified, and compared with this machine."""

import json
from pathlib import Path

import pytest

from dltlab.errors import Damaged, NotFound, Unavailable
from dltlab.files import sha256_of
from dltlab.inference.manifest import (
    MANIFEST,
    Accuracy,
    EngineManifest,
    TensorSpec,
    is_engine,
    read_manifest,
    require_same_machine,
    this_machine,
    write_manifest,
)

VERSIONS = {"keras": "3.1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an engine with two files."""
    (tmp_path / "part").mkdir()
    (tmp_path / "model.bin").write_bytes(bytes(range(100)))
    (tmp_path / "part" / "names.json").write_text("[]")
    manifest = EngineManifest(
        model="tiny",
        model_hash="1",
        backend="keras",
        versions=VERSIONS,
        precision="float32",
        machine=this_machine(),
        inputs=(TensorSpec(shape=(None, 2), dtype="float32"),),
        layers=(("dense", "Dense"),),
    )
    write_manifest(tmp_path, manifest)
    return tmp_path


def change(folder: Path, **fields: object) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(content | fields))


def test_a_manifest_is_read_as_it_was_written(folder):
    manifest = read_manifest(folder)
    assert manifest.title == "tiny on keras in float32"
    assert manifest.inputs == (TensorSpec(shape=(None, 2), dtype="float32"),)
    assert set(manifest.files) == {"model.bin", "part/names.json"}
    assert is_engine(folder)


def test_files_that_a_backend_can_build_again_are_not_verified(folder):
    (folder / "cache").mkdir()
    (folder / "cache" / "kernels").touch()
    assert set(write_manifest(folder, read_manifest(folder)).files) == {
        "model.bin", "part/names.json",
    }  # fmt: skip


def truncate(folder: Path) -> None:
    (folder / "model.bin").write_bytes((folder / "model.bin").read_bytes()[:10])


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "model.bin").read_bytes())
    content[50] ^= 1
    (folder / "model.bin").write_bytes(content)


def remove_a_file(folder: Path) -> None:
    (folder / "part" / "names.json").unlink()


def cut_the_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text('{"format": 1, "model": ')


def change_the_precision(folder: Path) -> None:
    change(folder, precision="int3")


def name_a_file_outside(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.touch()
    change(folder, files={"../outside": sha256_of(outside)})


def name_an_absolute_path(folder: Path) -> None:
    change(folder, files={str(folder / "model.bin"): sha256_of(folder / "model.bin")})


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip_a_bit,
        remove_a_file,
        cut_the_manifest,
        change_the_precision,
        name_a_file_outside,
        name_an_absolute_path,
    ],
)
def test_a_damaged_engine_is_refused(folder, damage):
    damage(folder)
    with pytest.raises(Damaged, match=r"is damaged: build it again with dltlab optimize\."):
        read_manifest(folder)


def test_a_folder_without_a_manifest_is_not_an_engine(tmp_path):
    assert not is_engine(tmp_path)
    with pytest.raises(NotFound, match="is not an engine: build one with dltlab optimize"):
        read_manifest(tmp_path)


def test_another_file_named_like_a_manifest_is_not_an_engine(tmp_path):
    (tmp_path / MANIFEST).write_text('{"cylinders": 8}')
    assert not is_engine(tmp_path)


def test_an_engine_of_this_machine_is_accepted(folder):
    require_same_machine(folder, read_manifest(folder), VERSIONS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"machine": "Another CPU"}, "on another machine, Another CPU, and this is "),
        ({"versions": {"keras": "1.0"}}, r"is outdated \(keras 1\.0, now 3\.1\)"),
        ({"format": 0}, r"is outdated \(an older dltlab\)"),
    ],
)
def test_an_engine_from_elsewhere_is_refused_with_the_difference(folder, fields, message):
    change(folder, **fields)
    with pytest.raises(Unavailable, match=message):
        require_same_machine(folder, read_manifest(folder), VERSIONS)


@pytest.mark.parametrize(
    ("engine", "finite", "is_within"), [(0.891, True, True), (0.88, True, False), (1, False, False)]
)
def test_the_accuracy_drop_is_a_fraction_of_the_reference(engine, finite, is_within):
    accuracy = Accuracy(
        metric="accuracy", reference=0.9, engine=engine, num_examples=100,
        data="validation data", finite=finite,
    )  # fmt: skip
    assert accuracy.is_within(0.01) == is_within


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"metric": "accuracy"},
            "has an accuracy of 0.8900, the float32 model 0.9000 (1,000 examples)",
        ),
        (
            {"metric": "agreement", "data": "random numbers"},
            "has an agreement of 0.8900 with the float32 model (1,000 examples, random numbers)",
        ),
        ({"metric": "accuracy", "finite": False}, "returns NaN or infinity (1,000 examples)"),
    ],
)
def test_an_accuracy_reads_as_the_end_of_a_sentence(fields, text):
    defaults = {"reference": 0.9, "engine": 0.89, "num_examples": 1000, "data": "validation data"}
    assert str(Accuracy(**defaults | fields)) == text
