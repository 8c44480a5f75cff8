/**
 * Every table that housekeeping prunes: one round deletes more rows than one statement does, and
 * live rows stay.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { MIGRATION_FILES } from "../../src/db/migrations.ts";
import { createHousekeeping } from "../../worker/jobs/housekeeping.ts";
import { createKey, createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { handleAll } from "../orders/shop.ts";

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
});
afterAll(cleanup);

/** Two statements of 10,000 rows and a rest. */
const MANY = 20_500;
/** `$n` numbers the rows; `$t` is the tenant; ids that are pruned by time are UUIDv7 of `$ms`. */
const OLD_ID = `(lpad(to_hex($ms), 12, '0') || '7' || lpad(to_hex($n % 4096), 3, '0') || '8' || lpad(to_hex($n), 15, '0'))::uuid`;

/** The values of a row; `$age` is its age, which decides whether it is deleted. */
const ROWS: Record<string, { columns: string; values: string; live: string; over: string }> = {
  api_keys: {
    columns: "tenant_id, id, name, kind, prefix, key_hash, scopes, revoked_at",
    values:
      "$t, gen_random_uuid(), 'old', 'secret', 'ffs_', 'hash-' || $n || '$age', '{}', now() - interval '$age'",
    live: "89 days",
    over: "91 days",
  },
  audit_log: {
    columns: "tenant_id, id, at, actor_kind, actor_id, action, target, request_id",
    values: `$t, ${OLD_ID}, now() - interval '$age', 'user', 'u', 'a', 't', 'r'`,
    live: "729 days",
    over: "731 days",
  },
  event_batches: {
    columns: "tenant_id, batch_id, received_at, received, stored, duplicates, rejected, rolled_up_at",
    values: "$t, gen_random_uuid(), now() - interval '$age', 1, 1, 0, 0, now() - interval '$age'",
    live: "50 minutes",
    over: "70 minutes",
  },
  event_keys: {
    columns: "tenant_id, message_id, event_id, expires_at",
    values: "$t, 'm' || $n || '$age', gen_random_uuid(), now() + interval '1 day' - interval '$age'",
    live: "23 hours",
    over: "25 hours",
  },
  idempotency_keys: {
    columns: "tenant_id, principal, key, fingerprint, status, expires_at",
    values: "$t, 'user:u', 'k' || $n || '$age', '', 201, now() + interval '1 day' - interval '$age'",
    live: "23 hours",
    over: "25 hours",
  },
  invitations: {
    columns: "tenant_id, id, email, role, expires_at",
    values: "$t, gen_random_uuid(), 'a@example.com', 'customer', now() - interval '$age'",
    live: "29 days",
    over: "31 days",
  },
  notifications: {
    columns: "tenant_id, id, topic, subject_id, payload, created_at, stored_at, position",
    values:
      "$t, gen_random_uuid(), 'product.created', 'p', '{}', now(), now() - interval '$age', $n + hashtext('$age')",
    live: "89 days",
    over: "91 days",
  },
  order_commands: {
    columns:
      "tenant_id, group_id, position, id, order_id, kind, to_status, requested_by, state, created_at, due_at, finished_at",
    values:
      "$t, 'of commands', $n + hashtext('$age'), gen_random_uuid(), gen_random_uuid(), 'create', 'pending', 'u', 'done', now(), now(), now() - interval '$age'",
    live: "6 days",
    over: "8 days",
  },
  order_deduplications: {
    columns: "tenant_id, owner, deduplication_id, order_id, message_id, expires_at",
    values:
      "$t, '', 'd' || $n || '$age', gen_random_uuid(), gen_random_uuid(), now() + interval '5 minutes' - interval '$age'",
    live: "1 minute",
    over: "6 minutes",
  },
  order_history: {
    columns: "tenant_id, order_id, id, position, message_id, from_status, to_status, outcome, at",
    values: `$t, ${OLD_ID}, gen_random_uuid(), 1, gen_random_uuid(), 'queued', 'pending', 'applied', now() - interval '$age'`,
    live: "3649 days",
    over: "3651 days",
  },
  outbox: {
    columns: "tenant_id, id, topic, subject_id, payload, created_at, undone, announce_at",
    values: "$t, gen_random_uuid(), 'product.created', 'p', '{}', now() - interval '$age', '{}', now()",
    live: "50 minutes",
    over: "70 minutes",
  },
  password_resets: {
    columns: "token_hash, user_id, expires_at",
    values: "'h' || $n || '$age', $u, now() + interval '1 day' - interval '$age'",
    live: "23 hours",
    over: "25 hours",
  },
  outbox_failures: {
    columns: "tenant_id, consumer, event_id, subject_id, attempts, retry_at, error, died_at",
    values: "$t, 'webhooks', gen_random_uuid(), 'p', 10, now(), 'e', now() - interval '$age'",
    live: "29 days",
    over: "31 days",
  },
  refresh_tokens: {
    columns: "token_hash, family_id, user_id, tenant_id, expires_at",
    values: "'h' || $n || '$age', gen_random_uuid(), $u, $t, now() - interval '$age'",
    live: "23 hours",
    over: "25 hours",
  },
  sign_in_delays: {
    columns: "subject, failures, last_at, next_at",
    values: "'s' || $n || '$age', 1, now() - interval '$age', now()",
    live: "23 hours",
    over: "25 hours",
  },
  webhook_deliveries: {
    columns: "tenant_id, id, endpoint_id, event_id, topic, payload, status, created_at, finished_at",
    values:
      "$t, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'product.created', '{}', 'succeeded', now(), now() - interval '$age'",
    live: "29 days",
    over: "31 days",
  },
  workers: {
    columns: "name, started_at, seen_at, in_flight",
    values: "'w' || $n || '$age', now(), now() - interval '$age', '{}'",
    live: "50 minutes",
    over: "70 minutes",
  },
};

