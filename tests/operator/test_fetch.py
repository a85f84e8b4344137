"""`lepton fetch` against servers on loopback."""

import argparse
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lepton_operator.commands import fetch as command
from lepton_operator.fetch import exits
from lepton_operator.fetch.download import fetch
from lepton_operator.fetch.errors import ChangedError, ChecksumError, FetchError, FullError, UnavailableError
from lepton_operator.fetch.folder import Folder
from lepton_operator.fetch.source import Credentials, wanted
from tests.operator import fetch_servers
from tests.operator.fetch_servers import Server

MODEL = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": bytes(range(256)) * 4000,
    "sub/tokenizer.json": b"{}",
}
Serve = Callable[[str], Server]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith(("AWS_", "HF_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    started: list[Server] = []

    def start(kind: str) -> Server:
        server = Server(getattr(fetch_servers, kind))
        started.append(server)
        prefix = {"hub": "", "plain": ""}.get(kind, "llama/")
        server.files = {prefix + name: content for name, content in MODEL.items()}
        return server

    yield start
    for server in started:
        server.close()


ADDRESSES = {"hub": "hf://owner/name", "s3": "s3://bucket/llama", "gcs": "gs://bucket/llama"}


def source_of(kind: str, server: Server, address: str | None = None, **more: Any) -> Any:
    from lepton_operator.fetch.address import source_at

    given = {"endpoint": server.url, "region": None, "sha256": None, "credentials": Credentials(), **more}
    return source_at(address or ADDRESSES[kind], **given)


def no_wait(seconds: float) -> None:
    """Tests do not sleep."""


def read(folder: Path) -> dict[str, bytes]:
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    found.pop(".lepton.json", None)
    return found


@pytest.mark.parametrize("kind", ADDRESSES)
def test_a_model_is_fetched(serve: Serve, tmp_path: Path, kind: str) -> None:
    server = serve(kind)
    fetched = fetch(source_of(kind, server), tmp_path, "current", wait=no_wait)
    assert read(tmp_path / "current") == MODEL
    assert (tmp_path / "current").resolve() == tmp_path / "revisions" / fetched.revision
    assert not any((tmp_path / "staging").iterdir())
    if kind == "hub":
        assert fetched.revision == server.commit


@pytest.mark.parametrize("kind", ADDRESSES)
def test_what_is_there_is_not_fetched_again(serve: Serve, tmp_path: Path, kind: str) -> None:
    server = serve(kind)
    first = fetch(source_of(kind, server), tmp_path, wait=no_wait)
    server.requests.clear()
    assert fetch(source_of(kind, server), tmp_path, wait=no_wait) == first
    assert not [path for _, path, _ in server.requests if path.endswith(".safetensors")]


@pytest.mark.parametrize("kind", ["hub", "plain"])
def test_it_goes_on_where_the_connection_broke(serve: Serve, tmp_path: Path, kind: str) -> None:
    server = serve(kind)
    server.breaks, server.break_after = 3, 100_000
    address = None if kind == "hub" else f"{server.url}/model.safetensors"
    source = source_of(kind, server, address)
    fetch(source, tmp_path, "current", wait=no_wait)
    assert (tmp_path / "current" / "model.safetensors").read_bytes() == MODEL["model.safetensors"]
    ranges = [wanted for _, path, wanted in server.requests if path.endswith("model.safetensors") and wanted]
    assert ranges == ["bytes=100000-", "bytes=200000-", "bytes=300000-"]


def test_a_later_run_goes_on_too(serve: Serve, tmp_path: Path) -> None:
    server = serve("hub")
    server.breaks, server.break_after = 1, 100_000

    def fail_from_now_on(seconds: float) -> None:
        server.status = 503

    with pytest.raises(UnavailableError):
        fetch(source_of("hub", server), tmp_path, "current", wait=fail_from_now_on)
    server.status = None
    assert not (tmp_path / "current").exists()
    assert not (tmp_path / "revisions").exists(), "nothing half-finished is shown"
    server.requests.clear()
    fetch(source_of("hub", server), tmp_path, "current", wait=no_wait)
    assert [wanted for _, _, wanted in server.requests if wanted]
    assert read(tmp_path / "current") == MODEL


@pytest.mark.parametrize("kind", ADDRESSES)
def test_wrong_bytes_are_refused(serve: Serve, tmp_path: Path, kind: str) -> None:
    server = serve(kind)
    server.corrupt = {name for name in server.files if name.endswith("model.safetensors")}
    with pytest.raises(ChecksumError, match=r"model\.safetensors"):
        fetch(source_of(kind, server), tmp_path, wait=no_wait)
    assert not (tmp_path / "revisions").exists()


def test_small_files_of_the_hub_are_checked_too(serve: Serve, tmp_path: Path) -> None:
    server = serve("hub")
    server.corrupt = {"config.json"}
    with pytest.raises(ChecksumError, match=r"config\.json"):
        fetch(source_of("hub", server), tmp_path, wait=no_wait)


def test_a_changed_file_behind_http_is_refused(serve: Serve, tmp_path: Path) -> None:
    server = serve("plain")
    with pytest.raises(ChecksumError):
        fetch(source_of("plain", server, f"{server.url}/config.json", sha256="0" * 64), tmp_path, wait=no_wait)


def test_a_full_volume(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(total=100, used=90, free=10))
    with pytest.raises(FullError, match=r"10 bytes free, .*: raise cache\.size, or without a cache"):
        fetch(source_of("hub", serve("hub")), tmp_path, wait=no_wait)


def test_a_pinned_revision(serve: Serve, tmp_path: Path) -> None:
    server = serve("s3")
    found = source_of("s3", server).snapshot().revision
    server.files["llama/config.json"] = b"other"
    with pytest.raises(ChangedError, match=found):
        fetch(source_of("s3", server), tmp_path, revision=found, wait=no_wait)


def archive(names: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def test_an_archive_is_unpacked(serve: Serve, tmp_path: Path) -> None:
    server = serve("plain")
    server.files["m.tar.gz"] = archive({f"llama/{name}": content for name, content in MODEL.items()})
    fetch(source_of("plain", server, f"{server.url}/m.tar.gz"), tmp_path, "current", wait=no_wait)
    assert read(tmp_path / "current") == MODEL


@pytest.mark.parametrize("name", ["../evil", "/etc/evil"])
def test_an_archive_cannot_write_outside(serve: Serve, tmp_path: Path, name: str) -> None:
    server = serve("plain")
    server.files["m.tar.gz"] = archive({name: b"x", "config.json": b"{}"})
    into = tmp_path / "into"
    try:
        fetch(source_of("plain", server, f"{server.url}/m.tar.gz"), into, "current", wait=no_wait)
    except FetchError:
        assert not (into / "current").exists()
    assert not [path for path in tmp_path.rglob("evil") if into not in path.parents]


def test_a_source_cannot_write_outside(serve: Serve, tmp_path: Path) -> None:
    server = serve("hub")
    server.files["../evil.json"] = b"x"
    with pytest.raises(FetchError, match="leads out"):
        fetch(source_of("hub", server), tmp_path / "into", wait=no_wait)
    assert not (tmp_path / "evil.json").exists()


def test_prune_keeps_what_the_link_points_at(serve: Serve, tmp_path: Path) -> None:
    server = serve("hub")
    first = fetch(source_of("hub", server), tmp_path, "old", wait=no_wait)
    server.commit = "d" * 40
    second = fetch(source_of("hub", server), tmp_path, "new", wait=no_wait)
    assert second.others == 1
    assert Folder(tmp_path).prune("new") == [first.revision]
    assert read(tmp_path / "new") == MODEL
    assert not (tmp_path / "old").is_symlink()
    with pytest.raises(FetchError, match="nothing is removed"):
        Folder(tmp_path).prune("old")


def test_one_format_of_the_weights() -> None:
    both = ["config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx", "tf_model.h5", "original/a.pth"]
    assert wanted(both) == ["config.json", "model.safetensors"]
    assert wanted(["config.json", "pytorch_model.bin"]) == ["config.json", "pytorch_model.bin"]


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(list(argv)))


def test_the_command_reports(serve: Serve, tmp_path: Path) -> None:
    server, report = serve("hub"), tmp_path / "report"
    into = f"--into={tmp_path / 'models'}"
    args = ("hf://owner/name@main", into, f"--endpoint={server.url}", f"--report={report}")
    assert run(*args, "--resolve-only") == exits.OK
    assert json.loads(report.read_text())["revision"] == server.commit
    assert not (tmp_path / "models").exists()
    assert run(*args, "--link=key") == exits.OK
    assert json.loads(report.read_text()) == {"revision": server.commit, "others": 0, "error": ""}
    assert read(tmp_path / "models" / "key") == MODEL
    assert run("hf://owner/name", into, "--prune", "--link=key") == exits.OK


@pytest.mark.parametrize(
    ("kind", "address", "expected"),
    [
        ("hub", "hf://owner/name@gone", exits.NOT_FOUND),
        ("hub", "hf://owner/other", exits.NOT_FOUND),
        ("s3", "s3://bucket/other", exits.NOT_FOUND),
        ("gcs", "gs://bucket/other", exits.NOT_FOUND),
        ("plain", "{url}/other", exits.NOT_FOUND),
        ("plain", "ftp://x/y", exits.USAGE),
        ("plain", "nothing", exits.USAGE),
    ],
)
def test_what_is_not_there(serve: Serve, tmp_path: Path, kind: str, address: str, expected: int) -> None:
    server, report = serve(kind), tmp_path / "report"
    address = address.format(url=server.url)
    assert run(address, f"--into={tmp_path}", f"--endpoint={server.url}", f"--report={report}") == expected
    assert json.loads(report.read_text())["error"]


@pytest.mark.parametrize("kind", ["hub", "s3", "plain"])
def test_credentials(serve: Serve, tmp_path: Path, kind: str) -> None:
    server, keys = serve(kind), tmp_path / "keys"
    server.token = "right"
    address = ADDRESSES.get(kind, f"{server.url}/config.json")
    args = (address, f"--into={tmp_path / 'models'}", f"--endpoint={server.url}", f"--credentials={keys}")
    keys.mkdir()
    assert run(*args) == exits.UNAUTHORIZED
    for name in ("token", "accessKeyID", "secretAccessKey"):
        (keys / name).write_text("right\n")
    assert run(*args) == exits.OK


def test_a_server_that_fails(serve: Serve, tmp_path: Path) -> None:
    server = serve("plain")
    server.status = 503
    assert run(f"{server.url}/config.json", f"--into={tmp_path}") == exits.UNAVAILABLE
    url = server.url
    server.close()
    assert run(f"{url}/config.json", f"--into={tmp_path}") == exits.UNAVAILABLE
    server.close = lambda: None  # type: ignore[method-assign]
