"""
Heads kept outside: whoever rewrites the repository and the ledgers is found out, and no verdict is lost to a place.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from project import Project
from provenance import BRANCH, CUTOVER, SOURCE, TAG, Campaign
from test_vcs import git

from pytest_autoresearch import cli
from pytest_autoresearch.anchors import Anchors
from pytest_autoresearch.config import ConfigurationError, load_settings
from pytest_autoresearch.continuity import require_continuity
from pytest_autoresearch.journal import Journal, JournalError
from pytest_autoresearch.restoring import restore
from pytest_autoresearch.settings import Agent, Settings
from pytest_autoresearch.settings import Anchors as Table
from pytest_autoresearch.transport import Reach, Undelivered
from pytest_autoresearch.verifier import broken_link, verify

HISTORY = f"autoresearch-heads/{TAG}"
PLACES = ("file", "remote", "command")
CATCH = "import sys; open({0!r}, 'a').write(sys.stdin.read())"


class Outside:
    """Somebody else's machine, as far as a directory can be one."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.file = root / f"{TAG}.heads"
        self.caught = root / "caught"
        self.remote = root / "remote.git"
        git(root, "init", "-q", "--bare", "--template=", str(self.remote))
        for key in ("receive.denyNonFastForwards", "receive.denyDeletes"):
            git(self.remote, "config", key, "true")

    def table(self, *places: str, **more: Any) -> Table:
        known: dict[str, Any] = {
            "file": str(self.file).replace(TAG, "{tag}"),
            "remote": str(self.remote),
            "command": (sys.executable, "-c", CATCH.format(str(self.caught))),
        }
        return Table(**{place: known[place] for place in places}, **more)

    def heads(self, place: str) -> str:
        """Every line that a place ever got."""
        if place == "remote":
            commits = git(self.remote, "rev-list", HISTORY).split()
            return "".join(git(self.remote, "show", f"{one}:heads") + "\n" for one in commits)
        return (self.file if place == "file" else self.caught).read_text()


def anchors(campaign: Campaign) -> Anchors:
    found = campaign.journal._remember
    assert isinstance(found, Anchors)
    return found


def anchored(campaign: Campaign, table: Table, **more: Any) -> Campaign:
    """The campaign with places outside."""
    remember = Anchors(campaign.repository, campaign.tag)
    remember.use(Settings(anchors=table, **more))
    campaign.journal = Journal(campaign.directory, remember)
    return campaign


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Campaign, Path]:
    """A campaign of a baseline, a keep and a revert, told to every place; one copy of it for each test."""
    base = tmp_path_factory.mktemp("anchors")
    outside = Outside(base / "outside")
    campaign = anchored(Campaign.create(base / "project"), outside.table(*PLACES))
    campaign.baseline()
    campaign.judge("keep", b"RATE = 1\n")
    campaign.copy(base / "earlier")
    campaign.judge("revert", b"RATE = 2\n")
    assert anchors(campaign).problems == {}
    lucky = Campaign.create(base / "invented")
    lucky.baseline()
    for rate in range(3):
        lucky.judge("keep", b"RATE = %d.5\n" % rate)
    return campaign, base


@pytest.fixture
def outside(told: tuple[Campaign, Path], tmp_path: Path) -> Outside:
    shutil.copytree(told[1] / "outside", tmp_path / "outside")
    made = Outside.__new__(Outside)
    made.file = tmp_path / "outside" / f"{TAG}.heads"
    made.caught = tmp_path / "outside" / "caught"
    made.remote = tmp_path / "outside" / "remote.git"
    return made


@pytest.fixture
def campaign(told: tuple[Campaign, Path], tmp_path: Path, outside: Outside) -> Campaign:
    return anchored(told[0].copy(tmp_path / "project"), outside.table(*PLACES))


def link(root: Path, anchors: str | None = None) -> str:
    broken = broken_link(verify(root, TAG, anchors=anchors), None)
    return broken.link if broken else "PASS"


