"""A linear classifier trained by AdamW, as CLIP_benchmark's linear_probe trains it; for probes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cocabench.core.types import Features, Linear, Schedule


@dataclass(frozen=True)
class AdamW:
    """Trains on a device; core.types.LinearSolver."""

    device: str

    def __call__(self, rows: Features, labels: NDArray[np.int64], weight_decay: float, schedule: Schedule) -> Linear:
        """Return a linear layer of (highest label + 1) classes trained on the cross-entropy, in fp32.

        The learning rate falls from schedule.lr to 0 as a cosine, a step per batch. With equal seeds it starts from the
        weights and takes the batches of clip_benchmark.metrics.linear_probe.train with torch's DataLoader: the seed
        sets the generator, the layer is initialised, and each epoch draws a number for the loader and one for the
        order. torch's own random state does not change.
        """
        x, y = (torch.from_numpy(np.ascontiguousarray(array)).to(self.device) for array in (rows, labels))
        steps, step = schedule.epochs * math.ceil(len(x) / schedule.batch), 0
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
            torch.default_generator.manual_seed(schedule.seed)
            layer = torch.nn.Linear(x.shape[1], int(labels.max()) + 1).to(self.device)
            optimizer = torch.optim.AdamW(layer.parameters(), lr=schedule.lr, weight_decay=weight_decay)
            for _ in range(schedule.epochs):
                for batch in _order(len(x)).to(self.device).split(schedule.batch):
                    optimizer.param_groups[0]["lr"] = 0.5 * (1 + np.cos(np.pi * step / steps)) * schedule.lr
                    optimizer.zero_grad()
                    torch.nn.functional.cross_entropy(layer(x[batch]), y[batch]).backward()
                    optimizer.step()
                    step += 1
        return Linear(*(p.detach().cpu().numpy() for p in (layer.weight, layer.bias)))

    def permutation(self, n: int, seed: int) -> NDArray[np.int64]:
        """Return torch.randperm(n) after torch.manual_seed(seed)."""
        return torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()


def _order(n: int) -> torch.Tensor:
    """Return the order in which a shuffling DataLoader reads n items, and draw what it draws of the global generator.

    It draws a seed for its workers, then its sampler one for the permutation.
    """
    torch.empty((), dtype=torch.int64).random_()
    seed = int(torch.empty((), dtype=torch.int64).random_().item())
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
