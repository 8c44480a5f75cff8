CREATE TABLE "rollup_failures" (
	"tenant_id" uuid PRIMARY KEY NOT NULL,
	"failures" integer DEFAULT 0 NOT NULL,
	"failed_at" timestamp (3) with time zone,
	"paused" boolean DEFAULT false NOT NULL,
	"retry_at" timestamp with time zone,
	"revive_before" timestamp (3) with time zone,
	"last_error" text
);
--> statement-breakpoint
ALTER TABLE "event_batches" ADD COLUMN "held" boolean DEFAULT false NOT NULL;--> statement-breakpoint
CREATE INDEX "rollup_failures_due" ON "rollup_failures" USING btree ("retry_at") WHERE retry_at is not null;--> statement-breakpoint
CREATE INDEX "event_batches_overdue" ON "event_batches" USING btree ("received_at","tenant_id") WHERE rolled_up_at is null and dead_lettered_at is null and not held;