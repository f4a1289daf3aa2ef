"""The report at work in a real browser: it opens, filters, follows permalinks, and talks to nobody.

Needs Chromium (Debian: ``apt-get install chromium``; ``HEADSCAN_CHROMIUM`` names one that is not on the path).
"""

from __future__ import annotations

import dataclasses
import re

import pytest
from tests.report.test_ground import COUNT, images  # noqa: F401 - a fixture
from tests.report.test_page import HOSTILE, WORDS

from browser import chromium, find_chromium, made_up_scan

if find_chromium() is None:
    pytest.skip("no Chromium on the path: apt-get install chromium", allow_module_level=True)
pytest.importorskip("playwright", reason="playwright is not installed: pip install 'headscan[test]'")

MINUS = "\u2212"
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 375, "height": 700}


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def scan():
    return made_up_scan(layers=3, heads=4, rank=6, concepts=WORDS, chance=True)


@pytest.fixture(scope="module")
def report(scan, tmp_path_factory):
    return scan.report(tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture
def visit(browser):
    """Open a report at an address; afterwards nothing may have been logged, raised or asked of the network."""
    wrong, pages = [], []

    def visit(path, address="", *, size=DESKTOP, **options):
        page = browser.new_page(viewport=size, **options)
        pages.append(page)
        page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: asked(request.url))
        page.goto(f"{path.as_uri()}{address}")
        return page

    def asked(url):
        if not url.startswith(("data:", "file:")):
            wrong.append(f"asked for {url}")

    yield visit
    for page in pages:
        page.close()
    assert wrong == []


def texts(page, selector):
    return page.locator(selector).all_inner_texts()


def numbers(locator):
    return [float(text.replace(MINUS, "-")) for text in locator.all_inner_texts()]


def count_rows(scan, word):
    """Explanations with the word in a concept of their code."""
    rows = scan.table()
    hits = [
        rows[f"concept_{i}"].str.contains(word, regex=False) & (rows[f"coefficient_{i}"] >= 0.005) for i in range(5)
    ]
    return rows[sum(hits) > 0]


# ---- the map


def test_the_map_shows_every_head(visit, report, scan):
    page = visit(report)
    assert page.title() == "made-up · headscan"
    assert page.locator("table.map a").count() == 12
    assert page.locator("li.head:not(.titles)").count() == 12
    assert "3 layers of 4 heads, 288 explanations" in page.inner_text(".lead")
    shades = {"strength", "fidelity", "significance", "theme"}
    assert shades == set(texts(page, "nav[aria-label=Colour] a"))
    for colour in shades:
        page.click(f"nav[aria-label=Colour] >> text={colour}")
        cells = texts(page, "table.map a")
        assert len(set(cells)) > 1
        if colour == "theme":
            assert set(cells) <= {word for text in WORDS for word in text.split()}


def test_the_map_s_figures_are_the_table_s(visit, report, scan):
    page = visit(report, "#?by=strength&side=read")
    rows = scan.table().query("layer == 2 and head == 3 and side == 'read' and pole == '+'")
    shown = page.inner_text("table.map tbody tr:nth-child(3) td:nth-child(5)")
    assert float(shown) == pytest.approx((rows["sigma"] ** 2).sum() ** 0.5, abs=0.005)


def test_heads_are_put_in_order(visit, report):
    page = visit(report)
    page.click("nav[aria-label=Order] >> text=fidelity")
    page.wait_for_url("**#*order=fidelity*")
    values = numbers(page.locator("li.head .meter[title^=fidelity]"))
    assert len(values) == 12
    assert values == sorted(values, reverse=True)


# ---- a head


def test_a_permalink_leads_to_its_explanation(visit, report, scan):
    row = scan.table().query("layer == 1 and head == 2 and index == 4 and side == 'read' and pole == '-'").iloc[0]
    page = visit(report, "#L1.H2/4/read/-")
    assert page.inner_text("h1") == "Layer 1, head 2"
    chosen = page.locator(".explanation.chosen")
    assert chosen.count() == 1
    assert chosen.is_visible()
    assert f"fidelity {row['fidelity']:.4f}".replace("-", MINUS) in chosen.inner_text()
    assert sorted(
        texts(page, ".chosen .chosen .chip :first-child, .explanation.chosen .chip :first-child")
    ) == sorted(row[f"concept_{i}"] for i in range(5))
    page.evaluate("location.hash = '#L0.H0'")
    page.wait_for_selector("h1:has-text('Layer 0, head 0')")
    page.go_back()
    page.wait_for_selector(".explanation.chosen")


def test_a_head_shows_every_direction_with_its_sides_and_poles(visit, report):
    page = visit(report, "#L0.H1")
    assert page.locator("li.direction").count() == 6
    assert page.locator(".explanation").count() == 24
    assert texts(page, "li.direction:first-child .side") == ["reads", "writes"] * 2
    assert page.locator(".spectrum g").count() == 6
    page.locator(".spectrum g").nth(3).click()
    page.wait_for_url("**#L0.H1/3")
    assert page.inner_text("li.direction.chosen .label a") == "3"


