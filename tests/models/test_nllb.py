"""An NLLB-CLIP with a real NllbTokenizer, small and from no hub: its language reaches tokenizer and signature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("transformers", minversion="5")

from cocabench.core.types import Record
from cocabench.models.hardware import hardware
from cocabench.models.open_clip.adapter import sources
from cocabench.models.open_clip.blueprint import blueprint
from cocabench.models.open_clip.build import build_network
from cocabench.models.open_clip.counts import count_tokens
from cocabench.models.open_clip.languages import in_language
from cocabench.results.records import read
from cocabench.specs.spec import parse_model
from tests.conftest import Command
from tests.data.drawing import write
from tests.data.standard_sets import picture

pytestmark = pytest.mark.filterwarnings("ignore")
LETTERS = ["<s>", "<pad>", "</s>", "<unk>", "▁", *"aceghilmnoprstuy"]
CODES = ["eng_Latn", "deu_Latn", "jpn_Jpan"]
CONTEXT = 12
TEXT_TOWER = {
    "model_type": "m2m_100",
    "vocab_size": len(LETTERS) + len(CODES) + 1,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "max_position_embeddings": 32,
    "pad_token_id": 1,
    "is_encoder_decoder": True,
}
CONFIG: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {
        "hf_model_name": ".",
        "hf_tokenizer_name": ".",
        "hf_proj_type": "linear",
        "hf_pooler_type": "cls_pooler",
        "context_length": CONTEXT,
    },
    "custom_text": True,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import NllbTokenizer

    found: Path = tmp_path_factory.mktemp("nllb")
    vocabulary = {letter: i for i, letter in enumerate(LETTERS)}
    made = NllbTokenizer(
        vocab=vocabulary, merges=[], additional_special_tokens=CODES, src_lang="eng_Latn", tgt_lang="eng_Latn"
    )
    made.save_pretrained(found)
    (found / "config.json").write_text(json.dumps(TEXT_TOWER))
    (found / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": {}}))
    (found / "arch.json").write_text(json.dumps(CONFIG))
    net = build_network(blueprint(parse_model(f"{found / 'arch.json'}:random@0")))
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, found / "open_clip_model.safetensors")
    return found


def theirs(folder: Path, code: str) -> Any:
    """Return open_clip's own tokenizer with transformers' way to set a language, by clip-benchmark's codes."""
    from clip_benchmark.models.nllb_clip import lang_map
    from open_clip.tokenizer import HFTokenizer

    made = HFTokenizer(str(folder), context_length=CONTEXT)
    made.tokenizer.src_lang = lang_map[code]
    return made


def test_what_clip_benchmark_calls_is_undone_by_transformers(folder: Path) -> None:
    """So its NLLB-CLIPs read every language as English; where this fails, docs/guides/languages.md is out of date."""
    from clip_benchmark.models.nllb_clip import set_language

    english, german = theirs(folder, "en"), theirs(folder, "en")
    set_language(german, "de")
    assert german(["ein hut"]).tolist() == english(["ein hut"]).tolist() != theirs(folder, "de")(["ein hut"]).tolist()


def test_texts_are_tokenized_in_their_language(folder: Path) -> None:
    (source,) = sources(parse_model(str(folder)))
    model = source.load(hardware(device="cpu"))
    asked = [in_language("ein hut", "de"), in_language("hut", "jp"), in_language("ein hut", "en"), "ein hut"]
    found = model.tokenizer(asked)
    wanted = [theirs(folder, code)([text])[0] for code, text in (("de", "ein hut"), ("jp", "hut"), ("en", "ein hut"))]
    assert found.tolist() == torch.stack([*wanted, wanted[2]]).tolist()
    names = model.tokenizer.tokenizer.convert_ids_to_tokens(found[:3, 0].tolist())
    assert names == ["deu_Latn", "jpn_Jpan", "eng_Latn"]
    own = model.encode_texts(asked)
    with torch.no_grad():
        plain = torch.nn.functional.normalize(model.net.encode_text(torch.stack([*wanted, wanted[2]])), dim=-1)
    assert own == pytest.approx(plain.numpy(), abs=1e-6)
    assert abs(own[0] - own[2]).max() > 1e-4, "the language matters"


def test_tokens_are_counted_in_the_language_and_unknown_ones_known(folder: Path) -> None:
    (source,) = sources(parse_model(str(folder)))
    model = source.load(hardware(device="cpu"))
    found = count_tokens(model.tokenizer, [in_language(text, "de") for text in ("", "hut", "ein hut ein hut", "Größe")])
    assert found is not None
    assert found.context == CONTEXT
    assert found.tokens[1] == 3 + 1 + 2, "the letters, the space before them, the language and the end"
    assert found.cut == [False, False, True, False]
    assert found.unknown is not None
    assert found.unknown[:3] == [0, 0, 0]
    assert found.unknown[3] > 0


def test_the_signature_has_the_language_and_notes_say_how_it_is_read(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    texts = {"de": ["ein hut", "ein mensch", "eine lampe"], "jp": ["犬", "猫", "列車"]}
    names = [f"{k}.png" for k in range(3)]
    write(tmp_path / "set/index.txt", "\n".join(names))
    for k, name in enumerate(names):
        picture(tmp_path / "set/images" / name, k)
    for code, lines in texts.items():
        write(tmp_path / f"set/{code}.txt", "\n".join(lines))
    write(
        tmp_path / "set.toml",
        'name = "set"\nversion = 1\nevaluator = "retrieval"\nsummary = "s"\nprimary = "t2i_recall@1"\n'
        'languages = ["de", "jp"]\n[data]\nloader = "caption_lines"\npath = "set"\nindex = "index.txt"\n'
        'captions = "{language}.txt"\n[params]\nks = [1]\n',
    )
    where = ("--data-root", tmp_path, "--output", tmp_path / "results", "--cache", tmp_path / "cache")
    ran = command("run", "--model", folder, "--tasks", tmp_path / "set.toml", *where, "--device", "cpu")
    assert ran.code == 0, ran.err
    records: dict[str, Record] = {r.task: r for r in read(tmp_path / "results")}
    assert {name: r.signature.protocol["language"] for name, r in records.items()} == {"set/de": "de", "set/jp": "jp"}
    assert {r.signature.model["text_language"] for r in records.values()} == {"src_lang of each task"}
    codes = {name: {note.code for note in r.notes} for name, r in records.items()}
    assert "unknown_tokens" in codes["set/jp"]
    assert "unknown_tokens" not in codes["set/de"]
