/** Changing and resetting passwords: who may, what it ends, and what a stranger learns from it. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { SMTPServer } from "smtp-server";
import { createSignInDelays, pruneSignInDelays } from "../../src/features/identity/index.ts";
import { createPerson, createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, eventually, onCleanup, runFootfall } from "../harness.ts";

const OLD = "correct horse battery";
const NEW = "a better battery staple";

let api: TestApi;
let tenant: TestTenant;
let mails: { to: string; text: string }[] = [];
let people = 0;
/** Mails that the mail server has refused; null while it takes them. */
let refused: number | null = null;

beforeAll(async () => {
  const smtp = await startMailServer();
  api = await createTestApi({
    SMTP_URL: `smtp://127.0.0.1:${smtp}`,
    SMTP_FROM: "Footfall <footfall@example.com>",
    PUBLIC_URL: "https://analytics.example.com/",
  });
});
beforeEach(async () => {
  tenant = await createTenant(api);
});
afterEach(() => {
  mails = [];
});
afterAll(cleanup);

/** A mail server that takes everything, unless told to refuse it; returns its port. */
function startMailServer(): Promise<number> {
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ["STARTTLS", "AUTH"],
    onData(stream, session, done) {
      let text = "";
      stream.on("data", (chunk) => {
        text += chunk;
      });
      stream.on("end", () => {
        if (refused !== null) {
          refused += 1;
          done(new Error("not now"));
          return;
        }
        // Long lines are folded for the way (RFC 2045).
        mails.push({
          to: session.envelope.rcptTo[0]?.address ?? "",
          text: text.replaceAll("=\r\n", "").replaceAll("=3D", "="),
        });
        done();
      });
    },
  });
  onCleanup(() => new Promise<void>((resolve) => server.close(() => resolve())));
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve((server.server.address() as { port: number }).port));
  });
}

async function register(tenantName?: string) {
  people += 1;
  const email = `person-${people}@example.com`;
  const { body } = await api.call("POST", "/auth/register", { json: { email, password: OLD, tenantName } });
  return { email, ...body } as {
    email: string;
    token: string;
    refreshToken: string;
    user: { id: string; tenantId: string };
  };
}

const login = (email: string, password: string) =>
  api.call("POST", "/auth/login", { json: { email, password } });
const me = (as: string) => api.call("GET", "/auth/me", { as });
const refresh = (refreshToken: string) => api.call("POST", "/auth/refresh", { json: { refreshToken } });
const change = (as: string, currentPassword: string, newPassword: string) =>
  api.call("POST", "/auth/password", { as, json: { currentPassword, newPassword } });
const ask = (email: string) => api.call("POST", "/auth/password-reset", { json: { email } });
const confirm = (token: string, password = NEW) =>
  api.call("POST", "/auth/password-reset/confirm", { json: { token, password } });

/** A checked token is remembered for two seconds. */
async function expectEnded(session: { token: string; refreshToken: string }): Promise<void> {
  await eventually(async () => expect((await me(session.token)).status).toBe(401), { timeoutMs: 5_000 });
  expect((await refresh(session.refreshToken)).status).toBe(401);
}

async function mailedToken(email: string): Promise<string> {
  const text = await eventually(() => mails.find(({ to }) => to === email)?.text ?? null);
  return /https:\/\/analytics\.example\.com\/password-reset\?token=([\w-]+)/.exec(text)?.[1] ?? "";
}

