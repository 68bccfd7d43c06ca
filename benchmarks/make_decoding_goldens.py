"""Write tests/models/data/decoding.json: captions that open_clip_torch 3.3.0 with transformers 4.49.0 generates.

    python -m benchmarks.make_decoding_goldens

The pinned packages go into a folder of their own, laid over the installed torch; nothing installed is changed. Weights
and images are not stored: `build` and `images` draw them from numpy's RandomState, whose stream is frozen for good.
Every caption is generated a second time with all weights moved by a few units of float32's last place, and the two
must agree, so that none depends on a rounding tie.
"""

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import torch

from benchmarks.pinned import environment
from benchmarks.sides import ROOT

GOLDENS = ROOT / "tests" / "models" / "data" / "decoding.json"

VISION = {"image_size": 16, "patch_size": 4, "width": 32, "layers": 1, "head_width": 16, "output_tokens": True}
POOL = {"attentional_pool": True, "attn_pooler_heads": 2}
TEXT = {"context_length": 24, "vocab_size": 50, "width": 32, "heads": 4, "layers": 2, "embed_cls": True}
CASCADE = {**POOL, "attentional_pool": "cascade", "attn_pooler_queries": 9}


def config(vision: dict[str, Any], text: dict[str, Any], decoder: dict[str, Any], **other: Any) -> dict[str, Any]:
    """Return the keywords of CoCa: small towers, changed by what is given."""
    text = {**TEXT, "output_tokens": True, **text}
    shared = {key: text[key] for key in ("context_length", "vocab_size", "width")}
    decoder = {**shared, "heads": 4, "layers": 2, **decoder}
    return {"embed_dim": 32, "vision_cfg": {**VISION, **vision}, "text_cfg": text, "multimodal_cfg": decoder, **other}


def ids(start: int, end: int, pad: int) -> dict[str, int]:
    """Return the special tokens as keywords of generate."""
    return {"sot_token_id": start, "eos_token_id": end, "pad_token_id": pad}


# Shapes and special tokens that differ in what decoding must respect; `often` lists tokens made likely.
MODELS: dict[str, dict[str, Any]] = {
    # coca_ViT-B-32 in small; id 0 is pad and a word, and what follows it is hidden
    "pooled": {"config": config(POOL, {}, {}), "seed": 16, "ids": ids(48, 49, 0), "often": [0, 49]},
    # coca_base: image patches without attentional pooling, other heads in each tower; pad unlike the text tower's 0
    "base": {
        "config": config({"width": 48, "image_size": 20}, {"width": 48, "vocab_size": 83, "heads": 3}, {"layers": 3}),
        "seed": 38,
        "ids": ids(1, 2, 3),
        "often": [0, 2, 3],
    },
    # a pad id that is not 0 in text tower and model, LayerScale, QuickGELU
    "pad_7": {
        "config": config(CASCADE, {"pad_id": 7, "ls_init_value": 0.7}, {"heads": 2}, pad_id=7, quick_gelu=True),
        "seed": 3,
        "ids": ids(0, 6, 7),
        "often": [6, 7],
    },
    # a bidirectional text tower: nothing of it can be cached
    "bidirectional": {
        "config": config(POOL, {"no_causal_mask": True}, {"layers": 1}),
        "seed": 4,
        "ids": ids(48, 49, 0),
        "often": [0, 49],
    },
}

