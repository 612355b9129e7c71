"""`classify` on images of one color, with a model that recognizes colors."""

import csv
import io
import json
import os
import zipfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers
from PIL import Image

from dltlab import data
from dltlab.errors import LabError
from dltlab.training import classification, classify

SIZE = 8
COLORS = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A model whose logits are ten times the mean red, green and blue."""
    times_ten = keras.initializers.Identity(10.0)
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, kernel_initializer=times_ten),
        ]
    )


def write(path: Path, color: str | tuple[int, int, int] = "red", size=(12, 12)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, "PNG")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, one of them in a subfolder, a text file and a hidden file."""
    write(tmp_path / "images" / "b.png", "#00ff00")
    write(tmp_path / "images" / "a" / "c.png", "blue")
    (tmp_path / "images" / "z.txt").write_text("no image")
    (tmp_path / "images" / ".hidden").write_text("no image")
    return tmp_path / "images"


def test_folder_gives_a_row_per_file_in_order_of_path(model: keras.Model, folder: Path) -> None:
    result = classify(model, folder, COLORS)
    assert result.columns.tolist() == ["file", "class", "probability", *COLORS, "problem"]
    assert result["file"].tolist() == [str(folder / name) for name in ("a/c.png", "b.png", "z.txt")]
    assert result["class"].tolist() == ["blue", "green", ""]
    assert result["problem"].tolist() == ["", "", "is damaged or not an image"]


def test_probabilities_are_those_of_the_model(model: keras.Model, tmp_path: Path) -> None:
    result = classify(model, write(tmp_path / "x.png", (255, 51, 0)), COLORS)
    expected = np.exp([10, 2, 0]) / np.exp([10, 2, 0]).sum()
    assert result.loc[0, COLORS].tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    assert result.loc[0, "probability"] == pytest.approx(expected[0], rel=1e-4)


def test_row_with_a_problem_has_no_numbers(model: keras.Model, folder: Path) -> None:
    assert classify(model, folder, COLORS).loc[2, ["probability", *COLORS]].isna().all()


def test_classes_without_names_are_numbers(model: keras.Model, folder: Path) -> None:
    result = classify(model, str(folder / "b.png"))
    assert result.columns.tolist() == ["file", "class", "probability", "0", "1", "2", "problem"]
    assert result.loc[0, "class"] == "1"


def test_files_and_folders_keep_their_order(
    model: keras.Model, folder: Path, tmp_path: Path
) -> None:
    files: list[str | Path] = [
        write(tmp_path / "x.png"), str(folder / "a"), folder / "b.png"
    ]  # fmt: skip
    result = classify(model, iter(files), COLORS)
    assert result["class"].tolist() == ["red", "blue", "green"]


def test_problem_with_a_file_is_in_its_row(model: keras.Model, tmp_path: Path) -> None:
    good = write(tmp_path / "good.png")
    (tmp_path / "empty.png").touch()
    write(tmp_path / "tiny.png", size=(3, 3))
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:40])
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link").symlink_to(tmp_path / "cut.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    problems = classify(model, [tmp_path, tmp_path / "missing.png"]).set_index("file")["problem"]
    assert {Path(file).name: problem for file, problem in problems.items()} == {
        "loop": "is a link to a folder",
        "cut.png": "is damaged or not an image",
        "empty.png": "is empty",
        "good.png": "",
        "link": "is damaged or not an image",
        "missing.png": "does not exist",
        "pipe.png": "is not a regular file",
        "tiny.png": "is tiny: 3×3 pixels",
    }


def test_huge_file_is_not_read(model: keras.Model, folder: Path) -> None:
    with (folder / "z.txt").open("wb") as file:
        file.truncate(300_000_000)
    assert classify(model, folder).loc[2, "problem"] == "is too large: 300 MB"


