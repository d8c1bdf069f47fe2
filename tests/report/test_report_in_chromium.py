"""The page in a real browser: what it does, and that it complains of nothing."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import Project, flip_bit
from report_pages import RUN, rendered, section_of, write_run
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from enginery.accuracy import Metrics
from enginery.report.checks import Check, CheckReport

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    assert CHROMIUM.exists(), "install the package chromium"
    assert DRIVER.exists(), "install the package chromium-driver"
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(executable_path=str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(built_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with every section: a damaged engine, a run, and names that are far too long."""
    import shutil

    project = Project(tmp_path_factory.mktemp("report") / "project")
    shutil.copytree(built_project.path, project.path)
    assert project.doit("check:half").returncode == 0
    flip_bit(project.engine("external"))
    long = "backbone_" * 12
    project.edit("corpus.toml", "[backbones.half]", f'[backbones.{long}]\nonnx = "plain.onnx"\nexpected_input_shape = [1, 3, 16, 16]\nprecision = ["fp32", "fp16"]\n[backbones.half]')  # fmt: skip
    write_run(project.path, *(line.replace('"slow"', f'"{long}"') for line in RUN))
    (project.path / "report.html").write_bytes(rendered(section_of(project.path)))
    return project.path / "report.html"


@pytest.fixture
def shown(browser: Chrome, page: Path) -> Iterator[Chrome]:
    emulate(browser, "light", 1280)
    browser.get(f"{page.as_uri()}#")
    browser.refresh()
    yield browser
    assert browser.get_log("browser") == []


def emulate(browser: Chrome, scheme: str, width: int) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def paper(browser: Chrome) -> Any:
    return browser.execute_script("return getComputedStyle(document.body).backgroundColor")


def matrix(browser: Chrome) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, "table.matrix")


def column(table: WebElement) -> list[str]:
    return [cell.text[:8] for cell in table.find_elements(By.CSS_SELECTOR, "tbody th")]


