# ruff: noqa: E501 — tables of files
"""Good files of commands that stand between programs: plans, groups of checkpoints, sites, the hub, watched folders."""

from __future__ import annotations

import contextlib
from functools import cache
from pathlib import Path
from typing import Any

from cocabench.train.checkpoints import arrivals
from tests.bad_input_sets import CLASSIFICATION, RETRIEVAL, RUN, _json, _tar, _task, image
from tests.bad_inputs import FOLDER, HUB, LISTING, OWN_CACHE, Target, Tree, run, written
from tests.data.hub_server import Hub, served
from tests.models.hf import tiny
from tests.models.tiny import CLIP, random_network, write_training_checkpoint
from tests.report.records import estimate, record
from tests.results import test_recipes

SYNTHETIC = 'loader = "synthetic"\nimages = 3\nsize = 32'
CARD = """---
license: mit
model-index:
- name: Mine
  results:
  - task: {type: text-generation}
    dataset: {type: x, name: x}
    metrics: [{type: acc1, value: 0.9}]
---
# Mine
"""


def commands(shared: Path, clip: str) -> dict[str, Target]:
    return {
        **plans(shared, clip),
        **recipes(shared),
        **sites(shared, clip),
        **hubs(shared, clip),
        "push": pushed(shared),
        "watched folder": watched(shared),
        "transformers": transformers(shared),
    }


def tree(folder: Path) -> Tree:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}  # fmt: skip


def ran(folder: Path, files: Tree, words: str) -> str:
    """Run a command on files in a folder, which must succeed; return what it prints."""
    written(Target(files, (), ()), folder)
    code, said, fault, printed = run(words.format(d=folder, o=folder / "out").split(), folder)
    assert (code, fault) == (0, ""), said
    return printed


def plans(shared: Path, clip: str) -> dict[str, Target]:
    """A plan whose first step is done, and the results folder where it is."""
    files = {"t.toml": _task(*RETRIEVAL, SYNTHETIC), "u.toml": _task("y", *RETRIEVAL[1:], SYNTHETIC)}
    folder = shared / "planned"
    words = f"{RUN} {clip}".replace("{o}", "{d}/r")
    ran(folder, files, words)
    plan = ran(folder, files, words.replace("t.toml", "t.toml,{d}/u.toml") + " --dry-run --json")
    plan = plan.replace(str(folder), FOLDER)
    ran(folder, {"plan.json": plan.replace(FOLDER, str(folder)).encode()}, "run --plan {d}/plan.json --cell 0 --quiet")
    found = {path: content for path, content in tree(folder).items() if path.startswith("r/")}
    damaged = ("plan.json", *(["plan.json"] * len(found)), *found, *files)
    status = "status {d}/r --plan {d}/plan.json"
    work = "run --plan {d}/plan.json --cell 0 --quiet"
    return {"plan": Target({**files, **found, "plan.json": plan.encode()}, damaged, (status, f"{status} --json", work))}


def recipes(shared: Path) -> dict[str, Target]:
    """Two groups of checkpoints that differ in their seeds, and rules that hold one to the other."""
    folder = shared / "recipes"
    test_recipes.written(folder / "r", {"a": 3, "b": 3}, ("pets", "cars"))
    groups = b'[recipes]\nold = ["b/*"]\nnew = ["a/seed0", "a/seed1", "a/seed2"]\n'
    files = {**tree(folder), "recipes.toml": groups, "rules.toml": test_recipes.RULES.replace("= 1.0", "= 90").encode()}
    compare = "compare {d}/r --models new --against old --recipes {d}/recipes.toml"
    damaged = (*files, *["recipes.toml", "rules.toml"] * 6)
    return {
        "recipes": Target(files, damaged, (
            compare, f"{compare} --json", f"{compare} --format csv --all-metrics", f"{compare} --figure {{o}}",
            "compare {d}/r --models a/* --against b/* --format markdown",
            "gate --baseline {d}/r --current {d}/r --rules {d}/rules.toml",
        )),
    }  # fmt: skip


def sites(shared: Path, clip: str) -> dict[str, Target]:
    """Results that contributors sent: a site of them, and their export."""
    folder = shared / "sent"
    ran(folder, {"t.toml": _task(*RETRIEVAL, SYNTHETIC)}, f"{RUN} {clip}")
    sent = {f"r/{path}": content for path, content in tree(folder / "out").items()}
    formats = ("csv", "model-index", "card", "eval-results", "clip_benchmark")
    return {
        "leaderboard": Target(sent, tuple(sent), (
            "leaderboard {d}/r --output {o}", "leaderboard {d}/r --check", "compare {d}/r --published",
            "report {d}/r --output {o} --title x", *(f"export {{d}}/r --format {name}" for name in formats),
        ), fails={"--published": "nothing to place"}),
    }  # fmt: skip


