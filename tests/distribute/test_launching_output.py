import os
import threading

import pytest

from dltlab.distribute.launching_output import MAX_LINE_BYTES, Output


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = Output(tmp_path / "logs")
    yield output
    output.close()


def pump(output: Output, content: bytes, stream: int = 1, rank: int = 0) -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb", buffering=0) as pipe:
        thread = threading.Thread(target=output.pump, args=[rank, pipe, stream])
        thread.start()
        for start in range(0, len(content), 1000):
            os.write(write_end, content[start : start + 1000])
        os.close(write_end)
        thread.join()


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"a\nb\n", "[rank 0] a\n[rank 0] b\n"),
        (b"a\n\nb", "[rank 0] a\n[rank 0] \n[rank 0] b\n"),
        (b"1/2\r2/2\r\n", "[rank 0] 2/2\n"),
        ("ü\n".encode(), "[rank 0] ü\n"),
        (b"", ""),
    ],
)
def test_every_line_has_its_rank(output, capfd, content, shown):
    pump(output, content)

    assert capfd.readouterr().out == shown
    assert not content or (output.folder / "rank0.log").read_bytes() == content


def test_stderr_stays_stderr(output, capfd):
    pump(output, b"warning\n", 2, 7)
    assert capfd.readouterr() == ("", "[rank 7] warning\n")


def test_a_line_without_end_is_shown_in_parts(output, capfd):
    pump(output, b"x" * (3 * MAX_LINE_BYTES))

    lines = capfd.readouterr().out.splitlines()
    assert "".join(line.removeprefix("[rank 0] ") for line in lines) == "x" * (3 * MAX_LINE_BYTES)
    assert len(lines) == 3


def test_logs_that_cannot_be_written_are_left_out_with_one_message(output, capfd):
    (output.folder / "rank0.log").symlink_to("/dev/full")
    pump(output, b"a\nb\n" * 1000)
    pump(output, b"c\n", rank=1)

    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 2001
    assert err == (
        "[launch] logs cannot be written (No space left on device): the workers go on without log "
        "files.\n"
    )


def test_a_file_where_the_folder_must_be_leaves_out_logs(tmp_path, capfd):
    (tmp_path / "file").touch()

    assert Output(tmp_path / "file").folder is None
    assert "cannot be written (File exists)" in capfd.readouterr().err
