"""
The GPU meter against recorded answers, and against the real driver where there is one.

The stand-in for nvidia-smi is a real program that prints recorded lines; the driver is not ours.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.meters import (
    GpuMeter,
    GpuSample,
    device_name,
    gpu_available,
    gpu_ids,
    parse_samples,
)

ONE_GPU = "0, 4, 0\n0, 4, 0\n0, 530, 12\n0, 2514, 98\n0, 2514, 90\n"
TWO_GPUS = "0, 4, 0\n1, 900, 5\n0, 104, 50\n1, 2900, 95\n"


@pytest.fixture(autouse=True)
def visible(monkeypatch):
    """A machine that hides no GPU."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def nvidia_smi(tmp_path: Path):
    """Makes a program that answers as nvidia-smi did, notes its arguments, and does not end."""

    def make(lines: str, *, status: int = 0, streaming: bool = True) -> str:
        program = tmp_path / "nvidia-smi"
        program.write_text(
            f"#!{sys.executable} -IS\n"
            "import sys, time\n"
            f"open({str(tmp_path / 'arguments')!r}, 'w').write(' '.join(sys.argv[1:]))\n"
            f"sys.stdout.write({lines!r})\n"
            "sys.stdout.flush()\n" + ("time.sleep(600)\n" if streaming else f"sys.exit({status})\n")
        )
        program.chmod(0o755)
        return str(program)

    return make


def test_lines_of_the_driver_become_samples():
    assert parse_samples(TWO_GPUS) == [
        GpuSample(0, 4.0, 0.0),
        GpuSample(1, 900.0, 0.05),
        GpuSample(0, 104.0, 0.5),
        GpuSample(1, 2900.0, 0.95),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "0, 4, 10",  # the process was ended while it wrote: 100 % perhaps
        "0, 4\n",
        "0, [N/A], 3\n",
        "No devices were found\n",
        "Failed to initialize NVML: Driver/library version mismatch\n",
        "Unable to determine the device handle for GPU0: 0000:01:00.0: Unknown Error, a, b\n",
    ],
)
def test_what_is_no_complete_sample_is_left_out(text):
    assert parse_samples(text) == []


@pytest.mark.parametrize("word", ["[N/A]", "[Not Supported]", "[Unknown Error]"])
def test_a_gpu_that_reports_no_utilisation_still_reports_memory(word):
    assert parse_samples(f"0, 512, {word}\n") == [GpuSample(0, 512.0, None)]


@given(st.text())
def test_no_text_breaks_the_parser(text):
    for sample in parse_samples(text):
        assert isinstance(sample, GpuSample)


def test_the_peak_is_above_the_level_before_the_run(nvidia_smi, tmp_path):
    with GpuMeter(tmp_path, command=nvidia_smi(ONE_GPU)) as meter:
        assert meter.peak_memory_mb is None

    assert meter.peak_memory_mb == 2510.0
    assert meter.utilization == pytest.approx((0 + 0 + 0.12 + 0.98 + 0.90) / 5)


def test_several_gpus_add_up_and_the_busiest_counts(nvidia_smi, tmp_path):
    with GpuMeter(tmp_path, command=nvidia_smi(TWO_GPUS)) as meter:
        pass

    assert meter.peak_memory_mb == 100.0 + 2000.0
    assert meter.utilization == pytest.approx(0.5)


def test_memory_without_utilisation_leaves_utilisation_unknown(nvidia_smi, tmp_path):
    with GpuMeter(tmp_path, command=nvidia_smi("0, 5, [N/A]\n0, 9, [N/A]\n")) as meter:
        pass

    assert (meter.peak_memory_mb, meter.utilization) == (4.0, None)


def test_a_driver_that_fails_gives_none(nvidia_smi, tmp_path):
    command = nvidia_smi("No devices were found\n", status=6, streaming=False)
    with GpuMeter(tmp_path, command=command) as meter:
        pass

    assert (meter.peak_memory_mb, meter.utilization) == (None, None)
    assert not gpu_available(command)
    assert device_name("cuda", command) == "unknown"


def test_a_machine_without_the_driver_gives_none(tmp_path):
    with GpuMeter(tmp_path, command="nvidia-smi-that-does-not-exist") as meter:
        pass

    assert (meter.peak_memory_mb, meter.utilization) == (None, None)
    assert not gpu_available("nvidia-smi-that-does-not-exist")


def test_a_meter_that_is_off_starts_nothing(nvidia_smi, tmp_path):
    with GpuMeter(tmp_path, enabled=False, command=nvidia_smi(ONE_GPU)) as meter:
        pass

    assert meter.peak_memory_mb is None
    assert not (tmp_path / "arguments").exists()


# --- empty again -----------------------------------------------------------------------------------


