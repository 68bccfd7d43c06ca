"""The npm packages the demo is made from, the table of emoji that they agree on, and the captions of an emoji."""

import hashlib
import json
import re
import subprocess
import tarfile
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TWEMOJI = "emoji-datasource-twitter@16.0.0"
NOTO = "emoji-datasource-google@16.0.0"
OPENMOJI = "openmoji@17.0.0"
CLDR = "emojibase-data@17.0.0"
ICONS = {
    "fluent": "@iconify-json/fluent-emoji-flat@1.2.6",
    "emojione": "@iconify-json/emojione@1.2.3",
    "blob": "@iconify-json/noto-v1@1.2.5",
    "firefox": "@iconify-json/fxemoji@1.2.2",
}
"""Drawing styles that Iconify packages as SVG under the emoji's names; none of them has every emoji."""

STYLES = ("noto", "openmoji", "openmoji-flat", *ICONS)
"""Drawing styles of the training set; "flat" is OpenMoji with faint, thin outlines."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Emoji:
    """One emoji without its picture.

    id: lower-case code points joined by "-", such as "1f600"; the stem of the picture's file name.
    name: CLDR short name, as CLDR writes it ("flag: Germany").
    unicode_name: lower case. short_names: what chat programs call it ("red_car" becomes "red car").
    group, subgroup: CLDR slugs.
    """

    id: str
    emoji: str
    name: str
    unicode_name: str
    short_names: tuple[str, ...]
    keywords: tuple[str, ...]
    group: str
    subgroup: str


def tarball(folder: Path, package: str) -> Path:
    """Return the file that `npm pack` writes into `folder` for `name@version`."""
    return folder / f"{package.lstrip('@').replace('@', '-').replace('/', '-')}.tgz"


def fetch(folder: Path, packages: tuple[str, ...]) -> None:
    """Download the pinned packages that `folder` does not hold yet; needs npm."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in packages:
        if not tarball(folder, package).is_file():
            subprocess.run(["npm", "pack", "--silent", package, "--pack-destination", str(folder)], check=True)


def read_members(archive: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """Return {path without the leading "package/": content} of the wanted files of an npm tarball."""
    found = {}
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            path = member.name.removeprefix("package/")
            handle = tar.extractfile(member) if wanted(path) else None
            if handle is not None:
                found[path] = handle.read()
    return found


def read_json(archive: Path, path: str) -> Any:
    """Parse one JSON file of an npm tarball; raise FileNotFoundError if the tarball lacks it."""
    members = read_members(archive, lambda name: name == path)
    if path not in members:
        raise FileNotFoundError(f"{archive}: no member package/{path}; is this the pinned version?")
    return json.loads(members[path])


def load_emoji(folder: Path) -> list[Emoji]:
    """Join the picture package's table with CLDR's names; components and skin tones are left out.

    Sorted by id. Skin-tone variants are no rows of their own in either table.
    """
    names = tarball(folder, CLDR)
    cldr = {_bare(row["hexcode"]): row for row in read_json(names, "en/data.json")}
    slugs = read_json(names, "meta/groups.json")
    chat = [_by_code(read_json(names, f"en/shortcodes/{origin}.json")) for origin in ("emojibase", "github")]
    emoji = []
    for row in read_json(tarball(folder, TWEMOJI), "emoji.json"):
        if row["category"] != "Component":
            code = _bare(row["unified"])
            short_names = [*row["short_names"], *(name for table in chat for name in table.get(code, []))]
            emoji.append(_join(row, cldr[code], slugs, short_names))
    return sorted(emoji, key=lambda one: one.id)


def names_in(folder: Path, language: str) -> dict[str, str]:
    """Return {``code_of`` an emoji: CLDR's short name} in a language that the package has (``de``)."""
    rows = read_json(tarball(folder, CLDR), f"{language}/data.json")
    return {_bare(row["hexcode"]): row["label"] for row in rows}


def read_pictures(folder: Path, package: str, emoji: list[Emoji]) -> dict[str, bytes]:
    """Return {id: 64 x 64 PNG} from one of the emoji-datasource packages."""
    vendor = package.removeprefix("emoji-datasource-").partition("@")[0]
    paths = {f"img/{vendor}/64/{one.id}.png": one.id for one in emoji}
    pictures = read_members(tarball(folder, package), paths.__contains__)
    missing = paths.keys() - pictures.keys()
    if missing:
        raise FileNotFoundError(
            f"{tarball(folder, package)}: no member package/{min(missing)} ({len(missing)} missing)"
        )
    return {paths[path]: content for path, content in pictures.items()}


def read_icons(folder: Path, package: str, emoji: list[Emoji]) -> dict[str, str]:
    """Return {id: SVG} of the emoji that an Iconify package has under a name of theirs, the CLDR name tried first.

    Some sets write Germany's flag "flag-for-germany", and all leave out punctuation: names are compared by letters.
    """
    stored = read_json(tarball(folder, package), "icons.json")
    icons, size = stored["icons"], stored.get("height", 16)
    parents = {name: alias["parent"] for name, alias in stored.get("aliases", {}).items()}
    by_letters = {_letters(name): parents.get(name, name) for name in [*parents, *icons]}
    found = {}
    for one in emoji:
        names = (one.name, one.name.replace("flag: ", "flag for "), one.unicode_name, *one.short_names)
        hits = [by_letters[_letters(name)] for name in names if _letters(name) in by_letters]
        if hits:
            found[one.id] = _svg(icons[hits[0]], size)
    return found


def _svg(icon: Row, size: int) -> str:
    """Return a square drawing with the icon in its middle."""
    width, height = icon.get("width", size), icon.get("height", size)
    side = max(width, height)
    box = (icon.get("left", 0) - (side - width) / 2, icon.get("top", 0) - (side - height) / 2, side, side)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{" ".join(map(str, box))}">{icon["body"]}</svg>'


def _letters(name: str) -> str:
    """Lower-case ASCII letters and digits, "&" spelt out, accents dropped: "São Tomé & Príncipe" -> "saotomeand…"."""
    plain = unicodedata.normalize("NFKD", name.lower().replace("&", "and"))
    return "".join(letter for letter in plain if letter.isascii() and letter.isalnum())


def code_of(emoji: Emoji) -> str:
    """Return the code by which ``names_in`` names an emoji."""
    return _bare(emoji.id)


def _bare(hexcode: str) -> str:
    """Drop the variation selector FE0F, about which the packages disagree: "2764-FE0F" is "2764"."""
    return "-".join(part for part in hexcode.upper().split("-") if part != "FE0F")


def _by_code(shortcodes: Mapping[str, str | list[str]]) -> dict[str, list[str]]:
    return {_bare(code): [names] if isinstance(names, str) else names for code, names in shortcodes.items()}


def _join(row: Row, cldr: Row, slugs: Row, short_names: list[str]) -> Emoji:
    return Emoji(
        id=row["image"].removesuffix(".png"),
        emoji=cldr["emoji"],
        name=cldr["label"],
        unicode_name=row["name"].lower(),
        short_names=tuple(dict.fromkeys(name.replace("_", " ") for name in short_names)),
        keywords=tuple(cldr["tags"]),
        group=slugs["groups"][str(cldr["group"])],
        subgroup=slugs["subgroups"][str(cldr["subgroup"])],
    )


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
