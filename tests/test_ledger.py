from __future__ import annotations

import hashlib
import json
import math
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_autoresearch.chain import EMPTY, MAX_ROW, encode, parse, seal
from pytest_autoresearch.ledger import Head, Ledger, LedgerError


class Note(msgspec.Struct, tag_field="kind", tag="note"):
    text: str
    value: float | None = None
    more: dict[str, list[float]] = {}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "notes.jsonl")


def texts(ledger: Ledger) -> list[str]:
    return [json.loads(row.data)["text"] for row in ledger.rows()]


def filled(ledger: Ledger, count: int = 4) -> list[bytes]:
    """Append rows and return the raw lines."""
    for number in range(count):
        ledger.append(Note(f"row {number}"))
    return ledger.path.read_bytes().splitlines(keepends=True)


def problem_of(ledger: Ledger, lines: list[bytes]) -> str:
    """What is wrong once the file holds these lines; reading says the same."""
    ledger.path.write_bytes(b"".join(lines))
    problem = ledger.verify()
    if problem is None:
        return ""
    if problem.reason.startswith("row") or "row" in problem.reason:
        with pytest.raises(LedgerError, match="restore it from a copy"):
            list(ledger.rows())
    return str(problem)


def test_the_file_format_is_this_to_the_byte(ledger: Ledger) -> None:
    row = ledger.append(Note("first", 0.5))
    opened, line = ledger.path.read_bytes().splitlines(keepends=True)
    assert json.loads(opened)["data"] == {"kind": "opened", "ledger": "notes"}
    assert json.loads(opened)["prev"] == hashlib.sha256(b"").hexdigest() == EMPTY
    document = json.loads(line)
    assert list(document) == ["v", "seq", "prev", "time", "data", "sha256"]
    assert (document["v"], document["seq"]) == (1, 1)
    assert document["prev"] == hashlib.sha256(opened).hexdigest()
    assert document["time"].endswith("+00:00")
    assert document["data"] == {"kind": "note", "text": "first", "value": 0.5, "more": {}}
    body, seal_, _ = line.partition(b',"sha256":"')
    assert document["sha256"] == hashlib.sha256(body).hexdigest()
    assert seal_
    assert line.endswith(b'"}\n')
    assert row.sha256 == hashlib.sha256(line).hexdigest()
    assert (row.seq, row.kind) == (1, "note")


def test_an_absent_ledger_is_empty_and_whole(ledger: Ledger) -> None:
    assert ledger.head() == Head(-1, EMPTY)
    assert ledger.last() is None
    assert list(ledger.rows()) == []
    assert ledger.verify() is None
    assert not ledger.path.exists()


def test_the_end_alone_tells_head_and_last_row(ledger: Ledger) -> None:
    for number in range(2000):  # several chunks
        row = ledger.append(Note(f"row {number} " + "x" * 60))
    assert ledger.head() == Head(2000, row.sha256)
    assert ledger.last() == row
    # Damage far from the end does not show there, and does show in a full walk.
    with ledger.path.open("r+b") as file:
        file.seek(300)
        file.write(b"?")
    assert ledger.head() == Head(2000, row.sha256)
    assert ledger.verify() is not None


def test_a_row_larger_than_a_chunk_is_found_from_the_end(ledger: Ledger) -> None:
    ledger.append(Note("x" * 400_000))
    row = ledger.append(Note("y" * 400_000))
    assert ledger.last() == row
    assert [len(text) for text in texts(ledger)] == [400_000, 400_000]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_by_name(ledger: Ledger, value: float) -> None:
    with pytest.raises(ValueError, match=r"value = .*cannot be recorded.*record None"):
        ledger.append(Note("bad", value))
    with pytest.raises(ValueError, match=r"more\.loss\[1\] = "):
        ledger.append(Note("bad", more={"loss": [1.0, value]}))
    assert not ledger.path.exists()


