"""
``autoresearch``: look at a campaign, verify its ledgers, ratify a changed harness, redraw its reports.

Sessions themselves are ``pytest --autoresearch``.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from . import __version__
from .campaign import NOT_READY, Campaign
from .harness import require_intact
from .report.tables import results_table
from .report.terminal import incumbent_text
from .reports import luck, result_rows, write_picture, write_results
from .vcs import RepositoryError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run one subcommand in the current project; exit status 0, or 1 with a sentence that says why.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        return _doctor()
    if options.command is _verify:
        # Also where a damaged ledger opens no campaign.
        status: int = _verify(_project_root(), options)
        return status
    command: Callable[[Campaign, argparse.Namespace], int] = options.command
    # The names a session's options have, so that a campaign opens the same way.
    options.autoresearch_tag = options.tag
    options.autoresearch_dry_run = not options.writes
    options.collectonly = False
    options.autoresearch_rounds = None
    options.autoresearch_sandbox = None
    options.autoresearch_candidate = None
    try:
        with closing(Campaign(_project_root(), options)) as campaign:
            return command(campaign, options)
    except NOT_READY as error:
        print(f"autoresearch: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="autoresearch", description=__doc__.split("\n\n")[0])
    parser.add_argument("--version", action="version", version=f"pytest-autoresearch {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, command, writes, text in (
        ("status", _status, False, "where the campaign stands, and what was tried"),
        (
            "verify",
            _verify,
            False,
            "hold ledgers and repository together: PASS, or BLOCK with the first broken link",
        ),
        ("report", _report, False, "write results.tsv and progress.png anew from the ledgers"),
        ("ratify", _ratify, True, "pin HEAD as the Fixed Harness, after a person changed it"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--tag", help="campaign (default: the current branch's, else 'main')")
        if name == "verify":
            sub.add_argument("--seq", help="one finding, by its number in results.tsv")
            sub.add_argument(
                "--anchors", help="file with heads kept elsewhere, as --heads prints them"
            )
            sub.add_argument(
                "--heads", action="store_true", help="print the heads, to be kept elsewhere"
            )
            sub.add_argument("--json", action="store_true", help="the report as JSON")
            sub.add_argument(
                "--restore",
                action="store_true",
                help="on BLOCK: go back to the last state that verifies, on the record",
            )
        if name == "ratify":
            sub.add_argument("--reason", required=True, help="why the harness changed")
        sub.set_defaults(command=command, writes=writes)
    text = "which isolation levels hold on this machine, and the way to a better one"
    commands.add_parser("doctor", help=text, description=text).set_defaults(command=None)
    return parser


def _doctor() -> int:
    from .sandbox.survey import explain, survey

    with TemporaryDirectory(prefix="autoresearch-doctor-") as directory:
        found = survey(Path(directory))
    for line in explain(found):
        print(line)
    return 0


def _project_root() -> Path:
    here = Path.cwd()
    return next((path for path in (here, *here.parents) if (path / ".git").exists()), here)


def _status(campaign: Campaign, _: argparse.Namespace) -> int:
    state, settings = campaign.state, campaign.settings
    print(f"campaign:  {campaign.tag!r} on {campaign.branch_text}")
    print(f"incumbent: {incumbent_text(campaign.incumbent, settings.metric)}")
    print(f"harness:   ratified at {campaign.ratified_commit[:12]}")
    print(f"budget:    {campaign.budget.remaining} of {settings.budget.total} units left")
    breaches = campaign.breaches()
    print(f"work tree: {'the harness is intact' if not breaches else f'{len(breaches)} breaches'}")
    for breach in breaches[:10]:
        print(f"  {breach.path!r}: {breach.what}; to undo: {breach.remedy}")
    rows = result_rows(campaign)
    halts = [row for row in state.settled if row.kind == "halt"]
    print(f"settled:   {len(rows)} experiments, {len(halts)} halts")
    if campaign.started:
        print(f"keeps:     {luck(campaign)}")
    if state.stopped:
        print(f"stopped:   {state.stopped}")
    print()
    print(results_table(rows, settings.metric) or "Nothing yet: run `pytest --autoresearch`.")
    for halt in halts[-5:]:
        print(f"\nhalt at row {halt.row}: {halt.reason}")
    return 0


def _verify(root: Path, options: argparse.Namespace) -> int:
    """What ``verifier.py`` does by itself; restoring is on top, since it writes."""
    from . import verifier

    arguments = [str(root)]
    for name in ("tag", "seq", "anchors"):
        if getattr(options, name) is not None:
            arguments += [f"--{name}", getattr(options, name)]
    arguments += [f"--{name}" for name in ("heads", "json") if getattr(options, name)]
    status = verifier.main(arguments)
    if status != 1 or not options.restore:
        return status
    from .restoring import restore

    try:
        print(restore(root, verifier.choose_tag(root, options.tag), getpass.getuser()))
    except NOT_READY as error:
        print(f"autoresearch: {error}", file=sys.stderr)
        return 1
    return verifier.main([str(root), "--tag", verifier.choose_tag(root, options.tag)])


def _report(campaign: Campaign, _: argparse.Namespace) -> int:
    write_results(campaign)
    print("results: results.tsv")
    print(write_picture(campaign))
    return 0


def _ratify(campaign: Campaign, options: argparse.Namespace) -> int:
    from .settlement import record_ratification

    if campaign.state.incumbent is None:
        print("nothing to ratify: the campaign's first session pins HEAD")
        return 1
    head = campaign.repository.head_commit()
    campaign.use_harness(head)
    require_intact(iter(campaign.breaches()))
    campaign.require_clean_surface()
    committed = campaign.repository.read_surface(head, campaign.settings.surface)
    if committed != dict(campaign.incumbent_files):
        raise RepositoryError(
            f"commit {head[:12]} changes the surface as well: ratifying is for the harness; commit "
            "the harness alone, and let a session judge the surface"
        )
    campaign.task.require_intact()
    record_ratification(campaign, actor=getpass.getuser(), reason=options.reason)
    print(
        f"ratified {head[:12]} as the Fixed Harness of campaign {campaign.tag!r}; the next session "
        "measures the incumbent anew"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
