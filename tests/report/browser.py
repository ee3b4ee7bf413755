"""Owns what a real browser says of a page: what it asks for, what it complains of, and whether it can be read.

browser --opened(path, width, dark)--> Seen: complaints, requests, dialogs; measure() --> layout, contrast, structure
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

WIDE, PHONE = 1200, 390
# WCAG 2.2, 1.4.3: ordinary text, and text of 24 px or of 18.66 px and bold.
CONTRAST, CONTRAST_LARGE = 4.5, 3.0


@contextmanager
def chromium() -> "Iterator[Browser]":
    """The system's browser without a window; skips where there is none, as nothing is ever downloaded for it."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium on this machine")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Seen:
    """An open page, and what happened since it was opened."""

    page: "Page"
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def answer(self, dialog: "Dialog") -> None:
        """Note a dialog, and close it, as the page stands still until then."""
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def measure(self) -> dict[str, Any]:
        """What `MEASURES` gives, with everything that can be opened open."""
        return self.page.evaluate(MEASURES, {"plain": CONTRAST, "large": CONTRAST_LARGE})


@contextmanager
def opened(browser: "Browser", path: Path, *, width: int = WIDE, dark: bool = False) -> Iterator[Seen]:
    """A page as a file, in a window of a width, in a reader's light or dark mode."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", is_mobile=width < 500
    )
    page = context.new_page()
    seen = Seen(page)
    page.on("console", lambda said: seen.complaints.append(f"{said.type}: {said.text}"))
    page.on("pageerror", lambda error: seen.complaints.append(f"error: {error}"))
    page.on("request", lambda asked: seen.requests.append(asked.url))
    page.on("dialog", seen.answer)
    own = path.resolve().as_uri()
    page.route("**/*", lambda route: route.continue_() if route.request.url == own else route.abort())
    page.goto(own)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    try:
        yield seen
    finally:
        context.close()


MEASURES = """limits => {
  const name = one => one.tagName.toLowerCase() + (one.className.baseVal ?? one.className ?? '').toString()
    .split(' ').filter(Boolean).map(part => '.' + part).join('') + ' ' + (one.textContent ?? '').trim().slice(0, 40);
  const scrolls = one => {
    for (let up = one.parentElement; up && up !== document.body; up = up.parentElement)
      if (getComputedStyle(up).overflowX !== 'visible') return true;
    return false;
  };
  const all = [...document.body.querySelectorAll('*')].filter(one => one.getClientRects().length);
  const wide = document.documentElement.clientWidth;
  const outside = all.filter(one => !one.ownerSVGElement && !scrolls(one)).filter(one => {
    const box = one.getBoundingClientRect();
    return box.width && (box.right > wide + 1 || box.left < -1);
  }).map(name);
  const parse = words => {
    const parts = (words.match(/[\\d.]+/g) ?? []).map(Number);
    return words.startsWith('rgb') ? [parts[0], parts[1], parts[2], parts[3] ?? 1] : null;
  };
  const over = (top, under) => [0, 1, 2].map(at => top[at] * top[3] + under[at] * (1 - top[3])).concat([1]);
  const behind = one => {
    const layers = [];
    for (let up = one; up; up = up.parentElement) layers.push(parse(getComputedStyle(up).backgroundColor) ?? [0,0,0,0]);
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const opacity = one => { let all = 1; for (let up = one; up; up = up.parentElement)
    all *= Number(getComputedStyle(up).opacity); return all; };
  const light = colour => { const [r, g, b] = colour.map(part => { const s = part / 255;
    return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const pale = [];
  for (const one of all) {
    if (![...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())) continue;
    // A name on a box has an ink of its own, chosen for its colour: report/pictures.py.
    if (one.closest('svg.boxes')) continue;
    const style = getComputedStyle(one);
    const ink = parse(one.ownerSVGElement ? style.fill : style.color), ground = behind(one);
    if (!ink) continue;
    const seen = over([ink[0], ink[1], ink[2], ink[3] * opacity(one)], ground);
    const [a, b] = [light(seen), light(ground)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 600;
    const least = size >= 24 || (bold && size >= 18.6) ? limits.large : limits.plain;
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < least - 0.01) pale.push(ratio.toFixed(2) + ' ' + name(one));
  }
  const ids = [...document.querySelectorAll('[id]')].map(one => one.id);
  return {
    outside, pale,
    overflow: document.documentElement.scrollWidth - wide,
    twice: ids.filter((id, at) => ids.indexOf(id) !== at),
    headings: [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(one => Number(one.tagName[1])),
    scripts: document.scripts.length,
    handlers: [...document.querySelectorAll('*')].filter(one => [...one.attributes].some(
      has => has.name.startsWith('on') || /^\\s*javascript:/i.test(has.value))).map(name),
    elements: [...new Set(all.map(one => one.tagName.toLowerCase()))].sort(),
    empty: all.filter(one => one.matches('.card, details > div') && !one.textContent.trim()).map(name),
    text: document.body.innerText,
  };
}"""
