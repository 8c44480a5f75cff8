ALTER TABLE "events" ALTER COLUMN "amount" SET DATA TYPE numeric(30, 4);--> statement-breakpoint
ALTER TABLE "tenants" ADD COLUMN "exchange_rates" jsonb DEFAULT '[]'::jsonb NOT NULL;