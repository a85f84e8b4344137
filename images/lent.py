"""What the machine lends to pip during a build, as files that are mounted while it runs: certificates and an index."""

import configparser
import os
import subprocess
import sys
from pathlib import Path

CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
SYSTEM = Path("/etc/ssl/certs/ca-certificates.crt")
OPTIONS = ("index-url", "extra-index-url", "trusted-host", "timeout", "retries", "proxy")


def certificates() -> Path | None:
    """The machine's certificate authorities; None where there is no such file."""
    named = [Path(value) for value in map(os.environ.get, CERTIFICATES) if value]
    return next((path for path in [*named, SYSTEM] if path.is_file()), None)


def pip_config(listed: str) -> str:
    """A configuration file with the options of `pip config list` that say where packages come from; may be empty."""
    parser = configparser.RawConfigParser()
    parser.add_section("global")
    for line in listed.splitlines():
        name, sign, value = line.partition("=")
        option = name.rpartition(".")[2]
        if sign and option in OPTIONS:
            # Later lines are those of the environment, which take precedence.
            parser.set("global", option, value.strip("'\"").replace("\\n", "\n"))
    lines = [f"{option} = {value}" for option, value in parser.items("global")]
    return "\n".join(["[global]", *lines, ""]) if lines else ""


def secrets(folder: Path) -> list[str]:
    """Arguments for buildah that lend both; the configuration is written into `folder`."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    config = folder / "pip.conf"
    config.write_text(pip_config(listed.stdout))
    config.chmod(0o600)
    found = certificates()
    arguments = [f"--secret=id=pip,src={config}"] if config.stat().st_size else []
    return arguments + ([f"--secret=id=ca,src={found}"] if found else [])