# ---- what is delivered


def test_every_change_arrives_in_every_place(campaign: Campaign, outside: Outside) -> None:
    campaign.judge("revert", b"RATE = 3\n")
    head = campaign.journal.heads()["cutover-audit"]
    for place in PLACES:
        lines = outside.heads(place).splitlines()
        seqs = sorted(int(line.split()[1].split(":")[0]) for line in lines if "cutover" in line)
        assert seqs == [1, 2, 3, 4]
        assert f"cutover-audit {head}" in lines
    assert link(campaign.root, "".join(map(outside.heads, PLACES))) == "PASS"


def cut(campaign: Campaign, directory: Path) -> None:
    """The last change gone from both ledgers, in this directory."""
    for name in (SOURCE, CUTOVER):
        (directory / name).write_bytes(b"".join(campaign.lines(name)[:-1]))


def test_a_clone_of_the_remote_verifies(
    campaign: Campaign, outside: Outside, tmp_path: Path
) -> None:
    """Pins and branch are there; the fetched history of heads is held against the ledgers unasked."""
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "-b", BRANCH, str(outside.remote), str(clone))
    git(clone, "fetch", "-q", "origin", "+refs/autoresearch/*:refs/autoresearch/*")
    ledgers = Path(shutil.copytree(campaign.directory, clone / ".autoresearch" / TAG))
    assert link(clone) == "PASS"
    cut(campaign, ledgers)
    assert link(clone) == "dropped tail"
    git(clone, "update-ref", "-d", f"refs/remotes/origin/{HISTORY}")  # the control
    assert link(clone) == "PASS"


def test_a_remote_that_refuses_force_still_gets_the_heads_after_a_rollback(
    campaign: Campaign, outside: Outside
) -> None:
    campaign.judge("rollback", b"RATE = 4\n", alarm_to=0)
    assert anchors(campaign).problems == {}
    assert "did not take 'refs/heads/autoresearch/test'" in anchors(campaign).lines()[0]
    assert campaign.journal.heads()["cutover-audit"] in outside.heads("remote")


# ---- the attack: everything that is in reach is rewritten, and it all fits


def replaced(campaign: Campaign, by: Path) -> Path:
    """Put another repository and other ledgers in their place."""
    for name in (".git", ".autoresearch"):
        shutil.rmtree(campaign.root / name)
        shutil.copytree(by / name, campaign.root / name, symlinks=True)
    return campaign.root


@pytest.mark.parametrize(
    ("forgery", "found"),
    [
        ("earlier", "dropped tail"),  # the last revert never was, and its units are back
        ("invented", "rewritten history"),  # a campaign with better luck
    ],
)
def test_a_consistent_forgery_is_found_outside_only(
    campaign: Campaign,
    told: tuple[Campaign, Path],
    outside: Outside,
    forgery: str,
    found: str,
) -> None:
    root = replaced(campaign, told[1] / forgery)
    assert link(root) == "PASS"
    assert {link(root, outside.heads(place)) for place in PLACES} == {found}


def test_a_remote_keeps_what_a_forger_pushes_over(
    campaign: Campaign, told: tuple[Campaign, Path], outside: Outside
) -> None:
    """Neither by force nor by a session that goes on from forged ledgers."""
    before = outside.heads("remote")
    replaced(campaign, told[1] / "invented")
    forged = anchored(Campaign(campaign.root), outside.table("remote"))
    # Whatever the remote allows, a session does not ask for it.
    git(outside.remote, "config", "receive.denyNonFastForwards", "false")
    forged.judge("revert", b"RATE = 9\n")
    git(outside.remote, "config", "receive.denyNonFastForwards", "true")
    assert "is another history" in anchors(forged).problems["remote"]
    history = f"refs/autoresearch/{TAG}/anchors:refs/heads/{HISTORY}"
    with pytest.raises(subprocess.CalledProcessError):
        git(campaign.root, "push", "-q", "-f", str(outside.remote), history)
    assert outside.heads("remote") == before
    # Had it not been a branch, the remote would have taken it for all its refusing force.
    for forged_over in (f"{BRANCH}~", BRANCH):
        git(
            campaign.root,
            "push",
            "-q",
            "-f",
            str(outside.remote),
            f"{forged_over}~:refs/autoresearch/x",
        )
    # Grafted upon the true history it is taken, and the heads before it give it away.
    git(forged.root, "fetch", "-q", str(outside.remote), HISTORY)
    git(forged.root, "update-ref", f"refs/autoresearch/{TAG}/anchors", "FETCH_HEAD")
    forged.judge("revert", b"RATE = 10\n")
    assert anchors(forged).problems == {}
    assert link(forged.root) == "rewritten history"


