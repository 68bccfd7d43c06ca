"""Small files in the formats that the standard sets come in, each image of one colour, which says what it shows."""

from __future__ import annotations

import csv
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from tests.data.drawing import write, write_json

Shown = tuple[str, ...]
"""The class name that each image must be given, by the number of its colour."""

CALTECH = """BACKGROUND_Google Faces Faces_easy Leopards Motorbikes accordion airplanes anchor ant barrel bass beaver
binocular bonsai brain brontosaurus buddha butterfly camera cannon car_side ceiling_fan cellphone chair chandelier
cougar_body cougar_face crab crayfish crocodile crocodile_head cup dalmatian dollar_bill dolphin dragonfly
electric_guitar elephant emu euphonium ewer ferry flamingo flamingo_head garfield gerenuk gramophone grand_piano
hawksbill headphone hedgehog helicopter ibis inline_skate joshua_tree kangaroo ketch lamp laptop llama lobster lotus
mandolin mayfly menorah metronome minaret nautilus octopus okapi pagoda panda pigeon pizza platypus pyramid revolver
rhino rooster saxophone schooner scissors scorpion sea_horse snoopy soccer_ball stapler starfish stegosaurus stop_sign
strawberry sunflower tick trilobite umbrella watch water_lilly wheelchair wild_cat windsor_chair wrench yin_yang"""
EUROSAT = (
    """AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop Residential River SeaLake"""
)
FER2013 = "angry disgust fear happy neutral sad surprise"
COUNTRIES = ["AD", "AE", "AF", "AG", "AI", "AL", "AM", "AO", "AQ", "AR", *(f"B{k:03}" for k in range(200)), "ZW"]
TABLE = ((0, 4, "PublicTest"), (1, 5, "PrivateTest"), (2, 6, "PublicTest"), (3, 0, "PrivateTest"))
RESISC = "airplane baseball_diamond sea_ice"


