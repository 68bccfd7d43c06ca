"""Goldens of features, captions and likelihoods: what every model gave before the rebuild, by bits.

    python -m tests.goldens.bits make [STEM] [--whole]    write STEM.npz and STEM.json (default: ours)
    python -m tests.goldens.bits compare STEM STEM        tell what differs
    python -m tests.goldens.bits against CHECKOUT         make both checkouts' goldens here and compare them by bits
    python -m tests.goldens.bits shake                    tell which captions hang on the last bits of the weights

The committed goldens are compared by bits where the environment (processor, packages, threads) is theirs. Elsewhere
rows may differ by 1e-6, and texts, tokens, counts and positions stay exact; what is computed in bf16 is compared by
bits or hardly at all. To prove equality by bits on another machine, use `against` with a checkout that has these
goldens and its own .venv, such as a worktree of the commit that brought them: each side speaks through its own
`bits_adapter`, and both are computed in the same session.

Of an array of many rows the file keeps a hash and a projection of every row, and some rows whole (--whole: all).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tests.goldens import bits_adapter as adapter
from tests.goldens.bits_inputs import CAPTIONERS, TINY, Inputs

GOLDENS = Path(__file__).parent / "bits" / "models"
TOLERANCE = 3e-6
"""Of features: machines with AVX-512 and without differ by up to 5e-7."""
LOOSE = 0.05
"""Of bf16, whose last bit is worth 0.004 at 1."""
CONVOLVED = 1e-4
"""Of a random ResNet, whose batch norms divide by small variances: an Intel and an AMD differ by 3e-5."""
LOGPROBS = 1e-5
"""Of captions' scores and likelihoods, sums over tokens of fp32 logits near 20, whose last bit is worth 2e-6: machines
with AVX-512 and without differ by 2e-6 where the sum is near 0, and by up to 3e-5 elsewhere."""
WHOLE_ROWS, WHOLE_BYTES = 12, 4096
ARRAY = "array"
"""Marks in the JSON where an array belongs: its rows, those that are whole, its type, the shape of a row."""
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "open_clip_torch", "transformers", "tokenizers")

Values = dict[str, Any]
"""What a case gave: by path, an array of rows or a value that JSON holds."""


class Rows(NamedTuple):
    """An array (n, …): a hash and a projection of every row, and the rows at index (k,) whole."""

    digests: NDArray[np.uint64]
    projections: NDArray[np.float64]
    index: NDArray[np.int64]
    rows: NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A thing to compute. quick: for the fast tests. tolerance: how far features may be off on another machine."""

    name: str
    compute: Callable[[Inputs], Values]
    quick: bool = False
    tolerance: float = TOLERANCE


# What a model gives


def _texts(inputs: Inputs, *, model: str, precision: str = "fp32") -> Values:
    with adapter.loaded(inputs.model(model), precision=precision) as own:
        return {"rows": own.encode_texts(inputs.texts()), "computed": _total(own, "texts")}


def _blocks(inputs: Inputs, *, model: str) -> Values:
    """2,300 texts at once, and again where a part of them is cached, so that other texts share a block."""
    texts = inputs.many_texts()
    with adapter.loaded(inputs.model(model)) as own:
        rows = own.encode_texts(texts)
        again = own.encode_texts(texts)
        counts = _per_block(own)
    with adapter.loaded(inputs.model(model)) as own:
        part = own.encode_texts(texts[300:700])
        mixed = own.encode_texts(texts)
        return {
            "rows": rows,
            "again_equal": np.array_equal(rows, again),
            "rows_after_a_part": mixed,
            "part_equal": np.array_equal(part, mixed[300:700]),
            "computed": counts,
            "computed_after_a_part": _per_block(own),
        }


def _per_block(own: adapter.Loaded) -> list[int]:
    """Return how many texts were encoded together each time: what shares a block moves the last bit."""
    return [n for _, n in own.computed if n]


def _total(own: adapter.Loaded, kind: str) -> int:
    return sum(n for one, n in own.computed if one == kind)


def _images(inputs: Inputs, *, model: str, batch: int, precision: str = "fp32") -> Values:
    with adapter.loaded(inputs.model(model), batch=batch, precision=precision) as own:
        rows, kept = own.encode_images(inputs.pictures)
        return {"rows": rows, "kept": kept}


