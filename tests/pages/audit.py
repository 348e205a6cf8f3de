"""What is measured of a page in a real browser: accessibility, weight, steadiness."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe

# WCAG 2.2 AA, and the rules that axe counts as good practice.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
MOST_BYTES = 150_000
MOST_BYTES_OF_CONSOLE = 200_000  # Django's admin brings jQuery and XRegExp
MOST_SHIFT = 0.01
# Everything but pictures, as it comes over the wire: pages bare, static files compressed, as WhiteNoise sends them.
WEIGHT = """async () => {
  const sizes = await Promise.all(performance.getEntries()
    .filter((entry) => ["navigation", "resource"].includes(entry.entryType) && entry.initiatorType !== "img")
    .map(async (entry) => {
      if (!new URL(entry.name).pathname.startsWith("/static/")) return Math.max(entry.transferSize, entry.encodedBodySize);
      const content = (await fetch(entry.name, { cache: "force-cache" })).body;
      return (await new Response(content.pipeThrough(new CompressionStream("gzip"))).arrayBuffer()).byteLength;
    }));
  return sizes.reduce((sum, size) => sum + size, 0);
}"""
SHIFT = """() => new Promise((resolve) => {
  let sum = 0;
  new PerformanceObserver((list) => { for (const entry of list.getEntries()) sum += entry.value; })
    .observe({ type: "layout-shift", buffered: true });
  setTimeout(() => resolve(sum), 150);
})"""


def accessibility(page: Any) -> list[str]:
    """What axe finds: the rule, how many places, and the first of them."""
    # Django's console fades from one theme's colours to the other's: half way nothing could be read.
    page.evaluate("Promise.allSettled(document.getAnimations().map((one) => one.finished))")
    # Axe reads stylesheets again for a rule about turned screens, and writes the @import of Django's forms.css into a style
    # element, which the policy of the page forbids: the browser then complains of the page.
    is_console = "/admin/" in page.url
    options = {"runOnly": RULES, "resultTypes": ["violations"], "preload": not is_console}
    if is_console:
        # Of Django's templates: the empty first head of a table of inputs, a magnifier as the label of the search.
        options["rules"] = {name: {"enabled": False} for name in ("empty-table-header", "label-title-only")}
    found = Axe().run(page, options=options).response["violations"]
    return [f"{one['id']} x{len(one['nodes'])}: {one['nodes'][0]['html'][:160]}" for one in found]


def cost(page: Any) -> list[str]:
    """A page that is too heavy, or whose parts jump while it loads."""
    weight, shift = page.evaluate(WEIGHT), page.evaluate(SHIFT)
    most = MOST_BYTES_OF_CONSOLE if "/admin/" in page.url else MOST_BYTES
    told = [f"{weight} bytes"] if weight > most else []
    return told + ([f"layout shift {shift:.3f}"] if shift > MOST_SHIFT else [])


FOCUS = """() => {
  const one = document.activeElement, style = getComputedStyle(one);
  const box = one.getBoundingClientRect();
  return { seen: one === document.body || (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 && box.width > 0),
           what: one.outerHTML.slice(0, 120) };
}"""


def tab_to(page: Any, selector: str, most: int = 80) -> None:
    """Go there as somebody without a mouse does, seeing at each step where the focus is."""
    for _ in range(most):
        page.keyboard.press("Tab")
        focus = page.evaluate(FOCUS)
        assert focus["seen"], f"the focus cannot be seen on {focus['what']}"
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} cannot be reached with the keyboard on {page.url}")
