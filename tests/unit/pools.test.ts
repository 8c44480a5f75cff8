/** What the first question to a pool can hold. */
import { afterAll, expect, test } from "bun:test";
import { connect } from "../../src/db/client.ts";
import { cleanup, createTestDatabase } from "../harness.ts";

afterAll(cleanup);

test("arrays of text arrive as they are, also in the first statement of a pool", async () => {
  const { url } = await createTestDatabase();
  const pool = connect({ url, prepare: true, applicationName: "test" }, 1, 5_000);
  const texts = ["a", 'b"c\\d', "", "null", "{,}", "it's"];
  for (const _ of ["before types are fetched", "after"]) {
    const [row] = await pool`select ${pool.array(texts)}::text[] as texts`;
    expect(row?.texts).toEqual(texts);
  }
  await pool.end();
});