def test_directions_are_put_in_order(visit, report):
    page = visit(report, "#L0.H1?sort=fidelity")
    best = [max(numbers(item.locator(".meter"))) for item in page.locator("li.direction").all()]
    assert best == sorted(best, reverse=True)


@pytest.mark.parametrize(
    "address", ["#L9.H0", "#L0.H99", "#nonsense", "#__proto__", "#L0.H0/x/y/z", "#find?q=%E0%A4%A"]
)
def test_addresses_that_lead_nowhere_are_told(visit, report, address):
    page = visit(report, address)
    assert page.locator("h1").count() == 1


# ---- search


def test_typing_filters_all_explanations(visit, report, scan):
    page = visit(report)
    page.keyboard.press("/")
    page.keyboard.type("snow")
    expected = count_rows(scan, "snow")
    page.wait_for_selector(f"p[role=status]:has-text('{len(expected)} explanations')")
    assert page.url.endswith("#find?q=snow")
    assert set(texts(page, ".hit mark")) == {"the snow", "snow at night"}
    page.keyboard.press("Escape")
    page.wait_for_selector("table.map")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("fox", lambda rows: rows["concepts"].str.contains("fox")),
        ("FOX Snow", lambda rows: rows["concepts"].str.contains("fox") & rows["concepts"].str.contains("snow")),
        ('"red fox"', lambda rows: rows["concepts"].str.contains("red fox")),
        ("fox -green", lambda rows: rows["concepts"].str.contains("fox") & ~rows["concepts"].str.contains("green")),
        ("layer:1-2 head:3", lambda rows: (rows["layer"] >= 1) & (rows["head"] == 3)),
        ("side:read pole:- index:0", lambda rows: (rows.side == "read") & (rows.pole == "-") & (rows["index"] == 0)),
        ("layer:many", lambda rows: rows["layer"] < 0),
        ("fóx", lambda rows: rows["concepts"].str.contains("fox")),
        ("zebra", lambda rows: rows["layer"] < 0),
        ("", lambda rows: rows["layer"] >= 0),
    ],
)
def test_the_search_language(visit, report, scan, query, expected):
    rows = scan.table()
    page = visit(report, f"#find?q={query}")
    wanted = int(expected(rows).sum())
    assert page.inner_text("p[role=status]").startswith(f"{wanted} explanation" if wanted else "Nothing found.")
    if wanted:
        order = "match" if query and not query.startswith(("layer", "side")) else "strength"
        assert page.inner_text(".controls [aria-current]") == order


def test_hits_are_put_in_order_and_lead_on(visit, report, scan):
    page = visit(report, "#find?q=snow&sort=fidelity")
    rows = count_rows(scan, "snow").sort_values("fidelity", ascending=False)
    first = rows.iloc[0]
    page.click("li.hit:first-child a.where")
    place = f"L{first['layer']}.H{first['head']}/{first['index']}/{first['side']}/{first['pole']}"
    page.wait_for_url(f"**#{place}")
    assert page.locator(".explanation.chosen").count() == 1


def test_a_concept_leads_to_all_of_its_explanations(visit, report, scan):
    page = visit(report, "#L0.H0")
    concept = page.locator(".chip :first-child").first.inner_text()
    page.locator(".chip").first.click()
    expected = len(count_rows(scan, concept))
    page.wait_for_selector(f"p[role=status]:has-text('{expected} explanation')")


def test_long_lists_grow_as_they_are_read(visit, tmp_path):
    scan = made_up_scan(layers=2, heads=4, rank=20, concepts=WORDS)
    page = visit(scan.report(tmp_path / "report.html"), "#find?q=")
    while (shown := page.locator("li.hit").count()) < len(scan):
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        page.wait_for_function("shown => document.querySelectorAll('li.hit').length > shown", arg=shown)
    assert page.locator("li.end").count() == 0


# ---- significance


def test_what_is_no_better_than_chance_can_be_hidden(visit, report, scan):
    page = visit(report, "#find?q=fox")
    rows = count_rows(scan, "fox")
    page.wait_for_selector(f"p[role=status]:has-text('{len(rows)} explanations')")
    page.check("#chance input")
    page.wait_for_selector(f"p[role=status]:has-text('{(rows['q_value'] < 0.05).sum()} explanations')")
    assert page.locator("li.hit.chance").count() == 0
    page.evaluate("location.hash = '#L0.H0?hide=1'")
    page.wait_for_selector("h1:has-text('Layer 0, head 0')")
    assert page.locator(".explanation.chance").count() == 0
    page.uncheck("#chance input")
    page.wait_for_selector(".explanation.chance")


def test_without_significance_nothing_speaks_of_it(visit, tmp_path):
    scan = made_up_scan(layers=1, heads=2, rank=2, concepts=WORDS)
    page = visit(scan.report(tmp_path / "report.html"))
    assert not page.is_visible("#chance")
    assert "significance" not in page.inner_text("body")


