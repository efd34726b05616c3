"""
The program of the scoring sandbox: ``python -I scorer.py INPUTS OUTPUT``.

It is started while the training still runs, so that importing torch costs nobody time (prepare.py says in
``warm_up()`` what to import); the path of the artifact arrives as one line on standard input. INPUTS holds prepare.py and the held-out features, no labels.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def main(inputs: str, output: str) -> None:
    """Wait for the artifact, score it with prepare.py's ``score``, write float64 predictions ``[n]``."""
    import numpy as np

    spec = importlib.util.spec_from_file_location("prepare", Path(inputs) / "prepare.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"no prepare.py in {inputs!r}")
    prepare = importlib.util.module_from_spec(spec)
    sys.modules["prepare"] = prepare
    spec.loader.exec_module(prepare)
    if warm_up := getattr(prepare, "warm_up", None):
        warm_up()
    with np.load(Path(inputs) / "features.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    artifact = sys.stdin.readline().rstrip("\n")
    if not artifact:
        raise SystemExit("no artifact to score: the run was given up")
    predictions = np.asarray(prepare.score(artifact, arrays), dtype=np.float64)
    np.save(output, predictions, allow_pickle=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
