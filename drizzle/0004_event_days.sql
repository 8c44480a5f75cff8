CREATE TABLE "event_daily_stats" (
	"tenant_id" uuid NOT NULL,
	"day" date NOT NULL,
	"type" text NOT NULL,
	"events" bigint DEFAULT 0 NOT NULL,
	"units" bigint DEFAULT 0 NOT NULL,
	"revenue" numeric DEFAULT '0' NOT NULL,
	CONSTRAINT "event_daily_stats_tenant_id_day_type_pk" PRIMARY KEY("tenant_id","day","type")
);

--> statement-breakpoint
INSERT INTO "event_daily_stats" ("tenant_id", "day", "type", "events", "units", "revenue")
SELECT h."tenant_id", (h."hour" AT TIME ZONE t."time_zone")::date, h."type", sum(h."events"), sum(h."units"), sum(h."revenue")
FROM "event_hourly_stats" h JOIN "tenants" t ON t."id" = h."tenant_id"
GROUP BY 1, 2, 3;
