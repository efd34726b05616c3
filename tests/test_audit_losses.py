"""
Losses of single examples: what counts as some, and that the incumbent's come back whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from pytest_autoresearch.losses import checked, load, store

DIGEST = "ab" * 32
LOSSES = np.array([0.5, 0.25, 1e-9, 40.0])


def test_what_was_stored_is_loaded_bit_for_bit_by_its_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "campaign" / "losses"

    sha256 = store(directory, DIGEST, LOSSES)

    found = load(directory, DIGEST, sha256)
    assert found is not None
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, LOSSES)
    (path,) = directory.iterdir()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_second_store_replaces_the_first_and_leaves_nothing_else(tmp_path: Path) -> None:
    first = store(tmp_path, DIGEST, LOSSES)
    second = store(tmp_path, DIGEST, 2 * LOSSES)

    assert load(tmp_path, DIGEST, first) is None
    np.testing.assert_array_equal(load(tmp_path, DIGEST, second), 2 * LOSSES)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_store_that_fails_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = store(tmp_path, DIGEST, LOSSES)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store(tmp_path, DIGEST, 2 * LOSSES)
    np.testing.assert_array_equal(load(tmp_path, DIGEST, sha256), LOSSES)
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_missing_or_not_as_recorded_is_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, DIGEST, "0" * 64) is None
    sha256 = store(tmp_path, DIGEST, LOSSES)
    path = tmp_path / f"{DIGEST}.npy"
    content = path.read_bytes()
    for wrong in (content[:-8], content[:-1] + b"\0", b"", content + b"\0"):
        path.write_bytes(wrong)
        assert load(tmp_path, DIGEST, sha256) is None
    path.write_bytes(content)
    assert load(tmp_path, DIGEST, sha256) is not None
    path.rename(tmp_path / "twin")
    path.symlink_to("twin")
    assert load(tmp_path, DIGEST, sha256) is None
    path.unlink()
    os.mkfifo(path)
    assert load(tmp_path, DIGEST, sha256) is None


def test_pickles_are_neither_written_nor_read(tmp_path: Path) -> None:
    path = tmp_path / f"{DIGEST}.npy"
    np.save(path, np.array([print], dtype=object), allow_pickle=True)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load(tmp_path, DIGEST, sha256)


@pytest.mark.parametrize("digest", ["", "../../etc", "AB" * 32, "a" * 7, "ab" * 32 + "\n"])
def test_what_is_no_digest_names_no_file(tmp_path: Path, digest: str) -> None:
    with pytest.raises(ValueError, match="is no digest"):
        store(tmp_path, digest, LOSSES)
    with pytest.raises(ValueError, match="is no digest"):
        load(tmp_path, digest, "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_one_finite_float_an_example_is_a_loss() -> None:
    found = checked([0.5, 1.5], 2)
    assert found.dtype == np.float64
    assert found.tolist() == [0.5, 1.5]
    assert checked(np.float32([0.5]), 1).dtype == np.float64


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (np.zeros(3), r"gives float64 of shape \(3,\) for 2 examples: it must give one float"),
        (0.5, r"shape \(\)"),
        (np.zeros((2, 1)), r"shape \(2, 1\)"),
        (np.array([1, 0]), "gives int64"),
        (np.array([True, False]), "gives bool"),
        (None, "gives object"),
        (np.array([0.5, np.inf]), "gives 1 of 2 values that are not finite: clip"),
        (np.array([np.nan, np.inf]), "gives 2 of 2 values"),
    ],
)
def test_anything_else_is_an_error_with_a_way_out(given: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        checked(given, 2)
