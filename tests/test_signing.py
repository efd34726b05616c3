"""
Who wrote the heads: SSH signatures, held against git's allowed-signers file.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from provenance import TAG, Campaign
from test_anchors import anchored, anchors
from test_vcs import git

from pytest_autoresearch import verifier
from pytest_autoresearch.settings import Anchors as Table
from pytest_autoresearch.signing import sign
from pytest_autoresearch.transport import Reach, Undelivered
from pytest_autoresearch.verifier import CannotTell, broken_link, verify

pytestmark = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="no ssh-keygen here: install OpenSSH's client"
)
WHO = "ci@example.org"
HISTORY = f"refs/autoresearch/{TAG}/anchors"


class Keys:
    """Two keys, and files that say who may sign with them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("own", "other"):
            self.make(name)

    def make(self, name: str, passphrase: str = "") -> Path:
        path = self.root / name
        command = [
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            passphrase,
            "-C",
            name,
            "-f",
            str(path),
        ]
        subprocess.run(command, check=True)
        return path

    def allowed(self, *lines: str) -> Path:
        """An allowed-signers file; ``OWN`` and ``OTHER`` stand for the public keys."""
        text = "\n".join(lines) + "\n"
        for name in ("own", "other"):
            words = (self.root / f"{name}.pub").read_text().split()
            text = text.replace(name.upper(), " ".join(words[:2]))
        path = self.root / "allowed_signers"
        path.write_text(text)
        return path


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Campaign, Keys]:
    base = tmp_path_factory.mktemp("signed")
    keys = Keys(base)
    campaign = Campaign.create(base / "project")
    anchored(campaign, Table(signing_key=str(base / "own")))
    campaign.baseline()
    campaign.judge("keep", b"RATE = 1\n")
    assert anchors(campaign).problems == {}
    return campaign, keys


@pytest.fixture
def keys(signed: tuple[Campaign, Keys]) -> Keys:
    return signed[1]


@pytest.fixture
def campaign(signed: tuple[Campaign, Keys], tmp_path: Path, keys: Keys) -> Campaign:
    return anchored(signed[0].copy(tmp_path / "project"), Table(signing_key=str(keys.root / "own")))


def said(
    campaign: Campaign, allowed: Path, identity: str | None = None, seq: int | None = None
) -> str:
    report = verify(campaign.root, TAG, allowed=allowed, identity=identity)
    broken = broken_link(report, seq)
    return str(broken) if broken else report.notes[-1]


# ---- whose signature counts


@pytest.mark.parametrize("identity", [None, WHO])
def test_a_signature_of_somebody_allowed_passes(
    campaign: Campaign, keys: Keys, identity: str | None
) -> None:
    campaign.judge("revert", b"RATE = 2\n")
    allowed = keys.allowed("else@example.org OTHER", f"{WHO} OWN")
    assert said(campaign, allowed, identity).startswith(
        f"heads up to row 3 signed by {WHO} with the key SHA256:"
    )


@pytest.mark.parametrize(
    ("lines", "identity", "found"),
    [
        ([f"{WHO} OTHER"], None, "wrong key"),
        ([""], None, "wrong key"),
        ([f'{WHO} namespaces="git" OWN'], None, "wrong key"),
        ([f"{WHO} OWN", "you@example.org OTHER"], "you@example.org", "wrong identity"),
        ([f'{WHO} valid-before="20200101" OWN'], None, "expired key"),
        ([f'{WHO} valid-after="21000101" OWN'], WHO, "expired key"),
    ],
)
def test_any_other_blocks(
    campaign: Campaign, keys: Keys, lines: list[str], identity: str | None, found: str
) -> None:
    assert said(campaign, keys.allowed(*lines), identity).startswith(f"{found}: {HISTORY}")
    # No finding stands on heads that nobody vouches for.
    assert said(campaign, keys.allowed(*lines), identity, seq=1).startswith(f"{found}: ")


def rewritten(campaign: Campaign, **files: bytes) -> None:
    """The newest heads and their signature, exchanged."""
    repository = campaign.repository
    tip = repository.ref(HISTORY)
    assert tip is not None
    there = {"heads": b"", "heads.sig": b""}
    for name in there:
        oid = git(campaign.root, "rev-parse", f"{tip}:{name}")
        there[name] = repository.read_blob(oid)
    there |= {name.replace("_", "."): content for name, content in files.items()}
    repository.extend(HISTORY, {name: each for name, each in there.items() if each}, when=2)


