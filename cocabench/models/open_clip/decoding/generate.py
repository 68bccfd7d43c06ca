"""Captions and caption likelihoods from an open_clip CoCa, exact and fast, without transformers.

`generate` takes and returns what open_clip's `CoCa.generate` does. Its `legacy` beam search reproduces
open_clip_torch 3.3.0 with transformers 4.49 token for token in fp32, including its quirks:

- beams are scored by sums of raw logits, divided by the generated length, start and end token counted;
- a text tower with a CLS token hides the key after every pad id, also after a generated one.

It is faster because each step feeds one token per beam: keys and values are cached, the image is encoded once, its
cross-attention keys are computed once instead of per beam, equal beam groups are computed once, and finished images
leave the batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from cocabench.models.contexts import evaluating
from cocabench.models.open_clip.decoding.likelihood import CaptionLogprob, logprobs, shared_logprobs
from cocabench.models.open_clip.decoding.options import (
    DecodeOptions,
    SpecialTokens,
    check_images,
    check_text,
    special_tokens,
)
from cocabench.models.open_clip.decoding.search import Caption, beam_search, sample
from cocabench.models.open_clip.decoding.steps import Stepping, Steps, Watch, WatchedSteps, prepare
from cocabench.models.open_clip.decoding.towers import context_limit
from cocabench.specs.decoding import DEFAULTS, MAX_SEQ_LEN, Decoding, GenerationType

__all__ = [
    "CaptionLogprob",
    "DecodeOptions",
    "Generated",
    "caption_logprob",
    "encoded_logprob",
    "generate",
    "generate_encoded",
    "generate_scored",
]


class Generated(NamedTuple):
    """tokens: (b, length) ids with start and end token, then pads. scores: (b,) float32, higher is better.

    A score is a sum over the caption divided by its length: of raw logits in legacy beam search (any sign, not a
    probability), of log-probabilities otherwise. Scores of different modes are not comparable.
    """

    tokens: Tensor
    scores: Tensor


def generate(
    model: Any,
    images: Tensor,
    *,
    text: Tensor | None = None,
    seq_len: int = DEFAULTS.seq_len,
    max_seq_len: int = MAX_SEQ_LEN,
    temperature: float = DEFAULTS.temperature,
    generation_type: GenerationType = DEFAULTS.generation_type,
    top_p: float = DEFAULTS.top_p,
    top_k: int = DEFAULTS.top_k,
    pad_token_id: int | Tensor | None = None,
    eos_token_id: int | Tensor | None = None,
    sot_token_id: int | Tensor | None = None,
    num_beams: int = DEFAULTS.num_beams,
    num_beam_groups: int = DEFAULTS.num_beam_groups,
    min_seq_len: int = DEFAULTS.min_seq_len,
    repetition_penalty: float = DEFAULTS.repetition_penalty,
    fixed_output_length: bool = False,
    decoding: Decoding = DEFAULTS.decoding,
    diversity_penalty: float = DEFAULTS.diversity_penalty,
    length_penalty: float = DEFAULTS.length_penalty,
    seed: int = DEFAULTS.seed,
) -> Tensor:
    """Return captions (b, length) of images (b, 3, height, width); see `DecodeOptions` and `generate_scored`."""
    options = DecodeOptions(
        generation_type=generation_type,
        decoding=decoding,
        num_beams=num_beams,
        num_beam_groups=num_beam_groups,
        seq_len=seq_len,
        min_seq_len=min_seq_len,
        max_seq_len=max_seq_len,
        top_k=top_k,
        top_p=top_p,
        temperature=temperature,
        repetition_penalty=repetition_penalty,
        diversity_penalty=diversity_penalty,
        length_penalty=length_penalty,
        seed=seed,
    )
    return generate_scored(
        model,
        images,
        options=options,
        text=text,
        sot_token_id=sot_token_id,
        eos_token_id=eos_token_id,
        pad_token_id=pad_token_id,
        fixed_output_length=fixed_output_length,
    ).tokens


@torch.no_grad()
def generate_scored(
    model: Any,
    images: Tensor,
    *,
    options: DecodeOptions | None = None,
    text: Tensor | None = None,
    sot_token_id: int | Tensor | None = None,
    eos_token_id: int | Tensor | None = None,
    pad_token_id: int | Tensor | None = None,
    fixed_output_length: bool = False,
    stepping: Stepping = "cached",
) -> Generated:
    """Return captions and their scores.

    images: (b, 3, height, width), on the model's device and in its dtype.
    text: first tokens of the captions, (b, p), or (p,) for all images; by default the start token. open_clip ignores
        it in beam search; here beams continue it, so it must not end with an end or pad token there.
    fixed_output_length: pad to seq_len instead of to the longest caption.
    stepping: how a step is computed; the result is the same. "cached", "cuda_graphs" (a cached step is captured and
        replayed; on CUDA only), or "recomputed" (every prefix anew, as text towers that are not causal always are).
    """
    check_images(images)
    with evaluating(model):
        _, image_embs = model.visual(images)
    return generate_encoded(
        model,
        image_embs,
        options=options,
        text=text,
        sot_token_id=sot_token_id,
        eos_token_id=eos_token_id,
        pad_token_id=pad_token_id,
        fixed_output_length=fixed_output_length,
        stepping=stepping,
    )


@torch.no_grad()
def generate_encoded(
    model: Any,
    image_embs: Tensor,
    *,
    options: DecodeOptions | None = None,
    text: Tensor | None = None,
    sot_token_id: int | Tensor | None = None,
    eos_token_id: int | Tensor | None = None,
    pad_token_id: int | Tensor | None = None,
    fixed_output_length: bool = False,
    stepping: Stepping = "cached",
    watch: Watch | None = None,
) -> Generated:
    """Do as `generate_scored` for encoded images: the image tower's tokens (b, tokens, width). watch: see `decoded`."""
    options = options or DecodeOptions()
    tokens = special_tokens(model, sot_token_id, eos_token_id, pad_token_id)
    prompt = _prompt(text, image_embs, tokens)
    _check_fits(model, prompt, options, tokens)
    with evaluating(model):
        steps = _steps(model, image_embs, prompt, options, stepping)
        result = decoded(steps, prompt, options, tokens, fixed_output_length=fixed_output_length, watch=watch)
    single = text is not None and text.ndim == 1 and len(image_embs) == 1
    return Generated(result.tokens[0], result.scores[0]) if single else result


