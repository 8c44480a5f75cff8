import { z } from "@hono/zod-openapi";
import {
  isBlank,
  isPlainText,
  isReachableProductId,
  isWebAddress,
  MAX_DESCRIPTION,
  MAX_LABEL,
  MAX_NAME,
  MAX_PRICE,
  MAX_PRODUCT_ID,
  MAX_QUANTITY,
  MAX_URL,
  RULES,
} from "../../core/product-fields.ts";
import { isStorable } from "../../core/validation.ts";
import { Instant, numberedPageOf, ProductStatus, SortDirection } from "../../http/responses.ts";

const MAX_SEARCH = 1_000;
/** Deep pages are read from the start; a cursor costs the same everywhere. */
const MAX_PAGE = 100_000;
/** Holds the longest name and id, percent-encoded twice. */
const MAX_CURSOR = 8_000;

/**
 * The shortest text of a double is what the JSON held, so this checks the decimal that was written.
 */
const isPrice = (price: number) => /^-?\d+(\.\d{1,2})?(e\+\d+)?$/.test(String(price));

const PriceText = z
  .string()
  .regex(/^\d{1,10}(\.\d{1,2})?$/, "must be an amount with at most two decimals")
  .openapi({ type: "number", minimum: 0, maximum: MAX_PRICE, example: 4.95 });

const Text = (max: number) =>
  z.string().max(max).refine(isStorable, "holds a character that can't be stored");
const Label = z
  .string()
  .min(1)
  .max(MAX_LABEL)
  .refine(isPlainText, RULES.plainText)
  .openapi({ example: "tea" });

export const ProductId = z.string().min(1).max(MAX_PRODUCT_ID).refine(isPlainText, RULES.plainText);
export const NewProductId = ProductId.refine(isReachableProductId, RULES.reachable).openapi({
  example: "tea-100",
});

const named = {
  name: Text(MAX_NAME)
    .min(1)
    .refine((name) => !isBlank(name), RULES.notBlank)
    .openapi({ example: "Green tea, 100 g" }),
  price: z
    .number()
    .min(0)
    .max(MAX_PRICE)
    .refine(isPrice, "has more than two decimals")
    .openapi({ example: 4.95, description: "In the tenant's currency, at most two decimals" }),
};

const Quantity = z.number().int().min(0).max(MAX_QUANTITY);

/** What `null` clears. */
const clearable = {
  sellerId: Label.nullable().openapi({ example: "seller-1" }),
  sku: Label.nullable().openapi({ example: "TEA-100" }),
  description: Text(MAX_DESCRIPTION).nullable(),
  quantity: Quantity.nullable().openapi({ example: 25, description: "null: stock is not tracked" }),
  category: Label.nullable(),
  imageUrl: Text(MAX_URL)
    .refine(isWebAddress, RULES.webAddress)
    .nullable()
    .openapi({ format: "uri", example: "https://shop.example/tea.jpg" }),
  lowStockThreshold: Quantity.nullable().openapi({
    example: 5,
    description: "At or below it stock is low; null: the tenant's",
  }),
};

const optionalClearable = z.object(clearable).partial().shape;

/** A whole product; what is absent is null, and active. */
export const ProductReplacement = z
  .strictObject({ ...named, ...optionalClearable, status: ProductStatus.optional() })
  .openapi("ProductReplacement", {
    example: {
      name: "Green tea, 100 g",
      sku: "TEA-100",
      price: 4.95,
      quantity: 25,
      category: "tea",
      imageUrl: "https://shop.example/tea.jpg",
    },
  });
export type ProductReplacement = z.infer<typeof ProductReplacement>;

/**
 * Not ProductReplacement.extend(): the document would show it as `allOf` of two schemas that each
 * forbid the other's keys.
 */
export const ProductInput = z
  .strictObject({
    id: NewProductId.optional(),
    ...named,
    ...optionalClearable,
    status: ProductStatus.optional(),
  })
  .openapi("ProductInput", {
    example: {
      id: "tea-100",
      name: "Green tea, 100 g",
      sku: "TEA-100",
      price: 4.95,
      quantity: 25,
      category: "tea",
      imageUrl: "https://shop.example/tea.jpg",
    },
  });
export type ProductInput = z.infer<typeof ProductInput>;

export const ProductChange = z
  .strictObject({
    ...z.object(named).partial().shape,
    ...optionalClearable,
    status: ProductStatus.optional(),
  })
  .openapi("ProductChange", { example: { price: 5.25, quantity: 40 } });
export type ProductChange = z.infer<typeof ProductChange>;

export const Product = z
  .object({
    id: z.string(),
    sellerId: z.string().nullable(),
    sku: z.string().nullable(),
    name: z.string(),
    description: z.string().nullable(),
    price: z.number(),
    currency: z.string(),
    quantity: z.number().int().nullable(),
    category: z.string().nullable(),
    imageUrl: z.string().nullable(),
    status: ProductStatus,
    lowStockThreshold: z.number().int().nullable(),
    version: z
      .number()
      .int()
      .openapi({ description: "Increases with every change; what the ETag begins with" }),
    createdAt: Instant,
    updatedAt: Instant,
  })
  .openapi("Product");
export type Product = z.infer<typeof Product>;

export const SORTABLE = ["createdAt", "name", "price", "quantity"] as const;

export const ProductListQuery = z.strictObject({
  status: ProductStatus.optional(),
  category: Label.optional(),
  sellerId: Label.optional(),
  minPrice: PriceText.optional(),
  maxPrice: PriceText.optional(),
  search: Text(MAX_SEARCH).optional().openapi({
    description:
      "Words of name, sku, description and category, each from its beginning, all of them needed; the first 32 count",
  }),
  sortBy: z.enum(SORTABLE).default("createdAt"),
  sortDir: SortDirection.optional().openapi({
    description: "Default: desc by createdAt, else asc. Untracked quantities come last either way",
  }),
  limit: z.coerce.number().int().min(1).max(100).default(20),
  page: z.coerce
    .number()
    .int()
    .min(1)
    .max(MAX_PAGE)
    .optional()
    .openapi({ description: "From 1; the answer has the total then, and no cursor" }),
  cursor: z.string().max(MAX_CURSOR).optional(),
});
export type ProductListQuery = z.infer<typeof ProductListQuery>;

export const ProductList = numberedPageOf(Product, "ProductList");
export type ProductList = z.infer<typeof ProductList>;

export const Categories = z
  .object({
    items: z.array(z.object({ category: z.string(), products: z.number().int() })),
    truncated: z.boolean().openapi({ description: "Whether there are more categories than are shown" }),
  })
  .openapi("ProductCategories");
