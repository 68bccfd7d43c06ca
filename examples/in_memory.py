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
# # A model in memory: evaluate, compare, draw
#
# `jupytext --to notebook examples/in_memory.py` makes a notebook of this file; as a program it runs too. It takes
# about a minute on a CPU, needs no download and writes nothing.

# %%
import matplotlib.pyplot as plt

import cocabench
from cocabench.models.hardware import hardware
from cocabench.specs.registry import one_model

# %% [markdown]
# ## A network with its transform and tokenizer
#
# Here the demo's CoCa; in a training it is what `open_clip.create_model_and_transforms` and `get_tokenizer` returned.

# %%
demo = one_model("demo/coca").load(hardware(device="cpu", workers=0))
tasks = cocabench.prepare(["emoji_retrieval", "emoji_flags", "emoji_objects"], limit=60)
coca = cocabench.evaluate(demo.net, tasks, preprocess=demo.transform, tokenizer=demo.tokenizer, name="my CoCa")
coca

# %% [markdown]
# Every number has its interval and number of images, and every image its outcome.

# %%
coca.frame()[["task", "metric", "value", "low", "high", "n"]].round(3)

# %%
coca.samples("emoji_flags").head()

# %% [markdown]
# ## Two models, image by image
#
# The differences are paired: both models saw the same images. `better` is empty where a difference is not significant,
# and `detectable` says which difference would have been.

# %%
clip = cocabench.evaluate("demo/clip", tasks)
differences = cocabench.compare(coca, clip)
differences[["task", "metric", "value_a", "value_b", "difference", "low", "high", "better", "detectable"]].round(3)

# %%
figure, axes = plt.subplots(figsize=(7, 2.5), layout="constrained")
errors = [differences["difference"] - differences["low"], differences["high"] - differences["difference"]]
axes.errorbar(100 * differences["difference"], differences["task"], xerr=[100 * side for side in errors], fmt="o")
axes.axvline(0, color="black", linewidth=0.8)
axes.set_xlabel("my CoCa minus demo/clip, points")

# %% [markdown]
# ## Between two checkpoints
#
# `mix(A,B,0:1:0.5)` is the line between the weights of two checkpoints, here of the demo's CoCa and the same after it
# was fine-tuned to write captions. `results.save(FOLDER)` and a report of that folder draw every task along it.

# %%
shares = (0, 0.5, 1)
line = [cocabench.evaluate(f"mix(demo/coca,demo/coca-captioner,{share})", tasks[:2]) for share in shares]
points = [results.frame().set_index("metric")["value"] for results in line]
figure, axes = plt.subplots(figsize=(4, 3), layout="constrained")
axes.plot([100 * p["acc1"] for p in points], [100 * p["t2i_recall@5"] for p in points], "o-")
for share, p in zip(shares, points, strict=True):
    axes.annotate(str(share), (100 * p["acc1"], 100 * p["t2i_recall@5"]), (5, 5), textcoords="offset points")
axes.set_xlabel("emoji_flags, acc1")
axes.set_ylabel("emoji_retrieval, t2i_recall@5")
