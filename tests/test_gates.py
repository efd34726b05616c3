"""Which gates a session owes, in which order they run, and when they are complete: in real pytest sessions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_autoresearch.gates import GateBook, defined_gates
from pytest_autoresearch.records import Outcome, Stage

#: The book driven by a session of its own, as AutoresearchSession drives it.
DRIVER = """
import json, sys
from pathlib import Path
import pytest
from pytest_autoresearch.gates import GateBook, defined_gates

root = Path.cwd()
gates = [p.relative_to(root).as_posix() for p in sorted((root / "gates").rglob("*.py"))]

class Driver:
    def __init__(self):
        owed = defined_gates(root, ["gates"], gates, ["test_*.py"])
        self.book = GateBook(owed, json.loads(sys.argv[1]))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items):
        self.book.collected(items)
        result = yield
        self.book.order(items)
        self.order = [item.nodeid for item in items]
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item):
        if stage := self.book.blocked_by(item.nodeid):
            pytest.skip(f"not run: {stage}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        text = "" if report.passed else str(call.excinfo.value)
        self.book.report(report, text.splitlines()[0] if text else "")
        return report

    def pytest_sessionfinish(self):
        out = {
            "complete": self.book.complete(),
            "order": getattr(self, "order", []),
            "failed_stage": self.book.failed_stage,
            "gates": [[g.nodeid, g.stage, g.outcome, g.message, g.seconds] for g in self.book.results()],
        }
        (root / "book.json").write_text(json.dumps(out))

sys.exit(pytest.main(["-p", "no:cacheprovider", "-p", "no:autoresearch", *sys.argv[2:]], plugins=[Driver()]))
"""

CONFTEST = """
import pytest

@pytest.fixture
def candidate(): return 1

@pytest.fixture
def budget(candidate): return 1

@pytest.fixture
def training_run(): return 1

@pytest.fixture
def evaluation(training_run): return 1

@pytest.fixture
def users_own(evaluation): return 1
"""


@dataclass(frozen=True)
class Book:
    """What the book of a session came to."""

    complete: bool
    order: list[str]
    failed_stage: str | None
    outcomes: dict[str, str]
    stages: dict[str, str]
    messages: dict[str, str]
    output: str
    seconds: dict[str, float]


class Gates:
    """A directory of gates and a session over it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "gates").mkdir()
        (root / "gates/conftest.py").write_text(CONFTEST)
        (root / "driver.py").write_text(DRIVER)
        (root / "pytest.ini").write_text(
            "[pytest]\nmarkers = gate\naddopts = --import-mode=importlib\n"
        )

    def run(
        self, text: str, *arguments: str, pinned: tuple[str, ...] = (), name: str = "test_a.py"
    ) -> Book:
        (self.root / "gates" / name).write_text(text)
        (self.root / "book.json").unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "driver.py", json.dumps(pinned), *(arguments or ("gates",))],
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        )
        output = done.stdout + done.stderr
        found = json.loads((self.root / "book.json").read_text())
        rows = found["gates"]

        def column(index: int) -> dict[str, str]:
            return {row[0].rpartition("::")[2]: row[index] for row in rows}

        return Book(
            found["complete"],
            [nodeid.rpartition("::")[2] for nodeid in found["order"]],
            found["failed_stage"],
            column(2),
            column(1),
            column(3),
            output,
            {row[0].rpartition("::")[2]: row[4] for row in rows},
        )


@pytest.fixture
def gates(tmp_path: Path) -> Gates:
    return Gates(tmp_path)


STAGED = """
import pytest
def test_post(evaluation): ...
def test_post_through_a_fixture(users_own): ...
def test_mid(candidate): ...
def test_mid_through_a_fixture(budget): ...
def test_pre(): ...
@pytest.mark.gate("post")
def test_marked_post(): ...
@pytest.mark.gate(stage="pre")
def test_marked_pre(candidate): ...
@pytest.mark.gate
def test_marked_without_a_stage(candidate): ...
@pytest.mark.usefixtures("training_run")
class TestGroup:
    def test_in_a_class(self): ...
"""


def test_stages_are_inferred_ordered_and_stable_within(gates: Gates) -> None:
    book = gates.run(STAGED)
    assert book.complete, book.output
    assert book.order == [
        "test_pre",
        "test_marked_pre",
        "test_mid",
        "test_mid_through_a_fixture",
        "test_marked_without_a_stage",
        "test_post",
        "test_post_through_a_fixture",
        "test_marked_post",
        "test_in_a_class",
    ]
    assert book.stages["test_marked_pre"] == Stage.PRE
    assert book.stages["test_in_a_class"] == Stage.POST
    assert set(book.outcomes.values()) == {Outcome.PASSED}


