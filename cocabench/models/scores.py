"""Blocks of retrieval's scores on a GPU, compared there; metrics.matching re-checks those near a threshold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from cocabench.core.scores import Bars, Candidates, Compared, Ints, Proposed, Scores
from cocabench.models.base import OUT_OF_MEMORY
from cocabench.models.contexts import in_precision
from cocabench.models.hardware import Hardware


class ScoresOnDevice:
    """Scores with images (i, d) that stay on a device: core.scores.Proposer."""

    def __init__(self, shape: tuple[int, int], images: Iterable[Scores], *, device: str) -> None:
        self.hardware, start = Hardware(device, "fp32"), 0
        with _memory_errors():
            self.images = torch.empty(shape, device=device)
            for rows in images:
                self.images[start : start + len(rows)] = torch.from_numpy(rows)
                start += len(rows)

    def __call__(
        self, texts: Scores, own: Ints, by_text: Bars, by_image: Bars, *, k: int, most: int
    ) -> Proposed | None:
        """Multiply in fp32, without TF32 or autocast, which the bound of float32's error does not cover."""
        device = self.hardware.device
        with _memory_errors(), in_precision(self.hardware), torch.autocast(self.hardware.device_type, enabled=False):
            scores = self.product(torch.from_numpy(texts).to(device))
            mine = torch.arange(len(own), device=device), torch.from_numpy(own).to(device)
            found = scores[mine].cpu().numpy()
            scores[mine] = -torch.inf
            rows, columns = _compared(scores, by_text, most), _compared(scores.T, by_image, most)
            if rows is None or columns is None:
                return None
            columns = Compared(columns.above, columns.columns, columns.rows)
            return Proposed(found, rows, columns, _highest(scores, by_text, k), _highest(scores.T, by_image, k))

    def product(self, texts: Tensor) -> Tensor:
        """Return the inner products (r, i) of texts (r, d) with the images."""
        return texts @ self.images.T


def _compared(lines: Tensor, bars: Bars, most: int) -> Compared | None:
    low, high = (torch.from_numpy(one).to(lines.device)[:, None] for one in (bars.low, bars.high))
    above = lines > high
    near = (lines >= low).logical_and_(~above)
    if int(near.sum()) > most:
        return None
    return Compared(_ints(above.sum(dim=1)), *map(_ints, torch.nonzero(near, as_tuple=True)))


def _highest(lines: Tensor, bars: Bars, k: int) -> Candidates:
    values, places = lines.topk(min(k, lines.shape[1]), dim=1)
    line, rank = torch.nonzero(values > torch.from_numpy(bars.beaten).to(lines.device)[:, None], as_tuple=True)
    return Candidates(_ints(line), _ints(places[line, rank]), values[line, rank].cpu().numpy())


def _ints(values: Tensor) -> Ints:
    return np.asarray(values.cpu().numpy(), np.int64)


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Raise MemoryError where torch runs out of memory."""
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or OUT_OF_MEMORY in str(error)):
            raise
        raise MemoryError(str(error)) from None
