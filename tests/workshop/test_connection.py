import socket

import pytest

from dltlab.errors import Damaged
from dltlab.workshop.connection import free_ports, read_connection
from dltlab.workshop.folder import WorkshopFolder


def test_ports_and_tokens_stay_the_same_and_are_the_workshops_own(folder, tmp_path):
    connection = read_connection(folder)
    other = WorkshopFolder(tmp_path / "other")
    other.keys.mkdir(parents=True)

    assert read_connection(folder) == connection
    assert read_connection(other).hub_token != connection.hub_token
    tokens = {connection.hub_token, connection.proxy_token, connection.board_token}
    assert {len(token) for token in tokens} == {64}
    assert len(tokens) == 3
    assert connection.board == f"http://127.0.0.1:{connection.board_port}"


def test_ports_are_different_free_and_of_no_outgoing_connection():
    ports = free_ports(20)

    assert len(set(ports)) == 20
    assert max(ports) < 32_768
    with socket.create_server(("127.0.0.1", ports[0])):
        pass


def test_a_port_in_use_is_passed_over(monkeypatch):
    used, free = free_ports(2)
    monkeypatch.setattr("dltlab.workshop.connection.SERVER_PORTS", [used, free])
    with socket.create_server(("127.0.0.1", used)):
        assert free_ports(1) == [free]


def test_a_connection_that_cannot_be_read_is_named(folder):
    (folder.keys / "connection.json").write_text("{}")

    with pytest.raises(Damaged, match=r"connection\.json cannot be read"):
        read_connection(folder)
