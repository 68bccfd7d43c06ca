"""One training step of an open_clip network, as open_clip's trainer does it; for measuring, not for training."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, cast

import torch
from open_clip import ClipLoss, CoCaLoss
from open_clip.coca_model import CoCa
from open_clip.hf_model import HFTextEncoder
from torch import Tensor


def loss_of(net: Any) -> torch.nn.Module:
    """Return open_clip's loss for a network: CoCa's with weights 1 and 2, or CLIP's."""
    weights = {"caption_loss_weight": 2.0, "clip_loss_weight": 1.0}
    return cast(torch.nn.Module, CoCaLoss(**weights) if isinstance(net, CoCa) else ClipLoss())


def total_loss(net: Any, images: Tensor, texts: Tensor, loss: torch.nn.Module) -> Tensor:
    """Return the summed losses of a batch."""
    net.output_dict = True
    losses: dict[str, Tensor] = loss(**net(images, texts), output_dict=True)
    return torch.stack([value.float() for value in losses.values()]).sum()


def batch_for(net: Any, n: int, device: torch.device | str, *, tokens: int) -> tuple[Tensor, Tensor]:
    """Return n seeded noise images and n texts of random ids, (n, 3, h, w) float32 and (n, tokens) int64."""
    size = net.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    if str(device) == "meta":
        return torch.empty(n, 3, height, width, device=device), torch.empty(n, tokens, dtype=torch.long, device=device)
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(n, 3, height, width, generator=rng)
    return images.to(device), torch.randint(1, vocabulary(net), (n, tokens), generator=rng).to(device)


def vocabulary(net: Any) -> int:
    """Return how many token ids the text tower embeds."""
    text = getattr(net, "text", net)
    if hasattr(text, "token_embedding"):
        return int(text.token_embedding.weight.shape[0])
    return int(text.transformer.get_input_embeddings().weight.shape[0])


def tokens_of(net: Any) -> int:
    """Return the length of a text as the network is trained: 76 for a CoCa whose tower appends a CLS token."""
    return int(getattr(net, "context_length", None) or net.text.context_length)


def shapes_of(net: Any) -> Any:
    """Return a copy of a network on the meta device: its shapes, without its numbers."""
    memo: dict[int, Any] = {id(p): torch.nn.Parameter(torch.empty_like(p, device="meta")) for p in net.parameters()}
    memo |= {id(buffer): torch.empty_like(buffer, device="meta") for buffer in net.buffers()}
    return deepcopy(net, memo)


def saved_bytes(net: Any, n: int, *, checkpointing: bool = False) -> int:
    """Return the bytes that the backward pass of n samples keeps, parameters aside; leaves net in training mode.

    0 where it cannot be told from shapes: Hugging Face's text towers look at the values of their inputs.
    """
    if isinstance(getattr(net, "text", None), HFTextEncoder):
        return 0
    device = next(net.parameters()).device
    own = {parameter.untyped_storage()._cdata for parameter in net.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    images, texts = batch_for(net, n, device, tokens=tokens_of(net))
    if checkpointing:
        net.set_grad_checkpointing(True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        total_loss(net.train(), images, texts, loss_of(net))
    return sum(storage.nbytes() for storage in kept.values())
