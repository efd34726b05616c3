"""The pattern scanners, on Faker's values, on numbers that are none, and on folders."""

from __future__ import annotations

import importlib.util
import io
import json
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faker import Faker
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.compliance import checksums, pii
from pytest_autoresearch.compliance.corpus import POSITIVES, measure
from pytest_autoresearch.compliance.findings import Finding, masked, shape, summary
from pytest_autoresearch.compliance.known import KnownValues
from pytest_autoresearch.compliance.numeric import scan_numbers
from pytest_autoresearch.compliance.outputs import scan_artifact, scan_output
from pytest_autoresearch.compliance.pii import (
    DENIED_COLUMNS,
    scan_columns,
    scan_directory,
    scan_npz,
    scan_text,
)
from pytest_autoresearch.compliance.presidio import Presidio, PresidioMissing


def kinds(text: str) -> list[str]:
    return [finding.kind for finding in scan_text(text)]


def wide(text: str) -> str:
    """Full-width forms of ASCII characters."""
    return "".join(chr(ord(c) + 0xFEE0) for c in text)


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
        ("phone", lambda f: f.numerify("2##2######")),
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
        text = f"Please use the phone: {value}, not before noon."
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
    fake = faker(rng.randrange(10**6))
    for _ in range(300):
        card = fake.credit_card_number("visa16")
        assert kinds(card) == ["card"]
        assert kinds(card[:-1] + str((int(card[-1]) + 1) % 10)) == []


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "a",
            "a.",
            "4",
            "4111 ",
            "1.2.",
            "+1 ",
            "a@a.",
            "AB12 ",
            "555-",
            "a@",
            "a dot ",
            "01 ",
            "ab:",
        ),
        *("born ", "QUJD", "\u200b", "12 345 "),
    ],
)
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
    assert str(scan_text("123-45-6789")[0]) == "national_id (us ssn) at 0: 999-99-9999"


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


# --- the corpus --------------------------------------------------------------------------------------


def test_every_form_of_the_corpus_is_found_and_what_only_looks_like_it_is_not() -> None:
    """The floors of docs/privacy.md, on few lines of each; the forms known to be missed are missed."""
    scores, alarms = measure(scan_text, seed=1, n=8)
    found = {
        (kind, form): counts
        for kind, score in scores.items()
        for form, counts in score.forms.items()
    }
    for form in POSITIVES:
        assert found[form.kind, form.name] == ((0, 8) if form.hard else (8, 8)), form.name
    assert sum(lines for lines, _ in alarms.values()) <= 2, alarms
    assert all(score.precision > 0.9 for score in scores.values())


def test_a_scanner_that_finds_nothing_scores_nothing() -> None:
    """The control of the measurement itself; one that flags everything has no precision."""
    scores, alarms = measure(lambda text: (), seed=1, n=1)
    assert {score.recall for score in scores.values()} == {0.0}
    assert not any(lines for lines, _ in alarms.values())
    scores, alarms = measure(lambda text: (Finding("email", (0, len(text)), ""),), seed=1, n=1)
    assert {score.recall for kind, score in scores.items()} == {1.0}
    assert scores["email"].precision < 0.9
    assert all(lines == there for lines, there in alarms.values())


# --- numbers -------------------------------------------------------------------------------------------


def flipped(number: str, place: int) -> str:
    """The number with another digit in one place."""
    return number[:place] + str((int(number[place]) + 1) % 10) + number[place + 1 :]


#: Published examples of each scheme.
NUMBERS = {
    checksums.luhn: "79927398713",
    checksums.issued_card: "378282246310005",
    checksums.verhoeff: "2363",
    checksums.nhs: "9434765919",
    checksums.steuer_id: "86095742719",
    checksums.nir: "255081416802538",
    checksums.bsn: "111222333",
    checksums.pesel: "44051401359",
    checksums.personnummer: "8112289874",
    checksums.aadhaar: "234123412346",
    checksums.cpf: "52998224725",
    checksums.sin: "130692544",
    checksums.ahv: "7569217076985",
    checksums.rijksregisternummer: "93051822361",
    checksums.fodselsnummer: "15108695088",
    checksums.tckn: "10000000146",
    checksums.resident_id: "11010519491231002X",
}


@pytest.mark.parametrize("check", NUMBERS, ids=lambda check: check.__name__)
def test_one_wrong_digit_is_no_number(check: Callable[[str], bool]) -> None:
    number = NUMBERS[check]
    assert check(number)
    places = [place for place, c in enumerate(number) if c.isdigit()]
    assert not any(check(flipped(number, place)) for place in places)


