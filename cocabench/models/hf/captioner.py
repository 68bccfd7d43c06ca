"""BLIP and GIT of transformers: captions by the library's own ``generate``, and likelihoods of given captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.modeling_outputs import BaseModelOutput

from cocabench.core.errors import NumericsError, UsageError
from cocabench.core.types import Ability, Note
from cocabench.models.base import CaptionBatch, Continuation, LogprobBatch, Model, ScoreCaptions, WriteCaptions
from cocabench.models.contexts import evaluating
from cocabench.models.hardware import Hardware
from cocabench.models.hf.contrastive import tower_parameters
from cocabench.models.hf.families import GENERATIVE, Usage
from cocabench.models.hf.images import pixels_of
from cocabench.models.interactive import ScoreWords, Word, words_of
from cocabench.models.loading import once_in_a_row
from cocabench.specs.decoding import ANSWER_TOKENS, DecodingOptions

CAPTIONS_PER_PASS = 256
"""Captions scored per forward pass."""


class HFCaptioner(Model):
    """A BlipForConditionalGeneration or GitForCausalLM on its device."""

    abilities: frozenset[Ability] = GENERATIVE
    scores_words = True

    def __init__(
        self,
        id: str,  # noqa: A002
        net: Any,
        image_processor: Any,
        tokenizer: Any,
        use: Usage,
        hardware: Hardware,
    ) -> None:
        super().__init__(
            id, partial(pixels_of, image_processor), hardware, parameters=tower_parameters(net, "text_decoder")
        )
        self.net, self.tokenizer, self.length = net, tokenizer, use.length
        self._dtype = next(net.parameters()).dtype
        self._decoder: Decoder = Blip(net) if net.config.model_type == "blip" else Git(net)

    def computing(self) -> AbstractContextManager[None]:
        """Compute in evaluation mode."""
        return evaluating(self.net)

    def captioner(self, options: Mapping[str, Any], prompts: Sequence[str]) -> WriteCaptions:
        """Check options and prompts; images with prompts of equal length are captioned together."""
        most = options.get(ANSWER_TOKENS)
        rest = {name: value for name, value in options.items() if name != ANSWER_TOKENS}
        chosen = generate_options(DecodingOptions(**rest), self.length)
        self._note(chosen)
        words = [self._words(prompt) for prompt in prompts]
        for prompt, own in zip(prompts, words, strict=True):
            if len(own) > (longest := chosen["max_length"] - 3):
                wanted = f"at most {longest}, to leave room for a caption"
                raise UsageError(f"prompt {prompt!r}", f"{len(own)} tokens", wanted=wanted)
        lengths = torch.tensor([len(own) for own in words])
        seed = int(options.get("seed", 0))

        def write(pixels: Tensor, numbers: Tensor) -> CaptionBatch:
            states, found = self._states(pixels), dict[int, Written]()
            for length in lengths[numbers].unique().tolist():
                rows = (lengths[numbers] == length).nonzero()[:, 0]
                starts = torch.tensor([[self._decoder.start, *words[number]] for number in numbers[rows].tolist()])
                some = states[rows.to(states.device)]
                own, first = chosen, 1
                if most is not None:  # an answer is what follows its prompt
                    own, first = {**chosen, "max_length": min(length + 1 + most, chosen["max_length"])}, length + 1
                found |= zip(rows.tolist(), self._written(some, starts, own, seed, first), strict=True)
            texts, scores, cut = zip(*(found[i] for i in range(len(states))), strict=True)
            return CaptionBatch(texts, scores, cut)

        return write

    def caption_scorer(self, continuations: Sequence[Continuation]) -> ScoreCaptions:
        """Tokenize the texts; with their prefix they are cut to the longest caption."""
        tokens, counts = self._tokens(continuations)

        def score(pixels: Tensor, numbers: Tensor) -> LogprobBatch:
            together, totals = max(1, CAPTIONS_PER_PASS // numbers.shape[1]), []
            for some, own in zip(self._states(pixels).split(together), numbers.split(together), strict=True):
                flat = own.flatten()
                longest = int(counts[flat].any(0).nonzero().max()) + 1
                each = self._each(some, tokens[flat, :longest], own.shape[1])
                left_out = ~counts[flat, 1:longest].to(some.device)
                totals.append(each.masked_fill(left_out, 0).sum(-1).view(own.shape).cpu())
            return LogprobBatch(torch.cat(totals), counts[numbers].sum(-1))

        return score

    def word_scorer(self, texts: Sequence[str]) -> ScoreWords:
        """Tokenize the texts, cut to the longest caption."""
        tokens, counts = self._tokens([Continuation("", text) for text in texts])

        def score(pixels: Tensor, numbers: Tensor) -> list[list[Word]]:
            each = self._each(self._states(pixels), tokens[numbers], 1).cpu()
            rows = zip(tokens[numbers, 1:], counts[numbers, 1:], each, strict=True)
            return [words_of(self._text, row[own][:-1].tolist(), found[own].tolist()) for row, own, found in rows]

        return score

    def _tokens(self, continuations: Sequence[Continuation]) -> tuple[Tensor, Tensor]:
        """Return ids (n, p) with start and end token, and which of them count (n, p): the text's and the end."""
        start, end = self._decoder.start, self._decoder.end
        rows, counted = [], []
        for prefix, text in continuations:
            before = [start, *self._words(prefix)]
            if len(before) > self.length - 2:
                got, wanted = f"{len(before) - 1} tokens", f"at most {self.length - 3}, to leave room for a text"
                raise UsageError("prefixes", got, wanted=wanted)
            row = [*[*before, *self._words(text)][: self.length - 1], end]
            rows.append(torch.tensor(row))
            counted.append(torch.arange(len(row)) >= len(before))
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self._decoder.pad)
        self.check_ids(tokens, self._decoder.vocabulary)
        return tokens, torch.nn.utils.rnn.pad_sequence(counted, batch_first=True, padding_value=False)

    def _states(self, pixels: Tensor) -> Tensor:
        """Return the states (k, n, d) of images (k, 3, h, w), encoding once what stands several times in a row."""
        distinct, places = once_in_a_row(pixels)
        return self._decoder.states(distinct.to(self._dtype))[places]

    def _each(self, states: Tensor, tokens: Tensor, each: int) -> Tensor:
        """Return log p(token | image, tokens before it), (k * each, p - 1), of tokens (k * each, p), each per image."""
        ids = tokens.to(states.device)
        logits = self._decoder.logits(states, ids, each)[:, :-1]
        return logits.float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=True))

    def _words(self, text: str) -> list[int]:
        """Return the tokens of a text without start and end token."""
        if not text:
            return []
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _written(
        self, states: Tensor, starts: Tensor, chosen: dict[str, Any], seed: int, first: int
    ) -> Iterator[Written]:
        """Yield the caption of each image of states (k, n, d) that begins with its tokens of starts, (k, p).

        first: the token from which on it is text.
        """
        self.check_ids(starts, self._decoder.vocabulary)
        devices = [states.device] if states.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), self._decoder.configured():
            torch.manual_seed(seed)
            try:
                made = self._decoder.generate(states, starts.to(states.device), _config(chosen, self._decoder))
            except RuntimeError as error:
                if "probability tensor" not in str(error):
                    raise
                fix = "the weights or the precision are broken; try --precision fp32"
                raise NumericsError(self.id, "NaN or infinity in the logits", wanted="finite ones", fix=fix) from None
        scores = _scores(made, starts.shape[1], self._decoder)
        for row, score in zip(made.sequences.tolist(), scores.tolist(), strict=True):
            ended = self._decoder.end in row[1:]
            words = row[first : row.index(self._decoder.end, 1)] if ended else row[first:]
            yield Written(self._text(words).strip(), score, not ended and len(row) >= chosen["max_length"])

    def _note(self, chosen: dict[str, Any]) -> None:
        said = ", ".join(f"{key}={value}" for key, value in chosen.items())
        note = Note("model", f"captions by transformers' generate({said}), which sums log-probabilities of beams")
        if note not in self.notes:
            self.notes.append(note)