def test_a_row_over_the_limit_is_refused_and_leaves_nothing(ledger: Ledger) -> None:
    ledger.append(Note("before"))
    size = ledger.path.stat().st_size
    with pytest.raises(ValueError, match=f"over the limit of {MAX_ROW}"):
        ledger.append(Note("x" * MAX_ROW))
    assert ledger.path.stat().st_size == size


def test_no_text_in_a_row_can_steer_a_terminal(ledger: Ledger) -> None:
    text = "\x1b[31m\x9b\x7f\u202eevil\u200b \U0001f600 \r\n"
    ledger.append(Note(text))
    raw = ledger.path.read_bytes()
    assert all(byte == 10 or 32 <= byte < 127 for byte in raw)
    assert texts(ledger) == [text]


def test_a_text_that_is_not_unicode_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        ledger.append(Note("\udcff"))


# ---- damage


def test_every_single_byte_change_is_found(ledger: Ledger) -> None:
    filled(ledger, 2)
    whole = ledger.path.read_bytes()
    for position in range(len(whole)):
        for flipped in {whole[position] ^ 1, whole[position] ^ 0x80, 10}:
            if flipped != whole[position]:
                ledger.path.write_bytes(whole[:position] + bytes([flipped]) + whole[position + 1 :])
                assert ledger.verify() is not None, (position, flipped)


def test_every_truncation_but_at_a_line_end_is_found(ledger: Ledger) -> None:
    lines = filled(ledger, 2)
    whole = b"".join(lines)
    ends = {0, len(lines[0]), len(lines[0]) + len(lines[1]), len(whole)}
    for length in range(len(whole) + 1):
        ledger.path.write_bytes(whole[:length])
        assert (ledger.verify() is None) == (length in ends), length


def test_damage_is_named_by_line_and_kind(ledger: Ledger) -> None:
    lines = filled(ledger)
    altered = lines[2].replace(b"row 1", b"row 7")
    assert "line 3: row 2 was altered" in problem_of(ledger, [*lines[:2], altered, *lines[3:]])
    assert "line 3: row 3 stands behind row 1: rows between are missing" in problem_of(
        ledger, [*lines[:2], *lines[3:]]
    )
    assert "line 4: row 2 stands behind row 2: it was doubled" in problem_of(
        ledger, [*lines[:3], *lines[2:]]
    )
    assert "line 3: row 3" in problem_of(ledger, [*lines[:2], lines[3], lines[2], lines[4]])
    assert "line 2: row 1 stands behind row -1" not in problem_of(ledger, lines)
    assert "line 5: 9 bytes without a line end" in problem_of(ledger, [*lines[:4], b"{" * 9])
    assert "line 1: not a ledger's row" in problem_of(ledger, [b'{"commit": "abc"}\n'])
    assert "line 3: not a ledger's row" in problem_of(ledger, [*lines[:2], b"\xff\xfe\n"])
    assert "longer than" in problem_of(ledger, [*lines, b"x" * (MAX_ROW + 5)])


def test_a_row_sealed_anew_breaks_the_chain_behind_it(ledger: Ledger) -> None:
    lines = filled(ledger)
    forged = seal(encode(Note("forged")), parse(lines[1]).head)
    assert "line 4: row 3 was written behind another row" in problem_of(
        ledger, [*lines[:2], forged, *lines[3:]]
    )


def test_a_ledger_of_another_name_is_foreign(ledger: Ledger, tmp_path: Path) -> None:
    other = Ledger(tmp_path / "other.jsonl")
    filled(other)
    other.path.rename(ledger.path)
    assert "line 1: row 0 does not open the ledger 'notes': a foreign file" in str(ledger.verify())


@pytest.mark.parametrize("value", [b"NaN", b'"\xff"', b"1,", b"[1}"])
def test_what_is_no_json_is_no_row(ledger: Ledger, value: bytes) -> None:
    lines = filled(ledger)
    body = encode(Note("x", 1.5)).replace(b"1.5", value)
    forged = seal(body, parse(lines[-1]).head)
    assert "line 6: not a ledger's row" in problem_of(ledger, [*lines, forged])


