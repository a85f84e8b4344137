// The playground: streams a completion or a chat, shows every token's probability, draws the server's figures.
// Text of prompts and models goes into the page by textContent only.

const TOP = 8; // alternatives asked for at every token
const POINTS = 120; // seconds that a chart shows
const $ = (id) => document.getElementById(id);

const page = {
  models: null, // what /v1/models says, once it has answered
  running: null, // AbortController of the generation that runs
  messages: [], // the chat so far
  tokens: [], // [span, token] of all generated tokens on the page
  pinned: null, // the span whose card a tap or the keyboard keeps open
};

// ---------------------------------------------------------------- talking to the server

function headers() {
  const found = { "content-type": "application/json" };
  const token = $("token").value.trim();
  if (token) found.authorization = `Bearer ${token}`;
  return found;
}

class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `the server answered ${status}`);
    this.status = status;
  }
}

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { headers: headers(), ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server cannot be reached");
  }
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    if (response.status === 401) askForToken();
    throw new Refused(response.status, body.error);
  }
  return response;
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      if (line === "data: [DONE]") return;
      const event = JSON.parse(line.slice(6));
      if (event.error) throw new Refused(response.status, event.error);
      yield event;
    }
  }
}

function askForToken() {
  const hidden = $("token-row").hidden;
  $("token-row").hidden = false;
  if (hidden) $("token").focus();
}

// ---------------------------------------------------------------- tokens

// A token: {text, bytes, logprob, top: [[text, logprob]]}, of either kind of stream.
function completionTokens(choice) {
  const given = choice.logprobs;
  if (!given) return [];
  return given.tokens.map((text, index) => ({
    text,
    bytes: given.bytes?.[index] ?? null,
    logprob: given.token_logprobs[index],
    top: Object.entries(given.top_logprobs?.[index] ?? {}),
  }));
}

function chatTokens(choice) {
  return (choice.logprobs?.content ?? []).map((entry) => ({
    text: entry.token,
    bytes: entry.bytes,
    logprob: entry.logprob,
    top: entry.top_logprobs.map((other) => [other.token, other.logprob]),
  }));
}

// Writes tokens into an element. What a token adds to the text may be nothing yet: bytes of an unfinished character.
class TokenWriter {
  constructor(element) {
    this.element = element;
    this.decoder = new TextDecoder();
    this.written = []; // [span, length of the text up to its end]
    this.length = 0;
  }

  // Marks what ended the answer and is no part of it: the end token, a stop string.
  end(answer) {
    for (const [span, length] of this.written) if (length > answer.length) span.classList.add("beyond");
  }

  add(token) {
    const text = token.bytes ? this.decoder.decode(new Uint8Array(token.bytes), { stream: true }) : token.text;
    const span = document.createElement("span");
    span.className = "token-text";
    span.textContent = text;
    if (text === "") span.classList.add("part");
    const share = Math.exp(token.logprob);
    span.style.setProperty("--u", Math.min(1, -Math.log2(Math.max(share, 1e-6)) / 6).toFixed(3));
    if (share < 0.1) span.classList.add("low");
    span.tabIndex = page.tokens.length ? -1 : 0;
    this.length += text.length;
    this.written.push([span, this.length]);
    this.element.append(span);
    page.tokens.push([span, token]);
  }
}

const visible = (text) => text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "␣") || "∅";
const percent = (share) => (share < 0.0001 ? "< 0.01" : (share * 100).toFixed(share < 0.001 ? 2 : share < 0.0995 ? 1 : 0)) + " %";

