"""
Group 10, the network: a local listener stands for whatever a run would talk to.

What is covered: T111, T112 and T94 over TCP, UDP (a name server's port is one), IPv6, abstract and file sockets, raw
and hypervisor sockets; T113, what an artifact and a log could carry out, where an agent's prompt is made.
What is not covered: an agent's own network, which ``[tool.autoresearch.agent] network`` may allow; at level
``kernel`` as root, sockets in the file system that every user may connect to, before Landlock's ABI 9.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from redteam.inside import Deed, Ran, Scene, assert_stopped, assert_works


@dataclass
class Listeners:
    """Sockets that hear an attack."""

    sockets: tuple[socket.socket, ...]

    def heard(self) -> bool:
        """Whether a datagram or a connection has arrived."""
        for listener in self.sockets:
            try:
                if listener.type == socket.SOCK_DGRAM:
                    listener.recv(1000)
                else:
                    listener.accept()[0].close()
            except BlockingIOError:
                continue
            return True
        return False


@pytest.fixture
def net(scene: Scene) -> Iterator[Scene]:
    with ExitStack() as stack:
        enter = stack.enter_context
        tcp = enter(socket.create_server(("127.0.0.1", 0)))
        tcp6 = enter(socket.create_server(("::1", 0), family=socket.AF_INET6))
        udp = enter(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        abstract = enter(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0{scene.place}")
        private = scene.place / "private"
        private.mkdir(mode=0o755)
        file = enter(socket.socket(socket.AF_UNIX))
        file.bind(str(private / "docker.sock"))
        datagrams = enter(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        datagrams.bind(str(private / "log"))
        listeners = (tcp, tcp6, udp, abstract, file, datagrams)
        for listener in listeners:
            listener.setblocking(False)
            if listener.type == socket.SOCK_STREAM:
                listener.listen()
        scene.names |= {
            "TCP": tcp.getsockname()[1],
            "TCP6": tcp6.getsockname()[1],
            "UDP": udp.getsockname()[1],
            "ABSTRACT": f"\0{scene.place}",
            "FILE": str(private / "docker.sock"),
            "LOG": str(private / "log"),
        }
        scene.listeners = Listeners(listeners)  # type: ignore[attr-defined]
        yield scene


def heard(scene: Scene, ran: Ran) -> bool:
    """A listener heard of the run."""
    found: Listeners = scene.listeners  # type: ignore[attr-defined]
    return found.heard()


DEEDS = (
    Deed(
        "uploads by TCP",
        ("T111", "T112"),
        "attempt(lambda: socket.create_connection(('127.0.0.1', TCP)).send(b'x'))",
        heard,
    ),
    Deed(
        "uploads by TCP over IPv6",
        ("T111", "T112"),
        "attempt(lambda: socket.create_connection(('::1', TCP6)).send(b'x'))",
        heard,
    ),
    Deed(
        "asks a name server",
        ("T111",),
        "attempt(lambda: socket.socket(2, 2).sendto(b'labels.example.org', ('127.0.0.1', UDP)))",
        heard,
    ),
    Deed(
        "asks a name server with a connected socket",
        ("T111",),
        "s = attempt(lambda: socket.socket(2, 2)); attempt(lambda: (s.connect(('127.0.0.1', UDP)), s.send(b'x')))",
        heard,
    ),
    Deed(
        "opens a connection with its first data",
        ("T111",),
        # TCP fast open connects by sendto, which a rule on connect alone does not see.
        "attempt(lambda: socket.socket(2, 1).sendto(b'x', 0x20000000, ('127.0.0.1', TCP)))",
        heard,
    ),
    Deed(
        "talks to an abstract socket",
        ("T94",),
        "attempt(lambda: socket.socket(1).connect(ABSTRACT))",
        heard,
    ),
    Deed(
        "starts a program that has the network",
        ("T111", "T114"),
        "attempt(lambda: subprocess.run([sys.executable, '-c', f'import socket; socket.create_connection((\"127.0.0.1\", {TCP}))']))",
        heard,
    ),
)
#: Sockets in the file system, where the directory is closed to other users or the connection is refused.
FILES = (
    Deed(
        "talks to a socket file", ("T94",), "attempt(lambda: socket.socket(1).connect(FILE))", heard
    ),
    Deed(
        "sends to a socket file without connecting",
        ("T94",),
        "attempt(lambda: socket.socket(1, 2).sendto(b'x', LOG))",
        heard,
    ),
)


@pytest.mark.parametrize("deed", [*DEEDS, *FILES], ids=str)
def test_nobody_hears_of_a_run(deed: Deed, net: Scene, level: str) -> None:
    if deed in FILES:
        # As of a user's session: nobody else may enter. Level strong does not even show it.
        (net.place / "private").chmod(0o700 if level == "kernel" and os.geteuid() == 0 else 0o755)
    assert_stopped(net, deed, level)
    assert not heard(net, Ran("", net.place))


@pytest.mark.parametrize("deed", [*DEEDS, *FILES], ids=str)
def test_control_an_unguarded_run_is_heard(deed: Deed, net: Scene) -> None:
    assert_works(net, deed)


def test_a_run_cannot_listen_for_others(net: Scene, level: str) -> None:
    """T112: nobody outside gets through to what a run serves."""
    listens = """
    def serve():
        server = socket.socket(2, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        print("serving", server.getsockname()[1], flush=True)
        server.settimeout(1)
        server.accept()
        print("connected", flush=True)
    attempt(serve)
    """
    ran = net.guarded(listens, level)
    assert "connected" not in ran.log
