"""Stories of the admin page, seen in a browser. usage: admin_stories.py STORY URL [ARGUMENTS]

The exit status is the verdict. Where ADMIN_PICTURES names a folder, pictures go there.
"""

import asyncio
import inspect
import os
import sys

from browser import Browser

SECTIONS = ["overview", "routes", "clusters", "connections", "tap", "explain", "config"]

# Each text's contrast with what is behind it; those below what WCAG 2 AA asks for.
CONTRAST = """(() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const texts = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!texts || !element.getClientRects().length || element.disabled) continue;
    const style = getComputedStyle(element);
    const ink = rgb(element instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(ink), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${element.tagName} ${element.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return poor.slice(0, 5);
})()"""

# Fields and buttons that a screen reader could not name.
NAMELESS = """[...document.querySelectorAll("button, input, select, textarea")]
  .filter((one) => !one.textContent.trim() && !(one.labels && one.labels.length) && !one.ariaLabel)
  .map((one) => one.outerHTML)"""


async def live(page, url):
    await page.open(url)
    await page.until("document.getElementById('state').className === 'live'", "a first answer")


async def section(page, name):
    await page.run(f"document.getElementById('tab-{name}').click()")
    assert await page.run(f"!document.getElementById('{name}').hidden"), name


async def picture(page, name):
    folder = os.environ.get("ADMIN_PICTURES")
    if folder:
        # What the page has asked for is to be there.
        await asyncio.sleep(1.2)
        await page.picture(os.path.join(folder, f"{name}.png"))


def text(element):
    return f"document.getElementById('{element}').innerText"


async def shows(page, url, protocols):
    """Messages of all these protocols, as they come."""
    await live(page, url)
    for name in protocols.split(","):
        await page.until(
            # Within the two minutes that the chart shows: some come in bursts.
            f"[...document.querySelectorAll('#legend li')].some((one) => one.dataset.name === '{name}') "
            f"&& known.series.get('{name}').some((rate) => rate > 0)", f"messages of {name}"
        )
        slow = await page.run(
            f"document.querySelector('#legend li[data-name=\"{name}\"] .quiet').innerText")
        assert slow.startswith("p99 ") and slow.endswith("s"), f"{name}: {slow}"
    await page.until("document.querySelectorAll('#mix polygon').length > 0")
    assert "/s" in await page.run(text("tiles"))
    await page.until("document.querySelectorAll('#busy li').length > 3", "busy routes")


