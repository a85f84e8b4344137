"""The playground in a real headless Chromium, before the fake engine. LEPTON_SCREENSHOTS=FOLDER keeps pictures."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright, expect

from lepton_engine.errors import EngineDeadError
from tests.service.http.browser import BrokenBrowserError, Browser, NoBrowserError, browser
from tests.service.http.callers import Tokens

Eventually = Callable[[Callable[[], bool]], Any]
Open = Callable[..., Any]

SCREENSHOTS = os.environ.get("LEPTON_SCREENSHOTS")
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"
# Of an element's text on the nearest background that is opaque: WCAG's ratio of luminances.
CONTRAST = """
element => {
  const channels = color => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const layers = [];
  for (let at = element; at; at = at.parentElement) layers.push(channels(getComputedStyle(at).backgroundColor));
  let under = [255, 255, 255];
  for (const [r, g, b, a] of layers.reverse())
    under = [r, g, b].map((v, i) => (v * a) / 255 + under[i] * (1 - a / 255));
  const [one, two] = [light(channels(getComputedStyle(element).color)), light(under)].sort((a, b) => b - a);
  return (one + 0.05) / (two + 0.05);
}
"""
OUTLINE = """
(element => getComputedStyle(element.type === "radio" ? element.nextElementSibling : element).outlineStyle)(
  document.activeElement)
