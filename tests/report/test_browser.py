from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from campus_tune.data.held_out import read_held_out
from campus_tune.report.write import markdown_of, write_report
from eval.situations.page import page_of
from tests.compare.test_ablation import ROWS, THREE, runs_of
from tests.compare.test_shapley_file import CLEAR, value
from tests.compare.tiny_compare import tiny_recipe, write_rows
from tests.report.conftest import coarse_pictures
from tests.report.made_up_prompts import make_prompt_run
from tests.report.test_search_pages import made_up, write
from tests.run.tiny_run import task_rows
from tests.test_situations_table import a_situation, corrected_table

selenium = pytest.importorskip("selenium")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and its driver are not installed")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars"
)
PICTURES = "return [...document.querySelectorAll('figure svg')].map((s) => s.clientWidth).filter(Boolean)"
PATIENCE_S = 120
SLOWEST_S = 3.0  # on a busy machine; a free one opens a thousand stages in under one


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    driver.command_executor.client_config.timeout = PATIENCE_S  # else whatever hangs there hangs here for ever
    driver.set_page_load_timeout(PATIENCE_S / 2)
    driver.set_script_timeout(PATIENCE_S / 2)
    yield driver
    driver.quit()


def show(browser: Any, page: Path, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())


@pytest.fixture(params=["run", "comparison"])
def page(request: pytest.FixtureRequest, run_page: Path, comparison: Path) -> Path:
    return run_page if request.param == "run" else comparison / "report.html"


@pytest.mark.parametrize("width", [400, 1400])
def test_a_page_opens_whole_at_a_phones_and_a_desks_width(browser: Any, page: Path, width: int) -> None:
    show(browser, page, width)
    assert browser.get_log("browser") == []
    widths = [round(each) for each in browser.execute_script(PICTURES)]
    assert len(widths) >= 6
    assert all(0.6 * min(width, 960) < shown <= width for shown in widths)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.title != "owned"


def test_what_a_table_shows_is_said_inside_of_a_phones_width(browser: Any, comparison: Path) -> None:
    show(browser, comparison / "report.html", 400)
    ends = browser.execute_script(
        "return [...document.querySelectorAll('caption span')].map((s) => s.getBoundingClientRect())"
        ".filter((r) => r.width).map((r) => r.right)"
    )
    assert len(ends) >= 3
    assert max(ends) <= 400


def test_a_phone_gets_pictures_drawn_for_it(browser: Any, run_page: Path) -> None:
    box = "return [...document.querySelectorAll('figure svg')].find((s) => s.clientWidth).viewBox.baseVal.width"
    show(browser, run_page, 400)
    narrow = browser.execute_script(box)
    show(browser, run_page, 1400)
    assert browser.execute_script(box) > 2 * narrow


def column(browser: Any, name: str) -> list[str]:
    return list(
        browser.execute_script(
            "const place = (t) => [...t.tHead.rows[0].cells].findIndex((c) => c.textContent === arguments[0]);"
            "const t = [...document.querySelectorAll('table')].find((t) => place(t) >= 0), i = place(t);"
            "return [...t.tBodies[0].rows].map((r) => r.cells[i].textContent)",
            name,
        )
    )


def head_of(browser: Any, name: str) -> Any:
    from selenium.webdriver.common.by import By

    return browser.find_element(By.XPATH, f"//th[button='{name}']")