def colour(number: int) -> tuple[int, int, int]:
    """Return a colour that is 16 or more from that of every other number below 4,096, so that JPEG keeps them apart."""
    return (number % 16 * 16 + 8, number // 16 % 16 * 16 + 8, number // 256 * 16 + 8)


def number_of(image: Image.Image) -> int:
    red, green, blue = (int(value) // 16 for value in np.asarray(image.convert("RGB"))[0, 0])
    return red + 16 * green + 256 * blue


def pixels(number: int, size: int) -> NDArray[np.uint8]:
    return np.full((size, size, 3), colour(number), np.uint8)


def picture(path: Path, number: int) -> None:
    kind = {".png": "PNG", ".ppm": "PPM"}.get(path.suffix, "JPEG")
    file = io.BytesIO()
    Image.fromarray(pixels(number, 24)).save(
        file, kind, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {})
    )
    write(path, file.getvalue())


def food101(top: Path) -> Shown:
    files = {"waffles": ["waffles/9", "waffles/10"], "apple_pie": ["apple_pie/1"]}
    write_json(top / "food-101/meta/test.json", files)
    for k, name in enumerate(("waffles/9", "waffles/10", "apple_pie/1")):
        picture(top / f"food-101/images/{name}.jpg", k)
    return "waffles", "waffles", "apple pie"


def sun397(top: Path) -> Shown:
    write(top / "SUN397/ClassName.txt", "/a/abbey\n/a/apartment_building/outdoor\n/o/oast_house\n")
    for k, folder in enumerate(("o/oast_house", "a/abbey", "a/apartment_building/outdoor")):
        picture(top / f"SUN397/{folder}/sun_{k}.jpg", k)
    return "oast house", "abbey", "apartment building outdoor"


def cars(top: Path) -> Shown:
    names = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Acura TL Sedan 2012"]
    (top / "stanford_cars/devkit").mkdir(parents=True)
    savemat(top / "stanford_cars/devkit/cars_meta.mat", {"class_names": np.array(names, object)})
    rows = [(1, "00001.jpg", 3), (2, "00002.jpg", 1)]
    table = np.array(rows, [("bbox_x1", "O"), ("fname", "O"), ("class", "O")])
    for row in table:
        row["class"] = np.uint8(row["class"])
    savemat(top / "stanford_cars/cars_test_annos_withlabels.mat", {"annotations": table})
    for k in range(2):
        picture(top / f"stanford_cars/cars_test/0000{k + 1}.jpg", k)
    return names[2], names[0]


def fgvc_aircraft(top: Path) -> Shown:
    data = top / "fgvc-aircraft-2013b/data"
    write(data / "variants.txt", "707-320\n727-200\nF/A-18\n")
    write(data / "images_variant_test.txt", "1514522 F/A-18\n0747566 707-320\n")
    picture(data / "images/1514522.jpg", 0)
    picture(data / "images/0747566.jpg", 1)
    return "F/A-18", "707-320"


def dtd(top: Path) -> Shown:
    write(top / "dtd/dtd/labels/test1.txt", "polka-dotted/polka-dotted_0001.jpg\nbanded/banded_0002.jpg\n")
    picture(top / "dtd/dtd/images/polka-dotted/polka-dotted_0001.jpg", 0)
    picture(top / "dtd/dtd/images/banded/banded_0002.jpg", 1)
    return "polka-dotted", "banded"


def pets(top: Path) -> Shown:
    ids = ("american_bulldog_203", "Abyssinian_201", "american_pit_bull_terrier_1")
    rows = zip(ids, ("2 2 1", "1 1 1", "3 2 2"), strict=True)
    write(top / "oxford-iiit-pet/annotations/test.txt", "".join(f"{name} {numbers}\n" for name, numbers in rows))
    for k, name in enumerate(ids):
        picture(top / f"oxford-iiit-pet/images/{name}.jpg", k)
    return "American Bulldog", "Abyssinian", "American Pit Bull Terrier"


def caltech101(top: Path) -> Shown:
    for k, name in enumerate(CALTECH.split()):
        picture(top / f"caltech101/101_ObjectCategories/{name}/image_0001.jpg", k)
    first = ("background", "off-center face", "centered face", "leopard", "motorbike", "accordion", "airplane")
    return (*first, *[""] * 13, "side of a car", *[""] * 80, "yin and yang symbol")


def flowers(top: Path) -> Shown:
    base = top / "flowers-102"
    base.mkdir(parents=True)
    savemat(base / "imagelabels.mat", {"labels": np.array([[77, 1, 102]], np.uint8)})
    savemat(base / "setid.mat", {"trnid": [[2]], "valid": [[2]], "tstid": np.array([[3, 1, 2]], np.uint16)})
    for k, number in enumerate((3, 1, 2)):
        picture(base / f"jpg/image_{number:05}.jpg", k)
    return "blackberry lily", "passion flower", "pink primrose"


def mnist(top: Path) -> Shown:
    for part in ("train", "t10k"):
        images = np.stack([np.full((28, 28), 8, np.uint8), np.full((28, 28), 24, np.uint8)])
        write(top / f"MNIST/raw/{part}-images-idx3-ubyte", struct.pack(">4i", 2051, 2, 28, 28) + images.tobytes())
        write(top / f"MNIST/raw/{part}-labels-idx1-ubyte", struct.pack(">2i", 2049, 2) + bytes((7, 0)))
    return "7", *[""] * 272, "0"  # grey 24 is the colour of number 273


def stl10(top: Path) -> Shown:
    names = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
    write(top / "stl10_binary/class_names.txt", "".join(f"{name}\n" for name in names))
    images = np.stack([pixels(k, 96).transpose(2, 1, 0) for k in range(2)])
    write(top / "stl10_binary/test_X.bin", images.tobytes())
    write(top / "stl10_binary/test_y.bin", bytes((10, 1)))
    return "truck", "airplane"


def eurosat(top: Path) -> Shown:
    for k, name in enumerate(EUROSAT.split()):
        picture(top / f"eurosat/2750/{name}/{name}_1.jpg", k)
    return (
        "annual crop land", "forest", "brushland or shrubland", "highway or road",
        "industrial buildings or commercial buildings", "pasture land", "permanent crop land",
        "residential buildings or homes or apartments", "river", "lake or sea",
    )  # fmt: skip


def gtsrb(top: Path) -> Shown:
    text = io.StringIO()
    rows = csv.writer(text, delimiter=";", lineterminator="\r\n")
    rows.writerow(["Filename", "Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId"])
    for k, label in enumerate((14, 0, 42)):
        rows.writerow([f"{k:05}.ppm", 24, 24, 1, 1, 20, 20, label])
        picture(top / f"gtsrb/GTSRB/Final_Test/Images/{k:05}.ppm", k)
    write(top / "gtsrb/GT-final_test.csv", text.getvalue())
    last = "white circle with gray strike bar indicating no passing for trucks has ended"
    return "stop", "red and white circle 20 kph speed limit", last


def country211(top: Path) -> Shown:
    for k, name in enumerate(COUNTRIES):
        picture(top / f"country211/test/{name}/{k}.jpg", k)
    first = (
        "Andorra", "United Arab Emirates", "Afghanistan", "Antigua and Barbuda", "Anguilla", "Albania", "Armenia",
        "Angola", "Antarctica", "Argentina",
    )  # fmt: skip
    return (*first, *[""] * 200, "Zimbabwe")


def pcam(top: Path) -> Shown:
    import h5py

    (top / "pcam").mkdir(parents=True)
    with h5py.File(top / "pcam/camelyonpatch_level_2_split_test_x.h5", "w") as file:
        file["x"] = np.stack([pixels(k, 96) for k in range(3)])
    with h5py.File(top / "pcam/camelyonpatch_level_2_split_test_y.h5", "w") as file:
        file["y"] = np.array([1, 0, 1], np.uint8).reshape(3, 1, 1, 1)
    tumor = "lymph node containing metastatic tumor tissue"
    return tumor, "lymph node", tumor


def renderedsst2(top: Path) -> Shown:
    picture(top / "rendered-sst2/test/positive/1.png", 0)
    picture(top / "rendered-sst2/test/negative/1.png", 1)
    return "positive", "negative"


def fer2013(top: Path) -> Shown:
    for k, name in enumerate(FER2013.split()):
        picture(top / f"test/{name}/Test_{k}.jpg", k)
    return "angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised"


def fer2013_table(top: Path) -> Shown:
    """The challenge's table: its labels count sad, surprise, neutral; sorted folders neutral, sad, surprise."""
    rows = [(label, " ".join(["8"] * 48 * 48), "Training") for label in (1, 2)]
    rows += [(label, " ".join([str(8 + 16 * k)] * 48 * 48), use) for k, label, use in TABLE]
    text = "".join(f'{label},"{pixels}",{use}\n' for label, pixels, use in rows)
    write(top / "fer2013/fer2013.csv", "emotion,pixels,Usage\n" + text)
    shown = dict(zip((273 * k for k in range(4)), ("sad", "surprised", "neutral", "angry"), strict=True))
    return tuple(shown.get(k, "") for k in range(273 * 3 + 1))


def svhn(top: Path) -> Shown:
    top.mkdir(parents=True)
    images = np.stack([pixels(k, 32) for k in range(3)], axis=3)
    savemat(top / "test_32x32.mat", {"X": images, "y": np.array([[10], [1], [9]], np.uint8)})
    return "zero", "one", "nine"


def resisc45(top: Path) -> Shown:
    for k, name in enumerate(RESISC.split()):
        picture(top / f"NWPU-RESISC45/{name}/{name}_001.jpg", k)
    return "airplane", "baseball diamond", "sea ice"


def imagenet_o(top: Path) -> Shown:
    picture(top / "n01704323/a.jpg", 0)
    picture(top / "n01443537/b.jpg", 1)
    return "triceratops", "goldfish"


class Format(NamedTuple):
    """A task's files. checked: the module of torchvision whose check of MD5 sums such small files cannot pass."""

    write: Callable[[Path], Shown]
    checked: str = ""


FORMATS = {
    "food101": Format(food101),
    "sun397": Format(sun397),
    "cars": Format(cars),
    "fgvc_aircraft": Format(fgvc_aircraft),
    "dtd": Format(dtd),
    "pets": Format(pets),
    "caltech101": Format(caltech101),
    "flowers": Format(flowers, "torchvision.datasets.flowers102"),
    "mnist": Format(mnist),
    "stl10": Format(stl10, "torchvision.datasets.stl10"),
    "eurosat": Format(eurosat),
    "gtsrb": Format(gtsrb),
    "country211": Format(country211),
    "pcam": Format(pcam),
    "renderedsst2": Format(renderedsst2),
    "fer2013": Format(fer2013),
    "fer2013 as a table": Format(fer2013_table, "torchvision.datasets.fer2013"),
    "svhn": Format(svhn, "torchvision.datasets.svhn"),
    "resisc45": Format(resisc45),
    "imagenet-o": Format(imagenet_o),
}