async def looks(page, url, width, height, scheme, secret):
    """Every section fits, can be read and names what can be pressed."""
    await page.screen(int(width), int(height), scheme)
    await live(page, url)
    if os.environ.get("ADMIN_PICTURES"):
        await asyncio.sleep(12)
    for name in SECTIONS:
        await section(page, name)
        if name == "clusters":
            await page.until("document.querySelectorAll('#clusters-list td').length > 10", 'endpoints')
        if name == "config":
            await page.until(f"{text('config-text')}.includes('[[listener]]')")
        if name == "tap":
            await page.run("document.getElementById('tap-start').click()")
            await page.until("document.querySelectorAll('#tap-rows tr').length > 20", "messages in the tap")
            await page.run("document.getElementById('tap-start').click()")
        if name == "explain":
            await page.run("document.getElementById('explain-facts').value = 'protocol=http\\npath=/index.html'")
            await page.run("document.getElementById('explain-form').requestSubmit()")
            await page.until(f"{text('explain-answer')}.includes('takes')")
        where = f"{name} at {width}, {scheme}"
        wide = await page.run("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{where} is {wide} px too wide"
        poor = await page.run(CONTRAST)
        assert not poor, f"{where}: too little contrast: {poor}"
        nameless = await page.run(NAMELESS)
        assert not nameless, f"{where}: {nameless}"
        assert secret not in await page.run("document.documentElement.outerHTML"), where
        await picture(page, f"{name}-{width}-{scheme}")


async def taps(page, url, secret):
    """Messages that match and no others, without what is secret in them."""
    await live(page, url)
    await section(page, "tap")
    # By keyboard, as a person would.
    await page.run("document.getElementById('tap-match').focus()")
    await page.write('protocol = "http", path = { prefix = "/keyed" }')
    await page.key("Enter", 13)
    rows = "[...document.querySelectorAll('#tap-rows tr')].map((row) => row.innerText)"
    await page.until(f"{rows}.length > 3", "messages in the tap")
    await page.until(f"/matched/.test({text('tap-count')})")
    shown = await page.run(rows)
    assert all("/keyed" in row and "http" in row and "***" in row for row in shown), shown
    assert not any(secret in row for row in shown), shown
    # What cannot be matched by is said, and why.
    await page.run("document.getElementById('tap-start').click()")
    await page.run("document.getElementById('tap-match').value = 'kee = 1'")
    await page.run("document.getElementById('tap-start').click()")
    await page.until(f"{text('tap-error')}.includes('no protocol has a key')")
    # That was an answer of 400, which a browser notes.
    noted = [one for one in page.complaints if "400" in one]
    page.complaints = [one for one in page.complaints if one not in noted]


async def explains(page, url):
    """The form says what the command line would."""
    await live(page, url)
    await section(page, "explain")
    await page.run("document.getElementById('explain-facts').focus()")
    await page.write("protocol=redis\ncommand=flushall")
    await page.run("document.getElementById('explain-form').requestSubmit()")
    await page.until(f"{text('explain-answer')}.includes('denied by “nobody flushes”')")


async def changes(page, url, cluster, address):
    """An endpoint is drained and taken back by its button, and the log level set."""
    await live(page, url)
    await section(page, "clusters")
    button = f"document.querySelector('button[data-cluster=\"{cluster}\"][data-address=\"{address}\"]')"
    await page.until(f"{button} !== null", "the button")
    for do, left in (("drain", "0 of 1 usable"), ("undrain", "1 of 1 usable")):
        await page.until(f"{button}.dataset.do === '{do}'")
        await page.run(f"{button}.click()")
        await page.until(f"{button}.closest('.card').innerText.includes('{left}')", left)
    await section(page, "config")
    await page.until("document.querySelectorAll('#log-level option').length > 0")
    await page.run(
        "(() => { const level = document.getElementById('log-level'); level.value = 'debug';"
        " level.dispatchEvent(new Event('change')); })()"
    )
    await page.until(f"{text('config-note')}.includes('debug')")


async def reads_only(page, url):
    """Without leave to write there is nothing to press."""
    await live(page, url)
    await section(page, "clusters")
    await page.until("document.querySelectorAll('#clusters-list td').length > 0")
    assert await page.run("document.querySelectorAll('#clusters-list button').length") == 0
    await section(page, "config")
    assert await page.run("document.getElementById('reload').offsetParent === null")
    assert await page.run("document.getElementById('log-level').disabled")


async def manners(page, url):
    """Keys move between sections, a hidden page asks nothing, names are no markup, and what
    is not the page's own is not run."""
    await live(page, url)
    await page.run("document.getElementById('tab-overview').focus()")
    for key, code, chosen in [("ArrowRight", 39, "routes"), ("End", 35, "config"), ("ArrowRight", 39, "overview")]:
        await page.key(key, code)
        assert await page.run("document.activeElement.id") == f"tab-{chosen}"
        assert await page.run(f"!document.getElementById('{chosen}').hidden"), chosen
    await section(page, "routes")
    await page.until(f"{text('routes-rows')}.includes('<img src=x')", "a route's name as text")
    assert await page.run("document.querySelectorAll('main img').length") == 0
    await page.run(
        "Object.defineProperty(document, 'hidden', { configurable: true, get: () => true })"
    )
    await asyncio.sleep(2)
    before = len(page.requests)
    await asyncio.sleep(3)
    assert len(page.requests) == before, page.requests[before:]
    assert all(one.startswith(url) for one in page.requests), page.requests
    await page.run("delete document.hidden")
    assert not page.complaints, page.complaints
    await page.run("document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" onerror=\"window.ran = 1\">')")
    await page.until("true")
    await asyncio.sleep(0.5)
    assert await page.run("window.ran === undefined")
    assert any("Content Security Policy" in one for one in page.complaints), page.complaints
    page.complaints.clear()


async def main(story, arguments):
    async with Browser() as page:
        await story(page, *arguments)
        assert not page.complaints, page.complaints


if __name__ == "__main__":
    stories = {name: one for name, one in globals().items() if inspect.iscoroutinefunction(one)}
    asyncio.run(main(stories[sys.argv[1]], sys.argv[2:]))
