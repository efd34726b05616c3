"""
Hostile files, made for real: links, FIFOs, holes, growing files, arrays that lie about themselves.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.artifact import (
    UntrustedFileError,
    read_logits,
    read_predictions,
    read_tail,
    read_untrusted,
    take_artifact,
)

CAP = 1 << 16


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The directory that a run wrote to."""
    directory = tmp_path / "out"
    directory.mkdir()
    return directory


def symbolic_link(path: Path, secret: Path) -> None:
    path.symlink_to(secret)


def hard_link(path: Path, secret: Path) -> None:
    path.hardlink_to(secret)


def fifo(path: Path, secret: Path) -> None:
    os.mkfifo(path)


def directory(path: Path, secret: Path) -> None:
    path.mkdir()


def listening_socket(path: Path, secret: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def terabyte_of_holes(path: Path, secret: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def nothing(path: Path, secret: Path) -> None:
    """A run that leaves no file."""


HOSTILE = [
    (symbolic_link, "without following links"),
    (hard_link, "2 names"),
    (fifo, "not a regular file"),
    (directory, "not a regular file"),
    (listening_socket, "cannot be opened"),
    (terabyte_of_holes, "more than the 65536 allowed"),
    (nothing, "does not exist"),
]


@pytest.mark.parametrize(("attack", "sentence"), HOSTILE)
def test_a_hostile_file_is_refused_with_a_sentence(attack, sentence, out, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"held-out labels")
    attack(out / "model.pt2", secret)

    with pytest.raises(UntrustedFileError, match=sentence):
        read_untrusted(out / "model.pt2", cap_bytes=CAP)
    with pytest.raises(UntrustedFileError, match=sentence):
        take_artifact(out, "model.pt2", tmp_path / "kept", cap_bytes=CAP)
    with pytest.raises(UntrustedFileError):
        read_predictions(out / "model.pt2", 4)
    assert not (tmp_path / "kept").exists()


def test_a_regular_file_is_read_whole_up_to_the_cap(out):
    (out / "model.pt2").write_bytes(b"m" * CAP)

    assert read_untrusted(out / "model.pt2", cap_bytes=CAP) == b"m" * CAP
    with pytest.raises(UntrustedFileError, match="holds 65536 bytes, more than the 65535 allowed"):
        read_untrusted(out / "model.pt2", cap_bytes=CAP - 1)


def test_a_path_with_a_nul_is_refused(out):
    with pytest.raises(UntrustedFileError, match="not the name of a file"):
        read_untrusted(out / "model\0.pt2", cap_bytes=CAP)


def test_a_file_that_grows_while_it_is_read_is_refused(out):
    path = out / "model.pt2"
    path.write_bytes(bytes(16 << 20))
    writer = "import sys\nfile = open(sys.argv[1], 'ab', 0)\nwhile file.tell() < 1 << 30: file.write(b'x')"

    def read_until_refused() -> None:
        while True:
            read_untrusted(path, cap_bytes=1 << 30)

    with subprocess.Popen([sys.executable, "-I", "-S", "-c", writer, path]) as process:
        try:
            with pytest.raises(UntrustedFileError, match="changed while it was read"):
                read_until_refused()
        finally:
            process.kill()


def test_a_file_that_shrinks_while_it_is_copied_leaves_no_copy(out, tmp_path):
    path, kept = out / "model.pt2", tmp_path / "kept"
    path.touch()
    cutter = (
        "import os, sys\n"
        "while True:\n"
        "    if os.path.exists(sys.argv[2]): os.truncate(sys.argv[1], 5)\n"
    )

    def copy_until_refused() -> None:
        while True:
            os.truncate(path, 64 << 20)
            take_artifact(out, "model.pt2", kept, cap_bytes=1 << 30)
            kept.unlink()

    with subprocess.Popen([sys.executable, "-I", "-S", "-c", cutter, path, kept]) as process:
        try:
            with pytest.raises(UntrustedFileError, match="changed while it was read"):
                copy_until_refused()
        finally:
            process.kill()
    assert not kept.exists()


def test_an_artifact_is_copied_with_its_digest(out, tmp_path):
    content = os.urandom(3 << 20)
    (out / "model.pt2").write_bytes(content)

    path, digest = take_artifact(out, "model.pt2", tmp_path / "kept", cap_bytes=4 << 20)

    assert path == tmp_path / "kept"
    assert path.read_bytes() == content
    assert digest == hashlib.sha256(content).hexdigest()


def test_a_copy_never_replaces_a_file(out, tmp_path):
    (out / "model.pt2").write_bytes(b"new")
    (tmp_path / "kept").write_bytes(b"incumbent")

    with pytest.raises(FileExistsError):
        take_artifact(out, "model.pt2", tmp_path / "kept", cap_bytes=CAP)
    assert (tmp_path / "kept").read_bytes() == b"incumbent"


@pytest.mark.parametrize("name", ["", ".", "..", "../secret", "/etc/passwd", "a/b"])
def test_an_artifact_name_that_is_a_path_is_refused(name, out, tmp_path):
    with pytest.raises(UntrustedFileError, match="plain name of one file"):
        take_artifact(out, name, tmp_path / "kept", cap_bytes=CAP)


def test_an_output_directory_swapped_for_a_link_is_refused(out, tmp_path):
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "model.pt2").write_bytes(b"held-out labels")
    out.rmdir()
    out.symlink_to(secrets)

    with pytest.raises(UntrustedFileError, match="'out' cannot be opened"):
        take_artifact(out, "model.pt2", tmp_path / "kept", cap_bytes=CAP)


def test_the_tail_of_a_growing_log_is_read_under_the_same_rules(out, tmp_path):
    log = out / "run.log"
    log.write_bytes(b"0123456789")
    assert read_tail(log, size=4) == b"6789"
    assert read_tail(log, size=100) == b"0123456789"

    log.unlink()
    os.mkfifo(log)
    with pytest.raises(UntrustedFileError, match="not a regular file"):
        read_tail(log, size=4)


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
@pytest.mark.parametrize("n", [0, 1, 1000])
def test_what_numpy_saves_comes_back_as_float64(dtype, n, out):
    values = np.random.default_rng(0).random(n).astype(dtype)
    np.save(out / "predictions.npy", values)

    read = read_predictions(out / "predictions.npy", n)

    assert read.dtype == np.float64
    assert read.flags.writeable
    np.testing.assert_array_equal(values, read)


def test_the_bounds_are_the_callers(out):
    np.save(out / "predictions.npy", np.array([-3.0, 8.0]))

    assert read_predictions(out / "predictions.npy", 2, low=-3.0, high=8.0).tolist() == [-3.0, 8.0]


LIES = {
    "too few": (np.zeros(3), r"of shape \(3,\) instead of \(4,\)"),
    "too many": (np.zeros(5), r"of shape \(5,\) instead of \(4,\)"),
    "a matrix": (np.zeros((2, 2)), r"of shape \(2, 2\) instead of \(4,\)"),
    "a column": (np.zeros((4, 1)), r"of shape \(4, 1\) instead of \(4,\)"),
    "a scalar": (np.float64(0.5), "not a .npy file"),
    "integers": (np.zeros(4, dtype=np.int64), "not a .npy file"),
    "half precision": (np.zeros(4, dtype=np.float16), "not a .npy file"),
    "complex": (np.zeros(4, dtype=np.complex128), "not a .npy file"),
    "big-endian": (np.zeros(4, dtype=">f8"), "not a .npy file"),
    "records": (np.zeros(4, dtype=[("a", "<f8")]), "not a .npy file"),
    "text": (np.array(["0.5"] * 4), "not a .npy file"),
    "not a number": (np.array([0, 0, 0, np.nan]), "not finite"),
    "infinite": (np.array([0, 0, 0, -np.inf]), "not finite"),
    "above one": (np.array([0, 0, 0, 1.0000001]), "outside"),
    "below zero": (np.array([0, 0, 0, -1e-9]), "outside"),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_array_that_is_not_the_predictions_is_refused(lie, out):
    array, sentence = LIES[lie]
    np.save(out / "predictions.npy", array)

    with pytest.raises(UntrustedFileError, match=sentence):
        read_predictions(out / "predictions.npy", 4)


def test_a_signalling_nan_is_refused_without_a_warning(out):
    np.save(out / "predictions.npy", np.zeros(4, dtype="<f4"))
    content = bytearray((out / "predictions.npy").read_bytes())
    content[-4:] = struct.pack("<I", 0x7F800001)
    (out / "predictions.npy").write_bytes(content)

    with pytest.raises(UntrustedFileError, match="not finite"):
        read_predictions(out / "predictions.npy", 4)


class _Attack:
    """Unpickled, it makes a file."""

    def __reduce__(self):
        return (os.mkdir, ("pickled",))


def test_a_pickle_is_not_executed(out, monkeypatch):
    monkeypatch.chdir(out)
    objects = np.empty(4, dtype=object)
    objects[:] = [_Attack()] * 4
    np.save(out / "objects.npy", objects, allow_pickle=True)
    (out / "plain.npy").write_bytes(pickle.dumps(_Attack()))

    for name in ("objects.npy", "plain.npy"):
        with pytest.raises(UntrustedFileError, match=r"not a \.npy file"):
            read_predictions(out / name, 4)
    assert not (out / "pickled").exists()


def npy(header: bytes, body: bytes = bytes(32), version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + body


HONEST = b"{'descr': '<f8', 'fortran_order': False, 'shape': (4,), }\n"
BOMBS = {
    "junk behind": npy(HONEST, bytes(40)),
    "cut short": npy(HONEST, bytes(31)),
    "empty file": b"",
    "magic only": b"\x93NUMPY",
    "version 2": npy(HONEST, version=b"\x02\x00"),
    "fortran order": npy(HONEST.replace(b"False", b"True")),
    "exabyte shape": npy(HONEST.replace(b"(4,)", b"(1152921504606846976,)")),
    "million digits": npy(HONEST.replace(b"(4,)", b"(" + b"9" * 3000 + b",)")),
    "nested brackets": npy(b"(" * 4000 + b"\n"),
    "expression": npy(HONEST.replace(b"4", b"2+2")),
    "duplicate key": npy(HONEST.replace(b", }", b", 'shape': (9,), }")),
    "header past the end": b"\x93NUMPY\x01\x00\xff\xff" + HONEST,
    "zip archive": b"PK\x03\x04" + bytes(60),
    "unicode digits": npy(HONEST.replace(b"4", "\N{FULLWIDTH DIGIT FOUR}".encode())),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_header_that_lies_is_refused_before_anything_is_allocated(bomb, out):
    (out / "predictions.npy").write_bytes(BOMBS[bomb])

    with pytest.raises(UntrustedFileError):
        read_predictions(out / "predictions.npy", 4)


def test_the_honest_header_of_the_bombs_is_accepted(out):
    (out / "predictions.npy").write_bytes(npy(HONEST))

    assert read_predictions(out / "predictions.npy", 4).tolist() == [0.0] * 4


SHAPE = (2, 3, 4)
LOGITS = {
    "transposed": (np.zeros((4, 3, 2), "f4"), r"of shape \(4, 3, 2\) instead of \(2, 3, 4\)"),
    "flat": (np.zeros(24, "f4"), r"of shape \(24,\) instead of \(2, 3, 4\)"),
    "an example short": (np.zeros((1, 3, 4), "f4"), r"of shape \(1, 3, 4\)"),
    "a position short": (np.zeros((2, 2, 4), "f4"), r"of shape \(2, 2, 4\)"),
    "four axes": (np.zeros((1, 2, 3, 4), "f4"), "not a .npy file"),
    "Fortran order": (np.zeros(SHAPE, "f4", order="F"), "not a .npy file"),
    "half precision": (np.zeros(SHAPE, "f2"), "not a .npy file"),
    "double precision": (np.zeros(SHAPE), "holds <f8 numbers instead of <f4"),
    "doubles beyond float32": (np.full(SHAPE, 1e300), "holds <f8 numbers instead of <f4"),
    "big-endian": (np.zeros(SHAPE, ">f4"), "not a .npy file"),
    "records": (np.zeros(SHAPE, [("a", "<f4")]), "not a .npy file"),
    "subarrays": (np.zeros((2, 3), [("a", "<f4", (4,))]), "not a .npy file"),
    "dates": (np.zeros(SHAPE, "<M8[s]"), "not a .npy file"),
    "one nan": (
        np.pad(np.zeros((2, 3, 3), "f4"), ((0, 0), (0, 0), (0, 1)), constant_values=np.nan),
        "not finite",
    ),
    "minus infinity": (np.full(SHAPE, -np.inf, "f4"), "not finite"),
}


@pytest.mark.parametrize("lie", LOGITS)
def test_an_array_that_is_not_the_logits_is_refused(lie, out):
    array, sentence = LOGITS[lie]
    np.save(out / "predictions.npy", array)

    with pytest.raises(UntrustedFileError, match=sentence):
        read_logits(out / "predictions.npy", SHAPE)


def test_logits_come_back_as_they_were_saved(out):
    values = np.random.default_rng(0).normal(size=SHAPE).astype("f4") * 1e30
    np.save(out / "predictions.npy", values)

    read = read_logits(out / "predictions.npy", SHAPE)

    assert read.dtype == np.float32
    np.testing.assert_array_equal(values, read)


CUBE = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 4), }\n"
CUBE_BOMBS = {
    "exabyte shape": CUBE.replace(b"(2, 3, 4)", b"(999999999999999999, 999999999999999999, 9)"),
    "product that overflows to the size": CUBE.replace(
        b"(2, 3, 4)", b"(4294967296, 4294967296, 24)"
    ),
    "leading zeros": CUBE.replace(b"(2, 3, 4)", b"(02, 3, 4)"),
    "no comma of a tuple": CUBE.replace(b"(2, 3, 4)", b"(24)"),
    "trailing comma": CUBE.replace(b"(2, 3, 4)", b"(2, 3, 4,)"),
    "negative": CUBE.replace(b"(2, 3, 4)", b"(-2, 3, -4)"),
    "underscores": CUBE.replace(b"(2, 3, 4)", b"(2, 3, 0_4)"),
    "hexadecimal": CUBE.replace(b"(2, 3, 4)", b"(2, 3, 0x4)"),
    "a comment": CUBE.replace(b"\n", b"# \n"),
    "two lines": CUBE.replace(b"\n", b"\n\n"),
    "arabic digits": CUBE.replace(b"(2,", "(\N{ARABIC-INDIC DIGIT TWO},".encode()),
    "a call": CUBE.replace(b"False", b"print('x')"),
}


@pytest.mark.parametrize("bomb", CUBE_BOMBS)
def test_a_header_of_logits_that_lies_is_refused(bomb, out):
    (out / "predictions.npy").write_bytes(npy(CUBE_BOMBS[bomb], bytes(96)))

    with pytest.raises(UntrustedFileError):
        read_logits(out / "predictions.npy", SHAPE)


def test_the_honest_header_of_those_bombs_is_accepted(out):
    (out / "predictions.npy").write_bytes(npy(CUBE, bytes(96)))

    assert read_logits(out / "predictions.npy", SHAPE).shape == SHAPE


def test_holes_in_the_place_of_data_are_no_more_than_the_zeros_they_stand_for(out):
    """A sparse file of the right size is a right file; one of another size is not read at all."""
    path = out / "predictions.npy"
    path.write_bytes(npy(HONEST, b""))
    size = path.stat().st_size
    os.truncate(path, size + 32)
    assert read_predictions(path, 4).tolist() == [0.0] * 4

    os.truncate(path, size + (1 << 40))
    with pytest.raises(UntrustedFileError, match="more than the"):
        read_predictions(path, 4)


def test_an_archive_with_an_array_in_it_is_not_opened(out):
    np.savez(out / "predictions.npy.npz", predictions=np.zeros(4))
    (out / "predictions.npy.npz").rename(out / "predictions.npy")

    with pytest.raises(UntrustedFileError, match=r"not a \.npy file"):
        read_predictions(out / "predictions.npy", 4)


@given(position=st.integers(0, 159), value=st.integers(0, 255))
def test_no_changed_byte_brings_out_anything_but_numbers_in_range(
    position, value, tmp_path_factory
):
    path = tmp_path_factory.mktemp("bytes") / "predictions.npy"
    np.save(path, np.array([0.1, 0.2, 0.3, 0.4]))
    content = bytearray(path.read_bytes())
    content[position] = value
    path.write_bytes(content)

    try:
        read = read_predictions(path, 4)
    except UntrustedFileError:
        return
    assert read.shape == (4,)
    assert np.isfinite(read).all()
    assert (read >= 0).all()
    assert (read <= 1).all()