class Written(NamedTuple):
    """A caption, its score (the sum of its tokens' log-probabilities by its length), and whether it was cut."""

    text: str
    score: float
    cut: bool


def generate_options(options: DecodingOptions, limit: int) -> dict[str, Any]:
    """Return the arguments of transformers' ``generate`` for decoding options; UsageError for those that it lacks.

    limit: tokens per caption at most. Groups of beams without a diversity penalty are copies of one search with their
    size, as in open_clip: six beams in three groups are a search with two.
    """
    if options.diversity_penalty:
        raise UsageError(
            "diversity_penalty", str(options.diversity_penalty), wanted="0: transformers has no diverse beams"
        )
    if options.generation_type == "beam_search" and options.num_beams % options.num_beam_groups:
        raise UsageError(
            "num_beam_groups", str(options.num_beam_groups), wanted=f"a divisor of {options.num_beams} beams"
        )
    if (length := min(options.seq_len, limit)) <= max(options.min_seq_len, 2):
        wanted = f"more than min_seq_len ({options.min_seq_len}) and 2"
        got = f"{length}, the model's context" if length == limit else str(length)
        raise UsageError("seq_len", got, wanted=wanted)
    made = {"max_length": length, "min_length": options.min_seq_len, "repetition_penalty": options.repetition_penalty}
    if options.generation_type == "beam_search":
        beams = options.num_beams // options.num_beam_groups
        return {**made, "num_beams": beams, "length_penalty": options.length_penalty}
    if options.generation_type == "greedy":
        return {**made, "num_beams": 1}
    kept = {"top_k": options.top_k} if options.generation_type == "top_k" else {"top_k": 0, "top_p": options.top_p}
    return {**made, "num_beams": 1, "do_sample": True, "temperature": options.temperature, **kept}


