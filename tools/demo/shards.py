"""Webdataset shards whose bytes depend on their content only."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tools.demo.captions import caption_subset, captions, mixed
from tools.demo.sources import Emoji

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


def read_shards(paths: Iterable[Path]) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield (record, PNG) of every emoji, in shard order."""
    for path in paths:
        with tarfile.open(path, "r:gz") as tar:
            members = {member.name: tar.extractfile(member) for member in tar}
            content = {name: handle.read() for name, handle in members.items() if handle}
        for name, text in content.items():
            if name.endswith(".json"):
                yield json.loads(text), content[name.replace(".json", ".png")]
