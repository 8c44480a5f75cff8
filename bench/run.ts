import { measureAnalytics } from "./analytics.ts";
import { measureBulk } from "./bulk.ts";
import { measureDashboards } from "./dashboards.ts";
import { measureFreshness } from "./freshness.ts";
import { measureInvalidation } from "./invalidation.ts";
import { measureOrders } from "./orders.ts";
import { measureOverload } from "./overload.ts";
import { measureProducts } from "./products.ts";
import { measureSingle } from "./single.ts";
import { measureSse } from "./sse.ts";
import { createStage } from "./stage.ts";

/** `./dev bench [name …]`: prints each figure with the ratio that matters. See bench/README.md. */
const measurements = {
  single: measureSingle,
  bulk: measureBulk,
  freshness: measureFreshness,
  analytics: measureAnalytics,
  invalidation: measureInvalidation,
  dashboards: measureDashboards,
  overload: measureOverload,
  sse: measureSse,
  products: measureProducts,
  orders: measureOrders,
};
type Name = keyof typeof measurements;

const asked = process.argv.slice(2);
// A year of ten million events takes its time: by name only.
const usual = Object.keys(measurements).filter((name) => name !== "analytics");
const names = (asked.length > 0 ? asked : usual) as Name[];
const unknown = names.filter((name) => !(name in measurements));
if (unknown.length > 0) {
  console.error(
    `There is no measurement ${unknown.join(", ")}; there are ${Object.keys(measurements).join(", ")}.`,
  );
  process.exit(1);
}

const stage = await createStage();
for (const name of names) {
  console.log(`\n## ${name}`);
  for (const [figure, value] of Object.entries(await measurements[name](stage))) {
    console.log(
      `${figure.padEnd(16)} ${typeof value === "number" ? Number(value.toPrecision(4)).toLocaleString("en") : value}`,
    );
  }
}
await stage.close();
process.exit(0);
