"""
Counts with noise: differential privacy by OpenDP (extra ``[privacy]``).

One person more or fewer changes one cell of each histogram by one, so the discrete Laplace mechanism of scale
``1 / epsilon`` makes a histogram epsilon-differentially private (C. Dwork, F. McSherry, K. Nissim, A. Smith, TCC 2006,
theorem 1), and the epsilons of several histograms add up. OpenDP checks the stated epsilon against the scale.

What is covered: the released figures, whatever anybody knows from elsewhere. What is not covered: the names of the
cohorts, which are taken as public; figures that were released without noise before.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["NoOpenDPError", "noisy_histograms"]


class NoOpenDPError(ValueError):
    """Noise was asked for, and there is no OpenDP; the message says what to install."""


def noisy_histograms(histograms: Sequence[Sequence[int]], epsilon: float) -> list[list[int]]:
    """
    Histograms ``[measure][cell]`` with noise, epsilon-differentially private together.

    Each gets the same share of epsilon: noise of standard deviation about ``sqrt(2) * len(histograms) / epsilon``.

    :raises NoOpenDPError: OpenDP is not installed.
    """
    try:
        import opendp.prelude as dp
    except ImportError as error:
        raise NoOpenDPError(
            f"epsilon = {epsilon!r} needs OpenDP, which is not installed here: "
            "pip install 'pytest-autoresearch[privacy]', or ask without epsilon"
        ) from error
    dp.enable_features("contrib")
    share = epsilon / len(histograms)
    measurement = dp.m.make_laplace(
        dp.vector_domain(dp.atom_domain(T=int)), dp.l1_distance(T=int), scale=1 / share
    )
    granted: float = measurement.map(d_in=1)  # type: ignore[no-untyped-call]  # OpenDP leaves it untyped
    if granted > share * (1 + 1e-9):
        raise ValueError(f"OpenDP does not grant epsilon = {share!r} at scale {1 / share!r}")
    return [list(measurement([int(value) for value in each])) for each in histograms]
