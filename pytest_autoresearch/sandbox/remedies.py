"""
What to do when an isolation level does not hold: the exact command, from what this machine says.
"""

from __future__ import annotations

from pathlib import Path

from .spec import Isolation

__all__ = ["namespace_remedy", "remedy"]

SWITCHES = (
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("user/max_user_namespaces", "0", "15000"),
)
"""Settings that forbid user namespaces: below /proc/sys, the forbidding value, the other one."""
DOCKER = (
    "inside Docker start the container with: --security-opt seccomp=unconfined --security-opt "
    "apparmor=unconfined --security-opt systempaths=unconfined; or choose isolation 'kernel'"
)
OPTIONS = {
    "write": "mount it read-only: --volume={readonly}:{readonly}:ro --read-only",
    "new file": "mount it read-only: --volume={readonly}:{readonly}:ro --read-only",
    "connect": "give the container no network: --network=none",
    "send": "give the container no network: --network=none",
    "datagrams": "give the container no network: --network=none",
    "effective capabilities": "--cap-drop=ALL",
    "no new privileges": "--security-opt=no-new-privileges",
    "user id": "--user=65534:65534, with a writable directory that this user owns",
    "kernel's user id": "--user=65534:65534, with a writable directory that this user owns",
    "daemon": "the launcher must take the container with it when it is killed: podman run --rm "
    "--init does, docker run does not",
    "read": "mount only {readonly} and {writable}",
    "environment": "pass only --env={env}",
}
"""What a container's launcher lacks, by the first words of the failing attempt."""


def namespace_remedy(settings: Path = Path("/proc/sys")) -> str:
    """The command that allows user namespaces here."""
    for name, forbidding, allowing in SWITCHES:
        path = settings / name
        if path.exists() and path.read_text("ascii").strip() == forbidding:
            return f"sudo sysctl -w {name.replace('/', '.')}={allowing}"
    return DOCKER


def remedy(level: Isolation, failure: str) -> str:
    """The way out of a failure of the self-test."""
    if level is Isolation.CONTAINER:
        for words, option in OPTIONS.items():
            if failure.startswith(words):
                return f"add to the container's launcher: {option}"
        return "run the launcher by hand and see what it says"
    if failure.startswith("bwrap:"):
        return namespace_remedy()
    if ": " in failure and "must be" in failure:
        return (
            f"the kernel does not enforce what level {level.value!r} stands on: choose another level "
            f"with --autoresearch-sandbox, and report the line above"
        )
    return "this names what is missing; 'autoresearch doctor' lists the levels that work here"
