"""`python -m images [NAME ...]`: builds images and prints where their archives are."""

import argparse
import sys

from images.build import build
from images.tools import ImageError
from images.variants import DEFAULT, VARIANTS


def main() -> int:
    """Returns: 0 for success, 1 for a failure that was explained on stderr."""
    parser = argparse.ArgumentParser(prog="python -m images", description="Build images.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(VARIANTS)} (default: {' '.join(DEFAULT)})"
    )
    args = parser.parse_args()
    names = args.names or list(DEFAULT)
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        print(f"no image {', '.join(unknown)}; there are: {', '.join(VARIANTS)}", file=sys.stderr)
        return 1
    try:
        for name in names:
            print(build(VARIANTS[name]))
    except ImageError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
