"""The start page in JupyterLab: the labs, the learner's progress, and how to go on.

An extension of Jupyter's server, turned on in `dltlab/course/jupyter`. The script in
`dltlab/course/jupyter/labextensions` shows the page as a tab of JupyterLab and keeps it up to date.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join
from tornado.web import authenticated

from dltlab.batch import BatchResult, read_records
from dltlab.course import Course, Lab, Workspace
from dltlab.doctor import Level, diagnose
from dltlab.errors import LabError
from dltlab.exercises import LabProgress, course_progress, lab_to_continue
from dltlab.paths import progress_file, room_dir

_GPU = {"none": "no GPU needed", "optional": "faster on a GPU", "required": "needs a GPU"}
_NUM_REPORTS = 5  # of batches


class StartPage:
    """The start page of a workspace, written anew when the labs or the progress have changed."""

    def __init__(self, workspace: Workspace, base_url: str = "/") -> None:
        """Begin to check the machine.

        Args:
            workspace: The learner's folder, which the server serves.
            base_url: The path of the server's URL.
        """
        self._workspace = workspace
        self._base_url = base_url
        executor = ThreadPoolExecutor(1)
        executor.submit(workspace.course.outlines)  # it takes a second or two, once
        self._verdict = executor.submit(machine_verdict)
        executor.shutdown(wait=False)
        self._state: object = None
        self._html = ""

    def html(self) -> str:
        """Return the page, or the sentence of an error that the user can fix, as HTML."""
        try:
            state = self._current_state()
            if state != self._state:
                self._html, self._state = self._render(), state
        except LabError as error:
            return f'<p role="alert">{escape(str(error))}</p>'
        return self._html

    def _current_state(self) -> object:
        """Return a value that changes whenever the page does."""
        sources = self._workspace.course.sources()
        copies = [self._copy_exists(path.stem) for path in sources]
        files = (*sources, progress_file(), *self._reports())
        times = [(path, _modified(path)) for path in files]
        return self._verdict.done(), copies, times

    def _render(self) -> str:
        course = self._workspace.course
        title = "Accelerated deep learning" if course.is_own else course.root.name
        labs, left_out = course.outlines()
        progress = course_progress(course)
        return "\n".join(
            [
                f"<h1>{escape(title)}</h1>",
                self._next_step(progress),
                "<h2>Labs</h2>",
                "<ol>",
                *(self._lab(lab, state) for lab, state in zip(labs, progress, strict=True)),
                "</ol>",
                *(f"<p>{escape(message)}</p>" for message in left_out),
                *self._experiments(),
                *self._machine(),
            ]
        )

    def _machine(self) -> list[str]:
        if room_dir():  # in a workshop, that is the instructor's concern
            return []
        verdict = self._verdict.result() if self._verdict.done() else "It is being checked."
        return ["<h2>This machine</h2>", f"<p>{escape(verdict)}</p>"]

    def _next_step(self, progress: list[LabProgress]) -> str:
        lab = lab_to_continue(progress)
        if lab is None:
            return "<p>You have passed every exercise of this course.</p>"
        verb = "Continue" if any(state.last for state in progress) else "Start"
        link = self._link(lab.lab, f"{verb} with lab {lab.lab[:2]}: {lab.title}", True)
        passed, count = (sum(values) for values in zip(*map(_counts, progress), strict=True))
        exercise = escape(next(iter(lab.still_open)))
        return (
            f"<p>{link}</p>\n"
            f"<p>Your next exercise there is <code>{exercise}</code>. You have passed {passed} of "
            f"the {count} exercises and questions of this course.</p>"
        )

    def _lab(self, lab: Lab, progress: LabProgress) -> str:
        passed, count = _counts(progress)
        minutes = sum(lab.front_matter.minutes.model_dump().values())
        required = ", ".join(self._link(name, name) for name in lab.front_matter.requires)
        facts = [f"{minutes} minutes", _GPU[lab.front_matter.devices.gpu]]
        facts += [f"after {required}"] if required else []
        outcomes = "".join(
            f"<li><code>{escape(name)}</code>: {outcome.value}</li>"
            for name, outcome in progress.outcomes.items()
        )
        return (
            f"<li>\n<h3>{self._link(lab.name, f'{lab.number} {progress.title}')}</h3>\n"
            f"<p>{escape(lab.front_matter.summary)}</p>\n<p>{' · '.join(facts)}</p>\n"
            f'<details><summary><progress max="{max(count, 1)}" value="{passed}" '
            f'aria-hidden="true"></progress> {passed} of {count} passed</summary>'
            f"<ul>{outcomes}</ul></details>\n</li>"
        )

    def _reports(self) -> list[Path]:
        """Return the reports of batches in the workspace, the newest first."""
        paths = []
        for folder, subfolders, files in os.walk(self._workspace.folder):
            if "report.html" in files:
                paths.append(Path(folder, "report.html"))
            if "run.json" in files:  # the folder of a run
                subfolders.clear()
        return sorted(paths, key=lambda path: _modified(path) or 0, reverse=True)[:_NUM_REPORTS]

    def _experiments(self) -> list[str]:
        items = []
        for path in self._reports():
            try:
                counts = BatchResult(path.parent, tuple(read_records(path.parent))).counts
            except LabError:  # not a report of ours, or its runs were removed
                continue
            name = path.relative_to(self._workspace.folder).as_posix()
            text = ", ".join(f"{count} {status}" for status, count in counts.items())
            link = self._anchor(name, str(Path(name).parent))
            items.append(f"<li>{link}: {text}</li>")
        return ["<h2>Experiments</h2>", "<ul>", *items, "</ul>"] if items else []

    def _link(self, name: str, text: str, is_next: bool = False) -> str:
        """Return a link that opens a lab; only the text where the learner has no copy of it."""
        if not self._copy_exists(name):
            return escape(text)
        return self._anchor(f"{name}.ipynb", text, 'class="dltlab-next" ' if is_next else "")

    def _anchor(self, path: str, text: str, attributes: str = "") -> str:
        """Return a link that opens a file of the workspace."""
        url = escape(url_path_join(self._base_url, "lab/tree", quote(path)))
        return f'<a {attributes}href="{url}" data-path="{escape(path)}">{escape(text)}</a>'

    def _copy_exists(self, name: str) -> bool:
        return self._workspace.copy(name).is_file()


class StartPageHandler(JupyterHandler):  # type: ignore[misc]
    """Answers requests for the start page."""

    def initialize(self, page: StartPage) -> None:
        """Keep the page, which all requests share."""
        self._page = page

    @authenticated
    async def get(self) -> None:
        """Send the page as a fragment of HTML."""
        self.finish(await asyncio.to_thread(self._page.html))


def machine_verdict() -> str:
    """Return in one line whether this machine is fit for the labs, as `dltlab doctor` finds it."""
    if room_dir():
        return ""
    findings = [finding for finding in diagnose() if finding.level is not Level.OK]
    findings.sort(key=lambda finding: finding.level is not Level.PROBLEM)
    if not findings:
        return "This machine has all that the labs need."
    first, *others = findings
    more = f", and {len(others)} more" if others else ""
    return (
        f"{first.subject}: {first.message}{more}. The command dltlab doctor in a terminal "
        "(File > New > Terminal) says what to do."
    )


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Add the page to a Jupyter server: the hook that it calls."""
    # A new copy of a lab is not trusted; JupyterLab's page shows that, and how to change it.
    server.log.addFilter(lambda record: "is not trusted" not in record.msg)
    workspace = Workspace(Path(server.root_dir), Course.find())
    page = StartPage(workspace, server.base_url)
    url = url_path_join(server.base_url, "dltlab/start")
    server.web_app.add_handlers(".*$", [(url, StartPageHandler, {"page": page})])


def _counts(progress: LabProgress) -> tuple[int, int]:
    return progress.passed, len(progress.outcomes)


def _modified(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
