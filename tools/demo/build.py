"""Build the demo data: `python -m tools.demo.build [--npm DIR] [--out DIR] [--training FILE]`.

The shards' bytes depend on their content only.
"""

import argparse
import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from cocabench.demo import HOME, LANGUAGE_GROUP, LANGUAGES
from tools.demo.questions import write_questions
from tools.demo.sources import (
    CLDR,
    ICONS,
    NOTO,
    OPENMOJI,
    TWEMOJI,
    Emoji,
    caption_subset,
    captions,
    code_of,
    fetch,
    load_emoji,
    mixed,
    names_in,
    read_pictures,
)

PER_SHARD = 500
"""Emoji per shard."""


def record(emoji: Emoji, *, in_caption_subset: bool) -> dict[str, Any]:
    """Return the content of `<id>.json`; `data/README.md` describes its keys."""
    return {
        "id": emoji.id,
        "emoji": emoji.emoji,
        "name": emoji.name,
        "unicode_name": emoji.unicode_name,
        "short_names": list(emoji.short_names),
        "captions": captions(emoji),
        "keywords": list(emoji.keywords),
        "group": emoji.group,
        "subgroup": emoji.subgroup,
        "caption_subset": in_caption_subset,
    }


def write_shards(folder: Path, emoji: list[Emoji], pictures: Mapping[str, bytes]) -> list[Path]:
    """Write `emoji-00000.tar.gz` … into `folder`, which then holds no older ones, and return their paths.

    Emoji are ordered by a hash of their id, so that every shard, and every prefix, mixes the groups.
    """
    for old in folder.glob("emoji-*.tar.gz"):
        old.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    chosen = caption_subset(emoji)
    ordered = sorted(emoji, key=lambda one: mixed(one.id))
    paths = []
    for first in range(0, len(ordered), PER_SHARD):
        members: list[tuple[str, bytes]] = []
        for one in ordered[first : first + PER_SHARD]:
            text = json.dumps(record(one, in_caption_subset=one.id in chosen), ensure_ascii=False)
            members += [(f"{one.id}.json", text.encode()), (f"{one.id}.png", pictures[one.id])]
        paths.append(folder / f"emoji-{first // PER_SHARD:05d}.tar.gz")
        paths[-1].write_bytes(tar_bytes(members))
    return paths


def tar_bytes(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a gzip-compressed tar: time 0, no owner, mode 0644, members in the given order."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), compresslevel=9, mtime=0)


def build_shards(npm: Path, out: Path) -> list[Path]:
    """Write the test shards into `out` from the npm tarballs in `npm`, and return their paths."""
    emoji = load_emoji(npm)
    return write_shards(out, emoji, read_pictures(npm, TWEMOJI, emoji))


def write_names(npm: Path, out: Path) -> Path:
    """Write {language: {id: name}} of the emoji of LANGUAGE_GROUP in LANGUAGES to `out`, and return its path."""
    emoji = [one for one in load_emoji(npm) if one.group == LANGUAGE_GROUP]
    names = {language: names_in(npm, language) for language in LANGUAGES}
    table = {language: {one.id: names[language][code_of(one)] for one in emoji} for language in LANGUAGES}
    path = out / "names.json"
    path.write_text(json.dumps(table, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    return path


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
    for path in (*build_shards(args.npm, args.out), write_names(args.npm, args.out), write_questions(args.out)):
        print(path, path.stat().st_size)
    if args.training:
        fetch(args.npm, (NOTO, OPENMOJI, *ICONS.values()))
        build_training_set(args.npm, args.training)
        print(args.training, args.training.stat().st_size)


if __name__ == "__main__":
    main()