def _cached(inputs: Inputs, *, model: str) -> Values:
    """Some images, then all of them from the same folder by a second run, then all again by a third."""
    folder, sources = inputs.empty(model.replace("/", "-")), inputs.pictures
    values: Values = {}
    for stage, some in (("part", sources[6:21]), ("all", sources), ("again", sources)):
        with adapter.loaded(inputs.model(model), cache=folder, batch=7) as own:
            values[f"{stage}_rows"], values[f"{stage}_kept"] = own.encode_images(some)
            values[f"{stage}_texts"] = own.encode_texts(inputs.texts(60 if stage == "part" else 120))
            for kind in ("images", "texts"):
                values[f"{stage}_computed_{kind}"] = _total(own, kind)
    return values


def _captions(
    inputs: Inputs, *, model: str, options: Mapping[str, Any], batch: int = 7, precision: str = "fp32"
) -> Values:
    """Captions first; then the images' features, of which those made on the way are not computed again."""
    with adapter.loaded(inputs.model(model), batch=batch, precision=precision) as own:
        made = own.caption(inputs.captioned, options)
        own.computed.clear()
        rows, kept = own.encode_images(inputs.captioned)
        after = {"rows_afterwards": rows, "kept_afterwards": kept, "computed_afterwards": _total(own, "images")}
    return {**made, **after}


def _likelihoods(inputs: Inputs, *, model: str, each: int, precision: str = "fp32") -> Values:
    """``each`` texts for every image: one of its own, others', an empty one, one that is cut."""
    own_texts = [texts[0] for _, texts in inputs.emoji]
    fixed = ["a red heart", "", " ".join(own_texts[:40]), *own_texts[200:]]
    texts = [[own_texts[100 + i], own_texts[(i * 13) % 99], *fixed][:each] for i in range(len(inputs.captioned))]
    with adapter.loaded(inputs.model(model), precision=precision) as own:
        return own.score_captions(inputs.captioned, texts)


def _tiny(inputs: Inputs, *, model: str) -> Values:
    """Features, likelihoods and a caption of an architecture; its captions have cases of their own."""
    with adapter.loaded(inputs.model(model), batch=7) as own:
        rows, kept = own.encode_images(inputs.pictures)
        values: Values = {"images": rows, "kept": kept, "texts": own.encode_texts(inputs.texts(120))}
    found = adapter.signature(inputs.model(model))
    hidden = ("id", "weights")  # a folder's place, and bytes that hang on the machine's logarithm
    signature = {key: value for key, value in found.items() if key not in hidden}
    described = {key: value for key, value in adapter.describe(inputs.model(model)).items() if key != "id"}
    return {**values, "signature": signature, "described": described}


def _signature(inputs: Inputs, *, model: str) -> Values:
    """The dictionary to the byte, for a hash of it names Records."""
    found = {precision: adapter.signature(model, precision) for precision in ("fp32", "bf16")}
    return {"signature": json.dumps(found, ensure_ascii=False), "described": adapter.describe(model)}


def _public(inputs: Inputs, *, network: str) -> Values:
    """What networks in memory give through the two public functions."""
    sampled = {"seq_len": 20, "generation_type": "top_k", "top_k": 8, "seed": 3}
    beams = {"seq_len": 20, "num_beams": 6, "num_beam_groups": 3}
    tokens = np.random.RandomState(5).randint(8, 40, (40, 24))
    tokens[::3, 5:] = 0
    tokens[:, 0] = 2
    tokens[7] = tokens[3]
    return {
        "rows": adapter.encode_token_rows(network, tokens),
        "beams": adapter.generate_tokens(network, beams),
        "sampled": adapter.generate_tokens(network, sampled),
    }


