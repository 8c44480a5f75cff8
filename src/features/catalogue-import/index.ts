export { createRunNextImport, type RunNextImport } from "./run-import.ts";
export { type CatalogueImportService, createCatalogueImportService } from "./service.ts";
