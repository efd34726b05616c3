"""
The stock verdict on a candidate that passed every gate: keep rule, sealed audit split, control charts.

The cheapest question comes first: the screening run is there already, fresh seeds are run as long as the keep rule
asks for them, and only what would be kept is held against the audit split and the charts.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .charts import CanaryChart, GapChart, ProgressChart
from .keep import PRESETS, KeepRule, Reference, Step, decide
from .records import Canary, Decision, Evidence, Incumbent, Measured, Reason, Verdict, Watch
from .verification import raise_alarm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .settings import Keep, Settings

__all__ = ["gain_verdict", "ignores_seeds", "keep_rule", "reference_of"]

_KEPT, _NO_GAIN, _ESCALATED = 0, 10, 11


def keep_rule(settings: Keep, watch: Watch, reference: Reference) -> KeepRule:
    """The rule that the configuration asks for, for the campaign's next proposal."""
    rule = PRESETS[settings.rule]
    own = {
        name: value
        for name in ("alpha", "screen", "confirm")
        if (value := getattr(settings, name)) is not None
    }
    rule = replace(rule, **own)
    if settings.familywise is not None:
        from .multiplicity import spend

        horizon = max(watch.horizon, watch.decided + 1)
        rule = spend(
            rule, settings.familywise, watch.decided, horizon, df=reference.df, n=reference.n
        )
    return rule


def reference_of(incumbent: Incumbent) -> Reference:
    """The incumbent's reference as the keep rule wants it."""
    if incumbent.metric is None or incumbent.sigma is None:
        raise ValueError("the incumbent has not been measured")
    return Reference(incumbent.metric, incumbent.sigma, incumbent.n, incumbent.df)


def gain_verdict(evidence: Evidence, settings: Settings) -> Verdict:
    """Decide on a measured candidate against a measured incumbent."""
    canary, drift, incumbent = _fly_canary(evidence, settings)
    verdict = _judge(replace(evidence, incumbent=incumbent), settings)
    learned = verdict.learned or incumbent
    verdict = replace(verdict, canary=canary, learned=learned)
    return _drift_verdict(drift, verdict) if drift else verdict


@dataclass
class _Runs:
    """The candidate's runs on fresh seeds so far."""

    fresh: list[Measured]

    @property
    def metrics(self) -> list[float]:
        return [run.metric for run in self.fresh if run.metric is not None]

    @property
    def failed(self) -> bool:
        return any(run.metric is None for run in self.fresh)

    @property
    def audit(self) -> float | None:
        """Mean on the audit split; None unless every run has a figure there."""
        values = [run.audit for run in self.fresh if run.audit is not None]
        return statistics.fmean(values) if values and len(values) == len(self.fresh) else None


def _judge(evidence: Evidence, settings: Settings) -> Verdict:
    incumbent = evidence.incumbent
    if evidence.metric is None:
        raise ValueError("a gain needs a metric")
    reference = reference_of(incumbent)
    if reference.deterministic:
        paired = _paired(evidence, reference, settings)
        if paired is not None:
            return paired
    rule = keep_rule(settings.keep, evidence.watch, reference)
    runs = _Runs([])
    step = decide(reference, evidence.metric, [], rule)
    while step.action == "measure":
        runs.fresh += evidence.measure_seeds(min(step.missing, evidence.slots))
        if runs.failed:
            reason = Reason(
                "confirmation-failed", "a confirming run on a fresh seed gave no metric"
            )
            return Verdict(Decision.REVERT, (reason,), "crash", _NO_GAIN)
        step = decide(reference, evidence.metric, runs.metrics, rule)
    learned = replace(incumbent, sigma=step.reference_after.sigma, df=step.reference_after.df)
    gap = _gap(incumbent, runs)
    if step.action != "keep":
        return _discard("no-gain", step.message, learned, gap)
    values = [evidence.metric, *runs.metrics]
    if ignores_seeds(values, reference):
        message = (
            f"{len(values)} runs on different seeds came to the same figure, which the incumbent's do not: a "
            "candidate that brings its own seed may be the luckiest of many, so no repetition confirms it; "
            "draw from AUTORESEARCH_SEED"
        )
        return _discard("seed-ignored", message, learned, None)
    veto = _veto(evidence, runs.audit, 0.5 * reference.sigma, settings)
    if veto:
        return _discard("audit-veto", veto, learned, gap)
    return _admit(evidence, settings, step, learned, gap)


def _discard(code: str, message: str, learned: Incumbent | None, gap: float | None) -> Verdict:
    reasons = (Reason(code, message),)
    return Verdict(Decision.REVERT, reasons, "discard", _NO_GAIN, learned=learned, gap=gap)


def _paired(evidence: Evidence, reference: Reference, settings: Settings) -> Verdict | None:
    """
    The verdict where no seed changes the incumbent's figure: by example instead of by seed.

    None where the task tells no per-example losses; the keep rule then works with the floor of sigma.
    """
    losses = evidence.losses()
    if losses is None or evidence.metric is None:
        return None
    from .paired import paired_decision

    step = paired_decision(
        losses[0],
        losses[1],
        reference=reference,
        metric=evidence.metric,
        seed=evidence.watch.decided,
    )
    if step.action != "keep":
        return _discard("no-gain", step.message, None, None)
    audit = evidence.audit
    veto = _veto(evidence, audit, 0.5 * step.margin, settings)
    if veto:
        return _discard("audit-veto", veto, None, None)
    gap = _gap(evidence.incumbent, _Runs([Measured(evidence.metric, audit)]))
    return _admit(evidence, settings, step, evidence.incumbent, gap)


