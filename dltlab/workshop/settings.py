"""The settings of a workshop: `workshop.toml`, every key of which has a default."""

import datetime
import socket
from typing import Annotated, Any, Literal

import yarl
from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from dltlab.course import Course
from dltlab.errors import Invalid, NotFound
from dltlab.toml_files import Table, TomlFile, read_toml
from dltlab.workshop.folder import WorkshopFolder

Name = Annotated[str, Field(min_length=1, max_length=200)]
Port = Annotated[int, Field(ge=1, le=65535)]
Origin = Annotated[
    str,
    Field(pattern=r"^https?://[^\s/]+/?$"),
    AfterValidator(lambda url: str(yarl.URL(url).origin())),  # as browsers name it
]
# Browsers send cookies to all ports of a host: below this path there is no learner's server.
BOARD_PATH = "/board/"


class Limits(Table):
    """What each learner may use.

    Attributes:
        memory_gb: Memory of each process of a learner, in GB.
        processes: Processes and threads of a learner.
        disk_gb: Disk space of a learner's home, in GB, where the file system has quotas.
        idle_minutes: After how many minutes without activity a server is stopped; 0: never.
    """

    memory_gb: PositiveFloat = 4.0
    processes: PositiveInt = 512
    disk_gb: PositiveFloat = 10.0
    idle_minutes: NonNegativeInt = 120


class SignIn(Table):
    """How people sign in.

    Attributes:
        authenticator: "cards", or an authenticator of JupyterHub by the name that JupyterHub has
            for it, such as "pam". Then the roster has the names that people sign in with.
        options: Options of that authenticator.
    """

    authenticator: Name = "cards"
    options: dict[str, Any] = Field(default={})

    @property
    def own_accounts(self) -> bool:
        """Whether people sign in with names of their own, which are their accounts."""
        return self.authenticator != "cards"

    @property
    def is_by_system(self) -> bool:
        """Whether people sign in with accounts that the system has already."""
        return self.authenticator == "pam"


class Address(Table):
    """Where the workshop is reached.

    Attributes:
        host: The address that the proxy listens on; "0.0.0.0" is every network of this machine.
        port: The port.
        board_port: The port of the board, for the instructor only; by default the next one.
        url: What people type, as the cards have it; by default the host's name and the port.
        board_url: What leads to the board, where it is not that host and the board's port.
    """

    host: Name = "127.0.0.1"
    port: Port = 8000
    board_port: Port = Field(default_factory=lambda address: address["port"] + 1)
    url: Origin | None = None
    board_url: Origin | None = None

    @model_validator(mode="after")
    def _check(self) -> "Address":
        if self.board_port == self.port or self.board_port > 65535:
            raise ValueError("give the board a port of its own, as 'board_port'")
        return self


class Tls(Table):
    """The certificate of the web server.

    Attributes:
        certificate: A PEM file; relative to the workshop's folder.
        key: Its private key.
        self_signed: Make a certificate, of which browsers warn.
    """

    certificate: str | None = None
    key: str | None = None
    self_signed: bool = False

    @model_validator(mode="after")
    def _check(self) -> "Tls":
        if (self.certificate is None) != (self.key is None):
            raise ValueError("give both certificate and key")
        if self.certificate and self.self_signed:
            raise ValueError("give either certificate and key, or self_signed")
        return self

    @property
    def enabled(self) -> bool:
        """Whether the connection is encrypted."""
        return self.self_signed or self.certificate is not None


class Servers(Table):
    """How learners' servers are started.

    Attributes:
        spawner: "accounts" (a system account for each learner), or a spawner of JupyterHub by the
            name that JupyterHub has for it, such as "docker".
        options: Options of that spawner.
        proxy: Which proxy is in front.
        start_at_once: How many servers start at the same time.
    """

    spawner: Name = "accounts"
    options: dict[str, Any] = Field(default={})
    proxy: Literal["traefik", "configurable-http-proxy"] = "traefik"
    start_at_once: PositiveInt = 4


class Settings(Table):
    """The content of `workshop.toml`.

    Attributes:
        title: Of the workshop.
        labs: The labs by number or name; all by default.
        profile: Of the labs: smoke, workshop or full.
        solutions: When learners may open a lab's solutions: when the instructor releases them, or
            always.
        instructors: Their names.
        prefix: Of the names of accounts, for a second workshop on the same machine: "b-" for
            b-learner01.
        starts: When each lab starts, by the lab's number or name; the board compares the class
            with it.
    """

    title: Name = "Accelerated deep learning"
    labs: list[str] | None = Field(default=None, min_length=1)
    profile: Literal["smoke", "workshop", "full"] = "workshop"
    solutions: Literal["released", "always"] = "released"
    instructors: list[Name] = Field(default=["Instructor"], min_length=1)
    prefix: Annotated[str, Field(pattern=r"^([a-z][a-z0-9]{0,9}-)?$")] = ""
    starts: dict[str, datetime.time] = Field(default={})
    limits: Limits = Limits()
    sign_in: SignIn = SignIn()
    address: Address = Address()
    tls: Tls = Tls()
    servers: Servers = Servers()

    @property
    def scheme(self) -> str:
        """Whether people use http or https."""
        return "https" if self.tls.enabled else "http"

    @property
    def host(self) -> str:
        """The name or address of the machine that people type."""
        if self.address.url:
            return str(yarl.URL(self.address.url).host)
        return socket.getfqdn() if self.address.host in ("0.0.0.0", "::") else self.address.host  # noqa: S104

    @property
    def url(self) -> str:
        """Where people sign in, without a slash at the end."""
        return self.address.url or self._origin(self.address.port)

    @property
    def board_origin(self) -> str:
        """Where the board is, without a path."""
        return self.address.board_url or self._origin(self.address.board_port)

    @property
    def board_url(self) -> str:
        """Where the instructor sees the board."""
        return f"{self.board_origin}{BOARD_PATH}"

    @property
    def local_url(self) -> str:
        """Where processes on this machine reach the proxy."""
        host = "127.0.0.1" if self.address.host == "0.0.0.0" else self.address.host  # noqa: S104
        return str(yarl.URL.build(scheme=self.scheme, host=host, port=self.address.port))

    def _origin(self, port: int) -> str:
        return str(yarl.URL.build(scheme=self.scheme, host=self.host, port=port))

    def lab_names(self, course: Course) -> list[str]:
        """Return the names of the workshop's labs, such as 01_first_network.

        Raises:
            NotFound: The course has no such lab.
        """
        if self.labs is None:
            return course.lab_names()
        return [course.resolve(name).stem for name in self.labs]


def read_settings(folder: WorkshopFolder) -> TomlFile[Settings]:
    """Read and validate the settings of a workshop.

    Raises:
        Invalid: They are not valid; the message names the file, the line and the key.
    """
    if not folder.settings_file.exists():
        return TomlFile(folder.settings_file, "", Settings())
    file = read_toml(folder.settings_file, Settings, "settings file")
    course = Course.find()
    keys: list[tuple[str | int, ...]] = [("labs", n) for n in range(len(file.content.labs or ()))]
    keys += [("starts", name) for name in file.content.starts]
    for table, key in keys:
        name = file.content.labs[key] if isinstance(key, int) and file.content.labs else str(key)
        try:
            course.resolve(name)
        except NotFound as error:
            raise Invalid(f"{file.place(table, key)}: {error}") from None
    return file
