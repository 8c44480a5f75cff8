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
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
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
CREATE INDEX "order_commands_waiting" ON "order_commands" USING btree ("tenant_id","group_id","position") WHERE state = 'waiting';--> statement-breakpoint
CREATE INDEX "order_commands_dead" ON "order_commands" USING btree ("tenant_id","id") WHERE state = 'dead';--> statement-breakpoint
CREATE INDEX "order_commands_finished" ON "order_commands" USING btree ("finished_at") WHERE state = 'done';--> statement-breakpoint
CREATE INDEX "order_deduplications_expiry" ON "order_deduplications" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "orders_created" ON "orders" USING btree ("tenant_id","created_at","id") WHERE hidden_at is null;--> statement-breakpoint
CREATE INDEX "orders_status" ON "orders" USING btree ("tenant_id","status","created_at","id") WHERE hidden_at is null;--> statement-breakpoint
CREATE INDEX "orders_email" ON "orders" USING btree ("tenant_id","customer_email","created_at","id") WHERE hidden_at is null;--> statement-breakpoint
CREATE INDEX "orders_user" ON "orders" USING btree ("tenant_id","user_id","created_at","id") WHERE hidden_at is null and user_id is not null;--> statement-breakpoint
CREATE INDEX "purchases_user" ON "purchases" USING btree ("tenant_id","user_id","created_at","id");