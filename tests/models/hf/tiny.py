"""Tiny checkpoints of transformers in the layout of the hub: random weights, tokenizers trained here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**SMALL, "image_size": 32, "patch_size": 8}
WORDS = [
    "a photo of a cat.", "A photo of two dogs, in the snow!", "a drawing of thing number 3", "the quick brown fox",
    "A Picture of Thing 1 number 0", "a sleeping_cat", "not a dog", "T-shirt", "12 apples & 4 pears",
]  # fmt: skip
"""Sentences that tokenizers are trained on."""

CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def image_processor(kind: str, **more: Any) -> dict[str, Any]:
    size = {"height": 32, "width": 32}
    common = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255, "resample": 3}
    return {
        "image_processor_type": kind,
        **common,
        "size": size,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        **more,
    }


CROPPED = {
    "size": {"shortest_edge": 32},
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
    "do_convert_rgb": True,
}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def save(folder: Path, net: Any, processor: dict[str, Any], tokenizer: Callable[[Path], dict[str, Any]]) -> Path:
    """Write a checkpoint as the hub has it: config, weights, image processor and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    net.eval().save_pretrained(folder)
    write_json(folder / "preprocessor_config.json", processor)
    write_json(folder / "tokenizer_config.json", tokenizer(folder))
    return folder


# Tokenizers: each writes its files and returns tokenizer_config.json


def clip_tokenizer(folder: Path) -> dict[str, Any]:
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789,.!&-_"]
    words = ["<|startoftext|>", *letters, *(f"{letter}</w>" for letter in letters), "<|endoftext|>"]
    write_json(folder / "vocab.json", {word: i for i, word in enumerate(words)})
    (folder / "merges.txt").write_text("#version: 0.2\n")
    end = "<|endoftext|>"
    ids = {"bos_token": "<|startoftext|>", "eos_token": end, "pad_token": end, "unk_token": end}
    return {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **ids}


def bert_tokenizer(folder: Path) -> dict[str, Any]:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789,.!&-_"]
    words = [*special, *letters, *(f"##{letter}" for letter in letters), "photo", "cat", "dog", "a", "of"]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(words)))
    return {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}


def xlm_roberta_tokenizer(folder: Path) -> dict[str, Any]:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.train_from_iterator(
        WORDS, trainers.UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False)
    )
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    made.save(str(folder / "tokenizer.json"))
    return {"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": 512}


