"""The embedded demo: about 1,900 emoji in a drawing style that its two small checkpoints never saw.

Test images are Twemoji; `demo/coca` and `demo/clip` were trained on the same emoji as other sets draw them (Noto,
OpenMoji, Fluent …): the concepts are seen and the style is not. `demo/coca-captioner` is `demo/coca` trained on with
its caption loss alone. `data/README.md` has the record schema, the licences and how to rebuild everything.
"""

from pathlib import Path

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

MODELS = ("coca", "clip", "coca-captioner")
"""The checkpoints that `model_folder` knows."""

PAIR = MODELS[:2]
"""What `--model demo` runs: the comparison of the CoCa blog."""

HOME = Path(__file__).parent


def data_files() -> list[Path]:
    """Return the webdataset shards in order; each holds `<id>.png` and `<id>.json` per emoji."""
    return sorted((HOME / "data").glob("emoji-*.tar.gz"))


def model_folder(name: str) -> Path:
    """Return the folder that open_clip's `local-dir:` reads, for one of MODELS.

    Raises KeyError for any other name.
    """
    if name not in MODELS:
        raise KeyError(f"demo model {name!r}: unknown; the demo has {', '.join(MODELS)}")
    return HOME / "models" / name
