CREATE TABLE "product_import_chunks" (
	"tenant_id" uuid NOT NULL,
	"import_id" uuid NOT NULL,
	"start" bigint NOT NULL,
	"data" "bytea" NOT NULL,
	CONSTRAINT "product_import_chunks_tenant_id_import_id_start_pk" PRIMARY KEY("tenant_id","import_id","start")
);
--> statement-breakpoint
CREATE TABLE "product_import_errors" (
	"tenant_id" uuid NOT NULL,
	"import_id" uuid NOT NULL,
	"line" integer NOT NULL,
	"path" text NOT NULL,
	"message" text NOT NULL,
	CONSTRAINT "product_import_errors_tenant_id_import_id_line_path_pk" PRIMARY KEY("tenant_id","import_id","line","path")
);
--> statement-breakpoint
CREATE TABLE "product_imports" (
	"tenant_id" uuid NOT NULL,
	"id" uuid NOT NULL,
	"seller_id" text,
	"status" text NOT NULL,
	"bytes" bigint DEFAULT 0 NOT NULL,
	"position" bigint DEFAULT 0 NOT NULL,
	"line" integer DEFAULT 0 NOT NULL,
	"columns" jsonb,
	"rows" integer DEFAULT 0 NOT NULL,
	"created" integer DEFAULT 0 NOT NULL,
	"updated" integer DEFAULT 0 NOT NULL,
	"failed" integer DEFAULT 0 NOT NULL,
	"error" text,
	"created_at" timestamp (3) with time zone NOT NULL,
	"finished_at" timestamp (3) with time zone,
	"held_until" timestamp (3) with time zone,
	"held_by" text,
	"attempts" integer DEFAULT 0 NOT NULL,
	"changed_ids" text[],
	CONSTRAINT "product_imports_tenant_id_id_pk" PRIMARY KEY("tenant_id","id")
);
--> statement-breakpoint
CREATE TABLE "products" (
	"tenant_id" uuid NOT NULL,
	"id" text NOT NULL,
	"seller_id" text,
	"sku" text,
	"name" text NOT NULL,
	"description" text,
	"price" numeric(12, 2) NOT NULL,
	"quantity" integer,
	"category" text,
	"image_url" text,
	"status" text DEFAULT 'active' NOT NULL,
	"low_stock_threshold" integer,
	"version" integer DEFAULT 1 NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	"updated_at" timestamp (3) with time zone NOT NULL,
	"deleted_at" timestamp (3) with time zone,
	CONSTRAINT "products_tenant_id_id_pk" PRIMARY KEY("tenant_id","id"),
	CONSTRAINT "products_amounts" CHECK (price >= 0 and quantity >= 0 and low_stock_threshold >= 0)
);
--> statement-breakpoint
CREATE TABLE "notification_feeds" (
	"tenant_id" uuid PRIMARY KEY NOT NULL,
	"position" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "notifications" (
	"tenant_id" uuid NOT NULL,
	"id" uuid NOT NULL,
	"topic" text NOT NULL,
	"subject_id" text NOT NULL,
	"seller_id" text,
	"payload" jsonb NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	"stored_at" timestamp (3) with time zone NOT NULL,
	"read_at" timestamp (3) with time zone,
	"position" bigint NOT NULL,
	CONSTRAINT "notifications_tenant_id_id_pk" PRIMARY KEY("tenant_id","id")
);
--> statement-breakpoint
CREATE TABLE "outbox" (
	"tenant_id" uuid NOT NULL,
	"id" uuid NOT NULL,
	"topic" text NOT NULL,
	"subject_id" text NOT NULL,
	"seller_id" text,
	"payload" jsonb NOT NULL,
	"undone" text[] NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	"announce_at" timestamp (3) with time zone NOT NULL,
	"announcements" integer DEFAULT 0 NOT NULL,
	CONSTRAINT "outbox_tenant_id_id_pk" PRIMARY KEY("tenant_id","id")
);
--> statement-breakpoint
CREATE TABLE "webhook_deliveries" (
	"tenant_id" uuid NOT NULL,
	"id" uuid NOT NULL,
	"endpoint_id" uuid NOT NULL,
	"event_id" uuid NOT NULL,
	"topic" text NOT NULL,
	"payload" jsonb NOT NULL,
	"status" text NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"next_attempt_at" timestamp (3) with time zone,
	"last_status" integer,
	"last_error" text,
	"duration_ms" integer,
	"created_at" timestamp (3) with time zone NOT NULL,
	"finished_at" timestamp (3) with time zone,
	CONSTRAINT "webhook_deliveries_tenant_id_id_pk" PRIMARY KEY("tenant_id","id")
);
--> statement-breakpoint
CREATE TABLE "webhook_endpoints" (
	"tenant_id" uuid NOT NULL,
	"id" uuid NOT NULL,
	"url" text NOT NULL,
	"description" text,
	"topics" text[] NOT NULL,
	"secret" text NOT NULL,
	"previous_secret" text,
	"previous_secret_until" timestamp (3) with time zone,
	"status" text NOT NULL,
	"disabled_reason" text,
	"failing_since" timestamp (3) with time zone,
	"created_at" timestamp (3) with time zone NOT NULL,
	"updated_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "webhook_endpoints_tenant_id_id_pk" PRIMARY KEY("tenant_id","id")
);
--> statement-breakpoint
CREATE TABLE "order_commands" (
	"tenant_id" uuid NOT NULL,
	"group_id" text NOT NULL,
	"position" bigint NOT NULL,
	"id" uuid NOT NULL,
	"order_id" uuid NOT NULL,
	"kind" text NOT NULL,
	"to_status" text NOT NULL,
	"requested_by" text NOT NULL,
	"state" text NOT NULL,
	"outcome" text,
	"attempts" integer DEFAULT 0 NOT NULL,
	"last_error" text,
	"created_at" timestamp (3) with time zone NOT NULL,
	"due_at" timestamp (3) with time zone NOT NULL,
	"finished_at" timestamp (3) with time zone,
	"finished_by" text,
	CONSTRAINT "order_commands_tenant_id_group_id_position_pk" PRIMARY KEY("tenant_id","group_id","position")
);
--> statement-breakpoint
CREATE TABLE "order_deduplications" (
	"tenant_id" uuid NOT NULL,
	"owner" text NOT NULL,
	"deduplication_id" text NOT NULL,
	"order_id" uuid NOT NULL,
	"message_id" uuid NOT NULL,
	"expires_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "order_deduplications_tenant_id_owner_deduplication_id_pk" PRIMARY KEY("tenant_id","owner","deduplication_id")
);
--> statement-breakpoint
CREATE TABLE "order_groups" (
	"tenant_id" uuid NOT NULL,
	"group_id" text NOT NULL,
	"next_position" bigint NOT NULL,
	CONSTRAINT "order_groups_tenant_id_group_id_pk" PRIMARY KEY("tenant_id","group_id")
);
--> statement-breakpoint
CREATE TABLE "order_history" (
	"tenant_id" uuid NOT NULL,
	"order_id" uuid NOT NULL,
	"id" uuid NOT NULL,
	"position" bigint NOT NULL,
	"message_id" uuid NOT NULL,
	"from_status" text NOT NULL,
	"to_status" text NOT NULL,
	"outcome" text NOT NULL,
	"reason" text,
	"at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "order_history_tenant_id_order_id_id_pk" PRIMARY KEY("tenant_id","order_id","id")
);
--> statement-breakpoint
CREATE TABLE "order_items" (
	"tenant_id" uuid NOT NULL,
	"order_id" uuid NOT NULL,
	"line" integer NOT NULL,
	"product_id" text NOT NULL,
	"quantity" integer NOT NULL,
	"unit_price" numeric(12, 2),
	"stock_taken" boolean,
	CONSTRAINT "order_items_tenant_id_order_id_line_pk" PRIMARY KEY("tenant_id","order_id","line")
);
--> statement-breakpoint
CREATE TABLE "orders" (
	"tenant_id" uuid NOT NULL,
	"id" uuid NOT NULL,
	"group_id" text NOT NULL,
	"user_id" text,
	"customer_name" text NOT NULL,
	"customer_email" text NOT NULL,
	"status" text NOT NULL,
	"reason" text,
	"reason_product_id" text,
	"created_at" timestamp (3) with time zone NOT NULL,
	"updated_at" timestamp (3) with time zone NOT NULL,
	"hidden_at" timestamp (3) with time zone,
	CONSTRAINT "orders_tenant_id_id_pk" PRIMARY KEY("tenant_id","id")
);
--> statement-breakpoint
CREATE TABLE "purchases" (
	"tenant_id" uuid NOT NULL,
	"id" uuid NOT NULL,
	"user_id" text,
	"product_id" text NOT NULL,
	"quantity" integer NOT NULL,
	"unit_price" numeric(12, 2) NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "purchases_tenant_id_id_pk" PRIMARY KEY("tenant_id","id")
);
--> statement-breakpoint
CREATE TABLE "workers" (
	"name" text PRIMARY KEY NOT NULL,
	"started_at" timestamp (3) with time zone NOT NULL,
	"seen_at" timestamp (3) with time zone NOT NULL,
	"in_flight" jsonb NOT NULL
);
--> statement-breakpoint
ALTER TABLE "api_keys" ADD COLUMN "replaced_by" uuid;--> statement-breakpoint
ALTER TABLE "invitations" ADD COLUMN "revoked_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "invitations" ADD COLUMN "invited_by" text;--> statement-breakpoint
CREATE INDEX "product_imports_undone" ON "product_imports" USING btree ("created_at") WHERE status in ('receiving', 'queued', 'running');--> statement-breakpoint
CREATE UNIQUE INDEX "products_sku" ON "products" USING btree ("tenant_id","sku") WHERE deleted_at is null;--> statement-breakpoint
CREATE INDEX "products_created" ON "products" USING btree ("tenant_id","created_at","id") WHERE deleted_at is null;--> statement-breakpoint
CREATE INDEX "products_name" ON "products" USING btree ("tenant_id","name","id") WHERE deleted_at is null;--> statement-breakpoint
CREATE INDEX "products_price" ON "products" USING btree ("tenant_id","price","id") WHERE deleted_at is null;--> statement-breakpoint
CREATE INDEX "products_seller" ON "products" USING btree ("tenant_id","seller_id","created_at","id") WHERE deleted_at is null;--> statement-breakpoint
CREATE INDEX "products_seller_category" ON "products" USING btree ("tenant_id","seller_id","category") WHERE deleted_at is null;--> statement-breakpoint
CREATE INDEX "products_status" ON "products" USING btree ("tenant_id","status","created_at","id") WHERE deleted_at is null;--> statement-breakpoint
CREATE INDEX "products_category" ON "products" USING btree ("tenant_id","category","created_at","id") WHERE deleted_at is null;--> statement-breakpoint
CREATE INDEX "products_search" ON "products" USING gin (to_tsvector('simple'::regconfig, regexp_replace(' ' || name || ' ' || coalesce(sku, '') || ' ' || coalesce(description, '') || ' ' || coalesce(category, ''), '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u2000-\u206f\u3000-\u303f]+', ' ' || 't' || right(tenant_id::text, 12), 'g'))) WHERE deleted_at is null;--> statement-breakpoint
CREATE INDEX "notifications_seller" ON "notifications" USING btree ("tenant_id","seller_id","id");--> statement-breakpoint
CREATE INDEX "notifications_unread" ON "notifications" USING btree ("tenant_id","id") WHERE read_at is null;--> statement-breakpoint
CREATE INDEX "notifications_stored" ON "notifications" USING btree ("stored_at");--> statement-breakpoint
CREATE UNIQUE INDEX "notifications_position" ON "notifications" USING btree ("tenant_id","position");--> statement-breakpoint
CREATE INDEX "outbox_undone" ON "outbox" USING btree ("announce_at") WHERE undone <> '{}';--> statement-breakpoint
CREATE INDEX "outbox_done" ON "outbox" USING btree ("created_at") WHERE undone = '{}';--> statement-breakpoint
CREATE INDEX "webhook_deliveries_endpoint" ON "webhook_deliveries" USING btree ("tenant_id","endpoint_id","id");--> statement-breakpoint
CREATE INDEX "webhook_deliveries_next" ON "webhook_deliveries" USING btree ("tenant_id","endpoint_id","next_attempt_at") WHERE status = 'pending';--> statement-breakpoint
CREATE INDEX "webhook_deliveries_due" ON "webhook_deliveries" USING btree ("next_attempt_at") WHERE status = 'pending';--> statement-breakpoint
CREATE INDEX "webhook_deliveries_finished" ON "webhook_deliveries" USING btree ("finished_at") WHERE finished_at is not null;--> statement-breakpoint
CREATE INDEX "order_commands_waiting" ON "order_commands" USING btree ("tenant_id","group_id","position") WHERE state = 'waiting';--> statement-breakpoint
CREATE INDEX "order_commands_dead" ON "order_commands" USING btree ("tenant_id","id") WHERE state = 'dead';--> statement-breakpoint
CREATE INDEX "order_commands_finished" ON "order_commands" USING btree ("finished_at") WHERE state = 'done';--> statement-breakpoint
CREATE INDEX "order_deduplications_expiry" ON "order_deduplications" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "orders_created" ON "orders" USING btree ("tenant_id","created_at","id") WHERE hidden_at is null;--> statement-breakpoint
CREATE INDEX "orders_status" ON "orders" USING btree ("tenant_id","status","created_at","id") WHERE hidden_at is null;--> statement-breakpoint
CREATE INDEX "orders_email" ON "orders" USING btree ("tenant_id","customer_email","created_at","id") WHERE hidden_at is null;--> statement-breakpoint
CREATE INDEX "orders_user" ON "orders" USING btree ("tenant_id","user_id","created_at","id") WHERE hidden_at is null and user_id is not null;--> statement-breakpoint
CREATE INDEX "purchases_user" ON "purchases" USING btree ("tenant_id","user_id","created_at","id");--> statement-breakpoint
CREATE INDEX "invitations_email" ON "invitations" USING btree ("tenant_id","email");--> statement-breakpoint
CREATE INDEX "invitations_expiry" ON "invitations" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "refresh_tokens_member" ON "refresh_tokens" USING btree ("tenant_id","user_id");--> statement-breakpoint
CREATE INDEX "refresh_tokens_last" ON "refresh_tokens" USING btree ("expires_at") WHERE used_at is null;--> statement-breakpoint
-- Compressing and inflating every piece would cost more than the space it saves for minutes.
ALTER TABLE "product_import_chunks" ALTER COLUMN "data" SET STORAGE EXTERNAL;
