"""A way between an operator and the API server that a test can cut, as a partition does: connections stay open.

Run as a program it listens on the first port and forwards to the second, and reads `cut` or `mend` from its standard
input. After `mend` the bytes that waited go on.
"""

import asyncio
import subprocess
import sys

from tests.cluster.control_plane import ControlPlane, free_ports


class Relay:
    """The test's side."""

    def __init__(self, plane: ControlPlane) -> None:
        (self.port,) = free_ports(1)
        target = plane.server.rpartition(":")[2]
        self._process = subprocess.Popen(
            plane.command(sys.executable, "-m", "tests.cluster.relay", str(self.port), target),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        plane.janitor.process(self._process.pid)
        self._answer("ready")

    @property
    def server(self) -> str:
        """The URL of the API server through here."""
        return f"https://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """No byte passes any more, in either direction."""
        self._tell("cut")

    def mend(self) -> None:
        """Bytes pass again."""
        self._tell("mend")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        self._answer(word)

    def _answer(self, word: str) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line == word + "\n", f"the relay said {line!r}"


async def relay(port: int, target: int) -> None:
    """Forward until standard input closes."""
    whole = asyncio.Event()
    whole.set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await whole.wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))

    async with await asyncio.start_server(forward, "127.0.0.1", port):
        print("ready", flush=True)
        lines = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := (await lines.readline()).decode().strip():
            if line == "cut":
                whole.clear()
            else:
                whole.set()
            print(line, flush=True)


if __name__ == "__main__":
    asyncio.run(relay(int(sys.argv[1]), int(sys.argv[2])))
