"""
Statements of kept findings and their envelopes: what they say, that they are in-toto's, and who signed them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from provenance import TAG, Campaign
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey
from test_vcs import git

from pytest_autoresearch import cli
from pytest_autoresearch.attestation import encode_statement, kept_findings, statement
from pytest_autoresearch.envelope import (
    PAYLOAD_TYPE,
    EnvelopeError,
    KeyFileError,
    key_id,
    open_envelope,
    pae,
    private_key,
    public_key,
    seal_envelope,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Keeps at 1, 3 (rolled back to 1) and 8; read only."""
    return Campaign.create(tmp_path_factory.mktemp("attested") / "project").whole()


@pytest.fixture(scope="module")
def made(campaign: Campaign) -> dict[int, dict[str, Any]]:
    return {
        kept.seq: statement(kept, tag=TAG, repository=campaign.repository)
        for kept in kept_findings(campaign.journal)
    }


# ---- the statement


def test_findings_are_the_keeps_and_rolled_back_ones_do_not_stand(campaign: Campaign) -> None:
    found = [(kept.seq, kept.standing) for kept in kept_findings(campaign.journal)]
    assert found == [(1, True), (3, False), (8, True)]


def test_a_statement_has_the_shape_that_in_toto_and_slsa_ask_for(
    made: dict[int, dict[str, Any]],
) -> None:
    """in-toto Statement v1, ResourceDescriptor and DigestSet; SLSA Provenance v1, required fields."""
    uri = re.compile(r"[a-z][a-z0-9+.-]*:\S+")
    rfc3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
    hexadecimal = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
    for each in made.values():
        assert set(each) == {"_type", "subject", "predicateType", "predicate"}
        definition, details = each["predicate"]["buildDefinition"], each["predicate"]["runDetails"]
        for text in (
            each["_type"],
            each["predicateType"],
            definition["buildType"],
            details["builder"]["id"],
        ):
            assert uri.fullmatch(text)
        assert set(definition) == {
            "buildType", "externalParameters", "internalParameters", "resolvedDependencies",
        }  # fmt: skip
        assert set(details) == {"builder", "metadata", "byproducts"}
        assert rfc3339.fullmatch(details["metadata"]["startedOn"])
        assert rfc3339.fullmatch(details["metadata"]["finishedOn"])
        resources = [*each["subject"], *definition["resolvedDependencies"], *details["byproducts"]]
        assert len(each["subject"]) == 3
        for one in resources:
            assert set(one) <= {"name", "digest", "annotations"}
            assert one["digest"]
            assert set(one["digest"]) <= {"gitCommit", "gitTree", "gitBlob", "sha256"}
            assert all(hexadecimal.fullmatch(value) for value in one["digest"].values())