def test_tables_sort_by_click_and_by_key_and_numbers_as_numbers(browser: Any, run_page: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    show(browser, run_page, 1400)
    head = head_of(browser, "training loss")
    button = head.find_element(By.TAG_NAME, "button")
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    losses = [float(text) for text in column(browser, "training loss")]
    assert losses == sorted(losses)
    assert column(browser, "stage") == list("543210")
    button.send_keys(Keys.ENTER)
    assert head.get_attribute("aria-sort") == "descending"
    assert column(browser, "stage") == list("012345")
    chosen = head_of(browser, "chosen")
    chosen.find_element(By.TAG_NAME, "button").send_keys(Keys.SPACE)
    assert column(browser, "chosen") == ["length", "length", "loss", "mtld", "shuffle", "shuffle"]
    assert head.get_attribute("aria-sort") is None


def test_what_is_not_known_stands_last_both_ways(browser: Any, run_page: Path) -> None:
    from selenium.webdriver.common.by import By

    show(browser, run_page, 1400)
    button = head_of(browser, "mtld").find_element(By.TAG_NAME, "button")
    for _ in range(2):
        button.click()
        assert column(browser, "mtld")[-2:] == ["–", "–"]


def test_negative_numbers_sort_below_positive_ones(browser: Any, comparison: Path) -> None:
    from selenium.webdriver.common.by import By

    show(browser, comparison / "report.html", 1400)
    head_of(browser, "difference").find_element(By.TAG_NAME, "button").click()
    arms = column(browser, "arm")
    assert arms == ["recipe", "random_same_pacing", "reversed", "random"]


def test_a_thousand_stages_open_quickly(browser: Any, long_page: Path) -> None:
    show(browser, long_page, 1400)
    timing = "const t = performance.getEntriesByType('navigation')[0]; return t.loadEventEnd - t.startTime"
    seconds = browser.execute_script(timing) / 1000
    print(f"a thousand stages: {long_page.stat().st_size / 1e6:.2f} MB, open after {seconds:.2f} s")
    assert 0 < seconds < SLOWEST_S
    assert browser.get_log("browser") == []


def test_a_page_prints(browser: Any, page: Path) -> None:
    show(browser, page, 1400)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 690, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 690
        pdf = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
        assert len(pdf) > 30_000
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def three_domains(folder: Path) -> Path:
    """A recipe to be ablated; its YAML."""
    folder.mkdir()
    rows = [row for row in task_rows(200) if row["domain"] in THREE][:ROWS]
    write_rows(folder / "train.jsonl", rows)
    return tiny_recipe(folder, per_device_train_batch_size=4, compare={"points": 2, "arms": ["recipe", "random"]})


def violations(browser: Any) -> list[str]:
    """What axe-core finds wrong on the page as it stands, with the first element of each."""
    axe = importlib.util.find_spec("axe_core_python")
    if axe is None or not axe.submodule_search_locations:
        pytest.skip("axe-core-python is not installed")
    [folder] = axe.submodule_search_locations
    browser.execute_script((Path(folder) / "axe.min.js").read_text("utf-8"))
    found = browser.execute_async_script("const done = arguments[0]; axe.run(document).then((r) => done(r.violations))")
    return [f"{one['id']} ({one['impact']}): {one['nodes'][0]['html'][:200]}" for one in found]


def scheme(browser: Any, name: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": name}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})


@pytest.fixture
def bright(browser: Any) -> Iterator[None]:
    """Whatever a test wants of it, the next one has a browser that asks for nothing."""
    yield
    scheme(browser, "light")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, run_page: Path, comparison: Path) -> dict[str, Path]:
    """One of each kind."""
    out = tmp_path_factory.mktemp("pages")
    recipe = three_domains(out / "recipe")
    runs, bench, _ = runs_of(recipe, out / "ablation")
    runs.train(bench)
    runs.judge()
    value(recipe, read_held_out([recipe.parent / "test.jsonl"]), out / "shapley", CLEAR, 3)
    (out / "search").mkdir()
    write(out / "search", made_up())
    situations = out / "situations.html"
    found = corrected_table([a_situation()])
    situations.write_text(page_of([found[0], replace(found[0], name="tune_wrong_20", use="tune")]), "utf-8")
    with coarse_pictures():
        made = {kind: write_report(out / kind) for kind in ("ablation", "shapley", "search")}
        prompts = write_report(make_prompt_run(out / "prompts"))
    return {
        "run": run_page,
        "comparison": comparison / "report.html",
        **made,
        "situations": situations,
        "prompts": prompts,
    }


@pytest.mark.usefixtures("bright")
@pytest.mark.parametrize("kind", ["run", "comparison", "ablation", "shapley", "search", "situations", "prompts"])
def test_axe_finds_nothing_wrong(browser: Any, pages: dict[str, Path], kind: str) -> None:
    for wanted, width in ((wanted, width) for wanted in ("light", "dark") for width in (400, 1400)):
        scheme(browser, wanted)
        show(browser, pages[kind], width)
        assert browser.get_log("browser") == []
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        browser.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
        assert violations(browser) == [], (wanted, width)


# -- searching, dark, copying -----------------------------------------------------------------------------------------


def found_rows(browser: Any) -> list[str]:
    script = "return [...document.querySelectorAll('table.found tbody tr')].map((r) => r.cells[0].textContent)"
    return list(browser.execute_script(script))


def points(browser: Any) -> int:
    script = "return [...document.querySelectorAll('.on-desk [data-rows] use')].filter((u) => !u.style.display).length"
    return int(browser.execute_script(script))


def choose(browser: Any, name: str, words: str) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.select import Select

    Select(browser.find_element(By.ID, name)).select_by_visible_text(words)


def test_rows_are_searched_by_words_and_by_number_and_the_map_shows_those_alone(browser: Any, run_page: Path) -> None:
    from selenium.webdriver.common.by import By

    show(browser, run_page, 1400)
    said, search = browser.find_element(By.ID, "count"), browser.find_element(By.ID, "search")
    assert said.text == "All 60 rows; the first 20 are shown."
    assert points(browser) == 59  # one has no score
    search.send_keys("what is + 1? → ")
    n = len(found_rows(browser))
    assert 0 < n < 20
    assert said.text == f"{n} of 60 rows."
    search.clear()
    search.send_keys("row:21")
    assert found_rows(browser) == ["21"]
    assert points(browser) == 1
    search.clear()
    search.send_keys("nothing says this")
    assert (found_rows(browser), points(browser), said.text) == ([], 0, "0 of 60 rows.")
    browser.find_element(By.CSS_SELECTOR, ".find button[type=reset]").click()
    browser.execute_async_script("setTimeout(arguments[0], 20)")
    assert said.text == "All 60 rows; the first 20 are shown."
    browser.find_element(By.ID, "more").click()
    assert len(found_rows(browser)) == 60


def test_rows_are_filtered_by_domain_and_by_region_and_sorted(browser: Any, run_page: Path) -> None:
    show(browser, run_page, 1400)
    choose(browser, "domain", "code")
    choose(browser, "region", "suspect")
    assert {int(row) % 3 for row in found_rows(browser)} == {1}
    assert set(column(browser, "region")) == {"suspect"}
    excess = [float(text) for text in column(browser, "excess")]
    assert excess == sorted(excess, reverse=True)
    assert points(browser) == len(excess)
    by_row = "return document.querySelector('table.found th[data-column=row] button')"
    browser.execute_script(by_row).click()
    browser.execute_script(by_row).click()
    rows = [int(row) for row in found_rows(browser)]
    assert rows == sorted(rows)


def test_a_point_of_the_map_says_which_row_it_is_and_finds_it(browser: Any, run_page: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    show(browser, run_page, 1400)
    first = browser.find_element(By.CSS_SELECTOR, ".on-desk [data-rows=suspect] use")
    ActionChains(browser).move_to_element(first).perform()
    told = browser.find_element(By.CLASS_NAME, "tip").text
    assert re.match(r"Row \d+ · (code|text) · suspect · excess \d\.\d\d", told)
    ActionChains(browser).click(first).perform()
    assert found_rows(browser) == re.findall(r"Row (\d+)", told)


@pytest.mark.usefixtures("bright")
def test_a_page_is_dark_where_the_system_is_until_somebody_wants_it_light(browser: Any, run_page: Path) -> None:
    from selenium.webdriver.common.by import By

    def paper() -> str:
        return str(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))

    def ink() -> str:
        script = "return getComputedStyle(document.querySelector('.on-desk svg text')).fill"
        return str(browser.execute_script(script))

    scheme(browser, "dark")
    show(browser, run_page, 1400)
    dark = (paper(), ink())
    button = browser.find_element(By.ID, "theme")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert paper() == "rgb(255, 255, 255)"
    assert paper() != dark[0]
    assert ink() != dark[1]
    show(browser, run_page, 1400)
    assert paper() == "rgb(255, 255, 255)"  # it is kept
    browser.execute_script("localStorage.clear()")


@pytest.mark.parametrize("allowed", [True, False])
def test_the_summary_is_copied_or_shown_to_be_copied(browser: Any, run_page: Path, allowed: bool) -> None:
    from selenium.webdriver.common.by import By

    show(browser, run_page, 1400)
    taken = "window.taken = ''; Object.defineProperty(navigator, 'clipboard', {value: {writeText: async (t) => {"
    browser.execute_script(taken + ("window.taken = t" if allowed else "throw new Error('no')") + "}}})")
    # never the machine's own clipboard: a browser without a desktop may wait for it for ever
    browser.execute_script("document.execCommand = () => arguments[0]", allowed)
    browser.find_element(By.ID, "copy").click()
    browser.execute_async_script("setTimeout(arguments[0], 20)")
    assert browser.find_element(By.ID, "copied").text.startswith("Cop")
    text = browser.find_element(By.ID, "markdown")
    assert text.is_displayed() is not allowed
    assert text.get_property("value") == markdown_of(run_page.parent.parent)
    assert browser.execute_script("return window.taken") == (text.get_property("value") if allowed else "")


def test_the_keyboard_reaches_the_page_the_search_and_each_section(browser: Any, run_page: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    show(browser, run_page, 1400)
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert browser.switch_to.active_element.text == "To the page"
    reached = []
    for _ in range(14):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(browser.switch_to.active_element.get_attribute("href") or "")
    links = browser.execute_script("return [...document.querySelectorAll('nav a')].map((a) => a.href)")
    assert set(links) <= set(reached)
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    assert {link.split("#")[1] for link in links} <= set(ids)
