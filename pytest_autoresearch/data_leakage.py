"""
What the data itself gives away of the held-out labels, for gates: before any model exists.

Each question is answered with sentences, one for each thing found; none found is an empty tuple. The answers follow
from the ratified harness and the data alone, both of which are pinned, so that a session need not find them again
which an earlier one has: when all gates of the pinned set have passed on the same two, the ledger's rows say so, and
these are hash-chained. Nothing else is remembered, so there is nothing to forge.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .evaluation import TOLD

if TYPE_CHECKING:
    import numpy as np

    from .campaign import Campaign
    from .scratch import Scratch
    from .settings import Settings
    from .task import Task

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["DataLeakage", "vouched_for"]

TRAIN, AUDIT = "train", "audit"
#: Standard errors of an excess of near-duplicates, and of a column's strength in one split over another.
ERRORS = 5.0


class DataLeakage:
    """
    The questions about prepare.py and its data.

    :param scratch: where data that is prepared again for other labels may lie; open while it is asked.
    :param known: whether the ledger says that all gates have passed on this harness and this data.
    """

    def __init__(self, task: Task, settings: Settings, scratch: Scratch, *, known: bool) -> None:
        self._task = task
        self._settings = settings
        self._rules = settings.leakage
        self._scratch = scratch
        self._known = known

    @property
    def unchecked(self) -> tuple[str, ...]:
        """What nobody looks at here, and why: a gate that has nothing to look at passes."""
        rules, audit = self._rules, self._settings.audit
        sequence = self._task.sequence is not None
        found = {
            "held-out label flip (prepare.py has no rebuild)": not self._task.rebuilds,
            "shuffled labels (leakage.permutation)": not rules.permutation,
            "shuffled labels, single columns (a sequence task)": sequence,
            "scoring audit (audit.rows)": not (audit.rows or (sequence and audit.prefixes)),
            "audit gap (prepare.py has no losses)": not self._task.has_losses,
            "audit gap (no audit split)": not self._task.has(AUDIT),
            "time order (leakage.time)": rules.time is None,
            "groups (leakage.group)": rules.group is None,
        }
        return tuple(what for what, holds in found.items() if holds)

    def near_duplicates(self) -> tuple[str, ...]:
        """Held-out splits with more rows nearly in the training split than a split at random gives."""
        return () if self._known else tuple(self._near_duplicates())

    def _near_duplicates(self) -> Iterator[str]:
        from .compliance.near_duplicates import near_duplicates, shared_windows

        limit, sequence = self._rules.near_duplicates, self._task.sequence
        for split in self._task.splits:
            heldout = self._task.features(split)
            if sequence is None:
                found = near_duplicates(self._training[0], heldout)
            else:
                tokens = self._training[0][sequence.tokens], heldout[sequence.tokens]
                found = (shared_windows(*tokens),)
            for counted in found:
                if counted.excess > limit and counted.errors > ERRORS:
                    yield (
                        f"{counted.rows} of {counted.n} rows of {split!r} ({counted.share:.1%}) are training rows "
                        f"but for {counted.kind}, where a split at random gives {counted.expected:.1%} "
                        f"({counted.errors:.1f} standard errors; at most {limit:.1%} more, or {ERRORS:g} errors)"
                    )

    def columns(self) -> tuple[str, ...]:
        """Columns that are too good: the answer itself, or made with the labels of one split."""
        if self._known or self._task.sequence is not None:
            return ()
        return (*self._too_strong(), *self._uneven())

    def _too_strong(self) -> Iterator[str]:
        from .compliance.column_strength import suspicious

        limit, seen = self._rules.column, set(self._rules.known_strong)
        for split in (TRAIN, TOLD):
            for column in suspicious(*self._split(split), limit):
                name = self._name(column.name)
                if seen.isdisjoint({column.name, name}):
                    seen.add(name)
                    yield (
                        f"column {name} alone explains {column.explained:.0%} of the labels of {split!r} (threshold "
                        f"{limit:.0%}), all unsuspicious ones together {column.others:.0%}: it is the label or made "
                        "from it; a person who knows better names it in leakage.known_strong"
                    )

    def _uneven(self) -> Iterator[str]:
        from .compliance.column_strength import differences

        for split in self._task.splits:
            if split == TOLD or not self._task.has(split) or not self._task.has(TOLD):
                continue
            for one, other in ((TOLD, split), (split, TOLD)):
                compared = differences(self._training, self._split(one), self._split(other))
                for column in compared:
                    if column.errors > ERRORS:
                        yield (
                            f"column {self._name(column.name)} says more about the labels of {one!r} than of "
                            f"{other!r} ({column.errors:.0f} standard errors, at most {ERRORS:g}): it was made with "
                            f"labels of {one!r}"
                        )

    def label_flip(self) -> tuple[str, ...]:
        """Columns that change when held-out labels are flipped; empty where prepare.py cannot be asked."""
        if self._known or not self._task.rebuilds:
            return ()
        return tuple(self._label_flip())

    def _label_flip(self) -> Iterator[str]:
        from .compliance.label_flip import changed_columns, flipped
        from .rebuild import all_labels, rebuilt

        scratch, seconds = self._scratch, self._settings.run.seconds
        labels = all_labels(self._task)
        other = {name: y if name == TRAIN else flipped(y) for name, y in labels.items()}
        made = rebuilt(self._task, other, scratch.fresh("flip"), seconds)
        found = []
        for split in labels:
            before, after = (
                task.training_features() if split == TRAIN else task.features(split)
                for task in (self._task, made)
            )
            found += [(split, changed) for changed in changed_columns(before, after)]
        if not found:
            return
        # The control: without a flip there is nothing to change.
        same = rebuilt(self._task, labels, scratch.fresh("again"), seconds)
        if any(changed_columns(self._training[0], same.training_features())):
            yield "prepare.rebuild() gives other features for the same labels: it must draw from fixed seeds"
            return
        for split, changed in found:
            yield (
                f"column {self._name(changed.name)} of {split!r} changes with held-out labels "
                f"({changed.rows} of {changed.n} rows): it was made with them, such as an encoding by the mean "
                "label over all rows; fit it on the training split"
            )

    def later_rows(self) -> tuple[str, ...]:
        """Splits before which the training split does not end; empty where no time is declared."""
        return tuple(self._later_rows()) if self._rules.time and not self._known else ()

    def _later_rows(self) -> Iterator[str]:
        from .compliance.order import later_rows

        for split, train, heldout in self._indexed(str(self._rules.time)):
            if later := later_rows(train, heldout):
                yield (
                    f"{later} of {len(train)} training rows ({later / len(train):.1%}) are later than the first row "
                    f"of {split!r} by {self._rules.time!r}, none may be: the model learns from the future"
                )

    def shared_groups(self) -> tuple[str, ...]:
        """Splits that share groups with the training split; empty where no group is declared."""
        return tuple(self._shared_groups()) if self._rules.group and not self._known else ()

    def _shared_groups(self) -> Iterator[str]:
        from .compliance.order import shared_groups

        for split, train, heldout in self._indexed(str(self._rules.group)):
            shared = shared_groups(train, heldout)
            if shared.groups:
                yield (
                    f"{shared.groups} values of {self._rules.group!r} stand in the training split and in {split!r} "
                    f"({shared.rows} of its {len(heldout)} rows), none may: the model meets them again"
                )

    def _indexed(self, name: str) -> Iterator[tuple[str, Array, Array]]:
        train = self._task.index(TRAIN, name)
        for split in self._task.splits:
            yield split, train, self._task.index(split, name)

    @cached_property
    def _training(self) -> tuple[dict[str, Array], Array]:
        return self._task.training_features(), self._task.training_labels()

    def _split(self, split: str) -> tuple[dict[str, Array], Array]:
        if split == TRAIN:
            return self._training
        return self._task.features(split), self._task.labels(split)

    def _name(self, column: str) -> str:
        """A column as people know it, by the schema's lists and tables of column names."""
        array, _, index = column.removesuffix("]").partition("[:, ")
        names = list(self._schema.get(array, ()))
        return repr(names[int(index)]) if index and int(index) < len(names) else repr(column)

    @cached_property
    def _schema(self) -> Mapping[str, Any]:
        try:
            found = json.loads((self._task.training_view / "schema.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return {key: value for key, value in found.items() if isinstance(value, list | dict)}


def vouched_for(campaign: Campaign) -> bool:
    """
    Whether all pinned gates have passed on today's harness and data, by the ledger.

    True after a whole baseline, or a keep, since either was last ratified; a session checks both against the pins.
    """
    state = campaign.state
    rows = state.settled.kept_since(state.judged_from)
    kept = any(row.kind == "verdict" for row in rows)
    return campaign.started and (bool(state.gates) or kept)