# ---- keyboard, shape, colours


def test_everything_by_keyboard(visit, report):
    page = visit(report)
    page.keyboard.press("ArrowDown")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#L1.H1"
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('Layer 1, head 1')")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("h1:has-text('Layer 1, head 2')")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("h1:has-text('Layer 1, head 1')")
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.querySelector('.label a').textContent") == "1"
    page.keyboard.press("?")
    assert page.is_visible("dialog")
    page.keyboard.press("Escape")
    assert not page.is_visible("dialog")
    assert page.inner_text("h1") == "Layer 1, head 1"
    page.keyboard.press("Escape")
    page.wait_for_selector("table.map")


def test_light_and_dark(visit, report):
    page = visit(report, color_scheme="dark")
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(paper)
    page.keyboard.press("t")
    light = page.evaluate(paper)
    assert sum(map(int, re.findall(r"\d+", light))) > 700 > 150 > sum(map(int, re.findall(r"\d+", dark)))


@pytest.mark.parametrize("address", ["", "#L0.H0", "#find?q=fox"])
def test_a_phone_needs_no_sideways_scrolling(visit, report, address):
    page = visit(report, address, size=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_print_leaves_the_controls_out(visit, report):
    page = visit(report, "#L0.H0", color_scheme="dark")
    page.emulate_media(media="print")
    assert not page.is_visible("#search")
    assert page.is_visible("li.direction >> nth=5")


CONTRASTS = """() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const pixel = (...colours) => {
    context.clearRect(0, 0, 1, 1);
    for (const colour of colours) (context.fillStyle = colour), context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => {
      value /= 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
  };
  const light = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!text || !element.checkVisibility() || element.closest("script, noscript, dialog")) continue;
    const grounds = [];
    for (let up = element; up; up = up.parentElement) grounds.unshift(getComputedStyle(up).backgroundColor);
    const [a, b] = [light(pixel(...grounds)), light(pixel(...grounds, getComputedStyle(element).color))];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.outerHTML.slice(0, 120)]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", ["#?by=fidelity", "#?by=theme", "#L0.H0/0/write/+", "#find?q=fox"])
def test_text_stands_out_by_the_aa_ratio(visit, report, scheme, address):
    found = visit(report, address, color_scheme=scheme).evaluate(CONTRASTS)
    assert len(found) > 20
    assert [pair for pair in found if pair[0] < 4.5] == []


# ---- hostile texts, images, size


def test_hostile_texts_are_shown_as_text(visit, tmp_path):
    scan = made_up_scan(layers=1, heads=2, rank=8, concepts=HOSTILE)
    scan = dataclasses.replace(scan, info=dataclasses.replace(scan.info, model=HOSTILE[0]))
    path = scan.report(tmp_path / "report.html")
    page = visit(path)
    assert page.inner_text("h1") == HOSTILE[0]
    for address in ("#L0.H1", "#find?q=script", "#find?q=<img"):
        page = visit(path, address)
        assert page.locator("main img, main script").count() == 0
        assert page.title() != "taken"
        assert set(texts(page, ".chip :first-child")) <= {text.replace("\u2028", "\n") for text in HOSTILE} | set(
            HOSTILE
        )
    page.locator(f".chip:has-text('{HOSTILE[5]}')").first.click()
    page.wait_for_selector("p[role=status]:has-text('explanation')")


def test_images_stand_by_their_direction(visit, model, dictionary, images, tmp_path):  # noqa: F811
    import headscan as hs

    scan = hs.scan(model, dictionary, layers=[0, 2], k=2)
    grounding = hs.ground(scan, model, images=images, count=3)
    page = visit(scan.report(tmp_path / "report.html", grounding=grounding), "#L2.H1")
    strips = page.locator("li.direction:first-child .images")
    shown = [[image.get_attribute("alt") for image in strip.locator("img").all()] for strip in strips.all()]
    assert shown == [[grounding.names[number] for number in row] for row in grounding.images[1, 1, 0]]
    assert page.evaluate("document.querySelector('.images img').naturalWidth") == 24
    assert len(grounding.names) == COUNT


def test_fifty_thousand_explanations_are_at_hand(visit, tmp_path):
    concepts = [f"{thing} number {number}" for number in range(400) for thing in ("fox", "snow", "ship")]
    scan = made_up_scan(layers=14, heads=14, rank=64, concepts=concepts)
    assert len(scan) > 50_000
    page = visit(scan.report(tmp_path / "report.html"))
    assert page.locator("table.map a").count() == 196
    page.fill("#search", '"snow number 7"')
    expected = len(count_rows(scan, "snow number 7"))
    page.wait_for_selector(f"p[role=status]:has-text('{expected:,} explanations')")
    page.click("li.hit:first-child a.where")
    page.wait_for_selector(".explanation.chosen")