# ---- a place that cannot be reached


def test_a_change_is_settled_whatever_becomes_of_the_places(
    campaign: Campaign, outside: Outside
) -> None:
    """Each is one line, and what one has missed the next delivery makes up for."""
    hidden = outside.file.parent.rename(outside.file.parent.with_name("unmounted"))
    settlement = campaign.judge("keep", b"RATE = 5\n")
    assert settlement.cutover.resolution == "done"
    assert set(anchors(campaign).problems) == {"file", "remote", "command"}
    assert len(anchors(campaign).lines()) == 3
    heads = campaign.journal.heads()
    assert anchors(campaign).behind(heads) == dict.fromkeys(PLACES, 1)
    notes = verify(campaign.root, TAG).notes
    assert sorted(notes) == [f"{place}: its heads end at row 3 of 4" for place in sorted(PLACES)]
    assert link(campaign.root) == "PASS"

    hidden.rename(outside.file.parent)
    anchors(campaign).open(heads)  # the next session
    assert anchors(campaign).problems == {}
    assert anchors(campaign).behind(heads) == dict.fromkeys(PLACES, 0)
    for place in PLACES:
        assert heads["cutover-audit"] in outside.heads(place)


def test_a_line_that_was_cut_short_spoils_no_other(campaign: Campaign, outside: Outside) -> None:
    """As a full disk leaves it."""
    outside.file.write_text(outside.file.read_text()[:-20])
    campaign.judge("revert", b"RATE = 5\n")
    lines = outside.file.read_text().splitlines()
    assert lines[-2:] == [f"{name} {head}" for name, head in campaign.journal.heads().items()]
    assert link(campaign.root, outside.heads("file")) == "PASS"


def test_a_file_that_is_up_to_date_does_not_grow(campaign: Campaign, outside: Outside) -> None:
    required = anchored(campaign, outside.table("file", required=True))
    before = outside.file.read_text()
    anchors(required).open(campaign.journal.heads())
    assert outside.file.read_text() == before


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            Table(file="/nowhere/at/all/{tag}", required=True),
            "file is required and cannot be reached",
        ),
        (
            Table(remote="/nowhere/at/all.git", required=True),
            "does not appear to be a git repository",
        ),
        (Table(command=("/nowhere/at/all",), required=True), "cannot be started"),
        (
            Table(command=("sh", "-c", "echo full >&2; exit 3"), required=True),
            "ended with status 3: full",
        ),
    ],
)
def test_a_required_place_is_tried_out_before_anything_else(
    campaign: Campaign, table: Table, words: str
) -> None:
    with pytest.raises(JournalError, match=words):
        anchors(anchored(campaign, table)).open(campaign.journal.heads())


def test_a_program_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    reach = Reach.choose(3.0, ())
    pid = tmp_path / "pid"
    with pytest.raises(Undelivered, match="did not end within 3 s"):
        reach.execute(["sh", "-c", f"sleep 600 & echo $! >{pid}; wait"])
    try:
        child = os.pidfd_open(int(pid.read_text()))
    except ProcessLookupError:
        return
    ended, _, _ = select.select([child], [], [], 30)
    os.close(child)
    assert ended


