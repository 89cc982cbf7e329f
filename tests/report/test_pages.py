"""The pages in a browser: every control does what it says, with mouse and keyboard, and nothing is complained of."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stratalaw.laws.analysis import Analysis, analyse
from stratalaw.laws.forms import PAPER_LAW, form_named
from stratalaw.laws.published import EXPONENTS
from stratalaw.laws.simulation import grid, simulate
from stratalaw.layout import PAGES
from stratalaw.report.explorer import explorer_page
from stratalaw.report.tables import html_table, overview, pages
from tests.report.browser import CHROMIUM, Browser
from tests.report.test_damage import damage_of

STYLE = Path("workflow/report/style.css")
LANDING = """<!DOCTYPE html><meta name="viewport" content="width=device-width">
<style>
.flex {{ display: flex }} .h-screen {{ height: 100vh }} .w-screen {{ width: 100vw }}
.items-center {{ align-items: center }}
.grow {{ flex-grow: 1 }} .overflow-auto {{ overflow: auto }} body {{ margin: 0 }} nav {{ width: 220px }}</style>
<style>{style}</style>
<div id="app"><div class="flex flex-row w-screen h-screen"><nav class="h-screen overflow-auto">menu</nav>
<div class="grow flex items-center justify-center h-screen overflow-auto"><div class="grow flex gap-3">
<div class="py-2"><div class="prose"><h1>title</h1>{text}</div></div></div></div></div></div>"""


def observations_of(strata: tuple[str, ...]) -> pd.DataFrame:
    parts = []
    for seed, stratum in enumerate(strata):
        settings = grid((1e6, 1e7, 1e8), (3, 4, 8), group_sizes=(32, 128), calibration_sizes=(8, 128))
        part = simulate(PAPER_LAW, {"A": 0.6} | EXPONENTS[stratum], settings, seed, stratum=stratum)
        baseline = part.groupby("model").head(1).assign(variant="bf16", bits=16, effective_bits=16.0, accuracy=0.95)
        parts += [part, baseline.assign(group_size=np.nan, calibration_size=np.nan, calibration_seed=np.nan)]
    table = pd.concat(parts, ignore_index=True)
    return table.assign(
        n_params_nonembedding=0.8 * table.n_params,
        stderr=0.01,
        accuracy_adjusted=table.accuracy,
        paired_difference=table.accuracy - 0.95,
        paired_stderr=0.005,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """All pages of a study, which has a law in one of its strata: to fit one takes most of the time of these tests."""
    observations, folder = observations_of(("memorization", "reasoning")), tmp_path_factory.mktemp("pages")
    damage = damage_of(["w8-g128-c8-s0", "w4-g128-c8-s0", "w3-g128-c8-s0"])
    fitted = observations[(observations.bits != 8) & (observations.stratum == "reasoning")]
    analysis = analyse(fitted.reset_index(drop=True), [form_named("anchored")], resamples=10)
    empty = pd.DataFrame({"stage": [], "cause": []})
    for name, page in pages("small", observations, damage, analysis, damage[["model"]], empty).items():
        (folder / f"{name}.html").write_text(page)
    (folder / "explorer.html").write_text(explorer_page("small", observations, damage, analysis))
    lost = explorer_page("small", observations, damage, Analysis.without_laws("no law"))
    (folder / "without_laws.html").write_text(lost)
    text = "<p>line</p>" * 100
    (folder / "landing.html").write_text(LANDING.format(style=STYLE.read_text(), text=text))
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium to look at pages with (Debian: apt-get install chromium)")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def cells(browser: Browser, column: int) -> list[str]:
    script = f"[...document.querySelectorAll('tbody tr:not([hidden])')].map(r => r.cells[{column}].textContent)"
    return browser.run(script)


def test_names_are_text_in_every_table():
    hostile = "<b>__DATA__</b>"
    damage = damage_of(["w4-g128-c8-s0"]).assign(model=hostile)
    for page in (overview(damage), html_table(damage)):
        assert "<b>" not in page and "&lt;b&gt;__DATA__&lt;/b&gt;" in page
    page = explorer_page("small", observations_of(("reasoning",)), damage, Analysis.without_laws("no law"))
    assert "&lt;b&gt;__DATA__&lt;/b&gt;" in page


def choose_stratum(browser: Browser, name: str) -> None:
    browser.click(f"[...document.querySelectorAll('#strata button')].find(b => b.textContent === '{name}')")


def test_a_table_sorts_by_mouse_and_keyboard_and_filters(browser, folder):
    browser.open(folder / "damage.html")
    assert cells(browser, 1) == ["w8-g128-c8-s0", "w4-g128-c8-s0", "w3-g128-c8-s0"]
    header = "document.querySelectorAll('thead th')[3]"  # in general
    browser.click(f"{header}.querySelector('button')")
    assert cells(browser, 1)[0] == "w3-g128-c8-s0"
    assert browser.run(f"{header}.getAttribute('aria-sort')") == "ascending"
    browser.press("Enter")  # the button has the focus
    assert cells(browser, 1)[0] == "w8-g128-c8-s0"
    assert browser.run(f"{header}.getAttribute('aria-sort')") == "descending"
    browser.run("document.getElementById('filter').focus()")
    browser.type("W4 loses")
    assert cells(browser, 1) == ["w4-g128-c8-s0"]
    assert browser.run("document.getElementById('count').textContent") == "1 of 3 rows"
    assert browser.errors == []


def test_every_page_opens_without_a_complaint_and_fits_a_telephone(browser, folder):
    for name in (*PAGES, "explorer", "without_laws"):
        for width, dark in ((1280, False), (420, True)):
            browser.open(folder / f"{name}.html", width, dark=dark)
            assert browser.run("document.documentElement.scrollWidth") <= width, name
            paper = browser.run("getComputedStyle(document.body).backgroundColor")
            assert (paper == "rgb(255, 255, 255)") != dark
        assert browser.errors == [], name


def test_every_control_of_the_explorer_works(browser, folder):
    browser.open(folder / "explorer.html")
    numbers = "document.getElementById('numbers').innerText"
    for stratum in ("memorization", "general", "reasoning"):
        choose_stratum(browser, stratum)
        assert browser.run("document.querySelector('#strata [aria-pressed=true]').textContent") == stratum
        drawn = browser.run("document.getElementById('contours').textContent")
        assert ("No law was fitted to this stratum." in drawn) == (stratum != "reasoning")
    before = browser.run(numbers)
    browser.click("document.querySelectorAll('#models button')[2]")
    assert browser.run(numbers) != before
    for slider in "NBGC":
        before = browser.run(numbers)
        browser.run(f"document.getElementById('slider-{slider}').focus()")
        for key in ("ArrowRight", "ArrowLeft", "ArrowLeft"):
            browser.press(key)
        assert browser.run(numbers) != before, slider
    assert browser.errors == []


def test_a_point_shows_measured_beside_predicted_by_mouse_and_keyboard(browser, folder):
    browser.open(folder / "explorer.html")
    choose_stratum(browser, "reasoning")
    browser.click("document.querySelector('#parity .mark')")
    chosen = "document.querySelector('#observed .mark.chosen').dataset.name"
    first, row = browser.run(chosen), "document.querySelector('#numbers tbody tr:last-child').innerText"
    stratum, predicted, measured = browser.run(row).split("\t")
    assert stratum == "reasoning" and "%" in predicted and " to " in measured
    browser.run("document.querySelector('#observed .mark.chosen').focus()")
    browser.press("ArrowRight")
    assert browser.run(chosen) != first
    assert browser.run("document.activeElement.dataset.name") == browser.run(chosen)
    assert browser.run("document.querySelectorAll('#observed [tabindex=\"0\"]').length") == 1
    assert browser.errors == []


def test_the_explorer_opens_at_a_fitted_variant_and_shows_all_points_and_guessing(browser, folder):
    browser.open(folder / "explorer.html")
    choose_stratum(browser, "reasoning")
    assert browser.run("document.getElementById('warning').textContent") == ""
    assert browser.run("outside(state.stratum, state.point)") == []
    assert browser.run("document.querySelectorAll('#observed .mark').length === data.points.length")
    assert "guessing" in browser.run("document.getElementById('observed').textContent")
    drawn = browser.run("document.querySelectorAll('#contours .contour').length")
    labels = browser.run("document.querySelectorAll('#contours .label:not(.faint)').length")
    assert drawn >= 2 and labels >= drawn - 1
    assert browser.run("new Set(Object.values(color)).size === data.models.length")


def test_where_guessing_scores_nothing_the_axis_begins_at_nothing(browser, folder):
    browser.open(folder / "explorer.html")
    browser.run("data.chance.general = 0; data.points[0].accuracy.general = 0.03; draw()")
    assert browser.run("accuracyAxis('').low") == 0


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (420, 800)])
def test_the_top_of_the_report_can_be_seen_and_no_menu_covers_it(browser, folder, width, height):
    browser.open(folder / "landing.html", width, height)
    title, menu = (
        browser.run(f"document.querySelector('{name}').getBoundingClientRect().toJSON()") for name in ("h1", "nav")
    )
    assert 0 <= title["top"] < height / 2
    assert title["left"] >= menu["right"] or title["top"] >= menu["bottom"]
