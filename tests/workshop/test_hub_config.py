import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from traitlets.config import Config

from dltlab.workshop.authenticator import CardAuthenticator
from dltlab.workshop.hub_config import configure, learner_environment, write_hub_config
from dltlab.workshop.roster import Person, enroll
from dltlab.workshop.spawner import AccountSpawner


@pytest.fixture
def configured(folder):
    """The configuration with settings."""

    enroll(folder, [Person("Ada")], [Person("Ida")])

    def configured(settings=""):
        folder.settings_file.write_text(settings)
        config = Config()
        configure(config, folder)
        return config

    return configured


def test_the_hub_keeps_everything_in_the_folder_and_leaves_servers_running(configured, folder):
    hub = configured().JupyterHub

    assert hub.db_url == f"sqlite:///{folder.state}/hub.sqlite"
    assert hub.cookie_secret_file.startswith(str(folder.keys))
    assert not hub.cleanup_servers
    assert hub.bind_url == "http://127.0.0.1:8000/"
    assert hub.authenticator_class is CardAuthenticator
    assert hub.spawner_class is AccountSpawner


def test_instructors_see_the_board_first_and_cannot_open_learners_servers(configured):
    hub = configured().JupyterHub

    assert hub.load_groups == {"instructors": {"users": ["instructor01"]}}
    (role,) = (role for role in hub.load_roles if role["name"] == "instructor")
    assert "access:services!service=board" in role["scopes"]
    assert not any(scope.startswith("access:servers") for scope in role["scopes"])
    pages = [
        hub.default_url(SimpleNamespace(current_user=SimpleNamespace(name=name)))
        for name in ("instructor01", "learner01")
    ]
    assert pages == ["http://127.0.0.1:8001/board/", ""]
    board = next(service for service in hub.services if service["name"] == "board")
    assert board["oauth_redirect_uri"] == f"{pages[0]}oauth_callback"
    assert "url" not in board  # else the proxy would show it on the Hub's origin


def test_another_spawner_authenticator_and_proxy_are_named(configured):
    config = configured(
        '[servers]\nspawner = "docker"\noptions = {image = "dltlab"}\n'
        'proxy = "configurable-http-proxy"\n'
        '[sign_in]\nauthenticator = "pam"\noptions = {service = "login"}\n'
        "[limits]\nmemory_gb = 2.5\n"
    )

    assert config.JupyterHub.spawner_class == "docker"
    assert config.Spawner.image == "dltlab"
    assert config.Spawner.mem_limit == "2.5G"
    assert config.JupyterHub.authenticator_class == "pam"
    assert config.Authenticator.service == "login"
    assert config.Authenticator.allow_existing_users  # those of the roster, who are added
    assert config.Authenticator.allow_all is False
    assert "proxy_class" not in config.JupyterHub
    assert config.JupyterHub.last_activity_interval <= 5  # it forgets its routes when it is killed


def test_tls_is_configured_for_the_hub(configured, folder):
    config = configured('[address]\nhost = "0.0.0.0"\nport = 443\n[tls]\nself_signed = true\n')

    assert config.JupyterHub.bind_url == "https://0.0.0.0:443/"
    assert Path(config.JupyterHub.ssl_key).parent == folder.keys


def test_servers_get_their_labs_and_nothing_of_this_environment(configured, folder, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    config = configured('labs = ["2", "01"]\n')

    labs = config.Spawner.environment["DLTLAB_LABS"]
    assert labs == "02_image_classification,01_first_network"
    assert config.Spawner.env_keep == []
    assert "SECRET" not in config.Spawner.environment
    assert config.Spawner.environment["DLTLAB_ROOM"] == str(folder.runtime)
    assert learner_environment(folder).items() <= config.Spawner.environment.items()


def test_without_root_homes_are_folders_of_the_workshop(configured, folder, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert configured().AccountSpawner.homes == str(folder.state / "homes")


def test_the_instructors_own_configuration_comes_last(folder):
    assert "load_subconfig" not in write_hub_config(folder).read_text()
    (folder.path / "jupyterhub_config.py").write_text("c.JupyterHub.log_level = 10\n")

    *_, last = write_hub_config(folder).read_text().splitlines()

    assert last == f"load_subconfig({str(folder.path / 'jupyterhub_config.py')!r})"