SETTINGS: list[dict[str, Any]] = [
    {"seq_len": 20},
    {"seq_len": 20, "num_beams": 6, "num_beam_groups": 1},
    {"seq_len": 12, "num_beams": 4, "num_beam_groups": 4, "min_seq_len": 0},
    {"seq_len": 24, "num_beams": 9, "num_beam_groups": 3, "min_seq_len": 10},
    {"seq_len": 16, "num_beams": 2, "num_beam_groups": 1, "repetition_penalty": 1.5},
    {"seq_len": 18, "repetition_penalty": 0.8, "fixed_output_length": True},
    {"seq_len": 20, "generation_type": "top_k"},
    {"seq_len": 20, "generation_type": "top_k", "min_seq_len": 12, "repetition_penalty": 1.3},
    {"seq_len": 18, "generation_type": "top_p", "top_p": 0.0, "temperature": 0.5, "fixed_output_length": True},
    {"seq_len": 20, "generation_type": "top_k", "max_seq_len": 8},
    {"seq_len": 20, "generation_type": "top_k", "prompt": True},
    {"seq_len": 20, "decoding": "logprob", "num_beams": 6, "num_beam_groups": 1},
    {"seq_len": 20, "decoding": "logprob", "num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.7},
    {
        "seq_len": 16,
        "decoding": "logprob",
        "num_beams": 6,
        "num_beam_groups": 2,
        "diversity_penalty": 2.5,
        "length_penalty": 0.4,
        "min_seq_len": 8,
        "repetition_penalty": 1.2,
    },
]


def build(name: str) -> Any:
    """Return the tiny CoCa of that name, every parameter drawn anew."""
    from open_clip.coca_model import CoCa

    spec = MODELS[name]
    model = CoCa(**spec["config"])
    initialise(model, spec["seed"], gain=2.0)
    model.text_decoder.text_projection.data[:, spec["often"]] *= 1.6
    return model.eval()


def initialise(model: torch.nn.Module, seed: int, *, gain: float = 1.0) -> None:
    """Fill every parameter: matrices with standard deviation gain / sqrt(width), gains of norms around 1.

    Upstream leaves `text_decoder.text_projection` as torch.empty; here nothing is left to chance.
    """
    random = np.random.RandomState(seed)
    for name, parameter in sorted(model.named_parameters()):
        values = torch.from_numpy(random.standard_normal(tuple(parameter.shape)).astype(np.float32))
        if parameter.ndim >= 2:
            values *= gain * min(parameter.shape) ** -0.5
        else:
            values = values * 0.1 + (1.0 if name.endswith(("weight", "gamma")) else 0.0)
        parameter.data.copy_(values)


def images(name: str, count: int = 6) -> torch.Tensor:
    """Return random images (count, 3, size, size) for that model."""
    size = MODELS[name]["config"]["vision_cfg"]["image_size"]
    random = np.random.RandomState(MODELS[name]["seed"] + 100)
    return torch.from_numpy(random.standard_normal((count, 3, size, size)).astype(np.float32))


def prompt(name: str, count: int = 6) -> torch.Tensor:
    """Return prompts (count, 5) with pads inside; the last row ends with a pad, so it is finished from the start."""
    ids, vocabulary = MODELS[name]["ids"], MODELS[name]["config"]["text_cfg"]["vocab_size"]
    text = np.random.RandomState(MODELS[name]["seed"] + 200).randint(10, vocabulary - 4, (count, 5))
    text[:, 0] = ids["sot_token_id"]
    text[::2, 2] = MODELS[name]["config"]["text_cfg"].get("pad_id", 0)
    text[-1, -1] = ids["pad_token_id"]
    return torch.from_numpy(text)


def settings_of(name: str, case: dict[str, Any]) -> dict[str, Any]:
    """Return keywords of `decode.generate`: the case's, its prompt and the model's special tokens."""
    prompted = {"text": prompt(name)} if case.get("prompt") else {}
    return {key: value for key, value in case.items() if key != "prompt"} | prompted | MODELS[name]["ids"]


def upstream(model: Any, pixels: torch.Tensor, *, decoding: str = "legacy", **settings: Any) -> torch.Tensor:
    """Caption with the peers; `logprob` is their beam loop with their processors behind a log-softmax."""
    captions: torch.Tensor = (_upstream_logprob if decoding == "logprob" else type(model).generate)(
        model, pixels, **settings
    )
    return captions


def _upstream_logprob(
    model: Any,
    pixels: torch.Tensor,
    *,
    sot_token_id: int,
    eos_token_id: int,
    pad_token_id: int,
    seq_len: int,
    num_beams: int,
    num_beam_groups: int,
    min_seq_len: int = 5,
    repetition_penalty: float = 1.0,
    diversity_penalty: float = 0.0,
    length_penalty: float = 1.0,
) -> torch.Tensor:
    import functools

    import transformers as hf
    from open_clip import coca_model

    start, end = torch.tensor([sot_token_id]), torch.tensor([eos_token_id])
    processors = [
        lambda input_ids, scores: scores.log_softmax(-1),
        hf.MinLengthLogitsProcessor(min_seq_len, end),
        hf.RepetitionPenaltyLogitsProcessor(repetition_penalty),
    ]
    if diversity_penalty:
        processors.append(hf.HammingDiversityLogitsProcessor(diversity_penalty, num_beams, num_beam_groups))
    original = coca_model.BeamSearchScorer
    coca_model.BeamSearchScorer = functools.partial(original, length_penalty=length_penalty)
    try:
        return model._generate_beamsearch(
            pixels,
            pad_token_id=pad_token_id,
            eos_token_id=end,
            sot_token_id=start,
            num_beams=num_beams,
            num_beam_groups=num_beam_groups,
            stopping_criteria=hf.StoppingCriteriaList([hf.MaxLengthCriteria(max_length=seq_len)]),
            logit_processor=hf.LogitsProcessorList(processors),
        )
    finally:
        coca_model.BeamSearchScorer = original


@torch.no_grad()
def _goldens() -> dict[str, list[dict[str, Any]]]:
    goldens: dict[str, list[dict[str, Any]]] = {}
    for name in MODELS:
        model, moved, pixels = build(name), build(name), images(name)
        for parameter in moved.parameters():
            parameter.data *= 1 + 1e-6 * torch.randn_like(parameter)
        goldens[name] = []
        for case in SETTINGS:
            settings = settings_of(name, case)
            tokens = upstream(model, pixels, **settings)
            if not torch.equal(tokens, upstream(moved, pixels, **settings)):
                raise SystemExit(f"{name} {case}: a caption depends on a rounding tie; choose another seed")
            goldens[name].append({"settings": case, "tokens": tokens.tolist()})
    return goldens


def main() -> None:
    """Install the peers and start again with them, or, with them, write the goldens."""
    if "--worker" not in sys.argv:
        command = [sys.executable, "-m", "benchmarks.make_decoding_goldens", "--worker"]
        variables = {**os.environ, **environment()}
        raise SystemExit(subprocess.run(command, cwd=ROOT, env=variables, check=False).returncode)
    torch.set_num_threads(1)
    goldens = {
        model: "[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]" for model, cases in _goldens().items()
    }
    GOLDENS.parent.mkdir(parents=True, exist_ok=True)
    GOLDENS.write_text("{\n" + ",\n".join(f'"{model}": {cases}' for model, cases in goldens.items()) + "\n}\n")


if __name__ == "__main__":
    main()
