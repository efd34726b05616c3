"""
Adopting an existing repository: what is there, what is missing, and the steps to a metric that is recomputed.

Nothing that exists is overwritten. prepare.py and train.py are read as text, never imported.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .syntax import try_parse

__all__ = ["AdoptionError", "Findings", "adopt", "look", "next_steps", "stock_gates"]

IGNORED = ("/.autoresearch/", "/results.tsv", "/progress.png", "__pycache__/")
#: What upstream's prepare.py calls the seconds of a run; compilation and start do not count there.
_BUDGET = "TIME_BUDGET"
_WARM_UP = 300
_UPSTREAM_DATA = "~/.cache/autoresearch"
_PRINTED = re.compile(r"^(val_[a-z0-9_]+):")

POST_LOOP = '''"""
Post-loop gates of a project whose metric is self-reported: train.py prints it, nothing recomputes it.
"""

from __future__ import annotations


def test_run_finished_in_its_budget(training_run):
    assert training_run.status == "finished", training_run.reason

'''


class AdoptionError(Exception):
    """The repository cannot be adopted as it is; the message says what to do."""


@dataclass(frozen=True)
class Findings:
    """What a repository in the upstream layout tells by its text."""

    verified: bool
    """Whether prepare.py can score and evaluate, so that the metric can be recomputed."""
    metric: str
    """Name of the line that train.py prints, or of ``evaluate``'s metric."""
    seconds: int
    """Compute budget of a run."""
    readable: tuple[str, ...]
    """Where the data seems to lie, outside the project."""


def look(root: Path, metric: str | None = None) -> Findings:
    """
    Read train.py and prepare.py.

    :param metric: its name, where the user gave one.
    :raises AdoptionError: there is no train.py, or no line that it prints looks like a metric.
    """
    train, prepare = (_tree(root / name) for name in ("train.py", "prepare.py"))
    if train is None:
        raise AdoptionError(
            f"no train.py in {str(root)!r} that Python can read: it is the file an agent may change; "
            "run this in the project's root"
        )
    body = prepare.body if prepare else []
    defined = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    verified = {"score", "evaluate"} <= defined
    texts = list(_texts(train))
    printed = next((match[1] for text in texts if (match := _PRINTED.match(text))), None)
    found = metric or printed or ("val_loss" if verified else None)
    if found is None:
        raise AdoptionError(
            "train.py prints no line that begins with `val_...:`: say with --metric NAME which line "
            "`NAME: value` is to be minimised"
        )
    budget = _constant(prepare, _BUDGET) or _constant(train, _BUDGET)
    words = " ".join(_texts(prepare)) if prepare else ""
    cached = ".cache" in words and "autoresearch" in words
    return Findings(
        verified=verified,
        metric=found,
        seconds=budget or 300,
        readable=(_UPSTREAM_DATA,) if cached and not verified else (),
    )


def adopt(root: Path, found: Findings, *, write: bool) -> Iterator[str]:
    """
    Write what is missing; one line a file.

    :param write: only say it otherwise.
    :raises AdoptionError: pyproject.toml is no TOML.
    """
    yield from _configure(root / "pyproject.toml", found, write=write)
    gates = root / "harness_tests"
    texts = {path.name: path.read_text(encoding="utf-8") for path in stock_gates()}
    if not found.verified:
        texts = {"test_mid_loop.py": texts["test_mid_loop.py"], "test_post_loop.py": POST_LOOP}
    for name, text in sorted(texts.items()):
        yield _put(gates / name, text, root, write=write)
    if not (root / "program.md").exists():
        text = (
            f"# Program\n\nLower `{found.metric}` by editing train.py. Nothing else may change.\n"
        )
        yield _put(root / "program.md", text, root, write=write)
    yield from _ignore(root / ".gitignore", write=write)