@pytest.mark.parametrize(
    ("resize", "red_fraction"), [("crop", 1.0), ("squash", 0.5), ("fit", 0.25)], ids=str
)
def test_resize_sets_how_an_image_becomes_a_square(
    model: keras.Model, tmp_path: Path, resize, red_fraction: float
) -> None:
    wide = np.zeros((16, 32, 3), np.uint8)
    wide[:, 8:24, 0] = 255  # the middle half is red
    Image.fromarray(wide).save(tmp_path / "wide.png")
    result = classify(model, tmp_path, COLORS, resize=resize)
    odds = result.loc[0, "red"] / result.loc[0, "green"]
    assert np.log(odds) == pytest.approx(10 * red_fraction, abs=0.7)


def test_model_with_one_channel_gets_the_luma(tmp_path: Path) -> None:
    model = keras.Sequential(
        [keras.Input((SIZE, SIZE, 1)), layers.GlobalAveragePooling2D(), layers.Dense(2, "sigmoid")]
    )
    model.layers[-1].kernel.assign([[1.0, 0.0]])
    write(tmp_path / "green.png", "#00ff00")
    luma = round(255 * 0.587) / 255
    expected = 1 / (1 + np.exp(-luma))
    assert classify(model, tmp_path).loc[0, "0"] == pytest.approx(expected, abs=1e-4)


def test_multi_label_names_all_classes_of_one_half_or_more(
    model: keras.Model, tmp_path: Path
) -> None:
    shifted = keras.models.clone_model(model)
    shifted.layers[-1].set_weights([np.eye(3) * 10, np.full(3, -5)])
    write(tmp_path / "a.png", "#ffff00")
    write(tmp_path / "b.png", "black")
    (tmp_path / "c.png").touch()
    result = classify(shifted, tmp_path, COLORS, multi_label=True)
    assert result["class"].tolist() == ["red green", "", ""]
    assert result.loc[0, "probability"] == pytest.approx(1 / (1 + np.exp(-5)), rel=1e-4)


