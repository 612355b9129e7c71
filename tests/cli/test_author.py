def test_windows_line_endings_do_not_change_the_notebooks(dltlab, built, source):
    source.write_bytes(source.read_bytes().replace(b"\n", b"\r\n"))

    assert dltlab("build", "--check", "--course", built.root).code == 0


def test_build_reports_what_it_executes(dltlab, built):
    result = dltlab("build", "--course", built.root)

    assert (result.code, result.out) == (0, "Built: 1. Executed: 0.\n")


def test_build_check_reports_each_difference_with_exit_code_1(dltlab, built, source, edit):
    edit(source, "seed=0", "seed=1")

    result = dltlab("build", "--check", "--course", built.root)

    assert result.code == 1
    assert result.out.count("run: dltlab build") == 2


def test_verify_says_what_it_verified(dltlab, course):
    result = dltlab("verify", "1", "--course", course.root)

    assert (result.code, result.err) == (0, "")
    assert result.out == "01_my_topic: 1 exercise, 4 wrong answers: verified\n"


def test_verify_reports_each_fault_with_exit_code_1(dltlab, course, source, edit):
    edit(source, "return float(np.mean(", "return float(np.sum(")
    result = dltlab("verify", "--course", course.root)

    assert result.code == 1
    assert result.out.startswith("01_my_topic: mean_squared_error: the answer of line ")


def test_lint_reports_each_finding_with_exit_code_1(dltlab, course, source):
    source.write_text(source.read_text() + '\n# %%\nopen("/home/me/file")\n')

    result = dltlab("lint", "--course", course.root)

    assert result.code == 1
    assert "absolute" in result.out


def test_lint_says_how_many_labs_have_no_findings(dltlab, course):
    result = dltlab("lint", "--course", course.root)

    assert (result.code, result.out) == (0, "lint: 1 lab, no findings\n")


def test_build_and_lint_point_out_a_notebook_without_a_source(dltlab, built):
    (built.solutions / "analysis.ipynb").touch()
    fault = "analysis.ipynb has no source in solutions/; move it elsewhere"

    assert fault in dltlab("build", "--course", built.root).out
    result = dltlab("lint", "--course", built.root)
    assert (result.code, result.out.count("no source")) == (1, 1)


def test_new_needs_a_topic_or_a_notebook(dltlab, course):
    result = dltlab("new", "--course", course.root)

    assert result.code == 2
    assert result.err == "dltlab: Name the topic of the lab, as in: dltlab new my_topic\n"
