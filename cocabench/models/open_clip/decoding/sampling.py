"""Greedy decoding and seeded top-k and top-p sampling, as open_clip's `CoCa.generate` does them.

Shapes: b images, a of them unfinished, V vocabulary.
"""

import torch
from torch import Tensor

from .logits import forbid, keep_top_k, keep_top_p, penalise_repetition
from .options import DecodeOptions, SpecialTokens
from .steps import Steps


def sample(
    steps: Steps, prompt: Tensor, options: DecodeOptions, tokens: SpecialTokens, *, fixed_output_length: bool
) -> tuple[Tensor, Tensor]:
    """Return captions (b, length), padded after their end, and scores (b,).

    A caption ends with the end token or with a generated pad; at seq_len the end token is forced. Score: the sum of
    the generated tokens' log-probabilities under the unfiltered model, divided by the caption's length.
    Random numbers are drawn in upstream's order, so a seed gives what it gives there after `torch.manual_seed`.
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
