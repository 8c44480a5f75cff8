/**
 * No statement on the way of a domain event depends on an estimate: whatever Postgres believes of
 * the tables, it finds rows by the intended index. auto_explain tells what it really does.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import postgres, { type Sql } from "postgres";
import { storeNotifications } from "../../src/features/notifications/repository.ts";
import { claimAnnouncements, releaseAnnouncements } from "../../src/features/outbox/repository.ts";
import { selectWaiting } from "../../src/features/outbox/waiting-repository.ts";
import { claimDeliveries, insertDeliveries } from "../../src/features/webhooks/deliveries-repository.ts";
import { createTenant, createTestApi, type TestApi } from "../factories.ts";
import { cleanup, onCleanup } from "../harness.ts";

interface PlanNode {
  "Node Type": string;
  "Relation Name"?: string;
  "Index Name"?: string;
  Plans?: PlanNode[];
}

let api: TestApi;
let explained: Sql;
let plans: PlanNode[] = [];
let tenantId: string;
let endpointId: string;

const ROWS = 20_000;

beforeAll(async () => {
  api = await createTestApi();
  ({ tenantId } = await createTenant(api));
  explained = postgres(api.config.databaseUrl, {
    max: 1,
    onnotice: ({ message = "" }) => {
      const start = message.indexOf("{");
      if (message.includes("plan:") && start > 0) plans.push(JSON.parse(message.slice(start)).Plan);
    },
  });
  onCleanup(() => explained.end({ timeout: 5 }));
  await explained.unsafe(`load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_format = 'json';
    set auto_explain.log_level = 'notice'; set client_min_messages = 'notice'`);
  await api.sql`alter table outbox set (autovacuum_enabled = off)`;
  await api.sql`alter table webhook_deliveries set (autovacuum_enabled = off)`;
  endpointId = crypto.randomUUID();
  await api.sql`insert into webhook_endpoints (tenant_id, id, url, topics, secret, status, created_at, updated_at)
    values (${tenantId}, ${endpointId}, 'http://127.0.0.1:1/', '{}', 'secret', 'enabled', now(), now())`;
});
afterAll(cleanup);

/** Events and deliveries that are over, or those that wait. */
async function fill(waiting: boolean): Promise<void> {
  await api.sql`insert into outbox (tenant_id, id, topic, subject_id, payload, undone, created_at, announce_at)
    select ${tenantId}, gen_random_uuid(), 'product.updated', 'p-' || n % 500, '{}',
      case when ${waiting} then '{notifications,webhooks}' else '{}' end::text[], now(), now() - interval '1 minute'
    from generate_series(1, ${ROWS}) n`;
  await api.sql`insert into webhook_deliveries (tenant_id, id, endpoint_id, event_id, topic, payload, status, attempts,
      next_attempt_at, created_at, subject_id, sequence)
    select ${tenantId}, gen_random_uuid(), ${endpointId}, gen_random_uuid(), 'product.updated', '{}',
      case when ${waiting} then 'pending' else 'succeeded' end, n % 2,
      case when ${waiting} then now() - interval '1 minute' end, now(), 'p-' || n % 500, n
    from generate_series(1, ${ROWS}) n`;
}

/** What Postgres believes, against what there is. */
const BELIEFS: Record<string, () => Promise<void>> = {
  async "nothing is known"() {
    await fill(true);
  },
  async "nothing was undone"() {
    await fill(false);
    await api.sql`analyze outbox, webhook_deliveries`;
    await fill(true);
  },
  async "the tables were empty"() {
    await api.sql`analyze outbox, webhook_deliveries`;
    await fill(true);
  },
  async "everything was undone"() {
    await fill(true);
    await api.sql`analyze outbox, webhook_deliveries`;
    await api.sql`update outbox set undone = '{}' where sequence % 100 <> 0`;
    await api.sql`update webhook_deliveries set status = 'succeeded' where sequence % 100 <> 0`;
  },
};

async function explain(work: (sql: Sql) => Promise<unknown>): Promise<string[]> {
  plans = [];
  await work(explained);
  const found: string[] = [];
  const visit = (node: PlanNode) => {
    const relation = node["Relation Name"];
    if ((relation === "outbox" || relation === "webhook_deliveries") && node["Node Type"] !== "ModifyTable")
      found.push(`${relation}: ${node["Index Name"] ?? node["Node Type"]}`);
    node.Plans?.forEach(visit);
  };
  plans.forEach(visit);
  return [...new Set(found)].sort();
}

describe.each(Object.keys(BELIEFS))("when %s", (belief) => {
  beforeAll(async () => {
    await api.sql`truncate outbox, webhook_deliveries, notifications, notification_feeds`;
    await BELIEFS[belief]?.();
  });
  const refs = () => api.sql<{ tenantId: string; id: string }[]>`
    select tenant_id as "tenantId", id from outbox where undone <> '{}' order by sequence limit 25`;

  test("each statement uses the index that it was written for", async () => {
    const some = await refs();
    const used = {
      selectWaiting: await explain((sql) => selectWaiting(sql, "webhooks", [tenantId], 500)),
      claimAnnouncements: await explain((sql) => claimAnnouncements(sql, 1_000)),
      releaseAnnouncements: await explain((sql) => releaseAnnouncements(sql, some)),
      storeNotifications: await explain((sql) => storeNotifications(sql, some)),
      insertDeliveries: await explain((sql) => insertDeliveries(sql, some)),
      claimDeliveries: await explain((sql) =>
        claimDeliveries(sql, {
          failing: false,
          slots: 64,
          slotsPerTenant: 48,
          slotsPerEndpoint: 4,
          busy: [],
          leaseSeconds: 60,
        }),
      ),
    };
    expect(used).toEqual({
      selectWaiting: ["outbox: outbox_webhooks"],
      // Joined by the key; a small table is read instead.
      claimAnnouncements: [
        expect.stringMatching(/^outbox: (outbox_tenant_id_id_pk|Seq Scan)$/),
        "outbox: outbox_undone",
      ],
      releaseAnnouncements: ["outbox: outbox_tenant_id_id_pk"],
      storeNotifications: ["outbox: outbox_tenant_id_id_pk"],
      insertDeliveries: ["outbox: outbox_tenant_id_id_pk"],
      claimDeliveries: [
        "webhook_deliveries: webhook_deliveries_retry",
        "webhook_deliveries: webhook_deliveries_tenant_id_id_pk",
        "webhook_deliveries: webhook_deliveries_untried",
      ],
    });
  });
});