def decoded(
    steps: Steps,
    prompt: Tensor,
    options: DecodeOptions,
    tokens: SpecialTokens,
    *,
    fixed_output_length: bool = False,
    watch: Watch | None = None,
) -> Generated:
    """Return the captions that continue prompt (b, p), by the next-token logits of any network.

    watch: called before each further step with the leading captions (a, length) of the a images that are not finished.
    """
    if watch is not None:
        steps = WatchedSteps(steps, watch)
    if options.generation_type != "beam_search":
        return Generated(*sample(steps, prompt, options, tokens, fixed_output_length=fixed_output_length))
    captions = beam_search(steps, prompt, options, tokens)
    return _assemble(captions, options, tokens, options.seq_len if fixed_output_length else None, prompt.device)


@torch.no_grad()
def caption_logprob(
    model: Any,
    images: Tensor,
    texts: Tensor,
    *,
    eos_token_id: int | Tensor | None = None,
    pad_token_id: int | Tensor | None = None,
) -> CaptionLogprob:
    """Return log p(text | image), in total and per token.

    texts: (b, p) one text per image, or (b, m, p) several; ids from the start token on, as the tokenizer pads them.
    """
    check_images(images)
    with evaluating(model):
        _, image_embs = model.visual(images)
    return encoded_logprob(model, image_embs, texts, eos_token_id=eos_token_id, pad_token_id=pad_token_id)


