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
# # Reading Records with pandas
#
# A results folder is JSON and parquet: `cocabench.load` gives Records and their samples, a row per image. Here are the
# project's own baselines of the demo.

# %%
from pathlib import Path

import cocabench

folder = Path(cocabench.__file__).parents[1] / "results/baselines"  # in a checkout; else your own folder
results = cocabench.load(folder)
frame = results.frame()
frame.head()

# %% [markdown]
# ## Models beside each other

# %%
primary = {(record.task, record.primary) for record in results}
chosen = frame[[pair in primary for pair in zip(frame["task"], frame["metric"], strict=True)]]
wide = chosen.pivot(index=["task", "metric"], columns="model", values="value").round(3)
wide

# %% [markdown]
# ## Image by image
#
# `n_above` counts the classes that scored above the right one: 0 is right. Where do both models fail?

# %%
outcomes = {
    model: results.samples("emoji_flags", model).set_index("image_id")["n_above"]
    for model in ("demo/coca", "demo/clip")
}
right = {model: ranks == 0 for model, ranks in outcomes.items()}
agreement = {
    "both": int((right["demo/coca"] & right["demo/clip"]).sum()),
    "coca only": int((right["demo/coca"] & ~right["demo/clip"]).sum()),
    "clip only": int((~right["demo/coca"] & right["demo/clip"]).sum()),
    "neither": int((~right["demo/coca"] & ~right["demo/clip"]).sum()),
}
agreement

# %% [markdown]
# A difference needs these pairs: `cocabench.compare` tests them, and corrects for how many are tested.

# %%
differences = cocabench.compare(results.model("demo/coca"), results.model("demo/clip"))
differences[["task", "metric", "difference", "low", "high", "better", "p_adjusted"]].round(3)