def siglip_tokenizer(folder: Path) -> dict[str, Any]:
    """Write a sentencepiece model as SigLIP's: lower-case pieces, pad and end are one token."""
    import sentencepiece

    with (folder / "spiece.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([text.lower() for text in WORDS] * 3), model_writer=file, vocab_size=56,
            hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
        )  # fmt: skip
    ids = {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    return {"tokenizer_class": "SiglipTokenizer", "do_lower_case": True, "model_max_length": 64, **ids}


def gemma_tokenizer(folder: Path) -> dict[str, Any]:
    """Write a case-sensitive BPE as SigLIP2's: an end token, pads of their own, on the right."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.train_from_iterator(WORDS, trainers.BpeTrainer(vocab_size=90, special_tokens=special, show_progress=False))
    made.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    made.save(str(folder / "tokenizer.json"))
    ids = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    more = {"add_bos_token": False, "add_eos_token": True, "padding_side": "right"}
    return {"tokenizer_class": "GemmaTokenizer", "model_max_length": 10**30, **ids, **more}


def blip_tokenizer(folder: Path) -> dict[str, Any]:
    made = bert_tokenizer(folder)
    with (folder / "vocab.txt").open("a") as file:
        file.write("\n[DEC]")
    return {**made, "bos_token": "[DEC]"}


# Checkpoints


def clip(folder: Path, **text: Any) -> Path:
    torch.manual_seed(0)
    own = {
        **SMALL,
        "vocab_size": 86,
        "max_position_embeddings": 24,
        "eos_token_id": 85,
        "bos_token_id": 0,
        "pad_token_id": 85,
    }
    config = transformers.CLIPConfig(text_config={**own, **text}, vision_config=VISION, projection_dim=16)
    return save(
        folder, transformers.CLIPModel(config), image_processor("CLIPImageProcessor", **CROPPED), clip_tokenizer
    )


def siglip(folder: Path, *, second: bool = False) -> Path:
    """Write a SigLIP; second: a SigLIP2 of one resolution, which differs by its tokenizer."""
    torch.manual_seed(0)
    text = {
        **SMALL,
        "vocab_size": 128,
        "max_position_embeddings": 20,
        "pad_token_id": 0 if second else 1,
        "eos_token_id": 1,
        "bos_token_id": 2,
        "projection_size": 32,
    }
    config = transformers.SiglipConfig(text_config=text, vision_config=VISION)
    tokenizer = gemma_tokenizer if second else siglip_tokenizer
    return save(folder, transformers.SiglipModel(config), image_processor("SiglipImageProcessor", **HALF), tokenizer)


def naflex(folder: Path) -> Path:
    torch.manual_seed(0)
    text = {
        **SMALL,
        "vocab_size": 128,
        "max_position_embeddings": 20,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
        "projection_size": 32,
    }
    vision = {**SMALL, "patch_size": 8, "num_patches": 16}
    config = transformers.Siglip2Config(text_config=text, vision_config=vision)
    processor = {**image_processor("Siglip2ImageProcessor", **HALF), "patch_size": 8, "max_num_patches": 16}
    del processor["size"]
    return save(folder, transformers.Siglip2Model(config), processor, gemma_tokenizer)


def align(folder: Path) -> Path:
    torch.manual_seed(0)
    text = {**SMALL, "vocab_size": 110, "max_position_embeddings": 80, "pad_token_id": 0}
    vision = {
        "image_size": 32, "depthwise_padding": [], "hidden_dim": 24, "kernel_sizes": [3, 3], "in_channels": [32, 16],
        "out_channels": [16, 24], "strides": [1, 2], "num_block_repeats": [1, 1], "expand_ratios": [1, 2],
        "width_coefficient": 1.0, "depth_coefficient": 1.0,
    }  # fmt: skip
    config = transformers.AlignConfig(text_config=text, vision_config=vision, projection_dim=24)
    processor = image_processor("EfficientNetImageProcessor", resample=2, **HALF)
    net = transformers.AlignModel(config)
    return save(folder, net, processor, bert_tokenizer)


def altclip(folder: Path) -> Path:
    torch.manual_seed(0)
    text = {
        **SMALL,
        "vocab_size": 70,
        "max_position_embeddings": 40,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "project_dim": 24,
        "type_vocab_size": 1,
    }
    config = transformers.AltCLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
    return save(
        folder,
        transformers.AltCLIPModel(config),
        image_processor("CLIPImageProcessor", **CROPPED),
        xlm_roberta_tokenizer,
    )


def chinese_clip(folder: Path) -> Path:
    torch.manual_seed(0)
    text = {**SMALL, "vocab_size": 110, "max_position_embeddings": 80, "pad_token_id": 0}
    config = transformers.ChineseCLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
    return save(
        folder,
        transformers.ChineseCLIPModel(config),
        image_processor("ChineseCLIPImageProcessor", do_center_crop=False, do_convert_rgb=True),
        bert_tokenizer,
    )


def blip(folder: Path) -> Path:
    torch.manual_seed(0)
    text = {
        **SMALL, "vocab_size": 112, "encoder_hidden_size": 32, "max_position_embeddings": 40, "bos_token_id": 93,
        "sep_token_id": 3, "eos_token_id": 2, "pad_token_id": 0, "projection_dim": 16,
    }  # fmt: skip
    config = transformers.BlipConfig(
        text_config=text, vision_config=VISION, projection_dim=16, image_text_hidden_size=16
    )
    config.text_config.initializer_range = config.vision_config.initializer_range = 0.5
    net = transformers.BlipForConditionalGeneration(config)
    return save(folder, net, image_processor("BlipImageProcessor", do_convert_rgb=True), blip_tokenizer)


def git(folder: Path) -> Path:
    torch.manual_seed(0)
    own = {
        **SMALL,
        "vocab_size": 112,
        "max_position_embeddings": 40,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "pad_token_id": 0,
    }
    config = transformers.GitConfig(vision_config=VISION, initializer_range=0.5, **own)
    net = transformers.GitForCausalLM(config)
    return save(folder, net, image_processor("CLIPImageProcessor", **CROPPED), bert_tokenizer)


CONTRASTIVE: dict[str, Callable[[Path], Path]] = {
    "clip": clip,
    "siglip": siglip,
    "siglip2": lambda folder: siglip(folder, second=True),
    "align": align,
    "altclip": altclip,
    "chinese_clip": chinese_clip,
}
FAMILIES: dict[str, Callable[[Path], Path]] = {**CONTRASTIVE, "naflex": naflex, "blip": blip, "git": git}
"""siglip2 is one of a fixed resolution, whose model_type is siglip; naflex is of the model_type siglip2."""
