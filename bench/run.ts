import { measureBulk } from "./bulk.ts";
import { measureFreshness } from "./freshness.ts";
import { measureOrders } from "./orders.ts";
import { measureSingle } from "./single.ts";
import { createStage } from "./stage.ts";

/** `./dev bench [single|bulk|freshness|orders …]`: prints each figure with the ratio that matters. See bench/README.md. */
const measurements = {
  single: measureSingle,
  bulk: measureBulk,
  freshness: measureFreshness,
  orders: measureOrders,
};
type Name = keyof typeof measurements;

const asked = process.argv.slice(2);
const names = (asked.length > 0 ? asked : Object.keys(measurements)) as Name[];
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
