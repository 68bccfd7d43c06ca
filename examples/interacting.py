# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Interacting with a CoCa
#
# Captions in several ways of decoding, likelihoods of your own captions, and zero-shot classes, with the demo's models.
# For a real CoCa put `coca_ViT-L-14:mscoco_finetuned_laion2b_s13b_b90k` for `demo/coca-captioner`, and for an image
# `FileImage(path)` of `cocabench.data.images`.

# %%
import numpy as np
import pandas as pd

from cocabench.models.hardware import hardware
from cocabench.specs.registry import find_tasks, one_model

model = one_model("demo/coca-captioner").load(hardware(device="cpu", workers=0))
(task,) = find_tasks(["emoji_captions"])
examples = task.loader.build(None).examples[:4]
images = [example.image for example in examples]
images[0].open().convert("RGB").resize((96, 96))

# %% [markdown]
# ## Captions

# %%
ways = {
    "beam search": {"num_beams": 6, "num_beam_groups": 3},
    "greedy": {"generation_type": "greedy"},
    "top_p 0.5": {"generation_type": "top_p", "top_p": 0.5, "seed": 1},
    "top_k 5": {"generation_type": "top_k", "top_k": 5, "seed": 1},
}
captions = pd.DataFrame({name: model.caption(images, options).texts for name, options in ways.items()})
captions.insert(0, "a person wrote", [example.texts[0] for example in examples])
captions

# %% [markdown]
# ## Your own captions
#
# Ranked by their likelihood, and by the cosine of image and text. The two need not agree: the first is the decoder's,
# the second the two encoders'. `perplexity` is per token, so that long captions are not worse for their length.

# %%
own = [examples[0].texts[0], "a cat", "the flag of a country", "a red heart"]
scored = model.score_captions(images[:1], [own])
cosines = model.encode_images(images[:1]).rows @ model.encode_texts(own).T
ranked = pd.DataFrame(
    {
        "caption": own,
        "log-likelihood": scored.logprobs[0],
        "perplexity": np.exp(-scored.logprobs[0] / scored.n_tokens[0]),
        "cosine": cosines[0],
    }
).sort_values("log-likelihood", ascending=False, ignore_index=True)
ranked

# %% [markdown]
# ## Zero-shot classes
#
# The softmax of cosines times 100 (CLIP's temperature) is what people call CLIP's probabilities. They depend on which
# classes are asked for.

# %%
classes = ["animal", "food", "flag", "face", "vehicle"]
cosines = model.encode_images(images).rows @ model.encode_texts([f"an emoji of a {name}" for name in classes]).T
weights = np.exp(100 * (cosines - cosines.max(axis=1, keepdims=True)))
probabilities = pd.DataFrame(weights / weights.sum(axis=1, keepdims=True), columns=classes)
probabilities.round(2)
