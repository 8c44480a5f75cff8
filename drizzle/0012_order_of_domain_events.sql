CREATE SEQUENCE "outbox_sequence" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1;--> statement-breakpoint
CREATE TABLE "outbox_failures" (
	"tenant_id" uuid NOT NULL,
	"consumer" text NOT NULL,
	"event_id" uuid NOT NULL,
	"subject_id" text NOT NULL,
	"attempts" integer NOT NULL,
	"retry_at" timestamp (3) with time zone NOT NULL,
	"error" text NOT NULL,
	"event" jsonb,
	"died_at" timestamp (3) with time zone,
	CONSTRAINT "outbox_failures_tenant_id_consumer_event_id_pk" PRIMARY KEY("tenant_id","consumer","event_id")
);
--> statement-breakpoint
DROP INDEX "notifications_seller";--> statement-breakpoint
DROP INDEX "notifications_topic";--> statement-breakpoint
DROP INDEX "notifications_unread";--> statement-breakpoint
DROP INDEX "webhook_deliveries_next";--> statement-breakpoint
-- In two steps: with the default at once, Postgres would rewrite the table and number old rows as
-- they lie there.
ALTER TABLE "outbox" ADD COLUMN "sequence" bigint;--> statement-breakpoint
ALTER TABLE "outbox" ALTER COLUMN "sequence" SET DEFAULT nextval('outbox_sequence');--> statement-breakpoint
ALTER TABLE "webhook_deliveries" ADD COLUMN "subject_id" text;--> statement-breakpoint
ALTER TABLE "webhook_deliveries" ADD COLUMN "sequence" bigint;--> statement-breakpoint
CREATE INDEX "outbox_failures_held" ON "outbox_failures" USING btree ("tenant_id","consumer","subject_id") WHERE died_at is null;--> statement-breakpoint
CREATE INDEX "outbox_failures_dead" ON "outbox_failures" USING btree ("died_at") WHERE died_at is not null;--> statement-breakpoint
CREATE INDEX "notifications_of_seller" ON "notifications" USING btree ("tenant_id","seller_id","position");--> statement-breakpoint
CREATE INDEX "notifications_of_topic" ON "notifications" USING btree ("tenant_id","topic","position");--> statement-breakpoint
CREATE INDEX "notifications_not_read" ON "notifications" USING btree ("tenant_id","position") WHERE read_at is null;--> statement-breakpoint
CREATE INDEX "outbox_notifications" ON "outbox" USING btree ("tenant_id","sequence" NULLS FIRST,"id") WHERE 'notifications' = any(undone);--> statement-breakpoint
CREATE INDEX "outbox_webhooks" ON "outbox" USING btree ("tenant_id","sequence" NULLS FIRST,"id") WHERE 'webhooks' = any(undone);--> statement-breakpoint
CREATE INDEX "webhook_deliveries_untried" ON "webhook_deliveries" USING btree ("tenant_id","endpoint_id","sequence" NULLS FIRST,"id") WHERE status = 'pending' and attempts = 0;--> statement-breakpoint
CREATE INDEX "webhook_deliveries_retry" ON "webhook_deliveries" USING btree ("tenant_id","endpoint_id","next_attempt_at") WHERE status = 'pending' and attempts > 0;
