CREATE TABLE "product_period_stats" (
	"tenant_id" uuid NOT NULL,
	"period" text NOT NULL,
	"start" date NOT NULL,
	"product_id" text NOT NULL,
	"events" bigint DEFAULT 0 NOT NULL,
	"views" bigint DEFAULT 0 NOT NULL,
	"clicks" bigint DEFAULT 0 NOT NULL,
	"add_to_carts" bigint DEFAULT 0 NOT NULL,
	"remove_from_carts" bigint DEFAULT 0 NOT NULL,
	"checkout_starts" bigint DEFAULT 0 NOT NULL,
	"purchases" bigint DEFAULT 0 NOT NULL,
	"units" bigint DEFAULT 0 NOT NULL,
	"revenue" numeric DEFAULT '0' NOT NULL,
	CONSTRAINT "product_period_stats_tenant_id_period_start_product_id_pk" PRIMARY KEY("tenant_id","period","start","product_id")
);

--> statement-breakpoint
INSERT INTO "product_period_stats" ("tenant_id", "period", "start", "product_id", "events", "views", "clicks", "add_to_carts",
  "remove_from_carts", "checkout_starts", "purchases", "units", "revenue")
SELECT "tenant_id", "period", "start", "product_id", sum("events"), sum("views"), sum("clicks"), sum("add_to_carts"),
  sum("remove_from_carts"), sum("checkout_starts"), sum("purchases"), sum("units"), sum("revenue")
FROM (
  SELECT d.*, date_trunc('month', "day")::date AS "month", least((extract(day from "day")::int - 1) / 5, 5) * 5 AS "past"
  FROM "product_daily_stats" d
) placed CROSS JOIN LATERAL (VALUES ('month', "month"), ('sixth', "month" + "past")) AS containing("period", "start")
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4;