/**
 * Tables that go with another one's rows; each has a test of its own below or in
 * tests/catalogue-import.
 */
const WITH_ANOTHER = ["order_groups", "product_imports", "product_import_chunks", "product_import_errors"];

async function fill(table: string, age: string, rows: number): Promise<void> {
  const { columns, values } = ROWS[table] as (typeof ROWS)[string];
  const filled = values
    .replaceAll("$ms", `(extract(epoch from now() - interval '${age}') * 1000)::bigint`)
    .replaceAll("$age", age)
    .replaceAll("$t", `'${tenant.tenantId}'::uuid`)
    .replaceAll("$u", "(select id from users limit 1)")
    .replaceAll("$n", "n");
  await api.sql.unsafe(
    `insert into ${table} (${columns}) select ${filled} from generate_series(1, ${rows}) as series(n)`,
  );
}

const count = async (table: string) =>
  (await api.sql<{ n: number }[]>`select count(*)::int as n from ${api.sql(table)}`)[0]?.n;

test("the tests below know every table that docs/tables.md leaves to housekeeping", async () => {
  const text = await Bun.file(join(import.meta.dir, "../../docs/tables.md")).text();
  const named = [...text.matchAll(/^\| `(\w+)` \|[^|]*\| housekeeping/gm)].map(([, table]) => table);
  expect(named.toSorted()).toEqual([...Object.keys(ROWS), ...WITH_ANOTHER].toSorted());
});

describe("one round", () => {
  beforeAll(async () => {
    const json = { email: "tokens@example.com", password: "correct horse battery" };
    await api.call("POST", "/auth/register", { json });
    for (const table of Object.keys(ROWS)) {
      await api.sql`delete from ${api.sql(table)}`;
      const { live, over } = ROWS[table] as (typeof ROWS)[string];
      await fill(table, live, 3);
      await fill(table, over, MANY);
    }
    await createHousekeeping(api.deps, "housekeeping-test").runOnce();
  }, 120_000);

  test.each(Object.keys(ROWS))("leaves nothing in %s that is over, and what is not", async (table) => {
    expect(await count(table)).toBe(3);
  });
});

test("a kind that fails leaves the others to be pruned", async () => {
  await fill("workers", "70 minutes", 2);
  await api.sql`alter table event_batches rename to away`;
  await createHousekeeping(api.deps, "housekeeping-test").runOnce();
  await api.sql`alter table away rename to event_batches`;
  expect(await count("workers")).toBe(3);
});

