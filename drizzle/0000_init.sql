CREATE TABLE "event_batches" (
	"tenant_id" uuid NOT NULL,
	"batch_id" uuid NOT NULL,
	"received_at" timestamp (3) with time zone NOT NULL,
	"received" integer NOT NULL,
	"stored" integer NOT NULL,
	"duplicates" integer NOT NULL,
	"rejected" integer NOT NULL,
	"min_ts" timestamp (3) with time zone,
	"max_ts" timestamp (3) with time zone,
	"rolled_up_at" timestamp (3) with time zone,
	"attempts" integer DEFAULT 0 NOT NULL,
	"last_error" text,
	"dead_lettered_at" timestamp (3) with time zone,
	CONSTRAINT "event_batches_tenant_id_batch_id_pk" PRIMARY KEY("tenant_id","batch_id")
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
--> statement-breakpoint
CREATE TABLE "event_keys" (
	"tenant_id" uuid NOT NULL,
	"message_id" text NOT NULL,
	"event_id" uuid NOT NULL,
	"expires_at" timestamp (3) with time zone,
	CONSTRAINT "event_keys_tenant_id_message_id_pk" PRIMARY KEY("tenant_id","message_id")
);
--> statement-breakpoint
CREATE TABLE "events" (
	"tenant_id" uuid NOT NULL,
	"ts" timestamp (3) with time zone NOT NULL,
	"id" uuid NOT NULL,
	"batch_id" uuid NOT NULL,
	"received_at" timestamp (3) with time zone NOT NULL,
	"type" text NOT NULL,
	"product_id" text,
	"user_id" text,
	"anonymous_id" text,
	"session_id" text,
	"message_id" text,
	"quantity" integer,
	"unit_price" numeric(15, 4),
	"properties" jsonb,
	"context" jsonb,
	CONSTRAINT "events_tenant_id_ts_id_pk" PRIMARY KEY("tenant_id","ts","id")
) PARTITION BY RANGE ("ts");
--> statement-breakpoint
CREATE TABLE "api_keys" (
	"tenant_id" uuid NOT NULL,
	"id" uuid NOT NULL,
	"name" text NOT NULL,
	"kind" text NOT NULL,
	"prefix" text NOT NULL,
	"key_hash" text NOT NULL,
	"scopes" text[] NOT NULL,
	"expires_at" timestamp (3) with time zone,
	"last_used_at" timestamp (3) with time zone,
	"revoked_at" timestamp (3) with time zone,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "api_keys_tenant_id_id_pk" PRIMARY KEY("tenant_id","id"),
	CONSTRAINT "api_keys_key_hash_unique" UNIQUE("key_hash")
);
--> statement-breakpoint
CREATE TABLE "memberships" (
	"tenant_id" uuid NOT NULL,
	"user_id" uuid NOT NULL,
	"role" text NOT NULL,
	"seller_id" text,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "memberships_tenant_id_user_id_pk" PRIMARY KEY("tenant_id","user_id")
);
--> statement-breakpoint
CREATE TABLE "refresh_tokens" (
	"token_hash" text PRIMARY KEY NOT NULL,
	"family_id" uuid NOT NULL,
	"user_id" uuid NOT NULL,
	"tenant_id" uuid NOT NULL,
	"expires_at" timestamp (3) with time zone NOT NULL,
	"used_at" timestamp (3) with time zone,
	"revoked_at" timestamp (3) with time zone,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "tenants" (
	"id" uuid PRIMARY KEY NOT NULL,
	"slug" text NOT NULL,
	"name" text NOT NULL,
	"time_zone" text DEFAULT 'UTC' NOT NULL,
	"currency" text DEFAULT 'EUR' NOT NULL,
	"event_retention_days" integer,
	"breakdown_properties" text[] DEFAULT '{country,device,browser,os,referrer,utm_source,utm_medium,utm_campaign}' NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "tenants_slug_unique" UNIQUE("slug")
);
--> statement-breakpoint
CREATE TABLE "users" (
	"id" uuid PRIMARY KEY NOT NULL,
	"email" text NOT NULL,
	"password_hash" text NOT NULL,
	"name" text,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "users_email_unique" UNIQUE("email")
);
--> statement-breakpoint
CREATE TABLE "leases" (
	"name" text PRIMARY KEY NOT NULL,
	"holder" text NOT NULL,
	"expires_at" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "event_hourly_stats" (
	"tenant_id" uuid NOT NULL,
	"hour" timestamp (3) with time zone NOT NULL,
	"type" text NOT NULL,
	"events" bigint DEFAULT 0 NOT NULL,
	"units" bigint DEFAULT 0 NOT NULL,
	"revenue" numeric DEFAULT '0' NOT NULL,
	CONSTRAINT "event_hourly_stats_tenant_id_hour_type_pk" PRIMARY KEY("tenant_id","hour","type")
) WITH (fillfactor = 80);
--> statement-breakpoint
CREATE TABLE "ingest_hourly_stats" (
	"tenant_id" uuid NOT NULL,
	"hour" timestamp (3) with time zone NOT NULL,
	"received" bigint DEFAULT 0 NOT NULL,
	"stored" bigint DEFAULT 0 NOT NULL,
	"duplicates" bigint DEFAULT 0 NOT NULL,
	"rejected" bigint DEFAULT 0 NOT NULL,
	CONSTRAINT "ingest_hourly_stats_tenant_id_hour_pk" PRIMARY KEY("tenant_id","hour")
) WITH (fillfactor = 80);
--> statement-breakpoint
CREATE TABLE "product_daily_stats" (
	"tenant_id" uuid NOT NULL,
	"day" date NOT NULL,
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
	CONSTRAINT "product_daily_stats_tenant_id_day_product_id_pk" PRIMARY KEY("tenant_id","day","product_id")
) WITH (fillfactor = 80);
--> statement-breakpoint
CREATE TABLE "property_daily_stats" (
	"tenant_id" uuid NOT NULL,
	"day" date NOT NULL,
	"property" text NOT NULL,
	"value" text NOT NULL,
	"events" bigint DEFAULT 0 NOT NULL,
	"views" bigint DEFAULT 0 NOT NULL,
	"clicks" bigint DEFAULT 0 NOT NULL,
	"add_to_carts" bigint DEFAULT 0 NOT NULL,
	"remove_from_carts" bigint DEFAULT 0 NOT NULL,
	"checkout_starts" bigint DEFAULT 0 NOT NULL,
	"purchases" bigint DEFAULT 0 NOT NULL,
	"units" bigint DEFAULT 0 NOT NULL,
	"revenue" numeric DEFAULT '0' NOT NULL,
	CONSTRAINT "property_daily_stats_tenant_id_property_day_value_pk" PRIMARY KEY("tenant_id","property","day","value")
) WITH (fillfactor = 80);
--> statement-breakpoint
CREATE TABLE "session_daily_stats" (
	"tenant_id" uuid NOT NULL,
	"day" date NOT NULL,
	"session_id" text NOT NULL,
	"events" bigint DEFAULT 0 NOT NULL,
	CONSTRAINT "session_daily_stats_tenant_id_day_session_id_pk" PRIMARY KEY("tenant_id","day","session_id")
) WITH (fillfactor = 80);
--> statement-breakpoint
CREATE TABLE "user_daily_stats" (
	"tenant_id" uuid NOT NULL,
	"day" date NOT NULL,
	"user_key" text NOT NULL,
	"events" bigint DEFAULT 0 NOT NULL,
	"views" bigint DEFAULT 0 NOT NULL,
	"clicks" bigint DEFAULT 0 NOT NULL,
	"add_to_carts" bigint DEFAULT 0 NOT NULL,
	"remove_from_carts" bigint DEFAULT 0 NOT NULL,
	"checkout_starts" bigint DEFAULT 0 NOT NULL,
	"purchases" bigint DEFAULT 0 NOT NULL,
	"units" bigint DEFAULT 0 NOT NULL,
	"revenue" numeric DEFAULT '0' NOT NULL,
	CONSTRAINT "user_daily_stats_tenant_id_day_user_key_pk" PRIMARY KEY("tenant_id","day","user_key")
) WITH (fillfactor = 80);
--> statement-breakpoint
ALTER TABLE "api_keys" ADD CONSTRAINT "api_keys_tenant_id_tenants_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenants"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "memberships" ADD CONSTRAINT "memberships_tenant_id_tenants_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenants"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "memberships" ADD CONSTRAINT "memberships_user_id_users_id_fk" FOREIGN KEY ("user_id") REFERENCES "public"."users"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "refresh_tokens" ADD CONSTRAINT "refresh_tokens_user_id_users_id_fk" FOREIGN KEY ("user_id") REFERENCES "public"."users"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "refresh_tokens" ADD CONSTRAINT "refresh_tokens_tenant_id_tenants_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenants"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "event_batches_undone" ON "event_batches" USING btree ("tenant_id","received_at") WHERE rolled_up_at is null;--> statement-breakpoint
CREATE INDEX "event_batches_received" ON "event_batches" USING btree ("received_at");--> statement-breakpoint
CREATE INDEX "event_keys_expiry" ON "event_keys" USING btree ("expires_at") WHERE expires_at is not null;--> statement-breakpoint
CREATE INDEX "events_batch" ON "events" USING btree ("tenant_id","batch_id");--> statement-breakpoint
CREATE INDEX "events_product" ON "events" USING btree ("tenant_id","product_id","ts") WHERE product_id is not null;--> statement-breakpoint
CREATE INDEX "events_session" ON "events" USING btree ("tenant_id","session_id","ts") WHERE session_id is not null;--> statement-breakpoint
CREATE INDEX "events_user_key" ON "events" USING btree ("tenant_id",coalesce(user_id, anonymous_id, session_id),"ts");--> statement-breakpoint
CREATE INDEX "memberships_user" ON "memberships" USING btree ("user_id");--> statement-breakpoint
CREATE INDEX "refresh_tokens_family" ON "refresh_tokens" USING btree ("family_id");--> statement-breakpoint
CREATE INDEX "product_daily_stats_product" ON "product_daily_stats" USING btree ("tenant_id","product_id","day");--> statement-breakpoint
CREATE INDEX "user_daily_stats_user" ON "user_daily_stats" USING btree ("tenant_id","user_key","day");--> statement-breakpoint
INSERT INTO "tenants" ("id", "slug", "name") VALUES (gen_random_uuid(), 'default', 'Default');
