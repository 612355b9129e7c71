"""The commands for trained models."""

import pytest
from PIL import Image


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    """A model whose class 0 is red and class 1 green."""
    import keras

    mean = keras.layers.GlobalAveragePooling2D()
    dense = keras.layers.Dense(2, kernel_initializer=keras.initializers.Identity(10.0))
    path = tmp_path_factory.mktemp("model") / "colors.keras"
    keras.Sequential([keras.Input((8, 8, 3)), mean, dense]).save(path)
    return path


@pytest.fixture
def images(tmp_path, monkeypatch):
    """The folder `images`: a red image, a green one, and a file that is not an image."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "images"
    folder.mkdir()
    for name, color in (("[red].png", "#ff0000"), ("green.png", "#00ff00")):
        Image.new("RGB", (16, 16), color).save(folder / name)
    (folder / "none.png").write_text("no image")
    return folder


def test_classify_prints_the_classes_and_writes_a_file(dltlab, saved_model, images):
    result = dltlab("classify", saved_model, "images", "--out", "found.csv")

    assert (result.code, result.err) == (0, "")
    header, *rows, last = result.out.splitlines()
    assert header.split() == ["file", "class", "probability"]
    assert [row.split() for row in rows] == [
        ["images/[red].png", "0", "1.000"],
        ["images/green.png", "1", "1.000"],
        ["images/none.png", "is", "damaged", "or", "not", "an", "image"],
    ]
    assert last == "Wrote found.csv."
    assert (images.parent / "found.csv").read_text().count("\n") == 4


def test_classify_prints_the_first_of_many_files(dltlab, saved_model, images):
    result = dltlab("classify", saved_model, *["images/green.png"] * 23)

    assert len(result.out.splitlines()) == 1 + 20 + 1
    assert result.out.endswith("… and 3 more.\n")


def test_classify_can_assign_several_labels(dltlab, saved_model, images):
    Image.new("RGB", (16, 16), "#ffff00").save(images / "both.png")

    result = dltlab("classify", saved_model, "images/both.png", "--multi-label")

    assert result.out.splitlines()[1].split() == ["images/both.png", "0", "1", "1.000"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nothing.keras images", "nothing.keras is not a saved model"),
        ("{model} nowhere", "nowhere does not exist"),
        ("{model} images/none.png", "is damaged or not an image"),
        ("{model} images --resize stretch", "resize is 'stretch'"),
        ("{model} images --out images", "images cannot be written"),
    ],
)
def test_classify_reports_wrong_input_in_one_sentence(
    dltlab, saved_model, images, arguments, message
):
    result = dltlab("classify", *arguments.format(model=saved_model).split())

    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert result.err.startswith("dltlab: ")
    assert message in result.err


@pytest.fixture(scope="module")
def digit_model(tmp_path_factory):
    """An untrained model for digits."""
    import keras

    layers = [keras.layers.Flatten(), keras.layers.Dense(10, name="logits")]
    path = tmp_path_factory.mktemp("model") / "digits.keras"
    keras.Sequential([keras.Input((8, 8, 1)), *layers]).save(path)
    return path


@pytest.fixture
def engines(tmp_path, monkeypatch):
    """The folder of compiled engines, next to which the tests run."""
    monkeypatch.setenv("DLTLAB_ENGINE_DIR", str(tmp_path / "engines"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "engines"


def test_the_help_of_optimize_names_every_backend_and_precision(dltlab):
    from dltlab.inference import BACKENDS
    from dltlab.inference.backends.base import PRECISIONS

    words = dltlab("optimize", "--help").out.split()

    assert {"auto", *BACKENDS, *PRECISIONS} <= {word.strip(",.") for word in words}


def test_optimize_looks_for_the_data_set_in_a_course(dltlab, digit_model, tmp_path):
    result = dltlab("optimize", digit_model, "--data", "digits", "--course", tmp_path)

    assert result.code == 2
    assert f"{tmp_path} is not a course" in result.err


def test_optimize_reports_the_accuracy_and_writes_the_engine(dltlab, digit_model, engines):
    from dltlab import data
    from dltlab.inference import Engine

    result = dltlab(
        *("optimize", digit_model, "--data", "digits", "--precision", "int8"),
        *("--max-accuracy-drop", 0.1, "--out", "engine"),
    )

    assert result.code == 0
    lines = result.out.splitlines()
    (accuracy,) = [line for line in lines if " in int8 has an accuracy of 0." in line]
    assert accuracy.endswith(" (450 examples).")
    assert "layers became" in result.out
    assert lines[-1] == "Wrote engine."
    images, _ = data.arrays("digits", "test")
    engine = Engine.load("engine")
    assert engine(images[:3]).shape == (3, 10)
    assert list(engine.manifest.class_names) == data.info("digits").class_names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nothing.keras", "nothing.keras is not a saved model"),
        ("{model} --precision int8", "int8 needs calibration data"),
        ("{model} --backend fast", "backend is 'fast'"),
        ("{model} --data nowhere", "nowhere"),
        ("{model} --data tinyshakespeare", "'tinyshakespeare' holds no images"),
        ("{model} --data shapes", "calibration has the shape (300, "),
        ("{model} --batch-size 0", "batch_size is 0"),
        ("{model} --backend keras --precision float32 --out here", "here exists and is not"),
    ],
)
def test_optimize_reports_an_error_in_one_line_with_exit_code_2(
    dltlab, digit_model, engines, arguments, message
):
    (engines.parent / "here").mkdir()

    result = dltlab("optimize", *arguments.format(model=digit_model).split())

    assert result.code == 2
    assert result.err.splitlines()[-1].startswith("dltlab: ")
    assert message in result.err
    assert not (engines.parent / "engine").exists()
