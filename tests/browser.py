"""Pages in headless Chromium. Run alone it needs no package: it measures a page and fails if a part is cut off.

Usage: python tests/browser.py PAGE WIDTH
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
MEASURE = """<script>
for (const fold of document.querySelectorAll("details")) fold.open = true;
const page = document.documentElement, boxes = [...document.querySelectorAll(".wide")];
const cut = [...document.querySelectorAll("main *")].filter(element =>
  !element.closest(".wide") && element.getBoundingClientRect().right > page.clientWidth + 1);
document.title = ["WIDTH", page.scrollWidth, page.clientWidth, cut.length, boxes.length, document.title].join(" ");
</script>"""


def browse(page: Path, profile: Path, width: int, *options: str) -> str:
    """Run the browser on a page and return what it prints."""
    command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", f"--window-size={width},2400", *options, page.as_uri()]
    # A limit only catches what never ends; tests/patience.py.
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=True).stdout


def measure(page: Path, profile: Path, width: int) -> tuple[str, int, int, int, int]:
    """Open a page with all parts unfolded.

    Returns:
        Its title, width of its content, width of the window, number of elements cut off, and number of boxes that
        scroll by themselves.
    """
    measured = page.with_name("measured.html")
    measured.write_text(page.read_text().replace("</body>", f"{MEASURE}</body>"))
    try:
        dom = browse(measured, profile, width, "--dump-dom")
    finally:
        measured.unlink()
    found = re.search(r"<title>WIDTH (\d+) (\d+) (\d+) (\d+) (.*?)</title>", dom, re.DOTALL)
    assert found, dom[:1000]
    scrolled, shown, cut, boxes = map(int, found.groups()[:4])
    return html.unescape(found[5]), scrolled, shown, cut, boxes


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        title, scrolled, shown, cut, _ = measure(Path(sys.argv[1]).resolve(), Path(folder), int(sys.argv[2]))
    print(f"{title}: {scrolled} of {shown} pixels, {cut} elements cut off")
    sys.exit(scrolled > shown or cut > 0 or not title)
