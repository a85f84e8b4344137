// What a server says of a call that failed. The reasons are those of lepton/v1/errors.proto.
import { type ServiceError, status } from "@grpc/grpc-js";

import { BadRequest, ErrorInfo, RetryInfo } from "../gen/google/rpc/error_details.js";
import { Status } from "../gen/google/rpc/status.js";

export interface Failure {
  code: status;
  message: string;
  /** The ErrorReason's name without its prefix (QUEUE_FULL); empty where gRPC itself answered. */
  reason: string;
  /** The reason's metadata, by name. */
  figures: Record<string, string>;
  /** Fields at fault: path to the value found and what is allowed. */
  fields: Record<string, string>;
  /** Seconds to wait before the same call; undefined where the server did not say. */
  retryAfter?: number;
}

/** Whether something thrown is the failure of a call. */
export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error;
}

/** Reads the details of a call's failure. */
export function explain(error: ServiceError): Failure {
  const failure: Failure = { code: error.code, message: error.details, reason: "", figures: {}, fields: {} };
  for (const packed of error.metadata.get("grpc-status-details-bin")) {
    if (!Buffer.isBuffer(packed)) continue;
    for (const { typeUrl, value } of Status.decode(packed).details) {
      switch (typeUrl) {
        case "type.googleapis.com/google.rpc.ErrorInfo": {
          const info = ErrorInfo.decode(value);
          failure.reason = info.reason;
          failure.figures = info.metadata;
          break;
        }
        case "type.googleapis.com/google.rpc.BadRequest":
          for (const { field, description } of BadRequest.decode(value).fieldViolations) {
            failure.fields[field] = description;
          }
          break;
        case "type.googleapis.com/google.rpc.RetryInfo": {
          const delay = RetryInfo.decode(value).retryDelay;
          if (delay !== undefined) failure.retryAfter = Number(delay.seconds) + delay.nanos / 1e9;
        }
      }
    }
  }
  return failure;
}

/** A failure in one line. */
export function describe({ code, reason, message, retryAfter }: Failure): string {
  const hint = retryAfter === undefined ? "" : `; try again in ${retryAfter} s`;
  return `${status[code]}${reason && ` (${reason})`}: ${message}${hint}`;
}