def test_a_stage_that_does_not_exist_is_refused(gates: Gates) -> None:
    book = gates.run("import pytest\n@pytest.mark.gate('late')\ndef test_x(): ...\n")
    assert "gates/test_a.py::test_x: gate('late') is no stage: use 'pre', 'mid' or" in book.output
    assert not book.complete


@pytest.mark.parametrize(
    ("failing", "blocked"),
    [("test_pre", {"test_mid", "test_post"}), ("test_mid", {"test_post"}), ("test_post", set())],
)
def test_a_failed_stage_stops_the_later_ones_and_no_other(
    gates: Gates, failing: str, blocked: set[str]
) -> None:
    text = """
def test_post(evaluation): ...
def test_post_two(evaluation): ...
def test_mid(candidate): ...
def test_pre(): ...
def test_pre_two(): ...
"""
    text = text.replace(f"def {failing}(", "def OLD(") + (
        f"\ndef {failing}({'evaluation' if 'post' in failing else 'candidate' if 'mid' in failing else ''})"
        ": assert 1 == 2\n"
    )
    book = gates.run(text.replace("def OLD(", "def helper("))
    assert book.outcomes[failing] == Outcome.FAILED
    assert "assert 1 == 2" in book.messages[failing]
    skipped = {name for name, outcome in book.outcomes.items() if outcome == Outcome.SKIPPED}
    assert skipped == blocked | ({"test_post_two"} if blocked else set())
    assert book.failed_stage == failing.removeprefix("test_")
    assert not book.complete


NEVER = {
    "skipped": "import pytest\ndef test_x(): pytest.skip('no data')",
    "skipped in setup": "import pytest\n@pytest.mark.skip\ndef test_x(): ...",
    "skipped for a condition": "import pytest\n@pytest.mark.skipif(True, reason='x')\ndef test_x(): ...",
    "skipped as a module": "import pytest\npytest.skip('x', allow_module_level=True)\ndef test_x(): ...",
    "expected to fail": "import pytest\n@pytest.mark.xfail\ndef test_x(): assert False",
    "expected to fail, not run": "import pytest\n@pytest.mark.xfail(run=False)\ndef test_x(): ...",
    "failing by a call": "import pytest\ndef test_x(): pytest.xfail('later')",
    "passing unexpectedly": "import pytest\n@pytest.mark.xfail\ndef test_x(): ...",
    "passing unexpectedly, strict": "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_x(): ...",
    "failing": "def test_x(): assert False",
    "error in setup": "import pytest\n@pytest.fixture\ndef f(): 1 / 0\ndef test_x(f): ...",
    "error in teardown": "import pytest\n@pytest.fixture\ndef f():\n    yield\n    1 / 0\ndef test_x(f): ...",
    "no parameters": "import pytest\n@pytest.mark.parametrize('a', [])\ndef test_x(a): ...",
    "a failing subtest": "def test_x(subtests):\n    with subtests.test('a'): assert False",
    "a skipped subtest": "import pytest\ndef test_x(subtests):\n    with subtests.test('a'): pytest.skip('x')",
    "importorskip": "import pytest\npytest.importorskip('no_such_module')\ndef test_x(): ...",
    "not a test any more": "def test_x(): ...\ntest_x.__test__ = False",
    "overwritten": "def test_x(): ...\ntest_x = None",
    "a file that cannot be parsed": "def test_x(: ...",
    "nothing at all": "",
}


@pytest.mark.parametrize("text", NEVER.values(), ids=NEVER)
def test_what_did_not_simply_pass_is_never_complete(gates: Gates, text: str) -> None:
    assert not gates.run(text).complete


TWO = "def test_one(): ...\ndef test_two(): ...\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("gates", "-k", "one"),
        ("gates", "--deselect", "gates/test_a.py::test_two"),
        ("gates/test_a.py::test_one",),
        ("gates", "--setup-only"),
        ("gates", "--setup-plan"),
        ("gates", "--collect-only"),
        ("gates", "-m", "gate"),
        ("gates", "--ignore", "gates/test_a.py"),
        ("gates", "--maxfail=1", "-o", "python_functions=test_t*"),
    ],
    ids=" ".join,
)
def test_a_partial_session_is_never_complete(gates: Gates, arguments: tuple[str, ...]) -> None:
    assert gates.run(TWO).complete
    assert not gates.run(TWO, *arguments).complete


def test_each_way_to_be_absent_has_its_own_words(gates: Gates) -> None:
    book = gates.run(TWO, "gates", "-k", "one")
    assert book.outcomes == {"test_one": Outcome.PASSED, "test_two": Outcome.DESELECTED}
    assert book.messages["test_two"] == "collected but not run"
    book = gates.run(TWO, "gates/test_a.py::test_one")
    assert book.outcomes["test_two"] == Outcome.MISSING
    assert book.messages["test_two"] == "never collected"
    book = gates.run(TWO, "gates", "--setup-only")
    assert book.messages["test_one"] == "set up, but its test never ran"


