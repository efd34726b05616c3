"""
Mid-loop gates: on the mutation, before it costs any compute.
"""

from __future__ import annotations


def test_candidate_can_be_parsed(candidate):
    assert not candidate.mutation.syntax_error, candidate.mutation.syntax_error


def test_only_the_surface_changed(candidate):
    breaches = candidate.breaches()
    assert not breaches, f"outside the surface: {breaches}"


def test_protected_parameters_are_untouched(candidate):
    touched = candidate.protected_touched()
    assert not touched, f"the mutation touches what is protected: {'; '.join(touched)}"


def test_budget_pays_for_the_mutation(candidate, budget):
    assert candidate.mutation.cost <= budget.remaining


def test_ledgers_verify(ledger):
    assert ledger.problem is None, ledger.problem
