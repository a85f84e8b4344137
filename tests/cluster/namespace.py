"""A network namespace for a cluster: real sockets answer at pods' addresses, and the machine's network sees none of it.

A keeper process holds the namespace. Programs enter it by `nsenter`; the test process stays outside and gets
connections to the inside as open sockets, which the keeper makes and passes over a Unix socket. Root needs nothing
else; other users need unprivileged user namespaces.
"""

import array
import os
import selectors
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

POD_RANGE = "10.244.0.0/16"


class NamespaceError(Exception):
    """No network namespace can be made here; the text says why."""


class Namespace:
    """One network namespace with loopback up, in which all of POD_RANGE is local.

    Raises:
        NamespaceError: this machine does not let us.
    """

    def __init__(self, folder: Path) -> None:
        self._socket = tempfile.mktemp(prefix="dial-", dir=folder)
        own_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self._enter_user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        command = ["unshare", *own_user, "--net", sys.executable, "-I", "-S", __file__, self._socket]
        try:
            self.keeper = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                text=True,
            )
        except OSError as error:
            raise NamespaceError(f"no network namespace: {error}") from error
        assert self.keeper.stdout is not None
        assert self.keeper.stderr is not None
        if self.keeper.stdout.readline() != "ready\n":
            raise NamespaceError(f"no network namespace: {self.keeper.stderr.read().strip()}")

    def command(self, *words: str) -> list[str]:
        """A command line that runs these words inside, in the same process."""
        return ["nsenter", "--target", str(self.keeper.pid), *self._enter_user, "--net", *words]

    def connect(self, host: str, port: int) -> socket.socket:
        """A TCP connection to an address of the inside. Raises: ConnectionError."""
        with socket.socket(socket.AF_UNIX) as keeper:
            keeper.connect(self._socket)
            keeper.sendall(f"{host} {port}".encode())
            answer, descriptors, _, _ = socket.recv_fds(keeper, 256, 1)
        if not descriptors:
            raise ConnectionRefusedError(f"{host}:{port} inside the namespace: {answer.decode()}")
        return socket.socket(fileno=descriptors[0])

    def close(self) -> None:
        """Let go of the namespace; the kernel removes it when its last process has ended."""
        assert self.keeper.stdin is not None
        self.keeper.stdin.close()
        self.keeper.wait()


def keep(path: str) -> None:
    """The keeper: runs inside, until its standard input closes."""
    for command in ("ip link set lo up", f"ip route add local {POD_RANGE} dev lo"):
        done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{command}: {done.stderr.strip()}")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        print("ready", flush=True)
        selector = selectors.DefaultSelector()
        selector.register(listener, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    return
                client, _ = listener.accept()
                with client:
                    dial(client)


def dial(client: socket.socket) -> None:
    """Connect where a client asks to, and give it the open socket; or the reason why not."""
    host, port = client.recv(256).decode().split()
    try:
        with socket.create_connection((host, int(port)), timeout=5) as made:
            made.setblocking(True)
            client.sendmsg([b"ok"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [made.fileno()]))])
    except OSError as error:
        client.sendall(str(error).encode()[:256])


if __name__ == "__main__":
    keep(sys.argv[1])
