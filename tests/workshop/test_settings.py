import pytest

from dltlab.course import Course
from dltlab.errors import Invalid, NotFound
from dltlab.workshop.folder import WorkshopFolder
from dltlab.workshop.settings import Address, Settings, read_settings


def test_every_setting_has_a_default(tmp_path):
    settings = read_settings(WorkshopFolder(tmp_path)).content

    assert settings == Settings()
    assert settings.lab_names(Course.own()) == Course.own().lab_names()
    assert not settings.tls.enabled


@pytest.mark.parametrize(
    ("address", "url", "board"),
    [
        ({}, "http://127.0.0.1:8000", "http://127.0.0.1:8001"),
        ({"port": 80, "board_port": 8080}, "http://127.0.0.1", "http://127.0.0.1:8080"),
        ({"host": "::1"}, "http://[::1]:8000", "http://[::1]:8001"),
        (
            {"host": "0.0.0.0", "port": 443, "url": "http://Lab.example.org:80/"},
            "http://lab.example.org",
            "http://lab.example.org:444",
        ),
        (
            {"url": "https://lab.example.org", "board_url": "https://board.example.org/"},
            "https://lab.example.org",
            "https://board.example.org",
        ),
    ],
)
def test_the_board_has_an_origin_of_its_own_as_browsers_name_it(address, url, board):
    settings = Settings(address=Address(**address))

    assert settings.url == url
    assert settings.board_origin == board
    assert settings.board_url == f"{board}/board/"


def test_labs_are_named_as_on_the_command_line(tmp_path):
    (tmp_path / "workshop.toml").write_text('labs = ["1", "02"]\n[starts]\n01 = 09:00:00\n')

    settings = read_settings(WorkshopFolder(tmp_path)).content

    names = settings.lab_names(Course.own())
    assert names == ["01_first_network", "02_image_classification"]
    with pytest.raises(NotFound):
        Settings(labs=["99"]).lab_names(Course.own())


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('title = ""', 1, "'title'"),
        ('tittle = "x"', 1, "Unknown key 'tittle'"),
        ('title = "x"\nlabs = ["01",\n "99"]', 2, "There is no lab '99'"),
        ("[starts]\n99 = 09:00:00", 2, "There is no lab '99'"),
        ("[starts]\n01 = 9", 2, "'starts.01'"),
        ("[limits]\nmemory_gb = 0", 2, "'limits.memory_gb'"),
        ('[tls]\ncertificate = "a.pem"', 1, "'tls': give both certificate and key"),
        ("[address]\nport = 70000", 2, "'address.port'"),
        ('[address]\nurl = "example.org"', 2, "'address.url'"),
        ('[address]\nurl = "https://:80"', 2, "'address.url': Invalid URL"),
        ("[address]\nport = 65535", 1, "'address': give the board a port of its own"),
        ("[address]\nport = 80\nboard_port = 80", 1, "'address': give the board a port"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path, monkeypatch, text, line, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workshop.toml").write_text(text)

    with pytest.raises(Invalid) as error:
        read_settings(WorkshopFolder(tmp_path))

    assert str(error.value).startswith(f"workshop.toml:{line}: ")
    assert message in str(error.value)
