"""The file of hashed tokens: what it accepts, what it refuses, and how it changes under a running server."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lepton_service.auth import (
    AuthConfigError,
    CredentialExpiredError,
    CredentialInvalidError,
    CredentialMissingError,
    Principal,
)
from lepton_service.auth.bearer import BearerAuthenticator
from lepton_service.auth.tokens import TokenEntry, TokenFile, digest, make_token, parse
from lepton_service.cli import main

Put = Callable[[Path, bytes | str], None]
DIGEST = digest("one").hex()
LINE = f"name=ci tenant=acme sha256={DIGEST}"


def test_a_token_gives_its_tenant(tmp_path: Path, token_lines: Callable[..., str]) -> None:
    path = tmp_path / "tokens"
    path.write_text(token_lines(acme="one", beta="two"))
    tokens = TokenFile(path)
    assert tokens.principal("one") == Principal("acme", "acme-ci")
    assert tokens.principal("two") == Principal("beta", "beta-ci")
    for wrong in ("One", "one1", "on", DIGEST):
        with pytest.raises(CredentialInvalidError):
            tokens.principal(wrong)


def test_a_token_expires(tmp_path: Path, token_lines: Callable[..., str]) -> None:
    now = 1_000_000.0
    path = tmp_path / "tokens"
    path.write_text(token_lines(expires=now + 10, acme="one"))
    tokens = TokenFile(path, clock=lambda: now)
    assert tokens.principal("one").tenant == "acme"
    now += 10
    with pytest.raises(CredentialExpiredError):
        tokens.principal("one")


def test_a_line_is_read_as_it_is_written() -> None:
    entry = TokenEntry("ci", "acme", digest("one"), 1_800_000_000.0)
    assert entry.line() == f"name=ci tenant=acme expires=2027-01-15T08:00:00Z sha256={DIGEST}"
    assert list(parse(entry.line().encode()).values()) == [(entry,)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name=ci tenant=acme", "line 1: sha256= is missing"),
        (f"tenant=acme sha256={DIGEST}", "line 1: name= is missing"),
        (f"name=ci sha256={DIGEST}", "line 1: tenant= is missing"),
        (f"{LINE}\nname=ci tenant=acme sha256={DIGEST[:-1]}", "line 2: sha256= is not 64 hexadecimal digits"),
        (f"name=ci tenant= sha256={DIGEST}", "tenant='' is not 1 to 256"),
        (f"name=ci tenant={'x' * 257} sha256={DIGEST}", "is not 1 to 256"),
        (f"name=ci tenant=\u00e4 sha256={DIGEST}", "is not 1 to 256"),
        (f"name=ci sha256={DIGEST} tenant=beta", "sha256= comes last"),
        (f"name=ci name=cd tenant=acme sha256={DIGEST}", "name= stands there twice"),
        (f"name=ci tenant=acme expires=tomorrow sha256={DIGEST}", "expires='tomorrow' is not a time"),
        (f"name=ci tenant=acme expires=2027-02-30T00:00:00Z sha256={DIGEST}", "is not a time"),
        (f"name=ci tenant=acme expires=2027-02-03 sha256={DIGEST}", "is not a time"),
        (f"{LINE}\n{LINE}", "line 2: the token of ci is in the file already"),
        (b"\xff", "is no UTF-8 text"),
        ("", "is empty"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "tokens"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(AuthConfigError, match=message) as raised:
        TokenFile(path)
    assert str(path) in str(raised.value)


def test_a_token_in_the_place_of_its_hash_is_not_repeated(tmp_path: Path) -> None:
    path, token = tmp_path / "tokens", make_token()
    for text in (token, f"name=ci tenant=acme sha256={token}", f"name=ci tenant=acme token={token}"):
        path.write_text(text)
        with pytest.raises(AuthConfigError) as raised:
            TokenFile(path)
        assert token not in str(raised.value)


def test_no_part_of_a_line_is_taken_for_a_line() -> None:
    line = TokenEntry("ci", "acme", digest("one"), 1_800_000_000.0).line()
    for end in range(1, len(line)):
        with pytest.raises(AuthConfigError):
            parse(line[:end].encode())


def test_a_file_that_changes_is_read_again(
    tmp_path: Path, put: Put, token_lines: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "tokens"
    path.write_text(token_lines(acme="one"))
    tokens = TokenFile(path)
    put(path, token_lines(acme="two"))
    assert tokens.principal("two").tenant == "acme"
    with pytest.raises(CredentialInvalidError):
        tokens.principal("one")
    put(path, "# nobody\n")
    with pytest.raises(CredentialInvalidError):
        tokens.principal("two")
    assert caplog.text.count("is read again") == 2


def test_a_change_for_the_worse_is_logged_once_and_passed_over(
    tmp_path: Path, put: Put, token_lines: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens"
    path.write_text(token_lines(acme="one"))
    tokens = TokenFile(path)
    for number, text in enumerate(("", "nonsense", None), 1):
        path.unlink() if text is None else put(path, text)
        for _ in range(3):
            assert tokens.principal("one").tenant == "acme"
        assert caplog.text.count("what was read before stays in force") == number
    put(path, token_lines(beta="one"))
    assert tokens.principal("one").tenant == "beta"


def test_a_secret_that_kubernetes_swaps_is_read_again(tmp_path: Path, token_lines: Callable[..., str]) -> None:
    for version, token in (("v1", "one"), ("v2", "two")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "tokens").write_text(token_lines(acme=token))
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "tokens").symlink_to("..data/tokens")
    tokens = TokenFile(tmp_path / "tokens")
    assert tokens.principal("one").tenant == "acme"
    (tmp_path / "..next").symlink_to("v2")
    (tmp_path / "..next").replace(tmp_path / "..data")
    assert tokens.principal("two").tenant == "acme"


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer",
        "Bearer ",
        "one",
        "Basic b25l",
        "Bearer one two",
        "Bearer one, Bearer one",
        "Bearer \u00e4",
        "Bearer=one",
    ],
)
def test_a_malformed_authorization_is_refused(
    tmp_path: Path, token_lines: Callable[..., str], authorization: str
) -> None:
    path = tmp_path / "tokens"
    path.write_text(token_lines(acme="one"))
    asks = BearerAuthenticator(TokenFile(path), None)
    assert asks.authenticate("bearer one", None).tenant == "acme", "schemes know no case"
    with pytest.raises(CredentialInvalidError):
        asks.authenticate(authorization, None)
    with pytest.raises(CredentialInvalidError):
        asks.authenticate("Bearer " + "x" * 10_000, None)
    for none in (None, ""):
        with pytest.raises(CredentialMissingError):
            asks.authenticate(none, None)


def test_the_command_makes_tokens_that_the_file_accepts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tokens"
    made = []
    for name, expires in (("ci", []), ("cd", ["--expires-in", "90d"])):
        assert main(["token", name, "--tenant", "acme", "--file", str(path), *expires]) == 0
        made.append(capsys.readouterr().out.strip())
    assert path.stat().st_mode & 0o777 == 0o600
    tokens = TokenFile(path)
    assert [tokens.principal(token).subject for token in made] == ["ci", "cd"]
    late = TokenFile(path, clock=lambda: time.time() + 91 * 86400)
    assert late.principal(made[0]).subject == "ci"
    with pytest.raises(CredentialExpiredError):
        late.principal(made[1])
    assert not set(made) & set(path.read_text().split())
    assert main(["token", "ci", "--tenant", "acme"]) == 0
    shown = capsys.readouterr()
    assert digest(shown.out.strip()).hex() in shown.err


def test_the_command_leaves_a_file_that_it_does_not_understand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tokens"
    path.write_text("precious")
    assert main(["token", "ci", "--tenant", "acme", "--file", str(path)]) == 1
    assert capsys.readouterr().out == ""
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--tenant", "a b"], "--tenant: 'a b' is not 1 to 256 printable ASCII"),
        (["--tenant", ""], "--tenant: '' is not 1 to 256"),
        (["--tenant", "a", "--expires-in", "soon"], "--expires-in: 'soon' is not a time such as 30m"),
        ([], "--tenant"),
    ],
)
def test_the_command_names_wrong_flags(flags: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["token", "ci", *flags])
    assert raised.value.code == 2
    assert named in capsys.readouterr().err


def test_tokens_are_256_random_bits() -> None:
    made = {make_token() for _ in range(100)}
    assert len(made) == 100
    assert all(len(token) == len("lepton_") + 43 for token in made)