def hubs(shared: Path, clip: str) -> dict[str, Target]:
    """A data set on the hub, what was fetched of it, and the same behind an address."""
    members = {
        f"{k}.{end}": content for k in range(3) for end, content in (("jpg", image("JPEG", k)), ("cls", b"%d" % k))
    }
    shards = {"test/0.tar": _tar(members), "test/nshards.txt": b"1", "classnames.txt": b"one\ntwo\nthree",
              "zeroshot_classification_templates.txt": b"a {c}"}  # fmt: skip
    spec = 'loader = "webdataset"\npath = "set"'
    ours = {"t.toml": _task(*CLASSIFICATION, f'{spec}\nhub = "org/data"'), f"{OWN_CACHE}/x": b""}
    there = {**{f"{HUB}/{name}": content for name, content in shards.items()}, LISTING: Hub(shards).listing()}
    fetch, check = "data fetch {d}/t.toml --data-root {d}/root", "data check {d}/t.toml --data-root {d}/root"
    folder = shared / "fetched"
    ran(folder, {**ours, **there}, fetch)
    root = {f"root/{path}": content for path, content in tree(folder / "root").items()}
    told = tuple(name for name in root if name.endswith(".json"))
    behind = {f"{HUB}/set/{name}": content for name, content in shards.items()}
    far = {"t.toml": _task(*CLASSIFICATION, spec), f"{OWN_CACHE}/x": b"", **behind}
    address = "{u}/org/data"
    read = RUN.replace("--data-root {d}", "--data-root {d}/root")
    return {
        "hub": Target({**ours, **there}, (*there, LISTING, LISTING, "t.toml"), (fetch, f"{read} --download {clip}")),
        "fetched": Target({**ours, **there, **root}, (*root, *told * 4), (check, fetch, f"{read} {clip}")),
        "address": Target(far, (*behind, "t.toml"), (
            f"{RUN.replace('--data-root {d}', f'--data-root {address}')} {clip}",
            f"data fetch {{d}}/t.toml --data-root {address}",
        )),
    }  # fmt: skip


def pushed(shared: Path) -> Target:
    """Results for a repository that has a card."""
    from cocabench.results.store import Store

    plain = record("mine", "imagenetv2", {"acc1": estimate(0.5, 0.031, n=10000), "acc5": estimate(0.8)})
    Store(shared / "push").put_record(plain)
    files = {f"r/{path}": content for path, content in tree(shared / "push").items()}
    card = {f"{HUB}/README.md": CARD.encode(), f"{HUB}/.eval_results/cocabench.yaml": b"- dataset:\n    id: x\n"}
    return Target({**files, **card}, (*files, *card, *card), ("push {d}/r --repo org/data",))


def watched(shared: Path) -> Target:
    """A folder of a training's checkpoints."""
    net = random_network(shared, CLIP)
    write_training_checkpoint(shared / "epoch_1.pt", net)
    checkpoint = (shared / "epoch_1.pt").read_bytes()
    files = {"a.json": _json(CLIP), "w/epoch_1.pt": checkpoint, "w/stop": b"", "t.toml": _task(*RETRIEVAL, SYNTHETIC)}
    arrivals.__kwdefaults__["interval"] = 0.05
    words = f"{RUN} --model {{d}}/a.json --watch {{d}}/w --report {{o}}/report"
    return Target(files, ("w/epoch_1.pt", "w/epoch_1.pt", "a.json", "t.toml"), (words,))


def transformers(shared: Path) -> Target:
    """A folder of a CLIP of the package transformers."""
    files = {f"m/{path}": content for path, content in tree(tiny.clip(shared / "hf")).items()}
    words = f"{RUN} --model transformers::{{d}}/m"
    return Target({**files, "t.toml": _task(*RETRIEVAL, SYNTHETIC)}, tuple(files), (words, f"{words} --dry-run"))


_open = contextlib.ExitStack()


@cache
def hub() -> Hub:
    """Serve a hub for as long as this process lives, where its clients ask, and let them not wait between tries."""
    from huggingface_hub import constants, file_download

    from cocabench.data import remote

    running = _open.enter_context(served(Hub({})))
    changed: dict[str, Any] = {
        "ENDPOINT": running.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True,
        "HUGGINGFACE_CO_URL_TEMPLATE": running.url + "/{repo_id}/resolve/{revision}/{filename}",
    }  # fmt: skip
    for name, value in changed.items():
        setattr(constants, name, value)
    file_download.time.sleep = lambda seconds: None  # type: ignore[attr-defined]
    remote.FIRST_WAIT_S = 0
    return running
