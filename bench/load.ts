/**
 * Closed-loop HTTP load against loopback: `oha` when it is on the PATH, else a small keep-alive
 * client of our own. That one is slower, since it shares a core with what it measures. The result
 * says which one ran.
 */
export interface Load {
  url: string;
  method: "GET" | "POST";
  headers: Record<string, string>;
  body?: string;
  connections: number;
  seconds: number;
}

export interface LoadResult {
  generator: "oha" | "built-in";
  requestsPerSecond: number;
  p50Ms: number;
  p99Ms: number;
  /** Answers by status. Any status but the expected one makes a measurement worthless. */
  statuses: Record<string, number>;
}

export async function runLoad(load: Load): Promise<LoadResult> {
  return Bun.which("oha") ? runOha(load) : runBuiltIn(load);
}

/** Throws unless every answer had this status. */
export function expectOnly(status: number, { statuses }: LoadResult): void {
  const others = Object.keys(statuses).filter((one) => one !== String(status));
  if (others.length > 0) throw new Error(`expected only ${status}, got ${JSON.stringify(statuses)}`);
}

async function runOha({ url, method, headers, body, connections, seconds }: Load): Promise<LoadResult> {
  const bodyFile = `${process.env.TMPDIR ?? "/tmp"}/footfall-bench-body-${process.pid}`;
  const args = [
    "oha",
    "--no-tui",
    "--output-format",
    "json",
    "-z",
    `${seconds}s`,
    "-c",
    String(connections),
    "-m",
    method,
  ];
  for (const [name, value] of Object.entries(headers)) args.push("-H", `${name}: ${value}`);
  if (body !== undefined) {
    await Bun.write(bodyFile, body);
    args.push("-D", bodyFile);
  }
  const child = Bun.spawn([...args, url], { stdout: "pipe", stderr: "inherit" });
  const report = (await new Response(child.stdout).json()) as OhaReport;
  return {
    generator: "oha",
    requestsPerSecond: report.summary.requestsPerSec,
    p50Ms: report.latencyPercentiles.p50 * 1000,
    p99Ms: report.latencyPercentiles.p99 * 1000,
    statuses: report.statusCodeDistribution,
  };
}

interface OhaReport {
  summary: { requestsPerSec: number };
  latencyPercentiles: { p50: number; p99: number };
  statusCodeDistribution: Record<string, number>;
}

async function runBuiltIn({
  url,
  method,
  headers,
  body = "",
  connections,
  seconds,
}: Load): Promise<LoadResult> {
  const { hostname, port, pathname, search } = new URL(url);
  const lines = Object.entries({ host: hostname, ...headers, "content-length": Buffer.byteLength(body) });
  const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const request = Buffer.from(`${method} ${pathname}${search} HTTP/1.1\r\n${head}\r\n${body}`);
  const latencies: number[] = [];
  const statuses: Record<string, number> = {};
  const until = performance.now() + seconds * 1000;
  const finished: Promise<void>[] = [];
  for (let i = 0; i < connections; i += 1) {
    const { promise, resolve } = Promise.withResolvers<void>();
    finished.push(promise);
    let sentAt = 0;
    let pending: Buffer = Buffer.alloc(0);
    const send = (socket: Bun.Socket) => {
      sentAt = performance.now();
      socket.write(request);
    };
    await Bun.connect({
      hostname,
      port: Number(port),
      socket: {
        open: send,
        data(socket, chunk) {
          pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
          const status = completeAnswer(pending);
          if (status === null) return;
          pending = Buffer.alloc(0);
          latencies.push(performance.now() - sentAt);
          statuses[status] = (statuses[status] ?? 0) + 1;
          if (performance.now() < until) return send(socket);
          socket.end();
          resolve();
        },
        close: () => resolve(),
      },
    });
  }
  await Promise.all(finished);
  latencies.sort((a, b) => a - b);
  const at = (share: number) => latencies[Math.floor(latencies.length * share)] ?? Number.NaN;
  return {
    generator: "built-in",
    requestsPerSecond: latencies.length / seconds,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    statuses,
  };
}

/** The status once head and body (by Content-Length) have arrived, else null. */
function completeAnswer(bytes: Buffer): string | null {
  const headEnd = bytes.indexOf("\r\n\r\n");
  if (headEnd === -1) return null;
  const head = bytes.subarray(0, headEnd).toString("latin1");
  const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
  return bytes.length >= headEnd + 4 + length ? head.slice(9, 12) : null;
}
