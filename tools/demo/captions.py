"""Captions of an emoji, and the fixed subset of emoji that the captioning task uses."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable

from tools.demo.sources import Emoji

CAPTION_SUBSET = 300
"""How many emoji the captioning task describes; each group gives its share."""

_CODE = re.compile(r"[a-z]\d|^[^a-z]*$")
_ASCII_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": "", "”": ""})


def captions(emoji: Emoji) -> list[str]:
    """Return the emoji's distinct captions, lower case, the CLDR name first.

    From the CLDR name, the Unicode name and the chat names. Names below three letters ("x", "+1"), codes ("cat2") and
    the chat names of flags ("flag-de") say too little and are left out; captions that differ in punctuation only count
    once. "1f697" gives ["automobile", "car", "red car"].
    """
    chat = () if emoji.group == "flags" else (name.replace("-", " ") for name in emoji.short_names)
    telling = (name for name in (emoji.unicode_name, *chat) if len(name) > 2 and not _CODE.search(name))
    distinct: dict[str, str] = {}
    for text in (emoji.name, *telling):
        caption = " ".join(text.lower().translate(_ASCII_QUOTES).split())
        distinct.setdefault("".join(filter(str.isalnum, caption)) or caption, caption)
    return list(distinct.values())


def caption_subset(emoji: Iterable[Emoji], size: int = CAPTION_SUBSET) -> set[str]:
    """Return the ids of `size` emoji, stratified by group (largest remainder), chosen by a hash of the id.

    All ids, if there are no more than `size`.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for one in emoji:
        groups[one.group].append(one.id)
    total = sum(map(len, groups.values()))
    size = min(size, total)
    share = {group: size * len(ids) // total for group, ids in groups.items()}
    by_remainder = sorted(groups, key=lambda group: (-(size * len(groups[group]) % total), group))
    for group in by_remainder[: size - sum(share.values())]:
        share[group] += 1
    return {one for group, ids in groups.items() for one in sorted(ids, key=mixed)[: share[group]]}


def mixed(emoji_id: str) -> str:
    """Return a sort key that mixes the groups and is the same everywhere."""
    return hashlib.sha256(emoji_id.encode()).hexdigest()