function showCard(span) {
  const token = page.tokens.find(([other]) => other === span)?.[1];
  if (!token) return;
  for (const [other] of page.tokens) other.classList.toggle("on", other === span);
  const ranked = token.top.slice().sort((a, b) => b[1] - a[1]);
  // What was drawn from further down the distribution stands behind the likeliest.
  if (!ranked.some(([text]) => text === token.text)) ranked.push([token.text, token.logprob]);
  $("card-list").replaceChildren(
    ...ranked.map(([text, logprob]) => {
      const share = Math.exp(logprob);
      const line = document.createElement("li");
      line.classList.toggle("taken", text === token.text);
      const bar = document.createElement("span");
      bar.className = "share";
      bar.style.width = `${(share * 100).toFixed(1)}%`;
      const name = document.createElement("span");
      name.className = "text";
      name.textContent = visible(text);
      const figure = document.createElement("span");
      figure.textContent = percent(share);
      line.append(bar, name, figure);
      return line;
    }),
  );
  const card = $("card");
  card.hidden = false;
  const rects = [...span.getClientRects()].sort((a, b) => b.width - a.width); // of a token on two lines, its longer part
  const place = rects[0] ?? span.getBoundingClientRect();
  const { width, height } = card.getBoundingClientRect();
  const left = Math.max(8, Math.min(place.left, innerWidth - width - 8));
  const below = place.bottom + 8;
  const top = below + height > innerHeight && place.top - height - 8 > 0 ? place.top - height - 8 : below;
  card.style.transform = `translate(${left}px, ${top}px)`;
  span.setAttribute("aria-describedby", "card");
}

function hideCard() {
  page.pinned = null;
  $("card").hidden = true;
  for (const [span] of page.tokens) {
    span.classList.remove("on");
    span.removeAttribute("aria-describedby");
  }
}

function step(from, by) {
  const at = page.tokens.findIndex(([span]) => span === from);
  const next = page.tokens[Math.max(0, Math.min(page.tokens.length - 1, at + by))];
  if (!next) return;
  from.tabIndex = -1;
  next[0].tabIndex = 0;
  next[0].focus();
}

function watchTokens() {
  const output = $("output");
  const spanOf = (event) => event.target.closest?.(".token-text");
  output.addEventListener("pointerover", (event) => {
    if (event.pointerType === "mouse" && spanOf(event) && !page.pinned) showCard(spanOf(event));
  });
  output.addEventListener("pointerleave", () => page.pinned ?? hideCard());
  output.addEventListener("focusin", (event) => {
    if (!spanOf(event)) return;
    page.pinned = spanOf(event);
    showCard(page.pinned);
  });
  output.addEventListener("focusout", hideCard);
  output.addEventListener("click", (event) => {
    const span = spanOf(event);
    if (span) span.focus();
    else hideCard();
  });
  output.addEventListener("keydown", (event) => {
    const span = spanOf(event);
    if (!span) return;
    const moves = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
    if (event.key === "Escape" && !page.running) span.blur();
    if (!(event.key in moves)) return;
    event.preventDefault();
    step(span, moves[event.key]);
  });
  addEventListener("scroll", hideCard, { passive: true });
}

// ---------------------------------------------------------------- generating

const mode = () => document.querySelector("input[name=mode]:checked").value;

function addTurn(who, text) {
  $("empty").hidden = true;
  const turn = document.createElement("p");
  turn.className = "turn";
  if (who) {
    const label = document.createElement("span");
    label.className = "who";
    label.textContent = who;
    turn.append(label);
  }
  if (text) {
    const said = document.createElement("span");
    said.className = "said";
    said.textContent = text;
    turn.append(said);
  }
  $("output").append(turn);
  return turn;
}

function clear() {
  stop();
  hideCard();
  page.messages = [];
  page.tokens = [];
  $("output").replaceChildren($("empty"));
  $("empty").hidden = false;
  $("measures").hidden = true;
  showError("");
}

function showError(text) {
  $("error").hidden = !text;
  $("error").textContent = text && text[0].toUpperCase() + text.slice(1);
}

const say = (text) => ($("status").textContent = text);

function options() {
  const found = { stream: true, stream_options: { include_usage: true } };
  for (const [id, name] of [["temperature", "temperature"], ["top-p", "top_p"], ["max-tokens", "max_tokens"], ["seed", "seed"]]) {
    if ($(id).value !== "") found[name] = Number($(id).value);
  }
  return found;
}

