"""rinna's japanese_clip as models of cocabench: `--model japanese_clip::ORG/NAME`, or a folder with its two files."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from cocabench.core.errors import ModelError
from cocabench.core.signature import digest_file
from cocabench.models.base import Model
from cocabench.models.hardware import Hardware
from cocabench.specs.spec import ModelSpec

FILES = ("config.json", "pytorch_model.bin")
TOKENIZER = "rinna/japanese-roberta-base, 77 tokens"  # what japanese_clip.load_tokenizer and tokenize always take


@dataclass(frozen=True)
class Source:
    id: str
    folder: Path
    notes: tuple[()] = ()
    abilities: ClassVar = frozenset({"encode"})
    available: ClassVar = True
    packages: ClassVar = ("cocabench-japanese-clip", "japanese-clip", "pillow", "torch", "torchvision", "transformers")
    features_version: ClassVar = 1

    def signature(self) -> dict[str, Any]:
        config, weights = (digest_file(self.folder / name) for name in FILES)
        return {"id": self.id, "weights": weights, "preprocess": config, "vocabulary": TOKENIZER}

    def load(self, hardware: Hardware) -> "JapaneseClip":
        import japanese_clip

        net, transform = japanese_clip.load(str(self.folder), device=hardware.device)
        return JapaneseClip(self.id, net, transform, hardware)


class JapaneseClip(Model):
    def __init__(self, name: str, net: Any, transform: Any, hardware: Hardware) -> None:
        import japanese_clip

        super().__init__(name, transform, hardware)
        self.net, self.tokenize, self.tokenizer = net, japanese_clip.tokenize, japanese_clip.load_tokenizer()

    def encode_image_batch(self, pixels: Tensor) -> Tensor:  # of any scale: the base class makes unit rows
        return self.net.get_image_features(pixels)

    def encode_text_batch(self, texts: list[str]) -> Tensor:
        # input_ids, attention_mask and position_ids: without the last two its text tower gives something else
        return self.net.get_text_features(**self.tokenize(texts, tokenizer=self.tokenizer, device=self.hardware.device))


def sources(spec: ModelSpec, *, download: bool = True) -> list[Source]:
    if find_spec("japanese_clip") is None:
        fix = "pip install git+https://github.com/rinnakk/japanese-clip.git"
        raise ModelError(spec.text, "the package japanese_clip is not installed", fix=fix)
    folder = Path(spec.weights) if Path(spec.weights).is_dir() else _from_hub(spec, download)
    if lost := [name for name in FILES if not (folder / name).is_file()]:
        raise ModelError(spec.text, f"no {' and no '.join(lost)} there", wanted=" and ".join(FILES))
    return [Source(f"japanese_clip::{spec.weights}", folder)]


def _from_hub(spec: ModelSpec, download: bool) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(spec.weights, allow_patterns=FILES, local_files_only=not download))
    except (OSError, ValueError) as error:  # of its many, all that can be met here are among these
        raise ModelError(spec.text, f"not in the cache, and not to be had ({error})".splitlines()[0]) from None
