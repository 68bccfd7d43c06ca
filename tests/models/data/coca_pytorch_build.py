"""What a user of lucidrains' CoCa writes: the network, its weights, tokenizer and transform."""

import torch
from coca_pytorch.coca_pytorch import CoCa
from torch import nn
from torchvision.transforms import v2

from cocabench.models.coca_pytorch import Parts

LETTERS = "abcdefghijklmnopqrstuvwxyz .,0123456789"
START, END = 1, 2


class Letters:
    """A tokenizer of letters; 0 is the pad."""

    def __call__(self, texts):
        return [[START, *(LETTERS.index(c) + 3 for c in text.lower() if c in LETTERS), END] for text in texts]

    def decode(self, ids):
        return "".join(LETTERS[i - 3] for i in ids if i >= 3)


class Patches(nn.Module):
    """An image encoder: (b, 3, 16, 16) -> (b, 16, 24)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 24, 4, 4)

    def forward(self, images):
        return self.conv(images).flatten(2).transpose(1, 2)


def build():
    torch.manual_seed(0)
    net = CoCa(
        dim=32,
        img_encoder=Patches(),
        image_dim=24,
        num_tokens=len(LETTERS) + 3,
        unimodal_depth=2,
        multimodal_depth=2,
        dim_latents=20,
        num_img_queries=5,
        dim_head=16,
        heads=2,
        pad_id=0,
    )
    with torch.no_grad():
        net.token_emb.weight.normal_(std=0.5)
    transform = v2.Compose([v2.Resize((16, 16)), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])
    return Parts(net, transform, Letters(), text_length=24, start=START, end=END)
