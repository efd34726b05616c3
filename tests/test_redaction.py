"""Redaction: what a policy does to a table, and what it refuses; keys and pseudonyms."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.compliance.policy import (
    Bins,
    Drop,
    Groups,
    Keep,
    Mask,
    Policy,
    PolicyError,
    Pseudonymise,
    TruncateDate,
    read_policy,
)
from pytest_autoresearch.compliance.redaction import Key, new_key, read_key, redact

KEY = Key("2026", b"k" * 32)
TABLE = {
    "name": np.array(["Jane Doe", "Zoë Müller", "Jane Doe", "Ali Reza"]),
    "customer": np.array([10_000_017, 10_000_025, 10_000_017, 10_000_033]),
    "age": np.array([17.0, 30.0, np.nan, 70.0]),
    "seen": np.array(["2024-02-29", "2023-12-31", "", "2024-03-01"], dtype="U10"),
    "city": np.array(["Bonn", "Köln", "Paris", "Oslo"]),
    "note": np.array(["call (212) 555-0164", "doe, jane is well", "none", "jo@example.org"]),
    "score": np.array([1.5, 2.5, 3.5, 4.5]),
}
POLICY = Policy(
    columns={
        "name": Drop(),
        "customer": Pseudonymise(),
        "age": Bins(edges=(18, 30, 60)),
        "seen": TruncateDate(to="quarter"),
        "city": Groups(groups={"DE": ("Bonn", "Köln")}),
        "note": Mask(),
        "score": Keep(),
    }
)


def test_every_rule_does_what_it_says() -> None:
    done = redact(TABLE, POLICY, key=KEY)
    assert list(done.table) == ["customer", "age", "seen", "city", "note", "score"]
    assert done.table["age"].tolist() == ["<18", "30-60", "", ">=60"]
    assert done.table["seen"].tolist() == ["2024-Q1", "2023-Q4", "", "2024-Q1"]
    assert done.table["city"].tolist() == ["DE", "DE", "other", "other"]
    assert done.table["note"].tolist() == [
        "call [phone]",
        "[known_value] is well",
        "none",
        "[email]",
    ]
    assert done.table["score"] is TABLE["score"]
    first, second, third, _ = done.table["customer"].tolist()
    assert first == third != second
    secret = hmac.new(KEY.secret, b"8:customer10000017", hashlib.sha256).hexdigest()
    assert first == f"2026.{secret[:32]}"


def test_the_report_counts_and_tells_no_value() -> None:
    report = redact(TABLE, POLICY, key=KEY).report
    assert {name: column.rule for name, column in report.items()} == {
        "name": "drop",
        "customer": "pseudonymise",
        "age": "bins",
        "seen": "truncate",
        "city": "groups",
        "note": "mask",
        "score": "keep",
    }
    assert (report["name"].distinct_before, report["name"].distinct_after) == (3, 0)
    assert report["note"].findings == {"phone": 1, "known_value": 1, "email": 1}
    assert (report["note"].changed, report["score"].changed) == (3, 0)
    assert not any(word in repr(report) for word in ("Jane", "Bonn", "10000017", "555"))


def test_what_was_dropped_is_known_afterwards() -> None:
    known = redact(TABLE, POLICY, key=KEY).known
    assert [f.span for f in known("for Reza, Ali: 10000025")] == [(4, 13), (15, 23)]
    forgetful = {**POLICY.columns, "name": Drop(remember=False), "note": Drop(remember=False)}
    known = redact(TABLE, Policy(columns=forgetful), key=KEY).known
    assert known("Reza, Ali") == ()


def test_a_structured_array_is_a_table() -> None:
    array = np.array([(b"Jane Doe", 3), (b"Ali Reza", 4)], dtype=[("who", "S10"), ("n", "i4")])
    done = redact(array, Policy(columns={"who": Pseudonymise(), "n": Keep()}), key=KEY)
    assert done.table["n"].tolist() == [3, 4]
    assert done.table["who"].tolist() == [KEY.pseudonym("who", n) for n in ("Jane Doe", "Ali Reza")]


@pytest.mark.parametrize(
    ("table", "columns", "message"),
    [
        ({"a": [1], "b": [2]}, {"a": Keep()}, "unlisted column: 'b' has no rule"),
        ({"a": [1]}, {"a": Keep(), "b": Drop()}, "a rule for 'b', and the table no such column"),
        ({"a": [1], "b": [2, 3]}, {"a": Keep(), "b": Keep()}, "equally long"),
        ({"a": [[1]]}, {"a": Keep()}, "one-dimensional"),
        (
            {"a": ["x"]},
            {"a": Bins(edges=(1,))},
            "'a' is put into bins and holds values that are no",
        ),
        ({"a": ["1/2/2024"]}, {"a": TruncateDate(to="year")}, "no ISO dates"),
        ({"a": ["x"]}, {"a": Pseudonymise()}, "'a' is pseudonymised, which needs a key"),
        (
            {"a": ["to jo@example.org"]},
            {"a": Keep()},
            r"'a' is kept .*: email \(1 different values\)",
        ),
        ({"a": ["Jane Doe"], "b": ["ask jane doe"]}, {"a": Drop(), "b": Keep()}, "known_value"),
    ],
)
def test_what_is_refused(table: dict, columns: dict, message: str) -> None:
    with pytest.raises(PolicyError, match=message) as caught:
        redact(table, Policy(columns=columns))
    assert "jo@example.org" not in str(caught.value)
    assert "1/2/2024" not in str(caught.value)


def test_a_finding_is_let_through_where_a_person_says_so() -> None:
    done = redact({"a": ["10.1.2.3"]}, Policy(columns={"a": Keep(unchecked=True)}))
    assert done.report["a"].findings == {"ipv4": 1}


@given(st.lists(st.sampled_from("aaaaaabbbccd"), min_size=1, max_size=60), st.integers(1, 6))
def test_no_value_is_rarer_than_the_minimum_unless_the_table_is(values: list[str], k: int) -> None:
    rule = Groups(minimum=k)
    done = redact({"v": values}, Policy(columns={"v": rule}))
    shown = done.table["v"].tolist()
    counts = {value: shown.count(value) for value in shown}
    assert min(counts.values()) >= k or counts == {"other": len(values)}
    assert done.report["v"].rare == sum(a != b for a, b in zip(shown, values, strict=True))


def test_one_small_group_takes_the_next_smallest_along() -> None:
    """Otherwise its size, and whose it is, follows from the total."""
    done = redact({"v": ["a"] * 5 + ["b"] * 3 + ["c"]}, Policy(columns={"v": Groups(minimum=3)}))
    assert sorted(done.table["v"].tolist()) == ["a"] * 5 + ["other"] * 4


def test_pseudonyms_depend_on_key_domain_and_value_alone() -> None:
    table = {"a": ["x", "", "y"], "b": ["x", "x", "nan"]}
    apart = redact(table, Policy(columns={"a": Pseudonymise(), "b": Pseudonymise()}), key=KEY).table
    assert apart["a"][0] != apart["b"][0]
    assert (apart["a"][1], apart["b"][2]) == ("", "")
    one = Pseudonymise(domain="person")
    joined = redact(table, Policy(columns={"a": one, "b": one}), key=KEY).table
    assert joined["a"][0] == joined["b"][0]
    other = redact(table, Policy(columns={"a": one, "b": one}), key=Key("2026", b"o" * 32)).table
    assert other["a"][0] != joined["a"][0]
    assert KEY.pseudonym("a", "bc") != KEY.pseudonym("ab", "c")
    assert "kkk" not in repr(KEY)


# --- keys ----------------------------------------------------------------------------------------------


def key_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "pseudonyms.key"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_last_line_is_the_key_and_earlier_ones_stay_within_reach(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    root.mkdir()
    path = key_file(tmp_path, new_key("2025") + new_key("2026"))
    assert read_key(path, outside=root).name == "2026"
    earlier = read_key(path, outside=root, name="2025")
    assert (earlier.name, len(earlier.secret)) == ("2025", 32)
    with pytest.raises(PolicyError, match=r"no key '2024': it has \['2025', '2026'\]"):
        read_key(path, outside=root, name="2024")


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("a " + "0" * 64, 0o640, "chmod 600"),
        ("a " + "0" * 62, 0o600, "line 1 of the key file"),
        ("a b " + "0" * 64, 0o600, "line 1"),
        ("a " + "0" * 64 + "\na " + "1" * 64, 0o600, "line 2"),
        ("\n", 0o600, "has no key None"),
    ],
)
def test_a_careless_key_file_is_refused(tmp_path: Path, text: str, mode: int, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        read_key(key_file(tmp_path, text, mode), outside=tmp_path / "elsewhere")


def test_a_key_in_the_repository_is_refused_also_behind_a_link(tmp_path: Path) -> None:
    path = key_file(tmp_path, new_key("a"))
    outside = tmp_path / "link"
    outside.symlink_to(path)
    for given_path in (path, outside):
        with pytest.raises(PolicyError, match="lies inside"):
            read_key(given_path, outside=tmp_path)


# --- policies ------------------------------------------------------------------------------------------


def test_a_policy_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(
        '[columns.name]\nrule = "drop"\n[columns.age]\nrule = "bins"\nedges = [18, 30]\nminimum = 5\n'
        '[columns.city]\nrule = "groups"\ngroups = { DE = ["Bonn"] }\n'
    )
    assert read_policy(path).columns == {
        "name": Drop(),
        "age": Bins(edges=(18, 30), minimum=5),
        "city": Groups(groups={"DE": ("Bonn",)}),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[columns.a]\nrule = "hash"', "Invalid value 'hash'"),
        ('[columns.a]\nrule = "drop"\nkeep = true', "unknown field `keep`"),
        ('[columns.a]\nrule = "bins"\nedges = [3, 2]', "column 'a': edges .* must increase"),
        ('[columns.a]\nrule = "bins"\nedges = []', "length >= 1"),
        ('[columns.a]\nrule = "groups"\ngroups = { x = ["q"], y = ["q"] }', "more than one group"),
        ("[columns", "is not a policy"),
        ("", "missing required field `columns`"),
    ],
)
def test_a_wrong_policy_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(PolicyError, match=message):
        read_policy(tmp_path / "p.toml")
