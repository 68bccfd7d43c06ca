"""Beam search (legacy, textbook, diverse), greedy decoding and seeded sampling, as open_clip's `CoCa.generate` has it.

Beams are tracked as in transformers 4.49's BeamSearchScorer, with Python numbers: one transfer per step and group, and
sums that equal the reference's to the bit. Functions on next-token logits (r, V) follow transformers 4.49's processors
of the same names.

Shapes: b images, a of them unfinished, g beams per group, n = groups * g beams, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from cocabench.models.open_clip.decoding.options import DecodeOptions, SpecialTokens
from cocabench.models.open_clip.decoding.steps import Steps

COPY_SCORE = -1e9  # transformers' score of beams that are copies in the first step

MIN_FINISHED_FRACTION = (
    1 / 8
)  # finished images leave the batch from this fraction on, since leaving copies the state of the others


class Caption(NamedTuple):
    """A finished caption: tokens with start token, without end token; score = sum / length ** length_penalty."""

    score: float
    tokens: list[int]


class Candidates(NamedTuple):
    """The 2 * g best continuations of one group, best first."""

    scores: list[float]
    tokens: list[int]
    parents: list[int]


@dataclass
class Group:
    """One image's beams of one group, its finished captions (at most g), and whether it can still improve."""

    beams: list[list[int]]
    scores: list[float]
    length_penalty: float
    parents: list[int] = field(default_factory=list)
    finished: list[Caption] = field(default_factory=list)
    worst: float = 1e9
    done: bool = False

    def advance(self, best: Candidates, tokens: SpecialTokens) -> None:
        """Take one step: end tokens among the g best finish a caption, the g best others continue."""
        size, length = len(self.beams), len(self.beams[0]) + 1
        if self.done:
            self._follow([(0.0, tokens.pad, 0)] * size)
            return
        going: list[tuple[float, int, int]] = []
        for rank, (score, token, parent) in enumerate(zip(*best, strict=True)):
            if token != tokens.end:
                going.append((score, token, parent))
            elif rank < size:
                self.finish(self.beams[parent], score, length)
            if len(going) == size:
                break
        self._follow(going)
        if len(self.finished) == size:
            self.done = self.worst >= best.scores[0] / length**self.length_penalty

    def finish(self, tokens: list[int], score: float, length: int) -> None:
        """Add a caption if it is among the g best so far; length counts the start and the end token."""
        score /= length**self.length_penalty
        if len(self.finished) < len(self.beams):
            self.finished.append(Caption(score, tokens))
            self.worst = min(score, self.worst)
        elif score > self.worst:
            self.finished.append(Caption(score, tokens))
            ranked = sorted((caption.score, index) for index, caption in enumerate(self.finished))
            del self.finished[ranked[0][1]]
            self.worst = ranked[1][0]

    def close(self) -> None:
        """Finish all open beams, at the length limit."""
        if not self.done:
            for tokens, score in zip(list(self.beams), self.scores, strict=True):
                self.finish(tokens, score, len(tokens))

    def _follow(self, going: list[tuple[float, int, int]]) -> None:
        self.beams = [[*self.beams[parent], token] for _, token, parent in going]
        self.scores = [score for score, _, _ in going]
        self.parents = [parent for _, _, parent in going]


def beam_search(steps: Steps, prompt: Tensor, options: DecodeOptions, tokens: SpecialTokens) -> list[Caption]:
    """Return the best caption of each image; prompt: (b, p) first tokens, p < seq_len."""
    images = [_start(row, options) for row in prompt.tolist()]
    searched = list(images)
    logits = steps.start(prompt).expand(-1, options.searched_groups * options.group_size, -1)
    for length in range(prompt.shape[1] + 1, options.seq_len + 1):
        _step(searched, _processed(logits, searched, options, tokens), options, tokens)
        going = [i for i, groups in enumerate(searched) if not all(group.done for group in groups)]
        if not going or length == options.seq_len:
            break
        if len(searched) - len(going) >= MIN_FINISHED_FRACTION * len(searched):
            searched = [searched[i] for i in going]
            steps.keep(torch.tensor(going, device=prompt.device))
        first = length == prompt.shape[1] + 1
        logits = steps.extend(*_next_inputs(searched, options.group_size, first, prompt.device))
    return [_best(groups) for groups in images]


