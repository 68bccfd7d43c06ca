"""open_clip checkpoints as Models: unit-norm float32 features, and captions from a CoCa."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from cocabench.core.errors import ModelError, NotACaptionerError, NumericsError
from cocabench.core.types import Captions, Features, ImageFeatures, ImageSource, Likelihoods, Progress, Workload, silent
from cocabench.models import onednn, profiling
from cocabench.models.batches import batches
from cocabench.models.hardware import Hardware
from cocabench.models.open_clip.blueprint import Blueprint
from cocabench.models.open_clip.build import (
    Tokenizer,
    Transform,
    build_network,
    build_tokenizer,
    build_transform,
    tower_parameters,
)
from cocabench.models.open_clip.captions import (
    SpecialIds,
    caption_texts,
    decode_options,
    prompt_tokens,
    special_ids,
    truncated,
)
from cocabench.models.open_clip.decode import encoded_logprob, generate_encoded
from cocabench.models.open_clip.decoding.likelihood import counted_tokens
from cocabench.models.open_clip.text import encode_tokens

MOST_TEXTS = 512  # captions whose likelihoods are computed at once: their activations, not the weights, fill the memory

T = TypeVar("T")
Numbers = TypeVar("Numbers", bound=NDArray[Any])


@dataclass
class OpenClip:
    """A loaded CLIP or CoCa. warnings grows while it runs (halved batches). layers: entered around each computation.

    compiled: images to features, with --compile.
    """

    id: str
    net: Any
    tokenizer: Tokenizer
    transform: Transform
    hardware: Hardware
    captions: bool
    parameters: dict[str, int]
    warnings: list[str] = field(default_factory=list)
    layers: Callable[[], AbstractContextManager[None]] = nullcontext
    compiled: Callable[[torch.Tensor], torch.Tensor] | None = None
    _batch_limits: dict[str, int] = field(default_factory=dict)

    def encode_images(self, images: Sequence[ImageSource], *, progress: Progress = silent) -> ImageFeatures:
        """Return unit rows for the images that could be read."""
        parts, kept = self._over_images(images, self._image_features, progress)
        rows = torch.cat(parts).numpy() if parts else np.empty((0, 0), np.float32)
        return ImageFeatures(_checked("features", rows, [images[i] for i in kept]), kept)

    def encode_texts(self, texts: Sequence[str], *, progress: Progress = silent) -> Features:
        """Return a unit row per text. Equal texts are encoded once and share bits, so that their ties are exact."""
        distinct = list(dict.fromkeys(texts))
        rows = encode_tokens(
            self.net,
            self.tokenizer(distinct),
            run=lambda encode, tokens: torch.cat(self._smaller_if_needed(partial(_unit, encode), "texts", tokens)),
            progress=progress,
        )
        position = {text: i for i, text in enumerate(distinct)}
        return _checked("features", rows.numpy(), distinct)[[position[text] for text in texts]]

    def caption(
        self, images: Sequence[ImageSource], options: Mapping[str, Any], *, progress: Progress = silent
    ) -> Captions:
        """Return a caption for each image that could be read. NotACaptionerError for a model without a decoder.

        options: those of `DecodeOptions`, and prompt: the first words of every caption. Under --compile no features
        come with them: those of encode_images would differ in their last bits.
        """
        ids = self._caption_ids()
        prompt = options.get("prompt", "")
        chosen = decode_options({name: value for name, value in options.items() if name != "prompt"}, self.net)
        text = prompt_tokens(self.tokenizer, prompt, ids, chosen) if prompt else None

        def decode(pixels: torch.Tensor) -> tuple[torch.Tensor, list[tuple[str, float, bool]]]:
            first = None if text is None else text.expand(len(pixels), -1)
            pooled, embs = self.net.visual(pixels)
            tokens, scores = generate_encoded(self.net, embs, options=chosen, text=first, **ids._asdict())
            texts, cut = caption_texts(self.tokenizer, tokens, ids), truncated(tokens, ids, chosen)
            return _normalized(pooled), list(zip(texts, scores.tolist(), cut, strict=True))

        found, kept = self._over_images(images, decode, progress, stage="captions")
        rows = [row for _, part in found for row in part]
        scores, read = [score for _, score, _ in rows], [images[i] for i in kept]
        _checked("score", np.array(scores), read)
        features = self._made_on_the_way([part for part, _ in found], read)
        return Captions([text for text, _, _ in rows], scores, kept, [cut for _, _, cut in rows], features)

    def likelihoods(
        self, images: Sequence[ImageSource], texts: Sequence[Sequence[str]], *, progress: Progress = silent
    ) -> Likelihoods:
        """Return how likely each image's texts are as captions of it; texts are cut to the model's context.

        texts: a row per image, all of one length. Equal texts are tokenized once. Features come as with captions.
        """
        ids = self._caption_ids()
        position = {text: i for i, text in enumerate(dict.fromkeys(text for row in texts for text in row))}
        tokens = self.tokenizer(list(position))
        rows = torch.tensor([[position[text] for text in row] for row in texts])
        together = max(1, MOST_TEXTS // rows.shape[1])

        ends = {"eos_token_id": ids.eos_token_id, "pad_token_id": ids.pad_token_id}

        def score(pixels: torch.Tensor, own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            pooled, embs = self.net.visual(pixels)
            captions = tokens[own.cpu()].to(pixels.device)
            parts = zip(embs.split(together), captions.split(together), strict=True)
            totals = [encoded_logprob(self.net, some, theirs, **ends).total.cpu() for some, theirs in parts]
            return _normalized(pooled), torch.cat(totals)

        found, kept = self._over_images(images, score, progress, stage="likelihoods", beside=rows)
        read = [images[i] for i in kept]
        logprobs = torch.cat([part for _, part in found] or [torch.empty(0, rows.shape[1])]).numpy()
        _checked("log-probabilities", logprobs, read)
        n_tokens = counted_tokens(tokens, end=ids.eos_token_id, pad=ids.pad_token_id)[:, 1:].sum(1)[rows[kept]]
        features = self._made_on_the_way([part for part, _ in found], read)
        return Likelihoods(logprobs, n_tokens.numpy(), kept, features)

    def _made_on_the_way(self, parts: list[torch.Tensor], read: Sequence[ImageSource]) -> Features | None:
        """Return the features of the images read, for encode_images; None under --compile, which makes others."""
        pooled = torch.cat(parts or [torch.empty(0, 0)]).numpy()
        return None if self.compiled else _checked("features", pooled, read)

    def _caption_ids(self) -> SpecialIds:
        if not self.captions:
            raise NotACaptionerError(self.id, "a model without a caption decoder", wanted="a CoCa")
        return special_ids(self.tokenizer, self.net)

    def costs(self, work: Workload, *, progress: Progress = silent) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (repeat, {metric: value}): operations, speed and memory on this device."""
        return profiling.costs(self, work, progress)

    def _over_images(
        self,
        images: Sequence[ImageSource],
        work: Callable[..., T],
        progress: Progress,
        *,
        stage: str = "images",
        beside: torch.Tensor | None = None,
    ) -> tuple[list[T], NDArray[np.int64]]:
        """Return what work makes of each batch's pixels; beside: a row per image (n, …) that it is given with them."""
        done, positions = [], []
        loaded = batches(
            images,
            self.transform,
            batch_size=self.hardware.images_per_batch,
            workers=self.hardware.workers,
            skip_bad=self.hardware.skip_bad_images,
            pin=self.hardware.device.type == "cuda",
        )
        for batch in loaded:
            rows = () if beside is None else (beside[batch.positions],)
            done += self._smaller_if_needed(work, stage, batch.pixels, *rows)
            positions.append(batch.positions)
            progress(stage, batch.done, len(images))
        return done, np.concatenate(positions) if positions else np.empty(0, np.int64)

    def _smaller_if_needed(self, work: Callable[..., T], kind: str, *inputs: torch.Tensor) -> list[T]:
        """Run work on inputs (n, …), in halves after running out of memory; this kind of work stays at that size."""
        size = min(len(inputs[0]), self._batch_limits.get(kind, len(inputs[0])))
        device, parts = self.hardware.device, zip(*(one.split(size) for one in inputs), strict=True)
        try:
            with self.hardware.exactly(), self.layers():
                return [work(*(one.to(device, non_blocking=True) for one in part)) for part in parts]
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            if size == 1:
                got = f"out of memory with one sample on {self.hardware.device}"
                raise ModelError(self.id, got, fix="--device cpu, another --precision, or a smaller model") from None
        self._batch_limits[kind] = size // 2
        self.warnings.append(f"out of memory at {size} {kind} a batch; went on with {size // 2}")
        if self.hardware.device.type == "cuda":
            torch.cuda.empty_cache()
        return self._smaller_if_needed(work, kind, *inputs)

    def _image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        return _unit(self.compiled or self.net.encode_image, pixels)


