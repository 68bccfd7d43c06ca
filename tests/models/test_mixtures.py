"""Mixtures of checkpoints, and the moving averages in checkpoint files: held against torch by hand, to the bit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import cocabench
from cocabench.core.errors import CocabenchError, ModelError, UsageError
from cocabench.core.types import ImageSource
from cocabench.data.images import FileImage
from cocabench.models.hardware import hardware
from cocabench.models.open_clip.model import OpenClip
from cocabench.specs.registry import FailedSource, model_sources
from cocabench.specs.spec import parse_models, split_models
from tests.conftest import Command
from tests.models.tiny import CLIP, COCA, write_folder

CPU = hardware(device="cpu", batch_size=5, workers=0)
TEXTS = ["a picture of thing 1", "thing"]
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return three CoCa folders of one architecture."""
    folder = tmp_path_factory.mktemp("soup, of three")
    return [write_folder(folder / f"run_{seed}", COCA, seed) for seed in range(3)]


@pytest.fixture(scope="module")
def images(data: Path) -> list[ImageSource]:
    return [FileImage(path) for path in sorted((data / "images").iterdir())][:6]


def state(folder: Path) -> State:
    return load_file(folder / "open_clip_model.safetensors")


def load(text: str, **options: Any) -> OpenClip:
    (source,) = model_sources(parse_models(text), **options)
    model = source.load(CPU)
    assert isinstance(model, OpenClip)
    return model


def by_hand(folder: Path, weights: State) -> OpenClip:
    write_folder(folder, COCA)
    save_file({key: value.contiguous() for key, value in weights.items()}, folder / "open_clip_model.safetensors")
    return load(str(folder))


def quoted(*folders: Path) -> str:
    return ",".join(f'"{folder}"' for folder in folders)


def test_a_mean_of_three_equals_torchs_by_hand_to_the_bit(
    three: list[Path], images: list[ImageSource], tmp_path: Path
) -> None:
    one, two, last = map(state, three)
    wanted = by_hand(tmp_path / "hand", {k: one[k] * (1 / 3) + two[k] * (1 / 3) + last[k] * (1 / 3) for k in one})
    found = load(f"avg({quoted(*three)})")
    assert found.encode_images(images).rows.tobytes() == wanted.encode_images(images).rows.tobytes()
    assert found.encode_texts(TEXTS).tobytes() == wanted.encode_texts(TEXTS).tobytes()
    assert found.caption(images, {"seq_len": 8}).texts == wanted.caption(images, {"seq_len": 8}).texts
    assert found.encode_texts(TEXTS).tobytes() != load(str(three[0])).encode_texts(TEXTS).tobytes()


@pytest.mark.slow
def test_the_line_between_two_starts_and_ends_at_them(three: list[Path], tmp_path: Path) -> None:
    one, two = map(state, three[:2])
    wanted = by_hand(tmp_path / "hand", {k: (1 - 0.3) * one[k] + 0.3 * two[k] for k in one}).encode_texts(TEXTS)
    specs = parse_models(f"mix({quoted(*three[:2])},0:1:0.1)")
    assert [spec.text.rpartition(",")[2] for spec in specs] == [f"{k / 10:g})" for k in range(11)]
    line = [model_sources([specs[k]])[0].load(CPU).encode_texts(TEXTS).tobytes() for k in (0, 3, 10)]
    assert line == [
        load(str(three[0])).encode_texts(TEXTS).tobytes(),
        wanted.tobytes(),
        load(str(three[1])).encode_texts(TEXTS).tobytes(),
    ]