def _start(prompt: list[int], options: DecodeOptions) -> list[Group]:
    size = options.group_size
    scores = [0.0] + [COPY_SCORE] * (size - 1)
    return [Group([prompt] * size, scores, options.length_penalty) for _ in range(options.searched_groups)]


def _best(groups: list[Group]) -> Caption:
    """Return the last of the best captions of all groups, as a stable sort followed by pop does."""
    for group in groups:
        group.close()
    return sorted((c for group in groups for c in group.finished), key=lambda c: c.score)[-1]


def _processed(logits: Tensor, images: list[list[Group]], options: DecodeOptions, tokens: SpecialTokens) -> Tensor:
    """Return the summands of the beam scores: raw logits, or log-probabilities in fp32; (b, n, V)."""
    flat = logits.flatten(0, 1)
    if options.decoding == "logprob":
        flat = flat.to(_sum_dtype(flat)).log_softmax(-1)
    beams = [beam for groups in images for group in groups for beam in group.beams]
    if len(beams[0]) < options.min_seq_len:
        flat = forbid(flat, tokens.end)
    if options.repetition_penalty != 1:
        flat = penalise_repetition(flat, torch.tensor(beams, device=flat.device), options.repetition_penalty)
    return flat.view_as(logits)


def _step(images: list[list[Group]], values: Tensor, options: DecodeOptions, tokens: SpecialTokens) -> None:
    """Advance all groups of all images; with a diversity penalty, later groups see the choices of earlier ones."""
    size = options.group_size
    scores = [[group.scores for group in groups] for groups in images]
    sums = torch.tensor(scores, device=values.device, dtype=_sum_dtype(values))
    for index in range(options.searched_groups):
        part = values[:, index * size : (index + 1) * size]
        if index:
            part = part - options.diversity_penalty * _counts(images, index, part)
        best = _candidates(part + sums[:, index, :, None], 2 * size)
        for groups, candidates in zip(images, best, strict=True):
            groups[index].advance(candidates, tokens)


def _sum_dtype(values: Tensor) -> torch.dtype:
    """Return the dtype of beam scores: float32, also for half precision as in open_clip; float64 for float64 models."""
    return torch.promote_types(values.dtype, torch.float32)


def _counts(images: list[list[Group]], index: int, like: Tensor) -> Tensor:
    """Count how often groups before this one chose each token at this step: (b, 1, V)."""
    chosen = [[beam[-1] for group in groups[:index] for beam in group.beams] for groups in images]
    counts = like.new_zeros(len(like), like.shape[-1])
    ids = torch.tensor(chosen, device=like.device)
    return counts.scatter_add_(1, ids, torch.ones_like(ids, dtype=counts.dtype))[:, None]


def _candidates(scores: Tensor, count: int) -> list[Candidates]:
    """Return the best continuations per image of one group's scores (b, g, V)."""
    vocabulary = scores.shape[-1]
    values, flat = _on_cpu(*scores.flatten(1).topk(count))
    parents = flat.div(vocabulary, rounding_mode="floor")
    rows = zip(values.tolist(), (flat % vocabulary).tolist(), parents.tolist(), strict=True)
    return [Candidates(*row) for row in rows]