"""

# One browser for all of them, and so one event loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def web(run_web: Any) -> AsyncIterator[Any]:
    async with run_web() as found:
        yield found


@pytest.fixture(scope="session")
def chromium() -> Browser:
    """A browser, or a reason why these tests do not run."""
    try:
        return browser()
    except NoBrowserError as error:
        pytest.skip(str(error))
    except BrokenBrowserError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def open_page(chromium: Browser) -> AsyncIterator[Open]:
    """Opens the playground of a server: `async with open_page(web, **context) as page`."""
    async with async_playwright() as driver:
        environment: dict[str, str | float | bool] = {**os.environ, **chromium.environment}
        found = await driver.chromium.launch(executable_path=chromium.program, env=environment)

        @asynccontextmanager
        async def opened(web: Any, ready: bool = True, **options: Any) -> AsyncIterator[Page]:
            context = await found.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
            page = await context.new_page()
            wrong: list[str] = []
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("dialog", lambda dialog: wrong.append(f"dialog {dialog.message}"))
            page.on("console", lambda line: wrong.append(line.text) if "Content Security" in line.text else None)
            page.on("request", lambda ask: None if ask.url.startswith((web.url, "data:")) else wrong.append(ask.url))
            await page.goto(web.url)
            if ready:
                await expect(page.locator("#state")).to_have_text("ready")
            yield page
            await context.close()
            assert wrong == []

        yield opened
        await found.close()


async def keep(page: Page, name: str) -> None:
    if SCREENSHOTS:
        path = Path(SCREENSHOTS) / f"{name}.png"
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        await page.screenshot(path=path)


async def generate(page: Page, prompt: str, tokens: int = 12) -> None:
    await page.fill("#max-tokens", str(tokens))
    await page.fill("#prompt", prompt)
    await page.click("#go")


async def test_a_completion_streams_token_by_token(web: Any, open_page: Open) -> None:
    async with open_page(web) as page:
        await expect(page.locator("#model")).to_have_text("fake-model")
        await expect(page.locator("#empty")).to_be_visible()
        await keep(page, "empty")
        await generate(page, "Once")
        await expect(page.locator(".token-text")).to_have_count(12)
        assert await page.locator(".turn").inner_text() == "Onceabcdefghijkl"
        await expect(page.locator("#m-tokens")).to_have_text("12")
        await expect(page.locator("#m-end")).to_have_text("length")
        await expect(page.locator("#m-first")).to_contain_text("ms")
        await expect(page.locator("#m-prompt")).to_have_text("5")
        await expect(page.locator("#m-perplexity")).to_have_text("1.65")  # exp(0.5)
        await expect(page.locator("#status")).to_have_text("Done: 12 tokens, length")
        await expect(page.locator("#go")).to_be_visible()
        shares = await page.locator(".token-text").evaluate_all(
            "all => all.map(one => one.style.getPropertyValue('--u'))"
        )
        assert set(shares) == {"0.120"}  # -log2(exp(-0.5)) / 6
        await keep(page, "completion")
        await generate(page, "Again", 2)
        await expect(page.locator(".token-text")).to_have_count(2)


async def test_alternatives_by_pointer_and_by_keyboard(web: Any, open_page: Open) -> None:
    async with open_page(web) as page:
        await generate(page, "Once", 4)
        card, tokens = page.locator("#card"), page.locator(".token-text")
        await expect(tokens).to_have_count(4)
        await expect(card).to_be_hidden()
        await tokens.nth(1).hover()
        await expect(card).to_be_visible()
        await expect(card.locator("li")).to_have_count(3)
        await expect(card.locator("li.taken")).to_have_text("b61 %")  # exp(-0.5)
        await keep(page, "alternatives")
        await page.mouse.move(1, 1)
        await expect(card).to_be_hidden()
        await page.focus("#max-tokens")
        for _ in range(30):
            await page.keyboard.press("Shift+Tab")
            if await page.evaluate("document.activeElement.classList.contains('token-text')"):
                break
        await expect(card.locator("li.taken")).to_contain_text("a")
        await expect(tokens.nth(0)).to_have_attribute("aria-describedby", "card")
        for key, letter in (("ArrowRight", "b"), ("End", "d"), ("ArrowRight", "d"), ("ArrowLeft", "c"), ("Home", "a")):
            await page.keyboard.press(key)
            await expect(page.locator(":focus")).to_have_text(letter)
            await expect(card.locator("li.taken")).to_contain_text(letter)
        await page.keyboard.press("Escape")
        await expect(card).to_be_hidden()


async def test_all_of_it_by_keyboard(web: Any, open_page: Open) -> None:
    async with open_page(web) as page:
        seen = []
        for _ in range(12):
            await page.keyboard.press("Tab")
            seen.append(await page.evaluate("document.activeElement.id || document.activeElement.className"))
            outline = await page.evaluate(OUTLINE)
            assert seen[-1] == "" or outline == "solid", f"no focus is seen on {seen[-1]}"
        assert seen[0] == "skip"
        assert [name for name in seen if name in ("prompt", "temperature", "seed", "clear", "go")] == [
            "prompt",
            "temperature",
            "seed",
            "clear",
            "go",
        ]
        await page.fill("#max-tokens", "3")
        await page.focus("#prompt")
        await page.keyboard.type("Once")
        await page.keyboard.press("Control+Enter")
        await expect(page.locator(".token-text")).to_have_count(3)


async def test_stop_ends_the_engines_work(web: Any, open_page: Open, eventually: Eventually) -> None:
    async with open_page(web) as page:
        for stop in ("click", "Escape"):
            web.engine.go.clear()
            await generate(page, "Once", 4000)
            await eventually(lambda: len(web.engine.jobs) == 1)
            await expect(page.locator("#stop")).to_be_visible()
            await expect(page.locator("#c-running output")).to_have_text("1")
            if stop == "click":
                await page.click("#stop")
            else:
                await page.keyboard.press(stop)
            await eventually(lambda: web.engine.jobs == [])
            await expect(page.locator("#m-end")).to_have_text("stopped")
            await expect(page.locator("#error")).to_be_hidden()
            await expect(page.locator("#go")).to_be_visible()
            web.engine.go.set()
        await expect(page.locator("#c-running output")).to_have_text("0")
        assert web.engine.aborted == 2


async def test_markup_in_prompt_and_output_is_text(web: Any, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.engine, "_token", lambda number: MARKUP.encode()[number % len(MARKUP)])
    async with open_page(web) as page:
        await generate(page, MARKUP, len(MARKUP))
        await expect(page.locator(".turn")).to_have_text(MARKUP + MARKUP)
        await page.locator(".token-text").first.hover()
        await expect(page.locator("#card li.taken")).to_contain_text("<")
        assert await page.locator("#output img, #output script, #card img").count() == 0
        web.engine.refusal = EngineDeadError(MARKUP)
        await page.click("#go")
        await expect(page.locator("#error")).to_contain_text(MARKUP)
        assert await page.locator("#error img").count() == 0


async def test_bytes_of_a_character_come_together(web: Any, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "é€"
    monkeypatch.setattr(web.engine, "_token", lambda number: text.encode()[number % 5])
    monkeypatch.setattr(web.engine, "_part", _bytewise(web.engine._part))
    web.engine.tokenizer.id_to_token = lambda token: f"<0x{token:02X}>"
    async with open_page(web) as page:
        await generate(page, "Once", 5)
        await expect(page.locator(".token-text")).to_have_count(5)
        assert await page.locator(".token-text").all_inner_texts() == ["", "é", "", "", "€"]
        await expect(page.locator(".token-text.part")).to_have_count(3)


def _bytewise(made: Any) -> Any:
    def part(index: int, ids: list[int], params: Any, finished: bool) -> Any:
        found = made(index, [97] * len(ids), params, finished)
        row = next(iter((found.logprobs or [{97: None}])[0].values()))
        found.token_ids = list(ids)
        found.logprobs = [{token: row} for token in ids]
        found.text = ""
        return found

    return part


async def test_a_chat_goes_on(web: Any, open_page: Open) -> None:
    async with open_page(web, color_scheme="dark") as page:
        await page.locator("label:has(#mode-chat)").click()
        for message in ("Hello", "And then?"):
            await generate(page, message, 3)
            await expect(page.locator("#status")).to_have_text("Done: 3 tokens, length")
            await expect(page.locator("#prompt")).to_have_value("")
            await page.evaluate("document.querySelector('#status').textContent = ''")
        assert bytes(web.engine.seen[-1].prompt) == b"<user>Hello<assistant>abc<user>And then?<assistant>"
        await expect(page.locator(".turn")).to_have_count(4)
        await keep(page, "chat-dark")
        await page.click("#clear")
        await expect(page.locator(".turn")).to_have_count(0)
        await generate(page, "New", 1)
        await expect(page.locator("#status")).to_have_text("Done: 1 token, length")
        await expect(page.locator(".turn")).to_have_count(2)
        assert bytes(web.engine.seen[-1].prompt) == b"<user>New<assistant>"


async def test_a_model_without_a_chat_template(run_web: Any, fake_engine: Any, open_page: Open) -> None:
    engine = fake_engine()
    engine.tokenizer.chat_template = None
    async with run_web(engine) as web, open_page(web) as page:
        await expect(page.locator("#mode-chat")).to_be_disabled()


async def test_errors_are_shown(web: Any, open_page: Open) -> None:
    async with open_page(web) as page:
        await page.evaluate("document.querySelector('#temperature').max = ''")
        await page.fill("#temperature", "0.5")
        web.engine.refusal = EngineDeadError("the engine has ended")
        await generate(page, "Once")
        await expect(page.get_by_role("alert")).to_have_text("The engine has ended")
        await expect(page.locator("#status")).to_have_text("Failed: 0 tokens, error")
        web.engine.refusal = None
        web.engine.failure = EngineDeadError("it broke while it ran")
        await generate(page, "Once")
        await expect(page.get_by_role("alert")).to_contain_text("It broke while it ran")
        await keep(page, "error")
        web.engine.failure = None
        await generate(page, "a" * 5000)
        await expect(page.get_by_role("alert")).to_contain_text("Prompt: gives 5001 tokens, at most 4095 fit")


async def test_a_server_that_asks_for_a_token(run_web: Any, open_page: Open) -> None:
    async with run_web(authenticator=Tokens()) as web, open_page(web, ready=False) as page:
        await expect(page.locator("#state")).to_have_text("a token is needed")
        await expect(page.get_by_label("access token")).to_be_visible()
        await generate(page, "Once")
        await expect(page.get_by_role("alert")).to_contain_text("asks for a bearer token")
        await page.get_by_label("access token").fill("ann")
        await page.keyboard.press("Tab")
        await expect(page.locator("#state")).to_have_text("ready")
        await expect(page.locator("#model")).to_have_text("fake-model")
        await page.click("#go")
        await expect(page.locator(".token-text")).to_have_count(12)
        assert web.engine.seen[0].options["tenant"] == "ann"
        await keep(page, "token")


async def test_settings_reach_the_engine(web: Any, open_page: Open) -> None:
    async with open_page(web) as page:
        for field, value in (("temperature", "0.5"), ("top-p", "0.9"), ("seed", "7")):
            await page.fill(f"#{field}", value)
        await generate(page, "Once", 3)
        await expect(page.locator(".token-text")).to_have_count(3)
        params = web.engine.seen[0].params
        assert (params.temperature, params.top_p, params.seed, params.max_tokens) == (0.5, 0.9, 7, 3)


async def test_the_charts_tell_of_load(web: Any, open_page: Open, eventually: Eventually) -> None:
    async with open_page(web) as page:
        web.engine.go.clear()
        others = [
            asyncio.create_task(web.raw.post("/v1/completions", json={"prompt": "a" * 399, "max_tokens": 1}))
            for _ in range(3)
        ]
        await expect(page.locator("#c-running output")).to_have_text("3")
        await expect(page.locator("#c-kv output")).to_have_text("30 %")  # 3 x 100 of 1000 blocks
        assert "L" in str(await page.locator("#c-running .line").get_attribute("d"))
        web.engine.go.set()
        await asyncio.gather(*others)
        await expect(page.locator("#c-running output")).to_have_text("0")


async def test_on_a_phone(web: Any, open_page: Open) -> None:
    async with open_page(web, **PHONE) as page:
        await generate(page, "Once upon a time", 60)
        await expect(page.locator(".token-text")).to_have_count(60)
        await page.locator(".token-text").nth(5).tap()
        await expect(page.locator("#card")).to_be_visible()
        box = await page.locator("#card").bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        await keep(page, "phone")
        await page.locator("#empty, .turn .said").last.tap()
        await expect(page.locator("#card")).to_be_hidden()
        for width in (320, 390, 700, 1000):
            await page.set_viewport_size({"width": width, "height": 800})
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
        buttons = await page.locator("button:visible").evaluate_all("all => all.map(one => one.offsetHeight)")
        assert min(buttons) >= 32


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_contrast_and_motion(web: Any, open_page: Open, scheme: str) -> None:
    async with open_page(web, color_scheme=scheme, reduced_motion="reduce") as page:
        web.engine.go.clear()
        await generate(page, "Once", 8)
        await expect(page.locator(".caret")).to_have_count(1)
        assert (
            await page.evaluate("getComputedStyle(document.querySelector('.caret'), '::after').animationName") == "none"
        )
        web.engine.go.set()
        await expect(page.locator(".token-text")).to_have_count(8)
        await page.locator(".token-text").last.evaluate("one => one.style.setProperty('--u', 1)")
        await page.evaluate("document.querySelector('#error').hidden = false")
        for selector in (
            ".said",
            ".token-text >> nth=0",
            ".token-text >> nth=7",
            ".facts",
            "#state",
            ".legend span",
            "dt",
        ):
            assert await page.locator(selector).first.evaluate(CONTRAST) >= 4.5, selector
        for selector in (
            "#go",
            "#clear",
            ".hint",
            "figcaption",
            "figure small",
            "#error",
            ".settings label",
            "#prompt",
        ):
            assert await page.locator(selector).first.evaluate(CONTRAST) >= 4.5, selector
        await keep(page, f"contrast-{scheme}")


async def test_a_server_that_ends_is_noticed(run_web: Any, open_page: Open) -> None:
    async with run_web() as web, open_page(web) as page:
        web.running.front.stop.signal()
        await web.running.life
        await expect(page.locator("#state")).to_have_text("not connected")
        await generate(page, "Once")
        await expect(page.get_by_role("alert")).to_have_text("The server cannot be reached")
