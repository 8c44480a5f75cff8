/**
 * The migrations as text, so that they travel inside the binary. Adding one: `bun run db:generate`,
 * then an import and a line here (a test compares this list with the folder).
 */

import init from "../../drizzle/0000_init.sql" with { type: "text" };
import governance from "../../drizzle/0001_governance.sql" with { type: "text" };
import commerce from "../../drizzle/0002_commerce.sql" with { type: "text" };
import notificationsByTopic from "../../drizzle/0003_notifications_by_topic.sql" with { type: "text" };
import ordersDue from "../../drizzle/0004_orders_due.sql" with { type: "text" };
import audience from "../../drizzle/0005_audience.sql" with { type: "text" };
import productPeriods from "../../drizzle/0006_product_periods.sql" with { type: "text" };
import trustedSales from "../../drizzle/0007_trusted_sales.sql" with { type: "text" };
import idleOrderGroups from "../../drizzle/0008_idle_order_groups.sql" with { type: "text" };
import failingTenants from "../../drizzle/0009_failing_tenants.sql" with { type: "text" };
import buyers from "../../drizzle/0010_buyers.sql" with { type: "text" };
import lineAmounts from "../../drizzle/0011_line_amounts.sql" with { type: "text" };
import orderOfDomainEvents from "../../drizzle/0012_order_of_domain_events.sql" with { type: "text" };
import deadLettersByTenant from "../../drizzle/0013_dead_letters_by_tenant.sql" with { type: "text" };
import propertyFills from "../../drizzle/0014_property_fills.sql" with { type: "text" };
import passwords from "../../drizzle/0015_passwords.sql" with { type: "text" };
import exchangeRates from "../../drizzle/0016_exchange_rates.sql" with { type: "text" };
import voidedEvents from "../../drizzle/0017_voided_events.sql" with { type: "text" };
import membersByDay from "../../drizzle/0018_members_by_day.sql" with { type: "text" };
import journal from "../../drizzle/meta/_journal.json" with { type: "json" };

export const MIGRATION_JOURNAL = journal;

export const MIGRATION_FILES: Record<string, string> = {
  "0000_init": init,
  "0001_governance": governance,
  "0002_commerce": commerce,
  "0003_notifications_by_topic": notificationsByTopic,
  "0004_orders_due": ordersDue,
  "0005_audience": audience,
  "0006_product_periods": productPeriods,
  "0007_trusted_sales": trustedSales,
  "0008_idle_order_groups": idleOrderGroups,
  "0009_failing_tenants": failingTenants,
  "0010_buyers": buyers,
  "0011_line_amounts": lineAmounts,
  "0012_order_of_domain_events": orderOfDomainEvents,
  "0013_dead_letters_by_tenant": deadLettersByTenant,
  "0014_property_fills": propertyFills,
  "0015_passwords": passwords,
  "0016_exchange_rates": exchangeRates,
  "0017_voided_events": voidedEvents,
  "0018_members_by_day": membersByDay,
};