def _config(chosen: dict[str, Any], decoder: Decoder) -> GenerationConfig:
    ids = {"bos_token_id": decoder.start, "eos_token_id": decoder.end, "pad_token_id": decoder.pad}
    return GenerationConfig(**chosen, **ids, output_scores=True, return_dict_in_generate=True)


def _scores(made: Any, before: int, decoder: Decoder) -> Tensor:
    """Return the score (k,) of each caption: that of the beam search, or the mean log-probability of its tokens."""
    if getattr(made, "sequences_scores", None) is not None:
        return torch.as_tensor(made.sequences_scores).float().cpu()
    logits = torch.stack(made.scores, dim=1).float().log_softmax(-1)
    written = made.sequences[:, before : before + logits.shape[1]]
    each = logits.gather(-1, written[..., None])[..., 0]
    ends = written == decoder.end
    counted = (ends.cumsum(-1) - ends.long()) == 0
    return torch.as_tensor(each.masked_fill(~counted, 0).sum(-1) / counted.sum(-1)).cpu()


class Decoder:
    """What BLIP and GIT do differently. start, end, pad: ids; vocabulary: tokens that the network knows."""

    def __init__(self, writer: Any, start: int, end: int, pad: int, vocabulary: int) -> None:
        self.writer, self.start, self.end, self.pad, self.vocabulary = writer, start, end, pad, vocabulary

    def states(self, pixels: Tensor) -> Tensor:
        """Return the states (k, n, d) of images (k, 3, h, w), as the vision tower returns them."""
        raise NotImplementedError

    def generate(self, states: Tensor, starts: Tensor, config: GenerationConfig) -> Any:
        """Continue starts (k, p) for images of states (k, n, d)."""
        raise NotImplementedError

    def logits(self, states: Tensor, ids: Tensor, each: int) -> Tensor:
        """Return the logits (k * each, p, V) after each token of ids (k * each, p), each texts per image."""
        raise NotImplementedError

    @contextmanager
    def configured(self) -> Iterator[None]:
        """Hide the checkpoint's own generation config, whose values would count where ours are defaults."""
        before = self.writer.generation_config
        self.writer.generation_config = GenerationConfig()
        try:
            yield
        finally:
            self.writer.generation_config = before


class Blip(Decoder):
    """A text decoder that attends to the image's features."""

    def __init__(self, net: Any) -> None:
        text = net.config.text_config
        super().__init__(net.text_decoder, text.bos_token_id, text.sep_token_id, text.pad_token_id, text.vocab_size)
        self._vision = net.vision_model

    def states(self, pixels: Tensor) -> Tensor:
        return torch.as_tensor(self._vision(pixel_values=pixels)[0])

    def generate(self, states: Tensor, starts: Tensor, config: GenerationConfig) -> Any:
        ones = torch.ones_like(starts)
        return self.writer.generate(input_ids=starts, attention_mask=ones, generation_config=config, **_seen(states))

    def logits(self, states: Tensor, ids: Tensor, each: int) -> Tensor:
        images = _seen(states.repeat_interleave(each, dim=0))
        return torch.as_tensor(self.writer(input_ids=ids, attention_mask=torch.ones_like(ids), **images).logits)


def _seen(states: Tensor) -> dict[str, Tensor]:
    mask = torch.ones(states.shape[:2], dtype=torch.long, device=states.device)
    return {"encoder_hidden_states": states, "encoder_attention_mask": mask}


class Git(Decoder):
    """A decoder whose first positions are the image. It takes pixels alone: states come as such, past its tower."""

    def __init__(self, net: Any) -> None:
        config = net.config
        super().__init__(net, config.bos_token_id, config.eos_token_id, config.pad_token_id, config.vocab_size)

    def states(self, pixels: Tensor) -> Tensor:
        return torch.as_tensor(self.writer.git.image_encoder(pixel_values=pixels)[0])

    def generate(self, states: Tensor, starts: Tensor, config: GenerationConfig) -> Any:
        with self._past_the_tower():
            return self.writer.generate(
                pixel_values=states[:, None],
                input_ids=starts,
                attention_mask=torch.ones_like(starts),
                generation_config=config,
            )

    def logits(self, states: Tensor, ids: Tensor, each: int) -> Tensor:
        images = states.repeat_interleave(each, dim=0)[:, None]
        with self._past_the_tower():
            made = self.writer(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=images)
        return torch.as_tensor(made.logits)[:, -ids.shape[1] :]

    @contextmanager
    def _past_the_tower(self) -> Iterator[None]:
        """Let pixels (k, 1, n, d) stand for states (k, n, d); beam search repeats them as it repeats pixels."""
        tower, self.writer.git.image_encoder = self.writer.git.image_encoder, Encoded()
        try:
            yield
        finally:
            self.writer.git.image_encoder = tower


class Encoded(torch.nn.Module):
    """A vision tower of images that are encoded already."""

    def forward(self, states: Tensor, **_: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=states[:, 0])
