// Streams a completion to standard output: npm start -- --target localhost:50051 --prompt "Once upon a time"
import { parseArgs } from "node:util";

import { generate } from "./calls.js";
import { connection } from "./connect.js";
import { describe, explain, isServiceError } from "./failure.js";
import { FinishReason, GenerationServiceClient } from "../gen/lepton/v1/generation.js";

const { values } = parseArgs({
  options: {
    target: { type: "string", default: "localhost:50051" },
    prompt: { type: "string", default: "Once upon a time" },
    "max-tokens": { type: "string", default: "64" },
    deadline: { type: "string", default: "60" },
    ca: { type: "string" },
    tls: { type: "boolean" },
    token: { type: "string" },
  },
});

const { target, credentials, options } = connection(values.target, {
  ca: values.ca,
  tls: values.tls,
  token: values.token ?? process.env.LEPTON_TOKEN,
});
const client = new GenerationServiceClient(target, credentials, options);
const interrupt = new AbortController();
process.once("SIGINT", () => interrupt.abort());
try {
  const request = {
    prompt: { $case: "text", value: values.prompt },
    stop: { maxTokens: Number(values["max-tokens"]) },
  } as const;
  for await (const event of generate(client, request, { deadline: Number(values.deadline), signal: interrupt.signal })) {
    if (event.$case === "delta") process.stdout.write(event.value.text);
    if (event.$case === "finished") {
      const { reason, usage } = event.value;
      console.log(`\n[${FinishReason[reason]}, ${usage?.generatedTokens} tokens]`);
    }
  }
} catch (error) {
  if (!isServiceError(error)) throw error;
  const failure = explain(error);
  console.error(describe(failure));
  for (const [field, description] of Object.entries(failure.fields)) console.error(`  ${field}: ${description}`);
  process.exitCode = 1;
} finally {
  client.close();
}
