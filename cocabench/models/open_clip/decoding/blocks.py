"""open_clip's residual attention blocks, taken apart so that keys and values can be kept between steps.

Shapes: b images, r rows (a multiple of b), n positions, h heads, e = width / h, k keys.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Linear = Callable[[Tensor], Tensor]

Write = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Keeps new keys and values (r, n, width) and returns all there are (r, k, width)."""


def linear(weight: Tensor, bias: Tensor | None) -> Linear:
    """Return x -> x @ weight.T + bias.

    In fp32 on CPU oneDNN computes it: for 3 to 100 rows it is 1.5 to 2 times faster than the BLAS behind `F.linear`.
    It is given the weights as they lie. A packed copy, as torch's inductor makes it, would save a further third of a
    step's linear layers, but packing costs as much as it saves in 30 steps, and half of the model's memory again.
    Under autocast the weights are cast here, once, and not at each step.
    """
    device = weight.device.type
    if torch.is_autocast_enabled(device):
        weight = weight.to(torch.get_autocast_dtype(device))
    if not _by_onednn(weight):
        return lambda x: F.linear(x, weight, bias)
    run, plain = torch.ops.mkldnn._linear_pointwise, weight.detach()
    return lambda x: run(x, plain, bias, "none", [], "")


def _by_onednn(weight: Tensor) -> bool:
    plain = weight.device.type == "cpu" and weight.dtype == torch.float32
    return plain and torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Return softmax(q k' / sqrt(e) + mask) v. q: (r, h, n, e); k, v: (r, h, k, e); mask: (r or 1, 1, n, k)."""
    if q.device.type == "cpu" and q.dtype != torch.float32:
        # torch's half-precision flash kernel for CPU is very slow on short sequences.
        scores: Tensor = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        scores = scores if mask is None else scores + mask
        return torch.matmul(scores.softmax(-1), v)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class Block:
    """What self- and cross-attention blocks share: the query side, the output projection and the MLP."""

    def __init__(self, block: Any) -> None:
        self._block = block
        self._heads = int(block.attn.num_heads)
        self._out = linear(block.attn.out_proj.weight, block.attn.out_proj.bias)
        self._up = linear(block.mlp.c_fc.weight, block.mlp.c_fc.bias)
        self._down = linear(block.mlp.c_proj.weight, block.mlp.c_proj.bias)

    def _split(self, x: Tensor) -> Tensor:
        """(r, n, width) -> (r, h, n, e)."""
        return x.view(*x.shape[:2], self._heads, -1).transpose(1, 2)

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add attention (r, h, n, e) and MLP to the residual stream x: (r, n, width)."""
        block = self._block
        x = x + block.ls_1(self._out(attended.transpose(1, 2).flatten(2)))
        mlp: Tensor = block.ls_2(self._down(block.mlp.gelu(self._up(block.ln_2(x)))))
        return x + mlp


class SelfBlock(Block):
    """A causal self-attention block."""

    def __init__(self, block: Any) -> None:
        super().__init__(block)
        self._qkv = linear(block.attn.in_proj_weight, block.attn.in_proj_bias)

    def __call__(self, x: Tensor, mask: Tensor | None, write: Write | None) -> Tensor:
        """x: (r, n, width); mask: (r or 1, 1, n, k) additive; write: see `Write`. None: all is seen, nothing kept."""
        q, k, v = self._qkv(self._block.ln_1(x)).chunk(3, dim=-1)
        if write is not None:
            k, v = write(k, v)
        return self._finish(x, attention(self._split(q), self._split(k), self._split(v), mask))


class CrossBlock(Block):
    """A block that attends to the image; its keys and values are computed once."""

    def __init__(self, block: Any, image_embs: Tensor) -> None:
        super().__init__(block)
        attn = block.attn
        width, weight, bias = attn.embed_dim, attn.in_proj_weight, attn.in_proj_bias
        self._q = linear(weight[:width], bias[:width])
        k, v = linear(weight[width:], bias[width:])(block.ln_1_kv(image_embs)).chunk(2, dim=-1)
        self._kv = torch.stack([self._split(k), self._split(v)])

    def __call__(self, x: Tensor) -> Tensor:
        """x: (r, n, width), the r / b rows of an image next to each other."""
        images = self._kv.shape[1]
        q = self._split(self._q(self._block.ln_1(x)).reshape(images, -1, x.shape[-1]))
        attended = attention(q, self._kv[0], self._kv[1], None)
        if len(x) != images:
            attended = attended.transpose(1, 2).reshape(len(x), -1, *attended.shape[1::2]).transpose(1, 2)
        return self._finish(x, attended)

    def keep(self, images: Tensor) -> None:
        """Keep only these images, in this order."""
        self._kv = self._kv[:, images]