async function generate() {
  const prompt = $("prompt").value;
  if (page.running || !prompt) return $("prompt").focus();
  const chats = mode() === "chat";
  if (!chats) clear();
  showError("");
  const control = (page.running = new AbortController());
  $("stop").hidden = false;
  $("go").hidden = true;
  say("Generating");
  let turn;
  let path = "v1/completions";
  let body = { prompt, logprobs: TOP, ...options() };
  if (chats) {
    page.messages.push({ role: "user", content: prompt });
    addTurn("You", prompt);
    turn = addTurn("Model", "");
    path = "v1/chat/completions";
    body = { messages: page.messages, logprobs: true, top_logprobs: TOP, ...options() };
    $("prompt").value = "";
  } else {
    turn = addTurn("", prompt);
  }
  turn.classList.add("caret");
  turn.scrollIntoView({ block: "nearest" });
  const run = new Run();
  let answer = "";
  try {
    const response = await call(path, { method: "POST", body: JSON.stringify(body), signal: control.signal });
    const writer = new TokenWriter(turn);
    for await (const event of events(response)) {
      const choice = event.choices[0];
      if (event.usage) run.usage = event.usage;
      if (!choice) continue;
      answer += (chats ? choice.delta.content : choice.text) ?? "";
      const tokens = chats ? chatTokens(choice) : completionTokens(choice);
      for (const token of tokens) {
        writer.add(token);
        run.token(token);
      }
      if (choice.finish_reason) writer.end(answer);
      if (choice.finish_reason) run.end = choice.stop_reason === "time_limit" ? "time limit" : choice.finish_reason;
      run.show();
    }
  } catch (error) {
    if (error.name === "AbortError") run.end = "stopped";
    else {
      run.end = "error";
      showError(error.message);
    }
  } finally {
    turn.classList.remove("caret");
    if (chats && answer) page.messages.push({ role: "assistant", content: answer });
    if (chats && !answer) {
      page.messages.pop();
      if (run.end === "error") $("prompt").value = $("prompt").value || prompt;
    }
    if (page.running === control) {
      page.running = null;
      $("stop").hidden = true;
      $("go").hidden = false;
    }
    run.show();
    say(`${run.end === "error" ? "Failed" : "Done"}: ${run.tokens} ${run.tokens === 1 ? "token" : "tokens"}, ${run.end}`);
  }
}

function stop() {
  page.running?.abort();
}

// The measures of one generation, by this page's clock.
class Run {
  constructor() {
    this.began = performance.now();
    this.first = this.last = null;
    this.tokens = 0;
    this.logprobs = 0;
    this.usage = null;
    this.end = "";
    $("measures").hidden = false;
    this.show();
  }

  token({ logprob }) {
    this.last = performance.now();
    this.first ??= this.last;
    this.tokens += 1;
    this.logprobs += logprob;
  }

  show() {
    const set = (id, text) => ($(id).textContent = text);
    set("m-first", this.first === null ? "–" : duration(this.first - this.began));
    const seconds = (this.last - this.first) / 1000;
    set("m-rate", this.tokens > 1 && seconds > 0 ? compact((this.tokens - 1) / seconds) : "–");
    set("m-tokens", String(this.tokens));
    const usage = this.usage;
    const cached = usage?.prompt_tokens_details?.cached_tokens;
    set("m-prompt", usage ? `${usage.prompt_tokens}${cached ? ` (${cached} cached)` : ""}` : "–");
    set("m-perplexity", this.tokens ? Math.exp(-this.logprobs / this.tokens).toPrecision(3) : "–");
    set("m-end", this.end || "–");
  }
}

const duration = (ms) => (ms < 1000 ? `${ms.toFixed(ms < 10 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(2)} s`);
const compact = (value) => (value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(1).replace(/\.0$/, ""));

// ---------------------------------------------------------------- figures of the server

class Chart {
  constructor(id, write) {
    this.figure = $(id);
    this.write = write;
    this.values = [];
  }

  add(value, scale, note) {
    this.values = [...this.values.slice(1 - POINTS), value];
    this.figure.querySelector("output").textContent = this.write(value);
    const most = scale ?? Math.max(1, ...this.values);
    const start = POINTS - this.values.length;
    const at = (each, index) => `${start + index} ${(29 - (28 * Math.min(each, most)) / most).toFixed(2)}`;
    const line = "M" + this.values.map(at).join("L");
    this.figure.querySelector(".line").setAttribute("d", line);
    this.figure.querySelector(".area").setAttribute("d", `${line}L${POINTS - 1} 30L${start} 30Z`);
    this.figure.querySelector("small").textContent = note;
  }
}