@torch.no_grad()
def encoded_logprob(
    model: Any,
    image_embs: Tensor,
    texts: Tensor,
    *,
    eos_token_id: int | Tensor | None = None,
    pad_token_id: int | Tensor | None = None,
) -> CaptionLogprob:
    """Do as `caption_logprob` for encoded images: the image tower's tokens (b, tokens, width)."""
    tokens = special_tokens(model, None, eos_token_id, pad_token_id)
    if texts.ndim not in (2, 3) or len(texts) != len(image_embs) or texts.shape[-1] < 2:
        wanted = f"({len(image_embs)}, length >= 2) or ({len(image_embs)}, n, length >= 2)"
        raise ValueError(f"texts: got shape {tuple(texts.shape)}, wanted {wanted}")
    several = texts if texts.ndim == 3 else texts[:, None]
    with evaluating(model):
        result = logprobs(model, image_embs, several.long(), end=tokens.end, pad=tokens.pad)
    return result if texts.ndim == 3 else CaptionLogprob(*(part[:, 0] for part in result))


@torch.no_grad()
def encoded_logprob_of_all(
    model: Any,
    image_embs: Tensor,
    texts: Tensor,
    *,
    eos_token_id: int | Tensor | None = None,
    pad_token_id: int | Tensor | None = None,
) -> CaptionLogprob:
    """Do as `encoded_logprob` for texts (m, p) that are the same for all images; their common prefix is read once."""
    tokens = special_tokens(model, None, eos_token_id, pad_token_id)
    with evaluating(model):
        return shared_logprobs(model, image_embs, texts.long(), end=tokens.end, pad=tokens.pad)


def _prompt(text: Tensor | None, images: Tensor, tokens: SpecialTokens) -> Tensor:
    if text is None:
        return torch.full((len(images), 1), tokens.start, device=images.device)
    rows = text.expand(len(images), -1) if text.ndim == 1 else text
    check_text(rows, len(images))
    return rows.to(images.device, torch.long)


def _check_fits(model: Any, prompt: Tensor, options: DecodeOptions, tokens: SpecialTokens) -> None:
    """Raise ValueError for inputs with which the towers would fail or captions never end."""
    vocabulary = int(model.text_decoder.text_projection.shape[1])
    if not 0 <= tokens.end < vocabulary:
        raise ValueError(
            f"eos_token_id: got {tokens.end}, wanted an id that the decoder can write (0-{vocabulary - 1})"
        )
    beams, length = options.generation_type == "beam_search", prompt.shape[1]
    if beams and length >= options.seq_len:
        raise ValueError(f"text: got {length} tokens, wanted fewer than seq_len ({options.seq_len}) in beam search")
    if beams and bool(((prompt[:, -1] == tokens.end) | (prompt[:, -1] == tokens.pad)).any()):
        raise ValueError("text: got a prompt that ends with the end or pad token, wanted one that can be continued")
    shown = _longest_input(prompt, options)
    shown = shown if beams else min(shown, options.max_seq_len)
    if shown > context_limit(model):
        raise ValueError(f"seq_len: got {options.seq_len}, wanted at most {context_limit(model) + 1} with this model")


def _longest_input(prompt: Tensor, options: DecodeOptions) -> int:
    """Return the longest input; the last token of a caption is generated but never fed."""
    return max(prompt.shape[1], options.seq_len - 1)


def _steps(model: Any, image_embs: Tensor, prompt: Tensor, options: DecodeOptions, stepping: Stepping) -> Steps:
    """Return the stepper; no cache if sampling's window slides over a longer caption, since positions shift then."""
    longest = _longest_input(prompt, options)
    window = longest if options.generation_type == "beam_search" else options.max_seq_len
    return prepare(model, image_embs, window=window, stepping=stepping if longest <= window else "recomputed")


def _assemble(
    captions: list[Caption], options: DecodeOptions, tokens: SpecialTokens, length: int | None, device: torch.device
) -> Generated:
    """Lay captions out as rows: the tokens, an end token where one fits, pads."""
    longest = max(len(caption.tokens) for caption in captions)
    length = length or min(longest + 1, options.seq_len)
    rows = [([*c.tokens, tokens.end] + [tokens.pad] * length)[:length] for c in captions]
    scores = torch.tensor([c.score for c in captions], dtype=torch.float32, device=device)
    return Generated(torch.tensor(rows, device=device), scores)
