import json
import os

import pytest

from dltlab.errors import Unavailable
from dltlab.workshop.connection import free_ports, read_connection
from dltlab.workshop.processes import programs, require_free_port
from dltlab.workshop.settings import read_settings


@pytest.fixture
def planned(folder):
    """The processes with settings, by name."""

    def planned(settings=""):
        folder.settings_file.write_text(settings)
        found = programs(folder, read_settings(folder).content, read_connection(folder))
        return {program.name: program for program in found}

    return planned


def test_root_has_zygotes_for_servers_and_kernels_and_others_have_not(planned, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert list(planned()) == ["proxy", "hub", "board", "servers", "zygote"]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert list(planned()) == ["proxy", "hub", "board"]


def test_no_process_gets_the_environment_of_this_one(planned, monkeypatch):
    monkeypatch.setenv("SECRET", "x")

    assert not any("SECRET" in program.environment for program in planned().values())


def test_traefik_tells_nobody_of_the_workshop_and_encrypts_on_demand(planned, folder):
    planned("[tls]\nself_signed = true\n")

    content = json.loads((folder.state / "traefik.yaml").read_text())
    assert content["global"] == {"checkNewVersion": False, "sendAnonymousUsage": False}
    assert content["entryPoints"]["https"]["http"] == {"tls": {"options": "default"}}
    assert content["entryPoints"]["auth_api"]["address"].startswith("127.0.0.1:")


def test_the_other_proxy_is_used_where_it_is_installed(planned, tmp_path, monkeypatch):
    settings = '[servers]\nproxy = "configurable-http-proxy"\n'
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="The proxy configurable-http-proxy is not installed"):
        planned(settings)
    program = tmp_path / "configurable-http-proxy"
    program.touch(0o755)

    proxy = planned(settings)["proxy"]

    assert proxy.command[0] == str(program)
    assert "--port=8000" in proxy.command
    assert not any(proxy.environment["CONFIGPROXY_AUTH_TOKEN"] in word for word in proxy.command)


@pytest.mark.parametrize("key", ["port", "board_port"])
def test_a_port_in_use_is_named(folder, key):
    import socket

    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        ports = {"port": free_ports(1)[0], "board_port": free_ports(1)[0]} | {key: port}
        lines = [f"{name} = {number}" for name, number in ports.items()]
        folder.settings_file.write_text("\n".join(["[address]", *lines, ""]))
        with pytest.raises(Unavailable, match=f"Port {port} of 127.0.0.1 .* as 'address.{key}'"):
            require_free_port(read_settings(folder).content)
    require_free_port(read_settings(folder).content)