def test_a_whole_row_with_an_unknown_payload_is_of_another_version(ledger: Ledger) -> None:
    """The chain holds: nothing was altered."""
    from pytest_autoresearch.pairing import unpaired

    source = Ledger(ledger.path.with_name("restore-source.jsonl"))
    source.append(Note("row of tomorrow"))
    assert source.verify() is None
    with pytest.raises(LedgerError, match=r"line 2: not a row that this version knows \(.*note"):
        unpaired(source, Ledger(ledger.path.with_name("cutover-audit.jsonl")))


def test_a_row_of_a_later_version_says_so(ledger: Ledger) -> None:
    lines = filled(ledger)
    newer = lines[1].replace(b'{"v":1', b'{"v":2')
    assert "schema version 2, but this program reads version 1" in problem_of(
        ledger, [lines[0], newer]
    )


def test_nothing_is_appended_behind_a_damaged_row(ledger: Ledger) -> None:
    lines = filled(ledger)
    ledger.path.write_bytes(b"".join(lines[:-1]) + lines[-1].replace(b"row 3", b"row 8"))
    before = ledger.path.read_bytes()
    with pytest.raises(LedgerError, match=r"ends in a damaged row .* restore it from a copy"):
        ledger.append(Note("more"))
    with pytest.raises(LedgerError, match="ends in a damaged row"):
        ledger.head()
    assert ledger.path.read_bytes() == before


def test_a_foreign_file_is_never_written_to(ledger: Ledger, tmp_path: Path) -> None:
    for foreign in (
        b"x",
        b"a note without a line end",
        b"x" * (6 * MAX_ROW),
        b"{" * (40 * MAX_ROW),
    ):
        ledger.path.write_bytes(foreign)
        with pytest.raises(LedgerError, match="is no ledger: move it away"):
            ledger.append(Note("more"))
        assert ledger.path.read_bytes() == foreign
    ledger.path.unlink()
    ledger.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LedgerError, match="cannot be opened"):
        ledger.append(Note("more"))
    assert not (tmp_path / "elsewhere").exists()
    ledger.path.unlink()
    os.mkfifo(ledger.path)
    with pytest.raises(LedgerError, match="not a regular file: move it away"):
        ledger.append(Note("more"))
    with pytest.raises(LedgerError, match="not a regular file"):
        ledger.verify()


# ---- crashes


@pytest.mark.parametrize("keep", [0, 1, 40, -2])
def test_a_torn_tail_is_dropped_and_recorded(ledger: Ledger, keep: int) -> None:
    lines = filled(ledger)
    torn = lines[-1][:keep] if keep else b"\0" * 4096
    ledger.path.write_bytes(b"".join(lines[:-1]) + torn)
    assert texts(ledger) == ["row 0", "row 1", "row 2"]
    assert ledger.head().seq == 3
    ledger.append(Note("after"))
    assert ledger.verify() is None
    assert texts(ledger) == ["row 0", "row 1", "row 2", "after"]
    record = json.loads(ledger.path.read_bytes().splitlines()[4])["data"]
    assert record == {
        "kind": "torn-tail",
        "size": len(torn),
        "sha256": hashlib.sha256(torn).hexdigest(),
    }


@pytest.mark.parametrize("whole", [0, 1, 3])
def test_mending_records_a_torn_tail_without_another_row(ledger: Ledger, whole: int) -> None:
    lines = filled(ledger)
    ledger.path.write_bytes(b"".join(lines[:whole]) + lines[whole][:30])
    ledger.mend()
    assert ledger.verify() is None
    assert texts(ledger) == ["row 0", "row 1"][: max(0, whole - 1)]
    assert json.loads(ledger.path.read_bytes().splitlines()[-1])["data"]["kind"] == "torn-tail"
    before = ledger.path.read_bytes()
    ledger.mend()
    assert ledger.path.read_bytes() == before
    ledger.append(Note("next"))
    assert ledger.verify() is None


