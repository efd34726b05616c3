"""
The planted violations. Each knows the stock gates that must fail, and what it needs to be tried at all.

Those on the candidate change its files; those on the data change a copy of them, in the session's own view; those on
the model stand in for the run and its figures, so that nothing is trained for them.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..records import RunResult, RunStatus

if TYPE_CHECKING:
    from ..evaluation import Evaluation
    from ..experiment import Experiment
    from ..settings import Settings
    from ..task import Task

__all__ = ["PLANTS", "Model", "NotApplicable", "Plant", "plant_named"]

#: Personal data that no rule for examples and test domains lets through; nobody's.
PERSONAL = "jane.doe@contoso-mail.com, 536-22-8745"
FAR = 1e3


class NotApplicable(Exception):
    """There is nothing in this project for the violation; the message says what is missing."""


@dataclass
class Model:
    """What stands in for a run and its model."""

    run: RunResult
    metric: float | None
    problem: str = ""
    gap: float | None = None
    peeks: bool = False
    metrics: Mapping[str, Any] | None = None
    scores: Any = None


@dataclass(frozen=True)
class Plant:
    """One violation."""

    name: str
    gates: tuple[str, ...]
    """Names of the stock gates that must fail."""
    candidate: Callable[[dict[str, bytes], Settings], dict[str, bytes]] | None = None
    """The candidate's files, from the incumbent's."""
    data: Callable[[Path, Task, Settings], None] | None = None
    """Changes a copy of the data directory; the manifest is written anew."""
    model: Callable[[Model, Task, Settings, Path], Model] | None = None
    """Changes what stands in for the run; files go below the directory given."""
    session: Callable[[Experiment], None] | None = None
    """Changes something else in the session, right before the gates."""
    options: tuple[str, ...] = ()
    """Further options of the session."""


# -- candidates ------------------------------------------------------------------


def _appended(text: str) -> Callable[[dict[str, bytes], Settings], dict[str, bytes]]:
    def change(files: dict[str, bytes], settings: Settings) -> dict[str, bytes]:
        entry = settings.entry
        return {**files, entry: files[entry] + b"\n" + text.encode() + b"\n"}

    return change


def _protected(files: dict[str, bytes], settings: Settings) -> dict[str, bytes]:
    if not settings.protected:
        raise NotApplicable("[tool.autoresearch] protected names nothing")
    return _appended(f"_planted = {settings.protected[0]!r}")(files, settings)


# -- data ------------------------------------------------------------------------


def _save(path: Path, arrays: Mapping[str, Any]) -> None:
    import numpy as np

    given: dict[str, Any] = dict(arrays)
    np.savez(path, **given)


def _personal_view(data: Path, task: Task, settings: Settings) -> None:
    (data / "train" / "contacts.txt").write_text(PERSONAL + "\n")


def _reachable(data: Path, task: Task, settings: Settings) -> None:
    shutil.copyfile(data / "heldout" / "val" / "labels.npy", data / "train" / "more.npy")


def _same_rows(data: Path, task: Task, settings: Settings) -> None:
    import numpy as np

    train, val = (data / "heldout" / split / "rows.npy" for split in ("train", "val"))
    rows = np.load(val)
    rows[:10] = np.load(train)[:10]
    np.save(val, rows)


def _near_rows(data: Path, task: Task, settings: Settings) -> None:
    """A tenth of the validation rows are training rows with the last digits changed."""

    train, val = task.training_features(), task.features("val")
    n = len(next(iter(val.values()))) // 10
    for name, array in val.items():
        array[:n] = train[name][:n]
        if array.dtype.kind == "f":
            array[:n] *= 1 + 1e-6
    _save(data / "heldout" / "val" / "features.npz", val)


def _telling_column(data: Path, task: Task, settings: Settings) -> None:
    """The first column of numbers is the label."""

    for split in ("train", *task.splits):
        training = split == "train"
        arrays = task.training_features() if training else task.features(split)
        labels = task.training_labels() if training else task.labels(split)
        name = next((n for n, a in arrays.items() if a.dtype.kind == "f" and a.ndim == 2), None)
        if name is None:
            raise NotApplicable("no table of numbers among the features")
        arrays[name][:, 0] = labels
        where = data / "train" if training else data / "heldout" / split
        _save(where / "features.npz", arrays)


def _by_label(data: Path, task: Task, settings: Settings) -> None:
    if not task.rebuilds:
        raise NotApplicable("prepare.py has no rebuild")
    _telling_column(data, task, settings)


def _index(key: str) -> Callable[[Path, Task, Settings], None]:
    def change(data: Path, task: Task, settings: Settings) -> None:
        import numpy as np

        name = getattr(settings.leakage, key)
        if name is None:
            raise NotApplicable(f"[tool.autoresearch.leakage] {key} names no column")
        path = data / "heldout" / "val" / "index.npz"
        with np.load(path) as archive:
            arrays = {each: archive[each] for each in archive.files}
        train = task.index("train", name)
        arrays[name][:] = np.sort(train)[0]
        _save(path, arrays)

    return change


# -- models ----------------------------------------------------------------------


def _crashed(model: Model, task: Task, settings: Settings, room: Path) -> Model:
    run = replace(model.run, status=RunStatus.CRASHED, reason="crash: exit status 1", artifact=None)
    return replace(model, run=run, metric=None, problem=run.reason)


def _implausible(model: Model, task: Task, settings: Settings, room: Path) -> Model:
    return replace(model, metric=None, problem=f"implausible: {settings.metric} = 0")


def _printed(model: Model, task: Task, settings: Settings, room: Path) -> Model:
    log = room / "planted.log"
    log.write_text(f"step 1\n{PERSONAL}\n")
    return replace(model, run=replace(model.run, log_tail=PERSONAL, log=log))


def _in_artifact(model: Model, task: Task, settings: Settings, room: Path) -> Model:
    artifact = room / settings.artifact
    with zipfile.ZipFile(artifact, "w") as archive:
        archive.writestr("model/classes.json", json.dumps([PERSONAL]))
    return replace(model, run=replace(model.run, artifact=artifact))


def _unfair(model: Model, task: Task, settings: Settings, room: Path) -> Model:
    """Selects one cohort and nobody else."""
    import numpy as np

    rule = next(
        (
            rule
            for rule in settings.fairness
            if rule.at_most is not None or rule.at_least is not None
        ),
        None,
    )
    if rule is None:
        raise NotApplicable("no [[tool.autoresearch.fairness]] rule has a threshold")
    groups = task.cohorts("val")[rule.attributes[0]]
    names, counts = np.unique(groups, return_counts=True)
    return replace(model, scores=np.where(groups == names[counts.argmax()], 0.99, 0.01))


def _peeking(model: Model, task: Task, settings: Settings, room: Path) -> Model:
    return replace(model, metric=None, problem="predictions depend on other examples", peeks=True)


def _gap(model: Model, task: Task, settings: Settings, room: Path) -> Model:
    return replace(model, gap=FAR)


def _individuals(model: Model, task: Task, settings: Settings, room: Path) -> Model:
    n = len(task.labels("val"))
    each = {f"person_{i}": i / n for i in range(n)}
    return replace(model, metrics={**(model.metrics or {}), **each})


# -- sessions --------------------------------------------------------------------


def _stray_file(experiment: Experiment) -> None:
    (experiment.campaign.root / "conftest.py").write_text("planted = True\n")


def _no_budget(experiment: Experiment) -> None:
    from ..budget import MutationBudget

    experiment.budget = MutationBudget(total_budget=0)


def _altered_row(experiment: Experiment) -> None:
    path = experiment.campaign.journal.cutover.path
    if not path.exists():
        raise NotApplicable("no ledger yet: run `pytest --autoresearch` once")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _small_cohort(experiment: Experiment) -> None:
    import numpy as np

    from ..compliance.cohorts import CohortView

    groups = np.array(["a"] * 2000 + ["b"] * 3 + ["c"] * 2)
    view = CohortView({"planted": groups}, {}, minimum=2)
    view.view(by="planted", measures=("n",))
    view.minimum = experiment.campaign.settings.cohort_minimum
    experiment.__dict__["cohort_view"] = view
    # The gate asks only for what the auditor would answer: here it has no objection.
    vars(view)["refusal"] = lambda by=(): ""


def _unwalled(experiment: Experiment) -> None:
    declared = experiment.campaign.settings.harm
    if "none" not in (declared.writes, declared.network):
        raise NotApplicable("[tool.autoresearch.harm] claims neither writes nor network")


def _blind_control(experiment: Experiment) -> None:
    """Trained on shuffled labels the model is as good as ever."""
    campaign = experiment.campaign
    if not campaign.settings.leakage.permutation or campaign.task.sequence is not None:
        raise NotApplicable("[tool.autoresearch.leakage] permutation is off, or a sequence task")
    if experiment.incumbent.metric is None:
        raise NotApplicable("no incumbent yet: run `pytest --autoresearch` once")
    vars(experiment.leakage_controls)["_scores"] = lambda task: _knowing(campaign.task)


def _knowing(task: Task) -> Any:
    """Predictions of a model that knows the held-out labels."""
    import numpy as np

    labels = task.labels("val")
    return np.where(labels == labels.max(), 0.9, 0.1)


def _known_labels(model: Model, task: Task, settings: Settings, room: Path) -> Model:
    return replace(model, metric=settings.metric_floor, scores=_knowing(task))


PLANTS: tuple[Plant, ...] = (
    Plant("a file that Python cannot read", ("test_candidate_can_be_parsed",), _appended("def (:")),
    Plant("a protected name", ("test_protected_parameters_are_untouched",), _protected),
    Plant(
        "an address in the proposal",
        ("test_proposal_holds_no_personal_data",),
        _appended(f"# ask {PERSONAL}"),
    ),
    Plant("a file beside the surface", ("test_only_the_surface_changed",), session=_stray_file),
    Plant(
        "a budget that is spent",
        ("test_budget_pays_for_the_mutation",),
        _appended("_planted = 1"),
        session=_no_budget,
    ),
    Plant("one bit of a ledger", ("test_ledgers_verify",), session=_altered_row),
    Plant(
        "personal data in the training view",
        ("test_training_view_holds_no_personal_data",),
        data=_personal_view,
    ),
    Plant(
        "held-out labels in the training view",
        ("test_heldout_data_is_not_reachable_from_a_run",),
        data=_reachable,
    ),
    Plant(
        "training rows in the validation split",
        ("test_training_rows_are_not_heldout_rows",),
        data=_same_rows,
    ),
    Plant(
        "training rows with other last digits in the validation split",
        ("test_training_rows_are_not_nearly_heldout_rows",),
        data=_near_rows,
    ),
    Plant(
        "a column that is the label",
        ("test_no_column_alone_gives_the_answer",),
        data=_telling_column,
    ),
    Plant(
        "a feature made with held-out labels",
        ("test_heldout_labels_change_no_feature",),
        data=_by_label,
    ),
    Plant(
        "held-out rows from before",
        ("test_training_rows_come_before_heldout_rows",),
        data=_index("time"),
    ),
    Plant(
        "a group on both sides",
        ("test_no_group_is_in_training_and_heldout_data",),
        data=_index("group"),
    ),
    Plant(
        "cohorts of three and two",
        (
            "test_cohorts_shown_to_an_agent_are_large_enough",
            "test_everything_told_of_cohorts_isolates_nobody",
        ),
        session=_small_cohort,
    ),
    Plant("a run that crashed", ("test_run_finished_in_its_budget",), model=_crashed),
    Plant("a metric that cannot be", ("test_metric_is_finite_and_plausible",), model=_implausible),
    Plant(
        "personal data printed by a run", ("test_output_holds_no_personal_data",), model=_printed
    ),
    Plant(
        "personal data in the model", ("test_artifact_holds_no_personal_data",), model=_in_artifact
    ),
    Plant("a model that selects one cohort", ("test_model_is_fair",), model=_unfair),
    Plant(
        "predictions that owe to other examples",
        ("test_predictions_rest_on_their_own_example",),
        model=_peeking,
    ),
    Plant(
        "a model that knows validation labels",
        ("test_validation_is_no_better_than_the_audit_split",),
        model=_gap,
    ),
    Plant(
        "figures of single persons", ("test_only_aggregates_leave_the_harness",), model=_individuals
    ),
    Plant(
        "no wall",
        ("test_a_wrong_candidate_could_harm_nobody_outside",),
        session=_unwalled,
        options=("--autoresearch-sandbox=none",),
    ),
    Plant(
        "held-out labels that are known without training labels",
        ("test_shuffled_labels_teach_nothing",),
        session=_blind_control,
        model=_known_labels,
    ),
)


def plant_named(name: str) -> Plant:
    """The plant of that name."""
    return next(plant for plant in PLANTS if plant.name == name)


def manifest_anew(data: Path) -> None:
    """Let the manifest of a changed copy name what lies there now."""
    path = data / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["files"] = {
        each.relative_to(data).as_posix(): sha256(each.read_bytes()).hexdigest()
        for each in sorted(data.rglob("*"))
        if each.is_file() and each != path
    }
    path.write_text(json.dumps(manifest))


def evaluated(model: Model, task: Task, settings: Settings) -> Evaluation:
    """The evaluation that gates get of what stands in for a model."""
    import numpy as np

    from ..evaluation import Evaluation

    labels, cohorts = task.labels("val"), task.cohorts("val")
    scores = np.full(len(labels), 0.5) if model.scores is None else model.scores
    metrics = dict(
        model.metrics or {settings.metric: 0.5 if model.metric is None else model.metric}
    )
    return Evaluation(
        metrics, model.metric, model.problem, (scores, labels, cohorts), settings.fairness
    )
