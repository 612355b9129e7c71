"""An engine: saved and opened, configured, and what it takes."""

import errno
import json
import threading

import numpy as np
import pytest

from dltlab.errors import Damaged, Invalid, NotFound, Unavailable
from dltlab.inference import Engine, optimize
from dltlab.inference.engine import default_settings
from dltlab.inference.manifest import MANIFEST


@pytest.fixture(scope="module")
def engine(model, validation) -> Engine:
    return optimize(
        model, backend="openvino", precision="float32", validation=validation, batch_size=8
    )


def hidden_entries(folder) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_saved_engine_opens_with_the_same_outputs(engine, validation, tmp_path):
    folder = engine.save(tmp_path / "mine")
    opened = Engine.load(folder, batch_size=8)
    np.testing.assert_array_equal(opened(validation[0]), engine(validation[0]))
    assert opened.manifest == engine.manifest
    assert opened.accuracy == engine.accuracy
    assert engine.save(folder) == folder  # over the old one
    assert hidden_entries(tmp_path) == []


def test_saving_over_something_else_is_refused(engine, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").touch()
    with pytest.raises(Invalid, match="letters exists and is not an engine"):
        engine.save(tmp_path / "letters")
    assert (tmp_path / "letters" / "dear.txt").exists()


def test_a_full_disk_leaves_no_half_saved_engine(engine, monkeypatch, tmp_path):
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(Unavailable, match=r"mine cannot be written \(No space left on device\)"):
        engine.save(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    assert hidden_entries(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_named(engine, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="file/engine cannot be written"):
        engine.save(tmp_path / "file" / "engine")


def test_a_folder_without_an_engine_is_refused(tmp_path):
    with pytest.raises(NotFound, match="is not an engine"):
        Engine.load(tmp_path)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"machine": "Another CPU"}, Unavailable, "on another machine, Another CPU"),
        ({"versions": {"openvino": "1.0"}}, Unavailable, "is outdated"),
        ({"backend": "tpu"}, Invalid, "backend is 'tpu'"),
        ({"files": {"model.bin": "0"}}, Damaged, "is damaged"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_engine_that_cannot_run_here_is_refused(engine, tmp_path, fields, error, message):
    folder = engine.save(tmp_path / "mine")
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(content | fields))
    with pytest.raises(error, match=message):
        Engine.load(folder)


def test_inputs_that_do_not_fit_are_refused(engine):
    with pytest.raises(Invalid, match=r"The input has the shape \(2, 8, 8, 3\)"):
        engine(np.zeros((2, 8, 8, 3), np.float32))
    with pytest.raises(Invalid, match="The input has 0 arrays, and the network takes 1"):
        engine()


def test_it_is_configured_for_another_batch_size_and_keeps_its_notes(engine, validation):
    other = engine.configured(batch_size=3, streams=2, threads=2)
    assert (other.settings.batch_size, other.settings.streams, other.settings.threads) == (3, 2, 2)
    assert other.notes == engine.notes
    np.testing.assert_allclose(other(validation[0]), engine(validation[0]), atol=1e-5)


def test_where_nothing_changes_the_engine_itself_is_returned(engine):
    assert engine.configured() is engine
    assert engine.configured(batch_size=8) is engine


@pytest.mark.parametrize("name", ["batch_size", "streams", "threads"])
@pytest.mark.parametrize("value", [0, 1.5])
def test_settings_are_integers_of_at_least_1(engine, name, value):
    with pytest.raises(Invalid, match=rf"{name} is {value}; it must be an integer of at least 1"):
        engine.configured(**{name: value})


def test_default_settings_have_a_thread_for_each_core(monkeypatch):
    class Cpu:
        cores = 3.5  # a container's share

    monkeypatch.setattr("dltlab.inference.engine.cpu_info", Cpu)
    settings = default_settings(2)
    assert (settings.batch_size, settings.streams, settings.threads) == (2, 1, 3)


def test_each_thread_has_a_runner_of_its_own(engine, validation):
    single = engine.configured(streams=2)
    expected = single(validation[0][:8]), single(validation[0][8:16])
    outputs = [None, None]

    def run(index: int) -> None:
        runner = single.runner()
        for _ in range(20):
            (output,) = runner([validation[0][8 * index : 8 * index + 8]])
        outputs[index] = output.copy()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for output, array in zip(outputs, expected, strict=True):
        np.testing.assert_array_equal(output, array)


def test_its_repr_names_what_runs_and_how_accurate_it_is(engine):
    text = repr(engine)
    assert text.startswith("tiny on openvino in float32, batch size 8, 1 stream, ")
    assert text.endswith("; it has an accuracy of 1.0000, the float32 model 1.0000 (64 examples)")
