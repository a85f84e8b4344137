"""What torch needs beside CUDA: `without_cuda.py SITE_PACKAGES` prints requirements, one a line."""

import re
import sys
from email import message_from_string
from pathlib import Path

CUDA = re.compile(r"(cuda|nvidia|triton)\b")


def needs(metadata: str) -> list[str]:
    """The requirements in a distribution's metadata that are neither CUDA's nor an extra's."""
    found = message_from_string(metadata).get_all("Requires-Dist", [])
    return [requirement for requirement in found if not CUDA.match(requirement) and "extra ==" not in requirement]


if __name__ == "__main__":
    (file,) = Path(sys.argv[1]).glob("torch-*.dist-info/METADATA")
    print("\n".join(needs(file.read_text())))