def _gap(incumbent: Incumbent, runs: _Runs) -> float | None:
    """How much more the runs gained on validation than on the audit split."""
    if not runs.metrics or runs.audit is None or incumbent.audit is None:
        return None
    if incumbent.metric is None:
        return None
    return (incumbent.metric - statistics.fmean(runs.metrics)) - (incumbent.audit - runs.audit)


def _veto(evidence: Evidence, audit: float | None, margin: float, settings: Settings) -> str:
    """One bit of the sealed audit split: why it stops this keep; empty when it does not."""
    incumbent = evidence.incumbent
    if settings.keep.audit == "off" and not evidence.watch.worn_out:
        return ""
    if audit is None or incumbent.audit is None:
        return ""
    if incumbent.audit - audit > margin:
        return ""
    return "better on validation, but not on the sealed audit split: fitted to the validation examples, or luck"


def _admit(
    evidence: Evidence, settings: Settings, step: Step, learned: Incumbent, gap: float | None
) -> Verdict:
    """Keep, unless a chart alarms and the suspects do not hold."""
    metric = step.reference_after.mean
    watch = evidence.watch
    progress = ProgressChart(watch.progress, settings.cusum, evidence.incumbent)
    explained = progress.explain(metric)
    chart, message, last_zero = "", "", -1
    seq = evidence.seq
    if gap is not None:
        gaps = GapChart(watch, settings.cusum, abs(metric))
        if gaps.add(gap, kept=True, seq=seq):
            chart, message, last_zero = "gap", gaps.explain(), gaps.last_zero
    if not chart and progress.would_alarm(metric):
        zero = progress.after(metric).last_zero
        last = watch.progress_seqs[zero - 1] if zero else -1
        chart, message, last_zero = "progress", f"implausible progress: {explained}", last
    sigmas = step.gain / (evidence.incumbent.sigma or math.inf)
    if not chart and sigmas > settings.cusum.verify_sigma and not _repeats(evidence.incumbent):
        message = f"a single step of {sigmas:.1f} sigma; above {settings.cusum.verify_sigma:g} it is verified"
        chart, last_zero = "step", seq - 1
    gained = Reason("gain", step.message)
    if not chart:
        reasons = (gained, Reason("cusum-silent", explained))
        return Verdict(Decision.KEEP, reasons, "keep", _KEPT, learned=learned, gap=gap)
    return raise_alarm(
        evidence, settings, chart=chart, message=message, last_zero=last_zero, gained=gained,
        learned=learned, gap=gap,
    )  # fmt: skip


def _repeats(incumbent: Incumbent) -> bool:
    """Whether no seed changes the incumbent's figure, so that sigma says nothing."""
    return reference_of(incumbent).deterministic


def _fly_canary(evidence: Evidence, settings: Settings) -> tuple[Canary | None, str, Incumbent]:
    """Run the incumbent once more where that is due: the run, the alarm in words, and the pooled reference."""
    incumbent = evidence.incumbent
    if not evidence.canary_due or not evidence.kept:
        return None, "", incumbent
    (run,) = evidence.rerun(evidence.kept[-1].seq, 1)
    if run.metric is None or incumbent.metric is None:
        return None, "", incumbent
    reference = reference_of(incumbent)
    # A residual has the variance of a run and of the reference, whose n changes from canary to canary.
    error = reference.sigma * math.sqrt(1 + 1 / reference.n)
    residual = (run.metric - reference.mean) / error
    chart = CanaryChart(evidence.watch, settings.keep.canary)
    alarm = chart.add(residual)
    upper, lower = chart.sums
    canary = Canary(run.metric, run.audit, residual, upper, lower, alarm)
    if alarm:
        return canary, chart.explain(), incumbent
    pooled = reference.with_canary(run.metric)
    audit = incumbent.audit
    if audit is not None and run.audit is not None:
        audit += (run.audit - audit) / pooled.n
    reference_now = replace(
        incumbent, metric=pooled.mean, sigma=pooled.sigma, n=pooled.n, df=pooled.df, audit=audit
    )
    return canary, "", reference_now


def _drift_verdict(drift: str, verdict: Verdict) -> Verdict:
    """Figures from before the drift and after it cannot be compared: whatever was found, nothing is kept."""
    message = (
        f"the incumbent's own re-run has drifted (machine, data or clock): {drift}; the reference "
        "is measured anew by the next session"
    )
    return replace(
        verdict,
        decision=Decision.ESCALATE,
        reasons=(Reason("canary-alarm", message), *verdict.reasons),
        status="escalate",
        exit_status=_ESCALATED,
        alarm=None,
    )


def ignores_seeds(values: Sequence[float], reference: Reference) -> bool:
    """
    Whether fresh seeds were no fresh draws, though the incumbent's are.

    Two honest runs come that close with a probability of 3 %, three with 0.07 %: with one confirming run only
    equal figures count.
    """
    share = 0.05 if len(values) > 2 else 1e-6
    return (
        not reference.deterministic
        and len(values) > 1
        and max(values) - min(values) <= share * reference.sigma
    )
