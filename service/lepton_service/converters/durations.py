"""google.protobuf.Duration and Timestamp to and from seconds."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

NANOS = 1_000_000_000


def seconds(duration: Duration) -> float:
    """A duration in seconds."""
    return float(duration.seconds + duration.nanos / NANOS)


def to_duration(value: float) -> Duration:
    """Seconds as a duration, to the microsecond; a negative one (clocks that were set back) becomes zero."""
    micros = max(0, round(value * 1_000_000))
    return Duration(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def to_timestamp(value: float) -> Timestamp:
    """Seconds since the epoch as a timestamp, to the microsecond."""
    micros = round(value * 1_000_000)
    return Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)
