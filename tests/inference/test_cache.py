"""The engine cache: what is found again, what is removed, and who builds."""

import os
import threading
import time

import numpy as np
import pytest

from dltlab.errors import Unavailable
from dltlab.inference.cache import build_lock, cached_folder, mark_used, remove_unused
from dltlab.inference.manifest import MANIFEST, EngineManifest
from tests.deadlines import HANG_SECONDS

DAY = 86400
DATA = [np.arange(4.0)]


@pytest.fixture
def manifest() -> EngineManifest:
    return EngineManifest(
        model="tiny", model_hash="1", backend="keras", versions={"keras": "3"},
        precision="float32", machine="A CPU", inputs=(), layers=(),
    )  # fmt: skip


@pytest.fixture
def engine_folder(manifest, empty_cache):
    """Create the folder of an engine that was last used some days ago."""

    def create(model_hash: str, days: float):
        folder = cached_folder(manifest.model_copy(update={"model_hash": model_hash}), DATA)
        folder.mkdir(parents=True)
        (folder / MANIFEST).touch()
        last_used = time.time() - days * DAY
        os.utime(folder / MANIFEST, (last_used, last_used))
        return folder

    return create


def test_equal_engines_have_one_folder_in_the_cache(manifest, empty_cache):
    folder = cached_folder(manifest, DATA)
    assert folder == cached_folder(manifest.model_copy(), [np.arange(4.0)])
    assert folder.is_relative_to(empty_cache)


@pytest.mark.parametrize(
    "changed",
    [
        {"model_hash": "2"},
        {"backend": "xla"},
        {"versions": {"keras": "4"}},
        {"precision": "bfloat16"},
        {"max_accuracy_drop": 0.1},
        {"machine": "Another CPU"},
        {"format": 0},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_engine_has_another_folder(manifest, changed):
    other = manifest.model_copy(update=changed)
    assert cached_folder(other, DATA) != cached_folder(manifest, DATA)


@pytest.mark.parametrize(
    "data",
    [[np.arange(4.0) + 1], [np.arange(4)], [np.arange(4.0).reshape(2, 2)], []],
    ids=["value", "dtype", "shape", "none"],
)
def test_other_data_has_another_folder(manifest, data):
    assert cached_folder(manifest, data) != cached_folder(manifest, DATA)


def test_the_name_of_the_model_does_not_count(manifest):
    renamed = manifest.model_copy(update={"model": "renamed"})
    assert cached_folder(renamed, DATA) == cached_folder(manifest, DATA)


def test_engines_that_nobody_used_for_30_days_are_removed(engine_folder):
    recent, old, revived = (engine_folder("1", 29), engine_folder("2", 31), engine_folder("3", 40))
    mark_used(revived)

    remove_unused()

    assert [folder.exists() for folder in (recent, old, revived)] == [True, False, True]
    assert not old.parent.exists()


def test_marking_an_engine_that_is_gone_is_no_error(empty_cache):
    mark_used(empty_cache / "gone")


def test_a_second_build_of_the_same_engine_waits_for_the_first(manifest, empty_cache):
    folder = cached_folder(manifest, DATA)
    order = []

    def build() -> None:
        with build_lock(folder):
            order.append("second")

    with build_lock(folder):
        second = threading.Thread(target=build)
        second.start()
        second.join(0.2)
        order.append("first")
    second.join(HANG_SECONDS)

    assert order == ["first", "second"]


def test_what_a_killed_build_left_is_removed(manifest, empty_cache):
    folder = cached_folder(manifest, DATA)
    unfinished = folder.with_name(f".{folder.name}.abc123")
    (unfinished / "new").mkdir(parents=True)
    with build_lock(folder):
        assert not unfinished.exists()


def test_a_cache_that_cannot_be_written_is_named(manifest, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DLTLAB_ENGINE_DIR", str(tmp_path / "file" / "engines"))
    with (
        pytest.raises(Unavailable, match=r"engines/\w+ cannot be written \("),
        build_lock(cached_folder(manifest, DATA)),
    ):
        pass
