"""What a lab writes, and where."""

import pytest

from dltlab.authoring.writes import writes_elsewhere
from dltlab.course import read_lab

ELSEWHERE = {
    "a file opened for writing": ('open("x.txt", "w")', "x.txt"),
    "a file opened for appending": ('open("x.txt", mode="a")', "x.txt"),
    "a compressed file": ('gzip.open("x.gz", "wb")', "x.gz"),
    "a path opened for writing": ('Path("x.txt").open("w")', "x.txt"),
    "a text": ('Path("data", "x.txt").write_text("ha")', "data/x.txt"),
    "bytes": ('Path("x.txt").write_bytes(b"ha")', "x.txt"),
    "a folder": ('Path("images").mkdir(exist_ok=True)', "images"),
    "a folder of os": ('os.makedirs("images")', "images"),
    "a path in a variable": ('f = Path("images")\n(f / "x.txt").touch()', "images/x.txt"),
    "a path in two variables": ('a = "x"\nb = Path(a) / "y"\nb.mkdir()', "x/y"),
    "an array": ('np.save("x.npy", x)', "x.npy"),
    "a network": ('model.save("x.keras")', "x.keras"),
    "a saved model": ('tf.saved_model.save(model, "x")', "x"),
    "a figure": ('figure.savefig("x.png")', "x.png"),
    "a table": ('table.to_csv("x.csv", ";")', "x.csv"),
    "a numbered file": ('model.save(f"epoch-{n}.keras")', "epoch-"),
    "a file of a keyword": ('ModelCheckpoint(filepath="x.keras")', "x.keras"),
    "a training's folder": ('training.fit(model, train, run_dir="runs/one")', "runs/one"),
    "a copy": ('shutil.copy(source, "x.txt")', "x.txt"),
    "a removed folder": ('shutil.rmtree("images")', "images"),
    "another lab's runs": ('training.fit(model, run_dir="runs/other")', "runs/other"),
    "a folder above": ('Path("my_topic/../x.txt").touch()', "my_topic/../x.txt"),
    "a cell that is written": ("# %%writefile x.sh\npass", "x.sh"),
    "a renamed file": ('os.rename(old, "x.txt")', "x.txt"),
    "a replaced path": ('Path(folder, "x").replace("x.txt")', "x.txt"),
    "an archive": ('zipfile.ZipFile("x.zip", "w")', "x.zip"),
    "an archive of tar": ('tarfile.open("x.tar", "w:gz")', "x.tar"),
    "an HDF5 file": ('h5py.File("x.h5", "w")', "x.h5"),
    "a file of TensorFlow": ('tf.io.write_file("x.png", content)', "x.png"),
    "records": ('tf.io.TFRecordWriter("x.tfrecord")', "x.tfrecord"),
    "summaries": ('tf.summary.create_file_writer("logs")', "logs"),
    "an object": ('joblib.dump(table, "x.pkl")', "x.pkl"),
    "the output of a command": ("# !echo ha > x.txt", "x.txt"),
    "an appended output": ("# !echo ha >>x.txt", "x.txt"),
    "a command that makes a file": ("# !touch x.txt", "x.txt"),
    "a command that removes files": ("# !rm -rf x.txt", "x.txt"),
    "a cell of a shell": ('# %% language="bash"\n# ls 2>&1 | tee x.txt', "x.txt"),
    "another lab's folder": ('model.save("other_topic/x.keras")', "other_topic/x.keras"),
}
ALLOWED = {
    "a file opened for reading": 'open("x.txt")\nPath("x.txt").open("rb")',
    "the lab's folder": 'folder = Path("my_topic")\nfolder.mkdir()\nmodel.save(folder / "x.keras")',
    "the lab's folder with its number": 'Path("01_my_topic").mkdir()',
    "its runs": 'training.fit(model, train, run_dir="runs/my_topic/one")',
    "a numbered file in it": 'model.save(f"my_topic/epoch-{n}.keras")',
    "a temporary folder": (
        'with TemporaryDirectory() as folder:\n    Path(folder, "x").touch()\n'
        '    (Path(folder) / "x").touch()\n    model.save(f"{folder}/x")\n'
        '    open(os.path.join(folder, "x"), "w")'
    ),
    "a folder changed to": 'with chdir(folder):\n    Path("x.txt").write_text("")',
    "text that is no path": 'text = "a"\ntext.replace("a", "b")\ntable.rename(columns={"a": "b"})',
    "a variable that refers to itself": "folder = folder / folder\nfolder.mkdir()",
    "reading": 'pd.read_csv("x.csv")\nload_model("x.keras")',
    "an archive that is read": 'zipfile.ZipFile("x.zip")\ntarfile.open("x.tar")',
    "an HDF5 file that is read": 'h5py.File("x.h5", "r")',
    "a text that is replaced": 'text = "b"\nname = text.replace("a", "b.txt")',
    "a command that only reads": "# !ls -l x.txt 2>/dev/null | wc -l > /dev/stderr",
    "a command in its folder": "# !mkdir -p runs/my_topic && echo ha > runs/my_topic/x.txt",
    "a command in a folder that is a variable": '# !cp x.txt "{folder}/y.txt"',
    "a comparison": "smaller = 1 > 2",
    "a cell that is written": "# %%writefile my_topic/x.sh\npass",
}


@pytest.fixture
def lab_with(source):
    """Return a function that reads the lab with a cell added."""

    def add(code: str):
        source.write_text(f"{source.read_text()}\n# %%\n{code}\n")
        return read_lab(source)

    return add


@pytest.mark.parametrize(("code", "path"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_write_outside_of_the_labs_folder_is_found(lab_with, code, path):
    lab = lab_with(code)

    ((line, written),) = writes_elsewhere(lab)

    assert written.startswith(path)
    assert lab.cells[-1].line <= line < lab.cells[-1].line + len(code.splitlines())


@pytest.mark.parametrize("code", ALLOWED.values(), ids=ALLOWED)
def test_other_writes_and_what_only_reads_are_allowed(lab_with, code):
    assert list(writes_elsewhere(lab_with(code))) == []
