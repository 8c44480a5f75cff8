import { open } from "node:fs/promises";
import { csvLine } from "../../core/csv.ts";
import { AppError } from "../../core/errors.ts";
import type { Rejection } from "./import-events.ts";

export interface RejectionFile {
  write(rejections: readonly Rejection[]): Promise<void>;
  close(): Promise<void>;
}

/**
 * A CSV file `line,path,message` of refused rows. Throws `invalid_input` when it can't be written
 * there.
 */
export async function createRejectionFile(path: string): Promise<RejectionFile> {
  const file = await open(path, "w").catch((error: Error) => {
    throw new AppError("invalid_input", `${path} can't be written: ${error.message}.`, { cause: error });
  });
  await file.write(csvLine(["line", "path", "message"]));
  return {
    async write(rejections) {
      const lines = rejections.flatMap(({ line, errors }) =>
        errors.map(({ path, message }) => csvLine([line, path, message])),
      );
      await file.write(lines.join(""));
    },
    close: () => file.close(),
  };
}
