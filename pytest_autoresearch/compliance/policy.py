"""
What becomes of each column before anything else sees the data: a typed policy, written in TOML or as structs.

    [columns.name]
    rule = "drop"

    [columns.customer]
    rule = "pseudonymise"

    [columns.age]
    rule = "bins"
    edges = [18, 30, 45, 60]

A column without a rule is refused, and so is a rule without a column: a table that has grown a column since the
policy was written is not passed on. :func:`.redaction.redact` applies a policy.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import msgspec

__all__ = [
    "Bins",
    "Drop",
    "Groups",
    "Keep",
    "Mask",
    "Policy",
    "PolicyError",
    "Pseudonymise",
    "Rule",
    "TruncateDate",
    "read_policy",
]


class PolicyError(ValueError):
    """A policy, a table or a key is not what it must be; the message names the column and the way out."""


class _Rule(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="rule"
):
    """A rule for one column."""


class Drop(_Rule, frozen=True, tag="drop"):
    """The column is left out. Its values can be looked for anywhere later (:mod:`.known`)."""

    remember: bool = True
    """Whether its values go into the set of known values."""


class Pseudonymise(_Rule, frozen=True, tag="pseudonymise"):
    """
    Each value becomes ``<key's name>.<32 hex digits>``: HMAC-SHA256 (RFC 2104), the first 128 bits.

    The same person has the same pseudonym as long as the key is the same, so pseudonyms are still personal data
    (GDPR, article 4(5) and recital 26): who has the key can recompute them, and they link rows.
    """

    domain: str = ""
    """Columns of one domain give one value one pseudonym; by default a column is its own domain."""
    remember: bool = True
    """As of :class:`Drop`."""


class Bins(_Rule, frozen=True, tag="bins"):
    """A number becomes the interval it lies in: ``<18``, ``18-30`` (30 excluded), ``>=60``."""

    edges: Annotated[tuple[float, ...], msgspec.Meta(min_length=1)]
    """Increasing."""
    minimum: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Rows that a value must have to be shown; rarer ones become ``other`` (k-anonymity of this column alone)."""
    other: str = "other"


class TruncateDate(_Rule, frozen=True, tag="truncate"):
    """A date or time becomes its decade, year, quarter, month or day."""

    to: Literal["decade", "year", "quarter", "month", "day"]
    minimum: Annotated[int, msgspec.Meta(ge=1)] = 1
    """As of :class:`Bins`."""
    other: str = "other"


class Groups(_Rule, frozen=True, tag="groups"):
    """A category becomes its group; one that no group names becomes ``other``."""

    groups: dict[str, tuple[str, ...]] = {}
    """Name of the group to its categories; none: every category is a group of its own, and ``minimum`` decides."""
    minimum: Annotated[int, msgspec.Meta(ge=1)] = 1
    """As of :class:`Bins`."""
    other: str = "other"


class Mask(_Rule, frozen=True, tag="mask"):
    """Free text in which every finding of the scanners, and every known value, is replaced by its kind."""


class Keep(_Rule, frozen=True, tag="keep"):
    """The column stays as it is. Its texts are scanned, and a finding refuses the table."""

    unchecked: bool = False
    """Whether a finding is let through: for a column that looks personal and is not. Say why beside it."""


Rule = Drop | Pseudonymise | Bins | TruncateDate | Groups | Mask | Keep


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A rule for every column."""

    columns: dict[str, Rule]

    def __post_init__(self) -> None:
        for name, rule in self.columns.items():
            if isinstance(rule, Bins) and any(not low < high for low, high in pairwise(rule.edges)):
                raise PolicyError(f"column {name!r}: edges {rule.edges!r} must increase")
            if isinstance(rule, Groups):
                named = [category for group in rule.groups.values() for category in group]
                twice = sorted({category for category in named if named.count(category) > 1})
                if twice:
                    raise PolicyError(f"column {name!r}: {twice!r} stand in more than one group")

    def check(self, columns: tuple[str, ...]) -> None:
        """
        Hold the columns of a table against the policy.

        :raises PolicyError: a column has no rule, or a rule has no column.
        """
        unlisted = [name for name in columns if name not in self.columns]
        if unlisted:
            raise PolicyError(
                f"unlisted column: {', '.join(map(repr, unlisted))} has no rule in the policy; give it one, "
                'or rule = "drop" if nothing needs it'
            )
        absent = [name for name in self.columns if name not in columns]
        if absent:
            raise PolicyError(
                f"the policy has a rule for {', '.join(map(repr, absent))}, and the table no such column: "
                "a renamed column would go by another rule; correct the policy"
            )


def read_policy(path: Path) -> Policy:
    """
    Read a policy from a TOML or JSON file.

    :raises PolicyError: it does not parse, has an unknown rule or key, or contradicts itself.
    """
    try:
        decode = msgspec.json.decode if path.suffix == ".json" else msgspec.toml.decode
        return decode(path.read_bytes(), type=Policy)
    except (msgspec.MsgspecError, PolicyError, ValueError) as error:
        raise PolicyError(f"{path.name!r} is not a policy: {error}") from error