def _on_cpu(values: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores and their places (int64), of one shape, by one transfer, since each waits for all work of a GPU."""
    as_bits = torch.int32 if values.dtype == torch.float32 else torch.int64
    bits, moved = torch.stack([values.view(as_bits).long(), places]).cpu()
    return bits.to(as_bits).view(values.dtype), moved


def _next_inputs(images: list[list[Group]], size: int, first: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the newest tokens and their parents as beam numbers over all groups; (b, n) each.

    Before the first step there is one caption per image, the prompt, which is the parent of all.
    """
    tokens = [[beam[-1] for group in groups for beam in group.beams] for groups in images]
    if first:
        parents = [[0] * len(row) for row in tokens]
    else:
        parents = [[i * size + p for i, group in enumerate(groups) for p in group.parents] for groups in images]
    both = torch.tensor([tokens, parents], device=device)
    return both[0], both[1]


def sample(
    steps: Steps, prompt: Tensor, options: DecodeOptions, tokens: SpecialTokens, *, fixed_output_length: bool
) -> tuple[Tensor, Tensor]:
    """Return captions (b, length), padded after their end, and scores (b,).

    A caption ends with the end token or with a generated pad; at seq_len the end token is forced. Score: the sum of
    the generated tokens' log-probabilities under the unfiltered model, divided by the caption's length.
    Random numbers are drawn in open_clip's order, so a seed gives the same captions as `torch.manual_seed` there.
    """
    generator = torch.Generator(prompt.device).manual_seed(options.seed)
    captions, totals = prompt, torch.zeros(len(prompt), device=prompt.device)
    lengths = torch.full_like(totals, prompt.shape[1])
    alive = _unfinished(prompt[:, -1:], tokens)
    if len(alive) < len(prompt):
        steps.keep(alive)
    logits = steps.start(prompt[alive])[:, 0] if len(alive) else None
    while logits is not None or fixed_output_length:
        column = torch.full_like(captions[:, :1], tokens.pad)
        if logits is not None:
            chosen = _choose(logits, captions[alive], options, tokens, generator)
            column[alive] = chosen
            totals[alive] += logits.float().log_softmax(-1).gather(1, chosen)[:, 0]
            lengths[alive] += 1
        captions = torch.cat([captions, column], dim=1)
        if captions.shape[1] >= options.seq_len:
            break
        if logits is not None:
            going = _unfinished(chosen, tokens)
            if len(going) < len(chosen):
                steps.keep(going)
            alive, chosen = alive[going], chosen[going]
            logits = steps.extend(chosen, torch.zeros_like(chosen))[:, 0] if len(alive) else None
    return captions, totals / lengths


def _unfinished(last: Tensor, tokens: SpecialTokens) -> Tensor:
    """Return the rows whose last token (a, 1) is neither end nor pad."""
    return ((last != tokens.end) & (last != tokens.pad))[:, 0].nonzero()[:, 0]


def _choose(
    logits: Tensor, captions: Tensor, options: DecodeOptions, tokens: SpecialTokens, generator: torch.Generator
) -> Tensor:
    """Return the next token of each unfinished caption: logits (a, V), captions (a, length) -> (a, 1)."""
    shown = captions[:, -options.max_seq_len :]
    if shown.shape[1] + 1 == options.seq_len:
        return torch.full_like(captions[:, :1], tokens.end)
    if shown.shape[1] < options.min_seq_len:
        logits = forbid(logits, tokens.end)
    if options.repetition_penalty != 1:
        logits = penalise_repetition(logits, shown, options.repetition_penalty)
    if options.generation_type == "greedy":
        return logits.argmax(dim=-1, keepdim=True)
    top_k = options.generation_type == "top_k"
    logits = keep_top_k(logits, options.top_k) if top_k else keep_top_p(logits, options.top_p)
    return torch.multinomial((logits / options.temperature).softmax(-1), 1, generator=generator)


def forbid(logits: Tensor, token: int) -> Tensor:
    """Return logits with one token at -inf (MinLengthLogitsProcessor, where the text is still too short)."""
    forbidden = logits.clone()
    forbidden[:, token] = float("-inf")
    return forbidden


def penalise_repetition(logits: Tensor, tokens: Tensor, penalty: float) -> Tensor:
    """Divide positive and multiply negative logits of tokens (r, length) by the penalty (Keskar et al. 2019)."""
    score = logits.gather(1, tokens)
    return logits.scatter(1, tokens, torch.where(score < 0, score * penalty, score / penalty))


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Set all but the k largest logits to -inf; ties with the k-th stay."""
    threshold = logits.topk(min(k, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits < threshold, float("-inf"))


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of most likely tokens whose probability reaches p, at least one (Holtzman et al. 2020)."""
    ascending, order = logits.sort(descending=False)
    drop = ascending.softmax(-1).cumsum(-1) <= 1 - p
    drop[:, -1:] = False
    return logits.masked_fill(drop.scatter(1, order, drop), float("-inf"))