def test_files_are_classified_in_batches_of_bounded_size(
    model: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_sizes = []

    def counting(model, images, *, multi_label=False):
        batch_sizes.append(len(images))
        return np.full((len(images), 3), 1 / 3, np.float32)

    monkeypatch.setattr(classification, "probabilities", counting)
    monkeypatch.setattr(classification, "BATCH_BYTES", 4 * 4 * SIZE * SIZE * 3)
    files = [write(tmp_path / "x.png")] * 9 + [tmp_path / "missing"]
    assert len(classify(model, files)) == 10
    assert batch_sizes == [1, 4, 4, 1]  # the first call finds the number of classes


class TestCsv:
    def read(self, path: Path) -> list[list[str]]:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        return list(csv.reader(io.StringIO(text, newline="")))

    def test_content_equals_the_table(
        self, model: keras.Model, folder: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "new" / "found.csv"
        result = classify(model, folder, COLORS, out=out)
        loaded = pd.read_csv(out, keep_default_na=False, na_values=dict.fromkeys(COLORS, ""))
        assert loaded.columns.tolist() == result.columns.tolist()
        for name in ("file", "class", "problem"):
            assert loaded[name].tolist() == result[name].tolist()
        assert loaded["blue"].to_numpy() == pytest.approx(
            result["blue"].to_numpy(), abs=1e-6, nan_ok=True
        )

    def test_home_folder_is_expanded(
        self, model: keras.Model, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        classify(model, folder, COLORS, out="~/found.csv")
        assert (tmp_path / "found.csv").exists()

    def test_unusual_file_names_are_kept(self, model: keras.Model, tmp_path: Path) -> None:
        names = ["ünï ☃.png", 'quo"te,comma.png', "new\nline.png", os.fsdecode(b"\xff\xfe.png")]
        files = [write(tmp_path / name) for name in names]
        result = classify(model, files, out=tmp_path / "found.csv")
        assert result["file"].tolist() == [str(file) for file in files]
        rows = self.read(tmp_path / "found.csv")
        assert [row[0] for row in rows[1:]] == [str(file) for file in files]

    def test_no_cell_begins_like_a_formula_and_file_names_stay_valid(
        self, model: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        names = ["=1+1.png", "+a.png", "-b.png", "@c.png", "\td.png", "a;=e.png"]
        for name in names:
            write(Path(name))
        result = classify(model, names, ["=red", "+green", "blue"], out="found.csv")
        assert result["file"].tolist() == names
        assert result.loc[0, "class"] == "=red"
        head, *rows = self.read(Path("found.csv"))
        assert head[3:6] == ["'=red", "'+green", "blue"]
        for row, name in zip(rows, names, strict=True):
            assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row)
            assert Path(row[0]) == Path(name)
        # Quotes keep a name in one cell even if the separator is ";".
        assert b'"a;=e.png"' in Path("found.csv").read_bytes()

    def test_unwritable_file_is_reported(
        self, model: keras.Model, folder: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(LabError, match="cannot be written"):
            classify(model, folder, out=tmp_path / "file" / "found.csv")


def test_class_named_like_a_column_gets_another_column(model: keras.Model, folder: Path) -> None:
    result = classify(model, folder / "b.png", ["file", "problem", "blue"])
    assert result.columns[3:6].tolist() == ["file (class)", "problem (class)", "blue"]
    assert result.loc[0, "class"] == "problem"


class TestSavedModels:
    def record(self, run_dir: Path, *datasets: tuple[str, str | int]) -> None:
        rows = [
            {"name": name, "version": version, "content_hash": ""} for name, version in datasets
        ]
        (run_dir / "data.json").write_text(json.dumps(rows))

    @pytest.fixture
    def run_dir(self, tmp_path: Path) -> Path:
        """The folder of a run with a model of ten classes."""
        model = keras.Sequential(
            [keras.Input((32, 32, 3)), layers.GlobalAveragePooling2D(), layers.Dense(10)]
        )
        (tmp_path / "run").mkdir()
        model.save(tmp_path / "run" / "model.keras")
        return tmp_path / "run"

    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        return write(tmp_path / "x.png")

    def test_saved_model_gives_the_same_table(
        self, model: keras.Model, tmp_path: Path, folder: Path
    ) -> None:
        model.save(tmp_path / "colors.keras")
        for path in (tmp_path / "colors.keras", str(tmp_path / "colors.keras")):
            table = classify(path, folder, COLORS)
            pd.testing.assert_frame_equal(table, classify(model, folder, COLORS))

    def test_class_names_come_from_the_data_set_of_the_run(
        self, run_dir: Path, image: Path
    ) -> None:
        self.record(run_dir, ("tinyshakespeare", "1"), ("digits", "1998"), ("shapes", "1"))
        result = classify(run_dir, image)
        assert result.columns[3:-1].tolist() == data.info("shapes").class_names
        assert classify(run_dir, image, list("abcdefghij")).columns[3] == "a"
        assert classify(run_dir / "model.keras", image).columns[3] == "0"

    def test_class_names_come_from_imported_images(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Path
    ) -> None:
        monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
        for number in range(20):
            for kind in ("cat", "dog"):
                write(tmp_path / "pets" / kind / f"{number}.png", (number, 2, kind == "cat"))
        data.import_images(tmp_path / "pets", "pets", size=16)
        model = keras.Sequential(
            [keras.Input((16, 16, 3)), layers.GlobalAveragePooling2D(), layers.Dense(2)]
        )
        data.write_provenance(tmp_path / "run", ["pets"])
        model.save(tmp_path / "run" / "model.keras")
        assert classify(tmp_path / "run", image).columns[3:5].tolist() == ["cat", "dog"]

    def test_sixteen_bits_of_gray_are_scaled_as_in_the_imported_images(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
        for number in range(5):
            for kind, value in (("bright", 4095), ("dark", 100)):
                path = tmp_path / "cells" / kind / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                values = np.full((16, 16), value, np.uint16)
                values[0, number] = 0
                Image.fromarray(values).save(path)
        data.import_images(tmp_path / "cells", "cells", size=16)
        model = keras.Sequential(
            [keras.Input((16, 16, 3)), layers.GlobalAveragePooling2D(), layers.Dense(2)]
        )
        model.layers[-1].set_weights([np.array([[1, 0]] * 3), np.array([0, 1.5])])
        data.write_provenance(tmp_path / "run", ["cells"])
        model.save(tmp_path / "run" / "model.keras")
        result = classify(tmp_path / "run", tmp_path / "cells")
        assert result["class"].tolist() == ["bright"] * 5 + ["dark"] * 5

    @pytest.mark.parametrize("rows", [[], [("mackey_glass", "1")], [("gone", 3)]])
    def test_classes_are_numbers_if_no_data_set_fits(
        self, run_dir: Path, image: Path, rows
    ) -> None:
        self.record(run_dir, *rows)
        assert classify(run_dir, image).columns[3:5].tolist() == ["0", "1"]

    def test_several_fitting_data_sets_are_refused(self, run_dir: Path, image: Path) -> None:
        self.record(run_dir, ("shapes", "1"), ("cifar10", "1"))
        with pytest.raises(LabError, match=r"several .* 10 classes \(shapes, cifar10\): pass the"):
            classify(run_dir, image)

    @pytest.mark.parametrize("content", ["{", "[1]", '{"a": 1}', '[{"name": "shapes"}]'])
    def test_damaged_record_is_reported(self, run_dir: Path, image: Path, content: str) -> None:
        (run_dir / "data.json").write_text(content)
        with pytest.raises(LabError, match=r"data\.json is damaged: remove it"):
            classify(run_dir, image)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content: b"",
            lambda content: b"hello",
            lambda content: content[: len(content) // 2],
            lambda content: content[:300] + bytes(200) + content[500:],
        ],
        ids=["empty", "text", "cut off", "overwritten"],
    )
    def test_damaged_model_is_reported(self, run_dir: Path, image: Path, damage) -> None:
        path = run_dir / "model.keras"
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(LabError, match=r"model\.keras is damaged or not a Keras model"):
            classify(path, image)

    def test_zip_file_without_a_model_is_reported(self, tmp_path: Path, image: Path) -> None:
        with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
            archive.writestr("config.json", '{"class_name": "os.system"}')
        with pytest.raises(LabError, match=r"x\.keras is damaged or not a Keras model"):
            classify(tmp_path / "x.keras", image)

    @pytest.mark.parametrize("name", ["nothing.keras", "run", "x.png", "hf://some/model"])
    def test_path_without_a_model_is_refused(
        self, name: str, tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "run").mkdir()
        with pytest.raises(
            LabError, match=r"is not a saved model: name a \.keras file, or the fold"
        ):
            classify(name, image)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((None, None, 3), r"inputs of shape \?×\?×3"),
        ((8, 16, 3), "inputs of shape 8×16×3"),
        ((8, 8, 4), "inputs of shape 8×8×4"),
        ((8,), "inputs of shape 8"),
    ],
)
def test_model_with_other_inputs_is_refused(shape, message: str, folder: Path) -> None:
    inputs = keras.Input(shape)
    model = keras.Model(inputs, keras.ops.mean(inputs, axis=tuple(range(1, len(shape)))))
    with pytest.raises(LabError, match=f"square images of one size, .* takes {message}"):
        classify(model, folder)


def test_model_with_several_inputs_is_refused(folder: Path) -> None:
    pair = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    with pytest.raises(LabError, match=r"square images .* has several inputs"):
        classify(keras.Model(pair, layers.Add()(pair)), folder)


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        (lambda folder: folder / "none.png", {}, r"none\.png does not exist: it cannot be"),
        (lambda folder: [folder / "z.txt"] * 3, {}, "nor can the other 2. Name JPEG"),
        (lambda folder: [], {}, "no file in the list"),
        (lambda folder: folder / "a" / "b", {}, "no file in .*b: name images"),
        (lambda folder: folder, {"resize": "stretch"}, "resize is 'stretch'; it must be one of"),
        (lambda folder: folder, {"class_names": ["a", "b"]}, "class_names has 2 names"),
        (lambda folder: folder, {"class_names": ["a", "b", "a"]}, "Several classes are called 'a'"),
    ],
)
def test_wrong_argument_is_refused(
    model: keras.Model, folder: Path, files, options, message: str
) -> None:
    (folder / "a" / "b").mkdir()
    with pytest.raises(LabError, match=message):
        classify(model, files(folder), **options)
