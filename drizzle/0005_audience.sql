CREATE TABLE "daily_return_stats" (
	"tenant_id" uuid NOT NULL,
	"subject" text NOT NULL,
	"day" date NOT NULL,
	"previous_day" date NOT NULL,
	"members" bigint DEFAULT 0 NOT NULL,
	CONSTRAINT "daily_return_stats_tenant_id_subject_day_previous_day_pk" PRIMARY KEY("tenant_id","subject","day","previous_day")
);
--> statement-breakpoint
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
ALTER TABLE "session_daily_stats" ADD COLUMN "folded" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "user_daily_stats" ADD COLUMN "folded" boolean DEFAULT false NOT NULL;--> statement-breakpoint
CREATE INDEX "session_daily_stats_session" ON "session_daily_stats" USING btree ("tenant_id","session_id","day");--> statement-breakpoint
CREATE INDEX "session_daily_stats_unfolded" ON "session_daily_stats" USING btree ("tenant_id","day","session_id") WHERE not folded;--> statement-breakpoint
CREATE INDEX "user_daily_stats_unfolded" ON "user_daily_stats" USING btree ("tenant_id","day","user_key") WHERE not folded;--> statement-breakpoint
INSERT INTO "event_daily_stats" ("tenant_id", "day", "type", "events", "units", "revenue")
SELECT h."tenant_id", (h."hour" AT TIME ZONE t."time_zone")::date, h."type", sum(h."events"), sum(h."units"), sum(h."revenue")
FROM "event_hourly_stats" h JOIN "tenants" t ON t."id" = h."tenant_id"
GROUP BY 1, 2, 3;
