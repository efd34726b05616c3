"""
Microsoft Presidio as one more scanner: names of people and places, and its own patterns.

``pip install 'pytest-autoresearch[presidio]'`` brings the library; names are found by a spaCy model, which has to be
installed by itself (``python -m spacy download en_core_web_lg``) and named in ``pii.presidio_model``. Nothing
is downloaded here. Without a model its patterns work, and no name is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from .findings import Finding, merged, shape

__all__ = ["Presidio", "PresidioMissing"]

#: Presidio's entities under our kinds; any other keeps its name, in lower case.
_KINDS = {
    "CREDIT_CARD": "card",
    "EMAIL_ADDRESS": "email",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip",
    "MAC_ADDRESS": "mac",
    "PERSON": "person",
    "PHONE_NUMBER": "phone",
}
#: Entities that are no personal data by themselves: a log is full of dates and links.
_IMPERSONAL = frozenset({"DATE_TIME", "URL", "NRP"})
#: National ids by their country's prefix, such as ``ES_NIF``.
_COUNTRIES = (
    "US_",
    "UK_",
    "ES_",
    "IT_",
    "PL_",
    "SG_",
    "AU_",
    "IN_",
    "FI_",
    "KR_",
    "TH_",
    "DE_",
    "SE_",
)


class PresidioMissing(ImportError):
    """The library or its model is not installed; the message says what to install."""


class Presidio:
    """
    A :class:`.findings.Scanner` by ``presidio_analyzer.AnalyzerEngine``.

    :param model: name or path of an installed spaCy model; empty: a tokenizer alone, no names.
    :param score: least confidence of a finding, 0 to 1. Presidio gives a phone number 0.4, other patterns without
        check digit and without a word of their context less, those with one of them more.
    :raises PresidioMissing: library or model are not installed.
    """

    def __init__(self, model: str = "", language: str = "en", score: float = 0.4) -> None:
        try:
            import presidio_analyzer
            import spacy
            import tldextract
        except ImportError as error:
            raise PresidioMissing(
                "pii.presidio is on and Presidio is not installed: "
                "pip install 'pytest-autoresearch[presidio]', or set pii.presidio = false"
            ) from error
        # Presidio checks domains with it, and it would fetch its list from the network: it brings one along.
        tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=())
        self._library: Any = presidio_analyzer
        self._language = language
        self._score = score
        try:
            self._nlp = spacy.load(model) if model else spacy.blank(language)
        except OSError as error:
            raise PresidioMissing(
                f"the spaCy model {model!r} is not installed: python -m spacy download {model}"
            ) from error

    @cached_property
    def _engine(self) -> Any:
        from presidio_analyzer.nlp_engine import SpacyNlpEngine

        engine = SpacyNlpEngine(models=[{"lang_code": self._language, "model_name": "loaded"}])
        # Loading by itself, it would download what is missing.
        engine.nlp = {self._language: self._nlp}
        return self._library.AnalyzerEngine(nlp_engine=engine, supported_languages=[self._language])

    def __call__(self, text: str) -> Sequence[Finding]:
        """Findings in ``text``; a text longer than the model takes is cut at line ends."""
        found: list[Finding] = []
        at = 0
        for piece in _pieces(text, self._nlp.max_length):
            for result in self._engine.analyze(
                piece, language=self._language, score_threshold=self._score
            ):
                if result.entity_type in _IMPERSONAL:
                    continue
                start, end = at + result.start, at + result.end
                kind, scheme = _kind(result.entity_type)
                found.append(Finding(kind, (start, end), shape(text[start:end]), "", scheme))
            at += len(piece)
        return merged(found)


def _kind(entity: str) -> tuple[str, str]:
    if entity in _KINDS:
        return _KINDS[entity], "presidio"
    if entity.startswith(_COUNTRIES):
        return "national_id", f"presidio {entity.lower().replace('_', ' ')}"
    return entity.lower(), "presidio"


def _pieces(text: str, size: int) -> list[str]:
    """The text in pieces of at most ``size`` characters, at line ends where there are any."""
    pieces = []
    at = 0
    while len(text) - at > size:
        end = text.rfind("\n", at, at + size) + 1 or at + size
        pieces.append(text[at:end])
        at = end
    return [*pieces, text[at:]]