def test_tables_sort_by_click(shown: Chrome) -> None:
    table = matrix(shown)
    head = table.find_element(By.CSS_SELECTOR, "tr.keys th")
    assert head.get_attribute("aria-sort") is None
    before = column(table)
    head.find_element(By.TAG_NAME, "button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(table) == sorted(before) != before
    head.find_element(By.TAG_NAME, "button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert column(table) == sorted(before, reverse=True)


def test_tables_sort_by_keyboard_and_only_one_column_says_so(shown: Chrome) -> None:
    table = matrix(shown)
    heads = table.find_elements(By.CSS_SELECTOR, "tr.keys th")
    heads[0].find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    heads[0].find_element(By.TAG_NAME, "button").send_keys(Keys.TAB)
    focused = shown.switch_to.active_element
    assert focused == heads[1].find_element(By.TAG_NAME, "button")
    focused.send_keys(Keys.SPACE)
    assert [head.get_attribute("aria-sort") for head in heads] == [None, "ascending", None]
    states = [row.find_elements(By.TAG_NAME, "td")[0].text for row in table.find_elements(By.CSS_SELECTOR, "tbody tr")]  # fmt: skip
    assert states == ["fresh", "missing", "damaged", "\u2013"]


def test_figures_sort_as_numbers(shown: Chrome) -> None:
    shown.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    table = shown.find_element(By.XPATH, "//table[caption[contains(., 'Size, build time')]]")
    table.find_element(By.XPATH, ".//th[contains(., 'Size')]/button").click()
    script = "return [...arguments[0].tBodies[0].rows].map((row) => Number(row.cells[4].dataset.v))"
    sizes = shown.execute_script(script, table)
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 2


def test_accuracy_sorts_with_what_has_no_figure(
    browser: Chrome, page: Path, tmp_path: Path
) -> None:
    section = section_of(page.parent)
    measured: list[tuple[float | None, str | None]] = [
        (50.0, None), (None, None), (None, "it is [1], not [2]"), (9.5, None), (None, None), (120.0, None),
    ]  # fmt: skip
    checks = tuple(
        Check(f"b{place}", "fp16", None, tmp_path, CheckReport(
            True, (), {"out": Metrics("float", 1, 0.0, 0.0, 1.0, snr, 1.0, shapes=shapes)}, {}, 1))
        for place, (snr, shapes) in enumerate(measured)
    )  # fmt: skip
    file = tmp_path / "checks.html"
    file.write_bytes(rendered(msgspec.structs.replace(section, checks=checks)))
    browser.get(file.as_uri())
    table = browser.find_element(By.CSS_SELECTOR, "table.checks")
    button = table.find_element(By.XPATH, ".//th[contains(., 'SNR')]/button")
    button.click()
    assert column(table) == ["b2", "b3", "b0", "b5", "b1", "b4"]
    button.click()
    assert column(table) == ["b1", "b4", "b5", "b0", "b3", "b2"]


def test_screen_readers_hear_no_arrow(shown: Chrome) -> None:
    shown.execute_cdp_cmd("Accessibility.enable", {})
    nodes = shown.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    names = [
        node["name"]["value"] for node in nodes if node.get("role", {}).get("value") == "button"
    ]
    assert "Backbone" in names
    assert not [name for name in names if set(name) & set("\u2195\u2191\u2193")]


def test_the_scheme_is_the_systems_until_someone_says_otherwise(shown: Chrome) -> None:
    light = paper(shown)
    emulate(shown, "dark", 1280)
    dark = paper(shown)
    assert light == "rgb(255, 255, 255)"
    assert dark != light
    button = shown.find_element(By.ID, "scheme")
    assert button.is_displayed()
    assert button.text == "Light"
    button.click()
    assert paper(shown) == light
    assert button.text == "Dark"
    button.send_keys(Keys.ENTER)
    assert paper(shown) == dark


@pytest.mark.parametrize("width", [390, 800, 1280])
@pytest.mark.parametrize("unfolded", [False, True])
def test_the_page_never_scrolls_sideways(shown: Chrome, width: int, unfolded: bool) -> None:
    emulate(shown, "light", width)
    if unfolded:
        shown.execute_script(
            "document.querySelectorAll('details').forEach((one) => one.open = true)"
        )
    wide, room = shown.execute_script("return [document.scrollingElement.scrollWidth, innerWidth]")
    assert room == width
    assert wide <= room


def test_pictures_have_their_own_size_on_a_phone(shown: Chrome) -> None:
    emulate(shown, "light", 390)
    script = """return [...document.querySelectorAll("svg[role=img]")]
        .map((svg) => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)
        .filter((scale) => scale > 0)"""
    scales = shown.execute_script(script)
    assert len(scales) == 3
    assert all(scale == pytest.approx(1, abs=0.03) for scale in scales)


def test_a_link_of_the_matrix_unfolds_the_engine(shown: Chrome) -> None:
    link = shown.find_element(By.CSS_SELECTOR, "table.matrix tbody a")
    name = str(link.get_attribute("href")).rpartition("#")[2]
    assert shown.find_element(By.ID, name).get_attribute("open") is None
    link.click()
    assert shown.find_element(By.ID, name).get_attribute("open") == "true"
    assert shown.find_element(By.CSS_SELECTOR, f"#{name} dl.record").is_displayed()


def test_the_skip_link_is_the_first_stop_and_seen(shown: Chrome) -> None:
    shown.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    focused = shown.switch_to.active_element
    assert focused.text == "Skip to the content"
    assert focused.rect["x"] >= 0
    outline = focused.value_of_css_property("outline-style")
    assert outline == "solid"


def test_without_scripts_all_is_there(shown: Chrome) -> None:
    shown.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        shown.refresh()
        assert not shown.find_element(By.ID, "scheme").is_displayed()
        assert "fresh" in matrix(shown).text
        assert "damaged" in matrix(shown).text
        assert not matrix(shown).find_elements(By.TAG_NAME, "button")
    finally:
        shown.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_screenshot_shows_something(shown: Chrome, scheme: str, width: int) -> None:
    emulate(shown, scheme, width)
    taken = shown.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    colours = distinct_bytes(base64.b64decode(taken["data"]), width)
    assert colours > 50


def test_the_policy_stops_what_is_not_ours(browser: Chrome, page: Path, tmp_path: Path) -> None:
    tampered = tmp_path / "tampered.html"
    tampered.write_text(page.read_text().replace("<main ", "<script>document.title = 'gone'</script><main ", 1))  # fmt: skip
    browser.get(tampered.as_uri())
    assert browser.title != "gone"
    (complaint, *_) = browser.get_log("browser")
    assert "Content Security Policy" in complaint["message"]


def distinct_bytes(png: bytes, width: int) -> int:
    """How many different byte values the picture has, once unpacked."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">I", png[16:20])[0] == width
    data, at = b"", 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    return len(set(zlib.decompress(data)))
