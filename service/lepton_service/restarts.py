"""When an engine that has ended is started again."""

from dataclasses import dataclass

LONGEST_DELAY_SECONDS = 8.0


@dataclass
class RestartPolicy:
    """Exponential backoff: at once, then after `first_delay` seconds, twice that, and so on.

    Attributes:
        longest_delay: the delay grows to this and no further, so that service returns within it and the load time.
        healthy_after: an engine that was ready for this many seconds begins at no delay again.
        max_failed_starts: so many starts in a row that never became ready are the end: the process exits, and what
            runs it (kubelet) decides. An engine that becomes ready and dies again is restarted without end.
    """

    first_delay: float = 0.5
    longest_delay: float = LONGEST_DELAY_SECONDS
    healthy_after: float = 60.0
    max_failed_starts: int = 5
    failures: int = 0
    failed_starts: int = 0

    def after_end(self, ready_seconds: float | None) -> float | None:
        """How long to wait before the next start, in seconds; None when there is to be none.

        Args:
            ready_seconds: how long the engine was ready; None when it never was.
        """
        if ready_seconds is None:
            self.failed_starts += 1
            if self.failed_starts >= self.max_failed_starts:
                return None
        else:
            self.failed_starts = 0
            if ready_seconds >= self.healthy_after:
                self.failures = 0
        self.failures += 1
        return 0.0 if self.failures == 1 else min(self.longest_delay, self.first_delay * 2.0 ** (self.failures - 2))
