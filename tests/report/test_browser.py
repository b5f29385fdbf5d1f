from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

selenium = pytest.importorskip("selenium")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and its driver are not installed")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars"
)
PICTURES = "return [...document.querySelectorAll('figure svg')].map((s) => s.clientWidth).filter(Boolean)"
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
        assert len(pdf) > 50_000
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def violations(browser: Any) -> list[str]:
    """What axe-core finds wrong on the page as it stands, with the first element of each."""
    axe = importlib.util.find_spec("axe_core_python")
    if axe is None or not axe.submodule_search_locations:
        pytest.skip("axe-core-python is not installed")
    [folder] = axe.submodule_search_locations
    browser.execute_script((Path(folder) / "axe.min.js").read_text("utf-8"))
    browser.set_script_timeout(60)
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


@pytest.mark.usefixtures("bright")
@pytest.mark.parametrize("wanted", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_axe_finds_nothing_wrong(browser: Any, page: Path, width: int, wanted: str) -> None:
    scheme(browser, wanted)
    show(browser, page, width)
    browser.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    assert violations(browser) == []
