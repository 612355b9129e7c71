"""JUnit XML of a batch."""

from xml.etree import ElementTree

from dltlab.batch.junit import junit_xml
from dltlab.batch.records import read_records
from dltlab.batch.run_folder import Status
from tests.batch.fabricated_runs import fabricate


def cases(out):
    suite = ElementTree.fromstring(junit_xml(read_records(out))).find("testsuite")
    return suite, {case.get("name"): case for case in suite}


def test_each_status_has_its_outcome(tmp_path):
    outcomes = {
        Status.FAILED: "failure", Status.KILLED: "error", Status.TIMEOUT: "error",
        Status.CANCELLED: "skipped", Status.PRUNED: "skipped", Status.QUEUED: "skipped",
    }  # fmt: skip
    for status in (*outcomes, Status.DONE):
        fabricate(tmp_path, name=str(status), status=status, seconds=2.0, log="the end\n")

    suite, by_name = cases(tmp_path)

    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped", "time")] == [
        "7", "1", "2", "3", "12.000",
    ]  # fmt: skip
    for case in by_name.values():
        status = case.get("classname")
        tags = [child.tag for child in case if child.tag != "system-out"]
        assert tags == ([outcomes[status]] if status in outcomes else [])
        output = case.findtext("system-out")
        assert output == ("the end" if tags in (["failure"], ["error"]) else None)
    assert by_name[next(n for n in by_name if n.startswith("done"))].get("time") == "2.000"


def test_the_reason_and_the_parameters_are_escaped(tmp_path):
    reason = 'Cell 3 raised <Error> & "more"\x1b[31m\x00\ud800.'
    folder = fabricate(tmp_path, {"é": "<a>"}, status=Status.FAILED, reason=reason, log="\x00<b>\n")

    _, by_name = cases(tmp_path)

    (case,) = by_name.values()
    assert case.get("name") == f"{folder.path.name} (é=<a>)"
    failure = case.find("failure")
    assert failure.get("message") == 'Cell 3 raised <Error> & "more"\ufffd[31m\ufffd\ufffd.'
    assert failure.get("type") == "failed"
    assert case.findtext("system-out") == r"\x00<b>"
