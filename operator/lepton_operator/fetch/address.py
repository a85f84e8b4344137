"""Addresses of sources: hf://OWNER/NAME@REVISION, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, http(s)://..."""

from lepton_operator.fetch.source import Credentials, Source


def source_at(
    address: str, *, endpoint: str | None, region: str | None, sha256: str | None, credentials: Credentials
) -> Source:
    """The source at an address.

    Raises:
        ValueError: no such address; the message says what is allowed.
    """
    scheme, sign, rest = address.partition("://")
    if not sign or not rest:
        raise ValueError(
            f"{address!r} is no source: hf://OWNER/NAME, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or https://..."
        )
    match scheme:
        case "hf":
            from lepton_operator.fetch.hub import HubSource

            repo, _, revision = rest.partition("@")
            return HubSource(repo, revision or "main", endpoint, credentials)
        case "s3" | "gs":
            from lepton_operator.fetch import buckets

            bucket, _, prefix = rest.partition("/")
            if scheme == "s3":
                return buckets.s3(bucket, prefix, endpoint, region, credentials)
            return buckets.gcs(bucket, prefix, endpoint, credentials)
        case "http" | "https":
            from lepton_operator.fetch.web import WebSource

            return WebSource(address, sha256, credentials)
    raise ValueError(f"{scheme}:// is not known: hf, s3, gs, http and https are")
