"""The command that checks this machine."""

import json

from dltlab.doctor import Level, diagnose


def test_a_machine_without_a_gpu_has_no_problem(dltlab, no_nvml):
    result = dltlab("doctor")

    assert (result.code, result.err) == (0, "")
    assert "ok       GPU           none; every lab runs on the CPU" in result.out


def test_a_problem_is_printed_with_its_fix_and_the_exit_code_is_1(dltlab, two_gpus, cuda_libraries):
    cuda_libraries()

    result = dltlab("doctor")

    assert result.code == 1
    assert "libcudnn.so.9 are missing, so TensorFlow does not use it\n" in result.out
    assert "→ pip install 'tensorflow[and-cuda]'\n" in result.out


def test_a_warning_leaves_the_exit_code_at_0(dltlab, two_gpus, every_cuda_library, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert any(finding.level is Level.WARNING for finding in diagnose())

    assert dltlab("doctor").code == 0


def test_the_findings_are_printed_as_json(dltlab, two_gpus, every_cuda_library):
    findings = json.loads(dltlab("doctor", "--json").out)

    assert set(findings[0]) == {"subject", "level", "message", "fix"}
    gpus = [finding["message"] for finding in findings if finding["subject"] == "GPU"]
    assert gpus == [
        "0: NVIDIA A100-SXM4-80GB, 80.0 of 80.0 GiB free",
        "1: NVIDIA A100-SXM4-80GB, 80.0 of 80.0 GiB free",
        "0–1: NVLink, directly",
    ]


def test_the_deep_check_lets_tensorflow_compute(dltlab, no_nvml, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    result = dltlab("doctor", "--deep")

    assert result.code == 0
    assert "TensorFlow    CPU:0 computes" in result.out
