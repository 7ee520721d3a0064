"""Builds Picto's packaged data and trains its parts, from the root of a clone.

python -m tools.picto build                                  the pictures and names, byte for byte
python -m tools.picto train decoder --out parts              one component; a stopped run goes on
"""

import argparse
import sys
from pathlib import Path

from polylens.commands.common import quiet_libraries
from polylens.errors import UserError


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.picto",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    jobs = parser.add_subparsers(dest="job", required=True)
    build = jobs.add_parser("build", help="make the packaged data again from its sources")
    build.add_argument(
        "--sources", type=Path, default=Path("build/picto-sources"), help="fetched where absent"
    )
    build.add_argument("--out", type=Path, default=Path("build/picto"))
    train = jobs.add_parser("train", help="train one of the tiny components")
    train.add_argument("component", help="a wrong name lists them")
    train.add_argument(
        "--out", type=Path, required=True, help="where components lie, each in a folder of its name"
    )
    given = parser.parse_args()
    quiet_libraries()
    try:
        if given.job == "build":
            _build(given.sources, given.out)
        else:
            from tools.picto.components import train_component

            print(f"The component is {train_component(given.component, given.out)}")
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def _build(sources: Path, out: Path) -> None:
    from tools.picto.build import build, checksums

    from polylens.picto.world import PACKAGED

    before = checksums(PACKAGED)
    try:
        made = build(sources, out)
    except ImportError as error:
        raise UserError(f"Drawing needs '{error.name}': install polylens[build].") from error
    for name, digest in made.items():
        print(f"{digest}  {name}  {'' if before.get(name) == digest else 'NOT '}as packaged")


if __name__ == "__main__":
    sys.exit(main())
