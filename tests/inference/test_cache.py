"""Engines on disk: found again, never taken when damaged, stale or from elsewhere."""

import errno
import importlib.metadata
import json
import os
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tf2onnx

from dltlab.errors import LabError
from dltlab.files import sha256_of
from dltlab.inference import Engine, cache, optimize
from dltlab.inference.backends import openvino_runtime


@pytest.fixture
def build(model, validation, fresh):
    def built(**more) -> Engine:
        chosen = {"validation": validation, "batch": 8} | more
        return optimize(model, backend="openvino", precision="float32", **chosen)

    return built


@pytest.fixture
def builds(monkeypatch) -> list[str]:
    """The folders that something was built in."""
    made, real = [], openvino_runtime.build

    def counted(model, precision, calibration, folder) -> None:
        made.append(folder)
        real(model, precision, calibration, folder)

    monkeypatch.setattr(openvino_runtime, "build", counted)
    return made


def damaged(engine: Engine) -> Path:
    """The engine's folder, with a byte of its weights changed."""
    path = engine.folder / "model.bin"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return engine.folder


def test_an_engine_is_built_once_and_exported_never_again(build, builds):
    first, second = build(), build()
    assert len(builds) == 1
    assert second.folder == first.folder
    assert second.check == first.check
    assert second.notes == first.notes


def test_several_engines_of_a_model_need_one_export(build, model, validation, monkeypatch):
    changing = keras.models.clone_model(model)
    exported, real = [], tf2onnx.convert.from_function
    monkeypatch.setattr(
        tf2onnx.convert, "from_function", lambda *a, **k: exported.append(a) or real(*a, **k)
    )

    def engine(backend: str) -> Engine:
        return optimize(
            changing, backend=backend, precision="float32", validation=validation[0][:8]
        )

    engine("openvino"), engine("onnxruntime")
    assert len(exported) == 1

    changing.get_layer("logits").bias.assign([9.0, 0.0, 0.0, 0.0])
    assert (engine("onnxruntime")(validation[0]).argmax(-1) == 0).all()
    assert len(exported) == 2


def test_an_engine_that_nobody_has_used_for_30_days_is_forgotten(build, model, fresh):
    day, used, unused = 86400, build(), build(validation=None)
    for engine, days in ((used, 40), (unused, 31)):
        then = time.time() - days * day
        os.utime(engine.folder / cache.MANIFEST, (then, then))
    assert build().folder == used.folder  # used once more

    new = build(calibration=np.zeros((4, 16, 16, 3), np.float32), validation=None)

    assert {each.parent for each in fresh.glob("*/engine")} == {
        used.folder.parent, new.folder.parent,
    }  # fmt: skip


def test_the_model_as_a_file_or_compiled_for_training_finds_the_same_engine(
    build, builds, model, validation, tmp_path
):
    first = build()
    model.save(tmp_path / "tiny.keras")
    loaded = keras.saving.load_model(tmp_path / "tiny.keras")
    loaded.compile("sgd", "mse")
    again = optimize(loaded, backend="openvino", precision="float32", validation=validation)
    assert again.folder == first.folder
    assert len(builds) == 1


def test_other_validation_data_is_checked_anew(build, builds, model, validation):
    build()
    fewer = tuple(each[:32] for each in validation)
    engine = optimize(model, backend="openvino", precision="float32", validation=fewer)
    assert engine.check.num_examples == 32
    assert len(builds) == 2


def truncate(folder: Path) -> None:
    (folder / "model.xml").write_bytes((folder / "model.xml").read_bytes()[:100])


def remove(folder: Path) -> None:
    (folder / "model.bin").unlink()


def garble(folder: Path) -> None:
    (folder / "engine.json").write_text('{"format": 1, "model": ')


def forget(folder: Path) -> None:
    (folder / "engine.json").unlink()


@pytest.mark.parametrize("damage", [truncate, remove, garble, forget])
def test_a_damaged_engine_is_built_again(build, builds, validation, damage):
    engine = build()
    before = engine(validation[0])
    damage(engine.folder)
    np.testing.assert_array_equal(build()(validation[0]), before)
    assert len(builds) == 2


def test_one_changed_byte_is_seen(build, builds):
    damaged(build())
    build()
    assert len(builds) == 2


def test_another_version_of_the_backend_builds_again(build, builds, monkeypatch):
    build()
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "1.0" if name == "openvino" else version(name)
    )
    build()
    assert len(builds) == 2


