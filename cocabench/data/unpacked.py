"""What torchvision's and clip-benchmark's classes look for below their root, a file or folder for each data set."""

from types import MappingProxyType

UNPACKED = MappingProxyType(
    {
        "caltech101": "caltech101/101_ObjectCategories",
        "cars": "stanford_cars/cars_test_annos_withlabels.mat",
        "cifar10": "cifar-10-batches-py",
        "cifar100": "cifar-100-python",
        "country211": "country211/test",
        "dtd": "dtd/dtd/labels",
        "eurosat": "eurosat/2750",
        "fgvc_aircraft": "fgvc-aircraft-2013b/data",
        "flowers": "flowers-102/imagelabels.mat",
        "food101": "food-101/meta",
        "gtsrb": "gtsrb/GT-final_test.csv",
        "mnist": "MNIST/raw",
        "pcam": "pcam/camelyonpatch_level_2_split_test_x.h5",
        "pets": "oxford-iiit-pet/annotations",
        "renderedsst2": "rendered-sst2/test",
        "stl10": "stl10_binary",
        "sun397": "SUN397/ClassName.txt",
        "voc2007": "VOCdevkit/VOC2007",
        "voc2007_multilabel": "VOCdevkit/VOC2007",
        "vtab/svhn": "test_32x32.mat",
    }
)
