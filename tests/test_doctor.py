"""`mien doctor`: each thing that can be wrong is named with its cure, and nothing heavy is imported to find out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mien import doctor
from mien.cli import app, main


@pytest.fixture(autouse=True)
def at_rest(monkeypatch, tmp_path):
    """A computer without data, variables of ours, GPU or network, whatever this one has."""
    for name in ("MIEN_DATA", "MIEN_YUNET", "KERAS_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kagglehub"))
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor, "has_gpu", lambda: False)
    monkeypatch.setattr(doctor, "reaches", lambda address: False)


def install(monkeypatch, **versions: str | None) -> None:
    """Let other versions seem installed; None takes a package away. Names with _ for -."""
    given = {name.replace("_", "-"): value for name, value in versions.items()}
    real = doctor.installed_version
    monkeypatch.setattr(doctor, "installed_version", lambda name: given[name] if name in given else real(name))


def tree(folder: Path) -> Path:
    for part in ("train", "test"):
        (folder / part / "happy").mkdir(parents=True)
    return folder


def one(check) -> doctor.Finding:
    (finding,) = check()
    return finding


def test_a_package_of_the_base_that_is_missing_or_too_old_is_a_fault(monkeypatch):
    assert one(doctor.check_packages).state == "ok"
    install(monkeypatch, numpy="1.26.4", rich=None)
    finding = one(doctor.check_packages)
    assert (finding.state, finding.found) == ("fault", "numpy 1.26.4, expected >=2, rich missing")
    assert "pip install" in finding.cure


def test_an_extra_that_is_missing_is_a_note_with_its_pip_line(monkeypatch):
    install(monkeypatch, keras=None)
    findings = {finding.what: finding for finding in doctor.check_extras()}
    assert findings["extra train"].state == "note"
    assert "keras missing" in findings["extra train"].found
    assert findings["extra train"].cure == "if you need it, run: pip install 'mien[train]'"
    assert findings["extra evaluate"].state == "ok"


def test_extras_that_name_others_are_followed_and_other_systems_left_out(monkeypatch):
    lines = [
        "numpy>=2",
        'mien[evaluate]; extra == "train"',
        'keras>=3; extra == "train"',
        'wheel; sys_platform == "amiga" and extra == "train"',
        'scipy>=1; extra == "evaluate"',
    ]
    monkeypatch.setattr(doctor, "requirements", lambda: [Requirement(line) for line in lines])
    assert [requirement.name for requirement in doctor.of_extra("train")] == ["keras", "scipy"]
    assert [requirement.name for requirement in doctor.of_extra("evaluate")] == ["scipy"]


def test_two_wheels_of_opencv_are_named(monkeypatch):
    assert one(doctor.check_opencv).state == "ok"
    monkeypatch.setattr(doctor, "installed_wheels", lambda: ("opencv-python", "opencv-python-headless"))
    finding = one(doctor.check_opencv)
    assert finding.found == "opencv-python and opencv-python-headless overwrite each other's cv2"
    assert finding.cure.startswith("run: pip uninstall -y opencv-python opencv-python-headless && pip install")


def test_opencv_5_is_a_fault_with_its_cure(monkeypatch):
    import cv2

    monkeypatch.delattr(cv2, "CascadeClassifier")
    monkeypatch.setattr(cv2, "__version__", "5.0.0")
    finding = one(doctor.check_opencv)
    assert (finding.state, finding.found) == ("fault", "OpenCV 5.0.0 comes without face cascades")
    assert "pip install" in finding.cure
    assert "opencv-python-headless<5" in finding.cure


def test_yunet_that_cannot_be_used_is_a_fault(monkeypatch, tmp_path):
    assert list(doctor.check_yunet()) == []
    monkeypatch.setenv("MIEN_YUNET", str(tmp_path / "absent.onnx"))
    finding = one(doctor.check_yunet)
    assert finding.state == "fault"
    assert "absent.onnx cannot be used as YuNet" in finding.found


def test_a_slow_provider_is_named_where_there_is_a_gpu(monkeypatch):
    monkeypatch.setattr(
        "onnxruntime.get_available_providers", lambda: ["AzureExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(doctor, "lacks_vnni", lambda: True)
    fine, slow = doctor.check_onnxruntime()
    assert (fine.state, fine.found) == ("ok", "CPUExecutionProvider")
    assert (slow.what, slow.cure) == ("8-bit models", "use the fp32 files")
    monkeypatch.setattr(doctor, "has_gpu", lambda: True)
    monkeypatch.setattr(doctor, "lacks_vnni", lambda: False)
    finding = one(doctor.check_onnxruntime)
    assert (finding.state, finding.found) == ("note", "computes on the CPU though there is a GPU")
    assert "onnxruntime-gpu" in finding.cure
    install(monkeypatch, onnxruntime="1", onnxruntime_gpu="1")
    assert "overwrite each other" in one(doctor.check_onnxruntime).found


def test_a_missing_onnxruntime_is_a_fault_and_not_the_end(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    finding = one(doctor.check_onnxruntime)
    assert (finding.what, finding.state) == ("ONNX Runtime", "fault")
    assert finding.cure == "run: pip install --force-reinstall onnxruntime"
    assert {found.state for found in doctor.check_models()} == {"fault"}


def test_a_package_may_stand_in_for_another(monkeypatch):
    install(monkeypatch, onnxruntime=None, onnxruntime_gpu="1.32.0")
    finding = one(doctor.check_packages)
    assert finding.state == "ok"
    assert "onnxruntime-gpu 1.32.0" in finding.found
    install(monkeypatch, opencv_python_headless=None, opencv_python="3.4")
    assert "opencv-python 3.4, expected" in one(doctor.check_packages).found


def test_a_gpu_that_training_does_not_use_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "has_gpu", lambda: True)
    install(monkeypatch, tensorflow=None, tensorflow_cpu="2.21.0")
    finding = one(doctor.check_training)
    assert finding.found == "tensorflow-cpu 2.21.0 computes on the CPU though there is a GPU"
    assert "jax[cuda12]" in finding.cure
    install(monkeypatch, tensorflow="2.21.0")
    assert list(doctor.check_training()) == []


def test_keras_without_a_backend_is_a_fault(monkeypatch):
    install(monkeypatch, tensorflow=None, tensorflow_cpu=None, jax="0.11.0", torch=None)
    finding = one(doctor.check_training)
    assert (finding.state, finding.cure) == ("fault", "set KERAS_BACKEND to jax")
    install(monkeypatch, tensorflow=None, tensorflow_cpu=None, jax=None, torch=None)
    assert one(doctor.check_training).cure == "run: pip install 'mien[train]'"


def test_training_without_a_gpu_or_a_backend_is_named(monkeypatch):
    install(monkeypatch, keras="3.15.1", tensorflow=None, tensorflow_cpu="2.21.0", torch=None)
    assert one(doctor.check_training).found == "no GPU: tensorflow-cpu 2.21.0 computes on the CPU"
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    finding = one(doctor.check_training)
    assert (finding.state, finding.found) == ("fault", "torch is not installed")
    assert "unset KERAS_BACKEND" in finding.cure
    monkeypatch.delenv("KERAS_BACKEND")
    install(monkeypatch, keras=None)
    assert list(doctor.check_training()) == []


def test_data_at_hand_is_found_and_its_absence_cured(monkeypatch, tmp_path):
    finding = one(doctor.check_data)
    assert (finding.state, finding.found) == ("note", "no copy is at hand, and www.kaggle.com cannot be reached")
    assert "--data drawn" in finding.cure
    monkeypatch.setattr(doctor, "reaches", lambda address: True)
    assert one(doctor.check_data).cure == "run: mien data fetch"
    tree(doctor.kaggle_copy())
    assert one(doctor.check_data).state == "ok"
    monkeypatch.setenv("MIEN_DATA", str(tmp_path / "gone"))
    finding = one(doctor.check_data)
    assert finding.state == "fault"
    assert "gone does not exist" in finding.found


def test_the_network_is_not_waited_for(monkeypatch):
    monkeypatch.undo()  # the real `reaches`
    monkeypatch.setattr(doctor, "PATIENCE", 0.5)
    assert not doctor.reaches(("192.0.2.1", 9))  # an address kept for documents: nobody answers
    monkeypatch.setattr("socket.create_connection", lambda address, timeout: open("/dev/null"))  # noqa: PTH123, SIM115
    assert doctor.reaches(("192.0.2.1", 9))


def test_a_stale_cache_is_named_with_its_files(monkeypatch, tmp_path):
    folder = tmp_path / "cache" / "datasets"
    assert one(doctor.check_cache).found.startswith("0 data sets, 0 MB")
    folder.mkdir(parents=True)
    (folder / "old.npz").write_bytes(bytes(3_000_000))
    assert one(doctor.check_cache).state == "ok"  # whose it is cannot be known without data
    monkeypatch.setenv("MIEN_DATA", str(tree(tmp_path / "data")))
    (name, _) = doctor.fingerprints()
    (folder / f"{name}.npz").write_bytes(bytes(10))
    finding = one(doctor.check_cache)
    assert (finding.state, finding.found) == ("note", "1 of 2 data sets are none at hand that mien knows of, 3 MB")
    assert finding.cure.endswith(f"run: rm {folder}/old.npz")


def test_models_are_loaded(monkeypatch, tmp_path):
    from mien.inference import classifier

    assert {(finding.what, finding.state) for finding in doctor.check_models()} == {
        ("model base", "ok"),
        ("model tiny", "ok"),
    }
    monkeypatch.setattr(classifier, "WEIGHTS", tmp_path)
    (tmp_path / "base.onnx").write_bytes(b"no model")
    (tmp_path / "base.json").write_text('{"sha256": "0"}')
    finding = one(doctor.check_models)
    assert (finding.what, finding.state) == ("model base", "fault")
    assert "it is damaged or another model" in finding.found


def test_the_command_prints_findings_and_fails_on_a_fault(monkeypatch, capsys):
    findings = (doctor.Finding("cache", "ok", "0 data sets"), doctor.Finding("[red]", "note", "a", "b"))
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter(findings),))
    assert app(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [finding.to_dict() for finding in findings]
    fault = doctor.Finding("OpenCV", "fault", "gone", "run: pip install it")
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter((*findings, fault)),))
    monkeypatch.setattr(sys, "argv", ["mien", "doctor"])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr().out
    assert ended.value.code == 1
    assert "[red]" in printed
    assert "run: pip install it" in printed


def test_no_heavy_package_is_imported():
    heavy = ("keras", "tensorflow", "jax", "torch", "sklearn", "scipy", "matplotlib", "kagglehub")
    code = (
        "import sys; from mien import doctor; doctor.reaches = lambda address: False; "
        f"doctor.examine(); print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout == "[]\n"