def next_steps(found: Findings) -> Iterator[str]:
    """What a person does now, and how a self-reported metric becomes a verified one."""
    yield "Next:"
    yield "  1. read pyproject.toml and harness_tests/, then commit them: they are the Fixed Harness"
    yield "  2. autoresearch doctor          # which isolation levels hold here"
    yield "  3. pytest --autoresearch        # the baseline; from then on each edit of train.py is judged"
    if found.verified:
        return
    yield ""
    yield f"The metric is SELF-REPORTED: `{found.metric}` is believed as train.py prints it, and every row says so."
    yield "To a verified one, in this order (docs/reference.md has the contract with prepare.py):"
    yield "  1. prepare.py writes data/train/ (all that a run may see), data/heldout/<split>/ with features.npz,"
    yield "     labels.npy, cohorts.npz and rows.npy, and data/manifest.json; it drops or masks personal data first"
    yield "  2. train.py reads AUTORESEARCH_TRAIN and leaves a torch.export program in AUTORESEARCH_OUT"
    yield "  3. prepare.py defines score(artifact, features) and evaluate(predictions, labels, cohorts)"
    yield "  4. in pyproject.toml: mode = 'verified', without run.readable and warm-up"
    yield "  5. remove harness_tests/test_post_loop.py and run `autoresearch init` again: it adds the stock gates"
    yield "  6. commit, then `autoresearch ratify --reason 'the metric is recomputed'`"


def stock_gates() -> list[Path]:
    """The gates that come with the package."""
    here = Path(__file__).parent
    shipped = here / "stock_gates"
    # An editable installation has them where they are developed.
    folder = shipped if shipped.is_dir() else here.parent / "harness_tests"
    return sorted(folder.glob("test_*.py"))


def _configure(path: Path, found: Findings, *, write: bool) -> Iterator[str]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    try:
        known = "autoresearch" in tomllib.loads(text).get("tool", {})
    except tomllib.TOMLDecodeError as error:
        raise AdoptionError(f"pyproject.toml cannot be read: {error}") from error
    if known:
        yield "kept    pyproject.toml: [tool.autoresearch] is there"
        return
    lines = ["[tool.autoresearch]", 'surface = ["train.py"]', f'metric = "{found.metric}"']
    if not found.verified:
        lines += ['mode = "self-reported"  # train.py prints the metric; nothing recomputes it']
    lines += ["", "[tool.autoresearch.run]", f"seconds = {found.seconds}"]
    if not found.verified:
        lines += [f"warmup_seconds = {_WARM_UP}  # start and compilation, on top"]
    if found.readable:
        lines += [f"readable = {list(found.readable)!r}  # the data".replace("'", '"')]
    if write:
        block = "\n".join(lines) + "\n"
        path.write_text(f"{text.rstrip()}\n\n{block}" if text.strip() else block, encoding="utf-8")
    yield f"{'changed' if text else 'new    '} pyproject.toml: [tool.autoresearch]"


def _put(path: Path, text: str, root: Path, *, write: bool) -> str:
    name = path.relative_to(root).as_posix()
    if path.exists():
        return f"kept    {name}"
    if write:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return f"new     {name}"


def _ignore(path: Path, *, write: bool) -> Iterator[str]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    known = {line.strip().strip("/") for line in text.splitlines()}
    missing = [line for line in IGNORED if line.strip("/") not in known]
    if not missing:
        yield "kept    .gitignore"
        return
    if write:
        before = text if not text or text.endswith("\n") else text + "\n"
        path.write_text(before + "\n".join(missing) + "\n", encoding="utf-8")
    yield f"{'changed' if text else 'new    '} .gitignore: {' '.join(missing)}"


def _tree(path: Path) -> ast.Module | None:
    return try_parse(path.read_bytes()) if path.is_file() else None


def _texts(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _constant(tree: ast.Module | None, name: str) -> int | None:
    """A positive whole number that the module assigns to a name."""
    for node in tree.body if tree else ():
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            names = {target.id for target in node.targets if isinstance(target, ast.Name)}
            value = node.value.value
            if name in names and isinstance(value, int) and value > 0:
                return value
    return None
