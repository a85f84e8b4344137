// Against the server that LEPTON_TARGET names; see README.md.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { status } from "@grpc/grpc-js";

import { call, generate } from "../src/calls.js";
import { connection, type Security } from "../src/connect.js";
import { explain, type Failure, isServiceError } from "../src/failure.js";
import { CompleteRequest, FinishReason, GenerationServiceClient } from "../gen/lepton/v1/generation.js";
import { GetStatsRequest, StatsServiceClient } from "../gen/lepton/v1/stats.js";

const TARGET = process.env.LEPTON_TARGET;
assert(TARGET, "LEPTON_TARGET names no server; see README.md");

const PROMPT = { $case: "text", value: "Once upon a time" } as const;
const { target, credentials, options } = connection(TARGET);
const generation = new GenerationServiceClient(target, credentials, options);
const stats = new StatsServiceClient(target, credentials, options);
after(() => {
  generation.close();
  stats.close();
});

async function failureOf(work: Promise<unknown>): Promise<Failure> {
  try {
    await work;
  } catch (error) {
    assert(isServiceError(error), String(error));
    return explain(error);
  }
  assert.fail("the call succeeded");
}

async function drain(events: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of events);
}

/** Waits until nothing runs and something was aborted; the runner's time limit bounds it. */
async function idle(): Promise<void> {
  for (;;) {
    const now = (await call(stats.getStats.bind(stats), GetStatsRequest.create(), { deadline: 30 })).stats;
    if (now !== undefined && now.running === 0 && now.waiting === 0 && now.aborted > 0n) return;
  }
}

test("streams", { timeout: 60_000 }, async () => {
  let text = "";
  let tokens = 0;
  let deltas = 0;
  let promptTokens = 0;
  let reason: FinishReason | undefined;
  const request = { prompt: PROMPT, stop: { maxTokens: 12, ignoreEos: true } };
  for await (const event of generate(generation, request, { deadline: 60 })) {
    if (event.$case === "started") promptTokens = event.value.promptTokens;
    if (event.$case === "finished") reason = event.value.reason;
    if (event.$case === "delta") {
      deltas++;
      tokens += event.value.tokenIds.length;
      text += event.value.text;
    }
  }
  assert(promptTokens > 0 && text.length > 0 && deltas > 1);
  assert.equal(tokens, 12);
  assert.equal(reason, FinishReason.FINISH_REASON_LENGTH);
});

test("an aborted signal stops the work", { timeout: 60_000 }, async () => {
  const controller = new AbortController();
  const request = { prompt: PROMPT, stop: { maxTokens: 400, ignoreEos: true } };
  const reading = (async () => {
    for await (const event of generate(generation, request, { signal: controller.signal, deadline: 60 })) {
      if (event.$case === "delta") controller.abort();
    }
  })();
  assert.equal((await failureOf(reading)).code, status.CANCELLED);
  await idle();
});

test("leaving the loop stops the work", { timeout: 60_000 }, async () => {
  const request = { prompt: PROMPT, stop: { maxTokens: 400, ignoreEos: true } };
  for await (const event of generate(generation, request, { deadline: 60 })) {
    if (event.$case === "delta") break;
  }
  await idle();
});

test("a deadline", { timeout: 60_000 }, async () => {
  const request = CompleteRequest.fromPartial({ prompt: PROMPT });
  const failure = await failureOf(call(generation.complete.bind(generation), request, { deadline: 0.001 }));
  assert.equal(failure.code, status.DEADLINE_EXCEEDED);
});

test("a bad request names the field", { timeout: 60_000 }, async () => {
  const failure = await failureOf(drain(generate(generation, { prompt: PROMPT, sampling: { topP: 2 } })));
  assert.equal(failure.code, status.INVALID_ARGUMENT);
  assert.equal(failure.reason, "INVALID_FIELD");
  assert.match(failure.fields["sampling.top_p"] ?? "", /2/);
});

test("a refusal says when to try again", { timeout: 60_000 }, async () => {
  const request = { prompt: PROMPT, maxQueueTime: { seconds: 0n, nanos: 1 } };
  const failure = await failureOf(drain(generate(generation, request)));
  assert.equal(failure.code, status.RESOURCE_EXHAUSTED);
  assert.equal(failure.reason, "QUEUE_TIMEOUT");
  assert(failure.retryAfter !== undefined && failure.retryAfter > 0);
});

test("TLS with a token", { timeout: 60_000, skip: !process.env.LEPTON_TLS_TARGET }, async () => {
  const security: Security = { ca: process.env.LEPTON_CA, token: process.env.LEPTON_TOKEN };
  const secure = connection(process.env.LEPTON_TLS_TARGET ?? "", security);
  const client = new GenerationServiceClient(secure.target, secure.credentials, secure.options);
  try {
    const request = CompleteRequest.fromPartial({ prompt: PROMPT, stop: { maxTokens: 4, ignoreEos: true } });
    const { choices } = await call(client.complete.bind(client), request, { deadline: 60 });
    assert.equal(choices[0]?.tokenIds.length, 4);
  } finally {
    client.close();
  }
});

test("a token is not sent in plaintext", () => {
  assert.throws(() => connection("localhost:1", { token: "secret" }), /TLS/);
});