def test_a_statement_names_the_things_themselves(
    campaign: Campaign, made: dict[int, dict[str, Any]]
) -> None:
    """Recomputed with git and from the files, not from the rows."""
    commit, model, surface = made[8]["subject"]
    assert commit["digest"] == {"gitCommit": git(campaign.root, "rev-parse", campaign.branch)}
    path = campaign.directory / "runs" / "000008" / "model.pt2"
    assert model == {
        "name": "model.pt2",
        "digest": {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
    }
    content = git(campaign.root, "show", f"{campaign.branch}:train.py").encode() + b"\n"
    assert surface["digest"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert surface["digest"]["gitBlob"] == git(
        campaign.root, "rev-parse", f"{campaign.branch}:train.py"
    )
    source, cutover, verdict = made[8]["predicate"]["runDetails"]["byproducts"]
    for each, name in ((source, "restore-source.jsonl"), (cutover, "cutover-audit.jsonl")):
        line = campaign.lines(name)[each["annotations"]["seq"]]
        assert each["digest"] == {"sha256": hashlib.sha256(line).hexdigest()}
    assert verdict["annotations"]["gates"] == {"g.py::a": "passed", "g.py::b": "passed"}


def test_the_audit_split_stays_sealed(campaign: Campaign) -> None:
    """An agent that could read it from a statement would fit it."""
    import msgspec

    kept = next(kept_findings(campaign.journal))
    runs = tuple(msgspec.structs.replace(run, audit=0.123456789) for run in kept.verdict.runs)
    after = msgspec.structs.replace(kept.verdict.after, audit=0.123456789)
    verdict = msgspec.structs.replace(kept.verdict, runs=runs, after=after, gap=0.123456789)
    body = encode_statement(
        statement(
            type(kept)(**{**vars(kept), "verdict": verdict}),
            tag=TAG,
            repository=campaign.repository,
        )
    )
    assert b"0.123456789" not in body
    assert b"0.31" in body  # the control: the other split's is there


def test_made_twice_it_is_the_same_bytes(
    campaign: Campaign, made: dict[int, dict[str, Any]]
) -> None:
    again = [
        statement(kept, tag=TAG, repository=campaign.repository)
        for kept in kept_findings(campaign.journal)
    ]
    assert [encode_statement(one) for one in again] == [
        encode_statement(one) for one in made.values()
    ]


# ---- the envelope


def test_the_encoding_is_that_of_the_specification() -> None:
    """DSSE v1.0.0, protocol.md, "Test Vectors": the encoding, and a signature over it by its authors' key."""
    encoded = pae("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    numbers = ec.EllipticCurvePublicNumbers(
        46950820868899156662930047687818585632848591499744589407958293238635476079160,
        5640078356564379163099075877009565129882514886557779369047442380624545832820,
        ec.SECP256R1(),
    )
    text = (
        "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="
    )
    raw = base64.b64decode(text)
    signature = utils.encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    numbers.public_key().verify(signature, encoded, ec.ECDSA(SHA256()))  # raises unless it holds


def test_lengths_are_those_of_the_bytes() -> None:
    assert pae("ä", b"\xff\x00") == b"DSSEv1 2 \xc3\xa4 2 \xff\x00"
    assert pae("", b"") == b"DSSEv1 0  0 "


def test_another_implementation_opens_what_is_sealed(made: dict[int, dict[str, Any]]) -> None:
    body = encode_statement(made[1])
    sealed = seal_envelope(body, KEY)
    known = SSlibKey.from_crypto(KEY.public_key())
    envelope = Envelope.from_dict(json.loads(sealed))
    assert envelope.verify([known], 1) == {key_id(KEY.public_key()): known}
    assert envelope.payload == body
    with pytest.raises(VerificationError):
        Envelope.from_dict(json.loads(sealed)).verify([SSlibKey.from_crypto(OTHER.public_key())], 1)


def test_what_another_implementation_seals_is_opened() -> None:
    from securesystemslib.signer import CryptoSigner

    envelope = Envelope(b"{}", PAYLOAD_TYPE, {})
    envelope.sign(CryptoSigner(KEY))
    assert open_envelope(json.dumps(envelope.to_dict()).encode(), KEY.public_key()) == b"{}"


def sealed(body: bytes = b'{"a":"?>~\xc3\xbf"}') -> dict[str, Any]:
    found: dict[str, Any] = json.loads(seal_envelope(body, KEY))
    return found


def retyped(envelope: dict[str, Any]) -> None:
    """Signed as such, and still no statement."""
    body = base64.b64decode(envelope["payload"])
    envelope["payloadType"] = "application/json"
    signature = KEY.sign(pae("application/json", body))
    envelope["signatures"][0]["sig"] = base64.b64encode(signature).decode()


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another payload": (lambda e: e.update(payload="e30="), "none of its 1 signatures"),
    "another type": (
        lambda e: e.update(payloadType="application/json"),
        "none of its 1 signatures",
    ),
    "another type, signed": (retyped, "its payload is 'application/json'"),
    "no signature": (lambda e: e.update(signatures=[]), "none of its 0 signatures"),
    "an empty signature": (lambda e: e["signatures"][0].update(sig=""), "none of its 1 signatures"),
    "no base64": (lambda e: e.update(payload="?"), "it is no DSSE envelope"),
    "no text": (lambda e: e.update(payloadType=1), "it is no DSSE envelope"),
    "nothing": (lambda e: e.clear(), "it is no DSSE envelope"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_altered_envelope_is_refused(name: str) -> None:
    change, words = CHANGES[name]
    envelope = sealed()
    assert open_envelope(json.dumps(envelope).encode(), KEY.public_key())
    change(envelope)
    with pytest.raises(EnvelopeError, match=re.escape(words)):
        open_envelope(json.dumps(envelope).encode(), KEY.public_key())


def test_what_no_signature_covers_is_free() -> None:
    """The key id is a hint; the other alphabet and further signatures are allowed."""
    envelope = sealed()
    first = envelope["signatures"][0]
    first["keyid"] = "somebody else"
    first["sig"] = first["sig"].replace("+", "-").replace("/", "_")
    envelope["payload"] = envelope["payload"].replace("+", "-").replace("/", "_")
    assert set("-_") & set(envelope["payload"])
    envelope["signatures"].insert(0, {"sig": base64.b64encode(bytes(64)).decode()})
    assert open_envelope(json.dumps(envelope).encode(), KEY.public_key()).startswith(b'{"a"')
    with pytest.raises(EnvelopeError):
        open_envelope(json.dumps(envelope).encode(), OTHER.public_key())


# ---- keys and the command


def written(directory: Path) -> dict[str, Path]:
    """A pair of keys in PEM and one in OpenSSH's format."""
    pem = serialization.Encoding.PEM
    pkcs8, spki = serialization.PrivateFormat.PKCS8, serialization.PublicFormat.SubjectPublicKeyInfo
    files = {name: directory / name for name in ("key.pem", "pub.pem", "ssh", "ssh.pub", "rsa")}
    files["key.pem"].write_bytes(KEY.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    files["pub.pem"].write_bytes(KEY.public_key().public_bytes(pem, spki))
    openssh = serialization.PrivateFormat.OpenSSH
    files["ssh"].write_bytes(KEY.private_bytes(pem, openssh, serialization.NoEncryption()))
    line = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    files["ssh.pub"].write_bytes(KEY.public_key().public_bytes(*line) + b" comment\n")
    elliptic = ec.generate_private_key(ec.SECP256R1())
    files["rsa"].write_bytes(elliptic.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    return files


def test_keys_are_read_in_either_format(tmp_path: Path) -> None:
    files = written(tmp_path)
    for name in ("key.pem", "ssh"):
        assert private_key(files[name]).private_bytes_raw() == KEY.private_bytes_raw()
    for name in ("pub.pem", "ssh.pub"):
        assert public_key(files[name]) == KEY.public_key()
    for name in ("rsa", "pub.pem", "absent"):
        with pytest.raises(KeyFileError):
            private_key(files.get(name, tmp_path / name))
    with pytest.raises(KeyFileError):
        public_key(files["key.pem"])


def test_the_command_attests_what_stands_and_checks_it(
    campaign: Campaign,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = written(tmp_path)
    copy = campaign.copy(tmp_path / "project")
    monkeypatch.chdir(copy.root)
    assert cli.main(["attest", "--key", str(files["ssh"])]) == 0
    directory = copy.directory / "attestations"
    names = sorted(path.name for path in directory.iterdir())
    assert names == ["test-000001.intoto.jsonl", "test-000008.intoto.jsonl"]
    check = ["attest", "--check", str(directory / names[1]), "--key"]
    assert cli.main([*check, str(files["ssh.pub"])]) == 0
    assert (
        f"gitCommit {git(copy.root, 'rev-parse', copy.branch)}  {copy.branch}"
        in capsys.readouterr().out
    )
    (tmp_path / "other.pub").write_bytes(
        OTHER.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
    )
    assert cli.main([*check, str(tmp_path / "other.pub")]) == 1
    (tmp_path / "stranger").write_bytes(seal_envelope(b'{"_type": 1}', KEY))
    assert (
        cli.main(["attest", "--check", str(tmp_path / "stranger"), "--key", str(files["pub.pem"])])
        == 1
    )
    assert "it is no statement of a finding" in capsys.readouterr().out

    assert cli.main(["attest", "3", "--key", str(files["ssh"])]) == 2
    assert "3 was rolled back: the campaign stands on 1, 8" in capsys.readouterr().err
    inside = copy.root / ".autoresearch" / "key"
    inside.write_bytes(files["ssh"].read_bytes())
    assert cli.main(["attest", "--key", str(inside)]) == 2
    assert "within an agent's reach" in capsys.readouterr().err


def test_a_campaign_that_does_not_verify_is_not_attested(
    campaign: Campaign,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = written(tmp_path)
    copy = campaign.copy(tmp_path / "project")
    (copy.directory / "runs" / "000001" / "model.pt2").write_bytes(b"other weights")
    monkeypatch.chdir(copy.root)
    assert cli.main(["attest", "--key", str(files["ssh"])]) == 1
    assert "BLOCK: artifact hash mismatch" in capsys.readouterr().out
    assert not (copy.directory / "attestations").exists()


def test_without_the_extra_it_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from pytest_autoresearch.envelope import *\n"
        "from pathlib import Path\n"
        "try: private_key(Path('x'))\n"
        "except KeyFileError as error: print(error)\n"
    )
    import sys

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "pip install 'pytest-autoresearch[sign]'" in done.stdout