def test_another_machine_builds_again(build, builds, monkeypatch):
    build()
    monkeypatch.setattr(cache, "machine", lambda: "Another CPU")
    build()
    assert len(builds) == 2


def test_a_saved_engine_is_opened_as_it_was(build, validation, tmp_path):
    engine = build()
    folder = engine.save(tmp_path / "mine")
    opened = Engine.load(folder, batch=8)
    np.testing.assert_array_equal(opened(validation[0]), engine(validation[0]))
    assert opened.manifest == engine.manifest
    assert engine.save(folder) == folder  # once more, over the old one
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_saving_over_something_else_is_refused(build, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").touch()
    with pytest.raises(LabError, match="letters exists and is no engine"):
        build().save(tmp_path / "letters")
    assert (tmp_path / "letters" / "dear.txt").exists()


def test_saving_over_a_file_that_only_has_the_name_of_a_manifest_is_refused(build, tmp_path):
    (tmp_path / "engine.json").write_text('{"cylinders": 8}')
    with pytest.raises(LabError, match="exists and is no engine"):
        build().save(tmp_path)
    assert (tmp_path / "engine.json").exists()


def test_a_disk_that_fills_up_while_an_engine_is_saved_is_one_sentence(
    build, monkeypatch, tmp_path
):
    def full(*arguments) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    engine = build()
    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(LabError, match=r"mine cannot be written \(No space left on device\)"):
        engine.save(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_an_engine_that_cannot_be_replaced_stays(build, monkeypatch, tmp_path):
    engine = build()
    folder = engine.save(tmp_path / "mine")
    rename = Path.replace

    def refused(path: Path, target: Path) -> Path:
        if target == folder and path.name != "old":
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(LabError, match="mine cannot be written"):
        engine.save(folder)
    assert Engine.load(folder).manifest == engine.manifest
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_place_that_cannot_be_written_is_named(build, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match="file/engine cannot be written"):
        build().save(tmp_path / "file" / "engine")


def test_a_cache_that_cannot_be_written_is_named(model, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DLTLAB_ENGINE_DIR", str(tmp_path / "file" / "engines"))
    with pytest.raises(LabError, match=r"cannot be written \("):
        optimize(model, backend="keras", precision="float32")


def test_loading_what_is_no_engine_or_damaged_is_refused(build, tmp_path):
    with pytest.raises(LabError, match="is no engine: make one with dltlab optimize"):
        Engine.load(tmp_path)
    with pytest.raises(LabError, match="is damaged: make it again"):
        Engine.load(damaged(build()))


def test_an_engine_that_names_files_outside_its_folder_is_refused(build):
    folder = build().folder
    (folder.parent / "other").write_bytes(b"")
    about = json.loads((folder / cache.MANIFEST).read_text())
    about["files"]["../other"] = sha256_of(folder.parent / "other")
    (folder / cache.MANIFEST).write_text(json.dumps(about))
    with pytest.raises(LabError, match="is damaged: make it again"):
        Engine.load(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"machine": "Another CPU"}, "on another machine, Another CPU, and this is "),
        ({"versions": {"openvino": "1.0"}}, r"is stale \(openvino 1\.0, now "),
        ({"format": 0}, r"is stale \(an older dltlab\)"),
        ({"backend": "tpu"}, "backend is 'tpu'"),
        ({"precision": "int3"}, "is damaged"),
    ],
)
def test_an_engine_that_was_made_elsewhere_is_refused(build, tmp_path, change, says):
    folder = build().save(tmp_path / "mine")
    about = json.loads((folder / "engine.json").read_text())
    (folder / "engine.json").write_text(json.dumps(about | change))
    with pytest.raises(LabError, match=says):
        Engine.load(folder)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ([], "takes 1 inputs, and got 0"),
        ([np.zeros((2, 8, 8, 3), np.float32)], r"has the shape \(2, 8, 8, 3\)"),
        ([np.zeros((2, 16, 16, 3))], r"is float64, and the network takes float32"),
        ([np.zeros((0, 16, 16, 3), np.float32)], "holds no example"),
    ],
)
def test_an_engine_refuses_what_does_not_fit(model, validation, arrays, says):
    engine = optimize(model, backend="openvino", precision="float32", validation=validation)
    with pytest.raises(LabError, match=says):
        engine(*arrays)