describe("a change", () => {
  test("takes the current password, ends all sessions and no others'", async () => {
    const person = await register();
    const other = await register();
    const elsewhere = (await login(person.email, OLD)).body;
    expect((await me(elsewhere.token)).status).toBe(200);
    expect((await change(person.token, OLD, NEW)).status).toBe(204);
    for (const session of [person, elsewhere]) await expectEnded(session);
    expect((await me(other.token)).status).toBe(200);
    expect((await login(person.email, OLD)).status).toBe(401);
    const again = await login(person.email, NEW);
    expect(again.status).toBe(200);
    expect((await me(again.body.token)).status).toBe(200);
    expect((await refresh(again.body.refreshToken)).status).toBe(200);
  });

  test("is refused with a wrong, the same or a short password, and then changes nothing", async () => {
    const { email, token } = await register();
    for (const [current, next, path] of [
      ["not it at all", NEW, "currentPassword"],
      [OLD, OLD, "newPassword"],
      [OLD, "short", "newPassword"],
    ] as const) {
      const answer = await change(token, current, next);
      expect(answer.status).toBe(400);
      expect(answer.body.errors[0].path).toBe(path);
    }
    expect((await me(token)).status).toBe(200);
    expect((await login(email, OLD)).status).toBe(200);
  });

  test("is in the audit log, without the passwords", async () => {
    const { token, user } = await register("Audited");
    await change(token, OLD, NEW);
    const rows = await api.sql`select * from audit_log where tenant_id = ${user.tenantId}`;
    expect(rows).toMatchObject([{ action: "user.password_changed", target: user.id, actor_id: user.id }]);
    expect(JSON.stringify(rows)).not.toContain(NEW);
  });

  test("leaves no session to a sign-in that looked at the old password just before", async () => {
    const person = await register();
    // The row as that sign-in read it: its tokens have the version before the change.
    const before = (await login(person.email, OLD)).body;
    await change(person.token, OLD, NEW);
    await expectEnded(before);
  });

  test("does not undo a reset that was made while it looked at the old password", async () => {
    const person = await register();
    const other = await register();
    await change(other.token, OLD, NEW);
    let changing: ReturnType<typeof change> | undefined;
    await api.sql.begin(async (tx) => {
      await tx`select from users where id = ${person.user.id} for update`;
      changing = change(person.token, OLD, "of an attacker");
      await waitForLock();
      await tx`update users set session_version = session_version + 1,
        password_hash = (select password_hash from users where id = ${other.user.id}) where id = ${person.user.id}`;
    });
    expect((await changing)?.status).toBe(401);
    expect((await login(person.email, "of an attacker")).status).toBe(401);
    expect((await login(person.email, NEW)).status).toBe(200);
  });

  test("is in the log of each tenant of the account", async () => {
    const { token, user } = await register("First of two");
    await api.sql`insert into memberships (tenant_id, user_id, role) values (${tenant.tenantId}, ${user.id}, 'analyst')`;
    expect((await change(token, OLD, NEW)).status).toBe(204);
    const rows = await api.sql`
      select tenant_id as "tenantId" from audit_log where action = 'user.password_changed' and target = ${user.id}`;
    expect(new Set(rows.map(({ tenantId }) => tenantId))).toEqual(new Set([user.tenantId, tenant.tenantId]));
  });

  test("is nothing for an API key", async () => {
    expect((await change(tenant.key, OLD, NEW)).status).toBe(403);
  });
});

