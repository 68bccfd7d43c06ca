"""The built-in demo: about 1,900 emoji in a drawing style that its small checkpoints were not trained on.

Test images are Twemoji; `demo/coca` and `demo/clip` were trained on the same emoji as other sets draw them (Noto,
OpenMoji, Fluent …): the concepts are seen, the style is unseen. `demo/coca-captioner` is `demo/coca` fine-tuned with
the caption loss only. `data/README.md` has the record schema, the licences and how to rebuild everything.
"""

from pathlib import Path
from typing import Literal

GROUPS = (
    "smileys-emotion",
    "people-body",
    "animals-nature",
    "food-drink",
    "travel-places",
    "activities",
    "objects",
    "symbols",
    "flags",
)
"""The nine Unicode groups in CLDR order; "component" (skin tones, hair) is left out."""

LANGUAGES = ("de", "en", "es", "fr", "hi", "ja", "ru", "zh")
"""Languages of the names in `data/names.json`, in Unicode's codes."""

LANGUAGE_GROUP = "animals-nature"
"""The group whose emoji have names in them."""

MODELS = ("coca", "clip", "coca-captioner")
"""Names of the checkpoints."""

PAIR = MODELS[:2]
"""The models of `--model demo`: the comparison of the CoCa blog."""

HOME = Path(__file__).parent


def data_files() -> list[Path]:
    """Return the webdataset shards in order; each holds `<id>.png` and `<id>.json` per emoji."""
    return sorted((HOME / "data").glob("emoji-*.tar.gz"))


def data_file(name: Literal["names", "questions"]) -> Path:
    """Return a file of JSON beside the shards.

    names: {language: {id: name}}. questions: what each image of questions shows, {id: {colour, cells}}.
    """
    return HOME / "data" / f"{name}.json"


def model_folder(name: str) -> Path:
    """Return the folder of one of MODELS, for open_clip's `local-dir:`.

    Raises KeyError for other names.
    """
    if name not in MODELS:
        raise KeyError(f"demo model {name!r}: unknown; the demo has {', '.join(MODELS)}")
    return HOME / "models" / name