def test_letters_are_check_digits_too() -> None:
    for check, number, place in (
        (checksums.dni, "12345678Z", 7),
        (checksums.dni, "X1234567L", 7),
        (checksums.codice_fiscale, "RCCMNL83S18D969H", 7),
        (checksums.hetu, "131052-308T", 1),
        (checksums.iban, "GB82WEST12345698765432", 9),
    ):
        assert check(number), number
        assert not check(flipped(number, place)), number
    corsican = f"17812{'2B'}001084"
    key = 97 - int(corsican.replace("2B", "18")) % 97
    assert checksums.nir(f"{corsican}{key:02d}")
    assert not checksums.nir(f"{corsican.replace('2B', '2A')}{key:02d}")
    assert checksums.nino("AB123456C")
    assert not checksums.nino("GB123456C")
    assert not checksums.nino("QQ123456C")
    assert not checksums.ssn("900401234")
    assert checksums.ssn("900701234")


def test_a_weak_number_counts_where_a_word_says_what_it_is() -> None:
    assert kinds("id 111222333") == []
    assert kinds("BSN: 111222333") == ["national_id"]
    assert kinds("bsn 111222334") == []
    assert kinds("phone 0151 or call 2125550164") == ["phone"]
    assert kinds("xcall 2125550164") == []


def test_groups_of_four_in_a_table_are_no_card() -> None:
    assert kinds("pay 4111 1111 1111 1111 12/27 123") == ["card"]
    assert kinds("0001 4111 1111 1111 1111 0002") == []


@pytest.mark.parametrize(
    ("text", "value", "scheme"),
    [
        ("to jane\u200b.doe@exam\u00adple.org!", "jane\u200b.doe@exam\u00adple.org", "other characters"),
        (f"x {wide('4111111111111111')} y", wide("4111111111111111"), "other characters"),
        ("k=amFuZS5kb2VAZXhhbXBsZS5vcmc=;", "amFuZS5kb2VAZXhhbXBsZS5vcmc=", "base64"),
        ("k=6a616e652e646f65406578616d706c652e6f7267", "6a616e652e646f65406578616d706c652e6f7267", "hex"),
        ("jane dot doe at example dot org", "doe at example dot org", "spelled out"),
        ("jo@example.org.json", "jo@example.org", ""),
        ("user_123-45-6789_x", "123-45-6789", "us ssn"),
    ],
)  # fmt: skip
def test_hidden_values_are_found_where_they_stand(text: str, value: str, scheme: str) -> None:
    (finding,) = scan_text(text)
    assert (text[slice(*finding.span)], finding.scheme) == (value, scheme)


@given(
    st.text(),
    st.sampled_from(["jo@example.org", wide("jo") + "@example.org", "4111 1111 1111 1111"]),
    st.text(),
)
def test_places_are_places_in_the_original(before: str, value: str, after: str) -> None:
    text = f"{before}\n{value}\n{after}"
    for finding in scan_text(text):
        start, end = finding.span
        assert 0 <= start < end <= len(text)
        assert finding.excerpt == shape(text[start:end])
    assert any(f.span[0] >= len(before) for f in scan_text(text))


# --- columns of numbers --------------------------------------------------------------------------------


def cards(n: int) -> list[int]:
    rng = random.Random(4)
    draw = next(form.draw for form in POSITIVES if (form.kind, form.name) == ("card", "compact"))
    return [int(draw(rng)) for _ in range(n)]


@pytest.mark.parametrize("dtype", ["i8", "u8", "f8"])
def test_a_column_of_cards_is_found_in_a_matrix_of_numbers(tmp_path: Path, dtype: str) -> None:
    columns = [np.arange(300), np.array(cards(300)), np.arange(300) + 10**15]
    np.save(tmp_path / "x.npy", np.stack(columns, axis=1).astype(dtype))
    (finding,) = scan_npz(tmp_path / "x.npy")
    assert (finding.kind, finding.where) == ("card", "x.npy[:, 1]")
    assert finding.excerpt == "300 of 300 distinct values"


def test_it_takes_more_than_chance() -> None:
    draw = np.random.default_rng(3)
    noise = draw.integers(4 * 10**15, 5 * 10**15, 200)
    half = np.concatenate([np.array(cards(120)), noise[:80]])
    assert [f.kind for f in scan_numbers(half, "x")] == ["card"]
    assert list(scan_numbers(noise, "x")) == []
    assert list(scan_numbers(np.array(cards(8)), "x")) == []
    assert len(list(scan_numbers(np.array(cards(12)), "x"))) == 1
    assert list(scan_numbers(np.array([np.nan, 1.5, 2e300]), "x")) == []
    ids = draw.integers(1_0000_0000, 8_9999_9999, 5000)
    assert list(scan_numbers(ids, "x")) == []
    issued = np.array([n for n in ids.tolist() if checksums.ssn(f"{n:09d}")])
    assert [f.scheme for f in scan_numbers(issued, "x")] == ["us ssn"]


# --- known values --------------------------------------------------------------------------------------


