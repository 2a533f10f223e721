"""The report as a place to work: what was asked of a list stays, pages follow it, and the graph survives being hidden."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from report_browser import FAILURE, MARKS, Pages, report, task_page
from report_records import explanation

pytestmark = MARKS

LIST = "[data-table]"


def named(page: Any) -> list[str]:
    """The pages that the rows in view lead to."""
    found: list[str] = page.locator(f"{LIST} >> nth=0 >> tbody a").evaluate_all(
        "links => links.map(link => link.pathname.split('/').at(-1))"
    )
    return found


def asked(page: Any) -> Any:
    """A list that was filtered by label and words, and sorted; its first table."""
    table = page.locator(LIST).first
    table.get_by_label("Filter by label").select_option("NC")
    table.get_by_label("Filter by words").fill("drawer")
    table.get_by_role("button", name="Δℓ").click()
    return table


def test_filters_and_sort_are_in_the_address_and_kept_on_back(browser: Any, site: Path) -> None:
    pages = Pages(browser, site)
    page = pages.open(task_page(site))
    table = asked(page)
    order, address, said = named(page), page.url, table.locator("[role=status]").inner_text()
    assert 2 < len(order) < 130
    table.locator("tbody a").nth(1).click()
    page.wait_for_url("**/failures/**")
    assert page.url.split("?")[0].endswith(order[1])
    page.go_back()
    assert page.url == address
    assert named(page) == order
    assert table.locator("[role=status]").inner_text() == said
    assert table.get_by_label("Filter by words").input_value() == "drawer"
    again = pages.open(task_page(site))
    assert named(again) != order
    again.goto(address)
    assert named(again) == order
    assert again.locator("th[aria-sort=descending]").count() == 1
    assert pages.troubles == []


def test_the_page_of_a_list_is_kept_and_nonsense_in_the_address_is_harmless(browser: Any, site: Path) -> None:
    pages = Pages(browser, site)
    page = pages.open(task_page(site))
    page.locator(LIST).first.get_by_role("button", name="Next").click()
    order = named(page)
    page.reload()
    assert len(order) == 30
    assert named(page) == order
    for odd in ("explained.page=-7", "explained.page=NaN&explained.sort=<b>&explained.label=none", "%E0%A4%A=%", "main"):
        page.goto("about:blank")
        page.goto((site / task_page(site)).as_uri() + "#" + odd)
        assert len(named(page)) == 100
    assert pages.troubles == []


def test_next_previous_and_keys_follow_the_list(browser: Any, site: Path) -> None:
    pages = Pages(browser, site)
    page = pages.open(task_page(site))
    order = (asked(page), named(page))[1]
    address = page.url
    page.locator(LIST).first.locator("tbody a").first.click()

    def here(name: str) -> None:
        page.wait_for_url(f"**/failures/{name}*")

    here(order[0])
    assert page.locator(".around").inner_text().strip().startswith(f"1 of {len(order)}")
    assert page.locator(".around a[rel=prev]").count() == 0
    page.keyboard.press("j")
    here(order[1])
    page.locator(".around a[rel=next]").click()
    here(order[2])
    page.keyboard.press("k")
    here(order[1])
    page.keyboard.press("Control+j")
    assert order[1] in page.url
    page.locator(".crumbs a", has_text="planted_choice").click()
    page.wait_for_url("**/tasks/**")
    assert page.url == address
    assert named(page) == order
    assert pages.troubles == []
    assert pages.strangers() == []


def test_a_long_list_goes_on_by_its_page(browser: Any, site: Path) -> None:
    page = Pages(browser, site).open(task_page(site))
    first = named(page)
    page.locator(LIST).first.locator("tbody a").first.click()
    page.wait_for_url("**/failures/**")
    address = page.url
    assert len(address) < 8_000
    page.goto(address.replace(first[0], first[50]))
    assert page.locator(".around").inner_text().split("of")[0].strip().endswith("51")
    page.keyboard.press("j")
    page.wait_for_url("**/tasks/**")


def test_without_a_list_keys_go_through_the_task(browser: Any, site: Path) -> None:
    pages = Pages(browser, site)
    page = pages.open(FAILURE)
    page.keyboard.press("j")
    page.wait_for_url("**-00001.html")
    page.keyboard.press("k")
    page.wait_for_url("**-00000.html")
    page.goto((site / FAILURE).as_uri() + "?pages=javascript:alert(1),../../x,<b>&list=%22%3E&first=x&total=y")
    assert page.locator(".around a").count() == 1
    assert page.locator(".around b").count() == 0
    assert pages.troubles == []


INK = """canvas => {
  const pen = canvas.getContext('2d');
  if (!canvas.width || !canvas.height) return 0;
  const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data;
  let ink = 0;
  for (let place = 3; place < pixels.length; place += 4) if (pixels[place]) ink += 1;
  return ink;
}"""


def frames(page: Any) -> None:
    """Until some frames have passed."""
    for _ in range(5):
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => done()))")


def test_the_graph_survives_being_hidden_while_it_is_drawn(browser: Any, site: Path) -> None:
    pages = Pages(browser, site, viewport={"width": 1280, "height": 1400})
    page = pages.open(FAILURE)
    canvas = page.locator("#graph-canvas")
    frames(page)
    before = canvas.evaluate(INK)
    assert before > 1_000
    page.locator("#graph-in").click()
    page.evaluate(
        "document.getElementById('graph-share').value = '30'; document.getElementById('graph-section').style.display = 'none'"
    )
    for _ in range(2):
        page.evaluate("document.getElementById('graph-share').dispatchEvent(new Event('input'))")
        frames(page)
    page.evaluate("document.getElementById('graph-section').style.display = ''")
    frames(page)
    few = canvas.evaluate(INK)
    assert few > 500
    page.locator("#graph-share").fill("100")
    page.locator("#graph-fit").click()
    frames(page)
    assert canvas.evaluate(INK) > few
    assert pages.troubles == []


def test_the_graph_of_a_frame_that_was_hidden_at_load_is_drawn_when_it_is_seen(browser: Any, tmp_path: Path) -> None:
    site = report(tmp_path, explanation(0))
    outer = site / "outer.html"
    outer.write_text(f'<iframe src="{FAILURE}" style="display:none;width:1200px;height:900px"></iframe>', encoding="utf-8")
    pages = Pages(browser, site)
    page = pages.context.new_page()
    page.on("pageerror", lambda error: pages.troubles.append(str(error)))
    page.goto(outer.as_uri())
    page.evaluate("document.querySelector('iframe').style.display = ''")
    canvas = page.frame_locator("iframe").locator("#graph-canvas")
    canvas.scroll_into_view_if_needed()
    for _ in range(20):
        frames(page)
        if canvas.evaluate(INK) > 1_000:
            break
    assert canvas.evaluate(INK) > 1_000
    assert canvas.bounding_box()["height"] > 300
    assert pages.troubles == []