def test_programs_outside_get_no_secret_that_is_not_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_KEY", "secret")
    monkeypatch.setenv("PLACE_KEY", "token")
    given = Reach.choose(10.0, ("PLACE_KEY", "ABSENT")).execute(["env"]).decode()
    names = {line.partition("=")[0] for line in given.splitlines()}
    assert (
        {"PLACE_KEY", "PATH"}
        <= names
        <= {"PLACE_KEY", "PATH", "HOME", "SSH_AUTH_SOCK", "PWD", "SHLVL", "_"}
    )


def test_the_repositorys_own_configuration_steers_no_push(
    campaign: Campaign, outside: Outside
) -> None:
    """Whoever can write .git could have a program run, or another place told."""
    elsewhere = outside.remote.with_name("elsewhere.git")
    git(outside.remote.parent, "init", "-q", "--bare", str(elsewhere))
    ran = outside.remote.with_name("ran")
    for key, value in (
        (f"url.{elsewhere}.insteadOf", str(outside.remote)),
        ("core.sshCommand", f"touch {ran}"),
        ("core.hooksPath", str(outside.remote.parent)),
    ):
        git(campaign.root, "config", key, value)
    hook = outside.remote.with_name("pre-push")
    hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
    hook.chmod(0o755)
    campaign.judge("revert", b"RATE = 5\n")
    assert anchors(campaign).problems == {}
    assert campaign.journal.heads()["cutover-audit"] in outside.heads("remote")
    assert not ran.exists()
    assert git(elsewhere, "for-each-ref") == ""


