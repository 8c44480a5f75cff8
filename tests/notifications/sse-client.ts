import { eventually, onCleanup } from "../harness.ts";

/**
 * A fetch-based client of an event stream, as for a browser, where EventSource can't send
 * credentials.
 */
export interface SseClient {
  status: number;
  headers: Headers;
  events: { id: string; event: string; data: Record<string, unknown> }[];
  /** Comments, which are the heartbeats. */
  comments: number;
  retryMs: number | null;
  ended: boolean;
  lastId(): string | undefined;
  subjects(): unknown[];
  close(): void;
  untilEvents(count: number): Promise<void>;
}

export async function openStream(
  url: string,
  key: string,
  { path = "/events/stream", headers = {} }: { path?: string; headers?: Record<string, string> } = {},
): Promise<SseClient> {
  const leaving = new AbortController();
  const response = await fetch(url + path, {
    headers: { authorization: `Bearer ${key}`, ...headers },
    signal: leaving.signal,
  });
  const client: SseClient = {
    status: response.status,
    headers: response.headers,
    events: [],
    comments: 0,
    retryMs: null,
    ended: false,
    lastId: () => client.events.at(-1)?.id,
    subjects: () => client.events.map(({ data }) => data.subjectId),
    close: () => leaving.abort(),
    async untilEvents(count) {
      await eventually(() => client.events.length >= count, { intervalMs: 5 });
    },
  };
  onCleanup(client.close);
  void readFrames(response, client)
    .catch(() => {})
    .finally(() => {
      client.ended = true;
    });
  return client;
}

async function readFrames(response: Response, client: SseClient): Promise<void> {
  if (response.status !== 200 || !response.body) return;
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of response.body) {
    text += decoder.decode(chunk as Uint8Array, { stream: true });
    const frames = text.split("\n\n");
    text = frames.pop() ?? "";
    for (const frame of frames) takeFrame(frame, client);
  }
}

function takeFrame(frame: string, client: SseClient): void {
  const fields = new Map<string, string>();
  for (const line of frame.split("\n")) {
    const colon = line.indexOf(":");
    const [name, value] = [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, "")];
    fields.set(name, fields.has(name) ? `${fields.get(name)}\n${value}` : value);
  }
  if (fields.has("")) client.comments += 1;
  if (fields.has("retry")) client.retryMs = Number(fields.get("retry"));
  const data = fields.get("data");
  if (data !== undefined)
    client.events.push({
      id: fields.get("id") ?? "",
      event: fields.get("event") ?? "",
      data: JSON.parse(data),
    });
}
