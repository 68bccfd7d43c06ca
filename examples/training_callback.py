"""Evaluate a network in the middle of its training: a callback for loops like open_clip_train's.

    evaluation = Evaluation("emoji_flags", preprocess=preprocess_val, tokenizer=tokenizer, every=1000)
    for step, batch in enumerate(loader, 1):
        ...                             # forward, backward, optimizer.step()
        evaluation(step, model)         # model may be in DistributedDataParallel or torch.compile

With torchrun every rank calls it: rank 0 evaluates, the others wait at the barrier. Run as a program, it trains a
network of the demo for some steps and prints what each evaluation takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist

import cocabench


class Evaluation:
    """Evaluates every N steps, keeps the results, and says which step is the best so far on the first task."""

    def __init__(
        self,
        tasks: str | Sequence[str],
        *,
        preprocess: Callable[[Any], Any],
        tokenizer: Any,
        every: int,
        **prepare: Any,
    ) -> None:
        first = not dist.is_initialized() or dist.get_rank() == 0
        self.tasks = cocabench.prepare(tasks, **prepare) if first else []  # data are parsed once, on rank 0
        self.preprocess, self.tokenizer, self.every = preprocess, tokenizer, every
        self.results: dict[int, cocabench.Results] = {}

    def __call__(self, step: int, model: torch.nn.Module) -> None:
        if step % self.every:
            return
        if self.tasks:
            self.results[step] = cocabench.evaluate(
                model, self.tasks, preprocess=self.preprocess, tokenizer=self.tokenizer, name=f"step {step}"
            )
            print(self.results[step])
        if dist.is_initialized():
            dist.barrier()

    @property
    def best(self) -> int:
        """The step with the highest primary metric of the first task."""
        return max(
            self.results, key=lambda step: self.results[step][0].metrics[self.results[step][0].primary].value or 0
        )


def main(steps: int = 4, every: int = 2, limit: int = 100) -> Evaluation:
    """Train the demo's CLIP on noise for some steps with the callback."""
    from cocabench.models.hardware import hardware
    from cocabench.specs.registry import one_model

    demo: Any = one_model("demo/clip").load(hardware(device="cpu", workers=0))
    net = demo.net.train()
    evaluation = Evaluation(
        "emoji_flags", preprocess=demo.transform, tokenizer=demo.tokenizer, every=every, limit=limit
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    texts = demo.tokenizer(["a flag", "a face", "a tree", "a car"])
    for step in range(1, steps + 1):
        images, words, scale = net(torch.randn(4, 3, 40, 40), texts)[:3]
        loss = torch.nn.functional.cross_entropy(scale * images @ words.T, torch.arange(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        start = time.perf_counter()
        evaluation(step, net)
        if not step % every:
            print(f"evaluation took {time.perf_counter() - start:.1f} s; loss {float(loss.detach()):.2f}")
    print(f"best: step {evaluation.best}; the network is still in training mode: {net.training}")
    return evaluation


if __name__ == "__main__":
    main()
