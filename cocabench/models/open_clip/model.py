"""open_clip checkpoints as Models: features of images and texts; for CoCa also captions and their likelihoods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor

from cocabench.core.types import Ability, Note, Progress, Workload, silent
from cocabench.models import profiling
from cocabench.models.base import (
    CaptionBatch,
    Continuation,
    LogprobBatch,
    Model,
    ScoreCaptions,
    WriteCaptions,
    unit,
)
from cocabench.models.contexts import evaluating
from cocabench.models.hardware import Hardware
from cocabench.models.interactive import ScoreWords, Word
from cocabench.models.loading import once_in_a_row
from cocabench.models.open_clip.blueprint import CONTRASTIVE, GENERATIVE, Blueprint
from cocabench.models.open_clip.build import (
    Tokenizer,
    build_network,
    build_tokenizer,
    build_transform,
    tower_parameters,
    vocabulary,
)
from cocabench.models.open_clip.captions import (
    asked,
    caption_texts,
    caption_words,
    continuation_tokens,
    decode_options,
    prompt_tokens,
    shower,
    special_ids,
    truncated,
)
from cocabench.models.open_clip.counts import count_tokens
from cocabench.models.open_clip.decoding.generate import encoded_logprob, encoded_logprob_of_all, generate_encoded
from cocabench.models.open_clip.decoding.towers import context_limit
from cocabench.models.open_clip.onednn import Layers
from cocabench.models.open_clip.text import encode_tokens
from cocabench.models.pixels import Transform
from cocabench.models.tokens import TokenCounts

MIN_TEXTS_TO_SHARE = 16
"""With so many texts, the same for all images of a batch, as classes are, what they begin with is computed once."""

CAPTIONS_PER_PASS = 512
"""Captions scored per forward pass: their activations dominate the memory."""


def abilities_of(net: Any) -> frozenset[Ability]:
    """Return the abilities of a network; a CoCa has a decoder."""
    return GENERATIVE if hasattr(net, "text_decoder") else CONTRASTIVE


class OpenClip(Model):
    """A CLIP or CoCa of open_clip on its device. compiled: the compiled image encoder, with --compile.

    The network may be in training mode: modules are set to evaluation mode for each batch, and back.
    """

    def __init__(
        self,
        id: str,  # noqa: A002
        net: Any,
        tokenizer: Tokenizer,
        transform: Transform,
        hardware: Hardware,
        *,
        notes: Sequence[Note] = (),
    ) -> None:
        super().__init__(id, transform, hardware, parameters=tower_parameters(net), notes=notes)
        self.net, self.tokenizer = net, tokenizer
        self.abilities = abilities_of(net)
        self.scores_words = "score_captions" in self.abilities
        self.compiled: Callable[[Tensor], Tensor] | None = None
        plain = hardware.device == "cpu" and hardware.precision == "fp32"
        self._layers: Callable[[], AbstractContextManager[None]] = nullcontext
        if plain and not hardware.compile:  # torch.compile cannot take oneDNN's layers
            self._layers = Layers(net)
        self._dtype = next(p.dtype for p in net.parameters() if p.is_floating_point())

    def logit_scale(self) -> float:
        """Return the factor of cosines that the network has learned."""
        return float(self.net.logit_scale.detach().exp())

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute in evaluation mode, with oneDNN's layers in fp32 on a CPU."""
        with ExitStack() as stack:
            stack.enter_context(evaluating(self.net))
            stack.enter_context(self._layers())
            yield

    def encode_image_batch(self, pixels: Tensor) -> Tensor:
        """Return the network's encode_image; a CoCa's is normalized."""
        return (self.compiled or self.net.encode_image)(self._cast(pixels))

    def unnormalized_image_batch(self, pixels: Tensor) -> Tensor:
        """Return the projected, unnormalized features of the image tower."""
        return torch.as_tensor(self.net.encode_image(self._cast(pixels), normalize=False))

    def pooled_image_batch(self, pixels: Tensor) -> Tensor:
        """Return the features before the projection: a CoCa's pooler after its ln_post. Not all towers have them."""
        pool = _pooling(self.net.visual)
        return super().pooled_image_batch(pixels) if pool is None else pool(self._cast(pixels))

    def encode_text_block(self, texts: list[str], progress: Progress) -> Tensor:
        """Encode texts, computing common prefixes once."""

        def run(encode: Callable[[Tensor], Tensor], token_ids: Tensor) -> Tensor:
            return torch.cat(self.run_batch("texts", lambda some: unit(encode(some)), token_ids))

        token_ids = self.tokenizer(texts)
        self.check_ids(token_ids, vocabulary(self.net))
        return encode_tokens(self.net, token_ids, run=run, progress=progress)

    def count_tokens(self, texts: Sequence[str]) -> TokenCounts | None:
        """Return how many tokens texts have; of longer ones than the context the end token is in the last place."""
        return count_tokens(self.tokenizer, texts)

    def captioner(self, options: Mapping[str, Any], prompts: Sequence[str]) -> WriteCaptions:
        """Check options and prompts; images with prompts of equal length are captioned together."""
        if "caption" not in self.abilities:
            return super().captioner(options, prompts)
        ids, chosen = special_ids(self.tokenizer, self.net), decode_options(options, context_limit(self.net))
        starts = [prompt_tokens(self.tokenizer, prompt, ids, chosen) for prompt in prompts]
        for start in starts:
            self.check_ids(start, vocabulary(self.net))
        lengths = torch.tensor([start.shape[1] for start in starts])

        def write(pixels: Tensor, numbers: Tensor) -> CaptionBatch:
            pooled, embs = self._once(pixels)
            found: dict[int, tuple[str, float, bool]] = {}
            for length in lengths[numbers].unique().tolist():
                rows = (lengths[numbers] == length).nonzero()[:, 0]
                some = embs if len(rows) == len(embs) else embs[rows.to(embs.device)]
                text = torch.cat([starts[number] for number in numbers[rows].tolist()])
                own, first = asked(options, chosen, length)
                watch = shower(self, self.tokenizer, ids, first) if self.watch else None
                tokens, scores = generate_encoded(self.net, some, options=own, text=text, watch=watch, **ids._asdict())
                texts, cut = caption_texts(self.tokenizer, tokens[:, first:], ids), truncated(tokens, ids, own)
                found |= zip(rows.tolist(), zip(texts, scores.tolist(), cut, strict=True), strict=True)
            all_texts, all_scores, all_cut = zip(*(found[i] for i in range(len(embs))), strict=True)
            return CaptionBatch(all_texts, all_scores, all_cut, self._features(pooled))

        return write

    def caption_scorer(self, continuations: Sequence[Continuation]) -> ScoreCaptions:
        """Tokenize the texts, cut to the model's context."""
        if "score_captions" not in self.abilities:
            return super().caption_scorer(continuations)
        ids = special_ids(self.tokenizer, self.net)
        tokens, counted = continuation_tokens(self.tokenizer, continuations, ids)
        self.check_ids(tokens, min(vocabulary(self.net), int(self.net.text_decoder.text_projection.shape[1])))
        ends = {"eos_token_id": ids.eos_token_id, "pad_token_id": ids.pad_token_id}

        def score(pixels: Tensor, numbers: Tensor) -> LogprobBatch:
            pooled, embs = self._once(pixels)
            together, totals = max(1, CAPTIONS_PER_PASS // numbers.shape[1]), []
            shared = numbers.shape[1] >= MIN_TEXTS_TO_SHARE and bool((numbers == numbers[:1]).all())
            for some, own in zip(embs.split(together), numbers.split(together), strict=True):
                if shared:
                    found = encoded_logprob_of_all(self.net, some, tokens[own[0]].to(embs.device), **ends).per_token
                else:
                    found = encoded_logprob(self.net, some, tokens[own].to(embs.device), **ends).per_token
                left_out = ~counted[own][..., 1:].to(embs.device)
                totals.append(found.masked_fill(left_out, 0).sum(-1).cpu())
            return LogprobBatch(torch.cat(totals), counted[numbers].sum(-1), self._features(pooled))

        return score

    def word_scorer(self, texts: Sequence[str]) -> ScoreWords:
        """Tokenize the texts, cut to the model's context."""
        if "score_captions" not in self.abilities:
            return super().word_scorer(texts)
        ids = special_ids(self.tokenizer, self.net)
        tokens, counted = continuation_tokens(self.tokenizer, [Continuation("", text) for text in texts], ids)
        self.check_ids(tokens, min(vocabulary(self.net), int(self.net.text_decoder.text_projection.shape[1])))
        ends = {"eos_token_id": ids.eos_token_id, "pad_token_id": ids.pad_token_id}

        def score(pixels: Tensor, numbers: Tensor) -> list[list[Word]]:
            _, embs = self.net.visual(self._cast(pixels))
            found = encoded_logprob(self.net, embs, tokens[numbers].to(embs.device), **ends).per_token.cpu()
            return caption_words(self.tokenizer, tokens[numbers], counted[numbers], found, ids)

        return score

    def costs(self, work: Workload, *, progress: Progress = silent) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (repeat, {metric: value}): operations, speed and memory on this device."""
        return profiling.costs(self, work, progress)

    def _once(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image tower's outputs, encoding once what stands several times in a row: one image's questions."""
        distinct, places = once_in_a_row(pixels)
        pooled, embs = self.net.visual(self._cast(distinct))
        return (pooled, embs) if distinct is pixels else (pooled[places], embs[places])

    def _features(self, pooled: Tensor) -> Tensor | None:
        """Return what encode_images computes from the image tower's output, to the bit; None with --compile.

        A CoCa's encode_image normalizes, and the base class does so again; normalizing once would change last bits.
        """
        return None if self.compiled else unit(F.normalize(pooled, dim=-1))

    def _cast(self, pixels: Tensor) -> Tensor:
        """Return pixels in the weights' dtype: a user's network may be entirely in half precision."""
        return pixels.to(self._dtype)


def _pooling(visual: Any) -> Callable[[Tensor], Tensor] | None:
    """Return the image tower up to its projection; None if they cannot be separated (ResNets' attention pooling)."""
    if isinstance(visual, VisionTransformer):
        return lambda pixels: visual._pool(visual.transformer(visual._embeds(pixels)))[0]
    if isinstance(visual, TimmModel) and not hasattr(visual.head, "pool"):
        return lambda pixels: visual.trunk.forward_head(visual.trunk.forward_features(pixels), pre_logits=True)
    return None


def loaded(plan: Blueprint, hardware: Hardware) -> OpenClip:
    """Return the model of a Blueprint on its device, ready to encode."""
    notes = [note for note in plan.notes if note.code == "preprocess_assumed"]
    net = build_network(plan, note=notes.append)
    placed = net.to(hardware.device)
    notes += [Note("random_weights", "random weights, not trained")] if plan.seed is not None else []
    if plan.captions and getattr(net.text, "attn_mask", None) is None:
        said = "the text tower is not causal: in training the caption loss saw the words to predict"
        notes.append(Note("not_causal", said))
    transform = build_transform(net.visual.preprocess_cfg, plan.resize)
    model = OpenClip(plan.id, placed, build_tokenizer(plan), transform, hardware, notes=notes)
    model.compiled = _compiled(plan.id, net) if hardware.compile else None
    return model


def _compiled(name: str, net: Any) -> Callable[[Tensor], Tensor]:
    from cocabench.models.compiled import compiled  # importing torch's compiler takes a second

    return compiled(net.encode_image, name)
