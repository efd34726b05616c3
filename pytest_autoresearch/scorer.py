"""
The program of a scoring sandbox: ``python -I scorer.py INPUTS OUTPUT``.

INPUTS holds prepare.py. The program is started while the training still runs, so that importing torch costs
nobody time (prepare.py says in ``warm_up()`` what to import). What there is to score arrives on standard
input, a line each: the one that asks to get ready, the artifact's path, the features' path and the number of
examples to score at a time; after that one line for each further piece of the predictions, once the one
before it was fetched from OUTPUT.
"""

from __future__ import annotations

import importlib.util
import os
import select
import sys
from pathlib import Path

PATIENCE = 5.0
"""
Seconds that ``warm_up`` waits unless asked to get ready: the second scorer's is not needed as soon as the
training's own start, with which it would compete.
"""


def main(inputs: str, output: str) -> None:
    """Wait for the artifact, score it with prepare.py's ``score``, write its predictions ``[n, ...]``."""
    import numpy as np

    spec = importlib.util.spec_from_file_location("prepare", Path(inputs) / "prepare.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"no prepare.py in {inputs!r}")
    prepare = importlib.util.module_from_spec(spec)
    sys.modules["prepare"] = prepare
    spec.loader.exec_module(prepare)
    if warm_up := getattr(prepare, "warm_up", None):
        select.select([sys.stdin], [], [], PATIENCE)
        warm_up()
    _, artifact, features, step = (sys.stdin.readline().rstrip("\n") for _ in range(4))
    if not step:
        raise SystemExit("no artifact to score: the run was given up")
    with np.load(features, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    n, at_a_time = len(next(iter(arrays.values()))), int(step)
    for start in range(0, n, at_a_time):
        piece = {name: array[start : start + at_a_time] for name, array in arrays.items()}
        predictions = np.asarray(prepare.score(artifact, piece))
        wanted = np.float64 if predictions.ndim == 1 else np.float32
        if start:
            sys.stdin.readline()
        # Renamed when it is complete, so that nobody reads half of it.
        np.save(f"{output}.part.npy", predictions.astype(wanted, copy=False), allow_pickle=False)
        os.replace(f"{output}.part.npy", output)  # noqa: PTH105


if __name__ == "__main__":
    main(*sys.argv[1:])
    # Taking torch apart in good order costs a second and serves nobody: the predictions are written.
    os._exit(0)
