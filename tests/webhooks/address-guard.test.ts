/**
 * Nothing is sent into the operator's own network: by number, by name, by a name that resolves
 * anew, by redirect.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { join } from "node:path";
import { parseConfig } from "../../src/config.ts";
import {
  type Address,
  createAddressGuard,
  createWebhookDeliveries,
  createWebhooksService,
  resolveBySystem,
} from "../../src/features/webhooks/index.ts";
import { createWebhookDeliverer } from "../../worker/jobs/webhook-deliveries.ts";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, onCleanup, temporaryDirectory, testEnv } from "../harness.ts";
import { deliveriesOf, enqueue, makeDue, startReceiver } from "./stage.ts";

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
});
afterAll(cleanup);

const NOT_PUBLIC =
  "must have a host that the public DNS knows, with public addresses only; this one is misspelt, unknown or private";

const create = async (url: string) =>
  (await api.call("POST", "/webhooks", { as: tenant.key, json: { url } })).status;
const ipv4 = (...addresses: string[]): Address[] => addresses.map((address) => ({ address, family: 4 }));

const REFUSED = {
  loopback: ["127.0.0.1", "127.255.255.254", "[::1]"],
  "this host": ["0.0.0.0", "0.1.2.3", "[::]"],
  private: ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "[fc00::1]", "[fdff::1]", "[fec0::1]"],
  "link-local and metadata": ["169.254.169.254", "[fe80::1]", "[febf::1]", "[fd00:ec2::254]"],
  "what a cloud serves to its own machines": [
    "168.63.129.16",
    "161.26.0.10",
    "166.8.0.1",
    "166.11.255.254",
    "199.36.153.4",
    "199.36.153.11",
    "100.100.100.200",
    "192.0.0.192",
    "[::ffff:168.63.129.16]",
    "0xa83f8110",
  ],
  "carrier-grade NAT": ["100.64.0.1", "100.127.255.255"],
  "multicast and broadcast": ["224.0.0.1", "239.255.255.255", "255.255.255.255", "[ff02::1]"],
  "reserved and documentation": [
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "203.0.113.1",
    "240.0.0.1",
    "[2001:db8::1]",
  ],
  "IPv4 inside IPv6": [
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:0:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::1.1.1.1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::1]",
  ],
  "other spellings": [
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "127.1",
    "127.0.1",
    "0",
    "127.0.0.1.",
    "0x7f.0x0.0x0.0x1.",
    "１２７.０.０.１",
    "①②⑦.0.0.1",
    "127。0。0。1",
    "%31%32%37.0.0.1",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:ffff:7f00:0001]",
    "3232235777",
    "0xa9fea9fe",
  ],
  names: [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "a.localhost",
    "a.localhost.",
    "ｌocalhost",
    "nowhere.invalid",
  ],
};

describe("when an endpoint is made or changed", () => {
  for (const [kind, hosts] of Object.entries(REFUSED))
    test(`${kind} is refused`, async () => {
      for (const host of hosts)
        for (const authority of [host, `${host}:8443`])
          expect(`${authority} ${await create(`https://${authority}/hook`)}`).toBe(`${authority} 400`);
    });

  test("other schemes, credentials and rubbish are refused", async () => {
    for (const url of [
      "http://1.1.1.1/",
      "ftp://1.1.1.1/",
      "file:///etc/passwd",
      "gopher://1.1.1.1/",
      "javascript:alert(1)",
      "https://user@1.1.1.1/",
      "https://user:pass@1.1.1.1/",
      "https://:pass@1.1.1.1/",
      "https://1.1.1.1:99999/",
      "https://1.1.1.1 /",
      "https://",
      "https:///",
      "//1.1.1.1/",
      "1.1.1.1",
      "https://[::1",
      "https://1.1.1.1\0.example.com/",
    ])
      expect(`${url} ${await create(url)}`).toBe(`${url} 400`);
  });

  test("public addresses are taken, on any port, in one spelling", async () => {
    for (const [given, stored] of [
      ["https://1.1.1.1/", "https://1.1.1.1/"],
      ["HTTPS://1.1.1.1:8443/a?b=c", "https://1.1.1.1:8443/a?b=c"],
      ["https://[2606:4700:4700::1111]/", "https://[2606:4700:4700::1111]/"],
      ["https://16843009/", "https://1.1.1.1/"],
      ["https:1.1.1.1", "https://1.1.1.1/"],
    ] as const) {
      const { status, body } = await api.call("POST", "/webhooks", { as: tenant.key, json: { url: given } });
      expect([status, body.url]).toEqual([201, stored]);
    }
  });

  test("a name is refused when any of its addresses is not public, and is told no more than that", async () => {
    const answers: Record<string, Address[]> = {
      "public.test": ipv4("1.1.1.1", "1.0.0.1"),
      "mixed.test": [...ipv4("1.1.1.1"), { address: "fd00::1", family: 6 }],
      "inside.test": ipv4("10.0.0.5"),
      "scoped.test": [{ address: "fe80::1%eth0", family: 6 }],
      "odd.test": ipv4("not an address"),
      "nothing.test": [],
    };
    const resolve = async (host: string) => {
      const found = answers[host];
      if (!found) throw Object.assign(new Error("ENOTFOUND"), { code: "ENOTFOUND" });
      return found;
    };
    const guard = createAddressGuard({ resolve, allowPrivate: false });
    const webhooks = createWebhooksService({ db: api.deps.db, guard });
    const principal = { kind: "operator", tenantId: tenant.tenantId } as const;
    const ctx = { tenantId: tenant.tenantId, principal, requestId: "test", sellerId: null };
    const make = (host: string) =>
      webhooks.createWebhook(ctx, { url: `https://${host}/`, topics: [], description: null }).then(
        () => "made",
        (error: Error) => error.message,
      );
    expect(await make("public.test")).toBe("made");
    expect(await make("public.test.")).toBe("made");
    const refusals = ["mixed.test", "inside.test", "scoped.test", "odd.test", "nothing.test", "absent.test"];
    expect(new Set(await Promise.all(refusals.map(make)))).toEqual(
      new Set([`The body is not valid: url ${NOT_PUBLIC}.`]),
    );
    const made = await webhooks.createWebhook(ctx, {
      url: "https://public.test/",
      topics: [],
      description: null,
    });
    const moved = webhooks.updateWebhook(ctx, made.id, { url: "https://inside.test/" });
    expect(await moved.catch((error) => error.code)).toBe("invalid_input");
    expect((await webhooks.getWebhook(ctx, made.id)).url).toBe("https://public.test/");
  });

  test("a name server that does not answer is not waited for beyond the deadline", async () => {
    const guard = createAddressGuard({ resolve: () => new Promise(() => {}), allowPrivate: false });
    const asked = guard.findAddresses(new URL("https://slow.test/"), 20);
    expect(await asked.catch((error) => error.message)).toBe(NOT_PUBLIC);
  });
});

describe("when it is delivered", () => {
  /** An endpoint that was taken when its name still had a public address. */
  async function insertWebhook(own: TestTenant, url: string): Promise<{ id: string }> {
    const { id } = (await api.call("POST", "/webhooks", { as: own.key, json: { url: "https://1.1.1.1/" } }))
      .body;
    await api.sql`update webhook_endpoints set url = ${url} where id = ${id}`;
    return { id };
  }

  const deliverer = (options: {
    resolve: (host: string) => Promise<Address[]>;
    allowPrivate: boolean;
    ca?: string;
  }) => {
    const { db, metrics, log } = api.deps;
    const webhookDeliveries = createWebhookDeliveries({
      sql: db.write,
      guard: createAddressGuard(options),
      metrics,
      log,
      ca: options.ca,
      timeoutMs: 5_000,
    });
    return createWebhookDeliverer({ ...api.deps, webhookDeliveries });
  };

  test("a name that has moved inside is refused without a connection", async () => {
    const own = await createTenant(api);
    const receiver = startReceiver();
    const webhook = await insertWebhook(own, `https://rebound.test:${receiver.port}/`);
    await enqueue(api, own.tenantId);
    expect(await deliverer({ resolve: async () => ipv4("127.0.0.1"), allowPrivate: false }).runOnce()).toBe(
      1,
    );
    expect((await deliveriesOf(api, own, webhook))[0]).toMatchObject({
      status: "pending",
      attempts: 1,
      lastStatus: null,
      lastError: `The URL ${NOT_PUBLIC}.`,
    });
    // Stored when private targets were allowed, or inserted past the API.
    for (const url of [`${receiver.url}/`, `https://127.0.0.1:${receiver.port}/`, "https://localhost/"]) {
      await api.sql`update webhook_endpoints set url = ${url} where id = ${webhook.id}`;
      await makeDue(api, own.tenantId);
      expect(await deliverer({ resolve: resolveBySystem, allowPrivate: false }).runOnce()).toBe(1);
    }
    expect((await deliveriesOf(api, own, webhook))[0]).toMatchObject({ status: "pending", attempts: 4 });
    expect(receiver.received).toEqual([]);
    await api.sql`delete from webhook_endpoints`;
  });

  test("the name is resolved once, and the connection goes to the address that was checked", async () => {
    const own = await createTenant(api);
    const seen: string[] = [];
    const listen = (hostname: string, port: number) => {
      const fetch = (request: Request) => {
        seen.push(`${hostname} was sent for ${request.headers.get("host")}`);
        return new Response(null, { status: 204 });
      };
      const server = Bun.serve({ hostname, port, fetch });
      onCleanup(() => server.stop(true));
      return server;
    };
    const { port = 0 } = listen("127.0.0.2", 0);
    listen("127.0.0.1", port);
    const asked: string[] = [];
    // The second answer is the one that an attacker's name server would give between check and use.
    const resolve = async (host: string) => {
      asked.push(host);
      return ipv4(asked.length === 1 ? "127.0.0.2" : "127.0.0.1");
    };
    const webhook = await insertWebhook(own, `http://rebinding.test:${port}/hook`);
    await enqueue(api, own.tenantId);
    expect(await deliverer({ resolve, allowPrivate: true }).runOnce()).toBe(1);
    expect((await deliveriesOf(api, own, webhook))[0]).toMatchObject({
      status: "succeeded",
      lastStatus: 204,
    });
    expect(asked).toEqual(["rebinding.test"]);
    expect(seen).toEqual([`127.0.0.2 was sent for rebinding.test:${port}`]);
    await api.sql`delete from webhook_endpoints`;
  });

  test("over TLS the certificate must be that of the name, whatever the address", async () => {
    const own = await createTenant(api);
    const names: unknown[] = [];
    const servers = ["hooks.test", "other.test"].map((name) => {
      const { key, cert } = makeCertificate(name);
      const server = createServer({ key, cert }, (request, response) => {
        names.push([(request.socket as unknown as { servername: string }).servername, request.headers.host]);
        response.writeHead(204).end();
      });
      onCleanup(() => void server.close());
      return { cert, server };
    });
    const ports: number[] = [];
    for (const { server } of servers) {
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.2", resolve));
      ports.push((server.address() as { port: number }).port);
    }
    const ca = servers.map(({ cert }) => cert).join("\n");
    const send = deliverer({ resolve: async () => ipv4("127.0.0.2"), allowPrivate: true, ca });
    const right = await insertWebhook(own, `https://hooks.test:${ports[0]}/`);
    const wrong = await insertWebhook(own, `https://hooks.test:${ports[1]}/`);
    await enqueue(api, own.tenantId);
    expect(await send.runOnce()).toBe(2);
    expect((await deliveriesOf(api, own, right))[0]).toMatchObject({ status: "succeeded", lastStatus: 204 });
    expect((await deliveriesOf(api, own, wrong))[0]).toMatchObject({
      status: "pending",
      lastStatus: null,
      lastError: "ERR_TLS_CERT_ALTNAME_INVALID",
    });
    expect(names).toEqual([["hooks.test", `hooks.test:${ports[0]}`]]);
    await api.sql`delete from webhook_endpoints`;
  });

  test("a proxy of the environment is not asked: it would resolve the name itself", async () => {
    const proxy = startReceiver();
    const receiver = startReceiver();
    const script = `
      const { send } = await import(${JSON.stringify(join(import.meta.dir, "../../src/features/webhooks/send.ts"))});
      const { status } = await send({ url: new URL("http://proxied.test:${receiver.port}/"), headers: {}, body: "{}",
        addresses: [{ address: "127.0.0.1", family: 4 }], signal: AbortSignal.timeout(5000) });
      console.log(status);`;
    const env = {
      PATH: process.env.PATH ?? "",
      HTTP_PROXY: proxy.url,
      http_proxy: proxy.url,
      HTTPS_PROXY: proxy.url,
    };
    const child = Bun.spawn([process.execPath, "--no-env-file", "-e", script], { env, stdout: "pipe" });
    expect(await new Response(child.stdout).text()).toBe("204\n");
    expect([proxy.received.length, receiver.received.length]).toEqual([0, 1]);
  });
});

test("private targets are for development: production does not start with them", () => {
  const env = testEnv({ WEBHOOK_ALLOW_PRIVATE: "true" });
  expect(parseConfig(env).webhookAllowPrivate).toBe(true);
  expect(parseConfig(testEnv()).webhookAllowPrivate).toBe(false);
  expect(() => parseConfig({ ...env, NODE_ENV: "production" })).toThrow("WEBHOOK_ALLOW_PRIVATE");
});

/** A self-signed certificate for one name. */
function makeCertificate(name: string): { key: string; cert: string } {
  const folder = temporaryDirectory("certificate");
  const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  const made = Bun.spawnSync(
    [
      "openssl",
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:prime256v1",
      "-nodes",
      "-days",
      "2",
    ].concat(["-keyout", key, "-out", cert, "-subj", `/CN=${name}`, "-addext", `subjectAltName=DNS:${name}`]),
  );
  if (made.exitCode !== 0) throw new Error(made.stderr.toString());
  return { key: readFileSync(key, "utf8"), cert: readFileSync(cert, "utf8") };
}
