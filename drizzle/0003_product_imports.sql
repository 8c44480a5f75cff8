ALTER TABLE "product_imports" ADD COLUMN "attempts" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "product_imports" ADD COLUMN "changed_ids" text[];--> statement-breakpoint
-- Compressing and inflating every piece would cost more than the space it saves for minutes.
ALTER TABLE "product_import_chunks" ALTER COLUMN "data" SET STORAGE EXTERNAL;
