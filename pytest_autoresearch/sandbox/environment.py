"""
The closed environment of a run: an allow-list built from nothing, never a filtered copy.

A variable of the harness reaches a run only if it is needed to find the GPU driver.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["closed_environment", "driver_directories", "python_command"]

DRIVER_DIRECTORIES = ("/usr/local/nvidia/lib64", "/usr/local/nvidia/lib", "/usr/lib/wsl/lib")
"""Where containers and WSL mount the driver's libraries without telling the dynamic linker."""


def python_command(script: str, *arguments: str) -> tuple[str, ...]:
    """
    The command line that runs ``script`` with the harness's own interpreter.

    ``-s`` keeps the user's site directory out. Neither ``-E`` nor ``-P``/``-I``: the environment is
    closed already, so the PYTHON* variables in it are the harness's own and reach the workers that
    the script spawns; and ``train.py`` finds ``prepare.py`` only because the script's directory, a
    snapshot that the harness made, is first on the module path.
    """
    return (sys.executable, "-s", script, *arguments)


def driver_directories(environ: Mapping[str, str]) -> list[str]:
    """The directories that hold the GPU driver's library outside the dynamic linker's own path."""
    listed = environ.get("LD_LIBRARY_PATH", "").split(":")
    return [
        directory
        for directory in dict.fromkeys((*listed, *DRIVER_DIRECTORIES))
        if Path(directory).is_absolute() and Path(directory, "libcuda.so.1").exists()
    ]


def closed_environment(
    writable: Path,
    *,
    threads: int,
    device: str = "cpu",
    extra: Mapping[str, str] | None = None,
    temporary: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """
    The complete environment of a run whose writable directory is ``writable``.

    Home, temporary files and every cache lie below ``writable`` (the directories are made), so that
    a run neither reads nor leaves anything in the user's own. ``threads`` bounds the numerical
    libraries. ``device`` is ``cpu``, which hides every GPU, or ``cuda``. ``extra`` adds variables and may
    not replace one. ``temporary`` is another place for temporary files, where one below ``writable`` would
    have too long a path for a socket: workers of multiprocessing talk through sockets there. ``environ`` is
    where the driver's variables are looked up, by default the harness's environment.

    Raises ValueError for fewer than one thread, or when ``extra`` names a variable that is set here.
    """
    if threads < 1:
        raise ValueError(f"threads {threads!r} must be at least 1")
    source = os.environ if environ is None else environ
    home, tmp, cache = (writable / name for name in ("home", "tmp", "cache"))
    for directory in (home, tmp, cache):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    closed = {
        "PATH": os.defpath,
        "HOME": str(home),
        "USER": "autoresearch",
        "LOGNAME": "autoresearch",
        "LANG": "C.UTF-8",
        "TMPDIR": str(temporary or tmp),
        "XDG_CACHE_HOME": str(cache),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local" / "share"),
        "XDG_STATE_HOME": str(home / ".local" / "state"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "torchinductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "CUDA_CACHE_PATH": str(cache / "cuda"),
        # Equal seeds give equal bytes only if sets of strings iterate in one order.
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        # The last line of the log is shown while the run goes on.
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "VECLIB_MAXIMUM_THREADS": str(threads),
    }
    if device == "cuda":
        if directories := driver_directories(source):
            closed["LD_LIBRARY_PATH"] = ":".join(directories)
        if "CUDA_VISIBLE_DEVICES" in source:
            closed["CUDA_VISIBLE_DEVICES"] = source["CUDA_VISIBLE_DEVICES"]
    else:
        # A missing variable would show every GPU.
        closed["CUDA_VISIBLE_DEVICES"] = ""
    if taken := sorted(closed.keys() & (extra or {}).keys()):
        raise ValueError(
            f"environment variable {taken[0]!r} is set by the harness: use another name"
        )
    return closed | dict(extra or {})