describe("a reset by mail", () => {
  test("sets the password once and ends all sessions", async () => {
    const person = await register();
    expect((await ask(person.email.toUpperCase())).status).toBe(202);
    const token = await mailedToken(person.email);
    expect((await confirm(token, "short")).status).toBe(400);
    expect((await confirm(token)).status).toBe(204);
    await expectEnded(person);
    expect((await login(person.email, NEW)).status).toBe(200);
    expect((await confirm(token, "yet another one")).status).toBe(404);
    expect((await login(person.email, NEW)).status).toBe(200);
  });

  test("tells nobody who has an account, and sends at most three mails", async () => {
    const { email } = await register();
    const known = await Promise.all(Array.from({ length: 6 }, () => ask(email)));
    const unknown = await ask("nobody@example.com");
    expect(
      new Set([...known, unknown].map(({ status, body }) => `${status} ${JSON.stringify(body)}`)).size,
    ).toBe(1);
    await eventually(() => expect(mails.length).toBe(3));
    const open =
      await api.sql`select from password_resets r join users u on u.id = r.user_id where u.email = ${email}`;
    expect(open.length).toBe(3);
    expect(new Set(mails.map(({ to }) => to))).toEqual(new Set([email]));
  });

  test("takes back the other links of the account", async () => {
    const { email } = await register();
    await ask(email);
    const first = await mailedToken(email);
    mails = [];
    await ask(email);
    expect((await confirm(await mailedToken(email))).status).toBe(204);
    expect((await confirm(first)).status).toBe(404);
  });

  test("can be asked for again when the mails could not be sent", async () => {
    const { email, user } = await register();
    refused = 0;
    try {
      for (let n = 0; n < 3; n += 1) await ask(email);
      await eventually(() => expect(refused).toBe(3));
      await eventually(async () =>
        expect(await api.sql`select from password_resets where user_id = ${user.id}`).toHaveLength(0),
      );
    } finally {
      refused = null;
    }
    await ask(email);
    expect((await confirm(await mailedToken(email))).status).toBe(204);
  });

  test("leaves the others their transactions, however many ask at once", async () => {
    const { email, user } = await register();
    const other = await register();
    await api.sql.begin(async (tx) => {
      await tx`select from users where id = ${user.id} for update`;
      for (let n = 0; n < 12; n += 1) await ask(email);
      await waitForLock();
      expect((await change(other.token, OLD, NEW)).status).toBe(204);
      expect((await waitingForLocks()).length).toBeLessThanOrEqual(2);
    });
    await eventually(() => expect(mails.length).toBe(3));
  });

  test("is over after an hour, and stores no token", async () => {
    const { email, user } = await register();
    await ask(email);
    const token = await mailedToken(email);
    const [row] = await api.sql`
      select token_hash, expires_at - now() < interval '61 minutes' as soon from password_resets where user_id = ${user.id}`;
    expect(row?.soon).toBe(true);
    expect(row?.token_hash).not.toContain(token);
    await api.sql`update password_resets set expires_at = now() - interval '1 second' where user_id = ${user.id}`;
    expect((await confirm(token)).status).toBe(404);
  });

  test("has a page that needs no script", async () => {
    const { email } = await register();
    await ask(email);
    const token = await mailedToken(email);
    const page = await api.call("GET", `/password-reset?token=${token}%22%3E%3Cscript%3E`);
    expect(page.status).toBe(200);
    expect(page.body).toContain(`value="${token}&quot;&gt;&lt;script&gt;"`);
    expect(page.headers.get("content-security-policy")).toContain("form-action 'self'");
    // Below /api, too, its parts are where it is.
    const base = "https://shop.example/api/password-reset";
    const parts = [...String(page.body).matchAll(/(?:action|href)="([^"]+)"/g)].map(
      ([, url]) => new URL(url ?? "", base).pathname,
    );
    expect(parts).toEqual(["/api/password-reset/style.css", "/api/password-reset"]);
    for (const path of parts) expect((await api.call("GET", path)).status).toBe(200);
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    const send = (password: string) =>
      api.call("POST", "/password-reset", {
        headers,
        body: new URLSearchParams({ token, password }).toString(),
      });
    expect((await send("short")).body).toContain("The password must have 8 to 128 characters.");
    expect((await send(NEW)).body).toContain("The password is set");
    expect((await send(NEW)).body).toContain("This link is not valid");
    expect((await login(email, NEW)).status).toBe(200);
  });
});