def _unit(encode: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    return F.normalize(encode(inputs).float(), dim=-1).cpu()


def _normalized(pooled: torch.Tensor) -> torch.Tensor:
    """Return what encode_image makes of the image tower's output, to the bit."""
    return _unit(partial(F.normalize, dim=-1), pooled)


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _checked(what: str, values: Numbers, inputs: Sequence[object]) -> Numbers:
    """Return the values, (n,) or (n, d); NumericsError that names the first input whose row is not finite."""
    bad = np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))
    if len(bad):
        got = f"NaN or infinity in the {what} of {len(bad)} of {len(inputs)}"
        fix = "the weights or the precision are broken; try --precision fp32"
        raise NumericsError(str(inputs[bad[0]]), got, wanted="finite numbers", fix=fix)
    return values


def built(plan: Blueprint) -> Any:
    """Return the network that a blueprint describes, on the CPU."""
    return build_network(plan)


def placed(plan: Blueprint, net: Any, hardware: Hardware) -> OpenClip:
    """Return the model of a built network, on its device, ready to encode."""
    plain = hardware.device.type == "cpu" and hardware.precision == "fp32"
    by_onednn = plain and not hardware.compile  # torch.compile cannot take oneDNN's layers
    return OpenClip(
        id=plan.id,
        net=net.to(hardware.device),
        tokenizer=build_tokenizer(plan),
        transform=build_transform(net),
        hardware=hardware,
        captions=plan.captions,
        parameters=tower_parameters(net),
        warnings=_warnings(plan, net),
        layers=onednn.Layers(net) if by_onednn else nullcontext,
        compiled=_compiled(plan, net) if hardware.compile else None,
    )


def _compiled(plan: Blueprint, net: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    from cocabench.models.compiled import compiled  # torch's compiler takes a second to import

    return compiled(net.encode_image, plan.id)


def _warnings(plan: Blueprint, net: Any) -> list[str]:
    found = ["random weights, not trained"] if plan.seed is not None else []
    if plan.captions and getattr(net.text, "attn_mask", None) is None:
        found.append("its text tower is not causal: in training the caption loss saw the words that it was to predict")
    return found