def test_mending_an_absent_ledger_does_not_make_one(ledger: Ledger) -> None:
    ledger.mend()
    assert not ledger.path.exists()


def test_a_torn_first_row_leaves_an_empty_ledger(ledger: Ledger) -> None:
    lines = filled(ledger, 1)
    ledger.path.write_bytes(lines[0][:10])
    assert list(ledger.rows()) == []
    ledger.append(Note("again"))
    assert texts(ledger) == ["again"]
    assert ledger.verify() is None


def test_the_last_row_is_found_behind_any_number_of_torn_appends(ledger: Ledger) -> None:
    row = ledger.append(Note("kept"))
    from pytest_autoresearch.ledger import TornTail

    lines = [ledger.path.read_bytes()]
    head = row.head
    for _ in range(400):  # more than a chunk of the ledger's own rows
        lines.append(seal(encode(TornTail(1, EMPTY)), head))
        head = parse(lines[-1]).head
    ledger.path.write_bytes(b"".join(lines))
    assert ledger.verify() is None
    assert ledger.last() == row


def test_a_full_disk_adds_nothing_and_says_what_to_do(ledger: Ledger) -> None:
    ledger.append(Note("before"))
    size = ledger.path.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, before[1]))
    try:
        with pytest.raises(LedgerError, match=r"\(File too large\) and got no row: free space"):
            ledger.append(Note("too much"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert ledger.path.stat().st_size == size
    assert ledger.verify() is None


def test_a_missing_directory_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"gone/notes\.jsonl cannot be written \(No such file"):
        Ledger(tmp_path / "gone" / "notes.jsonl").append(Note("x"))


def test_several_processes_append_without_loss_or_mixing(ledger: Ledger) -> None:
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        from test_ledger import Ledger, Note
        ledger = Ledger(Path(sys.argv[1]))
        for number in range(50):
            ledger.append(Note(f"{sys.argv[3]}:{number}"))
        """
    )
    arguments = [sys.executable, "-c", script, str(ledger.path), str(Path(__file__).parent)]
    children = [subprocess.Popen([*arguments, name]) for name in "abcd"]
    assert [child.wait() for child in children] == [0, 0, 0, 0]
    assert ledger.verify() is None
    found = texts(ledger)
    assert sorted(found) == sorted(f"{name}:{number}" for name in "abcd" for number in range(50))
    for name in "abcd":
        own = [text for text in found if text.startswith(name)]
        assert own == [f"{name}:{number}" for number in range(50)]


def test_a_killed_writer_gives_up_its_lock(ledger: Ledger) -> None:
    script = textwrap.dedent(
        """
        import fcntl, os, sys, time
        descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        print("locked", flush=True)
        time.sleep(600)
        """
    )
    command = [sys.executable, "-c", script, str(ledger.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"locked\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
        ledger.append(Note("free"))
    assert texts(ledger) == ["free"]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(
        st.one_of(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
            st.integers(1, 400),
        ),
        max_size=12,
    )
)
def test_whatever_is_appended_and_torn_only_whole_rows_remain(
    ledger: Ledger, steps: list[str | int]
) -> None:
    """A text is appended; a number tears that many bytes off the end."""
    ledger.path.unlink(missing_ok=True)
    sizes: list[tuple[str, int]] = []
    for step in steps:
        if isinstance(step, str):
            ledger.append(Note(step))
            sizes.append((step, ledger.path.stat().st_size))
        elif ledger.path.exists():
            length = max(0, ledger.path.stat().st_size - step)
            os.truncate(ledger.path, length)
            sizes = [(text, end) for text, end in sizes if end <= length]
        assert texts(ledger) == [text for text, _ in sizes]
        problem = ledger.verify()
        assert problem is None or "torn by a crash" in problem.reason
    ledger.append(Note("end"))
    assert ledger.verify() is None
