"""The processes of a workshop beside learners' servers: proxy, Hub, zygote, board."""

import json
import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dltlab.errors import Unavailable
from dltlab.files import write_atomically
from dltlab.paths import COLD_KERNELS, cold_kernels
from dltlab.workshop.connection import BOARD, Connection
from dltlab.workshop.folder import WorkshopFolder
from dltlab.workshop.hub_config import learner_environment, write_hub_config
from dltlab.workshop.limits import LearnerLimits
from dltlab.workshop.members import has_accounts
from dltlab.workshop.settings import Settings
from dltlab.workshop.tls import certificate_files

_KEPT = ("HOME", "LANG", "PYTHONPATH", COLD_KERNELS)  # of the environment


@dataclass(frozen=True)
class Program:
    """What to run.

    Attributes:
        name: Such as "hub".
        command: The program and its arguments.
        environment: Its whole environment.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]


def programs(folder: WorkshopFolder, settings: Settings, connection: Connection) -> list[Program]:
    """Return the processes of a workshop, and write the files that they read.

    Raises:
        LabError: A program or a file is missing, or a port is in use.
    """
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    path = [os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]
    environment["PATH"] = os.pathsep.join(path)
    configuration = write_hub_config(folder)
    hub = [sys.executable, "-m", "jupyterhub", "-f", str(configuration)]
    board = [sys.executable, "-m", "dltlab.workshop.board", str(folder.roster_file)]
    result = [
        _proxy(folder, settings, connection, environment),
        Program("hub", hub, environment),
        Program(BOARD, board, environment),
    ]
    if has_accounts(settings):
        result.append(_server_zygote(folder))
        if not cold_kernels():
            result.append(_zygote(folder, settings))
    return result


def require_free_port(settings: Settings) -> None:
    """Raise if a port of the workshop is in use.

    Raises:
        Unavailable: A port cannot be used.
    """
    address = settings.address
    for key, port in {"port": address.port, "board_port": address.board_port}.items():
        try:
            family = socket.getaddrinfo(address.host, port)[0][0]
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address.host, port))
        except OSError as error:
            raise Unavailable(
                f"Port {port} of {address.host} cannot be used ({error.strerror}); choose "
                f"another one in workshop.toml, as 'address.{key}'."
            ) from error


def _proxy(
    folder: WorkshopFolder,
    settings: Settings,
    connection: Connection,
    environment: Mapping[str, str],
) -> Program:
    name = settings.servers.proxy
    program = shutil.which(name, path=environment["PATH"])
    if program is None:
        raise Unavailable(
            f"The proxy {name} is not installed; install it, or choose the other one in "
            "workshop.toml, as 'servers.proxy'."
        )
    files = certificate_files(folder, settings.tls, settings.host)
    if name == "traefik":
        configuration = _traefik_configuration(folder, settings, connection)
        return Program("proxy", [program, f"--configfile={configuration}"], environment)
    hub = f"http://127.0.0.1:{connection.hub_port}"
    command = [program, f"--ip={settings.address.host}", f"--port={settings.address.port}"]
    command += ["--api-ip=127.0.0.1", f"--api-port={connection.proxy_port}"]
    command += [f"--default-target={hub}", f"--error-target={hub}/hub/error"]
    if files:
        command += [f"--ssl-cert={files[0]}", f"--ssl-key={files[1]}"]
    token = {"CONFIGPROXY_AUTH_TOKEN": connection.proxy_token}
    return Program("proxy", command, {**environment, **token})


def _traefik_configuration(
    folder: WorkshopFolder, settings: Settings, connection: Connection
) -> str:
    """Write the part of Traefik's configuration that does not change, and return its path."""
    routes = folder.state / "routes.toml"  # the Hub writes it
    routes.touch(0o600)
    address = settings.address
    host = f"[{address.host}]" if ":" in address.host else address.host
    entry: dict[str, object] = {"address": f"{host}:{address.port}"}
    if settings.tls.enabled:
        entry["http"] = {"tls": {"options": "default"}}
    content = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "ERROR"},
        "api": {},
        "entryPoints": {
            settings.scheme: entry,
            "auth_api": {"address": f"127.0.0.1:{connection.proxy_port}"},
        },
        "providers": {
            "providersThrottleDuration": "0s",
            "file": {"filename": str(routes), "watch": True},
        },
    }
    path = folder.state / "traefik.yaml"
    write_atomically(path, json.dumps(content, indent=1))  # JSON is YAML
    return str(path)


def _zygote(folder: WorkshopFolder, settings: Settings) -> Program:
    command = [sys.executable, "-m", "dltlab.kernels.room_zygote", str(folder.runtime)]
    command += LearnerLimits(settings.limits, folder.runtime.name).zygote_options()
    return Program("zygote", command, learner_environment(folder))


def _server_zygote(folder: WorkshopFolder) -> Program:
    home = folder.runtime / "servers"  # of its own, so that no fork keeps that of root
    command = [sys.executable, "-m", "dltlab.workshop.server_zygote", str(folder.server_socket)]
    return Program("servers", command, learner_environment(folder) | {"HOME": str(home)})