describe("a group of orders", () => {
  const groups = async () =>
    (
      await api.sql<
        { id: string }[]
      >`select group_id as id from order_groups where tenant_id = ${tenant.tenantId}`
    ).map(({ id }) => id);
  const addCommand = (
    group: string,
    state: "done" | "waiting" | "dead",
    days: number,
    position: number,
  ) => api.sql`
    insert into order_commands (tenant_id, group_id, position, id, order_id, kind, to_status, requested_by, state,
      created_at, due_at, finished_at)
    values (${tenant.tenantId}, ${group}, ${position}, gen_random_uuid(), gen_random_uuid(), 'create', 'pending', 'u',
      ${state}, now(), now() + interval '1 hour', now() - ${days} * interval '1 day')`;
  const addGroup = (group: string) =>
    api.sql`insert into order_groups values (${tenant.tenantId}, ${group}, 10)`;

  test("goes with its last command, and no earlier", async () => {
    for (const group of ["idle", "recent", "waits", "dead"]) {
      await addGroup(group);
      await addCommand(group, "done", 8, 1);
    }
    await addCommand("recent", "done", 6, 2);
    await addCommand("waits", "waiting", 0, 2);
    await addCommand("dead", "dead", 8, 2);
    await api.deps.orders.prune();
    expect((await groups()).toSorted()).toEqual(["dead", "recent", "waits"]);
  });

  test("that lost its last command before the upgrade goes by the migration", async () => {
    await addGroup("former");
    await addGroup("current");
    await addCommand("current", "waiting", 0, 1);
    await api.sql.begin(async (tx) => {
      for (const text of (MIGRATION_FILES["0008_idle_order_groups"] ?? "").split("--> statement-breakpoint"))
        await tx.unsafe(text);
    });
    expect(await groups()).toContain("current");
    expect(await groups()).not.toContain("former");
  });

  test("stays when a command is placed while it is pruned", async () => {
    await addGroup("busy");
    await addCommand("busy", "done", 8, 1);
    let pruning: Promise<number> | undefined;
    await api.sql.begin(async (tx) => {
      await tx`update order_groups set next_position = next_position + 1
        where tenant_id = ${tenant.tenantId} and group_id = 'busy'`;
      pruning = api.deps.orders.prune();
      await waitForLock();
      await tx`insert into order_commands (tenant_id, group_id, position, id, order_id, kind, to_status, requested_by,
          state, created_at, due_at)
        values (${tenant.tenantId}, 'busy', 10, gen_random_uuid(), gen_random_uuid(), 'create', 'pending', 'u',
          'waiting', now(), now() + interval '1 hour')`;
    });
    await pruning;
    expect(await groups()).toContain("busy");
  });

  test("that comes again goes on above the positions of its history", async () => {
    const key = await createKey(api, tenant.tenantId, ["admin"]);
    const json = { id: "tea", name: "Tea", price: 1, quantity: 100 };
    expect((await api.call("POST", "/products", { as: key, json })).status).toBe(201);
    const order = {
      customerName: "Ada",
      customerEmail: "ada@example.com",
      items: [{ productId: "tea", quantity: 1 }],
    };
    const place = async () => (await api.call("POST", "/orders", { as: key, json: order })).body.id as string;
    const id = await place();
    await handleAll(api);
    const move = async (status: string) => {
      const { status: answer } = await api.call("PUT", `/orders/${id}/status`, { as: key, json: { status } });
      expect(answer).toBe(202);
      await handleAll(api);
    };
    await move("confirmed");
    await api.sql`update order_commands set finished_at = now() - interval '8 days'
      where tenant_id = ${tenant.tenantId} and order_id = ${id}`;
    await api.deps.orders.prune();
    expect(await groups()).not.toContain("ada@example.com");
    await move("shipped");
    const { history } = (await api.call("GET", `/orders/${id}`, { as: key })).body;
    expect(history.map(({ to }: { to: string }) => to)).toEqual(["pending", "confirmed", "shipped"]);
  });
});

/** Waits until some session waits for the lock of another. */
async function waitForLock(): Promise<void> {
  for (;;) {
    const [row] = await api.sql`
      select count(*)::int as n from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock'`;
    if (row?.n > 0) return;
    await Bun.sleep(5);
  }
}
