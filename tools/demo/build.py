"""Build the demo data: `python -m tools.demo.build [--npm DIR] [--out DIR] [--training FILE]`."""

import argparse
from pathlib import Path

from platformdirs import user_cache_path

from cocabench.demo import HOME
from tools.demo.shards import write_shards
from tools.demo.sources import CLDR, ICONS, NOTO, OPENMOJI, TWEMOJI, fetch, load_emoji, read_pictures


def build_shards(npm: Path, out: Path) -> list[Path]:
    """Write the test shards into `out` from the npm tarballs in `npm`, and return their paths."""
    emoji = load_emoji(npm)
    return write_shards(out, emoji, read_pictures(npm, TWEMOJI, emoji))


def build_training_set(npm: Path, path: Path) -> None:
    """Write the training pictures and captions to `path`; needs resvg-py."""
    from tools.demo.pictures import write_training_set

    write_training_set(path, npm, load_emoji(npm))


def main() -> None:
    """Fetch what is missing, then build."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo.build", description=__doc__)
    parser.add_argument("--npm", type=Path, default=user_cache_path("cocabench") / "npm", help="folder of .tgz files")
    parser.add_argument("--out", type=Path, default=HOME / "data", help="folder of the shards")
    parser.add_argument("--training", type=Path, help="also write the training set, to this .npz file")
    args = parser.parse_args()
    fetch(args.npm, (TWEMOJI, CLDR))
    for path in build_shards(args.npm, args.out):
        print(path, path.stat().st_size)
    if args.training:
        fetch(args.npm, (NOTO, OPENMOJI, *ICONS.values()))
        build_training_set(args.npm, args.training)
        print(args.training, args.training.stat().st_size)


if __name__ == "__main__":
    main()