describe("a link made by an admin", () => {
  const link = (as: string, userId: string) => api.call("POST", `/members/${userId}/password-reset`, { as });

  test("is for members of that tenant and of no other", async () => {
    const admin = (await createPerson(api, tenant.tenantId, "admin")).token;
    const member = await createPerson(api, tenant.tenantId, "analyst");
    const made = await link(admin, member.userId);
    expect(made.status).toBe(201);
    expect(made.body.url).toBe(`https://analytics.example.com/password-reset?token=${made.body.token}`);

    const stranger = await register("Elsewhere");
    expect((await link(admin, stranger.user.id)).status).toBe(404);
    await api.sql`insert into memberships (tenant_id, user_id, role) values (${tenant.tenantId}, ${stranger.user.id}, 'analyst')`;
    expect((await link(admin, stranger.user.id)).status).toBe(403);

    // The member joins another tenant before the link is used: the account is no longer this
    // admin's alone.
    await api.sql`insert into memberships (tenant_id, user_id, role) values (${stranger.user.tenantId}, ${member.userId}, 'customer')`;
    expect((await confirm(made.body.token)).status).toBe(404);
    await api.sql`delete from memberships where tenant_id = ${stranger.user.tenantId} and user_id = ${member.userId}`;
    expect((await confirm(made.body.token)).status).toBe(204);
    await expectEnded({ token: member.token, refreshToken: "none" });

    const log =
      await api.sql`select action, actor_kind from audit_log where tenant_id = ${tenant.tenantId} order by id`;
    expect(log.map(({ action }) => action)).toEqual([
      "api_key.created",
      "user.password_reset_link",
      "user.password_reset",
    ]);
  });

  test("can be made however many links strangers had mailed", async () => {
    const admin = (await createPerson(api, tenant.tenantId, "admin")).token;
    const { email, user } = await register();
    await api.sql`update memberships set tenant_id = ${tenant.tenantId} where user_id = ${user.id}`;
    for (let n = 0; n < 3; n += 1) await ask(email);
    await eventually(() => expect(mails.length).toBe(3));
    const made = await link(admin, user.id);
    expect(made.status).toBe(201);
    expect(await api.sql`select from password_resets where user_id = ${user.id}`).toHaveLength(3);
    expect((await confirm(made.body.token)).status).toBe(204);
  });

  test.each(["removed", "no admin any more"])("ends when one of the admins is %s", async (how) => {
    const admin = await createPerson(api, tenant.tenantId, "admin");
    const other = await createPerson(api, tenant.tenantId, "admin");
    const kept = await link(other.token, admin.userId);
    const path = `/members/${other.userId}`;
    const answer =
      how === "removed"
        ? await api.call("DELETE", path, { as: admin.token })
        : await api.call("PATCH", path, { as: admin.token, json: { role: "analyst" } });
    expect(answer.status).toBe(204);
    expect((await confirm(kept.body.token)).status).toBe(404);
  });

  test("is no good for a member who has left", async () => {
    const admin = (await createPerson(api, tenant.tenantId, "admin")).token;
    const member = await createPerson(api, tenant.tenantId, "analyst");
    const made = await link(admin, member.userId);
    expect((await api.call("DELETE", `/members/${member.userId}`, { as: admin })).status).toBe(204);
    expect((await confirm(made.body.token)).status).toBe(404);
  });

  test("is for admins, and not for keys", async () => {
    const { userId } = await createPerson(api, tenant.tenantId, "analyst");
    for (const role of ["analyst", "seller", "customer"] as const) {
      const { token } = await createPerson(api, tenant.tenantId, role);
      expect((await link(token, userId)).status).toBe(403);
    }
    expect((await link(tenant.key, userId)).status).toBe(403);
  });

  test("or by the operator, for any account", async () => {
    const { email } = await register();
    const run = await runFootfall(["admin", "reset-password", "--email", email.toUpperCase()], api.env);
    expect(run).toMatchObject({ exitCode: 0, stderr: "" });
    const token = /token=([\w-]+)/.exec(run.stdout)?.[1] ?? "";
    expect((await confirm(token)).status).toBe(204);
    const unknown = await runFootfall(["admin", "reset-password", "--email", "nobody@example.com"], api.env);
    expect(unknown).toMatchObject({ exitCode: 1, stdout: "" });
    expect(unknown.stderr).toBe(
      "footfall: There is no account with the e-mail address nobody@example.com.\n",
    );
  });
});

