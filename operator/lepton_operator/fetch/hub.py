"""The Hugging Face Hub."""

from collections.abc import Iterator
from typing import Any

from lepton_operator.fetch.errors import FetchError, NotFoundError, UnauthorizedError, UnavailableError
from lepton_operator.fetch.source import Checksum, Credentials, RemoteFile, Snapshot, wanted

TIMEOUT = 30.0


class HubSource:
    """A repository of models at a branch, tag or commit.

    Args:
        endpoint: address of the Hub; None for $HF_ENDPOINT or the public one.
    """

    def __init__(self, repo: str, revision: str, endpoint: str | None, credentials: Credentials) -> None:
        from huggingface_hub import HfApi

        self._repo, self._revision = repo, revision
        self._token = credentials.get("token")
        # False: a token of whoever runs this is not sent.
        self._api = HfApi(endpoint=endpoint, token=self._token or False)

    def snapshot(self) -> Snapshot:
        """The commit, and its files. See Source."""
        from huggingface_hub.errors import HfHubHTTPError

        try:
            info = self._api.model_info(self._repo, revision=self._revision, files_metadata=True, timeout=TIMEOUT)
        except HfHubHTTPError as error:
            raise self._explain(error) from error
        except OSError as error:
            raise UnavailableError(f"the Hub does not answer: {error}") from error
        except Exception as error:  # The client's transport has errors of its own, whose types differ by version.
            if _is_transport(error):
                raise UnavailableError(f"the Hub does not answer: {error}") from error
            raise
        siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
        commit = info.sha or ""
        files = tuple(_file(siblings[path], commit) for path in wanted(sorted(siblings)))
        if not files or not commit:
            raise NotFoundError(f"{self._repo}@{self._revision} has no files of a model")
        return Snapshot(commit, files)

    def read(self, file: RemoteFile, offset: int) -> Iterator[bytes]:
        """See Source."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError
        from huggingface_hub.utils._headers import build_hf_headers
        from huggingface_hub.utils._http import get_session, hf_raise_for_status

        commit, _, path = file.handle.partition(":")
        url = hf_hub_url(self._repo, path, revision=commit, endpoint=self._api.endpoint)
        # Encoded content could not be read from an offset.
        headers = {**build_hf_headers(token=self._token or False), "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        try:
            with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=True) as response:
                hf_raise_for_status(response)
                if offset and response.status_code != 206:
                    raise OSError(f"{path}: the server knows no ranges")
                yield from response.iter_bytes()  # as they come: what has come before a break is kept
        except HfHubHTTPError as error:
            raise self._explain(error) from error
        except Exception as error:  # As above.
            if _is_transport(error):
                raise OSError(f"{path}: {error}") from error
            raise

    def _explain(self, error: Any) -> Exception:
        status = getattr(error.response, "status_code", 0)
        name = f"{self._repo}@{self._revision}"
        kind = type(error).__name__
        if kind in ("GatedRepoError", "DisabledRepoError") or status == 403:
            return UnauthorizedError(f"{name} is gated: the token in secretRef has no access to it")
        if status == 401:
            # The Hub answers so for repositories that are private and for those that don't exist.
            return UnauthorizedError(f"{name} does not exist, or wants a token: set model.secretRef")
        if kind in ("RepositoryNotFoundError", "RevisionNotFoundError") or status == 404:
            return NotFoundError(f"{name} does not exist")
        return UnavailableError(f"the Hub answered {status}: {error}") if status >= 500 else FetchError(str(error))


def _file(sibling: Any, commit: str) -> RemoteFile:
    checksum = None
    if sibling.lfs is not None:
        checksum = Checksum("sha256", sibling.lfs.sha256)
    elif sibling.blob_id:
        checksum = Checksum("git", sibling.blob_id)
    return RemoteFile(sibling.rfilename, sibling.size, checksum, f"{commit}:{sibling.rfilename}")


def _is_transport(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in (
        "httpx",
        "httpx2",
        "httpcore",
        "httpcore2",
        "requests",
        "urllib3",
    )
