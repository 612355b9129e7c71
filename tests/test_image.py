"""The container image: the steps of its Dockerfile, executed without Docker.

mmdebstrap makes the base, Debian without Python. The packages that the image would install are
those of this environment, seen through a mount.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import psutil
import pytest
import yaml

from dltlab.workshop.connection import free_ports
from tests.deadlines import HANG_SECONDS, spawn, wait_for_port

REPOSITORY = Path(__file__).resolve().parents[1]
HADOLINT = Path(sys.executable).with_name("hadolint")
LEARNER = 1000
PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, each with what follows it."""
    text = (REPOSITORY / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", "", "\n".join(lines))
    words = [line.split(None, 1) for line in joined.splitlines() if line]
    return [(name, rest) for name, rest in words]


@dataclass
class Image:
    """A folder that is built as Docker builds an image, and what the image runs."""

    root: Path
    user: int = 0
    folder: str = "/"
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def wrapped(self, command: list[str]) -> list[str]:
        """Return the command that runs `command` inside, with mounts that end with it."""
        home = {"HOME": "/root" if self.user == 0 else "/home/learner"}
        variables = [f"{name}={value}" for name, value in (self.environment | home).items()]
        mounts = (
            'mount -t proc proc "$0/proc" && mount --bind "$1" "$0/mnt/packages" && '
            'mount --bind "$2" "$0/mnt/share" && cd / && shift 2 && exec chroot "$@"'
        )
        packages, share = sysconfig.get_path("purelib"), f"{sys.prefix}/share"
        user = f"--userspec={self.user}:{self.user}"
        chroot = [user, str(self.root), "env", "--ignore-environment", *variables]
        inside = ["sh", "-c", f'cd {self.folder} && exec "$@"', "sh", *command]
        return ["unshare", "--mount", "sh", "-c", mounts, str(self.root), packages, share,
                *chroot, *inside]  # fmt: skip

    def execute(self, command: list[str]) -> str:
        done = subprocess.run(
            self.wrapped(command), capture_output=True, text=True, timeout=HANG_SECONDS
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, *arguments: str) -> str:
        """What `docker run IMAGE ARGUMENTS` prints."""
        return self.execute([*self.entrypoint, *arguments])

    def build(self, context: Path) -> None:
        """Execute the Dockerfile."""
        values: dict[str, str] = {}
        shell = ["/bin/sh", "-c"]
        for name, rest in instructions():
            match name:
                case "ARG":
                    key, value = rest.split("=")
                    values[key] = value
                case "SHELL":
                    shell = json.loads(rest)
                case "RUN":
                    self.execute([*shell, rest])
                case "COPY":
                    *options, source, target = rest.replace("${PINS}", values["PINS"]).split()
                    self._copy([*context.glob(source)], target, options)
                case "ENV":
                    key, value = rest.split("=")
                    self.environment[key] = value.replace("$PATH", self.environment["PATH"])
                case "USER":
                    self.user = int(rest)
                case "WORKDIR":
                    self.folder = rest
                case "ENTRYPOINT":
                    self.entrypoint = json.loads(rest)
                case "CMD":
                    self.command = json.loads(rest)
                case "HEALTHCHECK":
                    self.health = json.loads(rest.partition(" CMD ")[2])
                case "FROM" | "EXPOSE":
                    pass
                case _:
                    raise AssertionError(f"{name} is not known here")

    def _copy(self, sources: list[Path], target: str, options: list[str]) -> None:
        assert sources
        path = self.root / target.lstrip("/")
        for source in sources:
            file = path / source.name if target.endswith("/") else path
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, file)
            for option in options:
                file.chmod(int(option.removeprefix("--chmod="), 8))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image, built of this repository and the packages of this environment."""
    if os.geteuid() != 0 or not shutil.which("mmdebstrap"):
        pytest.skip("it needs root and mmdebstrap")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("Debian 12 has Python 3.11, and packages are of one version of Python")
    base = tmp_path_factory.mktemp("image")
    root, context = base / "root", base / "context"
    command = ["mmdebstrap", "--quiet", "--variant=apt", "bookworm", str(root)]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"mmdebstrap could not make the base: {made.stderr.strip()[-200:]}")
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    for name in ("packages", "share"):
        (root / "mnt" / name).mkdir()
    release = context / "dist" / "release"
    release.mkdir(parents=True)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(release)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (release / "image-cpu.txt").write_text("")  # what it would install is seen through the mount
    shutil.copytree(REPOSITORY / "deploy", context / "deploy")
    image = Image(root)
    image.build(context)
    (packages,) = root.glob("opt/dltlab/lib/python3.11/site-packages")
    (packages / "borrowed.pth").write_text("/mnt/packages\n")
    (root / "opt/dltlab/share").symlink_to("/mnt/share")
    return image


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint has no wheel for this platform")
def test_hadolint_finds_nothing_in_the_dockerfile():
    done = subprocess.run([HADOLINT, REPOSITORY / "Dockerfile"], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "")


def test_the_services_of_the_compose_file_are_those_that_caddy_forwards_to():
    compose = yaml.safe_load((REPOSITORY / "deploy/compose.yaml").read_text())
    caddy = (REPOSITORY / "deploy/Caddyfile").read_text()
    forwarded = re.findall(r"reverse_proxy (\w+):\d+", caddy)
    sites = re.findall(r"(?m)^\{\$(\w+)\} \{", caddy)

    assert {*forwarded} <= {*compose["services"]}
    assert {*sites} == {*compose["services"]["caddy"]["environment"]}
    assert "ports" not in compose["services"]["workshop"]  # only Caddy is reached from outside


def test_arguments_are_those_of_dltlab_and_the_user_is_not_root(image):
    assert "01_first_network" in image.run("list")
    assert image.run("bash", "-c", "id --user && pwd") == f"{LEARNER}\n/home/learner\n"


def test_a_hub_starts_what_it_names(image):
    code = "import dltlab.workshop.learner_server as server; print(server.__file__)"

    assert image.run("python", "-c", code).startswith("/opt/dltlab/lib/python3.11/")


def test_a_notebook_runs_in_batch(image):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(6 * 7)")])
    nbformat.write(notebook, image.root / "home/learner/product.ipynb")

    image.run("run", "product.ipynb")

    (run,) = json.loads(image.run("runs", "list", "--json"))["runs"]
    assert run["status"] == "done"


def test_the_course_is_served_and_the_health_check_asks_for_it(image):
    image.execute(image.health)  # nothing is served yet
    (port,) = free_ports(1)
    command = [*image.command[:-1], str(port), "--cold"]
    server = spawn(
        image.wrapped([*image.entrypoint, *command]),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        address = next(line for line in server.stdout if "http://127" in line).split()[-1]
        wait_for_port(port)
        with urllib.request.urlopen(address) as page:
            assert "JupyterLab" in page.read().decode()
        image.execute(image.health)
        processes = psutil.Process(server.pid).children(recursive=True)
        for process in processes:
            process.suspend()
        with pytest.raises(AssertionError, match="timed out"):
            image.execute(image.health)
        for process in processes:
            process.resume()
    finally:
        server.terminate()  # tini passes it on
        server.communicate(timeout=HANG_SECONDS)
