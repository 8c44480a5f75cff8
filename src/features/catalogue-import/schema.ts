import { z } from "@hono/zod-openapi";
import { isPlainText, MAX_LABEL, RULES } from "../../core/product-fields.ts";
import { Instant, ProductStatus, pageOf } from "../../http/responses.ts";

const Count = z.number().int();

export const ImportAccepted = z
  .object({ importId: z.uuid(), status: z.literal("queued") })
  .openapi("ImportAccepted");

export const RowProblem = z
  .object({
    line: z.number().int().openapi({ description: "Line of the file on which the row begins" }),
    path: z.string().openapi({ description: "The column, or empty for the whole row" }),
    message: z.string(),
  })
  .openapi("ImportRowProblem");

export const ProductImport = z
  .object({
    id: z.uuid(),
    status: z.enum(["queued", "running", "succeeded", "failed"]),
    rows: Count.openapi({ description: "Rows worked off so far: created + updated + failed" }),
    created: Count,
    updated: Count.openapi({ description: "Rows of a product that was there, changed by them or not" }),
    failed: Count,
    bytes: Count.openapi({ description: "Size of the file" }),
    position: Count.openapi({ description: "Bytes worked off so far" }),
    error: z.string().nullable().openapi({ description: "Why the file could not be read to its end" }),
    createdAt: Instant,
    finishedAt: Instant.nullable(),
  })
  .openapi("ProductImport");

export const ProductImportReport = ProductImport.extend({
  errors: z.array(RowProblem).openapi({ description: "The first 100" }),
}).openapi("ProductImportReport");

export const ProductImportPage = pageOf(ProductImport, "ProductImportPage");

const Label = z.string().min(1).max(MAX_LABEL).refine(isPlainText, RULES.plainText);

export const ExportQuery = z.strictObject({
  status: ProductStatus.optional(),
  category: Label.optional(),
  sellerId: Label.optional(),
});
export type ExportQuery = z.infer<typeof ExportQuery>;
