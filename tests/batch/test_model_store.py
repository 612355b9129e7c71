"""`ModelStore`: promote the model of a run, roll back, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dltlab.batch import ModelStore, RunFolder, Status
from dltlab.batch.run_folder import Run, State
from dltlab.errors import Damaged, Invalid, NotFound


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., RunFolder]:
    """Make the folder of a run that has left `model.keras`."""

    def new(accuracy: float, status: Status = Status.DONE, **files: str) -> RunFolder:
        run = Run("shapes.ipynb", {"rate": accuracy}, name="shapes")
        folder = RunFolder(tmp_path / "runs" / run.id)
        folder.create(run)
        folder.write_state(State(status))
        metric = {"name": "accuracy", "value": accuracy, "step": None, "time": 1.0}
        folder.metrics_file.write_text(json.dumps(metric) + "\n")
        (folder.path / "versions.json").write_text('{"data": {"pets": "2"}}')
        folder.files.mkdir()
        for name, text in (files or {"model.keras": f"weights {accuracy}"}).items():
            (folder.files / name).write_text(text)
        return folder

    return new


def test_promoted_model_is_in_use_with_its_origin(
    store: ModelStore, new_run: Callable[..., RunFolder]
) -> None:
    run = new_run(0.9)
    version = store.promote(run)

    assert version == store.current("shapes")
    assert store.names() == ["shapes"]
    assert version.number == 1
    assert version.path.read_text() == "weights 0.9"
    assert (version.run, version.notebook) == (run.path.name, "shapes.ipynb")
    assert version.parameters == {"rate": 0.9}
    assert version.metrics == {"accuracy": 0.9}
    assert version.versions == {"data": {"pets": "2"}}


def test_roll_back_returns_to_the_versions_before(
    store: ModelStore, new_run: Callable[..., RunFolder]
) -> None:
    first, second, third = (new_run(accuracy) for accuracy in (0.7, 0.8, 0.6))
    for run in (first, second, third):
        store.promote(run)
    assert store.current("shapes").metrics == {"accuracy": 0.6}

    assert store.roll_back("shapes").metrics == {"accuracy": 0.8}
    assert store.roll_back("shapes").metrics == {"accuracy": 0.7}
    with pytest.raises(Invalid, match="Version 1 of shapes is the first"):
        store.roll_back("shapes")

    store.promote(third)
    history = store.history("shapes")
    assert [(version.number, in_use) for version, in_use in history] == [
        (3, True),
        (2, False),
        (1, False),
    ]
    assert store.roll_back("shapes").number == 1


def test_run_is_stored_once_for_each_model(
    store: ModelStore, new_run: Callable[..., RunFolder]
) -> None:
    run = new_run(0.9, **{"small.keras": "small", "large.keras": "large"})
    with pytest.raises(Invalid, match=r"choose one of large\.keras, small\.keras"):
        store.promote(run)

    small = store.promote(run, model="small.keras")
    assert store.promote(run, model="large.keras").number == 2
    assert store.promote(run, model="small.keras") == small
    assert len(store.history("shapes")) == 2


def test_engine_is_stored_with_its_files_and_without_its_cache(
    store: ModelStore, new_run: Callable[..., RunFolder], engine_manifest: dict[str, Any]
) -> None:
    run = new_run(0.9, readme="")
    engine = run.files / "engine"
    (engine / "cache").mkdir(parents=True)
    (engine / "cache" / "plan").write_text("built again")
    (engine / "network.bin").write_text("compiled")
    (engine / "engine.json").write_text(json.dumps(engine_manifest))

    version = store.promote(run, "small-shapes")

    assert version.path.name == "engine"
    assert sorted(path.name for path in version.path.iterdir()) == ["engine.json", "network.bin"]
    assert store.current("small-shapes") == version


@pytest.fixture
def engine_manifest() -> dict[str, Any]:
    return {
        "model": "shapes",
        "model_hash": "1",
        "backend": "openvino",
        "versions": {},
        "precision": "float32",
        "machine": "a processor",
        "inputs": [{"shape": [8], "dtype": "float32"}],
        "layers": [],
        "files": {"network.bin": "2"},
    }


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.DONE])
def test_run_that_is_not_done_is_refused(
    store: ModelStore, new_run: Callable[..., RunFolder], status: Status
) -> None:
    run = new_run(0.9, status)
    with pytest.raises(Invalid, match="only a run that is done is promoted"):
        store.promote(run)
    assert store.names() == []


@pytest.mark.parametrize("name", ["../shapes", "a/b", ".hidden", "-x", "n" * 101, "a b"])
def test_name_that_is_no_folder_of_the_store_is_refused(
    store: ModelStore, new_run: Callable[..., RunFolder], name: str
) -> None:
    with pytest.raises(Invalid, match="is no name for a model"):
        store.promote(new_run(0.9), name)
    with pytest.raises(NotFound, match="There is no model"):
        store.current(name)


@pytest.mark.parametrize("model", ["other.keras", "../run.json", "/etc/passwd"])
def test_file_that_the_run_has_not_left_is_refused(
    store: ModelStore, new_run: Callable[..., RunFolder], model: str
) -> None:
    with pytest.raises(NotFound, match="has left no model"):
        store.promote(new_run(0.9), model=model)


def test_run_without_a_model_is_told_how_to_save_one(
    store: ModelStore, new_run: Callable[..., RunFolder]
) -> None:
    with pytest.raises(NotFound, match=r'model\.save\("model\.keras"\)'):
        store.promote(new_run(0.9, **{"notes.txt": ""}))


def test_unknown_model_lists_what_the_store_holds(
    store: ModelStore, new_run: Callable[..., RunFolder]
) -> None:
    with pytest.raises(NotFound, match="it holds nothing"):
        store.current("digits")
    store.promote(new_run(0.9))
    with pytest.raises(NotFound, match="it holds shapes"):
        store.roll_back("digits")


@pytest.mark.parametrize("change", ["write", "remove"])
def test_changed_model_is_damaged_and_can_be_rolled_back(
    store: ModelStore, new_run: Callable[..., RunFolder], change: str
) -> None:
    first = store.promote(new_run(0.7))
    path = store.promote(new_run(0.8)).path
    if change == "write":
        path.write_text("other weights")
    else:
        path.unlink()

    with pytest.raises(Damaged, match="a file was changed or removed"):
        store.current("shapes")
    assert store.roll_back("shapes") == first


def test_truncated_file_of_the_store_is_damaged(
    store: ModelStore, new_run: Callable[..., RunFolder]
) -> None:
    version = store.promote(new_run(0.7))
    (version.path.parent / "version.json").write_text('{"number": 1')
    with pytest.raises(Damaged, match=r"version\.json cannot be read"):
        store.current("shapes")
