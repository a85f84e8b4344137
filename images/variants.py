"""The images that there are, and where their archives lie."""

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lepton" / "images"


@dataclass(frozen=True)
class Variant:
    """An image.

    Attributes:
        name: what `make images IMAGES=...` calls it.
        image: repository of the image's name, and folder of the Containerfile below images/.
        suffix: of the version in the image's tag.
        arguments: build arguments, beside those that all have.
        distributions: folders that the Containerfile copies.
        keeps_layers: whether layers are kept for the next build; those of CUDA would take 12 GB.
    """

    name: str
    image: str
    suffix: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    distributions: tuple[str, ...] = ("protos", "engine", "service", "operator")
    keeps_layers: bool = True

    def tag(self) -> str:
        """The image's name with the version of the distribution that it holds."""
        return f"lepton/{self.image}:{version(self.image)}{self.suffix}"

    def containerfile(self) -> str:
        """Path below the repository's root."""
        return f"images/{self.image}/Containerfile"


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("operator", "operator", distributions=("protos", "service", "operator")),
        Variant("server-cpu", "server", "-cpu", {"TORCH": "cpu"}),
        Variant("server", "server", "", {"TORCH": "cuda"}, keeps_layers=False),
    )
}
DEFAULT = ("operator", "server-cpu")


def version(image: str) -> str:
    """The version of the distribution that gives an image its own: lepton-service or lepton-operator."""
    folder = "operator" if image == "operator" else "service"
    found: str = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]["version"]
    return found


def archive(name: str) -> Path:
    """Where the newest archive of a variant is found once it has been built: a link that stays.

    Raises:
        KeyError: there is no such variant.
    """
    return CACHE / f"{VARIANTS[name].name}.tar"
