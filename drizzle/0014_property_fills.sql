CREATE TABLE "property_fills" (
	"tenant_id" uuid NOT NULL,
	"property" text NOT NULL,
	"state" text NOT NULL,
	"wanted" boolean DEFAULT false NOT NULL,
	"version" integer DEFAULT 0 NOT NULL,
	"fenced" boolean DEFAULT false NOT NULL,
	"upto_ts" timestamp (3) with time zone DEFAULT '-infinity' NOT NULL,
	"upto_id" uuid DEFAULT '00000000-0000-0000-0000-000000000000' NOT NULL,
	"until_ts" timestamp (3) with time zone DEFAULT '-infinity' NOT NULL,
	"done" bigint DEFAULT 0 NOT NULL,
	"total" bigint DEFAULT 0 NOT NULL,
	CONSTRAINT "property_fills_tenant_id_property_pk" PRIMARY KEY("tenant_id","property")
);
--> statement-breakpoint
ALTER TABLE "event_batches" ADD COLUMN "properties_version" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "tenants" ADD COLUMN "properties_version" integer DEFAULT 0 NOT NULL;