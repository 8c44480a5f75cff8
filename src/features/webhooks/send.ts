import {
  type ClientRequest,
  type IncomingMessage,
  type RequestOptions,
  request as requestHttp,
} from "node:http";
import { request as requestHttps } from "node:https";
import { VERSION } from "../../version.ts";
import type { Address } from "./address-guard.ts";

/**
 * One POST to addresses that were checked before. node:http rather than fetch: it takes our
 * `lookup` while TLS and the Host header keep the name, follows no redirect, keeps no cookie,
 * inflates nothing, and uses no proxy of the environment. Each message has a connection of its own.
 * The body of the answer is not read.
 */
export interface Message {
  url: URL;
  addresses: readonly Address[];
  headers: Record<string, string>;
  body: string;
  signal: AbortSignal;
  /** Certificate authorities beside the system's. */
  ca?: string;
}

export interface Reply {
  status: number;
  retryAfter: string | undefined;
}

/** Resolves with the answer's status; rejects when there is none. */
export function send({ url, addresses, headers, body, signal, ca }: Message): Promise<Reply> {
  const options: RequestOptions & { ca?: string } = {
    method: "POST",
    agent: false,
    signal,
    headers: {
      ...headers,
      "content-type": "application/json",
      "content-length": String(Buffer.byteLength(body)),
      "user-agent": `Footfall/${VERSION}`,
    },
    lookup: (_host, _options, callback) => callback(null, [...addresses]),
    ...(ca === undefined ? {} : { ca }),
  };
  const start = url.protocol === "https:" ? requestHttps : requestHttp;
  return new Promise((resolve, reject) => {
    const request: ClientRequest = start(url, options, (response: IncomingMessage) => {
      // What comes after the headers is the receiver's: it could be endless.
      response.on("error", () => {});
      response.destroy();
      resolve({ status: response.statusCode ?? 0, retryAfter: response.headers["retry-after"] });
    });
    request.on("error", reject);
    // An answer such as 101 ends the request with neither a response nor an error.
    request.on("close", () => reject(new Error("no answer")));
    request.end(body);
  });
}
