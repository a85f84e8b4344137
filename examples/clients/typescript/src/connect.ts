// Channels with the settings that Lepton publishes for its clients.
import { readFileSync } from "node:fs";

import { type ChannelCredentials, type ClientOptions, credentials, Metadata } from "@grpc/grpc-js";

// Spreads calls over all addresses and tries those again that failed before they computed anything.
const SERVICE_CONFIG = readFileSync(new URL("../../service_config.json", import.meta.url), "utf8");

export interface Connection {
  target: string;
  credentials: ChannelCredentials;
  options: ClientOptions;
}

export interface Security {
  /** PEM file of the authority to trust. With it, or with `tls`, the connection is encrypted. */
  ca?: string | undefined;
  /** Encrypts, trusting the usual authorities where `ca` is left out. */
  tls?: boolean | undefined;
  /** PEM files of the client's own certificate, for a server that asks for one. */
  certificate?: string | undefined;
  key?: string | undefined;
  /** Sent with every call as `authorization: Bearer TOKEN`. It needs an encrypted connection. */
  token?: string | undefined;
}

/** What the constructor of a generated client takes. A target like dns:///name:50051 is balanced over. */
export function connection(target: string, security: Security = {}): Connection {
  return {
    target,
    credentials: channelCredentials(security),
    options: {
      "grpc.service_config": SERVICE_CONFIG,
      // A stream may be silent while its request waits; pings tell a slow server from a dead one.
      "grpc.keepalive_time_ms": 20_000,
      "grpc.keepalive_timeout_ms": 10_000,
      "grpc.max_receive_message_length": 64 * 1024 * 1024,
    },
  };
}

function channelCredentials({ ca, tls, certificate, key, token }: Security): ChannelCredentials {
  if (!tls && ca === undefined) {
    if (token !== undefined) throw new Error("a token is sent over TLS only: give `ca` or `tls`");
    return credentials.createInsecure();
  }
  const read = (path?: string) => (path === undefined ? null : readFileSync(path));
  const channel = credentials.createSsl(read(ca), read(key), read(certificate));
  if (token === undefined) return channel;
  const perCall = credentials.createFromMetadataGenerator((_, done) => {
    const metadata = new Metadata();
    metadata.set("authorization", `Bearer ${token}`);
    done(null, metadata);
  });
  return credentials.combineChannelCredentials(channel, perCall);
}
