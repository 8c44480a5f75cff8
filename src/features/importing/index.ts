export { createBulkLoader, type LoadTotals } from "./bulk-loader.ts";
export {
  createImport,
  formatOf,
  type ImportFormat,
  type ImportOptions,
  type ImportRun,
  type Preview,
  previewImport,
  type Rejection,
} from "./import-events.ts";
export { type Mapping, PRESETS, parseMapping } from "./mapping.ts";
export { createRejectionFile, type RejectionFile } from "./rejection-file.ts";
export { rollUpWaiting } from "./roll-up-waiting.ts";
export { checkWholeFile } from "./source.ts";
export type { WarningTotals } from "./warning-totals.ts";
