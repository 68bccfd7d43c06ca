"""Sits the exam with clip-benchmark's own evaluate functions and open_clip's own generate. Knows nothing of cocabench.

python referee.py EXAM_FOLDER      in the pinned environment; prints one JSON object
"""

import importlib.metadata
import json
import sys
from functools import partial
from pathlib import Path

import open_clip
import torch
from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval
from PIL import Image

PACKAGES = ("clip-benchmark", "open_clip_torch", "numpy", "transformers", "pycocoevalcap")


class Images(torch.utils.data.Dataset):
    def __init__(self, folder, part, transform):
        self.folder, self.rows, self.transform, self.classes = folder, part["rows"], transform, part["classes"]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index]
        return self.transform(Image.open(self.folder / "images" / f"{row['id']}.png")), self.target(row)

    def target(self, row):
        if isinstance(row["label"], list):
            return torch.nn.functional.one_hot(torch.tensor(row["label"]), len(self.classes)).sum(0)
        return row["texts"] if row["label"] is None else row["label"]


def texts_collate(batch):
    return torch.stack([image for image, _ in batch]), [texts for _, texts in batch]


def load(folder):
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}", precision="fp32")
    kwargs = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]["tokenizer_kwargs"]
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}", bpe_path=str(folder / kwargs["bpe_path"]))
    return model.eval(), transform, tokenizer


def classify(part, dataset, model, tokenizer):
    loader = torch.utils.data.DataLoader(dataset, batch_size=64)
    return zeroshot_classification.evaluate(
        model, loader, tokenizer, part["classes"], part["templates"], "cpu", amp=False
    )


def retrieve(dataset, model, tokenizer):
    loader = torch.utils.data.DataLoader(dataset, batch_size=64, collate_fn=texts_collate)
    return zeroshot_retrieval.evaluate(model, loader, tokenizer, "cpu", amp=False, recall_k_list=[1, 5, 10])


def features(dataset, model, tokenizer):
    """The first images' and captions' unit features."""
    pairs = [dataset[i] for i in range(8)]
    with torch.no_grad():
        images = model.encode_image(torch.stack([image for image, _ in pairs]))
        texts = model.encode_text(tokenizer([texts[0] for _, texts in pairs]))
    unit = torch.nn.functional.normalize
    return {"images": unit(images, dim=-1).tolist(), "texts": unit(texts, dim=-1).tolist()}


def caption(dataset, model, tokenizer):
    loader = torch.utils.data.DataLoader(dataset, batch_size=20, collate_fn=texts_collate)
    generate = partial(
        model.generate,
        seq_len=model.context_length,
        sot_token_id=tokenizer.sot_token_id,
        eos_token_id=tokenizer.eot_token_id,
    )
    words = []
    for images, _ in loader:
        for row in generate(images).tolist():
            text = tokenizer.decode(row).split("<end_of_text>")[0].replace("<start_of_text>", "").strip()
            words.append(text)
    return words


def score(references, words):
    """clip-benchmark's COCOEvalCap, without SPICE, which needs a download."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    tokenizer = PTBTokenizer()
    gts = tokenizer.tokenize({i: [{"caption": t} for t in texts] for i, texts in enumerate(references)})
    res = tokenizer.tokenize({i: [{"caption": text}] for i, text in enumerate(words)})
    bleu, _ = Bleu(4).compute_score(gts, res, verbose=0)
    found = {f"BLEU@{n}": value for n, value in enumerate(bleu, 1)}
    for name, scorer in (("METEOR", Meteor()), ("ROUGE-L", Rouge()), ("CIDEr", Cider())):
        found[name] = float(scorer.compute_score(gts, res)[0])
    return found


def sit(folder, name):
    parts = json.loads((folder / "exam.json").read_text())
    model, transform, tokenizer = load(folder / "models" / name)
    data = {key: Images(folder, part, transform) for key, part in parts.items()}
    found = {
        key: classify(parts[key], data[key], model, tokenizer) for key in ("classification", "subgroups", "multilabel")
    }
    found["retrieval"] = retrieve(data["retrieval"], model, tokenizer)
    found["features"] = features(data["retrieval"], model, tokenizer)
    if hasattr(model, "generate"):
        words = caption(data["captioning"], model, tokenizer)
        references = [row["texts"] for row in parts["captioning"]["rows"]]
        found["captions"], found["captioning"] = words, score(references, words)
    return found


if __name__ == "__main__":
    exam = Path(sys.argv[1])
    results = {name: sit(exam, name) for name in ("coca", "clip")}
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    print(json.dumps({"versions": versions, "results": results}))
