// Calls as promises and async iterables.
import { type CallOptions, type ClientUnaryCall, Metadata, type ServiceError } from "@grpc/grpc-js";

import type { GenerateResponse, GenerationServiceClient } from "../gen/lepton/v1/generation.js";
import { GenerateRequest } from "../gen/lepton/v1/generation.js";

export interface Limits {
  /** Fails the call when it takes longer. Seconds. */
  deadline?: number;
  /** Aborting it cancels the call: the server stops the work within one step. */
  signal?: AbortSignal;
}

type Unary<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

function options({ deadline }: Limits): Partial<CallOptions> {
  return deadline === undefined ? {} : { deadline: Date.now() + deadline * 1000 };
}

/** The events of a stream. Leaving the loop early cancels the call. */
export async function* generate(
  client: GenerationServiceClient,
  request: Parameters<typeof GenerateRequest.fromPartial>[0],
  limits: Limits = {},
): AsyncGenerator<NonNullable<GenerateResponse["event"]>> {
  const call = client.generate(GenerateRequest.fromPartial(request), new Metadata(), options(limits));
  const cancel = () => call.cancel();
  limits.signal?.addEventListener("abort", cancel, { once: true });
  if (limits.signal?.aborted) cancel();
  try {
    for await (const { event } of call as AsyncIterable<GenerateResponse>) {
      if (event !== undefined) yield event; // a kind that this client does not know is skipped
    }
  } finally {
    limits.signal?.removeEventListener("abort", cancel);
    cancel();
  }
}

/** The answer of a unary method, given as `client.complete.bind(client)`. */
export function call<Request, Response>(
  method: Unary<Request, Response>,
  request: Request,
  limits: Limits = {},
): Promise<Response> {
  return new Promise((resolve, reject) => {
    const running = method(request, new Metadata(), options(limits), (error, response) => {
      limits.signal?.removeEventListener("abort", cancel);
      error ? reject(error) : resolve(response);
    });
    const cancel = () => running.cancel();
    limits.signal?.addEventListener("abort", cancel, { once: true });
    if (limits.signal?.aborted) cancel();
  });
}
