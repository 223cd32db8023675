"""The code of a page, run as a reader would run it: ``python docs/pages.py`` draws README's picture anew."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def pictures_of(page: Path) -> dict[str, bytes]:
    """Run the Python blocks of a page in a folder of their own; return the pictures that they leave there, by name."""
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    namespace: dict[str, object] = {"__name__": page.stem}
    start = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for block in blocks:
                if "import pandas" not in block:
                    exec(block, namespace)
        finally:
            os.chdir(start)
        return {picture.name: picture.read_bytes() for picture in Path(folder).glob("*.png")}


def main() -> None:
    """Write docs/_static/readme.png, 800 pixels wide."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("agg")
    mpl.rcParams["savefig.dpi"] = 80
    (picture,) = pictures_of(HERE.parent / "README.md").values()
    (HERE / "_static" / "readme.png").write_bytes(picture)


if __name__ == "__main__":
    main()
