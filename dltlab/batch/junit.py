"""The runs of a batch as JUnit XML, which CI systems read: `junit_xml`."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from xml.etree import ElementTree

from dltlab.batch.records import RunRecord, log_tail, value_text
from dltlab.batch.run_folder import Status

_LOG_LINES = 50  # of each run that did not end well
# What XML 1.0 cannot hold, also not as a character reference.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAGS = {
    Status.FAILED: "failure",
    Status.KILLED: "error",
    Status.TIMEOUT: "error",
    Status.CANCELLED: "skipped",
    Status.PRUNED: "skipped",
    Status.QUEUED: "skipped",
    Status.RUNNING: "skipped",
}


def junit_xml(records: Sequence[RunRecord], name: str = "dltlab") -> bytes:
    """Return the runs as a test suite in UTF-8, a test case for each.

    A failed notebook is a failure; a killed one, or one that has reached its limit of time, is an
    error; what was cancelled, pruned or not run is skipped.

    Args:
        records: The runs.
        name: The name of the suite.
    """
    tags = [_TAGS.get(record.state.status) for record in records]
    counts = {
        "tests": str(len(records)),
        "failures": str(tags.count("failure")),
        "errors": str(tags.count("error")),
        "time": f"{sum(record.state.seconds or 0 for record in records):.3f}",
    }
    root = ElementTree.Element("testsuites", {"name": _clean(name), **counts})
    started = min((r.state.started for r in records if r.state.started), default=0.0)
    timestamp = datetime.fromtimestamp(started, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    counts |= {"skipped": str(tags.count("skipped")), "timestamp": timestamp}
    suite = ElementTree.SubElement(root, "testsuite", {"name": _clean(name), **counts})
    for record in records:
        _add_case(suite, record)
    ElementTree.indent(root)
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content


def _add_case(suite: ElementTree.Element, record: RunRecord) -> None:
    parameters = ", ".join(f"{n}={value_text(v)}" for n, v in record.run.parameters.items())
    case = ElementTree.SubElement(
        suite,
        "testcase",
        {
            "classname": _clean(record.run.name or record.id),
            "name": _clean(f"{record.id} ({parameters})" if parameters else record.id),
            "time": f"{record.state.seconds or 0:.3f}",
        },
    )
    tag = _TAGS.get(record.state.status)
    if tag is None:
        return
    message = record.state.reason or f"The run is {record.state.status}."
    problem = ElementTree.SubElement(case, tag, {"message": _clean(message)})
    if tag != "skipped":
        problem.set("type", str(record.state.status))
        problem.text = _clean(message)
        output = ElementTree.SubElement(case, "system-out")
        output.text = _clean("\n".join(log_tail(record.folder, _LOG_LINES)))


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
