"""The pattern scanners, on Faker's values, on numbers that are none, and on folders."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faker import Faker
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.compliance import pii
from pytest_autoresearch.compliance.pii import (
    DENIED_COLUMNS,
    scan_columns,
    scan_directory,
    scan_npz,
    scan_text,
)


def kinds(text: str) -> list[str]:
    return [finding.kind for finding in scan_text(text)]


def faker(seed: int) -> Faker:
    fake = Faker("en_US")
    fake.seed_instance(seed)
    return fake


def separated_phone(fake: Faker) -> str:
    return next(p for p in iter(fake.phone_number, None) if not p.isdigit())


@pytest.mark.parametrize(
    ("kind", "draw"),
    [
        ("email", lambda f: f.email()),
        ("national_id", lambda f: f.ssn()),
        ("national_id", lambda f: f.itin()),
        ("iban", lambda f: f.iban()),
        ("ipv4", lambda f: f.ipv4_public()),
        ("card", lambda f: f.credit_card_number("visa")),
        ("card", lambda f: f.credit_card_number("mastercard")),
        ("card", lambda f: f.credit_card_number("amex")),
        ("card", lambda f: f.credit_card_number("diners")),
        ("card", lambda f: f.credit_card_number("jcb15")),
        ("phone", separated_phone),
        ("phone", lambda f: "+49 30 " + f.numerify("########")),
        ("phone", lambda f: f.numerify("phone: 2##2######")),
        ("phone", lambda f: f.numerify("(2##) 555-01##")),
    ],
    ids=[
        "email",
        "ssn",
        "itin",
        "iban",
        "ipv4",
        "visa",
        "mastercard",
        "amex",
        "diners",
        "jcb",
        "us-phone",
        "de-phone",
        "bare-phone",
        "local-phone",
    ],
)
def test_every_value_of_the_generator_is_found_whole_and_masked(
    kind: str, draw: Callable[[Faker], str]
) -> None:
    fake = faker(7)
    for _ in range(200):
        value = draw(fake)
        text = f"Please reach {value}, not before noon."
        (finding,) = scan_text(text)
        assert (finding.kind, text[slice(*finding.span)]) == (kind, value)
        assert len(finding.excerpt) == len(value)
        assert not set(finding.excerpt) & set("012345678abcdefghijklmnopqrstuvwyzABCDEFGHIJ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4111 1111 1111 1111", ["card"]),
        ("4111-1111-1111-1111", ["card"]),
        ("3782 822463 10005", ["card"]),
        ("4111 1111 1111 1112", []),
        ("0.4111111111111111", []),
        ("GB82 WEST 1234 5698 7654 32", ["iban"]),
        ("GB82WEST12345698765433", []),
        ("DE89370400440532013000", ["iban"]),
        ("DE8937040044053201300", []),
        ("ZZ89370400440532013000", []),
        ("127.0.0.1 0.0.0.0 255.255.255.255 300.1.1.1 1.2.3.4.5", []),
        ("from 192.168.0.17.", ["ipv4"]),
        ("000-12-3456 666-12-3456 123-00-4567 123-45-0000", []),
        ("a@b.co and 123-45-6789", ["email", "national_id"]),
        ("2345678901", []),
        ("2024-01-02 2024-01-02T10:11:12.123456+00:00 01/02/2024", []),
        ("20240102101112 12345678901234 1700000000 1700000000000", []),
        ("step 00012 loss: 0.311234 lr 3e-04 tok/s 1,234,567 dt -1.2345678e-10", []),
        ("+1.2345678901 -0.5 +12", []),
        ("user@localhost @decorator", []),
        ("", []),
    ],
)
def test_texts_worked_by_hand(text: str, expected: list[str]) -> None:
    assert kinds(text) == expected


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_printed_float_is_not_personal(value: float) -> None:
    assert kinds(f"{value!r} {value:.6f} {value:.3e}") == []


@given(st.dates(), st.times(), st.integers(0, 10**10 - 1))
def test_dates_times_and_short_numbers_are_not_personal(
    date: object, time: object, number: int
) -> None:
    assert kinds(f"{date} {time} {date}T{time} {number} {number:,} {number:010d}") == []


def test_numbers_without_a_valid_check_digit_are_not_cards() -> None:
    rng = random.Random(3)
    for _ in range(300):
        card = faker(rng.randrange(10**6)).credit_card_number("visa16")
        assert kinds(card) == ["card"]
        assert kinds(card[:-1] + str((int(card[-1]) + 1) % 10)) == []


@pytest.mark.parametrize("unit", ["a", "a.", "4", "4111 ", "1.2.", "+1 ", "a@a.", "AB12 ", "555-"])
def test_a_hostile_text_costs_linear_work(unit: str) -> None:
    # Matching that backtracked over the whole text would not end within the test run.
    assert isinstance(scan_text(unit * 20_000), tuple)


def test_denied_columns_are_found_in_any_spelling() -> None:
    names = [
        "age",
        "E-Mail",
        "synthetic_name",
        "Home Phone",
        "sex",
        "hours_per_week",
        "note",
        "renamed",
    ]
    found = scan_columns(names, (*DENIED_COLUMNS, "Sex"))
    assert [f.excerpt for f in found] == [
        "E-Mail",
        "synthetic_name",
        "Home Phone",
        "sex",
        "note",
    ]
    assert {f.kind for f in found} == {"column"}


@pytest.fixture
def training_view(tmp_path: Path) -> Path:
    """A view in the shape that prepare.py writes."""
    np.savez(
        tmp_path / "features.npz",
        numeric=np.random.default_rng(0).random((50, 5), dtype=np.float32),
        categorical=np.arange(100).reshape(50, 2),
    )
    np.save(tmp_path / "labels.npy", np.zeros(50, dtype=np.int8))
    schema = {
        "numeric": ["age", "capital_gain"],
        "categorical": {"workclass": ["?", "Private"], "relationship": ["Wife", "Husband"]},
        "unknown": 0,
        "label": "income>50K",
    }
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    return tmp_path


def edit_schema(folder: Path, **changes: object) -> None:
    path = folder / "schema.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_honest_training_view_is_clean(training_view: Path) -> None:
    assert scan_directory(training_view, (*DENIED_COLUMNS, "sex", "race")) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"numeric": ["age", "phone_number"]},
        {"categorical": {"email": ["x"]}},
        {"columns": [{"name": "national_id", "values": []}]},
        {"label": "last_name"},
    ],
)
def test_a_denied_column_of_the_schema_is_found(
    training_view: Path, changes: dict[str, object]
) -> None:
    edit_schema(training_view, **changes)
    (finding,) = scan_directory(training_view)
    assert (finding.kind, finding.where) == ("column", "schema.json")


def test_a_value_hidden_in_a_vocabulary_is_found(training_view: Path) -> None:
    edit_schema(training_view, extra={"deep": [["x", {"k": "reach jo@example.org", "n": 1}]]})
    (finding,) = scan_directory(training_view)
    assert (finding.kind, finding.excerpt) == ("email", "xx@xxxxxxx.xxx")
    assert str(finding) == "email in schema.json at 6: xx@xxxxxxx.xxx"
    assert str(scan_text("123-45-6789")[0]) == "national_id at 0: 999-99-9999"


def test_values_in_text_bytes_and_record_arrays_are_found(training_view: Path) -> None:
    people = np.array([(1, "jo@example.org")], dtype=[("n", "i4"), ("who", "U20")])
    np.savez(
        training_view / "more.npz",
        text=np.array(["x", "123-45-6789", "123-45-6789"]),
        raw=np.array([b"\xff (212) 555-0164"]),
        people=people,
        **{"ed@example.org": np.zeros(1)},
    )
    assert sorted((f.kind, f.where) for f in scan_npz(training_view / "more.npz")) == [
        ("email", "more.npz:ed@example.org"),
        ("email", "more.npz:people.who"),
        ("national_id", "more.npz:text"),
        ("phone", "more.npz:raw"),
    ]
    np.save(training_view / "plain.npy", np.array(["4111111111111111"]))
    assert [f.where for f in scan_npz(training_view / "plain.npy")] == ["plain.npy"]


def test_files_below_folders_name_their_path(training_view: Path) -> None:
    (training_view / "deep").mkdir()
    (training_view / "deep" / "notes.txt").write_text("call (212) 555-0164")
    np.savez(training_view / "deep" / "a.npz", who=np.array(["jo@example.org"]))
    (training_view / "jo@example.org.json").write_text("1")
    assert sorted(f.where for f in scan_directory(training_view)) == [
        "deep/a.npz:who",
        "deep/notes.txt",
        "jo@example.org.json",
    ]


def test_what_cannot_be_scanned_is_a_finding(training_view: Path, tmp_path: Path) -> None:
    (training_view / "model.bin").write_bytes(b"\0")
    (training_view / "link.txt").symlink_to("/etc/hostname")
    (training_view / "gone.npz").symlink_to(training_view / "nowhere")
    found = scan_directory(training_view)
    assert [(f.kind, f.where, f.excerpt) for f in found] == [
        ("unscanned", "gone.npz", "not a regular file"),
        ("unscanned", "link.txt", "not a regular file"),
        ("unscanned", "model.bin", "the scan reads no '.bin' files"),
    ]


def test_an_empty_folder_does_not_pass(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no file to scan"):
        scan_directory(tmp_path)


def test_findings_of_one_file_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("jo@example.org\n" * 5000)
    assert len(scan_directory(tmp_path)) == 100


def test_pickles_and_damage_are_refused_unread(tmp_path: Path) -> None:
    np.savez(tmp_path / "object.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"array 'x' of 'object.npz' is not a plain array"):
        scan_npz(tmp_path / "object.npz")
    (tmp_path / "pickle.npy").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ValueError, match=r"'pickle.npy' is not a file of plain arrays"):
        scan_npz(tmp_path / "pickle.npy")
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"'empty.npz' is not a file of plain arrays"):
        scan_npz(tmp_path / "empty.npz")
    (tmp_path / "object.npz").unlink()
    (tmp_path / "pickle.npy").unlink()
    (tmp_path / "empty.npz").unlink()
    (tmp_path / "bad.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"'bad.json' is not JSON"):
        scan_directory(tmp_path)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pii, "_MAXIMUM_BYTES", 2**20)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (2**21,)}
    )
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(2**21))
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match=r"'bomb.npz' holds 2097280 bytes, the scan takes 1048576"):
        scan_npz(path)