def test_a_known_value_is_found_in_any_spelling_of_its_words() -> None:
    known = KnownValues.of(["Zoë Müller", "(212) 555-0164", "An", "12", "Rosenthal", "", "nan"])
    assert known.skipped == 2
    for text in (
        "zoe_muller",
        "MÜLLER, Zoë!",
        "ask Zoe\nMuller",
        "2125550164",
        "212.555.0164",
        "rosenthal",
    ):
        (finding,) = known(f"x {text} y")
        assert finding.kind == "known_value", text
    assert known("Zoë M. An 12 rosenthaler 212 555") == ()
    again = KnownValues.from_json(known.to_json())
    assert len(again(f"{again.skipped} muller zoe")) == 1
    for part in (b"muller", b"Rosenthal", b"555"):
        assert part not in known.to_json()
    with pytest.raises(ValueError, match="no set of known values"):
        KnownValues.from_json(b'{"salt": "zz"}')


def test_a_dropped_column_of_numbers_is_found_again_as_numbers() -> None:
    known = KnownValues.of(str(n) for n in range(20_000_000, 20_000_050))
    column = np.arange(20_000_000, 20_000_050)
    assert [f.kind for f in scan_numbers(column, "x", known)] == ["known_value"]
    assert list(scan_numbers(column + 1000, "x", known)) == []


# --- what a run leaves behind --------------------------------------------------------------------------


def test_findings_in_output_name_their_line() -> None:
    log = b"loss 0.3\r\nloss 0.2\rfor jane.doe@example.org\n\xff\xfe\n"
    (finding,) = scan_output(log)
    assert (finding.where, finding.span[0]) == ("line 3", 4)
    assert summary([finding], [scan_text]) == ["email in line 3: 1, the first at 4"]


def test_places_named_after_people_are_masked_as_well() -> None:
    finding = Finding("card", (0, 1), "9", "people/jane.doe@example.org.npz:x")
    assert summary([finding, finding], [scan_text]) == [
        "card in people/[email].npz:x: 2, the first at 0"
    ]
    column = Finding("column", (0, 1), "jo@example.org name", "schema.json")
    assert summary([column], [scan_text]) == ["column in schema.json: '[email] name'"]


def test_masking_ends_with_a_scanner_that_takes_its_own_masks_for_values() -> None:
    def zealous(text: str) -> tuple[Finding, ...]:
        return tuple(
            Finding("person", match.span(), "") for match in re.finditer("person|Jane", text)
        )

    assert masked("Jane and person", [zealous]) == "[person] and [person]"


def test_text_in_an_artifact_is_found_however_it_is_stored(tmp_path: Path) -> None:
    """Members as torch.export writes them: a graph with names, raw weights; and what anybody may add to an archive."""
    codes = np.array([ord(c) for c in "to jane.doe@example.org"])
    members = {
        "m/models/model.json": json.dumps(
            {"nodes": [{"name": "b_ssn_123_45_6789"}, "\u0040"]}
        ).encode(),
        "m/data/weights/weight_0": np.random.default_rng(0).normal(size=999).astype("f4").tobytes(),
        **{
            f"m/data/weights/{kind}": codes.astype(kind).tobytes()
            for kind in ("u1", "i8", "f4", "f8")
        },
    }
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    found = {(f.kind, f.scheme, f.where) for f in scan_artifact(path)}
    assert {f"model.pt2:data/weights/{kind}" for kind in ("u1", "i8", "f4", "f8")} <= {
        where for kind, _, where in found if kind == "email"
    }
    assert ("national_id", "us ssn", "model.pt2:models/model.json") in found
    assert not any("weight_0" in where for _, _, where in found)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/notes.bin", b"\0card 4111 1111 1111 1111\0" * 3)
        archive.writestr("m/joe@example.com", b"")
        archive.comment = b"call (212) 555-0164"
    found = {(f.kind, f.scheme, f.where) for f in scan_artifact(path)}
    assert ("card", "", "model.pt2:notes.bin") in found
    assert ("phone", "", "model.pt2") in found
    assert ("email", "", "model.pt2: a member's name") in found
    path.write_bytes(path.read_bytes()[:40] + b"?" * 9 + path.read_bytes()[49:])
    with pytest.raises(ValueError, match=r"member of 'model.pt2' cannot be read"):
        scan_artifact(path)


def test_random_numbers_are_no_text(tmp_path: Path) -> None:
    """4 MB each; the rate is below 1e-12 a byte."""
    draw = np.random.default_rng(0)
    for values in (
        draw.integers(0, 256, 2**22, dtype=np.uint8),
        draw.normal(size=2**20).astype("f4"),
    ):
        (tmp_path / "weights").write_bytes(values.tobytes())
        assert scan_artifact(tmp_path / "weights") == ()


# --- Presidio ------------------------------------------------------------------------------------------


def test_presidio_says_what_to_install_or_works() -> None:
    if importlib.util.find_spec("presidio_analyzer") is None:
        with pytest.raises(PresidioMissing, match=r"pip install 'pytest-autoresearch\[presidio\]'"):
            Presidio()
        return
    scanner = Presidio()
    (finding,) = scanner("write to jane.doe@example.org today")
    assert (finding.kind, finding.span, finding.scheme) == ("email", (9, 29), "presidio")
    assert "jane" not in str(finding)
    with pytest.raises(PresidioMissing, match="spacy download no_such_model"):
        Presidio("no_such_model")