DECODING: dict[str, dict[str, Any]] = {
    "default": {},
    "one-group": {"num_beams": 6, "num_beam_groups": 1, "repetition_penalty": 1.3, "min_seq_len": 2},
    "logprob": {"decoding": "logprob", "num_beams": 4, "num_beam_groups": 1, "length_penalty": 0.6},
    "diverse": {"decoding": "logprob", "num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.7},
    "greedy": {"generation_type": "greedy"},
    "one-beam": {"num_beams": 1, "min_seq_len": 0},
    "prompted": {"prompt": "a red"},
    "prompted-greedy": {"prompt": "the dog", "generation_type": "greedy", "min_seq_len": 8},
    "top-k": {"generation_type": "top_k", "top_k": 20, "seed": 7},
    "top-p": {"generation_type": "top_p", "top_p": 0.8, "temperature": 1.2, "seed": 3},
    "short": {"seq_len": 7, "min_seq_len": 3},
}


def _cases() -> Iterator[Case]:
    for model in adapter.DEMO_MODELS:
        yield Case(f"{model}/signature", partial(_signature, model=model), quick=True)
        yield Case(f"{model}/texts", partial(_texts, model=model), quick=True)
        yield Case(f"{model}/blocks", partial(_blocks, model=model))
        yield Case(f"{model}/cached", partial(_cached, model=model), quick=model == "demo/clip")
        for batch in (1, 7, 32):
            quick = (model, batch) == ("demo/coca", 7)
            yield Case(f"{model}/images-{batch}", partial(_images, model=model, batch=batch), quick=quick)
    for model in ("demo/coca", "demo/coca-captioner", *CAPTIONERS):
        for name, options in DECODING.items():
            quick = model == "demo/coca" and name in ("default", "top-k")
            yield Case(f"{model}/captions-{name}", partial(_captions, model=model, options=options), quick, LOGPROBS)
        for each in (1, 3, 20):
            quick = (model, each) == ("demo/coca", 3)
            scored = partial(_likelihoods, model=model, each=each)
            yield Case(f"{model}/likelihoods-{each}", scored, quick, LOGPROBS)
    for batch in (1, 32):
        top_k = partial(_captions, model="demo/coca", options=DECODING["top-k"], batch=batch)
        yield Case(f"demo/coca/captions-top-k-batch-{batch}", top_k, tolerance=LOGPROBS)
    for model in TINY:
        tolerance = CONVOLVED if model == "resnet" else TOLERANCE
        yield Case(f"{model}/features", partial(_tiny, model=model), model == "custom-text", tolerance)
    for network in adapter.NETWORKS:
        yield Case(f"network-{network}/public", partial(_public, network=network), quick=network == "pad_7")
    half = {"model": "demo/coca", "precision": "bf16"}
    yield Case("demo/coca/bf16/texts", partial(_texts, **half), tolerance=LOOSE)
    yield Case("demo/coca/bf16/images", partial(_images, batch=7, **half), tolerance=LOOSE)
    yield Case("demo/coca/bf16/captions", partial(_captions, options={}, **half), tolerance=LOOSE)
    yield Case("demo/coca/bf16/likelihoods", partial(_likelihoods, each=3, **half), tolerance=LOOSE)


CASES = {case.name: case for case in _cases()}


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: how a sum is split moves its last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compute(case: Case, inputs: Inputs) -> Values:
    """Return what a case gives now, in the form in which JSON gives it back."""
    with one_thread():
        found = case.compute(inputs)
    return {path: value if isinstance(value, np.ndarray) else _plain(value) for path, value in found.items()}


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


# Goldens on disk


def environment() -> dict[str, str]:
    """Return what bits hang on besides the code."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    cpu = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    kind = ("model name", "cpu family", "model", "cache size")
    vectors = sorted(flag for flag in cpu.get("flags", "").split() if flag.startswith(("avx", "amx", "fma")))
    return {
        "processor": " ".join([platform.machine(), *(cpu.get(key, "") for key in kind)]),
        "vectors": " ".join([torch.backends.cpu.get_cpu_capability(), *vectors]),
        **{name: _version(name) for name in PACKAGES},
        "threads": "1",
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def packed(array: NDArray[Any], *, whole: bool = False) -> Rows:
    """Return an array (n, …) with all rows whole where it is small, else with some, those at the ends among them."""
    array = np.ascontiguousarray(array)
    flat = array.reshape(len(array), -1)
    digests = [int.from_bytes(hashlib.sha256(row.tobytes()).digest()[:8], "little") for row in flat]
    width = max(1, flat.shape[1])
    weights = (1 + np.cos(np.arange(width, dtype=np.float64) ** 2)) / (2 * width**0.5)
    whole = whole or array.nbytes <= WHOLE_BYTES
    n = len(array)
    index = np.arange(n) if whole else np.unique(np.linspace(0, n - 1, WHOLE_ROWS).astype(np.int64))
    return Rows(np.array(digests, np.uint64), (flat * weights).sum(axis=1), index.astype(np.int64), array[index])


def write(stem: Path, found: Mapping[str, Values], *, whole: bool = False) -> None:
    """Write goldens: of all arrays the Rows, joined, to STEM.npz; all else to STEM.json."""
    texts: dict[str, Any] = {"environment": environment()}
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in Rows._fields}
    for case, values in found.items():
        texts[case] = {}
        for path, value in values.items():
            if not isinstance(value, np.ndarray):
                texts[case][path] = value
                continue
            rows = packed(value, whole=whole)
            texts[case][path] = {ARRAY: [len(value), len(rows.index), str(value.dtype), list(value.shape[1:])]}
            for name, column in rows._asdict().items():
                columns[name].append(column.reshape(-1).view(np.uint8) if name == "rows" else column)
    stem.parent.mkdir(parents=True, exist_ok=True)
    empty = {name: np.concatenate(column) if column else np.empty(0) for name, column in columns.items()}
    np.savez_compressed(stem.with_suffix(".npz"), **empty)  # type: ignore[arg-type]
    lines = [f"{json.dumps(case)}: {json.dumps(values, ensure_ascii=False)}" for case, values in texts.items()]
    stem.with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


class Goldens(NamedTuple):
    """Goldens as they were read: arrays are Rows."""

    environment: dict[str, str]
    cases: dict[str, Values]


def read(stem: Path) -> Goldens:
    """Read what `write` wrote."""
    cases: dict[str, Values] = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
    made_in = cases.pop("environment")
    with np.load(stem.with_suffix(".npz")) as stored:
        columns = {name: stored[name] for name in Rows._fields}
    at = dict.fromkeys(Rows._fields, 0)

    def cut(name: str, length: int) -> NDArray[Any]:
        at[name] += length
        return columns[name][at[name] - length : at[name]]

    for values in cases.values():
        for path, value in values.items():
            if isinstance(value, dict) and ARRAY in value:
                n, kept, kind, shape = value[ARRAY]
                size = kept * math.prod(shape) * np.dtype(kind).itemsize
                raw = cut("rows", size).tobytes()
                rows = np.frombuffer(raw, kind).reshape(kept, *shape)
                values[path] = Rows(cut("digests", n), cut("projections", n), cut("index", kept), rows)
    return Goldens(made_in, cases)


# Comparison


def differences(case: str, old: Values, new: Values, *, by_bits: bool, tolerance: float = TOLERANCE) -> list[str]:
    """Return a line for each path where new differs from old. Arrays are arrays or Rows.

    tolerance: see `Case`; with bf16's only arrays are compared on another machine, for its captions may be others.
    """
    found = [
        f"{case}/{path}: only in the {'goldens' if path in old else 'new values'}" for path in old.keys() ^ new.keys()
    ]
    for path in (path for path in old if path in new):
        before, after = (packed(v) if isinstance(v, np.ndarray) else v for v in (old[path], new[path]))
        if isinstance(before, Rows) and isinstance(after, Rows):
            said = _rows_differ(before, after, by_bits=by_bits, tolerance=tolerance)
        elif by_bits or tolerance < LOOSE or path.startswith("kept"):
            said = "" if before == after else _first_difference(before, after)
        else:
            said = ""
        found += [f"{case}/{path}: {said}"] if said else []
    return found


def _rows_differ(old: Rows, new: Rows, *, by_bits: bool, tolerance: float) -> str:
    if (
        old.rows.dtype != new.rows.dtype
        or old.rows.shape[1:] != new.rows.shape[1:]
        or len(old.digests) != len(new.digests)
    ):
        shapes = [f"{len(one.digests)} rows of {one.rows.dtype} {one.rows.shape[1:]}" for one in (old, new)]
        return f"{shapes[1]}, wanted {shapes[0]}"
    _, here, there = np.intersect1d(old.index, new.index, return_indices=True)
    moved = np.abs(old.rows[here].astype(np.float64) - new.rows[there]).reshape(len(here), -1)
    most = f"largest difference {moved.max(initial=0):.2g} in the {len(here)} rows that are kept whole"
    if by_bits:
        bad = np.flatnonzero(old.digests != new.digests)
        return (
            f"{len(bad)} of {len(old.digests)} rows differ by bits, the first is row {bad[0]}; {most}"
            if len(bad)
            else ""
        )
    close = partial(np.isclose, rtol=tolerance, atol=tolerance)
    bad = np.flatnonzero(~close(old.projections, new.projections))
    if len(bad):
        return (
            f"{len(bad)} of {len(old.digests)} rows differ by more than {tolerance}, the first is row {bad[0]}; {most}"
        )
    return "" if close(old.rows[here], new.rows[there]).all() else f"more than {tolerance}; {most}"


def _first_difference(old: Any, new: Any) -> str:
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        at = next(i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b)
        return f"[{at}]: got {new[at]!r}, wanted {old[at]!r}"
    if isinstance(old, dict) and isinstance(new, dict) and (keys := [k for k in old if k in new and old[k] != new[k]]):
        return f"[{keys[0]!r}]: got {new[keys[0]]!r}, wanted {old[keys[0]]!r}"
    return f"got {new!r}, wanted {old!r}"


def compare(old: Goldens, new: Goldens) -> list[str]:
    """Return a line for each difference between two sets of goldens."""
    by_bits = old.environment == new.environment
    found = [f"{case}: only in one of the two" for case in sorted(old.cases.keys() ^ new.cases.keys())]
    for case in (case for case in old.cases if case in new.cases):
        tolerance = CASES[case].tolerance if case in CASES else TOLERANCE
        found += differences(case, old.cases[case], new.cases[case], by_bits=by_bits, tolerance=tolerance)
    return found


# Commands


def make(stem: Path, *, whole: bool = False) -> None:
    """Compute all cases and write them."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = Inputs(Path(folder))
        write(stem, {name: compute(case, inputs) for name, case in CASES.items()}, whole=whole)


def against(checkout: Path) -> list[str]:
    """Return what differs between another checkout's goldens and this one's, both made now, whole."""
    for needed in ("tests/goldens/bits.py", ".venv/bin/python"):
        if not (checkout / needed).exists():
            raise SystemExit(
                f"{checkout}: no {needed}; take a checkout that has these goldens, and `make .venv/test.stamp`"
            )
    with tempfile.TemporaryDirectory() as folder:
        stems = [Path(folder) / name for name in ("other", "own")]
        for where, stem in zip((checkout.resolve(), Path(__file__).parents[2]), stems, strict=True):
            python = str(where / ".venv" / "bin" / "python")
            command = [python, "-m", "tests.goldens.bits", "make", str(stem), "--whole"]
            subprocess.run(command, cwd=where, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        return compare(*(read(stem) for stem in stems))


def shake() -> list[str]:
    """Return the texts and tokens that change when weights move by 1e-6 of themselves: they hang on rounding."""
    cases = [case for case in CASES.values() if "captions" in case.name and case.tolerance < LOOSE]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        still, moved = Inputs(Path(folder) / "still"), Inputs(Path(folder) / "moved", shaken=True)
        for case in cases:
            old, new = (compute(case, inputs) for inputs in (still, moved))
            if np.array_equal(old["scores"], new["scores"]):
                raise SystemExit(f"{case.name}: its weights did not move")
            found += differences(case.name, {"texts": old["texts"]}, {"texts": new["texts"]}, by_bits=True)
    return found


def main(arguments: list[str]) -> None:
    """Run a command, see the module's text."""
    whole = "--whole" in arguments
    match [one for one in arguments if one != "--whole"]:
        case ["make", *stem] if len(stem) < 2:
            make(Path(stem[0]) if stem else GOLDENS, whole=whole)
            return
        case ["compare", old, new]:
            found = compare(read(Path(old)), read(Path(new)))
        case ["against", checkout]:
            found = against(Path(checkout))
        case ["shake"]:
            found = shake()
        case _:
            raise SystemExit(__doc__)
    print("\n".join(found or ["equal"]))
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main(sys.argv[1:])
