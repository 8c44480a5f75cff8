CREATE TABLE "daily_return_stats" (
	"tenant_id" uuid NOT NULL,
	"subject" text NOT NULL,
	"day" date NOT NULL,
	"previous_day" date NOT NULL,
	"members" bigint DEFAULT 0 NOT NULL,
	CONSTRAINT "daily_return_stats_tenant_id_subject_day_previous_day_pk" PRIMARY KEY("tenant_id","subject","day","previous_day")
);
--> statement-breakpoint
ALTER TABLE "session_daily_stats" ADD COLUMN "folded" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "user_daily_stats" ADD COLUMN "folded" boolean DEFAULT false NOT NULL;--> statement-breakpoint
CREATE INDEX "session_daily_stats_session" ON "session_daily_stats" USING btree ("tenant_id","session_id","day");--> statement-breakpoint
CREATE INDEX "session_daily_stats_unfolded" ON "session_daily_stats" USING btree ("tenant_id","day","session_id") WHERE not folded;--> statement-breakpoint
CREATE INDEX "user_daily_stats_unfolded" ON "user_daily_stats" USING btree ("tenant_id","day","user_key") WHERE not folded;