"""
The second implementation of the verifier, in shell: it agrees with the first one, on honest campaigns and on damaged ones.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from provenance import BRANCH, CUTOVER, SOURCE, TAG, Campaign
from test_vcs import git

from pytest_autoresearch.anchors import Anchors
from pytest_autoresearch.chain import EMPTY
from pytest_autoresearch.journal import Journal
from pytest_autoresearch.records import Outcome, Stage
from pytest_autoresearch.restoring import restore
from pytest_autoresearch.rows import Gate
from pytest_autoresearch.settings import Anchors as Table
from pytest_autoresearch.settings import Settings
from pytest_autoresearch.verifier import broken_link, verify

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "examples" / "verify.sh"
REFS = f"refs/autoresearch/{TAG}"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    made = Campaign.create(tmp_path_factory.mktemp("shell") / "project")
    made.baseline()
    made.judge("keep", b"RATE = 1\n")
    made.judge("revert", b"RATE = 2\n")
    return made


@pytest.fixture
def campaign(template: Campaign, tmp_path: Path) -> Campaign:
    return template.copy(tmp_path / "project")


def both(root: Path, anchors: Path | None = None) -> tuple[str, str]:
    """What either implementation says: the broken link, or ``PASS``."""
    text = anchors.read_text() if anchors else None
    broken = broken_link(verify(root, TAG, anchors=text), None)
    first = "PASS" if broken is None else broken.link
    shell = shutil.which("dash") or "sh"
    done = subprocess.run(
        [shell, SCRIPT, root, TAG, *(["--anchors", anchors] if anchors else [])],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    last = done.stdout.splitlines()[-1]
    assert done.returncode == (0 if last.startswith("PASS: ") else 1), done
    assert done.stderr == ""
    if done.returncode == 0:
        return first, "PASS"
    assert last.startswith("BLOCK: ")
    return first, last.split(": ")[1]


def replaced(name: str, old: bytes, new: bytes) -> Callable[[Campaign], None]:
    def damage(campaign: Campaign) -> None:
        path = campaign.ledger(name)
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new, 1))

    return damage


def without(name: str, *numbers: int) -> Callable[[Campaign], None]:
    def damage(campaign: Campaign) -> None:
        lines = campaign.lines(name)
        kept = [line for number, line in enumerate(lines) if number not in numbers]
        campaign.ledger(name).write_bytes(b"".join(kept))

    return damage


def dropped(campaign: Campaign) -> None:
    without(SOURCE, 3)(campaign)
    without(CUTOVER, 3)(campaign)


def sealed_anew(campaign: Campaign) -> None:
    campaign.reseal(lambda _, __, body: body.replace(b'"metric":0.31', b'"metric":0.21'))


def references(*arguments: str) -> Callable[[Campaign], None]:
    def damage(campaign: Campaign) -> None:
        keep, base = git(campaign.root, "rev-parse", BRANCH, f"{BRANCH}~").split()
        names = {"KEEP": keep, "BASE": base}
        words = [argument.format(**names) for argument in arguments]
        git(campaign.root, "update-ref", *words)

    return damage


def by_hand(campaign: Campaign) -> None:
    git(campaign.root, "commit", "-q", "--allow-empty", "-m", "by hand")


def forged_blob(campaign: Campaign) -> None:
    import zlib

    oid = git(campaign.root, "rev-parse", f"{BRANCH}~:gates/deep/g.py")
    path = campaign.root / ".git" / "objects" / oid[:2] / oid[2:]
    path.chmod(0o644)
    path.write_bytes(zlib.compress(b"blob 4\0pass"))


def lost_tree(campaign: Campaign) -> None:
    oid = git(campaign.root, "rev-parse", f"{BRANCH}~:gates")
    (campaign.root / ".git" / "objects" / oid[:2] / oid[2:]).unlink()


def model(campaign: Campaign) -> None:
    (campaign.directory / "runs" / "000001" / "model.pt2").write_bytes(b"other")


def keep(**more: object) -> Callable[[Campaign], None]:
    def damage(campaign: Campaign) -> None:
        campaign.judge("keep", b"RATE = 3\n", **more)  # type: ignore[arg-type]

    return damage


def gates(*outcomes: Outcome) -> tuple[Gate, ...]:
    return tuple(
        Gate(nodeid=f"g.py::{name}", stage=Stage.POST, outcome=outcome)
        for name, outcome in zip("abc", outcomes, strict=False)
    )


DAMAGE: dict[str, tuple[Callable[[Campaign], None], str]] = {
    "a byte": (replaced(CUTOVER, b'"metric":0.31', b'"metric":0.21'), "altered row"),
    "a NUL": (replaced(CUTOVER, b"gain", b"ga\0n"), "altered row"),
    "CRLF": (replaced(SOURCE, b"\n", b"\r\n"), "altered row"),
    "no line end": (lambda c: c.ledger(CUTOVER).write_bytes(c.data()[1][:-1]) and None, "torn tail"),
    "a line less": (without(CUTOVER, 2), "altered row"),
    "the last end": (without(CUTOVER, 3), "missing cutover-audit entry"),
    "the last intent": (without(SOURCE, 3), "restore pair mismatch"),
    "the last change": (dropped, "dropped tail"),
    "sealed anew": (sealed_anew, "rewritten history"),
    "another file": (lambda c: c.ledger(SOURCE).write_bytes(c.data()[1]) and None, "foreign file"),
    "a commit by hand": (by_hand, "undocumented step"),
    "a branch gone back": (references(f"refs/heads/{BRANCH}", "{BASE}"), "rewritten history"),
    "no restore point": (references("-d", f"{REFS}/restore/{{KEEP}}"), "missing checkpoint"),
    "no source": (references("-d", f"{REFS}/restore/{{BASE}}"), "source tree not pinned"),
    "a forged blob": (forged_blob, "object does not reproduce its hash"),
    "a lost tree": (lost_tree, "source tree not pinned"),
    "another model": (model, "artifact hash mismatch"),
    "a gate less": (keep(gates=gates(Outcome.PASSED)), "gates"),
    "a gate skipped": (keep(gates=gates(Outcome.PASSED, Outcome.SKIPPED)), "gates"),
    "units given back": (keep(budget_before=100, budget_after=90), "budget arithmetic"),
    "another candidate": (keep(candidate="f" * 64), "surface mismatch"),
    "no trailers": (keep(message=lambda _: "better\n"), "rewritten history"),
    "a second file": (keep(extra={"prepare.py": b"kinder\n"}), "undocumented step"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_both_name_the_same_broken_link(campaign: Campaign, name: str) -> None:
    damage, link = DAMAGE[name]
    damage(campaign)
    assert both(campaign.root) == (link, link)


def test_both_pass_a_campaign_with_every_kind_of_change(tmp_path: Path) -> None:
    campaign = Campaign.create(tmp_path / "project", "sha256").whole()
    assert both(campaign.root) == ("PASS", "PASS")


def test_both_follow_a_campaign_that_was_restored(campaign: Campaign) -> None:
    replaced(CUTOVER, b'"budget_after":80', b'"budget_after":81')(campaign)
    assert both(campaign.root) == ("altered row", "altered row")
    restore(campaign.root, TAG, "Ada")
    assert both(campaign.root) == ("PASS", "PASS")


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a campaign that is told to a file and a remote, and how it was a change before."""
    base = tmp_path_factory.mktemp("outside")
    git(base, "init", "-q", "--bare", "remote.git")
    told = Campaign.create(base / "project")
    anchors = Anchors(told.repository, TAG)
    table = Table(file=f"{base}/{{tag}}.heads", remote=f"{base}/remote.git")
    anchors.use(Settings(anchors=table))
    told.journal = Journal(told.directory, anchors)
    told.baseline()
    told.copy(base / "before")
    told.judge("revert", b"RATE = 1\n")
    assert anchors.problems == {}
    return base


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("", "dropped tail"),
        ("cutover-audit -1:{f}\n", "rewritten history"),
        ("cutover-audit -1:{e}\nnot a line of heads\n", "PASS"),
    ],
)
def test_both_hold_a_file_of_heads_against_the_rows(
    outside: Path, tmp_path: Path, text: str, link: str
) -> None:
    path = tmp_path / "heads"
    path.write_text(text.format(e=EMPTY, f="f" * 64))
    assert both(outside / "before", path) == (link, link)


def test_both_miss_what_was_put_back_and_see_it_outside(outside: Path, tmp_path: Path) -> None:
    heads = outside / "test.heads"
    assert both(outside / "project", heads) == ("PASS", "PASS")
    before = Path(shutil.copytree(outside / "before", tmp_path / "before", symlinks=True))
    assert both(before) == ("PASS", "PASS")
    assert both(before, heads) == ("dropped tail", "dropped tail")
    history = f"autoresearch-heads/{TAG}"
    remote = str(outside / "remote.git")
    git(before, "fetch", "-q", remote, f"{history}:refs/remotes/origin/{history}")
    assert both(before) == ("dropped tail", "dropped tail")
