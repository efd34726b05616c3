"""
A container launcher of the kind that a user supplies, made of bubblewrap, and a session started by an ordinary user.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from project import LEAN, Project, Result

from pytest_autoresearch.sandbox import launcher, seccomp, strong, view

USER = 54321

_LAUNCHER = """\
import os, sys
words, user = {words!r}, {user!r}
given, program = sys.argv[1:sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1:]
for word in given:
    name, _, value = word.partition("=")
    if name == "--setenv":
        user += [name, *value.split("=", 1)]
    elif name == "--chdir":
        user += [name, value]
    else:
        words += [name, value, value]
words += ["--remount-ro", "/", "--clearenv", "--setenv", "LANG", "C.UTF-8", *user]
descriptor = os.open({filter!r}, os.O_RDONLY)
os.set_inheritable(descriptor, True)
os.execv(words[0], [*words, "--seccomp", str(descriptor), "--", *program])
"""
_AS_USER = """\
import os, sys
from pytest_autoresearch.sandbox import launcher
user, directory, reach, command = int(sys.argv[1]), sys.argv[2], sys.argv[3].split(":"), sys.argv[4:]
launcher.reach([*reach, directory])
launcher.give(directory, user)
launcher.become(user)
os.environ["HOME"] = directory
os.execv(command[0], command)
"""


def container(directory: Path, *, network: bool = False, whole: bool = False) -> tuple[str, ...]:
    """
    The launcher's command, with its program in ``directory``.

    :param whole: as sessions use it, with environment and working directory; the self-test alone needs neither.
    """
    links, paths = view.system_files()
    words = [strong.bubblewrap(), "--unshare-user", "--unshare-pid", "--unshare-ipc"]
    words += ["--die-with-parent", "--new-session", *([] if network else ["--unshare-net"])]
    words += ["--cap-drop", "ALL", "--uid", "1000", "--proc", "/proc", "--dev", "/dev"]
    for path, target in links:
        words += ["--symlink", target, path]
    for path in (*paths, *view.interpreter_directories()):
        words += ["--ro-bind", path, path]
    program, filtered = directory / "container.py", directory / "container.bpf"
    filtered.write_bytes(seccomp.filter_path("strong").read_bytes())
    program.write_text(_LAUNCHER.format(words=words, user=[], filter=str(filtered)))
    return (
        *(sys.executable, "-I", "-S", str(program)),
        *("--ro-bind={readonly}", "--bind={writable}"),
        *(("--setenv={env}", "--chdir={cwd}") if whole else ()),
        "--",
    )


def as_ordinary_user(project: Project, *arguments: str) -> Result:
    """``pytest --autoresearch`` by somebody who is not root; root gives its place away and becomes one."""
    command = (sys.executable, "-P", "-m", "pytest", "--autoresearch", *arguments)
    if os.geteuid() != 0:
        return project.run(*command, env=LEAN)
    package = str(Path(launcher.__file__).parents[2])
    reach = ":".join((sys.prefix, sys.base_prefix, package))
    program = (sys.executable, "-c", _AS_USER, str(USER), str(project.root.parent), reach)
    return project.run(*program, *command, env=LEAN)
