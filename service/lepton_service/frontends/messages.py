"""What the first front end tells its siblings, over their standard input."""

import argparse
import asyncio
import os
import pickle
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True)
class Assignment:
    """The first message, pickled: both ends are the same program.

    Attributes:
        args: the command line, its ports resolved. index: of this front end. client: its name before the engine, new
            for every process.
    """

    args: argparse.Namespace
    index: int
    client: str


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """How things stand; sent at every change, one line of JSON each.

    Attributes:
        phase: name of a `Phase`. address: of the engine while it is ready. started: when its figures began to count,
            in seconds since the epoch. retry_after: seconds until the engine is started again. draining: the server
            ends once its streams have. now: it ends at once.
    """

    phase: str
    address: str = ""
    started: float = 0.0
    retry_after: float = 0.0
    draining: bool = False
    now: bool = False


def pack(assignment: Assignment) -> bytes:
    """The bytes of a first message."""
    data = pickle.dumps(assignment)
    return len(data).to_bytes(8, "little") + data


def receive(descriptor: int) -> Assignment:
    """Reads the first message, and not a byte more."""
    size = int.from_bytes(_exactly(descriptor, 8), "little")
    found = pickle.loads(_exactly(descriptor, size))
    assert isinstance(found, Assignment)
    return found


def _exactly(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = os.read(descriptor, size - len(data))
        if not chunk:
            raise EOFError("the first front end has gone")
        data += chunk
    return data


async def announcements(descriptor: int) -> asyncio.StreamReader:
    """A reader of the lines that follow."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    return reader
