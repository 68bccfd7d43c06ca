"""Make the committed example: the demo's report, the published CoCa and CLIP results, and the picture in README.md.

    make example

runs the demo first. The picture needs chromium and `pip install -e '.[browser]'`, and stays as it is without them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
EXAMPLE = HERE / "example"
PUBLISHED = (
    "coca_ViT-L-14:laion2b_s13b_b90k",
    "ViT-L-14:laion2b_s32b_b82k",
    "coca_ViT-L-14:mscoco_finetuned_laion2b_s13b_b90k",
    "coca_ViT-B-32:laion2b_s13b_b90k",
    "coca_ViT-B-32:mscoco_finetuned_laion2b_s13b_b90k",
)
PICTURE = {"width": 1400, "height": 1560}


def main(results: Path) -> None:
    shutil.rmtree(EXAMPLE, ignore_errors=True)
    report(str(results), "--output", str(EXAMPLE / "demo"))
    published = ["--published", ",".join(PUBLISHED)]
    report(*published, "--output", str(EXAMPLE / "published"))
    picture(EXAMPLE / "demo" / "index.html", EXAMPLE / "page.png")


def report(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "cocabench", "report", *arguments], check=True)


def picture(page: Path, target: Path) -> None:
    """Photograph the top of a page."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if not chromium:
        print("no picture: chromium and playwright are needed", file=sys.stderr)
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        shown = browser.new_page(viewport=PICTURE, color_scheme="light")
        shown.goto(page.resolve().as_uri())
        shown.screenshot(path=target)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