@pytest.fixture
def gpu(tmp_path: Path) -> tuple[str, Callable[[int], None]]:
    """A stand-in that goes on answering, and how much memory it says is used."""
    program, used = tmp_path / "nvidia-smi", tmp_path / "used"
    used.write_text("100")
    program.write_text(
        f"#!{sys.executable} -IS\n"
        "import time\n"
        f"while (used := open({str(used)!r}).read()) != 'gone':\n"
        "    if used: print(f'0, {used}, 0', flush=True)\n"
        "    time.sleep(0.02)\n"
    )
    program.chmod(0o755)

    def use(mb: int | str) -> None:
        (tmp_path / "next").write_text(str(mb))
        (tmp_path / "next").rename(used)

    return str(program), use


def test_a_gpu_that_is_as_it_was_is_empty(gpu, tmp_path):
    command, _ = gpu
    with GpuMeter(tmp_path, command=command) as meter:
        meter.settle()

    assert meter.problem == ""


def test_the_driver_is_given_time_to_take_memory_back(gpu, tmp_path):
    command, use = gpu
    with GpuMeter(tmp_path, command=command) as meter:
        use(5000)
        time.sleep(0.2)
        late = subprocess.Popen(
            ["/bin/sh", "-c", 'sleep 0.5; printf 101 >"$0/x"; mv "$0/x" "$0/used"', str(tmp_path)]
        )
        meter.settle()
        late.wait()

    assert meter.problem == ""
    assert meter.peak_memory_mb == 4900.0


def test_memory_that_stays_is_a_problem(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr("pytest_autoresearch.meters.SETTLE", 0.5)
    command, use = gpu
    with GpuMeter(tmp_path, command=command) as meter:
        use(5000)
        time.sleep(0.2)
        meter.settle()

    assert meter.problem == "it holds 4900 MiB more than before"


@pytest.mark.parametrize("silence", ["", "gone"])
def test_a_driver_that_falls_silent_is_a_problem(silence, gpu, tmp_path, monkeypatch):
    monkeypatch.setattr("pytest_autoresearch.meters.SETTLE", 0.5)
    command, use = gpu
    with GpuMeter(tmp_path, command=command) as meter:
        use(silence)
        time.sleep(0.3)
        meter.settle()

    assert meter.problem == "nvidia-smi does not answer any more"


def test_without_a_gpu_there_is_nothing_to_settle(tmp_path):
    with GpuMeter(tmp_path, command="nvidia-smi-that-does-not-exist") as meter:
        meter.settle()

    assert meter.problem == ""


def test_gpus_are_known_by_what_identifies_them(nvidia_smi, tmp_path):
    assert gpu_ids(nvidia_smi("GPU-5f\nGPU-7a\n", streaming=False)) == ["GPU-5f", "GPU-7a"]
    assert "--query-gpu=uuid" in (tmp_path / "arguments").read_text()
    assert gpu_ids("nvidia-smi-that-does-not-exist") == ["all"]


@pytest.mark.parametrize("hidden", ["", "-1", " "])
def test_hidden_gpus_are_no_gpus(hidden, nvidia_smi, monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    command = nvidia_smi("NVIDIA H100 80GB HBM3\n", streaming=False)

    assert not gpu_available(command)
    with GpuMeter(tmp_path, command=command) as meter:
        pass
    assert meter.peak_memory_mb is None


def test_only_the_visible_gpus_are_asked_for(nvidia_smi, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with GpuMeter(tmp_path, command=nvidia_smi(ONE_GPU)):
        pass

    arguments = (tmp_path / "arguments").read_text().split()
    assert arguments == [
        "--id=1",
        "--query-gpu=index,memory.used,utilization.gpu",
        "--format=csv,noheader,nounits",
        "--loop-ms=250",
    ]


def test_the_first_gpu_names_the_device(nvidia_smi):
    command = nvidia_smi("NVIDIA H100 80GB HBM3\nNVIDIA A100\n", streaming=False)

    assert gpu_available(command)
    assert device_name("cuda", command) == "NVIDIA H100 80GB HBM3"


def test_a_program_that_cannot_be_run_is_no_gpu(tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_bytes(b"\x7fELF broken")
    program.chmod(0o755)

    assert not gpu_available(str(program))
    with GpuMeter(tmp_path, command=str(program)) as meter:
        pass
    assert meter.peak_memory_mb is None


def test_the_processor_has_a_name():
    name = device_name("cpu")

    assert name
    assert name == name.strip()


def test_asking_for_a_gpu_does_not_import_torch():
    code = (
        "import sys; from pytest_autoresearch.meters import gpu_available; gpu_available();"
        "print({'torch', 'numpy'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert (answer.stdout, answer.returncode) == ("set()\n", 0), answer.stderr


@pytest.mark.skipif(not gpu_available(), reason="no GPU on this machine")
def test_the_real_driver_sees_what_a_run_allocates(tmp_path):
    code = "import torch; x = torch.ones(64 << 20, device='cuda'); torch.cuda.synchronize()"
    hold = "import time; time.sleep(1)"
    with GpuMeter(tmp_path) as meter:
        subprocess.run([sys.executable, "-c", f"{code}; {hold}"], check=True)

    assert meter.peak_memory_mb is not None
    assert meter.peak_memory_mb >= 256
    assert meter.utilization is not None
    assert device_name("cuda") != "unknown"