def test_a_signature_that_is_gone_blocks(campaign: Campaign, keys: Keys) -> None:
    rewritten(campaign, heads_sig=b"")
    assert "missing signature" in said(campaign, keys.allowed(f"{WHO} OWN"))
    git(campaign.root, "update-ref", "-d", HISTORY)
    assert "there is no history of heads" in said(campaign, keys.allowed(f"{WHO} OWN"))


def test_a_signature_over_other_heads_blocks(campaign: Campaign, keys: Keys) -> None:
    """The true heads of rows that were written without the key, under the signature of those before."""
    campaign.journal = type(campaign.journal)(campaign.directory)
    campaign.judge("revert", b"RATE = 6\n")
    allowed = keys.allowed(f"{WHO} OWN")
    assert "signed up to row 2, but cutover-audit ends at row 3" in said(campaign, allowed)
    heads = "".join(f"{name} {head}\n" for name, head in campaign.journal.heads().items())
    rewritten(campaign, heads=heads.encode())
    assert said(campaign, allowed).startswith("altered heads: ")
    other = sign(heads.encode(), keys.root / "other", Reach.choose(60, ()))
    rewritten(campaign, heads=heads.encode(), heads_sig=other)
    assert said(campaign, allowed).startswith("wrong key: ")


def test_a_signature_for_something_else_blocks(campaign: Campaign, keys: Keys) -> None:
    """As of a commit, which the same person may sign with the same key."""
    heads = "".join(f"{name} {head}\n" for name, head in campaign.journal.heads().items())
    command = ["ssh-keygen", "-Y", "sign", "-n", "git", "-f", str(keys.root / "own")]
    made = subprocess.run(command, input=heads.encode(), capture_output=True, check=True).stdout
    rewritten(campaign, heads_sig=made)
    assert said(campaign, keys.allowed(f"{WHO} OWN")).startswith("altered heads: ")


def test_without_the_program_nothing_is_said(
    campaign: Campaign,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    allowed = keys.allowed(f"{WHO} OWN")
    given = [str(campaign.root), "--allowed-signers", str(allowed), "--identity", WHO]
    assert verifier.main(given) == 0
    bare = keys.root / "bin"
    bare.mkdir(exist_ok=True)
    if not (bare / "git").exists():
        (bare / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(bare))
    assert verifier.main(given) == 2
    assert "cannot tell: no ssh-keygen program" in capsys.readouterr().err


def test_an_absent_file_of_signers_allows_nobody(campaign: Campaign, keys: Keys) -> None:
    with pytest.raises(CannotTell, match="is no file"):
        said(campaign, keys.root / "absent")


# ---- signing


@pytest.mark.parametrize("name", ["locked", "absent"])
def test_a_key_that_cannot_sign_is_one_line_and_no_lost_verdict(
    campaign: Campaign, keys: Keys, name: str
) -> None:
    """Nobody is asked for a passphrase; the next change is signed for it as well."""
    if not (keys.root / "locked").exists():
        keys.make("locked", passphrase="secret")
    anchored(campaign, Table(signing_key=str(keys.root / name)))
    assert campaign.judge("revert", b"RATE = 7\n").cutover.resolution == "done"
    assert "'ssh-keygen' ended with status 255" in anchors(campaign).problems["signing_key"]
    assert "missing signature" in said(campaign, keys.allowed(f"{WHO} OWN"))
    anchored(campaign, Table(signing_key=str(keys.root / "own")))
    anchors(campaign).open(campaign.journal.heads())
    assert "signed by" in said(campaign, keys.allowed(f"{WHO} OWN"))


def test_a_key_in_an_agent_signs_without_lying_on_the_disk(
    keys: Keys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = shutil.which("ssh-agent")
    if program is None:
        pytest.skip("no ssh-agent here")
    key = keys.make("served")
    public = tmp_path / "served.pub"
    shutil.copyfile(key.with_suffix(".pub"), public)
    socket = tmp_path / "s"
    agent = subprocess.Popen([program, "-D", "-a", str(socket)], stdout=subprocess.PIPE)
    try:
        assert agent.stdout is not None
        agent.stdout.readline()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        subprocess.run(["ssh-add", "-q", str(key)], check=True)
        key.unlink()
        assert sign(b"heads", public, Reach.choose(60, ())).startswith(b"-----BEGIN SSH SIGNATURE")
        monkeypatch.delenv("SSH_AUTH_SOCK")
        with pytest.raises(Undelivered):
            sign(b"heads", public, Reach.choose(60, ()))
    finally:
        agent.kill()
        agent.communicate()