def test_the_signature_has_the_hashes_of_the_parts_and_their_shares(three: list[Path]) -> None:
    (half, third, other) = (
        model_sources(parse_models(text))[0]
        for text in (
            f"mix({quoted(*three[:2])},{0.5})",
            f"mix({quoted(*three[:2])},{0.3})",
            f"avg({quoted(*three[:2])})",
        )
    )
    own = [model_sources(parse_models(f'"{folder}"'))[0].signature()["weights"] for folder in three]
    assert half.signature()["mixture"] == [{"weights": own[0], "share": 0.5}, {"weights": own[1], "share": 0.5}]
    assert third.signature()["mixture"] == [{"weights": own[0], "share": 0.7}, {"weights": own[1], "share": 0.3}]
    assert half.signature()["weights"] != third.signature()["weights"]
    assert half.signature()["weights"] == other.signature()["weights"], "the same network"
    assert (
        half.signature()["architecture"] == model_sources(parse_models(f'"{three[0]}"'))[0].signature()["architecture"]
    )
    (again,) = model_sources(parse_models(half.id))
    assert again.signature() == half.signature(), "its name can be typed"


@pytest.mark.slow
def test_mixtures_nest_and_a_glob_is_all_its_files(three: list[Path], tmp_path: Path) -> None:
    (tmp_path / "arch.json").write_text(json.dumps(COCA))
    for k, folder in enumerate(three):
        torch.save(state(folder), tmp_path / f"epoch_{k}.pt")
    (soup,) = model_sources(parse_models(f"avg({tmp_path}/arch.json:{tmp_path}/epoch_*.pt)"))
    (typed,) = model_sources(parse_models(f"avg({quoted(*three)})"))
    assert [s["share"] for s in soup.signature()["mixture"]] == [1 / 3] * 3  # type: ignore[index, union-attr, call-overload]
    assert soup.load(CPU).encode_texts(TEXTS).tobytes() == typed.load(CPU).encode_texts(TEXTS).tobytes()
    line = load(f"mix(avg({quoted(*three)}),{quoted(three[0])},1)")
    assert line.encode_texts(TEXTS).tobytes() == load(str(three[0])).encode_texts(TEXTS).tobytes()


def test_commas_inside_a_mixture_separate_no_models() -> None:
    assert split_models("mix(a,b,0.5),c,avg(a,mix(b,c,1))") == ["mix(a,b,0.5)", "c", "avg(a,mix(b,c,1))"]
    assert split_models("ViT-B-32:/runs/a(1).pt,b") == ["ViT-B-32:/runs/a(1).pt", "b"]


def refuse(text: str) -> None:
    (failed,) = model_sources(parse_models(text))
    assert isinstance(failed, FailedSource)
    raise failed.error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("avg(demo/clip)", r"avg\(demo/clip\): the mean of one model; wanted avg\(A,B,…\)"),
        ("mix(demo/clip,demo/coca)", r"no mixture of two models; wanted mix\(A,B,0.5\): half of each"),
        ("mix(demo/clip,demo/coca,half)", "no mixture of two models"),
        ("mix(demo/clip,demo/coca,1.5)", "the share 1.5; wanted 0"),
        ("mix(demo/clip,demo/coca,0:1)", "the range 0:1; wanted FIRST:LAST:STEP, as 0:1:0.1"),
        ("mix(demo/clip,demo/coca,0:1:0)", "the range 0:1:0; wanted FIRST:LAST:STEP"),
        ("mix(demo/clip,demo/coca,0:1:0.001)", "1001 models; wanted 101 at most; use a larger step"),
        ("mix(demo/clip,demo/coca,0.5)", "a mixture of different architectures .demo/clip; demo/coca: "),
        ("mix(transformers::x,demo/coca,0.5)", "a mixture of models of transformers; wanted checkpoints of open_clip"),
        ("ViT-B-32:/x.pt#best", "unknown weights #best of a file; wanted #ema, or none"),
    ],
)
def test_what_cannot_be_mixed_is_one_line(text: str, message: str) -> None:
    with pytest.raises(CocabenchError, match=message) as raised:
        refuse(text)
    assert isinstance(raised.value, UsageError | ModelError)
    assert "\n" not in str(raised.value)