# ---- the configuration


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("required = true", "no place is named"),
        ("file = '/mnt/heads'", r"has '\{tag\}' in it"),
        ("remote = 'origin'", "not the name of a remote"),
        ("remote = 'ext::sh -c evil'", "the address of a repository"),
        ("remote = '--upload-pack=evil'", "the address of a repository"),
        ("seconds = 0", "seconds = 0"),
    ],
)
def test_what_no_place_can_be_is_refused(lines: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        load_settings(f"[tool.autoresearch.anchors]\n{lines}\n")


@pytest.mark.parametrize("key", ["file", "signing_key"])
@pytest.mark.parametrize("where", ["in the project", "in .git", "by a link", "relative"])
def test_a_place_within_reach_is_refused(
    campaign: Campaign, tmp_path: Path, key: str, where: str
) -> None:
    (tmp_path / "link").symlink_to(campaign.root)
    path = {
        "in the project": campaign.root / "{tag}",
        "in .git": campaign.root / ".git" / "{tag}",
        "by a link": tmp_path / "link" / "{tag}",
        "relative": "{tag}",
    }[where]
    words = "absolute path" if where == "relative" else "within an agent's reach"
    with pytest.raises(ConfigurationError, match=words):
        anchored(campaign, Table(**{key: str(path)}))


def test_a_key_that_agents_are_shown_is_refused(campaign: Campaign, tmp_path: Path) -> None:
    shown = tmp_path / "keys"
    agent = Agent(readable=(str(shown),))
    with pytest.raises(ConfigurationError, match="within an agent's reach"):
        anchored(campaign, Table(signing_key=str(shown / "key")), agent=agent)
    with pytest.raises(ConfigurationError, match="within an agent's reach"):
        anchored(campaign, Table(signing_key="/usr/share/key"), agent=agent)
    anchored(campaign, Table(signing_key=str(tmp_path / "key")), agent=agent)  # the control


# ---- whole sessions and commands


def configure(project: Project, lines: str) -> None:
    project.write(
        "pyproject.toml",
        project.read("pyproject.toml") + f"\n[tool.autoresearch.anchors]\n{lines}\n",
    )
    project.commit("anchors")


def test_a_session_loses_no_verdict_to_a_place_and_believes_none_that_forgets(
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "main.heads"
    configure(project, f"file = '{tmp_path}/{{tag}}.heads'\ncommand = ['false']")
    first = project.autoresearch()
    assert first.returncode == 0, first.output
    assert "did not reach the command of [tool.autoresearch.anchors]" in first.stdout
    early = project.copy(tmp_path / "early")
    project.edit("STEPS = 60", "STEPS = 120")
    assert "KEPT" in project.autoresearch().stdout
    assert len(file.read_text().splitlines()) == 4
    monkeypatch.chdir(project.root)
    assert cli.main(["status"]) == 0
    status = capsys.readouterr().out
    assert "anchors:   file: has every row" in status
    assert "anchors:   command: the last 3 rows have not arrived" in status

    # The day before comes back, whole.
    monkeypatch.chdir(early.root)
    assert broken_link(verify(early.root, "main"), None) is None
    assert cli.main(["verify"]) == 1
    assert "BLOCK: dropped tail: anchors" in capsys.readouterr().out
    again = early.autoresearch()
    assert again.returncode == 4
    assert "the file of [tool.autoresearch.anchors] remembers another end" in again.stderr


def test_a_campaign_that_is_begun_anew_is_known_outside(campaign: Campaign) -> None:
    """Ledgers and pins are gone, and with them every unit that was spent."""
    clean = Campaign.create(campaign.root.with_name("clean"))
    assert clean.journal.state().seq == -1
    given = clean.repository, clean.journal, clean.journal.state(), TAG
    require_continuity(*given, "")
    with pytest.raises(JournalError, match="remembers another end, row 3"):
        require_continuity(*given, anchors(campaign).kept())


def test_a_session_that_must_reach_a_place_trains_nothing_without(
    project: Project, tmp_path: Path
) -> None:
    configure(project, f"file = '{tmp_path}/unmounted/{{tag}}.heads'\nrequired = true")
    refused = project.autoresearch()
    assert refused.returncode == 4, refused.output
    assert "file is required and cannot be reached" in refused.stderr
    assert not list(project.root.glob(".autoresearch/main/runs/*"))


def test_verify_asks_the_configured_remote(
    outside: Outside,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What it finds there counts; a required one that cannot be asked leaves nothing to tell."""
    remote = outside.remote.with_name("second.git")
    git(remote.parent, "init", "-q", "--bare", str(remote))
    root = tmp_path / "configured"
    root.mkdir()
    lines = f"[tool.autoresearch.anchors]\nremote = '{remote}'\nrequired = true\n"
    (root / "pyproject.toml").write_text(lines)
    campaign = anchored(Campaign.create(root), Table(remote=str(remote), required=True))
    campaign.baseline()
    before = campaign.copy(tmp_path / "before")
    campaign.judge("revert", b"RATE = 1\n")
    monkeypatch.chdir(root)
    assert cli.main(["verify"]) == 0
    monkeypatch.chdir(before.root)
    assert cli.main(["verify"]) == 1
    assert "BLOCK: dropped tail: anchors: restore-source had a row 2" in capsys.readouterr().out
    remote.rename(remote.with_name("gone"))
    assert cli.main(["verify"]) == 2
    assert "cannot tell: the remote" in capsys.readouterr().err


def test_rows_that_a_restore_gave_up_stay_known_outside(
    campaign: Campaign, outside: Outside
) -> None:
    """So says the page, with the way out: new places, and the old ones forgotten here."""
    path = campaign.ledger(CUTOVER)
    path.write_bytes(path.read_bytes().replace(b'"budget_after":80', b'"budget_after":81'))
    assert link(campaign.root) == "altered row"
    restore(campaign.root, TAG, "Ada")
    assert link(campaign.root) == "rewritten history"
    listed = ("for-each-ref", "--format=delete %(refname)")
    tops = (f"refs/autoresearch/{TAG}/anchors", f"refs/autoresearch/{TAG}/outside")
    orders = git(campaign.root, *listed, *tops) + "\n"
    git(campaign.root, "update-ref", "--stdin", stdin=orders.encode())
    assert link(campaign.root) == "PASS"
    assert link(campaign.root, outside.heads("file")) == "rewritten history"
