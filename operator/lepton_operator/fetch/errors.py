"""What can go wrong with a fetch, each with the exit status that the operator reads."""

from lepton_operator.fetch import exits


class FetchError(Exception):
    """A fetch failed; the message says why in one sentence.

    Attributes:
        status: exit status.
    """

    status = exits.FAILED


class UnauthorizedError(FetchError):
    """The source wants other credentials."""

    status = exits.UNAUTHORIZED


class NotFoundError(FetchError):
    """The source has no such model, or no file of a model."""

    status = exits.NOT_FOUND


class FullError(FetchError):
    """The volume has no room."""

    status = exits.FULL


class ChecksumError(FetchError):
    """A file is not what the source says it is."""

    status = exits.CHECKSUM


class UnavailableError(FetchError):
    """The source does not answer, or breaks off again and again."""

    status = exits.UNAVAILABLE


class ChangedError(FetchError):
    """The source is not the revision that was asked for any more."""

    status = exits.CHANGED
