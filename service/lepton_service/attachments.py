"""What a front end runs beside its gRPC listeners."""

from typing import Protocol


class Attachment(Protocol):
    """A port or a task that lives as long as its front end: the HTTP port, the metrics port."""

    async def start(self) -> None:
        """Begins; the gRPC listeners answer already, the model may still load.

        Raises:
            PortInUseError: its address cannot be listened on.
        """

    async def stop(self, grace: float) -> None:
        """Takes nothing new and ends, after `grace` seconds at most; may be called again with less while it waits."""