def test_other_preprocessing_cannot_be_mixed(tmp_path: Path) -> None:
    folders = [write_folder(tmp_path / str(k), CLIP, k) for k in range(2)]
    for k, folder in enumerate(folders):
        config = {"model_cfg": CLIP, "preprocess_cfg": {"mean": [k / 2] * 3}}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
    (failed,) = model_sources(parse_models(f"avg({quoted(*folders)})"))
    assert isinstance(failed, FailedSource)
    assert "different preprocessing of" in str(failed.error)


FORMS: dict[str, Any] = {
    "timm": lambda own, ema: {"state_dict": own, "state_dict_ema": ema, "epoch": 3},
    "averaged model": lambda own, ema: {
        "model": own,
        "model_ema": {"n_averaged": torch.tensor(3), **{f"module.{k}": v for k, v in ema.items()}},
    },
    "below a callback": lambda own, ema: {"state_dict": own, "callbacks": {"EMA": {"ema_state_dict": ema}}},
    "one state": lambda own, ema: {
        "state_dict": {**{f"model.{k}": v for k, v in own.items()}, **{f"ema_model.{k}": v for k, v in ema.items()}}
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_moving_average_in_a_checkpoint_is_a_choice_and_listed(
    form: str, three: list[Path], tmp_path: Path, command: Command
) -> None:
    own, ema = (state(folder) for folder in three[:2])
    (tmp_path / "arch.json").write_text(json.dumps(COCA))
    file = tmp_path / "epoch_3.pt"
    torch.save(FORMS[form](own, ema), file)
    name = f"{tmp_path}/arch.json:{file}"
    found = [load(text) for text in (name, f"{name}#ema", f"{tmp_path}/arch.json:{tmp_path}/epoch_*.pt#ema")]
    wanted = [load(str(folder)) for folder in (three[0], three[1], three[1])]
    for one, other in zip(found, wanted, strict=True):
        assert one.encode_texts(TEXTS).tobytes() == other.encode_texts(TEXTS).tobytes()
    signatures = [model_sources(parse_models(text))[0].signature() for text in (name, f"{name}#ema")]
    assert signatures[0]["weights"] != signatures[1]["weights"]
    listed = command("list", "weights", file, "--json")
    assert listed.code == 0, listed.err
    assert [row["model"] for row in json.loads(listed.out)] == [f"NAME:{file}", f"NAME:{file}#ema"]


def test_a_checkpoint_without_a_moving_average_is_one_line(three: list[Path], tmp_path: Path, command: Command) -> None:
    (tmp_path / "arch.json").write_text(json.dumps(COCA))
    torch.save(state(three[0]), tmp_path / "epoch_1.pt")
    with pytest.raises(ModelError, match=r"epoch_1.pt#ema: no moving average \(EMA\) in it; wanted a checkpoint with"):
        load(f"{tmp_path}/arch.json:{tmp_path}/epoch_1.pt#ema")
    assert len(json.loads(command("list", "weights", tmp_path / "epoch_1.pt", "--json").out)) == 1
    assert "no such file" in command("list", "weights", tmp_path / "none.pt").err


@pytest.mark.slow
def test_a_sweep_runs_and_its_models_are_chosen_by_name(
    three: list[Path], data: Path, tmp_path: Path, command: Command
) -> None:
    given = ("--tasks", data / "find.toml", "--data-root", data, "--output", tmp_path / "results", "--device", "cpu")
    ran = command("run", "--model", f"mix({quoted(*three[:2])},0:1:0.5)", *given)
    assert ran.code == 0, ran.err
    names = list(cocabench.load(tmp_path / "results").frame()["model"].unique())
    assert [name.rpartition(",")[2] for name in names] == ["0)", "0.5)", "1)"]
    compared = command("compare", tmp_path / "results", "--models", ",".join(names[:2]), "--json")
    assert compared.code == 0, compared.err
    assert {row["model"] for row in json.loads(compared.out)} == set(names[:2])
    again = command("run", "--model", names[1], *given)
    assert "already done" in again.err
    plan = command("run", "--model", names[1], *given, "--dry-run", "--json").out
    (tmp_path / "plan.json").write_text(plan)
    assert "already done" in command("run", "--plan", tmp_path / "plan.json").err
