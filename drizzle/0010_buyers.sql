CREATE TABLE "buyer_daily_stats" (
	"tenant_id" uuid NOT NULL,
	"day" date NOT NULL,
	"user_key" text NOT NULL,
	"purchases" bigint DEFAULT 0 NOT NULL,
	"folded" boolean DEFAULT false NOT NULL,
	CONSTRAINT "buyer_daily_stats_tenant_id_day_user_key_pk" PRIMARY KEY("tenant_id","day","user_key")
);
--> statement-breakpoint
CREATE INDEX "buyer_daily_stats_user" ON "buyer_daily_stats" USING btree ("tenant_id","user_key","day");--> statement-breakpoint
CREATE INDEX "buyer_daily_stats_unfolded" ON "buyer_daily_stats" USING btree ("tenant_id","day","user_key") WHERE not folded;--> statement-breakpoint
INSERT INTO "buyer_daily_stats" ("tenant_id", "day", "user_key", "purchases")
SELECT "tenant_id", "day", "user_key", "purchases" FROM "user_daily_stats" WHERE "purchases" > 0
ORDER BY "tenant_id", "day", "user_key";