const charts = {
  running: new Chart("c-running", String),
  waiting: new Chart("c-waiting", String),
  kv: new Chart("c-kv", (value) => `${(value * 100).toFixed(value > 0 && value < 0.1 ? 1 : 0)} %`),
  rate: new Chart("c-rate", compact),
};

function draw(figures, before) {
  const peak = (chart) => `peak ${chart.write(Math.max(0, ...chart.values))}`;
  charts.running.add(figures.running, null, `of ${figures.max_running} at most`);
  charts.waiting.add(figures.waiting, null, "");
  charts.waiting.figure.querySelector("small").textContent = peak(charts.waiting);
  charts.kv.add(figures.kv_used, 1, `${Math.round(figures.kv_cached * 100)} % more holds reusable prefixes`);
  if (before && figures.time > before.time) {
    const rate = (figures.generated_tokens - before.generated_tokens) / (figures.time - before.time);
    charts.rate.add(Math.max(0, rate), null, "");
    charts.rate.figure.querySelector("small").textContent = peak(charts.rate);
  }
  setState(figures.loading ? "loading" : figures.draining ? "draining" : "ready");
}

function setState(text) {
  $("state").textContent = text;
  $("dot").className = `dot ${text === "ready" ? "good" : text === "connecting" || text === "loading" ? "" : "bad"}`;
}

let feed = null;

async function watchFigures() {
  const control = (feed = new AbortController());
  let wait = 500;
  while (!control.signal.aborted) {
    try {
      let before = null;
      const response = await call("playground/stats", { signal: control.signal });
      for await (const figures of events(response)) {
        if (!page.models || page.models.loading) describe();
        draw(figures, before);
        before = figures;
        wait = 500;
      }
      setState("the server has ended the figures");
    } catch (error) {
      if (error.name === "AbortError") return;
      setState(error.status === 401 ? "a token is needed" : "not connected");
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(10000, wait * 2);
  }
}

async function describe() {
  page.models ??= { loading: true };
  try {
    const { data } = await (await call("v1/models")).json();
    const model = data[0];
    page.models = { loading: model.state === "loading" };
    $("model").textContent = model.id;
    const parts = [model.family, size(model.parameters), model.quantization || model.dtype, model.device];
    if (model.max_model_len) parts.push(`${model.max_model_len.toLocaleString("en")} tokens of context`);
    $("facts").textContent = parts.filter(Boolean).join(" · ");
    const chats = model.capabilities.includes("chat");
    $("mode-chat").disabled = !chats && !page.models.loading;
    $("mode-chat").parentElement.title = chats ? "" : "This model has no chat template.";
    document.title = `${model.id} – Lepton playground`;
  } catch (error) {
    page.models = null;
    if (error.status !== 401) setState("not connected");
  }
}

function size(parameters) {
  if (!parameters) return "";
  const units = [[1e9, "B"], [1e6, "M"], [1e3, "K"]];
  const [unit, name] = units.find(([least]) => parameters >= least) ?? [1, ""];
  return `${Number((parameters / unit).toPrecision(3))}${name} weights`;
}

// ---------------------------------------------------------------- beginning

function applyMode() {
  const chats = mode() === "chat";
  clear();
  $("output").classList.toggle("chat", chats);
  $("prompt-label").textContent = chats ? "Message" : "Prompt";
  $("prompt").placeholder = chats ? "Ask something" : "Once upon a time";
  $("clear").textContent = chats ? "New chat" : "Clear";
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  generate();
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    $("form").requestSubmit();
  }
});
$("stop").addEventListener("click", () => {
  stop();
  $("prompt").focus();
});
$("clear").addEventListener("click", clear);
addEventListener("keydown", (event) => event.key === "Escape" && stop());
for (const input of document.querySelectorAll("input[name=mode]")) input.addEventListener("change", applyMode);
$("token").addEventListener("change", () => {
  feed?.abort();
  watchFigures();
});
document.addEventListener("visibilitychange", () => {
  feed?.abort();
  if (!document.hidden) watchFigures();
});

applyMode();
watchTokens();
watchFigures();