describe("wrong passwords", () => {
  const counts = (email: string) =>
    api.sql`select failures, greatest(ceil(extract(epoch from next_at - last_at)), 0)::int as seconds from sign_in_delays
      where subject in (encode(sha256(${`${email} 127.0.0.1`}::bytea), 'hex'), encode(sha256(${email}::bytea), 'hex'))
      order by seconds desc`;
  /** Holds the clock for every delay: running ones last another hour, or are over. */
  const holdDelays = () =>
    api.sql`update sign_in_delays set next_at = now() + interval '1 hour' where next_at > last_at`;
  const endDelays = () => api.sql`update sign_in_delays set next_at = now()`;

  test.each(["an account", "no account"])(
    "make the next attempt wait longer each time, with %s",
    async (kind) => {
      const email = kind === "an account" ? (await register()).email : `nobody-${people}@example.com`;
      for (let attempt = 1; attempt <= 5; attempt += 1)
        expect((await login(email, "wrong one")).status).toBe(401);
      for (const seconds of [1, 2, 4, 8]) {
        expect((await login(email, "wrong one")).status).toBe(401);
        expect(await counts(email)).toMatchObject([{ seconds }, { seconds: 0 }]);
        await holdDelays();
        const early = await login(email, OLD);
        expect(early.status).toBe(429);
        expect(Number(early.headers.get("retry-after"))).toBeGreaterThan(3_000);
        expect(early.body.detail).toMatch(
          /^Too many wrong passwords for this e-mail address: try again in \d+ s\.$/,
        );
        await endDelays();
      }
    },
  );

  test("that are within the free ones delay nobody, whichever of two at once is counted first", async () => {
    const attempt = { email: `at-once-${people}@example.com`, address: "192.0.2.1" };
    await api.sql.begin(async (tx) => {
      // From here on, now() is this moment for the transaction.
      await tx`select now()`;
      await Bun.sleep(10);
      await createSignInDelays(api.deps.db.write).takeTurn(attempt);
      await createSignInDelays(tx as never).takeTurn(attempt);
    });
  });

  test("are forgotten with the right one", async () => {
    const { email } = await register();
    for (let attempt = 1; attempt <= 5; attempt += 1) await login(email, "wrong one");
    expect((await login(email, OLD)).status).toBe(200);
    expect(await counts(email)).toHaveLength(0);
  });

  test("count when a password is changed, too", async () => {
    const { token } = await register();
    for (let attempt = 1; attempt <= 6; attempt += 1)
      expect((await change(token, "wrong one", NEW)).status).toBe(400);
    await holdDelays();
    expect((await change(token, OLD, NEW)).status).toBe(429);
    await endDelays();
    expect((await change(token, OLD, NEW)).status).toBe(204);
  });

  test("of strangers keep nobody out of an address that the account signed in from", async () => {
    const { email } = await register();
    const strangersTakeTheTurn = () =>
      api.sql`insert into sign_in_delays (subject, failures, last_at, next_at)
        values (encode(sha256(${email}::bytea), 'hex'), 60, now(), now() + interval '1 minute')
        on conflict (subject) do update set next_at = excluded.next_at`;
    await strangersTakeTheTurn();
    // A new address waits, but its own delay does not grow by that.
    for (let attempt = 1; attempt <= 7; attempt += 1) expect((await login(email, OLD)).status).toBe(429);
    expect(await counts(email)).toHaveLength(1);
    await endDelays();
    expect((await login(email, OLD)).status).toBe(200);
    await strangersTakeTheTurn();
    expect((await login(email, OLD)).status).toBe(200);
    // Housekeeping leaves what is known for longer than a count.
    await api.sql`update sign_in_delays set last_at = now() - interval '2 days' where failures = 0`;
    await pruneSignInDelays(api.sql, 100);
    expect((await login(email, OLD)).status).toBe(200);
    // Wrong ones from there are delayed as ever.
    for (let attempt = 1; attempt <= 6; attempt += 1)
      expect((await login(email, "wrong one")).status).toBe(401);
    await holdDelays();
    expect((await login(email, OLD)).status).toBe(429);
  });

  test("at once share their turns", async () => {
    const { email } = await register();
    await login(email, "wrong one");
    // From here on, the next delay is of 15 minutes.
    await api.sql`update sign_in_delays set failures = 40`;
    const attempts = await Promise.all(Array.from({ length: 12 }, () => login(email, "wrong one")));
    expect(attempts.map(({ status }) => status).toSorted()).toEqual([401, ...Array(11).fill(429)]);
  });

  test("delay from one address by 15 minutes at the most, and from all addresses by a minute", async () => {
    const { email } = await register();
    await login(email, "wrong one");
    await api.sql`update sign_in_delays set failures = 1000, next_at = now()`;
    await login(email, "wrong one");
    expect(await counts(email)).toMatchObject([{ seconds: 900 }, { seconds: 60 }]);
  });
});

/** Sessions that wait for the lock of another. */
const waitingForLocks = () => api.sql`
  select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;

async function waitForLock(): Promise<void> {
  await eventually(async () => expect((await waitingForLocks()).length).toBeGreaterThan(0));
}
