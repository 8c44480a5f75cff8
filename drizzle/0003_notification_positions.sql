CREATE TABLE "notification_feeds" (
	"tenant_id" uuid PRIMARY KEY NOT NULL,
	"position" bigint NOT NULL
);
--> statement-breakpoint
ALTER TABLE "notifications" ADD COLUMN "position" bigint NOT NULL;--> statement-breakpoint
CREATE UNIQUE INDEX "notifications_position" ON "notifications" USING btree ("tenant_id","position");