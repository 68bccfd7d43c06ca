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
# # Captions: metrics and failures
#
# Metrics of a captioner, the health of its captions, and the images with the worst ones. It takes a minute on a CPU;
# SPICE is left out where its jars are not installed (`cocabench setup spice`).

# %%
import matplotlib.pyplot as plt

import cocabench
from cocabench.specs.registry import find_tasks

results = cocabench.evaluate("demo/coca-captioner", "emoji_captions", limit=60)
numbers = results.frame().set_index("metric")[["value", "low", "high", "n"]]
numbers.round(3)

# %% [markdown]
# `distinct_captions` near 0 means that the model says the same of every image: look at it before any score.

# %%
samples = results.samples("emoji_captions")
samples["caption"].value_counts().head()

# %% [markdown]
# ## A gallery of failures
#
# By each caption's own CIDEr: n-grams that it shares with what people wrote, rare ones counting more.

# %%
(task,) = find_tasks(["emoji_captions"])
examples = {example.id: example for example in task.loader.build(None).examples}
worst = samples.sort_values("cider").head(6)
figure, axes = plt.subplots(1, len(worst), figsize=(12, 2.4), layout="constrained")
for panel, (_, row) in zip(axes, worst.iterrows(), strict=True):
    example = examples[row["id"]]
    panel.imshow(example.image.open().convert("RGB"))
    panel.set_title(f"{row['caption']}\n({example.texts[0]})", fontsize=7, wrap=True)
    panel.axis("off")
