"""Pages in a real browser, headless Chromium."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason='needs chromium')


def run_in_browser(page: str, scenario: str, folder: Path, width: int = 800) -> Any:
    """What a script finds in a page.

    Args:
        page: HTML with a body.
        scenario: Script element that writes JSON into an element ``<pre id="log">``.
        folder: To write to.
        width: Of the window, in pixels.
    """
    file = folder / 'page.html'
    file.write_text(page.replace('</body>', scenario + '</body>'), encoding='utf-8')
    options = ('--headless', '--no-sandbox', '--disable-gpu', '--dump-dom')
    place = (
        f'--window-size={width},900',
        '--virtual-time-budget=3000',
        f'--user-data-dir={folder / "profile"}',
    )
    command = [CHROMIUM, *options, *place, file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="log">(.*?)</pre>', done.stdout, re.S)
    assert found, done.stderr[-2000:]
    return json.loads(found[1].replace('&lt;', '<').replace('&gt;', '>').replace('&amp;', '&'))