def test_a_gate_that_the_baseline_had_is_owed(gates: Gates) -> None:
    text = "import pytest\n@pytest.mark.parametrize('n', [1, 2])\ndef test_x(n): ...\n"
    pinned = ("gates/test_a.py::test_x[1]", "gates/test_a.py::test_x[2]")
    assert gates.run(text, pinned=pinned).complete
    book = gates.run(text.replace("[1, 2]", "[1]"), pinned=pinned)
    assert not book.complete
    assert book.messages["test_x[2]"] == "the baseline session had it"


def test_a_gate_more_than_the_baseline_had_must_pass_as_well(gates: Gates) -> None:
    pinned = ("gates/test_a.py::test_one",)
    assert gates.run(TWO, pinned=pinned).complete
    text = TWO + "def test_three(): assert False\n"
    assert not gates.run(text, pinned=pinned).complete


def test_parameters_may_hold_anything(gates: Gates) -> None:
    text = (
        "import pytest\n@pytest.mark.parametrize('n', ['a::b', '[', 'x/y'])\ndef test_x(n): ...\n"
    )
    assert gates.run(text).complete
    assert gates.run(TWO, name="test_[brackets].py").complete


def test_a_file_collected_twice_counts_once(gates: Gates) -> None:
    book = gates.run(TWO, "--keep-duplicates", "gates", "gates")
    assert book.order == ["test_one", "test_two"]
    assert book.complete


def test_a_rerun_that_passes_in_the_end_does_not_count_as_passed(gates: Gates) -> None:
    # As pytest-rerunfailures does: the whole protocol again until it passes.
    (gates.root / "gates/conftest.py").write_text(
        "from _pytest.runner import runtestprotocol\n"
        "def pytest_runtest_protocol(item, nextitem):\n"
        "    runtestprotocol(item, nextitem=item, log=False)\n"
        "    item._initrequest()\n"
        "    for report in runtestprotocol(item, nextitem=nextitem, log=False):\n"
        "        item.ihook.pytest_runtest_logreport(report=report)\n"
        "    return True\n"
    )
    book = gates.run("tries = []\ndef test_x():\n    tries.append(1)\n    assert len(tries) == 2\n")
    assert "1 passed" in book.output
    assert book.outcomes == {"test_x": Outcome.FAILED}
    assert not book.complete


def test_the_worst_phase_counts_and_seconds_add_up() -> None:
    book = GateBook({}, ())

    def phase(when: str, outcome: str, seconds: float, message: str = "") -> None:
        report = pytest.TestReport(
            "g::test",
            ("g", 1, "test"),
            {},
            outcome,
            None,
            when,
            duration=seconds,  # type: ignore[arg-type]
        )
        book.report(report, message)

    phase("setup", "passed", 1.0)
    phase("call", "failed", 2.0, "first")
    phase("teardown", "failed", 4.0, "second")
    phase("call", "passed", 8.0)
    [gate] = book.results()
    assert (gate.outcome, gate.message, gate.seconds) == (Outcome.FAILED, "first", 15.0)
    assert gate.stage is Stage.PRE
    assert book.failed_stage is Stage.PRE


def test_no_gates_are_never_complete() -> None:
    assert not GateBook({}, ()).complete()
    assert GateBook({}, ()).blocked_by("anything") is None


def test_the_owed_set_is_read_from_the_syntax_of_the_ratified_gates(tmp_path: Path) -> None:
    files = {
        "gates/test_a.py": "def test_one(): ...\nasync def test_two(): ...\ndef helper(): ...\n",
        "gates/test_b.py": (
            "class TestGroup:\n    def test_in(self): ...\n    class TestInner:\n"
            "        def test_deep(self): ...\n    def other(self): ...\n"
            "class Helper:\n    def test_not(self): ...\n"
        ),
        "gates/helper.py": "def test_no(): ...\n",
        "gates_of_others/test_c.py": "def test_no(): ...\n",
        "single.py": "def test_file(): ...\n",
        "gates/test_broken.py": "def test_x(:\n",
        "gates/test_null.py": "\0",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    owed = defined_gates(tmp_path, ["gates", "single.py"], files, ["test_*.py", "single.py"])
    assert list(owed) == [
        "gates/test_a.py::test_one",
        "gates/test_a.py::test_two",
        "gates/test_b.py::TestGroup::test_in",
        "gates/test_b.py::TestGroup::TestInner::test_deep",
        "gates/test_broken.py",
        "gates/test_null.py",
        "single.py::test_file",
    ]
    assert list(defined_gates(tmp_path, ["gates"], files, ["gates/help*.py"])) == [
        "gates/helper.py::test_no"
    ]
